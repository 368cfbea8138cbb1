import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { pingreq } from './client-packets.ts'
import { ack5, publish5 } from './packets5.ts'
import type { Property, Received } from './packets5.ts'
import { Door5 } from './socket5.ts'
import type { Socket5 } from './socket5.ts'

// Sessions, wills, keep-alive, the exchanges of QoS 1 and 2, and order (3.1.2, 3.1.3, chapter 4), over sockets.

const stays = [['sessionExpiry', 600]] as const
const kept = { clean: false, properties: stays } as const
const back = { ...kept, present: true } as const
const idOf = ({ said }: Received): number => Number(/\/(\d+)( dup)?( retain)?$/.exec(said)?.[1])

describe('session state of MQTT 5', { concurrency: true }, () => {
  let door: Door5
  before(async () => {
    door = await Door5.open()
  })
  after(() => door.close())
  /** Of each test its own: they run side by side. */
  const publisher = (): Promise<Socket5> => door.client('')

  test('[MQTT-3.1.2-4] [MQTT-3.1.4-4] [MQTT-3.2.2-2] Clean Start 1 discards subscriptions, messages and what was under way', async () => {
    const from = await publisher()
    const first = await door.client('clean', kept)
    await first.subscribe({ clean: 2 })
    await from.say('clean', 'under way')
    await first.expect('publish clean under way 1/1')
    first.send(publish5('x', 'x', { qos: 2, id: 7 }))
    await first.expect('pubrec 7 10')
    await first.leave()
    await from.say('clean', 'waiting')
    const second = await door.client('clean', { properties: stays })
    await from.say('clean', 'later')
    await second.quiet()
    // Its packet id is not remembered: PUBCOMP says so.
    second.send(ack5('pubrel', 7))
    await second.expect('pubcomp 7 92')
    await second.leave()
    const third = await door.client('clean', back)
    await third.quiet()
  })

  test('[MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.2.2-3] [MQTT-3.1.3-2] Clean Start 0 goes on with the session of the client id, or begins one', async () => {
    const from = await publisher()
    const first = await door.client('resume', kept)
    await first.subscribe({ 'resume/+': 2 }, [['identifier', 5]])
    first.send(publish5('x', 'x', { qos: 2, id: 7 }))
    await first.expect('pubrec 7 10')
    await first.leave()
    const other = await door.client('resume2', kept)
    await from.say('resume/1', 'a')
    from.send(publish5('resume/2', 'zero'))
    await from.say('resume/2', 'b', { id: 2 })
    await other.quiet()
    const second = await door.client('resume', back)
    for (const said of ['publish resume/1 a 1/1', 'publish resume/2 b 1/2']) {
      assert.deepEqual((await second.expect(said)).properties.get('identifier'), [5])
    }
    second.send(ack5('pubrel', 7))
    await second.expect('pubcomp 7')
    await from.say('resume/3', 'c', { id: 3 })
    await second.expect('publish resume/3 c 1/3')
  })

  test('[MQTT-3.1.2-23] a session above Session Expiry Interval 0 outlives its connection, one with 0 does not', async () => {
    for (const [properties, present] of [
      [[], false],
      [[['sessionExpiry', 0]], false],
      [[['sessionExpiry', 600]], true],
      [[['sessionExpiry', 0xffff_ffff]], true],
    ] as const) {
      await (await door.client('outlives', { properties })).leave()
      await (await door.client('outlives', { clean: false, present })).leave()
      await door.client('outlives')
    }
  })

  test('[MQTT-4.1.0-1] [MQTT-4.1.0-2] a session is not discarded while its connection is open, and is once it is closed and its expiry is over', async () => {
    const from = await publisher()
    const properties = [['sessionExpiry', 1]] as const
    const client = await door.client('expires', { properties })
    await client.subscribe({ expires: 1 })
    await sleep(2500)
    await from.say('expires', 'x')
    await client.expect('publish expires x 1/1')
    client.drop()
    const again = await door.client('expires', { clean: false, properties, present: true })
    await again.expect('publish expires x 1/1 dup')
    await again.leave()
    await sleep(3500)
    const anew = await door.client('expires', { clean: false, properties })
    await from.say('expires', 'y')
    await anew.quiet()
  })

  test('DISCONNECT sets another Session Expiry Interval', async () => {
    await (await door.client('shorter', kept)).leave(0, [['sessionExpiry', 0]])
    await (await door.client('shorter', kept)).leave(4, [['sessionExpiry', 1]])
    await door.client('shorter', back)
  })

  test('[MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.1.2-14] [MQTT-3.1.2-15] a will is kept, published when the connection is lost, once, with its QoS and RETAIN', async () => {
    const watcher = await door.client('will-watcher')
    await watcher.subscribe({ 'will/#': 0x2a })
    let id = 0
    for (const properties of [[], stays]) {
      for (const qos of [0, 1, 2]) {
        for (const retain of [false, true]) {
          const topic = `will/${properties.length}/${qos}/${retain}`
          const client = await door.client('will', { will: { topic, payload: 'gone', qos, retain }, properties })
          await watcher.quiet()
          client.drop()
          await watcher.expect(`publish ${topic} gone ${qos}${qos === 0 ? '' : `/${++id}`}${retain ? ' retain' : ''}`)
          if (qos === 1) watcher.send(ack5('puback', id))
          if (qos === 2) {
            watcher.send(ack5('pubrec', id))
            await watcher.expect(`pubrel ${id}`)
            watcher.send(ack5('pubcomp', id))
          }
          // It was published: the session does not publish it again.
          const again = await door.client('will', { clean: false, properties, present: properties.length > 0 })
          again.drop()
          const late = await door.client('will-late')
          await late.subscribe({ [topic]: 2, 'will-none': 0 })
          if (retain) await late.expect(`publish ${topic} gone ${qos}${qos === 0 ? '' : '/1'} retain`)
          await late.quiet()
          await watcher.quiet()
        }
      }
    }
  })

  test('[MQTT-3.1.3-9] [MQTT-3.1.2-8] a will waits for its delay, or for the end of its session; a connection before takes it back', async () => {
    const watcher = await door.client('delay-watcher')
    await watcher.subscribe({ 'delay/#': 0 })
    const client = async (name: string, delay: number, expiry: number): Promise<void> => {
      const will = { topic: `delay/${name}`, payload: 'x', properties: [['willDelay', delay]] as const }
      ;(await door.client(`delay-${name}`, { clean: false, properties: [['sessionExpiry', expiry]], will })).drop()
    }
    const began = performance.now()
    await Promise.all([client('back', 2, 600), client('delay', 2, 600), client('session', 600, 2), client('clean', 600, 600)])
    await sleep(300)
    await watcher.quiet()
    await door.client('delay-back', back)
    // With Clean Start 1 its session has ended: the will goes out.
    await door.client('delay-clean')
    await watcher.expect('publish delay/clean x 0')
    const rest = [(await watcher.next()).said, (await watcher.next()).said]
    assert.deepEqual(rest.toSorted(), ['publish delay/delay x 0', 'publish delay/session x 0'])
    assert.ok(performance.now() - began > 1800)
    await sleep(1500)
    await watcher.quiet()
  })

  test('[MQTT-3.1.2-22] [MQTT-3.2.2-22] one and a half keep-alives of silence end the connection as if the network had failed: the will is published', async () => {
    const watcher = await door.client('alive-watcher')
    await watcher.subscribe({ 'alive/#': 0 })
    const began = performance.now()
    const silent = await door.client('alive-silent', { keepAlive: 1, will: { topic: 'alive/silent', payload: 'x' } })
    const busy = await door.client('alive-busy', { keepAlive: 1, will: { topic: 'alive/busy', payload: 'x' } })
    const free = await door.client('alive-free', { keepAlive: 0, will: { topic: 'alive/free', payload: 'x' } })
    const ended = silent.ends('disconnect 8d')
    for (let i = 0; i < 6; i++) {
      await sleep(500)
      busy.send(i % 2 === 0 ? pingreq : publish5('x', 'x'))
    }
    await ended
    await watcher.expect('publish alive/silent x 0')
    await watcher.quiet()
    assert.ok(!busy.isClosed && !free.isClosed)
    assert.ok(performance.now() - began >= 1500)
  })

  test('[MQTT-3.3.2-5] [MQTT-3.3.2-6] [MQTT-4.3.3-7] [MQTT-4.3.3-13] what expires while it waits is deleted; what is left of its life goes with it; what was sent does not expire', async () => {
    const from = await publisher()
    const first = await door.client('expiry', kept)
    await first.subscribe({ 'expiry/#': 2 })
    const say = async (topic: string, seconds: number, qos = 1): Promise<void> => {
      from.send(publish5(topic, `${seconds}`, { qos, id: 3, properties: [['messageExpiry', seconds]] }))
      assert.match((await from.next()).said, /^pub(ack|rec) 3/)
      if (qos === 2) {
        from.send(ack5('pubrel', 3))
        await from.expect('pubcomp 3')
      }
    }
    await say('expiry/sent', 1, 2)
    const sent = await first.expect('publish expiry/sent 1 2/1')
    assert.deepEqual(sent.properties.get('messageExpiry'), [1])
    await first.leave()
    await say('expiry/a', 1)
    await say('expiry/b', 100)
    await sleep(1600)
    const second = await door.client('expiry', back)
    // The exchange that was begun goes on.
    await second.expect('publish expiry/sent 1 2/1 dup')
    const { said, properties } = await second.next()
    assert.match(said, /^publish expiry\/b 100 1\//)
    const left = Number(properties.get('messageExpiry')?.[0])
    assert.ok(left >= 95 && left <= 99, `${left}`)
    second.send(ack5('pubrec', 1))
    await second.expect('pubrel 1')
    second.send(ack5('pubcomp', 1))
    await second.quiet()
  })

  test('[MQTT-4.3.2-3] [MQTT-4.3.3-3] [MQTT-4.3.3-5] [MQTT-4.3.3-6] [MQTT-4.4.0-1] what is unacknowledged is sent again with its id on a new connection, PUBREL in place of PUBLISH once it was sent, and at no other time', async () => {
    const from = await publisher()
    const first = await door.client('again', kept)
    await first.subscribe({ again: 2 })
    const qos = [1, 2, 2, 2, 1]
    for (const [i, one] of qos.entries()) {
      from.send(publish5('again', `${i}`, { qos: one, id: i + 1 }))
      await from.next()
    }
    await first.expect(...qos.map((one, i) => `publish again ${i} ${one}/${i + 1}`))
    first.send(ack5('pubrec', 2), ack5('pubrec', 3), ack5('puback', 5))
    await first.expect('pubrel 2', 'pubrel 3')
    first.send(ack5('pubcomp', 3))
    // At no other time, as long as it may take.
    await sleep(1500)
    await first.quiet()
    await first.leave(4)
    for (let round = 0; round < 2; round++) {
      const again = await door.client('again', back)
      await again.expect('publish again 0 1/1 dup', 'pubrel 2', 'publish again 3 2/4 dup')
      await again.quiet()
      await again.leave(4)
    }
    const last = await door.client('again', back)
    await last.expect('publish again 0 1/1 dup', 'pubrel 2', 'publish again 3 2/4 dup')
    last.send(ack5('puback', 1), ack5('pubcomp', 2), ack5('pubrec', 4))
    await last.expect('pubrel 4')
    last.send(ack5('pubcomp', 4))
    await last.quiet()
    await last.leave()
    await (await door.client('again', back)).quiet()
  })

  test('[MQTT-4.4.0-2] a PUBACK or PUBREC of 0x80 or above acknowledges: nothing is sent again', async () => {
    const from = await publisher()
    const first = await door.client('refuses', kept)
    await first.subscribe({ refuses: 2 })
    await from.say('refuses', '1')
    from.send(publish5('refuses', '2', { qos: 2, id: 2 }))
    await from.expect('pubrec 2')
    await first.expect('publish refuses 1 1/1', 'publish refuses 2 2/2')
    first.send(ack5('puback', 1, 0x80), ack5('pubrec', 2, 0x97))
    await first.quiet()
    first.drop()
    await (await door.client('refuses', back)).quiet()
  })

  test('[MQTT-4.3.2-5] [MQTT-4.3.3-9] [MQTT-4.3.3-10] [MQTT-4.3.3-12] what is a new message and what a repetition, in one connection and over several', async () => {
    const watcher = await door.client('repeat-watcher')
    await watcher.subscribe({ 'repeat/#': 0 })
    let client = await door.client('repeat', kept)
    const say = async (payload: string, qos: number, dup: boolean, said: string): Promise<void> => {
      client.send(publish5('repeat/x', payload, { qos, id: 5, dup }))
      await client.expect(said)
    }
    for (const dup of [false, true, true]) await say('one', 1, dup, 'puback 5')
    await watcher.expect('publish repeat/x one 0', 'publish repeat/x one 0', 'publish repeat/x one 0')
    for (const dup of [false, true, false]) await say('two', 2, dup, 'pubrec 5')
    client.drop()
    client = await door.client('repeat', back)
    await say('two', 2, true, 'pubrec 5')
    await watcher.expect('publish repeat/x two 0')
    await watcher.quiet()
    client.send(ack5('pubrel', 5), ack5('pubrel', 5))
    await client.expect('pubcomp 5', 'pubcomp 5 92')
    await say('three', 2, true, 'pubrec 5')
    await watcher.expect('publish repeat/x three 0')
    client.send(ack5('pubrel', 5))
    await client.expect('pubcomp 5')
    // A PUBREC that refuses ends the exchange: the same id is another message.
    client.send(publish5('secret/x', 'x', { qos: 2, id: 5 }))
    await client.expect('pubrec 5 87')
    await say('four', 2, false, 'pubrec 5')
    await watcher.expect('publish repeat/x four 0')
    await watcher.quiet()
  })

  test('[MQTT-4.5.0-1] a message is added to every session that subscribes to it, connected or not', async () => {
    const from = await publisher()
    const clients = await Promise.all([0, 1, 2, 3].map((i) => door.client(`all-${i}`, kept)))
    for (const client of clients) await client.subscribe({ 'all/#': 1 })
    await clients[2]!.leave()
    await clients[3]!.leave()
    await from.say('all/x', 'x')
    const again = await Promise.all([2, 3].map((i) => door.client(`all-${i}`, back)))
    for (const client of [...clients.slice(0, 2), ...again]) await client.expect('publish all/x x 1/1')
  })

  test('[MQTT-4.2.0-1] [MQTT-4.6.0-5] [MQTT-4.6.0-6] of one client, topic and QoS all come, in their order, also to who is slow or was away', async () => {
    const [one, two] = [await publisher(), await publisher()]
    const slow: Property[] = [['receiveMaximum', 3]]
    const clients = await Promise.all([
      door.client('order-fast'),
      door.client('order-slow', { properties: slow }),
      door.client('order-kept', { clean: false, properties: [...stays, ...slow] }),
    ])
    for (const client of clients) await client.subscribe({ 'order/+': 2 })
    await clients[2]!.leave()
    const each = 60
    for (let i = 0; i < each; i++) {
      for (const [name, from] of [
        ['one', one],
        ['two', two],
      ] as const) {
        for (const qos of [1, 2]) from.send(publish5(`order/${name}`, `${name}${qos} ${i}`, { qos, id: 1 + qos * 1000 + i }))
      }
    }
    clients[2] = await door.client('order-kept', { clean: false, properties: [...stays, ...slow], present: true })
    const last = async (client: Socket5): Promise<void> => {
      const next = new Map<string, number>()
      for (let got = 0; got < each * 4;) {
        const came = await client.next()
        if (came.said.startsWith('pubrel')) {
          client.send(ack5('pubcomp', Number(came.said.split(' ')[1])))
          continue
        }
        got++
        const [line = '', number] = came.payload.toString().split(' ')
        assert.equal(Number(number), next.get(line) ?? 0, line)
        next.set(line, Number(number) + 1)
        client.send(ack5(((came.bytes[0]! >> 1) & 3) === 1 ? 'puback' : 'pubrec', idOf(came)))
      }
    }
    await Promise.all(clients.map(last))
  })
})
