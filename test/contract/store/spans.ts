import assert from 'node:assert/strict'
import { answer, batchOf, none, signal, spanOf } from '../../support/store-batches.ts'
import { code, t0, type StoreSubject, type Using } from './shared.ts'

/** Offsets and operator states: what a commit is compared with, and where a restart goes on. */
export function spans(using: Using, subject: StoreSubject): void {
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
