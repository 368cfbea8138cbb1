import assert from 'node:assert/strict'
import { Flag } from '../../../src/core/batch.ts'
import { batchOf, none, signal, spanOf } from '../../support/store-batches.ts'
import { s, t0, type StoreSubject, type Using } from './shared.ts'

/** First, last and latest of each series. */
export function heads(using: Using, subject: StoreSubject): void {
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
