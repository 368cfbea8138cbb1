import { test } from 'node:test'
import fc from 'fast-check'
import { fuzzRuns } from '../support/effort.ts'
import { script } from './model-ops.ts'
import { ModelRun } from './model-run.ts'

// bench/mqtt-model.ts runs a million steps of the same.
test('whatever clients do, they get what a simple model of MQTT sessions says: no more, no less, in its order', async () => {
  await fc.assert(
    fc.asyncProperty(script, fc.constantFrom(1e9, 1e9, 2000), (ops, rewriteBytes) => ModelRun.run(ops, rewriteBytes)),
    fuzzRuns(300),
  )
})

test('the same where a message reaches one subscriber in each turn of the event loop', async () => {
  await fc.assert(
    fc.asyncProperty(script, (ops) => ModelRun.run(ops, 1e9, { fanoutPerTurn: 1 })),
    fuzzRuns(150),
  )
})
