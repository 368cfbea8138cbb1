import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { MqttPublisher } from '../../src/cli/mqtt-client/publisher.ts'
import { deadLetters, eventually, readings, settled, status } from '../support/api.ts'
import { freePort, Mosquitto, type MosquittoOptions, mosquittoFile } from '../support/mosquitto.ts'
import { without } from '../support/programs.ts'
import { RunningServer, runKymo, type StartOptions } from '../support/server.ts'

const skip = mosquittoFile === undefined ? 'mosquitto not installed' : false
const toDispose: (() => Promise<unknown>)[] = []
after(async () => {
  for (const dispose of toDispose.reverse()) await dispose()
})

async function mosquitto(o: MosquittoOptions = {}): Promise<Mosquitto> {
  const broker = await Mosquitto.start(o)
  toDispose.push(() => broker.dispose())
  return broker
}

async function kymo(env: Readonly<Record<string, string>>, o: StartOptions = {}): Promise<RunningServer> {
  const server = await RunningServer.start({ ...o, env })
  toDispose.push(() => server.dispose())
  return server
}

async function publisher(broker: Mosquitto): Promise<MqttPublisher> {
  const made = new MqttPublisher({ url: broker.url, clientId: `publisher-${Math.random()}`, backoffMs: { first: 20, max: 200 } })
  toDispose.push(() => made.end(0))
  await made.connect()
  return made
}

async function verbose(server: RunningServer): Promise<string> {
  return (await fetch(`${server.http}/readyz?verbose`)).text()
}

async function pullSays(server: RunningServer, what: RegExp, withinMs?: number): Promise<void> {
  let last = ''
  await eventually(async () => {
    last = await verbose(server)
    return what.test(last) ? true : undefined
  }, withinMs).catch(() => assert.fail(`${last}\n${server.output}`))
}

async function metric(server: RunningServer, line: RegExp): Promise<number> {
  const text = await (await fetch(`${server.http}/metrics`)).text()
  return Number(
    text
      .split('\n')
      .find((one) => line.test(one))
      ?.split(' ')[1],
  )
}

/** Offers until it is taken. */
async function send(to: MqttPublisher, topic: string, payload: string): Promise<void> {
  while (!to.publish(topic, Buffer.from(payload), 1)) await delay(2)
}

const fromMs = 1_790_000_000_000

/** Publishes 0 to `all` - 1, of 50 devices, each at a time of its own, and does `at` what it says before some of them. */
async function publishAll(broker: Mosquitto, all: number, at: Readonly<Record<number, () => Promise<unknown>>>): Promise<void> {
  const from = await publisher(broker)
  for (let i = 0; i < all; i++) {
    if (at[i] !== undefined) {
      await eventually(() => Promise.resolve(from.inflight === 0 ? true : undefined))
      await at[i]!()
    }
    await send(from, `t/d${i % 50}`, JSON.stringify({ value: i, time: fromMs + i }))
    if (i % 20 === 19) await delay(8)
  }
  assert.equal(await from.end(20_000), 0, 'every message was acknowledged by the broker')
}

const reconnects = (server: RunningServer): Promise<number> => metric(server, /^kymo_mqtt_pull_reconnects_total/)

async function restart(broker: Mosquitto): Promise<void> {
  await broker.stop()
  await broker.start()
}

/** What these have of `publishAll`, once they have as many, is each message once. Returns how many each has. */
async function eachOnce(all: number, servers: readonly RunningServer[]): Promise<number[]> {
  const found = await eventually(async () => {
    const lists = await Promise.all(servers.map((server) => settled(server.http).then(() => readings(server.http, { metric: 'value' }))))
    return lists.flat().length >= all ? lists : undefined
  }, 20_000)
  const rows = found.flat()
  assert.deepEqual(
    rows.map(({ value }) => Number(value)).toSorted((a, b) => a - b),
    Array.from({ length: all }, (_, i) => i),
  )
  assert.ok(rows.every(({ device, timeMs, value }) => timeMs === fromMs + Number(value) && device === `d${Number(value) % 50}`))
  return found.map(({ length }) => length)
}

