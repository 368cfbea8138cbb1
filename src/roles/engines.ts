import path from 'node:path'
import { enginesOf, hasAllRoles, type EnginesChosen } from '../core/config-engines.ts'
import type { Config, LogRetention } from '../core/config.ts'
import { logRetentionOf, retentionOf } from '../core/config.ts'
import { sessionLimitsOf } from '../core/config-sessions.ts'
import { ageUs } from '../core/duration.ts'
import { limits } from '../core/limits.ts'
import type { StreamLog } from '../core/ports.ts'
import { Topic } from '../core/record.ts'
import type { SessionStore } from '../core/session-store.ts'
import type { TokenMeta } from '../devices/tokens.ts'
import { openEmbeddedLog, type EmbeddedLog } from '../log/embedded/log.ts'
import { openSqliteMeta } from '../store/meta/sqlite.ts'
import { openSessionStore } from '../store/sessions/store.ts'
import type { Assembly } from './assembly.ts'
import { openForecasts, type KeptForecasts } from './forecasts-kept.ts'
import { publishGroups } from './kafka-publish.ts'
import type { ServedStore } from './served-store.ts'
import { sessionMetrics } from './session-metrics.ts'
import { openStoreThread, type StoreThread } from './store-thread.ts'
import { watchEngine } from './watch-engine.ts'

/** What keeps everything, behind the ports of `core`, as far as the roles of this process need it. */
export interface Engines {
  readonly chosen: EnginesChosen
  readonly log: StreamLog
  /** What the log keeps of what has been read. */
  readonly logKeeps: LogRetention
  /** Bytes of a topic on disk; of a log elsewhere as of some seconds ago. */
  readonly logBytes: (topic: string) => number
  readonly meta: TokenMeta
  /** Absent: this process neither fills the store nor reads it. */
  readonly store?: ServedStore
  /** Absent: this process answers no questions. */
  readonly forecasts?: KeptForecasts
  /** Absent: this process has no MQTT door. */
  readonly sessions?: SessionStore
  /** Other processes may write the same log and metadata. */
  readonly shared: boolean
  /** Where all of it lies in the data directory: what snapshots are made of. Absent: some of it is elsewhere. */
  readonly files?: {
    readonly log: EmbeddedLog
    readonly logDir: string
    readonly store: StoreThread
    readonly metaFile: string
    readonly forecastsFile?: string
  }
}

export function sealOf({ store }: Config): { readonly bytes: number; readonly afterMs: number } {
  return { bytes: store.seal_mb * 2 ** 20, afterMs: store.seal_minutes * 60_000 }
}

/** Which engines the banner names. */
export function engineNames(config: Config): string {
  const { log, store, meta } = enginesOf(config)
  const names = new Set<string>([log, store, meta].map(({ kind }) => (kind === 'local' ? 'embedded' : kind === 'kafka' ? 'Kafka' : 'PostgreSQL')))
  return hasAllRoles(config) ? [...names].join(' + ') : `${config.roles} on ${[...names].join(' + ')}`
}

/**
 * Opens log, store, metadata and MQTT sessions where the settings say, as far as the roles need them. Heavy drivers are loaded only then. Rejects with a
 * KymoError that says what is in the way; `unavailable` where trying again can help.
 */
export async function openEngines(a: Assembly): Promise<Engines> {
  const chosen = enginesOf(a.config)
  return chosen.log.kind === 'local' ? aroundOwnLog(a, chosen, chosen.log.path) : aroundSharedLog(a, chosen)
}

