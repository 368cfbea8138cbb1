import assert from 'node:assert/strict'
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, describe, it } from 'node:test'
import { gzipSync } from 'node:zlib'
import { main } from '../../src/cli/main.ts'
import type { Terminal } from '../../src/cli/terminal.ts'
import { processTerminal } from '../../src/cli/terminal.ts'
import { SeededRandom } from '../../src/core/seeded-random.ts'

const folder = mkdtempSync(path.join(os.tmpdir(), 'kymo-anomalies-'))
after(() => rmSync(folder, { recursive: true }))

type Scores = Record<'standard' | 'reward_low_FP' | 'reward_low_FN', number | null>

interface Part {
  readonly scores: Scores
  readonly windows: number
  readonly found: number
  readonly false_alarms: number
}

interface Report extends Part {
  readonly detector: string
  readonly files: number
  readonly rows: number
  readonly categories: Record<string, Part>
  readonly by_file?: readonly (Part & { readonly file: string; readonly probation: number; readonly alarms: readonly string[] })[]
  readonly best_threshold?: Record<string, { readonly score: number; readonly threshold: number | null }>
  readonly unlabelled?: readonly string[]
  readonly absent?: readonly string[]
  readonly cpu_us_per_row: number
}

/** Windows of the series in test/data/nab, as combined_windows.json has them. */
const benchmark = {
  'realKnownCause/ambient_temperature_system_failure.csv': [
    ['2013-12-15 07:00:00', '2013-12-30 09:00:00'],
    ['2014-03-29 15:00:00', '2014-04-20 22:00:00'],
  ],
  'realKnownCause/machine_temperature_system_failure.csv': [
    ['2013-12-10 06:25:00', '2013-12-12 05:35:00'],
    ['2013-12-15 17:50:00', '2013-12-17 17:00:00'],
    ['2014-01-27 14:20:00', '2014-01-29 13:30:00'],
    ['2014-02-07 14:55:00', '2014-02-09 14:05:00'],
  ],
  'artificialWithAnomaly/art_daily_jumpsup.csv': [['2014-04-10 16:15:00', '2014-04-12 01:45:00']],
  'artificialNoAnomaly/art_daily_small_noise.csv': [],
}

const plain = processTerminal()

async function run(...args: string[]): Promise<{ readonly code: number; readonly report: Report; readonly text: string; readonly error: string }> {
  const out: string[] = []
  const err: string[] = []
  const terminal: Terminal = { ...plain, errTty: false, out: (line) => void out.push(line), err: (line) => void err.push(line) }
  const code = await main(['anomalies', 'score', ...args], terminal)
  const text = out.join('\n')
  return { code, report: JSON.parse(text || '{}') as Report, text, error: err.join('\n') }
}

const stamp = (row: number): string => new Date(Date.UTC(2024, 0, 1) + row * 300_000).toISOString().slice(0, 19).replace('T', ' ')

/** Two series of noise with a spike at row 1,500, and one that has none. */
function series(seed: number, spike: number): string {
  const random = new SeededRandom(seed)
  const rows = Array.from({ length: 2_000 }, (_, i) => `${stamp(i)},${(10 + random.normal() + (i === spike ? 100 : 0)).toFixed(4)}`)
  return ['timestamp,value', ...rows].join('\n')
}
const window = [`${stamp(1_480)}.000000`, `${stamp(1_579)}.000000`]

function write(name: string, text: string): void {
  const at = path.join(folder, name)
  mkdirSync(path.dirname(at), { recursive: true })
  writeFileSync(at, name.endsWith('.gz') ? gzipSync(text) : text)
}

const labels = JSON.stringify({ 'real/one.csv': [window], 'real/two.csv': [window], 'still/three.csv': [], 'still/gone.csv': [] })
for (const [place, data, packed] of [
  ['clone', 'clone/data', ''],
  ['flat', 'flat', '.gz'],
  ['rows', 'rows', ''],
] as const) {
  write(`${data}/real/one.csv${packed}`, series(1, 1_500))
  write(`${data}/real/two.csv`, series(2, 1_500))
  write(`${data}/still/three.csv${packed}`, series(3, -1))
  if (place !== 'rows') write(`${data}/still/other.csv`, series(4, -1))
}
write('clone/labels/combined_windows.json', labels)
write('flat/combined_windows.json', labels)
write('rows/windows.csv', `file,window_start,window_end\nreal/one.csv,${window.join(',')}\nreal/two.csv,${window.join(',')}\n`)

