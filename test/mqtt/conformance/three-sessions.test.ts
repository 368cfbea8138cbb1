import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { ack, connect, disconnect, hex, puback, publish, subscribe, unsubscribe } from '../client-packets.ts'
import { Served } from './served.ts'
import type { Wire } from './served.ts'

// Statements of MQTT 3.1.1: sessions, what is sent again, wills and retained messages, over real connections and a real disk.

const out = (topic: string, payload: string, o: { qos?: number; id?: number; dup?: boolean; retain?: boolean } = {}): string =>
  hex(publish(topic, payload, o))
const pubrec = (id: number): string => hex(ack(0x50, id))
const pubrel = (id: number): string => hex(ack(0x62, id))
const pubcomp = (id: number): string => hex(ack(0x70, id))

let served: Served
let from: Wire
before(async () => {
  served = await Served.start()
  from = await served.client('from')
})
after(() => served.stop())

/** Publishes and waits until the server has it. */
async function say(topic: string, payload: string, qos: number, o: { readonly retain?: boolean } = {}): Promise<void> {
  from.send(publish(topic, payload, { qos, id: 1, ...o }))
  if (qos === 0) return from.nothing()
  await from.expect(qos === 1 ? puback(1) : pubrec(1))
  if (qos === 1) return
  from.send(ack(0x62, 1))
  await from.expect(pubcomp(1))
}

async function subscribed(
  clientId: string,
  filter: string,
  qos: number,
  o: { readonly clean?: boolean; readonly present?: boolean } = {},
): Promise<Wire> {
  const wire = await served.client(clientId, o)
  wire.send(subscribe(1, [filter, qos]))
  await wire.expect(`90 03 00 01 0${qos}`)
  return wire
}

async function leave(wire: Wire): Promise<void> {
  wire.send(disconnect)
  await wire.ends()
}

