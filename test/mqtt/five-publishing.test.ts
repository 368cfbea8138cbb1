import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { connect5 as connectClient } from './client5.ts'
import { hex, packet } from './client-packets.ts'
import { World } from './harness.ts'
import { ack5, publish5, subscribe5 } from './packets5.ts'
import type { Property } from './packets5.ts'
import { Door5 } from './socket5.ts'
import type { Socket5 } from './socket5.ts'

// PUBLISH (section 3.3), data representation and packet format (chapters 1 and 2), over sockets.

const stays = [['sessionExpiry', 600]] as const
const kept = { clean: false, properties: stays } as const
const back = { ...kept, present: true } as const

describe('PUBLISH of MQTT 5', () => {
  let door: Door5
  let from: Socket5
  before(async () => {
    door = await Door5.open({ topicAliasMax: 5, topicBytesMax: 65_535 })
    from = await door.client('from')
  })
  after(() => door.close())

  test('[MQTT-1.5.4-3] EF BB BF is a character: of a topic, of a filter, of a property, of a client id', async () => {
    const to = await door.client('\uFEFFto')
    await to.subscribe({ '\uFEFFbom': 1 })
    await from.say('bom', 'other')
    await from.say('\uFEFFbom', 'x', { properties: [['contentType', '\uFEFFtype']] })
    const { bytes, properties } = await to.expect('publish \uFEFFbom x 1/1')
    assert.match(hex(bytes), /00 06 ef bb bf 62 6f 6d/)
    assert.deepEqual(properties.get('contentType'), ['\uFEFFtype'])
    await to.quiet()
  })

  test('[MQTT-2.2.1-2] [MQTT-2.2.2-1] [MQTT-4.3.1-1] QoS 0 has no packet id, and DUP 0; without properties there is a length of 0', async () => {
    const to = await door.client('bare')
    to.send(subscribe5(0x1234, { bare: 2 }))
    assert.equal(hex((await to.next()).bytes), '90 04 12 34 00 02')
    from.send(publish5('bare', 'zero'))
    await from.say('bare', 'one', { id: 0xffff })
    assert.equal(hex((await to.next()).bytes), '30 0b 00 04 62 61 72 65 00 7a 65 72 6f')
    assert.equal(hex((await to.next()).bytes), '32 0c 00 04 62 61 72 65 00 01 00 6f 6e 65')
  })

  test('[MQTT-2.2.1-5] [MQTT-2.2.1-6] [MQTT-3.3.4-1] [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-4.3.3-11] answers have the packet id of what they answer', async () => {
    const client = await door.client('ids')
    for (const id of [1, 0x0100, 0x1234, 0xffff]) {
      client.send(publish5('ids', 'x', { qos: 1, id }))
      await client.expect(`puback ${id} 10`)
      client.send(publish5('ids', 'x', { qos: 2, id }))
      await client.expect(`pubrec ${id} 10`)
      client.send(ack5('pubrel', id))
      await client.expect(`pubcomp ${id}`)
      client.send(subscribe5(id, { other: 0 }))
      await client.expect(`suback ${id} 0`)
    }
    client.send(publish5('ids', 'x'))
    await client.quiet()
  })

  test('[MQTT-3.3.1-1] [MQTT-3.3.1-3] [MQTT-4.3.2-2] [MQTT-4.3.3-2] DUP is 0 at first, whatever the publisher said, and 1 on what is sent again', async () => {
    const to = await door.client('dup', kept)
    await to.subscribe({ 'dup/+': 2 })
    await from.say('dup/1', 'x', { dup: true, id: 21 })
    from.send(publish5('dup/2', 'x', { dup: true, qos: 2, id: 22 }))
    await from.expect('pubrec 22')
    await to.expect('publish dup/1 x 1/1', 'publish dup/2 x 2/2')
    to.drop()
    const again = await door.client('dup', back)
    await again.expect('publish dup/1 x 1/1 dup', 'publish dup/2 x 2/2 dup')
    await again.quiet()
  })

  test('[MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-7] [MQTT-3.3.1-8] RETAIN replaces and removes; without it nothing is kept or removed', async () => {
    const live = await door.client('retain-live')
    await live.subscribe({ 'retain/#': 1 })
    // Retained messages come filter by filter.
    await from.say('retain-end', 'x', { retain: true })
    const newest = async (): Promise<string[]> => {
      const late = await door.client('retain-late')
      await late.subscribe({ 'retain/#': 0, 'retain-end': 0 })
      const seen: string[] = []
      for (let said = (await late.next()).said; !said.startsWith('publish retain-end'); said = (await late.next()).said) seen.push(said)
      return seen.toSorted()
    }
    const steps: readonly (readonly [string, string, boolean, readonly string[]])[] = [
      ['retain/a', '1', false, []],
      ['retain/a', '2', true, ['publish retain/a 2 0 retain']],
      ['retain/a', '3', true, ['publish retain/a 3 0 retain']],
      ['retain/a', '4', false, ['publish retain/a 3 0 retain']],
      ['retain/a', '', false, ['publish retain/a 3 0 retain']],
      ['retain/b', '5', true, ['publish retain/a 3 0 retain', 'publish retain/b 5 0 retain']],
      ['retain/a', '', true, ['publish retain/b 5 0 retain']],
      ['retain/b', '', true, []],
    ]
    let id = 0
    for (const [topic, payload, retain, left] of steps) {
      await from.say(topic, payload, { retain })
      id++
      await live.expect(`publish ${topic} ${payload} 1/${id}`)
      assert.deepEqual(await newest(), left)
    }
    await from.say('retain-end', '', { retain: true })
  })

  test('[MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11] [MQTT-3.8.4-4] Retain Handling: at each SUBSCRIBE, when it is new, never', async () => {
    // Retained messages come filter by filter: behind the last one nothing of the first is to come.
    for (const topic of ['handling/a', 'handling-end']) await from.say(topic, 'x', { retain: true })
    for (const [handling, first, second] of [
      [0, true, true],
      [1, true, false],
      [2, false, false],
    ] as const) {
      const client = await door.client(`handling-${handling}`)
      for (const told of [first, second]) {
        await client.subscribe({ 'handling/#': (handling << 4) | 1, 'handling-end': 0 })
        if (told) {
          const { said } = await client.next()
          assert.match(said, /^publish handling\/a x 1\/\d retain$/)
          client.send(ack5('puback', Number(/(\d) retain/.exec(said)?.[1])))
        }
        await client.expect('publish handling-end x 0 retain')
      }
      await client.quiet()
    }
    await from.say('handling-end', '', { retain: true })
    await from.say('handling/a', '', { retain: true })
  })

  test('[MQTT-3.3.1-12] [MQTT-3.3.1-13] Retain As Published: 0 clears RETAIN, 1 leaves it as it was', async () => {
    const [without, withIt] = [await door.client('rap-0'), await door.client('rap-1')]
    await without.subscribe({ rap: 0x21 })
    await withIt.subscribe({ rap: 0x29 })
    await from.say('rap', '1', { retain: true })
    await from.say('rap', '2')
    await without.expect('publish rap 1 1/1', 'publish rap 2 1/2')
    await withIt.expect('publish rap 1 1/1 retain', 'publish rap 2 1/2')
    await from.say('rap', '', { retain: true })
  })

  test('[MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20] what a message came with goes on unaltered', async () => {
    const [to, offline] = [await door.client('props'), await door.client('props-kept', kept)]
    for (const one of [to, offline]) await one.subscribe({ 'props/#': 1 })
    await offline.leave()
    const sent: readonly (readonly Property[])[] = [
      [['payloadFormat', 0]],
      [['payloadFormat', 1]],
      [['responseTopic', 'r/é']],
      [['correlation', '\u0000\u00FF']],
      [['contentType', '']],
      [
        ['user', ['z', '1']],
        ['user', ['a', '']],
        ['user', ['z', '1']],
        ['user', ['', '2']],
      ],
      [
        ['user', ['z', '1']],
        ['correlation', ''],
        ['user', ['a', '2']],
        ['contentType', 't'],
        ['responseTopic', 'r'],
        ['payloadFormat', 1],
      ],
    ]
    const grouped = (properties: readonly Property[]): Record<string, unknown[]> => {
      const all: Record<string, unknown[]> = {}
      for (const [name, value] of properties) (all[name] ??= []).push(value)
      return all
    }
    for (const [i, properties] of sent.entries()) await from.say('props/x', `${i}`, { id: i + 1, properties })
    for (const one of [to, await door.client('props-kept', back)]) {
      for (const [i, properties] of sent.entries()) {
        const came = await one.expect(`publish props/x ${i} 1/${i + 1}`)
        assert.deepEqual(Object.fromEntries(came.properties), grouped(properties))
      }
    }
  })

  test('[MQTT-3.3.2-7] an alias is of its connection, also when the session goes on', async () => {
    const first = await door.client('alias-kept', kept)
    first.send(publish5('alias', 'x', { qos: 1, properties: [['alias', 1]] }))
    await first.expect('puback 1 10')
    first.drop()
    const second = await door.client('alias-kept', back)
    second.send(publish5('', 'x', { qos: 1, properties: [['alias', 1]] }))
    await second.ends('disconnect 82')
  })

  test('[MQTT-3.3.2-12] every alias up to the maximum is taken, set anew, and independent of those of the server [MQTT-3.1.2-26] [MQTT-3.3.2-11]', async () => {
    const client = await door.client('aliases', { properties: [['aliasMaximum', 2]] })
    await client.subscribe({ 'aliases/#': 0 })
    for (let alias = 1; alias <= 5; alias++) client.send(publish5(`aliases/${alias}`, 'x', { properties: [['alias', alias]] }))
    for (let alias = 1; alias <= 5; alias++) client.send(publish5('', 'y', { properties: [['alias', alias]] }))
    client.send(publish5('aliases/new', 'z', { properties: [['alias', 5]] }), publish5('', 'z', { properties: [['alias', 5]] }))
    const names = new Map<number, string>()
    const seen: string[] = []
    for (let i = 0; i < 12; i++) {
      const { topic, payload, properties } = await client.next()
      const alias = Number(properties.get('alias')?.[0] ?? 0)
      assert.ok(alias <= 2)
      if (topic !== '' && alias > 0) names.set(alias, topic)
      seen.push(`${topic === '' ? names.get(alias) : topic} ${payload}`)
    }
    const each = (payload: string): string[] => [1, 2, 3, 4, 5].map((alias) => `aliases/${alias} ${payload}`)
    assert.deepEqual(seen, [...each('x'), ...each('y'), 'aliases/new z', 'aliases/new z'])
  })

  test('[MQTT-3.1.2-27] without Topic Alias Maximum, or with 0, the server sends no alias', async () => {
    for (const properties of [[], [['aliasMaximum', 0]]] as const) {
      const client = await door.client('no-alias', { properties })
      await client.subscribe({ 'no-alias': 0 })
      for (let i = 0; i < 3; i++) client.send(publish5('no-alias', 'x'))
      for (let i = 0; i < 3; i++) assert.equal((await client.expect('publish no-alias x 0')).properties.has('alias'), false)
    }
  })

  test('[MQTT-3.3.2-3] [MQTT-4.7.2-1] [MQTT-4.7.3-4] a delivery’s topic matches, character by character; # and + match nothing that begins with $', async () => {
    const topics = ['m/a', 'm/A', 'm//a', 'm/a/', '/m/a', 'm', 'm/é', 'm/e\u0301', 'm/a/b', '$m/a', 'm/ a', 'm/$a']
    const matching: Readonly<Record<string, readonly string[]>> = {
      'm/a': ['m/a'],
      'm/é': ['m/é'],
      'm/e\u0301': ['m/e\u0301'],
      'm/+': ['m/a', 'm/A', 'm/é', 'm/e\u0301', 'm/ a', 'm/$a'],
      'm/#': ['m/a', 'm/A', 'm//a', 'm/a/', 'm', 'm/é', 'm/e\u0301', 'm/a/b', 'm/ a', 'm/$a'],
      'm/+/a': ['m//a'],
      'm/a/+': ['m/a/', 'm/a/b'],
      '+/m/a': ['/m/a'],
      '+/+': ['m/a', 'm/A', 'm/é', 'm/e\u0301', 'm/ a', 'm/$a'],
      '+/a': ['m/a'],
      '#': topics.filter((topic) => !topic.startsWith('$')),
      '$m/#': ['$m/a'],
      '$m/+': ['$m/a'],
    }
    for (const [filter, wanted] of Object.entries(matching)) {
      const client = await door.client('match')
      await client.subscribe({ [filter]: 0 })
      for (const topic of topics) client.send(publish5(topic, 'x'))
      const seen: string[] = []
      client.send(Uint8Array.of(0xc0, 0))
      for (let one = await client.next(); one.said !== 'pingresp'; one = await client.next()) seen.push(one.topic)
      assert.deepEqual(
        seen.filter((topic) => !topic.startsWith('$SYS')),
        wanted,
        filter,
      )
    }
  })

  test('[MQTT-4.7.3-3] a topic and a filter of 65,535 bytes are taken', async () => {
    const client = await door.client('long')
    const topic = `long/${'x'.repeat(65_530)}`
    await client.subscribe({ [topic]: 0 })
    client.send(publish5(topic, 'x'))
    assert.equal((await client.next()).topic, topic)
  })

  test('[MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4] overlapping subscriptions: one copy, the highest QoS, all identifiers', async () => {
    const client = await door.client('overlap')
    await client.subscribe({ 'overlap/#': 0 }, [['identifier', 1]])
    await client.subscribe({ 'overlap/+': 2 }, [['identifier', 268_435_455]])
    await client.subscribe({ 'overlap/a': 1 })
    await client.subscribe({ '+/a': 1 }, [['identifier', 1]])
    client.send(publish5('overlap/a', 'x', { qos: 2, id: 5 }))
    const { properties } = await client.expect('publish overlap/a x 2/1')
    assert.deepEqual(properties.get('identifier')?.toSorted(), [1, 1, 268_435_455])
    await client.expect('pubrec 5')
    await client.quiet()
  })

  test('[MQTT-3.3.4-5] where there are several copies each has the identifier of its subscription', async () => {
    const client = await door.client('copies')
    await client.subscribe({ '$share/g/copies': 1 }, [['identifier', 7]])
    await client.subscribe({ copies: 1 }, [['identifier', 8]])
    await from.say('copies', 'x')
    const ids = [await client.next(), await client.next()].map(({ properties }) => properties.get('identifier'))
    assert.deepEqual(ids.toSorted(), [[7], [8]])
    await client.quiet()
  })

  test('[MQTT-3.3.4-6] a subscription identifier in a PUBLISH of a client is a protocol error', async () => {
    const client = await door.client('identifies')
    client.send(publish5('a', 'x', { properties: [['identifier', 1]] }))
    await client.ends('disconnect 82')
  })

  test('[MQTT-3.3.4-9] [MQTT-3.3.4-10] [MQTT-4.9.0-1] [MQTT-4.9.0-2] [MQTT-4.9.0-3] no more than Receive Maximum is under way; all else goes on', async () => {
    for (const [clientId, more] of [
      ['quota', {}],
      ['quota-kept', stays],
    ] as const) {
      const properties: Property[] = [['receiveMaximum', 2], ...(more === stays ? stays : [])]
      const client = await door.client(clientId, { properties })
      const topic = `${clientId}/a`
      await client.subscribe({ [topic]: 2 })
      for (const [i, qos] of [1, 2, 2, 1, 1].entries()) {
        from.send(publish5(topic, `${i}`, { qos, id: 40 + i }))
        assert.match((await from.next()).said, /^pub(ack|rec) /)
      }
      for (const id of [41, 42]) from.send(ack5('pubrel', id))
      await from.expect('pubcomp 41', 'pubcomp 42')
      await client.expect(`publish ${topic} 0 1/1`, `publish ${topic} 1 2/2`)
      // Without quota everything else is sent and answered, PUBREL too.
      await client.quiet()
      client.send(publish5(`${topic}/b`, 'x', { qos: 1, id: 3 }), subscribe5(4, { elsewhere: 0 }), ack5('pubrec', 2))
      const others = [await client.next(), await client.next(), await client.next()].map(({ said }) => said)
      assert.deepEqual(others.toSorted(), ['puback 3 10', 'pubrel 2', 'suback 4 0'])
      await client.quiet()
      client.send(ack5('pubcomp', 2))
      await client.expect(`publish ${topic} 2 2/3`)
      // A PUBREC that refuses gives the quota back; so does a PUBACK that does.
      client.send(ack5('pubrec', 3, 0x97))
      await client.expect(`publish ${topic} 3 1/4`)
      client.send(ack5('puback', 1, 0x97))
      await client.expect(`publish ${topic} 4 1/5`)
      await client.quiet()
    }
  })
})

