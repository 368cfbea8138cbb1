import type { Config, Retention } from '../core/config.ts'
import { logRetentionOf, places } from '../core/config.ts'
import { sessionLimitsOf } from '../core/config-sessions.ts'
import type { Env } from '../core/env.ts'
import type { KymoError } from '../core/errors.ts'
import { limits } from '../core/limits.ts'
import type { Metrics } from '../core/metrics.ts'
import type { MetaStore } from '../core/ports.ts'
import { Topic } from '../core/record.ts'
import type { SessionStore } from '../core/session-store.ts'
import { openEmbeddedLog, type EmbeddedLog } from '../log/embedded/log.ts'
import { openSqliteMeta } from '../store/meta/sqlite.ts'
import { openSessionStore } from '../store/sessions/store.ts'
import { sessionMetrics } from './session-metrics.ts'
import type { Stack } from './stack.ts'
import { openStoreThread, type StoreThread, type StoreThreadOptions } from './store-thread.ts'

export interface EnginesOptions extends Required<Pick<StoreThreadOptions, 'seal'>> {
  readonly config: Config
  readonly env: Env
  readonly metrics: Metrics
  readonly retention: Retention
  /** What is opened is closed by it. */
  readonly stack: Stack
  readonly onFatal: (error: KymoError) => void
}

/** What keeps everything, behind the ports of `core`. */
export interface Engines {
  readonly log: EmbeddedLog
  readonly store: StoreThread
  readonly meta: MetaStore
  readonly sessions: SessionStore
}

/** Opens log, store, metadata and MQTT sessions of the data directory. Rejects with a KymoError that says what is in the way. */
export async function openEngines({ config, env, metrics, retention, seal, stack, onFatal }: EnginesOptions): Promise<Engines> {
  const where = places(config)
  const log = await openEmbeddedLog({
    dir: where.logDir,
    env,
    threads: true,
    metrics,
    segmentBytesMax: config.log.segment_bytes,
    reserveBytes: config.log.reserve_bytes,
    topics: {
      [Topic.telemetry]: { ...logRetentionOf(config), quotaBytes: config.log.quota_bytes },
      [Topic.deadLetters]: { retentionBytes: limits.deadLetterBytesMax, retentionAgeUs: limits.deadLetterAgeMaxUs },
    },
  })
  stack.push(() => log.close())
  log.onFatal(onFatal)
  const openings = [
    openStoreThread({
      dir: where.storeDir,
      log: log.handle(),
      env,
      metrics,
      memoryLimitMb: config.store.memory_mb,
      commitMessages: config.store.commit_messages,
      seal,
      reserveBytes: config.log.reserve_bytes,
      retention,
      onFatal,
    }),
    openSqliteMeta({ path: where.metaFile, env, thread: true }),
    openSessionStore({ log, env, ...sessionLimitsOf(config.mqtt) }),
  ] as const
  // One that does not open must not leave the others open behind it.
  for (const opened of await Promise.allSettled(openings)) if (opened.status === 'fulfilled') stack.push(() => opened.value.close())
  const [store, meta, sessions] = await Promise.all(openings)
  sessionMetrics(metrics, sessions)
  return { log, store, meta, sessions }
}
