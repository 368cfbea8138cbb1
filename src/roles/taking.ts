import { retentionOf } from '../core/config.ts'
import { PayloadDecoder } from '../wire/payload/decoder.ts'
import type { Assembly } from './assembly.ts'
import type { Engines } from './engines.ts'
import { Ingest } from './ingest.ts'
import { watchStorage, type Storage } from './storage.ts'

/** What a process takes readings with: decoding and group commit, and the bounds of what is kept. */
export interface Taking {
  readonly decoder: PayloadDecoder
  readonly storage: Storage
  readonly ingest: Ingest
}

/** Nothing is to be offered to it before `ingest.rebuildOrigins`, and until the registry decides on unknown devices. */
export function openTaking(a: Assembly, { log, logBytes, store }: Engines): Taking {
  const { config, env, metrics, series } = a
  const decoder = new PayloadDecoder({ series, aliases: config.payload.aliases })
  const storage = watchStorage({
    log: { bytes: logBytes },
    store: store ?? { stats: () => ({ bytes: 0, rawFromUs: 0 }) },
    decoder,
    env,
    metrics,
    get rawUs() {
      return retentionOf(a.now).rawUs
    },
    get quotaBytes() {
      return a.now.storage.quota_mb * 1e6
    },
  })
  a.closing(storage, (one) => one.close())
  const lineDeviceTags = config.payload.line_device_tags.split(',').map((tag) => tag.trim())
  return { decoder, storage, ingest: new Ingest({ log, series, decoder, lineDeviceTags, env, metrics, onFatal: a.fail, held: storage.held }) }
}
