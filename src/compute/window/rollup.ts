import type { Batch } from '../../core/batch.ts'
import type { Operator, RollupColumns } from '../../core/ports.ts'
import { RollupBuilder } from './rollup-builder.ts'
import { SeriesIndex } from './series-index.ts'
import { beginState, StateReader } from './state-bytes.ts'

export const minuteUs = 60e6
export const hourUs = 3600e6

/** A bucket is closed by time alone once its end is this long past in received time and its series was silent for as long. */
const idleUs = 120e6
/** Silence is looked for this often (received time): a pass over all series costs about 1 ms per 100,000. */
const sweepUs = 10e6

const stateName = 'KRLP'
const stateVersion = 1

/** Columns of one series, minute bucket first (its start, then these), then the hour's, then what is known of both. */
const count = 1
const mean = 2
const m2 = 3
const min = 4
const max = 5
const first = 6
const firstTime = 7
const last = 8
const lastTime = 9
const sum = 10
const width = 11
const hour = width
const closedMinute = 2 * width
const closedHour = closedMinute + 1
const seen = closedMinute + 2
const stride = closedMinute + 3

/**
 * The 1 minute and 1 hour buckets of every series: count, mean, M2, min, max, first, last, sum. Takes the rows that `dedupe` calls in order.
 * One bucket per series and width is open; it is emitted when the series' time passes on, or when ticks tell that its end
 * and the last reading are both 2 minutes past. The hour is merged from its minutes (Chan, Golub and LeVeque 1979). Buckets
 * of a series come out in the order of time, each once.
 *
 * A reading for a bucket that is not open any more (reordered across its border, or after a long silence) is not added
 * anywhere: a row of count 0 comes out for the bucket, which says that it is to be computed again from the rows of
 * the store (core/ports.ts, RollupColumns). Text and NaN are no numbers and do not enter. The state's bytes:
 * docs/format/store.md, "Operator states".
 */
export class Rollup implements Operator<RollupColumns> {
  readonly #index: SeriesIndex
  #state = new Float64Array(0)
  #capacity = 0
  #nowUs = 0
  #sweptUs = 0
  readonly #minutes: RollupBuilder
  readonly #hours: RollupBuilder

  constructor(index: SeriesIndex = new SeriesIndex()) {
    this.#index = index
    this.#minutes = new RollupBuilder(minuteUs, index.keys)
    this.#hours = new RollupBuilder(hourUs, index.keys)
  }

