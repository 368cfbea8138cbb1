import type { Metrics } from '../core/metrics.ts'
import type { DropReason, SessionStore } from '../core/session-store.ts'

const reasons: readonly DropReason[] = ['queue_messages', 'queue_bytes', 'total_bytes', 'expired', 'ended', 'retained_messages', 'retained_bytes']
const sessionsHelp = 'MQTT sessions that outlive their connection, with and without one.'
const droppedHelp = 'Messages that were not kept for an MQTT session, or not retained, by reason; those of a full session count once for each.'

/** What the MQTT door keeps beyond connections, in figures. */
export function sessionMetrics(metrics: Metrics, store: Pick<SessionStore, 'figures'>): void {
  const figures = (): ReturnType<SessionStore['figures']> => store.figures()
  const connected = metrics.gauge('kymo_mqtt_sessions', sessionsHelp, { state: 'connected' })
  const away = metrics.gauge('kymo_mqtt_sessions', sessionsHelp, { state: 'away' })
  const deliveries = metrics.gauge('kymo_mqtt_session_deliveries', 'Messages that wait for MQTT sessions or are under way to them.')
  const bytes = metrics.gauge('kymo_mqtt_session_bytes', 'Bytes of messages kept for MQTT sessions in memory, each counted once.')
  const retained = metrics.gauge('kymo_mqtt_retained_messages', 'Retained MQTT messages.')
  const retainedBytes = metrics.gauge('kymo_mqtt_retained_bytes', 'Bytes of retained MQTT messages in memory.')
  const wills = metrics.gauge('kymo_mqtt_wills_due', 'Wills whose time has come and that are not published yet.', {}, () => {
    const now = figures()
    connected.value = now.attached
    away.value = now.sessions - now.attached
    deliveries.value = now.deliveries
    bytes.value = now.messageBytes
    retained.value = now.retained
    retainedBytes.value = now.retainedBytes
    wills.value = now.wills
    for (const { cell, reason } of dropped) cell.value = now.dropped[reason]
  })
  const dropped = reasons.map((reason) => ({ reason, cell: metrics.counter('kymo_mqtt_session_dropped_total', droppedHelp, { reason }) }))
}