/** One process has an embedded log, so it has all roles. */
async function aroundOwnLog(a: Assembly, chosen: EnginesChosen, logDir: string): Promise<Engines> {
  const logKeeps = logRetentionOf(a.config)
  const log = await openLocalLog(a, logDir, {
    [Topic.telemetry]: { ...logKeeps, quotaBytes: a.config.log.quota_bytes },
    [Topic.deadLetters]: { retentionBytes: limits.deadLetterBytesMax, retentionAgeUs: limits.deadLetterAgeMaxUs },
  })
  // A group that publishes no longer would keep the log from ever dropping anything.
  for (const { topic, group, wanted } of publishGroups(a.config)) if (!wanted) log.dropGroup(topic, group)
  const opening = [openMeta(a, chosen), openStore(a, chosen, log), openSessions(a, log), openForecasts(a, chosen)] as const
  // What opens while another part fails says itself how it is closed: all are waited for.
  await Promise.allSettled(opening)
  const [meta, { thread, store }, sessions, forecasts] = await Promise.all(opening)
  const files =
    thread === undefined || chosen.meta.kind !== 'local'
      ? {}
      : { files: { log, logDir, store: thread, metaFile: chosen.meta.path, ...forecastsFile(chosen) } }
  return {
    chosen,
    log,
    logKeeps,
    logBytes: (topic) => log.bytes(topic),
    meta,
    store,
    sessions,
    shared: false,
    ...files,
    ...(forecasts === undefined ? {} : { forecasts }),
  }
}

/** Each role opens what it needs, and nothing that another process has to itself. */
async function aroundSharedLog(a: Assembly, chosen: EnginesChosen): Promise<Engines> {
  const kafka = await openKafka(a)
  const { store: engine } = chosen
  const reads = engine.kind === 'postgres' && (a.roles.has('store') || a.roles.has('api'))
  const opening = [
    openMeta(a, chosen),
    reads ? openOutside(a, engine.url, kafka.log) : Promise.resolve(undefined),
    openOwnSessions(a, chosen.dataDir),
    openForecasts(a, chosen),
  ] as const
  await Promise.allSettled(opening)
  const [meta, store, sessions, forecasts] = await Promise.all(opening)
  return {
    ...kafka,
    chosen,
    meta,
    shared: true,
    ...(store === undefined ? {} : { store }),
    ...(sessions === undefined ? {} : { sessions }),
    ...(forecasts === undefined ? {} : { forecasts }),
  }
}

/** Where snapshots find it. Absent: it is in a database. */
export function forecastsFile({ forecast }: EnginesChosen): { readonly forecastsFile?: string } {
  return forecast.kind === 'local' ? { forecastsFile: forecast.path } : {}
}

type LogTopics = NonNullable<Parameters<typeof openEmbeddedLog>[0]['topics']>

async function openLocalLog({ config, env, metrics, fail, closing }: Assembly, dir: string, topics: LogTopics): Promise<EmbeddedLog> {
  const { segment_bytes: segmentBytesMax, reserve_bytes: reserveBytes } = config.log
  const log = await openEmbeddedLog({ dir, env, threads: true, metrics, segmentBytesMax, reserveBytes, topics })
  closing(log, (one) => one.close())
  log.onFatal(fail)
  return log
}

async function openMeta({ env, health, closing }: Assembly, { meta }: EnginesChosen): Promise<TokenMeta> {
  if (meta.kind === 'local') return closing(await openSqliteMeta({ path: meta.path, env, thread: true }), (one) => one.close())
  const { openPostgresMeta } = await import('../store/meta/postgres.ts')
  const opened = closing(await openPostgresMeta({ url: meta.url, env }), (one) => one.close())
  closing(
    watchEngine('metadata', { env, health }, async () => void (await opened.outsideRevision())),
    (stop) => Promise.resolve(stop()),
  )
  return opened
}

