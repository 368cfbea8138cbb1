import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Budget } from '../../src/doors/mqtt/budget.ts'
import { deliverEach } from '../../src/doors/mqtt/fanout.ts'
import { matchesFilter } from '../../src/doors/mqtt/filter.ts'
import type { SubscriptionOptions } from '../../src/doors/mqtt/roster.ts'
import { Subscriptions } from '../../src/doors/mqtt/subscriptions.ts'
import { fuzzRuns } from '../support/effort.ts'

const asked = (o: Partial<SubscriptionOptions> = {}): SubscriptionOptions => ({
  qos: 0,
  noLocal: false,
  retainAsPublished: false,
  retainHandling: 0,
  identifier: 0,
  ...o,
})

interface Tree extends Subscriptions<string> {
  readonly nodes: Budget
  readonly subscriptions: Budget
}

function tree(nodesMax = 1_000_000, cacheMax = 1000, subscriptionsMax = 1_000_000): Tree {
  const nodes = new Budget(nodesMax)
  const subscriptions = new Budget(subscriptionsMax)
  const presence = { connected: () => true, readiness: () => 'ready' as const }
  return Object.assign(new Subscriptions<string>({ nodes, subscriptions, cacheMax, presence }), { nodes, subscriptions })
}

interface Got {
  readonly who: string
  readonly qos: number
  readonly retain: boolean
  readonly identifiers: readonly number[]
}

/** Who gets a message, in the order of their names; members of groups behind. */
function got(subscriptions: Subscriptions<string>, topic: string, o: { qos?: 0 | 1 | 2; retain?: boolean; publisher?: string } = {}): Got[] {
  const all: Got[] = []
  deliverEach(subscriptions.match(topic), { qos: 2, retain: true, ...o }, (who, qos, retain, identifiers = [], group) =>
    all.push({ who: group === undefined ? who : `~${group.name}:${who}`, qos, retain, identifiers: [...identifiers].sort((a, b) => a - b) }),
  )
  return all.sort((a, b) => (a.who < b.who ? -1 : 1))
}

