import { suggest } from '../../core/config-value.ts'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { Cell } from './cell.ts'
import { formatsOf, timeFormats, timeReader } from './time-format.ts'

/** How a column of a typed table holds its values. CSV and JSON: `any`. */
export type ColumnKind = 'any' | 'moment' | 'local' | 'nested'

export interface TableColumn {
  readonly name: string
  /** `moment`: epoch microseconds. `local`: the same of a wall clock without a zone. `nested`: cannot be a value. */
  readonly kind: ColumnKind
}

export interface WideMetric {
  readonly column: number
  readonly metric: string
}

/** Positions of a long table's columns. */
export interface LongColumns {
  readonly metric: number
  readonly value: number
  /** Text values of a typed table, whose `value` holds numbers. */
  readonly text?: number
  readonly unit?: number
  readonly metadata?: number
}

/** How rows of a table become messages. Plain data: it is shown, kept for a resume, and compared with. */
export interface TablePlan {
  readonly columns: readonly TableColumn[]
  readonly typed: boolean
  readonly device: { readonly column: number } | { readonly constant: string }
  readonly devicePrefix: string
  /** One column, or date and time of day in two. */
  readonly time: readonly number[]
  readonly timeFormat: string
  readonly timeZone: string
  readonly wide: readonly WideMetric[]
  readonly long?: LongColumns
  readonly decimalComma: boolean
  readonly missing: readonly string[]
}

/** What the user says of a table; the rest is found from its header and first rows. */
export interface PlanOptions {
  readonly device?: string
  readonly deviceColumn?: string
  readonly devicePrefix?: string
  readonly timeColumn?: string
  readonly timeFormat?: string
  readonly timeZone?: string
  readonly metricColumn?: string
  readonly valueColumn?: string
  /** `column`, or `column=metric`. */
  readonly columns?: readonly string[]
  readonly decimalComma?: boolean
  readonly missing?: readonly string[]
}

const timeNames = ['timestamp', 'time', 'datetime', 'date_time', '_time', 'ts', 'date', 'event_time', 'recorded_at', 'created_at']
const deviceNames = [
  'device',
  'device_id',
  'deviceid',
  'sensor_id',
  'sensorid',
  'sensor',
  'device_name',
  'station_id',
  'station',
  'node_id',
  'node',
  'host',
]
const metricNames = ['metric', '_field', 'field', 'variable', 'parameter', 'measurement']
const valueNames = ['value', '_value', 'reading']

/**
 * The plan of a table with this header and these first rows. `fallbackDevice`: where no column and no option names one. Throws
 * `usage`, naming the option that settles it.
 */
export function planTable(
  columns: readonly TableColumn[],
  samples: readonly (readonly Cell[])[],
  typed: boolean,
  fallbackDevice: string,
  o: PlanOptions,
): TablePlan {
  if (columns.length > limits.tableColumnsMax) throw usage(`${columns.length} columns; at most ${limits.tableColumnsMax} are read`)
  const names = columns.map(({ name }) => name)
  const time = timeColumns(names, o.timeColumn)
  const device = deviceOf(names, fallbackDevice, o)
  const long = longColumns(names, o)
  const taken = new Set<number>([...time, ...('column' in device ? [device.column] : [])])
  const wide = long === undefined ? wideMetrics(columns, o.columns, taken) : []
  if (long === undefined && wide.length === 0) throw usage(`no column is left that could hold values. Columns: ${names.join(', ')}`)
  const decimalComma = o.decimalComma ?? (!typed && looksDecimalComma(samples, long === undefined ? wide.map((m) => m.column) : [long.value]))
  return {
    columns,
    typed,
    device,
    devicePrefix: o.devicePrefix ?? '',
    time,
    timeFormat: timeFormatOf(columns, samples, time, o.timeFormat),
    timeZone: o.timeZone ?? 'UTC',
    wide,
    ...(long === undefined ? {} : { long }),
    decimalComma,
    missing: o.missing ?? [],
  }
}

