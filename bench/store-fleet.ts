import { Dedupe } from '../src/compute/window/dedupe.ts'
import { Rollup } from '../src/compute/window/rollup.ts'
import { BatchBuilder } from '../src/core/batch-builder.ts'
import type { SeriesKey } from '../src/core/batch.ts'
import type { RollupColumns, Tables } from '../src/core/ports.ts'
import type { DuckdbStore } from '../src/store/duckdb/store.ts'

export const devices = 1_000
export const metrics = ['temperature', 'humidity', 'pressure', 'battery', 'count'] as const
export const everyUs = 5e6
export const dayUs = 86_400e6
/** Readings of one tick: one message of each device. */
export const rowsPerTick = devices * metrics.length
const stop = new AbortController().signal

export const keys: readonly SeriesKey[] = Array.from({ length: rowsPerTick }, (_, i) => ({
  tenant: 'default',
  device: `device-${Math.floor(i / metrics.length)}`,
  metric: metrics[i % metrics.length]!,
}))

/** The same numbers at every run: a 32-bit mix of tick, device and metric, from 0 up to 1. */
function noise(tick: number, series: number): number {
  let x = Math.imul(tick + 1, 0x9e3779b1) ^ Math.imul(series + 1, 0x85ebca6b)
  x = Math.imul(x ^ (x >>> 15), 0x2c1b3c6d)
  x = Math.imul(x ^ (x >>> 12), 0x297a2d39)
  return ((x ^ (x >>> 15)) >>> 0) / 2 ** 32
}

const cents = (value: number): number => Math.round(value * 100) / 100

/** What the devices say (bench/store.ts describes it); `jitterMs`: how late a message may be, below the 5 s between two. */
export class Fleet {
  readonly #counts = new Float64Array(devices)
  readonly #jitterMs: number

  constructor(jitterMs: number) {
    this.#jitterMs = jitterMs
  }

  /** Rows of one tick, device by device; ticks must come in their order, as the counter grows. */
  rows(tick: number, fromUs: number, add: (series: number, timeUs: number, value: number) => void): void {
    const turn = (2 * Math.PI * tick * everyUs) / dayUs
    for (let device = 0; device < devices; device++) {
      const lateUs = this.#jitterMs === 0 ? 0 : Math.floor(noise(tick, -device - 2) * this.#jitterMs) * 1000
      const timeUs = fromUs + tick * everyUs + ((device * 37) % (everyUs / 1000 - this.#jitterMs)) * 1000 + lateUs
      const series = device * metrics.length
      const part = (m: number): number => noise(tick, series + m)
      add(series, timeUs, cents(20 + 5 * Math.sin(turn + device) + 0.2 * part(0)))
      add(series + 1, timeUs, cents(50 + 10 * Math.cos(turn + device) + 0.5 * part(1)))
      add(series + 2, timeUs, cents(1013 + 8 * Math.sin(turn / 2 + device) + 0.1 * part(2)))
      add(series + 3, timeUs, cents(4.1 - (0.4 * tick * everyUs) / dayUs + 0.02 * part(3)))
      this.#counts[device]! += Math.floor(10 * part(4))
      add(series + 4, timeUs, this.#counts[device]!)
    }
  }
}

/** Commits as the server's store role makes them, to one store after the other. */
export class Feeder {
  readonly #fleet: Fleet
  readonly #dedupe = new Dedupe()
  readonly #rollup = new Rollup()
  #next = 0n
  /** When messages arrive, in microseconds: a second after the last of them. */
  nowUs = 0

  constructor(fleet: Fleet) {
    this.#fleet = fleet
  }

  /** Ticks as one commit. */
  async ticks(store: DuckdbStore, from: number, to: number, fromUs: number): Promise<void> {
    const builder = new BatchBuilder(keys, (to - from) * rowsPerTick)
    for (let tick = from; tick < to; tick++) this.#fleet.rows(tick, fromUs, (series, timeUs, value) => builder.add(series, timeUs, value, 0))
    this.nowUs = fromUs + to * everyUs + 1e6
    const rollups: RollupColumns[] = []
    const readings: Tables['readings'][number][] = []
    const late: Tables['late'][number][] = []
    this.#rollup.tick(this.nowUs, (columns) => void rollups.push(columns))
    this.#dedupe.push(builder.view(), (out) => {
      readings.push(out.inOrder)
      late.push(out.late)
      this.#rollup.push(out.inOrder, (columns) => void rollups.push(columns))
    })
    await this.#commit(store, { readings, late, rollups })
  }

  /** Received time goes on without readings: open buckets close. */
  async silence(store: DuckdbStore, us: number): Promise<void> {
    const rollups: RollupColumns[] = []
    const until = this.nowUs + us
    // Silence is looked for at each tick, and a bucket needs one more after that.
    for (; this.nowUs < until; this.nowUs += 60e6) this.#rollup.tick(this.nowUs, (columns) => void rollups.push(columns))
    await this.#commit(store, { readings: [], late: [], rollups })
  }

  async #commit(store: DuckdbStore, tables: Tables): Promise<void> {
    const first = this.#next++
    await store.commit({ tables, span: { log: 'log-1', topic: 'telemetry', partition: 0, first, next: this.#next }, states: [] }, stop)
  }
}