for (const version of ['5', '3.1.1'])
  test(
    `MQTT ${version}: 6,000 messages through restarts of the broker and kills of Kymo: each is stored, and once`,
    { skip, timeout: 110_000 },
    async () => {
      const broker = await mosquitto()
      let server = await kymo({ KYMO_MQTT_PULL_URL: broker.url, KYMO_MQTT_PULL_TOPICS: 't/{device}', KYMO_MQTT_PULL_VERSION: version })
      await pullSays(server, new RegExp(`\\[\\+\\] mqtt pull: .* by MQTT ${version}`))
      const kill = async (): Promise<void> => {
        await server.kill()
        server = await server.restart()
      }
      await publishAll(broker, 6_000, { 1_000: () => restart(broker), 2_500: kill, 4_000: () => restart(broker), 5_000: kill })
      assert.deepEqual(await eachOnce(6_000, [server]), [6_000])
      assert.match(await verbose(server), /\[\+\] mqtt pull/)
    },
  )

test(
  'two of a group divide what comes, through a restart of the broker and kills of both: nothing is lost, nothing doubled',
  { skip, timeout: 110_000 },
  async () => {
    const broker = await mosquitto()
    const env = { KYMO_MQTT_PULL_URL: broker.url, KYMO_MQTT_PULL_TOPICS: 't/{device}', KYMO_MQTT_PULL_GROUP: 'kymo' }
    // Of one group, whatever they speak.
    let one = await kymo({ ...env, KYMO_MQTT_PULL_VERSION: '5' })
    let other = await kymo({ ...env, KYMO_MQTT_PULL_VERSION: '3.1.1' })
    for (const server of [one, other]) await pullSays(server, /\[\+\] mqtt pull/)
    const all = 4_000
    await publishAll(broker, all, {
      800: async () => {
        await one.kill()
        one = await one.restart()
      },
      1_600: async () => {
        const before = await Promise.all([one, other].map(reconnects))
        await restart(broker)
        // Mosquitto 2.0.11 forgets shared subscriptions: what comes before one of the group has asked again goes nowhere.
        for (const [i, server] of [one, other].entries()) {
          await eventually(async () => ((await reconnects(server)) > before[i]! ? true : undefined))
          await pullSays(server, /\[\+\] mqtt pull/)
        }
      },
      2_400: () => other.kill(),
      3_200: async () => {
        other = await other.restart()
      },
    })
    const shares = await eachOnce(all, [one, other])
    assert.ok(
      shares.every((share) => share > all / 10),
      shares.join(),
    )
  },
)

