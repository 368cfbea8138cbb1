import assert from 'node:assert/strict'
import test from 'node:test'
import type { MqttClient, MqttService } from '../../src/core/services.ts'
import { noMqtt, serve } from './support.ts'

const client = (id: string): MqttClient => ({
  client_id: id,
  address: '10.0.0.1',
  transport: 'wss',
  protocol_level: 5,
  principal: 't1',
  connected_us: 1_700_000_000_000_000,
  keep_alive_s: 60,
  subscriptions: 1,
  inflight: 2,
  queued: 3,
  unacknowledged: 4,
  messages_in: 5,
  messages_out: 6,
  bytes_in: 7,
  bytes_out: 8,
})

const ids = ['a', 'b/c d', 'é']

function fake(): { readonly mqtt: MqttService; readonly asked: unknown[] } {
  const asked: unknown[] = []
  return {
    asked,
    mqtt: {
      ...noMqtt,
      clients(tenant, { after, limit }) {
        asked.push([tenant, after, limit])
        const rest = ids.filter((id) => after === undefined || id > after)
        const items = rest.slice(0, limit).map(client)
        return { items, ...(rest.length > limit ? { next: items.at(-1)!.client_id } : {}) }
      },
      client: (_tenant, id) => (ids.includes(id) ? client(id) : undefined),
      sessions: async () => ({
        items: [
          { client_id: 'a', connected: true, expiry_s: Infinity, subscriptions: 1, inflight: 0, queued: 0 },
          { client_id: 'b', connected: false, expiry_s: 5, detached_us: 1_000_000, subscriptions: 1, inflight: 0, queued: 0 },
        ],
      }),
      async subscriptions(tenant, o) {
        asked.push([tenant, o])
        return { items: [] }
      },
      async disconnect(tenant, id, o) {
        asked.push([tenant, id, o])
        return ids.includes(id) ? { disconnected: true, session_ended: o.session } : undefined
      },
    },
  }
}

test('clients: pages by cursor, one by its id, whatever characters it has', async (t) => {
  const { mqtt } = fake()
  const s = await serve(t, { mqtt })
  const first = await s.call('/api/v1/mqtt/clients?limit=2')
  assert.equal(first.status, 200)
  assert.deepEqual(
    (first.json['items'] as { client_id: string }[]).map(({ client_id }) => client_id),
    ['a', 'b/c d'],
  )
  const second = await s.call(`/api/v1/mqtt/clients?limit=2&cursor=${String(first.json['next_cursor'])}`)
  assert.deepEqual([(second.json['items'] as unknown[]).length, second.json['next_cursor']], [1, null])
  assert.equal((await s.call(`/api/v1/mqtt/sessions?cursor=${String(first.json['next_cursor'])}`)).status, 400)
  const one = await s.call(`/api/v1/mqtt/clients/${encodeURIComponent('b/c d')}`)
  const { protocol_level, connected_us, ...rest } = client('b/c d')
  assert.deepEqual(one.json, { ...rest, protocol: '5', connected_at: '2023-11-14T22:13:20.000Z' })
  assert.deepEqual([protocol_level, connected_us], [5, 1_700_000_000_000_000])
  assert.equal((await s.call('/api/v1/mqtt/clients/none')).status, 404)
})

test('sessions, and subscriptions of a client and a filter', async (t) => {
  const { mqtt, asked } = fake()
  const s = await serve(t, { mqtt })
  const { items } = (await s.call('/api/v1/mqtt/sessions')).json as { items: Record<string, unknown>[] }
  assert.deepEqual(
    items.map((item) => [item['expiry_s'], item['detached_at']]),
    [
      [null, null],
      [5, '1970-01-01T00:00:01.000Z'],
    ],
  )
  await s.call('/api/v1/mqtt/subscriptions?client_id=c&filter=a%2F%23&limit=5')
  assert.deepEqual(asked, [['default', { clientId: 'c', filter: 'a/#', limit: 5 }]])
})

test('a kick, with and without its session', async (t) => {
  const { mqtt, asked } = fake()
  const s = await serve(t, { mqtt })
  const kick = (path: string): ReturnType<typeof s.call> => s.call(`/api/v1/mqtt/clients/${path}`, { method: 'DELETE' })
  assert.deepEqual((await kick('a')).json, { client_id: 'a', disconnected: true, session_ended: false })
  assert.deepEqual((await kick('%C3%A9?session=true')).json, { client_id: 'é', disconnected: true, session_ended: true })
  assert.equal((await kick('none')).status, 404)
  assert.deepEqual(asked.slice(0, 2), [
    ['default', 'a', { session: false }],
    ['default', 'é', { session: true }],
  ])
})

test('they are for administrators', async (t) => {
  const s = await serve(t, { auth: 'token', mqtt: fake().mqtt })
  const { token } = await s.tokens.create({ name: 'r', scopes: ['read', 'ingest'] })
  const headers = { authorization: `Bearer ${token}` }
  for (const path of ['clients', 'clients/a', 'sessions', 'subscriptions']) {
    assert.equal((await s.call(`/api/v1/mqtt/${path}`, { headers })).status, 403)
  }
  assert.equal((await s.call('/api/v1/mqtt/clients/a', { method: 'DELETE', headers })).status, 403)
})
