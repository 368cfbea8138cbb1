import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { main } from '../../src/cli/main.ts'
import { createReloader } from '../../src/cli/reload.ts'
import { loadSettings, type Settings } from '../../src/cli/settings.ts'
import { aliases } from '../../src/core/config-aliases.ts'
import { resolveConfig } from '../../src/core/config-resolve.ts'
import { configLeaves, type Config } from '../../src/core/config.ts'
import { createLogger, silentLogger, type LogLevel } from '../../src/core/env/node-env.ts'
import { KymoError } from '../../src/core/errors.ts'
import { cleanEnv, RunningServer, runKymo } from '../support/server.ts'
import { recordedTerminal } from './fixtures/terminal.ts'

function temporary(t: { after(fn: () => void): void }): string {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-config-'))
  t.after(() => fs.rmSync(dir, { recursive: true, force: true }))
  return dir
}

async function kymo(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<{ code: number; stdout: string; stderr: string }> {
  const terminal = recordedTerminal({ env })
  process.exitCode = undefined
  const code = await main(args, terminal)
  process.exitCode = undefined
  return { code, stdout: terminal.stdout.join('\n'), stderr: terminal.stderr.join('\n') }
}

test('which file counts: --config, KYMO_CONFIG, ./kymo.yaml; one that is named must be there', async (t) => {
  const dir = temporary(t)
  for (const [name, port] of [
    ['kymo.yaml', 1],
    ['env.yaml', 2],
    ['flag.yaml', 3],
  ] as const)
    fs.writeFileSync(path.join(dir, name), `http: {port: ${port}}\n`)
  const port = async (o: Partial<Parameters<typeof loadSettings>[0]>): Promise<number> =>
    (await loadSettings({ env: {}, cwd: dir, ...o })).config.http.port
  assert.equal(await port({}), 1)
  assert.equal(await port({ env: { KYMO_CONFIG: 'env.yaml' } }), 2)
  assert.equal(await port({ env: { KYMO_CONFIG: 'env.yaml' }, configFile: 'flag.yaml' }), 3)
  assert.equal(await port({ cwd: path.join(dir, 'nowhere') }), 8080)
  await assert.rejects(
    port({ configFile: 'absent.yaml' }),
    (e) => e instanceof KymoError && e.code === 'config_invalid' && /absent\.yaml cannot be read/.test(e.message),
  )
  fs.writeFileSync(path.join(dir, 'latin.yaml'), Buffer.from('data_dir: \xe4', 'latin1'))
  await assert.rejects(port({ configFile: 'latin.yaml' }), /it is not UTF-8/)
})

test('config show: values with their origin, secrets hidden, what is pending; as JSON the same', async (t) => {
  const dir = temporary(t)
  const file = path.join(dir, 'kymo.yaml')
  fs.writeFileSync(file, 'http:\n  port: 81\nsession_key: geheim\nlog: {url: "kafka://u:geheim@h:1"}\n')
  const env = { KYMO_MQTT_PORT: '1884', MONGO_URL: 'mongodb://u:geheim@m' }
  const plain = await kymo(['config', 'show', '--config', file, '--changed', '--auth', 'token'], env)
  assert.equal(plain.code, 0, plain.stderr)
  assert.match(plain.stdout, /^ {2}setting +value +from\n {2}auth +token +--auth\n {2}session_key +\(secret\) +\S+kymo\.yaml:3:14\n/)
  assert.match(plain.stdout, /mqtt\.port +1884 +KYMO_MQTT_PORT/)
  assert.match(plain.stderr, /MONGO_URL is set but has no effect in this version/)
  const json = await kymo(['config', 'show', '--config', file, '--json'], env)
  assert.ok(!`${plain.stdout}${plain.stderr}${json.stdout}`.includes('geheim'))
  const { items, pending } = JSON.parse(json.stdout) as {
    items: { name: string; value: unknown; from: string; where?: string; reload: boolean }[]
    pending: unknown[]
  }
  assert.deepEqual(
    items.find(({ name }) => name === 'http.port'),
    { name: 'http.port', value: 81, from: 'file', where: `${file}:2:9`, reload: false },
  )
  assert.deepEqual(
    items.find(({ name }) => name === 'retention.raw'),
    { name: 'retention.raw', value: '', from: 'default', reload: true },
  )
  assert.equal(pending.length, 1)
})

test('config check: 0 and how many, or 3 and every error with its line; rules between settings count; docs prints the reference', async (t) => {
  const dir = temporary(t)
  const file = path.join(dir, 'k.yaml')
  const check = async (text: string): Promise<Awaited<ReturnType<typeof kymo>>> => {
    fs.writeFileSync(file, text)
    return kymo(['config', 'check', file], { KYMO_HTTP_PORT: 'not looked at' })
  }
  assert.match((await check('http: {port: 1}\n')).stdout, /✓ .*k\.yaml: 1 settings, no errors/)
  assert.match((await kymo(['config', 'check', '--config', file])).stdout, /✓ .*k\.yaml: 1 settings, no errors/)
  const bad = await check('http:\n  prot: 1\nauth: no\n')
  assert.equal(bad.code, 3)
  assert.match(
    bad.stderr,
    /^error: 2 errors in .*k\.yaml +\[KYMO-E103\]\n {2}\S+k\.yaml:2:3 {2}unknown setting http\.prot; did you mean port\?\n {7,}2 \| {3}prot: 1\n/,
  )
  assert.match(bad.stderr, /k\.yaml:3:7 {2}auth must be one of/)
  assert.match(bad.stderr, /\n {2}More: {2}kymo explain KYMO-E103$/)
  assert.equal((await check('retention: {raw: 90d, minutes: 30d}\n')).code, 3)
  assert.match((await check('environment: production\n')).stdout, /! production needs KYMO_SESSION_KEY/)
  assert.match((await kymo(['config', 'docs'])).stdout, /### retention\.raw/)
})

test('what a test starts sees none of the variables that would change it', (t) => {
  const before = { ...process.env }
  t.after(() => {
    for (const name of Object.keys(process.env)) if (before[name] === undefined) delete process.env[name]
    Object.assign(process.env, before)
  })
  const names = [...aliases.map(({ variable }) => variable), ...configLeaves().map((leaf) => leaf.env)]
  for (const name of names) process.env[name] = '7'
  const env = cleanEnv({ PORT: '1' })
  assert.deepEqual(
    names.filter((name) => env[name] !== undefined),
    ['PORT'],
  )
  assert.equal(env['PORT'], '1')
  assert.equal(env['PATH'], process.env['PATH'])
})

test('kymo status tells how long what is kept, rules first, and what they are for', async (t) => {
  const rules = [
    { metrics: ['debug.*'], raw: '30d', minutes: '60d' },
    { labels: { site: 'lab' }, raw: '36h' },
  ]
  const env = { KYMO_RETENTION_RAW: '90d', KYMO_RETENTION_STORE_MB: '500', KYMO_RETENTION_RULES: JSON.stringify(rules) }
  const server = await RunningServer.start({ env })
  t.after(() => server.dispose())
  const status = await runKymo(['status', '--url', server.http])
  assert.equal(status.code, 0, status.output)
  const lines = status.output.split('\n').map((line) => line.trim().split(/ {2,}/))
  const from = lines.findIndex(([first]) => first === 'kept')
  const rest = lines.slice(from, from + 5)
  assert.deepEqual(
    rest.map((cells) => cells.slice(0, 4)),
    [
      ['kept', 'readings', 'minutes', 'hours'],
      ['debug.*', '30d', '60d', '-'],
      ['site=lab', '36h', '-', '-'],
      ['the rest', '90d', 'for ever', 'for ever'],
      ['at most 500 MB of sealed files'],
    ],
  )
})

test('a start with a bad file ends with 3 and the place; production without a key too', async (t) => {
  const dir = temporary(t)
  const file = path.join(dir, 'kymo.yaml')
  fs.writeFileSync(file, 'mqtt:\n  prt: 1\n')
  const bad = await runKymo(['start', '--data', dir, '--config', file])
  assert.equal(bad.code, 3)
  assert.match(bad.output, /kymo\.yaml:2:3 {2}unknown setting mqtt\.prt; did you mean port\?/)
  const production = await runKymo(['start', '--data', dir], { env: { ENVIRONMENT: 'production' } })
  assert.equal(production.code, 3)
  assert.match(production.output, /production needs a key/)
})

const settingsOf = (flags: Record<string, unknown>): Settings => ({ ...resolveConfig({ flags }), file: undefined })

test('a reload applies what may change, keeps what may not, and does nothing at all when anything is wrong', async () => {
  let next: () => Settings = () => settingsOf({})
  const applied: Config[] = []
  let failing = false
  const reloader = createReloader({
    running: settingsOf({}),
    load: async () => next(),
    apply: async (config) => {
      if (failing) throw new KymoError('store_unavailable')
      applied.push(config)
    },
    certificates: () => [],
    logger: silentLogger,
    now: () => new Date(0),
    done: () => undefined,
  })
  const at = '1970-01-01T00:00:00.000Z'
  assert.deepEqual(await reloader.reload(), { at, applied: [], refused: [] })
  assert.equal(applied.length, 0)

  next = () => settingsOf({ 'retention.raw': '30d', 'http.port': 1, session_key: 'geheim' })
  assert.deepEqual(await reloader.reload(), {
    at,
    applied: [{ setting: 'retention.raw', from: '', to: '30d' }],
    refused: [
      { setting: 'session_key', from: '', to: '(secret)', reason: 'needs a restart' },
      { setting: 'http.port', from: '8080', to: '1', reason: 'needs a restart' },
    ],
  })
  assert.equal(reloader.config.retention.raw, '30d')
  assert.equal(reloader.config.http.port, 8080)
  assert.deepEqual(reloader.origins.get('http.port'), { from: 'default' })

  // Valid by itself, but not with the others: rollups would go before readings.
  next = () => settingsOf({ 'retention.raw': '90d', 'retention.minutes': '60d', 'log.level': 'debug' })
  assert.match((await reloader.reload()).error?.detail ?? '', /retention\.minutes is shorter/)
  failing = true
  next = () => settingsOf({ 'retention.raw': '60d', 'log.level': 'debug' })
  assert.equal((await reloader.reload()).error?.code, 'store_unavailable')
  next = () => {
    throw new KymoError('config_invalid', { detail: 'no' })
  }
  assert.equal((await reloader.reload()).error?.detail, 'no')
  assert.equal(reloader.config.retention.raw, '30d')
  assert.equal(reloader.config.log.level, 'info')
  assert.equal(applied.length, 1)
})

test('a logger whose level is asked for each line, children too', () => {
  let level: LogLevel = 'warn'
  const said: string[] = []
  const logger = createLogger({ level: () => level, format: 'text', write: (line) => void said.push(line) })
  const child = logger.child({ a: 1 })
  child.debug('before')
  level = 'debug'
  child.debug('after')
  assert.deepEqual(said.length, 1)
})

async function until<T>(what: () => Promise<T | undefined> | T | undefined, label: string): Promise<T> {
  for (let i = 0; i < 500; i++) {
    const value = await what()
    if (value !== undefined) return value
    await delay(20)
  }
  throw new Error(`never happened: ${label}`)
}

test('a running server: a reload takes effect at its doors and in its store, by command and by SIGHUP; an error changes nothing', async (t) => {
  const dir = temporary(t)
  const file = path.join(dir, 'kymo.yaml')
  fs.writeFileSync(file, 'devices: {auto_register: true}\n')
  const server = await RunningServer.start({ args: ['--config', file], env: { BATCH_SIZE: '200', MONGO_URL: 'mongodb://m' } })
  t.after(() => server.dispose())
  const send = async (body: unknown): Promise<number> => {
    const headers = { 'content-type': 'application/json' }
    return (await fetch(`${server.http}/api/v1/telemetry`, { method: 'POST', headers, body: JSON.stringify(body) })).status
  }
  assert.match(server.output, /MONGO_URL is set but has no effect in this version/)
  assert.equal(await send({ device_id: 'one', temperature: 1 }), 202)
  assert.equal(await send({ device_id: 'one', temperature: 1, timestamp: 1_234_567_890 }), 202)

  fs.writeFileSync(file, 'devices: {auto_register: false}\nretention: {raw: 30d}\nmqtt: {connections_max: 7}\nstorage: {quota_mb: 500}\n')
  const reload = await runKymo(['config', 'reload', '--data', server.data])
  assert.equal(reload.code, 3, reload.output)
  assert.match(reload.output, /✓ retention\.raw +\(empty\) → 30d/)
  assert.match(reload.output, /✓ devices\.auto_register +true → false/)
  assert.match(reload.output, /! mqtt\.connections_max stays 20000: 7 needs a restart/)
  assert.match(server.output, /mqtt\.connections_max stays 20000: 7 needs a restart/)
  assert.equal(await send({ device_id: 'two', temperature: 1 }), 422)
  assert.equal(await send({ device_id: 'one', temperature: 2 }), 202)
  await until(async () => ((await send({ device_id: 'one', temperature: 2, timestamp: 1_234_567_891 })) === 422 ? true : undefined), 'too old')
  const status = (await (await fetch(`${server.http}/api/v1/status`)).json()) as { storage: { quota_bytes?: number } }
  assert.equal(status.storage.quota_bytes, 500e6)

  fs.writeFileSync(file, 'devices: {auto_register: true}\nretention: {raw: nonsense}\n')
  const refused = await runKymo(['config', 'reload', '--data', server.data])
  assert.equal(refused.code, 3)
  assert.match(refused.output, /nothing was changed: .*kymo\.yaml:2:18 {2}retention\.raw must be a number of hours/)
  assert.equal(await send({ device_id: 'two', temperature: 1 }), 422)

  // To the command that was started, as a service manager would.
  fs.writeFileSync(file, 'devices: {auto_register: true}\n')
  process.kill(server.pid, 'SIGHUP')
  await until(async () => ((await send({ device_id: 'two', temperature: 1 })) === 202 ? true : undefined), 'registered')
  assert.equal((await server.stop()).code, 0)
  const gone = await runKymo(['config', 'reload', '--data', server.data])
  assert.equal(gone.code, 6)
  assert.match(gone.output, /no server uses/)
})
