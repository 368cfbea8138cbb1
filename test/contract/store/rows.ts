import assert from 'node:assert/strict'
import { Flag } from '../../../src/core/batch.ts'
import { answer, batchOf, none, signal, spanOf, type TestRow } from '../../support/store-batches.ts'
import { code, s, t0, type Using } from './shared.ts'

/** Raw rows: order, ranges, positions, matches, and values to the letter. */
export function rows(using: Using): void {
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