describe('sessions', () => {
  test('[MQTT-3.1.2-4] [MQTT-3.2.2-2] Clean Session 0 begins a session, and goes on with it after either end of a connection', async () => {
    const first = await subscribed('c4', 'c4', 1, { clean: false })
    await leave(first)
    await say('c4', 'away', 1)
    const second = await served.client('c4', { clean: false, present: true })
    await second.expect(out('c4', 'away', { qos: 1, id: 1 }))
    second.send(ack(0x40, 1))
    await second.nothing()
    await served.drop(second)
    const third = await served.client('c4', { clean: false, present: true })
    await say('c4', 'here', 1)
    await third.expect(out('c4', 'here', { qos: 1, id: 1 }))
    // Subscriptions that have ended have ended for good.
    third.send(ack(0x40, 1), unsubscribe(2, 'c4'))
    await third.expect('b0 02 00 02')
    await leave(third)
    await say('c4', 'late', 1)
    await (await served.client('c4', { clean: false, present: true })).nothing()
  })

  test('[MQTT-3.1.2-5] [MQTT-4.5.0-1] what is accepted at QoS 1 and 2 is kept for every session that subscribes to it, there or away', async () => {
    const ids = ['k1', 'k2', 'k3']
    const wires = await Promise.all(ids.map((id, i) => subscribed(id, i === 2 ? 'keep/+' : 'keep/#', 2, { clean: false })))
    await Promise.all(wires.slice(0, 2).map(leave))
    await say('keep/a', 'one', 1)
    await say('keep/b', 'two', 2)
    await say('keep/a/b', 'three', 1)
    const [one, two, three] = [
      out('keep/a', 'one', { qos: 1, id: 1 }),
      out('keep/b', 'two', { qos: 2, id: 2 }),
      out('keep/a/b', 'three', { qos: 1, id: 3 }),
    ]
    await wires[2]!.expect(one, two)
    for (const id of ids.slice(0, 2)) {
      const back = await served.client(id, { clean: false, present: true })
      await back.expect(one, two, three)
    }
  })

  test('[MQTT-3.1.2-6] [MQTT-3.1.4-3] [MQTT-3.2.2-1] Clean Session 1 discards the session that was, and leaves none', async () => {
    await leave(await subscribed('c6', 'c6', 1, { clean: false }))
    await say('c6', 'lost', 1)
    const clean = await served.client('c6')
    await clean.nothing()
    // What was subscribed to before is not any more.
    await say('c6', 'unheard', 1)
    await clean.nothing()
    clean.send(subscribe(1, ['c6', 1]))
    await clean.expect('90 03 00 01 01')
    await leave(clean)
    await say('c6', 'lost too', 1)
    const fresh = await served.client('c6', { clean: false })
    await say('c6', 'unheard too', 1)
    await fresh.nothing()
  })

  test('[MQTT-3.2.2-3] no session was kept: none is present, whoever asks', async () => {
    await (await served.client('nobody', { clean: false })).hangUp()
    await (await served.client('nobody-else', { clean: false })).hangUp()
    await (await served.client('nobody', { clean: false, present: true })).hangUp()
    await (await served.client('nobody')).hangUp()
    await (await served.client('nobody', { clean: false })).hangUp()
  })

  test('[MQTT-3.1.3-2] the client id names the session, and the tenant of its credentials whose it is', async () => {
    await leave(await subscribed('name', 'name', 1, { clean: false }))
    await say('name', 'x', 1)
    await (await served.client('Name', { clean: false })).nothing()
    await (await served.client('name', { clean: false, username: 'b:u' })).nothing()
    const again = await served.client('name', { clean: false, present: true })
    await again.expect(out('name', 'x', { qos: 1, id: 1 }))
  })

  test('[MQTT-4.1.0-2] a session lasts as long as its connection, whatever its Clean Session', async () => {
    for (const clean of [true, false]) {
      const wire = await subscribed(`lasts-${clean}`, 'lasts', 1, { clean })
      for (let i = 1; i <= 3; i++) {
        await say('lasts', `${i}`, 1)
        await wire.expect(out('lasts', `${i}`, { qos: 1, id: i }))
        await wire.nothing()
      }
      await wire.hangUp()
    }
  })

  test('[MQTT-4.1.0-1] a session is stored as long as it lasts: subscriptions, what waits, and exchanges on both ways outlive the server', async () => {
    const wire = await subscribed('stored', 'stored', 2, { clean: false })
    await say('stored', 'received', 2)
    await say('stored', 'sent', 2)
    await say('stored', 'acked', 1)
    await wire.expect(
      out('stored', 'received', { qos: 2, id: 1 }),
      out('stored', 'sent', { qos: 2, id: 2 }),
      out('stored', 'acked', { qos: 1, id: 3 }),
    )
    wire.send(ack(0x50, 1), ack(0x40, 3), publish('elsewhere', 'x', { qos: 2, id: 77 }))
    await wire.expectAll(pubrel(1), pubrec(77))
    await served.drop(wire)
    await say('stored', 'waits', 1)
    await served.restart()
    from = await served.client('from')
    const watcher = await subscribed('watcher', 'elsewhere', 0)
    const again = await served.client('stored', { clean: false, present: true })
    // [MQTT-4.4.0-1] [MQTT-3.3.1-1]
    await again.expect(pubrel(1), out('stored', 'sent', { qos: 2, id: 2, dup: true }), out('stored', 'waits', { qos: 1, id: 3 }))
    again.send(ack(0x70, 1), publish('elsewhere', 'x', { qos: 2, id: 77, dup: true }), ack(0x62, 77))
    await again.expectAll(pubrec(77), pubcomp(77))
    await say('stored', 'new', 1)
    await again.expect(out('stored', 'new', { qos: 1, id: 4 }))
    await watcher.nothing()
  })

  test('[MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-4.6.0-1] what is unacknowledged is sent again with its ids, PUBLISH with DUP 1, in its order', async () => {
    let wire = await subscribed('again', 'again', 2, { clean: false })
    for (let i = 1; i <= 6; i++) await say('again', `${i}`, 1 + (i % 2))
    const qosOf = (i: number): number => 1 + (i % 2)
    await wire.expect(...[1, 2, 3, 4, 5, 6].map((i) => out('again', `${i}`, { qos: qosOf(i), id: i })))
    // 1 and 3 are received, 3 and 2 are done.
    wire.send(ack(0x50, 1), ack(0x50, 3), ack(0x40, 2))
    await wire.expect(pubrel(1), pubrel(3))
    wire.send(ack(0x70, 3))
    await wire.nothing()
    for (let times = 0; times < 3; times++) {
      await served.drop(wire)
      const next = await served.client('again', { clean: false, present: true })
      await next.expect(pubrel(1), ...[4, 5, 6].map((i) => out('again', `${i}`, { qos: qosOf(i), id: i, dup: true })))
      // [MQTT-4.3.3-1] A PUBLISH is not sent again once its PUBREL was, and nothing is while the connection lasts.
      await next.nothing()
      wire = next
    }
  })

  test('[MQTT-4.3.3-2] QoS 2 in: an id is remembered over the end of a connection until its PUBREL', async () => {
    const watcher = await subscribed('in-watcher', 'in', 0)
    const wire = await served.client('in', { clean: false })
    wire.send(publish('in', '1', { qos: 2, id: 3 }))
    await wire.expect(pubrec(3))
    await served.drop(wire)
    const again = await served.client('in', { clean: false, present: true })
    again.send(publish('in', '1', { qos: 2, id: 3, dup: true }), ack(0x62, 3))
    await again.expectAll(pubrec(3), pubcomp(3))
    again.send(publish('in', '2', { qos: 2, id: 3 }))
    await again.expect(pubrec(3))
    await watcher.expect(out('in', '1'), out('in', '2'))
    await watcher.nothing()
  })

  test('[MQTT-4.6.0-6] what waited for a session comes in its order, before what is published then', async () => {
    await leave(await subscribed('queue', 'queue', 1, { clean: false }))
    for (let i = 1; i <= 100; i++) await say('queue', `${i}`, 1)
    const back = await served.client('queue', { clean: false, present: true })
    await say('queue', '101', 1)
    for (let i = 1; i <= 101; i++) {
      await back.expect(out('queue', `${i}`, { qos: 1, id: i }))
      back.send(ack(0x40, i))
    }
    await back.nothing()
  })
})

