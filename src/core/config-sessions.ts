import { limits } from './limits.ts'
import { neverExpires, type QueuePolicy, type SessionLimits } from './session-store.ts'
import { choice, whole, type ValuesOf } from './setting.ts'

/** `mqtt.sessions`: sessions that outlive their connection. */
export const sessionSettings = {
  expiry_s: whole({
    description: 'How long a session of MQTT 3.1.1 with CleanSession 0 is kept without a connection. 4294967295: for ever.',
    default: limits.mqttSessionExpiryS,
    minimum: 1,
    maximum: neverExpires,
    unit: 's',
  }),
  expiry_max_s: whole({
    description:
      'The longest Session Expiry Interval; a client of MQTT 5 that asks for a longer one is told this. 0: sessions end with their connection.',
    default: limits.mqttSessionExpirySMax,
    minimum: 0,
    maximum: neverExpires,
    unit: 's',
  }),
  per_tenant_max: whole({
    description: 'Sessions that outlive their connection, of one tenant; one more is refused.',
    default: limits.mqttSessionsPerTenantMax,
    minimum: 1,
  }),
  queue_messages_max: whole({
    description: 'Messages of QoS 1 and 2 that wait for one such session or are under way to it.',
    default: limits.mqttSessionQueueMax,
    minimum: 1,
  }),
  queue_bytes_max: whole({ description: 'The same in bytes.', default: limits.mqttSessionQueueBytesMax, minimum: 1024, unit: 'bytes' }),
  bytes_max: whole({
    description: 'Messages of all sessions in memory, each counted once, and 100 bytes for each place in a queue.',
    default: limits.mqttSessionTotalBytesMax,
    minimum: 2 ** 20,
    unit: 'bytes',
  }),
  when_full: choice(['drop_newest', 'drop_oldest'], {
    description: 'What a full queue does with one more message: it is not kept for that session, or the oldest that was not sent yet goes.',
    default: 'drop_newest',
  }),
}

/** `mqtt.retained`. */
export const retainedSettings = {
  messages_max: whole({ description: 'Retained messages in all; one more topic gets none.', default: limits.mqttRetainedMax, minimum: 0 }),
  bytes_max: whole({ description: 'The same in bytes of memory.', default: limits.mqttRetainedBytesMax, minimum: 0, unit: 'bytes' }),
}

interface Settings {
  readonly sessions: ValuesOf<typeof sessionSettings>
  readonly retained: ValuesOf<typeof retainedSettings>
}

/** What a store of sessions is opened with. */
export function sessionLimitsOf({ sessions, retained }: Settings): { readonly limits: Partial<SessionLimits>; readonly whenFull: QueuePolicy } {
  return {
    whenFull: sessions.when_full,
    limits: {
      sessionsPerTenantMax: sessions.per_tenant_max,
      queueMessagesMax: sessions.queue_messages_max,
      queueBytesMax: sessions.queue_bytes_max,
      totalBytesMax: sessions.bytes_max,
      retainedMessagesMax: retained.messages_max,
      retainedBytesMax: retained.bytes_max,
    },
  }
}
