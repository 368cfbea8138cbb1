import type { Env } from '../core/env.ts'
import { asKymoError, KymoError } from '../core/errors.ts'
import type { ReaderOptions, Sink, Source, Store } from '../core/ports.ts'
import { pump, sleep } from '../core/pump.ts'
import { Topic, type LogRecord, type Span } from '../core/record.ts'
import { HeldSource } from './store-acks.ts'
import type { Committed } from './served-store.ts'
import { StorePartition, type StoreCounters } from './store-partition.ts'

/** The log's side that this role needs: an EmbeddedLog, or what a thread attached to it has. */
export interface StoreRoleLog {
  readonly id: string
  reader(options: ReaderOptions): Source
  end(topic: string): bigint
}

export interface StoreRoleOptions {
  readonly log: StoreRoleLog
  readonly store: Store
  readonly env: Env
  /** A commit waits no longer than so many messages take to arrive, at the rate of the last second; absent or 0: that bounds nothing. */
  readonly commitMessages?: number
  readonly onCommitted?: (commit: Committed) => void
  readonly onRetry?: (error: KymoError) => void
}

export interface StoreRole {
  /** Settles when the role has ended: rejects when it cannot go on. */
  readonly done: Promise<void>
  /** Dropped, corrected and late rows since the start. */
  readonly counts: StoreCounters
  stop(): Promise<void>
}

export const storeGroup = 'store'
const partition = 0
/** One delivery is one commit: 2 MB are 100,000 readings. */
export const deliveryBytesMax = 2 * 1024 * 1024

/**
 * Brings a log of one partition into the store. At a start the records from the operators' state up to where the store is are read again; the log keeps
 * them because the group acknowledges no further than the last state.
 */
export function startStoreRole(o: StoreRoleOptions): StoreRole {
  return roleOf((counts, signal) => new Role(o, counts, signal).run())
}

/** A role that `run` is, until it is stopped. */
export function roleOf(run: (counts: StoreCounters, signal: AbortSignal) => Promise<void>): StoreRole {
  const abort = new AbortController()
  const counts = { duplicates: 0, corrections: 0, late: 0 }
  const done = run(counts, abort.signal)
  done.catch(() => undefined) // whoever holds `done` is told; nobody holding it must not end the process
  return {
    done,
    counts,
    stop: async () => {
      abort.abort()
      await done
    },
  }
}

class Role implements Sink {
  readonly #o: StoreRoleOptions
  readonly #signal: AbortSignal
  readonly #partition: StorePartition
  #held: HeldSource | undefined

  constructor(o: StoreRoleOptions, counts: StoreCounters, signal: AbortSignal) {
    this.#o = o
    this.#signal = signal
    this.#partition = new StorePartition({ ...o, counts, onSettled: (next) => this.#held?.settle(next) }, signal)
  }

  async run(): Promise<void> {
    const { log, env } = this.#o
    const next = await this.#persist(() => this.#recover())
    if (this.#signal.aborted) return
    const reader = log.reader({
      topic: Topic.telemetry,
      group: storeGroup,
      start: next === undefined ? 'earliest' : { offset: next },
      batch: { bytesMax: deliveryBytesMax, lingerMs: () => this.#partition.lingerMs() },
    })
    this.#held = new HeldSource(reader)
    try {
      await pump(this.#held, this, this.#signal, { env, name: storeGroup, onRetry: (error) => this.#o.onRetry?.(error) })
    } catch (thrown) {
      this.#partition.abandon()
      throw thrown
    }
    await alone(this.#partition.stop())
    await reader.close()
  }

  async write(records: readonly LogRecord[], span: Span | undefined, signal: AbortSignal): Promise<void> {
    if (span === undefined) throw new KymoError('bug', { detail: 'The store role needs to know where its records come from.' })
    await alone(this.#partition.write(records, span, signal))
  }

  close(): Promise<void> {
    return Promise.resolve()
  }

  /** Tries for ever while the store does not answer. */
  async #persist<T>(task: () => Promise<T>): Promise<T | undefined> {
    for (let waitMs = 50; ; waitMs = Math.min(waitMs * 2, 10_000)) {
      try {
        return await task()
      } catch (thrown) {
        const error = asKymoError(thrown)
        if (error.kind !== 'unavailable' && error.kind !== 'overloaded') throw error
        if (this.#signal.aborted) return undefined
        this.#o.onRetry?.(error)
        await sleep(this.#o.env, waitMs, this.#signal)
      }
    }
  }

  /** Brings the operators to where the store is. Returns the offset to go on from; undefined: the log is new to the store. */
  async #recover(): Promise<bigint | undefined> {
    const { log } = this.#o
    const seen = await this.#partition.restore({ log: log.id, topic: Topic.telemetry, partition })
    const { next } = this.#partition
    if (seen === undefined || next === undefined) return undefined
    const end = log.end(Topic.telemetry)
    if (next > end) {
      throw new KymoError('log_corrupt', {
        detail: `The store holds records up to ${next}, the log ends at ${end}.`,
        facts: { next: String(next), end: String(end) },
      })
    }
    if (seen < next) {
      await this.#replay(seen, next)
      // From here on the group starts at `next`, and the log may forget what lies before.
      await alone(this.#partition.writeStates(this.#signal))
    }
    return next
  }

  async #replay(from: bigint, to: bigint): Promise<void> {
    // One record a delivery, so that the last one ends exactly where the store does.
    const reader = this.#o.log.reader({ topic: Topic.telemetry, start: { offset: from }, batch: { bytesMax: 1 } })
    try {
      let at = from
      for await (const delivery of reader.open(this.#signal)) {
        const span = delivery.span
        if (span === undefined || span.first !== at || span.next > to) {
          throw new KymoError('log_corrupt', {
            detail: `The log gave ${span?.first} to ${span?.next} where ${at} to at most ${to} was to be read again.`,
          })
        }
        this.#partition.feed(delivery.records, span)
        delivery.ack()
        at = span.next
        if (at === to) return
      }
    } finally {
      await reader.close()
    }
    if (!this.#signal.aborted) throw new KymoError('log_corrupt', { detail: `The log ended before ${to}, where the store is.` })
    throw new KymoError('shutting_down')
  }
}

/** On a log of one partition there is no other owner: somebody else has written into the store. */
async function alone(work: Promise<void>): Promise<void> {
  try {
    await work
  } catch (thrown) {
    const error = asKymoError(thrown)
    if (error.code !== 'span_conflict') throw thrown
    throw new KymoError('store_failed', { detail: error.message, cause: thrown })
  }
}
