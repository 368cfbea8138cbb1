import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { encodeSubscribe5, encodeUnsubscribe5 } from '../../src/wire/mqtt/v5/subscribe.ts'
import { KymoError } from '../../src/core/errors.ts'
import type { Interest, RoutedMessage, RouteTo, Routing, RoutingHandlers } from '../../src/core/routing.ts'
import type { Publication } from '../../src/core/session-store.ts'
import { createRoutingHub } from '../../src/log/in-process/routing.ts'
import { type Client5, connect5 } from './client5.ts'
import { World } from './harness.ts'
import { SlowSessions, stay } from './slow-sessions.ts'

const hub = (): ((node: string) => ReturnType<ReturnType<typeof createRoutingHub>['member']>) => {
  const made = createRoutingHub()
  return (node) => made.member(node)
}

/** Where who waits for a ticket waits. */
class SafeSessions extends SlowSessions {
  override publish(publication: Publication): number {
    if (publication.message.payload.length > 100) throw new KymoError('record_too_large')
    return super.publish(publication)
  }
  override whenDurable(ticket = 0): Promise<void> {
    return new Promise((resolve) => {
      const stop = this.onDurable((durable) => {
        if (durable < ticket) return
        stop()
        resolve()
      })
    })
  }
}

/** Brokers of as many processes, between which messages are routed. */
async function brokers(count: number): Promise<World[]> {
  const member = hub()
  const worlds = Array.from({ length: count }, (_, i) => new World({}, { routing: member(`node-${i}`) }))
  for (const { broker } of worlds) await broker.restore()
  return worlds
}

async function heard(client: Client5): Promise<string[]> {
  await turn()
  return client.log()
}

test('what is published at one process reaches subscribers at the others, once each, and never comes back', async () => {
  const [here, there, third] = (await brokers(3)) as [World, World, World]
  const near = connect5(here, 'near')
  const far = connect5(there, 'far')
  const other = connect5(third, 'other')
  near.subscribe('a/#', 1)
  far.subscribe('a/+', 2, { identifier: 7, retainAsPublished: true })
  far.subscribe('a/b', 0, { identifier: 9 })
  other.subscribe('b', 0)
  const from = connect5(here, 'from')
  from.subscribe('a/b', 1, { noLocal: true })
  from.say('a/b', 'one', { qos: 1, id: 1, properties: { contentType: 'x', messageExpiryInterval: 60 } })
  from.say('a/b', 'zero')
  from.say('b', 'elsewhere only')
  assert.deepEqual(await heard(far), ['publish a/b one 1/1', 'publish a/b zero 0'])
  assert.deepEqual(
    far.messages.map(({ identifiers, expiryS }) => [identifiers.toSorted(), expiryS]),
    [
      [[7, 9], 60],
      [[7, 9], -1],
    ],
  )
  assert.deepEqual(await heard(near), ['publish a/b one 1/1', 'publish a/b zero 0'])
  assert.deepEqual(await heard(other), ['publish b elsewhere only 0'])
  assert.deepEqual(await heard(from), ['puback 1'])
})

test('what another process took goes to many in turns, in order, and is safe when the sessions that stay have it', async () => {
  const perTurn = 8
  const many = 50
  const member = hub()
  const here: World = new World({}, { routing: member('here') })
  const store: SafeSessions = new SafeSessions(() => there.clock.nowUs())
  const there: World = new World({ fanoutPerTurn: perTurn }, { routing: member('there'), store })
  for (const { broker } of [here, there]) await broker.restore()
  const kept = await stay(there, store, 'kept', { properties: { sessionExpiryInterval: 100 } })
  const all = Array.from({ length: many }, (_, i) => connect5(there, `s${i}`))
  for (const client of [...all, kept])
    client.send(encodeSubscribe5(1, [{ filter: 'all', qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 2 }], {}))
  const beside = connect5(there, 'beside')
  beside.subscribe('few', 1)
  store.sync()
  for (const client of [...all, kept]) client.log()
  const from = connect5(here, 'from')
  const say = (topic: string, text: string, id: number): void => from.say(topic, text, { qos: 1, id })
  say('all', '1', 1)
  say('few', '2', 2)
  say('all', '3', 3)
  const sent = (): number => there.count('kymo_mqtt_messages_total', { direction: 'out', qos: '1' })
  await turn()
  assert.ok(sent() > 0 && sent() <= perTurn, String(sent()))
  assert.deepEqual(beside.log(), [])
  for (let before = -1; before !== sent() || sent() < many * 2;) {
    before = sent()
    there.turn()
    assert.ok(sent() - before <= perTurn * 2, `${sent() - before} in a turn`)
    assert.deepEqual(from.log(), [], 'not before it is durable')
  }
  store.sync()
  await turn()
  store.sync()
  await turn()
  assert.deepEqual(await heard(from), ['puback 1', 'puback 2', 'puback 3'])
  beside.expect('publish few 2 1/1')
  for (const client of [...all, kept]) assert.deepEqual(await heard(client), ['publish all 1 1/1', 'publish all 3 1/2'])
})

