import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import type { Batch, SeriesKey } from '../../src/core/batch.ts'
import { BatchBuilder } from '../../src/core/batch-builder.ts'
import { KymoError } from '../../src/core/errors.ts'
import { decodeBatch, decodeDictionary, ReaderKeys } from '../../src/wire/batch/decode.ts'
import { BatchEncoder, encodeBatch, WriterDictionary } from '../../src/wire/batch/encode.ts'
import { fuzzRuns } from '../support/effort.ts'

const keys: SeriesKey[] = Array.from({ length: 40 }, (_, i) => ({
  tenant: i % 7 === 0 ? 'other' : 'default',
  device: `dévice-${i >> 2}`,
  metric: `m${i % 4}`,
}))

interface Row {
  readonly series: number
  readonly timeUs: number
  readonly value: number
  readonly flags: number
  readonly text: string | undefined
  readonly meta: string | undefined
  readonly origin: readonly [number, number] | undefined
}

const word = fc.integer({ min: 0, max: 0xffff_ffff })
const text = fc.string({ unit: 'grapheme', maxLength: 20 })
const rowArbitrary: fc.Arbitrary<Row> = fc.record({
  series: fc.nat(keys.length - 1),
  timeUs: fc.nat(Number.MAX_SAFE_INTEGER),
  value: fc.double(),
  flags: fc.oneof(fc.constant(0), fc.nat(255)),
  text: fc.option(text, { nil: undefined, freq: 4 }),
  meta: fc.option(text, { nil: undefined, freq: 8 }),
  origin: fc.option(fc.tuple(word, word), { nil: undefined, freq: 4 }),
})
const rowsArbitrary = fc.array(rowArbitrary, { maxLength: 60 })

function build(rows: readonly Row[]): Batch {
  const builder = new BatchBuilder(keys, 4)
  for (const [i, row] of rows.entries()) {
    if (row.text === undefined) builder.add(row.series, row.timeUs, row.value, row.flags)
    else builder.addText(row.series, row.timeUs, row.text, row.flags)
    if (row.meta !== undefined) builder.addMeta(i, row.meta)
    if (row.origin !== undefined) builder.addOrigin(i, row.origin[0], row.origin[1])
  }
  return builder.view()
}

function plain(batch: Batch): unknown {
  const { rows } = batch
  return {
    rows: Array.from({ length: rows }, (_, i) => [batch.keys[batch.series[i]!], batch.timeUs[i], batch.value[i], batch.flags?.[i] ?? 0]),
    text: [...(batch.text ?? [])],
    meta: [...(batch.meta ?? [])],
    origin: batch.origin === undefined ? [] : [[...batch.origin.firstRow], [...batch.origin.hashHigh], [...batch.origin.hashLow]],
  }
}

/** Encodes in the form of a stream, at an offset in a larger buffer, as the log does. */
function encode(batch: Batch, dictionary: WriterDictionary, encoder = new BatchEncoder()): Uint8Array {
  const bound = encoder.measure(batch, dictionary)
  const target = Buffer.from(new ArrayBuffer(bound + 64)).fill(0xaa)
  const end = encoder.write(batch, target, 64)
  assert.ok(end <= 64 + bound, 'the bound holds')
  return new Uint8Array(target.buffer.slice(64, end))
}

