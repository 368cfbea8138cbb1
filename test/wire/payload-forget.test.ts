import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BatchBuilder } from '../../src/core/batch-builder.ts'
import { SeriesTable } from '../../src/core/series-table.ts'
import { PayloadDecoder } from '../../src/wire/payload/decoder.ts'

test('a device that was erased is another one when it speaks again, on the fast lane too', () => {
  const series = new SeriesTable()
  const decoder = new PayloadDecoder({ series })
  const context = { transport: 'mqtt', client: 'c', topic: 't', tenant: 'default', shape: 'any', dup: false, packetId: 1 } as const
  const say = (device: string): { readonly series: number; readonly changes: number } => {
    const out = new BatchBuilder(series.keys)
    decoder.attributeChanges.length = 0
    const bytes = Buffer.from(`{"device_id":"${device}","temperature":21.5,"firmware":"1.0"}`)
    assert.equal(decoder.decode(bytes, 0, bytes.length, context, 1_700_000_000_000_000, out), undefined)
    return { series: out.view().series[0]!, changes: decoder.attributeChanges.length }
  }
  for (let i = 0; i < 5; i++) say('a')
  for (let i = 0; i < 5; i++) say('b')
  const before = decoder.fastMessages
  assert.ok(before > 0)
  assert.deepEqual(series.forget('default', 'a'), [0])
  decoder.forget('default', 'a')
  assert.deepEqual(say('b'), { series: 1, changes: 0 })
  // What it says of itself is news again.
  assert.deepEqual(say('a'), { series: 2, changes: 1 })
  for (let i = 0; i < 5; i++) assert.deepEqual(say('a'), { series: 2, changes: 0 })
  assert.ok(decoder.fastMessages >= before + 4, 'it is known again')
  decoder.forget('default', 'nobody')
})
