import process from 'node:process'
import { test } from 'node:test'
import { SimRandom } from '../sim/random.ts'
import { fuzzCases } from '../support/effort.ts'
import { corpusSessions, FuzzedBroker, mutated } from './fuzz-sessions.ts'

const seed = Number(process.env['KYMO_TEST_FIRST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const corpus = corpusSessions()
/** So many sessions, then everybody leaves. */
const perRest = 200

test('the sessions of the corpus, as they are, leave nothing behind', async () => {
  const broker = await FuzzedBroker.create()
  for (let n = 0; n < 20; n++) {
    const random = new SimRandom(n)
    for (const { packets } of corpus) await broker.session(packets, random)
    await broker.rest(random)
  }
})

// KYMO_TEST_FUZZ=5000000 are a million sessions.
test('sessions whose packets are changed, cut, repeated, moved and mixed: no crash, no hang, nothing left', { timeout: 24 * 3600_000 }, async (t) => {
  t.diagnostic(`seed ${seed} (KYMO_TEST_FIRST_SEED)`)
  const broker = await FuzzedBroker.create()
  let random = new SimRandom(seed)
  for (const n of fuzzCases(4000)) {
    if (n % perRest === 0 && n > 0) {
      await broker.rest(random)
      // Each run of so many can be done again by itself.
      random = new SimRandom(seed + n)
    }
    try {
      await broker.session(mutated(corpus, random), random)
    } catch (thrown) {
      throw new Error(`in the ${perRest} sessions of KYMO_TEST_FIRST_SEED=${seed + n - (n % perRest)}`, { cause: thrown })
    }
  }
  await broker.rest(random)
  t.diagnostic(`the longest step took ${broker.longestMs.toFixed(1)} ms of CPU`)
})
