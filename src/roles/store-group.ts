import type { Env } from '../core/env.ts'
import { asKymoError, KymoError } from '../core/errors.ts'
import type { Delivery, LogRecord, Span } from '../core/record.ts'
import type { Source, Store, StreamLog } from '../core/ports.ts'
import { pump, sleep } from '../core/pump.ts'
import { Topic } from '../core/record.ts'
import { StorePartition, type StoreCounters, type StorePartitionOptions } from './store-partition.ts'
import { deliveryBytesMax, roleOf, storeGroup, type StoreRole } from './store.ts'
import { lettersOf } from './store-unusable.ts'

export interface StoreGroupOptions extends Omit<StorePartitionOptions, 'counts' | 'onSettled'> {
  readonly log: StreamLog
  readonly store: Store
  readonly env: Env
  /** How often a record that the store cannot take is tried again, before it becomes a dead letter; absent: 3. */
  readonly retries?: number
}

/** How long the role waits before it reads again, after another owner went on with a partition of its. */
const againMs = 200
/** Before a record that the store cannot take is tried again; then twice as long, and so on. */
const unusableMs = 100
/** Records that are stored one by one at most, when the one that is looked for does not come. */
const aloneMax = 20_000

/**
 * Brings a log of many partitions into the store, as one of any number of processes. The log's group says which partitions are this one's; the store's
 * compare-and-set fences whoever still writes one that it has lost. A partition's operators are brought from the store when its first delivery comes;
 * that one begins no later than where their states are, since the group acknowledges no further than the last states.
 *
 * A delivery that the store cannot take whatever the tries has a record that cannot be used: it is looked for one by one, and set aside.
 */
export function startStoreGroup(o: StoreGroupOptions): StoreRole {
  return roleOf((counts, signal) => run(o, counts, signal))
}

async function run(o: StoreGroupOptions, counts: StoreCounters, signal: AbortSignal): Promise<void> {
  let suspect: Span | undefined
  while (!signal.aborted) {
    const turn = new Turn(o, counts, signal, suspect)
    try {
      await turn.run()
      suspect = turn.suspect
    } catch (thrown) {
      // One by one it fails as well: it is not for one record.
      if (signal.aborted || suspect !== undefined || turn.failed === undefined || !isUnusable(asKymoError(thrown))) throw thrown
      suspect = turn.failed
    }
    if (turn.lost) await sleep(o.env, againMs * (0.5 + o.env.random.next()), signal)
  }
}

/** Not for the engine, which is waited for, and not for another owner: for what is to be stored. */
function isUnusable({ kind }: KymoError): boolean {
  return kind === 'bug' || kind === 'invalid'
}

interface Owned {
  readonly partition: StorePartition
  readonly log: string
  /** The operators have seen everything below. */
  seen: bigint
  /** Deliveries whose records are in the store and whose states are not. */
  held: Delivery[]
  /** The states of everything below are. */
  settled: bigint
}

/** From one opening of the log to the next. */
class Turn {
  /** Another owner went on with a partition: what was fetched is read again from where the group stands. */
  lost = false
  /** What could not be stored at the end. */
  failed: Span | undefined
  /** Below its end is a record that cannot be used: records are stored one by one. */
  suspect: Span | undefined
  #alone = 0
  readonly #o: StoreGroupOptions
  readonly #counts: StoreCounters
  readonly #signal: AbortSignal
  readonly #end = new AbortController()
  readonly #owned = new Map<number, Owned>()

  constructor(o: StoreGroupOptions, counts: StoreCounters, signal: AbortSignal, suspect: Span | undefined) {
    this.#o = o
    this.suspect = suspect
    this.#counts = counts
    this.#signal = AbortSignal.any([signal, this.#end.signal])
  }

  async run(): Promise<void> {
    const { log, env } = this.#o
    const lingerMs = (): number => Math.max(0, ...[...this.#owned.values()].map(({ partition }) => partition.lingerMs()))
    const batch = this.suspect === undefined ? { bytesMax: deliveryBytesMax, lingerMs } : { bytesMax: 1 }
    const reader = log.reader({ topic: Topic.telemetry, group: storeGroup, start: 'committed', batch })
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
        const { span } = delivery
        const owned = span === undefined ? undefined : this.#owned.get(span.partition)
        if (span === undefined || owned === undefined) return
        // Its own commit may have had the states along.
        if (span.next <= owned.settled) delivery.ack()
        else owned.held.push(delivery)
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
      const fed = span.next < next ? span.next : next
      if (fed > owned.seen) {
        owned.partition.feed(stored, { ...span, next: fed })
        owned.seen = fed
      }
      if (span.next <= next) return
      const fresh = span.first >= next ? records : records.filter((record, i) => offsetOf(record, span, i) >= next)
      try {
        const part = { ...span, first: span.first > next ? span.first : next }
        if (this.suspect === undefined) await owned.partition.write(fresh, part, this.#signal)
        else await this.#writeOne(owned.partition, fresh, part)
      } finally {
        // Also of a try that stored a part of it.
        owned.seen = owned.partition.next ?? owned.seen
      }
      this.#unsuspect(span)
    } catch (thrown) {
      this.failed = span
      if (asKymoError(thrown).code !== 'span_conflict') throw thrown
      this.#again()
      throw thrown
    }
  }

  /** What was fetched is read again, from where the group stands. */
  #again(): void {
    this.lost = true
    this.#end.abort()
  }

  /** One record. When it cannot be stored it becomes a dead letter, and the operators are brought anew from the store: they must not have seen it. */
  async #writeOne(partition: StorePartition, records: readonly LogRecord[], span: Span): Promise<void> {
    const { retries = 3, log, store, env, onRetry } = this.#o
    const before = partition.statesAt(span.next)
    for (let tries = 0; ; tries++) {
      try {
        return await partition.write(records, span, this.#signal)
      } catch (thrown) {
        const error = asKymoError(thrown)
        const readings = records.filter((record) => record.kind === 'readings')
        if (!isUnusable(error) || readings.length === 0) throw thrown
        onRetry?.(error)
        if (tries < retries) {
          await sleep(env, unusableMs * 2 ** tries * (0.5 + env.random.next()), this.#signal)
          if (this.#signal.aborted) throw thrown
          continue
        }
        const letters = readings.flatMap(({ batch, receivedUs }) => lettersOf(batch, error, receivedUs))
        await log.write(letters, undefined, this.#signal)
        await store.commit({ tables: { readings: [], late: [], rollups: [] }, span, states: before }, this.#signal)
        env.logger.error('readings that the store cannot take are dead letters now', {
          code: error.code,
          error: error.message,
          letters: letters.length,
        })
        this.#again()
        return
      }
    }
  }

  /** Past the place where it was suspected, records go together again; also where another process has that place now. */
  #unsuspect({ partition, next }: Span): void {
    const { suspect } = this
    if (suspect === undefined || this.lost) return
    if (++this.#alone < aloneMax && (partition !== suspect.partition || next < suspect.next)) return
    this.suspect = undefined
    this.#again()
  }

  async #ownerOf(span: Span): Promise<Owned> {
    const known = this.#owned.get(span.partition)
    // Whoever had it meanwhile may have gone on: then the group stands elsewhere, or the store does, which its compare-and-set tells.
    if (known !== undefined && known.log === span.log && span.first <= known.seen) return known
    known?.partition.abandon()
    const settle = (next: bigint): void => {
      owned.settled = next
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
    const owned: Owned = { partition, log: span.log, seen, held: [], settled: seen }
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
