import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Budget } from '../../src/doors/mqtt/budget.ts'
import { deliverEach } from '../../src/doors/mqtt/fanout.ts'
import { shareOf } from '../../src/doors/mqtt/filter.ts'
import type { SharedGroup } from '../../src/doors/mqtt/roster.ts'
import type { Readiness } from '../../src/doors/mqtt/shared.ts'
import { Subscriptions } from '../../src/doors/mqtt/subscriptions.ts'
import { fuzzRuns } from '../support/effort.ts'
import { ack, hex, publish, subscribe } from './client-packets.ts'
import { World } from './harness.ts'

interface Member {
  readonly name: string
  connected: boolean
  state: Readiness
}

const options = (qos: 0 | 1 | 2, identifier = 0) => ({ qos, noLocal: false, retainAsPublished: false, retainHandling: 0, identifier }) as const

function setUp(): { readonly tree: Subscriptions<Member>; readonly nodes: Budget; join(filter: string, name: string, qos?: 0 | 1 | 2): Member } {
  const nodes = new Budget(10_000)
  const tree = new Subscriptions<Member>({
    nodes,
    subscriptions: new Budget(10_000),
    cacheMax: 1000,
    presence: { connected: (member) => member.connected, readiness: (member) => member.state },
  })
  return {
    tree,
    nodes,
    join(filter, name, qos = 1) {
      const member: Member = { name, connected: true, state: 'ready' }
      assert.equal(tree.add(filter, member, options(qos)), 'new')
      return member
    },
  }
}

/** Names of those who got a message, `qos` behind them when it is not 1. */
function send(tree: Subscriptions<Member>, topic: string, qos: 0 | 1 | 2 = 1): string[] {
  const names: string[] = []
  deliverEach(tree.match(topic), { qos, retain: false }, (member, granted) => names.push(granted === 1 ? member.name : `${member.name}@${granted}`))
  return names.sort()
}

function tally(tree: Subscriptions<Member>, topic: string, messages: number): Record<string, number> {
  const counts: Record<string, number> = {}
  for (let i = 0; i < messages; i++) for (const name of send(tree, topic)) counts[name] = (counts[name] ?? 0) + 1
  return counts
}

test('the shape of a shared subscription [MQTT-4.8.2-1] [MQTT-4.8.2-2]', () => {
  assert.deepEqual(shareOf('$share/g/a/b'), { group: 'g', filter: 'a/b' })
  assert.deepEqual(shareOf('$share/g//a'), { group: 'g', filter: '/a' })
  assert.deepEqual(shareOf('$share/g/#'), { group: 'g', filter: '#' })
  for (const wrong of ['$share/', '$share/g', '$share/g/', '$share//a', '$share/+/a', '$share/#', '$share/g+/a', '$share/g#/a'])
    assert.equal(shareOf(wrong), undefined, wrong)
  const { tree } = setUp()
  const member: Member = { name: 'm', connected: true, state: 'ready' }
  assert.equal(tree.add('$share/g', member, options(1)), undefined)
  assert.equal(tree.remove('$share/g', member), false)
  assert.equal(tree.size, 0)
})

test('each message goes to one member of each group, in turn, and to ordinary subscribers beside', () => {
  const { tree, join } = setUp()
  for (const name of ['a', 'b', 'c']) join('$share/g/t/+', name)
  join('$share/h/t/+', 'x')
  join('$share/g/t/#', 'other')
  join('t/1', 'all')
  const counts = tally(tree, 't/1', 300)
  assert.deepEqual(counts, { a: 100, b: 100, c: 100, x: 300, other: 300, all: 300 })
})

test('a client in a group and with an ordinary subscription gets both, each at its own QoS', () => {
  const { tree, join } = setUp()
  const one = join('$share/g/t', 'a', 2)
  tree.add('t', one, options(0))
  assert.deepEqual(send(tree, 't', 2), ['a@0', 'a@2'])
})

test('members who can send at once come first, then those with room, then those who are away, and one that is full at last', () => {
  const { tree, join } = setUp()
  const [a, b, c] = ['a', 'b', 'c'].map((name) => join('$share/g/t', name)) as [Member, Member, Member]
  a.state = 'full'
  b.state = 'busy'
  assert.deepEqual(tally(tree, 't', 10), { c: 10 })
  c.connected = false
  c.state = 'away'
  tree.moved(c)
  assert.deepEqual(tally(tree, 't', 10), { b: 10 })
  b.state = 'full'
  assert.deepEqual(tally(tree, 't', 10), { c: 10 })
  assert.deepEqual(tally(tree, 't', 1), { c: 1 })
  c.state = 'full'
  assert.deepEqual(tally(tree, 't', 10), { a: 5, b: 5 })
  c.connected = true
  c.state = 'ready'
  tree.moved(c)
  assert.deepEqual(tally(tree, 't', 10), { c: 10 })
})

test('members who are away divide what is kept; at QoS 0, of the message or granted, nothing is kept for them', () => {
  const { tree, join } = setUp()
  const members = [join('$share/g/t', 'a'), join('$share/g/t', 'b'), join('$share/g/t', 'zero', 0)]
  for (const member of members) {
    member.connected = false
    member.state = 'away'
    tree.moved(member)
  }
  assert.deepEqual(tally(tree, 't', 10), { a: 5, b: 5 })
  assert.deepEqual(send(tree, 't', 0), [])
})

