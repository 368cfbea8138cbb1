import path from 'node:path'
import { Worker } from 'node:worker_threads'
import { isBucketed } from '../core/buckets.ts'
import type { Batch } from '../core/batch.ts'
import type { Retention } from '../core/config.ts'
import type { Env } from '../core/env.ts'
import { fromPlainError, KymoError, toPlainError } from '../core/errors.ts'
import { limits } from '../core/limits.ts'
import type { HistogramCell, Metrics } from '../core/metrics.ts'
import type { QueryPage, RangeQuery, SeriesInfo, SeriesMatch, SeriesPage, Store } from '../core/ports.ts'
import type { SqlQuery, SqlRows } from '../core/sql.ts'
import type { LogHandle } from '../log/embedded/log.ts'
import type { StoreStats } from '../store/duckdb/options.ts'
import type { StoreSnapshot } from '../store/duckdb/snapshot.ts'
import { nothingStored, type Committed, type ServedStore, type StoreCounts, type StoreSettings } from './served-store.ts'
import { StoreMetrics } from './store-metrics.ts'
import { fromInfoColumns, pagesAhead, type StoreAsk, type StoreTell, type StoreThreadStart } from './store-messages.ts'

export interface StoreThreadOptions {
  readonly dir: string
  readonly log: LogHandle
  readonly env: Env
  readonly metrics: Metrics
  readonly memoryLimitMb?: number
  readonly seal?: StoreThreadStart['seal']
  /** Commits wait when the file system has less than this left. */
  readonly reserveBytes?: number
  /** Absent: all is kept for ever. */
  readonly retention?: Retention
  /** See StoreRoleOptions. */
  readonly commitMessages?: number
  /** The store cannot go on (corrupt, fenced off, or its thread is gone): the process should end. */
  readonly onFatal: (error: KymoError) => void
}

/** The embedded store: its thread reads the log and commits by itself. */
export interface StoreThread extends ServedStore {
  /** The offset below which everything was committed since the start; undefined before the first commit. */
  readonly next: bigint | undefined
  /** Links the store's files into a folder, as they are between two commits. Rejects with `store_unavailable` when queries leave no gap. */
  snapshot(into: string): Promise<StoreSnapshot>
}

/** Starts the store's thread; resolves when the store is open and the role reads the log. */
export async function openStoreThread(o: StoreThreadOptions): Promise<StoreThread> {
  const thread = new Thread(o)
  await thread.opened
  return thread
}

interface Answers {
  readonly tell: (message: StoreTell) => void
  readonly fail: (error: KymoError) => void
}

class Thread implements StoreThread {
  readonly opened: Promise<void>
  next: bigint | undefined
  readonly #worker: Worker
  readonly #o: StoreThreadOptions
  readonly #metrics: StoreMetrics
  readonly #asked = new Map<number, Answers>()
  readonly #listeners = new Set<(commit: Committed) => void>()
  readonly #open = Promise.withResolvers<void>()
  readonly #closed = Promise.withResolvers<void>()
  #sizes: StoreStats = nothingStored
  #counts: StoreCounts = { duplicates: 0, corrections: 0, late: 0 }
  #lastId = 0
  #closing: Promise<void> | undefined
  #gone: KymoError | undefined

