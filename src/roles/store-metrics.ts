import type { Cell, HistogramCell, Metrics } from '../core/metrics.ts'
import type { StoreStats } from '../store/duckdb/options.ts'
import type { Committed } from './served-store.ts'

/** The store's families of INTERFACES.md B3. */
export class StoreMetrics {
  readonly writeErrors: Cell
  readonly #metrics: Metrics
  readonly #write: HistogramCell
  readonly #endToEnd: HistogramCell

  constructor(metrics: Metrics, sizes: () => StoreStats) {
    this.#metrics = metrics
    this.writeErrors = metrics.counter('kymo_store_write_errors_total', 'Commits to the store that failed and were tried again')
    this.#write = metrics.histogram('kymo_store_write_duration_seconds', 'How long a commit to the store took')
    this.#endToEnd = metrics.histogram(
      'kymo_end_to_end_latency_seconds',
      'From the arrival of the oldest reading of a commit until it could be queried',
    )
    const bytes = metrics.gauge('kymo_store_bytes', 'Bytes of the store on disk', { tier: 'hot' }, () => void (bytes.value = sizes().bytes))
    for (const reason of ['age', 'size', 'rules'] as const) {
      const help = 'Bytes of sealed files that retention has removed since the start, by reason.'
      const expired = metrics.gauge('kymo_store_expired_bytes', help, { reason }, () => void (expired.value = sizes().expiredBytes[reason]))
    }
    for (const kind of ['raw', 'buckets', 'latest', 'series', 'sql']) this.query(kind)
  }

  query(kind: string): HistogramCell {
    return this.#metrics.histogram('kymo_store_query_duration_seconds', 'How long the store took to answer, by kind of question.', { kind })
  }

  committed(commit: Committed, nowUs: number): void {
    this.#write.observe(commit.durationMs / 1000)
    if (commit.receivedUsOldest !== undefined) this.#endToEnd.observe(Math.max(0, nowUs - commit.receivedUsOldest) / 1e6)
  }
}
