import { Flag, type Batch, type SeriesKey } from '../../src/core/batch.ts'
import { BatchBuilder } from '../../src/core/batch-builder.ts'
import { KymoError } from '../../src/core/errors.ts'
import { bordersWithin, isBucketed } from '../../src/core/buckets.ts'
import { calendarBorders, isTimeZone } from '../../src/core/calendar.ts'
import { isQuantile, quantiles } from '../../src/core/ports.ts'
import type {
  Aggregation,
  Erasing,
  OperatorState,
  QueryPage,
  RangeQuery,
  SeriesInfo,
  SeriesMatch,
  SeriesPage,
  Store,
  Tables,
} from '../../src/core/ports.ts'
import type { Span } from '../../src/core/record.ts'

interface Row {
  readonly timeUs: number
  readonly value: number
  readonly flags: number
  readonly text: string | undefined
  readonly meta: string | undefined
  readonly late: boolean
}

interface Series {
  readonly key: SeriesKey
  /** All arrivals of each time, in their order. */
  readonly arrivals: Map<number, Row[]>
}

interface Answer {
  readonly series: Series
  readonly timeUs: number
  readonly rows: readonly Row[]
}

/**
 * The Store port in memory, as plainly as it can be said: rows are kept as they came, every answer is worked out from all of them, and the
 * rollups that come along are not looked at. It outlives its users like a disk does. Readings that come twice as new stay two, so that a failure of
 * `dedupe` is seen.
 */
export class ModelStore implements Store {
  readonly #series = new Map<string, Series>()
  readonly #spans = new Map<string, { next: bigint; readonly states: Map<string, OperatorState> }>()

  async commit(
    c: { readonly tables: Tables; readonly span: Span; readonly states?: readonly OperatorState[]; readonly erase?: Erasing },
    signal: AbortSignal,
  ): Promise<void> {
    await Promise.resolve()
    if (signal.aborted) throw new KymoError('shutting_down')
    const name = `${c.span.log}/${c.span.topic}/${c.span.partition}`
    const stored = this.#spans.get(name) ?? { next: c.span.first, states: new Map<string, OperatorState>() }
    if (stored.next !== c.span.first) throw new KymoError('span_conflict')
    const ahead = (flags: number): boolean => (flags & Flag.clockAhead) !== 0
    for (const batch of c.tables.late) this.#add(batch, true, ahead)
    for (const batch of c.tables.readings) this.#add(batch, false, () => true)
    for (const batch of c.tables.late) this.#add(batch, true, (flags) => !ahead(flags))
    for (const [id, { key }] of this.#series) if (key.tenant === c.erase?.tenant && key.device === c.erase.device) this.#series.delete(id)
    for (const state of c.states ?? []) stored.states.set(state.operator, { ...state, bytes: state.bytes.slice() })
    stored.next = c.span.next
    this.#spans.set(name, stored)
  }

  async resume(
    log: string,
    topic: string,
    partition: number,
  ): Promise<{ readonly next: bigint; readonly states: readonly OperatorState[] } | undefined> {
    await Promise.resolve()
    const stored = this.#spans.get(`${log}/${topic}/${partition}`)
    return stored === undefined
      ? undefined
      : { next: stored.next, states: [...stored.states.values()].sort((a, b) => (a.operator < b.operator ? -1 : 1)) }
  }

  async *query(q: RangeQuery, signal: AbortSignal): AsyncGenerator<QueryPage, void, void> {
    await Promise.resolve()
    const { calendar } = q
    if ((calendar !== undefined && (q.stepUs !== undefined || !isTimeZone(calendar.timeZone))) || (q.gaps !== undefined && !isBucketed(q)))
      throw new KymoError('request_invalid')
    const series = this.#match(q.match)
    const answers: Answer[] = []
    for (const one of series) {
      const rows = readable(one).filter((row) => row.timeUs >= q.fromUs && row.timeUs < q.toUs)
      if (!isBucketed(q)) for (const row of rows) answers.push({ series: one, timeUs: row.timeUs, rows: [row] })
      else {
        const buckets = Map.groupBy(
          rows.filter((row) => !Number.isNaN(row.value)),
          (row) => bucketOf(q, row.timeUs),
        )
        if (q.gaps !== undefined && q.fromUs < q.toUs) {
          // More than a test asks for from where a page may begin.
          const fromUs = q.after === undefined || q.order === 'desc' ? q.fromUs : Math.max(q.fromUs, q.after.timeUs)
          const toUs = q.after === undefined || q.order === 'asc' ? q.toUs : Math.min(q.toUs, q.after.timeUs + 1)
          for (const timeUs of bordersWithin(q, fromUs, toUs, q.limit + 1).subarray(0, -1)) buckets.set(timeUs, buckets.get(timeUs) ?? [])
        }
        for (const [timeUs, inside] of buckets) answers.push({ series: one, timeUs, rows: inside })
      }
    }
    const place = (a: { timeUs: number; device: string; metric: string }, b: typeof a): number =>
      a.timeUs - b.timeUs || compare(a.device, b.device) || compare(a.metric, b.metric)
    const sign = q.order === 'asc' ? 1 : -1
    const at = (a: Answer): { timeUs: number; device: string; metric: string } => ({
      timeUs: a.timeUs,
      device: a.series.key.device,
      metric: a.series.key.metric,
    })
    const { after } = q
    const page = answers
      .sort((a, b) => sign * place(at(a), at(b)))
      .filter((a) => after === undefined || sign * place(at(a), after) > 0)
      .slice(0, q.limit)
    if (signal.aborted) throw new KymoError('query_deadline')
    if (page.length > 0) yield toPage(series, page, q)
  }

  async latest(match: SeriesMatch, _signal?: AbortSignal): Promise<Batch> {
    await Promise.resolve()
    const keys: SeriesKey[] = []
    const builder = new BatchBuilder(keys)
    for (const series of this.#match(match)) {
      const rows = readable(series)
      const row = rows.findLast((r) => (r.flags & Flag.clockAhead) === 0) ?? rows.at(-1)
      if (row === undefined) continue
      const index = keys.push(series.key) - 1
      if (row.text === undefined) builder.add(index, row.timeUs, row.value, row.flags)
      else builder.addText(index, row.timeUs, row.text, row.flags)
    }
    return builder.view()
  }

  async series(match: SeriesMatch, _signal?: AbortSignal, page?: SeriesPage): Promise<readonly SeriesInfo[]> {
    await Promise.resolve()
    const infos = this.#match(match).map((one) => {
      const rows = readable(one)
      return { key: one.key, firstUs: rows[0]!.timeUs, lastUs: rows.at(-1)!.timeUs }
    })
    if (page === undefined) return infos
    const name = (key: Pick<SeriesKey, 'device' | 'metric'>): string => `${key.device}\u0000${key.metric}`
    const { after, limit } = page
    return infos.filter(({ key }) => after === undefined || name(key) > name(after)).slice(0, limit)
  }

  close(): Promise<void> {
    return Promise.resolve()
  }

  #add(batch: Batch, late: boolean, wanted: (flags: number) => boolean): void {
    for (let i = 0; i < batch.rows; i++) {
      const flags = batch.flags?.[i] ?? 0
      if (!wanted(flags)) continue
      const key = batch.keys[batch.series[i]!]!
      const name = `${key.tenant}\n${key.device}\n${key.metric}`
      const series = this.#series.get(name) ?? { key, arrivals: new Map<number, Row[]>() }
      this.#series.set(name, series)
      const timeUs = batch.timeUs[i]!
      const row: Row = { timeUs, value: batch.value[i]!, flags, text: batch.text?.get(i), meta: batch.meta?.get(i), late }
      series.arrivals.set(timeUs, [...(series.arrivals.get(timeUs) ?? []), row])
    }
  }

  #match(match: SeriesMatch): Series[] {
    return [...this.#series.values()]
      .filter(({ key }) => match.everyTenant === true || key.tenant === match.tenant)
      .filter(({ key }) => match.devices === undefined || match.devices.includes(key.device))
      .filter(({ key }) => match.metrics === undefined || match.metrics.includes(key.metric))
      .sort((a, b) => compare(a.key.device, b.key.device) || compare(a.key.metric, b.key.metric))
  }
}

