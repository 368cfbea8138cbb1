import type { Retention } from '../core/config.ts'
import { ageText } from '../core/duration.ts'
import { asKymoError, type KymoError } from '../core/errors.ts'
import type { StreamLog } from '../core/ports.ts'
import { Topic } from '../core/record.ts'
import type { SeriesTable } from '../core/series-table.ts'
import type { RetentionAges, RetentionStatus, SystemStatus } from '../core/services.ts'
import type { EngineHealth } from './engine-health.ts'
import type { Ingest } from './ingest.ts'
import type { StoreStats } from '../store/duckdb/options.ts'

export interface StatusSources {
  readonly version: string
  readonly startedUs: number
  readonly dataDir: string
  readonly storage: SystemStatus['storage']
  readonly retention: SystemStatus['retention']
  readonly draining: boolean
  readonly fatal: KymoError | undefined
  /** Absent: this process takes nothing. */
  readonly ingest?: Ingest
  readonly health: EngineHealth
  readonly log: StreamLog
  readonly groups: readonly string[]
  readonly series: SeriesTable
  readonly devices: number
  readonly devicesActive: number
  readonly deadLettersWaiting: number
  readonly mqttConnections: number
  /** Of the doors that speak TLS. */
  readonly certificates?: SystemStatus['components']
  /** How forecasts come along. */
  readonly forecasting?: SystemStatus['components']
  /** How the connections to outside brokers are. */
  readonly pulls?: SystemStatus['components']
}

/** One look at everything, for `/readyz?verbose`, `/api/v1/status` and `kymo status`. */
export async function systemStatus(s: StatusSources): Promise<SystemStatus> {
  const { lag, failed } = await lagOf(s)
  const stalled = s.ingest?.stalled ?? failed
  const components: SystemStatus['components'] = [
    { name: 'log', ok: s.fatal === undefined && stalled === undefined, ...(stalled === undefined ? {} : { detail: stalled.message }) },
    { name: 'process', ok: s.fatal === undefined, ...(s.fatal === undefined ? {} : { detail: s.fatal.message }) },
    ...(s.ingest === undefined
      ? []
      : [{ name: 'ingest', ok: !s.ingest.overloaded, ...(s.ingest.overloaded ? { detail: 'takes nothing at the moment' } : {}) }]),
    ...s.health.components().filter(({ name }) => name !== 'log' || stalled === undefined),
    ...(s.pulls ?? []),
    ...(s.forecasting ?? []),
    ...(s.certificates ?? []),
  ]
  return {
    version: s.version,
    started_us: s.startedUs,
    ready: !s.draining && components.every((c) => c.ok || c.optional === true),
    draining: s.draining,
    components,
    lag,
    messages_total: s.ingest?.metrics.messagesTotal ?? 0,
    readings_total: s.ingest?.metrics.readings.value ?? 0,
    rejected_total: s.ingest?.metrics.rejectedTotal ?? 0,
    devices: s.devices,
    devices_active: s.devicesActive,
    dead_letters_waiting: s.deadLettersWaiting,
    series: s.series.keys.length,
    mqtt_connections: s.mqttConnections,
    data_dir: s.dataDir,
    storage: s.storage,
    retention: s.retention,
    pid: process.pid,
  }
}

/** How far each group is; a log that does not answer keeps nobody from telling the rest. */
async function lagOf({ log, groups }: StatusSources): Promise<{ readonly lag: SystemStatus['lag']; readonly failed?: KymoError }> {
  try {
    const lags = groups.map(async (group) => (await log.lag(Topic.telemetry, group)).map((partition) => ({ ...partition, group })))
    return { lag: (await Promise.all(lags)).flat() }
  } catch (thrown) {
    return { lag: [], failed: asKymoError(thrown) }
  }
}

/** The settings, with what the store says of their effect. */
export function retentionStatus(retention: Retention, { rawFromUs, expiredBytes, rules }: StoreStats): RetentionStatus {
  const known = retention.rules ?? []
  return {
    ...agesOf(retention),
    ...(Number.isFinite(retention.storeBytes) ? { store_bytes_max: retention.storeBytes } : {}),
    ...(rawFromUs > 0 ? { raw_from_us: rawFromUs } : {}),
    removed_bytes: expiredBytes,
    due_files: rules.dueFiles,
    rules: known.map(({ labels, metrics, ...ages }, i) => ({
      ...(labels === undefined ? {} : { labels }),
      ...(metrics === undefined ? {} : { metrics }),
      ...agesOf(ages),
      // Of other rules than these, which the store has not taken over yet, nothing is said.
      ...(rules.series.length === known.length ? { series: rules.series[i]! } : {}),
    })),
  }
}

function agesOf(of: Partial<Pick<Retention, 'rawUs' | 'minutesUs' | 'hoursUs'>>): RetentionAges {
  const text = (name: keyof RetentionAges, us = Number.POSITIVE_INFINITY): RetentionAges => (Number.isFinite(us) ? { [name]: ageText(us) } : {})
  return { ...text('raw', of.rawUs), ...text('minutes', of.minutesUs), ...text('hours', of.hoursUs) }
}
