import assert from 'node:assert/strict'
import { Flag } from '../../../src/core/batch.ts'
import { aggregations, type RangeQuery, type Store } from '../../../src/core/ports.ts'
import { answer, batchOf, none, signal, spanOf } from '../../support/store-batches.ts'
import { at, code, head, s, type Using } from './shared.ts'

/** Buckets of a calendar in a time zone. */
export function calendars(using: Using): void {
  /** A reading each ten minutes, through rollups. */
  const feed = async (store: Store, from: string, to: string): Promise<void> => {
    const rows = Array.from({ length: (at(to) - at(from)) / (600 * s) }, (_, i) => ({ timeUs: at(from) + i * 600 * s, value: i % 144 }))
    await store.commit({ ...head()(rows), span: spanOf(0, 1) }, signal)
  }
  const counts = async (store: Store, query: Partial<RangeQuery>): Promise<unknown[]> =>
    (await answer(store, { aggregations: ['count'], ...query })).map((r) => [new Date(r.timeUs / 1000).toISOString(), r['count']])

  using('cuts days where the clocks of a zone say midnight, 23 and 25 hours long when they are changed', async (store) => {
    await feed(store, '2026-03-27T00:00:00Z', '2026-03-31T00:00:00Z')
    const days = { calendar: { unit: 'day', timeZone: 'Europe/Berlin' } } as const
    assert.deepEqual(await counts(store, days), [
      ['2026-03-26T23:00:00.000Z', 138],
      ['2026-03-27T23:00:00.000Z', 144],
      ['2026-03-28T23:00:00.000Z', 138],
      ['2026-03-29T22:00:00.000Z', 144],
      ['2026-03-30T22:00:00.000Z', 12],
    ])
    // The hours in the middle, cut by the minute at both ends.
    const range = { fromUs: at('2026-03-28T12:34:56Z'), toUs: at('2026-03-29T22:20:00Z') + 1 }
    assert.deepEqual(await counts(store, { ...days, ...range }), [
      ['2026-03-27T23:00:00.000Z', 62],
      ['2026-03-28T23:00:00.000Z', 138],
      ['2026-03-29T22:00:00.000Z', 3],
    ])
    for (const order of ['asc', 'desc'] as const) {
      const whole = await answer(store, { ...days, aggregations, order })
      const paged = []
      for (
        let page = await answer(store, { ...days, aggregations, order, limit: 2 });
        page.length > 0;
        page = await answer(store, { ...days, aggregations, order, limit: 2, after: page.at(-1)! })
      )
        paged.push(...page)
      assert.deepEqual(paged, whole)
    }
  })

  using('cuts days of zones that are half an hour, or 44 minutes and a half, away from UTC', async (store) => {
    await feed(store, '1971-05-01T00:00:00Z', '1971-05-03T00:00:00Z')
    assert.deepEqual(await counts(store, { calendar: { unit: 'day', timeZone: 'Asia/Kolkata' } }), [
      ['1971-04-30T18:30:00.000Z', 111],
      ['1971-05-01T18:30:00.000Z', 144],
      ['1971-05-02T18:30:00.000Z', 33],
    ])
    assert.deepEqual(await counts(store, { calendar: { unit: 'day', timeZone: 'Africa/Monrovia' } }), [
      ['1971-04-30T00:44:30.000Z', 5],
      ['1971-05-01T00:44:30.000Z', 144],
      ['1971-05-02T00:44:30.000Z', 139],
    ])
  })

  using('cuts weeks on Monday, months and years', async (store) => {
    await feed(store, '2026-12-25T00:00:00Z', '2027-02-02T00:00:00Z')
    const counted = (unit: 'week' | 'month' | 'year'): Promise<unknown[]> => counts(store, { calendar: { unit, timeZone: 'America/New_York' } })
    assert.deepEqual((await counted('week')).slice(0, 3), [
      ['2026-12-21T05:00:00.000Z', 3 * 144 + 30],
      ['2026-12-28T05:00:00.000Z', 7 * 144],
      ['2027-01-04T05:00:00.000Z', 7 * 144],
    ])
    assert.deepEqual(await counted('month'), [
      ['2026-12-01T05:00:00.000Z', 7 * 144 + 30],
      ['2027-01-01T05:00:00.000Z', 31 * 144],
      ['2027-02-01T05:00:00.000Z', 144 - 30],
    ])
    assert.deepEqual(await counted('year'), [
      ['2026-01-01T05:00:00.000Z', 7 * 144 + 30],
      ['2027-01-01T05:00:00.000Z', 32 * 144 - 30],
    ])
  })

  using('begins buckets in 1970 and ends them in 2255, where times begin and end', async (store) => {
    const last = 9_007_199_254_740_000
    const late = [batchOf([0, s, last].map((timeUs) => ({ timeUs, value: 1, flags: Flag.late })))]
    await store.commit({ tables: { ...none, late }, span: spanOf(0, 1) }, signal)
    const cases = [
      ['week', 'Europe/Berlin'],
      ['week', 'America/New_York'],
      ['week', 'UTC'],
      ['month', 'Europe/Berlin'],
      ['year', 'America/New_York'],
    ] as const
    for (const [unit, timeZone] of cases)
      for (const order of ['asc', 'desc'] as const) {
        const calendar = { unit, timeZone }
        const query = { calendar, aggregations: ['count', 'p50'], order, toUs: Number.MAX_SAFE_INTEGER } as const
        const found = await answer(store, query)
        const all = (order === 'asc' ? found : found.toReversed()).map((r) => [r.timeUs, r['count'], r['p50']])
        assert.deepEqual([all.length, all[0], all[1]!.slice(1), Number(all[1]![0]) > last - 366 * 86_400 * s], [2, [0, 2, 1], [1, 1], true])
        const after = found[0]!
        assert.deepEqual(await answer(store, { ...query, after }), found.slice(1))
      }
    const gaps = { stepUs: 7 * s, gaps: 'null', order: 'desc', limit: 3, aggregations: ['count'] } as const
    const ends = await answer(store, { ...gaps, toUs: Number.MAX_SAFE_INTEGER })
    assert.deepEqual(
      ends.map((r) => [r.timeUs % (7 * s), r['count']]),
      [
        [0, 1],
        [0, 0],
        [0, 0],
      ],
    )
    const years = await answer(store, {
      calendar: { unit: 'year', timeZone: 'Asia/Tokyo' },
      gaps: 'null',
      aggregations: ['count'],
      fromUs: last - 1,
      toUs: last + 1,
    })
    assert.deepEqual([years.length, years[0]!['count']], [1, 1])
  })

  using('refuses calendars of zones that it does not know, or beside a step', async (store) => {
    const unknown = { calendar: { unit: 'day', timeZone: 'Europe/Atlantis' } } as const
    await assert.rejects(answer(store, unknown), code('request_invalid'))
    await assert.rejects(answer(store, { calendar: { unit: 'day', timeZone: 'UTC' }, stepUs: 60 * s }), code('request_invalid'))
    await assert.rejects(answer(store, { gaps: 'null' }), code('request_invalid'))
  })
}
