import { Flag, type Batch } from '../core/batch.ts'
import type { Env, Timer } from '../core/env.ts'
import { asKymoError, KymoError } from '../core/errors.ts'
import type { Erasing, OperatorState, RollupColumns, Store, Tables } from '../core/ports.ts'
import type { LogRecord, Span } from '../core/record.ts'
import { Dedupe } from '../compute/window/dedupe.ts'
import { Rollup } from '../compute/window/rollup.ts'
import { SeriesIndex } from '../compute/window/series-index.ts'
import { decodeErasure } from '../wire/erasure.ts'
import type { Committed } from './served-store.ts'

/** Dropped, corrected and late rows. */
export interface StoreCounters {
  duplicates: number
  corrections: number
  late: number
}

export interface StorePartitionOptions {
  readonly store: Store
  readonly env: Env
  /** Added to, for all partitions together. */
  readonly counts: StoreCounters
  readonly commitMessages?: number
  readonly onCommitted?: (commit: Committed) => void
  readonly onRetry?: (error: KymoError) => void
  /** Records below `next` need not be read again, whatever happens. */
  readonly onSettled: (next: bigint) => void
}

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

/**
 * One partition of the log on its way into the store: dedupe, rollups, rows, span and operator states in one commit. The states are written only
 * every few seconds; after a crash the records from a state's offset up to the store's are fed to the operators again, and what
 * comes out of them is dropped, since it is stored.
 */
export class StorePartition {
  readonly #o: StorePartitionOptions
  readonly #signal: AbortSignal
  readonly #index = new SeriesIndex()
  readonly #dedupe: Dedupe
  readonly #rollup: Rollup
  #prepared: Prepared | undefined
  #span: Span | undefined
  /** The operators have seen everything below: less than what is stored, while records are fed to them again. */
  #seen = -1n
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

  constructor(o: StorePartitionOptions, signal: AbortSignal) {
    this.#o = o
    this.#signal = signal
    this.#dedupe = new Dedupe(this.#index)
    this.#rollup = new Rollup(this.#index)
  }

  /** Everything of this partition below it is in the store; undefined: nothing is known of it. */
  get next(): bigint | undefined {
    return this.#span?.next
  }

