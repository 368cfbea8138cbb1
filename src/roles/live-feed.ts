import { emptyBatch, type Batch } from '../core/batch.ts'
import type { Env } from '../core/env.ts'
import type { Cell, Metrics } from '../core/metrics.ts'
import type { Sink } from '../core/ports.ts'
import { sleep } from '../core/pump.ts'
import type { LogRecord, Span } from '../core/record.ts'
import type { LiveEvent, LiveFeed } from '../core/services.ts'
import { decodeErasure } from '../wire/erasure.ts'
import type { Hearing } from './hearing.ts'
import type { LatestTable } from './live-latest.ts'
import { giveTurn } from './turns.ts'

/** Work between two turns of the event loop when a backlog is read. */
const busyMsMax = 5

/** Hands every durable batch to each listener, at once and in order. A listener that throws is dropped. */
export class LiveFanOut implements LiveFeed {
  readonly #listeners = new Set<(event: LiveEvent) => void>()
  readonly #dropped: Cell
  readonly #env: Env

  constructor(env: Env, metrics: Metrics) {
    this.#env = env
    this.#dropped = metrics.counter('kymo_live_listeners_dropped_total', 'Listeners of the live feed that failed and were dropped.')
  }

  subscribe(listener: (event: LiveEvent) => void): () => void {
    // Wrapped, so that subscribing the same function twice makes two listeners.
    const own = (event: LiveEvent): void => listener(event)
    this.#listeners.add(own)
    return () => void this.#listeners.delete(own)
  }

  emit(event: LiveEvent): void {
    if (this.#listeners.size === 0) return
    for (const listener of this.#listeners) {
      try {
        listener(event)
      } catch (thrown) {
        this.#listeners.delete(listener)
        this.#dropped.value++
        this.#env.logger.error('a listener of the live feed failed and was dropped', {
          error: thrown instanceof Error ? thrown.message : String(thrown),
        })
      }
    }
  }
}

export interface LiveSinkOptions {
  readonly latest: LatestTable
  readonly feed: LiveFanOut
  readonly env: Env
  readonly catchingUp: () => boolean
  readonly forgotten: (tenant: string, device: string) => void
  readonly hearing?: Hearing
}

/** Latest values and live clients, from the log. */
export class LiveSink implements Sink {
  readonly #latest: LatestTable
  readonly #feed: LiveFanOut
  readonly #env: Env
  readonly #catchingUp: () => boolean
  readonly #forgotten: (tenant: string, device: string) => void
  readonly #hearing: Hearing | undefined
  /** Of events from a log of many partitions, whose offsets say nothing of their order. */
  #lastId = 0n
  #many = false
  #busyMs = 0

  constructor(o: LiveSinkOptions) {
    this.#forgotten = o.forgotten
    this.#hearing = o.hearing
    this.#latest = o.latest
    this.#feed = o.feed
    this.#env = o.env
    this.#catchingUp = o.catchingUp
  }

  async write(records: readonly LogRecord[], span: Span | undefined, signal: AbortSignal): Promise<void> {
    const { clock } = this.#env
    const fromMs = clock.monotonicMs()
    const old = this.#catchingUp()
    let place = span?.first ?? 0n
    for (const record of records) {
      if (record.kind === 'readings') {
        this.#latest.push(record.batch, old)
        this.#feed.emit(this.#event(record.offset ?? place, span, record.receivedUs, record.batch))
      }
      if (record.kind === 'erasure') {
        const { tenant, device } = decodeErasure(record.body)
        this.#latest.forget(tenant, device)
        this.#forgotten(tenant, device)
        this.#feed.emit({ ...this.#event(record.offset ?? place, span, record.receivedUs, emptyBatch), erased: { tenant, device } })
      }
      this.#hearing?.take(record)
      place++
    }
    this.#busyMs += clock.monotonicMs() - fromMs
    if (this.#busyMs < busyMsMax) return giveTurn(this.#env, records, signal)
    this.#busyMs = 0
    await sleep(this.#env, 0, signal)
  }

  /** Ids grow: with one partition they are its offsets, the same in every process; with many they are of this process and of now. */
  #event(offset: bigint, span: Span | undefined, receivedUs: number, batch: Batch): LiveEvent {
    const partition = span?.partition ?? 0
    this.#many ||= partition > 0
    const now = BigInt(this.#env.clock.nowUs())
    this.#lastId = !this.#many ? offset : now > this.#lastId ? now : this.#lastId + 1n
    return { id: this.#lastId, partition, offset, batch, receivedUs }
  }

  async close(): Promise<void> {
    // Table and listeners belong to the role.
  }
}
