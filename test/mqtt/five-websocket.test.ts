import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import net from 'node:net'
import { after, before, describe, test } from 'node:test'
import { WebSocket } from 'ws'
import { hex, pingreq } from './client-packets.ts'
import { connect5, publish5, subscribe5 } from './packets5.ts'
import { Door5 } from './socket5.ts'

// Chapter 6 of MQTT 5, and requests with their responses (section 4.10).

describe('MQTT 5 over WebSocket', () => {
  let door: Door5
  const server = http.createServer()
  let url = ''
  before(async () => {
    door = await Door5.open()
    server.on('upgrade', (request, socket, head) => {
      socket.on('error', () => undefined)
      assert.ok(socket instanceof net.Socket)
      door.door.upgrade(request, socket, head)
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const address = server.address()
    assert.ok(typeof address === 'object' && address !== null)
    url = `ws://127.0.0.1:${address.port}/mqtt`
  })
  after(async () => {
    await door.close()
    server.closeAllConnections()
    server.close()
  })

  interface Client {
    readonly ws: WebSocket
    /** So many bytes that came, whatever frames they came in. */
    read(bytes: number): Promise<string>
  }

  async function open(): Promise<Client> {
    const ws = new WebSocket(url, ['other', 'mqtt'])
    let bytes = Buffer.alloc(0)
    let wake: (() => void) | undefined
    ws.on('message', (data, binary) => {
      assert.ok(binary && Buffer.isBuffer(data))
      bytes = Buffer.concat([bytes, data])
      wake?.()
    })
    ws.on('error', () => undefined)
    await once(ws, 'open')
    return {
      ws,
      async read(length) {
        while (bytes.length < length) await new Promise<void>((resolve) => (wake = resolve))
        const head = bytes.subarray(0, length)
        bytes = bytes.subarray(length)
        return hex(head)
      },
    }
  }

  test('[MQTT-6.0.0-1] [MQTT-6.0.0-2] [MQTT-6.0.0-4] binary frames, whatever packets they hold; the subprotocol is mqtt; a text frame ends it', async () => {
    const watcher = await door.client('watcher')
    await watcher.subscribe({ 'ws/#': 1 })
    const { ws, read } = await open()
    assert.equal(ws.protocol, 'mqtt')
    const will = { topic: 'ws/will', payload: 'gone' }
    const packets = Buffer.concat([connect5('ws', { will }), subscribe5(1, { 'ws/a': 1 }), publish5('ws/a', 'x', { qos: 1, id: 2 }), pingreq])
    // Cut where no packet ends, several in one frame.
    for (const [from, to] of [
      [0, 1],
      [1, 12],
      [12, packets.length - 1],
      [packets.length - 1, packets.length],
    ] as const) {
      ws.send(packets.subarray(from, to))
    }
    assert.match(await read(2), /^20 /)
    await watcher.expect('publish ws/a x 1/1')
    ws.send('text')
    await once(ws, 'close')
    await watcher.expect('publish ws/will gone 0')
  })
})

test('a request is answered on its Response Topic, with its Correlation Data, over QoS 2 and a shared subscription (section 4.10)', async () => {
  const door = await Door5.open()
  try {
    const [asks, answers] = [await door.client('asks'), await door.client('answers')]
    await asks.subscribe({ 'answers/asks': 1 })
    await answers.subscribe({ '$share/g/requests': 2 })
    const properties = [
      ['responseTopic', 'answers/asks'],
      ['correlation', '\u0001\u0000\u00FF'],
    ] as const
    asks.send(publish5('requests', 'what', { qos: 2, id: 3, properties }))
    await asks.expect('pubrec 3')
    const request = await answers.expect('publish requests what 2/1')
    const [topic, correlation] = [request.properties.get('responseTopic')?.[0], request.properties.get('correlation')?.[0]]
    await answers.say(String(topic), 'that', { properties: [['correlation', String(correlation)]] })
    const response = await asks.expect('publish answers/asks that 1/1')
    assert.deepEqual(Object.fromEntries(response.properties), { correlation: ['\u0001\u0000\u00FF'] })
  } finally {
    await door.close()
  }
})
