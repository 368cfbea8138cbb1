import { Worker } from 'node:worker_threads'
import type { Logger } from '../../core/env.ts'
import { fromPlainError, KymoError } from '../../core/errors.ts'
import type { PlainError } from '../../core/errors.ts'
import { SqliteDocuments } from './documents.ts'
import type { CallOutcome, EncodedWrite, ListAnswer, ListQuery, StoredText } from './calls.ts'

/** The documents behind promises: in this thread, or in one of their own. */
export interface DocumentsEngine {
  get(collection: string, tenant: string, id: string): Promise<StoredText | undefined>
  list(query: ListQuery): Promise<ListAnswer>
  count(collection: string, tenant: string): Promise<number>
  apply(calls: readonly (readonly EncodedWrite[])[]): Promise<readonly CallOutcome[]>
  outsideRevision(): Promise<number>
  close(): Promise<void>
}

/** What is asked of the thread. `open` comes first. */
export type EngineRequest =
  | { readonly op: 'open'; readonly path: string }
  | { readonly op: 'get'; readonly collection: string; readonly tenant: string; readonly id: string }
  | { readonly op: 'list'; readonly query: ListQuery }
  | { readonly op: 'count'; readonly collection: string; readonly tenant: string }
  | { readonly op: 'apply'; readonly calls: readonly (readonly EncodedWrite[])[] }
  | { readonly op: 'revision' }
  | { readonly op: 'close' }
export type EngineMessage = EngineRequest & { readonly call: number }
export type EngineReply = { readonly call: number } & ({ readonly value: unknown } | { readonly error: PlainError })

/** For tests and for the CLI: blocks the caller for as long as the disk takes. */
export function inThreadEngine(path: string): DocumentsEngine {
  const documents = new SqliteDocuments(path)
  return {
    get: async (collection, tenant, id) => documents.get(collection, tenant, id),
    list: async (query) => documents.list(query),
    count: async (collection, tenant) => documents.count(collection, tenant),
    apply: async (calls) => documents.apply(calls),
    outsideRevision: async () => documents.outsideRevision(),
    close: async () => documents.close(),
  }
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
 * The documents in a worker thread. A thread that dies (its memory ran out) fails what was under way with
 * `store_unavailable`, outcome unknown as with any lost connection, and the next call starts a new one.
 */
export class ThreadEngine implements DocumentsEngine {
  readonly #path: string
  readonly #logger: Logger
  readonly #waiting = new Map<number, Waiting>()
  #worker: Worker | undefined
  #exited: Promise<void> = Promise.resolve()
  #call = 0
  #starts = 0
  #closed = false

  private constructor(path: string, logger: Logger) {
    this.#path = path
    this.#logger = logger
  }

  static async open(path: string, logger: Logger): Promise<ThreadEngine> {
    const engine = new ThreadEngine(path, logger)
    try {
      await engine.#start()
    } catch (thrown) {
      // The thread has nothing to serve and ends by itself.
      engine.#closed = true
      await engine.#exited
      throw thrown
    }
    return engine
  }

  get(collection: string, tenant: string, id: string): Promise<StoredText | undefined> {
    return this.#ask({ op: 'get', collection, tenant, id })
  }

  list(query: ListQuery): Promise<ListAnswer> {
    return this.#ask({ op: 'list', query })
  }

  count(collection: string, tenant: string): Promise<number> {
    return this.#ask({ op: 'count', collection, tenant })
  }

  apply(calls: readonly (readonly EncodedWrite[])[]): Promise<readonly CallOutcome[]> {
    return this.#ask({ op: 'apply', calls })
  }

  async outsideRevision(): Promise<number> {
    const revision = await this.#ask<number>({ op: 'revision' })
    // Each connection counts from anew: another thread's number must not look like the one before it.
    return revision + this.#starts * 2 ** 32
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    if (this.#worker !== undefined) await this.#post({ op: 'close' })
    await this.#exited
  }

  #ask<T>(request: EngineRequest): Promise<T> {
    if (this.#closed) return Promise.reject(new KymoError('shutting_down', { detail: 'The metadata store is closed.' }))
    if (this.#worker !== undefined) return this.#post(request) as Promise<T>
    return this.#start().then(() => this.#post(request) as Promise<T>)
  }

  #post(request: EngineRequest): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const call = ++this.#call
      this.#waiting.set(call, { resolve, reject })
      this.#worker?.postMessage({ ...request, call } satisfies EngineMessage)
    })
  }

  async #start(): Promise<void> {
    const url = new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js', import.meta.url)
    const worker = new Worker(url, { name: 'meta', resourceLimits: threadLimits })
    this.#worker = worker
    this.#starts++
    worker.on('message', (reply: EngineReply) => this.#settle(reply))
    worker.on('error', (error: Error) => this.#logger.error('the metadata thread failed', { error: error.message }))
    this.#exited = new Promise((resolve) => {
      worker.on('exit', () => {
        if (this.#worker === worker) this.#worker = undefined
        this.#failAll(new KymoError('store_unavailable', { detail: 'The metadata thread ended.' }))
        resolve()
      })
    })
    await this.#post({ op: 'open', path: this.#path })
  }

  #settle(reply: EngineReply): void {
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
