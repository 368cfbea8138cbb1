import type { Command } from 'commander'
import type { CrossingForecast, Forecast } from '../client/index.ts'
import { KymoError } from '../core/errors.ts'
import { Api } from './api.ts'
import { count, printable, table, time, value } from './format.ts'
import { modelText, percent, seriesPath, short } from './models/answers.ts'
import { span } from './models/train.ts'
import type { CommonOptions } from './options.ts'
import { examples, integerBetween, numberBetween, serverOptions, timeZoneOption } from './options.ts'
import type { Terminal } from './terminal.ts'

interface ForecastOptions extends CommonOptions {
  readonly hours?: number
  readonly horizon?: string
  readonly level?: number
  readonly model?: string
  readonly at?: string
  readonly above?: number
  readonly below?: number
  readonly within?: string
  readonly limit: number
  readonly timeZone?: string
}

const pageItems = 200
const bandWidth = 32

export function declare(command: Command, terminal: Terminal): void {
  command
    .argument('[device]', 'the device (otherwise the latest forecast of every series)')
    .argument('[metric]', 'and what it measures')
    .option('--horizon <time>', 'how far ahead, such as 6h or 7d (otherwise as far as the model goes)', span)
    .option('--hours <n>', 'the same in hours', integerBetween(1, 8_760))
    .option('--level <share>', 'what intervals are to hold, such as 0.9 (otherwise that of the settings)', numberBetween(0.01, 0.999))
    .option('--model <name>', 'a kind or a version that answers whatever it is worth')
    .option('--at <time>', 'as it would have been said then: RFC 3339, epoch, or a time ago: -24h')
    .option('--above <value>', 'the probability that it rises above this', numberBetween(-1e300, 1e300))
    .option('--below <value>', 'the probability that it falls below this', numberBetween(-1e300, 1e300))
    .option('--within <time>', 'with --above and --below: within so long, such as 6h', span)
    .option('--limit <n>', 'without a metric: series at most', integerBetween(1, 10_000_000), 1_000)
  serverOptions(command)
  timeZoneOption(command)
  examples(command, [
    ['kymo forecast dev-1 temperature', 'the next day, with intervals'],
    ['kymo forecast dev-1 temperature --hours 6 --level 0.8 --json', 'six hours, narrower intervals, as JSON'],
    ['kymo forecast dev-1 temperature --above 50 --within 6h', 'how probable it is that it crosses 50'],
    ['kymo forecast', 'what is forecast on schedule, series by series'],
  ]).action(async (device: string | undefined, metric: string | undefined, options: ForecastOptions) => forecast(device, metric, options, terminal))
}

function usage(detail: string): KymoError {
  return new KymoError('usage', { detail, facts: { command: 'kymo forecast' } })
}

async function forecast(device: string | undefined, metric: string | undefined, options: ForecastOptions, terminal: Terminal): Promise<void> {
  const { above, below, within, hours, horizon } = options
  const crosses = above !== undefined || below !== undefined
  if (above !== undefined && below !== undefined) throw usage('--above and --below: one threshold at a time')
  if (hours !== undefined && horizon !== undefined) throw usage('--hours and --horizon say the same: one of them')
  if (crosses !== (within !== undefined)) throw usage(crosses ? '--within is needed: how far ahead, such as 6h' : '--within needs --above or --below')
  if (device === undefined || metric === undefined) {
    if (crosses) throw usage('--above and --below need DEVICE METRIC')
    return latest(device, options, terminal)
  }
  return crosses ? crossing(device, metric, options, terminal) : ahead(device, metric, options, terminal)
}

async function ahead(device: string, metric: string, options: ForecastOptions, terminal: Terminal): Promise<void> {
  const { level, model, at, hours } = options
  const horizon = hours === undefined ? options.horizon : `${hours}h`
  const answer = await new Api(options).json<Forecast>(seriesPath('forecasts', device, metric), { horizon, level, model, at })
  if (options.json === true) {
    terminal.out(JSON.stringify(answer))
    return
  }
  const { bold, dim } = terminal.colors
  const unit = answer.unit === undefined ? '' : `, ${answer.unit}`
  const held = answer.points.some(({ lower }) => lower !== null) ? ` · intervals of ${percent(answer.level)}` : ''
  terminal.out(
    `${bold(printable(`${answer.metric} of ${answer.device}${unit}`))}   ${modelText(answer.model)} · known until ${time(Date.parse(answer.issued_at), options.timeZone)}${held}`,
  )
  const draw = bandOf(answer.points)
  const rows = answer.points.map((point) => [
    time(Date.parse(point.time), options.timeZone),
    rounded(point.mean),
    rounded(point.lower),
    rounded(point.upper),
    draw(point),
  ])
  const right = (title: string) => ({ title, align: 'right' }) as const
  for (const line of table([{ title: 'step from' }, right('mean'), right('lower'), right('upper'), { title: '' }], rows, dim))
    terminal.out(`  ${line}`)
  const why = fallbackText(answer)
  if (why !== undefined) terminal.err(`  ${printable(why)}`)
}

