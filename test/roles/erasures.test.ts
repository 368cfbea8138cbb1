import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { Topic } from '../../src/core/record.ts'
import type { VersionedDevice } from '../../src/core/services.ts'
import { openEmbeddedLog } from '../../src/log/embedded/log.ts'
import type { ForecastStore } from '../../src/core/forecast-store.ts'
import { openErasures } from '../../src/roles/erasures.ts'
import { openSqliteMeta } from '../../src/store/meta/sqlite.ts'
import { readings, take } from '../contract/stream-log.ts'
import { testEnv } from '../devices/test-env.ts'

const dayMs = 86_400_000

async function house(
  t: TestContext,
  kept: { readonly retentionBytes: number; readonly retentionAgeUs?: number },
  forecasts?: Pick<ForecastStore, 'erase'>,
) {
  const env = testEnv()
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-erasures-'))
  const log = await openEmbeddedLog({ dir: path.join(dir, 'log'), env, threads: false, topics: { [Topic.telemetry]: kept } })
  const meta = await openSqliteMeta({ path: path.join(dir, 'meta.sqlite'), env, thread: false })
  const ids = new Set<string>()
  const store = {
    next: 0n,
    resume: () => Promise.resolve({ next: store.next, states: [] }),
    /** Files still have it. */
    sealing: false,
    erasing: () => Promise.resolve(new Map<string, number>(store.sealing ? [...ids].map((id) => [id, 1]) : [])),
  }
  const device: VersionedDevice = {
    version: 1,
    id: 'd1',
    name: 'd1',
    type: '',
    status: 'active',
    tenant_id: '',
    metadata: {},
    attributes: {},
    created_us: 0,
    updated_us: 0,
    auto_registered: true,
  }
  const options = { meta, log, store, devices: { get: () => Promise.resolve(device) }, env, kept, ...(forecasts === undefined ? {} : { forecasts }) }
  const erasures = await openErasures(options)
  await erasures.begin()
  t.after(async () => {
    await erasures.stop()
    await log.close()
    await meta.close()
    fs.rmSync(dir, { recursive: true })
  })
  const reader = log.reader({ topic: Topic.telemetry, group: 'store', start: 'committed', batch: { bytesMax: 1 } })
  return {
    env,
    log,
    store,
    erasures,
    /** As a process that starts has them. */
    again: () => openErasures(options),
    /** Every consumer has come as far as the erasure, which is the second record. */
    async carryOut(id: string) {
      if (!ids.has(id)) await take(reader, 2)
      ids.add(id)
      await erasures.met({ id, tenant: 'default', device: 'd1' }, { log: log.id, partition: 0, offset: 1n })
      store.next = 2n
      for (let i = 0; i < 100 && (await erasures.get('default', id))?.state !== 'done'; i++) await env.clock.advance(500)
      assert.equal((await erasures.get('default', id))?.state, 'done')
    },
  }
}

test('what remains in the log is there until its age from the erasure on, and then it is not', async (t) => {
  const h = await house(t, { retentionBytes: 1_000_000, retentionAgeUs: 10 * dayMs * 1000 })
  const { env, log, erasures } = h
  await log.write([{ ...readings(Topic.telemetry, 'd1', [1]), receivedUs: env.clock.nowUs() }], undefined, new AbortController().signal)
  const { id } = await erasures.request('default', 'd1')
  await env.clock.advance(3 * dayMs)
  const remains = async () => (await erasures.get('default', id))!.remains
  assert.equal((await remains()).log?.until_us, env.clock.nowUs() + 10 * dayMs * 1000, 'as long as it is not carried out')
  await h.carryOut(id)
  const { hidden_us } = (await erasures.get('default', id))!
  assert.deepEqual((await remains()).log, { bytes: log.bytes(Topic.telemetry), kept_bytes: 1_000_000, until_us: hidden_us! + 10 * dayMs * 1000 })
  await env.clock.advance(2 * dayMs)
  assert.equal((await remains()).log?.until_us, hidden_us! + 10 * dayMs * 1000)
  await env.clock.advance(8 * dayMs + 1_000)
  assert.equal((await remains()).log, undefined)
  assert.equal(log.earliest(Topic.telemetry), 2n)
})

test('a log without an age forgets by bytes, and says no time', async (t) => {
  const h = await house(t, { retentionBytes: 1_000_000 })
  await h.log.write([{ ...readings(Topic.telemetry, 'd1', [1]), receivedUs: h.env.clock.nowUs() }], undefined, new AbortController().signal)
  const { id } = await h.erasures.request('default', 'd1')
  await h.carryOut(id)
  await h.env.clock.advance(1000 * dayMs)
  assert.deepEqual((await h.erasures.get('default', id))!.remains.log, { bytes: h.log.bytes(Topic.telemetry), kept_bytes: 1_000_000 })
})

test('what was forecast of the device goes before the erasure is hidden, again and again where that fails, and not what comes later', async (t) => {
  const erased: string[] = []
  let state = async (): Promise<string | undefined> => undefined
  const forecasts = {
    async erase(tenant: string, device: string) {
      erased.push(`${tenant} ${device} ${await state()}`)
      if (erased.length < 4) throw new Error('the database is away')
    },
  }
  const h = await house(t, { retentionBytes: 1_000_000 }, forecasts)
  h.store.sealing = true
  await h.log.write([{ ...readings(Topic.telemetry, 'd1', [1]), receivedUs: h.env.clock.nowUs() }], undefined, new AbortController().signal)
  const { id } = await h.erasures.request('default', 'd1')
  state = async () => (await h.erasures.get('default', id))?.state
  assert.deepEqual(erased, [])
  await assert.rejects(h.carryOut(id))
  assert.deepEqual(await state(), 'hidden')
  h.store.sealing = false
  await h.carryOut(id)
  assert.deepEqual(erased, Array(4).fill('default d1 accepted'))
})

test('a process that was killed before the forecasts of a device were gone takes them when it is back', async (t) => {
  const erased: string[] = []
  const hung = Promise.withResolvers<void>()
  const forecasts = { erase: (_: string, device: string) => (erased.push(device), erased.length === 1 ? hung.promise : Promise.resolve()) }
  const h = await house(t, { retentionBytes: 1_000_000 }, forecasts)
  await h.log.write([{ ...readings(Topic.telemetry, 'd1', [1]), receivedUs: h.env.clock.nowUs() }], undefined, new AbortController().signal)
  const { id } = await h.erasures.request('default', 'd1')
  await assert.rejects(h.carryOut(id), 'it never answers')
  assert.notEqual((await h.erasures.get('default', id))?.state, 'done')
  const next = await h.again()
  await next.begin()
  for (let i = 0; i < 100 && (await next.get('default', id))?.state !== 'done'; i++) await h.env.clock.advance(500)
  assert.equal((await next.get('default', id))?.state, 'done')
  assert.deepEqual(erased, ['d1', 'd1'])
  await next.stop()
  hung.resolve()
})
