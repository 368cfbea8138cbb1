import type { Cell, Metrics } from '../../../core/metrics.ts'

/** The pull door's cells, looked up once. */
export interface PullCounters {
  readonly connected: Cell
  readonly reconnects: Cell
  readonly failures: Cell
  readonly received: readonly [Cell, Cell]
  readonly redelivered: Cell
  readonly retained: Cell
  readonly dropped: { readonly empty: Cell; readonly unasked: Cell }
}

export function createPullCounters(metrics: Metrics): PullCounters {
  const received = (qos: string): Cell => metrics.counter('kymo_mqtt_pull_messages_total', 'PUBLISH packets from the outside broker.', { qos })
  const dropped = (reason: string): Cell =>
    metrics.counter(
      'kymo_mqtt_pull_dropped_total',
      'Messages of the outside broker that carry nothing: no bytes, or a topic that was not asked for.',
      {
        reason,
      },
    )
  return {
    connected: metrics.gauge('kymo_mqtt_pull_connected', '1 while the outside broker sends what was subscribed to, else 0.'),
    reconnects: metrics.counter('kymo_mqtt_pull_reconnects_total', 'Connections to the outside broker that were made after one was lost.'),
    failures: metrics.counter('kymo_mqtt_pull_failures_total', 'Connections to the outside broker that ended or were not made.'),
    received: [received('0'), received('1')],
    redelivered: metrics.counter('kymo_mqtt_pull_redelivered_total', 'Messages that the outside broker marked as sent before (DUP).'),
    retained: metrics.counter('kymo_mqtt_pull_retained_total', 'Messages that the outside broker delivered as retained: state, not fresh samples.'),
    dropped: { empty: dropped('empty'), unasked: dropped('unasked') },
  }
}
