import assert from 'node:assert/strict'
import test from 'node:test'
import type { MessageContext } from '../../src/core/gate.ts'
import { Metrics } from '../../src/core/metrics.ts'
import { Topic } from '../../src/core/record.ts'
import { SeriesTable } from '../../src/core/series-table.ts'
import { Ingest } from '../../src/roles/ingest.ts'
import { PayloadDecoder } from '../../src/wire/payload/decoder.ts'
import { settle, testEnv } from '../devices/test-env.ts'
import { MemoryLog } from './live-memory-log.ts'

const context: MessageContext = {
  transport: 'http',
  tenant: 'default',
  client: 'c',
  topic: '/sensor-data',
  shape: 'sensor-data',
  packetId: 0,
  dup: false,
}

test('the gate tells the time that a message is stored with', async () => {
  const env = testEnv()
  const series = new SeriesTable()
  const log = new MemoryLog()
  const onFatal = (error: Error): void => assert.fail(error.message)
  const ingest = new Ingest({ log, series, decoder: new PayloadDecoder({ series }), env, metrics: new Metrics(), onFatal, tickMs: 0 })
  const told: number[] = []
  const send = (document: object): void => {
    const bytes = Buffer.from(JSON.stringify(document))
    assert.ok(ingest.submit(context, bytes, 0, bytes.length) > 0)
    assert.equal(ingest.refusal, undefined)
    told.push(ingest.takenUs)
  }
  send({ sensor_id: 'a', temperature: 1, humidity: 1 })
  // In the same microsecond: another reading, and so another time.
  send({ sensor_id: 'a', temperature: 2, humidity: 1 })
  send({ sensor_id: 'a', temperature: 3, humidity: 1, timestamp: 1_600_000_000_123 })
  for (let i = 0; i < 20; i++) {
    await env.clock.advance(5)
    await settle()
  }
  const times = log.topic(Topic.telemetry).records.flatMap((record) => (record.kind === 'readings' ? [...record.batch.timeUs] : []))
  assert.equal(times.length, 6)
  const stored = [...new Set(times)]
  assert.equal(stored[2], 1_600_000_000_123_000)
  assert.deepEqual(told, stored)
})
