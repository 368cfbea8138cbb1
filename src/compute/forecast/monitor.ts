import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import { beginState, StateReader, type StateWriter } from '../window/state-bytes.ts'
import type { Backtest } from './backtest.ts'
import { ResidualBands } from './conformal.ts'
import type { Bounds } from './fill.ts'
import { skillOf } from './metrics.ts'
import { PageHinkley, type PageHinkleyOptions } from './page-hinkley.ts'
import { RecentSkill, type PairedErrors } from './recent-skill.ts'
import { learnFrom } from './walk.ts'

const stateName = 'KMON'
const stateVersion = 1

/**
 * Errors half as large again as they were are no drift yet, and surplus of 60 usual errors is: four times the error is found within some
 * 25 steps, twice within some 150 to 200. On noise that hangs together over a day (AR .95) the sum rises to 48 in 10,000 steps (test/compute/forecast-monitor.test.ts).
 */
export const driftOptions: PageHinkleyOptions = { allowance: 0.5, threshold: 60, weight: 168, most: 8 }

/** Residuals are remembered of so many issues, */
const issuesKept = 512
/** and of long horizons of fewer: 2^18 residuals are 1 MB. */
const residualsKept = 2 ** 18

export interface MonitorOptions {
  readonly horizon: number
  readonly stepUs: number
  /** Of the intervals that are issued, in (0, 1). */
  readonly level: number
  /** The first forecast is issued here: the end of what the model was trained on. */
  readonly atUs: number
  /** The model's forecasts of steps that it had not seen: what intervals and expected errors begin with. `startUs`: of origin 0. */
  readonly past?: { readonly backtest: Backtest; readonly startUs: number }
  /** Values beyond count as missing, except that they make errors large. */
  readonly bounds?: Bounds
}

/** What forecasts of one version have been worth; NaN: nothing has matured. */
export interface MonitorAccuracy {
  readonly n: number
  readonly mae: number
  readonly rmse: number
  readonly bias: number
  /** Of seasonal naive, issued at the same moments for the same targets. */
  readonly naiveMae: number
  /** Over the last blocks that are remembered. */
  readonly skill: number
  readonly coverage: number
}

interface Pending {
  readonly issueUs: number
  readonly means: Float64Array
  readonly naive: Float64Array
  /** Ends of the interval, as residuals; NaN: none. */
  readonly below: Float32Array
  readonly above: Float32Array
}

/** Automatic trainings since an alarm, and when the last was begun, in event time; NaN: none was. */
export interface TrainingTries {
  readonly atUs: number
  readonly count: number
}

/** Steps from one issue to the next: every step up to a horizon of 64, so that no more than 64 issues wait for what comes. */
export function issueStride(horizon: number): number {
  return Math.ceil(horizon / limits.forecastsPendingMax)
}

/**
 * What is known of the forecasts of one series by one version of a model, as time goes on in its own time: step by step `issue` (once at a moment) and
 * then `observe`, which tells what was measured in the step that begins there and moves on to its end. Pure; the state is bytes
 * (docs/format/model.md).
 */
export class ForecastMonitor {
  readonly horizon: number
  readonly stepUs: number
  readonly level: number
  readonly #bounds: Bounds
  #atUs: number
  readonly #bands: ResidualBands
  /** By step ahead: what the absolute error has been; NaN: not known. */
  readonly #expected: Float64Array
  /** Oldest first. */
  #pending: Pending[] = []
  #totals: Float64Array = new Float64Array(totalsLength)
  readonly #recent: RecentSkill
  #drift: PageHinkley
  #sinceUs = Number.NaN
  #tries: TrainingTries = { atUs: Number.NaN, count: 0 }

  private constructor(o: {
    readonly horizon: number
    readonly stepUs: number
    readonly level: number
    readonly atUs: number
    readonly bounds: Bounds
    readonly bands: ResidualBands
    readonly expected: Float64Array
    readonly recent?: RecentSkill
    readonly drift?: PageHinkley
  }) {
    this.horizon = o.horizon
    this.stepUs = o.stepUs
    this.level = o.level
    this.#atUs = o.atUs
    this.#bounds = o.bounds
    this.#bands = o.bands
    this.#expected = o.expected
    this.#recent = o.recent ?? new RecentSkill(o.horizon)
    this.#drift = o.drift ?? new PageHinkley(driftOptions)
  }