describe('wills', () => {
  const will = { topic: 'will/w', payload: 'gone', qos: 2 }
  const watch = async (clientId: string): Promise<Wire> => subscribed(clientId, 'will/#', 2)

  test('[MQTT-3.1.2-8] the will is published however the connection ends without a DISCONNECT, of a session that stays too', async () => {
    const watcher = await watch('w8')
    let id = 0
    for (const clean of [true, false]) {
      for (const end of ['hang up', 'violation', 'second CONNECT', 'taken over'] as const) {
        const wire = await served.line()
        wire.send(connect({ clientId: 'mortal', clean, will }))
        await wire.next(1)
        if (end === 'hang up') await wire.hangUp()
        else if (end === 'violation') wire.send(Uint8Array.of(0xf0, 0))
        else if (end === 'second CONNECT') wire.send(connect({ clientId: 'mortal' }))
        else await (await served.client('mortal', { clean: true })).hangUp()
        await wire.ends()
        // [MQTT-3.1.2-9] With its QoS.
        await watcher.expect(out('will/w', 'gone', { qos: 2, id: ++id }))
      }
    }
    await watcher.nothing()
    await watcher.hangUp()
  })

  test('[MQTT-3.1.2-10] [MQTT-3.14.4-3] [MQTT-3.1.2-12] a will is published once, not after DISCONNECT, and not by a connection without one', async () => {
    const watcher = await watch('w10')
    for (const clean of [true, false]) {
      await leave(await served.client(`w10-${clean}`, { clean, will }))
      await (await served.client(`w10-${clean}`, { clean, present: !clean })).hangUp()
      await watcher.nothing()
      await (await served.client(`w10-${clean}`, { clean, present: !clean, will })).hangUp()
      await watcher.expect(out('will/w', 'gone', { qos: 2, id: clean ? 1 : 2 }))
      await (await served.client(`w10-${clean}`, { clean, present: !clean })).hangUp()
      await watcher.nothing()
    }
    await watcher.hangUp()
  })

  test('[MQTT-3.1.2-16] [MQTT-3.1.2-17] Will Retain decides whether the will is retained', async () => {
    for (const clean of [true, false]) {
      const name = `kept-${clean}`
      const watcher = await subscribed(`watch-${name}`, name, 0)
      await (await served.client(`a-${name}`, { clean, will: { topic: name, payload: 'not', retain: false } })).hangUp()
      await watcher.expect(out(name, 'not'))
      const before = await subscribed(`b-${name}`, name, 1)
      await before.nothing()
      await (await served.client(`a-${name}`, { clean, present: !clean, will: { topic: name, payload: 'yes', qos: 1, retain: true } })).hangUp()
      await watcher.expect(out(name, 'yes'))
      const later = await served.client(`c-${name}`)
      later.send(subscribe(1, [name, 1]))
      await later.expectAll('90 03 00 01 01', out(name, 'yes', { qos: 1, id: 1, retain: true }))
    }
  })
})

