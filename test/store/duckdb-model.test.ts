import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import type { Store } from '../../src/core/ports.ts'
import { openDuckdbStore, type DuckdbStore } from '../../src/store/duckdb/store.ts'
import { modelRuns } from '../support/effort.ts'
import { Pair, steps, type PairSubject } from '../support/store-pair.ts'

/** `dense`: readings that make a minute worth keeping; the generator makes few, so that keeping begins and ends often. `sketched`: quantiles of any range are made of sketches. */
function subject(dense: number, sketched: boolean): PairSubject {
  const root = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-pair-'))
  let dir = path.join(root, 'store-0')
  let lives = 0
  let store: DuckdbStore
  const open = async (): Promise<Store> => {
    store = await openDuckdbStore({
      dir,
      env: nodeEnv(silentLogger),
      memoryLimitMb: 128,
      checkpointBytes: 20_000,
      sealBytes: 0,
      ...(sketched ? { sketchedFromUs: 1 } : {}),
      keepMinutes: { dense, sparse: 1, minutes: 2 },
    })
    return store
  }
  return {
    open,
    again: async (_, how) => {
      // As kill -9 leaves them: the files as they are between two commits.
      const copy = path.join(root, `store-${++lives}`)
      if (how === 'crash') fs.cpSync(dir, copy, { recursive: true, filter: (file) => !file.endsWith('LOCK') })
      await store.close()
      if (how === 'crash') dir = copy
      return open()
    },
    seal: () => store.seal(),
    remove: async () => {
      await store.close()
      fs.rmSync(root, { recursive: true, force: true })
    },
  }
}

test('whatever is committed and asked, the DuckDB store answers as the model does', async () => {
  await fc.assert(
    fc.asyncProperty(steps, fc.integer({ min: 1, max: 3 }), fc.boolean(), async (list, dense, sketched) => {
      const pair = await Pair.open(subject(dense, sketched))
      await pair.run(list)
    }),
    modelRuns(8),
  )
})
