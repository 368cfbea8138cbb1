import path from 'node:path'
import { KymoError } from '../../core/errors.ts'
import type { ParquetTable } from '../../store/parquet/reader.ts'
import type { Cell } from '../../wire/table/cell.ts'
import { likelyDelimiter, parseCsv, RecordBlocks } from '../../wire/table/csv.ts'
import type { MessageSink } from '../../wire/table/messages.ts'
import { TableMessages } from '../../wire/table/messages.ts'
import type { PlanOptions, TableColumn, TablePlan } from '../../wire/table/plan.ts'
import { describePlan, planTable } from '../../wire/table/plan.ts'
import { chunkBytes, headOf, openText, type TextInput } from './text.ts'

export type ImportFormat = 'csv' | 'ndjson' | 'parquet'

/** Where reading can begin anew. `offset`: bytes of the text, or rows of a Parquet file. `line`: the next one, from 1. */
export interface Position {
  readonly offset: number
  readonly line: number
}

/** What stands between two positions. */
export interface Page {
  /** Where it begins: the same for the same file and place, wherever reading began. */
  readonly start: number
  readonly after: Position
  /** Hands its messages and rejected rows to the sink, in order; returns how many rows it has. */
  feed(sink: MessageSink): number
}

/** A file that is understood: how its rows become messages is settled. */
export interface ImportSource {
  readonly format: ImportFormat
  /** Of the mapping; undefined: each line is a message of its own. */
  readonly plan: TablePlan | undefined
  /** How it is read, as a person reads it. */
  readonly shown: readonly string[]
  /** Every row carries its time: sending it again does no harm by itself. */
  readonly ownTimes: boolean
  /** Where it begins. */
  readonly first: Position
  /** Bytes on disk, or rows of a Parquet file; undefined: not known. */
  readonly total: number | undefined
  readonly done: () => number
  /** Cells without a value, and rows without any, of what was fed. */
  readonly tally: () => { readonly missing: number; readonly emptyRows: number }
  /** From there to the end. Each call begins with an empty tally, and with no memory of earlier rows. */
  pages(from: Position): AsyncGenerator<Page>
  close(): void
}

export interface SourceOptions extends PlanOptions {
  readonly format?: ImportFormat
  readonly delimiter?: string
  readonly encoding?: string
  /** Names of the columns of a CSV file without a header line. */
  readonly header?: readonly string[]
}

const sampleRows = 500