function timeColumns(names: readonly string[], wanted: string | undefined): number[] {
  if (wanted !== undefined) {
    if (names.includes(wanted)) return [names.indexOf(wanted)]
    return wanted.split(',').map((name) => columnOf(names, name.trim(), '--time-column'))
  }
  const lower = names.map((name) => name.toLowerCase())
  const date = lower.indexOf('date')
  const clock = lower.indexOf('time')
  if (date >= 0 && clock >= 0) return [date, clock]
  const found = timeNames.map((name) => lower.indexOf(name)).find((at) => at >= 0)
  if (found === undefined) throw usage(`no column looks like the time; name it with --time-column. Columns: ${names.join(', ')}`)
  return [found]
}

function deviceOf(names: readonly string[], fallback: string, o: PlanOptions): TablePlan['device'] {
  if (o.deviceColumn !== undefined) return { column: columnOf(names, o.deviceColumn, '--device-column') }
  if (o.device !== undefined) return { constant: o.device }
  const lower = names.map((name) => name.toLowerCase())
  const found = deviceNames.map((name) => lower.indexOf(name)).find((at) => at >= 0)
  return found === undefined ? { constant: fallback } : { column: found }
}

function longColumns(names: readonly string[], o: PlanOptions): LongColumns | undefined {
  const lower = names.map((name) => name.toLowerCase())
  const find = (known: readonly string[]): number => known.map((name) => lower.indexOf(name)).find((at) => at >= 0) ?? -1
  if (o.columns !== undefined) return undefined
  const metric = o.metricColumn === undefined ? find(metricNames) : columnOf(names, o.metricColumn, '--metric-column')
  const value = o.valueColumn === undefined ? find(valueNames) : columnOf(names, o.valueColumn, '--value-column')
  if (metric < 0 || value < 0) {
    if (o.metricColumn === undefined && o.valueColumn === undefined) return undefined
    throw usage(`a table with a metric's name in each row needs both --metric-column and --value-column. Columns: ${names.join(', ')}`)
  }
  const more = (name: string): Record<string, number> => (lower.includes(name) ? { [name]: lower.indexOf(name) } : {})
  return { metric, value, ...more('text'), ...more('unit'), ...more('metadata') }
}

function wideMetrics(columns: readonly TableColumn[], wanted: readonly string[] | undefined, taken: ReadonlySet<number>): WideMetric[] {
  const names = columns.map(({ name }) => name)
  if (wanted === undefined) {
    return names
      .map((metric, column) => ({ metric, column }))
      .filter(({ metric, column }) => !taken.has(column) && metric !== '' && columns[column]?.kind === 'any')
  }
  return wanted.map((text) => {
    // A column's own name may hold the sign: the whole text is tried first.
    const at = names.includes(text) ? -1 : text.lastIndexOf('=')
    const [column, metric] = at < 0 ? [text, text] : [text.slice(0, at), text.slice(at + 1)]
    if (metric === '') throw usage(`"${text}": no metric behind the =`)
    return { column: columnOf(names, column, '--columns'), metric }
  })
}

function columnOf(names: readonly string[], wanted: string, option: string): number {
  const found = names.indexOf(wanted)
  if (found >= 0) return found
  const near = suggest(wanted, names)
  throw usage(`${option}: there is no column "${wanted}"${near === undefined ? '' : `; did you mean "${near}"?`}. Columns: ${names.join(', ')}`)
}

/** Text of a row's time: date and time of day are joined by a space. */
export function timeText(cells: readonly Cell[], time: readonly number[]): string {
  return time.length === 1 ? String(cells[time[0]!] ?? '') : time.map((column) => String(cells[column] ?? '').trim()).join(' ')
}

