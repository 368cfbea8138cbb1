import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import mqtt from 'mqtt'
import type { IClientOptions, MqttClient } from 'mqtt'
import { eventually, readings } from '../test/support/api.ts'
import { Certificates } from '../test/support/certificates.ts'
import { shell, without } from '../test/support/programs.ts'
import { RunningServer } from '../test/support/server.ts'

const transports = ['tcp', 'tls', 'ws'] as const
type Transport = (typeof transports)[number]

const noOpenssl = without('openssl')
/** The first Python here that has paho-mqtt. */
const python = ['python3', '/usr/bin/python3'].find((program) => spawnSync(program, ['-c', 'import paho.mqtt']).status === 0)

/** A client's way into a server that has all of them. */
interface Ways {
  readonly server: RunningServer
  readonly ca: string
  port(transport: Transport): number
  url(transport: Transport): string
}

async function open(certificates: Certificates): Promise<Ways> {
  const { cert, key, ca } = certificates.pair('server')
  const args = ['--mqtt-tls-port', '0', '--mqtt-tls-cert-file', cert, '--mqtt-tls-key-file', key]
  const server = await RunningServer.start({ args })
  const lock: unknown = JSON.parse(fs.readFileSync(path.join(server.data, 'kymo.lock'), 'utf8'))
  const mqtts = /"mqtts":"mqtts:\/\/[^"]*:(\d+)"/.exec(JSON.stringify(lock))?.[1]
  const ports = { tcp: server.mqttPort, tls: Number(mqtts), ws: server.httpPort }
  return {
    server,
    ca,
    port: (transport) => ports[transport],
    url: (transport) =>
      ({ tcp: `mqtt://127.0.0.1:${ports.tcp}`, tls: `mqtts://localhost:${ports.tls}`, ws: `ws://127.0.0.1:${ports.ws}/mqtt` })[transport],
  }
}

/** Waits until so many clients are subscribed to a filter. */
async function subscribers(server: RunningServer, filter: string, count: number): Promise<void> {
  await eventually(async () => {
    const answer: unknown = await (await fetch(`${server.http}/api/v1/mqtt/subscriptions?filter=${encodeURIComponent(filter)}`)).json()
    const items = typeof answer === 'object' && answer !== null && 'items' in answer ? answer.items : undefined
    return Array.isArray(items) && items.length === count ? true : undefined
  })
}

describe('clients of the field [MQTT-7.0.0-2] over each transport [MQTT-7.1.1-1]', { skip: noOpenssl, concurrency: 4 }, () => {
  let certificates: Certificates
  let ways: Ways
  before(async () => {
    certificates = new Certificates()
    ways = await open(certificates)
  })
  after(async () => {
    await ways.server.dispose()
    certificates.remove()
  })

  for (const transport of transports) {
    for (const version of [4, 5] as const) {
      const name = version === 4 ? '3.1.1' : '5'
      it(`MQTT.js, MQTT ${name} over ${transport}: retained, offline queueing, QoS 2, shared subscriptions, wills [MQTT-7.0.0-2] [MQTT-7.1.1-1]`, async () => {
        await throughMqttJs(ways, transport, version)
      })

      const noPaho = python === undefined ? 'paho-mqtt not installed' : false
      it(`Paho for Python, MQTT ${name} over ${transport}: the same [MQTT-7.0.0-2] [MQTT-7.1.1-1]`, { skip: noPaho }, async () => {
        const script = path.join(import.meta.dirname, 'mqtt-clients.py')
        const said = await shell(`${python} ${script} ${transport} ${name} ${ways.port(transport)} ${ways.ca}`, { timeoutMs: 60_000 })
        const numbers = Array.from({ length: 20 }, (_, i) => `shared ${i} 1`)
        assert.deepEqual(JSON.parse(said), {
          retained: [0, 1, 2].map((qos) => `retained/${qos} r${qos} ${qos} retained`),
          offline: [1, 2].map((qos) => `offline/${qos} o${qos} ${qos}`),
          present: [false, true],
          exact: Array.from({ length: 50 }, (_, i) => `exact ${i} 2`),
          shared: [numbers.toSorted(), [10, 10]],
          will: ['will gone 1'],
        })
      })
    }
  }

  for (const transport of ['tcp', 'tls'] as const) {
    for (const version of ['311', '5'] as const) {
      const skip = without('mosquitto_pub', 'mosquitto_sub')
      it(`mosquitto_pub and mosquitto_sub, MQTT ${version} over ${transport}: the same [MQTT-7.0.0-2] [MQTT-7.1.1-1]`, { skip }, async () => {
        await throughMosquitto(ways, transport, version)
      })
    }
  }

  it('[MQTT-7.0.0-1] a Kymo that takes the messages of another is its client, and a server like any', async () => {
    const { server } = ways
    const pulling = await RunningServer.start({
      args: ['--mqtt-pull-url', `mqtt://127.0.0.1:${server.mqttPort}`, '--mqtt-pull-topics', 'telemetry/{device}'],
    })
    try {
      await subscribers(server, 'telemetry/+', 1)
      const from = await mqtt.connectAsync(ways.url('tcp'), { reconnectPeriod: 0 })
      const at = await mqtt.connectAsync(`mqtt://127.0.0.1:${pulling.mqttPort}`, { reconnectPeriod: 0 })
      const own = messages(at)
      await at.subscribeAsync('own', { qos: 1 })
      await at.publishAsync('own', 'x', { qos: 1 })
      await from.publishAsync('telemetry/afar', JSON.stringify({ temperature: 21.5 }), { qos: 1 })
      const found = await eventually(async () => (await readings(pulling.http, { device: 'afar' }))[0])
      assert.equal(found.value, 21.5)
      await eventually(async () => (own.length === 1 ? true : undefined))
      await Promise.all([from.endAsync(), at.endAsync()])
    } finally {
      await pulling.dispose()
    }
  })
})

