import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { describe, it } from 'node:test'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { KymoError } from '../../src/core/errors.ts'
import { Metrics, type Cell, type HistogramCell } from '../../src/core/metrics.ts'
import type { LogRecord } from '../../src/core/record.ts'
import { openEmbeddedLog, type EmbeddedLog } from '../../src/log/embedded/log.ts'
import { openStoreThread, type StoreThread } from '../../src/roles/store-thread.ts'
import { keepAll } from '../../src/store/duckdb/retention.ts'
import { openDuckdbStore } from '../../src/store/duckdb/store.ts'
import { answer, batchOf, signal } from '../support/store-batches.ts'

const env = nodeEnv(silentLogger)
const t0 = 1_700_000_000_000_000
const code = (expected: string) => (error: unknown) => error instanceof KymoError && error.code === expected

interface House {
  readonly log: EmbeddedLog
  readonly store: StoreThread
  readonly metrics: Metrics
  readonly fatals: KymoError[]
  readonly dir: string
}

async function house(run: (house: House) => Promise<void>, dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-thread-'))): Promise<void> {
  const metrics = new Metrics()
  const fatals: KymoError[] = []
  const log = await openEmbeddedLog({ dir: path.join(dir, 'log'), env, threads: false })
  try {
    const store = await openStoreThread({
      dir: path.join(dir, 'store'),
      log: log.handle(),
      env,
      metrics,
      memoryLimitMb: 128,
      onFatal: (error) => void fatals.push(error),
    })
    try {
      await run({ log, store, metrics, fatals, dir })
    } finally {
      await store.close()
    }
  } finally {
    await log.close()
    fs.rmSync(dir, { recursive: true, force: true })
  }
}

function record(from: number, rows: number, textEvery = 0): LogRecord {
  const list = Array.from({ length: rows }, (_, i) => {
    const n = from + i
    return {
      device: `d${n % 4}`,
      timeUs: t0 + n * 1000,
      value: n,
      ...(textEvery > 0 && i % textEvery === 0 ? { metric: 'words', text: `t${n}`, meta: '{}' } : {}),
    }
  })
  return { topic: 'telemetry', kind: 'readings', key: '', receivedUs: t0 + from * 1000, batch: batchOf(list) }
}

/** Writes to the log and waits until the store has it. */
async function write({ log, store }: House, ...records: LogRecord[]): Promise<void> {
  await log.write(records, undefined, signal)
  const end = log.end('telemetry')
  if ((store.next ?? 0n) >= end) return
  await new Promise<void>((resolve) => {
    const stop = store.onCommitted((commit) => {
      if (commit.next < end) return
      stop()
      resolve()
    })
  })
}

