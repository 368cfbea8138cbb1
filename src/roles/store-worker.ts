import { parentPort, workerData } from 'node:worker_threads'
import type { LogFields, Logger } from '../core/env.ts'
import { nodeEnv } from '../core/env/node-env.ts'
import { fromPlainError, KymoError, toPlainError } from '../core/errors.ts'
import { limits } from '../core/limits.ts'
import { attachEmbeddedLog } from '../log/embedded/log.ts'
import { keepAll } from '../store/duckdb/retention.ts'
import { openDuckdbStore, type DuckdbStore } from '../store/duckdb/store.ts'
import { pagesAhead, toInfoColumns, type StoreAsk, type StoreTell, type StoreThreadStart } from './store-messages.ts'
import { startStoreRole, type StoreRole } from './store.ts'

/** The thread that owns DuckDB: reads the log's segments itself, commits, and answers queries. Started by store-thread.ts. */
const start = workerData as StoreThreadStart
const sizesEveryMs = 1000
/** While nothing is committed. */
const sizesIdleEveryMs = 2000

function tell(message: StoreTell, transfer: readonly ArrayBuffer[] = []): void {
  parentPort?.postMessage(message, [...transfer])
}

function logger(fixed: LogFields = {}): Logger {
  const at =
    (level: 'debug' | 'info' | 'warn' | 'error') =>
    (message: string, fields?: LogFields): void =>
      tell({ type: 'log', level, message, fields: { ...fixed, ...fields } })
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error'), child: (fields) => logger({ ...fixed, ...fields }) }
}

const env = nodeEnv(logger())
/** What may change while it runs; the store asks for it whenever it is needed. */
let now = { seal: start.seal ?? { bytes: limits.hotBytesMax, afterMs: limits.hotAgeMaxMs }, retention: start.retention ?? keepAll }
const asked = new Map<number, { readonly abort: AbortController; credit: number; wake: () => void }>()

async function main(): Promise<void> {
  let store: DuckdbStore
  try {
    const { dir, memoryLimitMb, reserveBytes } = start
    store = await openDuckdbStore({
      dir,
      env,
      memoryLimitMb,
      reserveBytes,
      get sealBytes() {
        return now.seal.bytes
      },
      get sealAfterMs() {
        return now.seal.afterMs
      },
      get retention() {
        return now.retention
      },
    })
  } catch (thrown) {
    tell({ type: 'refused', error: toPlainError(thrown) })
    return
  }
  const log = attachEmbeddedLog(start.log, env)
  let sizesMs = 0
  const role: StoreRole = startStoreRole({
    log,
    store,
    env,
    commitMessages: start.commitMessages ?? 0,
    onRetry: (error) => tell({ type: 'retry', error: toPlainError(error) }),
    onCommitted: (commit) => {
      const nowMs = env.clock.monotonicMs()
      const due = nowMs - sizesMs > sizesEveryMs
      if (due) sizesMs = nowMs
      tell({ type: 'committed', commit, counts: { ...role.counts }, ...(due ? { sizes: store.stats() } : {}) })
    },
  })
  role.done.catch((thrown: unknown) => tell({ type: 'fatal', error: toPlainError(thrown) }))
  parentPort?.on(
    'message',
    (ask: StoreAsk) => void answer(ask, store, role).catch((thrown: unknown) => tell({ type: 'fatal', error: toPlainError(thrown) })),
  )
  tell({ type: 'opened', sizes: store.stats() })
  let closing = false
  const tellSizes = (): void => {
    if (closing) return
    if (env.clock.monotonicMs() - sizesMs > sizesEveryMs) tell({ type: 'sizes', sizes: store.stats() })
    env.clock.after(sizesIdleEveryMs, tellSizes)
  }
  env.clock.after(sizesIdleEveryMs, tellSizes)

  async function answer(ask: StoreAsk, store: DuckdbStore, role: StoreRole): Promise<void> {
    if (ask.type === 'close') {
      closing = true
      await role.stop().catch(() => undefined) // told as fatal already
      await log.close()
      await store.close()
      tell({ type: 'closed' })
    } else if (ask.type === 'more' || ask.type === 'abort') {
      const one = asked.get(ask.id)
      if (one === undefined) return
      if (ask.type === 'abort') one.abort.abort(fromPlainError(ask.error))
      else one.credit += ask.pages
      one.wake()
    } else if (ask.type === 'reconfigure') {
      now = { seal: ask.seal, retention: ask.retention }
      tell({ type: 'reconfigured', id: ask.id })
    } else await serve(ask, store)
  }
}

type Question = Exclude<StoreAsk, { readonly type: 'close' | 'more' | 'abort' | 'reconfigure' }>

async function serve(ask: Question, store: DuckdbStore): Promise<void> {
  const one = { abort: new AbortController(), credit: pagesAhead, wake: (): void => undefined }
  const { id } = ask
  asked.set(id, one)
  const { signal } = one.abort
  try {
    if (ask.type === 'query') await pages(ask, store)
    else if (ask.type === 'sql') tell({ type: 'sql-rows', id, answer: await store.sql(ask.query, signal) })
    else if (ask.type === 'latest') tell({ type: 'batch', id, batch: await store.latest(ask.match, signal) })
    else if (ask.type === 'erasing') tell({ type: 'erasing-still', id, erasing: store.erasing() })
    else if (ask.type === 'snapshot') tell({ type: 'snapshot-taken', id, snapshot: await store.snapshot(ask.into) })
    else if (ask.type === 'series') tell({ type: 'infos', id, infos: toInfoColumns(await store.series(ask.match, signal, ask.page)) })
    else tell({ type: 'resumed', id, resumed: await store.resume(ask.log, ask.topic, ask.partition) })
  } catch (thrown) {
    tell({ type: 'failed', id, error: toPlainError(thrown) })
  } finally {
    asked.delete(id)
  }
}

async function pages(ask: StoreAsk & { readonly type: 'query' }, store: DuckdbStore): Promise<void> {
  const one = asked.get(ask.id)
  if (one === undefined) throw new KymoError('bug', { detail: 'A query that was not asked.' })
  let first = true
  for await (const { keys, ...page } of store.query(ask.query, one.abort.signal)) {
    const buffers = [page.series, page.timeUs, ...(page.flags === undefined ? [] : [page.flags]), ...Object.values(page.columns)].map(
      (column) => column.buffer as ArrayBuffer,
    )
    tell({ type: 'page', id: ask.id, page, ...(first ? { keys } : {}) }, buffers)
    first = false
    one.credit--
    while (one.credit <= 0 && !one.abort.signal.aborted) await new Promise<void>((resolve) => (one.wake = resolve))
  }
  tell({ type: 'end', id: ask.id })
}

await main()
