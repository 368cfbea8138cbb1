import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BatchBuilder } from '../../src/core/batch-builder.ts'
import { Flag, type SeriesKey } from '../../src/core/batch.ts'
import { deadLetterDocument, readingDocuments } from '../../src/wire/reading-documents.ts'

const startUs = 1_767_225_600_000_000
const parse = (bytes: Uint8Array): unknown => JSON.parse(new TextDecoder().decode(bytes))

test('rows of one message are one document, with null for what it had not', () => {
  const keys: SeriesKey[] = [
    { tenant: 'default', device: 'a', metric: 'temperature' },
    { tenant: 'default', device: 'a', metric: 'humidity' },
    { tenant: 'default', device: 'b', metric: 'mode' },
    { tenant: 'other', device: 'a', metric: 'ts' },
  ]
  const builder = new BatchBuilder(keys, 8)
  builder.add(0, startUs, 21.5, 0)
  builder.add(1, startUs, Number.NaN, 0)
  builder.add(0, startUs + 1, 22, 0)
  builder.addText(2, startUs + 1, 'auto', Flag.text)
  builder.add(3, startUs + 1, 1, Flag.boolean)
  builder.addText(3, startUs + 2000, '9007199254740993', Flag.text | Flag.bigInteger)
  const found = [...readingDocuments(builder.view())]
  assert.deepEqual(
    found.map(({ key }) => key),
    ['a', 'a', 'b', 'a', 'a'],
  )
  assert.deepEqual(
    found.map(({ value }) => parse(value)),
    [
      { device_id: 'a', ts: '2026-01-01T00:00:00.000Z', temperature_c: 21.5, humidity: null },
      { device_id: 'a', ts: '2026-01-01T00:00:00.000001Z', temperature_c: 22, humidity: null },
      { device_id: 'b', ts: '2026-01-01T00:00:00.000001Z', temperature_c: null, humidity: null, mode: 'auto' },
      { device_id: 'a', ts: '2026-01-01T00:00:00.000001Z', temperature_c: null, humidity: null, tenant_id: 'other', ts_metric: true },
      { device_id: 'a', ts: '2026-01-01T00:00:00.002Z', temperature_c: null, humidity: null, tenant_id: 'other', ts_metric: '9007199254740993' },
    ],
  )
})

test('a dead letter tells why, when, and what came', () => {
  const letter = {
    time_us: startUs,
    code: 'body_not_json',
    detail: 'The body is not valid JSON.',
    errors: [],
    transport: 'http',
    client: '127.0.0.1',
    topic: '/ingest',
    tenant: 'default',
    shape: 'any',
    bytes_total: 3,
    truncated: false,
    body: new TextEncoder().encode('"ü'),
  }
  const text = parse(deadLetterDocument(letter).value)
  assert.deepEqual(text, {
    reason: 'The body is not valid JSON.',
    code: 'body_not_json',
    timestamp: '2026-01-01T00:00:00.000Z',
    errors: [],
    transport: 'http',
    client: '127.0.0.1',
    topic: '/ingest',
    bytes_total: 3,
    truncated: false,
    payload: '"ü',
  })
  const binary = deadLetterDocument({ ...letter, topic_device: 'd', body: new Uint8Array([0xff, 0]) })
  assert.equal(binary.key, 'd')
  assert.equal((parse(binary.value) as Record<string, unknown>)['payload_base64'], '/wA=')
})