/** Beside the embedded log: its store's thread, or a database that this process fills. */
async function openStore(
  a: Assembly,
  { store }: EnginesChosen,
  log: EmbeddedLog,
): Promise<{ readonly store: ServedStore; readonly thread?: StoreThread }> {
  if (store.kind === 'postgres') return { store: await openOutside(a, store.url, log) }
  const { config, env, metrics, fail: onFatal, closing } = a
  const opening = openStoreThread({
    dir: store.path,
    log: log.handle(),
    env,
    metrics,
    memoryLimitMb: config.store.memory_mb,
    commitMessages: config.store.commit_messages,
    seal: sealOf(config),
    reserveBytes: config.log.reserve_bytes,
    retention: retentionOf(config),
    onFatal,
  })
  const thread = closing(await opening, (one) => one.close())
  return { store: thread, thread }
}

async function openOutside(
  { config, env, metrics, health, roles, fail: onFatal, closing }: Assembly,
  url: string,
  log: StreamLog,
): Promise<ServedStore> {
  const [{ openPostgresStore }, { serveOutsideStore }] = await Promise.all([import('../store/postgres/store.ts'), import('./store-outside.ts')])
  const retention = retentionOf(config)
  // Which devices labels mean is known to the api role, which tells it later: until then a rule behind them must not take what is theirs.
  const labelled = retention.rules?.some(({ labels }) => labels !== undefined) === true
  const store = await openPostgresStore({ url, env, ...(labelled ? {} : { retention }) })
  const filling = roles.has('store') ? { log } : {}
  return closing(
    serveOutsideStore({
      store,
      env,
      metrics,
      health,
      commitMessages: config.store.commit_messages,
      retries: config.store.max_retries,
      onFatal,
      ...filling,
    }),
    (one) => one.close(),
  )
}

async function openSessions({ config, env, metrics, closing }: Assembly, log: EmbeddedLog): Promise<SessionStore> {
  const sessions = closing(await openSessionStore({ log, env, ...sessionLimitsOf(config.mqtt) }), (one) => one.close())
  sessionMetrics(metrics, sessions)
  return sessions
}

/** Beside a log that many processes share: what outlives MQTT connections is this process's own (ADR 22). */
async function openOwnSessions(a: Assembly, dataDir: string): Promise<SessionStore | undefined> {
  if (!a.roles.has('ingest')) return undefined
  return openSessions(a, await openLocalLog(a, path.join(dataDir, 'log'), {}))
}

async function openKafka({ config, env, metrics, roles, health, closing }: Assembly): Promise<Pick<Engines, 'log' | 'logKeeps' | 'logBytes'>> {
  const [{ openKafkaLog }, { kafkaLogOptions }] = await Promise.all([import('../log/kafka/log.ts'), import('../log/kafka/configured.ts')])
  const log = openKafkaLog(kafkaLogOptions(env, config, config.log.url))
  closing(log, (one) => one.close())
  const bytes = new Map<string, number>()
  const groups = [...(roles.has('store') ? ['store'] : []), ...(roles.has('api') ? ['registry'] : [])]
  const lags = groups.map((group) => ({
    group,
    cell: metrics.gauge('kymo_queue_lag_seconds', 'How long the oldest record that a consumer of the log has not read waits.', { group }),
  }))
  const measure = async (): Promise<void> => {
    for (const topic of [Topic.telemetry, Topic.deadLetters]) bytes.set(topic, (await log.places(topic)).bytes)
    for (const { group, cell } of lags) {
      const waits = (await log.lag(Topic.telemetry, group)).map(({ oldestUs }) => (oldestUs === undefined ? 0 : env.clock.nowUs() - oldestUs))
      cell.value = Math.max(0, ...waits) / 1e6
    }
  }
  // Also the first word with the cluster: what is wrong with the address is told before doors open.
  await measure()
  closing(watchEngine('log', { env, health }, measure), (stop) => Promise.resolve(stop()))
  const retentionAgeUs = ageUs(config.kafka.retention)
  const logKeeps = { retentionBytes: Number.POSITIVE_INFINITY, ...(retentionAgeUs === undefined ? {} : { retentionAgeUs }) }
  return { log, logKeeps, logBytes: (topic) => bytes.get(topic) ?? 0 }
}
