import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { bytesOf, field, packet, pingreq } from './client-packets.ts'
import { connect5, disconnect5, publish5, subscribe5 } from './packets5.ts'
import type { Hello } from './packets5.ts'
import { Door5 } from './socket5.ts'

// CONNECT and CONNACK (sections 3.1 and 3.2), over sockets.

const stays = [['sessionExpiry', 600]] as const

describe('CONNECT and CONNACK of MQTT 5', () => {
  let door: Door5
  before(async () => {
    door = await Door5.open({ clientIdBytesMax: 64 })
  })
  after(() => door.close())

  test('[MQTT-3.1.0-1] what comes before a CONNECT ends the connection without a word and is not obeyed', async () => {
    for (const bytes of [publish5('devices/early/telemetry', '1'), pingreq, subscribe5(1, { a: 0 }), disconnect5()]) {
      const line = await door.line()
      line.send(bytes, connect5('early'))
      await line.gone()
    }
    assert.ok(door.taken.every(([topic]) => topic !== 'devices/early/telemetry'))
  })

  test('[MQTT-3.1.0-2] a second CONNECT is a protocol error', async () => {
    const client = await door.client('twice')
    client.send(connect5('twice'), publish5('devices/twice/telemetry', '1'))
    await client.ends('disconnect 82')
    assert.ok(door.taken.every(([topic]) => topic !== 'devices/twice/telemetry'))
  })

  test('[MQTT-3.1.4-5] [MQTT-3.2.2-9] [MQTT-3.2.2-10] [MQTT-3.2.2-11] CONNACK 0x00; no Maximum QoS, and all of them are taken', async () => {
    const client = await door.client('all-qos')
    assert.equal(client.answer?.properties.has('maximumQos'), false)
    await client.subscribe({ 'all-qos/0': 0, 'all-qos/1': 1, 'all-qos/2': 2 })
    client.send(publish5('all-qos/2', 'x', { qos: 2, id: 3 }))
    await client.expect('publish all-qos/2 x 2/1', 'pubrec 3')
  })

  test('[MQTT-3.1.2-28] [MQTT-4.12.0-6] CONNACK has no Response Information, no Authentication Method, and no feature that is missing', async () => {
    for (const properties of [[], [['requestResponse', 0]], [['requestResponse', 1]]] as const) {
      const { answer } = await door.client('plain', { properties })
      const known = ['receiveMaximum', 'maximumPacket', 'aliasMaximum']
      assert.deepEqual(
        [...(answer?.properties.keys() ?? [])].filter((name) => !known.includes(name)),
        [],
      )
    }
  })

  test('[MQTT-3.1.3-5] client ids of 1 to 23 letters and digits are taken', async () => {
    const letters = '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'
    for (let length = 1; length <= 23; length++) await door.client(letters.slice(length, length * 2))
    await door.client(letters.slice(39))
  })

  test('[MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16] without a client id each gets one of its own, and it names the session', async () => {
    const clients = await Promise.all(Array.from({ length: 5 }, () => door.client('', { properties: stays })))
    const ids = clients.map((client) => String(client.answer?.properties.get('assignedClientId')?.[0]))
    assert.equal(new Set(ids).size, 5)
    clients[0]!.drop()
    const back = await door.client(ids[0]!, { clean: false, properties: stays, present: true })
    assert.equal(back.answer?.properties.has('assignedClientId'), false)
  })

  test('[MQTT-3.1.3-8] a client id that is too long: CONNACK 0x85, closed', async () => {
    const line = await door.line()
    line.send(connect5('x'.repeat(65)))
    await line.ends('connack 85')
  })

  test('[MQTT-3.1.3-1] [MQTT-3.1.3-10] [MQTT-3.1.2-14] client id, will, user name and password are read in their order', async () => {
    const watcher = await door.client('order-watcher')
    await watcher.subscribe({ 'order/+': 2 })
    const properties = [
      ['user', ['b', '1']],
      ['contentType', 't'],
      ['user', ['a', '2']],
      ['user', ['b', '1']],
      ['correlation', '\u00FF\u0000'],
      ['responseTopic', 'r'],
      ['payloadFormat', 1],
      ['messageExpiry', 100],
    ] as const
    const will = { topic: 'order/will', payload: 'payload', qos: 2, properties }
    const line = await door.line()
    line.send(connect5('order', { username: 'u', password: 'wrong', will }))
    await line.ends('connack 86')
    const client = await door.client('order', { username: 'u', password: 'right', will })
    client.drop()
    const came = await watcher.expect('publish order/will payload 2/1')
    assert.deepEqual(Object.fromEntries(came.properties), {
      user: [
        ['b', '1'],
        ['a', '2'],
        ['b', '1'],
      ],
      contentType: ['t'],
      correlation: ['\u00FF\u0000'],
      responseTopic: ['r'],
      payloadFormat: [1],
      messageExpiry: [100],
    })
  })

  test('[MQTT-3.1.4-2] [MQTT-3.1.4-6] [MQTT-3.2.2-7] [MQTT-4.13.2-1] who is refused is closed, and nothing behind the CONNECT is obeyed', async () => {
    const watcher = await door.client('refused-watcher')
    await watcher.subscribe({ 'refused/#': 0 })
    const will = { topic: 'refused/will', payload: 'x' }
    const refusals: readonly (readonly [Hello, string])[] = [
      [{ username: 'eve', password: 'x', will }, '87'],
      [{ username: 'u', password: 'wrong', will }, '86'],
      [{ properties: [['authMethod', 'SCRAM-SHA-1']], will }, '8c'],
    ]
    for (const [hello, code] of refusals) {
      const line = await door.line()
      line.send(
        connect5('refused', hello),
        publish5('refused/x', 'x'),
        publish5('devices/refused/telemetry', '1', { qos: 1 }),
        subscribe5(1, { '#': 0 }),
      )
      await line.ends(`connack ${code}`)
    }
    await watcher.quiet()
    assert.ok(door.taken.every(([topic]) => topic !== 'devices/refused/telemetry'))
    assert.equal((await door.client('refused', { clean: false })).answer?.said, 'connack 0')
  })

  test('[MQTT-3.2.2-1] [MQTT-3.2.2-6] [MQTT-3.2.2-8] a refusal says that no session is present, though one is', async () => {
    ;(await door.client('kept', { username: 'u', password: 'p', properties: stays })).drop()
    const line = await door.line()
    line.send(connect5('kept', { clean: false, username: 'u', password: 'wrong', properties: stays }))
    const refused = await line.ends('connack 86')
    assert.deepEqual([...refused.bytes.subarray(0, 1), refused.bytes[2]], [0x20, 0])
    await door.client('kept', { clean: false, username: 'u', password: 'p', properties: stays, present: true })
  })

  test('[MQTT-3.1.4-1] [MQTT-3.14.0-1] a CONNECT that is malformed is answered with CONNACK and never with DISCONNECT', async () => {
    for (const [bytes, code] of [
      [packet(0x10, field('MQTT'), [5, 3, 0, 0, 0], field('c')), '81'],
      [packet(0x10, field('MQTT'), [5, 2, 0, 0, 3, 0x21, 0, 0], field('c')), '82'],
      [packet(0x10, field('MQTT'), [5, 2, 0, 0, 0], field(bytesOf('c0 80'))), '81'],
    ] as const) {
      const line = await door.line()
      line.send(bytes, pingreq)
      await line.ends(`connack ${code}`)
    }
  })

  test('[MQTT-3.2.0-1] [MQTT-3.2.0-2] CONNACK comes first and once, for a client that does not wait and for a session with messages', async () => {
    const hasty = await door.line()
    hasty.send(
      connect5('hasty', { clean: false, properties: stays }),
      subscribe5(1, { 'hasty/#': 1 }),
      pingreq,
      publish5('hasty/a', 'x', { qos: 1, id: 2 }),
    )
    await hasty.expect('connack 0')
    const others = [await hasty.next(), await hasty.next(), await hasty.next(), await hasty.next()].map(({ said }) => said)
    assert.deepEqual(others.toSorted(), ['pingresp', 'puback 2', 'publish hasty/a x 1/1', 'suback 1 1'])
    hasty.drop()
    await (await door.client('hasty-from')).say('hasty/b', 'y')
    const back = await door.client('hasty', { clean: false, properties: stays, present: true })
    const came = [await back.next(), await back.next()]
    assert.deepEqual(
      came.map(({ topic }) => topic),
      ['hasty/a', 'hasty/b'],
    )
    back.send(connect5('hasty'))
    await back.ends('disconnect 82')
  })

  test('[MQTT-3.1.4-3] who is taken over gets DISCONNECT 0x8E, is closed, and its will is published', async () => {
    const watcher = await door.client('over-watcher')
    await watcher.subscribe({ over: 0 })
    const first = await door.client('over', { will: { topic: 'over', payload: 'gone' } })
    await door.client('over')
    await first.ends('disconnect 8e')
    await watcher.expect('publish over gone 0')
    await watcher.quiet()
  })

  test('[MQTT-3.1.2-24] [MQTT-3.1.2-25] nothing longer than Maximum Packet Size is sent; what is dropped counts as delivered', async () => {
    for (const [clientId, properties] of [
      [
        'small',
        [
          ['maximumPacket', 30],
          ['receiveMaximum', 1],
        ],
      ],
      [
        'small-kept',
        [
          ['maximumPacket', 30],
          ['receiveMaximum', 1],
          ['sessionExpiry', 600],
        ],
      ],
    ] as const) {
      const small = await door.client(clientId, { properties })
      await small.subscribe({ [`${clientId}/#`]: 2 })
      const from = await door.client(`${clientId}-from`)
      const topic = `${clientId}/a`
      // Two bytes of header, two of length, the topic, two of packet id, one of properties.
      const fits = 'x'.repeat(30 - 7 - topic.length)
      await from.say(topic, `${fits}x`, { id: 1 })
      await from.say(topic, fits, { id: 2 })
      await from.say(topic, 'next', { id: 3 })
      const came = await small.next()
      assert.equal(came.bytes.length, 30)
      const id = Number(/\/(\d+)$/.exec(came.said)?.[1])
      small.send(packet(0x40, [id >> 8, id & 255]))
      assert.match((await small.next()).said, /next/)
      await small.quiet()
    }
  })

  test('[MQTT-3.1.2-29] Request Problem Information 0: reasons in CONNACK and DISCONNECT only; 1 or nothing: wherever they help', async () => {
    for (const [asked, told] of [
      [undefined, true],
      [1, true],
      [0, false],
    ] as const) {
      const properties = asked === undefined ? [] : ([['problemInformation', asked]] as const)
      const client = await door.client('problem', { properties })
      client.send(publish5('secret/x', 'x', { qos: 1, id: 1 }), publish5('secret/x', 'x', { qos: 2, id: 2 }), subscribe5(3, { 'secret/x': 0 }))
      client.send(packet(0x50, [0, 9]), packet(0x62, [0, 9]))
      for (const said of ['puback 1 87', 'pubrec 2 87', 'suback 3 87', 'pubrel 9 92', 'pubcomp 9 92']) {
        const { properties: found } = await client.expect(said)
        assert.equal(found.has('reason'), told, said)
        assert.equal(found.has('user'), false)
      }
      client.send(bytesOf('f1 00'))
      assert.equal((await client.ends('disconnect 81')).properties.has('reason'), true)
    }
  })

  test('[MQTT-3.2.2-19] [MQTT-3.2.2-20] [MQTT-3.14.2-3] [MQTT-3.14.2-4] reasons are left out where they would be too long', async () => {
    for (const [maximumPacket, told] of [
      [400, true],
      [22, false],
    ] as const) {
      const properties = [['maximumPacket', maximumPacket]] as const
      const line = await door.line()
      line.send(connect5('x'.repeat(65), { properties }))
      const refused = await line.ends('connack 85')
      const client = await door.client('short-reason', { properties })
      client.send(bytesOf('f1 00'))
      const ended = await client.ends('disconnect 81')
      for (const { properties: found, bytes } of [refused, ended]) {
        assert.equal(found.has('reason'), told)
        assert.equal(found.has('user'), false)
        assert.ok(bytes.length <= maximumPacket)
      }
    }
  })

  test('[MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3] [MQTT-3.6.2-2] [MQTT-3.6.2-3] so they are in acknowledgements', async () => {
    const shown: readonly string[] = ['MQTT-3.7.2-2', 'MQTT-3.7.2-3', 'MQTT-3.9.2-1', 'MQTT-3.9.2-2', 'MQTT-3.11.2-1', 'MQTT-3.11.2-2']
    for (const [maximumPacket, told] of [
      [400, true],
      [22, false],
    ] as const) {
      const client = await door.client('short-acks', { properties: [['maximumPacket', maximumPacket]] })
      client.send(publish5('secret/x', 'x', { qos: 1, id: 1 }), publish5('secret/x', 'x', { qos: 2, id: 2 }), subscribe5(3, { 'secret/x': 0 }))
      client.send(packet(0x50, [0, 9]), packet(0x62, [0, 9]), packet(0xa2, [0, 5, 0], field('x')))
      for (const said of ['puback 1 87', 'pubrec 2 87', 'suback 3 87', 'pubrel 9 92', 'pubcomp 9 92', 'unsuback 5 11']) {
        const { properties, bytes } = await client.expect(said)
        assert.equal(properties.has('reason'), told && !said.startsWith('unsuback'), `${said}, ${shown.join(' ')}`)
        assert.equal(properties.has('user'), false)
        assert.ok(bytes.length <= maximumPacket)
      }
    }
  })

  test('a CONNACK that does not fit Maximum Packet Size is not sent, and the connection ends [MQTT-3.1.2-24]', async () => {
    for (const maximumPacket of [1, 2, 4]) {
      const line = await door.line()
      line.send(connect5('tiny', { properties: [['maximumPacket', maximumPacket]] }), publish5('devices/tiny/telemetry', '1'))
      await line.gone()
    }
    assert.ok(door.taken.every(([topic]) => topic !== 'devices/tiny/telemetry'))
  })
})

