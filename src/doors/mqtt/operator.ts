import type { MqttClient, MqttService, MqttSession, MqttSubscription, Page } from '../../core/services.ts'
import { neverExpires, type SessionStore, type SessionSubscription, type StoredSession } from '../../core/session-store.ts'
import type { MqttPrincipal } from './authorizer.ts'
import type { Broker } from './broker.ts'
import type { HostedSession } from './host.ts'

type Connected = HostedSession & { readonly principal: MqttPrincipal }

/**
 * The door as an operator sees it. A page costs a look at all clients, a comparison each, so that it is right however many come and go between two
 * pages. `stored`: where sessions are that outlive their connection.
 */
export function createOperator(
  broker: Pick<Broker, 'clients' | 'client' | 'subscriptions'>,
  stored?: Pick<SessionStore, 'sessions' | 'end'>,
): MqttService {
  const clientOf = (session: Connected): MqttClient => {
    const { address, transport, level, connectedUs, keepAliveS, inflight, queued, messagesIn, messagesOut, bytesIn, bytesOut } = session.facts()
    return {
      client_id: session.principal.clientId,
      address,
      transport,
      protocol_level: level,
      principal: session.principal.id,
      connected_us: connectedUs,
      keep_alive_s: keepAliveS,
      subscriptions: subscriptionsOf(session).length,
      inflight,
      queued,
      unacknowledged: session.unacknowledged,
      messages_in: messagesIn,
      messages_out: messagesOut,
      bytes_in: bytesIn,
      bytes_out: bytesOut,
    }
  }

  const subscriptionsOf = ({ principal, subscriber }: Connected): readonly SessionSubscription[] =>
    subscriber === undefined ? [] : [...broker.subscriptions(principal.tenant).of(subscriber)]

  /** Sessions that are kept, by client; those with a connection are shown as that has them. */
  const kept = async (tenant: string, from: string, only?: string): Promise<ReadonlyMap<string, StoredSession>> => {
    const found = new Map<string, StoredSession>()
    if (stored === undefined) return found
    for await (const session of stored.sessions()) {
      const { ref } = session
      if (ref.tenant === tenant && ref.client >= from && (only === undefined || ref.client === only)) found.set(ref.client, session)
    }
    return found
  }

  const sessionOf = (clientId: string, client: Connected | undefined, session: StoredSession | undefined): MqttSession => {
    const facts = client?.facts()
    const expiryS = session?.expiryS ?? 0
    return {
      client_id: clientId,
      connected: client !== undefined,
      expiry_s: expiryS === neverExpires ? Number.POSITIVE_INFINITY : expiryS,
      ...(client !== undefined || session?.detachedUs === undefined ? {} : { detached_us: session.detachedUs }),
      subscriptions: client === undefined ? (session?.subscriptions.length ?? 0) : subscriptionsOf(client).length,
      inflight: session?.inflight ?? facts?.inflight ?? 0,
      queued: session?.queued ?? facts?.queued ?? 0,
    }
  }

  return {
    clients(tenant, { after, limit }) {
      const page = firstOf(broker.clients(tenant), (session) => session.principal.clientId, after, limit)
      return { ...page, items: page.items.map(clientOf) }
    },

    client(tenant, clientId) {
      const session = broker.client(tenant, clientId)
      return session === undefined ? undefined : clientOf(session)
    },

    async sessions(tenant, { after, limit }) {
      const there = await kept(tenant, after ?? '')
      const ids = new Set(there.keys())
      for (const { principal } of broker.clients(tenant)) ids.add(principal.clientId)
      const page = firstOf(ids, (id) => id, after, limit)
      return { ...page, items: page.items.map((id) => sessionOf(id, broker.client(tenant, id), there.get(id))) }
    },

    async subscriptions(tenant, { after, limit, clientId, filter }) {
      const [fromClient, fromFilter] = after === undefined ? ['', ''] : placeOf(after)
      const there = await kept(tenant, fromClient, clientId)
      const ids = new Set(there.keys())
      if (clientId === undefined) for (const { principal } of broker.clients(tenant)) ids.add(principal.clientId)
      else if (broker.client(tenant, clientId) !== undefined) ids.add(clientId)
      const items: MqttSubscription[] = []
      for (const id of [...ids].filter((one) => one >= fromClient).toSorted(compare)) {
        const client = broker.client(tenant, id)
        const all = client === undefined ? (there.get(id)?.subscriptions ?? []) : subscriptionsOf(client)
        const wanted = all.filter((one) => (filter === undefined || one.filter === filter) && (id > fromClient || one.filter > fromFilter))
        for (const one of wanted.toSorted((a, b) => compare(a.filter, b.filter))) {
          // One more than asked for: there is a next page.
          if (items.length === limit) return { items, next: nextOf(items.at(-1)!) }
          items.push(subscriptionOf(id, one, client !== undefined))
        }
      }
      return { items }
    },

    async disconnect(tenant, clientId, { session: ends }) {
      const session = broker.client(tenant, clientId)
      session?.kick()
      // One that is not kept ends with its connection.
      const ended = ends && ((await stored?.end(tenant, clientId)) === true || session !== undefined)
      if (session === undefined && !ended) return undefined
      return { disconnected: session !== undefined, session_ended: ended }
    },
  }
}

function subscriptionOf(clientId: string, one: SessionSubscription, connected: boolean): MqttSubscription {
  return {
    client_id: clientId,
    filter: one.filter,
    qos: one.qos,
    no_local: one.noLocal,
    retain_as_published: one.retainAsPublished,
    retain_handling: one.retainHandling,
    identifier: one.identifier,
    connected,
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** Neither a client id nor a filter has a NUL. */
function nextOf({ client_id, filter }: MqttSubscription): string {
  return `${client_id}\0${filter}`
}

function placeOf(after: string): [string, string] {
  const at = after.indexOf('\0')
  return at < 0 ? [after, ''] : [after.slice(0, at), after.slice(at + 1)]
}

/** The first `limit` items behind `after`, in the order of their keys; `next` is the key of the last one, when there are more. */
function firstOf<T>(items: Iterable<T>, keyOf: (item: T) => string, after: string | undefined, limit: number): Page<T> {
  const found: { readonly key: string; readonly item: T }[] = []
  for (const item of items) {
    const key = keyOf(item)
    if (after === undefined || key > after) found.push({ key, item })
  }
  found.sort((a, b) => compare(a.key, b.key))
  const page = found.slice(0, limit)
  const last = page.at(-1)
  return { items: page.map((one) => one.item), ...(found.length <= limit || last === undefined ? {} : { next: last.key }) }
}
