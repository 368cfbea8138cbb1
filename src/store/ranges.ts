import type { Level } from './levels.ts'

/** Buckets to compute again from the rows: for each level, series and [lo, hi) on the level's grid. Ranges of a series may overlap. */
export class Ranges {
  readonly #byLevel: Record<Level, Map<number, [number, number][]>> = { minute: new Map(), hour: new Map() }

  get empty(): boolean {
    return this.#byLevel.minute.size === 0 && this.#byLevel.hour.size === 0
  }

  add(level: Level, series: number, lo: number, hi: number): void {
    const ranges = this.#byLevel[level]
    const list = ranges.get(series)
    if (list === undefined) {
      ranges.set(series, [[lo, hi]])
      return
    }
    const last = list.at(-1)!
    if (lo < last[0] || hi > last[1]) list.push([lo, hi])
  }

  get series(): readonly number[] {
    return [...new Set([...this.#byLevel.minute.keys(), ...this.#byLevel.hour.keys()])]
  }

  /** All of them lie within it. */
  get span(): { readonly fromUs: number; readonly toUs: number } {
    let fromUs = Number.POSITIVE_INFINITY
    let toUs = Number.NEGATIVE_INFINITY
    for (const ranges of Object.values(this.#byLevel)) {
      for (const [lo, hi] of [...ranges.values()].flat()) {
        fromUs = Math.min(fromUs, lo)
        toUs = Math.max(toUs, hi)
      }
    }
    return { fromUs, toUs }
  }

  clear(): void {
    this.#byLevel.minute.clear()
    this.#byLevel.hour.clear()
  }

  /** Disjoint ranges as three columns. */
  columns(level: Level): { series: number[]; lo: number[]; hi: number[] } {
    const series: number[] = []
    const lo: number[] = []
    const hi: number[] = []
    for (const [id, list] of this.#byLevel[level]) {
      list.sort((a, b) => a[0] - b[0])
      let open: [number, number] | undefined
      for (const range of list) {
        if (open !== undefined && range[0] <= open[1]) {
          open[1] = Math.max(open[1], range[1])
          hi[hi.length - 1] = open[1]
          continue
        }
        open = range
        series.push(id)
        lo.push(range[0])
        hi.push(range[1])
      }
    }
    return { series, lo, hi }
  }
}