  constructor(o: StoreThreadOptions) {
    this.#o = o
    this.opened = this.#open.promise
    this.#metrics = new StoreMetrics(o.metrics, () => this.#sizes)
    const workerData: StoreThreadStart = {
      dir: o.dir,
      log: o.log,
      memoryLimitMb: o.memoryLimitMb ?? 512,
      reserveBytes: o.reserveBytes ?? limits.diskReserveBytes,
      ...(o.retention === undefined ? {} : { retention: o.retention }),
      ...(o.seal === undefined ? {} : { seal: o.seal }),
      ...(o.commitMessages === undefined ? {} : { commitMessages: o.commitMessages }),
    }
    // Built code has .js where the source has .ts; the worker lies beside this file in both.
    this.#worker = new Worker(new URL(`./store-worker${path.extname(import.meta.url)}`, import.meta.url), {
      workerData,
      name: 'kymo-store',
      resourceLimits: { maxYoungGenerationSizeMb: 16 },
    })
    this.#worker.on('message', (message: StoreTell) => this.#hear(message))
    this.#worker.on('error', (error: Error) =>
      this.#end(new KymoError('bug', { detail: `The store's thread failed: ${error.message}`, cause: error })),
    )
    this.#worker.on('exit', () => this.#end(new KymoError('bug', { detail: "The store's thread has ended." })))
  }

  async *query(query: RangeQuery, signal: AbortSignal): AsyncGenerator<QueryPage, void, void> {
    if (signal.aborted) throw givenUp(signal)
    const timed = this.#metrics.query(isBucketed(query) ? 'buckets' : 'raw')
    const pages = new Pages(this.#o.env)
    const id = this.#ask((given) => ({ type: 'query', id: given, query }), pages)
    const aborted = (): void => this.#abort(id, givenUp(signal))
    signal.addEventListener('abort', aborted, { once: true })
    let ended = false
    try {
      for (;;) {
        const page = await pages.next((error) => this.#abort(id, error))
        if (page === undefined) {
          ended = true
          return
        }
        this.#post({ type: 'more', id, pages: 1 })
        yield page
      }
    } catch (thrown) {
      ended = true
      throw thrown
    } finally {
      signal.removeEventListener('abort', aborted)
      this.#asked.delete(id)
      // The asker has stopped in the middle.
      if (!ended) this.#post({ type: 'abort', id, error: toPlainError(givenUp(signal)) })
      observe(timed, this.#o.env, pages.startedMs)
    }
  }

  latest(match: SeriesMatch, signal: AbortSignal): Promise<Batch> {
    return this.#once(
      'latest',
      signal,
      (id) => ({ type: 'latest', id, match }),
      (message) => (message.type === 'batch' ? message.batch : undefined),
    )
  }

  series(match: SeriesMatch, signal: AbortSignal, page?: SeriesPage): Promise<readonly SeriesInfo[]> {
    return this.#once(
      'series',
      signal,
      (id) => ({ type: 'series', id, match, ...(page === undefined ? {} : { page }) }),
      (message) => (message.type === 'infos' ? fromInfoColumns(message.infos) : undefined),
    )
  }

  sql(query: SqlQuery, signal: AbortSignal): Promise<SqlRows | 'needs devices'> {
    return this.#once(
      'sql',
      signal,
      (id) => ({ type: 'sql', id, query }),
      (message) => (message.type === 'sql-rows' ? message.answer : undefined),
    )
  }

  snapshot(into: string): Promise<StoreSnapshot> {
    return this.#once(
      'snapshot',
      new AbortController().signal,
      (id) => ({ type: 'snapshot', id, into }),
      (message) => (message.type === 'snapshot-taken' ? message.snapshot : undefined),
    )
  }

  erasing(): Promise<ReadonlyMap<string, number>> {
    return this.#once(
      'erasing',
      new AbortController().signal,
      (id) => ({ type: 'erasing', id }),
      (message) => (message.type === 'erasing-still' ? message.erasing : undefined),
    )
  }

  async reconfigure(settings: StoreSettings): Promise<void> {
    await this.#once(
      'reconfigure',
      new AbortController().signal,
      (id) => ({ type: 'reconfigure', id, ...settings }),
      (message) => (message.type === 'reconfigured' ? { done: true } : undefined),
    )
  }

  async resume(log: string, topic: string, partition: number): ReturnType<Store['resume']> {
    const signal = new AbortController().signal
    const answer = await this.#once(
      'resume',
      signal,
      (id) => ({ type: 'resume', id, log, topic, partition }),
      (message) => (message.type === 'resumed' ? { it: message.resumed } : undefined),
    )
    return answer.it
  }

  onCommitted(listener: (commit: Committed) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  stats(): StoreStats & StoreCounts {
    return { ...this.#sizes, ...this.#counts }
  }

  /** Interrupts queries, writes the last states, closes the file, and ends the thread. */
  close(): Promise<void> {
    this.#closing ??= (async () => {
      if (this.#gone === undefined) {
        this.#worker.postMessage({ type: 'close' } satisfies StoreAsk)
        await this.#closed.promise
      }
      await this.#worker.terminate()
    })()
    return this.#closing
  }

  #once<T>(kind: string, signal: AbortSignal, ask: (id: number) => StoreAsk, take: (message: StoreTell) => T | undefined): Promise<T> {
    if (signal.aborted) return Promise.reject(givenUp(signal))
    const timed = this.#metrics.query(kind)
    const startedMs = this.#o.env.clock.monotonicMs()
    return new Promise<T>((resolve, reject) => {
      const id = this.#ask(ask, {
        tell: (message) => {
          const value = take(message)
          if (value === undefined) return
          this.#asked.delete(id)
          signal.removeEventListener('abort', aborted)
          observe(timed, this.#o.env, startedMs)
          resolve(value)
        },
        fail: (error) => {
          this.#asked.delete(id)
          signal.removeEventListener('abort', aborted)
          reject(error)
        },
      })
      const aborted = (): void => this.#abort(id, givenUp(signal))
      signal.addEventListener('abort', aborted, { once: true })
    })
  }

  #ask(make: (id: number) => StoreAsk, answers: Answers): number {
    const id = ++this.#lastId
    if (this.#gone !== undefined) {
      answers.fail(this.#gone)
      return id
    }
    this.#asked.set(id, answers)
    this.#post(make(id))
    return id
  }

  #abort(id: number, error: KymoError): void {
    if (this.#asked.has(id)) this.#post({ type: 'abort', id, error: toPlainError(error) })
  }

  #post(ask: StoreAsk): void {
    if (this.#gone === undefined) this.#worker.postMessage(ask)
  }

  #hear(message: StoreTell): void {
    switch (message.type) {
      case 'opened':
        this.#sizes = message.sizes
        return this.#open.resolve()
      case 'refused':
        return this.#end(fromPlainError(message.error))
      case 'committed':
        return this.#committed(message)
      case 'sizes':
        this.#sizes = message.sizes
        return
      case 'retry':
        this.#metrics.writeErrors.value++
        return this.#o.env.logger.warn(`The store does not take writes: ${message.error.message}`, { code: message.error.code })
      case 'log':
        return this.#o.env.logger[message.level](message.message, message.fields)
      case 'fatal':
        return this.#o.onFatal(fromPlainError(message.error))
      case 'closed':
        this.#end(new KymoError('shutting_down'))
        return this.#closed.resolve()
      case 'failed':
        return this.#asked.get(message.id)?.fail(fromPlainError(message.error))
      case 'page':
      case 'end':
      case 'batch':
      case 'infos':
      case 'sql-rows':
      case 'resumed':
      case 'snapshot-taken':
      case 'erasing-still':
      case 'reconfigured':
        return this.#asked.get(message.id)?.tell(message)
    }
  }

  #committed(message: StoreTell & { readonly type: 'committed' }): void {
    const { commit } = message
    this.next = commit.next
    this.#counts = message.counts
    if (message.sizes !== undefined) this.#sizes = message.sizes
    this.#metrics.committed(commit, this.#o.env.clock.nowUs())
    for (const listener of this.#listeners) listener(commit)
  }

  /** The thread answers nothing more. */
  #end(error: KymoError): void {
    if (this.#gone !== undefined) return
    this.#gone = error
    this.#open.reject(error)
    this.opened.catch(() => undefined) // whoever opens is told through it; afterwards nobody waits for it
    const asked = [...this.#asked.values()]
    this.#asked.clear()
    for (const answers of asked) answers.fail(error)
    this.#closed.resolve()
    if (error.code === 'bug') this.#o.onFatal(error)
  }
}

