import assert from 'node:assert/strict'
import { aggregations, isQuantile, quantiles } from '../../../src/core/ports.ts'
import { answer, signal, spanOf } from '../../support/store-batches.ts'
import { at, head, s, t0, type Using } from './shared.ts'

/** Quantiles, and rows for buckets without readings. */
export function quantilesAndGaps(using: Using): void {
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
