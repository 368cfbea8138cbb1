import type { SeriesKey } from '../../core/batch.ts'
import { borderFrom, bordersWithin, isBucketed } from '../../core/buckets.ts'
import { calendarBorders } from '../../core/calendar.ts'
import { limits } from '../../core/limits.ts'
import { isQuantile, type RangeQuery } from '../../core/ports.ts'
import { field, levelWidth, stateWidth } from './series-state.ts'
import { kindOfLevel, type Need } from './sealed/sources.ts'
import type { Between } from './source-types.ts'
import { stepOf, type Level } from './sql.ts'

const minuteUs = stepOf.minute
const hourUs = stepOf.hour
/** Series whose rollups end this much before those of the others are read apart, so that they do not make all others read rows. */
const behindUs = 2 * hourUs
/** Quantiles of shorter ranges are made of rows: two days of a reading a second are 170,000. */
export const sketchedFromUs = 48 * hourUs
const firstWindowUs = 10 * minuteUs
const widerWindow = 8
/** What was found in a window tells nothing of one that is so many times as wide. */
const widestWindow = 4096
/** Up to this many rows are looked for window by window; more are streamed from the whole range. */
export const windowedRowsMax = limits.queryRowsMax + 1

/** A piece of a query's range: rows or rollup rows of some series. Those in `replaced` may have late rows or corrections there. */
export interface Part extends Between {
  readonly from: 'rows' | Level
  readonly ids: Uint32Array
  readonly replaced: Uint32Array
}

/**
 * What quantiles are made from: rows, or sketches of hours and then those in `replaced` may have corrections there. Of series whose readings from
 * the same time on are all there.
 */
export interface QuantilePart extends Omit<Part, 'from'> {
  readonly from: 'rows' | 'sketches'
  readonly rawFromUs: number
}

/** Where a page of raw rows is looked for next, and how wide a window of it. */
export interface Window extends Between {
  readonly widthUs: number
}

/** What is to be read, as of one commit; range-sql.ts makes a statement of it. */
export interface RangePlan extends Between {
  readonly query: RangeQuery
  /** In the order of their keys. */
  readonly ids: Uint32Array
  readonly keys: readonly SeriesKey[]
  /** Raw readings, or what the statistics of buckets are made from. */
  readonly parts: readonly Part[]
  /** What the quantiles of buckets are made from. With sketches, or where readings have gone, `parts` say how many numbers a bucket has. */
  readonly quantiles: readonly QuantilePart[]
  /** Of buckets of a calendar: their borders, from the first one's start to the last one's end. */
  readonly borders: Float64Array | undefined
  /** All buckets that the answer may have, as borders, when it is to have those without readings too. */
  readonly grid: Float64Array | undefined
  /** Raw: whether text and metadata are to be looked for. */
  readonly texts: boolean
  /** Raw: what is left when this window has too few rows. */
  readonly rest: Window | undefined
}

/** What is known beside the state of the series. */
export interface Known {
  /** Readings before it have gone. */
  readonly rawFromUs?: number | undefined
  /** For tests: another threshold than the constant. */
  readonly sketchedFromUs?: number | undefined
}

interface Scope extends Between {
  readonly ids: Uint32Array
  readonly cells: Float64Array
}

/**
 * Undefined: nothing can match. `ids` in the order of (device, metric); `cells` as of the transaction that will run the plan. `window`: the rest
 * that an earlier plan left.
 */
export function planRange(
  query: RangeQuery,
  ids: Uint32Array,
  allKeys: readonly SeriesKey[],
  cells: Float64Array,
  window?: Window,
  known: Known = {},
): RangePlan | undefined {
  const whole = window ?? clipped(query, ids, cells)
  if (ids.length === 0 || whole.fromUs >= whole.toUs || query.limit <= 0) return undefined
  const keys = Array.from(ids, (id) => allKeys[id]!)
  if (isBucketed(query)) return planBuckets(query, ids, keys, cells, whole, known)
  const { now, rest } = query.limit > windowedRowsMax ? { now: whole, rest: undefined } : nextWindow(whole, query.order, window?.widthUs)
  const part = rowsPart({ ids, cells, fromUs: now.fromUs, toUs: now.toUs }, ids, now.fromUs, now.toUs)
  let traits = 0
  for (const id of ids) traits |= cells[id * stateWidth + field.traits]!
  const texts = traits !== 0 || part.replaced.length > 0
  return { query, ids, keys, parts: [part], fromUs: now.fromUs, toUs: now.toUs, texts, rest, ...noBuckets }
}

