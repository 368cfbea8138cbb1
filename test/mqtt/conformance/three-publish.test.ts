import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { ack, bytesOf, field, hex, packet, pingreq, puback, publish, subscribe } from '../client-packets.ts'
import { Served } from './served.ts'
import type { Wire } from './served.ts'

// Statements of MQTT 3.1.1: PUBLISH and its answers, topics, violations, over real connections.

const telemetry = 'devices/d1/telemetry'
const out = (topic: string, payload: string, o: { qos?: number; id?: number; dup?: boolean } = {}): string => hex(publish(topic, payload, o))
const pubrec = (id: number): string => hex(ack(0x50, id))
const pubrel = (id: number): string => hex(ack(0x62, id))
const pubcomp = (id: number): string => hex(ack(0x70, id))

describe('PUBLISH', () => {
  let served: Served
  let from: Wire
  let names = 0
  before(async () => {
    served = await Served.start()
    from = await served.client('from')
  })
  after(() => served.stop())
  /** A new client with these subscriptions. */
  const subscriber = async (...filters: readonly (readonly [string, number])[]): Promise<Wire> => {
    const wire = await served.client(`to-${names++}`)
    wire.send(subscribe(1, ...filters))
    const codes = filters.map(([, qos]) => `0${qos}`).join(' ')
    await wire.expect(`90 0${2 + filters.length} 00 01 ${codes}`)
    return wire
  }

  test('[MQTT-3.3.4-1] [MQTT-2.3.1-6] each QoS has its answer, and the answer the packet id of the PUBLISH', async () => {
    from.send(publish('a', 'x'), publish('a', 'x', { qos: 1, id: 0xffff }), publish('a', 'x', { qos: 2, id: 0x0100 }))
    await from.expectAll(puback(0xffff), pubrec(0x0100))
    from.send(ack(0x62, 0x0100))
    await from.expect(pubcomp(0x0100))
    await from.nothing()
  })

  test('[MQTT-2.3.1-5] [MQTT-4.3.1-1] QoS 0 goes out without a packet id, with DUP 0, once, whatever QoS it came with', async () => {
    const to = await subscriber(['zero', 0])
    from.send(publish('zero', 'a'), publish('zero', 'b', { qos: 1, id: 1, dup: true }), publish('zero', 'c', { qos: 2, id: 2 }))
    await from.expectAll(puback(1), pubrec(2))
    from.send(ack(0x62, 2))
    await from.expect(pubcomp(2))
    await to.expect(out('zero', 'a'), out('zero', 'b'), out('zero', 'c'))
    await to.nothing()
  })

  test('[MQTT-3.3.1-2] QoS 0 that comes with DUP 1 ends the connection', async () => {
    const client = await served.client('dup-0')
    client.send(bytesOf('38 03 00 01 61'))
    await client.ends()
  })

  test('[MQTT-3.3.1-3] DUP of what came is not passed on', async () => {
    const to = await subscriber(['dup', 2])
    from.send(publish('dup', 'a', { qos: 1, id: 1, dup: true }), publish('dup', 'b', { qos: 2, id: 2, dup: true }))
    await from.expectAll(puback(1), pubrec(2))
    await to.expect(out('dup', 'a', { qos: 1, id: 1 }), out('dup', 'b', { qos: 2, id: 2 }))
    from.send(ack(0x62, 2))
    await from.expect(pubcomp(2))
  })

  test('[MQTT-3.3.2-1] the topic is the first field, UTF-8, and goes on as it came', async () => {
    const to = await subscriber(['top/#', 0])
    for (const topic of ['top/é', 'top/𝄞/日本', 'top/ ', 'top//', `top/${'x'.repeat(4000)}`]) {
      from.send(publish(topic, 'é'))
      await to.expect(out(topic, 'é'))
    }
    for (const wrong of [bytesOf('30 02 00 05'), bytesOf('30 00'), bytesOf('30 01 00'), packet(0x30, field(bytesOf('c3 28')))]) {
      const client = await served.client('no-topic')
      client.send(wrong, pingreq)
      await client.ends()
    }
    await to.nothing()
  })

  test('[MQTT-3.3.5-1] overlapping subscriptions: one copy, at the highest QoS of them', async () => {
    const to = await subscriber(['over/#', 0], ['over/+', 2], ['over/a', 1])
    from.send(publish('over/a', 'x', { qos: 2, id: 1 }), publish('over/a/b', 'y', { qos: 1, id: 2 }))
    await from.expectAll(pubrec(1), puback(2))
    await to.expect(out('over/a', 'x', { qos: 2, id: 1 }), out('over/a/b', 'y'))
    from.send(ack(0x62, 1))
    await from.expect(pubcomp(1))
    await to.nothing()
  })

  test('[MQTT-3.3.5-2] publishing where it is not allowed ends the connection: it is not acknowledged, and nobody gets it', async () => {
    const to = await subscriber(['#', 0])
    for (const qos of [0, 1, 2]) {
      const client = await served.client('denied')
      client.send(publish('secret/x', 'x', { qos }), pingreq)
      await client.ends()
    }
    await to.nothing()
    await to.hangUp()
  })

  test('[MQTT-2.3.1-4] [MQTT-4.3.2-1] QoS 1 out: DUP 0, an id of its own until its PUBACK, which alone frees it', async () => {
    const to = await subscriber(['one', 1])
    for (let id = 1; id <= 3; id++) from.send(publish('one', `${id}`, { qos: 1, id }))
    await from.expectAll(puback(1), puback(2), puback(3))
    await to.expect(out('one', '1', { qos: 1, id: 1 }), out('one', '2', { qos: 1, id: 2 }), out('one', '3', { qos: 1, id: 3 }))
    // All ids but 2 are used up and around: those that are free come again, 2 does not.
    to.send(ack(0x40, 1), ack(0x40, 3))
    const seen = new Set<string>()
    for (let sent = 0; sent < 65_600; sent += 50) {
      from.send(...Array.from({ length: 50 }, (_, i) => publish('one', 'x', { qos: 1, id: i + 1 })))
      const [, got] = await Promise.all([from.next(50), to.next(50)])
      const ids = got.map((one) => one.slice(21, 26))
      for (const id of ids) seen.add(id)
      to.send(...ids.map((id) => bytesOf(`40 02 ${id}`)))
    }
    assert.equal(seen.size, 65_534)
    assert.equal(seen.has('00 02') || seen.has('00 00'), false)
  })

  test('[MQTT-4.3.3-1] QoS 2 out: DUP 0, unacknowledged until PUBREC; then PUBREL with its id, until PUBCOMP frees it', async () => {
    const to = await subscriber(['two', 2])
    from.send(publish('two', 'a', { qos: 2, id: 9 }), publish('two', 'b', { qos: 2, id: 8 }))
    await from.expectAll(pubrec(9), pubrec(8))
    from.send(ack(0x62, 9), ack(0x62, 8))
    await from.expectAll(pubcomp(9), pubcomp(8))
    await to.expect(out('two', 'a', { qos: 2, id: 1 }), out('two', 'b', { qos: 2, id: 2 }))
    // [MQTT-4.6.0-4] PUBREL in the order of PUBREC.
    to.send(ack(0x50, 2), ack(0x50, 1))
    await to.expect(pubrel(2), pubrel(1))
    // PUBREC again is answered again.
    to.send(ack(0x50, 1))
    await to.expect(pubrel(1))
    to.send(ack(0x70, 1), ack(0x70, 2))
    await to.nothing()
  })

  test('[MQTT-4.6.0-4] PUBREL comes in the order of PUBREC', async () => {
    const to = await subscriber(['rel', 2])
    const ids = [1, 2, 3, 4, 5]
    from.send(...ids.map((id) => publish('rel', `${id}`, { qos: 2, id })))
    await from.expect(...ids.map(pubrec))
    from.send(...ids.map((id) => ack(0x62, id)))
    await from.expect(...ids.map(pubcomp))
    await to.next(5)
    const order = [4, 1, 5, 2, 3]
    to.send(...order.map((id) => ack(0x50, id)))
    await to.expect(...order.map(pubrel))
  })

  test('[MQTT-4.3.2-2] QoS 1 in: acknowledged once it is owned, telemetry once it is durable; the id is a new message then', async () => {
    const to = await subscriber(['own', 0], [telemetry, 0])
    from.send(publish(telemetry, 'kept', { qos: 1, id: 4 }))
    await to.expect(out(telemetry, 'kept'))
    await from.nothing()
    served.gate.sync()
    await from.expect(puback(4))
    for (const dup of [false, true]) {
      from.send(publish('own', 'x', { qos: 1, id: 4, dup }))
      await from.expect(puback(4))
      await to.expect(out('own', 'x'))
    }
  })

  test('[MQTT-4.3.3-2] QoS 2 in: PUBREC for each sending, one message, PUBCOMP for PUBREL; the id is a new message then', async () => {
    const to = await subscriber(['twice', 0])
    for (const payload of ['1', '2']) {
      from.send(publish('twice', payload, { qos: 2, id: 5 }))
      from.send(publish('twice', payload, { qos: 2, id: 5, dup: true }), publish('twice', payload, { qos: 2, id: 5 }))
      await from.expect(pubrec(5), pubrec(5), pubrec(5))
      from.send(ack(0x62, 5), ack(0x62, 5))
      await from.expect(pubcomp(5), pubcomp(5))
      await to.expect(out('twice', payload))
    }
    await to.nothing()
  })

  test('[MQTT-4.6.0-5] [MQTT-4.6.0-6] messages of one topic and QoS go out in the order they came, however they were mixed', async () => {
    const to = await subscriber(['order/+', 2])
    const sent: string[] = []
    for (let i = 0; i < 60; i++) {
      const [topic, qos] = [`order/${i % 2}`, i % 3]
      from.send(publish(topic, `${qos}:${i}`, { qos, id: i + 1 }))
      if (qos === 2) from.send(ack(0x62, i + 1))
      sent.push(`${topic} ${qos} ${i}`)
    }
    await from.next(60)
    const got = (await to.next(60)).map((one) => {
      const bytes = bytesOf(one)
      const qos = (bytes[0]! >> 1) & 3
      const text = Buffer.from(bytes.subarray(11 + (qos > 0 ? 2 : 0))).toString()
      return `${Buffer.from(bytes.subarray(4, 11)).toString()} ${qos} ${text.slice(2)}`
    })
    for (const kind of [0, 1].flatMap((topic) => [0, 1, 2].map((qos) => `order/${topic} ${qos} `))) {
      const only = (all: readonly string[]): string[] => all.filter((one) => one.startsWith(kind))
      assert.deepEqual(only(got), only(sent))
    }
  })

  test('[MQTT-4.8.0-1] what a client may not send ends its connection at once, and the will tells', async () => {
    const wrong: [string, Uint8Array][] = [
      ['MQTT-3.3.1-4, QoS 3', bytesOf('36 05 00 01 61 00 01')],
      ['MQTT-3.3.2-2, a wildcard', publish('a/#', 'x')],
      ['MQTT-4.7.1-1, the other wildcard', publish('a/+', 'x', { qos: 1 })],
      ['MQTT-4.7.3-1, no topic', publish('', 'x')],
      ['MQTT-4.7.3-1, no filter', subscribe(1, ['', 0])],
      ['MQTT-4.7.3-2, U+0000 in a topic', publish('a\0', 'x')],
      ['MQTT-4.7.3-2, U+0000 in a filter', subscribe(1, ['\0', 0])],
      ['MQTT-1.5.3-1, no UTF-8', publish(bytesOf('ff'), 'x')],
      ['MQTT-2.3.1-1, PUBLISH with id 0', publish('a', 'x', { qos: 1, id: 0 })],
      ['MQTT-2.3.1-1, PUBLISH at QoS 2 with id 0', publish('a', 'x', { qos: 2, id: 0 })],
      ['MQTT-2.3.1-1, SUBSCRIBE with id 0', subscribe(0, ['a', 0])],
      ['MQTT-2.3.1-1, UNSUBSCRIBE with id 0', packet(0xa2, [0, 0], field('a'))],
      ['MQTT-3.6.1-1, PUBREL without its bits', ack(0x60, 1)],
      ['MQTT-3.6.1-1, PUBREL with others', ack(0x63, 1)],
      ['MQTT-3.8.1-1, SUBSCRIBE without its bits', packet(0x80, [0, 1], field('a'), [0])],
      ['MQTT-3.8.3-1, a filter that is not UTF-8', packet(0x82, [0, 1], field(bytesOf('c0 80')), [0])],
      ['MQTT-3.8.3-3, SUBSCRIBE of nothing', packet(0x82, [0, 1])],
      ['MQTT-3.8.3-4, QoS 3 asked for', subscribe(1, ['a', 3])],
      ['MQTT-3.8.3-4, reserved bits of the QoS', subscribe(1, ['a', 0x41])],
      ['MQTT-3.8.3-4, also in the second filter', subscribe(1, ['a', 0], ['b', 4])],
      ['MQTT-3.10.1-1, UNSUBSCRIBE without its bits', packet(0xa0, [0, 1], field('a'))],
      ['MQTT-3.10.3-1, a filter that is not UTF-8', packet(0xa2, [0, 1], field(bytesOf('ff')))],
      ['MQTT-3.10.3-1, filters that are not packed', packet(0xa2, [0, 1], field('a'), [0])],
      ['MQTT-3.10.3-2, UNSUBSCRIBE of nothing', packet(0xa2, [0, 1])],
      ['MQTT-4.7.1-2, # that is not the last', subscribe(1, ['a/#/b', 0])],
      ['MQTT-4.7.1-2, # that is not a level', subscribe(1, ['a#', 0])],
      ['MQTT-4.7.1-3, + that is not a level', subscribe(1, ['a+', 0])],
      ['MQTT-2.2.2-2, PINGREQ with bits', bytesOf('c8 00')],
      ['MQTT-2.2.2-2, PUBACK with bits', bytesOf('44 02 00 01')],
      ['MQTT-3.14.1-1, DISCONNECT with bits', bytesOf('e1 00')],
      ['section 3.14, DISCONNECT with a body', bytesOf('e0 01 00')],
      ['section 2.2.1, type 0', bytesOf('00 00')],
      ['section 2.2.1, type 15', bytesOf('f0 00')],
      ["section 2.2.1, a server's packet", bytesOf('d0 00')],
      ['section 2.2.3, five bytes of length', bytesOf('30 ff ff ff ff 01')],
    ]
    const watcher = await served.client('violations')
    watcher.send(subscribe(1, ['violated', 0], ['late', 0]))
    await watcher.expect('90 04 00 01 00 00')
    for (const [what, bytes] of wrong) {
      const client = await served.client('violator', { will: { topic: 'violated', payload: what } })
      client.send(bytes, publish('late', 'x'), pingreq)
      await assert.doesNotReject(client.ends(), what)
      await watcher.expect(out('violated', what))
    }
    await watcher.nothing()
  })

  test('[MQTT-4.7.3-3] a topic of 65,535 bytes is within the standard and beyond the limit: the connection ends, nobody else notices', async () => {
    const client = await served.client('long')
    client.send(publish('t'.repeat(65_535), 'x', { qos: 1 }))
    await client.ends()
    await from.nothing()
  })

  test('[MQTT-4.8.0-2] a transient error while a packet is processed ends its connection, unacknowledged, and no other', async () => {
    const client = await served.client('unlucky')
    served.gate.failsWith = new Error('transient')
    client.send(publish(telemetry, 'x', { qos: 1, id: 1 }))
    await client.ends()
    served.gate.failsWith = undefined
    from.send(publish(telemetry, 'y', { qos: 1, id: 2 }))
    await from.nothing()
    served.gate.sync()
    await from.expect(puback(2))
  })
})
