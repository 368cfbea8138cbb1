import type { Env, Timer } from '../core/env.ts'
import { KymoError } from '../core/errors.ts'
import type { Metrics } from '../core/metrics.ts'
import { Topic } from '../core/record.ts'
import type { SystemStatus } from '../core/services.ts'

export interface StorageOptions {
  readonly log: { bytes(topic: string): number }
  readonly store: { stats(): { readonly bytes: number; readonly rawFromUs: number } }
  /** Is told before which time readings are too old. */
  readonly decoder: { oldestUs: number }
  readonly env: Env
  readonly metrics: Metrics
  /** How long readings are kept; Infinity: for ever. It and the quota may change: they are asked each time. */
  readonly rawUs: number
  /** Of log and store together; 0: none. */
  readonly quotaBytes: number
}

export interface Storage {
  use(): SystemStatus['storage']
  /** `storage_quota` while there is more on disk than may be; for the ingest role. */
  readonly held: () => KymoError | undefined
  close(): Promise<void>
}

/** How often the bound of what is too old moves on. */
const everyMs = 1000
const topics = [Topic.telemetry, Topic.deadLetters]

/**
 * Watches how much the log and the store have on disk, and how old a reading may be. At the quota acknowledgements wait, as they do on a full
 * disk; the store goes on reading the log, and retention goes on removing, so what is held is let go when there is room.
 */
export function watchStorage(o: StorageOptions): Storage {
  const { log, store, env, metrics } = o
  const use = (): SystemStatus['storage'] => ({
    log_bytes: topics.reduce((sum, topic) => sum + log.bytes(topic), 0),
    store_bytes: store.stats().bytes,
    ...(o.quotaBytes === 0 ? {} : { quota_bytes: o.quotaBytes }),
  })
  const sum = (): number => {
    const { log_bytes, store_bytes } = use()
    return log_bytes + store_bytes
  }
  const used = metrics.gauge('kymo_storage_used_bytes', 'Bytes of log and store on disk', {}, () => void (used.value = sum()))
  const quotaHelp = 'Bytes that log and store may have together (storage.quota_mb); 0: no limit'
  const quota = metrics.gauge('kymo_storage_quota_bytes', quotaHelp, {}, () => void (quota.value = o.quotaBytes))
  let timer: Timer
  const judge = (): void => {
    o.decoder.oldestUs = Math.max(env.clock.nowUs() - o.rawUs, store.stats().rawFromUs)
    timer = env.clock.after(everyMs, judge)
  }
  judge()
  return {
    use,
    held: () => {
      const { quotaBytes } = o
      const bytes = quotaBytes === 0 ? 0 : sum()
      if (bytes <= quotaBytes) return undefined
      return new KymoError('storage_quota', {
        detail: `Log and store have ${bytes} bytes, storage.quota_mb allows ${quotaBytes}. Raise it, or let data go sooner with retention.`,
        retryAfterS: 10,
        facts: { bytes, quotaBytes },
      })
    },
    close: () => Promise.resolve(timer.cancel()),
  }
}
