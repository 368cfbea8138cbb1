import assert from 'node:assert/strict'
import test from 'node:test'
import { clipped, hexDump, moment, visible } from '../../src/page/format.ts'
import { bucketsOf, PointRing, stepMsOf, stepText, withGaps, withPoints } from '../../src/page/plot-data.ts'

const minute = 60_000
const buckets = (times: readonly number[]) => ({
  time: [...times],
  mean: times.map(() => 2),
  min: times.map(() => 1),
  max: times.map(() => 3),
  count: times.map(() => 4),
})

test('columns of an answer become buckets; those without a number are left out', () => {
  const answer = {
    order: 'asc' as const,
    rows: 3,
    truncated: false,
    next_cursor: null,
    series: [],
    columns: { time: [1, 2, 3], series: [0, 0, 0], avg: [1.5, null, 2], min: [1, null, 2], max: [2, null, 2], count: [2, 0, 1] },
  }
  assert.deepEqual(bucketsOf(answer), { time: [1, 3], mean: [1.5, 2], min: [1, 2], max: [2, 2], count: [2, 1] })
})

test('the ring keeps the newest, oldest first', () => {
  const ring = new PointRing(3)
  for (let i = 1; i <= 5; i++) ring.push(i, i * 10)
  assert.deepEqual(ring.points, [
    [3, 30],
    [4, 40],
    [5, 50],
  ])
  const { points } = ring
  assert.equal(ring.points, points, 'the same array until something changes')
  ring.push(6, 60)
  assert.notEqual(ring.points, points)
  ring.clear()
  assert.deepEqual(ring.points, [])
})

test('live points go into the last bucket and make new ones; older ones are left to the store', () => {
  const base = { time: [0, minute], mean: [5, 10], min: [5, 8], max: [5, 12], count: [1, 3] }
  const points: (readonly [number, number])[] = [
    [minute + 10, 14],
    [30, 99],
    [2 * minute + 5, 1],
    [2 * minute + 1, 3],
  ]
  assert.deepEqual(withPoints(base, points, minute), {
    time: [0, minute, 2 * minute],
    mean: [5, 11, 2],
    min: [5, 8, 1],
    max: [5, 14, 3],
    count: [1, 4, 2],
  })
  assert.deepEqual(base.count, [1, 3], 'what was given is left as it was')
})

test('a gap is a null between neighbours that are far apart, measured by their usual distance', () => {
  const far = withGaps(buckets([0, 1, 2, 3, 20, 21].map((n) => n * minute)), minute)
  assert.deepEqual(
    far[0],
    [0, 1, 2, 3, 11.5, 20, 21].map((n) => n * minute),
  )
  assert.deepEqual(far[3], [2, 2, 2, 2, null, 2, 2])
  assert.deepEqual(far[1], [1, 1, 1, 1, null, 1, 1])
  // A device that speaks every ten minutes has no gaps in buckets of one.
  assert.equal(withGaps(buckets([0, 10, 20, 30].map((n) => n * minute)), minute)[3].includes(null), false)
  assert.deepEqual(withGaps(buckets([5]), minute)[0], [5])
  assert.deepEqual(withGaps(buckets([]), minute)[0], [])
})

test('steps as the API names them', () => {
  assert.deepEqual(['500ms', '2s', '15m', '1h', '1d', '1w', undefined, 'auto'].map(stepMsOf), [500, 2_000, 900_000, 3.6e6, 864e5, 6048e5, 1, 1])
  assert.deepEqual(['500ms', '5s', '15m', '1h', '1w', '1mo', 'auto'].map(stepText), ['500 ms', '5 s', '15 min', '1 h', '1 week', '1 month', 'auto'])
})

test('a long text is cut where a character ends, and says so', () => {
  assert.deepEqual(
    ['short', 'a long text', '\u202ex', 'abcde🌡️f'].map((text) => clipped(text, 7)),
    ['short', 'a long…', '\\u202ex', 'abcde…'],
  )
})

test('what cannot be seen, or turns text around, is written as its code', () => {
  assert.equal(visible('a\u0000b\u202ec\u200bd\u0085\u{feff}'), 'a\\u0000b\\u202ec\\u200bd\\u0085\\ufeff')
  assert.equal(visible('line\n\tтекст 温度 <b>'), 'line\n\tтекст 温度 <b>')
})

test('bytes that are no text as a dump, cut where it is long', () => {
  const dump = hexDump(
    Uint8Array.from({ length: 20 }, (_, i) => i + 0x3c),
    18,
  ).split('\n')
  assert.equal(dump[0], '00000000  3c 3d 3e 3f 40 41 42 43  44 45 46 47 48 49 4a 4b  |<=>?@ABCDEFGHIJK|')
  assert.match(dump[1] ?? '', /^00000010 {2}4c 4d {45}.*\|LM\|$/)
  assert.equal(dump[2], '… 2 bytes more')
})

test('moments in UTC, with milliseconds where there are some', () => {
  assert.equal(moment(Date.UTC(2026, 10, 21, 12, 4, 9), 'utc'), '2026-11-21 12:04:09 UTC')
  assert.equal(moment(Date.UTC(2026, 10, 21, 12, 4, 9, 70), 'utc'), '2026-11-21 12:04:09.070 UTC')
})
