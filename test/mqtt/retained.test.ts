import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { SessionMessage } from '../../src/core/session-store.ts'
import { KeptOutgoings } from '../../src/doors/mqtt/retained-target.ts'
import { RetainedFeeds, wantsRetained } from '../../src/doors/mqtt/retained.ts'
import type { RetainedTarget } from '../../src/doors/mqtt/retained.ts'
import type { SubscriptionOptions } from '../../src/doors/mqtt/roster.ts'
import { TestClock } from '../support/test-clock.ts'

// Statements of MQTT 5: Retain Handling is new there.

const options: SubscriptionOptions = { qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 0, identifier: 0 }

function message(topic: string): SessionMessage {
  return { tenant: 'default', topic, qos: 1, payload: new Uint8Array(1), properties: new Uint8Array(0), expiresUs: Number.POSITIVE_INFINITY }
}

/** A client with room for so many messages. */
class Client implements RetainedTarget {
  space: number
  readonly topics: string[] = []
  readonly failures: unknown[] = []
  onTake: (() => void) | undefined
  constructor(space = Number.POSITIVE_INFINITY) {
    this.space = space
  }
  room(): boolean {
    return this.space > 0
  }
  take({ topic }: SessionMessage): void {
    this.space--
    this.topics.push(topic)
    this.onTake?.()
  }
  failed(thrown: unknown): void {
    this.failures.push(thrown)
  }
}

interface Stored {
  readonly clock: TestClock
  readonly feeds: RetainedFeeds
  readonly reads: { opened: number; pages: number; closed: number }
  /** The next turn of the event loop in which messages are sent. */
  turn(): Promise<void>
}

/** `count` retained messages below each filter's first level, in pages of 100. */
function stored(count: number, perTurn = 256): Stored {
  const clock = new TestClock()
  const reads = { opened: 0, pages: 0, closed: 0 }
  const feeds = new RetainedFeeds({
    clock,
    perTurn,
    async *source(_tenant, filter) {
      reads.opened++
      try {
        if (filter === 'broken') throw new Error('unreadable')
        for (let from = 0; from < count; from += 100) {
          reads.pages++
          yield Array.from({ length: Math.min(100, count - from) }, (_, i) => message(`${filter.split('/')[0]}/${from + i}`))
        }
      } finally {
        reads.closed++
      }
    },
  })
  const settle = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve))
  return {
    clock,
    feeds,
    reads,
    async turn() {
      await settle()
      clock.advance(1)
      await settle()
    },
  }
}

const names = (first: string, count: number): string[] => Array.from({ length: count }, (_, i) => `${first}/${i}`)

test('Retain Handling decides, and shared subscriptions get none [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]', () => {
  const wants = (retainHandling: 0 | 1 | 2, outcome: 'new' | 'replaced'): boolean => wantsRetained('a/#', { retainHandling }, outcome)
  assert.deepEqual(
    ([0, 1, 2] as const).map((handling) => [wants(handling, 'new'), wants(handling, 'replaced')]),
    [
      [true, true],
      [true, false],
      [false, false],
    ],
  )
  assert.equal(wantsRetained('$share/g/a', { retainHandling: 0 }, 'new'), false)
})

test('10,000 retained messages: so many in a turn, all of them in order, one page held', async () => {
  const world = stored(10_000)
  const client = new Client()
  world.feeds.open('default', client).request('a/#', options)
  let turns = 0
  for (; client.topics.length < 10_000; turns++) {
    const before = client.topics.length
    await world.turn()
    assert.ok(client.topics.length - before <= 256)
    assert.ok(world.reads.pages * 100 - client.topics.length <= 100)
    assert.ok(turns < 1000)
  }
  assert.deepEqual(client.topics, names('a', 10_000))
  await world.turn()
  assert.equal(world.feeds.size, 0)
})

test('a client gets no more than it has room for, and goes on where it was', async () => {
  const world = stored(250)
  const client = new Client(10)
  const feed = world.feeds.open('default', client)
  feed.request('a/#', options)
  for (let i = 0; i < 5; i++) await world.turn()
  assert.equal(client.topics.length, 10)
  assert.equal(world.reads.pages, 1)
  client.space = 190
  feed.resume()
  feed.resume()
  for (let i = 0; i < 20; i++) await world.turn()
  assert.equal(client.topics.length, 200)
  client.space = Number.POSITIVE_INFINITY
  feed.resume()
  for (let i = 0; i < 20; i++) await world.turn()
  assert.deepEqual(client.topics, names('a', 250))
})

