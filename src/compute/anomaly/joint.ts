import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import { beginState, StateReader } from '../window/state-bytes.ts'
import type { Anomaly } from './anomaly.ts'
import { RollingDistribution } from './rolling-distribution.ts'
import { SurpriseDetector } from './surprise.ts'

const stateName = 'KJNT'
const stateVersion = 1

export interface JointOptions {
  /** Names of the metrics, in the order in which values are given: two or more. */
  readonly metrics: readonly string[]
  readonly memory?: number
  /** An alarm is rarer than that. */
  readonly rate?: number
  /** Rows after an alarm in which there is no other. */
  readonly refractory?: number
}

const usual = { memory: 2_048, rate: 0.001, refractory: 200 } as const
/** Rows before the first alarm: of fewer nothing is known of what is rare. */
const learning = 256
const slow = 1_000
/** A row this much further away than such rows usually are moves means and covariances less, in proportion (Huber's weight). */
const farFactor = 3
const surpriseMax = 6
/** A distance is remembered as at most so many times what one in a hundred had. */
const tailFactor = 4

/**
 * Several metrics of one device as rows, in two ways: the surprise of each metric's own score (SurpriseDetector), -log10 p added up as Fisher does, and
 * the row's Mahalanobis distance by a robust running covariance, which sees what no metric shows alone: two that always went together and do no longer.
 * Each is held against its own past; the rarer one counts, its probability doubled since there were two (Bonferroni). A row in which a metric is
 * missing (NaN) has no distance.
 */
export class JointDetector {
  readonly metrics: readonly string[]
  readonly #options: Required<Omit<JointOptions, 'metrics'>>
  readonly #detectors: SurpriseDetector[]
  readonly #distances: RollingDistribution
  readonly #sums: RollingDistribution
  readonly #means: Float64Array
  /** Row by row; both triangles. */
  readonly #covariance: Float64Array
  readonly #root: Float64Array
  readonly #solved: Float64Array
  #count = 0
  #rows = 0
  #quietUntil = learning
  #rarity = 1

  /** Throws bug where an option is out of its bounds. */
  constructor({ metrics, ...options }: JointOptions) {
    const { memory, rate, refractory } = { ...usual, ...options }
    const n = metrics.length
    const allowed = n >= 2 && n <= limits.anomalyMetricsMax && rate > 0 && rate <= 1 && refractory >= 0
    if (!allowed) throw new KymoError('bug', { detail: `a joint detector of ${n} metrics and a rate of ${rate}` })
    this.metrics = metrics
    this.#options = { memory, rate, refractory }
    this.#detectors = metrics.map(() => new SurpriseDetector({ memory }))
    this.#distances = new RollingDistribution(memory)
    this.#sums = new RollingDistribution(memory)
    this.#means = new Float64Array(n)
    this.#covariance = new Float64Array(n * n)
    this.#root = new Float64Array(n * n)
    this.#solved = new Float64Array(n)
  }

  /** Of the last row: the probability of one so unusual, in (0, 1]. */
  get rarity(): number {
    return this.#rarity
  }

