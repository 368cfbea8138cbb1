import assert from 'node:assert/strict'
import { test } from 'node:test'
import { World, type Outcome } from './world.ts'
import { seedCount } from '../support/effort.ts'

const seeds = seedCount(500)
const first = Number(process.env['KYMO_TEST_FIRST_SEED'] ?? 1)

test(`acknowledged is queryable exactly once, whatever fails: ${seeds} seeds from ${first}`, async () => {
  const total: Outcome = { kills: 0, diskFaults: 0, storeFaults: 0, acknowledged: 0, redelivered: 0, deadLetters: 0 }
  for (let seed = first; seed < first + seeds; seed++) {
    try {
      const outcome = await new World(seed).run(100)
      for (const key of Object.keys(total) as (keyof Outcome)[]) total[key] += outcome[key]
    } catch (thrown) {
      throw new Error(`seed ${seed} fails; run it alone with KYMO_TEST_FIRST_SEED=${seed} KYMO_TEST_SEEDS=1`, { cause: thrown })
    }
  }
  console.log(`  simulated: ${JSON.stringify(total)}`)
  // One seed that is run alone need not meet them all.
  if (seeds < 100) return
  for (const [fault, count] of Object.entries(total)) assert.ok(count > 0, `the simulation never saw ${fault}`)
})
