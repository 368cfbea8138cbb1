import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { KymoError } from '../../src/core/errors.ts'
import { neverExpires } from '../../src/core/session-store.ts'
import { ByteReader, ByteWriter } from '../../src/store/sessions/bytes.ts'
import { decodeChanges, encoder, journalVersion, type Changes } from '../../src/store/sessions/changes.ts'
import { State } from '../../src/store/sessions/state.ts'
import { messageOf, subscriptionOf } from '../contract/session-store.ts'
import { SimRandom } from '../sim/random.ts'
import { fuzzCases, fuzzRuns } from '../support/effort.ts'

type Told = readonly [name: string, ...values: unknown[]]

const names = [
  'session',
  'attach',
  'detach',
  'end',
  'subscribe',
  'unsubscribe',
  'message',
  'sending',
  'received',
  'done',
  'drop',
  'accept',
  'release',
  'clear',
  'willDue',
  'willDrop',
  'willDone',
  'due',
  'rewrite',
  'rewritten',
] as const satisfies readonly (keyof Changes)[]

/** Notes what it is told. */
function recorder(): { readonly told: Told[]; readonly changes: Changes } {
  const told: Told[] = []
  const note =
    (name: string) =>
    (...values: readonly unknown[]): void =>
      void told.push([name, ...values.map(plain)])
  const changes = Object.fromEntries(names.map((name) => [name, note(name)]))
  return { told, changes: changes as unknown as Changes }
}

/** Bytes as hexadecimal, so that a view and a copy are equal. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return `0x${Buffer.from(value).toString('hex')}`
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value === 'object' && value !== null) return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plain(one)]))
  return value
}

function written(change: (to: Changes) => void): Buffer {
  const out = new ByteWriter()
  out.u8(journalVersion)
  change(encoder(out))
  return out.take()
}

const message = messageOf('a/b', 'hi', { qos: 2, properties: Uint8Array.of(1, 1), expiresUs: 1_767_225_600_000_000 })
const will = { id: 9, retain: true, delayS: 30, dueUs: Number.POSITIVE_INFINITY, message: messageOf('w', '') }
const subscriptions = [subscriptionOf('$share/g/+/ü', { qos: 2, noLocal: true, retainAsPublished: true, retainHandling: 2, identifier: 268_435_455 })]
const entries = [
  { seq: 3, received: true, qos: 2, retain: false, identifiers: [], group: undefined, packetId: 65_535 },
  { seq: 2 ** 40, received: false, qos: 1, retain: true, identifiers: [1, 128], group: undefined, packetId: 0 },
] as const

/** One of each, and the bytes that version 1 has for it: they must never change. */
const golden: readonly (readonly [(to: Changes) => void, string])[] = [
  [
    (to) =>
      to.session({
        id: 300,
        tenant: 'default',
        client: 'c',
        epoch: 2,
        expiryS: neverExpires,
        detachedUs: 1.5e15,
        subscriptions,
        inbound: [1, 65_535],
        entries,
        will,
      }),
    '0101ac020764656661756c74016302ffffffff0f0000a7dcf7501543012effffff7f0d2473686172652f672f2b2fc3bc0201ffff03020903ffff0306020180018080808080200001091e000000000000f07f090764656661756c7401770000',
  ],
  [(to) => to.attach(1, 2, 3600, undefined), '01020102901c00'],
  [(to) => to.attach(1, 3, 0, will), '010201030001091e000000000000f07f090764656661756c7401770000'],
  [(to) => to.detach(1, 1.5e15, 60, Number.POSITIVE_INFINITY), '0103013c0000a7dcf7501543000000000000f07f'],
  [(to) => to.end(128), '01048001'],
  [(to) => to.subscribe(1, subscriptions), '010501012effffff7f0d2473686172652f672f2b2fc3bc'],
  [(to) => to.unsubscribe(1, ['a', 'b/#']), '01060102016103622f23'],
  [
    (to) =>
      to.message(7, message, true, [
        { session: 1, qos: 1, retain: false, identifiers: [], group: undefined },
        { session: 2, qos: 2, retain: true, identifiers: [5], group: undefined },
      ]),
    '0107070e0764656661756c7403612f6202010100008118211d194302686902010002070105',
  ],
  [
    (to) => to.message(7, message, false, [{ session: 1, qos: 1, retain: false, identifiers: [5], group: '$share/g/#' }]),
    '010707060764656661756c7403612f6202010100008118211d194302686901011401050a2473686172652f672f23',
  ],
  [(to) => to.sending(1, 2, 3), '0108010203'],
  [(to) => to.received(1, 3), '01090103'],
  [(to) => to.done(1, 3), '010a0103'],
  [(to) => to.drop(1, 2), '010b0102'],
  [(to) => to.accept(1, 3), '010c0103'],
  [(to) => to.release(1, 3), '010d0103'],
  [(to) => to.clear('default', 'a/b'), '010e0764656661756c7403612f62'],
  [(to) => to.willDue(1), '010f01'],
  [(to) => to.willDrop(1), '011001'],
  [(to) => to.willDone(9), '011109'],
  [(to) => to.due({ id: 9, client: 'c', retain: true, message }), '01120901630e0764656661756c7403612f6202010100008118211d1943026869'],
  [(to) => to.rewrite(4), '011304'],
  [(to) => to.rewritten(4, 301, 8), '011404ad0208'],
]

