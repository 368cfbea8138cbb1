import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { bytesOf, connect, disconnect, field, hex, packet, pingreq, publish, puback, subscribe } from '../client-packets.ts'
import { Served } from './served.ts'

// Statements of MQTT 3.1.1: CONNECT and CONNACK, over real connections.

const out = (topic: string, payload: string, o: { qos?: number; id?: number; retain?: boolean } = {}): string => hex(publish(topic, payload, o))
/** A CONNECT of `flags` whose payload is these fields. */
const raw = (flags: number, ...fields: readonly Uint8Array[]): Uint8Array => packet(0x10, field('MQTT'), [4, flags, 0, 0], ...fields)

describe('CONNECT and CONNACK', () => {
  let served: Served
  before(async () => {
    served = await Served.start()
  })
  after(() => served.stop())

  test('[MQTT-3.1.4-1] a CONNECT that is wrong is closed without CONNACK, what follows it is not obeyed, nobody else notices', async () => {
    const wrong: [string, Uint8Array][] = [
      ['MQTT-2.2.2-2, reserved bits of the first byte', packet(0x11, field('MQTT'), [4, 2, 0, 0], field('c'))],
      ['MQTT-3.1.2-1, another protocol', connect({ name: 'MQTX' })],
      ['MQTT-3.1.2-1, another case', connect({ name: 'mqtt' })],
      ['MQTT-3.1.2-3, the reserved flag', connect({ flags: 0x03 })],
      ['MQTT-3.1.2-9, no topic of the will', raw(0x06, field('c'))],
      ['MQTT-3.1.2-9, no message of the will', raw(0x06, field('c'), field('t'))],
      ['MQTT-3.1.2-11, a will without its flag', raw(0x02, field('c'), field('t'), field('m'))],
      ['MQTT-3.1.2-13, a QoS of no will', connect({ flags: 0x0a })],
      ['MQTT-3.1.2-14, QoS 3', raw(0x1e, field('c'), field('t'), field('m'))],
      ['MQTT-3.1.2-15, retain of no will', connect({ flags: 0x22 })],
      ['MQTT-3.1.2-18, a user name without its flag', raw(0x02, field('c'), field('u'))],
      ['MQTT-3.1.2-19, no user name', raw(0x82, field('c'))],
      ['MQTT-3.1.2-20, a password without its flag', raw(0x82, field('c'), field('u'), field('p'))],
      ['MQTT-3.1.2-21, no password', raw(0xc2, field('c'), field('u'))],
      ['MQTT-3.1.2-22, a password without a user name', raw(0x42, field('c'), field('p'))],
      ['MQTT-3.1.3-3, no client id', raw(0x02)],
      ['MQTT-3.1.3-4, a client id that is not UTF-8', raw(0x02, field(bytesOf('ff')))],
      ['MQTT-3.1.3-10, a topic of the will that is not UTF-8', raw(0x06, field('c'), field(bytesOf('c0 80')), field('m'))],
      ['MQTT-3.1.3-11, a user name that is not UTF-8', raw(0x82, field('c'), field(bytesOf('ed a0 80')))],
      ['MQTT-1.5.3-1, a surrogate', raw(0x02, field(bytesOf('ed b0 80')))],
      ['MQTT-1.5.3-2, U+0000', raw(0x02, field('a\0b'))],
    ]
    const neighbour = await served.client('neighbour')
    neighbour.send(subscribe(1, ['#', 0]))
    await neighbour.expect('90 03 00 01 00')
    for (const [what, bytes] of wrong) {
      const line = await served.line()
      line.send(bytes, publish('after', what, { qos: 1 }), pingreq)
      await assert.doesNotReject(line.ends(), what)
    }
    await neighbour.nothing()
    await neighbour.hangUp()
  })

  test('[MQTT-3.1.0-1] whatever comes before a CONNECT ends the connection', async () => {
    for (const first of [pingreq, disconnect, publish('a', 'x'), subscribe(1, ['a', 0])]) {
      const line = await served.line()
      line.send(first, connect())
      await line.ends()
    }
  })

  test('[MQTT-3.1.0-2] a second CONNECT ends the connection, as a violation does: the will is published', async () => {
    const watcher = await served.client('watcher')
    watcher.send(subscribe(1, ['will', 0]))
    await watcher.expect('90 03 00 01 00')
    const client = await served.client('twice', { will: { topic: 'will', payload: 'gone' } })
    client.send(connect({ clientId: 'twice' }))
    await client.ends()
    await watcher.expect(out('will', 'gone'))
    await watcher.hangUp()
  })

  test('[MQTT-3.1.2-2] levels that are not spoken get return code 1, and the connection ends', async () => {
    for (const level of [0, 1, 2, 6, 7, 127, 255]) {
      const line = await served.line()
      line.send(connect({ level }))
      await line.expect('20 02 00 01')
      await line.ends()
    }
  })

  test('[MQTT-3.1.3-1] the fields of a CONNECT are read in their order: id, topic and message of the will, user name, password', async () => {
    const watcher = await served.client('order-watcher', { username: 'a:watcher' })
    watcher.send(subscribe(1, ['order/#', 1]))
    await watcher.expect('90 03 00 01 01')
    // [MQTT-3.1.2-9] [MQTT-3.1.2-19] [MQTT-3.1.2-21]: all of them are used. Tenant a is that of the user name, "wrong" would be a wrong password.
    const line = await served.line()
    line.send(raw(0xce, field('ordered'), field('order/w'), field('message'), field('a:user'), field('right')))
    await line.expect('20 02 00 00')
    await line.hangUp()
    await watcher.expect(out('order/w', 'message', { qos: 1, id: 1 }))
    const refused = await served.line()
    refused.send(raw(0xce, field('ordered'), field('order/w'), field('message'), field('a:user'), field('wrong')))
    await refused.expect('20 02 00 04')
    await refused.ends()
    await watcher.nothing()
    await watcher.hangUp()
  })

  test('[MQTT-3.1.3-5] client ids of 1 to 23 letters and digits are taken', async () => {
    const ids = ['0123456789abcdefghijklm', 'nopqrstuvwxyzABCDEFGHIJ', 'KLMNOPQRSTUVWXYZ', 'a', '7']
    for (const clientId of ids) await (await served.client(clientId)).hangUp()
  })

  test('[MQTT-3.1.3-6] clients without an id get one each: they do not end each other, and are clients like others', async () => {
    const clients = [await served.client(''), await served.client('')]
    for (const client of clients) {
      client.send(subscribe(1, ['nameless', 1]))
      await client.expect('90 03 00 01 01')
    }
    clients[0]!.send(publish('nameless', 'x', { qos: 1, id: 7 }))
    await clients[0]!.expectAll(out('nameless', 'x', { qos: 1, id: 1 }), puback(7))
    await clients[1]!.expect(out('nameless', 'x', { qos: 1, id: 1 }))
    for (const client of clients) await client.hangUp()
  })

  test('[MQTT-3.1.3-7] [MQTT-3.1.3-8] no id and Clean Session 0: return code 2, and the connection ends', async () => {
    const line = await served.line()
    line.send(connect({ clientId: '', clean: false }))
    await line.expect('20 02 00 02')
    await line.ends()
  })

  test('[MQTT-3.1.3-9] [MQTT-3.1.4-5] [MQTT-3.2.2-4] [MQTT-3.2.2-5] a refusal: its code, no session present, the end, and nothing is obeyed', async () => {
    const watcher = await served.client('refusal-watcher')
    watcher.send(subscribe(1, ['refused', 0]))
    await watcher.expect('90 03 00 01 00')
    // A session is there: it is not present for who is refused.
    await (await served.client('there', { clean: false })).hangUp()
    for (const [refused, code] of [
      [connect({ clientId: 'x'.repeat(257) }), '02'],
      [connect({ clientId: 'x'.repeat(257), clean: false }), '02'],
      [connect({ clientId: 'there', clean: false, username: 'eve' }), '05'],
      [connect({ clientId: 'there', clean: false, username: 'u', password: 'wrong' }), '04'],
      [connect({ clientId: 'there', clean: false, level: 6 }), '01'],
    ] as const) {
      const line = await served.line()
      line.send(refused, publish('refused', 'x', { qos: 1 }), pingreq)
      await line.expect(`20 02 00 ${code}`)
      await line.ends()
    }
    await watcher.nothing()
    await watcher.hangUp()
  })

  test('[MQTT-3.1.4-2] a client id that is connected: the first connection ends, the second one goes on', async () => {
    const first = await served.client('same')
    const second = await served.client('same')
    await first.ends()
    await second.nothing()
    await second.hangUp()
  })

  test('[MQTT-3.2.0-1] [MQTT-3.1.4-4] CONNACK with 0 comes first, and once, also for who did not wait for it', async () => {
    const line = await served.line()
    line.send(connect({ clientId: 'hasty', clean: false }), pingreq, subscribe(7, ['hasty', 0]), publish('hasty', 'x', { qos: 1, id: 3 }))
    await line.expect('20 02 00 00')
    await line.expectAll('d0 00', '90 03 00 07 00', out('hasty', 'x'), puback(3))
    await line.nothing()
    await line.hangUp()
  })

  test('[MQTT-3.1.2-24] keep-alive of one second: silence for one and a half ends the connection, a packet now and then does not', async () => {
    const watcher = await served.client('pulse-watcher')
    watcher.send(subscribe(1, ['pulse', 0]))
    await watcher.expect('90 03 00 01 00')
    const lively = await served.client('lively', { keepAlive: 1 })
    const begin = performance.now()
    const silent = await served.client('silent', { keepAlive: 1, will: { topic: 'pulse', payload: 'lost' } })
    const ended = silent.ends().then(() => performance.now() - begin)
    while (performance.now() - begin < 2_500) {
      await lively.nothing()
      await delay(500)
    }
    const after = await ended
    assert.ok(after > 1_400 && after < 2_500, `${after} ms`)
    await watcher.expect(out('pulse', 'lost'))
    await lively.nothing()
    await lively.hangUp()
    await watcher.hangUp()
  })

  test('[MQTT-2.2.2-1] the reserved bits of every packet that the server sends', async () => {
    const client = await served.client('bits')
    client.send(subscribe(1, ['bits', 2]), publish('bits', 'x', { qos: 2, id: 1 }), publish('other', 'x', { qos: 1, id: 2 }), bytesOf('62 02 00 01'))
    await client.expectAll('90 03 00 01 02', '50 02 00 01', out('bits', 'x', { qos: 2, id: 1 }), puback(2), '70 02 00 01')
    client.send(bytesOf('50 02 00 01'))
    await client.expect('62 02 00 01')
    client.send(bytesOf('70 02 00 01'), packet(0xa2, [0, 3], field('bits')), pingreq)
    await client.expectAll('b0 02 00 03', 'd0 00')
    await client.hangUp()
  })

  test('[MQTT-1.5.3-3] EF BB BF stays where it stands: at the beginning, within, at the end', async () => {
    const client = await served.client('\uFEFFbom')
    for (const topic of ['\uFEFFt', 't\uFEFFt', 't\uFEFF']) {
      client.send(subscribe(1, [topic, 0], ['t', 0], ['tt', 0]))
      await client.expect('90 05 00 01 00 00 00')
      client.send(publish(topic, 'x'))
      await client.expect(out(topic, 'x'))
    }
    // The id with it and the one without are two clients.
    await (await served.client('bom')).hangUp()
    await client.nothing()
    await client.hangUp()
  })
})

test('[MQTT-3.2.2-6] where no return code fits the connection is closed without CONNACK: too many connections', async () => {
  const served = await Served.start({ connectionsMax: 1 })
  try {
    const only = await served.client('only')
    const other = await served.line()
    other.send(connect({ clientId: 'other' }))
    await other.ends()
    await only.nothing()
  } finally {
    await served.stop()
  }
})
