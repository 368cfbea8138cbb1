import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, describe, it } from 'node:test'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import type { Env } from '../../src/core/env.ts'
import { KymoError } from '../../src/core/errors.ts'
import { limits } from '../../src/core/limits.ts'
import { openDuckdbStore, type DuckdbOptions, type DuckdbStore } from '../../src/store/duckdb/store.ts'
import { answer, batchOf, none, signal, spanOf } from '../support/store-batches.ts'

const root = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-duckdb-'))
after(() => fs.rmSync(root, { recursive: true, force: true }))
const env = nodeEnv(silentLogger)
const code = (expected: string) => (error: unknown) => error instanceof KymoError && error.code === expected
let dirs = 0
const newDir = (): string => path.join(root, `s${dirs++}`)

async function using(run: (store: DuckdbStore, dir: string) => Promise<void>, more: Partial<DuckdbOptions> = {}): Promise<void> {
  const dir = more.dir ?? newDir()
  const store = await openDuckdbStore({ dir, env, memoryLimitMb: 128, ...more })
  try {
    await run(store, dir)
  } finally {
    await store.close()
  }
}

/** Rows of one commit: `n` readings of distinct times. */
const readings = (n: number, from = 0) => ({
  ...none,
  readings: [batchOf(Array.from({ length: n }, (_, i) => ({ device: `d${i % 3}`, timeUs: 1.7e15 + (from + i) * 1000, value: i })))],
})

void describe('The DuckDB store, one owner', () => {
  void it('is refused to a second owner in the process, and free after close', async () => {
    await using(async (_, dir) => {
      await assert.rejects(openDuckdbStore({ dir, env }), code('already_open'))
      await assert.rejects(openDuckdbStore({ dir: path.join(dir, '..', path.basename(dir)), env }), code('already_open'), 'by another name')
    })
    const dir = newDir()
    for (let i = 0; i < 2; i++) await using(async () => Promise.resolve(), { dir })
    assert.deepEqual(
      fs.readdirSync(dir).filter((name) => name.startsWith('LOCK')),
      [],
    )
  })

  void it('is refused while another living process holds the lock, and taken over from a dead one', async () => {
    const dir = newDir()
    fs.mkdirSync(dir)
    const stat = fs.readFileSync(`/proc/${process.ppid}/stat`, 'utf8')
    const start = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
    const boot = fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
    const lock = (holder: unknown): void => fs.writeFileSync(path.join(dir, 'LOCK'), typeof holder === 'string' ? holder : JSON.stringify(holder))
    lock({ pid: process.ppid, start, boot })
    await assert.rejects(openDuckdbStore({ dir, env }), code('already_open'))
    for (const dead of [
      { pid: process.ppid, start: '1', boot },
      { pid: process.ppid, start, boot: 'another' },
      { pid: 2 ** 22 + 1, start, boot },
      '',
      '{"half',
    ]) {
      lock(dead)
      await using(async () => Promise.resolve(), { dir })
    }
  })

  void it('refuses a file of a newer format', async () => {
    const dir = newDir()
    await using(async () => Promise.resolve(), { dir })
    const { DuckDBInstance } = await import('@duckdb/node-api')
    const instance = await DuckDBInstance.create(path.join(dir, 'hot-1.duckdb'))
    const connection = await instance.connect()
    await connection.run('UPDATE store_info SET format = 99')
    connection.closeSync()
    instance.closeSync()
    await assert.rejects(openDuckdbStore({ dir, env }), code('store_format'))
  })

  void it('is fenced off by a span that another has moved', async () => {
    await using(async (store) => {
      await store.commit({ tables: readings(1), span: spanOf(0, 5) }, signal)
      const late = Promise.allSettled([5, 5].map((first, i) => store.commit({ tables: readings(1, 10 + i), span: spanOf(first, 6) }, signal)))
      assert.deepEqual(
        (await late).map((one) => one.status),
        ['fulfilled', 'rejected'],
      )
      assert.equal((await answer(store, {})).length, 2)
    })
  })
})