test('each of a group is asked in its turn, wherever it is; of one message one has it', async () => {
  const [here, there] = (await brokers(2)) as [World, World]
  const members = [connect5(here, 'a'), connect5(there, 'b'), connect5(there, 'c')]
  for (const member of members) member.subscribe('$share/g/t/#', 1)
  const beside = connect5(there, 'beside')
  beside.subscribe('t/#', 0)
  const from = connect5(here, 'from')
  for (let i = 0; i < 40; i++) from.say('t/x', String(i), { qos: 1, id: i + 1 })
  const got = await Promise.all(members.map(heard))
  const counts = got.map(({ length }) => length)
  assert.equal(
    counts.reduce((sum, n) => sum + n),
    40,
  )
  assert.ok(
    counts.every((n) => n >= 10),
    counts.join(),
  )
  assert.equal((await heard(beside)).length, 40, 'once each, though its process has it for the group as well')
})

test('interest comes and goes with subscriptions, sessions and processes', async () => {
  const member = hub()
  const seen: string[] = []
  const watcher = member('watcher')
  await watcher.join({
    interested: (node, { filter }) => void seen.push(`+${node} ${filter}`),
    withdrawn: (node, { filter }) => void seen.push(`-${node} ${filter}`),
    gone: (node) => void seen.push(`gone ${node}`),
    deliver: () => undefined,
  })
  const world = new World({}, { routing: member('one') })
  await world.broker.restore()
  const told = (): string[] => seen.splice(0)
  const a = connect5(world, 'a')
  const b = connect5(world, 'b')
  for (const client of [a, b]) {
    client.subscribe('x', 1)
    client.subscribe('$share/g/x', 1)
    client.subscribe('$SYS/#', 0)
  }
  assert.deepEqual(told(), ['+one x', '+one $share/g/x'], 'once for each filter; what a server says of itself stays there')
  a.send(encodeUnsubscribe5(9, ['x']))
  assert.deepEqual(told(), [])
  b.line.hangUp()
  assert.deepEqual(told(), ['-one x'])
  a.line.hangUp()
  assert.deepEqual(told(), ['-one $share/g/x'])

  // What others want is not announced on.
  watcher.announce({ tenant: 'default', filter: 'w/#' })
  assert.deepEqual(told(), [])
  const from = connect5(world, 'from')
  from.say('w/1', 'x', { qos: 1, id: 1 })
  assert.deepEqual(await heard(from), ['puback 1'])
  await watcher.close()
  from.say('w/1', 'x', { qos: 1, id: 2 })
  from.expect('puback 2 10')
})

test('tenants are apart', async () => {
  const [here, there] = (await brokers(2)) as [World, World]
  const mine = connect5(there, 'mine', { username: 'a:b' })
  mine.subscribe('#', 0)
  const theirs = connect5(there, 'theirs')
  theirs.subscribe('#', 0)
  connect5(here, 'from', { username: 'a:b' }).say('x', '1')
  assert.deepEqual(await heard(mine), ['publish x 1 0'])
  assert.deepEqual(await heard(theirs), [])
})

test('a publish is acknowledged once the other process has it safe for sessions that it keeps', async () => {
  const member = hub()
  const here = new World({}, { routing: member('here') })
  const store: SlowSessions = new SafeSessions(() => there.clock.nowUs())
  const there: World = new World({}, { routing: member('there'), store })
  for (const { broker } of [here, there]) await broker.restore()
  const away = await stay(there, store, 'away')
  away.send(encodeSubscribe5(1, [{ filter: 'a', qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 0 }], {}))
  store.sync()
  away.line.hangUp()
  const from = connect5(here, 'from')
  store.overloaded = true
  from.say('a', 'kept', { qos: 1, id: 1, properties: { messageExpiryInterval: 60, contentType: 'text/plain' } })
  await turn()
  store.overloaded = false
  store.sync()
  await turn()
  from.say('a', 'x'.repeat(101), { qos: 1, id: 9 })
  from.say('b', 'nobody wants it', { qos: 1, id: 2 })
  assert.deepEqual(await heard(from), [], 'not before, and in their order')
  store.sync()
  assert.deepEqual(await heard(from), ['puback 1', 'puback 9', 'puback 2 10'])
  assert.equal(there.count('kymo_mqtt_dropped_total', { reason: 'too_large' }), 1, 'and holds nobody up')
  const back = await stay(there, store, 'away')
  assert.deepEqual(
    back.log().filter((line) => line.startsWith('publish')),
    ['publish a kept 1/1'],
  )
  assert.equal(Buffer.from(back.messages[0]!.properties).includes('text/plain'), true)
})

test('RETAIN is as published where a subscription asks for it', async () => {
  const member = hub()
  const here = new World({}, { routing: member('here') })
  const store: SlowSessions = new SlowSessions(() => there.clock.nowUs())
  const there: World = new World({}, { routing: member('there'), store })
  for (const { broker } of [here, there]) await broker.restore()
  const asPublished = connect5(here, 'as published')
  asPublished.subscribe('r', 0, { retainAsPublished: true })
  const fresh = connect5(here, 'fresh')
  fresh.subscribe('r', 0)
  connect5(there, 'from').say('r', 'state', { retain: true })
  assert.deepEqual(await heard(asPublished), ['publish r state 0 retain'])
  assert.deepEqual(await heard(fresh), ['publish r state 0'])
})

