import { BatchBuilder } from '../core/batch-builder.ts'
import type { Env } from '../core/env.ts'
import { asKymoError, KymoError } from '../core/errors.ts'
import { limits } from '../core/limits.ts'
import type { StreamLog } from '../core/ports.ts'
import { sleep } from '../core/pump.ts'
import { Topic, type LogRecord, type OpaqueRecord } from '../core/record.ts'
import type { SeriesTable } from '../core/series-table.ts'
import type { IngestMetrics } from './ingest-metrics.ts'
import { rowBytes, writeParts } from './write-parts.ts'

export interface GroupCommitOptions {
  readonly log: StreamLog
  readonly series: SeriesTable
  readonly env: Env
  readonly metrics: IngestMetrics
  /** Called once when the log can never take writes again (a failed fsync, damage): the process must stop. */
  readonly onFatal: (error: KymoError) => void
  /** Why nothing is to be written at the moment though the log would take it; asked before each write, and again until it is undefined. */
  readonly held?: () => KymoError | undefined
  readonly pendingBytesMax?: number
  /** Runs `fn` after what is ready to be read has been read; setImmediate, unless a simulation replaces it. */
  readonly soon?: (fn: () => void) => void
}

/** Above so many messages in one write, writes wait for company: at this rate a write (100 us of CPU) costs more than the linger. */
const busyMessages = 8

interface Waiter {
  readonly ticket: number
  readonly resolve: () => void
  readonly reject: (error: KymoError) => void
}

/**
 * Messages on their way into the log: one write is under way at a time, and everything that is taken meanwhile goes into the next (group commit). A
 * ticket is the number of the write that carries a message. Memory is bounded by `ingestPendingBytesMax`: beyond it `overloaded` is true, and
 * nothing more is to be added.
 */
export class GroupCommit {
  /** The highest durable ticket. */
  durable = 0
  /** Why the log does not take writes at the moment. */
  stalled: KymoError | undefined = undefined
  readonly #o: GroupCommitOptions
  readonly #soon: (fn: () => void) => void
  readonly #pendingBytesMax: number
  readonly #listeners = new Set<(durable: number) => void>()
  readonly #waiters: Waiter[] = []
  #open: BatchBuilder
  /** Batches that are full and wait for the write under way. */
  #full: BatchBuilder[] = []
  #spare: BatchBuilder[] = []
  #opaque: LogRecord[] = []
  #opaqueBytes = 0
  #ticket = 1
  #messages = 0
  #lastWriteMessages = 0
  #firstUs = 0
  #pendingRows = 0
  #inFlightBytes = 0
  #flushing = false
  #scheduled = false
  #stopped: KymoError | undefined
  readonly #abort = new AbortController()
  #retryTimer: { cancel(): void } | undefined

  constructor(o: GroupCommitOptions) {
    this.#o = o
    this.#pendingBytesMax = o.pendingBytesMax ?? limits.ingestPendingBytesMax
    this.#soon = o.soon ?? ((fn) => void setImmediate(fn))
    this.#open = new BatchBuilder(o.series.keys)
  }

  get overloaded(): boolean {
    return this.#stopped !== undefined || this.#pendingBytes() >= this.#pendingBytesMax
  }

  /** Messages that are not durable yet. */
  get pendingMessages(): number {
    return this.#messages + (this.#flushing ? this.#lastWriteMessages : 0)
  }

  /** Where rows go; another one after each call of `took`. */
  get open(): BatchBuilder {
    return this.#open
  }

  /** The ticket of what is taken now. */
  get ticket(): number {
    return this.#ticket
  }