function givenUp(signal: AbortSignal): KymoError {
  return signal.reason instanceof KymoError ? signal.reason : new KymoError('query_deadline', { detail: 'The query was given up.' })
}

function observe(timed: HistogramCell, env: Env, startedMs: number): void {
  timed.observe((env.clock.monotonicMs() - startedMs) / 1000)
}

/** Pages of one query between the thread that sends and the asker that takes; its deadline runs only while the asker waits. */
class Pages implements Answers {
  readonly startedMs: number
  readonly #env: Env
  readonly #arrived: (QueryPage | 'end' | KymoError)[] = []
  #keys: QueryPage['keys'] = []
  #leftMs: number = limits.queryDeadlineMs
  #wake: (() => void) | undefined

  constructor(env: Env) {
    this.#env = env
    this.startedMs = env.clock.monotonicMs()
  }

  tell(message: StoreTell): void {
    if (message.type === 'end') this.#put('end')
    if (message.type !== 'page') return
    if (message.keys !== undefined) this.#keys = message.keys
    this.#put({ ...message.page, keys: this.#keys })
  }

  fail(error: KymoError): void {
    this.#put(error)
  }

  /** Undefined at the end. `expired` is called when the asker has waited for as long as a query may take. */
  async next(expired: (error: KymoError) => void): Promise<QueryPage | undefined> {
    if (this.#arrived.length === 0) {
      const sinceMs = this.#env.clock.monotonicMs()
      const timer = this.#env.clock.after(Math.max(0, this.#leftMs), () => expired(new KymoError('query_deadline')))
      await new Promise<void>((resolve) => (this.#wake = resolve))
      timer.cancel()
      this.#leftMs -= this.#env.clock.monotonicMs() - sinceMs
    }
    const first = this.#arrived.shift()!
    if (first instanceof KymoError) throw first
    return first === 'end' ? undefined : first
  }

  #put(arrived: QueryPage | 'end' | KymoError): void {
    this.#arrived.push(arrived)
    if (this.#arrived.length > 2 * pagesAhead + 2) throw new KymoError('bug', { detail: 'The store sends pages that nobody asked for.' })
    this.#wake?.()
  }
}
