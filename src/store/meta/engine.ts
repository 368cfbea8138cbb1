import type { Logger } from '../../core/env.ts'
import { CallThread } from '../sqlite/call-thread.ts'
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

/** The documents in a worker thread: `CallThread` says what becomes of calls when it dies. */
export class ThreadEngine implements DocumentsEngine {
  readonly #thread: CallThread<EngineRequest>

  private constructor(thread: CallThread<EngineRequest>) {
    this.#thread = thread
  }

  static async open(path: string, logger: Logger): Promise<ThreadEngine> {
    const url = new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js', import.meta.url)
    const thread = await CallThread.open<EngineRequest>({ url, noun: 'metadata', logger, open: { op: 'open', path }, close: { op: 'close' } })
    return new ThreadEngine(thread)
  }

  get(collection: string, tenant: string, id: string): Promise<StoredText | undefined> {
    return this.#thread.ask({ op: 'get', collection, tenant, id })
  }

  list(query: ListQuery): Promise<ListAnswer> {
    return this.#thread.ask({ op: 'list', query })
  }

  count(collection: string, tenant: string): Promise<number> {
    return this.#thread.ask({ op: 'count', collection, tenant })
  }

  apply(calls: readonly (readonly EncodedWrite[])[]): Promise<readonly CallOutcome[]> {
    return this.#thread.ask({ op: 'apply', calls })
  }

  async outsideRevision(): Promise<number> {
    const revision = await this.#thread.ask<number>({ op: 'revision' })
    // Each connection counts from anew: another thread's number must not look like the one before it.
    return revision + this.#thread.starts * 2 ** 32
  }

  close(): Promise<void> {
    return this.#thread.close()
  }
}