/** Six digits, as a person reads them. */
function rounded(number: number | null): string {
  return value(number === null ? null : Number(number.toPrecision(6)))
}

/** Why it is not a trained model that answers. */
function fallbackText({ device, metric, fallback, detail }: Forecast): string | undefined {
  if (fallback === null) return detail ?? undefined
  const why = {
    untrained: `nobody has trained a model: kymo models train ${device} ${metric}`,
    skill_lost: 'the model has been no better than seasonal naive lately, which answers in its place',
    refused: 'the model refuses this history, so seasonal naive answers',
  }[fallback]
  return detail === null ? why : `${why} (${detail})`
}

type Point = Forecast['points'][number]

/** Draws each point's interval and mean on one scale: `   ──●───  `. */
function bandOf(points: readonly Point[]): (point: Point) => string {
  const all = points.flatMap(({ mean, lower, upper }) => [mean, lower ?? mean, upper ?? mean])
  const [low, high] = [Math.min(...all), Math.max(...all)]
  const at = (v: number): number => (high > low ? Math.round(((v - low) / (high - low)) * (bandWidth - 1)) : Math.floor(bandWidth / 2))
  return ({ mean, lower, upper }) => {
    const cells = Array.from({ length: bandWidth }, () => ' ')
    if (lower !== null && upper !== null) cells.fill('─', at(lower), at(upper) + 1)
    cells[at(mean)] = '●'
    return cells.join('').trimEnd()
  }
}

async function crossing(device: string, metric: string, options: ForecastOptions, terminal: Terminal): Promise<void> {
  const { above, below, within } = options
  const answer = await new Api(options).json<CrossingForecast>(`${seriesPath('forecasts', device, metric)}/crossing`, { above, below, within })
  if (options.json === true) {
    terminal.out(JSON.stringify(answer))
    return
  }
  const { bold } = terminal.colors
  const verb = answer.side === 'above' ? 'rises above' : 'falls below'
  const unit = answer.unit === undefined ? '' : ` ${answer.unit}`
  const question = `${answer.metric} of ${answer.device} ${verb} ${short(answer.threshold)}${unit} within ${within ?? ''}`
  const { calibration, probability } = answer
  terminal.out(`${bold(probability === null ? 'no number' : percent(probability))}   ${printable(question)}`)
  terminal.out(`  ${modelText(answer.model)} · known until ${time(Date.parse(answer.issued_at), options.timeZone)}`)
  if (answer.detail !== null || answer.reason !== null) terminal.out(`  ${printable(answer.detail ?? answer.reason ?? '')}`)
  if (calibration !== null) {
    terminal.out(
      `  of ${count(calibration.n)} past answers ${percent(calibration.rate)} crossed; said and came were ${percent(calibration.error)} apart on average`,
    )
  }
}

/** The latest issue of each series that is forecast on schedule. */
async function latest(device: string | undefined, options: ForecastOptions, terminal: Terminal): Promise<void> {
  const rows: string[][] = []
  let more = false
  for await (const one of new Api(options).items<Forecast>('/api/v1/forecasts', { device, limit: Math.min(pageItems, options.limit) })) {
    if (rows.length === options.limit) {
      more = true
      break
    }
    if (options.json === true) terminal.out(JSON.stringify(one))
    const means = one.points.map(({ mean }) => mean)
    rows.push([
      one.device,
      one.metric,
      modelText(one.model),
      time(Date.parse(one.issued_at), options.timeZone),
      rounded(means[0] ?? null),
      rounded(means.length === 0 ? null : Math.min(...means)),
      rounded(means.length === 0 ? null : Math.max(...means)),
      one.unit ?? '',
    ])
  }
  if (options.json === true) return
  const numbers = ['next', 'least', 'most'].map((title) => ({ title, align: 'right' }) as const)
  const columns = [{ title: 'device' }, { title: 'metric' }, { title: 'model' }, { title: 'known until' }, ...numbers, { title: 'unit' }]
  for (const line of table(columns, rows, terminal.colors.dim)) terminal.out(line)
  terminal.err(`  ${count(rows.length)} series${more ? '; there are more: --limit' : ''}`)
  if (rows.length === 0) terminal.err('  Nothing is forecast on schedule yet:  kymo models train DEVICE METRIC')
}