describe('batches as bytes', () => {
  test('come back as they were, self-contained', () => {
    fc.assert(
      fc.property(rowsArbitrary, (rows) => assert.deepEqual(plain(decodeBatch(encodeBatch(build(rows)), new ReaderKeys())), plain(build(rows)))),
      fuzzRuns(400),
    )
  })

  test('come back as they were, self-contained one after the other, with one index for each series', () => {
    fc.assert(
      fc.property(fc.array(rowsArbitrary, { maxLength: 8 }), (batches) => {
        const reader = new ReaderKeys()
        for (const rows of batches) assert.deepEqual(plain(decodeBatch(encodeBatch(build(rows)), reader)), plain(build(rows)))
        assert.equal(new Set(reader.keys.map((key) => JSON.stringify(key))).size, reader.keys.length)
      }),
      fuzzRuns(400),
    )
  })

  test('come back as they were from a stream with a dictionary, wherever the stream was restarted', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(rowsArbitrary, fc.boolean()), { maxLength: 8 }), (batches) => {
        const dictionary = new WriterDictionary()
        const reader = new ReaderKeys()
        const encoder = new BatchEncoder()
        for (const [rows, restart] of batches) {
          if (restart) dictionary.restart()
          const decoded = decodeBatch(encode(build(rows), dictionary, encoder), reader)
          assert.equal(decoded.keys, reader.keys, 'one array for the life of the reader')
          assert.deepEqual(plain(decoded), plain(build(rows)))
        }
        assert.equal(new Set(reader.keys.map((key) => JSON.stringify(key))).size, reader.keys.length, 'a series has one index')
      }),
      fuzzRuns(400),
    )
  })

  test('name each series once in a stream', () => {
    const dictionary = new WriterDictionary()
    const rows = Array.from({ length: 40 }, (_, i) => ({
      series: i,
      timeUs: i,
      value: i,
      flags: 0,
      text: undefined,
      meta: undefined,
      origin: undefined,
    }))
    const first = encode(build(rows), dictionary)
    const second = encode(build(rows), dictionary)
    assert.equal(second.length, 40 + 40 * 20)
    assert.ok(first.length > second.length)
    const reader = new ReaderKeys()
    assert.throws(() => decodeBatch(second.slice(), reader), isCorrupt)
    decodeDictionary(first, reader)
    assert.deepEqual(plain(decodeBatch(second, reader)), plain(build(rows)))
  })

  test('start the dictionary over when ids come from another process or table', () => {
    const dictionary = new WriterDictionary()
    const reader = new ReaderKeys()
    const of = (table: readonly SeriesKey[]): Batch => {
      const builder = new BatchBuilder(table)
      builder.add(0, 1, 2, 0)
      return builder.view()
    }
    const one = [{ tenant: 'default', device: 'a', metric: 'x' }]
    const other = [{ tenant: 'default', device: 'b', metric: 'x' }]
    const indexes = [one, other, one].map((table) => {
      const batch = decodeBatch(encode(of(table), dictionary), reader)
      assert.deepEqual(batch.keys[batch.series[0]!], table[0])
      return batch.series[0]
    })
    assert.deepEqual(indexes, [0, 1, 0], 'a series keeps its index in the reader')
  })

  test('are read in place where they are aligned, and copied where they are not', () => {
    const bytes = encodeBatch(build([{ series: 3, timeUs: 5, value: 7, flags: 0, text: undefined, meta: undefined, origin: undefined }]))
    assert.equal(decodeBatch(bytes, new ReaderKeys()).value.buffer, bytes.buffer)
    const shifted = new Uint8Array(bytes.length + 3)
    shifted.set(encodeBatch(build([{ series: 3, timeUs: 5, value: 7, flags: 0, text: undefined, meta: undefined, origin: undefined }])), 3)
    const batch = decodeBatch(shifted.subarray(3), new ReaderKeys())
    assert.deepEqual([batch.timeUs[0], batch.value[0], batch.keys[batch.series[0]!]], [5, 7, keys[3]])
  })

  test('leave nothing of an earlier batch in the padding', () => {
    const rows = [{ series: 0, timeUs: 1, value: 1, flags: 1, text: 'abc', meta: undefined, origin: undefined }]
    const encoder = new BatchEncoder()
    const at = (fill: number): Buffer => {
      const target = Buffer.from(new ArrayBuffer(1024)).fill(fill)
      encoder.measureSelfContained(build(rows))
      return target.subarray(0, encoder.writeSelfContained(build(rows), target, 0))
    }
    assert.deepEqual(at(0xaa), at(0x55))
  })

  test('refuse ids that the keys do not have', () => {
    const bad: Batch = { rows: 1, keys, series: Uint32Array.of(keys.length), timeUs: Float64Array.of(1), value: Float64Array.of(1) }
    assert.throws(
      () => encodeBatch(bad),
      (thrown) => thrown instanceof KymoError && thrown.code === 'bug',
    )
    assert.throws(
      () => new BatchEncoder().measure(bad, new WriterDictionary()),
      (thrown) => thrown instanceof KymoError && thrown.code === 'bug',
    )
  })

  test('say so when they are of a later version', () => {
    const bytes = encodeBatch(build([]))
    bytes[0] = 2
    assert.throws(
      () => decodeBatch(bytes, new ReaderKeys()),
      (thrown) => thrown instanceof KymoError && thrown.code === 'log_format',
    )
  })

  test('refuse times that are none, from logs that others write', () => {
    for (const time of [Number.NaN, -1, 0.5, 2 ** 53, Number.POSITIVE_INFINITY]) {
      const bytes = encodeBatch(build([{ series: 0, timeUs: 1, value: 1, flags: 0, text: undefined, meta: undefined, origin: undefined }]))
      const timeAt = bytes.length - 24
      new DataView(bytes.buffer).setFloat64(timeAt, time, true)
      assert.throws(() => decodeBatch(bytes, new ReaderKeys()), isCorrupt)
    }
  })

  test('decode or are refused, whatever the bytes', () => {
    const mutation = fc.record({ at: fc.nat(4000), byte: fc.nat(255), cut: fc.option(fc.nat(4000), { nil: undefined, freq: 3 }) })
    fc.assert(
      fc.property(rowsArbitrary, fc.boolean(), fc.array(mutation, { minLength: 1, maxLength: 4 }), (rows, selfContained, mutations) => {
        let bytes = selfContained ? encodeBatch(build(rows)).slice() : encode(build(rows), new WriterDictionary())
        for (const { at, byte, cut } of mutations) {
          if (bytes.length > 0) bytes[at % bytes.length] = byte
          if (cut !== undefined) bytes = bytes.slice(0, cut % (bytes.length + 1))
        }
        try {
          const batch = decodeBatch(bytes, new ReaderKeys())
          assert.ok(batch.rows * 20 <= bytes.length)
          for (let row = 0; row < batch.rows; row++) assert.ok(batch.keys[batch.series[row]!] !== undefined)
          for (const row of [...(batch.text?.keys() ?? []), ...(batch.meta?.keys() ?? [])]) assert.ok(row < batch.rows)
        } catch (thrown) {
          assert.ok(thrown instanceof KymoError && thrown.kind === 'corrupt', String(thrown))
        }
      }),
      fuzzRuns(3000),
    )
  })

  test('do not make room for what a header claims', () => {
    for (const at of [4, 8, 12, 16, 20, 24, 28]) {
      const bytes = encodeBatch(build([{ series: 0, timeUs: 1, value: 1, flags: 1, text: 'x', meta: 'y', origin: [1, 2] }]))
      new DataView(bytes.buffer).setUint32(at, 0xffff_fff0, true)
      assert.throws(() => decodeBatch(bytes, new ReaderKeys()), isCorrupt, `header field at ${at}`)
    }
  })
})

function isCorrupt(thrown: unknown): boolean {
  return thrown instanceof KymoError && thrown.code === 'log_corrupt'
}
