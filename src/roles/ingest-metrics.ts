import type { MessageContext } from '../core/gate.ts'
import type { Cell, HistogramCell, Metrics } from '../core/metrics.ts'

type Transport = MessageContext['transport']

/** The ingest role's figures (INTERFACES.md B3), as plain numbers for the hot path. */
export class IngestMetrics {
  readonly readings: Cell
  readonly duration: HistogramCell
  readonly depth: Cell
  readonly retries: Cell
  readonly #metrics: Metrics
  readonly #accepted: Record<Transport, Cell>
  readonly #duplicate: Record<Transport, Cell>
  readonly #bytes: Record<Transport, Cell>
  readonly #rejected = new Map<string, Cell>()
  rejectedTotal = 0

  constructor(metrics: Metrics) {
    this.#metrics = metrics
    const messages = (transport: Transport, result: string): Cell =>
      metrics.counter('kymo_ingest_messages_total', 'Messages by transport and result.', { transport, result })
    const each = (of: (transport: Transport) => Cell): Record<Transport, Cell> => ({
      mqtt: of('mqtt'),
      http: of('http'),
      'mqtt-pull': of('mqtt-pull'),
      'kafka-pull': of('kafka-pull'),
    })
    this.#accepted = each((transport) => messages(transport, 'accepted'))
    this.#duplicate = each((transport) => messages(transport, 'duplicate'))
    this.#bytes = each((transport) => metrics.counter('kymo_ingest_bytes_total', 'Payload bytes of telemetry messages.', { transport }))
    this.readings = metrics.counter('kymo_ingest_readings_total', 'Readings accepted.')
    this.duration = metrics.histogram('kymo_ingest_duration_seconds', 'From the first message of a write to its durability.')
    this.depth = metrics.gauge('kymo_queue_depth', 'What waits, by queue.', { queue: 'ingest_rows' })
    this.retries = metrics.counter('kymo_retries_total', 'Tries repeated after a failure.', { stage: 'ingest' })
  }

  get messagesTotal(): number {
    return Object.values(this.#accepted).reduce((sum, { value }) => sum + value, 0)
  }

  accepted(transport: Transport, bytes: number): void {
    this.#accepted[transport].value++
    this.#bytes[transport].value += bytes
  }

  duplicate(transport: Transport): void {
    this.#duplicate[transport].value++
  }

  rejected(transport: Transport, reason: string): void {
    const id = `${transport} ${reason}`
    let cell = this.#rejected.get(id)
    if (cell === undefined)
      this.#rejected.set(id, (cell = this.#metrics.counter('kymo_ingest_rejected_total', 'Messages refused, by reason.', { reason })))
    cell.value++
    this.rejectedTotal++
    this.#metrics.counter('kymo_ingest_messages_total', 'Messages by transport and result.', { transport, result: 'rejected' }).value++
    this.#metrics.counter('kymo_dlq_messages_total', 'Dead letters, by reason.', { reason }).value++
  }
}
