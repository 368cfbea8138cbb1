import type { KymoError } from '../core/errors.ts'
import type { StreamLog } from '../core/ports.ts'
import { Topic } from '../core/record.ts'
import type { SeriesTable } from '../core/series-table.ts'
import type { SystemStatus } from '../core/services.ts'
import type { Ingest } from './ingest.ts'

export interface StatusSources {
  readonly version: string
  readonly startedUs: number
  readonly dataDir: string
  readonly storage: SystemStatus['storage']
  readonly draining: boolean
  readonly fatal: KymoError | undefined
  readonly ingest: Ingest
  readonly log: StreamLog
  readonly groups: readonly string[]
  readonly series: SeriesTable
  readonly devices: number
  readonly mqttConnections: number
}

/** One look at everything, for `/readyz?verbose`, `/api/v1/status` and `kymo status`. */
export async function systemStatus(s: StatusSources): Promise<SystemStatus> {
  const lag = (
    await Promise.all(s.groups.map(async (group) => (await s.log.lag(Topic.telemetry, group)).map((partition) => ({ ...partition, group }))))
  ).flat()
  const stalled = s.ingest.stalled
  const components = [
    { name: 'log', ok: s.fatal === undefined && stalled === undefined, ...(stalled === undefined ? {} : { detail: stalled.message }) },
    { name: 'process', ok: s.fatal === undefined, ...(s.fatal === undefined ? {} : { detail: s.fatal.message }) },
    { name: 'ingest', ok: !s.ingest.overloaded, ...(s.ingest.overloaded ? { detail: 'takes nothing at the moment' } : {}) },
  ]
  return {
    version: s.version,
    started_us: s.startedUs,
    ready: !s.draining && components.every((c) => c.ok),
    draining: s.draining,
    components,
    lag,
    messages_total: s.ingest.metrics.messagesTotal,
    readings_total: s.ingest.metrics.readings.value,
    rejected_total: s.ingest.metrics.rejectedTotal,
    devices: s.devices,
    series: s.series.keys.length,
    mqtt_connections: s.mqttConnections,
    data_dir: s.dataDir,
    storage: s.storage,
    pid: process.pid,
  }
}