/** What comes, as lines; topics without `prefix`. */
function messages(client: MqttClient, prefix = ''): string[] {
  const lines: string[] = []
  client.on('message', (topic, payload, { qos, retain }) => {
    lines.push(`${topic.slice(prefix.length)} ${String(payload)} ${qos}${retain ? ' retained' : ''}`)
  })
  return lines
}

async function throughMqttJs({ url, ca, server }: Ways, transport: Transport, version: 4 | 5): Promise<void> {
  const prefix = `js-${transport}-${version}/`
  const member = async (name: string, o: IClientOptions = {}): Promise<{ client: MqttClient; lines: string[]; present: boolean }> => {
    const tls = transport === 'tls' ? { ca: fs.readFileSync(ca) } : {}
    const clientId = `${prefix.slice(0, -1)}-${name}`
    const client = mqtt.connect(url(transport), { clientId, protocolVersion: version, reconnectPeriod: 0, ...tls, ...o })
    // Before anything can come.
    const lines = messages(client, prefix)
    const present = await new Promise<boolean>((resolve, reject) => {
      client.once('connect', ({ sessionPresent }) => resolve(sessionPresent))
      client.once('error', reject)
    })
    return { client, lines, present }
  }
  const wait = async (lines: readonly string[], count: number): Promise<string[]> => {
    await eventually(async () => (lines.length >= count ? true : undefined))
    return lines.toSorted()
  }
  const { client: sender } = await member('sender')

  for (const qos of [0, 1, 2] as const) await sender.publishAsync(`${prefix}retained/${qos}`, `r${qos}`, { qos, retain: true })
  await sender.publishAsync(`${prefix}retained/gone`, 'x', { qos: 1, retain: true })
  await sender.publishAsync(`${prefix}retained/gone`, '', { qos: 1, retain: true })
  const reader = await member('reader')
  await reader.client.subscribeAsync(`${prefix}retained/#`, { qos: 2 })
  assert.deepEqual(
    await wait(reader.lines, 3),
    [0, 1, 2].map((qos) => `retained/${qos} r${qos} ${qos} retained`),
  )

  const stays: IClientOptions = { clean: false, ...(version === 5 ? { properties: { sessionExpiryInterval: 1000 } } : {}) }
  const away = await member('away', stays)
  assert.equal(away.present, false)
  await away.client.subscribeAsync(`${prefix}offline/+`, { qos: 2 })
  await away.client.endAsync()
  for (const qos of [1, 2] as const) await sender.publishAsync(`${prefix}offline/${qos}`, `o${qos}`, { qos })
  const back = await member('away', stays)
  assert.equal(back.present, true)
  assert.deepEqual(
    await wait(back.lines, 2),
    [1, 2].map((qos) => `offline/${qos} o${qos} ${qos}`),
  )

  const exact = await member('exact')
  await exact.client.subscribeAsync(`${prefix}exact`, { qos: 2 })
  const numbers = Array.from({ length: 50 }, (_, i) => i)
  await Promise.all(numbers.map((i) => sender.publishAsync(`${prefix}exact`, `${i}`, { qos: 2 })))
  await wait(exact.lines, 50)
  assert.deepEqual(
    exact.lines,
    numbers.map((i) => `exact ${i} 2`),
  )

  const members = [await member('one'), await member('two')]
  for (const { client } of members) await client.subscribeAsync(`$share/group/${prefix}shared`, { qos: 1 })
  for (let i = 0; i < 20; i++) await sender.publishAsync(`${prefix}shared`, `${i}`, { qos: 1 })
  for (const { lines } of members) await wait(lines, 10)
  assert.deepEqual(
    members.flatMap(({ lines }) => lines).toSorted(),
    numbers
      .slice(0, 20)
      .map((i) => `shared ${i} 1`)
      .toSorted(),
  )

  const watcher = await member('watcher')
  await watcher.client.subscribeAsync(`${prefix}will`, { qos: 2 })
  const mortal = await member('mortal', { will: { topic: `${prefix}will`, payload: Buffer.from('gone'), qos: 1, retain: false } })
  mortal.client.stream.destroy()
  assert.deepEqual(await wait(watcher.lines, 1), ['will gone 1'])
  for (const { client } of [reader, back, exact, ...members, watcher]) await client.endAsync()
  await sender.endAsync()
  await subscribers(server, `$share/group/${prefix}shared`, 0)
}