const noBuckets = { quantiles: [], borders: undefined, grid: undefined } as const

function planBuckets(
  query: RangeQuery,
  ids: Uint32Array,
  keys: readonly SeriesKey[],
  cells: Float64Array,
  { fromUs, toUs }: Between,
  known: Known,
): RangePlan {
  let scope: Scope = { ids, cells, fromUs, toUs }
  let grid: Float64Array | undefined
  if (query.gaps !== undefined) {
    // Every bucket has a row for every series: one that a page begins in the middle of, and as many as the rest of it takes.
    grid = bordersWithin(query, fromUs, toUs, 1 + Math.ceil(query.limit / ids.length))
    scope = { ids, cells, fromUs: Math.max(fromUs, grid[0]!), toUs: Math.min(toUs, grid.at(-1)!) }
  }
  const borders = query.calendar === undefined ? undefined : (grid ?? calendarBorders(query.calendar, fromUs, toUs))
  const asked = query.aggregations ?? ['avg']
  const grain = grainOf(query.stepUs === undefined ? borders!.subarray(1, -1) : [query.stepUs])
  const quantiles = asked.some(isQuantile) ? quantileParts(scope, grain, known) : []
  const { rawFromUs = 0 } = known
  const lacking = quantiles.some((part) => part.from === 'sketches' || part.fromUs < Math.max(part.rawFromUs, rawFromUs))
  const counted = lacking || !asked.every(isQuantile)
  const parts = counted ? groups(scope, grain).flatMap((group) => partials(scope, group, grain)) : []
  return { query, ids, keys, parts, quantiles, borders, grid, fromUs: scope.fromUs, toUs: scope.toUs, texts: false, rest: undefined }
}

/**
 * Sketches of hours where the range is long, or its readings have gone; else rows, which are as quick then and keep answers within what each
 * bin has.
 */
function quantileParts(scope: Scope, grain: Grain, { rawFromUs = 0, sketchedFromUs: longUs = sketchedFromUs }: Known): QuantilePart[] {
  const { ids, cells, fromUs, toUs } = scope
  const openOf = (id: number): number => cells[id * stateWidth + levelWidth + field.open]!
  const newest = ids.reduce((most, id) => Math.max(most, Math.min(toUs, openOf(id))), 0)
  const startOf = (id: number): number => Math.max(0, cells[id * stateWidth + field.rawFrom]!)
  const alike = Map.groupBy(ids, (id) => `${startOf(id)} ${openOf(id) < newest - behindUs}`)
  return [...alike.values()].flatMap((group) => {
    const some = Uint32Array.from(group)
    const seriesFromUs = startOf(some[0]!)
    const rows = (from: number, to: number): QuantilePart[] =>
      from < to ? [{ ...rowsPart(scope, some, from, to), from: 'rows', rawFromUs: seriesFromUs }] : []
    const hourFrom = ceil(fromUs, hourUs)
    const hourTo = floor(
      some.reduce((least, id) => Math.min(least, openOf(id)), toUs),
      hourUs,
    )
    const worth = hourTo - hourFrom >= longUs || (hourTo > hourFrom && fromUs < Math.max(seriesFromUs, rawFromUs))
    if (grain !== 'hour' || !worth) return rows(fromUs, toUs)
    const sketches = { ...rollupPart(scope, some, 'hour', hourFrom, hourTo), from: 'sketches', rawFromUs: seriesFromUs } as const
    return [...rows(fromUs, hourFrom), sketches, ...rows(hourTo, toUs)]
  })
}

