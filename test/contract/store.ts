import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Flag } from '../../src/core/batch.ts'
import { KymoError } from '../../src/core/errors.ts'
import { aggregations, isQuantile, quantiles, type RangeQuery, type RollupColumns, type Store } from '../../src/core/ports.ts'
import { Dedupe } from '../../src/compute/window/dedupe.ts'
import { Rollup } from '../../src/compute/window/rollup.ts'
import { answer, batchOf, none, signal, spanOf, type TestRow } from '../support/store-batches.ts'

export interface StoreSubject {
  /** A store over nothing yet. */
  open(): Promise<Store>
  /** Closes the store and opens what it left behind. */
  reopen(store: Store): Promise<Store>
  /** Gone without a trace. */
  remove(store: Store): Promise<void>
}

const t0 = 1_700_000_000_000_000 - (1_700_000_000_000_000 % 3600e6)
const s = 1e6
const code = (expected: string) => (error: unknown) => error instanceof KymoError && error.code === expected

/** What every adapter of the Store port keeps to. */
export function storeContract(name: string, subject: StoreSubject): void {
  const using = (what: string, run: (store: Store) => Promise<Store | void>): void => {
    void it(what, async () => {
      const store = await subject.open()
      let last = store
      try {
        last = (await run(store)) ?? store
      } finally {
        await subject.remove(last)
      }
    })
  }
  void describe(`${name} keeps the Store contract`, () => {
    spans(using, subject)
    rows(using)
    buckets(using, subject)
    calendars(using)
    quantilesAndGaps(using)
    lateRows(using, subject)
    heads(using, subject)
  })
}

type Using = (what: string, run: (store: Store) => Promise<Store | void>) => void

function spans(using: Using, subject: StoreSubject): void {
  using('knows nothing of a log at first', async (store) => {
    assert.equal(await store.resume('log-1', 'telemetry', 0), undefined)
    assert.deepEqual(await answer(store, {}), [])
  })

  using('gives back next offset and the last states of each operator, across reopening', async (store) => {
    const bytes = Uint8Array.of(1, 2, 3)
    await store.commit(
      {
        tables: none,
        span: spanOf(5, 9),
        states: [
          { operator: 'a', at: 9n, bytes },
          { operator: 'b', at: 7n, bytes: new Uint8Array(0) },
        ],
      },
      signal,
    )
    await store.commit({ tables: none, span: spanOf(9, 12), states: [{ operator: 'a', at: 12n, bytes: Uint8Array.of(9) }] }, signal)
    for (let i = 0; i < 2; i++) {
      const resumed = await store.resume('log-1', 'telemetry', 0)
      assert.equal(resumed?.next, 12n)
      assert.deepEqual(
        resumed.states.map((one) => [one.operator, one.at, [...one.bytes]]),
        [
          ['a', 12n, [9]],
          ['b', 7n, []],
        ],
      )
      store = await subject.reopen(store)
    }
    return store
  })

  using('refuses a span that does not begin where the store is, and keeps nothing of it', async (store) => {
    await store.commit({ tables: none, span: spanOf(0, 5) }, signal)
    const tables = { ...none, readings: [batchOf([{ timeUs: t0, value: 1 }])] }
    for (const [first, next] of [
      [0, 5],
      [4, 6],
      [6, 7],
    ] as const)
      await assert.rejects(store.commit({ tables, span: spanOf(first, next) }, signal), code('span_conflict'))
    assert.deepEqual(await answer(store, {}), [])
    await store.commit({ tables, span: spanOf(5, 6) }, signal)
    assert.equal((await answer(store, {})).length, 1)
  })

  using('keeps logs, topics and partitions apart, and accepts any first offset of what it has not seen', async (store) => {
    await store.commit({ tables: none, span: spanOf(3, 5) }, signal)
    await store.commit({ tables: none, span: spanOf(100, 101, 'log-2') }, signal)
    await store.commit({ tables: none, span: { ...spanOf(7, 8), partition: 1 } }, signal)
    assert.equal((await store.resume('log-1', 'telemetry', 0))?.next, 5n)
    assert.equal((await store.resume('log-2', 'telemetry', 0))?.next, 101n)
    assert.equal((await store.resume('log-1', 'telemetry', 1))?.next, 8n)
    assert.equal(await store.resume('log-1', 'other', 0), undefined)
  })

  using('takes states alone, with an empty span', async (store) => {
    await store.commit({ tables: none, span: spanOf(0, 4) }, signal)
    await store.commit({ tables: none, span: spanOf(4, 4), states: [{ operator: 'a', at: 4n, bytes: Uint8Array.of(1) }] }, signal)
    assert.equal((await store.resume('log-1', 'telemetry', 0))?.states[0]?.at, 4n)
  })
}

