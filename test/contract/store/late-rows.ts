import assert from 'node:assert/strict'
import { Flag } from '../../../src/core/batch.ts'
import { answer, batchOf, none, signal, spanOf, type TestRow } from '../../support/store-batches.ts'
import { agree, head, s, t0, type StoreSubject, type Using } from './shared.ts'

/** Late, corrected and ahead of their time: the later arrival wins, and the buckets follow. */
export function lateRows(using: Using, subject: StoreSubject): void {
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
