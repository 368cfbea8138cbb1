import type { Backtest } from '../../compute/forecast/backtest.ts'
import { calibrate, crossing, type Calibration, type CrossingQuestion } from '../../compute/forecast/crossing.ts'
import type { ForecastMonitor } from '../../compute/forecast/monitor.ts'
import type { SeriesKey } from '../../core/batch.ts'
import type { CrossingForecast } from '../../core/forecasts.ts'
import { answer, type Answer } from './answer.ts'
import { inTime, meansOf } from './history.ts'
import { cardNumber, type World } from './world.ts'

export interface Crossing {
  readonly threshold: number
  readonly side: 'above' | 'below'
  readonly withinUs: number
}

/** "Will it cross?": with how well such answers have held, or why there is none. */
export async function crossingOf(world: World, key: SeriesKey, o: Crossing): Promise<CrossingForecast> {
  const said = await answer(world, key, { horizonUs: o.withinUs, horizonName: 'within' })
  const { monitor, version, issueUs, shape, mean, history, kind } = said
  const question = { threshold: o.threshold, side: o.side, steps: shape.horizon }
  const head = {
    device: key.device,
    metric: key.metric,
    model: { kind, version },
    threshold: o.threshold,
    side: o.side,
    within_us: shape.horizon * shape.stepUs,
    issued_us: issueUs,
  }
  const now = lastMeasured(history.values)
  if (isAcross(now, question))
    return { ...head, reason: 'across_already', detail: `The last step was ${now}, which is ${o.side} ${o.threshold} already.` }
  if (version === 0 || monitor === undefined) return { ...head, reason: 'no_skill', detail: whyNaive(said) }
  const calibration = await calibrationOf(world, key, monitor, said, question)
  const known = { skill: skillOf(said, monitor), ...(calibration === undefined ? {} : { calibration }) }
  const found = crossing(mean, monitor.bands, question, known)
  const how = calibration === undefined || !Number.isFinite(calibration.brier) ? {} : { calibration: served(calibration) }
  if ('refused' in found) return { ...head, reason: found.refused, detail: found.detail, ...how }
  return { ...head, probability: found.probability, ...how }
}

function lastMeasured(values: Float64Array): number {
  for (let i = values.length - 1; i >= 0; i--) if (Number.isFinite(values[i]!)) return values[i]!
  return Number.NaN
}

function isAcross(value: number, { threshold, side }: CrossingQuestion): boolean {
  return side === 'above' ? value > threshold : value < threshold
}

function whyNaive({ fallback, detail }: Answer): string {
  if (fallback === 'skill_lost') return 'The model has lost its skill: its latest errors are no better than those of seasonal naive.'
  if (fallback === 'refused') return `The model has no answer: ${detail ?? ''}`
  return 'Nobody trained a model of this series, and seasonal naive knows no probability.'
}

/** Of what has matured, where that is enough to speak of; else of the backtest. */
function skillOf({ stored }: Answer, monitor: ForecastMonitor): number {
  const { n, skill } = monitor.accuracy()
  if (n >= 2 * monitor.horizon ** 2 && Number.isFinite(skill)) return skill
  return (stored === undefined ? undefined : cardNumber(stored, 'skill')) ?? Number.NaN
}

/** A skill that is not defined (it never or always crossed) is 0: it says nothing. */
function served({ n, rate, brier, skill, error, bins }: Calibration): NonNullable<CrossingForecast['calibration']> {
  return { n, rate, brier, skill: Number.isFinite(skill) ? skill : 0, error, bins }
}

/** From the errors that are remembered and what was measured: together they say what was forecast. Undefined: there are none. */
async function calibrationOf(
  { store }: World,
  key: SeriesKey,
  { bands, horizon }: ForecastMonitor,
  { shape: { stepUs }, issueUs }: Answer,
  question: CrossingQuestion,
): Promise<Calibration | undefined> {
  const all = bands.issued()
  const issued = all.filter((_, k) => (all.length - 1 - k) % Math.ceil(all.length / issuesMost) === 0)
  const first = issued[0]
  if (first === undefined || issueUs - first.issueUs > stepUs * spanMost) return undefined
  const fromUs = Math.max(0, first.issueUs - stepUs)
  const values = await meansOf(store, key, { fromUs, toUs: issueUs, stepUs }, inTime())
  const stepAt = (us: number): number => Math.round((us - fromUs) / stepUs)
  const [means, actuals] = [new Float64Array(issued.length * horizon), new Float64Array(issued.length * horizon)]
  issued.forEach(({ issueUs: at, residuals }, k) => {
    for (let h = 0; h < horizon; h++) {
      const actual = values[stepAt(at) + h] ?? Number.NaN
      actuals[k * horizon + h] = actual
      means[k * horizon + h] = actual - residuals[h]!
    }
  })
  const origins = Int32Array.from(issued, ({ issueUs: at }) => stepAt(at))
  const past: Backtest = { horizon, origins, means, actuals, refusals: 0, firstRefusal: undefined }
  return calibrate(past, question, (origin) => values[origin - 1] ?? Number.NaN)
}

/** Past issues that are asked the same question: each looks at all before it, 192 x 192 x 24 steps take a few milliseconds. */
const issuesMost = 192
/** Steps between the oldest error that is remembered and the present: beyond, the errors are of long ago. */
const spanMost = 16_384
