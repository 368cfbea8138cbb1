import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import type { MetaStore } from '../../src/core/ports.ts'
import { openPostgresMeta } from '../../src/store/meta/postgres.ts'

export function open(location: string): Promise<MetaStore> {
  return openPostgresMeta({ url: location, env: nodeEnv(silentLogger) })
}
