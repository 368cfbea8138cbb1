import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { openDuckdbStore } from '../../src/store/duckdb/store.ts'
import { loopRows } from '../support/loop-rows.ts'
import { signal, spanOf } from '../support/store-batches.ts'
import { StoreHead } from '../support/store-head.ts'

/**
 * Commits without end, and prints each offset once its commit was acknowledged. duckdb-kill.test.ts starts it, and kills it.
 * Small checkpoints and states in every commit, so that a kill meets all of it.
 */
const store = await openDuckdbStore({ dir: process.argv[2]!, env: nodeEnv(silentLogger), memoryLimitMb: 128, checkpointBytes: 100_000 })
const head = new StoreHead()
const resumed = await store.resume('log-1', 'telemetry', 0)
if (resumed !== undefined) head.restore(resumed.states)
for (let next = Number(resumed?.next ?? 0n); ; next++) {
  const tables = head.push(loopRows(next))
  await store.commit({ tables, span: spanOf(next, next + 1), states: head.states(BigInt(next + 1)) }, signal)
  process.stdout.write(`${next + 1}\n`)
}
