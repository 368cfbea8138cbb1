import type { DuckDBConnection } from '@duckdb/node-api'
import type { SeriesKey } from '../../core/batch.ts'
import type { RollupColumns } from '../../core/ports.ts'
import { f64Column, setLong, TableAppender, textColumn, timeColumn, u32Column, u64Column, u8Column } from './appender.ts'

/** The tables that a commit adds rows to (schema.ts), each with the arrays of its columns. */
export class HotTables {
  readonly #readings = { series: u32Column(), ts: timeColumn(), v: f64Column(), flags: u8Column() }
  readonly #texts = { series: u32Column(), ts: timeColumn(), text: textColumn(), meta: textColumn() }
  readonly #late = {
    series: u32Column(),
    ts: timeColumn(),
    v: f64Column(),
    flags: u8Column(),
    seq: u64Column(),
    text: textColumn(),
    meta: textColumn(),
  }
  readonly #series = { id: u32Column(), tenant: textColumn(), device: textColumn(), metric: textColumn() }
  readonly #pending = { series: u32Column(), bucket: timeColumn(), step: u64Column() }
  readonly #kept = { series: u32Column(), since: timeColumn() }
  readonly #minute = rollupColumns()
  readonly #hour = rollupColumns()
  #readingsTable!: TableAppender
  #textsTable!: TableAppender
  #lateTable!: TableAppender
  #seriesTable!: TableAppender
  #pendingTable!: TableAppender
  #keptTable!: TableAppender
  #minuteTable!: TableAppender
  #hourTable!: TableAppender

  static async open(connection: DuckDBConnection): Promise<HotTables> {
    const tables = new HotTables()
    tables.#readingsTable = await TableAppender.open(connection, 'readings', Object.values(tables.#readings))
    tables.#textsTable = await TableAppender.open(connection, 'texts', Object.values(tables.#texts))
    tables.#lateTable = await TableAppender.open(connection, 'late', Object.values(tables.#late))
    tables.#seriesTable = await TableAppender.open(connection, 'series', Object.values(tables.#series))
    tables.#pendingTable = await TableAppender.open(connection, 'pending', Object.values(tables.#pending))
    tables.#keptTable = await TableAppender.open(connection, 'minutes_kept', Object.values(tables.#kept))
    tables.#minuteTable = await TableAppender.open(connection, 'rollup_1m', Object.values(tables.#minute))
    tables.#hourTable = await TableAppender.open(connection, 'rollup_1h', Object.values(tables.#hour))
    return tables
  }

  reading(series: number, timeUs: number, value: number, flags: number): void {
    const { series: seriesColumn, ts, v, flags: flagsColumn } = this.#readings
    const i = this.#readingsTable.next()
    seriesColumn.array[i] = series
    setLong(ts.array, i, timeUs)
    v.array[i] = value
    flagsColumn.array[i] = flags
  }

  /** Text and metadata of a row of `readings`. */
  text(series: number, timeUs: number, text: string | undefined, meta: string | undefined): void {
    const i = this.#textsTable.next()
    this.#texts.series.array[i] = series
    setLong(this.#texts.ts.array, i, timeUs)
    this.#texts.text.texts[i] = text
    this.#texts.meta.texts[i] = meta
  }

  late(series: number, timeUs: number, value: number, flags: number, seq: number, text: string | undefined, meta: string | undefined): void {
    const i = this.#lateTable.next()
    this.#late.series.array[i] = series
    setLong(this.#late.ts.array, i, timeUs)
    this.#late.v.array[i] = value
    this.#late.flags.array[i] = flags
    setLong(this.#late.seq.array, i, seq)
    this.#late.text.texts[i] = text
    this.#late.meta.texts[i] = meta
  }

  series(id: number, key: SeriesKey): void {
    const i = this.#seriesTable.next()
    this.#series.id.array[i] = id
    this.#series.tenant.texts[i] = key.tenant
    this.#series.device.texts[i] = key.device
    this.#series.metric.texts[i] = key.metric
  }

  pending(series: number, bucketUs: number, stepUs: number): void {
    const i = this.#pendingTable.next()
    this.#pending.series.array[i] = series
    setLong(this.#pending.bucket.array, i, bucketUs)
    setLong(this.#pending.step.array, i, stepUs)
  }

  /** From `sinceUs` on the minutes of this series are kept; `notKept`: from now on they are not. */
  minutesKept(series: number, sinceUs: number): void {
    const i = this.#keptTable.next()
    this.#kept.series.array[i] = series
    setLong(this.#kept.since.array, i, sinceUs)
  }

  rollup(level: 'minute' | 'hour', series: number, from: RollupColumns, row: number, gen: number): void {
    const to = level === 'minute' ? this.#minute : this.#hour
    const i = (level === 'minute' ? this.#minuteTable : this.#hourTable).next()
    to.series.array[i] = series
    setLong(to.bucket.array, i, from.timeUs[row]!)
    to.n.array[i] = from.count[row]!
    to.sum.array[i] = from.sum === undefined ? from.count[row]! * from.mean[row]! : from.sum[row]!
    to.m2.array[i] = from.m2[row]!
    to.min.array[i] = from.min[row]!
    to.max.array[i] = from.max[row]!
    to.first.array[i] = from.first[row]!
    setLong(to.firstTs.array, i, from.firstUs[row]!)
    to.last.array[i] = from.last[row]!
    setLong(to.lastTs.array, i, from.lastUs[row]!)
    setLong(to.gen.array, i, gen)
  }

  /** Hands all rows to the open transaction. */
  flush(): void {
    for (const table of this.#all()) table.flush()
  }

  clear(): void {
    for (const table of this.#all()) table.clear()
  }

  close(): void {
    for (const table of this.#all()) table.close()
  }

  #all(): TableAppender[] {
    return [
      this.#readingsTable,
      this.#textsTable,
      this.#lateTable,
      this.#seriesTable,
      this.#pendingTable,
      this.#keptTable,
      this.#minuteTable,
      this.#hourTable,
    ]
  }
}

function rollupColumns() {
  return {
    series: u32Column(),
    bucket: timeColumn(),
    n: u32Column(),
    sum: f64Column(),
    m2: f64Column(),
    min: f64Column(),
    max: f64Column(),
    first: f64Column(),
    firstTs: timeColumn(),
    last: f64Column(),
    lastTs: timeColumn(),
    gen: u64Column(),
  }
}
