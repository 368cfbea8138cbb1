import type { Env } from '../../core/env.ts'
import { asKymoError, KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { StreamLog } from '../../core/ports.ts'
import type { OpaqueRecord } from '../../core/record.ts'
import { ByteWriter } from './bytes.ts'
import { encoder, journalVersion, type Changes } from './changes.ts'

export interface JournalOptions {
  readonly log: StreamLog
  readonly env: Env
  readonly topic: string
  /** The offset that the next record will have: nobody else writes the topic. */
  readonly next: bigint
  /** What the journal has already. */
  readonly bytes: number
  readonly pendingBytesMax: number
  readonly lazyMs: number
  /** Called before a write takes what was gathered: may add to it. */
  readonly beforeWrite: () => void
  /** There is more to be written than changes that came. */
  readonly more: () => boolean
  readonly failed: (error: KymoError) => void
}

interface Waiter {
  readonly ticket: number
  readonly resolve: () => void
  readonly reject: (error: KymoError) => void
}

/**
 * Changes on their way into the log: those of a write are encoded while the one before is under way, and each write has a ticket. While the log takes
 * nothing, the write is tried again; any other failure is the end.
 */
export class Journal {
  readonly changes: Changes
  durable = 1
  /** Durable as well, for whoever counts. */
  next: bigint
  bytesWritten: number
  stalled: KymoError | undefined
  failure: KymoError | undefined
  readonly #o: JournalOptions
  readonly #out = new ByteWriter()
  readonly #abort = new AbortController()
  readonly #listeners = new Set<(durable: number) => void>()
  #waiters: Waiter[] = []
  #records: OpaqueRecord[] = []
  #recordBytes = 0
  #writingBytes = 0
  #ticket = 2
  #writing = false
  #scheduled = false
  /** Somebody waits for what was gathered. */
  #wanted = false
  #cancelLazy: (() => void) | undefined
  #wakeRetry: (() => void) | undefined
  #closed = false

  constructor(o: JournalOptions) {
    this.#o = o
    this.next = o.next
    this.bytesWritten = o.bytes
    this.changes = encoder(this.#out)
  }

  get pendingBytes(): number {
    return this.#out.used + this.#recordBytes + this.#writingBytes
  }

  get overloaded(): boolean {
    return this.pendingBytes >= this.#o.pendingBytesMax
  }

  /** The ticket that a change made now will have. */
  get ticket(): number {
    return this.#ticket
  }

  /** What covers all changes made so far. */
  covering(): number {
    return this.#out.used + this.#records.length > 0 ? this.urgent() : this.#ticket - 1
  }

  /** Of the record that `begin` has given, when asked for in `beforeWrite`. */
  get offset(): bigint {
    return this.next + BigInt(this.#records.length)
  }

  get usable(): boolean {
    return this.failure === undefined && !this.#closed
  }

  /** Before a change: the record that it will be part of. */
  begin(): Changes {
    if (this.failure !== undefined) throw this.failure
    if (this.#closed) throw new KymoError('shutting_down')
    if (this.#out.used >= limits.mqttSessionRecordBytes) this.#seal()
    if (this.#out.used === 0) this.#out.u8(journalVersion)
    return this.changes
  }

  /** After a change that somebody waits for. Returns its ticket. */
  urgent(): number {
    const ticket = this.#ticket
    this.#wanted = true
    if (!this.#scheduled && !this.#writing) {
      this.#scheduled = true
      queueMicrotask(() => {
        this.#scheduled = false
        void this.#write()
      })
    }
    return ticket
  }

  /** After a change that nobody waits for. */
  lazy(): void {
    if (this.#cancelLazy !== undefined || this.#writing) return
    const timer = this.#o.env.clock.after(this.#o.lazyMs, () => {
      this.#cancelLazy = undefined
      this.urgent()
    })
    this.#cancelLazy = () => timer.cancel()
  }

  onDurable(listener: (durable: number) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  whenDurable(ticket: number): Promise<void> {
    if (ticket <= this.durable) return Promise.resolve()
    if (this.failure !== undefined) return Promise.reject(this.failure)
    if (ticket >= this.#ticket) this.urgent()
    return new Promise((resolve, reject) => this.#waiters.push({ ticket, resolve, reject }))
  }

  /** Writes what waits; what the log does not take now is given up, and was not acknowledged. */
  async close(): Promise<void> {
    this.#closed = true
    this.#cancelLazy?.()
    if (this.stalled !== undefined) this.#abort.abort()
    this.#wakeRetry?.()
    await this.#drain()
    this.#reject(this.failure ?? new KymoError('shutting_down'))
  }

  async #drain(): Promise<void> {
    const last = this.#out.used + this.#records.length === 0 ? this.#ticket - 1 : this.#ticket
    if (this.durable >= last || this.failure !== undefined) return
    const done = this.whenDurable(last).catch(() => undefined)
    this.urgent()
    await done
  }

  #seal(): void {
    if (this.#out.used === 0) return
    const body = this.#out.take()
    this.#recordBytes += body.length
    this.#records.push({ topic: this.#o.topic, kind: 'sessions', key: '', receivedUs: this.#o.env.clock.nowUs(), body })
  }

  async #write(): Promise<void> {
    if (this.#writing || this.failure !== undefined) return
    this.#writing = true
    try {
      while (await this.#next()) if (this.failure !== undefined) break
    } catch (thrown) {
      this.fail(asKymoError(thrown))
    }
    this.#writing = false
    if (this.#out.used + this.#records.length === 0 || this.failure !== undefined) return
    // Somebody may have come between the last look and here.
    if (this.#wanted) this.urgent()
    else if (!this.#closed) this.lazy()
  }

  /** One write, of what somebody waits for and all else there is. Returns whether there was such a thing. */
  async #next(): Promise<boolean> {
    if (!this.#wanted && (this.#closed || !this.#o.more())) return false
    this.#wanted = false
    this.#cancelLazy?.()
    this.#cancelLazy = undefined
    if (!this.#closed) this.#o.beforeWrite()
    this.#seal()
    const records = this.#records
    if (records.length === 0) return false
    const ticket = this.#ticket++
    this.#writingBytes = this.#recordBytes
    this.#records = []
    this.#recordBytes = 0
    if (!(await this.#offer(records))) return false
    for (const { body } of records) this.#out.giveBack(body)
    this.next += BigInt(records.length)
    this.bytesWritten += this.#writingBytes
    this.#writingBytes = 0
    this.#settle(ticket)
    return true
  }

  /** Whether the log has taken them; false: it never will. */
  async #offer(records: readonly OpaqueRecord[]): Promise<boolean> {
    for (;;) {
      try {
        await this.#o.log.write(records, undefined, this.#abort.signal)
        this.stalled = undefined
        return true
      } catch (thrown) {
        const error = asKymoError(thrown)
        const again = (error.kind === 'unavailable' || error.kind === 'overloaded') && error.code !== 'shutting_down'
        if (!again || this.#abort.signal.aborted) {
          this.fail(error)
          return false
        }
        this.stalled = error
        if (this.#closed) this.#abort.abort()
        else await this.#pause()
      }
    }
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#o.env.clock.after(limits.mqttSessionRetryMs, resolve)
      this.#wakeRetry = () => {
        timer.cancel()
        if (this.stalled !== undefined) this.#abort.abort()
        resolve()
      }
    })
  }

  #settle(ticket: number): void {
    this.durable = ticket
    const due = this.#waiters.filter((waiter) => waiter.ticket <= ticket)
    if (due.length > 0) {
      this.#waiters = this.#waiters.filter((waiter) => waiter.ticket > ticket)
      for (const waiter of due) waiter.resolve()
    }
    for (const listener of this.#listeners) listener(ticket)
  }

  /** The end: nothing is acknowledged any more. */
  fail(error: KymoError): void {
    if (this.failure !== undefined) return
    this.failure = error
    this.#cancelLazy?.()
    this.#reject(error)
    if (error.code !== 'shutting_down') this.#o.failed(error)
  }

  #reject(error: KymoError): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const waiter of waiters) waiter.reject(error)
  }
}