/** Opens a file and settles how it is read. Throws usage (an option settles it) or request_invalid (the file is broken). */
export async function openSource(file: string, o: SourceOptions): Promise<ImportSource> {
  const format = o.format ?? (file !== '-' && headOf(file, 4).toString('latin1') === 'PAR1' ? 'parquet' : undefined)
  if (format === 'parquet') return parquetSource(file, o)
  const input = await openText(file, o.encoding)
  if (input.head.length === 0) throw new KymoError('request_invalid', { detail: `${file} is empty` })
  const looksJson = /^\s*\{/.test(input.head.toString('utf8', 0, 1_024))
  if ((format ?? (looksJson ? 'ndjson' : 'csv')) === 'csv') return csvSource(file, input, o)
  return ndjsonSource(file, input, o)
}

function fallbackDevice(file: string): string {
  const base = path.basename(file).replace(/\.(gz|zst)$/i, '')
  return file === '-' ? 'stdin' : base.replace(/\.[^.]+$/, '')
}

function described(input: TextInput, what: string): string {
  const packing = input.packing === undefined ? '' : `, ${input.packing}`
  return `format   ${what}, ${input.encoding}${packing}`
}

/** Whole records of the head: the last may be cut where there is more. */
function headText(input: TextInput): string {
  const text = input.head.toString('utf8')
  return input.head.length < chunkBytes ? text : text.slice(0, text.lastIndexOf('\n') + 1)
}

function csvSource(file: string, input: TextInput, o: SourceOptions): ImportSource {
  const text = headText(input)
  const delimiter = o.delimiter ?? likelyDelimiter(text.split('\n', 1)[0] ?? '')
  const rows = parseCsv(text, delimiter, 1)
  const header = o.header ?? rows[0]?.cells.map((name) => name.trim())
  if (header === undefined) throw new KymoError('request_invalid', { detail: `${file} is empty: not even a header line` })
  const samples = rows.slice(o.header === undefined ? 1 : 0, sampleRows).map(({ cells }) => cells)
  const columns = header.map((name): TableColumn => ({ name, kind: 'any' }))
  const plan = planTable(
    columns,
    samples.filter((cells) => cells.length === header.length),
    false,
    fallbackDevice(file),
    o,
  )
  const make = (): Mapper => {
    const mapper = tableMapper(plan)
    const headerLine = o.header === undefined ? (rows[0]?.line ?? 0) : 0
    return {
      tally: () => mapper.tally(),
      feed(bytes, line, sink) {
        const decoded = bytes.toString('utf8')
        const suspect = decoded.includes('\ufffd')
        let n = 0
        for (const row of parseCsv(decoded, delimiter, line)) {
          if (row.line === headerLine) continue
          n++
          if (suspect && row.text.includes('\ufffd')) sink.reject(row.line, `not valid ${input.encoding}; see --encoding`, row.text)
          else mapper.row(sink, row.cells, row.line, () => row.text)
        }
        mapper.flush(sink)
        return n
      },
    }
  }
  const shown = delimiter === '\t' ? 'tab' : `"${delimiter}"`
  return textSource(input, { format: 'csv', plan, shown: [described(input, `CSV, separated by ${shown}`), ...describePlan(plan)], delimiter, make })
}

interface Mapper {
  feed(bytes: Buffer, line: number, sink: MessageSink): number
  tally(): { readonly missing: number; readonly emptyRows: number }
}

/** Its sink changes with each page. */
function tableMapper(plan: TablePlan): {
  row(sink: MessageSink, cells: readonly Cell[], line: number, record: () => string): void
  flush(sink: MessageSink): void
  tally(): { readonly missing: number; readonly emptyRows: number }
} {
  let current: MessageSink
  const messages = new TableMessages(plan, {
    message: (json, line, readings) => current.message(json, line, readings),
    reject: (line, reason, record) => current.reject(line, reason, record),
  })
  return {
    row(sink, cells, line, record) {
      current = sink
      messages.row(cells, line, record)
    },
    flush(sink) {
      current = sink
      messages.flush()
    },
    tally: () => ({ missing: messages.missing, emptyRows: messages.emptyRows }),
  }
}

function textSource(
  input: TextInput,
  o: {
    readonly format: 'csv' | 'ndjson'
    readonly plan: TablePlan | undefined
    readonly shown: readonly string[]
    readonly delimiter?: string
    readonly make: () => Mapper
  },
): ImportSource {
  let mapper = o.make()
  return {
    format: o.format,
    plan: o.plan,
    shown: o.shown,
    ownTimes: o.plan !== undefined,
    first: { offset: 0, line: 1 },
    total: input.bytesTotal,
    done: () => input.consumed(),
    tally: () => mapper.tally(),
    async *pages(from) {
      mapper = o.make()
      const blocks = new RecordBlocks({ ...from, ...(o.delimiter === undefined ? {} : { delimiter: o.delimiter }) })
      let start = from.offset
      const pageOf = (block: { readonly bytes: Buffer; readonly line: number; readonly end: number }): Page => {
        const page = {
          start,
          after: { offset: block.end, line: block.line + feeds(block.bytes) },
          feed: (sink: MessageSink) => mapper.feed(block.bytes, block.line, sink),
        }
        start = block.end
        return page
      }
      for await (const chunk of input.chunks(from.offset)) {
        const block = blocks.push(chunk)
        if (block !== undefined) yield pageOf(block)
      }
      const rest = blocks.end()
      if (rest !== undefined) yield pageOf(rest)
    },
    close: () => undefined,
  }
}

function feeds(bytes: Buffer): number {
  let n = 0
  for (let at = bytes.indexOf(0x0a); at >= 0; at = bytes.indexOf(0x0a, at + 1)) n++
  return n
}

/** Options that ask for a mapping; without any of them the lines are messages already. */
const mappingOptions = ['device', 'deviceColumn', 'timeColumn', 'timeFormat', 'metricColumn', 'valueColumn', 'columns', 'missing'] as const

function ndjsonSource(file: string, input: TextInput, o: SourceOptions): ImportSource {
  const samples = headText(input)
    .split('\n', sampleRows)
    .map(objectOf)
    .filter((object) => object !== undefined)
  if (samples.length === 0 && /^\s*\[/.test(input.head.toString('utf8', 0, 1_024))) {
    throw new KymoError('request_invalid', { detail: `${file} is one JSON array; one object a line is expected (jq -c '.[]' makes it so)` })
  }
  if (mappingOptions.every((name) => o[name] === undefined)) {
    const timed = samples.length > 0 && samples.every((object) => timeKeys.some((key) => Object.hasOwn(object, key)))
    const shown = [described(input, 'NDJSON'), 'mapping  none: each line is a message as the HTTP door takes it']
    if (!timed) shown.push('time     lines without a time get the time of their arrival')
    return textSource(input, { format: 'ndjson', plan: undefined, shown, make: lineMapper })
  }
  const names = [...new Set(samples.flatMap((object) => Object.keys(object)))]
  const columns = names.map((name): TableColumn => ({
    name,
    kind: samples.some((object) => typeof object[name] === 'object' && object[name] !== null) ? 'nested' : 'any',
  }))
  const cellsOf = (object: Readonly<Record<string, unknown>>): Cell[] => names.map((name) => cellOf(object[name]))
  const plan = planTable(columns, samples.map(cellsOf), true, fallbackDevice(file), o)
  const make = (): Mapper => {
    const mapper = tableMapper(plan)
    return {
      tally: () => mapper.tally(),
      feed(bytes, line, sink) {
        let n = 0
        eachLine(bytes, line, (text, at) => {
          n++
          const object = objectOf(text)
          if (object === undefined) sink.reject(at, 'not a JSON object', text)
          else mapper.row(sink, cellsOf(object), at, () => text)
        })
        mapper.flush(sink)
        return n
      },
    }
  }
  return textSource(input, { format: 'ndjson', plan, shown: [described(input, 'NDJSON'), ...describePlan(plan)], make })
}

/** As the door reads them (docs/reference/payloads.md). */
const timeKeys = ['time', 'timestamp', 'ts']

function lineMapper(): Mapper {
  return {
    tally: () => ({ missing: 0, emptyRows: 0 }),
    feed(bytes, line, sink) {
      let n = 0
      eachLine(bytes, line, (text, at) => {
        n++
        sink.message(text, at, 1)
      })
      return n
    },
  }
}

function eachLine(bytes: Buffer, firstLine: number, each: (text: string, line: number) => void): void {
  const lines = bytes.toString('utf8').split('\n')
  for (let i = 0; i < lines.length; i++) {
    const text = lines[i]!.trim()
    if (text !== '') each(text, firstLine + i)
  }
}

function objectOf(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const parsed: unknown = JSON.parse(text)
    return typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed) ? { ...parsed } : undefined
  } catch {
    // Rejected by its line number, or passed over among the samples.
    return undefined
  }
}

