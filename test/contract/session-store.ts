import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import {
  neverExpires,
  type AttachOptions,
  type SessionHandle,
  type SessionLimits,
  type SessionMessage,
  type SessionRecipient,
  type SessionStore,
  type SessionSubscription,
} from '../../src/core/session-store.ts'

/** A store of sessions, empty when the suite gets it. */
export interface SessionStoreUnderTest {
  readonly store: SessionStore
  /** The process dies without a close, and another one opens what is durable. */
  crash(): Promise<SessionStore>
  nowUs(): number
  /** Lets time pass. */
  advance(ms: number): Promise<void>
  close(): Promise<void>
}

export type OpenSessionStore = (limits?: Partial<SessionLimits>, whenFull?: 'drop_oldest') => Promise<SessionStoreUnderTest>

const tenant = 'default'

export function messageOf(topic: string, text: string, o: Partial<SessionMessage> = {}): SessionMessage {
  return { tenant, topic, qos: 1, payload: Buffer.from(text), properties: new Uint8Array(0), expiresUs: Number.POSITIVE_INFINITY, ...o }
}

export function subscriptionOf(filter: string, o: Partial<SessionSubscription> = {}): SessionSubscription {
  return { filter, qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 0, identifier: 0, ...o }
}

export function attach(store: SessionStore, client: string, o: Partial<AttachOptions> = {}): Promise<SessionHandle> {
  return store.attach(tenant, client, { clean: false, expiryS: neverExpires, onTaken: () => undefined, onQueued: () => undefined, ...o })
}

export const textOf = (message: SessionMessage): string => Buffer.from(message.payload).toString()

const taken = (handle: SessionHandle): string[] => handle.take(1000).map(({ message }) => textOf(message))

export async function retainedOf(store: SessionStore, filter: string): Promise<string[]> {
  const found: string[] = []
  for await (const page of store.retained(tenant, filter)) found.push(...page.map((message) => `${message.topic}=${textOf(message)}`))
  return found.toSorted()
}

async function all(store: SessionStore): Promise<string[]> {
  const found: string[] = []
  for await (const { ref } of store.sessions()) found.push(ref.client)
  return found.toSorted()
}

const leave = { will: 'publish' } as const

