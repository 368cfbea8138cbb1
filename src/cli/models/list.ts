import type { Command } from 'commander'
import type { ForecastModel, Job } from '../../client/index.ts'
import { Api } from '../api.ts'
import { ago, bytes, count, printable, table, time } from '../format.ts'
import type { CommonOptions } from '../options.ts'
import { examples, integerBetween, serverOptions, timeZoneOption } from '../options.ts'
import type { Terminal } from '../terminal.ts'
import type { Candidate } from './answers.ts'
import { isCandidate, percent, seriesPath, short } from './answers.ts'
import { numberIn } from './follow.ts'

interface ListOptions extends CommonOptions {
  readonly limit: number
  readonly timeZone?: string
}

interface ShowOptions extends CommonOptions {
  readonly timeZone?: string
}

/** The most that a page of models, and one of jobs, holds. */
const pageItems = 200
const versionMax = 999_999_999

export function declareList(command: Command, terminal: Terminal): void {
  command
    .description('the model of each series: the champion, or its newest version')
    .argument('[device]', 'only of this device')
    .option('--limit <n>', 'models at most', integerBetween(1, 10_000_000), 1_000)
  serverOptions(command)
  timeZoneOption(command)
  examples(command, [
    ['kymo models list', 'what serves each series, and how well'],
    ['kymo models list --json', 'an object a line, with the cards'],
  ]).action(async (device: string | undefined, _: unknown, self: Command) => list(device, self.optsWithGlobals<ListOptions>(), terminal))
}

export function declareShow(command: Command, terminal: Terminal): void {
  command
    .description('all versions of the model of a series, or the card of one')
    .argument('<device>', 'the device')
    .argument('<metric>', 'and what it measures')
    .argument('[version]', 'the card of this version', integerBetween(1, versionMax))
  serverOptions(command)
  timeZoneOption(command)
  examples(command, [
    ['kymo models show dev-1 temperature', 'versions, newest first'],
    ['kymo models show dev-1 temperature 3', 'what it was trained on, and what the other kinds were worth'],
  ]).action(async (device: string, metric: string, version: number | undefined, _: unknown, self: Command) =>
    show({ device, metric, version }, self.optsWithGlobals<ShowOptions>(), terminal),
  )
}

export function declarePromote(command: Command, terminal: Terminal): void {
  command
    .description('let a version serve, whatever it is worth')
    .argument('<device>', 'the device')
    .argument('<metric>', 'what it measures')
    .argument('<version>', 'and the version, a whole number', integerBetween(1, versionMax))
  serverOptions(command)
  examples(command, [['kymo models promote dev-1 temperature 2', 'version 2 serves from now on; the one before is retired']]).action(
    async (device: string, metric: string, version: number, _: unknown, self: Command) => {
      const options = self.optsWithGlobals<CommonOptions>()
      const model = await new Api(options).post<ForecastModel>(`${seriesPath('models', device, metric)}/${version}/promote`, undefined)
      if (options.json === true) terminal.out(JSON.stringify(model))
      else terminal.out(`${terminal.colors.green('✓')} ${printable(`${model.kind} v${model.version} serves ${device} ${metric}`)}`)
    },
  )
}

export function declareJobs(command: Command, terminal: Terminal): void {
  command
    .description('trainings and backtests, newest first; or one with all that it says')
    .argument('[id]', 'one job')
    .option('--limit <n>', 'jobs at most', integerBetween(1, 1_000), 20)
  serverOptions(command)
  timeZoneOption(command)
  command.action(async (id: string | undefined, _: unknown, self: Command) => jobs(id, self.optsWithGlobals<ListOptions>(), terminal))
}

export function declareCancel(command: Command, terminal: Terminal): void {
  command.description('end a training or a backtest; what it has trained stays').argument('<id>', 'the job')
  serverOptions(command)
  command.action(async (id: string, _: unknown, self: Command) => {
    const options = self.optsWithGlobals<CommonOptions>()
    const response = await new Api(options).request('DELETE', `/api/v1/jobs/${encodeURIComponent(id)}`)
    const job = (await response.json()) as Job
    if (options.json === true) terminal.out(JSON.stringify(job))
    else terminal.out(`job ${job.id}: ${job.state}`)
  })
}

async function list(device: string | undefined, options: ListOptions, terminal: Terminal): Promise<void> {
  const found: ForecastModel[] = []
  let more = false
  for await (const model of new Api(options).items<ForecastModel>('/api/v1/models', { device, limit: Math.min(pageItems, options.limit) })) {
    if (found.length === options.limit) {
      more = true
      break
    }
    if (options.json === true) terminal.out(JSON.stringify(model))
    found.push(model)
  }
  if (options.json !== true) {
    const columns = [{ title: 'device' }, { title: 'metric' }, ...versionColumns]
    const rows = found.map((model) => [model.device, model.metric, ...versionCells(model, options.timeZone)])
    for (const line of table(columns, rows, terminal.colors.dim)) terminal.out(line)
    terminal.err(`  ${count(found.length)} models${more ? '; there are more: --limit' : ''}`)
    if (found.length === 0) terminal.err('  Train some:  kymo models train DEVICE METRIC')
  }
}