describe('what the server limits', () => {
  test('[MQTT-3.2.2-15] [MQTT-3.2.2-17] [MQTT-3.2.2-18] Maximum Packet Size and Topic Alias Maximum are told; who exceeds them is told why and closed', async () => {
    for (const [topicAliasMax, alias] of [
      [3, 4],
      [0, 1],
    ] as const) {
      const door = await Door5.open({ packetBytesMax: 1000, topicAliasMax })
      try {
        const client = await door.client('c')
        assert.deepEqual(client.answer?.properties.get('maximumPacket'), [1000])
        assert.deepEqual(client.answer?.properties.get('aliasMaximum'), topicAliasMax === 0 ? undefined : [topicAliasMax])
        client.send(publish5('a', 'x', { properties: [['alias', alias]] }))
        await client.ends('disconnect 94')
        const big = await door.client('big')
        await big.say('a', 'x'.repeat(1000 - 3 - 3 - 2 - 1))
        big.send(publish5('a', 'x'.repeat(1000 - 3 - 3 - 2), { qos: 1 }))
        await big.ends('disconnect 95')
      } finally {
        await door.close()
      }
    }
  })

  test('[MQTT-3.2.2-22] [MQTT-3.2.2-21] Server Keep Alive is told when it is another; it, or the client’s own, counts', async () => {
    const door = await Door5.open({ keepAliveSMax: 1 })
    try {
      const asked = [0, 1, 60]
      const clients = await Promise.all(asked.map((keepAlive) => door.client(`keep-${keepAlive}`, { keepAlive })))
      assert.deepEqual(
        clients.map((client) => client.answer?.properties.get('serverKeepAlive')),
        [[1], undefined, [1]],
      )
      const began = performance.now()
      await Promise.all(clients.map((client) => client.ends('disconnect 8d')))
      const tookMs = performance.now() - began
      assert.ok(tookMs > 1300 && tookMs < 8000, `${tookMs}`)
    } finally {
      await door.close()
    }
  })
})
