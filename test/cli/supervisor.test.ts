import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { after, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Crash, ReadyMessage } from '../../src/cli/supervisor.ts'
import { supervise } from '../../src/cli/supervisor.ts'

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-supervisor-'))
after(() => fs.rmSync(dir, { recursive: true, force: true }))
const childScript = fileURLToPath(new URL('fixtures/child.ts', import.meta.url))
const parentScript = fileURLToPath(new URL('fixtures/parent.ts', import.meta.url))
let journals = 0

function newJournal(): string {
  return path.join(dir, `journal-${journals++}`)
}

function lines(journal: string): string[] {
  return fs.existsSync(journal) ? fs.readFileSync(journal, 'utf8').split('\n').filter(Boolean) : []
}

async function until<T>(what: () => T | undefined | false, label: string): Promise<T> {
  for (let i = 0; i < 1_000; i++) {
    const value = what()
    if (value !== undefined && value !== false) return value
    await delay(10)
  }
  throw new Error(`never happened: ${label}`)
}

function run(
  mode: string,
  more: { crashesMax?: number } = {},
): { code: Promise<number>; crashes: Crash[]; journal: string; ready: (ReadyMessage | undefined)[] } {
  const journal = newJournal()
  const crashes: Crash[] = []
  const ready: (ReadyMessage | undefined)[] = []
  const code = supervise({
    args: (restarts, told) => {
      ready.push(told)
      return [childScript, mode, journal, String(restarts)]
    },
    env: process.env,
    onCrash: (crash) => crashes.push(crash),
    backoffMs: { first: 1, max: 4 },
    ...more,
  })
  return { code, crashes, journal, ready }
}

function startParent(mode: string): { pid: number; journal: string; ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }> } {
  const journal = newJournal()
  const parent = spawn(process.execPath, [parentScript, mode, journal], { stdio: 'ignore' })
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) =>
    parent.once('exit', (code, signal) => resolve({ code, signal })),
  )
  return { pid: parent.pid!, journal, ended }
}

function childPid(journal: string): number | undefined {
  const started = lines(journal).filter((line) => line.startsWith('start '))
  return lines(journal).includes('ready') ? Number(started.at(-1)?.split(' ')[1]) : undefined
}

for (const code of [0, 1, 2, 3, 4, 5, 6]) {
  test(`exit code ${code} is passed through and not a reason to start again`, async () => {
    const { code: got, crashes, journal } = run(`exit:${code}`)
    assert.equal(await got, code)
    assert.deepEqual(crashes, [])
    assert.equal(lines(journal).length, 1)
  })
}

test('a native abort again and again: waits that double up to their limit, then it gives up with the code of a bug', async () => {
  const { code, crashes, journal } = run('abort')
  assert.equal(await code, 70)
  assert.deepEqual(
    crashes.map(({ how, recent, restartInMs }) => [how, recent, restartInMs]),
    [
      ['SIGABRT', 1, 1],
      ['SIGABRT', 2, 2],
      ['SIGABRT', 3, 4],
      ['SIGABRT', 4, 4],
      ['SIGABRT', 5, undefined],
    ],
  )
  assert.equal(lines(journal).length, 5)
})

test('the exit code of a bug is a crash', async () => {
  const { code, crashes } = run('exit:70', { crashesMax: 2 })
  assert.equal(await code, 70)
  assert.deepEqual(
    crashes.map(({ how }) => how),
    ['exit code 70', 'exit code 70'],
  )
})

test('after one abort the server comes back on the ports that it had, and ends cleanly when told by SIGTERM itself', async () => {
  const { code, crashes, journal, ready } = run('abort-once')
  const pid = await until(() => childPid(journal), 'second start')
  process.kill(pid, 'SIGTERM')
  assert.equal(await code, 0)
  assert.equal(crashes.length, 1)
  assert.equal(ready[0], undefined)
  assert.deepEqual(ready[1], { kind: 'ready', httpPort: 4_711, mqttPort: 4_712 })
  assert.equal(lines(journal).at(-1), 'drained after SIGTERM')
})

test('kill -9 of the server: it is started again', async () => {
  const parent = startParent('serve')
  const first = await until(() => childPid(parent.journal), 'ready')
  process.kill(first, 'SIGKILL')
  await until(() => lines(parent.journal).filter((line) => line === 'ready').length === 2, 'ready again')
  const second = childPid(parent.journal)
  assert.notEqual(second, first)
  process.kill(parent.pid, 'SIGTERM')
  assert.deepEqual(await parent.ended, { code: 0, signal: null })
  assert.equal(lines(parent.journal).at(-1), 'drained after message')
})

test('kill -9 of the supervisor: the server notices, drains and ends', async () => {
  const parent = startParent('serve')
  await until(() => childPid(parent.journal), 'ready')
  process.kill(parent.pid, 'SIGKILL')
  await until(() => lines(parent.journal).includes('drained after disconnect'), 'drained')
})

test('one Ctrl-C told twice at once (terminal and npm) is one; a later second one ends it by force', async () => {
  const parent = startParent('stubborn')
  const pid = await until(() => childPid(parent.journal), 'ready')
  process.kill(parent.pid, 'SIGINT')
  process.kill(parent.pid, 'SIGINT')
  await until(() => lines(parent.journal).includes('ignored message'), 'told to stop')
  process.kill(pid, 0)
  await delay(80)
  process.kill(parent.pid, 'SIGINT')
  assert.deepEqual(await parent.ended, { code: 130, signal: null })
  await until(() => {
    try {
      process.kill(pid, 0)
      return false
    } catch {
      return true
    }
  }, 'the server is gone')
})
