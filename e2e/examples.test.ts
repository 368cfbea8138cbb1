import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { readFileSync, readdirSync, statSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { eventually, readings } from '../test/support/api.ts'
import type { Reading } from '../test/support/api.ts'
import { without } from '../test/support/programs.ts'
import { cleanEnv, RunningServer } from '../test/support/server.ts'

const run = promisify(execFile)
const root = path.resolve(import.meta.dirname, '..')

/** The first Python here that has paho-mqtt. */
const withPaho = ['python3', '/usr/bin/python3'].find((program) => spawnSync(program, ['-c', 'import paho.mqtt']).status === 0)

describe('the examples, as a user would run them', () => {
  let server: RunningServer
  before(async () => {
    server = await RunningServer.start()
    await run(process.execPath, ['tools/build-client.js'], { cwd: root, timeout: 60_000 })
  })
  after(() => server.dispose())

  const example = async (program: string, file: string, device: string): Promise<string> => {
    const env = cleanEnv({ KYMO_URL: server.http, KYMO_MQTT: `mqtt://127.0.0.1:${server.mqttPort}`, KYMO_DEVICE: device })
    const { stdout } = await run(program, [path.join('examples', file)], { cwd: root, env, timeout: 60_000 })
    return stdout
  }
  /** Values by metric, once as many readings are there. */
  const stored = (device: string, count: number): Promise<Record<string, unknown[]>> =>
    eventually(async () => {
      const found: readonly Reading[] = await readings(server.http, { device })
      if (found.length < count) return undefined
      const groups = Object.groupBy(found, ({ metric }) => metric)
      return Object.fromEntries(Object.entries(groups).map(([metric, list = []]) => [metric, list.map(({ value }) => value)]))
    })
  const tenths = Array.from({ length: 10 }, (_, i) => 20 + i / 10)

  it('node: sends, follows live, asks for the average', async () => {
    const output = await example(process.execPath, 'node/telemetry.js', 'ex-node')
    assert.equal(output.match(/ temperature 20/g)?.length, 10, output)
    assert.match(output, /temperature average 20\.\d+ of 10/)
    assert.deepEqual(await stored('ex-node', 10), { temperature: tenths })
  })
  it('node: says what is wrong when no server is there', async () => {
    const env = cleanEnv({ KYMO_URL: 'http://127.0.0.1:9' })
    await assert.rejects(run(process.execPath, ['examples/node/telemetry.js'], { cwd: root, env, timeout: 60_000 }), /server_unreachable: No answer/)
  })
  it('python over HTTP: sends and reads back', { skip: without('python3') }, async () => {
    const output = await example('python3', 'python/http_telemetry.py', 'ex, python')
    assert.match(output, /^accepted 10 rejected 0/)
    assert.equal(output.match(/ temperature 20/g)?.length, 10, output)
    assert.deepEqual(await stored(String.raw`ex\, python`, 10), { temperature: tenths })
  })
  it('python over HTTP: says what is wrong when no server is there', { skip: without('python3') }, async () => {
    const refused = run(
      'python3',
      ['-c', readFileSync(path.join(root, 'examples/python/http_telemetry.py'), 'utf8').replace('attempts=5', 'attempts=1')],
      {
        env: cleanEnv({ KYMO_URL: 'http://127.0.0.1:9' }),
        timeout: 30_000,
      },
    )
    await assert.rejects(refused, /POST \/api\/v1\/telemetry: .*refused/)
  })
  it('python over MQTT with paho', { skip: withPaho === undefined ? 'paho-mqtt not installed' : false }, async () => {
    assert.match(await example(withPaho!, 'python/mqtt_telemetry.py', 'ex-paho'), /acknowledged 10/)
    assert.deepEqual(await stored('ex-paho', 10), { temperature: tenths })
  })
  it('mosquitto', { skip: without('mosquitto_pub') }, async () => {
    assert.match(await example('sh', 'mosquitto/telemetry.sh', 'ex-mosquitto'), /acknowledged/)
    const { temperature, humidity } = await stored('ex-mosquitto', 11)
    assert.deepEqual(temperature, [20.5, 21.5, 22.5, 23.5, 24.5, 25.5, 26.5, 27.5, 28.5, 29.5])
    assert.deepEqual(humidity, [60])
  })
  it('curl: sends and reads back as CSV', { skip: without('curl') }, async () => {
    const output = await example('sh', 'curl/telemetry.sh', 'ex-curl')
    assert.match(output, /\{"accepted":2,"rejected":0\}/)
    assert.match(output, /ex-curl,temperature,.*20\.5/)
    assert.deepEqual(await stored('ex-curl', 2), { humidity: [60], temperature: [20.5] })
  })
  it('the client’s reference: every block runs, and prints what it says', async () => {
    const text = readFileSync(path.join(root, 'docs/reference/client.md'), 'utf8')
    const blocks = [...text.matchAll(/```js\n([^]*?)```/g)].map((match) => match[1]!)
    assert.ok(blocks.length >= 6)
    // One program: what a block declares the next ones use. Imports stand first, once.
    const lines = blocks.join('\n').split('\n')
    const imported = lines.filter((line) => line.startsWith('import ')).flatMap((line) => /\{ (.*) \}/.exec(line)?.[1]?.split(', ') ?? [])
    const body = lines.filter((line) => !line.startsWith('import ')).join('\n')
    const program = `import { ${[...new Set(imported)].join(', ')} } from 'kymo/client'\n${body.replace('http://127.0.0.1:8080', server.http)}`
    const { stdout } = await run(process.execPath, ['--input-type=module', '-e', program], { cwd: root, env: cleanEnv(), timeout: 60_000 })
    const said = lines.flatMap((line) => /console\.log\(.*\) {2}\/\/ (.*)$/.exec(line)?.[1] ?? [])
    assert.ok(said.length >= 8)
    assert.deepEqual(stdout.trim().split('\n'), said)
  })
  it('each has a README, and those that no test runs say so', () => {
    const folders = readdirSync(path.join(root, 'examples')).filter((name) => statSync(path.join(root, 'examples', name)).isDirectory())
    assert.deepEqual(folders.toSorted(), ['arduino-esp32', 'curl', 'mosquitto', 'node', 'python', 'telegraf'])
    for (const folder of folders) {
      const text = readFileSync(path.join(root, 'examples', folder, 'README.md'), 'utf8')
      assert.equal(/\*\*Untested/.test(text), folder === 'arduino-esp32' || folder === 'telegraf', folder)
    }
  })
})
