import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import type { RangeQuery } from '../../src/core/ports.ts'
import { planRange } from '../../src/store/duckdb/range-plan.ts'
import { keepAll } from '../../src/store/duckdb/retention.ts'
import { field, levelWidth, stateWidth } from '../../src/store/duckdb/series-state.ts'
import { openDuckdbStore } from '../../src/store/duckdb/store.ts'
import { envAt } from '../support/kept-store.ts'
import { answer, signal, spanOf, type AnswerRow } from '../support/store-batches.ts'
import { StoreHead } from '../support/store-head.ts'

const us = (text: string): number => Date.parse(text) * 1000
const s = 1e6
const dayUs = 86_400e6

/** One series whose rollups speak for all of 2025 and up to its last minute. */
function state(): Float64Array {
  const cells = new Float64Array(stateWidth)
  const [first, last] = [us('2024-12-01T00:00:00Z'), us('2026-01-20T10:20:30Z')]
  cells[field.first] = first
  cells[field.last] = last
  cells[field.lateFirst] = cells[field.correctedFirst] = Number.POSITIVE_INFINITY
  cells[field.lateLast] = cells[field.correctedLast] = Number.NEGATIVE_INFINITY
  cells[field.minuteFrom] = first
  cells[field.closed] = cells[field.open] = us('2026-01-20T10:20:00Z')
  cells[field.closed + levelWidth] = cells[field.open + levelWidth] = us('2026-01-20T10:00:00Z')
  return cells
}

function parts(query: Partial<RangeQuery>, known: { readonly rawFromUs?: number } = {}): string[] {
  const full: RangeQuery = {
    match: { tenant: 'default' },
    fromUs: us('2025-01-01T00:00:00Z'),
    toUs: us('2026-01-01T00:00:00Z'),
    order: 'asc',
    limit: 1000,
    ...query,
  }
  const plan = planRange(full, Uint32Array.of(0), [{ tenant: 'default', device: 'd', metric: 'm' }], state(), undefined, known)
  const shown = [...(plan?.parts ?? []), ...(plan?.quantiles ?? []).map((part) => ({ ...part, from: `quantiles of ${part.from}` }))]
  return shown.map(({ from, fromUs, toUs }) => `${from} ${[fromUs, toUs].map((at) => new Date(at / 1000).toISOString().slice(0, 19)).join(' ')}`)
}

test('a year of days is read from hours where the zone is whole hours from UTC, and from minutes where it is half of one', () => {
  const day = (timeZone: string) => ({ calendar: { unit: 'day', timeZone } }) as const
  assert.deepEqual(parts(day('Europe/Berlin')), ['hour 2025-01-01T00:00:00 2026-01-01T00:00:00'])
  assert.deepEqual(parts({ calendar: { unit: 'month', timeZone: 'America/New_York' } }), ['hour 2025-01-01T00:00:00 2026-01-01T00:00:00'])
  assert.deepEqual(parts(day('Asia/Kolkata')), ['minute 2025-01-01T00:00:00 2026-01-01T00:00:00'])
  assert.deepEqual(parts({ ...day('Europe/Berlin'), fromUs: us('2025-03-01T10:20:30Z'), toUs: us('2026-02-01T00:00:00Z') }), [
    'rows 2025-03-01T10:20:30 2025-03-01T10:21:00',
    'minute 2025-03-01T10:21:00 2025-03-01T11:00:00',
    'hour 2025-03-01T11:00:00 2026-01-20T10:00:00',
    'minute 2026-01-20T10:00:00 2026-01-20T10:20:00',
    'rows 2026-01-20T10:20:00 2026-01-20T11:00:00',
  ])
  // Only borders within the range cut anything.
  assert.deepEqual(parts({ ...day('Asia/Kolkata'), fromUs: us('2025-03-01T00:00:00Z'), toUs: us('2025-03-01T18:00:00Z') }), [
    'hour 2025-03-01T00:00:00 2025-03-01T18:00:00',
  ])
})

