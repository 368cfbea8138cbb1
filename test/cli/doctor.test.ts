import assert from 'node:assert/strict'
import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { test } from 'node:test'
import { exitOf, fail, ok, warn } from '../../src/cli/doctor/finding.ts'
import { checkClock, checkMemory, checkNode, checkOpenFiles } from '../../src/cli/doctor/machine.ts'
import { takeLock } from '../../src/cli/lock.ts'
import { main } from '../../src/cli/main.ts'
import { loadConfig } from '../../src/core/config-resolve.ts'
import { RunningServer } from '../support/server.ts'
import { recordedTerminal } from './fixtures/terminal.ts'

interface Report {
  readonly exit_code: number
  readonly findings: readonly {
    readonly check: string
    readonly status: string
    readonly detail: string
    readonly fix?: string
    readonly id?: string
  }[]
}

function temporary(t: { after(fn: () => void): void }): string {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-doctor-'))
  t.after(() => fs.rmSync(dir, { recursive: true, force: true }))
  return dir
}

async function doctor(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Report & { readonly text: string; readonly code: number }> {
  const terminal = recordedTerminal({ env })
  process.exitCode = undefined
  const code = await main(['doctor', '--http-port', '0', '--mqtt-port', '0', '--json', ...args], terminal)
  process.exitCode = undefined
  const text = terminal.stdout.join('\n')
  assert.equal(terminal.stderr.join('\n'), '')
  const report = JSON.parse(text) as Report
  assert.equal(report.exit_code, code)
  for (const one of report.findings) assert.equal(one.fix !== undefined, one.status !== 'ok', `${one.check} has a fix when it is not fine`)
  return { ...report, text, code }
}

function finding(report: Report, check: string): Report['findings'][number] {
  const found = report.findings.find((one) => one.check === check)
  assert.ok(found !== undefined, `${check} in ${JSON.stringify(report.findings.map((one) => one.check))}`)
  return found
}

test('without a server and without data: fine, and nothing is left behind', async (t) => {
  const dir = temporary(t)
  const report = await doctor(['--data', path.join(dir, 'not', 'yet')])
  assert.equal(report.code, 0)
  for (const check of ['node', 'clock', 'configuration', 'memory', 'open files', 'data directory', 'free space', 'fsync', 'log', 'store', 'metadata'])
    assert.notEqual(finding(report, check).status, 'fail')
  assert.match(finding(report, 'server').detail, /^none runs on/)
  assert.deepEqual(fs.readdirSync(dir), [])
})

test('lines for people: a sign, what was found, and the fix below', async (t) => {
  const terminal = recordedTerminal()
  const code = await main(
    ['doctor', '--data', temporary(t), '--http-port', '0', '--mqtt-port', '0', '--host', '0.0.0.0', '--http-host', '0.0.0.0'],
    terminal,
  )
  process.exitCode = undefined
  assert.equal(code, 2)
  const again = recordedTerminal()
  assert.equal(await main(['doctor', '--data', temporary(t), '--http-port', '0', '--mqtt-port', '0', '--http-host', '0.0.0.0'], again), 3)
  process.exitCode = undefined
  const text = again.stdout.join('\n')
  assert.match(text, /^ {2}✓ node +Node 2/)
  assert.match(text, /\n {2}✗ access +bound to 0\.0\.0\.0 and 127\.0\.0\.1: Bound beyond loopback .*\[KYMO-E105\]\n +→ kymo tokens create/)
  assert.match(text, /\n {2}\d+ fine · \d+ to look at · 1 to mend$/)
})

test('a port in use, a directory that cannot be written, bad settings: each with its exit code', async (t) => {
  const dir = temporary(t)
  const holder = net.createServer()
  await new Promise<void>((resolve) => holder.listen(0, '127.0.0.1', resolve))
  t.after(() => holder.close())
  const { port } = holder.address() as net.AddressInfo
  const taken = await doctor(['--data', dir, '--mqtt-port', String(port)])
  assert.equal(taken.code, 4)
  assert.equal(finding(taken, 'mqtt port').id, 'KYMO-E104')
  assert.match(finding(taken, 'mqtt port').fix ?? '', new RegExp(`--mqtt-port ${port + 1}`))

  fs.writeFileSync(path.join(dir, 'file'), '')
  const unusable = await doctor(['--data', path.join(dir, 'file')])
  assert.equal(unusable.code, 5)
  assert.equal(finding(unusable, 'data directory').id, 'KYMO-E214')

  const settings = await doctor(['--data', dir, '--retention-raw', 'x'], { MONGO_URL: 'mongodb://u:geheim@m' })
  assert.equal(settings.code, 3)
  const pending = await doctor(['--data', dir], { MONGO_URL: 'mongodb://u:geheim@m' })
  assert.match(finding(pending, 'environment').detail, /^MONGO_URL has no effect/)
  const outside = await doctor(['--data', dir, '--store-url', 'postgres://u:geheim@127.0.0.1:1/d'])
  assert.equal(finding(outside, 'store').id, 'KYMO-E206')
  for (const { text } of [settings, pending, outside]) assert.ok(!text.includes('geheim'))
})

test('damaged log, store and metadata, and a newer format, are told without changing them', async (t) => {
  const dir = temporary(t)
  const server = await RunningServer.start({ data: dir })
  const headers = { 'content-type': 'application/json' }
  await fetch(`${server.http}/api/v1/telemetry`, { method: 'POST', headers, body: '{"device_id":"d","temperature":1}' })
  await server.stop()
  const fresh = await doctor(['--data', dir])
  assert.equal(fresh.code, 0)
  assert.match(finding(fresh, 'store file').detail, /^hot-1\.duckdb opens: 1 series, 1 readings not sealed yet, the latest of 20/)
  assert.equal(fs.existsSync(path.join(dir, 'kymo.lock')), false)
  const topic = path.join(dir, 'log', 'telemetry', '0')
  const segment = path.join(topic, fs.readdirSync(topic).find((name) => name.endsWith('.seg')) ?? '')
  const whole = fs.readFileSync(segment)
  const broken = Buffer.from(whole)
  broken[0] = 0
  fs.writeFileSync(segment, broken)
  fs.writeFileSync(path.join(topic, '99999999999999999999.seg'), whole)
  const log = await doctor(['--data', dir])
  assert.equal(log.code, 5)
  assert.equal(finding(log, 'log').id, 'KYMO-E201')
  assert.ok(fs.readFileSync(segment).equals(broken))
  fs.writeFileSync(segment, whole)
  const hot = path.join(dir, 'store', 'hot-1.duckdb')
  const intact = fs.readFileSync(hot)
  const torn = Buffer.from(intact)
  torn.fill(0xff, 0, 3 * 4096)
  fs.writeFileSync(hot, torn)
  const store = await doctor(['--data', dir])
  assert.equal(store.code, 5)
  assert.equal(finding(store, 'store file').id, 'KYMO-E221')
  assert.ok(fs.readFileSync(hot).equals(torn))
  fs.writeFileSync(hot, intact)
  // Somebody holds the directory and does not say where it answers.
  const held = takeLock(dir, { version: '0', now: new Date() })
  assert.ok(held.taken)
  assert.match(finding(await doctor(['--data', dir]), 'store file').detail, /^was not opened/)
  held.lock.release()
  fs.writeFileSync(path.join(dir, 'meta.sqlite'), 'no database')
  assert.equal(finding(await doctor(['--data', dir]), 'metadata').status, 'fail')
})

test('beside a running server: its ports, version, lag and fresh dead letters; with a quota that is passed it says so', async (t) => {
  const server = await RunningServer.start()
  t.after(() => server.dispose())
  const fine = await doctor(['--data', server.data])
  assert.equal(fine.code, 0)
  assert.match(finding(fine, 'server').detail, new RegExp(`^ready at ${server.http}, pid ${server.serverPid}`))
  assert.equal(finding(fine, 'http port').detail, `${server.httpPort} is open (this server)`)
  assert.equal(finding(fine, 'dead letters').detail, 'none wait')
  const headers = { 'content-type': 'application/json' }
  await fetch(`${server.http}/api/v1/telemetry`, { method: 'POST', headers, body: 'nonsense' })
  let letters = finding(await doctor(['--data', server.data]), 'dead letters')
  for (let i = 0; i < 50 && letters.status === 'ok'; i++) letters = finding(await doctor(['--data', server.data]), 'dead letters')
  assert.match(letters.detail, /^1 came in the last five minutes \(body_not_json\)/)
  await server.kill()
  const left = await doctor(['--data', server.data])
  assert.match(finding(left, 'server').detail, /^none runs on/)
  const asked = await doctor(['--data', server.data, '--url', server.http])
  assert.equal(asked.code, 6)
})

test('an old Node, a clock that was never set, little memory, few files', () => {
  const config = loadConfig({ flags: { 'store.memory_mb': 1e9 } })
  assert.equal(checkNode('22.1.0').status, 'fail')
  assert.equal(checkNode('24.0.0').status, 'ok')
  assert.equal(checkClock(0).status, 'warn')
  assert.equal(checkMemory(config).status, 'warn')
  assert.equal(checkOpenFiles(config, 1024).status, 'warn')
  assert.equal(checkOpenFiles(config, Number.POSITIVE_INFINITY).status, 'ok')
  assert.equal(exitOf([ok('a', ''), warn('b', '', '')]), 0)
  assert.equal(exitOf([warn('b', '', ''), fail('c', 'port_in_use', '', ''), fail('d', 'disk_full', '', '')]), 4)
})