  /** The next row, one value for each metric; NaN: missing. The value in the evidence is that of the metric with the most surprise. */
  observe(timeUs: number, values: Float64Array): Anomaly | undefined {
    if (values.length !== this.metrics.length) throw new KymoError('bug', { detail: `${values.length} values of ${this.metrics.length} metrics` })
    if (!Number.isFinite(timeUs) || !values.some(Number.isFinite)) return undefined
    const surprises = this.#detectors.map((detector, k) => {
      if (!Number.isFinite(values[k]!)) return 0
      detector.observe(timeUs, values[k]!)
      return Math.min(surpriseMax, -Math.log10(detector.rarity))
    })
    const distance = values.every(Number.isFinite) ? this.#learn(values) : Number.NaN
    const farther = this.#distances.above(distance)
    // One absurd row must not stretch the tail so far that nothing after it is rare.
    const most = tailFactor * this.#distances.quantile(0.99)
    this.#distances.push(distance > most ? most : distance)
    const sum = surprises.reduce((all, one) => all + one, 0)
    this.#rarity = Math.min(1, 2 * Math.min(this.#sums.above(sum), farther))
    this.#sums.push(sum)
    const { rate, refractory } = this.#options
    this.#rows++
    if (this.#rarity >= rate || this.#rows < this.#quietUntil) return undefined
    this.#quietUntil = this.#rows + refractory
    const parts = [
      ...this.metrics.map((statistic, k) => ({ statistic, size: values[k]!, surprise: surprises[k]! })),
      { statistic: 'distance of the metrics together', size: distance, surprise: -Math.log10(farther) },
    ]
      .filter(({ size }) => Number.isFinite(size))
      .toSorted((a, b) => b.surprise - a.surprise)
    const loudest = surprises.reduce(
      (best, one, k) => (Number.isFinite(values[k]!) && one > (surprises[best] ?? -1) ? k : best),
      values.findIndex(Number.isFinite),
    )
    const unknown = { lower: undefined, upper: undefined }
    const expected = this.#count > 0 ? this.#means[loudest] : undefined
    const size = { size: -Math.log10(this.#rarity), threshold: -Math.log10(rate) }
    const evidence = { statistic: parts[0]?.statistic ?? '', ...size, rarity: this.#rarity, parts }
    return { kind: 'joint', timeUs, value: values[loudest]!, expected, ...unknown, ...evidence }
  }

  snapshot(): Uint8Array {
    const writer = beginState(stateName, stateVersion, 32 * this.metrics.length * this.#options.memory)
    writer.u32(this.metrics.length)
    for (const name of this.metrics) writer.text(name)
    const { memory, rate, refractory } = this.#options
    writer.f64s(Float64Array.of(memory, rate, refractory, this.#count, this.#rows, this.#quietUntil, this.#rarity))
    writer.f64s(this.#means)
    writer.f64s(this.#covariance)
    this.#distances.write(writer)
    this.#sums.write(writer)
    for (const detector of this.#detectors) detector.write(writer)
    return writer.finish()
  }

  /** Throws store_format where the bytes are no such snapshot. */
  static restore(bytes: Uint8Array): JointDetector {
    const broken = (): KymoError => new KymoError('store_format', { detail: 'A snapshot of a joint detector does not hold what it should.' })
    const reader = new StateReader(bytes, stateName, stateVersion)
    const n = reader.u32()
    if (n < 2 || n > limits.anomalyMetricsMax) throw broken()
    const metrics = Array.from({ length: n }, () => reader.text())
    const numbers = reader.f64s()
    const [memory, rate, refractory, count, rows, quietUntil, rarity] = numbers
    const fits = numbers.length === 7 && numbers.every(Number.isFinite) && memory! >= 64 && memory! <= limits.anomalyMemoryMax
    if (!fits || !(rate! > 0 && rate! <= 1 && refractory! >= 0)) throw broken()
    const joint = new JointDetector({ metrics, memory: memory!, rate: rate!, refractory: refractory! })
    joint.#count = count!
    joint.#rows = rows!
    joint.#quietUntil = quietUntil!
    joint.#rarity = rarity!
    const [means, covariance] = [reader.f64s(), reader.f64s()]
    if (means.length !== n || covariance.length !== n * n) throw broken()
    joint.#means.set(means)
    joint.#covariance.set(covariance)
    joint.#distances.read(reader)
    joint.#sums.read(reader)
    for (let k = 0; k < n; k++) joint.#detectors[k] = SurpriseDetector.read(reader)
    return joint
  }

  /** The distance of a row from those before it, NaN while they are too few; then it is one of them. */
  #learn(given: Float64Array): number {
    const n = given.length
    const away = given.map((v, k) => Math.min(1e100, Math.max(-1e100, v)) - this.#means[k]!)
    const distance = this.#count > 4 * n ? this.#distanceOf(away) : Number.NaN
    const far = farFactor * Math.sqrt(n)
    const weight = distance > far ? far / distance : 1
    const share = 1 / Math.min(++this.#count, slow)
    // The first row is where it begins: there is nothing to weigh it by.
    const mean = this.#count === 1 ? 1 : share * weight
    for (let a = 0; a < n; a++) {
      for (let b = 0; b < n; b++) {
        const product = this.#count === 1 ? 0 : weight * weight * away[a]! * away[b]!
        this.#covariance[a * n + b]! += share * (product - this.#covariance[a * n + b]!)
      }
    }
    for (let a = 0; a < n; a++) this.#means[a]! += mean * away[a]!
    return distance
  }

  /** Mahalanobis by Cholesky; a metric that never moved, or that others determine, is given a hair of variance of its own. */
  #distanceOf(away: Float64Array): number {
    const [n, root, solved] = [away.length, this.#root, this.#solved]
    let squares = 0
    for (let a = 0; a < n; a++) {
      const own = this.#covariance[a * n + a]!
      const least = 1e-6 * own + 1e-12 * this.#means[a]! ** 2 + Number.MIN_VALUE
      for (let b = 0; b <= a; b++) {
        let sum = this.#covariance[a * n + b]!
        for (let c = 0; c < b; c++) sum -= root[a * n + c]! * root[b * n + c]!
        root[a * n + b] = a === b ? Math.sqrt(Math.max(sum, least)) : sum / root[b * n + b]!
      }
      let rest = away[a]!
      for (let c = 0; c < a; c++) rest -= root[a * n + c]! * solved[c]!
      solved[a] = rest / root[a * n + a]!
      squares += solved[a]! ** 2
    }
    return Math.sqrt(squares)
  }
}