/** The rules of section 4.7, as plainly as they can be said. */
function matches(filter: string, topic: string): boolean {
  if (topic.startsWith('$') && /^[#+]/.test(filter)) return false
  const [f, t] = [filter.split('/'), topic.split('/')]
  for (let i = 0; i < f.length; i++) {
    if (f[i] === '#') return true
    if (i >= t.length || (f[i] !== '+' && f[i] !== t[i])) return false
  }
  return f.length === t.length
}

test('the examples of section 4.7.1', () => {
  const cases: [string, string, boolean][] = [
    ['sport/tennis/player1/#', 'sport/tennis/player1', true],
    ['sport/tennis/player1/#', 'sport/tennis/player1/ranking', true],
    ['sport/tennis/player1/#', 'sport/tennis/player1/score/wimbledon', true],
    ['sport/#', 'sport', true],
    ['#', 'a/b', true],
    ['sport/tennis/+', 'sport/tennis/player1', true],
    ['sport/tennis/+', 'sport/tennis/player1/ranking', false],
    ['sport/+', 'sport', false],
    ['sport/+', 'sport/', true],
    ['+/+', '/finance', true],
    ['/+', '/finance', true],
    ['+', '/finance', false],
    ['#', '$SYS/monitor', false],
    ['+/monitor/Clients', '$SYS/monitor/Clients', false],
    ['$SYS/#', '$SYS/monitor', true],
    ['$SYS/monitor/+', '$SYS/monitor/Clients', true],
    ['ACCOUNTS', 'Accounts', false],
  ]
  for (const [filter, topic, expected] of cases) {
    const subscriptions = tree()
    subscriptions.add(filter, 'x', asked())
    assert.equal(subscriptions.match(topic).nodes.length, expected ? 1 : 0, `${filter} on ${topic}`)
    assert.equal(matches(filter, topic), expected, `the rule: ${filter} on ${topic}`)
    assert.equal(matchesFilter(filter, topic), expected, `matchesFilter: ${filter} on ${topic}`)
  }
})

const level = fc.constantFrom('a', 'b', '', '$x', 'aa', '$share', '€')
const topic = fc.array(level, { minLength: 1, maxLength: 5 }).map((levels) => levels.join('/'))
const filter = fc
  .tuple(fc.array(fc.oneof(level, fc.constant('+')), { maxLength: 5 }), fc.boolean())
  .map(([levels, rest]) => (rest ? [...levels, '#'] : levels).join('/'))
  .filter((text) => text !== '' && !text.startsWith('$share/'))
const deep = fc.tuple(fc.array(fc.constantFrom('a', '+'), { minLength: 90, maxLength: 110 }), fc.boolean())

test('matchesFilter agrees with the rules, deep filters included', () => {
  fc.assert(
    fc.property(filter, topic, (f, t) => assert.equal(matchesFilter(f, t), matches(f, t))),
    fuzzRuns(20_000),
  )
  fc.assert(
    fc.property(deep, fc.integer({ min: 88, max: 112 }), ([levels, rest], depth) => {
      const f = (rest ? [...levels, '#'] : levels).join('/')
      const t = Array.from({ length: depth }, () => 'a').join('/')
      assert.equal(matchesFilter(f, t), matches(f, t))
      const subscriptions = tree()
      subscriptions.add(f, 'x', asked())
      assert.equal(subscriptions.match(t).nodes.length > 0, matches(f, t))
      subscriptions.removeAll('x')
      assert.equal(subscriptions.nodes.used, 0)
    }),
    fuzzRuns(500),
  )
})

const options = fc.record<SubscriptionOptions>({
  qos: fc.constantFrom(0, 1, 2),
  noLocal: fc.boolean(),
  retainAsPublished: fc.boolean(),
  retainHandling: fc.constantFrom(0, 1, 2),
  identifier: fc.constantFrom(0, 1, 2, 268_435_455),
})

interface Known {
  readonly filter: string
  readonly who: string
  readonly options: SubscriptionOptions
}

/** What each subscriber is to get, from the list of all subscriptions. */
function expected(model: Iterable<Known>, topic: string, qos: number, publisher: string): Got[] {
  const all = new Map<string, { qos: number; retain: boolean; identifiers: number[] }>()
  for (const one of model) {
    if (!matches(one.filter, topic) || (one.options.noLocal && one.who === publisher)) continue
    const sum = all.get(one.who) ?? { qos: 0, retain: false, identifiers: [] }
    sum.qos = Math.max(sum.qos, Math.min(qos, one.options.qos))
    sum.retain ||= one.options.retainAsPublished
    if (one.options.identifier > 0) sum.identifiers.push(one.options.identifier)
    all.set(one.who, sum)
  }
  return [...all].map(([who, sum]) => ({ who, ...sum, identifiers: sum.identifiers.sort((a, b) => a - b) })).sort((a, b) => (a.who < b.who ? -1 : 1))
}

test('the tree, what is remembered of it, its merged deliveries and its removals agree with the rules', () => {
  const who = fc.constantFrom('u', 'v', 'w')
  const operation = fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constantFrom('add' as const, 'remove' as const), filter, who, options }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('leave' as const), filter, who, options }) },
  )
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 60 }), fc.array(topic, { minLength: 1, maxLength: 6 }), fc.nat(50), (operations, topics, every) => {
      const subscriptions = tree(1000, 10)
      const kept = topics.map((one) => subscriptions.match(one))
      const model = new Map<string, Known>()
      const check = (): void => {
        topics.forEach((one, i) => {
          assert.deepEqual(got(subscriptions, one, { qos: 1, publisher: 'u' }), expected(model.values(), one, 1, 'u'))
          subscriptions.refresh(kept[i]!)
          assert.deepEqual(new Set(kept[i]!.nodes), new Set(subscriptions.match(one).nodes))
          assert.equal(kept[i]!.nodes.length, new Set(kept[i]!.nodes).size)
        })
      }
      operations.forEach(({ kind, filter, who, options }, i) => {
        const key = `${who} ${filter}`
        if (kind === 'add') {
          assert.equal(subscriptions.add(filter, who, options), model.has(key) ? 'replaced' : 'new')
          model.set(key, { filter, who, options: { ...options } })
        } else if (kind === 'remove') assert.equal(subscriptions.remove(filter, who), model.delete(key))
        else {
          const theirs = [...model.keys()].filter((one) => one.startsWith(`${who} `))
          assert.equal(subscriptions.removeAll(who), theirs.length)
          for (const one of theirs) model.delete(one)
        }
        // Now and then only: changes pile up in between.
        if (i % (every + 1) === 0) check()
      })
      check()
      assert.equal(subscriptions.size, model.size)
      assert.equal(subscriptions.subscriptions.used, model.size)
      for (const who of ['u', 'v', 'w']) {
        const listed = [...subscriptions.of(who)].map(({ filter, ...rest }) => ({ filter, who, options: rest }))
        const known = [...model.values()].filter((one) => one.who === who)
        const byFilter = (a: Known, b: Known): number => (a.filter < b.filter ? -1 : 1)
        assert.deepEqual(listed.sort(byFilter), known.sort(byFilter))
        assert.equal(subscriptions.count(who), known.length)
      }
      for (const { filter, who } of model.values()) subscriptions.remove(filter, who)
      assert.deepEqual([subscriptions.nodes.used, subscriptions.size, subscriptions.subscriptions.used, subscriptions.remembered], [0, 0, 0, 0])
    }),
    fuzzRuns(1_500),
  )
})

