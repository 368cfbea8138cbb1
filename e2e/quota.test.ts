import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { eventually, readings, settled } from '../test/support/api.ts'
import { RawMqtt } from '../test/support/mqtt-client.ts'
import { RunningServer, runKymo } from '../test/support/server.ts'

const startMs = Date.UTC(2026, 0, 1)
const perBatch = 2_000

interface StorageUse {
  readonly log_bytes: number
  readonly store_bytes: number
  readonly quota_bytes: number
}

test('at storage.quota_mb acknowledgements wait and reads go on; with a higher one, reloaded, all is there once', { timeout: 120_000 }, async (t) => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-quota-'))
  const config = path.join(dir, 'kymo.yaml')
  const quota = (mb: number): void => fs.writeFileSync(config, `storage:\n  quota_mb: ${mb}\n`)
  quota(6)
  const server = await RunningServer.start({ data: path.join(dir, 'data'), args: ['--config', config] })
  t.after(async () => {
    await server.dispose()
    fs.rmSync(dir, { recursive: true, force: true })
  })
  const post = async (batch: number): Promise<Response> => {
    const items = Array.from({ length: perBatch }, (_, i) => {
      const seq = batch * perBatch + i
      return { device: 'http', timestamp: startMs + seq, values: { seq } }
    })
    return fetch(`${server.http}/api/v1/telemetry`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(items) })
  }
  const use = async (): Promise<StorageUse> => ((await (await fetch(`${server.http}/api/v1/status`)).json()) as { storage: StorageUse }).storage

  // Until log and store together are full. The quota is more than any one of them has then.
  const acknowledged: number[] = []
  let refused: Response | undefined
  for (let batch = 0; refused === undefined && batch < 200; batch++) {
    const answer = await post(batch)
    if (answer.status === 202) acknowledged.push(batch)
    else refused = answer
  }
  assert.ok(refused !== undefined, 'the quota was never met')
  assert.equal(refused.status, 503)
  assert.equal(((await refused.json()) as { code: string }).code, 'storage_quota')
  assert.ok(Number(refused.headers.get('retry-after')) > 0)
  const full = await use()
  assert.equal(full.quota_bytes, 6e6)
  assert.ok(full.log_bytes > 0 && full.store_bytes > 0 && full.log_bytes + full.store_bytes > 6e6, JSON.stringify(full))
  assert.ok(full.log_bytes < 6e6 && full.store_bytes < 6e6, `one of them alone is above the quota: ${JSON.stringify(full)}`)

  // A device waits for its PUBACK; its connection lives. A person goes on reading.
  const client = await RawMqtt.connect({ port: server.mqttPort, clientId: 'held' })
  const acks: number[] = []
  client.onPuback = (id) => acks.push(id)
  const held = 5
  for (let id = 1; id <= held; id++)
    client.publish({
      topic: 'portfolio/telemetry',
      payload: JSON.stringify({ device_id: 'mqtt', seq: id, timestamp: startMs + id }),
      qos: 1,
      packetId: id,
    })
  const stored = await readings(server.http, { device: 'http', metric: 'seq' })
  const doctor = await runKymo(['doctor', '--data', server.data, '--config', config, '--json'])
  assert.equal(doctor.code, 5)
  assert.match(doctor.output, /KYMO-E222/)
  for (let i = 0; i < 5; i++) await client.ping()
  assert.deepEqual(acks, [])
  assert.ok(!client.closed)
  assert.equal((await fetch(`${server.http}/livez`)).status, 200)
  assert.ok(stored.length > 0)

  quota(600)
  const reloaded = await runKymo(['config', 'reload', '--data', server.data])
  assert.equal(reloaded.code, 0, reloaded.output)
  await eventually(() => Promise.resolve(acks.length === held ? true : undefined))
  assert.deepEqual(acks, [1, 2, 3, 4, 5])
  assert.equal((await post(1000)).status, 202)
  await settled(server.http)
  const values = (await readings(server.http, { device: 'http', metric: 'seq' })).map(({ value }) => Number(value))
  assert.equal(new Set(values).size, values.length, 'nothing is there twice')
  const there = new Set(values)
  for (const batch of [...acknowledged, 1000])
    for (let i = 0; i < perBatch; i++) assert.ok(there.has(batch * perBatch + i), `reading ${i} of batch ${batch} was acknowledged`)
  assert.deepEqual(
    (await readings(server.http, { device: 'mqtt', metric: 'seq' })).map(({ value }) => value),
    [1, 2, 3, 4, 5],
  )
  client.destroy()
})
