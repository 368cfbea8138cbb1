import { KymoError } from '../../core/errors.ts'
import type { SessionDelivery, SessionHandle, SessionInflight } from '../../core/session-store.ts'
import type { Attached, OpenSessions } from './open.ts'
import type { Entry } from './session.ts'

/** What the connection that has just got the session is given. */
export function openHandle(open: OpenSessions, { session, owner, present, ticket }: Attached): SessionHandle {
  const { id, epoch } = session
  const { journal } = open
  const mine = (): void => {
    if (session.owner !== owner) throw new KymoError('session_taken')
  }
  return {
    ref: session,
    epoch,
    present,
    ticket,
    subscriptions: [...(session.subscriptions?.values() ?? [])],
    inbound: [...(session.inbound ?? [])],
    inflight: [...(session.inflight?.values() ?? [])].map(inflightOf),
    subscribe(subscriptions) {
      mine()
      if (journal.overloaded) return 0
      const kept = subscriptions.map((one) => ({ ...one }))
      return open.change((to) => to.subscribe(id, kept))
    },
    unsubscribe(filters) {
      mine()
      if (journal.overloaded) return 0
      return open.change((to) => to.unsubscribe(id, filters))
    },
    take(max) {
      mine()
      const nowUs = open.env.clock.nowUs()
      const taken: SessionDelivery[] = []
      const expired: number[] = []
      for (const entry of session.waiting ?? []) {
        if (taken.length === max) break
        if (entry.seq <= owner.cursor) continue
        owner.cursor = entry.seq
        if (entry.stored === undefined || entry.stored.body.expiresUs <= nowUs) expired.push(entry.seq)
        else taken.push(deliveryOf(entry))
      }
      for (const seq of expired) open.lazily((to) => to.drop(id, seq))
      open.dropped.expired += expired.length
      owner.hungry = taken.length < max
      return taken
    },
    sending(delivery, packetId) {
      mine()
      if (session.inflight?.has(packetId) === true) throw new KymoError('bug', { detail: `Packet id ${packetId} is under way already.` })
      if (session.waiting?.some(({ seq }) => seq === delivery.seq) !== true) {
        throw new KymoError('bug', { detail: `Delivery ${delivery.seq} does not wait.` })
      }
      const ticket = journal.ticket
      if (delivery.qos === 2) return open.change((to) => to.sending(id, delivery.seq, packetId))
      open.lazily((to) => to.sending(id, delivery.seq, packetId))
      return ticket
    },
    received(packetId) {
      mine()
      const entry = session.inflight?.get(packetId)
      if (entry?.stored === undefined) return journal.covering()
      return open.change((to) => to.received(id, packetId))
    },
    done(packetId) {
      mine()
      if (session.inflight?.has(packetId) === true) open.lazily((to) => to.done(id, packetId))
    },
    accept(packetId) {
      mine()
      if (journal.overloaded) return 0
      if (session.inbound?.has(packetId) === true) return journal.covering()
      return open.change((to) => to.accept(id, packetId))
    },
    release(packetId) {
      mine()
      if (session.inbound?.has(packetId) !== true) return journal.covering()
      return open.change((to) => to.release(id, packetId))
    },
    detach({ expiryS = session.expiryS, will }) {
      if (session.owner !== owner) return
      if (!journal.usable) return open.release(session)
      if (will === 'discard' && session.will !== undefined) open.lazily((to) => to.willDrop(id))
      open.detach(session, open.env.clock.nowUs(), expiryS)
    },
  }
}

function deliveryOf({ seq, qos, retain, identifiers, stored }: Entry): SessionDelivery {
  return { seq, qos, retain, identifiers, message: stored!.body, ticket: stored!.ticket }
}

function inflightOf(entry: Entry): SessionInflight {
  const { packetId } = entry
  return entry.stored === undefined ? { packetId, state: 'received' } : { packetId, state: 'sent', delivery: deliveryOf(entry) }
}
