import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { InteropClient } from './mqtt-interop-client.ts'
import type { ClientOptions } from './mqtt-interop-client.ts'
import { RunningServer } from '../test/support/server.ts'

/*
 * What an interoperability suite of the field asks of a broker of 3.1.1, by the names that it has there, of a Kymo as it is started without settings.
 * One test after the other with the same two clients, whose sessions and retained messages stay unless a test ends them.
 */
describe('interoperability, MQTT 3.1.1', () => {
  let server: RunningServer
  before(async () => {
    server = await RunningServer.start()
  })
  after(() => server.dispose())

  const a = (o: Partial<ClientOptions> = {}): ClientOptions => ({ version: 4, clientId: 'client-a', ...o })
  const b = (o: Partial<ClientOptions> = {}): ClientOptions => a({ clientId: 'client-b', ...o })
  const connect = (o: ClientOptions, present = false): Promise<InteropClient> => InteropClient.in(server.mqttPort, o, present)

  it('basic: three QoS to oneself; a second CONNECT and another protocol end the connection', async () => {
    await (await connect(a())).disconnect()
    const client = await connect(a())
    assert.deepEqual(await client.subscribe('T'), [2])
    for (const qos of [0, 1, 2] as const) await client.publish('T', `${qos}`, { qos })
    await client.count(3)
    assert.deepEqual(
      client.messages.map(({ qos, text }) => [qos, text]),
      [0, 1, 2].map((qos) => [qos, `${qos}`]),
    )
    client.connect(a())
    await client.until(() => client.ended)
    const other = await InteropClient.open(server.mqttPort, a({ protocolId: 'MQIsdp' }))
    assert.ok(other.code !== 0)
    await other.until(() => other.ended)
  })

  it('retained messages: of each QoS, to a wildcard that is subscribed to later; gone when they are cleared', async () => {
    const client = await connect(a())
    const topics = ['T/B', 'U/C', 'T/C'] as const
    for (const [i, topic] of topics.entries()) await client.publish(topic, `${i}`, { qos: i as 0 | 1 | 2, retain: true })
    await client.subscribe('+/+')
    await client.count(3)
    assert.deepEqual(client.messages.map(({ qos, retain }) => `${qos} ${retain}`).toSorted(), ['0 true', '1 true', '2 true'])
    await client.disconnect()
    const again = await connect(a())
    for (const [i, topic] of topics.entries()) await again.publish(topic, '', { qos: i as 0 | 1 | 2, retain: true })
    await again.subscribe('+/+')
    await again.count(0)
    await again.disconnect()
  })

  it('zero-length client id: refused with Clean Session 0, taken with 1', async () => {
    const refused = await InteropClient.withBytes(server.mqttPort, 4, Buffer.from('100c00044d515454040000000000', 'hex'))
    assert.equal(refused.code, 2)
    await refused.until(() => refused.ended)
    await (await connect(a({ clientId: '' }))).disconnect()
  })

  it('offline message queueing: QoS 1 and 2 wait for a client that is away', async () => {
    const client = await connect(a({ clean: false }))
    await client.subscribe('+/+')
    await client.disconnect()
    const from = await connect(b())
    for (const [i, topic] of ['T/B', 'U/C', 'T/C'].entries()) await from.publish(topic, `${i}`, { qos: i as 0 | 1 | 2 })
    await from.disconnect()
    const back = await connect(a({ clean: false }), true)
    await back.count(2)
    await back.disconnect()
    await (await connect(a())).disconnect()
  })

  it('overlapping subscriptions: one message at the highest QoS', async () => {
    const client = await connect(a())
    await client.subscribe(['T/#', 'T/+'], [{ qos: 2 }, { qos: 1 }])
    await client.publish('T/C', 'x', { qos: 2 })
    await client.count(1)
    assert.equal(client.messages[0]?.qos, 2)
    await client.disconnect()
  })

  it('keep-alive: who is silent for one and a half is sent away, and its will is published', async () => {
    const silent = await connect(a({ keepalive: 1, will: { topic: '/T', payload: 'gone', qos: 2 } }))
    const watcher = await connect(b())
    await watcher.subscribe('/T')
    await silent.until(() => silent.ended)
    await watcher.count(1)
    await watcher.disconnect()
  })

  it('will: published when the client is gone without a word', async () => {
    const mortal = await connect(a({ keepalive: 2, will: { topic: 'U/C', payload: 'gone', qos: 2 } }))
    const watcher = await connect(b({ clean: false }))
    await watcher.subscribe('U/C')
    await mortal.terminate()
    await watcher.count(1)
    await watcher.disconnect()
    await (await connect(b())).disconnect()
  })

  it('redelivery on reconnect: what was not answered comes again', async () => {
    const client = await connect(b({ clean: false }))
    await client.subscribe('T/#')
    client.paused = true
    await client.publish('T/B', '', { qos: 1 })
    await client.publish('T/C', '', { qos: 2 })
    assert.equal(client.packets.filter(({ cmd }) => cmd === 'publish').length, 2)
    await client.disconnect()
    assert.equal(client.messages.length, 0)
    const back = await connect(b({ clean: false }), true)
    await back.count(2)
    assert.ok(back.messages.every(({ dup }) => dup))
    await back.disconnect()
    await (await connect(b())).disconnect()
  })

  it('$ topics: a wildcard at the beginning does not match them, of clients or of the server', async () => {
    const client = await connect(b())
    await client.subscribe(['+/+', '#'])
    await client.publish('$T/B', '', { qos: 1 })
    await delay(200)
    await client.count(0)
    await client.disconnect()
  })

  it('unsubscribe: nothing of one of three topics any more', async () => {
    const to = await connect(b())
    for (const topic of ['T', 'T/B', 'U/C']) await to.subscribe(topic)
    await to.unsubscribe('T')
    const from = await connect(a())
    for (const topic of ['T', 'T/B', 'U/C']) await from.publish(topic, topic, { qos: 1 })
    await to.count(2)
    assert.deepEqual(
      to.messages.map(({ topic }) => topic),
      ['T/B', 'U/C'],
    )
    await Promise.all([to.disconnect(), from.disconnect()])
  })

  it('subscribe failure: a filter that is not allowed is refused with 0x80, its neighbours are granted', async () => {
    const client = await connect(a())
    assert.deepEqual(await client.subscribe(['$share/no-filter', 'T']), [0x80, 2])
    await client.disconnect()
  })
})
