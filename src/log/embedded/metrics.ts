import type { Code } from '../../core/errors.ts'
import type { Cell, HistogramCell, Metrics } from '../../core/metrics.ts'

/** The log's own figures. */
export class LogMetrics {
  readonly #metrics: Metrics | undefined
  readonly #bytes: Cell | undefined
  readonly #write: HistogramCell | undefined
  readonly #sync: HistogramCell | undefined

  constructor(metrics: Metrics | undefined) {
    this.#metrics = metrics
    this.#bytes = metrics?.counter('kymo_log_written_bytes_total', 'Bytes that the log has made durable.')
    this.#write = metrics?.histogram('kymo_log_write_duration_seconds', 'Writing one group commit to the file system.')
    this.#sync = metrics?.histogram('kymo_log_fsync_duration_seconds', 'Making one group commit durable.')
  }

  written(bytes: number, writeMs: number, syncMs: number): void {
    if (this.#bytes !== undefined) this.#bytes.value += bytes
    this.#write?.observe(writeMs / 1000)
    this.#sync?.observe(syncMs / 1000)
  }

  refused(code: Code): void {
    const cell = this.#metrics?.counter('kymo_log_refused_total', 'Writes that the log refused, by reason.', { reason: code })
    if (cell !== undefined) cell.value++
  }

  /** Size of a topic, read when the figures are asked for. */
  topics(sizes: () => Iterable<readonly [string, number]>): void {
    const metrics = this.#metrics
    metrics?.gauge('kymo_log_bytes', 'Bytes that the log keeps, by topic.', { topic: 'telemetry' }, () => {
      for (const [topic, bytes] of sizes()) metrics.gauge('kymo_log_bytes', 'Bytes that the log keeps, by topic.', { topic }).value = bytes
    })
  }
}
