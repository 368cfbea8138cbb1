import type { SeriesKey } from '../../../core/batch.ts'
import type { QueryPage } from '../../../core/ports.ts'
import { formatRfc3339 } from '../../../wire/time.ts'
import { Pieces } from '../slices.ts'
import { flagsOf, metaOf, numberJson, valueJson, valueOf } from './readings.ts'
import type { ReadingColumns } from './readings.ts'
import type { Units } from './units.ts'

/** Where an answer ended, and what was asked: known once all rows are written. */
export interface AnswerEnd {
  readonly from: string | null
  readonly to: string | null
  readonly step: string | null
  /** As it was asked for. */
  readonly timeZone: string | null
  readonly order: 'asc' | 'desc'
  readonly rows: number
  readonly nextCursor: string | null
  /** Percentiles were asked for; `partial`: a bucket has readings and none of them. */
  readonly percentiles: { readonly relativeError: number; readonly partial: boolean } | undefined
}

/** Builds an answer row by row; see Pieces. */
export interface AnswerWriter {
  readonly contentType: string
  /** Characters so far. */
  readonly size: number
  begin(page: QueryPage): void
  row(row: number): void
  end(end: AnswerEnd): readonly Buffer[]
}

export type Format = 'json' | 'ndjson' | 'csv'

export function answerWriter(format: Format, aggregations: readonly string[] | undefined, units: Units, time: 'ms' | 'rfc3339'): AnswerWriter {
  const raw = aggregations === undefined
  if (format === 'csv') return linesWriter(csv(aggregations, time), raw, units)
  return format === 'ndjson' ? linesWriter(ndjson(aggregations, time), raw, units) : new ColumnsWriter(aggregations, units, time)
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
  readonly #flags = new Pieces()
  readonly #meta = new Pieces()
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
      if (flags.length > 0) this.#flags.add(`${this.#flags.size === 0 ? '' : ','}"${this.#rows}":${JSON.stringify(flags)}`)
      const meta = readings.meta?.get(row)
      if (meta !== undefined) {
        this.#sparse += meta.length
        this.#meta.add(`${this.#meta.size === 0 ? '' : ','}"${this.#rows}":${JSON.stringify(metaOf(meta))}`)
      }
    } else {
      for (let c = 0; c < this.#values.length; c++) columns[c + 2]!.add(comma + numberJson(this.#values[c]![row]!))
    }
    this.#rows++
  }

  end(end: AnswerEnd): readonly Buffer[] {
    const series = this.#series.list.map((key) => {
      const unit = this.#units.of(key)
      return { device: key.device, metric: key.metric, ...(unit === undefined ? {} : { unit }) }
    })
    const step = { ...(end.step === null ? {} : { step: end.step }), ...(end.timeZone === null ? {} : { tz: end.timeZone }) }
    const head = { from: end.from, to: end.to, ...step, order: end.order, rows: end.rows }
    const { percentiles } = end
    const quality =
      percentiles === undefined ? {} : { exact: false, relative_error: percentiles.relativeError, ...(percentiles.partial ? { partial: true } : {}) }
    const answer = { ...head, ...quality, truncated: end.nextCursor !== null, next_cursor: end.nextCursor, series }
    const text = (part: string): Buffer => Buffer.from(part)
    const parts = [text(`${JSON.stringify(answer).slice(0, -1)},"columns":{`)]
    this.#names.forEach((name, i) => parts.push(text(`${i === 0 ? '' : ','}"${name}":[`), ...this.#columns[i]!.flush(), text(']')))
    parts.push(text('}'))
    if (this.#raw) parts.push(text(',"flags":{'), ...this.#flags.flush(), text('},"metadata":{'), ...this.#meta.flush(), text('}'))
    parts.push(text('}\n'))
    return parts
  }
}

/** What NDJSON and CSV differ in. `Name` is what each line of a series repeats, made once a page. */
interface LineFormat<Name> {
  readonly contentType: string
  readonly head: string
  name(key: SeriesKey, unit: string | undefined): Name
  /** A line with its end. `readings`: of raw readings; otherwise the page's columns hold the aggregates. */
  line(page: QueryPage, row: number, name: Name, readings: ReadingColumns | undefined): string
}

function linesWriter<Name>(format: LineFormat<Name>, raw: boolean, units: Units): AnswerWriter {
  const pieces = new Pieces()
  pieces.add(format.head)
  let page: QueryPage | undefined
  let readings: ReadingColumns | undefined
  let names: (Name | undefined)[] = []
  return {
    contentType: format.contentType,
    get size() {
      return pieces.size
    },
    begin(next) {
      page = next
      names = []
      readings = raw ? readingsOf(next) : undefined
    },
    row(row) {
      const from = page!
      const series = from.series[row]!
      const key = from.keys[series]!
      pieces.add(format.line(from, row, (names[series] ??= format.name(key, units.of(key))), readings))
    },
    end: () => pieces.flush(),
  }
}

/** One JSON object a line. */
function ndjson(aggregations: readonly string[] | undefined, time: 'ms' | 'rfc3339'): LineFormat<string> {
  return {
    contentType: 'application/x-ndjson; charset=utf-8',
    head: '',
    name(key, unit) {
      const name = `,"device":${JSON.stringify(key.device)},"metric":${JSON.stringify(key.metric)}`
      return unit === undefined ? name : `${name},"unit":${JSON.stringify(unit)}`
    },
    line(page, row, name, readings) {
      let line = `{"time":${timeJson(page.timeUs[row]!, time)}${name}`
      if (readings !== undefined) {
        line += `,"value":${valueJson(readings, row)}`
        const flags = flagsOf(readings.flags?.[row] ?? 0)
        if (flags.length > 0) line += `,"flags":${JSON.stringify(flags)}`
        const meta = readings.meta?.get(row)
        if (meta !== undefined) line += `,"metadata":${JSON.stringify(metaOf(meta))}`
      } else {
        for (const column of aggregations ?? []) line += `,"${column}":${numberJson(page.columns[column]?.[row] ?? Number.NaN)}`
      }
      return line + '}\n'
    },
  }
}

/** A cell per RFC 4180. Text that a spreadsheet would run as a formula gets an apostrophe before it (OWASP, "CSV Injection"). */
export function csvText(text: string): string {
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}

interface CsvName {
  readonly key: string
  readonly unit: string
}

function csv(aggregations: readonly string[] | undefined, time: 'ms' | 'rfc3339'): LineFormat<CsvName> {
  const columns = aggregations === undefined ? ['value', 'unit', 'flags', 'metadata'] : [...aggregations, 'unit']
  return {
    contentType: 'text/csv; charset=utf-8; header=present',
    head: `time,device,metric,${columns.join(',')}\r\n`,
    name: (key, unit) => ({ key: `${csvText(key.device)},${csvText(key.metric)}`, unit: csvText(unit ?? '') }),
    line(page, row, { key, unit }, readings) {
      const us = page.timeUs[row]!
      let line = `${time === 'ms' ? String(us / 1e3) : formatRfc3339(us)},${key},`
      if (readings !== undefined) {
        const value = valueOf(readings, row)
        const cell = value === null ? '' : typeof value === 'string' ? csvText(value) : String(value)
        const meta = readings.meta?.get(row)
        line += `${cell},${unit},${flagsOf(readings.flags?.[row] ?? 0).join(' ')},${meta === undefined ? '' : csvText(meta)}`
      } else {
        for (const column of aggregations ?? []) {
          const value = page.columns[column]?.[row] ?? Number.NaN
          line += `${Number.isFinite(value) ? String(value) : ''},`
        }
        line += unit
      }
      return line + '\r\n'
    },
  }
}