describe('the journal of sessions', () => {
  test('has the bytes that version 1 has', () => {
    assert.deepEqual(
      golden.map(([change]) => written(change).toString('hex')),
      golden.map(([, hex]) => hex),
    )
    const [all, one] = [recorder(), recorder()]
    for (const [change, hex] of golden) {
      change(all.changes)
      decodeChanges(Buffer.from(hex, 'hex'), one.changes)
    }
    assert.deepEqual(one.told, all.told)
    assert.deepEqual(new Set(all.told.map(([name]) => name)), new Set(names))
  })

  test('gives back what was written', () => {
    const number = fc.oneof(fc.nat(300), fc.nat(), fc.maxSafeNat())
    const qos = fc.constantFrom(0 as const, 1 as const, 2 as const)
    const time = fc.oneof(fc.nat(), fc.constant(Number.POSITIVE_INFINITY))
    const text = fc.string({ unit: 'grapheme' })
    const bytes = fc.uint8Array()
    const aMessage = fc.record({ tenant: text, topic: text, qos, payload: bytes, properties: bytes, expiresUs: time })
    const aWill = fc.record({ id: number, retain: fc.boolean(), delayS: number, dueUs: time, message: aMessage })
    const delivery = {
      qos: fc.constantFrom(1 as const, 2 as const),
      retain: fc.boolean(),
      identifiers: fc.array(number, { maxLength: 3 }),
      group: fc.option(text, { nil: undefined }),
    }
    const subscription = fc.record({
      filter: text,
      qos,
      noLocal: fc.boolean(),
      retainAsPublished: fc.boolean(),
      retainHandling: qos,
      identifier: number,
    })
    const session = fc.record({
      id: number,
      tenant: text,
      client: text,
      epoch: number,
      expiryS: number,
      detachedUs: time,
      subscriptions: fc.array(subscription),
      inbound: fc.array(number),
      entries: fc.array(fc.record({ seq: number, received: fc.boolean(), packetId: number, ...delivery })),
      will: fc.option(aWill, { nil: undefined }),
    })
    const change: fc.Arbitrary<(to: Changes) => void> = fc.oneof(
      session.map((s) => (to: Changes) => to.session(s)),
      fc.tuple(number, number, number, fc.option(aWill, { nil: undefined })).map((all) => (to: Changes) => to.attach(...all)),
      fc.tuple(number, time, number, time).map((all) => (to: Changes) => to.detach(...all)),
      fc.tuple(number, fc.array(subscription)).map((all) => (to: Changes) => to.subscribe(...all)),
      fc.tuple(number, fc.array(text)).map((all) => (to: Changes) => to.unsubscribe(...all)),
      fc
        .tuple(number, aMessage, fc.boolean(), fc.array(fc.record({ session: number, ...delivery })))
        .map((all) => (to: Changes) => to.message(...all)),
      fc.tuple(number, number, number).map((all) => (to: Changes) => to.sending(...all)),
      fc.record({ id: number, client: text, retain: fc.boolean(), message: aMessage }).map((due) => (to: Changes) => to.due(due)),
      fc.tuple(text, text).map((all) => (to: Changes) => to.clear(...all)),
    )
    fc.assert(
      fc.property(fc.array(change, { maxLength: 5 }), (changes) => {
        const [wanted, got] = [recorder(), recorder()]
        for (const one of changes) one(wanted.changes)
        decodeChanges(
          written((to) => changes.forEach((one) => one(to))),
          got.changes,
        )
        assert.deepEqual(got.told, wanted.told)
      }),
      fuzzRuns(2000),
    )
  })

  test('bytes that are no record are refused, whatever they are', () => {
    const random = new SimRandom(7)
    const good = Buffer.concat([Buffer.of(journalVersion), ...golden.map(([, hex]) => Buffer.from(hex, 'hex').subarray(1))])
    let refused = 0
    for (const _ of fuzzCases(20_000)) {
      let bytes = Buffer.from(good)
      for (let flips = random.below(4); flips >= 0; flips--) bytes[random.below(bytes.length)] = random.below(256)
      if (random.chance(0.3)) bytes = bytes.subarray(0, random.below(bytes.length))
      for (const into of [recorder().changes, new State(random.chance(0.5))]) {
        try {
          decodeChanges(bytes, into)
        } catch (thrown) {
          assert.ok(thrown instanceof KymoError, String(thrown))
          assert.ok(thrown.code === 'log_corrupt' || thrown.code === 'log_format', thrown.message)
          refused++
        }
      }
    }
    assert.ok(refused > 100)
  })

  test('numbers of all sizes', () => {
    for (const number of [0, 127, 128, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 49, 2 ** 52, Number.MAX_SAFE_INTEGER]) {
      const out = new ByteWriter()
      out.varint(number)
      assert.equal(new ByteReader(out.take()).varint(), number)
    }
    for (const bytes of [Buffer.alloc(9, 0xff), Buffer.from('ffffffffffffff7f', 'hex'), Buffer.alloc(3, 0x80)]) {
      assert.throws(() => new ByteReader(bytes).varint(), { code: 'log_corrupt' })
    }
  })

  test('records whose buffers are given back hold what was written, whatever their sizes', () => {
    const size = fc.oneof(fc.integer({ min: 0, max: 5_000 }), fc.integer({ min: 60_000, max: 300_000 }))
    fc.assert(
      fc.property(fc.array(fc.array(size, { minLength: 1, maxLength: 3 }), { maxLength: 12 }), (records) => {
        const out = new ByteWriter()
        let before: Uint8Array | undefined
        for (const [n, sizes] of records.entries()) {
          const blobs = sizes.map((length, i) => Buffer.alloc(length, n * 8 + i + 1))
          for (const blob of blobs) out.blob(blob)
          out.varint(n)
          // The one before is durable by now; this one is written into another buffer.
          if (before !== undefined) out.giveBack(before)
          const body = out.take()
          const from = new ByteReader(body)
          for (const blob of blobs) assert.ok(blob.equals(from.blob()))
          assert.equal(from.varint(), n)
          before = body
        }
      }),
      fuzzRuns(100),
    )
  })

  test('a large payload is copied once, and the buffer that it was written into is used again', () => {
    const out = new ByteWriter()
    const blob = Buffer.alloc(1_000_000, 7)
    out.blob(blob)
    out.varint(3)
    const first = out.take()
    assert.ok(first.buffer.byteLength < 1_010_000, `${first.buffer.byteLength} bytes for one message`)
    out.giveBack(first)
    out.blob(blob)
    out.take()
    out.blob(blob)
    assert.equal(out.take().buffer, first.buffer)
  })
})