function rows(using: Using): void {
  const some: TestRow[] = [
    { device: 'b', metric: 'x', timeUs: t0 + 2 * s, value: 2.5 },
    { device: 'a', metric: 'y', timeUs: t0 + 2 * s, value: -1 },
    { device: 'a', metric: 'x', timeUs: t0 + 2 * s, value: 7 },
    { device: 'a', metric: 'x', timeUs: t0 + 1 * s, value: 1e300, flags: Flag.boolean },
    { device: 'a', metric: 'x', timeUs: t0 + 3 * s + 1, value: 0.1 },
  ]
  const order = (list: readonly { device: string; metric: string; timeUs: number }[]): string[] =>
    list.map((r) => `${(r.timeUs - t0) / s} ${r.device}${r.metric}`)

  using('answers raw rows by time, device and metric, up and down', async (store) => {
    await store.commit({ tables: { ...none, readings: [batchOf(some)] }, span: spanOf(0, 1) }, signal)
    const up = await answer(store, {})
    assert.deepEqual(order(up), ['1 ax', '2 ax', '2 ay', '2 bx', '3.000001 ax'])
    assert.deepEqual(
      up.map((r) => r['value']),
      [1e300, 7, -1, 2.5, 0.1],
    )
    assert.deepEqual(
      up.map((r) => r.flags),
      [Flag.boolean, 0, 0, 0, 0],
    )
    assert.deepEqual(await answer(store, { order: 'desc' }), up.toReversed())
  })

  using('takes a half-open range, a limit, and goes on after a position', async (store) => {
    await store.commit({ tables: { ...none, readings: [batchOf(some)] }, span: spanOf(0, 1) }, signal)
    assert.deepEqual(order(await answer(store, { fromUs: t0 + s, toUs: t0 + 2 * s })), ['1 ax'])
    assert.deepEqual(order(await answer(store, { fromUs: t0 + 2 * s, toUs: t0 + 9 * s, limit: 2 })), ['2 ax', '2 ay'])
    const after = { timeUs: t0 + 2 * s, device: 'a', metric: 'x' }
    assert.deepEqual(order(await answer(store, { after })), ['2 ay', '2 bx', '3.000001 ax'])
    assert.deepEqual(order(await answer(store, { after, order: 'desc' })), ['1 ax'])
    assert.deepEqual(
      order(await answer(store, { after: { ...after, device: 'aa' } })),
      ['2 bx', '3.000001 ax'],
      'a position need not be that of a row',
    )
    assert.deepEqual(order(await answer(store, { after: { ...after, device: 'aa' }, order: 'desc' })), ['2 ay', '2 ax', '1 ax'])
  })

  using('matches by tenant, devices and metrics', async (store) => {
    const rows = [...some, { tenant: 'other', device: 'a', metric: 'x', timeUs: t0, value: 99 }]
    await store.commit({ tables: { ...none, readings: [batchOf(rows)] }, span: spanOf(0, 1) }, signal)
    const count = async (match: { tenant: string; devices?: string[]; metrics?: string[] }): Promise<number> =>
      (await answer(store, { match })).length
    assert.equal(await count({ tenant: 'default' }), 5)
    assert.equal(await count({ tenant: 'other' }), 1)
    assert.equal(await count({ tenant: '' }), 0)
    assert.equal(await count({ tenant: 'default', devices: ['a'] }), 4)
    assert.equal(await count({ tenant: 'default', metrics: ['x'] }), 4)
    assert.equal(await count({ tenant: 'default', devices: ['a', 'b', 'a'], metrics: ['y', 'nothing'] }), 1)
    assert.equal(await count({ tenant: 'default', devices: [] }), 0)
    const names = [...new Set((await store.series({ tenant: '', everyTenant: true }, signal)).map((info) => info.key.tenant))]
    assert.deepEqual(names.sort(), ['default', 'other'])
  })

  using('keeps names, texts and metadata to the letter', async (store) => {
    const odd = `'; DROP TABLE readings; -- "x" \u{1F600} ü`
    const rows = [
      { device: odd, metric: odd, timeUs: t0, value: 1, meta: '{"a":"ü"}' },
      { device: odd, metric: 'text', timeUs: t0, text: odd },
      { device: odd, metric: 'text', timeUs: t0 + 1, text: '' },
      { device: odd, metric: 'big', timeUs: t0, text: '123456789012345678901234567890', flags: Flag.bigInteger, meta: '{}' },
    ]
    await store.commit({ tables: { ...none, readings: [batchOf(rows)] }, span: spanOf(0, 1) }, signal)
    const found = await answer(store, { match: { tenant: 'default', devices: [odd] } })
    assert.deepEqual(
      found.map((r) => [r.metric, r.text, r.meta, r.flags]),
      [
        [odd, undefined, '{"a":"ü"}', 0],
        ['big', '123456789012345678901234567890', '{}', Flag.text | Flag.bigInteger],
        ['text', odd, undefined, Flag.text],
        ['text', '', undefined, Flag.text],
      ],
    )
  })

  using('answers more rows than a page holds, each once', async (store) => {
    const n = 10_000
    const rows = Array.from({ length: n }, (_, i) => ({ device: `d${i % 7}`, timeUs: t0 + ((i * 7919) % n) * 1000, value: i }))
    await store.commit({ tables: { ...none, readings: [batchOf(rows)] }, span: spanOf(0, 1) }, signal)
    const found = await answer(store, {})
    assert.equal(found.length, n)
    assert.equal(new Set(found.map((r) => r['value'])).size, n)
    let times = 0
    for (let i = 1; i < n; i++) if (found[i]!.timeUs < found[i - 1]!.timeUs) times++
    assert.equal(times, 0)
  })

  using('gives up when it is aborted', async (store) => {
    await store.commit({ tables: { ...none, readings: [batchOf(some)] }, span: spanOf(0, 1) }, signal)
    await assert.rejects(answer(store, {}, AbortSignal.abort()), code('query_deadline'))
    assert.equal((await answer(store, {})).length, 5, 'and answers the next')
  })
}

