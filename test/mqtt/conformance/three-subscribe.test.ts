import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { ack, connect, hex, pingreq, puback, publish, subscribe, unsubscribe } from '../client-packets.ts'
import { Served } from './served.ts'
import type { Wire } from './served.ts'

// Statements of MQTT 3.1.1: SUBSCRIBE, UNSUBSCRIBE, PINGREQ, and how filters match, over real connections.

const out = (topic: string, payload: string, o: { qos?: number; id?: number; retain?: boolean } = {}): string => hex(publish(topic, payload, o))

describe('SUBSCRIBE and UNSUBSCRIBE', () => {
  let served: Served
  let from: Wire
  let names = 0
  before(async () => {
    served = await Served.start()
    from = await served.client('from')
  })
  after(() => served.stop())
  const client = (): Promise<Wire> => served.client(`to-${names++}`)

  test('[MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-2.3.1-7] every SUBSCRIBE and UNSUBSCRIBE has its answer, with its packet id', async () => {
    const to = await client()
    for (const id of [1, 0xff, 0x100, 0xffff]) {
      const text = hex(Uint8Array.of(id >> 8, id & 255))
      to.send(subscribe(id, ['a', 0]))
      await to.expect(`90 03 ${text} 00`)
      to.send(unsubscribe(id, 'a'))
      await to.expect(`b0 02 ${text}`)
    }
  })

  test('[MQTT-3.8.4-4] [MQTT-3.8.4-5] [MQTT-3.9.3-1] [MQTT-3.9.3-2] one SUBACK with a code for each filter, in their order: 0, 1, 2 or 0x80', async () => {
    const to = await client()
    to.send(subscribe(3, ['many/#', 0], ['secret/x', 1], ['many/#', 2], ['$share/g', 1], ['+/b', 0], ['many/#', 1]))
    await to.expect('90 08 00 03 00 80 02 80 00 01')
    // As if they had come one by one: the last one for a filter holds, and one copy is sent.
    from.send(publish('many/b', 'x', { qos: 2, id: 1 }))
    await from.expect('50 02 00 01')
    from.send(ack(0x62, 1))
    await from.expect('70 02 00 01')
    await to.expect(out('many/b', 'x', { qos: 1, id: 1 }))
    await to.nothing()
  })

  test('[MQTT-3.8.4-6] deliveries go at the lower of the QoS granted and that of the message', async () => {
    for (const granted of [0, 1, 2]) {
      const to = await client()
      to.send(subscribe(1, ['lower', granted]))
      await to.expect(`90 03 00 01 0${granted}`)
      from.send(publish('lower', '0'), publish('lower', '1', { qos: 1, id: 1 }), publish('lower', '2', { qos: 2, id: 2 }))
      await from.expectAll(puback(1), '50 02 00 02')
      from.send(ack(0x62, 2))
      await from.expect('70 02 00 02')
      let id = 0
      await to.expect(
        ...[0, 1, 2].map((qos) => out('lower', `${qos}`, Math.min(qos, granted) === 0 ? {} : { qos: Math.min(qos, granted), id: ++id })),
      )
      await to.hangUp()
    }
  })

  test('[MQTT-3.8.4-3] the same filter again replaces the subscription, sends what is retained again, and interrupts nothing', async () => {
    const to = await client()
    from.send(publish('again/kept', 'r', { qos: 1, id: 1, retain: true }))
    await from.expect(puback(1))
    to.send(subscribe(1, ['again/+', 1]))
    await to.expectAll('90 03 00 01 01', out('again/kept', 'r', { qos: 1, id: 1, retain: true }))
    to.send(ack(0x40, 1), subscribe(2, ['again/+', 0]))
    await to.expectAll('90 03 00 02 00', out('again/kept', 'r', { retain: true }))
    from.send(publish('again/new', 'n', { qos: 1, id: 2 }))
    await from.expect(puback(2))
    // One subscription is left, of the new QoS.
    await to.expect(out('again/new', 'n'))
    await to.nothing()
    // While it is replaced over and over every message comes, once; what is retained comes after the last.
    const expected: string[] = []
    for (let i = 0; i < 50; i++) {
      from.send(publish('again/flow', `${i}`, { qos: 1, id: 10 + i }))
      to.send(subscribe(100 + i, ['again/+', 0]))
      expected.push(out('again/flow', `${i}`))
    }
    await from.next(50)
    const kept = out('again/kept', 'r', { retain: true })
    const got = await to.next(101)
    while (got.at(-1) !== kept) got.push(...(await to.next(1)))
    assert.deepEqual(
      got.filter((one) => expected.includes(one)),
      expected,
    )
    assert.equal(got.filter((one) => one.startsWith('90')).length, 50)
    from.send(publish('again/kept', '', { qos: 1, id: 1, retain: true }))
    await from.expect(puback(1))
    await to.hangUp()
  })

  test('[MQTT-3.3.2-3] [MQTT-3.8.3-2] wildcards are supported, and what is delivered matches the filter, by the examples of section 4.7', async () => {
    const cases: [string, string[], string[]][] = [
      [
        'sport/tennis/player1/#',
        ['sport/tennis/player1', 'sport/tennis/player1/ranking', 'sport/tennis/player1/a/b'],
        ['sport/tennis', 'sport/tennis/player10'],
      ],
      ['sport/#', ['sport', 'sport/a'], ['sports']],
      ['sport/tennis/+', ['sport/tennis/player1', 'sport/tennis/'], ['sport/tennis/player1/ranking', 'sport/tennis']],
      ['+/tennis/#', ['sport/tennis', '/tennis/x'], ['sport/golf']],
      ['sport/+/player1', ['sport//player1', 'sport/a/player1'], ['sport/player1']],
      ['+/+', ['/finance', 'a/', '/'], ['finance', 'a/b/c']],
      ['/+', ['/finance', '/'], ['finance', '/a/b']],
      ['+', ['finance'], ['/finance']],
      ['#', ['a', '/', '/a/b'], ['$a', '$a/b']],
    ]
    // [MQTT-4.7.1-2] [MQTT-4.7.1-3]
    for (const [filter, matching, others] of cases) {
      const to = await client()
      to.send(subscribe(1, [filter, 0]))
      await to.expect('90 03 00 01 00')
      for (const topic of [...others, ...matching]) from.send(publish(topic, ''))
      await from.nothing()
      await to.expect(...matching.map((topic) => out(topic, '')))
      await to.nothing()
      await to.hangUp()
    }
  })

  test('[MQTT-4.7.1-2] [MQTT-4.7.1-3] # and + in every place where they may stand', async () => {
    const to = await client()
    const filters = ['#', '+', 'a/#', '+/#', '/#', '+/+', 'a/+/c', '+/b/+', '/+', 'a/+', '+/a/#', '+//+']
    to.send(subscribe(1, ...filters.map((filter) => [filter, 0] as const)))
    await to.expect(`90 ${hex(Uint8Array.of(filters.length + 2))} 00 01 ${filters.map(() => '00').join(' ')}`)
  })

  test('[MQTT-4.7.2-1] a filter that begins with a wildcard gets no topic that begins with $, of clients or of the server', async () => {
    const to = await client()
    to.send(subscribe(1, ['#', 0], ['+/x', 0], ['+/#', 0], ['+/broker/#', 0]))
    await to.expect('90 06 00 01 00 00 00 00')
    from.send(publish('$own/x', '1', { qos: 1, id: 1 }))
    await from.expect(puback(1))
    await to.nothing()
    to.send(subscribe(2, ['$own/+', 0], ['$SYS/broker/version', 0]))
    const version = hex(publish('$SYS/broker/version', 'kymo version 0', { retain: true }))
    await to.expectAll('90 04 00 02 00 00', version)
    from.send(publish('$own/x', '2'), publish('own/$x', '3'))
    await to.expect(out('$own/x', '2'), out('own/$x', '3'))
    await to.hangUp()
  })

  test('[MQTT-4.7.3-4] topics are compared as they are: case, spaces, slashes and code points are not levelled', async () => {
    const to = await client()
    to.send(subscribe(1, ['A/é b', 0]))
    await to.expect('90 03 00 01 00')
    for (const topic of ['a/é b', 'A/e\u0301 b', '/A/é b', 'A/é b/', 'A//é b', 'A/é  b', 'A/É b', 'A/é b']) from.send(publish(topic, topic))
    await from.nothing()
    await to.expect(out('A/é b', 'A/é b'))
    await to.nothing()
    // Code points that nobody has given a meaning are not replaced.
    to.send(subscribe(2, ['\u{E0FFD}/+', 0]))
    await to.expect('90 03 00 02 00')
    from.send(publish('\u{E0FFD}/\uE000\uFFFD', 'x'))
    await to.expect(out('\u{E0FFD}/\uE000\uFFFD', 'x'))
  })

  test('[MQTT-3.10.4-1] [MQTT-3.10.4-5] UNSUBSCRIBE ends the filters that are the same, character by character, and is answered without any', async () => {
    const to = await client()
    to.send(subscribe(1, ['un/+', 0], ['UN/B', 0]))
    await to.expect('90 04 00 01 00 00')
    to.send(unsubscribe(2, 'un/b'), unsubscribe(3, 'un/#', 'un/b', 'UN/+', 'un/+/', '+/+'), unsubscribe(4, 'never'))
    await to.expect('b0 02 00 02', 'b0 02 00 03', 'b0 02 00 04')
    from.send(publish('un/b', 'x'), publish('UN/B', 'y'))
    await to.expect(out('un/b', 'x'), out('UN/B', 'y'))
    to.send(unsubscribe(5, 'un/+'))
    await to.expect('b0 02 00 05')
    from.send(publish('un/b', 'x'), publish('UN/B', 'y'))
    await to.expect(out('UN/B', 'y'))
  })

  test('[MQTT-3.10.4-2] after UNSUBACK nothing new is added: not what is published then, and not what is retained', async () => {
    const to = await client()
    to.send(subscribe(1, ['stop', 2]))
    await to.expect('90 03 00 01 02')
    to.send(unsubscribe(2, 'stop'))
    await to.expect('b0 02 00 02')
    from.send(publish('stop', '0'), publish('stop', '1', { qos: 1, id: 1 }), publish('stop', '2', { qos: 2, id: 2, retain: true }))
    await from.expectAll(puback(1), '50 02 00 02')
    from.send(ack(0x62, 2))
    await from.expect('70 02 00 02')
    await to.nothing()
  })

  test('[MQTT-3.10.4-3] what was under way is completed after UNSUBSCRIBE: QoS 1 and 2, on this connection and the next', async () => {
    for (const clean of [true, false]) {
      const clientId = `done-${clean}`
      const to = await served.client(clientId, { clean })
      to.send(subscribe(1, ['done', 2]))
      await to.expect('90 03 00 01 02')
      from.send(publish('done', '1', { qos: 1, id: 1 }), publish('done', '2', { qos: 2, id: 2 }))
      await from.expectAll(puback(1), '50 02 00 02')
      from.send(ack(0x62, 2))
      await from.expect('70 02 00 02')
      await to.expect(out('done', '1', { qos: 1, id: 1 }), out('done', '2', { qos: 2, id: 2 }))
      to.send(unsubscribe(2, 'done'))
      await to.expect('b0 02 00 02')
      to.send(ack(0x50, 2))
      await to.expect('62 02 00 02')
      if (clean) {
        to.send(ack(0x40, 1), ack(0x70, 2), pingreq)
        await to.expect('d0 00')
        continue
      }
      await to.hangUp()
      const again = await served.client(clientId, { clean, present: true })
      await again.expect(hex(publish('done', '1', { qos: 1, id: 1, dup: true })), '62 02 00 02')
      again.send(ack(0x40, 1), ack(0x70, 2))
      await again.nothing()
    }
  })

  test('[MQTT-3.10.4-4] [MQTT-3.10.4-6] many filters in one UNSUBSCRIBE have one UNSUBACK with its id, as if they had come one by one', async () => {
    const to = await client()
    to.send(subscribe(9, ['x/1', 0], ['x/2', 0], ['x/3', 0]))
    await to.expect('90 05 00 09 00 00 00')
    to.send(unsubscribe(8, 'x/1', 'x/3', 'x/1', 'other'))
    await to.expect('b0 02 00 08')
    from.send(publish('x/1', ''), publish('x/3', ''), publish('x/2', ''))
    await to.expect(out('x/2', ''))
    await to.nothing()
  })

  test('[MQTT-3.12.4-1] every PINGREQ has a PINGRESP', async () => {
    const to = await client()
    to.send(...Array.from({ length: 100 }, () => pingreq))
    await to.expect(...Array.from({ length: 100 }, () => 'd0 00'))
    const other = await served.line()
    other.send(connect({ clientId: 'pings' }), pingreq)
    await other.expect('20 02 00 00', 'd0 00')
  })
})
