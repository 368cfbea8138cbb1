import type { SeriesKey } from '../../../core/batch.ts'
import type { QueryPage } from '../../../core/ports.ts'
import { formatRfc3339 } from '../../../wire/time.ts'
import { flagsOf, metaOf, numberJson, valueJson, valueOf } from './readings.ts'
import type { ReadingColumns } from './readings.ts'
import type { Units } from './units.ts'

/** Where an answer ended, and what was asked: known once all rows are written. */
export interface AnswerEnd {
  readonly from: string | null
  readonly to: string | null
  readonly step: string | null
  readonly order: 'asc' | 'desc'
  readonly rows: number
  readonly nextCursor: string | null
}

/** Builds an answer row by row. Text is gathered in pieces of about one page, so that nothing large is ever joined at once. */
export interface AnswerWriter {
  readonly contentType: string
  /** Characters so far. */
  readonly size: number
  begin(page: QueryPage): void
  row(row: number): void
  end(end: AnswerEnd): readonly string[]
}

export type Format = 'json' | 'ndjson' | 'csv'

export function answerWriter(format: Format, aggregations: readonly string[] | undefined, units: Units, time: 'ms' | 'rfc3339'): AnswerWriter {
  if (format === 'csv') return new CsvWriter(aggregations, units, time)
  return format === 'ndjson' ? new NdjsonWriter(aggregations, units, time) : new ColumnsWriter(aggregations, units, time)
}

/** Raw readings of a page. */
function readingsOf(page: QueryPage): ReadingColumns {
  const value = page.columns['value']
  if (value === undefined) throw new Error('a page of raw readings has no column "value"')
  return { ...page, value }
}

class Series {
  readonly list: SeriesKey[] = []
  readonly #ids = new Map<string, number>()
  #page: Int32Array = new Int32Array(0)
  #keys: readonly SeriesKey[] = []

  begin(page: QueryPage): void {
    this.#keys = page.keys
    this.#page = new Int32Array(page.keys.length).fill(-1)
  }

  /** The answer's own number of the page's series. */
  id(series: number): number {
    const known = this.#page[series]!
    if (known >= 0) return known
    const key = this.#keys[series]!
    const name = `${key.device}\u0000${key.metric}`
    let id = this.#ids.get(name)
    if (id === undefined) {
      id = this.list.length
      this.list.push(key)
      this.#ids.set(name, id)
    }
    this.#page[series] = id
    return id
  }
}

