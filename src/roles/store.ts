import { Flag, type Batch } from '../core/batch.ts'
import type { Env, Timer } from '../core/env.ts'
import { asKymoError, KymoError } from '../core/errors.ts'
import type { Erasing, OperatorState, ReaderOptions, RollupColumns, Sink, Source, Store, Tables } from '../core/ports.ts'
import { pump, sleep } from '../core/pump.ts'
import { Topic, type LogRecord, type Span } from '../core/record.ts'
import { Dedupe } from '../compute/window/dedupe.ts'
import { Rollup } from '../compute/window/rollup.ts'
import { SeriesIndex } from '../compute/window/series-index.ts'
import { decodeErasure } from '../wire/erasure.ts'
import { HeldSource } from './store-acks.ts'

/** The log's side that this role needs: an EmbeddedLog, or what a thread attached to it has. */
export interface StoreRoleLog {
  readonly id: string
  reader(options: ReaderOptions): Source
  end(topic: string): bigint
}

/** One commit that became durable and visible. */
export interface Committed {
  /** Every record below is in the store. */
  readonly next: bigint
  readonly rows: number
  /** When the oldest of its readings was received; undefined when it had none. */
  readonly receivedUsOldest?: number
  readonly durationMs: number
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
  readonly counts: { duplicates: number; corrections: number; late: number }
  stop(): Promise<void>
}

const group = 'store'
const partition = 0
/** One delivery is one commit: 2 MB are 100,000 readings. */
const deliveryBytesMax = 2 * 1024 * 1024
/** Snapshots may write this much a second on average, and come at least and at most this often. */
const snapshotBytesPerS = 512 * 1024
const snapshotEveryMs = { min: 1000, max: 60_000 }
/** Rows whose acknowledgement may wait for a snapshot (20 MB of held deliveries), or so many for each series, whose states cost 400 bytes. */
const heldRowsMax = 1_000_000
const heldRowsPerSeries = 20
/** Above this rate commits gather for the longest gap, below it for so many times what a commit takes. */
const busyRowsPerS = 5_000
const gapMs = { min: 10, max: 100 }
const gapPerCommit = 8

/**
 * Brings the log into the store: dedupe, rollups, rows, span and operator states in one commit. The states are written only
 * every few seconds; at a start the records from a state's offset up to the store's are fed to the operators again, and what
 * comes out of them is dropped, since it is stored. The log keeps those records because the group acknowledges no further than the last state.
 */
export function startStoreRole(o: StoreRoleOptions): StoreRole {
  const abort = new AbortController()
  const role = new Role(o, abort.signal)
  const done = role.run()
  done.catch(() => undefined) // whoever holds `done` is told; nobody holding it must not end the process
  return {
    done,
    counts: role.counts,
    stop: async () => {
      abort.abort()
      await done
    },
  }
}

interface Prepared {
  readonly span: Span
  readonly tables: Tables
  readonly rows: number
  /** Counted only where it matters. */
  readonly messages: number
  readonly receivedUsOldest: number | undefined
}

/** A message gives rows of one device at one time, one after another. */
function messagesIn({ rows, keys, series, timeUs }: Batch): number {
  let messages = 0
  let device: string | undefined
  for (let i = 0; i < rows; i++) {
    const key = keys[series[i]!]!
    if (i === 0 || timeUs[i] !== timeUs[i - 1] || key.device !== device) messages++
    device = key.device
  }
  return messages
}

/** What is committed at once: records up to an erasure, that one included, or to the delivery's end. */
interface Part {
  readonly records: readonly LogRecord[]
  readonly span: Span
  readonly erase?: Erasing
}

function partsOf(records: readonly LogRecord[], span: Span): Part[] {
  const parts: Part[] = []
  let [from, first] = [0, span.first]
  records.forEach((record, i) => {
    if (record.kind !== 'erasure') return
    const next = (record.offset ?? span.first + BigInt(i)) + 1n
    parts.push({ records: records.slice(from, i + 1), span: { ...span, first, next }, erase: decodeErasure(record.body) })
    ;[from, first] = [i + 1, next]
  })
  if (first < span.next || parts.length === 0) parts.push({ records: from === 0 ? records : records.slice(from), span: { ...span, first } })
  return parts
}

class Role implements Sink {
  readonly counts = { duplicates: 0, corrections: 0, late: 0 }
  readonly #o: StoreRoleOptions
  readonly #signal: AbortSignal
  readonly #index = new SeriesIndex()
  readonly #dedupe: Dedupe
  readonly #rollup: Rollup
  #held: HeldSource | undefined
  #prepared: Prepared | undefined
  #span: Span | undefined
  #snapshotAt = -1n
  #snapshotMs = Number.NEGATIVE_INFINITY
  #snapshotEveryMs = snapshotEveryMs.min
  #heldRows = 0
  #timer: Timer | undefined
  #writing: Promise<void> = Promise.resolve()
  #commitMs = 1
  #committedMs = Number.NEGATIVE_INFINITY
  #rowsPerS = 0
  #messagesPerS = 0

