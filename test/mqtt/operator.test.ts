import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { StoredSession } from '../../src/core/session-store.ts'
import { neverExpires } from '../../src/core/session-store.ts'
import { createOperator } from '../../src/doors/mqtt/operator.ts'
import { publish, subscribe } from './client-packets.ts'
import { World } from './harness.ts'

const all = { limit: 1_000 }

test('a client is shown with what it has and has done', () => {
  const world = new World()
  const operator = createOperator(world.broker)
  world.line().send(publish('a', 'x'))
  const line = world.client('c1', { keepAlive: 30, username: 'u' })
  line.send(subscribe(1, ['a/#', 1], ['b', 0]), publish('a/b', 'x', { qos: 1, id: 1 }), publish('devices/d/telemetry', 'x', { qos: 1, id: 2 }))
  line.bytesRead = 100
  line.bytesWritten = 50
  assert.deepEqual(operator.clients('default', all), {
    items: [
      {
        client_id: 'c1',
        address: '10.0.0.1',
        transport: 'tcp',
        protocol_level: 4,
        principal: 'u',
        connected_us: world.clock.nowUs(),
        keep_alive_s: 30,
        subscriptions: 2,
        inflight: 1,
        queued: 0,
        unacknowledged: 1,
        messages_in: 2,
        messages_out: 1,
        bytes_in: 100,
        bytes_out: 50,
      },
    ],
  })
  assert.deepEqual(operator.client('default', 'c1'), operator.clients('default', all).items[0])
  assert.equal(operator.client('default', 'c2'), undefined)
  assert.equal(operator.client('other', 'c1'), undefined)
})

test('pages are by client id, whatever comes and goes between them, and of one tenant', () => {
  const world = new World()
  const operator = createOperator(world.broker)
  for (const id of ['c', 'a', 'e', 'b']) world.client(id)
  world.client('other', { username: 'a:b' })
  const ids = (after?: string): [string[], string | undefined] => {
    const page = operator.clients('default', { limit: 2, ...(after === undefined ? {} : { after }) })
    return [page.items.map((client) => client.client_id), page.next]
  }
  assert.deepEqual(ids(), [['a', 'b'], 'b'])
  world.client('d')
  world.client('0')
  assert.deepEqual(ids('b'), [['c', 'd'], 'd'])
  assert.deepEqual(ids('d'), [['e'], undefined])
  assert.deepEqual(ids('e'), [[], undefined])
  assert.deepEqual(
    operator.clients('a', all).items.map(({ client_id }) => client_id),
    ['other'],
  )
})

test('subscriptions: pages, by client and by filter', async () => {
  const world = new World()
  const operator = createOperator(world.broker)
  world.client('b').send(subscribe(1, ['z', 1], ['a/+', 0]))
  world.client('a').send(subscribe(1, ['z', 2], ['y', 0], ['x', 0]))
  world.client('other', { username: 'a:b' }).send(subscribe(1, ['z', 0]))
  const ask = async (o: { limit: number; after?: string; clientId?: string; filter?: string }): Promise<[string[], string | undefined]> => {
    const page = await operator.subscriptions('default', o)
    return [page.items.map((one) => `${one.client_id} ${one.filter} ${one.qos}`), page.next]
  }
  const [first, next] = await ask({ limit: 2 })
  assert.deepEqual(first, ['a x 0', 'a y 0'])
  const [second, more] = await ask({ limit: 2, after: next! })
  assert.deepEqual(second, ['a z 2', 'b a/+ 0'])
  assert.deepEqual(await ask({ limit: 2, after: more! }), [['b z 1'], undefined])
  assert.deepEqual(await ask({ limit: 5, filter: 'z' }), [['a z 2', 'b z 1'], undefined])
  assert.deepEqual(await ask({ limit: 5, clientId: 'b' }), [['b a/+ 0', 'b z 1'], undefined])
  assert.deepEqual(await ask({ limit: 5, clientId: 'other' }), [[], undefined])
})

test('a client that is kicked is closed, its will published, and counted', async () => {
  const world = new World()
  const operator = createOperator(world.broker)
  const heir = world.client('heir')
  heir.send(subscribe(1, ['gone', 0]))
  heir.take()
  const line = world.client('c1', { will: { topic: 'gone', payload: 'x' } })
  assert.deepEqual(await operator.disconnect('default', 'c1', { session: false }), { disconnected: true, session_ended: false })
  assert.equal(line.ended, true)
  assert.equal(heir.take().length > 0, true)
  assert.equal(world.count('kymo_mqtt_disconnects_total', { reason: 'kicked' }), 1)
  assert.equal(await operator.disconnect('default', 'c1', { session: false }), undefined)
  assert.equal(await operator.disconnect('default', 'c1', { session: true }), undefined)
  assert.equal(await operator.disconnect('other', 'heir', { session: true }), undefined)
  assert.deepEqual(await operator.disconnect('default', 'heir', { session: true }), { disconnected: true, session_ended: true })
})

test('connects are counted by protocol and transport', () => {
  const world = new World()
  world.client('a')
  world.client('b')
  assert.equal(world.count('kymo_mqtt_connects_total', { protocol: '3.1.1', transport: 'tcp' }), 2)
})

test('sessions that are kept are shown beside those with a connection', async () => {
  const world = new World()
  const options = { qos: 1, noLocal: true, retainAsPublished: false, retainHandling: 2, identifier: 7 } as const
  const kept = (client: string, tenant = 'default', expiryS = 60): StoredSession => ({
    ref: { id: 1, tenant, client },
    attached: false,
    expiryS,
    detachedUs: 5,
    subscriptions: [{ filter: '$share/g/a', ...options }],
    queued: 3,
    inflight: 2,
    queuedBytes: 100,
  })
  const ended: string[] = []
  const stored = {
    async *sessions() {
      yield* [kept('z'), kept('b', 'default', neverExpires), kept('c', 'other')]
    },
    end: async (_tenant: string, client: string) => ended.push(client) > 0,
  }
  const operator = createOperator(world.broker, stored)
  world.client('b').send(subscribe(1, ['q', 0], ['r', 0]))
  world.client('a')
  assert.deepEqual((await operator.sessions('default', all)).items, [
    { client_id: 'a', connected: true, expiry_s: 0, subscriptions: 0, inflight: 0, queued: 0 },
    { client_id: 'b', connected: true, expiry_s: Infinity, subscriptions: 2, inflight: 2, queued: 3 },
    { client_id: 'z', connected: false, expiry_s: 60, detached_us: 5, subscriptions: 1, inflight: 2, queued: 3 },
  ])
  assert.deepEqual((await operator.sessions('default', { limit: 1, after: 'a' })).next, 'b')
  const found = await operator.subscriptions('default', { ...all, clientId: 'z' })
  assert.deepEqual(found.items, [
    {
      client_id: 'z',
      filter: '$share/g/a',
      qos: 1,
      no_local: true,
      retain_as_published: false,
      retain_handling: 2,
      identifier: 7,
      connected: false,
    },
  ])
  assert.deepEqual(await operator.disconnect('default', 'z', { session: true }), { disconnected: false, session_ended: true })
  assert.deepEqual(await operator.disconnect('default', 'b', { session: true }), { disconnected: true, session_ended: true })
  assert.deepEqual(ended, ['z', 'b'])
})
