import type { Cell } from './cell.ts'
import { CellReader, nameOf } from './cell.ts'
import type { TablePlan } from './plan.ts'
import { timeText } from './plan.ts'
import { localReader, timeReader } from './time-format.ts'

/** Where the messages of a table go. */
export interface MessageSink {
  /** One message of the HTTP door's free shape, as JSON text without line ends. `line`: of its first row. */
  message(json: string, line: number, readings: number): void
  /** A row that is not sent. */
  reject(line: number, reason: string, record: string): void
}

/** Series whose unit was told already; a unit is said once, as it belongs to the device. */
const unitsToldMax = 100_000

/** Rows of a table as messages. Rows of a long table that follow each other with the same device and time make one message. */
export class TableMessages {
  readonly #plan: TablePlan
  readonly #sink: MessageSink
  readonly #cells: CellReader
  readonly #timeUs: (cells: readonly Cell[], series: string) => number
  readonly #keys: readonly string[]
  readonly #unitsTold = new Set<string>()
  #device = ''
  #deviceJson = ''
  /** The open message of a long table. */
  #open: { device: string; us: number; line: number; metadata: string; values: Map<string, string>; units: Map<string, string> } | undefined
  /** Cells that held no value, and rows that held none at all. */
  missing = 0
  emptyRows = 0

  constructor(plan: TablePlan, sink: MessageSink) {
    this.#plan = plan
    this.#sink = sink
    this.#cells = new CellReader(plan)
    this.#timeUs = timeOf(plan)
    this.#keys = plan.wide.map(({ metric }) => `${JSON.stringify(metric)}:`)
  }

  /** `record`: the row as it stood there, made only when it is rejected. */
  row(cells: readonly Cell[], line: number, record: () => string): void {
    const { plan } = this
    const reject = (reason: string): void => this.#sink.reject(line, reason, record())
    if (!plan.typed && cells.length !== plan.columns.length) {
      return reject(`${cells.length} cells where the header has ${plan.columns.length}`)
    }
    const device = this.#deviceOf(cells)
    if (device === '') return reject('no device in its column')
    if (plan.long !== undefined) this.#longRow(cells, device, line, reject)
    else this.#wideRow(cells, device, line, reject)
  }

  /** Hands on what is still gathered. */
  flush(): void {
    const open = this.#open
    if (open === undefined) return
    this.#open = undefined
    const values = [...open.values].map(([key, value]) => `${key}:${value}`).join(',')
    const units = [...open.units].map(([key, value]) => `${key}:${value}`).join(',')
    const more = (units === '' ? '' : `,"unit":{${units}}`) + (open.metadata === '' ? '' : `,"metadata":${open.metadata}`)
    this.#sink.message(`{"device":${this.#json(open.device)},"time":${open.us},"values":{${values}}${more}}`, open.line, open.values.size)
  }

  get plan(): TablePlan {
    return this.#plan
  }

  #deviceOf(cells: readonly Cell[]): string {
    const { device, devicePrefix, typed } = this.#plan
    if ('constant' in device) return devicePrefix + device.constant
    const cell = cells[device.column]
    if (cell === null || cell === undefined || cell === '') return ''
    const text = typed ? String(cell) : nameOf(String(cell))
    return text === '' ? '' : devicePrefix + text
  }

  #json(device: string): string {
    if (device !== this.#device) {
      this.#device = device
      this.#deviceJson = JSON.stringify(device)
    }
    return this.#deviceJson
  }

  #noTime(cells: readonly Cell[]): string {
    const { time, columns } = this.#plan
    const text = timeText(cells, time)
    return `"${text.slice(0, 100)}" in column "${time.map((column) => columns[column]?.name).join(',')}" is not a time between 1970 and 2255; see --time-format`
  }

  #wideRow(cells: readonly Cell[], device: string, line: number, reject: (reason: string) => void): void {
    const us = this.#timeUs(cells, device)
    if (Number.isNaN(us)) return reject(this.#noTime(cells))
    const { wide } = this.#plan
    let values = ''
    let n = 0
    for (let i = 0; i < wide.length; i++) {
      const value = this.#value(cells[wide[i]!.column])
      if (value === undefined) this.missing++
      else {
        values += (n++ === 0 ? '' : ',') + this.#keys[i]! + value
      }
    }
    if (n === 0) this.emptyRows++
    else this.#sink.message(`{"device":${this.#json(device)},"time":${us},"values":{${values}}}`, line, n)
  }

  #longRow(cells: readonly Cell[], device: string, line: number, reject: (reason: string) => void): void {
    const long = this.#plan.long!
    const name = cells[long.metric]
    const metric = typeof name === 'string' && !this.#plan.typed ? nameOf(name) : String(name ?? '')
    if (metric === '') return reject('no metric in its column')
    const us = this.#timeUs(cells, `${device}\u0000${metric}`)
    if (Number.isNaN(us)) return reject(this.#noTime(cells))
    const value = this.#value(cells[long.value]) ?? (long.text === undefined ? undefined : this.#value(cells[long.text]))
    if (value === undefined) {
      this.missing++
      this.emptyRows++
      return
    }
    const metadata = long.metadata === undefined ? '' : String(cells[long.metadata] ?? '').trim()
    if (metadata !== '' && !isJson(metadata)) return reject('the metadata is not JSON')
    const key = JSON.stringify(metric)
    const open = this.#open
    // Metadata belongs to a message's first reading: a row that has some is a message of its own.
    const alone = metadata !== '' || (open !== undefined && open.metadata !== '')
    if (open === undefined || alone || open.device !== device || open.us !== us || open.values.has(key)) {
      this.flush()
      this.#open = { device, us, line, metadata, values: new Map([[key, value]]), units: new Map() }
    } else open.values.set(key, value)
    if (long.unit !== undefined) this.#unit(String(cells[long.unit] ?? '').trim(), device, key)
  }

  #unit(unit: string, device: string, key: string): void {
    if (unit === '') return
    const series = `${device}\u0000${key}\u0000${unit}`
    if (this.#unitsTold.has(series)) return
    if (this.#unitsTold.size >= unitsToldMax) this.#unitsTold.clear()
    this.#unitsTold.add(series)
    this.#open?.units.set(key, JSON.stringify(nameOf(unit)))
  }

  #value(cell: Cell): string | undefined {
    return typeof cell === 'string' && !this.#plan.typed ? this.#cells.json(cell) : this.#cells.typed(cell)
  }
}

function timeOf(plan: TablePlan): (cells: readonly Cell[], series: string) => number {
  const [first = 0] = plan.time
  const kind = plan.time.length === 1 ? plan.columns[first]?.kind : 'any'
  const number = (cell: Cell): number => (typeof cell === 'number' ? cell : Number.NaN)
  if (kind === 'moment') return (cells) => number(cells[first])
  if (kind === 'local') {
    const local = localReader(plan.timeZone)
    return (cells, series) => (typeof cells[first] === 'number' ? local(number(cells[first]), series) : Number.NaN)
  }
  const read = timeReader(plan.timeFormat, plan.timeZone)
  if (read === undefined) return () => Number.NaN
  if (plan.time.length > 1) return (cells, series) => read(timeText(cells, plan.time), series)
  return (cells, series) => {
    const cell = cells[first]
    return typeof cell === 'string' || typeof cell === 'number' ? read(cell, series) : Number.NaN
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}
