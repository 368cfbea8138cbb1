import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { StateReader, StateWriter } from '../window/state-bytes.ts'
import { beginState, StateReader as Reader } from '../window/state-bytes.ts'
import type { Anomaly } from './anomaly.ts'
import { said } from './anomaly.ts'
import { RollingDistribution } from './rolling-distribution.ts'

const stateName = 'KSUR'
const stateVersion = 1

export interface SurpriseOptions {
  /** Readings whose probabilities are kept: about 28 B a reading and statistic. */
  readonly memory?: number
  /** The least score that alarms: a sum of -log10 p. */
  readonly threshold?: number
  /** The share of readings that may alarm before the refractory period: an alarm's score must be so rare among those of its own series. */
  readonly rate?: number
  /** Readings after an alarm in which there is no other. */
  readonly refractory?: number
}

/**
 * Chosen on thirteen of the public NAB files by leaving out one category after the other, the same for every series (ADR 25).
 * `slow` and `window` count readings, `days` how long a mean of an hour of the day remembers.
 */
export const surpriseUsual = { memory: 4_096, threshold: 10.2, rate: 0.01, refractory: 200 } as const
const slow = 500
const window = 12
const days = 14
/** One statistic alone cannot say more: what never happened in a few thousand readings is not known to be rarer than this. */
const surpriseMax = 6
const hours = 24
/** Readings before the first alarm. */
const learning = 128
/** Means follow a reading no further than so many mean deviations: one of 10^9 must not hide those that follow. */
const clipDeviations = 20
/** Beyond it squares would leave what numbers can hold. */
const largest = 1e100

/** By place: the name, and how much its surprise counts. A deviation says much of what the jumps said already. */
const statistics = [
  { name: 'deviation from the slow mean', weight: 1 },
  { name: 'mean of the window', weight: 1 },
  { name: 'deviation within the window', weight: 0.5 },
  { name: 'jump', weight: 1 },
  { name: 'difference from the same hour', weight: 1 },
  { name: 'mean difference from the same hour', weight: 1 },
  { name: 'difference from the forecast', weight: 1 },
] as const
const [ofSlow, ofMean, ofDeviation, ofJump, ofHour, ofHours, ofForecast] = [0, 1, 2, 3, 4, 5, 6] as const

/**
 * Conformal surprise of one series, reading by reading: how rare several statistics are among their own latest values, added up, and how rare that sum
 * is among the sums before. Causal and pure; it looks at each reading once (about 3 us) and its state has a bound. Readings come in the order of
 * their times; a time that comes again or lies before is taken for what it says of the hour of the day. A value that is no number changes nothing.
 */
export class SurpriseDetector {
  readonly #memory: number
  readonly #threshold: number
  readonly #rate: number
  readonly #refractory: number
  readonly #distributions: RollingDistribution[]
  readonly #scores: RollingDistribution
  readonly #values = new Float64Array(window)
  readonly #residuals = new Float64Array(window)
  readonly #hourMeans = new Float64Array(hours)
  readonly #hourCounts = new Float64Array(hours)
  readonly #sizes = new Float64Array(statistics.length)
  readonly #surprises = new Float64Array(statistics.length)
  #count = 0
  #mean = 0
  #spread = 0
  #last = 0
  #firstUs = 0
  #lastUs = 0
  #quietUntil = learning
  #score = 0
  #rarity = 1

  /** Throws bug where an option is out of its bounds. */
  constructor(options: SurpriseOptions = {}) {
    const { memory, threshold, rate, refractory } = { ...surpriseUsual, ...options }
    if (!isAllowed(memory, threshold, rate, refractory)) {
      throw new KymoError('bug', { detail: `a detector with memory ${memory}, threshold ${threshold}, rate ${rate}, refractory ${refractory}` })
    }
    this.#memory = memory
    this.#threshold = threshold
    this.#rate = rate
    this.#refractory = refractory
    this.#distributions = statistics.map(() => new RollingDistribution(memory))
    this.#scores = new RollingDistribution(memory)
  }

  /** Of the last reading: the sum of surprises. */
  get score(): number {
    return this.#score
  }

