import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { InteropClient } from './mqtt-interop-client.ts'
import type { ClientOptions, Properties } from './mqtt-interop-client.ts'
import { RunningServer } from '../test/support/server.ts'

/*
 * What an interoperability suite of the field asks of a broker of MQTT 5, by the names that it has there, of a Kymo as it is started without settings.
 */
describe('interoperability, MQTT 5', { concurrency: true }, () => {
  let server: RunningServer
  before(async () => {
    server = await RunningServer.start()
  })
  after(() => server.dispose())

  /** Names of one test alone: tests run beside each other. */
  const of = (test: string) => {
    const options = (who: string, o: Partial<ClientOptions> = {}): ClientOptions => ({ version: 5, clientId: `${test}-${who}`, ...o })
    return {
      /** A topic, or a filter. */
      t: (topic: string): string => `${test}/${topic}`,
      in: (who: string, o: Partial<ClientOptions> = {}, present = false): Promise<InteropClient> =>
        InteropClient.in(server.mqttPort, options(who, o), present),
      open: (who: string, o: Partial<ClientOptions> = {}): Promise<InteropClient> => InteropClient.open(server.mqttPort, options(who, o)),
    }
  }
  const topics = ['T/B', 'U/C', 'T/C'] as const
  const levels = [0, 1, 2] as const
  const stays = (sessionExpiryInterval: number): { readonly properties: Properties } => ({ properties: { sessionExpiryInterval } })
  /** The codec's are an object without a prototype. */
  const userProperties = ({ userProperties: users }: Properties): object => (typeof users === 'object' ? { ...users } : {})
  const payloads = (client: InteropClient): string[] => client.messages.map(({ text }) => text)

  it('basic: three QoS to oneself; a second CONNECT ends the connection, and is told so', async () => {
    const { t, in: connect, open } = of('basic')
    const client = await connect('a')
    assert.deepEqual(await client.subscribe(t('T')), [2])
    for (const qos of levels) await client.publish(t('T'), `${qos}`, { qos })
    await client.count(3)
    client.connect({ version: 5, clientId: 'basic-a' })
    await client.until(() => client.ended)
    assert.deepEqual(client.disconnects, [0x82])
    const other = await open('a', { protocolId: 'MQIsdp' })
    assert.notEqual(other.code, 0)
    await other.until(() => other.ended)
  })

  it('retained messages: of each QoS with their user properties; Retain Handling and Retain As Published', async () => {
    const { t, in: connect } = of('retained')
    const client = await connect('a')
    const properties = { userProperties: { a: '2', c: '3' } }
    for (const [i, topic] of topics.entries()) await client.publish(t(topic), `${i}`, { qos: levels[i]!, retain: true, properties })
    const count = async (filter: string, rh: 0 | 1 | 2, expected: number): Promise<void> => {
      client.messages.length = 0
      await client.subscribe(filter, { rh })
      // What a subscription brings comes before what a later one does.
      await client.subscribe(t('mark'), { rh: 0 })
      await client.until(() => client.messages.at(-1)?.topic === t('mark'))
      assert.equal(client.messages.length, expected + 1, `${filter} ${rh}`)
    }
    await client.publish(t('mark'), 'm', { qos: 2, retain: true })
    await count(t('+/+'), 1, 3)
    const three = client.messages.slice(0, 3)
    for (const one of three) {
      assert.deepEqual(userProperties(one.properties), properties.userProperties)
      assert.equal(one.retain, true)
    }
    assert.deepEqual(three.map(({ qos }) => qos).toSorted(), [0, 1, 2])
    await count(t('+/+'), 1, 0)
    await count(t('+/+'), 0, 3)
    await count(t('U/+'), 2, 0)
    await count(t('T/+'), 0, 2)
    const plain = await connect('b')
    await plain.subscribe(t('P'), { rap: true })
    await plain.publish(t('P'), 'no', { qos: 1 })
    await plain.publish(t('P'), 'yes', { qos: 1, retain: true })
    await plain.count(2)
    assert.deepEqual(
      plain.messages.map(({ retain }) => retain),
      [false, true],
    )
  })

  it('will: published when the client is gone; keep-alive: when it is silent for one and a half', async () => {
    const { t, in: connect } = of('will')
    const watcher = await connect('b')
    await watcher.subscribe(t('#'))
    const will = (payload: string) => ({ will: { topic: t('W'), payload, qos: 2 as const } })
    await (await connect('a', will('gone'))).terminate()
    await watcher.count(1)
    const silent = await connect('c', { keepalive: 1, ...will('silent') })
    await silent.until(() => silent.ended)
    assert.deepEqual(silent.disconnects, [0x8d])
    await watcher.count(2)
    assert.deepEqual(payloads(watcher), ['gone', 'silent'])
  })

  it('will delay: published when it is over, or with the session when that ends before', async () => {
    const { t, in: connect } = of('delay')
    const watcher = await connect('b')
    await watcher.subscribe(t('#'))
    const begun = performance.now()
    const cases = [
      { delayS: 3, expiryS: 5, afterS: 3 },
      { delayS: 5, expiryS: 0, afterS: 0 },
      { delayS: 5, expiryS: 2, afterS: 2 },
    ]
    for (const [i, { delayS, expiryS }] of cases.entries()) {
      const will = { topic: t(`${i}`), payload: 'gone', qos: 0, properties: { willDelayInterval: delayS } } as const
      await (await connect(`${i}`, { will, ...stays(expiryS) })).terminate()
    }
    const took: number[] = []
    for (let n = 1; n <= 3; n++) {
      await watcher.until(() => watcher.messages.length >= n)
      took[Number(watcher.messages[n - 1]!.topic.slice(-1))] = (performance.now() - begun) / 1000
    }
    for (const [i, { afterS }] of cases.entries()) assert.ok(took[i]! > afterS - 0.1 && took[i]! < afterS + 2, `${i}: ${took[i]} s`)
  })

  it('zero-length and assigned client id', async () => {
    const clients = await Promise.all([0, 1].map(() => InteropClient.in(server.mqttPort, { version: 5, clientId: '' })))
    const ids = clients.map(({ connackProperties }) => connackProperties['assignedClientIdentifier'])
    assert.ok(ids.every((id) => typeof id === 'string' && id !== ''))
    assert.equal(new Set(ids).size, 2)
  })

  it('offline message queueing: QoS 1 and 2 wait for a client that is away', async () => {
    const { t, in: connect } = of('offline')
    const client = await connect('a', stays(99_999))
    await client.subscribe(t('+/+'))
    await client.disconnect()
    const from = await connect('b')
    for (const [i, topic] of topics.entries()) await from.publish(t(topic), `${i}`, { qos: levels[i]! })
    const back = await connect('a', { clean: false, ...stays(99_999) }, true)
    await back.count(2)
    assert.deepEqual(payloads(back), ['1', '2'])
  })

  it('publication expiry: what is too old is not sent, what is not has the rest of its life', async () => {
    const { t, in: connect } = of('expiry')
    const client = await connect('b', stays(99_999))
    await client.subscribe(t('T'))
    await client.disconnect({ sessionExpiryInterval: 999_999 })
    const from = await connect('a')
    for (const [messageExpiryInterval, text] of [
      [1, 'expires'],
      [6, 'stays'],
    ] as const) {
      for (const qos of [1, 2] as const) await from.publish(t('T'), `${text} ${qos}`, { qos, properties: { messageExpiryInterval } })
    }
    await delay(2_100)
    const back = await connect('b', { clean: false }, true)
    await back.count(2)
    assert.deepEqual(payloads(back), ['stays 1', 'stays 2'])
    for (const { properties } of back.messages) {
      const left = Number(properties['messageExpiryInterval'])
      assert.ok(left > 0 && left < 6, `${left}`)
    }
  })

  it('overlapping subscriptions and subscription identifiers: one message, at the highest QoS, with all of them', async () => {
    const { t, in: connect } = of('overlap')
    const other = await connect('a')
    await other.subscribe(t('T'), { qos: 2 }, { subscriptionIdentifier: 456_789 })
    const client = await connect('b')
    await client.subscribe(t('T'), { qos: 1 }, { subscriptionIdentifier: 2 })
    await client.subscribe(t('T/#'), { qos: 2 }, { subscriptionIdentifier: 3 })
    await client.publish(t('T'), 'x', { qos: 2 })
    await Promise.all([client.count(1), other.count(1)])
    assert.equal(other.messages[0]?.properties['subscriptionIdentifier'], 456_789)
    assert.equal(client.messages[0]?.qos, 2)
    const ids = client.messages[0]?.properties['subscriptionIdentifier']
    assert.deepEqual(Array.isArray(ids) ? ids.toSorted() : ids, [2, 3])
  })

  it('redelivery on reconnect: what was not answered comes again', async () => {
    const { t, in: connect } = of('redelivery')
    const client = await connect('b', stays(99_999))
    await client.subscribe(t('T/#'))
    client.paused = true
    await client.publish(t('T/B'), '', { qos: 1 })
    await client.publish(t('T/C'), '', { qos: 2 })
    await client.disconnect()
    const back = await connect('b', { clean: false, ...stays(99_999) }, true)
    await back.count(2)
    assert.ok(back.messages.every(({ dup }) => dup))
  })

  it('$ topics, subscribe failure and unsubscribe', async () => {
    const { t, in: connect } = of('filters')
    const client = await connect('b')
    // Deeper than any topic may be.
    const refused = await client.subscribe(['+/T/B', '#', 'a/'.repeat(1_000), t('T')])
    assert.ok(Array.isArray(refused))
    assert.deepEqual(
      refused.map((code) => code < 0x80),
      [true, true, false, true],
    )
    await client.publish('$filters/T/B', '', { qos: 1 })
    await client.publish(t('T/B'), '', { qos: 1 })
    await client.until(() => client.messages.some(({ topic }) => topic === t('T/B')))
    assert.equal(client.messages.filter(({ topic }) => topic.startsWith('$')).length, 0)
    await client.disconnect()
    const other = await connect('c')
    for (const topic of topics) await other.subscribe(t(topic))
    await other.unsubscribe(t('T/B'))
    for (const topic of topics) await other.publish(t(topic), topic, { qos: 1 })
    await other.count(2)
    assert.deepEqual(payloads(other), ['U/C', 'T/C'])
  })

  it('session expiry: of 0, of some seconds, and as DISCONNECT changes it', async () => {
    const { t, in: connect } = of('session')
    const away = async (expiryS: number, present: boolean, clean: boolean, atEndS?: number): Promise<void> => {
      const client = await connect('a', { clean, ...stays(expiryS) }, present)
      await client.subscribe(t('T'))
      await client.disconnect(atEndS === undefined ? undefined : { sessionExpiryInterval: atEndS })
    }
    await away(0, false, true)
    await away(0, false, false)
    await away(3, false, true)
    await delay(1_000)
    await away(1, true, false, 4)
    await delay(2_000)
    await away(4, true, false, 0)
    await away(1, false, false)
    await delay(3_000)
    await away(0, false, false)
  })

  it('user properties, payload format, content type, response topic and correlation data go through unchanged', async () => {
    const { t, in: connect } = of('properties')
    const requester = await connect('a')
    const responder = await connect('b')
    for (const client of [requester, responder]) await client.subscribe(t('T'), { nl: true })
    const properties = {
      payloadFormatIndicator: true,
      contentType: 'My name',
      userProperties: { a: '2', c: '3' },
      responseTopic: t('T'),
      correlationData: Buffer.from('334'),
    }
    for (const qos of levels) await requester.publish(t('T'), 'request', { qos, properties })
    await responder.count(3)
    await requester.count(0)
    for (const { properties: got } of responder.messages) {
      assert.deepEqual({ ...got, userProperties: userProperties(got) }, properties)
    }
    await responder.publish(String(responder.messages[0]?.properties['responseTopic']), 'response', { qos: 1, properties })
    await requester.count(1)
    assert.deepEqual(requester.messages[0]?.properties['correlationData'], Buffer.from('334'))
  })

  it('No Local: not to oneself', async () => {
    const { t, in: connect } = of('local')
    const [one, other] = [await connect('a'), await connect('b')]
    for (const client of [one, other]) await client.subscribe(t('T'), { nl: true })
    await one.publish(t('T'), 'x', { qos: 1 })
    await Promise.all([other.count(1), one.count(0)])
  })

  it('client topic alias: 0 and an unknown one are refused; one that is set holds for its connection', async () => {
    const { t, in: connect } = of('alias')
    const zero = await connect('a')
    // PUBLISH, QoS 0, topic "a", a Topic Alias of 0.
    zero.sendBytes(Buffer.from('300700016103230000', 'hex'))
    await zero.until(() => zero.ended)
    assert.deepEqual(zero.disconnects, [0x94])
    const client = await connect('b', stays(99_999))
    assert.ok(Number(client.connackProperties['topicAliasMaximum']) >= 1)
    await client.subscribe(t('T'))
    await client.publish(t('T'), '1', { qos: 1, properties: { topicAlias: 1 } })
    await client.publish('', '2', { qos: 1, properties: { topicAlias: 1 } })
    await client.count(2)
    await client.disconnect()
    const again = await connect('b', { clean: false }, true)
    await again.publish(t('T'), '3', { qos: 1 })
    await again.count(1)
    again.publishOnly('', '4', { qos: 1, properties: { topicAlias: 1 } })
    await again.until(() => again.ended)
    assert.equal(again.disconnects.length, 1)
    assert.deepEqual(payloads(again), ['3'])
  })

  it('server topic alias: from the first message on where the client takes one, and none where it does not', async () => {
    const { t, in: connect } = of('server-alias')
    for (const topicAliasMaximum of [1, 0, undefined]) {
      const client = await connect('a', topicAliasMaximum === undefined ? {} : { properties: { topicAliasMaximum } })
      await client.subscribe(t('T'))
      for (const qos of levels) await client.publish(t('T'), `${qos}`, { qos })
      await client.count(3)
      const got = client.messages.map(({ topic, properties }) => [topic, properties['topicAlias']])
      assert.deepEqual(
        got,
        topicAliasMaximum === 1
          ? [
              [t('T'), 1],
              ['', 1],
              ['', 1],
            ]
          : levels.map(() => [t('T'), undefined]),
      )
      await client.disconnect()
    }
  })

  it('maximum packet size: the server says its own; what is too long for a client is not sent to it', async () => {
    const { t, in: connect } = of('size')
    const client = await connect('a', { properties: { maximumPacketSize: 64 } })
    const own = client.connackProperties['maximumPacketSize']
    assert.ok(own === undefined || Number(own) >= 65_535)
    await client.subscribe(t('T'))
    await client.publish(t('T'), '.'.repeat(32))
    await client.publish(t('T'), '.'.repeat(64), { qos: 1 })
    await client.count(1)
    const plain = await connect('b')
    const size = Number(plain.connackProperties['maximumPacketSize'])
    plain.publishOnly(t('T'), '.'.repeat(size))
    await plain.until(() => plain.ended)
    assert.deepEqual(plain.disconnects, [0x95])
  })

  it('server keep-alive: where the server has a longest one, it takes the place of a longer one, and of none', async () => {
    const asked = of('keep-alive')
    assert.equal((await asked.in('a', { keepalive: 120 })).connackProperties['serverKeepAlive'], undefined)
    const other = await RunningServer.start({ args: ['--mqtt-keepalive-max-s', '60'] })
    try {
      for (const [keepalive, told] of [
        [120, 60],
        [0, 60],
        [30, undefined],
      ] as const) {
        const client = await InteropClient.in(other.mqttPort, { version: 5, clientId: `keep-alive-${keepalive}`, keepalive })
        assert.equal(client.connackProperties['serverKeepAlive'], told)
      }
    } finally {
      await other.dispose()
    }
  })

  it('flow control: no more deliveries under way than the client takes', async () => {
    const { t, in: connect } = of('flow-1')
    const client = await connect('a', { properties: { receiveMaximum: 2 } })
    await client.subscribe(t('T'), { qos: 1 })
    client.paused = true
    const deliveries = () => client.packets.filter(({ cmd }) => cmd === 'publish')
    for (let i = 1; i <= 3; i++) await client.publish(t('T'), `${i}`, { qos: 1 })
    await client.settled()
    await delay(500)
    assert.equal(deliveries().length, 2)
    for (let i = 0; i < 3; i++) {
      await client.until(() => deliveries().length > i)
      client.send({ cmd: 'puback', messageId: deliveries()[i]!.messageId!, reasonCode: 0 })
    }
    await client.settled()
    assert.deepEqual(
      deliveries().map(({ payload }) => String(payload)),
      ['1', '2', '3'],
    )
  })

  it('flow control: a client that exceeds the Receive Maximum of the server is told so and sent away', async () => {
    const { t, in: connect } = of('flow-2')
    const client = await connect('a')
    const most = Number(client.connackProperties['receiveMaximum'] ?? 65_535)
    const own = client.send.bind(client)
    // PUBREC is not answered: every exchange stays under way.
    client.send = (packet) => (packet.cmd === 'pubrel' ? undefined : own(packet))
    for (let i = 0; i < most + 1; i++) client.publishOnly(t('T'), `${i}`, { qos: 2 })
    await client.until(() => client.ended)
    assert.deepEqual(client.disconnects, [0x93])
  })

  it('shared subscriptions: each message to one of the group, beside ordinary subscriptions', async () => {
    const { t, in: connect } = of('shared')
    const clients = [await connect('a'), await connect('b')] as const
    for (const client of clients) await client.subscribe([`$share/group/${t('x')}`, t('T')])
    await clients[1].publish(t('T'), 'all')
    for (const client of clients) await client.count(1)
    for (let i = 0; i < 10; i++) await clients[1].publish(t('x'), `${i}`, { qos: i % 2 === 0 ? 0 : 1 })
    for (const client of clients) await client.settled()
    const shares = clients.map(({ messages }) => messages.length - 1)
    assert.equal(shares[0]! + shares[1]!, 10)
    assert.ok(shares.every((share) => share > 0))
  })
})
