import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import type { RollupColumns, Tables } from '../../src/core/ports.ts'
import { Dedupe } from '../../src/compute/window/dedupe.ts'
import { Rollup } from '../../src/compute/window/rollup.ts'
import { openDuckdbStore } from '../../src/store/duckdb/store.ts'
import { batchOf, signal, spanOf } from '../support/store-batches.ts'
import { loopRows } from '../support/loop-rows.ts'

/**
 * Commits without end, and prints each offset once its commit was acknowledged. duckdb-kill.test.ts starts it, and kills it.
 * Small checkpoints and states in every commit, so that a kill meets all of it.
 */
const store = await openDuckdbStore({ dir: process.argv[2]!, env: nodeEnv(silentLogger), memoryLimitMb: 128, checkpointBytes: 100_000 })
const dedupe = new Dedupe()
const rollup = new Rollup()
const resumed = await store.resume('log-1', 'telemetry', 0)
for (const state of resumed?.states ?? []) (state.operator === 'dedupe' ? dedupe : rollup).restore(state.bytes)
for (let next = Number(resumed?.next ?? 0n); ; next++) {
  const tables = { readings: [] as Tables['readings'][number][], late: [] as Tables['late'][number][], rollups: [] as RollupColumns[] }
  dedupe.push(batchOf(loopRows(next)), (out) => {
    tables.readings.push(out.inOrder)
    tables.late.push(out.late)
    rollup.push(out.inOrder, (columns) => void tables.rollups.push(columns))
  })
  const at = BigInt(next + 1)
  const states = [
    { operator: 'dedupe', at, bytes: dedupe.snapshot() },
    { operator: 'rollup', at, bytes: rollup.snapshot() },
  ]
  await store.commit({ tables, span: spanOf(next, next + 1), states }, signal)
  process.stdout.write(`${next + 1}\n`)
}