test('while what is under way is more than may be, QoS 1 waits with its publisher and QoS 0 is dropped and counted', async () => {
  const made = createRoutingHub()
  const world = new World({}, { routing: made.member('one', 2) })
  await world.broker.restore()
  const waiting: (() => void)[] = []
  const got: string[] = []
  const slow = made.member('slow')
  await slow.join({
    interested: () => undefined,
    withdrawn: () => undefined,
    gone: () => undefined,
    deliver: ({ payload }) => {
      got.push(Buffer.from(payload).toString())
      return new Promise((resolve) => void waiting.push(resolve))
    },
  })
  slow.announce({ tenant: 'default', filter: 'a' })
  const from = connect5(world, 'from')
  for (let i = 1; i <= 4; i++) from.say('a', String(i), { qos: 1, id: i })
  from.say('a', 'zero')
  await turn()
  assert.deepEqual(got, ['1', '2'])
  for (let i = 0; i < 4; i++) {
    for (const safe of waiting.splice(0)) safe()
    await turn()
    world.turn()
  }
  assert.deepEqual(got, ['1', '2', '3', '4'])
  assert.deepEqual(await heard(from), ['puback 1', 'puback 2', 'puback 3', 'puback 4'])
  assert.equal(world.count('kymo_mqtt_dropped_total', { reason: 'overload' }), 1)
})

/** Announcements become durable when the test says so, and are told then. */
class SlowRouting implements Routing {
  readonly #member: Routing
  readonly #listeners = new Set<(durable: number) => void>()
  #waiting: Interest[] = []
  #last = 1
  durable = 1

  constructor(member: Routing) {
    this.#member = member
  }
  get node(): string {
    return this.#member.node
  }
  readonly overloaded = false
  readonly stalled = undefined
  join(handlers: RoutingHandlers): Promise<void> {
    return this.#member.join(handlers)
  }
  announce(interest: Interest): number {
    this.#waiting.push(interest)
    return ++this.#last
  }
  withdraw(interest: Interest): void {
    this.#member.withdraw(interest)
  }
  publish(to: RouteTo, message: RoutedMessage): number {
    this.#member.publish(to, message)
    return this.durable
  }
  onDurable(listener: (durable: number) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }
  close(): Promise<void> {
    return this.#member.close()
  }
  /** All others know. */
  told(): void {
    for (const interest of this.#waiting.splice(0)) this.#member.announce(interest)
    this.durable = this.#last
    for (const listener of this.#listeners) listener(this.durable)
  }
}

test('SUBACK comes when the other processes know of the filter, and not before: what is published there from then on arrives', async () => {
  const member = hub()
  const routing = new SlowRouting(member('here'))
  const store: SlowSessions = new SlowSessions(() => here.clock.nowUs())
  const here: World = new World({ receiveInflightMax: 3 }, { routing, store })
  const there = new World({}, { routing: member('there') })
  for (const { broker } of [here, there]) await broker.restore()
  const subscribe = (client: Client5, id: number, filter: string): void =>
    client.send(encodeSubscribe5(id, [{ filter, qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 2 }], {}))
  const [one, same, gone] = [connect5(here, 'one'), connect5(here, 'same'), connect5(here, 'gone')]
  const kept = await stay(here, store, 'kept')
  kept.log()
  subscribe(one, 1, 'a/+')
  subscribe(same, 2, 'a/+')
  subscribe(gone, 3, 'b')
  subscribe(kept, 4, 'a/#')
  store.sync()
  here.gate.sync()
  for (const client of [one, same, kept]) client.expect()
  gone.line.hangUp()
  const from = connect5(there, 'from')
  from.say('a/1', 'before', { qos: 1, id: 1 })
  assert.deepEqual(await heard(from), ['puback 1 10'])
  routing.told()
  for (const [i, client] of [one, same, kept].entries()) client.expect(`suback ${[1, 2, 4][i]} 1`)
  from.say('a/1', 'after', { qos: 1, id: 2 })
  await turn()
  store.sync()
  for (const client of [one, same, kept]) assert.deepEqual(await heard(client), ['publish a/1 after 1/1'])
  subscribe(one, 5, 'a/+')
  one.expect('suback 5 1')
  // Whoever asks without end is not read meanwhile.
  for (let id = 6; id < 12; id++) subscribe(one, id, `c/${id}`)
  assert.equal(one.line.paused, true)
  assert.equal(here.broker.subscriptions('default').count(here.broker.client('default', 'one')!.subscriber!), 1 + 3)
  for (let i = 0; i < 2; i++) routing.told()
  one.expect(...[6, 7, 8, 9, 10, 11].map((id) => `suback ${id} 1`))
  assert.equal(one.line.paused, false)
})
