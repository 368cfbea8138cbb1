import assert from 'node:assert/strict'
import { aggregations } from '../../../src/core/ports.ts'
import { answer, batchOf, none, signal, spanOf } from '../../support/store-batches.ts'
import { agree, head, s, t0, type StoreSubject, type Using } from './shared.ts'

/** Buckets of a step, with and without rollups. */
export function buckets(using: Using, subject: StoreSubject): void {
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
