import { KymoError } from '../../core/errors.ts'
import { suggest } from '../../core/config-value.ts'
import type { CsvRecord } from './csv.ts'
import type { TimeParser } from './time-format.ts'

export interface MappingOptions {
  readonly deviceColumn?: string
  /** Put before the device column's text. */
  readonly devicePrefix?: string
  /** One device for all rows, where no column names it. */
  readonly device: string
  readonly timeColumn?: string
  readonly parseTime: TimeParser
  /** `column`, or `column=metric`. Absent: every column that is neither time nor device. */
  readonly metrics?: readonly string[]
  /** Cells that mean "no value", beside the empty one. Numbers compare by value: -200 is -200.0 too. */
  readonly missing: readonly string[]
  /** Added to every time. */
  readonly shiftUs?: number
}

export interface MappedRow {
  readonly device: string
  readonly timeUs: number
  readonly values: Readonly<Record<string, number | string>>
  /** Cells that held no value. */
  readonly missing: number
}

export interface RowMapping {
  /** A row's message, or the sentence that tells what is wrong with it. */
  map(record: CsvRecord): MappedRow | string
  readonly metrics: readonly string[]
}

const timeNames = ['timestamp', 'time', 'datetime', 'date', 'ts', 'date_time']
const alwaysMissing = new Set(['', 'na', 'n/a', 'nan', 'null', 'none', '-'])

/** Finds the columns of a file by its header. Throws `usage`, with the columns that there are. */
export function mapColumns(header: readonly string[], o: MappingOptions): RowMapping {
  const names = header.map((name) => name.trim())
  const time =
    o.timeColumn === undefined
      ? timeNames.map((name) => names.findIndex((n) => n.toLowerCase() === name)).find((i) => i >= 0)
      : columnOf(names, o.timeColumn)
  if (time === undefined)
    throw new KymoError('usage', {
      detail: `no column looks like the time; name it with --time-column. Columns: ${names.join(', ')}`,
      facts: { command: 'kymo replay' },
    })
  const device = o.deviceColumn === undefined ? -1 : columnOf(names, o.deviceColumn)
  const metrics = metricColumns(names, o.metrics, new Set([time, device]))
  const missingText = new Set(o.missing.map((text) => text.trim().toLowerCase()))
  const missingNumbers = new Set(o.missing.map(Number).filter((n) => !Number.isNaN(n)))
  const isMissing = (cell: string): boolean => {
    const lower = cell.toLowerCase()
    return alwaysMissing.has(lower) || missingText.has(lower) || (missingNumbers.size > 0 && missingNumbers.has(Number(cell)))
  }
  return {
    metrics: metrics.map(({ metric }) => metric),
    map({ cells }) {
      if (cells.length !== names.length) return `${cells.length} cells where the header has ${names.length}`
      const timeText = cells[time] ?? ''
      const timeUs = o.parseTime(timeText) + (o.shiftUs ?? 0)
      if (!Number.isFinite(timeUs)) return `"${timeText}" in column "${names[time]}" is not a time; see --time-format`
      const name = device < 0 ? o.device : `${o.devicePrefix ?? ''}${(cells[device] ?? '').trim()}`
      if (name === '') return `column "${names[device]}" names no device`
      const values: Record<string, number | string> = Object.create(null) as Record<string, number | string>
      let missing = 0
      for (const { column, metric } of metrics) {
        const cell = (cells[column] ?? '').trim()
        if (isMissing(cell)) missing++
        else {
          const number = Number(cell)
          values[metric] = Number.isFinite(number) ? number : cell
        }
      }
      return { device: name, timeUs, values, missing }
    },
  }
}

function metricColumns(
  names: readonly string[],
  wanted: readonly string[] | undefined,
  taken: ReadonlySet<number>,
): { readonly column: number; readonly metric: string }[] {
  if (wanted === undefined) {
    return names.map((name, column) => ({ column, metric: name })).filter(({ column, metric }) => !taken.has(column) && metric !== '')
  }
  return wanted.map((text) => {
    // A column's own name may hold the sign: the whole text is tried first.
    const at = names.includes(text) ? -1 : text.indexOf('=')
    return at < 0 ? { column: columnOf(names, text), metric: text } : { column: columnOf(names, text.slice(0, at)), metric: text.slice(at + 1) }
  })
}

function columnOf(names: readonly string[], wanted: string): number {
  const found = names.indexOf(wanted)
  if (found >= 0) return found
  const near = suggest(wanted, names)
  throw new KymoError('usage', {
    detail: `there is no column "${wanted}"${near === undefined ? '' : `; did you mean "${near}"?`}. Columns: ${names.join(', ')}`,
    facts: { command: 'kymo replay' },
  })
}

/** The canonical message of a row. */
export function messageOf(row: MappedRow): string {
  return JSON.stringify({ device: row.device, time: row.timeUs, values: row.values })
}
