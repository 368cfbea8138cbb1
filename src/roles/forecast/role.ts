import type { ForecastOptions } from '../../core/config-forecast.ts'
import type { Env, Timer } from '../../core/env.ts'
import { asKymoError } from '../../core/errors.ts'
import type { ForecastStore } from '../../core/forecast-store.ts'
import type { ForecastService } from '../../core/forecasts.ts'
import { limits } from '../../core/limits.ts'
import type { Metrics } from '../../core/metrics.ts'
import type { Store } from '../../core/ports.ts'
import type { SystemStatus } from '../../core/services.ts'
import type { InnerRunners, Jobs } from '../jobs/jobs.ts'
import type { Watched, Wish } from './follow.ts'
import { forecastMetrics } from './metrics.ts'
import { latestTraining } from './parameters.ts'
import type { Parts } from './parts.ts'
import { running } from './runs.ts'
import { openTrainer } from './trainer.ts'

export interface ForecastRoleOptions {
  readonly store: Pick<Store, 'query' | 'latest' | 'series'>
  readonly forecasts: ForecastStore & { onErase(hear: (tenant: string, device: string) => Promise<void>): void }
  readonly jobs: Pick<Jobs, 'createInner' | 'list'>
  readonly options: ForecastOptions
  readonly env: Env
  readonly metrics: Metrics
  readonly tenants: () => readonly string[]
}

export interface ForecastRole {
  readonly service: ForecastService
  readonly runners: InnerRunners
  /** Begins to look for steps that have ended. */
  begin(): void
  /** Looks now. Resolves when all steps that had ended are done with. */
  look(): Promise<void>
  component(): SystemStatus['components'][number]
  stop(): Promise<void>
}

/**
 * Forecasts on schedule and on demand (ADR 26). What computes is loaded when it is used for the first time, the child that trains is started then, and
 * where nothing is followed a look is one question to an empty store.
 */
export function openForecastRole(o: ForecastRoleOptions): ForecastRole {
  const { env, options, forecasts } = o
  const trainer = openTrainer(env)
  const abort = new AbortController()
  let watched: ReadonlyMap<string, Watched> = new Map()
  const cells = forecastMetrics(o.metrics, () => watched.values())
  let loading: Promise<Parts> | undefined
  const parts = (): Promise<Parts> =>
    (loading ??= import('./parts.ts').then(({ openParts }) =>
      openParts({ ...o, trainer, onOutcome: (outcome) => void cells.trainings[outcome].value++ }),
    ))

  const isFollowing = async (): Promise<boolean> => {
    if (options.anyMetric) return true
    for (const tenant of o.tenants()) if ((await forecasts.models(tenant, { limit: 1 })).items.length > 0) return true
    return false
  }

  let failed: string | undefined
  let timer: Timer | undefined
  /** Asked for while a look was under way: the next one follows at once. */
  let soon = false
  let under: Promise<void> | undefined
  const once = async (): Promise<void> => {
    if (!(await isFollowing())) {
      watched = new Map()
      return
    }
    const computing = await parts()
    for (let behind = true; behind && !abort.signal.aborted;) {
      const now = await computing.look(o.tenants(), watched, abort.signal)
      watched = now.watched
      cells.issued.value += now.issued
      if (now.wishes.length > 0) await train(o, computing, now.wishes)
      behind = now.behind
    }
  }
  const look = (): Promise<void> => {
    // Who asks while a look is under way means what has come since.
    const mine = (under ?? Promise.resolve())
      .catch(() => undefined)
      .then(once)
      .finally(() => {
        if (under === mine) under = undefined
      })
    under = mine
    return mine
  }
  const lookAndAgain = async (): Promise<void> => {
    timer = undefined
    soon = false
    try {
      await look()
      failed = undefined
    } catch (thrown) {
      if (abort.signal.aborted) return
      failed = asKymoError(thrown).message
      env.logger.warn('forecasts were not issued, and it is tried again', { error: failed })
    }
    lookIn(soon && failed === undefined ? 0 : options.pollMs)
  }
  const lookIn = (ms: number): void => {
    if (!abort.signal.aborted) timer = env.clock.after(ms, () => void lookAndAgain())
  }
  const lookSoon = (): void => {
    soon = true
    if (timer === undefined) return
    timer.cancel()
    lookIn(0)
  }

  forecasts.onErase(async (tenant, device) => {
    if (loading !== undefined) await (await loading).forget(tenant, device)
  })

  return {
    service: serviceOf(o, parts),
    runners: {
      train: (job, onEvent) =>
        running(onEvent, async (signal) => {
          try {
            return await (await parts()).train(job, signal, onEvent)
          } finally {
            lookSoon()
          }
        }),
      backtest: (job, onEvent) => running(onEvent, async (signal) => (await parts()).backtest(job, signal, onEvent)),
    },
    begin() {
      lookIn(0)
    },
    look,
    component: () => ({ name: 'forecast', ok: failed === undefined, detail: failed ?? `${watched.size} series are forecast`, optional: true }),
    async stop() {
      abort.abort(new Error('the server stops'))
      timer?.cancel()
      trainer.stop()
      await under?.catch(() => undefined)
    },
  }
}

/** Each method loads what it needs. */
function serviceOf({ jobs }: ForecastRoleOptions, parts: () => Promise<Parts>): ForecastService {
  const service = async (): Promise<Parts['service']> => (await parts()).service
  return {
    forecast: async (...a) => (await service()).forecast(...a),
    crossing: async (...a) => (await service()).crossing(...a),
    predictions: async (...a) => (await service()).predictions(...a),
    latest: async (...a) => (await service()).latest(...a),
    models: async (...a) => (await service()).models(...a),
    versions: async (...a) => (await service()).versions(...a),
    promote: async (...a) => (await service()).promote(...a),
    accuracy: async (...a) => (await service()).accuracy(...a),
    file: async (...a) => (await service()).file(...a),
    train: async (...a) => (await service()).train(...a),
    backtest: async (...a) => (await service()).backtest(...a),
    latestTraining: (tenant, series) => latestTraining(jobs, tenant, series),
  }
}

/** One job for each tenant and reason; while one that was made like this is not done, there is no other. */
async function train({ jobs, env }: ForecastRoleOptions, computing: Parts, wishes: readonly Wish[]): Promise<void> {
  for (const [tenant, own] of Map.groupBy(wishes, ({ key }) => key.tenant)) {
    if (isTraining(jobs, tenant)) continue
    for (const [reason, alike] of Map.groupBy(own, (wish) => wish.reason)) {
      const some = alike.slice(0, limits.trainSeriesMax)
      const series = some.map(({ key: { device, metric } }) => ({ device, metric }))
      try {
        await jobs.createInner(tenant, 'train', { series, reason })
        await computing.tried(some)
      } catch (thrown) {
        env.logger.warn('series are to be trained again, and their job was not taken', {
          reason,
          series: series.length,
          error: asKymoError(thrown).message,
        })
      }
    }
  }
}

function isTraining(jobs: Pick<Jobs, 'list'>, tenant: string): boolean {
  const under = (['waiting', 'running'] as const).flatMap((state) => jobs.list(tenant, { kind: 'train', state, limit: limits.jobsKeptMax }).items)
  return under.some(({ parameters }) => 'reason' in parameters)
}
