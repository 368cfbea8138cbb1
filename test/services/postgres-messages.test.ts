import assert from 'node:assert/strict'
import process from 'node:process'
import { describe, it } from 'node:test'
import { Flag } from '../../src/core/batch.ts'
import type { Store, Tables } from '../../src/core/ports.ts'
import { count, usingPostgres } from '../support/postgres-place.ts'
import { answer, batchOf, none, signal, spanOf, type TestRow } from '../support/store-batches.ts'

const skip = process.env['KYMO_TEST_POSTGRES_URL'] === undefined ? { skip: 'KYMO_TEST_POSTGRES_URL is not set (npm run test:services)' } : {}
const s = 1e6
const t0 = 1_700_000_000_000_000 - (1_700_000_000_000_000 % 3600e6)

function committer(store: Store): (tables: Partial<Tables>) => Promise<void> {
  let n = 0
  return (tables) => store.commit({ tables: { ...none, ...tables }, span: spanOf(n, ++n) }, signal)
}

/** Of all series, `metric@second: value`, in order. */
async function readings(store: Store): Promise<string[]> {
  const found = await answer(store, {})
  return found.map((r) => `${r.metric}@${(r.timeUs - t0) / s}: ${r.text ?? String(r['value'])}`)
}

void describe('Messages of a device as rows of PostgreSQL', skip, () => {
  void it('share a row when they are of one time, whatever order and commit their readings come in', async () => {
    await usingPostgres(async ({ client, open }) => {
      const store = await open()
      const commit = committer(store)
      const at = (metric: string, second: number, value = second): TestRow => ({ metric, timeUs: t0 + second * s, value })
      await commit({ readings: [batchOf([at('temperature', 1), at('temperature', 2), at('humidity', 1), at('humidity', 2)])] })
      assert.equal(await count(client, 'messages'), 2)
      await commit({ readings: [batchOf([at('battery', 2), at('temperature', 3), at('humidity', 3)]), batchOf([at('battery', 3)])] })
      assert.equal(await count(client, 'messages'), 3)
      assert.equal(await count(client, 'samples'), 0)
      assert.deepEqual(await readings(store), [
        'humidity@1: 1',
        'temperature@1: 1',
        'battery@2: 2',
        'humidity@2: 2',
        'temperature@2: 2',
        'battery@3: 3',
        'humidity@3: 3',
        'temperature@3: 3',
      ])
      // Nobody told it: a new process finds what is there.
      const again = await open()
      await again.commit({ tables: { ...none, readings: [batchOf([at('pressure', 2)])] }, span: spanOf(2, 3) }, signal)
      assert.equal(await count(client, 'messages'), 3)
    })
  })

  void it('keep text, metadata and flags of each reading, and take corrections one by one', async () => {
    await usingPostgres(async ({ client, open }) => {
      const store = await open()
      const commit = committer(store)
      const both = (value: number, flags: number): TestRow[] => [
        { metric: 'temperature', timeUs: t0, value, flags },
        { metric: 'state', timeUs: t0, value: Number.NaN, text: `on ${value}`, flags: flags | Flag.text, meta: `{"n":${value}}` },
      ]
      await commit({ readings: [batchOf(both(1, Flag.arrivalTime))] })
      await commit({ late: [batchOf([{ metric: 'temperature', timeUs: t0, value: 5, flags: Flag.late }])] })
      const found = await answer(store, {})
      assert.deepEqual(
        found.map((r) => [r.metric, r.text ?? r['value'], r.meta, r.flags]),
        [
          ['state', 'on 1', '{"n":1}', Flag.arrivalTime | Flag.text],
          ['temperature', 5, undefined, Flag.late],
        ],
      )
      await commit({ late: [batchOf([{ metric: 'state', timeUs: t0, value: 7, flags: Flag.late | Flag.boolean }])] })
      assert.deepEqual(await readings(store), ['state@0: 7', 'temperature@0: 5'])
      assert.equal(await count(client, 'messages'), 1)
    })
  })

  void it('leave metrics beyond the seventh to rows of their own, and tell them in the view of readings', async () => {
    await usingPostgres(async ({ client, open }) => {
      const store = await open()
      const names = ['temperature', 'humidity', 'battery', 'a', 'b', 'c', 'd', 'e', 'f']
      const rows = [0, 1].flatMap((second) => names.map((metric, value) => ({ metric, timeUs: t0 + second * s, value })))
      await committer(store)({ readings: [batchOf(rows)] })
      assert.equal(await count(client, 'messages'), 2)
      assert.equal(await count(client, 'samples'), 4)
      assert.equal((await readings(store)).length, 18)
      const { rows: seen } = await client.query<{ metric: string; value: number }>(
        'SELECT metric, value FROM readings WHERE time = to_timestamp($1)',
        [t0 / s],
      )
      assert.deepEqual(seen.map(({ metric, value }) => `${metric} ${value}`).sort(), names.map((metric, value) => `${metric} ${value}`).sort())
    })
  })

  void it('know what a device last said of a metric that it seldom sends', async () => {
    await usingPostgres(async ({ open }) => {
      const store = await open()
      const commit = committer(store)
      await commit({ readings: [batchOf([{ metric: 'battery', timeUs: t0, value: 90 }])] })
      for (let hour = 0; hour < 5; hour++)
        await commit({ readings: [batchOf([1, 2, 3].map((i) => ({ metric: 'temperature', timeUs: t0 + (hour * 3600 + i) * s, value: i })))] })
      const ahead = { metric: 'battery', timeUs: t0 + 9e5 * s, value: 1, flags: Flag.clockAhead | Flag.late }
      await commit({ late: [batchOf([ahead])] })
      const latest = await store.latest({ tenant: 'default' }, signal)
      const told = Array.from({ length: latest.rows }, (_, i) => [
        latest.keys[latest.series[i]!]!.metric,
        latest.value[i],
        (latest.timeUs[i]! - t0) / s,
      ])
      assert.deepEqual(told, [
        ['battery', 90, 0],
        ['temperature', 3, 14_403],
      ])
      const series = await store.series({ tenant: 'default' }, signal)
      assert.deepEqual(
        series.map(({ key, lastUs }) => [key.metric, (lastUs - t0) / s]),
        [
          ['battery', 900_000],
          ['temperature', 14_403],
        ],
      )
    })
  })
})