describe('retained messages', () => {
  const mark = out('mark', 'm', { retain: true })
  before(() => say('mark', 'm', 1, { retain: true }))
  /** What a new subscription brings. Retained messages come some time after SUBACK: those of the next subscription say that these are over. */
  const retained = async (filter: string, qos: number, ...packets: readonly string[]): Promise<void> => {
    const wire = await served.client('reader')
    wire.send(subscribe(1, [filter, qos]), subscribe(2, ['mark', 0]))
    const got = await wire.next(packets.length + 3)
    assert.deepEqual(got.toSorted(), [`90 03 00 01 0${qos}`, '90 03 00 02 00', mark, ...packets].toSorted())
    assert.equal(got.at(-1), mark)
    await wire.nothing()
    await wire.hangUp()
  }

  test('[MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-8] the last message with RETAIN 1 of each topic is kept with its QoS, and sent with RETAIN 1', async () => {
    for (const qos of [0, 1, 2]) {
      await say(`r/${qos}`, 'old', 2 - qos, { retain: true })
      await say(`r/${qos}`, 'last', qos, { retain: true })
    }
    await say('r/0/below', 'x', 1, { retain: true })
    const last = (qos: number, id: number): string => out(`r/${qos}`, 'last', { ...(qos === 0 ? {} : { qos, id }), retain: true })
    for (const qos of [0, 1, 2]) await retained(`r/${qos}`, 2, last(qos, 1))
    await retained('r/+', 0, ...[0, 1, 2].map((qos) => out(`r/${qos}`, 'last', { retain: true })))
    await retained('r/0/#', 0, last(0, 0), out('r/0/below', 'x', { retain: true }))
    await retained('q/#', 2)
  })

  test('[MQTT-3.3.1-7] QoS 0 with RETAIN 1 takes the place of what was retained', async () => {
    await say('r7', 'first', 2, { retain: true })
    await say('r7', 'second', 0, { retain: true })
    await retained('r7', 2, out('r7', 'second', { retain: true }))
  })

  test('[MQTT-3.3.1-9] who is subscribed already gets it with RETAIN 0, by one filter or several, in a session that stays or not', async () => {
    for (const clean of [true, false]) {
      const topic = `r9/${clean}/t`
      const one = await subscribed(`r9-${clean}-one`, topic, 1, { clean })
      const several = await subscribed(`r9-${clean}-several`, topic, 0, { clean })
      several.send(subscribe(2, [`r9/${clean}/+`, 1]))
      await several.expect('90 03 00 02 01')
      for (const qos of [0, 1]) {
        await say(topic, 'x', qos, { retain: true })
        for (const wire of [one, several]) await wire.expect(out(topic, 'x', qos === 0 ? {} : { qos, id: 1 }))
      }
      for (const wire of [one, several]) await wire.nothing()
    }
  })

  test('[MQTT-3.3.1-10] [MQTT-3.3.1-11] RETAIN 1 without bytes is delivered, ends what was retained, and is not kept', async () => {
    const wire = await subscribed('r10', 'r10/#', 0)
    for (const qos of [0, 1, 2]) {
      await say(`r10/${qos}`, 'x', 1, { retain: true })
      await say(`r10/${qos}`, '', qos, { retain: true })
      await wire.expect(out(`r10/${qos}`, 'x'), out(`r10/${qos}`, ''))
    }
    await say('r10/never', '', 1, { retain: true })
    await wire.expect(out('r10/never', ''))
    await retained('r10/#', 2)
  })

  test('[MQTT-3.3.1-12] RETAIN 0 keeps nothing, replaces nothing and removes nothing', async () => {
    // Kept for a session, which is something else.
    await leave(await subscribed('r12', 'r12/+', 2, { clean: false }))
    await say('r12/a', 'x', 1)
    await retained('r12/#', 2)
    await say('r12/a', 'kept', 1, { retain: true })
    for (const qos of [0, 1, 2]) for (const payload of ['other', '']) await say('r12/a', payload, qos)
    await retained('r12/#', 2, out('r12/a', 'kept', { qos: 1, id: 1, retain: true }))
  })

  test('[MQTT-3.1.2-7] retained messages outlive the session of who published them, and the server', async () => {
    const publisher = await served.client('r-publisher', { clean: false })
    publisher.send(publish('outlives', 'x', { qos: 1, id: 1, retain: true }))
    await publisher.expect(puback(1))
    await leave(publisher)
    await (await served.client('r-publisher')).hangUp()
    await retained('outlives', 1, out('outlives', 'x', { qos: 1, id: 1, retain: true }))
    await served.restart()
    from = await served.client('from')
    await retained('outlives', 1, out('outlives', 'x', { qos: 1, id: 1, retain: true }))
  })
})
