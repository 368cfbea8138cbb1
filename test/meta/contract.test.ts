import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { metaStoreContract } from '../contract/meta-store.ts'

for (const [name, file] of [
  ['SQLite in its thread', './sqlite-thread.ts'],
  ['SQLite in the caller’s thread', './sqlite-in-thread.ts'],
] as const) {
  metaStoreContract({
    name,
    module: new URL(file, import.meta.url),
    async create() {
      const dir = await mkdtemp(join(tmpdir(), 'kymo-meta-'))
      return { location: join(dir, 'meta.sqlite'), remove: () => rm(dir, { recursive: true, force: true }) }
    },
  })
}