  constructor(o: StoreRoleOptions, signal: AbortSignal) {
    this.#o = o
    this.#signal = signal
    this.#dedupe = new Dedupe(this.#index)
    this.#rollup = new Rollup(this.#index)
  }

  async run(): Promise<void> {
    const { log, env } = this.#o
    const next = await this.#persist(() => this.#recover())
    if (this.#signal.aborted) return
    const reader = log.reader({
      topic: Topic.telemetry,
      group,
      start: next === undefined ? 'earliest' : { offset: next },
      batch: { bytesMax: deliveryBytesMax, lingerMs: () => this.#lingerMs() },
    })
    this.#held = new HeldSource(reader)
    try {
      await pump(this.#held, this, this.#signal, { env, name: group, onRetry: (error) => this.#o.onRetry?.(error) })
    } finally {
      this.#timer?.cancel()
    }
    await this.#writing
    await this.#writeStates(new AbortController().signal)
    await reader.close()
  }

  async write(records: readonly LogRecord[], span: Span | undefined, signal: AbortSignal): Promise<void> {
    if (span === undefined) throw new KymoError('bug', { detail: 'The store role needs to know where its records come from.' })
    await this.#writing
    for (const part of partsOf(records, span)) {
      // Of a delivery that is tried again: it was stored.
      if (this.#span !== undefined && this.#span.log === span.log && part.span.next <= this.#span.next) continue
      await this.#writePart(part, signal)
    }
  }

  async #writePart({ records, span, erase }: Part, signal: AbortSignal): Promise<void> {
    // A try that failed is tried again with what the operators said the first time: they must see each record once.
    if (this.#prepared?.span.first !== span.first || this.#prepared.span.next !== span.next) this.#prepared = this.#prepare(records, span)
    const { tables, rows, messages, receivedUsOldest } = this.#prepared
    const startMs = this.#o.env.clock.monotonicMs()
    const heldMax = Math.max(heldRowsMax, heldRowsPerSeries * this.#index.size)
    // With an erasure the states of before, which have the device's last values, must not stay.
    const due = erase !== undefined || this.#heldRows + rows >= heldMax || startMs - this.#snapshotMs >= this.#snapshotEveryMs
    const states = due ? this.#states(span.next) : undefined
    await this.#commit(tables, span, states, signal, erase)
    this.#prepared = undefined
    this.#span = span
    this.#heldRows += rows
    if (states === undefined) this.#writeStatesSoon()
    const durationMs = this.#o.env.clock.monotonicMs() - startMs
    this.#paced(startMs, durationMs, rows, messages)
    this.#o.onCommitted?.({ next: span.next, rows, durationMs, ...(receivedUsOldest === undefined ? {} : { receivedUsOldest }) })
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
    const { log, store } = this.#o
    const known = await store.resume(log.id, Topic.telemetry, partition)
    if (known === undefined) {
      await this.#seed()
      return undefined
    }
    const end = log.end(Topic.telemetry)
    if (known.next > end) {
      throw new KymoError('log_corrupt', {
        detail: `The store holds records up to ${known.next}, the log ends at ${end}.`,
        facts: { next: String(known.next), end: String(end) },
      })
    }
    this.#span = { log: log.id, topic: Topic.telemetry, partition, first: known.next, next: known.next }
    const dedupe = known.states.find((state) => state.operator === 'dedupe')
    const rollup = known.states.find((state) => state.operator === 'rollup')
    if (dedupe === undefined || rollup === undefined || dedupe.at !== rollup.at) {
      await this.#seed()
      return known.next
    }
    this.#dedupe.restore(dedupe.bytes)
    this.#rollup.restore(rollup.bytes)
    this.#snapshotAt = dedupe.at
    if (dedupe.at < known.next) {
      await this.#replay(dedupe.at, known.next)
      // From here on the group starts at `next`, and the log may forget what lies before.
      await this.#writeStates(this.#signal)
    }
    return known.next
  }

  /** What the store already has from another log, or from before its states were lost, is known by its watermarks only. */
  async #seed(): Promise<void> {
    const latest = await this.#o.store.latest({ tenant: '', everyTenant: true }, this.#signal)
    for (let i = 0; i < latest.rows; i++) {
      if (((latest.flags?.[i] ?? 0) & Flag.clockAhead) === 0) this.#dedupe.seed(latest.keys[latest.series[i]!]!, latest.timeUs[i]!)
    }
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
        this.#prepare(delivery.records, span)
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

  #prepare(records: readonly LogRecord[], span: Span): Prepared {
    const readings: Batch[] = []
    const late: Batch[] = []
    const rollups: RollupColumns[] = []
    const closed = (columns: RollupColumns): void => void rollups.push(columns)
    const counted = (this.#o.commitMessages ?? 0) > 0
    let rows = 0
    let messages = 0
    let oldest = Number.POSITIVE_INFINITY
    for (const record of records) {
      if (record.kind === 'tick') this.#rollup.tick(record.receivedUs, closed)
      if (record.kind === 'erasure') this.#forget(decodeErasure(record.body))
      if (record.kind !== 'readings') continue
      oldest = Math.min(oldest, record.receivedUs)
      if (counted) messages += messagesIn(record.batch)
      this.#dedupe.push(
        record.batch,
        (out) => {
          this.counts.duplicates += out.duplicates
          this.counts.corrections += out.corrections
          this.counts.late += out.late.rows - out.corrections
          rows += out.inOrder.rows + out.late.rows
          if (out.late.rows > 0) late.push(out.late)
          if (out.inOrder.rows === 0) return
          readings.push(out.inOrder)
          this.#rollup.push(out.inOrder, closed)
        },
        record.receivedUs,
      )
    }
    return { span, tables: { readings, late, rollups }, rows, messages, receivedUsOldest: oldest === Number.POSITIVE_INFINITY ? undefined : oldest }
  }

  #forget({ tenant, device }: Erasing): void {
    this.#dedupe.forget(tenant, device)
    this.#rollup.forget(tenant, device)
  }

  async #commit(tables: Tables, span: Span, states: readonly OperatorState[] | undefined, signal: AbortSignal, erase?: Erasing): Promise<void> {
    const { store } = this.#o
    try {
      await store.commit({ tables, span, ...(states === undefined ? {} : { states }), ...(erase === undefined ? {} : { erase }) }, signal)
      if (states !== undefined) this.#snapshotTaken(span.next, states)
    } catch (thrown) {
      if (asKymoError(thrown).code !== 'span_conflict') throw thrown
      // Either an earlier try of ours was stored and its answer lost (whether with states is not known: the next ones will tell),
      // or another owner has taken over.
      const known = await store.resume(span.log, span.topic, span.partition)
      if (known?.next !== span.next || span.first === span.next) {
        throw new KymoError('store_failed', {
          detail: `Another owner has committed up to ${known?.next}; this one was at ${span.first}.`,
          cause: thrown,
        })
      }
    }
  }

  #states(at: bigint): OperatorState[] {
    return [
      { operator: 'dedupe', at, bytes: this.#dedupe.snapshot() },
      { operator: 'rollup', at, bytes: this.#rollup.snapshot() },
    ]
  }

  #snapshotTaken(at: bigint, states: readonly OperatorState[]): void {
    this.#snapshotAt = at
    this.#snapshotMs = this.#o.env.clock.monotonicMs()
    this.#heldRows = 0
    const bytes = states.reduce((sum, state) => sum + state.bytes.length, 0)
    this.#snapshotEveryMs = Math.min(snapshotEveryMs.max, Math.max(snapshotEveryMs.min, (bytes / snapshotBytesPerS) * 1000))
    this.#held?.settle(at)
  }

  /** When nothing more comes, the last records' states are written too, so that the group catches up with the log. */
  #writeStatesSoon(): void {
    if (this.#timer !== undefined) return
    const waitMs = Math.max(snapshotEveryMs.min, this.#snapshotMs + this.#snapshotEveryMs - this.#o.env.clock.monotonicMs())
    this.#timer = this.#o.env.clock.after(waitMs, () => {
      this.#timer = undefined
      if (this.#signal.aborted || this.#prepared !== undefined) return
      const failed = (thrown: unknown): void => this.#o.onRetry?.(asKymoError(thrown)) // the next commit tries again
      this.#writing = this.#writing.then(() => this.#writeStates(this.#signal)).catch(failed)
    })
  }

  async #writeStates(signal: AbortSignal): Promise<void> {
    const at = this.#span?.next
    // While a delivery waits for its retry, the operators are ahead of the store.
    if (this.#span === undefined || at === undefined || at === this.#snapshotAt || this.#prepared !== undefined) return
    await this.#commit({ readings: [], late: [], rollups: [] }, { ...this.#span, first: at }, this.#states(at), signal)
  }

  #paced(startMs: number, durationMs: number, rows: number, messages: number): void {
    const sinceMs = Math.min(1000, Math.max(1, startMs - this.#committedMs))
    const weight = Math.min(1, sinceMs / 500)
    this.#rowsPerS += ((rows * 1000) / sinceMs - this.#rowsPerS) * weight
    this.#messagesPerS += ((messages * 1000) / sinceMs - this.#messagesPerS) * weight
    this.#commitMs += (durationMs - this.#commitMs) * 0.2
    this.#committedMs = startMs
  }

  /** How long a delivery may still gather: nothing for a lone reading after a pause, up to 100 ms between commits under load. */
  #lingerMs(): number {
    const usual = this.#rowsPerS > busyRowsPerS ? gapMs.max : Math.min(gapMs.max, Math.max(gapMs.min, gapPerCommit * this.#commitMs))
    const { commitMessages = 0 } = this.#o
    const gap = commitMessages > 0 ? Math.min(usual, (commitMessages * 1000) / Math.max(1e-9, this.#messagesPerS)) : usual
    return Math.max(0, this.#committedMs + gap - this.#o.env.clock.monotonicMs())
  }
}
