import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { test } from 'node:test'
import { takeLock } from '../../src/cli/lock.ts'

const options = { version: '0.1.0', now: new Date('2026-11-20T12:00:00Z') }

function inDirectory(t: { after(fn: () => void): void }): string {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-lock-'))
  t.after(() => fs.rmSync(dir, { recursive: true, force: true }))
  return dir
}

/** A process that lives until the test ends, and its lock as it would have written it. */
async function otherProcess(t: { after(fn: () => void): void }, dir: string): Promise<{ pid: number; kill: () => Promise<void> }> {
  const script = `
    const { takeLock } = await import(${JSON.stringify(new URL('../../src/cli/lock.ts', import.meta.url).href)})
    const taken = takeLock(${JSON.stringify(dir)}, { version: '0.1.0', now: new Date(0) })
    if (taken.taken) taken.lock.update({ state: 'running', urls: { http: 'http://127.0.0.1:1' } })
    console.log(taken.taken)
    setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(() => child.kill('SIGKILL'))
  const [said] = (await once(child.stdout, 'data')) as [Buffer]
  assert.equal(String(said).trim(), 'true')
  return {
    pid: child.pid!,
    async kill() {
      child.kill('SIGKILL')
      await once(child, 'exit')
    },
  }
}

function content(dir: string): Record<string, unknown> {
  return JSON.parse(fs.readFileSync(path.join(dir, 'kymo.lock'), 'utf8')) as Record<string, unknown>
}

test('a lock is written, updated and removed', (t) => {
  const dir = path.join(inDirectory(t), 'deep', 'data')
  const outcome = takeLock(dir, options)
  assert.ok(outcome.taken)
  assert.deepEqual(content(dir), { pid: process.pid, state: 'starting', started: '2026-11-20T12:00:00.000Z', version: '0.1.0', urls: {} })
  outcome.lock.update({ state: 'running', urls: { http: 'http://127.0.0.1:8080', mqtt: 'mqtt://127.0.0.1:1883' } })
  assert.deepEqual([content(dir)['state'], content(dir)['urls']], ['running', { http: 'http://127.0.0.1:8080', mqtt: 'mqtt://127.0.0.1:1883' }])
  outcome.lock.release()
  outcome.lock.release()
  assert.deepEqual(fs.readdirSync(dir), ['kymo.guard'])
  const again = takeLock(dir, options)
  assert.ok(again.taken)
  again.lock.release()
})

test('a live holder keeps the directory and is named; killed, it holds it no longer', async (t) => {
  const dir = inDirectory(t)
  const other = await otherProcess(t, dir)
  const refused = takeLock(dir, options)
  assert.ok(!refused.taken)
  assert.equal(refused.holder?.pid, other.pid)
  assert.equal(refused.holder.urls.http, 'http://127.0.0.1:1')
  await other.kill()
  const taken = takeLock(dir, options)
  assert.ok(taken.taken)
  assert.equal(content(dir)['pid'], process.pid)
  taken.lock.release()
})

test('what a killed server left behind, whole or torn, holds nothing', (t) => {
  const dir = inDirectory(t)
  for (const left of ['{"pid":12', JSON.stringify({ pid: process.pid, state: 'running', started: '', version: '', urls: {} })]) {
    fs.writeFileSync(path.join(dir, 'kymo.lock'), left)
    const taken = takeLock(dir, options)
    assert.ok(taken.taken)
    taken.lock.release()
  }
})

test('a holder that has not said yet who it is', async (t) => {
  const dir = inDirectory(t)
  const other = await otherProcess(t, dir)
  fs.rmSync(path.join(dir, 'kymo.lock'))
  assert.deepEqual(takeLock(dir, options), { taken: false, holder: undefined })
  await other.kill()
})
