export interface PageHinkleyOptions {
  /** Share by which values may lie above their mean without counting as a change. */
  readonly allowance: number
  /** Alarm when what has been gathered above that is more; in units of the values' mean before the change. */
  readonly threshold: number
  /** The mean of the values is taken to be 1 at first, as if so many values had said it. */
  readonly weight: number
  /** Values count at most this much: a few outliers are no change. */
  readonly most: number
}

/**
 * Page-Hinkley's test for a rise of the mean (Page 1954, Hinkley 1971): sums up by how much values exceed their mean so far, less an allowance, and
 * alarms when the sum lies more than a threshold above its lowest point. Pure; the state is four numbers.
 */
export class PageHinkley {
  readonly #o: PageHinkleyOptions
  #n = 0
  #sum = 0
  #gathered = 0
  #lowest = 0

  constructor(o: PageHinkleyOptions, state?: readonly [n: number, sum: number, gathered: number, lowest: number]) {
    this.#o = o
    if (state !== undefined) [this.#n, this.#sum, this.#gathered, this.#lowest] = state
  }

  get threshold(): number {
    return this.#o.threshold
  }

  /** 0 or more; at `threshold` it alarms. */
  get statistic(): number {
    return this.#gathered - this.#lowest
  }

  get state(): [n: number, sum: number, gathered: number, lowest: number] {
    return [this.#n, this.#sum, this.#gathered, this.#lowest]
  }

  /** A value of 0 or more, about 1 as a rule. Whether it alarms now. */
  push(value: number): boolean {
    const { allowance, threshold, weight, most } = this.#o
    const mean = (weight + this.#sum) / (weight + this.#n)
    const counted = Math.min(value, most * mean)
    this.#gathered += counted / mean - 1 - allowance
    this.#lowest = Math.min(this.#lowest, this.#gathered)
    this.#n++
    this.#sum += counted
    return this.statistic >= threshold
  }
}
