import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import readline from 'node:readline'
import { test } from 'node:test'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { openDuckdbStore } from '../../src/store/duckdb/store.ts'
import { killCount } from '../support/effort.ts'
import { answer } from '../support/store-batches.ts'
import { loopIdentities } from '../support/loop-rows.ts'
import { killsInFolders } from '../support/kills.ts'

const kills = killCount(4)

test(
  'a process that is killed while it commits leaves each acknowledged reading behind exactly once',
  { timeout: 60_000 + kills * 30_000 },
  async () => {
    await killsInFolders({ kills, perFolder: 10, name: 'kymo-kill-' }, async ({ dir, folder, inFolder }) => {
      // A few commits more in each folder, so that no two lives are as long.
      const acknowledged = await killAfter(dir, 3 + 11 * inFolder + (folder % 11))
      const store = await openDuckdbStore({ dir, env: nodeEnv(silentLogger), memoryLimitMb: 128 })
      try {
        const resumed = await store.resume('log-1', 'telemetry', 0)
        const next = Number(resumed?.next)
        assert.ok(next >= acknowledged, `${acknowledged} was acknowledged, and the store is at ${next}`)
        assert.deepEqual(
          resumed?.states.map((state) => Number(state.at)),
          [next, next],
        )
        const rows = await answer(store, { limit: 10_000_000 })
        assert.equal(rows.length, loopIdentities(next))
        assert.equal(new Set(rows.map((row) => `${row.device} ${row.timeUs}`)).size, rows.length)
        const hours = await answer(store, { stepUs: 3600e6, aggregations: ['count', 'sum'] })
        const total = (name: string): number => hours.reduce((sum, row) => sum + Number(row[name]), 0)
        assert.equal(total('count'), rows.length)
        assert.equal(
          total('sum'),
          rows.reduce((sum, row) => sum + Number(row['value']), 0),
        )
      } finally {
        await store.close()
      }
    })
  },
)

/** Runs the loop until it has acknowledged so many commits, kills it, and returns the last offset it acknowledged. */
async function killAfter(dir: string, commits: number): Promise<number> {
  const child = spawn(process.execPath, [path.join(import.meta.dirname, 'commit-loop.ts'), dir], { stdio: ['ignore', 'pipe', 'inherit'] })
  const gone = once(child, 'exit')
  let last = 0
  let seen = 0
  for await (const line of readline.createInterface({ input: child.stdout })) {
    last = Number(line)
    if (++seen === commits) child.kill('SIGKILL')
  }
  const [, how] = (await gone) as [number | null, string | null]
  assert.equal(how, 'SIGKILL')
  return last
}
