import { KymoError } from '../../../core/errors.ts'
import { limits } from '../../../core/limits.ts'
import { SeededRandom } from '../../../core/seeded-random.ts'
import { checkTuning } from '../facts.ts'
import type { Bounds } from '../fill.ts'
import { boundsOf } from '../fill.ts'
import type { FitOptions } from '../model.ts'
import type { Refusal, Series } from '../series.ts'
import { measured, refuse } from '../series.ts'
import type { RowPlan } from './rows.ts'
import { planOf, shapeOf } from './rows.ts'
import type { Sample } from './sample.ts'
import { sampleRows } from './sample.ts'

/** A number by which a kind can be tuned: what it is unless told otherwise, and what is possible. Whole where the usual value is. */
interface Knob {
  readonly usual: number
  readonly least: number
  readonly most: number
}

/** Numbers that every kind of trees has, and its own. */
export type Knobs = Readonly<Record<'trees' | 'depth' | 'leaf_rows' | 'rows' | 'rows_per_step' | 'features' | 'bins', Knob>> &
  Readonly<Record<string, Knob>>

export interface Lesson {
  /** The number that a knob stands at. */
  readonly knob: (name: string) => number
  /** Features that are looked at for a split. */
  readonly candidates: number
  readonly bounds: Bounds
  readonly plan: RowPlan
  readonly sample: Sample
  readonly random: SeededRandom
}

/** Fewer rows teach nothing that a season before would not say. */
const rowsLeast = 96

/** Refuses (`usage`) names that the kind does not know, values out of range, and trees that may become more than a file holds. */
function tunedBy(kind: string, knobs: Knobs, tuning: Readonly<Record<string, number>>): (name: string) => number {
  checkTuning(kind, tuning, Object.keys(knobs))
  const set = new Map<string, number>()
  for (const [name, { usual, least, most }] of Object.entries(knobs)) {
    const value = tuning[name] ?? usual
    const whole = Number.isInteger(usual)
    if (!(value >= least && value <= most) || (whole && !Number.isInteger(value))) {
      throw new KymoError('usage', { detail: `${kind}: ${name} = ${value}; possible are ${whole ? 'whole ' : ''}numbers from ${least} to ${most}` })
    }
    set.set(name, value)
  }
  const knob = (name: string): number => {
    const value = set.get(name)
    if (value === undefined) throw new Error(`no knob ${name}`)
    return value
  }
  // Two nodes of 8 B for each leaf.
  const bytes = 16 * knob('trees') * Math.min(2 ** knob('depth'), knob('rows') / knob('leaf_rows'))
  const most = limits.modelBodyBytesMax / 2
  if (bytes > most) {
    throw new KymoError('usage', { detail: `${kind}: trees of ${bytes} B are possible, and ${most} B at most. Take fewer, or more rows for a leaf.` })
  }
  return knob
}

/** Rows to learn from, or why there are none. Yields the share done: 0. */
export function* prepare(
  kind: string,
  knobs: Knobs,
  series: Series,
  { horizon, season, seed, tuning }: FitOptions,
): Generator<number, Lesson | Refusal, void> {
  const knob = tunedBy(kind, knobs, tuning ?? {})
  yield 0
  const bounds = boundsOf(series.values)
  if (bounds === undefined) {
    return series.values.some((v) => v === v)
      ? refuse('constant', 'The values hardly differ from each other, so trees have nothing to learn.')
      : refuse('no_values', 'The series has no values.')
  }
  if (!Number.isFinite(bounds.high - bounds.low)) return refuse('not_solvable', 'The values span more than numbers of double precision hold.')
  const plan = planOf(shapeOf(series, season))
  const random = new SeededRandom(seed, 1)
  const how = { horizon, rowsMost: knob('rows'), perPresent: knob('rows_per_step'), bins: knob('bins') }
  const sampling = sampleRows(series, bounds, plan, how, random)
  let step = sampling.next()
  for (; step.done !== true; step = sampling.next()) yield 0
  const sample = step.value
  const rows = sample === undefined ? 0 : sample.targets.length
  if (sample !== undefined && rows >= rowsLeast) {
    return { knob, candidates: Math.max(1, Math.ceil(knob('features') * plan.width)), bounds, plan, sample, random }
  }
  const least = horizon + rowsLeast
  const there = measured(series.values)
  return refuse(
    'too_little_data',
    `For ${horizon} steps ahead trees need some ${least} steps without long gaps; of ${series.values.length} there are ${there} measured, which make ${rows} rows.`,
    Math.max(1, least - there),
  )
}
