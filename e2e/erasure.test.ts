import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { nodeEnv, silentLogger } from '../src/core/env/node-env.ts'
import { limits } from '../src/core/limits.ts'
import { openSqliteForecasts } from '../src/store/forecasts/sqlite.ts'
import { issue } from '../test/contract/forecast-store.ts'
import { RunningServer, runKymo } from '../test/support/server.ts'

interface Erasure {
  readonly id: string
  readonly device: string
  readonly state: string
  readonly remains: { readonly log: unknown; readonly snapshots: readonly { readonly id: string }[] }
}

async function get<T>(server: RunningServer, route: string): Promise<T> {
  const response = await fetch(server.http + route)
  assert.equal(response.status, 200, `${route}: ${await response.clone().text()}`)
  return (await response.json()) as T
}

async function ingest(server: RunningServer, messages: readonly Readonly<Record<string, unknown>>[]): Promise<void> {
  const response = await fetch(`${server.http}/api/v1/telemetry`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(messages),
  })
  assert.ok(response.ok, await response.text())
}

async function until<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  for (const end = performance.now() + 60_000; performance.now() < end; await delay(100)) {
    const found = await look()
    if (found !== undefined) return found
  }
  return assert.fail(what)
}

/** Everything that a device has, by every route that reads. */
async function readAll(server: RunningServer, device: string): Promise<number> {
  const range = `device=${device}&from=2020-01-01T00:00:00Z&to=2100-01-01T00:00:00Z`
  const items = async (route: string): Promise<number> => (await get<{ items: unknown[] }>(server, route)).items.length
  const rows = async (route: string): Promise<number> => (await get<{ rows: number }>(server, route)).rows
  const asked = await fetch(`${server.http}/api/v1/sql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ sql: `SELECT time FROM readings WHERE device = '${device}'` }),
  })
  const sql = ((await asked.json()) as { rows: unknown[] }).rows.length
  const exported = await runKymo(['export', '--url', server.http, '--device', device, '--format', 'ndjson', '-'])
  return (
    (await rows(`/api/v1/query?${range}`)) +
    (await rows(`/api/v1/query?${range}&step=1h`)) +
    (await items(`/api/v1/latest?device=${device}`)) +
    (await items(`/api/v1/series?device=${device}`)) +
    sql +
    exported.output.split('\n').filter((line) => line.includes(`"${device}"`)).length
  )
}

/** Predictions that are kept of a device; beside the server, which has the file open, too. */
async function predictionsOf(
  server: RunningServer,
  device: string,
  before?: (store: ReturnType<typeof openSqliteForecasts>) => Promise<void>,
): Promise<number> {
  const store = openSqliteForecasts({ path: path.join(server.data, 'forecasts.sqlite'), env: nodeEnv(silentLogger) })
  try {
    await before?.(store)
    const key = { tenant: 'default', device, metric: 'temperature' }
    return (await store.predictions({ key, fromUs: 0, toUs: limits.timeUsMax, limit: 1000 })).length
  } finally {
    await store.close()
  }
}

test('a device is erased while it is read and written, over kills of the server, and what comes later stays', { timeout: 240_000 }, async () => {
  const settings = { args: ['--store-seal-mb', '1'] }
  let server = await RunningServer.start(settings)
  try {
    const at = (i: number): string => new Date(Date.now() - 3_600_000 + i * 1000).toISOString()
    const some = (device: string): Record<string, unknown>[] =>
      Array.from({ length: 300 }, (_, i) => ({ device_id: device, timestamp: at(i), temperature_c: i, note: `of ${device}`, firmware: '1.0' }))
    await ingest(server, [...some('keep-1'), ...some('erase-me')])
    await until('the readings are stored', async () => ((await readAll(server, 'erase-me')) > 600 ? true : undefined))
    assert.equal((await fetch(`${server.http}/api/v1/devices/unknown-1/data`, { method: 'DELETE' })).status, 404)
    const forecast = (device: string) => issue({ tenant: 'default', device, metric: 'temperature' })
    const kept = await predictionsOf(server, 'erase-me', (store) => store.write([forecast('erase-me'), forecast('keep-1')], []))
    assert.equal(kept, 24)
    // A backup that is made before has it.
    const backup = path.join(server.data, '..', `${path.basename(server.data)}-backup`)
    const backedUp = await runKymo(['backup', backup, '--url', server.http])
    assert.equal(backedUp.code, 0, backedUp.output)
    const response = await fetch(`${server.http}/api/v1/devices/erase-me/data`, { method: 'DELETE' })
    assert.equal(response.status, 202)
    const { id } = (await response.json()) as Erasure
    assert.equal(response.headers.get('location'), `/api/v1/erasures/${id}`)
    await server.kill()
    server = await server.restart()
    await until('nobody reads it', async () => ((await get<Erasure>(server, `/api/v1/erasures/${id}`)).state === 'accepted' ? undefined : true))
    assert.equal(await readAll(server, 'erase-me'), 0)
    assert.deepEqual([await predictionsOf(server, 'erase-me'), await predictionsOf(server, 'keep-1')], [0, 24])
    assert.equal((await fetch(`${server.http}/api/v1/devices/erase-me`)).status, 404)
    assert.ok((await readAll(server, 'keep-1')) > 600)
    await server.kill()
    server = await server.restart()
    assert.equal(await readAll(server, 'erase-me'), 0)
    // It speaks again: as a new device, with what it says of itself.
    await ingest(server, [{ device_id: 'erase-me', timestamp: at(5), temperature_c: 1, firmware: '1.0' }])
    const again = await until('it is registered again', async () => {
      const found = await fetch(`${server.http}/api/v1/devices/erase-me`)
      return found.ok ? ((await found.json()) as { attributes: Record<string, string> }) : undefined
    })
    assert.equal(again.attributes['firmware'], '1.0')
    const done = await until('it is done', async () => {
      const erasure = await get<Erasure>(server, `/api/v1/erasures/${id}`)
      return erasure.state === 'done' ? erasure : undefined
    })
    assert.equal(done.remains.snapshots.length, 1)
    assert.notEqual(done.remains.log, null)
    assert.deepEqual(
      (await get<{ items: Erasure[] }>(server, '/api/v1/erasures')).items.map((one) => one.id),
      [id],
    )
    const range = 'device=erase-me&from=2020-01-01T00:00:00Z&to=2100-01-01T00:00:00Z'
    assert.equal((await get<{ rows: number }>(server, `/api/v1/query?${range}`)).rows, 1)
    const word = 'of erase-me'
    const store = path.join(server.data, 'store')
    const left = fs
      .globSync('**/*', { cwd: store, withFileTypes: true })
      .filter((entry) => entry.isFile() && fs.readFileSync(path.join(entry.parentPath, entry.name)).includes(word))
    assert.deepEqual(
      left.map((entry) => entry.name),
      [],
    )
    // By the command, which asks first.
    const asked = await runKymo(['devices', 'erase', 'keep-1', '--url', server.http])
    assert.equal(asked.code, 2, asked.output)
    const erased = await runKymo(['devices', 'erase', 'keep-1', '--yes', '--json', '--url', server.http])
    assert.equal(erased.code, 0, erased.output)
    assert.equal((JSON.parse(erased.output) as Erasure).state, 'done')
    assert.equal(await readAll(server, 'keep-1'), 0)
    fs.rmSync(backup, { recursive: true, force: true })
  } finally {
    await server.dispose()
  }
})
