import { KymoError } from '../../core/errors.ts'
import type { ParquetCell, ParquetColumn } from '../../store/parquet/writer.ts'
import { csvCell } from '../../wire/table/csv.ts'
import { nameCell, textCell } from '../../wire/table/cell.ts'
import { formatRfc3339 } from '../../wire/time.ts'
import type { Terminal } from '../terminal.ts'
import { openTextOutput, partOf, publish, unwritable, type TextOutput } from './output.ts'
import type { ExportRow } from './pages.ts'

export type ExportFormat = 'csv' | 'ndjson' | 'parquet'

/** Takes readings in the order of time, device and metric. */
export interface RowWriter {
  /** A promise only when something has to be waited for before the next row. */
  row(row: ExportRow): Promise<void> | undefined
  /** Completes the output: until then there is no file under its name. */
  end(): Promise<void>
  abandon(): Promise<void>
  /** Readings that the table has no place for. */
  readonly leftOut: number
}

/** A column of a wide table. `text`: the metric holds text, or did at last. */
export interface WideColumn {
  readonly metric: string
  readonly text: boolean
}

/** `wide`: the metrics of a table with one row for each device and time. */
export function openWriter(file: string, format: ExportFormat, wide: readonly WideColumn[] | undefined, terminal: Terminal): Promise<RowWriter> {
  if (format === 'parquet') return parquetWriter(file, wide)
  const out = openTextOutput(file, terminal)
  if (format === 'ndjson') return Promise.resolve(textWriter(out, '', ndjsonLine))
  if (wide === undefined) return Promise.resolve(textWriter(out, 'time,device,metric,value,unit,metadata\r\n', csvLine()))
  const header = ['time', 'device', ...wide.map(({ metric }) => csvCell(nameCell(metric)))].join(',')
  void out.write(header + '\r\n')
  const line = (us: number, device: string, values: readonly (ExportRow['value'] | null)[]): Promise<void> | undefined =>
    out.write(`${formatRfc3339(us)},${csvCell(nameCell(device))},${values.map(valueCell).join(',')}\r\n`)
  return Promise.resolve(
    wideWriter(
      wide,
      line,
      () => out.end(),
      () => Promise.resolve(out.abandon()),
    ),
  )
}

function textWriter(out: TextOutput, header: string, line: (row: ExportRow) => string): RowWriter {
  if (header !== '') void out.write(header)
  return { row: (row) => out.write(line(row)), end: () => out.end(), abandon: () => Promise.resolve(out.abandon()), leftOut: 0 }
}

/** As the HTTP door takes it again. */
function ndjsonLine({ us, device, metric, value, bigInteger, unit, metadata }: ExportRow): string {
  const more = (unit === undefined ? '' : `,"unit":${JSON.stringify(unit)}`) + (metadata === undefined ? '' : `,"metadata":${metadata}`)
  return `{"time":"${formatRfc3339(us)}","device":${JSON.stringify(device)},"metric":${JSON.stringify(metric)},"value":${bigInteger ? String(value) : JSON.stringify(value)}${more}}\n`
}

function valueCell(value: ExportRow['value'] | null): string {
  if (value === null) return ''
  return typeof value === 'string' ? csvCell(textCell(value)) : String(value)
}

/** Names whose cell is remembered: a fleet's devices and metrics come again in each instant. */
const rememberedMax = 100_000

function csvLine(): (row: ExportRow) => string {
  const cells = new Map<string, string>()
  const cell = (text: string): string => {
    let known = cells.get(text)
    if (known === undefined) {
      if (cells.size >= rememberedMax) cells.clear()
      cells.set(text, (known = csvCell(nameCell(text))))
    }
    return known
  }
  return ({ us, device, metric, value, bigInteger, unit, metadata }) =>
    `${formatRfc3339(us)},${cell(device)},${cell(metric)},${bigInteger ? String(value) : valueCell(value)},${unit === undefined ? '' : cell(unit)},${metadata === undefined ? '' : csvCell(metadata)}\r\n`
}

/** Gathers what one device says at one time. */
function wideWriter(
  wide: readonly WideColumn[],
  line: (us: number, device: string, values: readonly (ExportRow['value'] | null)[]) => Promise<void> | undefined,
  end: () => Promise<void>,
  abandon: () => Promise<void>,
): RowWriter {
  const places = new Map(wide.map(({ metric }, i) => [metric, i]))
  let open: { us: number; device: string; values: (ExportRow['value'] | null)[] } | undefined
  let leftOut = 0
  const flush = (): Promise<void> | undefined => {
    const row = open
    open = undefined
    return row === undefined ? undefined : line(row.us, row.device, row.values)
  }
  return {
    row({ us, device, metric, value }) {
      const place = places.get(metric)
      if (place === undefined) {
        leftOut++
        return undefined
      }
      let wait: Promise<void> | undefined
      if (open === undefined || open.us !== us || open.device !== device) {
        wait = flush()
        open = { us, device, values: wide.map(() => null) }
      }
      open.values[place] = value
      return wait
    },
    async end() {
      await flush()
      await end()
    },
    abandon,
    get leftOut() {
      return leftOut
    },
  }
}

async function parquetWriter(file: string, wide: readonly WideColumn[] | undefined): Promise<RowWriter> {
  const { createParquet } = await import('../../store/parquet/writer.ts')
  const values: ParquetColumn[] =
    wide === undefined
      ? [
          { name: 'metric', type: 'text' },
          { name: 'value', type: 'number' },
          { name: 'text', type: 'text' },
          { name: 'unit', type: 'text' },
          { name: 'metadata', type: 'text' },
        ]
      : wide.map(({ metric, text }) => ({ name: metric, type: text ? 'text' : 'number' }))
  const table = await createParquet(partOf(file), [{ name: 'time', type: 'time' }, { name: 'device', type: 'text' }, ...values])
  const end = async (): Promise<void> => {
    await table.end()
    try {
      publish(file)
    } catch (thrown) {
      throw unwritable(file, thrown)
    }
  }
  const abandon = (): Promise<void> => Promise.resolve(table.abandon())
  if (wide !== undefined) {
    const cell = (value: ExportRow['value'] | null, i: number): ParquetCell => {
      const column = wide[i]
      if (value === null || column === undefined) return null
      if (column.text) return String(value)
      if (typeof value !== 'string') return Number(value)
      throw new KymoError('usage', {
        detail: `the metric "${column.metric}" holds numbers and text: a wide Parquet table has one type a column. Leave --wide away, or choose metrics with --metric.`,
        facts: { command: 'kymo export' },
      })
    }
    return wideWriter(wide, (us, device, row) => table.row([us, device, ...row.map(cell)]), end, abandon)
  }
  return {
    row: ({ us, device, metric, value, unit, metadata }) => {
      const text = typeof value === 'string' ? value : null
      return table.row([us, device, metric, text === null ? Number(value) : null, text, unit ?? null, metadata ?? null])
    },
    end,
    abandon,
    leftOut: 0,
  }
}
