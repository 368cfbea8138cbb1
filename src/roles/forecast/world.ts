import { seasonOf, type Series } from '../../compute/forecast/series.ts'
import { readModel } from '../../compute/forecast/registry.ts'
import type { Model } from '../../compute/forecast/model.ts'
import type { SeriesKey } from '../../core/batch.ts'
import type { ForecastOptions } from '../../core/config-forecast.ts'
import type { Env } from '../../core/env.ts'
import { asKymoError, KymoError } from '../../core/errors.ts'
import type { ForecastStore, StoredModel } from '../../core/forecast-store.ts'
import { limits } from '../../core/limits.ts'
import { sleep } from '../../core/pump.ts'
import { Turn } from '../../store/turn.ts'
import { nameOf, type Readings } from './history.ts'

/** What the parts of the role share. */
export interface World {
  readonly store: Readings
  readonly forecasts: ForecastStore
  readonly options: ForecastOptions
  readonly env: Env
  /** Whatever changes a series' champion or its monitor does so alone. */
  readonly turn: Turn
  readonly models: ModelCache
  /** What is being made for a series outside its turn: it is not kept when its device is erased meanwhile. */
  readonly making: Set<Making>
}

export interface Making {
  readonly key: SeriesKey
  erased: boolean
}

export function openWorld(o: Pick<World, 'store' | 'forecasts' | 'options' | 'env'>): World {
  return { ...o, turn: new Turn(), models: new ModelCache(o.forecasts, o.env), making: new Set() }
}

/** Makes something for a series, then keeps it alone; rejects with series_not_found when its device is erased in between. */
export async function makeAndKeep<M, T>(world: World, key: SeriesKey, make: () => Promise<M>, keep: (made: M) => Promise<T>): Promise<T> {
  const making: Making = { key, erased: false }
  world.making.add(making)
  try {
    const made = await make()
    return await world.turn.run(() => {
      if (making.erased) throw new KymoError('series_not_found', { detail: `The device ${key.device} was erased meanwhile.` })
      return keep(made)
    })
  } finally {
    world.making.delete(making)
  }
}

/** A device is erased: when this resolves nothing more of it is written. */
export async function forgetDevice({ turn, models, making }: World, tenant: string, device: string): Promise<void> {
  for (const one of making) if (one.key.tenant === tenant && one.key.device === device) one.erased = true
  // Whoever had its turn before has written, and is gone.
  await turn.run(() => {
    models.forget(tenant, device)
    return Promise.resolve()
  })
}

/** How a series is looked at: by its model, or by the settings where it has none. */
export interface Shape {
  readonly stepUs: number
  /** Steps ahead. */
  readonly horizon: number
  readonly season: number
}

export function shapeOf(stepUs: number, horizonUs: number): Shape {
  return { stepUs, horizon: Math.max(1, Math.ceil(horizonUs / stepUs)), season: seasonOf(stepUs) }
}

/** The settings' own. */
export function usualShape({ stepUs, horizonUs }: ForecastOptions): Shape {
  return shapeOf(stepUs, horizonUs)
}

/** A number of a model's card. */
export function cardNumber({ card }: Pick<StoredModel, 'card'>, name: string): number | undefined {
  const value = card[name]
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined
}

/** What a model was trained for, as its card says. */
export function modelShape(model: StoredModel, options: ForecastOptions): Shape {
  const usual = usualShape(options)
  const stepUs = cardNumber(model, 'step_us') ?? usual.stepUs
  return { stepUs, horizon: cardNumber(model, 'horizon') ?? usual.horizon, season: cardNumber(model, 'season') ?? seasonOf(stepUs) }
}

/** Values that end at `endUs`, as a series. */
export function seriesUntil(values: Float64Array, endUs: number, { stepUs }: Pick<Shape, 'stepUs'>, timeZone: string): Series {
  return { startUs: endUs - values.length * stepUs, stepUs, values, covariates: [], timeZone }
}

/** Models that were used lately, read from their files once. */
export class ModelCache {
  readonly #forecasts: Pick<ForecastStore, 'file'>
  readonly #env: Pick<Env, 'logger'>
  readonly #models = new Map<string, { readonly key: SeriesKey; readonly model: Model | undefined; readonly bytes: number }>()
  #bytes = 0

  constructor(forecasts: Pick<ForecastStore, 'file'>, env: Pick<Env, 'logger'>) {
    this.#forecasts = forecasts
    this.#env = env
  }

  /** Undefined: its file is not there, or cannot be read: seasonal naive is served then. */
  async load(key: SeriesKey, version: number): Promise<Model | undefined> {
    const name = `${version} ${nameOf(key)}`
    const known = this.#models.get(name)
    if (known !== undefined) {
      this.#models.delete(name)
      this.#models.set(name, known)
      return known.model
    }
    const file = await this.#forecasts.file(key, version)
    if (file === undefined) return undefined
    const entry = { key, model: this.#read(file, key, version), bytes: file.length }
    this.#models.set(name, entry)
    this.#bytes += entry.bytes
    for (const [oldest, { bytes }] of this.#models) {
      if (this.#bytes <= limits.modelsKeptBytesMax || oldest === name) break
      this.#models.delete(oldest)
      this.#bytes -= bytes
    }
    return entry.model
  }

  /** All of a device: its next model may have a number that was there before. */
  forget(tenant: string, device: string): void {
    for (const [name, { key, bytes }] of this.#models) {
      if (key.tenant !== tenant || key.device !== device) continue
      this.#models.delete(name)
      this.#bytes -= bytes
    }
  }

  #read(file: Uint8Array, { device, metric }: SeriesKey, version: number): Model | undefined {
    try {
      return readModel(file).model
    } catch (thrown) {
      this.#env.logger.error('a forecasting model cannot be used', { device, metric, version, error: asKymoError(thrown).message })
      return undefined
    }
  }
}

/** What the main thread is held for at most in one piece. */
const pieceMs = 5

/** Gives everything else its turn when a piece of work has been long enough. */
export function pieces(env: Pick<Env, 'clock'>): () => Promise<void> | undefined {
  let from = env.clock.monotonicMs()
  return () => {
    if (env.clock.monotonicMs() - from < pieceMs) return undefined
    return sleep(env, 0).then(() => {
      from = env.clock.monotonicMs()
    })
  }
}
