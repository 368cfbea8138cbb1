/**
 * The topic tree of the MQTT door by itself: `node --expose-gc bench/mqtt-tree.ts [subscriptions]`. Prints what it takes to add a subscription, in time
 * and memory, to match a topic with and without memory of it, to hand a message to many, and what a client that subscribes and unsubscribes
 * without end costs the others.
 */
import { performance } from 'node:perf_hooks'
import process from 'node:process'
import { Budget } from '../src/doors/mqtt/budget.ts'
import { deliverEach, deliverTo } from '../src/doors/mqtt/fanout.ts'
import { Outgoing } from '../src/doors/mqtt/message.ts'
import type { Subscriber } from '../src/doors/mqtt/message.ts'
import { Subscriptions } from '../src/doors/mqtt/subscriptions.ts'

const count = Number(process.argv[2] ?? 100_000)
const options = { qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 0, identifier: 0 } as const

interface Client extends Subscriber {
  taken: number
}

function client(): Client {
  const made: Client = {
    taken: 0,
    connected: true,
    readiness: () => 'ready',
    deliver(message, qos, retain, identifiers) {
      made.taken += message.parcel(false, qos, retain, identifiers).bytes.length
    },
  }
  return made
}

function tree(cacheMax = 262_144): Subscriptions<Client> {
  const presence = { connected: () => true, readiness: () => 'ready' as const }
  return new Subscriptions<Client>({ nodes: new Budget(Infinity), subscriptions: new Budget(Infinity), cacheMax, presence })
}

function heap(): number {
  globalThis.gc?.()
  return process.memoryUsage().heapUsed
}

function told(name: string, value: number, unit: string): void {
  process.stdout.write(`${name.padEnd(70)} ${value.toFixed(value < 10 ? 2 : 0).padStart(9)} ${unit}\n`)
}

/** The mean of one call, in nanoseconds, of the best of five runs. */
function time(name: string, calls: number, run: (i: number) => void): void {
  let best = Infinity
  for (let round = 0; round < 5; round++) {
    const from = performance.now()
    for (let i = 0; i < calls; i++) run(i)
    best = Math.min(best, performance.now() - from)
  }
  told(name, (best / calls) * 1e6, 'ns')
}

/** Four of five name a topic; the others have `+`, or `#`, at different levels. */
function filterOf(i: number): string {
  const base = `site/${i % 100}/building/${(i >> 3) % 1000}/device/d${i}`
  if (i % 10 === 8) return `site/${i % 100}/building/+/device/d${i}/+`
  return i % 10 === 9 ? `site/${i % 100}/building/${(i >> 3) % 1000}/device/d${i}/#` : `${base}/temperature`
}

const topicOf = (i: number): string => `site/${i % 100}/building/${(i >> 3) % 1000}/device/d${i}/temperature`

const subscriptions = tree()
const clients = Array.from({ length: count }, client)
const before = heap()
const from = performance.now()
for (let i = 0; i < count; i++) subscriptions.add(filterOf(i), clients[i]!, options)
told(`add: ${count} subscriptions of as many clients`, ((performance.now() - from) / count) * 1e6, 'ns')
told('memory of a subscription with a filter and a client of its own', (heap() - before) / count, 'B')
const beside = tree()
const besideBefore = heap()
for (let i = 0; i < count; i++) beside.add('site/+/building/#', clients[i]!, options)
told('memory of a subscription to a filter that is there, with a client of its own', (heap() - besideBefore) / count, 'B')
beside.match('site')

const topics = Array.from({ length: count }, (_, i) => topicOf(i))
const forgetful = tree(0)
for (let i = 0; i < count; i++) forgetful.add(filterOf(i), clients[i]!, options)
let found = 0
time('match, not remembered', count, (i) => (found += forgetful.match(topics[(i * 7919) % count]!).nodes.length))
for (const filter of ['#', 'site/#', '+/+/building/#', 'site/+/+/+/device/+/temperature', '+/+/+/+/+/+/+'])
  forgetful.add(filter, clients[0]!, options)
time('match, not remembered, five wide filters beside', count, (i) => (found += forgetful.match(topics[(i * 7919) % count]!).nodes.length))
for (let i = 0; i < count; i++) subscriptions.match(topics[i]!)
time('match, remembered', count, (i) => (found += subscriptions.match(topics[(i * 7919) % count]!).nodes.length))
const kept = subscriptions.match(topics[0]!)
time('refresh of a match that is kept', 1_000_000, () => subscriptions.refresh(kept))
const mine = topics.slice(0, 1000).map((topic) => subscriptions.match(topic))
let round = 0
time('hostile: one client adds and removes an own filter', 100_000, () => {
  const filter = `+/+/evil/${++round}/#`
  subscriptions.add(filter, clients[0]!, options)
  subscriptions.remove(filter, clients[0]!)
})
time('hostile: the same, and a publish of another client after each', 100_000, (i) => {
  const filter = `+/+/evil/${++round}/#`
  subscriptions.add(filter, clients[0]!, options)
  subscriptions.remove(filter, clients[0]!)
  subscriptions.refresh(mine[i % 10]!)
})
time('hostile: the same, with the publish while it is there', 100_000, (i) => {
  const filter = `+/+/evil/${++round}/#`
  subscriptions.add(filter, clients[0]!, options)
  subscriptions.refresh(mine[i % 10]!)
  subscriptions.remove(filter, clients[0]!)
})
time('hostile: the same with #, which every topic matches', 100_000, (i) => {
  subscriptions.add('#', clients[0]!, options)
  subscriptions.remove('#', clients[0]!)
  subscriptions.refresh(mine[i % 10]!)
})

const many = tree()
const crowd = Array.from({ length: 1000 }, client)
for (const one of crowd) many.add('news/#', one, options)
const match = many.match('news/today')
const topicBytes = new TextEncoder().encode('news/today')
const payload = new Uint8Array(200)
time('1 message to 1,000 subscribers, encoded once: each', 2000, () => {
  deliverTo(match, new Outgoing('news/today', topicBytes, 1, false, payload, 0, payload.length), undefined)
})
for (const one of crowd.slice(0, 500)) many.add('news/+', one, { ...options, qos: 2 })
time('the same, half of them with two subscriptions that match', 2000, () => {
  deliverEach(many.match('news/today'), { qos: 1, retain: false }, (one) => one.taken++)
})
const shared = tree()
for (const one of crowd) shared.add('$share/g/news/#', one, options)
time('1 message to a group of 1,000', 1_000_000, () => {
  deliverEach(shared.match('news/today'), { qos: 1, retain: false }, (one) => one.taken++)
})
// One client may have 1,000 subscriptions of 128 levels, and all of them match its topic: what a publish to a topic that is not remembered costs.
const deep = tree(0)
for (let i = 0; i < 1000; i++) {
  const levels = Array.from({ length: 128 }, (_, at) => (at < 10 && ((i >> at) & 1) === 1 ? '+' : 'a'))
  deep.add(levels.join('/'), clients[0]!, options)
}
const deepTopic = Array.from({ length: 128 }, () => 'a').join('/')
time(
  'worst: 1,000 filters of 128 levels that match, not remembered',
  20,
  () => (found += deep.match('x').nodes.length + deep.match(deepTopic).nodes.length),
)
told('(matches counted)', found, '')
