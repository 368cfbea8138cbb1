import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import { beginState, StateReader } from '../window/state-bytes.ts'

const stateName = 'KCNF'
const stateVersion = 1

export interface BandOptions {
  readonly horizon: number
  /** Issues that are remembered, the oldest forgotten first. The longest horizon has learned from `issues - horizon` when every step is an issue. */
  readonly issues: number
  /**
   * How far one miss moves the aim: gamma of adaptive conformal inference. Larger follows faster and makes wider, less steady intervals. The usual
   * one kept 89.5 to 90.3 % of a promised 90 % on eight series (ADR 23).
   */
  readonly rate?: number
}

/** Levels whose coverage is kept up one by one; those between are interpolated. */
const levels = [0.5, 0.8, 0.9, 0.95, 0.99] as const
const rateUsual = 0.002
/** Below so many residuals of a step ahead there is no interval for it. */
const residualsMin = 20

/**
 * Prediction intervals from the errors that a model has made (rolling conformal prediction), which keep what they promise when the errors change:
 * adaptive conformal inference (Gibbs and Candès 2021), for every step ahead, level and side apart. `issue` freezes what is promised for a forecast,
 * and `observe` tells what came as it matures; adaptation holds the promise that was made then against it, not the one that would be made now.
 * Residuals are actual minus mean. Pure; the state is a snapshot of bytes (docs/format/model.md).
 */
export class ResidualBands {
  readonly horizon: number
  readonly #issues: number
  readonly #rate: number
  /** A ring of issues in the order of their times, and one row of residuals each; NaN: not matured, or not measured. */
  readonly #times: Float64Array
  readonly #rows: Float32Array
  #first = 0
  #count = 0
  /** By step ahead: residuals ascending. */
  readonly #sorted: Float32Array
  readonly #sizes: Uint32Array
  /** By step ahead, level and side (below, above): the share that is aimed at to lie outside. */
  readonly #aims: Float64Array
  /** By time of issue, in its order: by step ahead, level and side the ends promised, as residuals; NaN: none, or matured. */
  readonly #pending = new Map<number, Float32Array>()

