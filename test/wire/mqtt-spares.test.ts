import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { test } from 'node:test'
import fc from 'fast-check'
import { Framer } from '../../src/wire/mqtt/framer.ts'
import { Spares } from '../../src/wire/mqtt/spares.ts'
import { connect, publish } from '../mqtt/client-packets.ts'
import { fuzzRuns } from '../support/effort.ts'
import { Recorder } from './mqtt-recorder.ts'

const KiB = 1024

test('a large buffer is used again, a small one is not kept, and no more lies unused than may', () => {
  const spares = new Spares(3 * 64 * KiB)
  const large = spares.take(100 * KiB)
  assert.equal(large.length, 128 * KiB)
  spares.give(large)
  assert.equal(spares.take(65 * KiB), large)
  const [one, other, third] = [spares.take(64 * KiB), spares.take(64 * KiB), spares.take(64 * KiB)]
  for (const each of [one, other, third, large]) spares.give(each)
  assert.notEqual(spares.take(128 * KiB), large, 'there was no more room')
  assert.deepEqual(new Set([spares.take(64 * KiB), spares.take(64 * KiB), spares.take(64 * KiB)]), new Set([one, other, third]))
  const small = spares.take(100)
  assert.equal(small.length, 100)
  spares.give(small)
  assert.notEqual(spares.take(100), small)
})

test('packets of several clients that come in pieces through the same buffers are what they were', () => {
  const pieces = fc.array(fc.record({ client: fc.nat(2), bytes: fc.integer({ min: 1, max: 150_000 }) }), { maxLength: 60 })
  const sizes = fc.array(fc.array(fc.integer({ min: 0, max: 300_000 }), { maxLength: 3 }), { minLength: 3, maxLength: 3 })
  fc.assert(
    fc.property(sizes, pieces, (lengths, cuts) => {
      const spares = new Spares(1024 * KiB)
      const clients = lengths.map((some, n) => {
        const recorder = new Recorder(1024 * KiB)
        const packets = some.map((length, i) => publish(`t/${n}/${i}`, Buffer.alloc(length, n * 16 + i + 1)))
        return {
          recorder,
          at: 0,
          stream: Buffer.concat([connect({ clientId: `c${n}` }), ...packets]),
          framer: new Framer(recorder, 1024 * KiB, undefined, spares),
        }
      })
      const feed = (n: number, bytes: number): void => {
        const client = clients[n]!
        const chunk = Buffer.from(client.stream.subarray(client.at, client.at + bytes))
        client.at += chunk.length
        assert.equal(client.framer.push(chunk, 0, chunk.length), undefined)
        chunk.fill(0xee)
      }
      for (const { client, bytes } of cuts) feed(client, bytes)
      for (const n of clients.keys()) feed(n, Infinity)
      for (const { recorder, stream, framer } of clients) {
        const whole = new Recorder(1024 * KiB)
        assert.equal(new Framer(whole, 1024 * KiB).push(stream, 0, stream.length), undefined)
        assert.deepEqual(recorder.events, whole.events)
        assert.equal(framer.pendingBytes, 0)
      }
    }),
    fuzzRuns(100),
  )
})