  /** Of the last reading: the probability of such a score in this series; 1 as long as too little is known. */
  get rarity(): number {
    return this.#rarity
  }

  /** Whether the last reading's score was so rare that it may alarm, whatever the threshold. */
  get isRare(): boolean {
    return this.#rarity < this.#rate
  }

  /** The next reading; `forecast`, where there is one that was made before it, stands in for the mean of the hour. */
  observe(timeUs: number, reading: number, forecast = Number.NaN): Anomaly | undefined {
    if (!Number.isFinite(reading) || !Number.isFinite(timeUs)) return undefined
    const value = Math.min(largest, Math.max(-largest, reading))
    if (this.#count === 0) this.#begin(timeUs, value)
    const hour = ((Math.floor(timeUs / 3600e6) % hours) + hours) % hours
    this.#measure(value, hour, forecast)
    let score = 0
    for (let k = 0; k < statistics.length; k++) {
      const size = this.#sizes[k]!
      const distribution = this.#distributions[k]!
      const rarity = k === ofJump ? distribution.above(size) : distribution.rarity(size)
      const surprise = Math.min(surpriseMax, -Math.log10(rarity))
      // A forecast knows more of this hour than its mean does, and takes its place: so the sum means the same.
      const counted = k === ofHour && Number.isFinite(forecast) ? 0 : statistics[k]!.weight * surprise
      this.#surprises[k] = counted
      score += counted
    }
    this.#score = score
    this.#rarity = this.#scores.above(score)
    const alarms = score >= this.#threshold && this.isRare && this.#count >= this.#quietUntil
    const found = alarms ? this.#evidence(timeUs, value, hour) : undefined
    if (alarms) this.#quietUntil = this.#count + this.#refractory
    for (let k = 0; k < statistics.length; k++) this.#distributions[k]!.push(this.#sizes[k]!)
    this.#scores.push(score)
    this.#learn(timeUs, value, hour)
    return found
  }

  snapshot(): Uint8Array {
    const writer = beginState(stateName, stateVersion, 4 * this.#memory * (statistics.length + 1) + 1_024)
    this.write(writer)
    return writer.finish()
  }

  /** Throws store_format where the bytes are no such snapshot. */
  static restore(bytes: Uint8Array): SurpriseDetector {
    return SurpriseDetector.read(new Reader(bytes, stateName, stateVersion))
  }

  /** As part of another state. */
  write(writer: StateWriter): void {
    writer.f64s(Float64Array.of(this.#memory, this.#threshold, this.#rate, this.#refractory))
    const times = [this.#firstUs, this.#lastUs, this.#quietUntil]
    writer.f64s(Float64Array.of(this.#count, this.#mean, this.#spread, this.#last, ...times, this.#score, this.#rarity))
    for (const values of this.#arrays()) writer.f64s(values)
    for (const distribution of [...this.#distributions, this.#scores]) distribution.write(writer)
  }

  static read(reader: StateReader): SurpriseDetector {
    const broken = (): KymoError => new KymoError('store_format', { detail: 'A snapshot of a surprise detector does not hold what it should.' })
    const [memory = 0, threshold = 0, rate = 0, refractory = -1] = reader.f64s()
    if (!isAllowed(memory, threshold, rate, refractory)) throw broken()
    const detector = new SurpriseDetector({ memory, threshold, rate, refractory })
    const numbers = reader.f64s()
    if (numbers.length !== 9 || !numbers.every(Number.isFinite)) throw broken()
    const [count, mean, spread, last, firstUs, lastUs, quietUntil, score, rarity] = numbers
    detector.#count = count!
    detector.#mean = mean!
    detector.#spread = spread!
    detector.#last = last!
    detector.#firstUs = firstUs!
    detector.#lastUs = lastUs!
    detector.#quietUntil = quietUntil!
    detector.#score = score!
    detector.#rarity = rarity!
    for (const values of detector.#arrays()) {
      const kept = reader.f64s()
      if (kept.length !== values.length) throw broken()
      values.set(kept)
    }
    for (const distribution of [...detector.#distributions, detector.#scores]) distribution.read(reader)
    return detector
  }

  #arrays(): Float64Array[] {
    return [this.#values, this.#residuals, this.#hourMeans, this.#hourCounts]
  }

  #begin(timeUs: number, value: number): void {
    this.#mean = value
    this.#last = value
    this.#firstUs = timeUs
    this.#lastUs = timeUs
  }

  /** Puts the statistics of this reading into `#sizes`; NaN: not known yet. */
  #measure(value: number, hour: number, forecast: number): void {
    const sizes = this.#sizes
    const place = this.#count % window
    const residual = this.#hourCounts[hour]! > 0 ? value - this.#hourMeans[hour]! : Number.NaN
    this.#values[place] = value
    this.#residuals[place] = Number.isNaN(residual) ? 0 : residual
    const full = this.#count + 1 >= window
    const mean = meanOf(this.#values)
    sizes[ofSlow] = value - this.#mean
    sizes[ofMean] = full ? mean : Number.NaN
    sizes[ofDeviation] = full ? deviationOf(this.#values, mean) : Number.NaN
    sizes[ofJump] = Math.abs(value - this.#last)
    sizes[ofHour] = residual
    // In the first hour that is seen again a mean of a few readings stands for it.
    const known = this.#hourCounts[hour]! > this.#perHour() / 2 || this.#count > 300
    sizes[ofHours] = full && known ? meanOf(this.#residuals) : Number.NaN
    sizes[ofForecast] = value - forecast
  }

  #perHour(): number {
    const span = this.#lastUs - this.#firstUs
    return span > 0 ? Math.max(1, (3600e6 * this.#count) / span) : 1
  }

  #learn(timeUs: number, value: number, hour: number): void {
    this.#lastUs = Math.max(this.#lastUs, timeUs)
    const count = ++this.#count
    // A series that never moved has no measure of its own yet: it follows whatever comes.
    const most = this.#spread > 0 ? clipDeviations * this.#spread : Number.POSITIVE_INFINITY
    const step = Math.min(most, Math.max(-most, value - this.#mean))
    this.#spread += (Math.abs(step) - this.#spread) / Math.min(count, slow)
    this.#mean += step / Math.min(count, slow)
    const seen = ++this.#hourCounts[hour]!
    const away = Math.min(most, Math.max(-most, value - this.#hourMeans[hour]!))
    this.#hourMeans[hour]! += (seen === 1 ? value - this.#hourMeans[hour]! : away) / Math.min(seen, Math.max(1, this.#perHour() * days))
    this.#last = value
  }

  #evidence(timeUs: number, value: number, hour: number): Anomaly {
    const parts = statistics
      .map(({ name }, k) => ({ statistic: name, size: this.#sizes[k]!, surprise: this.#surprises[k]! }))
      .filter(({ size }) => Number.isFinite(size))
      .toSorted((a, b) => b.surprise - a.surprise)
    const forecast = value - this.#sizes[ofForecast]!
    const byHour = this.#hourCounts[hour]! > this.#perHour() / 2
    const [expected, from] = Number.isFinite(forecast) ? [forecast, ofForecast] : byHour ? [this.#hourMeans[hour]!, ofHour] : [this.#mean, ofSlow]
    const usual = this.#distributions[from]!
    return {
      kind: 'surprise',
      timeUs,
      value,
      expected: said(expected),
      lower: said(expected + usual.quantile(0.005)),
      upper: said(expected + usual.quantile(0.995)),
      statistic: parts[0]?.statistic ?? '',
      size: this.#score,
      threshold: this.#threshold,
      rarity: this.#rarity,
      parts,
    }
  }
}

function isAllowed(memory: number, threshold: number, rate: number, refractory: number): boolean {
  const whole = Number.isInteger(memory) && memory >= 64 && memory <= limits.anomalyMemoryMax
  return whole && threshold >= 0 && Number.isFinite(threshold) && rate > 0 && rate <= 1 && Number.isInteger(refractory) && refractory >= 0
}

function meanOf(values: Float64Array): number {
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += values[i]!
  return sum / values.length
}

function deviationOf(values: Float64Array, mean: number): number {
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += (values[i]! - mean) ** 2
  return Math.sqrt(sum / values.length)
}
