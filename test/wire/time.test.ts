import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { limits } from '../../src/core/limits.ts'
import { epochDigitsToUs, epochToUs, formatRfc3339, parseRfc3339, rfc3339ToUs } from '../../src/wire/time.ts'
import { fuzzRuns } from '../support/effort.ts'

/** 2255-06-05T23:47:34.740991Z, the last microsecond that is an exact integer in a double. */
const last = limits.timeUsMax

describe('epoch numbers', () => {
  it('are told apart by magnitude', () => {
    const us = 1_700_000_000_000_000
    assert.equal(epochToUs(1_700_000_000), us)
    assert.equal(epochToUs(1_700_000_000_000), us)
    assert.equal(epochToUs(1_700_000_000_000_000), us)
    assert.equal(epochToUs(1.7e18), us)
    assert.equal(epochToUs(0), 0)
    assert.ok(Object.is(epochToUs(-0), 0))
  })

  it('change unit at the stated bounds', () => {
    assert.equal(epochToUs(1e11), 1e14, 'milliseconds')
    assert.equal(epochToUs(1e14), 1e14, 'microseconds')
    assert.equal(epochToUs(1e17), 1e14, 'nanoseconds')
    assert.ok(Number.isNaN(epochToUs(99_999_999_999)), 'seconds of the year 5138')
    assert.ok(Number.isNaN(epochToUs(99_999_999_999_999)), 'milliseconds of the year 5138')
  })

  it('keep fractions to the microsecond', () => {
    assert.equal(epochToUs(1_700_000_000.123456), 1_700_000_000_123_456)
    assert.equal(epochToUs(1_700_000_000_123.456), 1_700_000_000_123_456)
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 4_000_000_000 }), fc.integer({ min: 0, max: 999_999 }), (s, us) => {
        assert.equal(epochToUs(Number(`${s}.${String(us).padStart(6, '0')}`)), s * 1e6 + us)
      }),
      fuzzRuns(1000),
    )
  })

  it('are refused when negative, not finite or after 2255', () => {
    for (const value of [-1, -1e-9, Number.NaN, Infinity, -Infinity, last / 1e6 + 1, 1e30]) assert.ok(Number.isNaN(epochToUs(value)), String(value))
    assert.equal(epochToUs(last), last)
    assert.ok(Number.isNaN(epochToUs(last + 1)))
  })

  it('beyond 2^53 are read digit by digit', () => {
    const of = (text: string): number => epochDigitsToUs(Buffer.from(text), 0, text.length)
    assert.equal(of('1700000000123456789'), 1_700_000_000_123_456)
    assert.equal(of('1700000000999999999'), 1_700_000_000_999_999)
    assert.equal(of(`${last}999`), last)
    assert.ok(Number.isNaN(of('9007199254740992000')))
    assert.ok(Number.isNaN(of('17000000001234567')), 'microseconds of the year 2508')
    assert.ok(Number.isNaN(of('99999999999999999999')))
    assert.ok(Number.isNaN(of('-1700000000123456789')))
    fc.assert(
      fc.property(fc.bigInt({ min: 100_000_000_000_000_000n, max: 9_007_199_254_740_991_999n }), (ns) =>
        assert.equal(of(String(ns)), Number(ns / 1000n)),
      ),
      fuzzRuns(1000),
    )
  })
})