async function throughMosquitto({ server, ca, port }: Ways, transport: 'tcp' | 'tls', version: '311' | '5'): Promise<void> {
  const prefix = `mosquitto-${transport}-${version}`
  const address = transport === 'tcp' ? `-h 127.0.0.1 -p ${port('tcp')}` : `-h localhost -p ${port('tls')} --cafile ${ca}`
  const pub = (args: string): Promise<string> => shell(`mosquitto_pub ${address} -V ${version} ${args}`)
  const sub = (args: string): Promise<string> => shell(`mosquitto_sub ${address} -V ${version} -W 15 -F '%t %p %q %r' ${args}`)
  const lines = (said: string): string[] => said.trim().replaceAll(`${prefix}/`, '').split('\n').toSorted()

  for (const qos of [0, 1, 2]) await pub(`-q ${qos} -r -t ${prefix}/retained/${qos} -m r${qos}`)
  await pub(`-q 1 -r -t ${prefix}/retained/gone -m x`)
  await pub(`-q 1 -r -t ${prefix}/retained/gone -n`)
  assert.deepEqual(
    lines(await sub(`-q 2 -t '${prefix}/retained/#' -C 3`)),
    [0, 1, 2].map((qos) => `retained/${qos} r${qos} ${qos} 1`),
  )

  const away = `-i ${prefix}-away -c ${version === '5' ? '-x 1000' : ''} -q 2 -t '${prefix}/offline/+'`
  await sub(`${away} -E`)
  for (const qos of [1, 2]) await pub(`-q ${qos} -t ${prefix}/offline/${qos} -m o${qos}`)
  assert.deepEqual(
    lines(await sub(`${away} -C 2`)),
    [1, 2].map((qos) => `offline/${qos} o${qos} ${qos} 0`),
  )

  const exact = sub(`-q 2 -t ${prefix}/exact -C 30`)
  await subscribers(server, `${prefix}/exact`, 1)
  const numbers = Array.from({ length: 30 }, (_, i) => i)
  await shell(`seq 0 29 | mosquitto_pub ${address} -V ${version} -q 2 -t ${prefix}/exact -l`)
  assert.deepEqual(lines(await exact), numbers.map((i) => `exact ${i} 2 0`).toSorted())

  const shared = [0, 1].map(() => sub(`-q 1 -t '$share/group/${prefix}/shared' -C 5`))
  await subscribers(server, `$share/group/${prefix}/shared`, 2)
  await shell(`seq 0 9 | mosquitto_pub ${address} -V ${version} -q 1 -t ${prefix}/shared -l`)
  assert.deepEqual(
    lines((await Promise.all(shared)).join('')),
    numbers.slice(0, 10).map((i) => `shared ${i} 1 0`),
  )

  const watcher = sub(`-q 1 -t ${prefix}/will -C 1`)
  await subscribers(server, `${prefix}/will`, 1)
  const will = `--will-topic ${prefix}/will --will-payload gone --will-qos 1`
  const mortal = spawn('mosquitto_sub', `${address} -V ${version} ${will} -t ${prefix}/alive`.split(' '), { stdio: 'ignore' })
  await subscribers(server, `${prefix}/alive`, 1)
  // By a signal that it cannot answer.
  mortal.kill('SIGKILL')
  assert.deepEqual(lines(await watcher), ['will gone 1 0'])
}