test('quantiles of a long range are made of sketches, with the hours that say how many there must be; those of a short one of rows', () => {
  const year = ['hour 2025-01-01T00:00:00 2026-01-01T00:00:00', 'quantiles of sketches 2025-01-01T00:00:00 2026-01-01T00:00:00']
  assert.deepEqual(parts({ stepUs: 3600e6, aggregations: ['p95'] }), year)
  assert.deepEqual(parts({ stepUs: 3600e6, aggregations: ['p95', 'max'] }), year)
  const short = { fromUs: us('2025-03-01T10:20:30Z'), toUs: us('2025-03-02T10:00:00Z') }
  assert.deepEqual(parts({ stepUs: 3600e6, aggregations: ['p95'], ...short }), ['quantiles of rows 2025-03-01T10:20:30 2025-03-02T10:00:00'])
  // Of borders within an hour nothing but rows knows.
  assert.deepEqual(parts({ stepUs: 1800e6, aggregations: ['p95'] }), ['quantiles of rows 2025-01-01T00:00:00 2026-01-01T00:00:00'])
  // The ends of a range that cut an hour, and hours that are not over.
  assert.deepEqual(
    parts({ stepUs: 86_400e6, aggregations: ['p95'], fromUs: short.fromUs, toUs: us('2026-02-01T00:00:00Z') }).filter((part) =>
      part.startsWith('quantiles'),
    ),
    [
      'quantiles of rows 2025-03-01T10:20:30 2025-03-01T11:00:00',
      'quantiles of sketches 2025-03-01T11:00:00 2026-01-20T10:00:00',
      'quantiles of rows 2026-01-20T10:00:00 2026-01-20T11:00:00',
    ],
  )
  // What is short but has no readings any more.
  const gone = { rawFromUs: us('2025-06-01T00:00:00Z') }
  assert.deepEqual(parts({ stepUs: 3600e6, aggregations: ['p95'], ...short }, gone).slice(-1), [
    'quantiles of sketches 2025-03-01T11:00:00 2025-03-02T10:00:00',
  ])
})

test('a page of gaps reads no more than it shows', () => {
  const gaps = { gaps: 'null', stepUs: 3600e6, limit: 10 } as const
  assert.deepEqual(parts(gaps), ['hour 2025-01-01T00:00:00 2025-01-01T11:00:00'])
  assert.deepEqual(parts({ ...gaps, order: 'desc' }), ['hour 2025-12-31T13:00:00 2026-01-01T00:00:00'])
})

test('where readings have gone, quantiles of whole hours stay, and others are absent', async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-quantiles-'))
  let nowUs = us('2026-08-01T00:00:00Z')
  const retention = { ...keepAll, rawUs: 10 * dayUs }
  const store = await openDuckdbStore({ dir, env: envAt(() => nowUs), memoryLimitMb: 128, sealBytes: 0, retention })
  try {
    const head = new StoreHead()
    let next = 0
    for (const day of ['2026-08-01', '2026-08-02', '2026-08-12']) {
      nowUs = us(`${day}T23:59:00Z`)
      const rows = Array.from({ length: 240 }, (_, i) => ({ timeUs: us(day) + i * 360 * s, value: i }))
      await store.commit({ tables: head.push(rows, nowUs), span: spanOf(next, ++next) }, signal)
      nowUs += 2 * 3600e6
      await store.seal()
    }
    assert.equal(store.stats().rawFromUs, us('2026-08-03'))
    const rows = (found: readonly AnswerRow[]): unknown[] =>
      found.map((r) => [new Date(r.timeUs / 1000).toISOString().slice(0, 10), r['count'], r['p50']])
    const query = { stepUs: dayUs, fromUs: us('2026-08-01'), toUs: us('2026-08-13') }
    assert.deepEqual(
      rows(await answer(store, { ...query, aggregations: ['count', 'p50'] })).map((row) => (row as unknown[]).slice(0, 2)),
      [
        ['2026-08-01', 240],
        ['2026-08-02', 240],
        ['2026-08-12', 240],
      ],
    )
    const medians = (await answer(store, { ...query, aggregations: ['count', 'p50'] })).map((r) => Number(r['p50']))
    for (const median of medians) assert.ok(Math.abs(median - 119) < 1.2, String(median))
    // Days of a zone that is half an hour off are made of readings.
    const kolkata = { calendar: { unit: 'day', timeZone: 'Asia/Kolkata' }, aggregations: ['p50'] } as const
    assert.ok((await answer(store, kolkata)).every((row) => row.timeUs >= us('2026-08-11')))
    // A month of which days have gone has its median as well.
    const month = { calendar: { unit: 'month', timeZone: 'UTC' }, aggregations: ['p50'] } as const
    assert.equal((await answer(store, { ...month, fromUs: query.fromUs })).length, 1)
  } finally {
    await store.close()
    fs.rmSync(dir, { recursive: true, force: true })
  }
})