type Grain = 'rows' | Level

/** The widest rollups that borders, or multiples of a width, do not cut. What lies outside of a range's borders cuts nothing. */
function grainOf(borders: ArrayLike<number>): Grain {
  let grain: Grain = 'hour'
  for (let i = 0; i < borders.length; i++) {
    if (borders[i]! % minuteUs !== 0) return 'rows'
    if (borders[i]! % hourUs !== 0) grain = 'minute'
  }
  return grain
}

/** What a plan reads of sealed files. */
export function needsOf(plan: RangePlan): Need[] {
  const parts = plan.parts.map(({ from, fromUs, toUs }): Need => ({ kind: from === 'rows' ? 'raw' : kindOfLevel[from], fromUs, toUs }))
  const quantiles = plan.quantiles.map(({ from, fromUs, toUs, replaced }): Need => ({
    kind: from === 'rows' ? 'raw' : 'bins',
    fromUs,
    toUs,
    replaced: replaced.length > 0,
  }))
  return [...parts, ...quantiles]
}

/** Nothing lies outside of what the series have; a page starts where the one before it ended. */
function clipped(query: RangeQuery, ids: Uint32Array, cells: Float64Array): Between {
  const { after, order } = query
  let first = Number.POSITIVE_INFINITY
  let last = Number.NEGATIVE_INFINITY
  for (const id of ids) {
    const at = id * stateWidth
    first = Math.min(first, cells[at + field.first]!)
    last = Math.max(last, cells[at + field.last]!, cells[at + field.lateLast]!)
  }
  let [fromUs, toUs] = [Math.ceil(query.fromUs), Math.ceil(query.toUs)]
  // By whole hours of buckets: a first or last hour that is cut would need its readings, which may have gone.
  const whole = isBucketed(query) ? hourUs : 1
  if (query.gaps === undefined) [fromUs, toUs] = [Math.max(fromUs, floor(first, whole)), Math.min(toUs, ceil(last + 1, whole))]
  if (after !== undefined) {
    if (order === 'asc') fromUs = Math.max(fromUs, after.timeUs)
    else toUs = Math.min(toUs, borderFrom(query, after.timeUs + 1))
  }
  return { fromUs, toUs }
}

/**
 * A page of the newest rows is mostly found in the last minutes, while the engine, left alone, would read from the oldest on: so
 * the range is read in windows, each this much wider than the one before, or wider still (`widened`).
 */
function nextWindow(
  { fromUs, toUs }: Between,
  order: RangeQuery['order'],
  widthUs = firstWindowUs,
): { readonly now: Between; readonly rest: Window | undefined } {
  if (toUs - fromUs <= 2 * widthUs) return { now: { fromUs, toUs }, rest: undefined }
  const wider = widerWindow * widthUs
  return order === 'asc'
    ? { now: { fromUs, toUs: fromUs + widthUs }, rest: { fromUs: fromUs + widthUs, toUs, widthUs: wider } }
    : { now: { fromUs: toUs - widthUs, toUs }, rest: { fromUs, toUs: toUs - widthUs, widthUs: wider } }
}

/** The rest, of which the next window is wide enough for what is lacking, so many times what this one had, if rows are as dense there. */
export function widened(rest: Window | undefined, lacking: number): Window | undefined {
  if (rest === undefined || !(lacking > 0 && lacking < widestWindow)) return rest
  return { ...rest, widthUs: Math.max(rest.widthUs, Math.ceil(((1.1 * lacking) / widerWindow) * rest.widthUs)) }
}

interface Group {
  readonly ids: Uint32Array
  /** All rows in between are in rollup rows of that width. */
  readonly minutesFrom: number
  readonly minutesTo: number
  /** All rows before it. */
  readonly hoursTo: number
}