  static begin({ horizon, stepUs, level, atUs, past, bounds }: MonitorOptions): ForecastMonitor {
    const bands = new ResidualBands({ horizon, issues: Math.max(32, Math.min(issuesKept, Math.floor(residualsKept / horizon))) })
    const expected = new Float64Array(horizon).fill(Number.NaN)
    if (past !== undefined) {
      const timeOf = (origin: number): number => past.startUs + origin * stepUs
      learnFrom(bands, past.backtest, { level, end: Number.POSITIVE_INFINITY, timeOf })
      expected.set(expectedOf(past.backtest))
    }
    const known = bounds ?? { low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY }
    return new ForecastMonitor({ horizon, stepUs, level, atUs, bounds: known, bands, expected })
  }

  /** All steps that begin before have been observed. */
  get atUs(): number {
    return this.#atUs
  }

  get bands(): ResidualBands {
    return this.#bands
  }

  /** Whether a forecast belongs at this moment, and is not issued yet. */
  get isDue(): boolean {
    return (this.#atUs / this.stepUs) % issueStride(this.horizon) === 0 && this.#pending.at(-1)?.issueUs !== this.#atUs
  }

  /** The champion's matured errors are larger than those of seasonal naive by more than chance, and it has not made that good again. */
  get skillLost(): boolean {
    return this.#recent.lost
  }

  /** Page-Hinkley on absolute errors as shares of what they were in the backtest. `sinceUs`: event time of an alarm that is not answered. */
  get drift(): { readonly statistic: number; readonly threshold: number; readonly sinceUs: number | undefined } {
    const { statistic, threshold } = this.#drift
    return { statistic, threshold, sinceUs: Number.isNaN(this.#sinceUs) ? undefined : this.#sinceUs }
  }

  get tries(): TrainingTries {
    return this.#tries
  }

  /** An automatic training is begun. */
  tried(): void {
    this.#tries = { atUs: this.#atUs, count: this.#tries.count + 1 }
  }

  /** The alarm is answered: what errors are now is what is expected from here on. */
  answered(): void {
    this.#sinceUs = Number.NaN
    this.#tries = { atUs: this.#tries.atUs, count: 0 }
    this.#drift = new PageHinkley(driftOptions)
  }

  /**
   * The forecast of this moment: of the model and of seasonal naive. Fills in the ends of its intervals, NaN where too few errors are known. Nothing when
   * it is not due. Means that are no numbers are of a model that refused: nothing is promised then.
   */
  issue(means: Float64Array, naive: Float64Array, lower: Float64Array, upper: Float64Array): void {
    if (!this.isDue) return
    this.#bands.interval(means, this.level, lower, upper)
    if (means.every(Number.isFinite)) this.#bands.issue(this.#atUs)
    const ends = (of: Float64Array): Float32Array => Float32Array.from(of, (end, h) => end - means[h]!)
    this.#pending.push({ issueUs: this.#atUs, means: means.slice(), naive: naive.slice(), below: ends(lower), above: ends(upper) })
  }

  /** What was measured in the step that begins at `atUs`, NaN for nothing; time goes on to its end. Whether drift is alarmed just now. */
  observe(actual: number): boolean {
    const targetUs = this.#atUs
    this.#atUs += this.stepUs
    const believed = actual >= this.#bounds.low && actual <= this.#bounds.high
    const step: PairedErrors = { own: 0, naive: 0, pairs: 0 }
    let [surplus, weighed] = [0, 0]
    for (const one of this.#pending) {
      const h = Math.round((targetUs - one.issueUs) / this.stepUs)
      const error = one.means[h]! - actual
      if (!(h >= 0 && h < this.horizon) || !Number.isFinite(error)) continue
      const expected = this.#expected[h]!
      if (expected > 0) {
        surplus += Math.min(driftOptions.most, Math.abs(error) / expected)
        weighed++
      }
      if (!believed) continue
      this.#bands.observe(one.issueUs, h + 1, -error)
      this.#count(one, { h, actual }, step)
    }
    this.#pending = this.#pending.filter(({ issueUs }) => issueUs + this.horizon * this.stepUs > this.#atUs)
    this.#recent.add(step)
    if (weighed === 0 || !this.#drift.push(surplus / weighed) || !Number.isNaN(this.#sinceUs)) return false
    this.#sinceUs = this.#atUs
    return true
  }

  /** Goes on from another moment: forecasts that wait for what comes are given up. */
  jump(atUs: number): void {
    if (atUs === this.#atUs) return
    this.#atUs = atUs
    this.#pending = []
  }

  accuracy(): MonitorAccuracy {
    const t = this.#totals
    const n = t[total.n]!
    return {
      n,
      mae: t[total.absolute]! / n,
      rmse: Math.sqrt(t[total.squared]! / n),
      bias: t[total.sum]! / n,
      naiveMae: t[total.naiveAbsolute]! / t[total.naiveN]!,
      skill: skillOf(this.#recent.own, this.#recent.naive),
      coverage: t[total.within]! / t[total.intervals]!,
    }
  }

  #count({ means, naive, below, above }: Pending, { h, actual }: { readonly h: number; readonly actual: number }, step: PairedErrors): void {
    const t = this.#totals
    const error = means[h]! - actual
    t[total.n]!++
    t[total.absolute]! += Math.abs(error)
    t[total.squared]! += error * error
    t[total.sum]! += error
    if (below[h]! === below[h]!) {
      t[total.intervals]!++
      if (-error >= below[h]! && -error <= above[h]!) t[total.within]!++
    }
    const other = Math.abs(naive[h]! - actual)
    if (!Number.isFinite(other)) return
    t[total.naiveN]!++
    t[total.naiveAbsolute]! += other
    step.own += Math.abs(error)
    step.naive += other
    step.pairs++
  }

  snapshot(): Uint8Array {
    const writer = beginState(stateName, stateVersion, 65_536)
    writer.u32(this.horizon)
    for (const value of [this.stepUs, this.level, this.#atUs, this.#bounds.low, this.#bounds.high]) writer.f64(value)
    writer.f64s(this.#expected)
    writer.f64s(this.#totals)
    this.#recent.write(writer)
    writer.f64s(Float64Array.from(this.#drift.state))
    for (const value of [this.#sinceUs, this.#tries.atUs]) writer.f64(value)
    writer.u32(this.#tries.count)
    writer.u32(this.#pending.length)
    for (const one of this.#pending) writePending(writer, one)
    writer.bytes(this.#bands.snapshot())
    return writer.finish()
  }

  /** Throws store_format where the bytes are no such snapshot. */
  static restore(bytes: Uint8Array): ForecastMonitor {
    const reader = new StateReader(bytes, stateName, stateVersion)
    const horizon = reader.u32()
    const [stepUs, level, atUs, low, high] = [reader.f64(), reader.f64(), reader.f64(), reader.f64(), reader.f64()]
    const [expected, totals] = [reader.f64s(), reader.f64s()]
    const sizes = horizon >= 1 && horizon <= limits.forecastHorizonMax && stepUs > 0 && level > 0 && level < 1 && Number.isSafeInteger(atUs)
    if (!sizes || expected.length !== horizon || totals.length !== totalsLength) throw damaged()
    const recent = RecentSkill.read(reader, horizon)
    const [n = 0, sum = 0, gathered = 0, lowest = 0] = reader.f64s()
    const drift = new PageHinkley(driftOptions, [n, sum, gathered, lowest])
    const [sinceUs, triedUs, tries, waiting] = [reader.f64(), reader.f64(), reader.u32(), reader.u32()]
    if (waiting > limits.forecastsPendingMax) throw damaged()
    const pending = Array.from({ length: waiting }, () => readPending(reader, horizon))
    const bands = ResidualBands.restore(reader.bytes())
    if (bands.horizon !== horizon || !reader.ended) throw damaged()
    const monitor = new ForecastMonitor({ horizon, stepUs, level, atUs, bounds: { low, high }, bands, expected, recent, drift })
    monitor.#totals = totals
    monitor.#sinceUs = sinceUs
    monitor.#tries = { atUs: triedUs, count: tries }
    monitor.#pending = pending
    return monitor
  }
}

const total = { n: 0, absolute: 1, squared: 2, sum: 3, naiveN: 4, naiveAbsolute: 5, intervals: 6, within: 7 } as const
const totalsLength = 8

/** Mean absolute error by step ahead; NaN: none. */
function expectedOf({ horizon, origins, means, actuals }: Backtest): Float64Array {
  return Float64Array.from({ length: horizon }, (_, h) => {
    let [n, sum] = [0, 0]
    for (let at = h; at < origins.length * horizon; at += horizon) {
      const off = Math.abs(means[at]! - actuals[at]!)
      if (off !== off) continue
      n++
      sum += off
    }
    return n === 0 ? Number.NaN : sum / n
  })
}

function writePending(writer: StateWriter, { issueUs, means, naive, below, above }: Pending): void {
  writer.f64(issueUs)
  writer.f64s(means)
  writer.f64s(naive)
  writer.f32s(below)
  writer.f32s(above)
}

function readPending(reader: StateReader, horizon: number): Pending {
  const pending = { issueUs: reader.f64(), means: reader.f64s(), naive: reader.f64s(), below: reader.f32s(), above: reader.f32s() }
  if ([pending.means, pending.naive, pending.below, pending.above].some(({ length }) => length !== horizon)) throw damaged()
  return pending
}

function damaged(): KymoError {
  return new KymoError('store_format', { detail: 'What is known of the forecasts of a series does not hold what it should.' })
}
