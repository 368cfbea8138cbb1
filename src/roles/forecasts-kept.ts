import { forecastOptionsOf } from '../core/config-forecast.ts'
import type { EnginesChosen } from '../core/config-engines.ts'
import type { Timer } from '../core/env.ts'
import { asKymoError } from '../core/errors.ts'
import type { ForecastStore } from '../core/forecast-store.ts'
import { limits } from '../core/limits.ts'
import { openSqliteForecasts } from '../store/forecasts/sqlite.ts'
import type { Assembly } from './assembly.ts'
import { watchEngine } from './watch-engine.ts'

type Hear = (tenant: string, device: string) => Promise<void>

/** The store of forecasts, as a process has it. */
export interface KeptForecasts extends ForecastStore {
  /**
   * Heard before everything of a device is erased, which waits for it: who is just working on the device writes before that, or not at all.
   * An erasure may be told twice.
   */
  onErase(hear: Hear): void
}

const upkeepEveryMs = 3_600_000
const figuresEveryMs = 60_000

/**
 * The store of forecasts that `forecast.url` names, for a process that answers questions. Nothing is opened before it is used, and a database is not
 * waited for: readings go on without it. Throws `store_format`, `forecasts_corrupt` or `config_invalid`.
 */
export async function openForecasts(a: Assembly, { forecast }: EnginesChosen): Promise<KeptForecasts | undefined> {
  const { env, health, roles, closing } = a
  if (!roles.has('api')) return undefined
  const store = closing(await opened(a, forecast), (one) => one.close())
  if (forecast.kind !== 'local')
    closing(
      watchEngine('forecasts', { env, health }, async () => void (await store.stats())),
      (stop) => Promise.resolve(stop()),
    )
  if (roles.has('forecast')) {
    figures(a, store)
    retention(a, store)
  }
  const hearing: Hear[] = []
  return {
    ...store,
    onErase: (hear) => void hearing.push(hear),
    async erase(tenant, device) {
      await Promise.all(hearing.map((hear) => hear(tenant, device)))
      await store.erase(tenant, device)
    },
  }
}

async function opened({ env }: Assembly, forecast: EnginesChosen['forecast']): Promise<ForecastStore> {
  if (forecast.kind === 'local') return openSqliteForecasts({ path: forecast.path, env })
  const { openPostgresForecasts } = await import('../store/forecasts/postgres.ts')
  return openPostgresForecasts({ url: forecast.url })
}

/** Now and then, beginning after the first interval; what fails is told and tried again. */
function every(a: Assembly, ms: number, what: string, work: () => Promise<void>): void {
  const { env, closing } = a
  let timer: Timer | undefined
  let running = Promise.resolve()
  let stopped = false
  const again = (): void => {
    timer = env.clock.after(ms, () => {
      running = work().then(
        () => undefined,
        (thrown: unknown) => {
          const { message, code } = asKymoError(thrown)
          if (!stopped) env.logger.warn(`${what}; it is tried again: ${message}`, { code })
        },
      )
      void running.finally(() => {
        if (!stopped) again()
      })
    })
  }
  again()
  const stop = async (): Promise<void> => {
    stopped = true
    timer?.cancel()
    await running
  }
  closing(stop, (one) => one())
}

/** Predictions beyond `forecast.retention`, and files of models that nothing needs. */
function retention(a: Assembly, store: ForecastStore): void {
  every(a, upkeepEveryMs, 'predictions beyond forecast.retention were not removed', async () => {
    const { retentionUs } = forecastOptionsOf(a.now)
    const nowUs = a.env.clock.nowUs()
    const before = Number.isFinite(retentionUs) && retentionUs < nowUs ? { predictionsBeforeUs: nowUs - retentionUs } : {}
    await store.expire({ ...before, versions: limits.modelFilesKept })
  })
}

/** How much there is: what it grows by is their difference over time. */
function figures(a: Assembly, store: ForecastStore): void {
  const { metrics } = a
  const rows = metrics.gauge('kymo_predictions_rows', 'Stored predictions: one for each series, model, moment of issue and target.')
  const bytes = metrics.gauge('kymo_predictions_bytes', 'Bytes of the store of forecasts: predictions, models and what is known of their errors.')
  const models = metrics.gauge('kymo_models_stored', 'Versions of models of all series.')
  const look = async (): Promise<void> => {
    const now = await store.stats()
    rows.value = now.predictions
    bytes.value = now.bytes
    models.value = now.models
  }
  every(a, figuresEveryMs, 'the size of the store of forecasts could not be told', look)
}
