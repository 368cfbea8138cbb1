import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Budget } from '../../src/doors/mqtt/budget.ts'
import { Subscriptions } from '../../src/doors/mqtt/subscriptions.ts'
import { fuzzRuns } from '../support/effort.ts'

function tree(nodes = 1_000_000, cache = 1000): Subscriptions<string> {
  return new Subscriptions<string>(new Budget(nodes), cache)
}

/** Who matches, with the highest QoS. */
function matched(subscriptions: Subscriptions<string>, topic: string): Map<string, number> {
  const result = new Map<string, number>()
  for (const { byQos } of subscriptions.match(topic)) {
    byQos.forEach((list, qos) => list.forEach((who) => result.set(who, Math.max(qos, result.get(who) ?? 0))))
  }
  return result
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
    subscriptions.add(filter, 'x', 0)
    assert.equal(subscriptions.match(topic).length, expected ? 1 : 0, `${filter} on ${topic}`)
    assert.equal(matches(filter, topic), expected, `the rule: ${filter} on ${topic}`)
  }
})

const level = fc.constantFrom('a', 'b', '', '$x')
const topic = fc.array(level, { minLength: 1, maxLength: 4 }).map((levels) => levels.join('/'))
const filter = fc
  .tuple(fc.array(fc.oneof(level, fc.constant('+')), { minLength: 1, maxLength: 4 }), fc.boolean())
  .map(([levels, rest]) => (rest ? [...levels, '#'] : levels).join('/'))

test('the tree, its memory and its removals agree with the rules', () => {
  const operation = fc.record({ filter, who: fc.constantFrom('u', 'v', 'w'), qos: fc.constantFrom<0 | 1>(0, 1), add: fc.boolean() })
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 30 }), fc.array(topic, { minLength: 1, maxLength: 8 }), (operations, topics) => {
      const nodes = new Budget(1000)
      const subscriptions = new Subscriptions<string>(nodes, 10)
      const model = new Map<string, { filter: string; who: string; qos: number }>()
      const check = (): void => {
        for (const topic of topics) {
          const expected = new Map<string, number>()
          for (const { filter, who, qos } of model.values()) if (matches(filter, topic)) expected.set(who, Math.max(qos, expected.get(who) ?? 0))
          assert.deepEqual(matched(subscriptions, topic), expected)
        }
      }
      for (const { filter, who, qos, add } of operations) {
        const key = `${who} ${filter}`
        if (add) {
          assert.equal(subscriptions.add(filter, who, qos), true)
          model.set(key, { filter, who, qos })
        } else {
          assert.equal(subscriptions.remove(filter, who), model.delete(key))
        }
        check()
      }
      assert.equal(subscriptions.size, model.size)
      for (const { filter, who } of model.values()) subscriptions.remove(filter, who)
      assert.equal(nodes.used, 0)
    }),
    fuzzRuns(300),
  )
})

test('a match that is remembered follows who comes to and leaves its filters', () => {
  const subscriptions = tree()
  subscriptions.add('a', 'u', 0)
  const before = subscriptions.match('a')
  const { version } = subscriptions
  subscriptions.add('a', 'v', 1)
  subscriptions.add('a', 'u', 1)
  assert.equal(subscriptions.version, version, 'no route has to be looked up again')
  assert.deepEqual(before[0]!.byQos, [[], ['v', 'u']])
  subscriptions.add('+', 'w', 1)
  assert.notEqual(subscriptions.version, version)
})

test('100,000 subscriptions: a topic visits few of them', () => {
  const subscriptions = tree()
  for (let i = 0; i < 100_000; i++) subscriptions.add(i % 10 === 0 ? `site/${i}/+/state` : `site/${i}/device/state`, `c${i}`, 1)
  subscriptions.add('site/+/device/#', 'all', 0)
  for (const i of [5, 10, 99_999])
    assert.deepEqual(
      matched(subscriptions, `site/${i}/device/state`),
      new Map([
        ['all', 0],
        [`c${i}`, 1],
      ]),
    )
})
