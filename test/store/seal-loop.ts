import type { RollupColumns, Tables } from '../../src/core/ports.ts'
import { Dedupe } from '../../src/compute/window/dedupe.ts'
import { Rollup } from '../../src/compute/window/rollup.ts'
import { openDuckdbStore } from '../../src/store/duckdb/store.ts'
import { envAt } from '../support/kept-store.ts'
import { batchOf, signal, spanOf } from '../support/store-batches.ts'
import { sealRows, sealTimeUs } from '../support/loop-rows.ts'

/**
 * Commits without end, months in a few seconds, and seals and merges beside it; prints each offset once its commit was acknowledged, and `sealed` after
 * each round of sealing. duckdb-seal-kill.test.ts starts it, and kills it.
 */
let next = 0
const env = envAt(() => sealTimeUs(next))
const store = await openDuckdbStore({ dir: process.argv[2]!, env, memoryLimitMb: 128, checkpointBytes: 100_000, sealBytes: 300_000 })
const dedupe = new Dedupe()
const rollup = new Rollup()
const resumed = await store.resume('log-1', 'telemetry', 0)
for (const state of resumed?.states ?? []) (state.operator === 'dedupe' ? dedupe : rollup).restore(state.bytes)
next = Number(resumed?.next ?? 0n)

void (async () => {
  for (;;) {
    await store.seal()
    process.stdout.write('sealed\n')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
})()

for (;;) {
  const tables = { readings: [] as Tables['readings'][number][], late: [] as Tables['late'][number][], rollups: [] as RollupColumns[] }
  rollup.tick(sealTimeUs(next), (columns) => void tables.rollups.push(columns))
  dedupe.push(batchOf(sealRows(next)), (out) => {
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
  next++
  process.stdout.write(`${next}\n`)
  await new Promise((resolve) => setTimeout(resolve, 25))
}
