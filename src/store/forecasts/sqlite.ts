import { dirname } from 'node:path'
import type { Env } from '../../core/env.ts'
import { asKymoError, KymoError } from '../../core/errors.ts'
import type { ForecastStore, StoredModel } from '../../core/forecast-store.ts'
import { limits } from '../../core/limits.ts'
import { CallThread } from '../sqlite/call-thread.ts'
import { createPrivateFile } from '../sqlite/file.ts'
import type { Expired, ForecastsRequest, LatestAnswer, ModelsAnswer, Stats } from './calls.ts'
import { checkKey, checkQuery, checkWrite, chunksOf } from './checks.ts'
import { packForecasts, unpackPredictions } from './packed.ts'
import { checkForecastsHeader, pageEnd } from './schema.ts'

/** The embedded store of forecasts, and what makes its file at once. */
export interface SqliteForecastStore extends ForecastStore {
  /** Makes the file, or looks whether the one that is there is sound. Rejects as every call does. */
  prepare(): Promise<void>
}

/**
 * The store of forecasts in a file (docs/format/forecasts.md), behind a thread of its own. Nothing is opened here but a look at the header of a file
 * that is there: the thread comes with the first question about it, and the file with the first write; until then reads answer that there is nothing.
 * Throws `store_format` or `forecasts_corrupt`.
 */
export function openSqliteForecasts(o: { readonly path: string; readonly env: Env }): SqliteForecastStore {
  const { path, env } = o
  if (env.disk.exists(path)) checkForecastsHeader(path)
  let opening: Promise<CallThread<ForecastsRequest>> | undefined
  let opened: CallThread<ForecastsRequest> | undefined
  let failed: KymoError | undefined
  let closed = false
  let under = 0

  const start = async (): Promise<CallThread<ForecastsRequest>> => {
    const created = !env.disk.exists(path)
    if (created) {
      env.disk.mkdir(dirname(path))
      createPrivateFile(path, env, 'forecasts file')
    }
    const url = new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js', import.meta.url)
    const { logger } = env
    const thread = await CallThread.open<ForecastsRequest>({ url, noun: 'forecasts', logger, open: { op: 'open', path }, close: { op: 'close' } })
    if (created) env.disk.syncDir(dirname(path))
    opened = thread
    return thread
  }
  const threadOf = async (): Promise<CallThread<ForecastsRequest>> => {
    if (opened !== undefined) return opened
    opening ??= start()
    try {
      return await opening
    } finally {
      opening = undefined
    }
  }
  const ask = async <T>(request: ForecastsRequest, transfer: readonly ArrayBuffer[] = []): Promise<T> => {
    if (closed) throw new KymoError('shutting_down', { detail: 'The forecasts store is closed.' })
    if (failed !== undefined) throw failed
    if (under >= limits.forecastCallsWaitingMax) throw new KymoError('overloaded', { detail: 'Too many calls wait for the forecasts store.' })
    under++
    try {
      return await (await threadOf()).ask<T>(request, transfer)
    } catch (thrown) {
      const error = asKymoError(thrown)
      // After a failed fsync the file's pages are in an unknown state: no later write may claim to be durable.
      if (error.code === 'fsync_failed' && failed === undefined) {
        failed = error
        env.logger.error('the forecasts file could not be synced; it takes nothing more', { error: error.message })
      }
      throw error
    } finally {
      under--
    }
  }
  /** There is nothing in a file that is not there. */
  const none = (): boolean => !closed && opened === undefined && opening === undefined && !env.disk.exists(path)

  return {
    prepare: async () => void (await ask<Stats>({ op: 'stats' })),
    async write(forecasts, states) {
      checkWrite(forecasts, states)
      if (forecasts.length === 0 && states.length === 0) return
      const packed = packForecasts(forecasts)
      await ask({ op: 'write', forecasts: packed, states }, [packed.numbers.buffer])
    },
    async predictions(query) {
      checkQuery(query)
      return none() ? [] : unpackPredictions(await ask<Float64Array>({ op: 'predictions', query }))
    },
    async latest(keys) {
      const found: Awaited<ReturnType<ForecastStore['latest']>>[number][] = []
      if (none()) return found
      for (const some of chunksOf(keys)) {
        const { counts, packed } = await ask<LatestAnswer>({ op: 'latest', keys: some })
        let from = 0
        for (const [i, key] of some.entries()) {
          const count = counts[i] ?? 0
          if (count > 0) found.push({ key, predictions: unpackPredictions(packed, from, count) })
          from += count
        }
      }
      return found
    },
    async states(keys) {
      const found: Awaited<ReturnType<ForecastStore['states']>>[number][] = []
      if (none()) return found
      for (const some of chunksOf(keys)) found.push(...(await ask<typeof found>({ op: 'states', keys: some })))
      return found
    },
    async addModel(model) {
      checkKey(model.key)
      return ask<StoredModel>({ op: 'addModel', model })
    },
    async promote(key, version) {
      if (none()) throw new KymoError('model_not_found')
      return ask<StoredModel>({ op: 'promote', key, version })
    },
    async retire(key) {
      if (!none()) await ask({ op: 'retire', key })
    },
    async versions(key) {
      const models: StoredModel[] = []
      if (none()) return models
      for (let more = true; more;) {
        const before = models.at(-1)?.version
        const answer = await ask<ModelsAnswer>({ op: 'versions', key, ...(before === undefined ? {} : { before }) })
        models.push(...answer.models)
        more = answer.more
      }
      return models
    },
    async models(tenant, query) {
      if (none()) return { items: [] }
      const { models, more } = await ask<ModelsAnswer>({ op: 'models', query: { tenant, ...query } })
      const last = models.at(-1)
      return { items: models, ...(more && last !== undefined ? { next: pageEnd(last.key) } : {}) }
    },
    async file(key, version) {
      return none() ? undefined : ask<Uint8Array | undefined>({ op: 'file', key, version })
    },
    async erase(tenant, device) {
      if (!none()) await ask({ op: 'erase', tenant, device })
    },
    async expire(expiry) {
      if (none()) return 0
      let gone = 0
      for (let afterSeries: number | undefined = 0; afterSeries !== undefined;) {
        const step: Expired = await ask<Expired>({ op: 'expire', expiry: { ...expiry, afterSeries } })
        gone += step.gone
        afterSeries = step.afterSeries
      }
      return gone
    },
    async stats() {
      return none() ? { predictions: 0, models: 0, bytes: 0 } : ask<Stats>({ op: 'stats' })
    },
    async close() {
      if (closed) return
      closed = true
      const thread = opened ?? (await opening?.catch(() => undefined))
      await thread?.close()
    },
  }
}