describe('RFC 3339', () => {
  it('agrees with Date on what both know', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: Math.floor(last / 1000) }), (ms) => {
        assert.equal(parseRfc3339(new Date(ms).toISOString()), ms * 1000)
      }),
      fuzzRuns(1000),
    )
    for (const text of [
      '2000-02-29T00:00:00Z',
      '2100-02-28T23:59:59.999Z',
      '1970-01-01T00:00:00Z',
      '2024-12-31T23:59:59+14:00',
      '2026-03-01T00:00:00-12:00',
    ]) {
      assert.equal(parseRfc3339(text), Date.parse(text) * 1000, text)
    }
  })

  it('takes the forms that devices send', () => {
    const us = Date.UTC(2026, 1, 3, 4, 5, 6) * 1000
    for (const text of [
      '2026-02-03T04:05:06Z',
      '2026-02-03t04:05:06z',
      '2026-02-03 04:05:06Z',
      '2026-02-03T04:05:06',
      '2026-02-03T05:35:06+01:30',
      '2026-02-03T05:35:06+0130',
      '2026-02-03 03:05:06-01',
      '2026-02-03T04:05:06-00:00',
      '2026-02-03T04:05:06.000000000Z',
    ]) {
      assert.equal(parseRfc3339(text), us, text)
    }
  })

  it('keeps six digits of a fraction and cuts the rest', () => {
    const us = Date.UTC(2026, 1, 3) * 1000
    for (const [fraction, more] of [
      ['1', 100_000],
      ['12', 120_000],
      ['000001', 1],
      ['1234569', 123_456],
      ['999999999', 999_999],
    ] as const) {
      assert.equal(parseRfc3339(`2026-02-03T00:00:00.${fraction}Z`), us + more)
    }
  })

  it('counts a leap second as the first moment of the next minute', () => {
    assert.equal(parseRfc3339('2016-12-31T23:59:60Z'), Date.UTC(2017, 0, 1) * 1000)
    assert.equal(parseRfc3339('2016-12-31T23:58:60Z'), undefined)
  })

  it('refuses everything else', () => {
    const bad = [
      '',
      '2026',
      '2026-02-03',
      '2026-02-03T04:05',
      '2026-02-03T04:05:06.Z',
      '2026-02-03T04:05:06,5Z',
      '2026-02-03T24:00:00Z',
      '2026-02-03T04:60:00Z',
      '2026-02-03T04:05:61Z',
      '2026-13-03T04:05:06Z',
      '2026-00-03T04:05:06Z',
      '2026-02-29T04:05:06Z',
      '2026-04-31T04:05:06Z',
      '2026-02-00T04:05:06Z',
      '2026-02-03T04:05:06+',
      '2026-02-03T04:05:06+1',
      '2026-02-03T04:05:06+24:00',
      '2026-02-03T04:05:06+01:60',
      '2026-02-03T04:05:06+01:0',
      '2026-02-03T04:05:06+010',
      '2026-02-03T04:05:06Zx',
      '2026-02-03T04:05:06 UTC',
      '2026/02/03 04:05:06',
      '2026-02-03_04:05:06',
      '+026-02-03T04:05:06Z',
      '0026-01-01T00:00:00Z',
      '1969-12-31T23:59:59Z',
      '1970-01-01T00:00:00+00:01',
      '2256-01-01T00:00:00Z',
      '9999-12-31T23:59:59Z',
      'Tue, 03 Feb 2026 04:05:06 GMT',
      '２026-02-03T04:05:06Z',
      `2026-02-03T04:05:06.${'1'.repeat(100)}Z`,
    ]
    for (const text of bad) assert.equal(parseRfc3339(text), undefined, text)
  })

  it('does not look beyond its bytes', () => {
    const bytes = Buffer.from('2026-02-03T04:05:06.5Z')
    assert.equal(rfc3339ToUs(bytes, 0, 19), Date.UTC(2026, 1, 3, 4, 5, 6) * 1000)
    assert.ok(Number.isNaN(rfc3339ToUs(bytes, 0, 18)))
    assert.ok(Number.isNaN(rfc3339ToUs(bytes, 0, 20)), 'a point without digits')
  })

  it('is written so that it reads back the same', () => {
    assert.equal(formatRfc3339(1_700_000_000_123_000), '2023-11-14T22:13:20.123Z')
    assert.equal(formatRfc3339(1_700_000_000_123_456), '2023-11-14T22:13:20.123456Z')
    fc.assert(
      fc.property(fc.integer({ min: 0, max: last }), (us) => assert.equal(parseRfc3339(formatRfc3339(us)), us)),
      fuzzRuns(1000),
    )
  })
})
