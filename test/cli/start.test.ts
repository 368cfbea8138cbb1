import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { createColors } from 'picocolors'
import type { BannerFacts } from '../../src/cli/banner.ts'
import { bannerLines } from '../../src/cli/banner.ts'
import { portOwner } from '../../src/cli/port-owner.ts'

/** The real `kymo start` and its real server process, over a stand-in for what `startServer` composes. */
const bin = fileURLToPath(new URL('../../src/cli/bin.js', import.meta.url))
const hook = new URL('fixtures/fake-server-hook.ts', import.meta.url).href

interface Started {
  readonly process: ChildProcess
  readonly pid: number
  stdout: string
  stderr: string
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
}

function temporary(t: { after(fn: () => void): void }): string {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-start-'))
  t.after(() => fs.rmSync(dir, { recursive: true, force: true }))
  return dir
}

function start(t: { after(fn: () => void): void }, dir: string, args: readonly string[] = [], env: Readonly<Record<string, string>> = {}): Started {
  const child = spawn(process.execPath, [bin, 'start', '--data', dir, '--http-port', '0', ...args], {
    cwd: path.dirname(dir),
    env: { PATH: process.env['PATH'], NODE_OPTIONS: `--import=${hook}`, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) =>
    child.once('exit', (code, signal) => resolve({ code, signal })),
  )
  const started: Started = { process: child, pid: child.pid!, stdout: '', stderr: '', ended }
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (started.stdout += chunk))
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (started.stderr += chunk))
  t.after(() => child.kill('SIGKILL'))
  return started
}

async function until<T>(what: () => T | undefined | false, label: string): Promise<T> {
  for (let i = 0; i < 1_500; i++) {
    const value = what()
    if (value !== undefined && value !== false) return value
    await delay(10)
  }
  throw new Error(`never happened: ${label}`)
}

function lines(file: string): string[] {
  return fs.existsSync(file) ? fs.readFileSync(file, 'utf8').split('\n').filter(Boolean) : []
}

test('the banner, the first message, a second start in the same folder, and the drain', async (t) => {
  const dir = temporary(t)
  const server = start(t, dir, [], { FAKE: 'greet' })
  await until(() => server.stdout.includes('first message'), `a greeting in ${server.stdout}${server.stderr}`)
  const url = /✓ http +(http:\/\/127\.0\.0\.1:\d+) +9 ms\n/.exec(server.stdout)?.[1] ?? ''
  assert.match(server.stdout, new RegExp(`^ {2}kymo \\S+ {3}embedded · data in \\./${path.basename(dir)} · Node 24`))
  assert.match(server.stdout, /✓ storage +opened \(new\) +12 ms\n/)
  assert.ok(server.stdout.includes(`  Dashboard   ${url}/\n  API docs    ${url}/docs\n  Metrics     ${url}/metrics\n`))
  assert.ok(server.stdout.includes(`curl ${url.slice(7)}/ingest -H 'content-type: application/json' \\\n`))
  assert.ok(
    server.stdout.includes('mosquitto_pub -h 127.0.0.1 -p 1884 -t portfolio/telemetry \\\n      -m \'{"device_id":"dev-1","temperature":25.5}\''),
  )
  assert.match(server.stdout, /\d\d:\d\d:\d\d {2}first message from dev-1 {3}temperature 25\.5 {3}stored in 4 ms\n/)

  const second = start(t, dir)
  assert.deepEqual(await second.ended, { code: 0, signal: null })
  assert.match(second.stdout, new RegExp(`already running at ${url} {3}mqtt mqtt://127\\.0\\.0\\.1:1884 {3}pid \\d+, since `))

  process.kill(server.pid, 'SIGINT')
  assert.deepEqual(await server.ended, { code: 0, signal: null })
  assert.match(server.stdout, /\n {2}Draining 37 messages… stored\. Bye\. \(0 lost\)\n$/)
  assert.equal(server.stderr, '')
  assert.ok(!fs.existsSync(path.join(dir, 'kymo.lock')))
})

test('events as JSON lines; kill -9 of the server brings it back on the same port', async (t) => {
  const dir = temporary(t)
  const server = start(t, dir, ['--json'])
  const events = (): Record<string, unknown>[] =>
    server.stdout
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as Record<string, unknown>)
  const ready = await until(() => events().find((one) => one['event'] === 'ready'), 'ready')
  process.kill(Number(ready['pid']), 'SIGKILL')
  const again = await until(() => events().find((one) => one['event'] === 'ready' && one['restarts'] === 1), 'ready again')
  assert.deepEqual(again['urls'], ready['urls'])
  assert.notEqual(again['pid'], ready['pid'])
  process.kill(server.pid, 'SIGTERM')
  assert.deepEqual(await server.ended, { code: 0, signal: null })
  assert.deepEqual(events().slice(-2), [
    { event: 'draining', pending: 37 },
    { event: 'stopped', drained: 37, lost: 0 },
  ])
  assert.equal((JSON.parse(server.stderr.trim()) as Record<string, unknown>)['how'], 'SIGKILL')
})