function timeFormatOf(
  columns: readonly TableColumn[],
  samples: readonly (readonly Cell[])[],
  time: readonly number[],
  given: string | undefined,
): string {
  if (given !== undefined) {
    if (timeReader(given, 'UTC') === undefined) throw usage(`--time-format "${given}" is none of: ${timeFormats}`)
    return given
  }
  if (time.every((column) => columns[column]?.kind === 'moment' || columns[column]?.kind === 'local')) return 'auto'
  const texts = samples.map((cells) => timeText(cells, time)).filter((text) => text.trim() !== '')
  const formats = formatsOf(texts)
  const name = time.map((column) => columns[column]?.name).join(',')
  if (formats.length === 1) return formats[0]!
  if (formats.length === 0) {
    // A few bad rows among many good ones are rejected one by one.
    if (formatsOf(texts.filter((text) => formatsOf([text])[0] === 'auto')).includes('auto') && texts.some((text) => formatsOf([text])[0] === 'auto'))
      return 'auto'
    throw usage(`the time in column "${name}" is not understood ("${texts[0]}"); say how it is written with --time-format: ${timeFormats}`)
  }
  throw usage(`the time in column "${name}" ("${texts[0]}") reads as ${formats.join(' and as ')}; say which with --time-format`)
}

function looksDecimalComma(samples: readonly (readonly Cell[])[], columns: readonly number[]): boolean {
  let commas = 0
  for (const cells of samples) {
    for (const column of columns) {
      const cell = cells[column]
      if (typeof cell !== 'string') continue
      if (/^\s*[+-]?\d+\.\d+\s*$/.test(cell)) return false
      if (/^\s*[+-]?\d+,\d+\s*$/.test(cell)) commas++
    }
  }
  return commas > 0
}

function usage(detail: string): KymoError {
  return new KymoError('usage', { detail, facts: { command: 'kymo import' } })
}

/** The plan as a person reads it, line by line. */
export function describePlan(plan: TablePlan): string[] {
  const name = (column: number): string => `"${plan.columns[column]?.name ?? '?'}"`
  const time = plan.time.map(name).join(' and ')
  const zone = plan.timeZone === 'UTC' ? 'times without an offset are UTC' : `times without an offset are of ${plan.timeZone}`
  const prefix = plan.devicePrefix === '' ? '' : `, with "${plan.devicePrefix}" before it`
  const lines = [
    `time     column ${time} (${plan.timeFormat}; ${zone})`,
    `device   ${'column' in plan.device ? `column ${name(plan.device.column)}` : `"${plan.device.constant}" for all rows`}${prefix}`,
  ]
  if (plan.long !== undefined) {
    const extra = [plan.long.text, plan.long.unit, plan.long.metadata].filter((column) => column !== undefined).map(name)
    lines.push(
      `metric   column ${name(plan.long.metric)}, value in column ${name(plan.long.value)}${extra.length === 0 ? '' : `; also ${extra.join(', ')}`}`,
    )
  } else {
    const shown = plan.wide
      .slice(0, 12)
      .map(({ column, metric }) => (plan.columns[column]?.name === metric ? metric : `${name(column)} as ${metric}`))
    lines.push(`metrics  ${shown.join(', ')}${plan.wide.length > shown.length ? ` and ${plan.wide.length - shown.length} more` : ''}`)
  }
  const used = new Set([...plan.time, ...('column' in plan.device ? [plan.device.column] : []), ...plan.wide.map((m) => m.column)])
  const long = plan.long
  if (long !== undefined)
    for (const column of [long.metric, long.value, long.text, long.unit, long.metadata]) if (column !== undefined) used.add(column)
  const unused = plan.columns.flatMap(({ name: text }, column) => (used.has(column) || text === '' ? [] : [text]))
  if (unused.length > 0) lines.push(`not read ${unused.slice(0, 12).join(', ')}${unused.length > 12 ? ` and ${unused.length - 12} more` : ''}`)
  if (plan.decimalComma) lines.push('numbers  with a decimal comma')
  if (plan.missing.length > 0) lines.push(`missing  ${plan.missing.join(', ')}`)
  return lines
}
