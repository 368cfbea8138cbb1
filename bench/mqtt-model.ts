/**
 * The broker beside the model of MQTT sessions (test/mqtt/model-reference.ts) for a million steps of random scripts, which is about a minute and a half:
 * `node bench/mqtt-model.ts [steps] [seed]`. A difference ends it, with a script that was made as short as it could be.
 */
import process from 'node:process'
import fc from 'fast-check'
import { script } from '../test/mqtt/model-ops.ts'
import { ModelRun } from '../test/mqtt/model-run.ts'

const steps = Number(process.argv[2] ?? 1_000_000)
const firstSeed = Number(process.argv[3] ?? Math.floor(Math.random() * 2 ** 31))
const perRound = 1_000

let done = 0
let scripts = 0
const began = performance.now()
process.stdout.write(`seed ${firstSeed}\n`)
for (let round = 0; done < steps; round++) {
  const property = fc.asyncProperty(script, fc.constantFrom(1e9, 1e9, 2000), async (ops, rewriteBytes) => {
    await ModelRun.run(ops, rewriteBytes)
    done += ops.length
    scripts++
  })
  await fc.assert(property, { seed: firstSeed + round, numRuns: perRound })
}
const seconds = (performance.now() - began) / 1000
process.stdout.write(`${done} steps in ${scripts} scripts, no difference; ${Math.round(done / seconds)} steps a second\n`)
