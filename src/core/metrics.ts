/**
 * Counters on the hot path are plain numbers: a caller keeps the cell and writes `cell.value++`. The HTTP door renders all
 * of them for Prometheus on demand.
 */
export interface Cell {
  value: number
}

export interface HistogramCell {
  observe(value: number): void
  readonly buckets: readonly number[]
  /** Observations per bucket (not cumulative), the last one for what lies above all bounds. */
  readonly counts: Float64Array
  sum: number
}

export interface Family {
  readonly name: string
  readonly help: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly labels: readonly string[]
  readonly cells: Map<string, { readonly labels: readonly string[]; readonly cell: Cell | HistogramCell }>
  /** Called before rendering, to set gauges that are derived. */
  collect?: () => void
}

const secondsBuckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

export class Metrics {
  readonly families = new Map<string, Family>()

  counter(name: string, help: string, labels: Readonly<Record<string, string>> = {}): Cell {
    return this.#cell(name, help, 'counter', labels, () => ({ value: 0 })) as Cell
  }

  gauge(name: string, help: string, labels: Readonly<Record<string, string>> = {}, collect?: () => void): Cell {
    const cell = this.#cell(name, help, 'gauge', labels, () => ({ value: 0 })) as Cell
    const family = this.families.get(name)
    if (collect !== undefined && family !== undefined) {
      const before = family.collect
      family.collect = before === undefined ? collect : () => (before(), collect())
    }
    return cell
  }

  histogram(name: string, help: string, labels: Readonly<Record<string, string>> = {}, buckets: readonly number[] = secondsBuckets): HistogramCell {
    return this.#cell(name, help, 'histogram', labels, () => {
      const counts = new Float64Array(buckets.length + 1)
      const cell: HistogramCell = {
        buckets,
        counts,
        sum: 0,
        observe(value) {
          let i = 0
          while (i < buckets.length && value > buckets[i]!) i++
          counts[i]!++
          cell.sum += value
        },
      }
      return cell
    }) as HistogramCell
  }

  #cell(
    name: string,
    help: string,
    type: Family['type'],
    labels: Readonly<Record<string, string>>,
    make: () => Cell | HistogramCell,
  ): Cell | HistogramCell {
    let family = this.families.get(name)
    if (family === undefined) {
      family = { name, help, type, labels: Object.keys(labels), cells: new Map() }
      this.families.set(name, family)
    }
    const values = family.labels.map((label) => labels[label] ?? '')
    const id = values.join('\u0000')
    let entry = family.cells.get(id)
    if (entry === undefined) {
      entry = { labels: values, cell: make() }
      family.cells.set(id, entry)
    }
    return entry.cell
  }
}