void describe("The store's thread", () => {
  void it('stores what the log gets, and answers queries, latest, series and resume', async () => {
    await house(async (all) => {
      const { store, log } = all
      await write(all, record(0, 5000, 100))
      await write(all, record(5000, 10))
      assert.deepEqual((await store.resume(log.id, 'telemetry', 0))?.next, log.end('telemetry'))
      assert.equal(await store.resume('another', 'telemetry', 0), undefined)
      const rows = await answer(store, {})
      assert.equal(rows.length, 5010)
      assert.deepEqual(rows[0], { device: 'd0', metric: 'words', timeUs: t0, value: Number.NaN, flags: 2, text: 't0', meta: '{}' })
      const buckets = await answer(store, { stepUs: 60e6, aggregations: ['count'], match: { tenant: 'default', metrics: ['m'] } })
      assert.equal(
        buckets.reduce((sum, row) => sum + (row['count'] as number), 0),
        4960,
      )
      const latest = await store.latest({ tenant: 'default', metrics: ['m'] }, signal)
      assert.deepEqual([...latest.value], [5008, 5009, 5006, 5007])
      assert.equal((await store.series({ tenant: 'default' }, signal)).length, 5)
      assert.deepEqual(all.fatals, [])
    })
  })

  void it('takes over while it runs when a file is sealed and how long data is kept', async () => {
    await house(async (all) => {
      const { store, dir } = all
      const until = async (what: string, done: () => boolean): Promise<void> => {
        for (let i = 0; i < 1500 && !done(); i++) await new Promise((resolve) => setTimeout(resolve, 20))
        assert.ok(done(), what)
      }
      const sealed = (): boolean => fs.existsSync(path.join(dir, 'store', 'sealed', 'manifest.json'))
      await write(all, record(0, 100))
      assert.equal(sealed(), false)
      await store.reconfigure({ seal: { bytes: 1, afterMs: 1 }, retention: keepAll })
      await write(all, record(100, 100))
      await until('sealed', () => sealed() && store.stats().rawFromUs === 0)
      assert.equal((await answer(store, {})).length, 200)
      await store.reconfigure({ seal: { bytes: 1, afterMs: 1 }, retention: { ...keepAll, rawUs: 86_400e6 } })
      await until('removed', () => store.stats().rawFromUs > t0)
      assert.equal((await answer(store, {})).length, 0)
      assert.deepEqual(all.fatals, [])
    })
  })

  void it('measures what it does', async () => {
    await house(async (all) => {
      await write(all, record(0, 10))
      await answer(all.store, {})
      const cell = (name: string): HistogramCell | Cell => [...all.metrics.families.get(name)!.cells.values()][0]!.cell
      const seen = (name: string): number => (cell(name) as HistogramCell).counts.reduce((a, b) => a + b, 0)
      assert.equal(seen('kymo_store_write_duration_seconds'), 1)
      assert.equal(seen('kymo_end_to_end_latency_seconds'), 1)
      assert.equal(seen('kymo_store_query_duration_seconds'), 1)
      assert.equal((cell('kymo_store_write_errors_total') as Cell).value, 0)
      all.metrics.families.get('kymo_store_bytes')!.collect!()
      assert.ok((cell('kymo_store_bytes') as Cell).value > 0)
    })
  })

  void it('forwards an abort with its reason, and what was refused with its code', async () => {
    await house(async (all) => {
      await write(all, record(0, 8000))
      const abort = new AbortController()
      const reason = new KymoError('overloaded', { detail: 'the client has gone' })
      const query = answer(all.store, { stepUs: 1000, aggregations: ['stddev'] }, abort.signal)
      abort.abort(reason)
      await assert.rejects(query, (error) => error instanceof KymoError && error.code === 'overloaded' && error.message === reason.message)
      await assert.rejects(all.store.latest({ tenant: 'default' }, AbortSignal.abort(reason)), code('overloaded'))
      await assert.rejects(answer(all.store, { stepUs: -1 }), code('request_invalid'))
      assert.equal((await answer(all.store, { limit: 5 })).length, 5)
    })
  })

  void it('does not run ahead of a reader that takes its time, and lets it stop', async () => {
    await house(async (all) => {
      for (let i = 0; i < 4; i++) await write(all, record(i * 8000, 8000))
      let rows = 0
      for await (const page of all.store.query({ match: { tenant: 'default' }, fromUs: 0, toUs: 9e15, order: 'asc', limit: 10_000_000 }, signal)) {
        rows += page.rows
        await new Promise((resolve) => setTimeout(resolve, 1))
      }
      assert.equal(rows, 32_000)
      for (let i = 0; i < 4; i++)
        for await (const page of all.store.query({ match: { tenant: 'default' }, fromUs: 0, toUs: 9e15, order: 'asc', limit: 10_000_000 }, signal))
          if (page.rows > 0) break
      assert.equal((await answer(all.store, { limit: 1 })).length, 1)
    })
  })

  void it('closes while queries run: they fail, nothing else does, and all is there afterwards', async () => {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-thread-'))
    await house(async (all) => {
      await write(all, record(0, 8000), record(8000, 8000))
      const asked = Promise.allSettled(Array.from({ length: 6 }, () => answer(all.store, { stepUs: 1000, aggregations: ['stddev'] })))
      await all.store.close()
      // One that had just ended when the thread heard of the closing has its whole answer; none has a part.
      const ended = await asked
      assert.ok(ended.every((one) => (one.status === 'rejected' ? code('shutting_down')(one.reason) : one.value.length === 16_000)))
      assert.ok(ended.some((one) => one.status === 'rejected'))
      await assert.rejects(answer(all.store, {}), code('shutting_down'))
      assert.deepEqual(all.fatals, [])
      const again = await openDuckdbStore({ dir: path.join(dir, 'store'), env })
      assert.equal((await answer(again, {})).length, 16_000)
      assert.deepEqual(
        (await again.resume(all.log.id, 'telemetry', 0))?.states.map((state) => state.at),
        [2n, 2n],
      )
      await again.close()
    }, dir)
  })

  void it('says why it cannot be opened', async () => {
    await house(async (all) => {
      const second = openStoreThread({
        dir: path.join(all.dir, 'store'),
        log: all.log.handle(),
        env,
        metrics: new Metrics(),
        onFatal: () => assert.fail('not fatal'),
      })
      await assert.rejects(second, code('already_open'))
    })
  })
})
