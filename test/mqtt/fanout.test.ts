import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Budget } from '../../src/doors/mqtt/budget.ts'
import { deliverTo } from '../../src/doors/mqtt/fanout.ts'
import { Outgoing } from '../../src/doors/mqtt/message.ts'
import type { Parcel, Subscriber } from '../../src/doors/mqtt/message.ts'
import { Subscriptions } from '../../src/doors/mqtt/subscriptions.ts'

const topic = new TextEncoder().encode('t')

/** Who keeps the packets that it is sent. */
function subscriber(five: boolean): Subscriber & { readonly parcels: Parcel[] } {
  const parcels: Parcel[] = []
  return {
    parcels,
    connected: true,
    readiness: () => 'ready',
    deliver: (message, qos, retain, identifiers) => void parcels.push(message.parcel(five, qos, retain, identifiers)),
  }
}

test('1,000 subscribers: a packet is encoded once for each form that somebody gets', () => {
  const tree = new Subscriptions<Subscriber>({
    nodes: new Budget(1000),
    subscriptions: new Budget(10_000),
    cacheMax: 100,
    presence: { connected: () => true, readiness: () => 'ready' },
  })
  const all = Array.from({ length: 1000 }, (_, i) => subscriber(i % 2 === 0))
  const qos = [0, 1, 2] as const
  all.forEach((one, i) => {
    const identifier = i % 5 === 0 ? 1 + (i % 3) : 0
    tree.add('t', one, { qos: qos[i % 3]!, noLocal: false, retainAsPublished: i % 7 === 0, retainHandling: 0, identifier })
  })
  deliverTo(tree.match('t'), new Outgoing('t', topic, 2, true, new Uint8Array(10), 0, 10), undefined)
  const parcels = all.map(({ parcels }) => parcels[0]!)
  assert.ok(all.every((one) => one.parcels.length === 1))
  const forms = new Map<string, Parcel>()
  parcels.forEach((parcel, i) => {
    const { five, qos, retain, identifiers } = parcel
    assert.deepEqual([five, qos, retain], [i % 2 === 0, i % 3, i % 7 === 0])
    if (five) assert.deepEqual(identifiers, i % 5 === 0 ? [1 + (i % 3)] : undefined)
    const form = `${five} ${qos} ${retain} ${identifiers?.join()}`
    assert.equal(forms.get(form) ?? parcel, parcel, form)
    forms.set(form, parcel)
  })
  assert.ok(forms.size >= 18, `${forms.size}`)
})