test('handing over: the next member, never the one that is gone', () => {
  const { tree, join } = setUp()
  const a = join('$share/g/t', 'a')
  let group: SharedGroup<Member> | undefined
  deliverEach(tree.match('t'), { qos: 1, retain: false }, (_member, _qos, _retain, _identifiers, of) => (group = of))
  assert.equal(group?.next(1, a), undefined)
  join('$share/g/t', 'b')
  for (let i = 0; i < 5; i++) assert.equal(group?.next(1, a)?.holder.subscriber.name, 'b')
  tree.removeAll(a)
  assert.equal(group?.next(1)?.holder.subscriber.name, 'b')
})

test('whoever comes, goes, fills up or leaves: one connected member with room gets the message when there is one, and shares are even', () => {
  const change = fc.record({
    who: fc.nat(7),
    kind: fc.constantFrom('join', 'leave', 'away', 'back', 'full', 'room'),
    messages: fc.nat(5),
  })
  fc.assert(
    fc.property(fc.array(change, { maxLength: 60 }), (changes) => {
      const { tree, nodes } = setUp()
      const members = Array.from({ length: 8 }, (_, i): Member => ({ name: `${i}`, connected: true, state: 'ready' }))
      const inside = new Set<Member>()
      for (const { who, kind, messages } of changes) {
        const member = members[who]!
        if (kind === 'join') {
          tree.add('$share/g/t/+', member, options(1))
          inside.add(member)
        } else if (kind === 'leave') assert.equal(tree.remove('$share/g/t/+', member), inside.delete(member))
        else {
          member.connected = kind === 'away' ? false : kind === 'back' ? true : member.connected
          member.state = kind === 'full' ? 'full' : member.connected ? 'ready' : 'away'
          tree.moved(member)
        }
        const can = (state: Readiness): Member[] => [...inside].filter((one) => one.state === state)
        const fair = can('ready').length > 0 ? can('ready') : can('away').length > 0 ? can('away') : [...inside]
        const rounds = fair.length * messages
        const counts = tally(tree, 't/x', rounds)
        assert.equal(
          Object.values(counts).reduce((sum, count) => sum + count, 0),
          fair.length === 0 ? 0 : rounds,
        )
        for (const name of Object.keys(counts)) assert.ok(fair.some((one) => one.name === name))
        if (fair.length > 0 && fair[0]!.state !== 'full') for (const one of fair) assert.equal(counts[one.name] ?? 0, messages)
      }
      assert.equal(tree.shared, inside.size)
      for (const member of inside) tree.removeAll(member)
      assert.deepEqual([nodes.used, tree.shared, tree.size], [0, 0, 0])
    }),
    fuzzRuns(1_000),
  )
})

test('over 3.1.1: members take turns, one that goes is passed over, and none gets what is retained', () => {
  const world = new World()
  const [a, b] = ['a', 'b'].map((clientId) => {
    const line = world.client(clientId)
    line.send(subscribe(1, ['$share/g/t/+', 0]))
    line.expect('90 03 00 01 00')
    return line
  })
  const malformed = world.client('c')
  malformed.send(subscribe(1, ['$share/g', 0], ['$share//t', 0]))
  malformed.expect('90 04 00 01 80 80')
  const publisher = world.client('p')
  for (let i = 0; i < 4; i++) publisher.send(publish('t/x', `${i}`))
  a!.expect(...['0', '2'].map((text) => hex(publish('t/x', text))))
  b!.expect(...['1', '3'].map((text) => hex(publish('t/x', text))))
  a!.hangUp()
  for (let i = 4; i < 7; i++) publisher.send(publish('t/x', `${i}`))
  b!.expect(...['4', '5', '6'].map((text) => hex(publish('t/x', text))))
})

test('a member that goes with unacknowledged messages: QoS 1 is handed over, sent or not; QoS 2 only what was not sent', () => {
  const world = new World({ sendInflightMax: 2 })
  const [a, b] = ['a', 'b'].map((clientId) => {
    const line = world.client(clientId)
    line.send(subscribe(1, ['$share/g/t', 2]))
    line.take()
    return line
  })
  b!.hangUp()
  const publisher = world.client('p')
  publisher.send(publish('t', 'two', { qos: 2, id: 9 }))
  for (let i = 1; i <= 3; i++) publisher.send(publish('t', `${i}`, { qos: 1, id: i }))
  publisher.send(publish('t', 'two more', { qos: 2, id: 10 }))
  a!.expect(hex(publish('t', 'two', { qos: 2, id: 1 })), hex(publish('t', '1', { qos: 1, id: 2 })))
  a!.send(ack(0x40, 2))
  a!.expect(hex(publish('t', '2', { qos: 1, id: 3 })))
  const c = world.client('c')
  c.send(subscribe(1, ['$share/g/t', 1], ['other', 0]))
  c.take()
  a!.hangUp()
  c.expect(hex(publish('t', '2', { qos: 1, id: 1 })), hex(publish('t', '3', { qos: 1, id: 2 })))
  c.send(ack(0x40, 1))
  c.expect(hex(publish('t', 'two more', { qos: 1, id: 3 })))
  c.hangUp()
  assert.equal(world.broker.sending.used, 0)
})
