import { KymoError } from '../../core/errors.ts'
import type { StateReader, StateWriter } from '../window/state-bytes.ts'

/** A block is so many steps at least: a day of hours. */
const blockStepsMin = 24
/** Blocks that are remembered: two weeks of days; */
const blocksKept = 14
/** the latest of them say whether skill is lost, and fewer say nothing. */
const blocksJudged = 5
const blocksLeast = 3

/** Sums of absolute errors over targets that both have answered, and how many. */
export interface PairedErrors {
  own: number
  naive: number
  pairs: number
}

/**
 * Absolute errors of a model and of seasonal naive over the same targets, in blocks of a horizon: forecasts whose targets overlap err together, so a
 * block counts as one observation. Pure.
 */
export class RecentSkill {
  readonly #blockSteps: number
  #blocks: PairedErrors[] = []
  #open: PairedErrors = { own: 0, naive: 0, pairs: 0 }
  #steps = 0
  #lost = false

  constructor(horizon: number) {
    this.#blockSteps = Math.max(blockStepsMin, horizon)
  }

  /** The model is worse than seasonal naive by more than chance; it stays so until the latest blocks are better. */
  get lost(): boolean {
    return this.#lost
  }

  /** Sums of absolute errors over what is remembered. */
  get own(): number {
    return this.#blocks.reduce((sum, { own }) => sum + own, this.#open.own)
  }

  get naive(): number {
    return this.#blocks.reduce((sum, { naive }) => sum + naive, this.#open.naive)
  }

  /** What has matured with one step. */
  add({ own, naive, pairs }: PairedErrors): void {
    this.#open.own += own
    this.#open.naive += naive
    this.#open.pairs += pairs
    if (++this.#steps < this.#blockSteps) return
    this.#steps = 0
    if (this.#open.pairs > 0) {
      this.#blocks.push(this.#open)
      if (this.#blocks.length > blocksKept) this.#blocks.shift()
      this.#judge()
    }
    this.#open = { own: 0, naive: 0, pairs: 0 }
  }

  #judge(): void {
    const gains = this.#blocks.slice(-blocksJudged).map(({ own, naive, pairs }) => (naive - own) / pairs)
    if (gains.length < blocksLeast) return
    const meanOf = (of: readonly number[]): number => of.reduce((a, b) => a + b) / of.length
    const mean = meanOf(gains)
    if (this.#lost) {
      this.#lost = !(meanOf(gains.slice(-blocksLeast)) > 0)
      return
    }
    const variance = gains.reduce((sum, gain) => sum + (gain - mean) ** 2, 0) / (gains.length - 1)
    // As `select` holds it: Student's t at one standard deviation.
    this.#lost = mean < -(1 + 0.84 / (gains.length - 1)) * Math.sqrt(variance / gains.length)
  }

  write(writer: StateWriter): void {
    writer.f64s(Float64Array.from([...this.#blocks, this.#open].flatMap(({ own, naive, pairs }) => [own, naive, pairs])))
    writer.u32(this.#steps)
    writer.u8(this.#lost ? 1 : 0)
  }

  static read(reader: StateReader, horizon: number): RecentSkill {
    const recent = new RecentSkill(horizon)
    const numbers = reader.f64s()
    const blocks = Array.from({ length: numbers.length / 3 }, (_, i) => ({
      own: numbers[3 * i]!,
      naive: numbers[3 * i + 1]!,
      pairs: numbers[3 * i + 2]!,
    }))
    const open = blocks.pop()
    if (open === undefined || blocks.length > blocksKept || numbers.length % 3 !== 0)
      throw new KymoError('store_format', { detail: 'What is known of the skill of forecasts does not hold what it should.' })
    recent.#blocks = blocks
    recent.#open = open
    recent.#steps = reader.u32()
    recent.#lost = reader.u8() === 1
    return recent
  }
}
