import type { Cell, Metrics } from '../../core/metrics.ts'
import type { Watched } from './follow.ts'
import type { Outcome } from './training.ts'

export interface ForecastCells {
  readonly issued: Cell
  readonly trainings: Readonly<Record<Outcome, Cell>>
}

/** Figures of the role. Of all series together: one for each would be ten thousand lines of a scrape; `GET /api/v1/models` has them. */
export function forecastMetrics(metrics: Metrics, watched: () => Iterable<Watched>): ForecastCells {
  const errorHelp = 'Mean absolute error of forecasts over that of seasonal naive, lately: quantiles over the series that have a model.'
  const quantiles = [0.5, 0.9, 1].map((q) => ({ q, cell: metrics.gauge('kymo_model_error', errorHelp, { quantile: String(q) }) }))
  const seriesHelp =
    'Series that are forecast on schedule, by what serves them: a model, seasonal naive as nothing was trained, or as the model lost its skill.'
  const served = (['model', 'naive', 'skill_lost'] as const).map((by) => ({ by, cell: metrics.gauge('kymo_forecast_series', seriesHelp, { by }) }))
  const drift = metrics.gauge('kymo_model_drift', 'Series whose forecasts have become worse, and that no training has mended yet.', {}, () => {
    const all = [...watched()]
    const errors = all.flatMap(({ version, error }) => (version > 0 && Number.isFinite(error) ? [error] : [])).sort((a, b) => a - b)
    for (const { q, cell } of quantiles) cell.value = errors[Math.ceil(q * errors.length) - 1] ?? Number.NaN
    drift.value = all.filter(({ driftSinceUs }) => driftSinceUs !== undefined).length
    for (const { by, cell } of served) cell.value = all.filter((one) => by === servedBy(one)).length
  })
  const training = (outcome: Outcome): Cell =>
    metrics.counter('kymo_trainings_total', 'Series that were trained: a model, seasonal naive as nothing beats it, or refused.', { outcome })
  return {
    issued: metrics.counter('kymo_forecasts_issued_total', 'Forecasts that were issued on schedule.'),
    trainings: { trained: training('trained'), kept_naive: training('kept_naive'), refused: training('refused') },
  }
}

function servedBy({ version, lost }: Watched): 'model' | 'naive' | 'skill_lost' {
  if (version === 0) return 'naive'
  return lost ? 'skill_lost' : 'model'
}