describe('flow control of the server', () => {
  test('[MQTT-3.3.4-7] who has more under way than Receive Maximum gets DISCONNECT 0x93', async () => {
    const door = await Door5.open({ receiveInflightMax: 3 })
    try {
      const client = await door.client('c')
      assert.deepEqual(client.answer?.properties.get('receiveMaximum'), [3])
      for (const id of [1, 2, 3]) {
        client.send(publish5('a', 'x', { qos: 2, id }))
        await client.expect(`pubrec ${id} 10`)
      }
      client.send(ack5('pubrel', 2))
      await client.expect('pubcomp 2')
      client.send(publish5('a', 'x', { qos: 1, id: 4 }))
      await client.expect('puback 4 10')
      client.send(publish5('a', 'x', { qos: 2, id: 5 }), packet(0xc0))
      await client.expect('pubrec 5 10', 'pingresp')
      client.send(publish5('a', 'x', { qos: 2, id: 6 }))
      await client.ends('disconnect 93')
    } finally {
      await door.close()
    }
  })
})

test('[MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1] no packet id of the server is 0 or in use, also when they begin anew', () => {
  const world = new World()
  const [to, from] = [connectClient(world, 'to'), connectClient(world, 'from')]
  to.subscribe('a', 2)
  // Two that are never acknowledged, one of each QoS.
  for (const qos of [1, 2] as const) from.say('a', 'held', { qos, id: 1 })
  to.read()
  let last = 2
  for (let i = 0; i < 65_600; i++) {
    from.say('a', 'x', { qos: 1, id: 1 })
    to.read()
    const { packetId } = to.messages.at(-1)!
    assert.equal(packetId, last === 65_535 ? 3 : last + 1)
    last = packetId
    to.ack(4, packetId)
    to.messages.length = 0
  }
})
