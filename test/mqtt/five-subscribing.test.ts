import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { bytesOf, field, hex, packet, pingreq } from './client-packets.ts'
import { ack5, connect5, disconnect5, publish5, subscribe5, unsubscribe5 } from './packets5.ts'
import type { Received } from './packets5.ts'
import { Door5 } from './socket5.ts'
import type { Socket5 } from './socket5.ts'

// SUBSCRIBE to UNSUBACK, PINGREQ, DISCONNECT and AUTH (sections 3.8 to 3.15, 4.12, 4.13), over sockets.

const stays = [['sessionExpiry', 600]] as const
const kept = { clean: false, properties: stays } as const
const back = { ...kept, present: true } as const
const idOf = ({ said }: Received): number => Number(/\/(\d+)( dup)?( retain)?$/.exec(said)?.[1])

describe('subscriptions of MQTT 5', () => {
  let door: Door5
  let from: Socket5
  before(async () => {
    door = await Door5.open()
    from = await door.client('from')
  })
  after(() => door.close())

  test('[MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1] [MQTT-3.9.3-2] SUBACK has the packet id, and what each filter got, in their order', async () => {
    const client = await door.client('suback')
    client.send(subscribe5(0x1234, { 'suback/2': 2, 'secret/x': 1, 'suback/0': 0, 'suback/1': 1, ['a/'.repeat(200)]: 0 }))
    assert.equal((await client.next()).said, 'suback 4660 2 87 0 1 8f')
    await from.say('suback/2', 'x')
    await from.say('secret/x', 'x').catch(() => undefined)
    await client.expect('publish suback/2 x 1/1')
    await client.quiet()
  })

  test('[MQTT-3.8.4-5] several filters are as several SUBSCRIBEs: of the same filter the last counts, one that is refused harms none', async () => {
    const client = await door.client('several')
    const options = (filter: string, o: number): Uint8Array => Buffer.concat([field(filter), Uint8Array.of(o)])
    client.send(packet(0x82, [0, 1, 0], options('several', 2), options('secret/x', 1), options('several', 0), options('several/b', 1)))
    await client.expect('suback 1 2 87 0 1')
    await from.say('several', 'x')
    await from.say('several/b', 'y')
    await client.expect('publish several x 0', 'publish several/b y 1/1')
    await client.quiet()
  })

  test('[MQTT-3.8.3-3] No Local: nothing that was published under the same client id, also in a later connection', async () => {
    const client = await door.client('local', kept)
    await client.subscribe({ local: 0x05, 'local/other': 0x01 })
    client.send(publish5('local', 'mine', { qos: 1, id: 1 }), publish5('local/other', 'mine', { qos: 1, id: 2 }))
    assert.deepEqual([(await client.next()).said, (await client.next()).said, (await client.next()).said].toSorted(), [
      'puback 1',
      'puback 2',
      'publish local/other mine 1/1',
    ])
    client.send(ack5('puback', 1))
    await from.say('local', 'yours')
    await client.expect('publish local yours 1/2')
    client.send(ack5('puback', 2))
    await client.leave()
    const again = await door.client('local', back)
    again.send(publish5('local', 'mine', { qos: 1, id: 1 }))
    assert.match((await again.next()).said, /^puback 1/)
    await again.quiet()
  })

  test('[MQTT-3.8.4-3] [MQTT-3.8.4-4] the same filter again replaces the subscription; nothing is lost or doubled meanwhile', async () => {
    const client = await door.client('replace')
    await client.subscribe({ replace: 2 }, [['identifier', 1]])
    const rounds = 200
    for (let i = 0; i < rounds; i++) {
      from.send(publish5('replace', `${i}`))
      if (i % 20 === 10) client.send(subscribe5(i, { replace: i % 3 }, [['identifier', i]]))
    }
    await from.say('replace', 'end', { id: 7 })
    let next = 0
    let answered = 0
    // Two sockets: the last SUBSCRIBEs may be read behind the last message.
    for (let ended = false; !ended || answered < rounds / 20;) {
      const one = await client.next()
      if (one.said.startsWith('suback')) answered++
      else if (one.payload.toString() === 'end') ended = true
      else {
        assert.equal(Number(one.payload), next++)
        assert.equal(one.properties.get('identifier')?.length, 1)
      }
    }
    assert.equal(next, rounds)
    await client.subscribe({ replace: 1 })
    await from.say('replace', 'x', { id: 8 })
    assert.equal((await client.next()).properties.has('identifier'), false)
  })

  test('[MQTT-3.8.4-8] a delivery has the lower of the published and the granted QoS', async () => {
    const client = await door.client('lower')
    await client.subscribe({ 'lower/0': 0, 'lower/1': 1, 'lower/2': 2 })
    for (const granted of [0, 1, 2]) {
      for (const qos of [0, 1, 2]) {
        client.send(publish5(`lower/${granted}`, 'x', { qos, id: 1 }))
        const seen = qos === 0 ? [await client.next()] : [await client.next(), await client.next()]
        const delivery = seen.find(({ topic }) => topic !== '')!
        assert.equal((delivery.bytes[0]! >> 1) & 3, Math.min(granted, qos))
        const id = Number(/\/(\d+)$/.exec(delivery.said)?.[1])
        if (Math.min(granted, qos) === 1) client.send(ack5('puback', id))
        if (Math.min(granted, qos) === 2) {
          client.send(ack5('pubrec', id))
          await client.expect(`pubrel ${id}`)
          client.send(ack5('pubcomp', id))
        }
        if (qos === 2) {
          client.send(ack5('pubrel', 1))
          await client.expect('pubcomp 1')
        }
      }
    }
    await client.quiet()
  })

  test('[MQTT-3.10.4-1] [MQTT-3.10.4-2] [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.10.4-6] [MQTT-3.11.3-1] [MQTT-3.11.3-2] UNSUBSCRIBE ends what is named character by character', async () => {
    const client = await door.client('leave')
    await client.subscribe({ 'leave/+': 1, 'leave/a': 1, 'leave/A': 1, '$share/g/leave/a': 1, 'leave/#': 0 })
    client.send(unsubscribe5(0x1234, 'leave/+', 'leave/b', 'Leave/a', 'leave/a', 'leave/a', '$share/h/leave/a', '$share/g/leave/a'))
    await client.expect('unsuback 4660 0 11 11 0 11 11 0')
    await from.say('leave/a', 'x')
    await client.expect('publish leave/a x 0')
    client.send(unsubscribe5(2, 'leave/#'), unsubscribe5(3, 'nothing'))
    await client.expect('unsuback 2 0', 'unsuback 3 11')
    await from.say('leave/a', 'y')
    await client.quiet()
    await from.say('leave/A', 'z')
    await client.expect('publish leave/A z 1/1')
  })

  test('[MQTT-3.10.4-3] what was under way at QoS 1 and 2 is completed, also in a later connection', async () => {
    const client = await door.client('under-way', kept)
    await client.subscribe({ 'under/+': 2 })
    await from.say('under/1', 'x')
    from.send(publish5('under/2', 'y', { qos: 2, id: 4 }))
    await from.expect('pubrec 4')
    await client.expect('publish under/1 x 1/1', 'publish under/2 y 2/2')
    client.send(unsubscribe5(5, 'under/+'))
    await client.expect('unsuback 5 0')
    await client.leave()
    const again = await door.client('under-way', back)
    await again.expect('publish under/1 x 1/1 dup', 'publish under/2 y 2/2 dup')
    again.send(ack5('puback', 1), ack5('pubrec', 2))
    await again.expect('pubrel 2')
    again.send(ack5('pubcomp', 2))
    await again.quiet()
  })

  test('[MQTT-4.8.2-3] each of a group gets messages at the QoS that it was granted', async () => {
    const source = await door.client('')
    const clients = await Promise.all([0, 1, 2].map((qos) => door.client(`share-qos-${qos}`)))
    for (const [qos, client] of clients.entries()) await client.subscribe({ '$share/g/share-qos': qos })
    const rounds = 30
    for (let i = 0; i < rounds; i++) {
      source.send(publish5('share-qos', `${i}`, { qos: 2, id: i + 1 }))
      await source.expect(`pubrec ${i + 1}`)
    }
    let got = 0
    for (const [qos, client] of clients.entries()) {
      client.send(pingreq)
      for (let one = await client.next(); one.said !== 'pingresp'; one = await client.next(), got++) assert.equal((one.bytes[0]! >> 1) & 3, qos)
    }
    assert.equal(got, rounds)
  })

  test('[MQTT-4.8.2-4] [MQTT-4.8.2-5] a QoS 2 delivery that was begun is completed with its client, or with nobody', async () => {
    const source = await door.client('')
    for (const returns of [true, false]) {
      const topic = `share-two-${returns}`
      const holder = await door.client(topic, kept)
      await holder.subscribe({ [`$share/g/${topic}`]: 2 })
      source.send(publish5(topic, 'x', { qos: 2, id: 8 }))
      await source.expect('pubrec 8')
      await holder.expect(`publish ${topic} x 2/1`)
      const other = await door.client(`${topic}-other`)
      await other.subscribe({ [`$share/g/${topic}`]: 2 })
      holder.drop()
      await other.quiet()
      if (returns) {
        const again = await door.client(topic, back)
        await again.expect(`publish ${topic} x 2/1 dup`)
        again.send(ack5('pubrec', 1))
        await again.expect('pubrel 1')
        again.send(ack5('pubcomp', 1))
        await again.quiet()
      } else await door.client(topic)
      await other.quiet()
      source.send(ack5('pubrel', 8))
      await source.expect('pubcomp 8')
    }
  })

  test('[MQTT-4.8.2-6] what a member refuses with 0x80 or above nobody else gets', async () => {
    const source = await door.client('')
    const members = await Promise.all([0, 1].map((i) => door.client(`share-no-${i}`)))
    for (const member of members) await member.subscribe({ '$share/g/share-no': 2 })
    for (const [qos, type] of [
      [1, 'puback'],
      [2, 'pubrec'],
    ] as const) {
      source.send(publish5('share-no', 'x', { qos, id: 4 }))
      await source.next()
      source.send(ack5('pubrel', 4))
      await source.next()
      for (const member of members) member.send(pingreq)
      const seen = await Promise.all(members.map((member) => member.next()))
      const holder = seen.findIndex(({ topic }) => topic === 'share-no')
      assert.ok(holder >= 0)
      members[holder]!.send(ack5(type, idOf(seen[holder]!), 0x83))
      await members[holder]!.expect('pingresp')
      for (const member of members) await member.quiet()
      members[holder]!.drop()
      members[holder] = await door.client(`share-no-${holder}`)
      await members[1 - holder]!.quiet()
      await members[holder]!.subscribe({ '$share/g/share-no': 2 })
    }
  })

  test('[MQTT-3.12.4-1] each PINGREQ is answered', async () => {
    const client = await door.client('ping')
    for (let i = 0; i < 100; i++) client.send(pingreq)
    for (let i = 0; i < 100; i++) assert.equal(hex((await client.next()).bytes), 'd0 00')
    await client.quiet()
  })

  test('[MQTT-3.14.1-1] [MQTT-3.14.2-1] [MQTT-3.14.2-2] [MQTT-3.14.4-1] [MQTT-3.14.4-2] [MQTT-4.13.1-1] [MQTT-4.13.2-1] after its DISCONNECT the server sends nothing and closes', async () => {
    const watcher = await door.client('end-watcher')
    await watcher.subscribe({ 'end/#': 0 })
    for (const [bytes, code] of [
      [bytesOf('e1 00'), '81'],
      [disconnect5(1), '82'],
      [disconnect5(0, [['sessionExpiry', 5]]), '82'],
      [packet(0x30, field('end/x')), '81'],
      [connect5('end'), '82'],
      [publish5('end/+', 'x'), '81'],
    ] as const) {
      const client = await door.client('end')
      await client.subscribe({ 'end/#': 0 })
      // What stands behind it is not obeyed and not answered.
      client.send(bytes, pingreq, publish5('end/behind', 'x', { qos: 1 }), subscribe5(3, { x: 0 }))
      const ended = await client.ends(`disconnect ${code}`)
      assert.equal(ended.properties.has('sessionExpiry'), false)
    }
    await watcher.quiet()
  })

  test('[MQTT-3.14.4-3] [MQTT-3.1.2-10] DISCONNECT 0x00 discards the will, any other code publishes it, once', async () => {
    const watcher = await door.client('bye-watcher')
    await watcher.subscribe({ 'bye/#': 1 })
    let id = 0
    for (const more of [[], stays]) {
      for (const code of [0, 4, 0x80, 0x81, 0x99]) {
        const will = { topic: `bye/${code}`, payload: 'x', qos: 1 }
        const client = await door.client('bye', { will, properties: more })
        await client.leave(code)
        if (code !== 0) await watcher.expect(`publish bye/${code} x 1/${++id}`)
        await (await door.client('bye', { properties: more })).leave()
        await watcher.quiet()
        if (code !== 0) watcher.send(ack5('puback', id))
      }
    }
  })

  test('[MQTT-3.15.1-1] [MQTT-3.15.2-1] [MQTT-4.12.0-2] [MQTT-4.12.0-7] [MQTT-4.12.1-1] [MQTT-4.12.1-2] AUTH where no method was agreed on ends the connection', async () => {
    for (const [bytes, code] of [
      ['f0 00', '82'],
      ['f0 06 18 04 15 00 01 6d', '82'],
      ['f0 06 19 04 15 00 01 6d', '82'],
      ['f0 06 00 04 15 00 01 6d', '82'],
      ['f1 06 18 04 15 00 01 6d', '81'],
    ] as const) {
      const client = await door.client('auth')
      client.send(bytesOf(bytes), pingreq)
      await client.ends(`disconnect ${code}`)
    }
  })

  test('[MQTT-4.12.0-1] [MQTT-4.12.0-4] [MQTT-4.12.0-5] [MQTT-4.12.0-6] a method is refused with CONNACK 0x8C; the server sends no AUTH [MQTT-3.15.2-2] [MQTT-3.15.2-3]', async () => {
    for (const properties of [
      [['authMethod', 'SCRAM-SHA-256']],
      [
        ['authMethod', ''],
        ['authData', 'x'],
      ],
    ] as const) {
      const line = await door.line()
      line.send(connect5('method', { properties, username: 'u', password: 'p' }), bytesOf('f0 06 18 04 15 00 01 6d'))
      const refused = await line.ends('connack 8c')
      assert.equal(refused.properties.has('authMethod'), false)
    }
    const line = await door.line()
    line.send(connect5('method', { properties: [['authData', 'x']] }))
    await line.ends('connack 82')
  })

  test('[MQTT-3.14.0-1] nobody is sent a DISCONNECT who was sent no CONNACK that accepts', async () => {
    for (const bytes of [
      bytesOf('f1 00'),
      publish5('a', 'x'),
      bytesOf('10 ff ff ff ff 7f'),
      connect5('x'.repeat(300)),
      connect5('c', { username: 'eve' }),
    ]) {
      const line = await door.line()
      line.send(bytes, pingreq)
      const seen: string[] = []
      for (;;) {
        const one = await line.next().catch(() => undefined)
        if (one === undefined) break
        seen.push(one.said)
      }
      assert.ok(line.isClosed && seen.length <= 1 && !seen.join().includes('disconnect'), seen.join())
    }
  })

  test('[MQTT-4.3.2-4] [MQTT-4.3.3-4] an acknowledgement of the other QoS, or out of its turn, is a protocol error', async () => {
    for (const properties of [[], stays]) {
      for (const [qos, wrong] of [
        [1, 'pubrec'],
        [1, 'pubcomp'],
        [2, 'puback'],
        [2, 'pubcomp'],
      ] as const) {
        const client = await door.client('out-of-turn', { properties })
        await client.subscribe({ 'out-of-turn': 2 })
        from.send(publish5('out-of-turn', 'x', { qos, id: 30 }))
        await from.next()
        await client.expect(`publish out-of-turn x ${qos}/1`)
        client.send(ack5(wrong, 1))
        await client.ends('disconnect 82')
        from.send(ack5('pubrel', 30))
        await from.next()
      }
    }
    const client = await door.client('unknown')
    client.send(ack5('puback', 1), ack5('pubcomp', 2), ack5('pubrec', 3), ack5('pubrec', 4, 0x80))
    await client.expect('pubrel 3 92')
    await client.quiet()
  })
})
