import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { MessageContext } from '../../src/core/gate.ts'
import { Metrics } from '../../src/core/metrics.ts'
import { Topic } from '../../src/core/record.ts'
import { SeriesTable } from '../../src/core/series-table.ts'
import { Ingest } from '../../src/roles/ingest.ts'
import { watchStorage } from '../../src/roles/storage.ts'
import { decodeDeadLetter } from '../../src/wire/dead-letter.ts'
import { PayloadDecoder } from '../../src/wire/payload/decoder.ts'
import { settle, testEnv } from '../devices/test-env.ts'
import { MemoryLog } from './live-memory-log.ts'

const dayUs = 86_400e6
const context: MessageContext = {
  transport: 'http',
  tenant: 'default',
  client: 'c',
  topic: '/api/v1/telemetry',
  shape: 'any',
  packetId: 0,
  dup: false,
}

function house(o: { readonly quotaBytes?: number; readonly rawUs?: number }) {
  const env = testEnv()
  const metrics = new Metrics()
  const log = new MemoryLog()
  const series = new SeriesTable()
  const decoder = new PayloadDecoder({ series })
  const sizes = { log: 100, store: 900, rawFromUs: 0 }
  const storage = watchStorage({
    log: { bytes: (topic) => (topic === Topic.telemetry ? sizes.log : 0) },
    store: { stats: () => ({ bytes: sizes.store, rawFromUs: sizes.rawFromUs }) },
    decoder,
    env,
    metrics,
    rawUs: o.rawUs ?? Number.POSITIVE_INFINITY,
    quotaBytes: o.quotaBytes ?? 0,
  })
  const onFatal = (error: Error): void => assert.fail(error.message)
  const ingest = new Ingest({ log, series, decoder, env, metrics, onFatal, tickMs: 0, held: storage.held })
  const send = (document: unknown): number => {
    const bytes = Buffer.from(JSON.stringify(document))
    return ingest.submit(context, bytes, 0, bytes.length)
  }
  const pass = async (ms: number): Promise<void> => {
    for (let at = 0; at < ms; at += 10) {
      await env.clock.advance(10)
      await settle()
    }
  }
  return {
    env,
    refused: () => ingest.refusal?.code,
    metrics,
    log,
    ingest,
    storage,
    sizes,
    send,
    pass,
    stored: () => log.topic(Topic.telemetry).records.length,
  }
}

describe('the quota of log and store', () => {
  it('holds acknowledgements back, deletes nothing, and lets them go when there is room', async () => {
    const h = house({ quotaBytes: 1000 })
    const first = h.send({ device: 'd', x: 1 })
    await h.pass(50)
    assert.equal(h.ingest.durable, first, 'at the quota is not above it')
    h.sizes.store = 901
    const second = h.send({ device: 'd', x: 2 })
    await h.pass(5_000)
    assert.ok(h.ingest.durable < second)
    assert.equal(h.ingest.stalled?.code, 'storage_quota')
    assert.match(h.ingest.stalled.message, /1001 bytes.*1000/)
    assert.equal(h.stored(), 1)
    await assert.rejects(Promise.all([h.ingest.whenDurable(second, 100), h.pass(200)]), { code: 'storage_quota' })
    h.sizes.log = 99
    await h.pass(2_500)
    assert.equal(h.ingest.durable, second)
    assert.equal(h.ingest.stalled, undefined)
    assert.equal(h.stored(), 2)
    await h.storage.close()
  })

  it('is shown with what is used; without one nothing is held', async () => {
    const h = house({ quotaBytes: 5000 })
    assert.deepEqual(h.storage.use(), { log_bytes: 100, store_bytes: 900, quota_bytes: 5000 })
    const used = h.metrics.families.get('kymo_storage_used_bytes')!
    used.collect!()
    assert.deepEqual(
      [...used.cells.values()].map(({ cell }) => 'value' in cell && cell.value),
      [1000],
    )
    await h.storage.close()
    const free = house({})
    free.sizes.store = 1e15
    assert.equal(free.storage.held(), undefined)
    assert.deepEqual(free.storage.use(), { log_bytes: 100, store_bytes: 1e15 })
    await free.storage.close()
  })
})

describe('readings older than readings are kept', () => {
  it('are refused with their bytes kept, by both lanes of the decoder, and the bound moves on with time', async () => {
    const h = house({ rawUs: 90 * dayUs })
    const bound = h.env.clock.nowUs() - 90 * dayUs
    const reading = (us: number): unknown => ({ device: 'd', ts: us, x: 1 })
    for (const ahead of [60e6, 0, 1e6]) {
      h.send(reading(bound + ahead + 1e6))
      assert.equal(h.refused(), undefined)
    }
    h.send(reading(bound - 1e6))
    assert.equal(h.refused(), 'too_old')
    assert.equal(h.ingest.refusal?.details.errors?.[0]?.pointer, '/ts')
    h.send({ device: 'new', ts: bound - 1e6, x: 1 })
    assert.equal(h.refused(), 'too_old')
    await h.pass(3_000)
    h.send(reading(bound + 1e6))
    assert.equal(h.refused(), 'too_old')
    await h.pass(50)
    const letters = h.log.topic(Topic.deadLetters).records.map((record) => decodeDeadLetter('body' in record ? record.body : new Uint8Array()))
    assert.deepEqual(
      letters.map((letter) => letter.code),
      ['too_old', 'too_old', 'too_old'],
    )
    assert.deepEqual(JSON.parse(Buffer.from(letters[0]!.body).toString()), reading(bound - 1e6))
    await h.storage.close()
  })

  it('are also those that the size of the store has made go', async () => {
    const h = house({})
    h.send({ device: 'd', ts: 1_600_000_000, x: 1 })
    assert.equal(h.refused(), undefined)
    h.sizes.rawFromUs = 1_700_000_000e6
    await h.pass(1_500)
    h.send({ device: 'd', ts: 1_600_000_000, x: 1 })
    assert.equal(h.refused(), 'too_old')
    await h.storage.close()
  })
})
