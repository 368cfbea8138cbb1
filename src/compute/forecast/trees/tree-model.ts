import { limits } from '../../../core/limits.ts'
import type { StateReader } from '../../window/state-bytes.ts'
import { beginState } from '../../window/state-bytes.ts'
import { readFacts } from '../facts.ts'
import type { Bounds } from '../fill.ts'
import { shortGap, silentSteps } from '../fill.ts'
import type { Model } from '../model.ts'
import type { Series } from '../series.ts'
import { refuse } from '../series.ts'
import { binOf, binsMax } from './bins.ts'
import type { Forest } from './forest.ts'
import { readForest, sumRows, writeForest } from './forest.ts'
import type { RowPlan } from './rows.ts'
import { baseAt, believed, calendarOf, contextOf, lastDay, pairFeatures, pastColumns, planOf } from './rows.ts'

/** Names of a kind in registry and files. */
export interface TreeKind {
  readonly kind: string
  readonly letters: string
  readonly version: number
}

export interface TreeParts {
  readonly plan: RowPlan
  readonly horizon: number
  readonly bounds: Bounds
  /** Of each feature. */
  readonly edges: readonly Float64Array[]
  /** A forecast is the last value plus `scale` x (`bias` + the sum of leaves). */
  readonly scale: number
  readonly bias: number
  readonly forest: Forest
  readonly facts: Readonly<Record<string, number | string>>
}

/** Trees over rows of features as a forecasting model. */
export function treeModel(kind: TreeKind, parts: TreeParts): Model {
  const { plan, horizon, bounds, edges, scale, bias, forest } = parts
  const { stepUs, season } = plan.shape
  const context = contextOf(plan.shape, horizon)
  const { width } = plan
  const bins = new Uint8Array(horizon * width)
  const pair = new Float64Array(plan.pair.length)
  const pairsFrom = width - pair.length
  return {
    kind: kind.kind,
    horizon,
    context,
    stepUs,
    facts: parts.facts,
    predict(history, out) {
      const n = history.values.length
      const values = believed(n > context ? history.values.subarray(n - context) : history.values, bounds)
      const at = values.length - 1
      const base = baseAt(values, at, season)
      if (base !== base) return refusalOf(values, season)
      const past = pastColumns(lastDay({ ...history, values, covariates: cut(history, values.length) }), plan)
      for (let f = 0; f < past.length; f++) bins[f] = binOf(edges[f]!, past[f]!.at(-1)! - (plan.levels[f]! ? base : 0))
      const calendar = calendarOf(history.startUs + n * stepUs, out.length, history.timeZone, plan)
      const present = { values, at, base, season }
      for (let h = 0; h < out.length; h++) {
        const row = h * width
        if (h > 0) bins.copyWithin(row, 0, past.length)
        for (let k = 0, f = past.length; f < pairsFrom; k++, f++) bins[row + f] = binOf(edges[f]!, calendar[k]![h]!)
        pairFeatures(present, h + 1, pair)
        for (let k = 0, f = pairsFrom; f < width; k++, f++) bins[row + f] = binOf(edges[f]!, pair[k]!)
      }
      sumRows(forest, bins, width, out)
      for (let h = 0; h < out.length; h++) out[h] = Math.min(bounds.high, Math.max(bounds.low, base + scale * (bias + out[h]!)))
      return undefined
    },
    body() {
      return write(kind, parts)
    },
  }
}

/** Covariates over the same steps. */
function cut({ values, covariates }: Series, steps: number): Series['covariates'] {
  return covariates.map((one) => ({ name: one.name, values: one.values.subarray(values.length - steps) }))
}

function refusalOf(values: Float64Array, season: number): ReturnType<typeof refuse> {
  const silent = silentSteps(values)
  if (silent === Number.POSITIVE_INFINITY) return refuse('no_values', 'The history has no value within the range that the model was trained on.')
  return refuse('no_recent_values', `The last value is ${silent} steps old; up to ${shortGap(season)} are bridged.`)
}

function write({ letters, version }: TreeKind, { plan, horizon, bounds, edges, scale, bias, forest, facts }: TreeParts): Uint8Array {
  const { stepUs, season, covariates, weekdays, months } = plan.shape
  const writer = beginState(letters, version, 4 * forest.words.length + 8 * binsMax * edges.length)
  writer.u32(horizon)
  writer.u32(season)
  for (const number of [stepUs, bounds.low, bounds.high, scale, bias]) writer.f64(number)
  writer.u8((weekdays ? 1 : 0) + (months ? 2 : 0))
  writer.u8(covariates.length)
  for (const name of covariates) writer.text(name)
  writer.text(JSON.stringify(facts))
  for (const ends of edges) writer.f64s(ends)
  writeForest(writer, forest)
  return writer.finish()
}

/** Throws: the file is damaged. */
export function readTreeModel(kind: TreeKind, reader: StateReader): Model {
  const [horizon, season] = [reader.u32(), reader.u32()]
  const [stepUs, low, high, scale, bias] = [reader.f64(), reader.f64(), reader.f64(), reader.f64(), reader.f64()]
  const cycles = reader.u8()
  const sizes = horizon >= 1 && horizon <= limits.forecastHorizonMax && season >= 1 && season <= limits.forecastSeasonMax
  if (!sizes || cycles > 3) throw new Error('sizes out of range')
  if (!(low < high) || !(stepUs > 0) || ![low, high, stepUs, bias].every(Number.isFinite) || !(scale > 0 && scale < Number.POSITIVE_INFINITY)) {
    throw new Error('bounds, step or scale are not possible')
  }
  const covariates: string[] = []
  for (let left = reader.u8(); left > 0; left--) covariates.push(reader.text())
  if (covariates.length > limits.forecastCovariatesMax) throw new Error('too many covariates')
  const facts = readFacts(reader.text())
  const plan = planOf({ stepUs, season, covariates, weekdays: (cycles & 1) === 1, months: (cycles & 2) === 2 })
  const edges: Float64Array[] = []
  for (let f = 0; f < plan.width; f++) {
    const ends = reader.f64s()
    if (ends.length > binsMax - 2 || !ends.every((v, i) => Number.isFinite(v) && (i === 0 || v > ends[i - 1]!))) throw new Error('bins do not fit')
    edges.push(ends)
  }
  const forest = readForest(reader, plan.width)
  return treeModel(kind, { plan, horizon, bounds: { low, high }, edges, scale, bias, forest, facts })
}
