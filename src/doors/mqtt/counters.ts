import type { Cell, Metrics } from '../../core/metrics.ts'
import type { Transport } from './connection.ts'

const protocols = { 3: '3.1', 4: '3.1.1', 5: '5' } as const

const dropReasons = [
  'overload',
  'slow_subscriber',
  'queue_full',
  'denied',
  'reserved_topic',
  'refused',
  'oversized',
  'empty_retained',
  'shutdown',
  'expired',
  'too_large',
  'payload_format',
] as const
/**
 * Why a message was not passed on. `refused`: it went to the dead letters. `oversized`: it did not, its address sends too many such.
 * `empty_retained`: no bytes and RETAIN, which clears what is retained for the topic and is no telemetry (section 3.3.1.3). `too_large`: longer
 * than its subscriber takes. `payload_format`: said to be UTF-8 and was not.
 */
export type DropReason = (typeof dropReasons)[number]

const closeReasons = [
  'client',
  'closed',
  'keep_alive',
  'connect_timeout',
  'packet_timeout',
  'write_timeout',
  'protocol',
  'limit',
  'taken_over',
  'refused',
  'denied',
  'overload',
  'connections',
  'connect_rate',
  'silent',
  'revoked',
  'kicked',
  'shutdown',
  'error',
] as const
export type CloseReason = (typeof closeReasons)[number]

/** The door's cells, looked up once. */
export interface MqttCounters {
  readonly connections: Cell
  /** Messages by QoS: PUBLISHes from clients, and to them. */
  readonly received: readonly [Cell, Cell, Cell]
  readonly sent: readonly [Cell, Cell, Cell]
  readonly dropped: Readonly<Record<DropReason, Cell>>
  readonly closed: Readonly<Record<CloseReason, Cell>>
  readonly authFailures: Cell
  readonly authUnseen: Cell
  connected(level: 3 | 4 | 5, transport: Transport): Cell
  /** Times that a client was not read for a while because it sent faster than it may. */
  readonly slowed: Cell
  readonly tlsOnPlain: Cell
}

export function createCounters(metrics: Metrics): MqttCounters {
  const messages = (direction: 'in' | 'out', qos: string): Cell =>
    metrics.counter('kymo_mqtt_messages_total', 'PUBLISH packets received (in) and sent (out).', { direction, qos })
  const dropped = (reason: DropReason): Cell =>
    metrics.counter('kymo_mqtt_dropped_total', 'Messages that the MQTT door did not pass on; refused: they are in the dead letters.', { reason })
  const closed = (reason: CloseReason): Cell => metrics.counter('kymo_mqtt_disconnects_total', 'MQTT connections that ended.', { reason })
  return {
    connections: metrics.gauge('kymo_mqtt_connections', 'Open MQTT connections.'),
    received: [messages('in', '0'), messages('in', '1'), messages('in', '2')],
    sent: [messages('out', '0'), messages('out', '1'), messages('out', '2')],
    dropped: Object.fromEntries(dropReasons.map((reason) => [reason, dropped(reason)])) as Record<DropReason, Cell>,
    closed: Object.fromEntries(closeReasons.map((reason) => [reason, closed(reason)])) as Record<CloseReason, Cell>,
    slowed: metrics.counter('kymo_mqtt_slowed_total', 'Times that a client was read later because it sent faster than mqtt.client_*_per_s.'),
    tlsOnPlain: metrics.counter('kymo_tls_on_plain_total', 'Connections that spoke TLS on a port that has none.', { door: 'mqtt' }),
    authFailures: metrics.counter('kymo_auth_failures_total', 'Requests and connections refused for their credentials.', { transport: 'mqtt' }),
    authUnseen: metrics.counter('kymo_auth_unseen_total', 'Credentials that were refused without a look, or at once: too many had failed before.', {
      transport: 'mqtt',
    }),
    connected: (level, transport) =>
      metrics.counter('kymo_mqtt_connects_total', 'MQTT clients that were let in, by version of the protocol.', {
        protocol: protocols[level],
        transport,
      }),
  }
}