function cellOf(value: unknown): Cell {
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean' ? value : null
}

async function parquetSource(file: string, o: SourceOptions): Promise<ImportSource> {
  if (file === '-') throw new KymoError('usage', { detail: 'Parquet is not read from standard input: its index is at the end of the file' })
  headOf(file, 4)
  const { openParquet } = await import('../../store/parquet/reader.ts')
  const table: ParquetTable = await openParquet(file)
  const samples = await firstPage(table)
  const plan = planTable(table.columns, samples.slice(0, sampleRows), true, fallbackDevice(file), o)
  let mapper = tableMapper(plan)
  let done = 0
  return {
    format: 'parquet',
    plan,
    shown: [`format   Parquet, ${table.rows} rows`, ...describePlan(plan)],
    ownTimes: true,
    first: { offset: 0, line: 1 },
    total: table.rows,
    done: () => done,
    tally: () => mapper.tally(),
    async *pages(from) {
      mapper = tableMapper(plan)
      let at = from.offset
      for await (const rows of table.pages(from.offset)) {
        const start = at
        at += rows.length
        done = at
        yield {
          start,
          after: { offset: at, line: at + 1 },
          feed(sink) {
            rows.forEach((cells, i) => mapper.row(sink, cells, start + i + 1, () => JSON.stringify(cells)))
            mapper.flush(sink)
            return rows.length
          },
        }
      }
    },
    close: () => table.close(),
  }
}

async function firstPage(table: ParquetTable): Promise<readonly (readonly Cell[])[]> {
  for await (const page of table.pages(0)) return page
  return []
}
