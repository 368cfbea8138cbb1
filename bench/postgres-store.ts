/**
 * CPU of a commit to PostgreSQL, client and server, for messages of three readings: node bench/postgres-store.ts, with KYMO_TEST_POSTGRES_URL
 * (npm run services). Makes a schema of its own and removes it. Figures: docs/format/postgres.md.
 */
import { readFileSync } from 'node:fs'
import process from 'node:process'
import { Rollup } from '../src/compute/window/rollup.ts'
import type { SeriesKey } from '../src/core/batch.ts'
import { nodeEnv, silentLogger } from '../src/core/env/node-env.ts'
import type { RollupColumns } from '../src/core/ports.ts'
import { openPostgres } from '../src/store/pg/client.ts'
import { openPostgresStore } from '../src/store/postgres/store.ts'
import { newSchema } from '../test/support/postgres-stores.ts'

const url = process.env['KYMO_TEST_POSTGRES_URL']
if (url === undefined) throw new Error('KYMO_TEST_POSTGRES_URL is not set: npm run services')

const messages = 10_000
const commits = 40
/** Not counted: code and pages are cold. */
const warm = 8
const metrics = ['temperature', 'humidity', 'battery']
const signal = new AbortController().signal
const admin = openPostgres({ url, connectionsMax: 1 })

/** User and system time of processes of the server so far, in microseconds: proc(5), fields 14 and 15, in ticks of 10 ms. */
function cpuUs(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return sum + (Number(fields[11]) + Number(fields[12])) * 10_000
  }, 0)
}

async function backends(where: string): Promise<number[]> {
  const { rows } = await admin.pool.query<{ pid: number }>(`SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND ${where}`)
  return rows.map(({ pid }) => pid)
}

async function measure(devices: number, stepS: number): Promise<void> {
  const place = newSchema(url ?? '')
  const name = `kymo-bench-${process.pid}`
  const store = await openPostgresStore({ url: `${place.location}&application_name=${name}`, env: nodeEnv(silentLogger) })
  const keys: SeriesKey[] = Array.from({ length: devices * metrics.length }, (_, i) => ({
    tenant: 'default',
    device: `device-${Math.floor(i / metrics.length)}`,
    metric: metrics[i % metrics.length] ?? '',
  }))
  const rollup = new Rollup()
  const startUs = Math.floor(Date.now() / 3_600_000) * 3600e6 - 48 * 3600e6
  const rows = messages * metrics.length
  const [client, server, others] = [{ us: 0 }, { us: 0 }, { us: 0 }]
  let connections: number[] = []
  let background: number[] = []
  for (let commit = 0; commit < commits; commit++) {
    if (commit === warm) {
      connections = await backends(`application_name = '${name}'`)
      background = await backends(`backend_type IN ('walwriter', 'checkpointer', 'background writer')`)
      server.us -= cpuUs(connections)
      others.us -= cpuUs(background)
    }
    const batch = { rows, keys, series: new Uint32Array(rows), timeUs: new Float64Array(rows), value: new Float64Array(rows) }
    for (let i = 0; i < rows; i++) {
      const message = commit * messages + Math.floor(i / metrics.length)
      const device = message % devices
      batch.series[i] = device * metrics.length + (i % metrics.length)
      batch.timeUs[i] = startUs + Math.floor(message / devices) * stepS * 1e6 + (device % 997) * 1000
      batch.value[i] = Math.round(2000 + 500 * Math.sin(message / 1000 + i)) / 100
    }
    const rollups: RollupColumns[] = []
    rollup.push(batch, (closed) => void rollups.push(closed))
    const before = process.cpuUsage()
    const span = { log: 'bench', topic: 'telemetry', partition: 0, first: BigInt(commit), next: BigInt(commit + 1) }
    await store.commit({ tables: { readings: [batch], late: [], rollups }, span }, signal)
    const { user, system } = process.cpuUsage(before)
    if (commit >= warm) client.us += user + system
  }
  server.us += cpuUs(connections)
  others.us += cpuUs(background)
  await store.close()
  await place.remove()
  const [a, b, c] = [client, server, others].map(({ us }) => us / (commits - warm) / messages)
  const each = `client ${a!.toFixed(2)} + server ${b!.toFixed(2)} = ${(a! + b!).toFixed(2)} us; background ${c!.toFixed(2)}`
  process.stdout.write(`${devices} devices, a message each ${stepS} s: ${each}\n`)
}

for (const [devices, stepS] of [
  [100, 1],
  [1000, 1],
  [1000, 10],
  [10_000, 10],
] as const)
  await measure(devices, stepS)
await admin.close()