test('the budgets of levels and of subscriptions hold, and a replacement needs no room', () => {
  const levels = tree(4)
  assert.equal(levels.add('a/b', 'u', asked()), 'new')
  assert.equal(levels.add('x/y/z', 'u', asked()), undefined)
  assert.equal(levels.nodes.used, 2)
  assert.equal(levels.add('$share/g/a/b', 'u', asked()), 'new')
  assert.equal(levels.add('c', 'u', asked()), 'new')
  assert.equal(levels.add('$share/h/a/b', 'u', asked()), undefined, 'a group takes the room of a level')
  assert.equal(levels.add('d', 'u', asked()), undefined)
  assert.equal(levels.add('a/b', 'v', asked()), 'new', 'the filter is there')
  const few = tree(100, 100, 2)
  few.add('a', 'u', asked())
  few.add('a', 'v', asked())
  assert.equal(few.add('a', 'w', asked()), undefined)
  assert.equal(few.nodes.used, 1)
  assert.equal(few.add('a', 'v', asked({ qos: 1 })), 'replaced')
  few.remove('a', 'u')
  assert.equal(few.add('a', 'w', asked()), 'new')
})

test('overlapping subscriptions: one delivery with the highest QoS and all identifiers; No Local and Retain As Published of each', () => {
  const subscriptions = tree()
  subscriptions.add('a/#', 'u', asked({ qos: 0, identifier: 7 }))
  subscriptions.add('a/+', 'u', asked({ qos: 2, noLocal: true, retainAsPublished: true, identifier: 8 }))
  subscriptions.add('a/b', 'u', asked({ qos: 1 }))
  subscriptions.add('a/b', 'v', asked({ noLocal: true }))
  assert.deepEqual(got(subscriptions, 'a/b', { publisher: 'v' }), [{ who: 'u', qos: 2, retain: true, identifiers: [7, 8] }])
  assert.deepEqual(got(subscriptions, 'a/b', { publisher: 'u' }), [
    { who: 'u', qos: 1, retain: false, identifiers: [7] },
    { who: 'v', qos: 0, retain: false, identifiers: [] },
  ])
  assert.deepEqual(got(subscriptions, 'a/b', { qos: 1, retain: false }), [
    { who: 'u', qos: 1, retain: false, identifiers: [7, 8] },
    { who: 'v', qos: 0, retain: false, identifiers: [] },
  ])
})

test('a delivery may end subscriptions and publish in its turn: everybody else gets both messages once', () => {
  const subscriptions = tree()
  for (const who of ['a', 'b', 'c', 'd']) subscriptions.add('t', who, asked())
  subscriptions.add('will', 'd', asked())
  subscriptions.add('will', 'e', asked())
  const order: string[] = []
  deliverEach(subscriptions.match('t'), { qos: 0, retain: false }, (who) => {
    order.push(who)
    if (who !== 'b') return
    subscriptions.removeAll('b')
    deliverEach(subscriptions.match('will'), { qos: 0, retain: false }, (other) => order.push(`will ${other}`))
  })
  assert.deepEqual(order, ['a', 'b', 'will d', 'will e', 'c', 'd'])
})