const versionColumns = [
  { title: 'version', align: 'right' },
  { title: 'kind' },
  { title: 'state' },
  { title: 'trained' },
  ...['matured', 'MAE', 'skill', 'held'].map((title) => ({ title, align: 'right' }) as const),
  { title: 'drift' },
] as const

function versionCells({ version, kind, state, created_at: created, accuracy, card }: ForecastModel, zone: string | undefined): string[] {
  const since = accuracy?.drift.since ?? null
  return [
    String(version),
    // Of an average: of what.
    kind === 'ensemble' && typeof card['name'] === 'string' ? card['name'] : kind,
    state,
    time(Date.parse(created), zone),
    accuracy === null ? '-' : count(accuracy.n),
    short(accuracy?.mae),
    percent(accuracy?.skill),
    percent(accuracy?.coverage),
    since === null ? (accuracy === null ? '-' : 'no') : `since ${time(Date.parse(since), zone)}`,
  ]
}

export function printVersions(models: readonly ForecastModel[], o: { readonly timeZone?: string }, terminal: Terminal): void {
  const rows = models.map((model) => versionCells(model, o.timeZone))
  for (const line of table(versionColumns, rows, terminal.colors.dim)) terminal.out(`  ${line}`)
}

async function show(
  { device, metric, version }: { readonly device: string; readonly metric: string; readonly version: number | undefined },
  options: ShowOptions,
  terminal: Terminal,
): Promise<void> {
  const api = new Api(options)
  const path = seriesPath('models', device, metric)
  if (version === undefined) {
    const { items } = await api.json<{ readonly items: readonly ForecastModel[] }>(path)
    if (options.json === true) for (const model of items) terminal.out(JSON.stringify(model))
    else {
      printVersions(items, options, terminal)
      if (items.length === 0) terminal.err(printable(`  Nobody has trained one:  kymo models train ${device} ${metric}`))
    }
    return
  }
  const model = await api.json<ForecastModel>(`${path}/${version}`)
  if (options.json === true) {
    terminal.out(JSON.stringify(model))
    return
  }
  printVersions([model], options, terminal)
  terminal.out('')
  const { candidates, ...card } = model.card
  const facts = Object.entries(card).map(([name, said]) => [name, cardText(name, said, options.timeZone)])
  for (const line of table([{ title: '' }, { title: '' }], [['file', bytes(model.bytes)], ...facts]).slice(1)) terminal.out(`  ${line}`)
  if (!Array.isArray(candidates) || candidates.length === 0) return
  terminal.out('')
  printCandidates(candidates.filter(isCandidate), card['name'], terminal)
}

export function printCandidates(candidates: readonly Candidate[], best: unknown, terminal: Terminal): void {
  const numbers = ['MAE', 'RMSE', 'MASE', 'skill'].map((title) => ({ title, align: 'right' }) as const)
  const rows = candidates.map((one) => [
    one.name,
    short(one.mae),
    short(one.rmse),
    short(one.mase),
    percent(one.skill),
    one.name === best ? 'the best' : (one.detail ?? one.refused ?? ''),
  ])
  for (const line of table([{ title: 'kind' }, ...numbers, { title: '' }], rows, terminal.colors.dim)) terminal.out(`  ${line}`)
}

/** A member of a card, on one line. */
function cardText(name: string, said: unknown, zone: string | undefined): string {
  if (typeof said === 'string') return said
  if (typeof said === 'number') return name.endsWith('_us') && name !== 'step_us' ? time(said / 1e3, zone) : short(said)
  return JSON.stringify(said)
}

async function jobs(id: string | undefined, options: ListOptions, terminal: Terminal): Promise<void> {
  const api = new Api(options)
  if (id !== undefined) {
    const job = await api.json<Job>(`/api/v1/jobs/${encodeURIComponent(id)}`)
    if (options.json === true) terminal.out(JSON.stringify(job))
    else printJobs([job], options, terminal)
    if (options.json !== true && job.error !== null) terminal.out(printable(`  ${job.error.code}: ${job.error.detail}`))
    return
  }
  const found: Job[] = []
  for (const kind of ['train', 'backtest']) {
    let taken = 0
    for await (const job of api.items<Job>('/api/v1/jobs', { kind, limit: options.limit })) {
      if (taken++ === options.limit) break
      found.push(job)
    }
  }
  const newest = found.toSorted((a, b) => b.created_at.localeCompare(a.created_at)).slice(0, options.limit)
  if (options.json === true) for (const job of newest) terminal.out(JSON.stringify(job))
  else printJobs(newest, options, terminal)
}

function printJobs(list: readonly Job[], options: ListOptions, terminal: Terminal): void {
  const nowMs = Date.now()
  const rows = list.map(({ id, kind, state, created_at: created, progress }) => [
    id,
    kind,
    state,
    ago(Date.parse(created), nowMs),
    state === 'done' ? '100.0 %' : percent(numberIn(progress, 'share')),
    count(numberIn(progress, 'trained')),
    count(numberIn(progress, 'kept_naive')),
    count(numberIn(progress, 'refused')),
  ])
  const numbers = ['done', 'trained', 'kept naive', 'refused'].map((title) => ({ title, align: 'right' }) as const)
  const columns = [{ title: 'job' }, { title: 'kind' }, { title: 'state' }, { title: 'asked for' }, ...numbers]
  for (const line of table(columns, rows, terminal.colors.dim)) terminal.out(line)
}
