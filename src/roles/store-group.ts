import type { Env } from '../core/env.ts'
import { asKymoError, KymoError } from '../core/errors.ts'
import type { Delivery, LogRecord, Span } from '../core/record.ts'
import type { Source, Store, StreamLog } from '../core/ports.ts'
import { pump, sleep } from '../core/pump.ts'
import { Topic } from '../core/record.ts'
import { StorePartition, type StoreCounters, type StorePartitionOptions } from './store-partition.ts'
import { deliveryBytesMax, roleOf, storeGroup, type StoreRole } from './store.ts'

export interface StoreGroupOptions extends Omit<StorePartitionOptions, 'counts' | 'onSettled'> {
  readonly log: StreamLog
  readonly store: Store
  readonly env: Env
}

/** How long the role waits before it reads again, after another owner went on with a partition of its. */
const againMs = 200

/**
 * Brings a log of many partitions into the store, as one of any number of processes. The log's group says which partitions are this one's; the store's
 * compare-and-set fences whoever still writes one that it has lost. A partition's operators are brought from the store when its first delivery comes;
 * that one begins no later than where their states are, since the group acknowledges no further than the last states.
 */
export function startStoreGroup(o: StoreGroupOptions): StoreRole {
  return roleOf((counts, signal) => run(o, counts, signal))
}

async function run(o: StoreGroupOptions, counts: StoreCounters, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const turn = new Turn(o, counts, signal)
    await turn.run()
    if (turn.lost) await sleep(o.env, againMs * (0.5 + o.env.random.next()), signal)
  }
}

interface Owned {
  readonly partition: StorePartition
  readonly log: string
  /** The operators have seen everything below. */
  seen: bigint
  /** Deliveries whose records are in the store and whose states are not. */
  held: Delivery[]
}

/** From one opening of the log to the next. */
class Turn {
  /** Another owner went on with a partition: what was fetched is read again from where the group stands. */
  lost = false
  readonly #o: StoreGroupOptions
  readonly #counts: StoreCounters
  readonly #signal: AbortSignal
  readonly #end = new AbortController()
  readonly #owned = new Map<number, Owned>()

  constructor(o: StoreGroupOptions, counts: StoreCounters, signal: AbortSignal) {
    this.#o = o
    this.#counts = counts
    this.#signal = AbortSignal.any([signal, this.#end.signal])
  }

  async run(): Promise<void> {
    const { log, env } = this.#o
    const lingerMs = (): number => Math.max(0, ...[...this.#owned.values()].map(({ partition }) => partition.lingerMs()))
    const reader = log.reader({ topic: Topic.telemetry, group: storeGroup, start: 'committed', batch: { bytesMax: deliveryBytesMax, lingerMs } })
    const source: Source = { open: (signal) => this.#holding(reader.open(signal)), close: () => reader.close() }
    const sink = { write: (records: readonly LogRecord[], span: Span | undefined) => this.#write(records, span), close: () => Promise.resolve() }
    try {
      await pump(source, sink, this.#signal, { env, name: storeGroup, onRetry: (error) => this.#o.onRetry?.(error) })
      if (!this.lost) for (const { partition } of this.#owned.values()) await partition.stop().catch((thrown: unknown) => this.#unwritten(thrown))
    } finally {
      for (const { partition } of this.#owned.values()) partition.abandon()
      await reader.close()
    }
  }

  /** Deliveries count as acknowledged to the pump, and to the log once nobody needs to read them again. */
  async *#holding(deliveries: AsyncIterable<Delivery>): AsyncGenerator<Delivery, void, void> {
    for await (const delivery of deliveries) {
      const ack = (): void => {
        const owned = delivery.span === undefined ? undefined : this.#owned.get(delivery.span.partition)
        owned?.held.push(delivery)
      }
      yield { ...delivery, ack, nack: (cause) => delivery.nack(cause) }
    }
  }

  async #write(records: readonly LogRecord[], span: Span | undefined): Promise<void> {
    if (span === undefined) throw new KymoError('bug', { detail: 'The store role needs to know where its records come from.' })
    try {
      const owned = await this.#ownerOf(span)
      const next = owned.partition.next ?? span.first
      const stored = records.filter((record, i) => offsetOf(record, span, i) >= owned.seen && offsetOf(record, span, i) < next)
      if (stored.length > 0) owned.partition.feed(stored, { ...span, next })
      const fed = span.next < next ? span.next : next
      if (fed > owned.seen) owned.seen = fed
      if (span.next <= next) return
      const fresh = span.first >= next ? records : records.filter((record, i) => offsetOf(record, span, i) >= next)
      try {
        await owned.partition.write(fresh, { ...span, first: span.first > next ? span.first : next }, this.#signal)
      } finally {
        // Also of a try that stored a part of it.
        owned.seen = owned.partition.next ?? owned.seen
      }
    } catch (thrown) {
      if (asKymoError(thrown).code !== 'span_conflict') throw thrown
      this.lost = true
      this.#end.abort()
      throw thrown
    }
  }

  async #ownerOf(span: Span): Promise<Owned> {
    const known = this.#owned.get(span.partition)
    // Whoever had it meanwhile may have gone on: then the group stands elsewhere, or the store does, which its compare-and-set tells.
    if (known !== undefined && known.log === span.log && span.first <= known.seen) return known
    known?.partition.abandon()
    const settle = (next: bigint): void => {
      const settled = owned.held.filter((delivery) => delivery.span!.next <= next)
      owned.held = owned.held.filter((delivery) => delivery.span!.next > next)
      for (const delivery of settled) delivery.ack()
    }
    const partition = new StorePartition({ ...this.#o, counts: this.#counts, onSettled: settle }, this.#signal)
    const seen = (await partition.restore(span)) ?? span.first
    if (span.first > seen) {
      // The group stands behind what the operators need: somebody acknowledged in its name without writing states.
      throw new KymoError('log_corrupt', {
        detail: `Partition ${span.partition}: the group "${storeGroup}" stands at ${span.first}, and what the operators need begins at ${seen}.`,
        facts: { partition: span.partition, offset: String(span.first), needed: String(seen) },
      })
    }
    const owned: Owned = { partition, log: span.log, seen, held: [] }
    this.#owned.set(span.partition, owned)
    return owned
  }

  /** At the end: the states are an old acquaintance of the store, or another owner has written newer ones. */
  #unwritten(thrown: unknown): void {
    const error = asKymoError(thrown)
    if (error.code !== 'span_conflict') this.#o.onRetry?.(error)
  }
}

function offsetOf(record: LogRecord, span: Span, index: number): bigint {
  return record.offset ?? span.first + BigInt(index)
}