/** Text in pieces of some ten thousand characters. */
class Pieces {
  readonly done: string[] = []
  #open = ''
  size = 0
  add(text: string): void {
    this.#open += text
    this.size += text.length
    if (this.#open.length > 65_536) this.flush()
  }
  flush(): readonly string[] {
    if (this.#open !== '') this.done.push(this.#open)
    this.#open = ''
    return this.done
  }
}

function timeJson(us: number, time: 'ms' | 'rfc3339'): string {
  return time === 'ms' ? String(us / 1e3) : `"${formatRfc3339(us)}"`
}

/** One JSON document with an array per column: what plots and data frames read without touching each row. */
class ColumnsWriter implements AnswerWriter {
  readonly contentType = 'application/json; charset=utf-8'
  readonly #names: readonly string[]
  readonly #raw: boolean
  readonly #units: Units
  readonly #time: 'ms' | 'rfc3339'
  readonly #series = new Series()
  readonly #columns: Pieces[]
  readonly #flags: string[] = []
  readonly #meta: string[] = []
  #sparse = 0
  #rows = 0
  #page: QueryPage | undefined
  #readings: ReadingColumns | undefined
  #values: Float64Array[] = []

  constructor(aggregations: readonly string[] | undefined, units: Units, time: 'ms' | 'rfc3339') {
    this.#raw = aggregations === undefined
    this.#names = ['time', 'series', ...(aggregations ?? ['value'])]
    this.#units = units
    this.#time = time
    this.#columns = this.#names.map(() => new Pieces())
  }

  get size(): number {
    return this.#columns.reduce((sum, column) => sum + column.size, this.#sparse)
  }

  begin(page: QueryPage): void {
    this.#page = page
    this.#series.begin(page)
    if (this.#raw) this.#readings = readingsOf(page)
    else this.#values = this.#names.slice(2).map((name) => page.columns[name] ?? new Float64Array(page.rows).fill(Number.NaN))
  }

  row(row: number): void {
    const page = this.#page!
    const columns = this.#columns
    const comma = this.#rows === 0 ? '' : ','
    columns[0]!.add(comma + timeJson(page.timeUs[row]!, this.#time))
    columns[1]!.add(comma + String(this.#series.id(page.series[row]!)))
    const readings = this.#readings
    if (readings !== undefined) {
      columns[2]!.add(comma + valueJson(readings, row))
      const flags = flagsOf(readings.flags?.[row] ?? 0)
      if (flags.length > 0) this.#flags.push(`"${this.#rows}":${JSON.stringify(flags)}`)
      const meta = readings.meta?.get(row)
      if (meta !== undefined) {
        this.#sparse += meta.length
        this.#meta.push(`"${this.#rows}":${JSON.stringify(metaOf(meta))}`)
      }
    } else {
      for (let c = 0; c < this.#values.length; c++) columns[c + 2]!.add(comma + numberJson(this.#values[c]![row]!))
    }
    this.#rows++
  }

  end(end: AnswerEnd): readonly string[] {
    const series = this.#series.list.map((key) => {
      const unit = this.#units.of(key)
      return { device: key.device, metric: key.metric, ...(unit === undefined ? {} : { unit }) }
    })
    const head = { from: end.from, to: end.to, ...(end.step === null ? {} : { step: end.step }), order: end.order, rows: end.rows }
    const parts = [JSON.stringify({ ...head, truncated: end.nextCursor !== null, next_cursor: end.nextCursor, series }).slice(0, -1), ',"columns":{']
    this.#names.forEach((name, i) => parts.push(`${i === 0 ? '' : ','}"${name}":[`, ...this.#columns[i]!.flush(), ']'))
    parts.push('}')
    if (this.#raw) parts.push(`,"flags":{${this.#flags.join(',')}},"metadata":{${this.#meta.join(',')}}`)
    parts.push('}\n')
    return parts
  }
}

/** One JSON object a line. */
class NdjsonWriter implements AnswerWriter {
  readonly contentType = 'application/x-ndjson; charset=utf-8'
  readonly #pieces = new Pieces()
  readonly #aggregations: readonly string[] | undefined
  readonly #units: Units
  readonly #time: 'ms' | 'rfc3339'
  #page: QueryPage | undefined
  #readings: ReadingColumns | undefined
  #names: (string | undefined)[] = []

  constructor(aggregations: readonly string[] | undefined, units: Units, time: 'ms' | 'rfc3339') {
    this.#aggregations = aggregations
    this.#units = units
    this.#time = time
  }

  get size(): number {
    return this.#pieces.size
  }

  begin(page: QueryPage): void {
    this.#page = page
    this.#names = []
    this.#readings = this.#aggregations === undefined ? readingsOf(page) : undefined
  }

  row(row: number): void {
    const page = this.#page!
    const series = page.series[row]!
    let line = `{"time":${timeJson(page.timeUs[row]!, this.#time)}${(this.#names[series] ??= this.#name(page.keys[series]!))}`
    const readings = this.#readings
    if (readings !== undefined) {
      line += `,"value":${valueJson(readings, row)}`
      const flags = flagsOf(readings.flags?.[row] ?? 0)
      if (flags.length > 0) line += `,"flags":${JSON.stringify(flags)}`
      const meta = readings.meta?.get(row)
      if (meta !== undefined) line += `,"metadata":${JSON.stringify(metaOf(meta))}`
    } else {
      for (const name of this.#aggregations!) line += `,"${name}":${numberJson(page.columns[name]?.[row] ?? Number.NaN)}`
    }
    this.#pieces.add(line + '}\n')
  }

  #name(key: SeriesKey): string {
    const unit = this.#units.of(key)
    const name = `,"device":${JSON.stringify(key.device)},"metric":${JSON.stringify(key.metric)}`
    return unit === undefined ? name : `${name},"unit":${JSON.stringify(unit)}`
  }

  end(): readonly string[] {
    return this.#pieces.flush()
  }
}

/** A cell per RFC 4180. Text that a spreadsheet would run as a formula gets an apostrophe before it (OWASP, "CSV Injection"). */
export function csvText(text: string): string {
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}

class CsvWriter implements AnswerWriter {
  readonly contentType = 'text/csv; charset=utf-8; header=present'
  readonly #pieces = new Pieces()
  readonly #aggregations: readonly string[] | undefined
  readonly #units: Units
  readonly #time: 'ms' | 'rfc3339'
  #page: QueryPage | undefined
  #readings: ReadingColumns | undefined
  #names: ({ readonly key: string; readonly unit: string } | undefined)[] = []

  constructor(aggregations: readonly string[] | undefined, units: Units, time: 'ms' | 'rfc3339') {
    this.#aggregations = aggregations
    this.#units = units
    this.#time = time
    const columns = aggregations === undefined ? ['value', 'unit', 'flags', 'metadata'] : [...aggregations, 'unit']
    this.#pieces.add(`time,device,metric,${columns.join(',')}\r\n`)
  }

  get size(): number {
    return this.#pieces.size
  }

  begin(page: QueryPage): void {
    this.#page = page
    this.#names = []
    this.#readings = this.#aggregations === undefined ? readingsOf(page) : undefined
  }

  row(row: number): void {
    const page = this.#page!
    const series = page.series[row]!
    const { key, unit } = (this.#names[series] ??= this.#name(page.keys[series]!))
    const us = page.timeUs[row]!
    let line = `${this.#time === 'ms' ? String(us / 1e3) : formatRfc3339(us)},${key},`
    const readings = this.#readings
    if (readings !== undefined) {
      const value = valueOf(readings, row)
      const cell = value === null ? '' : typeof value === 'string' ? csvText(value) : String(value)
      const meta = readings.meta?.get(row)
      line += `${cell},${unit},${flagsOf(readings.flags?.[row] ?? 0).join(' ')},${meta === undefined ? '' : csvText(meta)}`
    } else {
      for (const name of this.#aggregations!) {
        const value = page.columns[name]?.[row] ?? Number.NaN
        line += `${Number.isFinite(value) ? String(value) : ''},`
      }
      line += unit
    }
    this.#pieces.add(line + '\r\n')
  }

  #name(key: SeriesKey): { readonly key: string; readonly unit: string } {
    return { key: `${csvText(key.device)},${csvText(key.metric)}`, unit: csvText(this.#units.of(key) ?? '') }
  }

  end(): readonly string[] {
    return this.#pieces.flush()
  }
}