  push(batch: Batch, emit: (out: RollupColumns) => void): void {
    const { rows, series, timeUs, value } = batch
    const ids = this.#index.of(batch.keys)
    if (this.#index.size > this.#capacity) this.#grow(this.#index.size)
    const state = this.#state
    const nowUs = this.#nowUs
    for (let i = 0; i < rows; i++) {
      const v = value[i]!
      if (v !== v) continue
      const at = ids[series[i]!]! * stride
      const t = timeUs[i]!
      const start = state[at]!
      if (t >= start && t < start + minuteUs) add(state, at, t, v)
      else this.#turn(at, t, v)
      state[at + seen] = nowUs
    }
    this.#flush(emit)
  }

  tick(receivedUs: number, emit: (out: RollupColumns) => void): void {
    if (receivedUs > this.#nowUs) this.#nowUs = receivedUs
    if (this.#nowUs - this.#sweptUs < sweepUs) return
    this.#sweptUs = this.#nowUs
    const before = this.#nowUs - idleUs
    const state = this.#state
    for (let at = 0; at < this.#capacity * stride; at += stride) {
      if (state[at + seen]! > before) continue
      if (state[at]! >= 0 && state[at]! + minuteUs <= before) this.#closeMinute(at)
      if (state[at]! < 0 && state[at + hour]! >= 0 && state[at + hour]! + hourUs <= before) this.#closeHour(at)
    }
    this.#flush(emit)
  }

  /** The buckets of one width that are open, as they stand; an hour without its open minute. */
  open(stepUs: typeof minuteUs | typeof hourUs): RollupColumns | undefined {
    const builder = new RollupBuilder(stepUs, this.#index.keys)
    const offset = stepUs === hourUs ? hour : 0
    for (let id = 0; id < this.#capacity; id++) {
      const at = id * stride + offset
      if (this.#state[at]! >= 0) builder.add(id, this.#state, at)
    }
    return builder.take()
  }

  /** Forgets a device as if it had never spoken, its open buckets included: its rows have been erased. */
  forget(tenant: string, device: string): void {
    for (const id of this.#index.ofDevice(tenant, device)) if (id < this.#capacity) this.#clear(id * stride, (id + 1) * stride)
  }

  /** Series of which nothing is known are left out: their names too may have been erased. */
  snapshot(): Uint8Array {
    const known: number[] = []
    for (let id = 0; id < Math.min(this.#index.size, this.#capacity); id++)
      if (this.#state[id * stride + seen]! !== Number.NEGATIVE_INFINITY) known.push(id)
    const writer = beginState(stateName, stateVersion, known.length * (stride * 8 + 48))
    writer.f64(this.#nowUs)
    writer.f64(this.#sweptUs)
    writer.u32(known.length)
    for (const id of known) {
      const key = this.#index.keys[id]!
      writer.text(key.tenant)
      writer.text(key.device)
      writer.text(key.metric)
      for (let c = 0; c < stride; c++) writer.f64(this.#state[id * stride + c]!)
    }
    return writer.finish()
  }

  restore(bytes: Uint8Array): void {
    const reader = new StateReader(bytes, stateName, stateVersion)
    this.#capacity = 0
    this.#state = new Float64Array(0)
    this.#nowUs = reader.f64()
    this.#sweptUs = reader.f64()
    for (let left = reader.u32(); left > 0; left--) {
      const id = this.#index.id({ tenant: reader.text(), device: reader.text(), metric: reader.text() })
      if (id >= this.#capacity) this.#grow(this.#index.size)
      for (let c = 0; c < stride; c++) this.#state[id * stride + c] = reader.f64()
    }
  }

  /** A reading outside the open minute: the next minute begins, or one that is gone is to be computed again. */
  #turn(at: number, t: number, v: number): void {
    const state = this.#state
    const minute = t - (t % minuteUs)
    if (minute < state[at]! || minute < state[at + closedMinute]!) {
      this.#minutes.again(at / stride, minute)
      this.#hours.again(at / stride, t - (t % hourUs))
      return
    }
    if (state[at]! >= 0) this.#closeMinute(at)
    if (state[at + hour]! >= 0 && minute >= state[at + hour]! + hourUs) this.#closeHour(at)
    // Silence has closed the hour: its row lacks this reading until the hour is computed again.
    if (minute < state[at + closedHour]!) this.#hours.again(at / stride, t - (t % hourUs))
    begin(state, at, minute, t, v)
  }

  #closeMinute(at: number): void {
    const state = this.#state
    const start = state[at]!
    this.#minutes.add(at / stride, state, at)
    const hourStart = start - (start % hourUs)
    if (hourStart < state[at + closedHour]!) this.#hours.again(at / stride, hourStart)
    else if (state[at + hour]! === hourStart) merge(state, at + hour, at)
    else {
      if (state[at + hour]! >= 0) this.#closeHour(at)
      state.copyWithin(at + hour, at, at + width)
      state[at + hour] = hourStart
    }
    state[at + closedMinute] = start + minuteUs
    state[at] = -1
  }

  #closeHour(at: number): void {
    this.#hours.add(at / stride, this.#state, at + hour)
    this.#state[at + closedHour] = this.#state[at + hour]! + hourUs
    this.#state[at + hour] = -1
  }

  #flush(emit: (out: RollupColumns) => void): void {
    const minutes = this.#minutes.take()
    if (minutes !== undefined) emit(minutes)
    const hours = this.#hours.take()
    if (hours !== undefined) emit(hours)
  }

  #grow(series: number): void {
    const capacity = Math.max(64, series, this.#capacity * 2)
    const state = new Float64Array(capacity * stride)
    state.set(this.#state.subarray(0, this.#capacity * stride))
    const from = this.#capacity * stride
    this.#state = state
    this.#capacity = capacity
    this.#clear(from, state.length)
  }

  /** As nothing is known of the series in [from, to) of the state. */
  #clear(from: number, to: number): void {
    const state = this.#state
    state.fill(0, from, to)
    for (let at = from; at < to; at += stride) {
      state[at] = -1
      state[at + hour] = -1
      state[at + closedMinute] = Number.NEGATIVE_INFINITY
      state[at + closedHour] = Number.NEGATIVE_INFINITY
      state[at + seen] = Number.NEGATIVE_INFINITY
    }
  }
}

function begin(state: Float64Array, at: number, start: number, t: number, v: number): void {
  state[at] = start
  state[at + count] = 1
  state[at + mean] = v
  state[at + m2] = 0
  state[at + min] = v
  state[at + max] = v
  state[at + first] = v
  state[at + firstTime] = t
  state[at + last] = v
  state[at + lastTime] = t
  state[at + sum] = v
}

/** Welford's update; sums of squares would cancel. */
function add(state: Float64Array, at: number, t: number, v: number): void {
  const n = state[at + count]! + 1
  const before = state[at + mean]!
  const delta = v - before
  const after = before + delta / n
  state[at + count] = n
  state[at + mean] = after
  state[at + m2] = state[at + m2]! + delta * (v - after)
  state[at + sum] = state[at + sum]! + v
  if (v < state[at + min]!) state[at + min] = v
  else if (v > state[at + max]!) state[at + max] = v
  if (t >= state[at + lastTime]!) {
    state[at + last] = v
    state[at + lastTime] = t
  } else if (t < state[at + firstTime]!) {
    state[at + first] = v
    state[at + firstTime] = t
  }
}

/** Adds the later bucket at `from` to the one at `to` (Chan et al. 1979, equation 2.1). */
function merge(state: Float64Array, to: number, from: number): void {
  const na = state[to + count]!
  const nb = state[from + count]!
  const n = na + nb
  const delta = state[from + mean]! - state[to + mean]!
  state[to + mean] = state[to + mean]! + (delta * nb) / n
  state[to + m2] = state[to + m2]! + state[from + m2]! + (delta * delta * na * nb) / n
  state[to + count] = n
  state[to + sum] = state[to + sum]! + state[from + sum]!
  if (state[from + min]! < state[to + min]!) state[to + min] = state[from + min]!
  if (state[from + max]! > state[to + max]!) state[to + max] = state[from + max]!
  state[to + last] = state[from + last]!
  state[to + lastTime] = state[from + lastTime]!
}
