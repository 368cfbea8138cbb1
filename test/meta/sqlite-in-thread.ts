import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import type { MetaStore } from '../../src/core/ports.ts'
import { openSqliteMeta } from '../../src/store/meta/sqlite.ts'

export function open(location: string): Promise<MetaStore> {
  return openSqliteMeta({ path: location, env: nodeEnv(silentLogger), thread: false })
}
