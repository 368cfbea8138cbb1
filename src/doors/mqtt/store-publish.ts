import { KymoError } from '../../core/errors.ts'
import type { SessionHandle } from '../../core/session-store.ts'
import { ReasonCode } from '../../wire/mqtt/v5/reason.ts'
import type { Arrival } from './arrival.ts'
import type { MqttHost } from './host.ts'
import { keepProperties, storedMessage } from './message.ts'
import { qosOf } from './roster.ts'

/**
 * Hands the store what it has to keep of a publish: for sessions, as its topic's retained message, and of QoS 2 (`handle`) its packet id. Returns the
 * ticket; 0: nothing is taken at the moment; undefined: it is too large, and counted. Of what was not retained because too much is, its publisher is told
 * (0x97), unless its reading was taken. At QoS 2 of a session that stays a refusal frees the packet id, and after a crash nobody could tell the repetition
 * from a new message: there it is refused only where nobody has had it, so that a repetition does no harm; the id is let go of with it.
 */
export function storeArrival(host: MqttHost, tenant: string, arrival: Arrival, handle: SessionHandle | undefined): number | undefined {
  const { store, retained, counters, clock } = host
  const { flags, packetId, route, bytes, start, end, properties, recipients, ticket } = arrival
  if (store === undefined) return undefined
  const retain = (flags & 1) !== 0
  if (handle !== undefined && !retain && recipients.length === 0) return handle.accept(packetId)
  const kept = keepProperties(bytes, properties, clock)
  const message = storedMessage(tenant, route.topic, qosOf((flags >> 1) & 3), bytes.subarray(start, end), kept, clock)
  if (retain) retained.changed(tenant, route.topic)
  try {
    if (handle === undefined) {
      const stored = store.publish({ message, recipients, retain })
      if (store.unretained && ticket === 0) arrival.reasonCode = ReasonCode.quotaExceeded
      return stored
    }
    const stored = store.publish({ message, recipients, retain, inbound: { session: handle, packetId } })
    if (!store.unretained || ticket !== 0 || arrival.reasonCode !== ReasonCode.noMatchingSubscribers) return stored
    const released = handle.release(packetId)
    // Nothing is taken at the moment: it stays accepted, and is answered as such.
    if (released === 0) return stored
    arrival.reasonCode = ReasonCode.quotaExceeded
    return released
  } catch (thrown) {
    if (!(thrown instanceof KymoError) || thrown.code !== 'record_too_large') throw thrown
    counters.dropped.too_large.value++
    // Its publisher is told of telemetry that it was taken, and must not be told so twice.
    return handle !== undefined && ticket !== 0 ? handle.accept(packetId) : undefined
  }
}
