import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { after, before, describe, it } from 'node:test'
import { deadLetters, eventually, readings, status, type Reading } from '../test/support/api.ts'
import { shell, without } from '../test/support/programs.ts'
import { cleanEnv, RunningServer } from '../test/support/server.ts'

const root = path.resolve(import.meta.dirname, '..')
const base = 'http://127.0.0.1:8080'
const noTools = without('mosquitto_pub', 'mosquitto_sub', 'curl')

const values = (list: readonly Reading[], metric: string): unknown[] =>
  list.filter((reading) => reading.metric === metric).map((reading) => reading.value)

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = net.createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}

async function takenPorts(ports: readonly number[]): Promise<string | false> {
  const taken: number[] = []
  for (const port of ports) if (!(await isFree(port))) taken.push(port)
  return taken.length === 0 ? false : `port ${taken.join(', ')} in use`
}

const reason = noTools === false ? await takenPorts([1883, 8080, 8000, 8001, 8002, 8003, 8004]) : noTools

describe('the README’s npm start, on its own ports', { skip: reason }, () => {
  const data = mkdtempSync(path.join(os.tmpdir(), 'kymo-e2e-start-'))
  let npm: ChildProcess
  let output = ''

  before(async () => {
    // A process group of its own: Ctrl-C in a terminal goes to all of it.
    npm = spawn('npm', ['start'], { cwd: root, env: cleanEnv({ KYMO_DATA_DIR: data }), stdio: ['ignore', 'pipe', 'pipe'], detached: true })
    npm.stdout?.setEncoding('utf8').on('data', (text: string) => (output += text))
    npm.stderr?.setEncoding('utf8').on('data', (text: string) => (output += text))
    await eventually(async () => ((await fetch(`${base}/readyz`)).status === 200 ? true : undefined), 30_000)
    await eventually(async () => (output.includes('Send your own reading') ? true : undefined))
  })
  after(() => {
    if (npm.exitCode === null && npm.signalCode === null) process.kill(-npm.pid!, 'SIGKILL')
    rmSync(data, { recursive: true, force: true })
  })

  it('prints where it is', () => {
    for (const text of ['mqtt://127.0.0.1:1883', 'http://127.0.0.1:8080', '/docs', '/metrics', 'mosquitto_pub', 'curl']) {
      assert.ok(output.includes(text), `the banner names ${text}:\n${output}`)
    }
  })
  it('takes the lines that it prints, word for word', async () => {
    const lines = output.split('\n')
    const first = lines.findIndex((line) => line.includes('Send your own reading')) + 1
    const block = lines.slice(first, lines.indexOf('', first)).map((line) => line.trim())
    const commands = block.join('\n').replaceAll('\\\n', ' ').split('\n')
    assert.equal(commands.length, 2, block.join('\n'))
    for (const command of commands) await shell(command)
    await eventually(async () => {
      const own = await readings(base, { device: 'dev-1' })
      return values(own, 'temperature').length === 2 && values(own, 'humidity').length === 1 ? true : undefined
    })
    const own = await readings(base, { device: 'dev-1' })
    assert.deepEqual(values(own, 'temperature'), [25.5, 25.5])
    assert.deepEqual(values(own, 'humidity'), [60])
    await eventually(async () => (output.includes('first message from dev-1') ? true : undefined))
  })
  it('has ten demo devices that send every second', async () => {
    const started = await eventually(async () => {
      const now = await status(base)
      return now.devices >= 10 ? now : undefined
    })
    const grown = await eventually(async () => {
      const now = await status(base)
      return now.messages_total >= started.messages_total + 20 ? now : undefined
    })
    assert.equal(grown.rejected_total, 0)
  })
  it('takes the MQTT lines of the portfolio document, and shows them to its subscriber', async () => {
    const heard = shell(`mosquitto_sub -h localhost -t portfolio/telemetry -C 1 -W 15 -F '%p' | head -c 1000`)
    // The subscription has to stand before the message comes; the demo devices may come first, so the subscriber is asked again below.
    await shell(`mosquitto_pub -h localhost -t portfolio/telemetry -m '{
  "device_id": "test-device-001",
  "firmware": "1.0.0",
  "temperature": 25.5,
  "humidity": 60.0,
  "battery": 85.0,
  "timestamp": 1234567890
}'`)
    assert.match(await heard, /"device_id"/)
    const own = await eventually(async () => {
      const found = await readings(base, { device: 'test-device-001' })
      return found.length >= 3 ? found : undefined
    })
    const rows = own.map(({ metric, value, timeMs }) => `${metric} ${String(value)} ${timeMs}`)
    assert.deepEqual(rows, ['battery 85 1234567890000', 'humidity 60 1234567890000', 'temperature 25.5 1234567890000'])
  })
  it('takes text on a topic that is not telemetry, without an error or a dead letter', async () => {
    const heard = shell('mosquitto_sub -h localhost -t test -C 1 -W 15')
    await eventually(async () => {
      await shell('mosquitto_pub -h localhost -t test -m hello')
      return (await Promise.race([heard, Promise.resolve(undefined)])) === undefined ? undefined : true
    })
    assert.equal((await heard).trim(), 'hello')
    assert.deepEqual(await deadLetters(base), [])
  })
  it('takes the curl lines of the other documents on the ports that they print', async () => {
    const health = JSON.parse(await shell('curl -sf http://localhost:8000/')) as Record<string, unknown>
    assert.equal(health['status'], 'healthy')
    const sent = await shell(`curl -s -X POST "http://localhost:8000/sensor-data" \\
  -H "Content-Type: application/json" \\
  -d '{
    "sensor_id": "sensor_001",
    "temperature": 25.5,
    "humidity": 60.0,
    "location": "Office_A"
  }'`)
    assert.equal((JSON.parse(sent) as Record<string, unknown>)['status'], 'success')
    const queued = await shell(`curl -s -X POST http://localhost:8001/ingest \\
  -H "Content-Type: application/json" \\
  -d '{"device_id": "test", "temperature_c": 25, "humidity": 50}'`)
    assert.deepEqual(JSON.parse(queued), { status: 'queued', device_id: 'test' })
    assert.match(await shell('curl -sf http://localhost:8002/health'), /status/)
    const registered = await shell(
      `curl -s -X POST http://localhost:8080/devices -H 'Content-Type: application/json' -d '{"name":"Test Device","type":"sensor","tenant_id":"test-tenant"}'`,
    )
    const device = JSON.parse(registered) as { id: string; status: string }
    assert.equal(device.status, 'active')
    const got = await shell(`curl -sf http://localhost:8080/devices/${device.id}`)
    assert.equal((JSON.parse(got) as { id: string }).id, device.id)
    for (const [id, metric, value] of [
      ['sensor_001', 'temperature', 25.5],
      ['test', 'humidity', 50],
    ] as const) {
      const found = await eventually(async () => {
        const list = values(await readings(base, { device: id }), metric)
        return list.length > 0 ? list : undefined
      })
      assert.deepEqual(found, [value])
    }
  })
  it('says "already running" to a second start in the same folder, and exits 0', async () => {
    const text = await shell('npm start --silent', { env: cleanEnv({ KYMO_DATA_DIR: data }) })
    assert.match(text, /already running at .*127\.0\.0\.1:8080/)
  })
  it('drains on Ctrl-C', async () => {
    process.kill(-npm.pid!, 'SIGINT')
    await once(npm, 'close')
    assert.match(output, /\(0 lost\)/)
    assert.equal(await isFree(1883), true)
    assert.equal(await isFree(8080), true)
  })
})

describe('draining', () => {
  it('answers every publish that it took before SIGTERM, and loses none', async () => {
    const server = await RunningServer.start()
    try {
      const { RawMqtt } = await import('../test/support/mqtt-client.ts')
      const client = await RawMqtt.connect({ port: server.mqttPort, clientId: 'drain' })
      const acknowledged = new Set<number>()
      client.onPuback = (id) => acknowledged.add(id)
      const started = Date.now() - 60_000
      for (let id = 1; id <= 2_000; id++) {
        client.publish({
          topic: 'portfolio/telemetry',
          qos: 1,
          packetId: id,
          payload: JSON.stringify({ device_id: 'drain', seq: id, timestamp: started + id }),
        })
      }
      await eventually(async () => (acknowledged.size > 0 ? true : undefined))
      const ended = await server.stop()
      assert.equal(ended.code, 0, ended.output)
      assert.match(ended.output, /0 lost/)
      const again = await server.restart()
      try {
        const stored = new Set(values(await readings(again.http, { device: 'drain', metric: 'seq' }), 'seq'))
        assert.deepEqual(
          [...acknowledged].filter((id) => !stored.has(id)),
          [],
        )
      } finally {
        await again.kill()
      }
    } finally {
      await server.dispose()
    }
  })
})
