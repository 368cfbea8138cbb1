import process from 'node:process'
import type { Command } from 'commander'
import { Option } from 'commander'
import type { NabProfile, NabTally } from '../../compute/anomaly/nab.ts'
import { addTallies, nabProfiles, nabScore, probationRows, tallyNab } from '../../compute/anomaly/nab.ts'
import { examples, jsonOption } from '../options.ts'
import type { Terminal } from '../terminal.ts'
import type { NabFile } from './corpus.ts'
import { readCorpus } from './corpus.ts'
import type { DetectorName, Run } from './detectors.ts'
import { alarmsAt, detectorNames, runDetector } from './detectors.ts'

interface ScoreCommand {
  readonly nab: string
  readonly detector: DetectorName
  readonly files?: boolean
  readonly bestThreshold?: boolean
  readonly json?: boolean
}

/** Thresholds that are tried for --best-threshold, evenly among the scores that a corpus had. */
const thresholdsTried = 200

const rules = `
Rules (NAB v1.1): the first min(15 %, 750) rows of a file are for learning. In each window the earliest alarm
counts, 1 at its start down to 0 at its end; each alarm outside costs up to 0.11 (reward_low_FP: 0.22), little
soon after a window; a window without an alarm costs 1 (reward_low_FN: 2). A score is
100 x (raw - null) / (perfect - null): silence has 0, an alarm on the first row of each window and nowhere else
100. Where there are no windows, there is no score (null), and false_alarms tell.

Detectors: surprise, the statistical score with its usual configuration, the same for every file; level-shift;
z-score (|z| > 2 in 24 h, as /analytics/anomalies has it); silent, which never alarms. Files are read in order,
row by row; labels are looked at afterwards, for scoring. Only --best-threshold looks at them before: it adds
what one threshold for all files would have had that is best for each profile, which is how NAB publishes results.

Layouts: DIR/labels/combined_windows.json with DIR/data/<category>/*.csv (a clone of NAB), or
DIR/combined_windows.json or DIR/windows.csv (file,window_start,window_end) with DIR/<category>/*.csv; .csv.gz too.`

export function declareScore(command: Command, terminal: Terminal): void {
  command
    .description('score a detector on labelled series by the rules of the Numenta Anomaly Benchmark, and print JSON; needs no server')
    .helpOption('-h, --help', 'show help')
    .requiredOption('--nab <dir>', 'directory of the corpus; see below')
    .addOption(new Option('--detector <name>', 'which one').choices([...detectorNames]).default('surprise'))
    .option('--files', 'each file as well')
    .option('--best-threshold', "scores with the corpus's best threshold for each profile, beside the detector's own")
  jsonOption(command, 'on one line')
  examples(command, [
    ['kymo anomalies score --nab NAB', 'a clone of the benchmark: three scores, and those of each category'],
    ['kymo anomalies score --nab NAB --files --best-threshold', 'with each file, and as NAB publishes results'],
    ['kymo anomalies score --nab NAB --detector z-score --json', 'another detector, on one line'],
  ])
  command.addHelpText('after', rules)
  command.action((options: ScoreCommand) => score(options, terminal))
}

async function score(o: ScoreCommand, terminal: Terminal): Promise<void> {
  const corpus = await readCorpus(o.nab)
  const cpu = process.cpuUsage()
  const runs = corpus.files.map((file) => {
    if (terminal.errTty) terminal.status(file.name)
    return runDetector(o.detector, file)
  })
  const used = process.cpuUsage(cpu)
  if (terminal.errTty) terminal.status('')
  const { files } = corpus
  const rows = files.reduce((sum, { values }) => sum + values.length, 0)
  const tallies = files.map((file, i) => tallyNab(file.values.length, file.windows, runs[i]!.alarms))
  const of = (wanted: (file: NabFile) => boolean): NabTally => addTallies(tallies.filter((_, i) => wanted(files[i]!)))
  const categories = [...new Set(files.map(({ category }) => category))]
  const report = {
    detector: o.detector,
    files: files.length,
    rows,
    scores: scoresOf(of(() => true)),
    ...countsOf(of(() => true)),
    ...(o.bestThreshold === true ? { best_threshold: Object.fromEntries(nabProfiles.map((one) => [one.name, best(one, files, runs)])) } : {}),
    categories: Object.fromEntries(
      categories.map((name) => {
        const tally = of(({ category }) => category === name)
        return [name, { scores: scoresOf(tally), ...countsOf(tally) }]
      }),
    ),
    ...(o.files === true
      ? {
          by_file: files.map((file, i) => ({
            file: file.name,
            rows: file.values.length,
            probation: probationRows(file.values.length),
            scores: scoresOf(tallies[i]!),
            ...countsOf(tallies[i]!),
            alarms: runs[i]!.alarms.map((row) => new Date(file.timesUs[row]! / 1e3).toISOString()),
          })),
        }
      : {}),
    ...(corpus.unlabelled.length === 0 ? {} : { unlabelled: corpus.unlabelled }),
    ...(corpus.absent.length === 0 ? {} : { absent: corpus.absent }),
    cpu_us_per_row: rounded((used.user + used.system) / rows),
  }
  terminal.out(JSON.stringify(report, undefined, o.json === true ? undefined : 2))
}

function rounded(value: number): number | null {
  return Number.isFinite(value) ? Math.round(value * 100) / 100 : null
}

function scoresOf(tally: NabTally): Record<string, number | null> {
  return Object.fromEntries(nabProfiles.map((profile) => [profile.name, rounded(nabScore(tally, profile))]))
}

function countsOf({ windows, found, falseAlarms }: NabTally): Record<string, number> {
  return { windows, found, false_alarms: falseAlarms }
}

function best(profile: NabProfile, files: readonly NabFile[], runs: readonly Run[]): { score: number | null; threshold: number | null } {
  const most = runs.reduce((max, { scores }) => scores.reduce((a, b) => Math.max(a, b), max), 0)
  let found = { score: 0, threshold: Number.POSITIVE_INFINITY }
  for (let k = 1; k <= thresholdsTried; k++) {
    const threshold = (most * k) / thresholdsTried
    if (!(threshold > 0)) break
    const tally = addTallies(files.map((file, i) => tallyNab(file.values.length, file.windows, alarmsAt(runs[i]!, threshold))))
    const value = nabScore(tally, profile)
    if (value > found.score) found = { score: value, threshold }
  }
  return { score: rounded(found.score), threshold: rounded(found.threshold) }
}
