import { KymoError } from '../../../core/errors.ts'
import type { ForecastModel } from '../../../core/forecasts.ts'
import { formatRfc3339 } from '../../../wire/time.ts'

/** Without payload.aliases, S3's name is a metric of its own. */
export const temperatures = ['temperature', 'temperature_c'] as const

/** A kind of model as the seeds spell it: `random_forest`, `RandomForest`, `LSTM`. */
export function algorithmOf(text: string): string {
  const spelt = text
    .replaceAll(/([a-z])([A-Z])/g, '$1-$2')
    .toLowerCase()
    .replaceAll(/[\s_]+/g, '-')
  return spelt.replace(/-?regressor$/, '').replace(/^randomforest$/, 'random-forest')
}

/** A refusal of ours by the name that the seed's field has. */
export async function renamed<T>(names: Readonly<Record<string, string>>, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (thrown) {
    if (!(thrown instanceof KymoError) || thrown.details.errors === undefined) throw thrown
    const errors = thrown.details.errors.map(({ pointer, detail }) => ({ pointer: names[pointer] ?? pointer, detail }))
    throw new KymoError(thrown.code, { ...thrown.details, detail: thrown.message, errors })
  }
}

/** The first of these metrics that the sensor has. Rejects with the last refusal where it has none. */
export async function firstOf<T>(metrics: readonly string[], ask: (metric: string) => Promise<T>): Promise<T> {
  const [metric = '', ...others] = metrics
  try {
    return await ask(metric)
  } catch (thrown) {
    if (others.length > 0 && thrown instanceof KymoError && thrown.code === 'series_not_found') return firstOf(others, ask)
    throw thrown
  }
}

function finite(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? value : null
}

function objectOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? { ...value } : {}
}

/** What its card says of its training (docs/format/model.md), as far as it does: the scores are those of the last part, which it had not seen. */
export function trainingOf({ card }: ForecastModel): {
  readonly samples: number | null
  readonly scores: { readonly mae: number | null; readonly rmse: number | null; readonly r2: number | null }
} {
  const { steps, missing, name, candidates, holdout } = card
  const tried = Array.isArray(candidates) ? candidates.map(objectOf) : []
  const { mae, rmse } = tried.find((one) => one['name'] === name) ?? {}
  const variance = finite(objectOf(holdout)['variance'])
  const error = finite(rmse)
  return {
    samples: typeof steps === 'number' ? steps - (finite(missing) ?? 0) : null,
    scores: { mae: finite(mae), rmse: error, r2: error === null || variance === null || variance === 0 ? null : 1 - error ** 2 / variance },
  }
}

/** What models of a kind look at, by name. Of an average: what any of its members does. */
export async function featuresOf({ kind, card }: ForecastModel): Promise<readonly string[]> {
  const names = kind === 'ensemble' && typeof card['name'] === 'string' ? card['name'].split('+') : [kind]
  const lists = await Promise.all(names.map((name) => ownFeatures(name, card)))
  return [...new Set(lists.flat())]
}

async function ownFeatures(kind: string, card: Readonly<Record<string, unknown>>): Promise<readonly string[]> {
  const { step_us: stepUs = 3600e6, season = 24, context = 0 } = card
  if (kind === 'seasonal-naive') return ['same_hour']
  if (kind === 'holt-winters') return ['level', 'trend', 'season']
  if (kind !== 'random-forest' && kind !== 'gradient-boosting') return [`last_${Number(context)}_values`, 'hour_sin', 'hour_cos']
  const { planOf } = await import('../../../compute/forecast/trees/rows.ts')
  const { calendar, past, pair } = planOf({ stepUs: Number(stepUs), season: Number(season), covariates: [], weekdays: true, months: true })
  return [...calendar, ...past, ...pair]
}

/** A version as S4 monitors it. */
export function sensorModelJson(model: ForecastModel): Readonly<Record<string, unknown>> {
  const { device, metric, version, kind, state, created_us: created, accuracy } = model
  const since = accuracy?.drift.since_us
  return {
    sensor_id: device,
    metric,
    version,
    algorithm: kind,
    state,
    trained_at: formatRfc3339(created),
    training_samples: trainingOf(model).samples,
    matured: accuracy?.n ?? 0,
    mae: finite(accuracy?.mae),
    rmse: finite(accuracy?.rmse),
    bias: finite(accuracy?.bias),
    skill: finite(accuracy?.skill),
    coverage: finite(accuracy?.coverage),
    drift: since !== undefined,
    drift_statistic: finite(accuracy?.drift.statistic),
    drift_threshold: finite(accuracy?.drift.threshold),
    drift_since: since === undefined ? null : formatRfc3339(since),
  }
}
