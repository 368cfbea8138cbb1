import type { Backtest } from './backtest.ts'
import { ResidualBands } from './conformal.ts'

export interface CrossingQuestion {
  /** Above it (or below it) is what is asked for; equal is not across. */
  readonly threshold: number
  readonly side: 'above' | 'below'
  /** Within so many steps from the present. */
  readonly steps: number
}

/** How well such probabilities have held, over past issues that were answered with what was known then. */
export interface Calibration {
  /** Issues with an answer and an outcome. */
  readonly n: number
  /** Share of them in which it crossed. */
  readonly rate: number
  /** Mean squared difference of probability and outcome (Brier 1950). */
  readonly brier: number
  /** 1 - Brier / that of always saying `rate`; NaN where it never or always crossed. */
  readonly skill: number
  /** In tenths of probability: how many answers, their mean, and the share that crossed. */
  readonly bins: readonly { readonly n: number; readonly said: number; readonly came: number }[]
  /** Mean difference of said and came over the bins, by their answers. */
  readonly error: number
}

export type CrossingAnswer =
  | { readonly probability: number; readonly paths: number; readonly calibration: Calibration | undefined }
  /** `no_skill`: the model does not beat seasonal naive, or its probabilities not the plain rate of crossings. */
  | { readonly refused: 'no_skill' | 'too_little_data'; readonly detail: string; readonly calibration: Calibration | undefined }

/** Fewer paths of past errors than this make no probability. */
const pathsMin = 50
/** Of a calibration that says no: so many issues, of which so many crossed and so many did not. */
const outcomesMin = 50
const eachMin = 5

/**
 * The probability that the series goes across the threshold within `steps`: the share of past error paths (the errors of all steps of one issue
 * together, as they hang together) that, laid on the forecast, go across at some step. With n paths it lies between 1/2(n + 1) and 1 - 1/2(n + 1):
 * nothing is impossible for having not been seen. Undefined: fewer than 50 paths. `means`: the forecast, at least `steps` long.
 */
export function crossingProbability(means: Float64Array, bands: ResidualBands, { threshold, side, steps }: CrossingQuestion): number | undefined {
  const paths = bands.paths(steps)
  if (paths.length < pathsMin) return undefined
  let across = 0
  for (const path of paths) {
    for (let h = 0; h < steps; h++) {
      const value = means[h]! + path[h]!
      if (side === 'above' ? value > threshold : value < threshold) {
        across++
        break
      }
    }
  }
  return (across + 0.5) / (paths.length + 1)
}

/**
 * The whole answer, which rules and the API give. `skill`: of the model against seasonal naive over the same steps ahead, as its backtest or its
 * matured forecasts say.
 */
export function crossing(
  means: Float64Array,
  bands: ResidualBands,
  question: CrossingQuestion,
  known: { readonly skill: number; readonly calibration?: Calibration },
): CrossingAnswer {
  const { calibration } = known
  if (!(known.skill > 0)) {
    return { refused: 'no_skill', detail: 'The model does not beat seasonal naive on this series, so it knows no probability.', calibration }
  }
  if (calibration !== undefined && provesNone(calibration)) {
    return {
      refused: 'no_skill',
      detail: `Over ${calibration.n} past issues its probabilities were no better than the plain rate of crossings.`,
      calibration,
    }
  }
  const probability = crossingProbability(means, bands, question)
  const paths = bands.paths(question.steps).length
  if (probability !== undefined) return { probability, paths, calibration }
  return { refused: 'too_little_data', detail: `${paths} forecasts of ${question.steps} steps have matured; ${pathsMin} are needed.`, calibration }
}

function provesNone({ n, rate, skill }: Calibration): boolean {
  return n >= outcomesMin && rate * n >= eachMin && (1 - rate) * n >= eachMin && !(skill > 0)
}

/** Of pairs of what was said and whether it came (1 or 0). */
export function calibrationOf(said: readonly number[], came: readonly number[]): Calibration {
  const n = said.length
  const sums = Array.from({ length: 10 }, () => ({ n: 0, said: 0, came: 0 }))
  let [squares, crossed] = [0, 0]
  for (let i = 0; i < n; i++) {
    const bin = sums[Math.min(9, Math.floor(said[i]! * 10))]!
    bin.n++
    bin.said += said[i]!
    bin.came += came[i]!
    squares += (said[i]! - came[i]!) ** 2
    crossed += came[i]!
  }
  const [rate, brier] = [crossed / n, squares / n]
  const plain = rate * (1 - rate)
  const bins = sums.map((bin) => ({ n: bin.n, said: bin.n === 0 ? 0 : bin.said / bin.n, came: bin.n === 0 ? 0 : bin.came / bin.n }))
  const error = bins.reduce((sum, bin) => sum + (bin.n * Math.abs(bin.said - bin.came)) / n, 0)
  return { n, rate, brier, skill: plain > 0 ? 1 - brier / plain : Number.NaN, bins, error }
}

/**
 * Asks the question at each issue of a backtest, with the errors that had matured by then, and compares with what came. Issues at which the series is
 * across already are left out: there is nothing to be foreseen. `stepUs` apart are the steps of the series.
 */
export function calibrate(past: Backtest, { threshold, side, steps }: CrossingQuestion, present: (origin: number) => number): Calibration {
  const { horizon, origins, means, actuals } = past
  const bands = new ResidualBands({ horizon: steps, issues: Math.min(512, Math.max(pathsMin, origins.length)) })
  const isAcross = (value: number): boolean => (side === 'above' ? value > threshold : value < threshold)
  const said: number[] = []
  const came: number[] = []
  let matured = 0
  for (let k = 0; k < origins.length; k++) {
    // An issue has matured when its last step lies before this issue.
    for (; matured < k && origins[matured]! + steps <= origins[k]!; matured++) {
      const at = matured * horizon
      for (let h = 0; h < steps; h++) bands.observe(origins[matured]!, h + 1, actuals[at + h]! - means[at + h]!)
    }
    const row = means.subarray(k * horizon, k * horizon + steps)
    const outcome = actuals.subarray(k * horizon, k * horizon + steps)
    if (isAcross(present(origins[k]!)) || !row.every(Number.isFinite) || !outcome.every(Number.isFinite)) continue
    const probability = crossingProbability(row, bands, { threshold, side, steps })
    if (probability === undefined) continue
    said.push(probability)
    came.push(outcome.some(isAcross) ? 1 : 0)
  }
  return calibrationOf(said, came)
}
