import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { openEmbeddedLog } from '../../src/log/embedded/log.ts'
import { streamLogContract, type StreamLogUnderTest } from '../contract/stream-log.ts'

for (const threads of [true, false]) {
  streamLogContract(`embedded, ${threads ? 'in a thread of its own' : "in the caller's thread"}`, async (): Promise<StreamLogUnderTest> => {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-log-'))
    const env = nodeEnv(silentLogger)
    // Small segments, so that every test crosses from one to the next.
    const open = () => openEmbeddedLog({ dir, env, threads, segmentBytesMax: 8192, reserveBytes: 0 })
    let log = await open()
    return {
      log,
      reopen: async () => {
        await log.close()
        log = await open()
        return log
      },
      close: async () => {
        await log.close()
        fs.rmSync(dir, { recursive: true })
      },
    }
  })
}