  /** One message was taken that added `rows` to the open batch. Returns its ticket. */
  took(rows: number, receivedUs: number): number {
    if (this.#messages++ === 0) this.#firstUs = receivedUs
    this.#pendingRows += rows
    if (this.#open.rows >= limits.recordRowsMax) {
      this.#full.push(this.#open)
      this.#open = this.#spare.pop() ?? new BatchBuilder(this.#o.series.keys)
    }
    this.due()
    return this.#ticket
  }

  /** A record goes into the next write, which `took` or `due` bring on. */
  add(record: OpaqueRecord): void {
    this.#opaque.push(record)
    this.#opaqueBytes += record.body.length
  }

  /** What is taken gets written: after what is ready to be read, or after a linger. */
  due(): void {
    if (this.#scheduled || this.#flushing) return
    this.#scheduled = true
    const run = (): void => {
      this.#scheduled = false
      if (!this.#flushing) void this.#flush()
    }
    if (this.#lastWriteMessages > busyMessages) this.#o.env.clock.after(limits.ingestLingerMs, run)
    else this.#soon(run)
  }

  onDurable(listener: (durable: number) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  whenDurable(ticket: number, timeoutMs?: number): Promise<void> {
    if (ticket <= this.durable) return Promise.resolve()
    if (this.#stopped !== undefined) return Promise.reject(this.#stopped)
    return new Promise((resolve, reject) => {
      const timer =
        timeoutMs === undefined
          ? undefined
          : this.#o.env.clock.after(timeoutMs, () => {
              const at = this.#waiters.indexOf(waiter)
              if (at >= 0) this.#waiters.splice(at, 1)
              reject(this.stalled ?? new KymoError('log_unavailable', { detail: `Not durable after ${timeoutMs} ms.`, retryAfterS: 1 }))
            })
      const waiter: Waiter = {
        ticket,
        resolve: () => (timer?.cancel(), resolve()),
        reject: (error) => (timer?.cancel(), reject(error)),
      }
      this.#waiters.push(waiter)
    })
  }

  /** Doors that hold something back are called, even when no write does so. */
  offerAgain(): void {
    if (this.#retryTimer !== undefined) return
    this.#retryTimer = this.#o.env.clock.after(50, () => {
      this.#retryTimer = undefined
      for (const listener of this.#listeners) listener(this.durable)
    })
  }

  /** Takes nothing more, waits until everything taken is durable, and says how many messages that were. */
  async stop(): Promise<{ readonly drained: number; readonly lost: number }> {
    const waiting = this.pendingMessages
    this.#retryTimer?.cancel()
    const last = this.#ticket
    const nothing = this.#messages === 0 && this.#opaque.length === 0
    const done = nothing && !this.#flushing ? Promise.resolve() : this.whenDurable(nothing ? last - 1 : last, limits.drainTimeoutMs)
    this.#stopped ??= new KymoError('shutting_down')
    let lost = 0
    try {
      await done
    } catch {
      // What is not durable was not acknowledged either: its senders still hold it.
      lost = this.pendingMessages
    }
    this.#abort.abort()
    return { drained: waiting - lost, lost }
  }

  #pendingBytes(): number {
    return this.#pendingRows * rowBytes + this.#opaqueBytes + this.#inFlightBytes
  }

  async #flush(): Promise<void> {
    this.#flushing = true
    const { env } = this.#o
    const batches = this.#full
    if (this.#open.rows > 0) {
      batches.push(this.#open)
      this.#open = this.#spare.pop() ?? new BatchBuilder(this.#o.series.keys)
    }
    const records: LogRecord[] = this.#opaque
    const firstUs = this.#firstUs
    const receivedUs = env.clock.nowUs()
    for (const builder of batches) records.push({ topic: Topic.telemetry, kind: 'readings', key: '', receivedUs, batch: builder.view() })
    this.#full = []
    this.#opaque = []
    this.#inFlightBytes = this.#pendingRows * rowBytes + this.#opaqueBytes
    this.#opaqueBytes = 0
    this.#pendingRows = 0
    this.#lastWriteMessages = this.#messages
    this.#messages = 0
    const ticket = this.#ticket++
    let written = true
    for (const part of writeParts(records)) written &&= await this.#write(part)
    this.#inFlightBytes = 0
    this.#flushing = false
    if (!written) return
    for (const builder of batches) {
      builder.reset()
      if (this.#spare.length < 4) this.#spare.push(builder)
    }
    if (this.#lastWriteMessages > 0) this.#o.metrics.duration.observe((env.clock.nowUs() - firstUs) / 1e6)
    this.#settled(ticket)
    this.#o.metrics.depth.value = this.#pendingRows
    if (this.#messages > 0 || this.#opaque.length > 0) this.due()
    else this.#lastWriteMessages = 0
  }

  /** Tries until it is durable. False: it never will be. */
  async #write(records: readonly LogRecord[]): Promise<boolean> {
    for (let attempt = 0; ; attempt++) {
      try {
        const held = this.#o.held?.()
        if (held !== undefined) throw held
        await this.#o.log.write(records, undefined, this.#abort.signal)
        if (this.stalled !== undefined) this.#o.env.logger.info('the log takes writes again')
        this.stalled = undefined
        return true
      } catch (thrown) {
        const error = asKymoError(thrown)
        if ((error.kind !== 'unavailable' && error.kind !== 'overloaded') || this.#abort.signal.aborted) {
          this.#fail(error)
          return false
        }
        if (this.stalled?.code !== error.code) this.#o.env.logger.error(error.message, { code: error.code, id: error.id })
        this.stalled = new KymoError(error.code, { ...error.details, detail: error.message, retryAfterS: 2 })
        this.#o.metrics.retries.value++
        await sleep(this.#o.env, Math.min(2_000, 20 * 2 ** Math.min(attempt, 10)), this.#abort.signal)
      }
    }
  }

  #settled(ticket: number): void {
    this.durable = ticket
    const waiting = this.#waiters
    let kept = 0
    for (const waiter of waiting) {
      if (waiter.ticket <= ticket) waiter.resolve()
      else waiting[kept++] = waiter
    }
    waiting.length = kept
    for (const listener of this.#listeners) listener(ticket)
  }

  #fail(error: KymoError): void {
    const first = this.#stopped === undefined
    this.#stopped = error
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error)
    if (first) this.#o.onFatal(error)
  }
}
