import type { Env } from '../../core/env.ts'
import { asKymoError, fromPlainError, KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { MetaDocument, MetaRow, MetaStore, MetaWrite } from '../../core/ports.ts'
import { checkList, encodeWrites } from './checks.ts'
import type { EncodedWrite, StoredText } from './calls.ts'
import type { DocumentsEngine } from './engine.ts'

/** Writes of one transaction when many calls wait: 2,000 take about 15 ms, for which reads wait too. */
const transactionWritesMax = 2_000

interface WaitingCall {
  readonly writes: readonly EncodedWrite[]
  readonly bytes: number
  resolve(rows: readonly MetaRow[]): void
  reject(error: KymoError): void
}

/** MetaStore that can tell whether another process has written the same documents. */
export interface SharedMetaStore extends MetaStore {
  /** Differs from the last answer once another process has committed a write; own writes do not change it. */
  outsideRevision(): Promise<number>
}

/** Writes that arrive while a transaction is under way share the next one: one fsync for all that waits. */
export class BatchedMeta implements SharedMetaStore {
  readonly #engine: DocumentsEngine
  readonly #env: Env
  #waiting: WaitingCall[] = []
  #waitingBytes = 0
  #draining: Promise<void> | undefined
  #reads = 0
  #failed: KymoError | undefined
  #closed = false

  constructor(engine: DocumentsEngine, env: Env) {
    this.#engine = engine
    this.#env = env
  }

  async get(collection: string, tenant: string, id: string): Promise<MetaRow | undefined> {
    const stored = await this.#read(() => this.#engine.get(collection, tenant, id))
    return stored === undefined ? undefined : metaRow(stored)
  }

  async list(
    collection: string,
    tenant: string,
    o: { readonly after?: string; readonly limit: number; readonly where?: Readonly<Record<string, string | number | boolean>> },
  ): Promise<readonly MetaRow[]> {
    checkList(o)
    const rows: MetaRow[] = []
    let after = o.after
    while (rows.length < o.limit) {
      const query = { ...o, collection, tenant, limit: o.limit - rows.length, ...(after === undefined ? {} : { after }) }
      const answer = await this.#read(() => this.#engine.list(query))
      for (const stored of answer.rows) rows.push(metaRow(stored))
      after = rows.at(-1)?.doc.id
      if (!answer.more) break
    }
    return rows
  }

  count(collection: string, tenant: string): Promise<number> {
    return this.#read(() => this.#engine.count(collection, tenant))
  }

  async write(writes: readonly MetaWrite[]): Promise<readonly MetaRow[]> {
    this.#refuseWhenOver()
    const { encoded, bytes } = encodeWrites(writes)
    if (encoded.length === 0) return []
    if (this.#waiting.length >= limits.metaCallsWaitingMax || this.#waitingBytes + bytes > limits.metaWaitingBytesMax) {
      throw new KymoError('overloaded', { detail: 'Too many writes wait for the metadata store.' })
    }
    this.#waitingBytes += bytes
    const done = new Promise<readonly MetaRow[]>((resolve, reject) => {
      this.#waiting.push({ writes: encoded, bytes, resolve, reject })
    })
    this.#draining ??= this.#drain()
    return done
  }

  outsideRevision(): Promise<number> {
    return this.#read(() => this.#engine.outsideRevision())
  }

  /** Writes what waits, then closes the file. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#draining
    await this.#engine.close()
  }

  async #read<T>(work: () => Promise<T>): Promise<T> {
    this.#refuseWhenOver()
    if (this.#reads >= limits.metaCallsWaitingMax) throw new KymoError('overloaded', { detail: 'Too many reads wait for the metadata store.' })
    this.#reads++
    try {
      return await work()
    } finally {
      this.#reads--
    }
  }

  #refuseWhenOver(): void {
    if (this.#failed !== undefined) throw this.#failed
    if (this.#closed) throw new KymoError('shutting_down', { detail: 'The metadata store is closed.' })
  }

  async #drain(): Promise<void> {
    // One turn of the microtask queue, so that calls of the same tick share a transaction.
    await Promise.resolve()
    while (this.#waiting.length > 0) {
      const calls = this.#takeTransaction()
      try {
        const outcomes = await this.#engine.apply(calls.map((call) => call.writes))
        calls.forEach((call, i) => {
          const outcome = outcomes[i]
          if (outcome === undefined) call.reject(new KymoError('bug', { detail: 'A write got no answer.' }))
          else if ('error' in outcome) call.reject(fromPlainError(outcome.error))
          else call.resolve(writtenRows(call.writes, outcome.versions))
        })
      } catch (thrown) {
        this.#failTransaction(calls, asKymoError(thrown))
      }
    }
    this.#draining = undefined
  }

  #takeTransaction(): WaitingCall[] {
    let count = 0
    let writes = 0
    let bytes = 0
    for (const call of this.#waiting) {
      if (count > 0 && (writes + call.writes.length > transactionWritesMax || bytes + call.bytes > limits.metaCallBytesMax)) break
      count++
      writes += call.writes.length
      bytes += call.bytes
    }
    this.#waitingBytes -= bytes
    return this.#waiting.splice(0, count)
  }

  /** After a failed fsync the file's pages are in an unknown state: no later write may claim to be durable. */
  #failTransaction(calls: readonly WaitingCall[], error: KymoError): void {
    for (const call of calls) call.reject(error)
    if (error.code !== 'fsync_failed') return
    this.#failed = error
    this.#env.logger.error('the metadata file could not be synced; it takes nothing more', { error: error.message })
    for (const call of this.#waiting) call.reject(error)
    this.#waiting = []
    this.#waitingBytes = 0
  }
}

function metaRow(stored: StoredText): MetaRow {
  return { doc: JSON.parse(stored.body) as MetaDocument, version: stored.version }
}

function writtenRows(writes: readonly EncodedWrite[], versions: readonly number[]): readonly MetaRow[] {
  const rows: MetaRow[] = []
  for (const { id, body } of writes) {
    if (body !== undefined) rows.push(metaRow({ id, body, version: versions[rows.length] ?? 0 }))
  }
  return rows
}