/** By time; where any arrival of a time was late, the last one stands for all. */
function readable(series: Series): Row[] {
  return [...series.arrivals.values()].flatMap((rows) => (rows.some((row) => row.late) ? rows.slice(-1) : rows)).sort((a, b) => a.timeUs - b.timeUs)
}

/** The start of the bucket that holds a moment. */
function bucketOf({ stepUs, calendar }: RangeQuery, us: number): number {
  return calendar === undefined ? us - (us % stepUs!) : calendarBorders(calendar, us, us + 1)[0]!
}

function compare(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1
}

function toPage(series: readonly Series[], answers: readonly Answer[], q: RangeQuery): QueryPage {
  const columns: Record<string, Float64Array> = {}
  const names: readonly Aggregation[] = q.aggregations ?? ['avg']
  if (!isBucketed(q)) columns['value'] = Float64Array.from(answers, (a) => a.rows[0]!.value)
  else for (const name of names) columns[name] = Float64Array.from(answers, (a) => aggregate(name, a.rows))
  const page = {
    rows: answers.length,
    keys: series.map((one) => one.key),
    series: Uint32Array.from(answers, (a) => series.indexOf(a.series)),
    timeUs: Float64Array.from(answers, (a) => a.timeUs),
    columns,
  }
  if (isBucketed(q)) return page
  const some = (pick: (row: Row) => string | undefined): ReadonlyMap<number, string> =>
    new Map(answers.flatMap((a, i) => (pick(a.rows[0]!) === undefined ? [] : [[i, pick(a.rows[0]!)!] as const])))
  const text = some((row) => row.text)
  const meta = some((row) => row.meta)
  const flags = Uint8Array.from(answers, (a) => a.rows[0]!.flags)
  return { ...page, flags, ...(text.size > 0 ? { text } : {}), ...(meta.size > 0 ? { meta } : {}) }
}

/** Quantiles are exact here: a store may be 1 % away. */
function aggregate(name: Aggregation, rows: readonly Row[]): number {
  if (rows.length === 0) return name === 'count' ? 0 : Number.NaN
  if (isQuantile(name)) return rows.map((row) => row.value).sort((a, b) => a - b)[Math.floor(quantiles[name] * (rows.length - 1))]!
  const values = rows.map((row) => row.value)
  const sum = values.reduce((a, b) => a + b, 0)
  const mean = sum / values.length
  const squares = values.reduce((a, v) => a + (v - mean) ** 2, 0)
  switch (name) {
    case 'avg':
      return mean
    case 'sum':
      return sum
    case 'min':
      return Math.min(...values)
    case 'max':
      return Math.max(...values)
    case 'count':
      return values.length
    case 'first':
      return values[0]!
    case 'last':
      return values.at(-1)!
    case 'stddev':
      return values.length < 2 ? Number.NaN : Math.sqrt(squares / (values.length - 1))
  }
}
