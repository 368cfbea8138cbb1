import assert from 'node:assert/strict'
import fs from 'node:fs'
import { after, before, describe, it } from 'node:test'
import mqtt from 'mqtt'
import { WebSocket } from 'ws'
import { eventually } from '../test/support/api.ts'
import { Certificates } from '../test/support/certificates.ts'
import { without } from '../test/support/programs.ts'
import { RunningServer, runKymo } from '../test/support/server.ts'

describe('clients of the broker, over TCP and WebSocket', () => {
  let server: RunningServer
  before(async () => {
    server = await RunningServer.start()
  })
  after(() => server.dispose())
  const url = (): string => `http://127.0.0.1:${server.httpPort}`
  const kymo = async (...args: string[]): Promise<string> => {
    const ended = await runKymo([...args, '--url', url()])
    assert.equal(ended.code, 0, ended.output)
    return ended.output
  }

  it('telemetry over WebSocket is stored; clients, subscriptions and sessions are listed, and one is kicked', async () => {
    const ws = await mqtt.connectAsync(`ws://127.0.0.1:${server.httpPort}/mqtt`, { clientId: 'web', protocolVersion: 4, reconnectPeriod: 0 })
    const tcp = await mqtt.connectAsync(`mqtt://127.0.0.1:${server.mqttPort}`, { clientId: 'pump/7', protocolVersion: 4, reconnectPeriod: 0 })
    await ws.subscribeAsync('commands/#', { qos: 1 })
    await ws.publishAsync('telemetry/web-1', JSON.stringify({ temperature: 21.5 }), { qos: 1 })
    const stored = await eventually(async () => {
      const answer = (await (await fetch(`${url()}/api/v1/latest?device=web-1`)).json()) as { items: { value: number }[] }
      return answer.items[0]?.value
    })
    assert.equal(stored, 21.5)

    const clients = await kymo('mqtt', 'clients')
    assert.match(clients, /^pump\/7 +127\.0\.0\.1 +3\.1\.1 tcp +open +/m)
    assert.match(clients, /^web +127\.0\.0\.1 +3\.1\.1 ws .* 1 \(\d+ B\)/m)
    assert.match(await kymo('mqtt', 'subscriptions', '--client', 'web'), /^web +connected +1 +commands\/#$/m)
    assert.match(await kymo('mqtt', 'sessions'), /^pump\/7 +connected +with its connection +0 +0 +0$/m)
    const [first] = (await kymo('mqtt', 'clients', '--json')).trim().split('\n')
    assert.equal((JSON.parse(first!) as { client_id: string }).client_id, 'pump/7')

    const gone = new Promise<void>((resolve) => tcp.once('close', () => resolve()))
    assert.match(await kymo('mqtt', 'kick', 'pump/7', '--session'), /pump\/7: disconnected, session ended/)
    await gone
    const again = await runKymo(['mqtt', 'kick', 'pump/7', '--url', url()])
    assert.notEqual(again.code, 0)
    assert.match(again.output, /No MQTT client "pump\/7" is connected/)
    await ws.endAsync()
  })

  it('kymo tail with a filter shows what the broker delivers', async () => {
    const publisher = await mqtt.connectAsync(`mqtt://127.0.0.1:${server.mqttPort}`, { protocolVersion: 4, reconnectPeriod: 0 })
    const tailing = runKymo(['tail', 'commands/+', '-n', '2', '--json', '--url', url()])
    await eventually(async () => {
      const answer = (await (await fetch(`${url()}/api/v1/mqtt/subscriptions?filter=commands%2F%2B`)).json()) as { items: unknown[] }
      return answer.items.length === 1 ? true : undefined
    })
    await publisher.publishAsync('commands/a', 'on', { qos: 1 })
    await publisher.publishAsync('commands/a/b', 'not this', { qos: 1 })
    await publisher.publishAsync('commands/b', Buffer.from([0xff, 0xfe]), { qos: 0 })
    const { code, output } = await tailing
    assert.equal(code, 0, output)
    const said = output
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    assert.deepEqual(
      said.map(({ topic, qos, payload, payload_encoding }) => [topic, qos, payload, payload_encoding]),
      [
        ['commands/a', 1, 'on', 'utf8'],
        ['commands/b', 0, '//4=', 'base64'],
      ],
    )
    await publisher.endAsync()
  })

  it('a page of another site gets no WebSocket', async () => {
    const origin = 'https://evil.example'
    const refused = new WebSocket(`ws://127.0.0.1:${server.httpPort}/mqtt`, 'mqtt', { origin })
    const error = await new Promise<Error>((resolve) => refused.once('error', resolve))
    assert.match(error.message, /403/)
  })
})

it('a server that stops tells clients over WebSocket, and takes none with mqtt.ws off', async () => {
  const server = await RunningServer.start()
  const client = await mqtt.connectAsync(`ws://127.0.0.1:${server.httpPort}/mqtt`, { protocolVersion: 4, reconnectPeriod: 0 })
  const closed = new Promise<void>((resolve) => client.once('close', () => resolve()))
  await server.stop()
  await closed
  await server.dispose()
  const without = await RunningServer.start({ args: ['--mqtt-ws=false'] })
  const ended = await runKymo(['tail', '#', '-n', '1', '--url', `http://127.0.0.1:${without.httpPort}`])
  assert.notEqual(ended.code, 0)
  assert.match(ended.output, /the server offers none \(mqtt\.ws\)/)
  await without.dispose()
})

it('over HTTPS: telemetry, the list and kymo tail, also where MQTT is spoken over TLS only', { skip: without('openssl') }, async () => {
  const made = new Certificates()
  const pair = made.pair('server')
  const tls = ['http', 'mqtt'].flatMap((door) => [`--${door}-tls-cert-file=${pair.cert}`, `--${door}-tls-key-file=${pair.key}`])
  const server = await RunningServer.start({ args: ['--mqtt-tls-port', '0', '--mqtt-plain', 'false', ...tls] })
  try {
    const ca = fs.readFileSync(made.ca)
    const client = await mqtt.connectAsync(`wss://localhost:${server.httpPort}/mqtt`, {
      clientId: 'secure',
      protocolVersion: 4,
      reconnectPeriod: 0,
      ca,
    })
    const at = ['--url', `https://localhost:${server.httpPort}`, '--ca', made.ca]
    assert.match((await runKymo(['mqtt', 'clients', ...at])).output, /^secure +\S+ +3\.1\.1 wss /m)
    const tailing = runKymo(['tail', 'commands/#', '-n', '1', '--json', ...at])
    await eventually(async () => ((await runKymo(['mqtt', 'subscriptions', ...at])).output.includes('commands/#') ? true : undefined))
    await client.publishAsync('commands/a', 'on', { qos: 1 })
    const { code, output } = await tailing
    assert.equal(code, 0, output)
    assert.match(output, /"topic":"commands\/a","qos":1,"retain":false,"payload":"on"/)
    await client.endAsync()
  } finally {
    await server.dispose()
    made.remove()
  }
})
