import type { Random } from '../../../core/env.ts'
import type { MetaStore } from '../../../core/ports.ts'

/** What we know of the session that the broker keeps for us. */
export interface PullSession {
  readonly broker: string
  readonly clientId: string
  /** Of the broker's session: packet ids of another one say nothing of this one's messages. */
  readonly epoch: string
  /** Granted. */
  readonly filters: readonly string[]
  /** It is what the metadata say. */
  readonly kept: boolean
}

const collection = 'mqtt-pull'
const id = 'session'

/** The session as it was kept, or one that nobody knows of yet: another broker or client id, or the first start. */
export async function loadSession(
  meta: MetaStore,
  o: { readonly broker: string; readonly clientId: string; readonly random: Random },
): Promise<PullSession> {
  const doc = (await meta.get(collection, '', id))?.doc
  const kept = (name: string): string => {
    const value = doc?.[name]
    return typeof value === 'string' ? value : ''
  }
  // 21 of the 23 bytes that every broker takes [MQTT-3.1.3-5].
  const clientId = o.clientId || kept('client_id') || `kymo-${o.random.uuid().replaceAll('-', '').slice(0, 16)}`
  const filters = doc?.['filters']
  if (kept('broker') === o.broker && kept('client_id') === clientId && kept('epoch') !== '' && Array.isArray(filters))
    return { broker: o.broker, clientId, epoch: kept('epoch'), filters: filters.filter((f) => typeof f === 'string'), kept: true }
  return newSession({ broker: o.broker, clientId, epoch: '', filters: [], kept: false }, o.random)
}

export function newSession({ broker, clientId }: PullSession, random: Random): PullSession {
  return { broker, clientId, epoch: random.uuid(), filters: [], kept: false }
}

/** Durable when it resolves, to the session as it is then. */
export async function saveSession(meta: MetaStore, session: PullSession): Promise<PullSession> {
  const { broker, clientId, epoch, filters } = session
  await meta.write([{ op: 'put', collection, tenant: '', doc: { id, broker, client_id: clientId, epoch, filters } }])
  return { ...session, kept: true }
}