  constructor({ horizon, issues, rate = rateUsual }: BandOptions) {
    if (!(horizon >= 1 && horizon <= limits.forecastHorizonMax && issues >= 1 && issues <= limits.residualIssuesMax && rate > 0 && rate < 1)) {
      throw new KymoError('bug', { detail: `bands of ${horizon} steps, ${issues} issues and a rate of ${rate}` })
    }
    this.horizon = horizon
    this.#issues = issues
    this.#rate = rate
    this.#times = new Float64Array(issues)
    this.#rows = new Float32Array(issues * horizon).fill(Number.NaN)
    this.#sorted = new Float32Array(issues * horizon)
    this.#sizes = new Uint32Array(horizon)
    this.#aims = new Float64Array(horizon * levels.length * 2)
    for (let i = 0; i < this.#aims.length; i++) this.#aims[i] = (1 - levels[(i >> 1) % levels.length]!) / 2
  }

  /** Issues that are remembered. */
  get issues(): number {
    return this.#count
  }

  /** Residuals of a step ahead (1 is the first) that are remembered. */
  residuals(ahead: number): number {
    return this.#sizes[ahead - 1] ?? 0
  }

  /**
   * A forecast is issued with the intervals of this moment. The oldest that have not matured are given up when there are as many as the longest
   * horizon has steps (two, where it has one). Without this call its residuals are learned from, and adapt nothing.
   */
  issue(issueUs: number): void {
    const ends = new Float32Array(this.horizon * levels.length * 2)
    for (let h = 0; h < this.horizon; h++) {
      const enough = this.#sizes[h]! >= residualsMin
      for (let at = h * levels.length * 2, end = at + levels.length * 2; at < end; at += 2) {
        ends[at] = enough ? this.#quantile(h, this.#aims[at]!) : Number.NaN
        ends[at + 1] = enough ? this.#quantile(h, 1 - this.#aims[at + 1]!) : Number.NaN
      }
    }
    this.#pending.set(issueUs, ends)
    if (this.#pending.size <= Math.max(2, this.horizon)) return
    for (const first of this.#pending.keys()) {
      this.#pending.delete(first)
      return
    }
  }

  /**
   * The residual of one step ahead (1 is the first) of the forecast issued at a time. Issues come in the order of their times, their residuals in the
   * order in which they mature. False: the issue is older than what is remembered, the residual no number, or known already; nothing has changed.
   */
  observe(issueUs: number, ahead: number, residual: number): boolean {
    if (!Number.isFinite(residual) || !(ahead >= 1 && ahead <= this.horizon)) return false
    const row = this.#rowOf(issueUs)
    if (row === undefined) return false
    const at = row * this.horizon + ahead - 1
    if (this.#rows[at]! === this.#rows[at]!) return false
    const kept = Math.fround(residual)
    this.#adapt(issueUs, ahead - 1, kept)
    this.#rows[at] = kept
    this.#insert(ahead - 1, kept)
    return true
  }

  /**
   * Lower and upper ends around means, for a level in (0, 1) such as 0.9: of ascending levels each interval holds the one before. How many steps
   * ahead have one: the rest, for which too few residuals have matured, is NaN and must not be served.
   */
  interval(means: Float64Array, level: number, lower: Float64Array, upper: Float64Array): number {
    let served = 0
    for (let h = 0; h < means.length; h++) {
      const enough = this.#sizes[h]! >= residualsMin
      lower[h] = enough ? means[h]! + this.#quantile(h, this.#aimAt(h, 0, level)) : Number.NaN
      upper[h] = enough ? means[h]! + this.#quantile(h, 1 - this.#aimAt(h, 1, level)) : Number.NaN
      if (enough) served++
    }
    return served
  }

  /** Residuals of the first `steps` steps of every issue of which all have matured, oldest first. */
  paths(steps: number): Float32Array[] {
    return this.issued()
      .map(({ residuals }) => residuals.subarray(0, steps))
      .filter((path) => path.every((v) => v === v))
  }

  /** Issues that are remembered, oldest first, each with its residuals by step ahead; NaN: not matured, or not measured. */
  issued(): { readonly issueUs: number; readonly residuals: Float32Array }[] {
    return Array.from({ length: this.#count }, (_, k) => {
      const row = (this.#first + k) % this.#issues
      return { issueUs: this.#times[row]!, residuals: this.#rows.subarray(row * this.horizon, (row + 1) * this.horizon) }
    })
  }

  snapshot(): Uint8Array {
    const writer = beginState(stateName, stateVersion, 4 * this.#count * this.horizon + 8 * this.#aims.length + 8 * this.#count + 64)
    writer.u32(this.horizon)
    writer.u32(this.#issues)
    writer.f64(this.#rate)
    writer.f64s(Float64Array.from({ length: this.#count }, (_, k) => this.#times[(this.#first + k) % this.#issues]!))
    const rows = new Float32Array(this.#count * this.horizon)
    for (let k = 0; k < this.#count; k++) {
      const at = ((this.#first + k) % this.#issues) * this.horizon
      rows.set(this.#rows.subarray(at, at + this.horizon), k * this.horizon)
    }
    writer.f32s(rows)
    writer.f64s(this.#aims)
    writer.f64s(Float64Array.from(this.#pending.keys()))
    for (const ends of this.#pending.values()) writer.f32s(ends)
    return writer.finish()
  }

  /** Throws store_format where the bytes are no such snapshot. */
  static restore(bytes: Uint8Array): ResidualBands {
    const reader = new StateReader(bytes, stateName, stateVersion)
    const [horizon, issues, rate] = [reader.u32(), reader.u32(), reader.f64()]
    const [times, rows, aims] = [reader.f64s(), reader.f32s(), reader.f64s()]
    const fits = times.length <= issues && rows.length === times.length * horizon && aims.length === horizon * levels.length * 2
    const sizes = horizon >= 1 && horizon <= limits.forecastHorizonMax && issues >= 1 && issues <= limits.residualIssuesMax && rate > 0 && rate < 1
    if (!fits || !sizes || !aims.every(Number.isFinite))
      throw new KymoError('store_format', { detail: 'A snapshot of intervals does not hold what it should.' })
    const bands = new ResidualBands({ horizon, issues, rate })
    bands.#times.set(times)
    bands.#rows.set(rows)
    bands.#count = times.length
    bands.#aims.set(aims)
    for (const issueUs of reader.f64s()) {
      const ends = reader.f32s()
      if (ends.length !== aims.length) throw new KymoError('store_format', { detail: 'A snapshot of intervals does not hold what it should.' })
      bands.#pending.set(issueUs, ends)
    }
    for (let h = 0; h < horizon; h++) {
      const column = Float32Array.from({ length: times.length }, (_, k) => rows[k * horizon + h]!).filter((v) => v === v)
      bands.#sorted.set(column.sort(), h * issues)
      bands.#sizes[h] = column.length
    }
    return bands
  }

  #rowOf(issueUs: number): number | undefined {
    for (let k = this.#count - 1; k >= 0; k--) {
      const row = (this.#first + k) % this.#issues
      if (this.#times[row] === issueUs) return row
      if (this.#times[row]! < issueUs) {
        // Rows are in the order of time: it would stand behind this one, so it is new or it was left out.
        if (k < this.#count - 1) return undefined
        break
      }
    }
    if (this.#count > 0 && this.#times[(this.#first + this.#count - 1) % this.#issues]! > issueUs) return undefined
    if (this.#count === this.#issues) this.#forgetFirst()
    const row = (this.#first + this.#count++) % this.#issues
    this.#times[row] = issueUs
    return row
  }

  #forgetFirst(): void {
    const at = this.#first * this.horizon
    for (let h = 0; h < this.horizon; h++) {
      const residual = this.#rows[at + h]!
      if (residual !== residual) continue
      const from = h * this.#issues
      const place = this.#placeOf(h, residual)
      this.#sorted.copyWithin(from + place, from + place + 1, from + this.#sizes[h]!--)
      this.#rows[at + h] = Number.NaN
    }
    this.#first = (this.#first + 1) % this.#issues
    this.#count--
  }

  #insert(h: number, residual: number): void {
    const from = h * this.#issues
    const place = this.#placeOf(h, residual)
    const size = this.#sizes[h]!++
    this.#sorted.copyWithin(from + place + 1, from + place, from + size)
    this.#sorted[from + place] = residual
  }

  /** How many are smaller. */
  #placeOf(h: number, residual: number): number {
    const from = h * this.#issues
    let [low, high] = [0, this.#sizes[h]!]
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#sorted[from + middle]! < residual) low = middle + 1
      else high = middle
    }
    return low
  }

  /**
   * Of n residuals the one with the rank p (n + 1), as conformal prediction counts, between two of them in proportion; beyond the extremes it goes on
   * with their spread.
   */
  #quantile(h: number, p: number): number {
    const n = this.#sizes[h]!
    const from = h * this.#issues
    const [least, most] = [this.#sorted[from]!, this.#sorted[from + n - 1]!]
    const rank = p * (n + 1) - 1
    if (rank <= 0) return least + (rank / n) * (most - least)
    if (rank >= n - 1) return most + ((rank - n + 1) / n) * (most - least)
    const below = Math.floor(rank)
    const value = this.#sorted[from + below]!
    return value + (rank - below) * (this.#sorted[from + below + 1]! - value)
  }

  #adapt(issueUs: number, h: number, residual: number): void {
    const ends = this.#pending.get(issueUs)
    if (ends === undefined) return
    const from = h * levels.length * 2
    for (let k = 0; k < levels.length; k++) {
      const aim = (1 - levels[k]!) / 2
      const at = from + 2 * k
      const [lower, upper] = [ends[at]!, ends[at + 1]!]
      if (lower !== lower) break
      this.#aims[at]! += this.#rate * (aim - (residual < lower ? 1 : 0))
      this.#aims[at + 1]! += this.#rate * (aim - (residual > upper ? 1 : 0))
    }
    ends.fill(Number.NaN, from, from + 2 * levels.length)
    if (h === this.horizon - 1) this.#pending.delete(issueUs)
  }

  /** The aim of a level between those that are kept up: straight lines, never rising, from one half at level 0 to less than any at level 1. */
  #aimAt(h: number, side: 0 | 1, level: number): number {
    let [before, aimBefore] = [0, 0.5]
    for (let k = 0; k <= levels.length; k++) {
      const next = levels[k] ?? 1
      const own = k < levels.length ? this.#aims[(h * levels.length + k) * 2 + side]! : aimBefore - (1 - levels.at(-1)!) / 2
      const aim = Math.min(aimBefore, own)
      if (level <= next) return aimBefore + ((aim - aimBefore) * (level - before)) / (next - before)
      before = next
      aimBefore = aim
    }
    return aimBefore
  }
}