  /**
   * Brings the operators to what the store has of this partition. Returns from which offset on records must be fed to them again, up to `next`.
   */
  async restore(place: Omit<Span, 'first' | 'next'>): Promise<bigint | undefined> {
    const known = await this.#o.store.resume(place.log, place.topic, place.partition)
    if (known === undefined) {
      await this.#seed()
      return undefined
    }
    this.#span = { ...place, first: known.next, next: known.next }
    const dedupe = known.states.find((state) => state.operator === 'dedupe')
    const rollup = known.states.find((state) => state.operator === 'rollup')
    if (dedupe === undefined || rollup === undefined || dedupe.at !== rollup.at) {
      await this.#seed()
      return (this.#seen = known.next)
    }
    this.#dedupe.restore(dedupe.bytes)
    this.#rollup.restore(rollup.bytes)
    this.#snapshotAt = dedupe.at
    return (this.#seen = dedupe.at)
  }

  /** Shows records to the operators that the store has already: those of `span` that they have not seen. */
  feed(records: readonly LogRecord[], span: Span): void {
    this.#prepare(records, span)
    this.#seen = span.next
    // When nothing new comes behind them, the group would stand where these began for ever.
    if (this.#seen === this.#span?.next) this.#writeStatesSoon()
  }

  /** Resolves when it is in the store. Throws as the store does, and `span_conflict` when another owner has gone on from here. */
  async write(records: readonly LogRecord[], span: Span, signal: AbortSignal): Promise<void> {
    await this.#writing
    for (const part of partsOf(records, span)) {
      // Of a delivery that is tried again: it was stored.
      if (this.#span !== undefined && this.#span.log === span.log && part.span.next <= this.#span.next) continue
      await this.#writePart(part, signal)
    }
  }

  /** The operators' states beside what was written last. Throws `span_conflict` when another owner has gone on. */
  async writeStates(signal: AbortSignal): Promise<void> {
    const at = this.#span?.next
    // While a delivery waits for its retry, the operators are ahead of the store; while they are fed what it has, behind it.
    if (this.#span === undefined || at === undefined || at === this.#snapshotAt || this.#prepared !== undefined || at !== this.#seen) return
    await this.#commit({ readings: [], late: [], rollups: [] }, { ...this.#span, first: at }, this.#states(at), signal)
  }

  /** The operators' states as if they had seen everything below `at`; between two writes. */
  statesAt(at: bigint): readonly OperatorState[] {
    return this.#states(at)
  }

  /** How long a delivery may still gather: nothing for a lone reading after a pause, up to 100 ms between commits under load. */
  lingerMs(): number {
    const usual = this.#rowsPerS > busyRowsPerS ? gapMs.max : Math.min(gapMs.max, Math.max(gapMs.min, gapPerCommit * this.#commitMs))
    const { commitMessages = 0 } = this.#o
    const gap = commitMessages > 0 ? Math.min(usual, (commitMessages * 1000) / Math.max(1e-9, this.#messagesPerS)) : usual
    return Math.max(0, this.#committedMs + gap - this.#o.env.clock.monotonicMs())
  }

  /** Nothing more is to be written, the states neither. */
  abandon(): void {
    this.#timer?.cancel()
  }

  /** Writes the states of what was written last; nothing more is to be written. */
  async stop(): Promise<void> {
    this.abandon()
    await this.#writing
    await this.writeStates(new AbortController().signal)
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
    this.#seen = span.next
    this.#heldRows += rows
    if (states === undefined) this.#writeStatesSoon()
    const durationMs = this.#o.env.clock.monotonicMs() - startMs
    this.#paced(startMs, durationMs, rows, messages)
    this.#o.onCommitted?.({
      partition: span.partition,
      next: span.next,
      rows,
      durationMs,
      ...(receivedUsOldest === undefined ? {} : { receivedUsOldest }),
    })
  }

  /** What the store already has from another log, or from before its states were lost, is known by its watermarks only. */
  async #seed(): Promise<void> {
    const latest = await this.#o.store.latest({ tenant: '', everyTenant: true }, this.#signal)
    for (let i = 0; i < latest.rows; i++) {
      if (((latest.flags?.[i] ?? 0) & Flag.clockAhead) === 0) this.#dedupe.seed(latest.keys[latest.series[i]!]!, latest.timeUs[i]!)
    }
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
          this.#o.counts.duplicates += out.duplicates
          this.#o.counts.corrections += out.corrections
          this.#o.counts.late += out.late.rows - out.corrections
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
        throw new KymoError('span_conflict', {
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
    this.#o.onSettled(at)
  }

  /** When nothing more comes, the last records' states are written too, so that the group catches up with the log. */
  #writeStatesSoon(): void {
    if (this.#timer !== undefined) return
    const waitMs = Math.max(snapshotEveryMs.min, this.#snapshotMs + this.#snapshotEveryMs - this.#o.env.clock.monotonicMs())
    this.#timer = this.#o.env.clock.after(waitMs, () => {
      this.#timer = undefined
      if (this.#signal.aborted || this.#prepared !== undefined) return
      const failed = (thrown: unknown): void => this.#o.onRetry?.(asKymoError(thrown)) // the next commit tries again
      this.#writing = this.#writing.then(() => this.writeStates(this.#signal)).catch(failed)
    })
  }

  #paced(startMs: number, durationMs: number, rows: number, messages: number): void {
    const sinceMs = Math.min(1000, Math.max(1, startMs - this.#committedMs))
    const weight = Math.min(1, sinceMs / 500)
    this.#rowsPerS += ((rows * 1000) / sinceMs - this.#rowsPerS) * weight
    this.#messagesPerS += ((messages * 1000) / sinceMs - this.#messagesPerS) * weight
    this.#commitMs += (durationMs - this.#commitMs) * 0.2
    this.#committedMs = startMs
  }
}
