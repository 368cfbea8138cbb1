import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import type { Store } from '../../src/core/ports.ts'
import { openDuckdbStore } from '../../src/store/duckdb/store.ts'
import { storeContract } from '../contract/store.ts'

const dirs = new WeakMap<Store, string>()

async function open(dir: string): Promise<Store> {
  const store = await openDuckdbStore({ dir, env: nodeEnv(silentLogger), memoryLimitMb: 128 })
  dirs.set(store, dir)
  return store
}

storeContract('The DuckDB store', {
  open: () => open(fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-store-'))),
  async reopen(store) {
    await store.close()
    return open(dirs.get(store)!)
  },
  async remove(store) {
    await store.close()
    fs.rmSync(dirs.get(store)!, { recursive: true, force: true })
  },
})