/** What every adapter of SessionStore does. */
export function sessionStoreContract(name: string, open: OpenSessionStore): void {
  describe(`sessions, ${name}`, () => {
    let under: SessionStoreUnderTest
    beforeEach(async () => void (under = await open()))
    afterEach(() => under.close())

    const queue = (handle: SessionHandle, text: string, o: Partial<SessionMessage> = {}, qos: 1 | 2 = 1): number =>
      under.store.publish({ message: messageOf('a/b', text, o), recipients: [{ session: handle.ref, qos, retain: false }] })

    test('a session is there again after a crash, with its subscriptions and their options', async () => {
      const handle = await attach(under.store, 'one')
      assert.equal(handle.present, false)
      const filters = [
        subscriptionOf('$share/g/a/#', { qos: 2, noLocal: true, identifier: 268_435_455 }),
        subscriptionOf('b/+', { retainAsPublished: true, retainHandling: 2 }),
      ]
      handle.subscribe([...filters, subscriptionOf('c')])
      handle.subscribe([subscriptionOf('b/+', { qos: 0 })])
      await under.store.whenDurable(handle.unsubscribe(['c', 'never/there']))
      const store = await under.crash()
      const found = []
      for await (const session of store.sessions()) found.push(session)
      assert.equal(found.length, 1)
      assert.deepEqual(found[0]!.subscriptions, [filters[0], subscriptionOf('b/+', { qos: 0 })])
      assert.equal(found[0]!.attached, false)
      const again = await attach(store, 'one')
      assert.equal(again.present, true)
      assert.ok(again.epoch > handle.epoch)
      assert.deepEqual(again.subscriptions, found[0]!.subscriptions)
    })

    test('messages wait for a session that is away, in order, each once', async () => {
      const handle = await attach(under.store, 'one')
      handle.detach(leave)
      let ticket = 0
      for (let i = 0; i < 5; i++) ticket = queue(handle, `m${i}`, { properties: Uint8Array.of(1, 2, i) }, i % 2 === 0 ? 1 : 2)
      await under.store.whenDurable(ticket)
      assert.ok(under.store.durable >= ticket)
      const store = await under.crash()
      const again = await attach(store, 'one')
      const first = again.take(2)
      assert.deepEqual([...first[1]!.message.properties], [1, 2, 1])
      assert.deepEqual(
        first.map(({ qos, message }) => [qos, textOf(message)]),
        [
          [1, 'm0'],
          [2, 'm1'],
        ],
      )
      assert.deepEqual(taken(again), ['m2', 'm3', 'm4'])
      assert.deepEqual(taken(again), [])
    })

    test('a session that is named twice gets the message once', async () => {
      const handle = await attach(under.store, 'one')
      const to = { session: handle.ref, qos: 1, retain: false } as const
      for (const text of ['a', 'b']) under.store.publish({ message: messageOf('t', text), recipients: [to, to] })
      assert.deepEqual(taken(handle), ['a', 'b'])
    })

    test('it gets it at the highest QoS that it is named with, with all identifiers, and as a member of the group', async () => {
      const [handle, other] = [await attach(under.store, 'one'), await attach(under.store, 'two')]
      const own = { session: handle.ref, qos: 1, retain: false, identifiers: [3] } as const
      const shared = { session: handle.ref, qos: 2, retain: true, identifiers: [7, 9], group: '$share/g/t' } as const
      const plain = { session: handle.ref, qos: 1, retain: false } as const
      const beside = { session: other.ref, qos: 1, retain: false } as const
      const publish = (...recipients: readonly SessionRecipient[]): number => under.store.publish({ message: messageOf('t', 'x'), recipients })
      publish(own, beside, shared)
      publish(shared, beside, own, plain)
      await under.store.whenDurable(publish(plain, beside, plain))
      const store = await under.crash()
      const again = await attach(store, 'one')
      assert.deepEqual(
        again.take(1000).map(({ qos, retain, identifiers }) => [qos, retain, identifiers]),
        [
          [2, true, [3, 7, 9]],
          [2, true, [7, 9, 3]],
          [1, false, []],
        ],
      )
      const beyond = await attach(store, 'two')
      assert.deepEqual(
        beyond.take(1000).map(({ qos, retain, identifiers }) => [qos, retain, identifiers]),
        [1, 2, 3].map(() => [1, false, []]),
      )
      const groups: string[] = []
      store.onEnded((_, left) => void groups.push(...left.map(({ group }) => group)))
      await store.end(tenant, 'one')
      assert.deepEqual(groups, ['$share/g/t', '$share/g/t'])
    })

    test('who was given less than asked for is told of more, once', async () => {
      let told = 0
      const handle = await attach(under.store, 'one', { onQueued: () => void told++ })
      queue(handle, 'a')
      assert.equal(told, 0)
      assert.deepEqual(taken(handle), ['a'])
      queue(handle, 'b')
      queue(handle, 'c')
      assert.equal(told, 1)
      assert.deepEqual(taken(handle), ['b', 'c'])
    })

    test('deliveries under way come again with their packet ids and states, in the order of sending', async () => {
      const handle = await attach(under.store, 'one')
      for (const [i, qos] of ([1, 2, 2, 1, 2] as const).entries()) queue(handle, `m${i}`, {}, qos)
      const deliveries = handle.take(4)
      deliveries.forEach((delivery, i) => handle.sending(delivery, 40 - i))
      handle.done(40)
      await under.store.whenDurable(handle.received(38))
      const store = await under.crash()
      const again = await attach(store, 'one')
      assert.deepEqual(
        again.inflight.map((one) => [one.packetId, one.state, one.state === 'sent' ? textOf(one.delivery.message) : '']),
        [
          [39, 'sent', 'm1'],
          [38, 'received', ''],
          [37, 'sent', 'm3'],
        ],
      )
      assert.deepEqual(taken(again), ['m4'])
      again.done(38)
      await store.whenDurable(again.received(39))
      const last = await attach(await under.crash(), 'one')
      assert.deepEqual(
        last.inflight.map(({ packetId, state }) => [packetId, state]),
        [
          [39, 'received'],
          [37, 'sent'],
        ],
      )
      assert.deepEqual(taken(last), ['m4'], 'what was taken and not sent is there to be taken again')
    })

    test('packet ids of QoS 2 publishes are remembered until their release', async () => {
      const handle = await attach(under.store, 'one')
      const other = await attach(under.store, 'two')
      const recipients = [{ session: other.ref, qos: 2, retain: false }] as const
      for (const text of ['x', 'x again']) {
        under.store.publish({ message: messageOf('a', text, { qos: 2 }), recipients, inbound: { session: handle, packetId: 7 } })
      }
      handle.accept(65_535)
      handle.accept(65_535)
      await under.store.whenDurable(handle.accept(9))
      const store = await under.crash()
      const again = await attach(store, 'one')
      assert.deepEqual([...again.inbound].toSorted(), [65_535, 7, 9].toSorted())
      assert.deepEqual(taken(await attach(store, 'two')), ['x'])
      again.release(7)
      again.release(1234)
      await store.whenDurable(again.release(9))
      assert.deepEqual((await attach(await under.crash(), 'one')).inbound, [65_535])
    })

    test('whoever connects last has the session', async () => {
      let lost = 0
      const first = await attach(under.store, 'one', { onTaken: () => void lost++ })
      queue(first, 'a')
      const delivery = first.take(1)[0]!
      const second = await attach(under.store, 'one')
      assert.equal(lost, 1)
      assert.ok(second.epoch > first.epoch)
      const fenced = [
        () => first.subscribe([subscriptionOf('x')]),
        () => first.take(1),
        () => first.sending(delivery, 1),
        () => first.received(1),
        () => first.done(1),
        () => first.accept(1),
        () => first.release(1),
        () => under.store.publish({ message: messageOf('a', 'x'), recipients: [], inbound: { session: first, packetId: 1 } }),
      ]
      for (const call of fenced) assert.throws(call, { code: 'session_taken' })
      first.detach({ expiryS: 0, will: 'publish' })
      assert.deepEqual(taken(second), ['a'])
      assert.equal(under.store.figures().attached, 1)
    })

    test('a clean start ends what was there', async () => {
      const ended: number[] = []
      under.store.onEnded(({ id }) => ended.push(id))
      const first = await attach(under.store, 'one')
      first.subscribe([subscriptionOf('x')])
      queue(first, 'a')
      const second = await attach(under.store, 'one', { clean: true })
      assert.deepEqual([second.present, second.subscriptions, taken(second)], [false, [], []])
      assert.deepEqual(ended, [first.ref.id])
      queue(first, 'b')
      assert.equal(under.store.figures().dropped.ended, 1)
      assert.equal(under.store.figures().deliveries, 0)
      await under.store.whenDurable(second.ticket)
      assert.equal((await attach(await under.crash(), 'one')).subscriptions.length, 0)
    })

    test('sessions end when their time is over, also over a restart', async () => {
      const ended: string[] = []
      under.store.onEnded(({ client }) => ended.push(client))
      const short = await attach(under.store, 'short', { expiryS: 10 })
      const long = await attach(under.store, 'long', { expiryS: 10 })
      const gone = await attach(under.store, 'gone', { expiryS: 0 })
      await attach(under.store, 'connected', { expiryS: 10 })
      short.detach(leave)
      long.detach({ expiryS: 60, will: 'publish' })
      gone.detach(leave)
      await under.advance(8000)
      assert.deepEqual(ended, ['gone'])
      assert.equal((await attach(under.store, 'short', { expiryS: 10 })).present, true)
      await under.advance(12_000)
      assert.deepEqual(ended, ['gone'])
      const store = await under.crash()
      assert.deepEqual(await all(store), ['connected', 'long', 'short'])
      await under.advance(12_000)
      assert.deepEqual(await all(store), ['long'], 'those that had a connection have left at the start')
      await under.advance(60_000)
      assert.deepEqual(await all(store), [])
      assert.equal((await attach(store, 'long')).present, false)
    })

    test('a session whose time passed while nothing ran is not found again', async () => {
      const handle = await attach(under.store, 'one', { expiryS: 5 })
      handle.detach(leave)
      await under.store.whenDurable((await attach(under.store, 'two')).ticket)
      await under.advance(4000)
      const store = await under.crash()
      await under.advance(3000)
      assert.equal((await attach(store, 'one')).present, false)
    })

    test('expired messages are left out, and the other sessions keep theirs', async () => {
      const handle = await attach(under.store, 'one')
      const expiresUs = under.nowUs() + 5e6
      queue(handle, 'short', { expiresUs })
      queue(handle, 'long')
      queue(handle, 'short too', { expiresUs })
      await under.advance(6000)
      assert.deepEqual(taken(handle), ['long'])
      assert.equal(under.store.figures().dropped.expired, 2)
      assert.equal(under.store.figures().deliveries, 1)
    })

    test('retained messages: the last of a topic, by filter, until an empty one', async () => {
      const retain = (topic: string, text: string): number => under.store.publish({ message: messageOf(topic, text), recipients: [], retain: true })
      for (const topic of ['a', 'a/b', 'a/b/c', '$SYS/x', '/a', 'a//c']) retain(topic, '1')
      retain('a/b', '2')
      retain('gone', 'x')
      await under.store.whenDurable(retain('gone', ''))
      for (const store of [under.store, await under.crash()]) {
        assert.deepEqual(await retainedOf(store, '#'), ['/a=1', 'a//c=1', 'a/b/c=1', 'a/b=2', 'a=1'])
        assert.deepEqual(await retainedOf(store, 'a/#'), ['a//c=1', 'a/b/c=1', 'a/b=2', 'a=1'])
        assert.deepEqual(await retainedOf(store, 'a/+/c'), ['a//c=1', 'a/b/c=1'])
        assert.deepEqual(await retainedOf(store, '+/a'), ['/a=1'])
        assert.deepEqual(await retainedOf(store, '+/x'), [])
        assert.deepEqual(await retainedOf(store, '$SYS/#'), ['$SYS/x=1'])
        assert.deepEqual(await retainedOf(store, 'a/b'), ['a/b=2'])
        assert.deepEqual(await retainedOf(store, 'nothing'), [])
        assert.equal(store.figures().retained, 6)
      }
    })

    test('a message that is retained and waits is kept once, and each goes on its own', async () => {
      const handle = await attach(under.store, 'one')
      const recipients = [{ session: handle.ref, qos: 1, retain: true, identifiers: [3, 300_000] }] as const
      await under.store.whenDurable(under.store.publish({ message: messageOf('a', 'x'), recipients, retain: true }))
      const store = await under.crash()
      const again = await attach(store, 'one')
      const [delivery] = again.take(10)
      assert.deepEqual([delivery!.retain, delivery!.identifiers], [true, [3, 300_000]])
      again.sending(delivery!, 1)
      again.done(1)
      assert.deepEqual(await retainedOf(store, '#'), ['a=x'])
      assert.equal(store.figures().messageBytes, 0)
      store.publish({ message: messageOf('a', ''), recipients: [], retain: true })
      assert.equal(store.figures().retainedBytes, 0)
    })

    test('a will is due when its connection is gone and its delay is over', async () => {
      const due: string[] = []
      under.store.onWill((one) => due.push(textOf(one.message)))
      const now = await attach(under.store, 'now', { will: will('now', 0) })
      const later = await attach(under.store, 'later', { will: will('later', 20) })
      const ending = await attach(under.store, 'ending', { expiryS: 5, will: will('ending', 20) })
      const discarded = await attach(under.store, 'discarded', { will: will('discarded', 0) })
      const back = await attach(under.store, 'back', { will: will('back', 20) })
      for (const handle of [now, later, ending, back]) handle.detach(leave)
      discarded.detach({ will: 'discard' })
      assert.deepEqual(due, ['now'])
      await under.advance(7000)
      assert.deepEqual(due, ['now', 'ending'], 'at the end of the session at the latest')
      await attach(under.store, 'back')
      await under.advance(20_000)
      assert.deepEqual(due, ['now', 'ending', 'later'], 'not when the client came back before')
    })

    test('a will of a connection that is taken over', async () => {
      const due: string[] = []
      under.store.onWill((one) => due.push(textOf(one.message)))
      await attach(under.store, 'one', { will: will('delayed', 20) })
      await attach(under.store, 'one', { will: will('at once', 0) })
      assert.deepEqual(due, [])
      await attach(under.store, 'one', { will: will('anew', 20) })
      assert.deepEqual(due, ['at once'])
      await attach(under.store, 'one', { clean: true })
      assert.deepEqual(due, ['at once', 'anew'])
    })

    test('wills outlive a crash until they are published', async () => {
      const one = await attach(under.store, 'away', { will: will('away', 10) })
      one.detach(leave)
      const last = await attach(under.store, 'connected', { will: will('connected', 3) })
      await under.store.whenDurable(last.ticket)
      let store = await under.crash()
      let due: string[] = []
      store.onWill((each) => {
        due.push(textOf(each.message))
        assert.deepEqual([each.client, each.retain], [textOf(each.message), true])
        if (textOf(each.message) === 'away') store.publish({ message: each.message, recipients: [], retain: each.retain, will: each })
      })
      await under.advance(15_000)
      assert.deepEqual(due, ['connected', 'away'])
      await store.whenDurable((await attach(store, 'x')).ticket)
      store = await under.crash()
      due = []
      store.onWill((each) => due.push(textOf(each.message)))
      assert.deepEqual(due, ['connected'], 'it was never published')
      assert.deepEqual(await retainedOf(store, '#'), ['will/away=away'])
    })

    test('one message for many sessions counts once', async () => {
      const handles = await Promise.all(Array.from({ length: 100 }, (_, i) => attach(under.store, `c${i}`)))
      const payload = Buffer.alloc(10_000, 'x')
      const recipients = handles.map(({ ref }) => ({ session: ref, qos: 1, retain: false }) as const)
      await under.store.whenDurable(under.store.publish({ message: messageOf('a', '', { payload }), recipients }))
      payload.fill('y')
      assert.ok(under.store.figures().messageBytes < 20_000)
      assert.equal(under.store.figures().deliveries, 100)
      const store = await under.crash()
      assert.ok(store.figures().messageBytes < 20_000)
      for (const { ref } of handles) {
        const handle = await attach(store, ref.client)
        const [delivery] = handle.take(1)
        assert.equal(textOf(delivery!.message), 'x'.repeat(10_000))
        handle.sending(delivery!, 1)
        handle.done(1)
      }
      assert.equal(store.figures().messageBytes, 0)
    })

    test('a session can be ended', async () => {
      let lost = 0
      await attach(under.store, 'one', { onTaken: () => void lost++ })
      assert.equal(await under.store.end(tenant, 'one'), true)
      assert.equal(await under.store.end(tenant, 'one'), false)
      assert.equal(lost, 1)
      assert.deepEqual(await all(await under.crash()), [])
    })

    test('a session that ends leaves what of shared subscriptions was not delivered, also over a restart', async () => {
      const handle = await attach(under.store, 'one')
      const share = (text: string, qos: 1 | 2, group?: string): number =>
        under.store.publish({
          message: messageOf('a', text, { qos }),
          recipients: [{ session: handle.ref, qos, retain: false, ...(group === undefined ? {} : { group }) }],
        })
      share('sent', 1, '$share/g/#')
      share('begun', 2, '$share/g/#')
      share('own', 1)
      share('done', 1, '$share/g/#')
      for (const [i, delivery] of handle.take(4).entries()) if (i !== 2) handle.sending(delivery, i + 1)
      handle.done(4)
      await under.store.whenDurable(share('waits', 2, '$share/h/a'))
      const store = await under.crash()
      const left: string[] = []
      store.onEnded((_, deliveries) => left.push(...deliveries.map(({ group, message }) => `${group} ${textOf(message)}`)))
      await store.end(tenant, 'one')
      assert.deepEqual(left, ['$share/g/# sent', '$share/h/a waits'])
    })

    test('tenants do not meet', async () => {
      const options = { clean: false, expiryS: 60, onTaken: () => assert.fail('taken'), onQueued: () => undefined }
      await under.store.attach('a', 'one', options)
      assert.equal((await under.store.attach('b', 'one', options)).present, false)
      under.store.publish({ message: messageOf('t', 'x', { tenant: 'a' }), recipients: [], retain: true })
      assert.deepEqual(await retainedOf(under.store, '#'), [])
    })
  })

  describe(`limits of sessions, ${name}`, () => {
    const full = async (whenFull: 'drop_oldest' | undefined, limits: Partial<SessionLimits>): Promise<[string[], SessionStoreUnderTest]> => {
      const under = await open(limits, whenFull)
      const handle = await attach(under.store, 'one')
      for (let i = 0; i < 6; i++) {
        under.store.publish({ message: messageOf('a', `m${i}`), recipients: [{ session: handle.ref, qos: 1, retain: false }] })
        // Those that are under way stay whatever comes.
        if (i === 0) handle.sending(handle.take(1)[0]!, 1)
      }
      return [taken(handle), under]
    }

    test('a full queue drops the newest, or the oldest that are not under way', async () => {
      const [newest, first] = await full(undefined, { queueMessagesMax: 3 })
      assert.deepEqual(newest, ['m1', 'm2'])
      assert.equal(first.store.figures().dropped.queue_messages, 3)
      await first.close()
      const [oldest, second] = await full('drop_oldest', { queueMessagesMax: 3 })
      assert.deepEqual(oldest, ['m4', 'm5'])
      assert.equal(second.store.figures().dropped.queue_messages, 3)
      await second.close()
    })

    test('bytes of one queue, and of all', async () => {
      const [some, first] = await full(undefined, { queueBytesMax: 1000 })
      assert.equal(first.store.figures().dropped.queue_bytes, 6 - 1 - some.length)
      assert.ok(some.length < 5)
      await first.close()
      const [others, second] = await full('drop_oldest', { totalBytesMax: 1000 })
      assert.equal(second.store.figures().dropped.total_bytes, 6 - 1 - others.length)
      assert.ok(others.length < 5)
      await second.close()
    })

    test('sessions of a tenant, and retained messages', async () => {
      const under = await open({ sessionsPerTenantMax: 2, retainedMessagesMax: 2, retainedBytesMax: 100_000, willBytesMax: 850 })
      const retain = (topic: string, text: string): number => under.store.publish({ message: messageOf(topic, text), recipients: [], retain: true })
      await attach(under.store, 'one')
      await attach(under.store, 'two')
      await assert.rejects(attach(under.store, 'three'), { code: 'too_many_sessions' })
      assert.equal((await attach(under.store, 'two')).present, true)
      await attach(under.store, 'one', { will: will('one', 5) })
      await assert.rejects(attach(under.store, 'two', { will: will('two'.repeat(10), 5) }), { code: 'overloaded' })
      await attach(under.store, 'two', { will: will('two', 5) })
      await attach(under.store, 'two', { will: will('two', 5) })
      await attach(under.store, 'one')
      await attach(under.store, 'two', { will: will('two'.repeat(10), 5) })
      const unretained: string[] = []
      for (const topic of ['a', 'b', 'c', 'b', 'large'] as const) {
        if (topic === 'large') retain('a', 'x'.repeat(100_000))
        else retain(topic, topic)
        if (under.store.unretained) unretained.push(topic)
      }
      assert.deepEqual(unretained, ['c', 'large'])
      retain('c', '')
      assert.equal(under.store.unretained, false, 'nothing was to be kept')
      assert.deepEqual(await retainedOf(under.store, '#'), ['b=b'], 'no value rather than an old one')
      assert.equal(under.store.figures().dropped.retained_messages, 1)
      assert.equal(under.store.figures().dropped.retained_bytes, 1)
      await under.close()
    })
  })
}

function will(text: string, delayS: number): NonNullable<AttachOptions['will']> {
  return { message: messageOf(`will/${text}`, text), retain: true, delayS }
}
