import path from 'node:path'
import { KymoError } from '../../core/errors.ts'
import { CellReader } from '../../wire/table/cell.ts'
import { likelyDelimiter, parseCsv, RecordBlocks } from '../../wire/table/csv.ts'
import type { PlanOptions, TablePlan } from '../../wire/table/plan.ts'
import { planTable, timeText } from '../../wire/table/plan.ts'
import { timeReader } from '../../wire/table/time-format.ts'
import type { Readings } from '../../compute/forecast/resample.ts'
import { openText } from '../import/text.ts'
import { timeParser } from '../replay/time-format.ts'

export interface TableOptions extends PlanOptions {
  readonly delimiter?: string
}

/** One column of one sensor. */
export interface ScoredColumn {
  /** Undefined: the file has no column that names sensors. */
  readonly sensor: string | undefined
  readonly column: string
  readonly readings: Readings
}

const sampleRows = 500
/** Columns that count rows are no measurements; who wants them names them. */
const rowCounters = new Set(['', 'row', 'index', 'id'])

/** The numbers of a CSV file (also .gz and .zst) by sensor and column, in the order of the file. Missing cells are NaN. */
export async function readColumns(file: string, o: TableOptions): Promise<ScoredColumn[]> {
  const input = await openText(file, undefined)
  const head = input.head.toString('utf8')
  const delimiter = o.delimiter ?? likelyDelimiter(head.split('\n', 1)[0] ?? '')
  const samples = parseCsv(head, delimiter, 1).slice(0, sampleRows)
  const header = samples[0]?.cells.map((name) => name.trim())
  if (header === undefined) throw usage(`${path.basename(file)} is empty: not even a header line`)
  const plan = planOf(
    header,
    samples.slice(1).map(({ cells }) => cells),
    o,
  )
  const rows = new RowReader(plan, header.length, o)
  const blocks = new RecordBlocks({ delimiter })
  let first = true
  const feed = (block: ReturnType<RecordBlocks['end']>): void => {
    if (block === undefined) return
    for (const row of parseCsv(block.bytes.toString('utf8'), delimiter, block.line)) {
      if (!first) rows.push(row.cells, row.line)
      first = false
    }
  }
  for await (const chunk of input.chunks(0)) feed(blocks.push(chunk))
  feed(blocks.end())
  const found = rows.columns()
  if (found.length === 0) throw usage(`no column of ${path.basename(file)} holds numbers. Columns: ${header.join(', ')}`)
  return found
}

function planOf(header: readonly string[], samples: readonly (readonly string[])[], o: TableOptions): TablePlan {
  const columns = header.map((name) => ({ name, kind: 'any' as const }))
  // Row numbers are read here; to the plan they are plain numbers.
  const counted = isCounted(o.timeFormat) ? { timeFormat: 's' } : {}
  try {
    return planTable(
      columns,
      samples.filter((cells) => cells.length === header.length),
      false,
      '',
      { ...o, ...counted },
    )
  } catch (thrown) {
    if (!(thrown instanceof KymoError)) throw thrown
    throw usage(thrown.message)
  }
}

interface Growing {
  readonly sensor: string | undefined
  readonly times: number[]
  readonly values: number[][]
}

/** `step:30m:2004-03-01T00:00Z`: the column counts steps, as `kymo replay` takes it. */
function isCounted(format: string | undefined): format is string {
  return format?.startsWith('step:') === true
}

class RowReader {
  readonly #plan: TablePlan
  readonly #width: number
  readonly #cells: CellReader
  readonly #timeUs: (text: string, sensor: string) => number
  readonly #sensors = new Map<string, Growing>()
  readonly #numeric: boolean[]
  readonly #named: boolean

  constructor(plan: TablePlan, width: number, o: TableOptions) {
    if (plan.long !== undefined) throw usage('a table with a row per value is not scored; name the columns with --columns')
    this.#plan = plan
    this.#width = width
    this.#named = o.columns !== undefined
    this.#cells = new CellReader(plan)
    const read = isCounted(o.timeFormat) ? timeParser(o.timeFormat) : timeReader(plan.timeFormat, plan.timeZone)
    if (read === undefined) throw usage(`--time-format "${plan.timeFormat}" is not understood`)
    this.#timeUs = read
    this.#numeric = plan.wide.map(() => false)
  }

  push(cells: readonly string[], line: number): void {
    if (cells.length !== this.#width) throw usage(`line ${line} has ${cells.length} cells, and the header has ${this.#width}`)
    const { device } = this.#plan
    const sensor = 'column' in device ? cells[device.column]!.trim() : ''
    let growing = this.#sensors.get(sensor)
    if (growing === undefined) {
      growing = { sensor: 'column' in device ? sensor : undefined, times: [], values: this.#plan.wide.map(() => []) }
      this.#sensors.set(sensor, growing)
    }
    const text = timeText(cells, this.#plan.time)
    const us = this.#timeUs(text, sensor)
    if (Number.isNaN(us)) throw usage(`line ${line}: "${text}" is no time; see --time-column and --time-format`)
    growing.times.push(us)
    for (const [i, { column }] of this.#plan.wide.entries()) {
      const json = this.#cells.json(cells[column]!)
      const value = json === undefined || json.startsWith('"') ? Number.NaN : json === 'true' ? 1 : json === 'false' ? 0 : Number(json)
      if (Number.isFinite(value)) this.#numeric[i] = true
      growing.values[i]!.push(value)
    }
  }

  columns(): ScoredColumn[] {
    const wanted = this.#plan.wide.map(({ metric }, i) => this.#numeric[i]! && (this.#named || !rowCounters.has(metric.toLowerCase())))
    return [...this.#sensors.values()].flatMap(({ sensor, times, values }) =>
      this.#plan.wide.flatMap(({ metric }, i) =>
        wanted[i] ? [{ sensor, column: metric, readings: { timesUs: Float64Array.from(times), values: Float64Array.from(values[i]!) } }] : [],
      ),
    )
  }
}

export function usage(detail: string): KymoError {
  return new KymoError('usage', { detail, facts: { command: 'kymo models score' } })
}
