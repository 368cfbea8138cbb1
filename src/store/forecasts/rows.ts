import type { SeriesKey } from '../../core/batch.ts'
import { KymoError } from '../../core/errors.ts'
import type { ModelState } from '../../core/forecast-store.ts'

type Row = Readonly<Record<string, unknown>> | undefined

function wrong(column: string): never {
  throw new KymoError('forecasts_corrupt', { detail: `A row of the forecasts file has a ${column} of the wrong type.` })
}

export function number(row: Row, column: string): number {
  const value = row?.[column]
  return typeof value === 'number' ? value : wrong(column)
}

export function string(row: Row, column: string): string {
  const value = row?.[column]
  return typeof value === 'string' ? value : wrong(column)
}

export function bytesIn(row: Row, column: string): Uint8Array {
  const value = row?.[column]
  return value instanceof Uint8Array ? value : wrong(column)
}

export function stateIn(row: Row): ModelState {
  const state = row?.['state']
  return state === 'champion' || state === 'challenger' || state === 'retired' ? state : wrong('state')
}

/** A model card as it was written. */
export function cardIn(text: string): Readonly<Record<string, unknown>> {
  const card: unknown = JSON.parse(text)
  return typeof card === 'object' && card !== null ? { ...card } : wrong('card')
}

/** One text for each series. */
export function seriesName({ tenant, device, metric }: SeriesKey): string {
  return `${tenant}\0${device}\0${metric}`
}