test('clients take turns: what one turn sends is bounded for all of them together', async () => {
  const world = stored(1_000, 64)
  const clients = Array.from({ length: 50 }, () => new Client())
  const blocked = new Client(0)
  for (const client of [blocked, ...clients]) world.feeds.open('default', client).request('a/#', options)
  let before = 0
  for (let turn = 0; turn < 200; turn++) {
    await world.turn()
    const sent = clients.reduce((sum, { topics }) => sum + topics.length, 0)
    assert.ok(sent - before <= 64)
    before = sent
  }
  const lengths = clients.map(({ topics }) => topics.length)
  assert.ok(Math.min(...lengths) > 0)
  assert.ok(Math.max(...lengths) - Math.min(...lengths) <= 100, `${Math.min(...lengths)} to ${Math.max(...lengths)}`)
})

test('several subscriptions one after the other; one that is asked for again begins anew; one that is cancelled ends', async () => {
  const world = stored(150)
  const client = new Client()
  const feed = world.feeds.open('default', client)
  feed.request('a/#', options)
  feed.request('b/#', options)
  feed.request('c/#', options)
  feed.cancel('b/#')
  await world.turn()
  const first = client.topics.length
  assert.ok(first > 0 && first < 150)
  feed.request('a/#', options)
  for (let i = 0; i < 30; i++) await world.turn()
  assert.deepEqual(client.topics, [...names('a', first), ...names('c', 150), ...names('a', 150)])
  assert.equal(world.feeds.size, 0)
  assert.equal(world.reads.opened, world.reads.closed)
})

test('a client that subscribes again and again keeps one reading, and one that leaves none', async () => {
  const world = stored(150)
  const client = new Client()
  const feed = world.feeds.open('default', client)
  for (let i = 0; i < 1_000; i++) feed.request('a/#', options)
  await world.turn()
  assert.equal(world.feeds.size, 1)
  assert.ok(world.reads.opened - world.reads.closed <= 1)
  client.onTake = () => feed.close()
  const before = client.topics.length
  for (let i = 0; i < 30; i++) await world.turn()
  assert.equal(client.topics.length, before + 1)
  feed.request('b/#', options)
  await world.turn()
  assert.equal(client.topics.length, before + 1)
  assert.equal(world.feeds.size, 0)
  assert.equal(world.reads.opened, world.reads.closed)
})

test('a retained message that was replaced meanwhile is not sent after the one that replaced it', async () => {
  const world = stored(10)
  const client = new Client(3)
  const feed = world.feeds.open('default', client)
  feed.request('a/#', options)
  await world.turn()
  world.feeds.changed('default', 'a/5')
  world.feeds.changed('other', 'a/6')
  client.space = 100
  feed.resume()
  await world.turn()
  assert.deepEqual(
    client.topics,
    names('a', 10).filter((topic) => topic !== 'a/5'),
  )
})

test('retained messages that cannot be read are told, and the next subscription goes on', async () => {
  const world = stored(5)
  const client = new Client()
  const feed = world.feeds.open('default', client)
  feed.request('broken', options)
  feed.request('a/#', options)
  await world.turn()
  await world.turn()
  assert.deepEqual(client.topics, names('a', 5))
  assert.equal(client.failures.length, 1)
})

test('what many clients are sent in a row is put together once; of what is remembered there is a bound', () => {
  const outgoings = new KeptOutgoings(new TestClock())
  const [first, same] = [message('a'), message('a')]
  const made = outgoings.of(first)
  assert.equal(outgoings.of(first), made)
  assert.notEqual(outgoings.of(same), made, 'another message of its topic is another')
  const parcel = made.parcel(true, 1, true, undefined)
  assert.equal(outgoings.of(first).parcel(true, 1, true, undefined), parcel)
  for (let i = 0; i < 64; i++) outgoings.of(message(`b/${i}`))
  assert.notEqual(outgoings.of(first), made)
  const long = { ...first, payload: new Uint8Array(5_000) }
  assert.notEqual(outgoings.of(long), outgoings.of(long))
})