test('kill -9 of the command: its server drains and ends, and the folder is free again', async (t) => {
  const dir = temporary(t)
  const server = start(t, dir, ['--json'])
  await until(() => server.stdout.includes('"ready"'), 'ready')
  process.kill(server.pid, 'SIGKILL')
  await until(() => lines(path.join(dir, 'stops')).length === 1, 'drained')
  await until(() => !fs.existsSync(path.join(dir, 'kymo.lock')), 'released')
  const next = start(t, dir, ['--json'])
  await until(() => next.stdout.includes('"ready"'), 'the next server')
  process.kill(next.pid, 'SIGTERM')
  assert.equal((await next.ended).code, 0)
})

test('a port that is taken: exit 4, by whom, and what to do', async (t) => {
  const holder = net.createServer()
  await new Promise<void>((resolve) => holder.listen(0, '127.0.0.1', resolve))
  t.after(() => holder.close())
  const { port } = holder.address() as net.AddressInfo
  if (process.platform === 'linux') assert.match(portOwner(port) ?? '', new RegExp(`\\(pid ${process.pid}\\)$`))
  const server = start(t, temporary(t), ['--http-port', String(port)])
  assert.equal((await server.ended).code, 4)
  assert.match(
    server.stderr,
    new RegExp(
      `^error: port ${port} is in use( by .* \\(pid \\d+\\))? +\\[KYMO-E104\\]\\n {2}Use another: {2}kymo start --http-port ${port + 1} +or any free: --http-port 0\\n {2}More: {2}kymo explain KYMO-E104\\n$`,
    ),
  )
})

test('usage, configuration and storage errors have their exit codes, and are not a reason to start again', async (t) => {
  const cases: [string[], Record<string, string>, number, RegExp][] = [
    [['--sotre-url', 'x'], {}, 2, /Did you mean --store-url\?.*\[KYMO-E102\]/],
    [['--mqtt-connections-max', '0'], {}, 3, /mqtt\.connections_max.*\[KYMO-E103\]/],
    [[], { KYMO_HTTP_PROT: '1' }, 3, /did you mean KYMO_HTTP_PORT\?/],
    [[], { FAKE: 'fsync' }, 5, /\[KYMO-E203\]/],
  ]
  for (const [args, env, code, text] of cases) {
    const dir = temporary(t)
    const server = start(t, dir, args, env)
    assert.deepEqual(await server.ended, { code, signal: null }, server.stderr)
    assert.match(server.stderr, text)
    assert.ok(lines(path.join(dir, 'starts')).length <= 1)
  }
})

test('a bug that nobody caught restarts the server, until it is clear that this does not help', async (t) => {
  const dir = temporary(t)
  const server = start(t, dir, [], { FAKE: 'throw' })
  assert.equal((await server.ended).code, 70)
  assert.equal(lines(path.join(dir, 'starts')).length, 5)
  assert.match(server.stderr, /error: a bug of ours +\[KYMO-E901\]/)
  assert.match(server.stderr, /The server ended by exit code 70\. Starting it again in 200ms\./)
  assert.match(server.stderr, /the server ended 5 times within a minute, the last time by exit code 70/)
})

test('where tokens are asked for, the lines to paste carry one from the environment', () => {
  const facts: BannerFacts = {
    version: '1',
    nodeVersion: '24',
    dataDir: '/var/lib/kymo',
    cwd: '/home/a',
    components: [],
    http: 'http://192.168.1.5:8080',
    mqtt: 'mqtt://192.168.1.5:1883',
    ws: 'ws://192.168.1.5:8080/mqtt',
    extra: [],
    auth: 'token',
    readyMs: 1,
  }
  const text = bannerLines(facts, createColors(false)).join('\n')
  assert.match(text, /data in \/var\/lib\/kymo ·/)
  assert.match(text, /^ +WebSocket +ws:\/\/192\.168\.1\.5:8080\/mqtt /m)
  assert.match(text, /mosquitto_pub -h 192\.168\.1\.5 -u kymo -P "\$KYMO_TOKEN" -t/)
  assert.match(text, /-H "authorization: Bearer \$KYMO_TOKEN"/)
  assert.ok(!text.includes('Local use only'))
})
