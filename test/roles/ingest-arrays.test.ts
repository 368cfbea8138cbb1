import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Metrics } from '../../src/core/metrics.ts'
import { Topic } from '../../src/core/record.ts'
import { SeriesTable } from '../../src/core/series-table.ts'
import { Broker } from '../../src/doors/mqtt/broker.ts'
import { Ingest } from '../../src/roles/ingest.ts'
import { decodeDeadLetter } from '../../src/wire/dead-letter.ts'
import { PayloadDecoder } from '../../src/wire/payload/decoder.ts'
import { defaultTelemetryTopics, TelemetryTopics } from '../../src/wire/topics.ts'
import { settle, testEnv } from '../devices/test-env.ts'
import { connect, hex, puback, publish } from '../mqtt/client-packets.ts'
import { testAuthorizer } from '../mqtt/harness.ts'
import { MemoryLog } from './live-memory-log.ts'

/** The MQTT door over the ingest role, with a log that is durable when the test lets promises settle. */
async function house(log: MemoryLog): Promise<{ send(...packets: Uint8Array[]): Promise<string> }> {
  const env = testEnv()
  const series = new SeriesTable()
  const metrics = new Metrics()
  const ingest = new Ingest({
    log,
    series,
    decoder: new PayloadDecoder({ series }),
    env,
    metrics,
    onFatal: (error) => assert.fail(error.message),
    tickMs: 0,
  })
  await ingest.rebuildOrigins()
  const broker = new Broker({
    gate: ingest,
    topics: new TelemetryTopics(defaultTelemetryTopics),
    authorizer: testAuthorizer,
    env,
    metrics,
    defer: setImmediate,
  })
  return {
    /** A connection of its own; gives back what was answered behind CONNACK. */
    async send(...packets) {
      const answers: Uint8Array[] = []
      const session = broker.accept({
        remoteAddress: '10.0.0.1',
        transport: 'tcp' as const,
        bytesRead: 0,
        bytesWritten: 0,
        bufferedBytes: 0,
        write: (bytes) => void answers.push(Uint8Array.from(bytes)),
        pause() {},
        resume() {},
        close() {},
      })
      const bytes = Buffer.concat([connect({ clientId: 'gateway' }), ...packets])
      session!.receive(bytes, 0, bytes.length)
      for (let i = 0; i < 20; i++) {
        await settle()
        await env.clock.advance(5)
      }
      session!.closed()
      return hex(Buffer.concat(answers).subarray(4))
    },
  }
}

/** Rows as device, metric, value; with distinct times where the message had none. */
function rows(log: MemoryLog): string[] {
  const found: string[] = []
  const times = new Set<string>()
  for (const record of log.topic(Topic.telemetry).records) {
    if (record.kind !== 'readings') continue
    const { batch } = record
    for (let row = 0; row < batch.rows; row++) {
      const key = batch.keys[batch.series[row]!]!
      found.push(`${key.device} ${key.metric} ${batch.value[row]}`)
      times.add(`${key.device} ${key.metric} ${batch.timeUs[row]}`)
    }
  }
  assert.equal(times.size, found.length, 'no two readings have the same identity')
  return found
}

function letters(log: MemoryLog): [string, string][] {
  return log
    .topic(Topic.deadLetters)
    .records.map((record) => decodeDeadLetter('body' in record ? record.body : new Uint8Array()))
    .map((letter) => [letter.code, Buffer.from(letter.body).toString()])
}

const topic = 'devices/d/telemetry'

describe('arrays on MQTT, to the log', () => {
  it('stores good items, also equal ones without a time, and keeps the bytes of each bad one alone', async () => {
    const log = new MemoryLog()
    const h = await house(log)
    const acks = await h.send(publish(topic, '[{"t":1},{"t":1},{"t":"x","t":2},{"t":3,"ts":1600000000},[4]]', { qos: 1, id: 5 }))
    assert.equal(acks, puback(5))
    assert.deepEqual(rows(log), ['d t 1', 'd t 1', 'd t 3'])
    assert.deepEqual(letters(log), [
      ['duplicate_key', '{"t":"x","t":2}'],
      ['shape_unknown', '[4]'],
    ])
  })

  it('a redelivery counts once, item by item, also after a restart; another array under the same packet id does not', async () => {
    const log = new MemoryLog()
    const array = '[{"t":1},{"t":1},{"t":2}]'
    const h = await house(log)
    await h.send(publish(topic, array, { qos: 1, id: 5 }))
    const again = publish(topic, array, { qos: 1, id: 5, dup: true })
    assert.equal(await h.send(again), puback(5))
    assert.equal(await (await house(log)).send(again), puback(5))
    assert.deepEqual(rows(log), ['d t 1', 'd t 1', 'd t 2'])
    await h.send(publish(topic, '[{"t":1},{"t":9},{"t":2}]', { qos: 1, id: 5, dup: true }))
    assert.deepEqual(rows(log), ['d t 1', 'd t 1', 'd t 2', 'd t 9'], 'an item that was not there is new')
  })

  it('of a redelivery whose first copy never arrived, equal messages all count', async () => {
    const log = new MemoryLog()
    await (await house(log)).send(publish(topic, '[{"t":1},{"t":1}]', { qos: 1, id: 5, dup: true }))
    assert.deepEqual(rows(log), ['d t 1', 'd t 1'])
  })

  it('shapes of the seeds fit as items, and a long array is stored whole', async () => {
    const log = new MemoryLog()
    const h = await house(log)
    const items = [
      '{"sensor_id":"s","temperature":20.5,"humidity":40,"location":"hall"}',
      '{"device_id":"p","metric":"power","value":7}',
      '{"device_id":"r","temperature_c":21,"humidity":41}',
    ]
    await h.send(publish('portfolio/telemetry', `[${items.join()}]`, { qos: 1, id: 1 }))
    assert.deepEqual(rows(log).sort(), ['p power 7', 'r humidity 41', 'r temperature 21', 's humidity 40', 's temperature 20.5'])
    const many = Array.from({ length: 3_000 }, (_, i) => `{"n":${i}}`)
    assert.equal(await h.send(publish(topic, `[${many.join()}]`, { qos: 1, id: 2 })), puback(2))
    assert.deepEqual(
      rows(log).slice(5),
      many.map((_, i) => `d n ${i}`),
    )
  })
})