void describe('The DuckDB store, queries', () => {
  void it('interrupts a query that is aborted while it runs, and goes on', async () => {
    await using(async (store) => {
      await store.commit({ tables: readings(200_000), span: spanOf(0, 1) }, signal)
      const abort = new AbortController()
      const reason = new KymoError('query_deadline', { detail: 'enough' })
      // Steps of 1 ms make 200,000 groups with a second pass for the deviations: far longer than the abort takes to come.
      const query = answer(store, { stepUs: 1000, aggregations: ['stddev'] }, abort.signal)
      setImmediate(() => abort.abort(reason))
      await assert.rejects(query, (error) => error === reason)
      assert.equal(store.stats().running, 0)
      assert.equal((await answer(store, { limit: 3 })).length, 3)
    })
  })

  void it(`keeps a place for light queries, lets ${limits.queryWaitingMax} wait and refuses the rest`, async () => {
    await using(async (store) => {
      await store.commit({ tables: readings(1000), span: spanOf(0, 1) }, signal)
      const heavyMax = limits.queryInFlightMax - 1
      const asked = Array.from({ length: heavyMax + limits.queryWaitingMax + 3 }, () => answer(store, { limit: 1 }))
      const order: string[] = []
      void Promise.allSettled(asked).then(() => order.push('heavy'))
      const [first] = await store.series({ tenant: 'default' }, signal)
      await answer(store, { limit: 1, match: { tenant: 'default', devices: [first!.key.device] } })
      order.push('light')
      const settled = await Promise.allSettled(asked)
      assert.equal(settled.filter((one) => one.status === 'fulfilled').length, heavyMax + limits.queryWaitingMax)
      assert.ok(settled.every((one) => one.status === 'fulfilled' || code('overloaded')(one.reason)))
      assert.equal(order[0], 'light', 'a light query waited behind heavy ones')
    })
  })

  void it('frees the place of a query whose reader stops in the middle', async () => {
    await using(async (store) => {
      await store.commit({ tables: readings(10_000), span: spanOf(0, 1) }, signal)
      for (const limit of [10_000, 10_000_000]) {
        for (let i = 0; i < limits.queryInFlightMax + 1; i++) {
          for await (const page of store.query({ match: { tenant: 'default' }, fromUs: 0, toUs: 9e15, order: 'asc', limit }, signal)) {
            assert.ok(page.rows > 0)
            break
          }
        }
      }
      assert.equal(store.stats().running, 0)
    })
  })

  void it('answers from one moment, whatever is committed meanwhile', async () => {
    await using(async (store) => {
      let next = 0
      let stop = false
      const committing = (async () => {
        while (!stop) await store.commit({ tables: readings(100, next * 100), span: spanOf(next, ++next) }, signal)
      })()
      for (let i = 0; i < 30; i++) {
        const limit = i % 2 === 0 ? 100_000 : 10_000_000
        const rows = await answer(store, { limit })
        assert.equal(rows.length % 100, 0, 'half of a commit was seen')
        const buckets = await answer(store, { stepUs: 60e6, aggregations: ['count'] })
        assert.equal(buckets.reduce((sum, row) => sum + (row['count'] as number), 0) % 100, 0)
      }
      stop = true
      await committing
    })
  })

  void it('refuses a range, a step or a match that makes no sense', async () => {
    await using(async (store) => {
      await store.commit({ tables: readings(10), span: spanOf(0, 1) }, signal)
      for (const bad of [{ stepUs: 0 }, { stepUs: 1.5 }, { fromUs: 5, toUs: 4 }, { fromUs: Number.NaN }])
        await assert.rejects(answer(store, bad), code('request_invalid'))
    })
    await using(async (store) => {
      const wide = batchOf(Array.from({ length: limits.querySeriesMax + 1 }, (_, i) => ({ device: `d${i}`, timeUs: 1.7e15, value: i })))
      await store.commit({ tables: { ...none, readings: [wide] }, span: spanOf(0, 1) }, signal)
      await assert.rejects(answer(store, {}), code('query_too_large'))
      assert.equal((await store.latest({ tenant: 'default' }, signal)).rows, limits.querySeriesMax + 1)
    })
  })

  void it('fails what runs and waits when it is closed', async () => {
    const dir = newDir()
    const store = await openDuckdbStore({ dir, env })
    await store.commit({ tables: readings(100_000), span: spanOf(0, 1) }, signal)
    // Percentiles are the engine's work from beginning to end, and take it long enough.
    const asked = Array.from({ length: 5 }, () => answer(store, { stepUs: 1000, aggregations: ['p95'] }))
    const settled = Promise.allSettled(asked)
    await new Promise((resolve) => setImmediate(resolve))
    await store.close()
    assert.ok((await settled).every((one) => one.status === 'rejected' && code('shutting_down')(one.reason)))
    await assert.rejects(answer(store, {}), code('shutting_down'))
    await assert.rejects(store.commit({ tables: none, span: spanOf(1, 2) }, signal), code('shutting_down'))
  })

  void it('closes at once, though what the store does for itself waits for a query without end', { timeout: 120_000 }, async () => {
    const store = await openDuckdbStore({ dir: newDir(), env, sealBytes: 0 })
    await store.commit({ tables: readings(10_000), span: spanOf(0, 1) }, signal)
    const sql = 'SELECT count(*) FROM readings a, readings b, readings c WHERE a.value + b.value + c.value = 0.5'
    const endless = store.sql({ tenant: 'default', sql, parameters: [], limit: 1, nowUs: 1.8e15 }, signal)
    const sealing = store.seal()
    const settled = Promise.allSettled([endless, sealing])
    // The next hot file waits for a gap as soon as no other query begins.
    const others: Promise<unknown>[] = []
    while (store.stats().waiting === 0) {
      others.push(Promise.allSettled([answer(store, { limit: 1, match: { tenant: 'default', devices: ['d1'] } })]))
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    const begun = performance.now()
    await store.close()
    const tookMs = performance.now() - begun
    assert.ok(tookMs < 5_000, `it took ${tookMs} ms`)
    assert.ok((await settled).every((one) => one.status === 'rejected' && code('shutting_down')(one.reason)))
    await Promise.all(others)
  })
})

void describe('The DuckDB store, room on the disk', () => {
  void it('refuses commits below its reserve, answers queries, and goes on when there is room again', async () => {
    let free = Number.MAX_SAFE_INTEGER
    const cramped: Env = { ...env, disk: { ...env.disk, freeBytes: () => free } }
    await using(
      async (store) => {
        await store.commit({ tables: readings(10), span: spanOf(0, 1) }, signal)
        free = limits.diskReserveBytes - 1
        await assert.rejects(store.commit({ tables: readings(10, 10), span: spanOf(1, 2) }, signal), code('disk_full'))
        assert.equal((await answer(store, {})).length, 10)
        free = Number.MAX_SAFE_INTEGER
        await store.commit({ tables: readings(10, 10), span: spanOf(1, 2) }, signal)
        assert.equal((await answer(store, {})).length, 20)
      },
      { env: cramped },
    )
  })

  void it('rolls back a commit that the disk has no room for, with all that it had changed in memory', async (t) => {
    const dir = path.join(root, 'small')
    fs.mkdirSync(dir)
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=12m', 'tmpfs', dir], { stdio: 'ignore' })
    } catch {
      t.skip('mounting a small tmpfs needs root')
      return
    }
    try {
      await using(
        async (store) => {
          await store.commit({ tables: readings(10), span: spanOf(0, 1) }, signal)
          const filler = path.join(dir, 'filler')
          fs.writeFileSync(filler, Buffer.alloc(9 * 1024 * 1024))
          let next = 1
          const more = (): Promise<void> =>
            store.commit(
              {
                tables: {
                  ...none,
                  readings: [batchOf(Array.from({ length: 20_000 }, (_, i) => ({ device: `n${next}`, timeUs: 1.8e15 + i, value: i })))],
                },
                span: spanOf(next, next + 1),
              },
              signal,
            )
          await assert.rejects(
            (async () => {
              for (; next < 100; next++) await more()
            })(),
            code('disk_full'),
          )
          const count = (): Promise<number> => answer(store, { limit: 10_000_000 }).then((rows) => rows.length)
          assert.equal(await count(), 10 + (next - 1) * 20_000)
          const known = (await store.series({ tenant: 'default' }, signal)).map((info) => info.key.device)
          assert.ok(!known.includes(`n${next}`), 'a series of the failed commit is left over')
          assert.equal((await store.resume('log-1', 'telemetry', 0))?.next, BigInt(next))
          fs.rmSync(filler)
          await more()
          assert.equal(await count(), 10 + next * 20_000)
        },
        { dir: path.join(dir, 'store'), reserveBytes: 0 },
      )
    } finally {
      execFileSync('umount', [dir])
    }
  })
})