/** Series whose rollups speak for about the same time: one group, unless some keep no minutes, began late or are behind. */
function groups(scope: Scope, grain: Grain): Group[] {
  const { ids, cells, fromUs, toUs } = scope
  const never = Number.NEGATIVE_INFINITY
  if (grain === 'rows') return [{ ids, minutesFrom: never, minutesTo: never, hoursTo: never }]
  const of = (name: keyof typeof field, id: number): number => cells[id * stateWidth + field[name]]!
  const keeps = (id: number): boolean => of('minuteFrom', id) < toUs && of('closed', id) > fromUs
  let newest = never
  for (const id of ids) if (keeps(id)) newest = Math.max(newest, Math.min(toUs, of('open', id)))
  // As one number each: 0 the most, 1 those that began within the range, 2 those behind, 3 those without minutes.
  const kind = (id: number): number => {
    if (!keeps(id)) return 3
    if (of('open', id) < newest - behindUs) return 2
    return of('minuteFrom', id) > fromUs ? 1 : 0
  }
  return [0, 1, 2, 3]
    .map((k) => ids.filter((id) => kind(id) === k))
    .filter((some) => some.length > 0)
    .map((some) => {
      let minutesFrom = never
      let minutesTo = Number.POSITIVE_INFINITY
      let hour = Number.POSITIVE_INFINITY
      for (const id of some) {
        minutesFrom = Math.max(minutesFrom, of('minuteFrom', id))
        minutesTo = Math.min(minutesTo, of('open', id))
        hour = Math.min(hour, cells[id * stateWidth + levelWidth + field.open]!)
      }
      return { ids: some, minutesFrom, minutesTo: floor(minutesTo, minuteUs), hoursTo: floor(hour, hourUs) }
    })
}

/** Hours, minutes and rows that together hold each reading of [from, to) once. */
function partials(scope: Scope, group: Group, grain: Grain): Part[] {
  const { fromUs, toUs } = scope
  const hourFrom = ceil(fromUs, hourUs)
  const hourTo = Math.min(floor(toUs, hourUs), group.hoursTo)
  if (grain !== 'hour' || hourFrom >= hourTo) return minutesAndRows(scope, group, fromUs, toUs)
  return [
    ...minutesAndRows(scope, group, fromUs, hourFrom),
    rollupPart(scope, group.ids, 'hour', hourFrom, hourTo),
    ...minutesAndRows(scope, group, hourTo, toUs),
  ]
}

function minutesAndRows(scope: Scope, group: Group, fromUs: number, toUs: number): Part[] {
  if (fromUs >= toUs) return []
  const minuteFrom = Math.max(ceil(fromUs, minuteUs), group.minutesFrom)
  const minuteTo = Math.min(floor(toUs, minuteUs), group.minutesTo)
  if (minuteFrom >= minuteTo) return [rowsPart(scope, group.ids, fromUs, toUs)]
  return [
    ...(fromUs < minuteFrom ? [rowsPart(scope, group.ids, fromUs, minuteFrom)] : []),
    rollupPart(scope, group.ids, 'minute', minuteFrom, minuteTo),
    ...(minuteTo < toUs ? [rowsPart(scope, group.ids, minuteTo, toUs)] : []),
  ]
}

function rowsPart(scope: Scope, ids: Uint32Array, fromUs: number, toUs: number): Part {
  return { from: 'rows', ids, fromUs, toUs, replaced: within(scope, ids, field.lateFirst, field.lateLast, fromUs, toUs) }
}

function rollupPart(scope: Scope, ids: Uint32Array, level: Level, fromUs: number, toUs: number): Part {
  return { from: level, ids, fromUs, toUs, replaced: within(scope, ids, field.correctedFirst, field.correctedLast, fromUs, toUs) }
}

/** Series for which [first, last] meets the range. */
function within({ cells }: Scope, ids: Uint32Array, first: number, last: number, fromUs: number, toUs: number): Uint32Array {
  return ids.filter((id) => cells[id * stateWidth + first]! < toUs && cells[id * stateWidth + last]! >= fromUs)
}

function floor(us: number, step: number): number {
  return Number.isFinite(us) ? us - (us % step) : us
}

function ceil(us: number, step: number): number {
  return floor(us + step - 1, step)
}
