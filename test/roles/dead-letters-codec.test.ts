import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { KymoError } from '../../src/core/errors.ts'
import { limits } from '../../src/core/limits.ts'
import { decodeAttributes, encodeAttributes } from '../../src/wire/attributes.ts'
import { decodeDeadLetter, decodeDeadLetterMark, encodeDeadLetter, encodeDeadLetterMark } from '../../src/wire/dead-letter.ts'
import type { DeadLetterContent } from '../../src/wire/dead-letter.ts'
import { fuzzRuns } from '../support/effort.ts'

const text = fc.string({ unit: 'grapheme', maxLength: 40 })
const content: fc.Arbitrary<DeadLetterContent> = fc.record(
  {
    time_us: fc.integer({ min: 0, max: 4e15 }),
    code: text,
    detail: text,
    errors: fc.array(fc.record({ pointer: text, detail: text }, { noNullPrototype: true }), { maxLength: 3 }),
    transport: fc.constantFrom('mqtt', 'http'),
    client: text,
    topic: text,
    tenant: text,
    shape: text,
    topic_device: text,
    content_type: text,
    bytes_total: fc.nat(),
    truncated: fc.boolean(),
    body: fc.uint8Array({ maxLength: 200 }),
  },
  {
    noNullPrototype: true,
    requiredKeys: ['time_us', 'code', 'detail', 'errors', 'transport', 'client', 'topic', 'tenant', 'shape', 'bytes_total', 'truncated', 'body'],
  },
)
const isFormatError = (error: unknown): boolean => error instanceof KymoError && error.code === 'log_format'

describe('dead letter records', () => {
  it('come back as they were written', () => {
    fc.assert(
      fc.property(content, (letter) => {
        const back = decodeDeadLetter(encodeDeadLetter(letter))
        assert.deepEqual({ ...back, body: [...back.body] }, { ...letter, body: [...letter.body] })
      }),
      fuzzRuns(400),
    )
  })

  it('have the documented bytes', () => {
    const bytes = encodeDeadLetter({ ...sample, body: Uint8Array.from([1, 2, 3]) })
    const length = new DataView(bytes.buffer).getUint32(1, true)
    assert.equal(bytes[0], 1)
    assert.match(Buffer.from(bytes.subarray(5, 5 + length)).toString(), /^\{"time_us":1,"code":"bug",/)
    assert.deepEqual([...bytes.subarray(5 + length)], [1, 2, 3])
  })

  it('stay bounded whatever the message was', () => {
    const letter = {
      ...sample,
      detail: '😀'.repeat(100_000),
      errors: Array.from({ length: 1_000 }, () => ({ pointer: '/x'.repeat(10_000), detail: 'y'.repeat(10_000) })),
      body: new Uint8Array(limits.deadLetterBodyBytesMax + 1),
      bytes_total: limits.deadLetterBodyBytesMax + 1,
    }
    const bytes = encodeDeadLetter(letter)
    const back = decodeDeadLetter(bytes)
    assert.ok(bytes.length < limits.deadLetterBodyBytesMax + 100_000)
    assert.equal(back.body.length, limits.deadLetterBodyBytesMax)
    assert.equal(back.truncated, true)
    assert.equal(back.bytes_total, letter.bytes_total)
    assert.ok(back.detail.isWellFormed())
  })

  it('are refused when damaged, never read wrongly by a crash', () => {
    const bytes = encodeDeadLetter(sample)
    for (let length = 0; length < bytes.length - sample.body.length; length++)
      assert.throws(() => decodeDeadLetter(bytes.slice(0, length)), isFormatError)
    const newer = bytes.slice()
    newer[0] = 2
    assert.throws(() => decodeDeadLetter(newer), isFormatError)
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (noise) => {
        for (const decode of [decodeDeadLetter, decodeDeadLetterMark, decodeAttributes]) assert.throws(() => decode(noise), isFormatError)
      }),
      fuzzRuns(400),
    )
  })

  it('are marked by offset and status', () => {
    const mark = { letter: '12345678901', status: 'replayed' } as const
    assert.deepEqual(decodeDeadLetterMark(encodeDeadLetterMark(mark)), mark)
    for (const wrong of [
      '{"v":1,"letter":"x","status":"replayed"}',
      '{"v":1,"letter":"1","status":"waiting"}',
      '{"v":2,"letter":"1","status":"replayed"}',
      '[]',
      'null',
    ]) {
      assert.throws(() => decodeDeadLetterMark(new TextEncoder().encode(wrong)), isFormatError, wrong)
    }
  })
})

describe('attribute records', () => {
  it('come back as they were written, prototype names included', () => {
    fc.assert(
      fc.property(
        text,
        text,
        fc.dictionary(fc.oneof(text, fc.constantFrom('__proto__', 'constructor', 'toString')), text),
        (tenant, device, given) => {
          const changes = Object.fromEntries(Object.entries(given))
          assert.deepEqual(decodeAttributes(encodeAttributes({ tenant, device, changes })), { tenant, device, changes })
        },
      ),
      fuzzRuns(400),
    )
    const changes = Object.fromEntries([['__proto__', 'x']])
    assert.deepEqual(Object.keys(decodeAttributes(encodeAttributes({ tenant: 't', device: 'd', changes })).changes), ['__proto__'])
  })
})

const sample: DeadLetterContent = {
  time_us: 1,
  code: 'bug',
  detail: 'd',
  errors: [],
  transport: 'mqtt',
  client: 'c',
  topic: 't',
  tenant: 'default',
  shape: 'any',
  bytes_total: 3,
  truncated: false,
  body: Uint8Array.from([1, 2, 3]),
}