/** What heads a store: dedupe and rollups, as the store role runs them. */
function head(): (rows: readonly TestRow[], receivedUs?: number) => { tables: Parameters<Store['commit']>[0]['tables'] } {
  const dedupe = new Dedupe()
  const rollup = new Rollup()
  return (list, receivedUs = 9e15) => {
    const rollups: RollupColumns[] = []
    const tables = { readings: [] as ReturnType<typeof batchOf>[], late: [] as ReturnType<typeof batchOf>[], rollups }
    rollup.tick(receivedUs === 9e15 ? 0 : receivedUs, (columns) => void rollups.push(columns))
    dedupe.push(
      batchOf(list),
      (out) => {
        tables.readings.push(out.inOrder)
        if (out.late.rows > 0) tables.late.push(out.late)
        rollup.push(out.inOrder, (columns) => void rollups.push(columns))
      },
      receivedUs,
    )
    return { tables }
  }
}

function buckets(using: Using, subject: StoreSubject): void {
  using('computes every aggregation over buckets that are aligned to the epoch', async (store) => {
    const values = [3, 1, 4, 1, 5, 9, 2, 6]
    await store.commit(
      { tables: { ...none, readings: [batchOf(values.map((value, i) => ({ timeUs: t0 + i * 20 * s, value })))] }, span: spanOf(0, 1) },
      signal,
    )
    const found = await answer(store, { stepUs: 60 * s, aggregations })
    assert.deepEqual(
      found.map((r) => (r.timeUs - t0) / s),
      [0, 60, 120],
    )
    const column = (name: string): unknown[] => found.map((r) => (Number.isNaN(r[name]) ? 'NaN' : Math.round((r[name] as number) * 1e9) / 1e9))
    assert.deepEqual(column('count'), [3, 3, 2])
    assert.deepEqual(column('sum'), [8, 15, 8])
    assert.deepEqual(column('avg'), [2.666666667, 5, 4])
    assert.deepEqual(column('min'), [1, 1, 2])
    assert.deepEqual(column('max'), [4, 9, 6])
    assert.deepEqual(column('first'), [3, 1, 2])
    assert.deepEqual(column('last'), [4, 9, 6])
    assert.deepEqual(column('stddev'), [1.527525232, 4, 2.828427125])
    const one = await answer(store, { stepUs: 20 * s, aggregations: ['stddev'] })
    assert.equal(one.length, 8)
    assert.ok(
      one.every((r) => Number.isNaN(r['stddev'])),
      'one value has no deviation',
    )
  })

  using('cuts the first and last bucket at the range, and leaves text and empty buckets out', async (store) => {
    const rows = [...Array.from({ length: 600 }, (_, i) => ({ timeUs: t0 + i * s, value: i })), { metric: 'words', timeUs: t0, text: 'on' }]
    const feed = head()
    await store.commit({ ...feed(rows), span: spanOf(0, 1) }, signal)
    const found = await answer(store, { stepUs: 120 * s, aggregations: ['count', 'min', 'max'], fromUs: t0 + 90 * s, toUs: t0 + 310 * s })
    assert.deepEqual(
      found.map((r) => [(r.timeUs - t0) / s, r['count'], r['min'], r['max']]),
      [
        [0, 30, 90, 119],
        [120, 120, 120, 239],
        [240, 70, 240, 309],
      ],
    )
    assert.deepEqual(await answer(store, { stepUs: 120 * s, fromUs: t0 + 3600 * s, toUs: t0 + 7200 * s }), [])
  })

  using('pages through buckets in both orders', async (store) => {
    const rows = Array.from({ length: 300 }, (_, i) => ({ device: `d${i % 3}`, timeUs: t0 + i * 10 * s, value: i }))
    await store.commit({ ...head()(rows), span: spanOf(0, 1) }, signal)
    for (const order of ['asc', 'desc'] as const) {
      const query = { stepUs: 300 * s, aggregations: ['avg', 'count'] as const, order }
      const whole = await answer(store, query)
      const paged = []
      for (
        let page = await answer(store, { ...query, limit: 4 });
        page.length > 0;
        page = await answer(store, { ...query, limit: 4, after: page.at(-1)! })
      )
        paged.push(...page)
      assert.deepEqual(paged, whole)
      assert.equal(whole.length, 30)
    }
  })

  using('says the same with and without rollups, at each moment, across reopening', async (store) => {
    const feed = head()
    let n = 0
    for (let commit = 0; commit < 12; commit++) {
      const rows = Array.from({ length: 500 }, () => ({ device: `d${n % 2}`, timeUs: t0 + n * 2.3 * s, value: Math.sin(n++) * 1000 }))
      await store.commit({ ...feed(rows.map((r) => ({ ...r, timeUs: Math.round(r.timeUs) }))), span: spanOf(commit, commit + 1) }, signal)
      if (commit === 7) store = await subject.reopen(store)
      await agree(store)
    }
    return store
  })
}

