import { asKymoError } from '../../core/errors.ts'
import type { SessionHandle, SessionStore, SessionSubscription, SessionWill } from '../../core/session-store.ts'
import type { Subscription, Will } from '../../wire/mqtt/packets.ts'
import type { Subscription5, Will5 } from '../../wire/mqtt/v5/packets.ts'
import { ReasonCode } from '../../wire/mqtt/v5/reason.ts'
import type { MqttPrincipal } from './authorizer.ts'
import type { Refusal } from './connecting.ts'
import type { DurableSession } from './durable.ts'
import { isShared, shareOf } from './filter.ts'
import type { MqttHost } from './host.ts'
import { noneKept, storedMessage } from './message.ts'
import type { Outbox } from './outbox.ts'
import { Hold } from './reading.ts'
import type { Reading } from './reading.ts'
import { StoredDeliveries } from './stored-deliveries.ts'
import { StoreWaits } from './store-waits.ts'
import type { Terms } from './terms.ts'
import type { PacketWriter } from './writer.ts'

/** What a connection has of a session that the store keeps. */
export interface Kept {
  readonly handle: SessionHandle
  readonly durable: DurableSession
  readonly waits: StoreWaits
  readonly deliveries: StoredDeliveries
}

/** What a connection has that is given a session. */
export interface KeepingClient {
  readonly handle: SessionHandle
  readonly terms: Terms
  readonly outbox: Outbox
  readonly writer: PacketWriter
  readonly reading: Reading
}

/** The session goes on with this connection. */
export function keptOf(host: MqttHost, store: SessionStore, { handle, terms, outbox, writer, reading }: KeepingClient): Kept {
  const { limits } = host
  const tree = host.subscriptions(handle.ref.tenant)
  const durable = host.kept.of(handle.ref)
  durable.connection = outbox
  tree.moved(durable)
  const waits = new StoreWaits(
    store,
    (waiting) => host.wait(waiting),
    limits.receiveInflightMax,
    (full) => (full ? reading.hold(Hold.store) : reading.release(Hold.store)),
  )
  const deliveries = new StoredDeliveries({ handle, outbox, terms, writer, waits, outgoings: host.kept.outgoings, max: limits.sendInflightMax })
  return { handle, durable, waits, deliveries }
}

/** A will for the store to keep; one that the client may not publish is none. */
export function willOf(host: MqttHost, will: Will | Will5 | undefined, principal: MqttPrincipal): SessionWill | undefined {
  if (will === undefined) return undefined
  const { authorizer, counters, clock } = host
  if (!authorizer.publish(principal, will.topic, will.retain)) {
    counters.dropped.denied.value++
    return undefined
  }
  const { topic, qos, payload, retain } = will
  // Its life begins when it is published.
  const passed = 'forwarded' in will ? { ...noneKept, forwarded: will.forwarded } : noneKept
  const delayS = 'properties' in will ? (will.properties.willDelayInterval ?? 0) : 0
  return { message: storedMessage(principal.tenant, topic, qos, payload, passed, clock), retain, delayS }
}

const codes: Readonly<Record<string, number>> = {
  too_many_sessions: ReasonCode.quotaExceeded,
  overloaded: ReasonCode.serverBusy,
  session_taken: ReasonCode.sessionTakenOver,
}

/** What a client is told when the store does not give it its session. */
export function refusalFor(thrown: unknown): Refusal {
  const { code, message } = asKymoError(thrown)
  return { reasonCode: codes[code] ?? ReasonCode.serverUnavailable, text: message }
}

/** Whether all that a session of the store is subscribed to is allowed to who comes back to it. Else it is to begin anew: what waits in it is not theirs. */
export function mayResume(host: MqttHost, principal: MqttPrincipal): boolean {
  const session = host.kept.find(principal.tenant, principal.clientId)
  if (session === undefined) return true
  for (const { filter } of host.subscriptions(principal.tenant).of(session)) {
    const share = isShared(filter) ? shareOf(filter) : undefined
    if (!host.authorizer.subscribe(principal, share?.filter ?? filter)) return false
  }
  return true
}

/** Subscriptions of one SUBSCRIBE that were granted, for the store. */
export function grantedOf(
  subscriptions: readonly (Subscription | Subscription5)[],
  codes: readonly number[],
  identifier: number,
): SessionSubscription[] {
  return subscriptions
    .filter((_, i) => codes[i]! < 0x80)
    .map((one) => {
      const five = 'noLocal' in one ? one : undefined
      const { noLocal = false, retainAsPublished = false, retainHandling = 0 } = five ?? {}
      return { filter: one.filter, qos: one.qos, noLocal, retainAsPublished, retainHandling, identifier }
    })
}

/** The session goes on without a connection, as long as it is to. `expiryS`: as DISCONNECT changed it. */
export function leave(host: MqttHost, { handle, durable, waits, deliveries }: Kept, expiryS: number | undefined, discardsWill: boolean): void {
  deliveries.close()
  waits.clear()
  durable.connection = undefined
  host.subscriptions(handle.ref.tenant).moved(durable)
  handle.detach({ ...(expiryS === undefined ? {} : { expiryS }), will: discardsWill ? 'discard' : 'publish' })
}
