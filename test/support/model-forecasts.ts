import type { SeriesKey } from '../../src/core/batch.ts'
import type { IssuedForecast, ModelState, MonitorState, Prediction, PredictionQuery, StoredModel } from '../../src/core/forecast-store.ts'

interface Held {
  readonly prediction: Prediction
  readonly stepUs: number
}

interface HeldModel {
  model: StoredModel
  file: Uint8Array | undefined
}

const nameOf = ({ tenant, device, metric }: SeriesKey): string => JSON.stringify([tenant, device, metric])

function of<V>(map: Map<string, V>, name: string, make: () => V): V {
  const known = map.get(name)
  if (known !== undefined) return known
  const made = make()
  map.set(name, made)
  return made
}

function inOrder(a: Prediction, b: Prediction): number {
  return a.target_us - b.target_us || a.issue_us - b.issue_us || a.version - b.version
}

/** What a store of forecasts must answer, said in the plainest way: everything in maps, every question a walk through all of them. */
export class ModelForecasts {
  readonly #predictions = new Map<string, Map<string, Held>>()
  readonly #states = new Map<string, MonitorState>()
  readonly #models = new Map<string, HeldModel[]>()
  readonly #keys = new Map<string, SeriesKey>()

  write(forecasts: readonly IssuedForecast[], states: readonly MonitorState[]): void {
    for (const { key, version, issueUs, stepUs, level, mean, lower, upper } of forecasts) {
      this.#keys.set(nameOf(key), key)
      const held = of(this.#predictions, nameOf(key), () => new Map<string, Held>())
      for (const [i, value] of mean.entries()) {
        const target = issueUs + i * stepUs
        const id = `${version} ${issueUs} ${target}`
        if (held.has(id)) continue
        const ends = { lower: lower[i] ?? Number.NaN, upper: upper[i] ?? Number.NaN }
        held.set(id, { stepUs, prediction: { version, issue_us: issueUs, target_us: target, mean: value, ...ends, level } })
      }
    }
    for (const state of states) this.#states.set(`${nameOf(state.key)} ${state.version}`, state)
  }

  predictions({ key, fromUs, toUs, version, issueUs, newest, after, limit }: PredictionQuery): Prediction[] {
    const of = [...(this.#predictions.get(nameOf(key))?.values() ?? [])].filter(
      ({ prediction: p }) =>
        p.target_us >= fromUs &&
        p.target_us < toUs &&
        (version === undefined || p.version === version) &&
        (issueUs === undefined || p.issue_us === issueUs),
    )
    if (newest === undefined) {
      const start = (p: Prediction): boolean =>
        after === undefined || inOrder(p, { ...p, target_us: after.target_us, issue_us: after.issue_us, version: after.version }) > 0
      return of
        .map(({ prediction }) => prediction)
        .filter(start)
        .sort(inOrder)
        .slice(0, limit)
    }
    const best = new Map<number, Prediction>()
    for (const { prediction: p, stepUs } of of) {
      if (newest.leadUs !== undefined && p.issue_us + newest.leadUs > p.target_us + stepUs) continue
      const known = best.get(p.target_us)
      if (known === undefined || inOrder(known, p) < 0) best.set(p.target_us, p)
    }
    return [...best.values()]
      .filter((p) => after === undefined || p.target_us > after.target_us)
      .sort(inOrder)
      .slice(0, limit)
  }

  latest(keys: readonly SeriesKey[]): { key: SeriesKey; predictions: Prediction[] }[] {
    return keys.flatMap((key) => {
      const all = [...(this.#predictions.get(nameOf(key))?.values() ?? [])].map(({ prediction }) => prediction)
      const issue = Math.max(...all.map((p) => p.issue_us))
      return all.length === 0 ? [] : [{ key, predictions: all.filter((p) => p.issue_us === issue).sort(inOrder) }]
    })
  }

  states(keys: readonly SeriesKey[]): MonitorState[] {
    return keys.flatMap((key) =>
      [...this.#states.values()].filter((state) => nameOf(state.key) === nameOf(key)).sort((a, b) => a.version - b.version),
    )
  }

  addModel(o: { key: SeriesKey; kind: string; state: ModelState; createdUs: number; card: StoredModel['card']; file: Uint8Array }): StoredModel {
    const { key, kind, state, createdUs, card, file } = o
    this.#keys.set(nameOf(key), key)
    const held = of(this.#models, nameOf(key), (): HeldModel[] => [])
    if (state === 'champion') this.retire(key)
    const model = { key, version: held.length + 1, kind, state, created_us: createdUs, card, bytes: file.length }
    held.push({ model, file })
    return model
  }

  promote(key: SeriesKey, version: number): StoredModel | undefined {
    const held = this.#models.get(nameOf(key))?.[version - 1]
    if (held === undefined) return undefined
    this.retire(key)
    return (held.model = { ...held.model, state: 'champion' })
  }

  retire(key: SeriesKey): void {
    for (const held of this.#models.get(nameOf(key)) ?? []) if (held.model.state === 'champion') held.model = { ...held.model, state: 'retired' }
  }

  versions(key: SeriesKey): StoredModel[] {
    return (this.#models.get(nameOf(key)) ?? []).map(({ model }) => model).reverse()
  }

  models(tenant: string, device?: string): StoredModel[] {
    return [...this.#models]
      .map(([name, of]) => ({ key: this.#keys.get(name), shown: of.find(({ model }) => model.state === 'champion') ?? of.at(-1) }))
      .flatMap(({ key, shown }) =>
        key !== undefined && shown !== undefined && key.tenant === tenant && (device === undefined || key.device === device) ? [shown.model] : [],
      )
      .sort(({ key: a }, { key: b }) => (a.device !== b.device ? (a.device < b.device ? -1 : 1) : a.metric < b.metric ? -1 : 1))
  }

  file(key: SeriesKey, version: number): Uint8Array | undefined {
    return this.#models.get(nameOf(key))?.[version - 1]?.file
  }

  erase(tenant: string, device: string): void {
    for (const [name, key] of this.#keys) {
      if (key.tenant !== tenant || key.device !== device) continue
      this.#predictions.delete(name)
      this.#models.delete(name)
      for (const [id, state] of this.#states) if (nameOf(state.key) === name) this.#states.delete(id)
    }
  }

  expire({ predictionsBeforeUs = 0, versions }: { predictionsBeforeUs?: number; versions: number }): number {
    let gone = 0
    for (const of of this.#predictions.values())
      for (const [id, { prediction }] of of) if (prediction.target_us < predictionsBeforeUs && of.delete(id)) gone++
    for (const [name, of] of this.#models) {
      for (const held of of.slice(0, Math.max(0, of.length - versions))) {
        if (held.model.state === 'champion') continue
        held.file = undefined
        this.#states.delete(`${name} ${held.model.version}`)
      }
    }
    return gone
  }

  count(): { predictions: number; models: number } {
    const sum = (of: Iterable<{ size: number } | { length: number }>): number =>
      [...of].reduce((n, one) => n + ('size' in one ? one.size : one.length), 0)
    return { predictions: sum(this.#predictions.values()), models: sum(this.#models.values()) }
  }
}
