import { DuckDBInstance } from '@duckdb/node-api'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { Flag } from '../../src/core/batch.ts'
import { limits } from '../../src/core/limits.ts'
import type { RangeQuery } from '../../src/core/ports.ts'
import { orderOf } from '../../src/store/duckdb/few-rows.ts'
import { exact, KeptStore } from '../support/kept-store.ts'
import { sameAnswer } from '../support/same-answers.ts'
import { answer, answerInPages, batchOf, none, signal, spanOf, type TestRow } from '../support/store-batches.ts'

const start = Date.UTC(2026, 6, 1) * 1000
const s = 1e6
const metrics = ['temperature', 'humidity', 'battery', 'door', 'count']

/** Ten devices with five metrics each: 50 series together, which is more than are put together outside of the engine. */
function rows(from: number, to: number): TestRow[] {
  const found: TestRow[] = []
  for (let i = from; i < to; i++) {
    for (let d = 0; d < 10; d++) {
      const timeUs = start + i * 7 * s + d * 1001
      for (const [m, metric] of metrics.entries()) {
        // Messages without one of their metrics, and a metric that comes at times of its own.
        if (m === 1 && i % 53 === 3) continue
        const own = d === 4 && m === 2 ? 333 : 0
        const value = m === 4 ? i * d : m === 3 ? i % 2 : Math.round(2000 + 300 * Math.sin(i / 50 + d + m)) / (d === 7 ? 3 : 100)
        found.push({
          device: `d${d}`,
          metric,
          timeUs: timeUs + own,
          value: d === 2 && i % 17 === 0 ? Number.NaN : value,
          flags: m === 3 ? Flag.boolean : 0,
        })
      }
    }
  }
  return found
}

/** Sealed files of readings that have rows of several series side by side. */
async function pivotedFiles(kept: KeptStore): Promise<number> {
  const instance = await DuckDBInstance.create(':memory:')
  const connection = await instance.connect()
  let found = 0
  for (const name of kept.files().filter((file) => file.endsWith('-raw.duckdb'))) {
    await connection.run(`ATTACH '${path.join(kept.dir, 'sealed', name)}' AS one (READ_ONLY)`)
    if ((await (await connection.run('SELECT 1 FROM one.shapes')).getRowsJS()).length > 0) found++
    await connection.run('DETACH one')
  }
  connection.closeSync()
  instance.closeSync()
  return found
}

test('an answer for few series is that for many, cut to them', { timeout: 120_000 }, async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-few-'))
  const kept = new KeptStore(dir, start)
  await kept.open()
  try {
    for (let part = 0; part < 2; part++) {
      kept.nowUs = start + (part + 1) * 1200 * 7 * s
      await kept.feed(rows(part * 1200, (part + 1) * 1200))
      // The last part stays in the file that is being written.
      if (part < 1) await kept.store.seal()
    }
    assert.ok((await pivotedFiles(kept)) > 0)
    const stepped = { stepUs: 300 * s, aggregations: exact }
    const asked: Partial<RangeQuery>[] = [
      {},
      { order: 'desc', limit: 777 },
      { fromUs: start + 1234 * s + 7, toUs: start + 6789 * s, order: 'desc' },
      stepped,
      { ...stepped, stepUs: 3600 * s, order: 'desc' },
      { ...stepped, stepUs: 17 * s, fromUs: start + 1000 * s, toUs: start + 5000 * s },
      { ...stepped, gaps: 'null', fromUs: start - 1000 * s, toUs: start + 3000 * s },
      { calendar: { unit: 'day', timeZone: 'Asia/Kolkata' }, aggregations: exact },
      {
        calendar: { unit: 'day', timeZone: 'Europe/Berlin' },
        aggregations: exact,
        gaps: 'null',
        fromUs: start - 3 * 86_400 * s,
        toUs: start + 86_400 * s,
      },
    ]
    for (const query of asked) {
      const { limit, ...whole } = query
      const all = await answer(kept.store, { ...whole, limit: 1_000_000 })
      for (const d of [0, 2, 4, 7]) {
        const own = all.filter((row) => row.device === `d${d}`)
        const match = { tenant: 'default', devices: [`d${d}`] }
        const expected = own.slice(0, limit)
        assert.ok(expected.length > 0)
        sameAnswer(await answer(kept.store, { ...query, match }), expected, `d${d} ${JSON.stringify(query)}`)
      }
      const two = all.filter((row) => row.metric === 'humidity' && ['d1', 'd7'].includes(row.device))
      const match = { tenant: 'default', devices: ['d1', 'd7'], metrics: ['humidity'] }
      sameAnswer(await answer(kept.store, { ...query, match }), two.slice(0, limit), `two ${JSON.stringify(query)}`)
      // From a place in the middle, and from one between two rows.
      for (const at of [two[two.length >> 1]!, { ...two[two.length >> 2]!, device: 'd5' }]) {
        const place = ({ timeUs, device }: { readonly timeUs: number; readonly device: string }): number =>
          (query.order === 'desc' ? -1 : 1) * (timeUs - at.timeUs || (device < at.device ? -1 : device > at.device ? 1 : 0))
        const behind = two.filter((row) => place(row) > 0).slice(0, limit)
        sameAnswer(await answer(kept.store, { ...query, match, after: at }), behind, `after ${at.device} ${JSON.stringify(query)}`)
      }
    }
  } finally {
    await kept.store.close()
    fs.rmSync(dir, { recursive: true, force: true })
  }
})

test('more rows than are put together in memory are streamed by the engine, and are the same', async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-few-'))
  const kept = new KeptStore(dir, start)
  await kept.open()
  try {
    const many = limits.queryMergedRowsMax + 5_000
    const half = (from: number, to: number): TestRow[] =>
      Array.from({ length: to - from }, (_, i) => ({ device: 'd', timeUs: start + (from + i) * 1000, value: from + i }))
    const batch = (from: number, to: number) => ({ ...none, readings: [batchOf(half(from, to))] })
    await kept.store.commit({ tables: batch(0, many >> 1), span: spanOf(0, 1) }, signal)
    await kept.store.commit({ tables: batch(many >> 1, many), span: spanOf(1, 2) }, signal)
    const found = await answer(kept.store, { limit: 10_000_000 })
    assert.equal(found.length, many)
    assert.ok(found.every((row, i) => row['value'] === i))
    const paged = await answerInPages(kept.store, { toUs: start + 30_000 * 1000 })
    assert.equal(paged.length, 30_000)
    assert.ok(paged.every((row, i) => row['value'] === i))
    const [bucket] = await answer(kept.store, { stepUs: 86_400 * s, aggregations: ['count', 'last'] })
    assert.deepEqual([bucket?.['count'], bucket?.['last']], [many, many - 1])
  } finally {
    await kept.store.close()
    fs.rmSync(dir, { recursive: true, force: true })
  }
})

test('stretches that are in order are merged into one order', () => {
  const times = [1, 5, 9, 2, 5, 5, 20, 3, 4, 21, 22, 0]
  const ranks = [0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0]
  const order = orderOf(Float64Array.from(times), Uint32Array.from(ranks), times.length)
  const expected = times.map((_, i) => i).sort((a, b) => times[a]! - times[b]! || ranks[a]! - ranks[b]!)
  assert.deepEqual(Array.from(order ?? []), expected)
  assert.equal(orderOf(Float64Array.of(1, 1, 2), Uint32Array.of(0, 1, 0), 3), undefined)
})
