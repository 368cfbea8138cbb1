import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import process from 'node:process'
import readline from 'node:readline'
import { test } from 'node:test'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { openEmbeddedLog } from '../../src/log/embedded/log.ts'
import { openSessionStore } from '../../src/store/sessions/store.ts'
import { attach, retainedOf, textOf } from '../contract/session-store.ts'
import { killCount } from '../support/effort.ts'
import { killsInFolders } from '../support/kills.ts'

const kills = killCount(10)

test('sessions of a process that is killed hold all that was acknowledged, each once', { timeout: 60_000 + kills * 10_000 }, async () => {
  let next = 0
  await killsInFolders({ kills, perFolder: 10, name: 'kymo-sessions-kill-' }, async ({ dir, folder, inFolder }) => {
    if (inFolder === 0) next = 0
    const acknowledged = await killAfter(dir, next, 40 + 29 * inFolder + (folder % 11))
    const env = nodeEnv(silentLogger)
    const log = await openEmbeddedLog({ dir, env, threads: true, segmentBytesMax: 65_536 })
    try {
      const store = await openSessionStore({ log, env })
      const all = await attach(store, 'all')
      const numbers = async (client: string): Promise<number[]> =>
        (client === 'all' ? all : await attach(store, client)).take(1_000_000).map(({ message }) => Number(textOf(message).split(' ')[0]))
      const found = await numbers('all')
      next = found.length
      assert.deepEqual(
        found,
        Array.from({ length: next }, (_, i) => i),
        'in order, each once, none missing',
      )
      assert.ok(next > acknowledged, `${acknowledged} was acknowledged, and there are ${next}`)
      assert.deepEqual(
        await numbers('even'),
        found.filter((n) => n % 2 === 0),
      )
      assert.deepEqual(
        await numbers('odd'),
        found.filter((n) => n % 2 === 1),
      )
      // A publish and the packet id that it came with are there together; the release of the one before followed in the same turn.
      assert.ok(all.inbound.includes(1 + ((next - 1) % 60_000)))
      assert.ok(all.inbound.length <= 2)
      const retained = await retainedOf(store, 't/#')
      assert.deepEqual(
        retained.map((text) => Number(/=(\d+) /.exec(text)![1])).toSorted((a, b) => a - b),
        found.slice(-10),
      )
      await store.close()
    } finally {
      await log.close()
    }
  })
})

/** Runs the loop until it has acknowledged so many, kills it, and returns the last number it acknowledged. */
async function killAfter(dir: string, first: number, count: number): Promise<number> {
  const child = spawn(process.execPath, [path.join(import.meta.dirname, 'session-loop.ts'), dir, String(first)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const gone = once(child, 'exit')
  let last = -1
  let seen = 0
  for await (const line of readline.createInterface({ input: child.stdout })) {
    last = Number(line)
    if (++seen === count) child.kill('SIGKILL')
  }
  const [, how] = (await gone) as [number | null, string | null]
  assert.equal(how, 'SIGKILL')
  return last
}
