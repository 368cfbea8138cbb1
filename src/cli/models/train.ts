import process from 'node:process'
import type { Command } from 'commander'
import { InvalidArgumentError } from 'commander'
import { durationUs } from '../../core/duration.ts'
import { KymoError } from '../../core/errors.ts'
import type { ForecastModel, Job } from '../../client/index.ts'
import { Api } from '../api.ts'
import { Exit } from '../exit.ts'
import { count, printable } from '../format.ts'
import type { CommonOptions } from '../options.ts'
import { commaList, examples, integerBetween, serverOptions } from '../options.ts'
import type { Terminal } from '../terminal.ts'
import type { Candidate } from './answers.ts'
import { percent, seriesPath } from './answers.ts'
import { follow, numberIn } from './follow.ts'
import { printCandidates, printVersions } from './list.ts'

interface JobOptions extends CommonOptions {
  readonly kinds?: readonly string[]
  readonly step?: string
  readonly horizon?: string
  readonly seed?: number
  readonly wait: boolean
}

interface TrainOptions extends JobOptions {
  readonly all?: true
}

/** What `kymo models backtest` prints of the job's result. */
interface BacktestResult {
  readonly name: string
  readonly skill: number | null
  readonly steps: number
  readonly missing: number
  readonly level: number
  readonly coverage: number | null
  readonly issues: number
  readonly candidates: readonly Candidate[]
}

export function span(text: string): string {
  if (durationUs(text) === undefined) throw new InvalidArgumentError('A length of time is a whole number and a unit, such as 15m, 6h or 7d.')
  return text
}

function jobOptions(command: Command): Command {
  command
    .option('--kinds <list>', 'kinds to choose from, such as ridge,lstm (otherwise those of the settings)', commaList)
    .option('--step <width>', 'width of a step, such as 15m or 1h (otherwise that of the settings)', span)
    .option('--horizon <time>', 'how far ahead, such as 24h (otherwise that of the settings)', span)
    .option('--seed <n>', 'draws all that is chance (1)', integerBetween(0, 4_294_967_295))
    .option('--no-wait', 'print the job, and do not follow it')
  return serverOptions(command)
}

const goesOn = '\nCtrl-C leaves the job running: kymo models jobs shows it, kymo models cancel ends it.'

export function declareTrain(command: Command, terminal: Terminal): void {
  command
    .description('train models on a running server, as a job; the best kind of each series serves if it beats what is there')
    .argument('[device]', 'the device')
    .argument('[metric]', 'and what it measures')
    .option('--all', 'all that the settings have forecast (forecast.metrics), and all that have a model')
  jobOptions(command)
  examples(command, [
    ['kymo models train dev-1 temperature', 'the best of all kinds for one series'],
    ['kymo models train dev-1 temperature --kinds random-forest', 'one kind, whatever it is worth; it serves only if it wins'],
    ['kymo models train --all --json', 'everything; the job when it has ended, as JSON'],
  ])
  command.addHelpText('after', goesOn)
  // Options that stand before the name of the subcommand are those of `models`.
  command.action(async (device: string | undefined, metric: string | undefined, _: unknown, self: Command) =>
    train(device, metric, self.optsWithGlobals<TrainOptions>(), terminal),
  )
}

export function declareBacktest(command: Command, terminal: Terminal): void {
  command
    .description('test kinds of models on the past of a series, on a running server; keeps nothing but the result')
    .argument('<device>', 'the device')
    .argument('<metric>', 'and what it measures')
  jobOptions(command)
  examples(command, [
    ['kymo models backtest dev-1 temperature', 'how well each kind would have done'],
    ['kymo models backtest dev-1 temperature --step 15m --horizon 6h --json', 'with every forecast, as JSON'],
  ])
  command.addHelpText('after', goesOn)
  command.action(async (device: string, metric: string, _: unknown, self: Command) =>
    backtest(device, metric, self.optsWithGlobals<JobOptions>(), terminal),
  )
}

function chosen({ kinds, step, horizon, seed }: JobOptions): Readonly<Record<string, unknown>> {
  return { kinds, step, horizon, seed }
}

/** The job's end; undefined when there is nothing more to be said. */
async function begun(api: Api, job: Job, options: JobOptions, terminal: Terminal): Promise<Job | undefined> {
  if (options.wait) return follow(api, job, options, terminal)
  if (options.json === true) terminal.out(JSON.stringify(job))
  else terminal.out(`job ${job.id}   look:  kymo models jobs ${job.id}`)
  return undefined
}

async function train(device: string | undefined, metric: string | undefined, options: TrainOptions, terminal: Terminal): Promise<void> {
  const one = device !== undefined && metric !== undefined
  if (one === (options.all === true) || (device !== undefined && metric === undefined)) {
    const detail = one ? 'DEVICE METRIC and --all: one of them' : 'name what to train: DEVICE METRIC, or --all'
    throw new KymoError('usage', { detail, facts: { command: 'kymo models train' } })
  }
  const api = new Api(options)
  const series = one ? { series: [{ device, metric }] } : {}
  const job = await begun(api, await api.post<Job>('/api/v1/models/train', { ...series, ...chosen(options) }), options, terminal)
  if (job === undefined) return
  const { progress } = job
  const [trained, kept, refused] = [numberIn(progress, 'trained'), numberIn(progress, 'kept_naive'), numberIn(progress, 'refused')]
  if (trained + kept === 0 && refused > 0) process.exitCode = Exit.refused
  if (options.json === true) {
    terminal.out(JSON.stringify(job))
    return
  }
  const { green, yellow } = terminal.colors
  const mark = trained + kept > 0 ? green('✓') : yellow('!')
  terminal.out(`${mark} ${count(trained)} trained, ${count(kept)} stay with seasonal naive, ${count(refused)} refused`)
  if (typeof progress['detail'] === 'string') terminal.err(`  ${progress['detail']}`)
  if (one && trained > 0) {
    const { items } = await api.json<{ readonly items: readonly ForecastModel[] }>(seriesPath('models', device, metric))
    printVersions(items.slice(0, 1), {}, terminal)
  }
}

async function backtest(device: string, metric: string, options: JobOptions, terminal: Terminal): Promise<void> {
  const api = new Api(options)
  const job = await begun(api, await api.post<Job>('/api/v1/models/backtest', { device, metric, ...chosen(options) }), options, terminal)
  const file = job?.files['download']
  if (job === undefined || file === undefined) return
  const text = await api.text(file.href, {}, 'application/json')
  if (options.json === true) {
    await terminal.write(text.endsWith('\n') ? text : `${text}\n`)
    return
  }
  const result = JSON.parse(text) as BacktestResult
  const { steps, missing, issues } = result
  terminal.out(printable(`${device} ${metric}: ${count(steps)} steps, ${count(missing)} missing; ${count(issues)} forecasts of the last part`))
  printCandidates(result.candidates, result.name, terminal)
  terminal.out(`  intervals of ${percent(result.level)} held ${percent(result.coverage)}`)
}