test('who comes to or leaves a filter that is there changes nothing that is remembered', () => {
  const subscriptions = tree()
  subscriptions.add('a', 'u', asked())
  const match = subscriptions.match('a')
  const { version } = subscriptions
  const { nodes } = match
  subscriptions.add('a', 'v', asked({ qos: 1 }))
  subscriptions.add('a', 'u', asked({ qos: 1 }))
  subscriptions.remove('a', 'v')
  assert.equal(subscriptions.version, version)
  subscriptions.add('+', 'w', asked())
  subscriptions.refresh(match)
  assert.equal(match.nodes.length, 2)
  subscriptions.remove('+', 'w')
  subscriptions.refresh(match)
  assert.deepEqual(match.nodes, nodes)
})

test('a client that subscribes and unsubscribes without end: what others use stays remembered', () => {
  const subscriptions = tree()
  for (let i = 0; i < 100; i++) subscriptions.add(`site/${i}`, `c${i}`, asked())
  const matched = Array.from({ length: 100 }, (_, i) => subscriptions.match(`site/${i}`))
  const nodes = matched.map((match) => match.nodes)
  for (let round = 0; round < 1000; round++) {
    const filter = round % 2 === 0 ? `evil/${round}` : `+/+/${round}`
    subscriptions.add(filter, 'evil', asked())
    const match = matched[round % 100]!
    // The topic is not walked again: its list is the same object.
    if (round > 200 && round % 100 > 20) subscriptions.refresh(match)
    subscriptions.remove(filter, 'evil')
    matched.forEach((one) => subscriptions.refresh(one))
  }
  matched.forEach((match, i) => assert.equal(match.nodes, nodes[i]))
  assert.equal(subscriptions.match('site/7'), matched[7])
  subscriptions.add('#', 'evil', asked())
  subscriptions.refresh(matched[3]!)
  assert.equal(matched[3]!.nodes.length, 2)
})

test('after more changes than are remembered a match is made anew', () => {
  for (const junk of [1, 30, 31, 32, 33, 100]) {
    const subscriptions = tree()
    subscriptions.add('a', 'u', asked())
    subscriptions.add('a/#', 'v', asked())
    const match = subscriptions.match('a')
    subscriptions.remove('a', 'u')
    subscriptions.add('+', 'w', asked())
    for (let i = 0; i < junk; i++) subscriptions.add(`junk/${i}`, 'w', asked())
    subscriptions.refresh(match)
    assert.deepEqual(new Set(match.nodes.map((node) => node.roster?.list[0]?.holder.subscriber)), new Set(['v', 'w']), `${junk}`)
  }
})

test('what is remembered is bounded, by the length of topics too', () => {
  const subscriptions = tree(1000, 100)
  subscriptions.add('x', 'u', asked())
  for (let i = 0; i < 1000; i++) subscriptions.match(`t/${i}`)
  assert.ok(subscriptions.remembered <= 100)
  for (let i = 0; i < 1000; i++) subscriptions.match(`t/${i}/${'x'.repeat(64 * 49)}`)
  assert.ok(subscriptions.remembered <= 2, `${subscriptions.remembered}`)
})

test('100,000 subscriptions: a topic visits few of them', () => {
  const subscriptions = tree()
  for (let i = 0; i < 100_000; i++) subscriptions.add(i % 10 === 0 ? `site/${i}/+/state` : `site/${i}/device/state`, `c${i}`, asked({ qos: 1 }))
  subscriptions.add('site/+/device/#', 'all', asked())
  for (const i of [5, 10, 99_999])
    assert.deepEqual(
      got(subscriptions, `site/${i}/device/state`).map(({ who, qos }) => [who, qos]),
      [
        ['all', 0],
        [`c${i}`, 1],
      ],
    )
})