void describe('The DuckDB store, checkpoints', () => {
  const wal = (dir: string): number => fs.statSync(path.join(dir, 'hot-1.duckdb.wal'), { throwIfNoEntry: false })?.size ?? 0

  void it('keeps the write-ahead log short', async () => {
    await using(
      async (store, dir) => {
        for (let i = 0; i < 20; i++) {
          await store.commit({ tables: readings(2000, i * 2000), span: spanOf(i, i + 1) }, signal)
          assert.ok(wal(dir) < 150_000, `${wal(dir)} bytes`)
        }
        assert.equal((await answer(store, {})).length, 40_000)
      },
      { checkpointBytes: 100_000 },
    )
  })

  void it('waits for a gap between queries, which commits need not', async () => {
    // Time runs a hundred times as fast, so that nothing here waits for a second.
    const hasty: Env = {
      ...env,
      clock: { ...env.clock, monotonicMs: () => env.clock.monotonicMs() * 100, after: (ms, fn) => env.clock.after(ms / 100, fn) },
    }
    await using(
      async (store, dir) => {
        // More than is put together in memory: then the engine's transaction is open for as long as its reader takes.
        const many = limits.queryMergedRowsMax + 1
        await store.commit({ tables: readings(many), span: spanOf(0, 1) }, signal)
        const slow = store.query({ match: { tenant: 'default' }, fromUs: 0, toUs: 9e15, order: 'asc', limit: 10_000_000 }, signal)
        let rows = (await slow.next()).value?.rows ?? 0
        for (let i = 1; i < 12; i++) await store.commit({ tables: readings(2000, many + i * 2000), span: spanOf(i, i + 1) }, signal)
        const held = wal(dir)
        assert.ok(held > 300_000, `${held} bytes: no checkpoint runs beside the query`)
        const [first] = await store.series({ tenant: 'default' }, signal)
        const light = { limit: 5, match: { tenant: 'default', devices: [first!.key.device] } }
        assert.equal((await answer(store, light)).length, 5, 'others are held up for a moment only')
        for await (const page of slow) rows += page.rows
        assert.equal(rows, many, 'the slow one saw its own moment')
        await store.commit({ tables: readings(2000, many + 40_000), span: spanOf(12, 13) }, signal)
        assert.ok(wal(dir) < held / 2, `${wal(dir)} bytes after the query`)
      },
      { env: hasty, checkpointBytes: 50_000 },
    )
  })
})