void describe('kymo anomalies score', () => {
  void it('reads each layout, and scores by file, category and corpus', async () => {
    const [clone, flat, rows] = await Promise.all(['clone', 'flat', 'rows'].map((name) => run('--nab', path.join(folder, name), '--files', '--json')))
    assert.equal(clone!.code, 0)
    const { report } = clone!
    assert.equal(clone!.text.includes('\n'), false)
    assert.deepEqual([report.detector, report.files, report.rows, report.windows, report.found], ['surprise', 3, 6_000, 2, 2])
    assert.deepEqual([report.absent, report.unlabelled], [['still/gone.csv'], ['still/other.csv']])
    assert.deepEqual(
      report.by_file!.map(({ file, probation }) => [file, probation]),
      [
        ['real/one.csv', 300],
        ['real/two.csv', 300],
        ['still/three.csv', 300],
      ],
    )
    for (const one of report.by_file!.slice(0, 2)) assert.ok(one.alarms.includes(`${stamp(1_500).replace(' ', 'T')}.000Z`))
    assert.deepEqual(report.categories['still']!.scores, { standard: null, reward_low_FP: null, reward_low_FN: null })
    // Each spike is at row 20 of 100 of its window: tanh(2.5 x 0.8) / tanh(2.5); alarms elsewhere cost 0.11 at most.
    const gain = (Math.tanh(2) / Math.tanh(2.5)) * 2
    const score = report.scores.standard!
    const most = (100 * (gain + 2)) / 4
    assert.ok(score <= most + 0.01 && score >= most - (100 * 0.11 * report.false_alarms) / 4 - 0.01, `${score} of ${most}`)
    for (const other of [flat!, rows!]) assert.deepEqual([other.code, other.report.scores], [0, report.scores])
    assert.deepEqual([rows!.report.absent, rows!.report.unlabelled], [undefined, undefined])
  })

  void it('knows other detectors, and the threshold that would have been best', async () => {
    const place = path.join(folder, 'flat')
    const silent = await run('--nab', place, '--detector', 'silent', '--best-threshold')
    assert.deepEqual(silent.report.scores, { standard: 0, reward_low_FP: 0, reward_low_FN: 0 })
    assert.deepEqual(silent.report.best_threshold!['standard'], { score: 0, threshold: null })
    for (const name of ['surprise', 'level-shift', 'z-score']) {
      const { report } = await run('--nab', place, '--detector', name, '--best-threshold')
      for (const [profile, score] of Object.entries(report.scores))
        assert.ok(report.best_threshold![profile]!.score >= score! - 3, `${name} ${profile}`)
    }
  })

  void it('refuses what it cannot read, naming file and place', async () => {
    const broken = (name: string, text: string): string => {
      cpSync(path.join(folder, 'clone'), path.join(folder, name), { recursive: true })
      write(`${name}/labels/combined_windows.json`, text)
      return path.join(folder, name)
    }
    for (const [place, pattern] of [
      [path.join(folder, 'nowhere'), /neither labels\/combined_windows\.json/],
      [broken('a', '{'), /no JSON/],
      [broken('b', '{"real/one.csv":[["2024-01-01"]]}'), /real\/one\.csv are not a list/],
      [broken('c', '{"real/one.csv":[["2030-01-01 00:00:00","2030-01-02 00:00:00"]]}'), /real\/one\.csv: no row lies in the window/],
      [broken('d', '{"x/y.csv":[]}'), /names/],
    ] as const) {
      const { code, error } = await run('--nab', place)
      assert.deepEqual([code, pattern.test(error)], [2, true], error)
    }
  })

  void it('finds most of what is labelled in four series of the benchmark', async () => {
    for (const name of Object.keys(benchmark)) {
      mkdirSync(path.join(folder, 'nab', path.dirname(name)), { recursive: true })
      cpSync(path.join(import.meta.dirname, '../data/nab', `${path.basename(name)}.gz`), path.join(folder, 'nab', `${name}.gz`))
    }
    write('nab/combined_windows.json', JSON.stringify(benchmark))
    const { code, report } = await run('--nab', path.join(folder, 'nab'))
    assert.deepEqual([code, report.files, report.windows], [0, 4, 7])
    assert.ok(report.found >= 6 && report.false_alarms <= 18, `${report.found} found, ${report.false_alarms} false`)
    assert.ok(report.scores.standard! > 65 && report.cpu_us_per_row < 25, JSON.stringify(report))
  })
})
