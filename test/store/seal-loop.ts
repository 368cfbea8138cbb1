import { openDuckdbStore } from '../../src/store/duckdb/store.ts'
import { envAt } from '../support/kept-store.ts'
import { sealRows, sealTimeUs } from '../support/loop-rows.ts'
import { signal, spanOf } from '../support/store-batches.ts'
import { StoreHead } from '../support/store-head.ts'

/**
 * Commits without end, months in a few seconds, and seals and merges beside it; prints each offset once its commit was acknowledged, and `sealed` after
 * each round of sealing. duckdb-seal-kill.test.ts starts it, and kills it.
 */
let next = 0
const env = envAt(() => sealTimeUs(next))
const store = await openDuckdbStore({ dir: process.argv[2]!, env, memoryLimitMb: 128, checkpointBytes: 100_000, sealBytes: 300_000 })
const head = new StoreHead()
const resumed = await store.resume('log-1', 'telemetry', 0)
if (resumed !== undefined) head.restore(resumed.states)
next = Number(resumed?.next ?? 0n)

void (async () => {
  for (;;) {
    await store.seal()
    process.stdout.write('sealed\n')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
})()

for (;;) {
  const tables = head.push(sealRows(next), sealTimeUs(next))
  await store.commit({ tables, span: spanOf(next, next + 1), states: head.states(BigInt(next + 1)) }, signal)
  next++
  process.stdout.write(`${next}\n`)
  await new Promise((resolve) => setTimeout(resolve, 25))
}