void describe('The DuckDB store, start', () => {
  void it('finds its way after a crash from the state that was written last, whatever came since', async () => {
    const dir = newDir()
    const copy = newDir()
    await using(
      async (store) => {
        // Far more rows than a written state may lag behind, so that one is written in the middle of things.
        for (let i = 0; i < 11; i++) await store.commit({ tables: readings(100_000, i * 100_000), span: spanOf(i, i + 1) }, signal)
        await store.commit({ tables: { ...none, readings: [batchOf([{ device: 'new', timeUs: 1.9e15, value: 5 }])] }, span: spanOf(11, 12) }, signal)
        fs.cpSync(dir, copy, { recursive: true, filter: (file) => !file.endsWith('LOCK') })
      },
      { dir },
    )
    await using(
      async (store) => {
        const infos = await store.series({ tenant: 'default' }, signal)
        assert.deepEqual(
          infos.map((info) => [info.key.device, info.firstUs, info.lastUs]),
          [
            ['d0', 1.7e15, 1.7e15 + 1_099_999_000],
            ['d1', 1.7e15 + 1000, 1.7e15 + 1_099_997_000],
            ['d2', 1.7e15 + 2000, 1.7e15 + 1_099_998_000],
            ['new', 1.9e15, 1.9e15],
          ],
        )
        await store.commit({ tables: readings(1, 2_000_000), span: spanOf(12, 13) }, signal)
        const count = await answer(store, { stepUs: 3600e6, aggregations: ['count'] })
        assert.equal(
          count.reduce((sum, row) => sum + (row['count'] as number), 0),
          1_100_002,
        )
      },
      { dir: copy },
    )
  })
})
