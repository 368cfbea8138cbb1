/* What is printed of what the API says of forecasts and models. */

/** What a kind was worth on the last part of a series, as cards and results of backtests say it. */
export interface Candidate {
  readonly name: string
  readonly mae?: number | null
  readonly rmse?: number | null
  readonly mase?: number | null
  readonly skill?: number | null
  readonly refused?: string
  readonly detail?: string
}

export function isCandidate(value: unknown): value is Candidate {
  return typeof value === 'object' && value !== null && 'name' in value && typeof value.name === 'string'
}

/** Path of a series below `/api/v1/forecasts` or `/api/v1/models`. */
export function seriesPath(root: 'forecasts' | 'models', device: string, metric: string): string {
  return `/api/v1/${root}/${encodeURIComponent(device)}/${encodeURIComponent(metric)}`
}

/** Four digits that matter; none: a dash. */
export function short(value: unknown): string {
  return typeof value === 'number' && Number.isFinite(value) ? String(Number(value.toPrecision(4))) : '-'
}

export function percent(share: unknown): string {
  return typeof share === 'number' && Number.isFinite(share) ? `${(share * 100).toFixed(1)} %` : '-'
}

/** `ridge v3`; nobody trained seasonal naive. */
export function modelText({ kind, version }: { readonly kind: string; readonly version: number }): string {
  return version === 0 ? kind : `${kind} v${version}`
}
