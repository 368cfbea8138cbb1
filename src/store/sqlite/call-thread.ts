import { Worker } from 'node:worker_threads'
import type { Logger } from '../../core/env.ts'
import { fromPlainError, KymoError, type PlainError } from '../../core/errors.ts'

/** A request as it goes to a thread, and what comes back. */
export type Call<R> = R & { readonly call: number }
export type CallReply = { readonly call: number } & ({ readonly value: unknown } | { readonly error: PlainError })

export interface CallThreadOptions<R> {
  /** The thread's module: `serveCalls` (store/sqlite/call-server.ts). */
  readonly url: URL
  /** `metadata`: for names and errors. */
  readonly noun: string
  readonly logger: Logger
  /** Asked first, at each start. */
  readonly open: R
  readonly close: R
}

/**
 * A thread that only turns requests into SQLite calls, whose memory is outside V8's heap: 96 MB hold the largest transaction
 * (`metaCallBytesMax`, twice that when its text is not Latin-1) and an answer of `metaAnswerBytesMax` twice over.
 */
const threadLimits = { maxOldGenerationSizeMb: 96, maxYoungGenerationSizeMb: 8, stackSizeMb: 1 }

interface Waiting {
  resolve(value: unknown): void
  reject(error: KymoError): void
}

/**
 * Calls to a worker thread, answered in order. A thread that dies (its memory ran out) fails what was under way with `store_unavailable`, outcome
 * unknown as with any lost connection, and the next call starts a new one.
 */
export class CallThread<R extends object> {
  readonly #o: CallThreadOptions<R>
  readonly #waiting = new Map<number, Waiting>()
  #worker: Worker | undefined
  #exited: Promise<void> = Promise.resolve()
  #call = 0
  #starts = 0
  #closed = false

  private constructor(o: CallThreadOptions<R>) {
    this.#o = o
  }

  static async open<R extends object>(o: CallThreadOptions<R>): Promise<CallThread<R>> {
    const thread = new CallThread(o)
    try {
      await thread.#start()
    } catch (thrown) {
      // The thread has nothing to serve and ends by itself.
      thread.#closed = true
      await thread.#exited
      throw thrown
    }
    return thread
  }

  /** How often a thread was started. */
  get starts(): number {
    return this.#starts
  }

  /** Calls that were not answered yet. */
  get waiting(): number {
    return this.#waiting.size
  }

  ask<T>(request: R, transfer: readonly ArrayBuffer[] = []): Promise<T> {
    if (this.#closed) return Promise.reject(new KymoError('shutting_down', { detail: `The ${this.#o.noun} store is closed.` }))
    if (this.#worker !== undefined) return this.#post(request, transfer) as Promise<T>
    return this.#start().then(() => this.#post(request, transfer) as Promise<T>)
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    if (this.#worker !== undefined) await this.#post(this.#o.close, [])
    await this.#exited
  }

  #post(request: R, transfer: readonly ArrayBuffer[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const call = ++this.#call
      this.#waiting.set(call, { resolve, reject })
      this.#worker?.postMessage({ ...request, call } satisfies Call<R>, transfer)
    })
  }

  async #start(): Promise<void> {
    const { url, noun, logger, open } = this.#o
    const worker = new Worker(url, { name: noun, resourceLimits: threadLimits })
    this.#worker = worker
    this.#starts++
    worker.on('message', (reply: CallReply) => this.#settle(reply))
    worker.on('error', (error: Error) => logger.error(`the ${noun} thread failed`, { error: error.message }))
    this.#exited = new Promise((resolve) => {
      worker.on('exit', () => {
        if (this.#worker === worker) this.#worker = undefined
        this.#failAll(new KymoError('store_unavailable', { detail: `The ${noun} thread ended.` }))
        resolve()
      })
    })
    await this.#post(open, [])
  }

  #settle(reply: CallReply): void {
    const waiting = this.#waiting.get(reply.call)
    if (waiting === undefined) return
    this.#waiting.delete(reply.call)
    if ('error' in reply) waiting.reject(fromPlainError(reply.error))
    else waiting.resolve(reply.value)
  }

  #failAll(error: KymoError): void {
    for (const waiting of this.#waiting.values()) waiting.reject(error)
    this.#waiting.clear()
  }
}