const at = (text: string): number => Date.parse(text) * 1000

function calendars(using: Using): void {
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

function quantilesAndGaps(using: Using): void {
  using('answers quantiles within 1 % of the reading of that rank, whatever the sign and size, corrections included', async (store) => {
    const values = Array.from({ length: 2000 }, (_, i) => (i % 3 === 0 ? 0 : (i % 2 === 0 ? -1 : 1) * 10 ** (((i * 7919) % 4001) / 100 - 20)))
    // Many in a bin, where only its middle is near enough to all of them.
    for (let i = 600; i < 1200; i++) values[i] = 10 + ((i * 7919) % 600) / 600
    values[0] = Number.MAX_VALUE
    values[1] = -Number.MAX_VALUE
    values[2] = 5e-324
    const feed = head()
    await store.commit({ ...feed(values.map((value, i) => ({ timeUs: t0 + i * s, value }))), span: spanOf(0, 1) }, signal)
    await store.commit({ ...feed([{ timeUs: t0 + 500 * s, value: 77 }]), span: spanOf(1, 2) }, signal)
    values[500] = 77
    const asked = aggregations.filter(isQuantile)
    const found = await answer(store, { stepUs: 600 * s, aggregations: asked })
    assert.equal(found.length, 4)
    for (const [bucket, row] of found.entries()) {
      const sorted = values.slice(bucket * 600, (bucket + 1) * 600).sort((a, b) => a - b)
      for (const name of asked) {
        const exact = sorted[Math.floor(quantiles[name] * (sorted.length - 1))]!
        const mine = Number(row[name])
        assert.ok(Math.abs(mine - exact) <= 0.010001 * Math.abs(exact) + 1e-300, `${name} of bucket ${bucket}: ${mine} instead of ${exact}`)
      }
      assert.equal(row['median'], row['p50'])
    }
    const both = await answer(store, { stepUs: 600 * s, aggregations: ['count', 'p95', 'stddev'] })
    assert.deepEqual(
      both.map((r) => [r['count'], r['p95']]),
      found.map((r, i) => [i < 3 ? 600 : 200, r['p95']]),
    )
  })

  using('answers quantiles of one value, and of equal ones, exactly', async (store) => {
    const rows = Array.from({ length: 120 }, (_, i) => ({ timeUs: t0 + i * s, value: i < 60 ? 21.5 : -0.1 }))
    await store.commit({ ...head()(rows), span: spanOf(0, 1) }, signal)
    const found = await answer(store, { stepUs: 60 * s, aggregations: ['p5', 'p99'] })
    assert.deepEqual(
      found.map((r) => [r['p5'], r['p99']]),
      [
        [21.5, 21.5],
        [-0.1, -0.1],
      ],
    )
  })

  using('gives a row for each bucket and series when gaps are asked for, page by page', async (store) => {
    const rows = [0, 1, 5, 400].map((minute) => ({ device: minute === 5 ? 'd2' : 'd1', timeUs: t0 + minute * 60 * s, value: minute }))
    await store.commit({ ...head()([...rows, { device: 'd3', metric: 'words', timeUs: t0, text: 'on' }]), span: spanOf(0, 1) }, signal)
    const query = { stepUs: 60 * s, gaps: 'null', aggregations: ['count', 'avg', 'stddev', 'p50'], fromUs: t0 - 90 * s, toUs: t0 + 420 * s } as const
    const whole = await answer(store, query)
    assert.deepEqual(
      whole.filter((r) => r.device !== 'd3').map((r) => [r.device, (r.timeUs - t0) / 60e6, r['count'], r['avg'], r['p50']]),
      [-2, -1, 0, 1, 2, 3, 4, 5, 6].flatMap((minute) =>
        ['d1', 'd2'].map((device) => {
          const full = device === 'd1' ? minute === 0 || minute === 1 : minute === 5
          return [device, minute, full ? 1 : 0, full ? minute : Number.NaN, full ? minute : Number.NaN]
        }),
      ),
    )
    assert.ok(whole.filter((r) => r.device === 'd3').every((r) => r['count'] === 0 && Number.isNaN(r['avg'])))
    for (const order of ['asc', 'desc'] as const) {
      for (const limit of [1, 4, 7]) {
        const paged = []
        for (let page = await answer(store, { ...query, order, limit }); page.length > 0;) {
          paged.push(...page)
          page = await answer(store, { ...query, order, limit, after: page.at(-1)! })
        }
        assert.deepEqual(order === 'asc' ? paged : paged.toReversed(), whole)
      }
    }
    assert.deepEqual(await answer(store, { ...query, match: { tenant: 'default', devices: ['nobody'] } }), [])
    const far = await answer(store, { ...query, fromUs: 0, toUs: 9e15, aggregations: ['p99'], limit: 3, order: 'desc' })
    assert.deepEqual(
      far.map((r) => [r.device, r['p99']]),
      [
        ['d3', Number.NaN],
        ['d2', Number.NaN],
        ['d1', Number.NaN],
      ],
    )
    const days = { calendar: { unit: 'month', timeZone: 'Europe/Berlin' }, gaps: 'null', aggregations: ['count'] } as const
    const months = await answer(store, {
      ...days,
      match: { tenant: 'default', devices: ['d1'] },
      fromUs: at('2023-08-31T22:00:00Z'),
      toUs: t0 + 86_400 * s,
    })
    assert.deepEqual(
      months.map((r) => [new Date(r.timeUs / 1000).toISOString(), r['count']]),
      [
        ['2023-08-31T22:00:00.000Z', 0],
        ['2023-09-30T22:00:00.000Z', 0],
        ['2023-10-31T23:00:00.000Z', 3],
      ],
    )
  })
}

/** Buckets of an hour against the same from rows alone (a step of 7 s divides neither), in count, sum and spread. */
async function agree(store: Store): Promise<void> {
  for (const stepUs of [60 * s, 3600 * s]) {
    const rollups = await answer(store, { stepUs, aggregations, fromUs: t0 - 50 * s, toUs: t0 + 86_400 * s })
    const raw = (await answer(store, {})).filter((r) => r.text === undefined && r.timeUs < t0 + 86_400 * s && r.timeUs >= t0 - 50 * s)
    const groups = Map.groupBy(raw, (r) => `${Math.floor(r.timeUs / stepUs) * stepUs} ${r.device}${r.metric}`)
    assert.deepEqual(rollups.map((r) => `${r.timeUs} ${r.device}${r.metric}`).sort(), [...groups.keys()].sort())
    for (const bucket of rollups) {
      const values = groups.get(`${bucket.timeUs} ${bucket.device}${bucket.metric}`)!.map((r) => r['value'] as number)
      const mean = values.reduce((a, b) => a + b, 0) / values.length
      assert.equal(bucket['count'], values.length)
      close(bucket['sum'] as number, mean * values.length, `sum of ${bucket.timeUs}`)
      close(bucket['avg'] as number, mean, `mean of ${bucket.timeUs}`)
      if (values.length > 1)
        close(
          bucket['stddev'] as number,
          Math.sqrt(values.reduce((a, v) => a + (v - mean) ** 2, 0) / (values.length - 1)),
          `deviation of ${bucket.timeUs}`,
        )
      assert.equal(bucket['min'], Math.min(...values))
      assert.equal(bucket['max'], Math.max(...values))
      assert.equal(bucket['first'], values[0])
      assert.equal(bucket['last'], values.at(-1))
    }
  }
}

function close(found: number, expected: number, what: string): void {
  assert.ok(Math.abs(found - expected) <= 1e-9 * Math.max(1, Math.abs(expected)), `${what}: ${found} instead of ${expected}`)
}

function lateRows(using: Using, subject: StoreSubject): void {
  using('lets the later arrival of an identity win, text and number alike', async (store) => {
    const readings = [
      batchOf([
        { timeUs: t0, value: 1, meta: '{"first":1}' },
        { timeUs: t0 + s, value: 2 },
        { metric: 'w', timeUs: t0, text: 'old' },
      ]),
    ]
    await store.commit({ tables: { ...none, readings }, span: spanOf(0, 1) }, signal)
    const late = [
      batchOf([
        { timeUs: t0, value: 10, flags: Flag.late },
        { metric: 'w', timeUs: t0, text: 'new' },
      ]),
      batchOf([{ timeUs: t0, value: 11, flags: Flag.late }]),
    ]
    await store.commit({ tables: { ...none, late }, span: spanOf(1, 2) }, signal)
    for (let i = 0; i < 2; i++) {
      const found = await answer(store, {})
      assert.deepEqual(
        found.map((r) => [r.metric, r['value'], r.text, r.meta]),
        [
          ['m', 11, undefined, undefined],
          ['w', Number.NaN, 'new', undefined],
          ['m', 2, undefined, undefined],
        ],
      )
      store = await subject.reopen(store)
    }
    return store
  })

  using('lets a reading win over the same one that came while it was ahead of its time', async (store) => {
    const time = t0 + 600 * s
    await store.commit({ tables: { ...none, late: [batchOf([{ timeUs: time, value: 1, flags: Flag.clockAhead }])] }, span: spanOf(0, 1) }, signal)
    const feed = head()
    await store.commit({ ...feed([{ timeUs: time, value: 2 }]), span: spanOf(1, 2) }, signal)
    assert.deepEqual(
      (await answer(store, {})).map((r) => [r['value'], r.flags]),
      [[2, 0]],
    )
    await store.commit({ ...feed([{ timeUs: time + 7200 * s, value: 3 }]), span: spanOf(2, 3) }, signal)
    await agree(store)
    assert.equal((await answer(store, { stepUs: 60 * s, aggregations: ['sum'], toUs: time + s }))[0]!['sum'], 2)
  })

  using('counts a reading that comes for a closed bucket, whoever forgot to say so', async (store) => {
    const feed = head()
    const closed = feed([
      { timeUs: t0, value: 1 },
      { timeUs: t0 + 10_000 * s, value: 2 },
    ])
    await store.commit({ ...closed, span: spanOf(0, 1) }, signal)
    const readings = [
      batchOf([
        { timeUs: t0 + s, value: 5 },
        { timeUs: t0 + 100 * s, value: 6 },
      ]),
    ]
    await store.commit({ tables: { ...none, readings }, span: spanOf(1, 2) }, signal)
    await agree(store)
  })

  using('computes touched buckets again, whether they are closed, open or yet to come', async (store) => {
    const feed = head()
    let n = 0
    const next = async (list: readonly TestRow[], receivedUs?: number): Promise<void> => {
      await store.commit({ ...feed(list, receivedUs), span: spanOf(n, ++n) }, signal)
      await agree(store)
    }
    await next(Array.from({ length: 400 }, (_, i) => ({ timeUs: t0 + i * s, value: i })))
    await next([
      { timeUs: t0 + 100 * s, value: 1000 },
      { timeUs: t0 + 101.5 * s, value: -5 },
    ])
    await next([{ timeUs: t0 + 399 * s, value: 77 }])
    await next([{ timeUs: t0 + 395.5 * s, value: 5 }])
    await next([{ timeUs: t0 + 1000 * s, value: 5 }], t0 + 400 * s)
    await next(Array.from({ length: 900 }, (_, i) => ({ timeUs: t0 + (400 + i) * s, value: i * 0.1 })))
    await next([
      { timeUs: t0 + 5000 * s, value: 5 },
      { timeUs: t0 + 4000 * s, value: 3 },
      { timeUs: t0 + 5001 * s, value: 6 },
    ])
    await next([{ timeUs: t0 + 12_000 * s, value: 5 }])
    store = await subject.reopen(store)
    await next([
      { timeUs: t0 + 12_000 * s, value: 6 },
      { timeUs: t0 + 11_000 * s, value: 6 },
      { timeUs: t0 + 20_000 * s, value: 1 },
    ])
    return store
  })

  using('closes buckets that ticks close, and takes back what comes for them after all', async (store) => {
    const feed = head()
    let n = 0
    const next = async (list: readonly TestRow[], receivedUs: number): Promise<void> => {
      await store.commit({ ...feed(list, receivedUs), span: spanOf(n, ++n) }, signal)
      await agree(store)
    }
    await next([{ timeUs: t0 + s, value: 1 }], t0 + s)
    await next([{ device: 'd2', timeUs: t0 + 4000 * s, value: 1 }], t0 + 4000 * s)
    await next([{ timeUs: t0 + 2 * s, value: 2 }], t0 + 4001 * s)
    await next(
      [
        { timeUs: t0 + 59 * s, value: 3 },
        { timeUs: t0 + 61 * s, value: 4 },
      ],
      t0 + 4002 * s,
    )
    await next([{ timeUs: t0 + 3700 * s, value: 5 }], t0 + 9000 * s)
  })
}

function heads(using: Using, subject: StoreSubject): void {
  using('knows first, last and latest of each series, across reopening', async (store) => {
    const readings = [
      batchOf([
        { device: 'b', timeUs: t0, value: 1 },
        { device: 'a', timeUs: t0 + 5 * s, value: 2 },
        { device: 'a', timeUs: t0 + 3 * s, value: 3 },
        { device: 'c', metric: 'w', timeUs: t0, text: 'hi' },
      ]),
    ]
    await store.commit({ tables: { ...none, readings }, span: spanOf(0, 1) }, signal)
    const late = [
      batchOf([
        { device: 'a', timeUs: t0 + 900 * s, value: 50, flags: Flag.clockAhead },
        { device: 'd', timeUs: t0 + 900 * s, value: 60, flags: Flag.clockAhead },
        { device: 'b', timeUs: t0 - 5 * s, value: 70, flags: Flag.late },
        { device: 'a', timeUs: t0 + 5 * s, value: 4 },
      ]),
    ]
    await store.commit({ tables: { ...none, late }, span: spanOf(1, 2) }, signal)
    for (let i = 0; i < 2; i++) {
      const latest = await store.latest({ tenant: 'default' }, signal)
      const found = Array.from({ length: latest.rows }, (_, row) => [
        latest.keys[latest.series[row]!]!.device,
        (latest.timeUs[row]! - t0) / s,
        latest.value[row],
        latest.text?.get(row),
      ])
      assert.deepEqual(found, [
        ['a', 5, 4, undefined],
        ['b', 0, 1, undefined],
        ['c', 0, Number.NaN, 'hi'],
        ['d', 900, 60, undefined],
      ])
      const infos = await store.series({ tenant: 'default' }, signal)
      assert.deepEqual(
        infos.map((info) => [info.key.device, (info.firstUs - t0) / s, (info.lastUs - t0) / s]),
        [
          ['a', 3, 900],
          ['b', -5, 0],
          ['c', 0, 0],
          ['d', 900, 900],
        ],
      )
      const page = async (limit: number, after?: string): Promise<string[]> => {
        const found = await store.series({ tenant: 'default' }, signal, {
          limit,
          ...(after === undefined ? {} : { after: { device: after, metric: 't' } }),
        })
        return found.map((info) => info.key.device)
      }
      assert.deepEqual([await page(3), await page(2, 'a'), await page(9, 'bb'), await page(9, 'd')], [['a', 'b', 'c'], ['b', 'c'], ['c', 'd'], []])
      store = await subject.reopen(store)
    }
    return store
  })
}
