import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Flag } from '../../src/core/batch.ts'
import type { MessageContext } from '../../src/core/gate.ts'
import { Metrics } from '../../src/core/metrics.ts'
import { Topic } from '../../src/core/record.ts'
import { SeriesTable } from '../../src/core/series-table.ts'
import { Ingest } from '../../src/roles/ingest.ts'
import { decodeAttributes } from '../../src/wire/attributes.ts'
import { decodeDeadLetter } from '../../src/wire/dead-letter.ts'
import { PayloadDecoder } from '../../src/wire/payload/decoder.ts'
import { settle, testEnv } from '../devices/test-env.ts'
import { MemoryLog } from '../roles/live-memory-log.ts'

function context(o: Partial<MessageContext>): MessageContext {
  return {
    transport: 'mqtt-pull',
    tenant: 'default',
    client: 'mqtt://b:1883',
    topic: 't/d',
    shape: 'any',
    topicDevice: 'd',
    packetId: 1,
    dup: false,
    ...o,
  }
}

test('what was delivered as retained is marked in every record that it becomes; a redelivery is known by session, topic, packet id and payload', async () => {
  const log = new MemoryLog()
  const env = testEnv()
  const series = new SeriesTable()
  const fatal = (error: Error): void => assert.fail(error.message)
  const ingest = new Ingest({ log, series, decoder: new PayloadDecoder({ series }), env, metrics: new Metrics(), onFatal: fatal, tickMs: 0 })
  const submit = (text: string, o: Partial<MessageContext>): number => ingest.submit(context(o), Buffer.from(text), 0, Buffer.byteLength(text))

  submit('{"a":1,"time":1790000000}', {})
  submit('{"a":2,"b":"open","firmware":"1"}', { retained: true })
  submit('{"a":3}', { identity: 's1 t/d', packetId: 7 })
  submit('{"a":', { retained: true })
  // Equal but for the session, the topic or the packet id: other messages. Equal in all: the same.
  submit('{"a":3}', { identity: 's2 t/d', packetId: 7, dup: true })
  submit('{"a":3}', { identity: 's1 t/e', packetId: 7, dup: true, topicDevice: 'e' })
  submit('{"a":3}', { identity: 's1 t/d', packetId: 8, dup: true })
  submit('{"a":3}', { identity: 's1 t/d', packetId: 7, dup: true })
  for (let i = 0; i < 20; i++) {
    await settle()
    await env.clock.advance(5)
  }

  const rows: unknown[] = []
  for (const record of log.topic(Topic.telemetry).records) {
    if (record.kind === 'attributes')
      assert.deepEqual(decodeAttributes(record.body), { tenant: 'default', device: 'd', changes: { firmware: '1' }, retained: true })
    if (record.kind !== 'readings') continue
    const { batch } = record
    for (let row = 0; row < batch.rows; row++) {
      const key = batch.keys[batch.series[row]!]!
      rows.push([key.device, key.metric, batch.text?.get(row) ?? batch.value[row], (batch.flags![row]! & Flag.retained) !== 0])
    }
  }
  assert.deepEqual(rows, [
    ['d', 'a', 1, false],
    ['d', 'a', 2, true],
    ['d', 'b', 'open', true],
    ['d', 'a', 3, false],
    ['d', 'a', 3, false],
    ['e', 'a', 3, false],
    ['d', 'a', 3, false],
  ])
  const [letter] = log.topic(Topic.deadLetters).records
  assert.ok(letter?.kind === 'dead-letter')
  const { retained, transport, client, topic } = decodeDeadLetter(letter.body)
  assert.deepEqual([retained, transport, client, topic], [true, 'mqtt-pull', 'mqtt://b:1883', 't/d'])
})