/** Between Kymo and the broker: what Kymo sends can be lost on the way. */
async function lossy(broker: Mosquitto): Promise<{ readonly url: string; lose: boolean }> {
  const state = { url: '', lose: false }
  const sockets = new Set<net.Socket>()
  const server = net.createServer((near) => {
    const far = net.connect(broker.port, '127.0.0.1')
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(one)
      one.on('error', () => undefined)
      one.on('close', () => {
        sockets.delete(one)
        other.destroy()
      })
      one.on('data', (chunk) => {
        if (one === far || !state.lose) other.write(chunk)
      })
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  assert.ok(address !== null && typeof address === 'object')
  state.url = `mqtt://127.0.0.1:${address.port}`
  toDispose.push(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
    return Promise.resolve()
  })
  return state
}

test(
  'messages without a time, through kills and restarts, and from one version to the other: what comes again is recognised, each counts once',
  { skip, timeout: 110_000 },
  async () => {
    const broker = await mosquitto()
    const line = await lossy(broker)
    const speaking = (version: string) => ({ KYMO_MQTT_PULL_URL: line.url, KYMO_MQTT_PULL_TOPICS: 't/{device}', KYMO_MQTT_PULL_VERSION: version })
    let server = await kymo(speaking('5'))
    await pullSays(server, /\[\+\] mqtt pull/)
    const from = await publisher(broker)
    let n = 0
    const some = async (count: number): Promise<void> => {
      for (const until = n + count; n < until; n++) {
        await send(from, `t/d${n % 7}`, JSON.stringify({ n, same: 1 }))
        if (n % 20 === 19) await delay(5)
      }
    }
    const stored = (metric: string): Promise<number> => readings(server.http, { metric }).then((rows) => rows.length)
    const nothingTwice = async (): Promise<void> => {
      await eventually(async () => {
        await settled(server.http)
        return (await stored('n')) >= n ? true : undefined
      }, 20_000)
      await settled(server.http)
      const rows = await readings(server.http, { metric: 'n' })
      assert.deepEqual(
        rows.map(({ value }) => Number(value)).toSorted((a, b) => a - b),
        Array.from({ length: n }, (_, i) => i),
      )
      assert.equal(await stored('same'), n)
    }
    for (let kills = 0; kills < 2; kills++) {
      await some(1_400)
      await server.kill()
      server = await server.restart({ env: speaking(kills === 0 ? '3.1.1' : 'auto') })
      await pullSays(server, kills === 0 ? /\[\+\] mqtt pull: .* by MQTT 3\.1\.1/ : /\[\+\] mqtt pull: .* by MQTT 5/)
    }
    await nothingTwice()

    // Acknowledgements that the broker never sees, of messages that are stored; then either side is started anew.
    for (const anew of ['kymo', 'broker', 'both']) {
      line.lose = true
      await some(15)
      await nothingTwice()
      if (anew !== 'broker') await server.kill()
      if (anew !== 'kymo') {
        assert.equal(from.inflight, 0, 'what a publisher sends anew would be a new message')
        await broker.stop()
        await broker.start()
      }
      line.lose = false
      if (anew !== 'broker') server = await server.restart()
      await eventually(async () => ((await metric(server, /^kymo_mqtt_pull_redelivered_total/)) >= 15 ? true : undefined))
      await some(20)
      await nothingTwice()
    }
  },
)

test('the broker starts later; readiness does not wait for it, and its state is told', { skip, timeout: 60_000 }, async () => {
  const broker = await Mosquitto.create()
  toDispose.push(() => broker.dispose())
  const server = await kymo({ MQTT_BROKER: '127.0.0.1', MQTT_PORT: String(broker.port), MQTT_TOPIC: 'portfolio/telemetry', KYMO_LOG_LEVEL: 'info' })
  for (const variable of ['MQTT_BROKER', 'MQTT_PORT', 'MQTT_TOPIC'])
    assert.equal(server.output.split(`using ${variable} from the environment`).length, 2, server.output)
  await pullSays(server, /\[!\] mqtt pull: mqtt:\/\/127\.0\.0\.1:\d+ is not connected: nobody listens there \(ECONNREFUSED\)/)
  assert.equal((await fetch(`${server.http}/readyz`)).status, 200)
  assert.equal((await fetch(`${server.http}/readyz?verbose`)).status, 200)
  const shown = await runKymo(['status', '--url', server.http])
  assert.equal(shown.code, 0)
  assert.match(shown.output, /! mqtt pull {3}mqtt:\/\/127\.0\.0\.1:\d+ is not connected/)
  await broker.start()
  await pullSays(server, /\[\+\] mqtt pull: mqtt:\/\/127\.0\.0\.1:\d+, 1 of 1 subscriptions/)
  const from = await publisher(broker)
  await send(from, 'portfolio/telemetry', JSON.stringify({ device_id: 'test-device-001', temperature: 25.5, timestamp: 1_234_567_890 }))
  const [row] = await eventually(async () => {
    const found = await readings(server.http, { metric: 'temperature' })
    return found.length > 0 ? found : undefined
  })
  assert.deepEqual([row?.device, row?.timeMs, row?.value], ['test-device-001', 1_234_567_890_000, 25.5])
  assert.equal(await metric(server, /^kymo_mqtt_pull_connected/), 1)
  assert.equal(await metric(server, /^kymo_ingest_messages_total\{transport="mqtt-pull",result="accepted"\}/), 1)
})

test('our own door is refused: exit 3, by any of its names', { skip: false, timeout: 60_000 }, async () => {
  const port = await freePort()
  const args = ['start', '--data', '/nonexistent/never-made', '--http-port', '0', '--mqtt-port', String(port)]
  const seed = await runKymo(args, { env: { MQTT_BROKER: 'localhost', MQTT_PORT: String(port) } })
  assert.equal(seed.code, 3, seed.output)
  assert.match(seed.output, /mqtt\.pull\.url \(MQTT_BROKER\) is mqtt:\/\/localhost:\d+, which is Kymo's own MQTT door.*--mqtt-port/s)
  const doctor = await runKymo(['doctor', '--data', '/nonexistent/never-made', '--mqtt-port', String(port)], {
    env: { KYMO_MQTT_PULL_URL: `mqtt://u:geheim@127.0.0.1:${port}` },
  })
  assert.match(doctor.output, /✗ mqtt pull .*Kymo's own MQTT door/)
  assert.doesNotMatch(doctor.output, /geheim/)
})

test('wrong credentials are told clearly, without them; the right ones work', { skip, timeout: 60_000 }, async () => {
  const broker = await mosquitto({ users: { reader: 'right-password' } })
  const pull = { KYMO_MQTT_PULL_URL: `mqtt://reader:wrong-password@127.0.0.1:${broker.port}`, KYMO_MQTT_PULL_TOPICS: 'telemetry' }
  let server = await kymo(pull)
  await pullSays(
    server,
    /\[!\] mqtt pull: mqtt:\/\/127\.0\.0\.1:\d+ is not connected: it refuses the connection: (not authorized|bad user name or password)/,
  )
  assert.match(server.output, /not authorized|bad user name or password/)
  const wrong = await runKymo(['doctor', '--data', '/nonexistent/never-made', '--http-port', '0', '--mqtt-port', '0'], { env: pull })
  assert.match(wrong.output, /✗ mqtt pull .*(not authorized|bad user name or password)/)
  assert.doesNotMatch(server.output + wrong.output, /wrong-password|right-password/)
  await server.stop()
  const good = { ...pull, KYMO_MQTT_PULL_PASSWORD: 'right-password' }
  const right = await runKymo(['doctor', '--data', '/nonexistent/never-made', '--http-port', '0', '--mqtt-port', '0'], { env: good })
  assert.match(right.output, /✓ mqtt pull +mqtt:\/\/127\.0\.0\.1:\d+ grants 1 subscription by MQTT 5/)
  server = await server.restart({ env: { ...good, KYMO_MQTT_PULL_TOPICS: '$share/kymo/t/{device}' } })
  await pullSays(server, /\[\+\] mqtt pull/)
  const to = ['-h', '127.0.0.1', '-p', String(broker.port), '-u', 'reader', '-P', 'right-password']
  assert.equal(spawnSync('mosquitto_pub', [...to, '-q', '1', '-t', 't/shared', '-m', '{"temperature":1}']).status, 0)
  await eventually(async () => ((await readings(server.http, { device: 'shared' })).length === 1 ? true : undefined))
})

test(
  'TLS: a certificate that nobody vouches for is refused; with ca_file, and a certificate of our own, it works',
  { skip: skip || without('openssl'), timeout: 60_000 },
  async () => {
    const broker = await Mosquitto.create({
      lines: ['cafile DIR/ca.pem', 'certfile DIR/server.pem', 'keyfile DIR/server.key', 'require_certificate true'],
    })
    toDispose.push(() => broker.dispose())
    const ssl = (...args: string[]): void => {
      const done = spawnSync('openssl', args, { cwd: broker.dir, encoding: 'utf8' })
      assert.equal(done.status, 0, done.stderr)
    }
    const subject = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2']
    ssl('req', '-x509', ...subject, '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=test authority')
    for (const name of ['server', 'client']) {
      ssl(
        'req',
        ...subject.slice(0, 5),
        '-keyout',
        `${name}.key`,
        '-out',
        `${name}.csr`,
        '-subj',
        `/CN=${name}`,
        '-addext',
        'subjectAltName=IP:127.0.0.1',
      )
      ssl(
        'x509',
        '-req',
        '-in',
        `${name}.csr`,
        '-CA',
        'ca.pem',
        '-CAkey',
        'ca.key',
        '-CAcreateserial',
        '-days',
        '2',
        '-copy_extensions',
        'copy',
        '-out',
        `${name}.pem`,
      )
    }
    await broker.start()
    const url = `mqtts://127.0.0.1:${broker.port}`
    let server = await kymo({ KYMO_MQTT_PULL_URL: url, KYMO_MQTT_PULL_TOPICS: 'telemetry' })
    await pullSays(server, /is not connected: its certificate is not trusted \(\w+\): name what vouches for it in mqtt\.pull\.ca_file/)
    await server.stop()
    const file = (name: string): string => path.join(broker.dir, name)
    server = await server.restart({
      env: {
        KYMO_MQTT_PULL_URL: url,
        KYMO_MQTT_PULL_TOPICS: 'telemetry',
        KYMO_MQTT_PULL_CA_FILE: file('ca.pem'),
        KYMO_MQTT_PULL_CERT_FILE: file('client.pem'),
        KYMO_MQTT_PULL_KEY_FILE: file('client.key'),
      },
    })
    await pullSays(server, /\[\+\] mqtt pull: mqtts:/)
    assert.match(readFileSync(file('log'), 'utf8'), /kymo-[0-9a-f]{16}/)
  },
)

test('retained messages are state: marked, and nobody was heard; dead letters name broker and topic', { skip, timeout: 60_000 }, async () => {
  const broker = await mosquitto()
  const retain = (topic: string, payload: string): void => {
    const done = spawnSync('mosquitto_pub', ['-h', '127.0.0.1', '-p', String(broker.port), '-q', '1', '-r', '-t', topic, '-m', payload])
    assert.equal(done.status, 0, String(done.stderr))
  }
  retain('t/old', '{"temperature":20,"firmware":"1.2.3"}')
  let server = await kymo({ KYMO_MQTT_PULL_URL: `mqtt://127.0.0.1:${broker.port}`, KYMO_MQTT_PULL_TOPICS: 't/{device}' })
  const answer = async (): Promise<string> => (await fetch(`${server.http}/api/v1/query?limit=10`)).text()
  await eventually(async () => ((await readings(server.http, {})).length === 1 ? true : undefined))
  assert.match(await answer(), /retained/)
  await settled(server.http)
  const device = async (): Promise<Record<string, unknown>> =>
    (await (await fetch(`${server.http}/api/v1/devices/old`)).json()) as Record<string, unknown>
  await eventually(async () => ((await device())['attributes'] === undefined ? undefined : true))
  assert.match(JSON.stringify(await device()), /1\.2\.3/)
  assert.equal((await device())['last_seen'] ?? null, null, JSON.stringify(await device()))

  await server.stop()
  server = await server.restart()
  await pullSays(server, /\[\+\] mqtt pull/)
  const from = await publisher(broker)
  await send(from, 't/old', '{"temperature":21}')
  await send(from, 't/old', '{"temperature":')
  await send(from, 't/old', `{"big":"${'x'.repeat(1 << 20)}"}`)
  await send(from, 't/new', '{"temperature":22}')
  await eventually(async () => ((await readings(server.http, { device: 'new' })).length === 1 ? true : undefined))
  await settled(server.http)
  assert.equal((await readings(server.http, { device: 'old' })).length, 2, 'the session went on: the retained message did not come again')
  await eventually(async () => ((await device())['last_seen'] === null ? undefined : true))
  assert.deepEqual(
    (await deadLetters(server.http)).map(({ code, client, topic }) => [code, client, topic]),
    [
      ['body_too_large', broker.url, 't/old'],
      ['body_not_json', broker.url, 't/old'],
    ],
  )
  assert.ok((await status(server.http)).rejected_total >= 2)
})
