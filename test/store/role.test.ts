import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import type { Env } from '../../src/core/env.ts'
import { KymoError } from '../../src/core/errors.ts'
import type { Store } from '../../src/core/ports.ts'
import type { LogRecord } from '../../src/core/record.ts'
import type { Committed } from '../../src/roles/served-store.ts'
import { startStoreRole, type StoreRole } from '../../src/roles/store.ts'
import { openDuckdbStore } from '../../src/store/duckdb/store.ts'
import { encodeErasure } from '../../src/wire/erasure.ts'
import { SimClock } from '../sim/clock.ts'
import { MemoryLog } from '../support/memory-log.ts'
import { ModelStore } from '../support/model-store.ts'
import { answer, batchOf, signal, type TestRow } from '../support/store-batches.ts'
import { modelRuns } from '../support/effort.ts'

const t0 = 1_700_000_000_000_000 - (1_700_000_000_000_000 % 3600e6)
const s = 1e6

function readings(rows: readonly TestRow[], receivedUs = Math.max(...rows.map((row) => row.timeUs))): LogRecord {
  return { topic: 'telemetry', kind: 'readings', key: '', receivedUs, batch: batchOf(rows) }
}
const tickAt = (receivedUs: number): LogRecord => ({ topic: 'telemetry', kind: 'tick', key: '', receivedUs, body: new Uint8Array(0) })
const at = (seconds: number, value = seconds, device = 'd1'): TestRow => ({ device, timeUs: t0 + seconds * s, value })

const erasureOf = (device: string): LogRecord => ({
  topic: 'telemetry',
  kind: 'erasure',
  key: device,
  receivedUs: t0,
  body: encodeErasure({ id: `of-${device}`, tenant: 'default', device }),
})

class Bench {
  readonly clock = new SimClock()
  readonly env: Env = { ...nodeEnv(silentLogger), clock: this.clock }
  readonly log: MemoryLog
  readonly commits: Committed[] = []
  role: StoreRole

  constructor(store: Store, log = new MemoryLog(), commitMessages = 0) {
    this.log = log
    this.role = startStoreRole({ log, store, env: this.env, commitMessages, onCommitted: (commit) => void this.commits.push(commit) })
  }

  /** Real work (DuckDB) takes real time, so simulated time passes until the store is there. */
  async until(what: () => boolean | Promise<boolean>): Promise<void> {
    for (let i = 0; i < 5000; i++) {
      if (await what()) return
      await this.clock.advance(5)
      await new Promise((resolve) => setImmediate(resolve))
    }
    assert.fail('it never came to pass')
  }

  async caughtUp(store: Store): Promise<void> {
    await this.until(async () => (await store.resume(this.log.id, 'telemetry', 0))?.next === this.log.end(''))
  }
}

void describe('The store role', () => {
  void it('stores each reading once, counts what it drops, and passes over what is no reading', async () => {
    const store = new ModelStore()
    const bench = new Bench(store)
    bench.log.append(
      readings([at(1), at(2)]),
      readings([at(2), at(3)]),
      { topic: 'telemetry', kind: 'attributes', key: '', receivedUs: 1, body: new Uint8Array(3) },
      tickAt(t0),
      readings([at(3, 99), at(4)]),
    )
    await bench.caughtUp(store)
    assert.deepEqual(
      (await answer(store, {})).map((row) => row['value']),
      [1, 2, 99, 4],
    )
    assert.deepEqual(bench.role.counts, { duplicates: 1, corrections: 1, late: 0 })
    assert.deepEqual(
      bench.commits.map((commit) => [commit.next, commit.rows, commit.receivedUsOldest]),
      [[5n, 5, t0 + 2 * s]],
    )
    await bench.role.stop()
  })

  void it('acknowledges no further than its last durable states, and all once nothing more comes', async () => {
    const store = new ModelStore()
    const bench = new Bench(store)
    const states = async (): Promise<bigint> => (await store.resume('log-1', 'telemetry', 0))?.states[0]?.at ?? 0n
    let behind = 0
    for (let i = 0; i < 40; i++) {
      bench.log.append(readings([at(i)]))
      await bench.caughtUp(store)
      const group = bench.log.groups.get('store') ?? 0n
      assert.ok(group <= (await states()))
      if ((await states()) < bench.log.end('')) behind++
      await bench.clock.advance(60)
    }
    assert.ok(behind > 20, 'states are not written with each commit')
    await bench.until(() => bench.log.groups.get('store') === 40n)
    await bench.role.stop()
    assert.equal(await states(), 40n)
  })

  void it('tries again what failed without letting the operators see it twice, also when only the answer was lost', async () => {
    const store = new ModelStore()
    const faults = ['before', 'after', 'before', 'before', 'after']
    const commit: Store['commit'] = async (c, stop) => {
      const fault = faults.shift()
      if (fault === 'before') throw new KymoError('store_unavailable')
      await store.commit(c, stop)
      if (fault === 'after') throw new KymoError('store_unavailable')
    }
    const flaky: Store = {
      commit,
      resume: (l, t, p) => store.resume(l, t, p),
      query: (q, a) => store.query(q, a),
      latest: (m) => store.latest(m),
      series: (m, a, page) => store.series(m, a, page),
      close: () => store.close(),
    }
    const bench = new Bench(flaky)
    for (let i = 0; i < 30; i++) bench.log.append(readings([at(i), at(i, i, 'd2')]))
    await bench.caughtUp(store)
    assert.equal((await answer(store, {})).length, 60)
    assert.deepEqual(bench.role.counts, { duplicates: 0, corrections: 0, late: 0 })
    await bench.role.stop()
  })

  void it('erases what stands before an erasure, to the record, also when a try of it failed', async () => {
    const store = new ModelStore()
    const faults = ['before', 'after', undefined, 'after', 'before']
    const commits: [bigint, bigint, string | undefined][] = []
    const flaky: Store = {
      commit: async (c, stop) => {
        const fault = faults.shift()
        if (fault === 'before') throw new KymoError('store_unavailable')
        await store.commit(c, stop)
        commits.push([c.span.first, c.span.next, c.erase?.device])
        assert.ok(c.erase === undefined || c.states?.length === 2, 'an erasure comes with states')
        if (fault === 'after') throw new KymoError('store_unavailable')
      },
      resume: (l, t, p) => store.resume(l, t, p),
      query: (q, a) => store.query(q, a),
      latest: (m) => store.latest(m),
      series: (m, a, page) => store.series(m, a, page),
      close: () => store.close(),
    }
    const bench = new Bench(flaky)
    bench.log.append(readings([at(1), at(1, 1, 'd2')]), readings([at(2)]), erasureOf('d1'), erasureOf('d3'), readings([at(1, 7), at(1, 1, 'd2')]))
    await bench.caughtUp(store)
    await bench.role.stop()
    assert.deepEqual(
      (await answer(store, {})).map((row) => [row.device, row['value']]),
      [
        ['d1', 7],
        ['d2', 1],
      ],
    )
    assert.deepEqual(commits.slice(0, 3), [
      [0n, 3n, 'd1'],
      [3n, 4n, 'd3'],
      [4n, 5n, undefined],
    ])
    assert.equal(bench.role.counts.duplicates, 1)
  })

  void it('ends when another owner has moved the span', async () => {
    const store = new ModelStore()
    const bench = new Bench(store)
    bench.log.append(readings([at(1)]))
    await bench.caughtUp(store)
    await store.commit(
      { tables: { readings: [], late: [], rollups: [] }, span: { log: 'log-1', topic: 'telemetry', partition: 0, first: 1n, next: 7n } },
      signal,
    )
    bench.log.append(readings([at(2)]))
    await Promise.all([assert.rejects(bench.role.done, { code: 'store_failed' }), bench.clock.advance(100)])
  })

  void it('ends when the log has lost what the store holds', async () => {
    const store = new ModelStore()
    await store.commit(
      { tables: { readings: [], late: [], rollups: [] }, span: { log: 'log-1', topic: 'telemetry', partition: 0, first: 0n, next: 7n } },
      signal,
    )
    await assert.rejects(new Bench(store).role.done, { code: 'log_corrupt' })
  })

  void it('begins a new log at its beginning, and knows again what the store has', async () => {
    const store = new ModelStore()
    const first = new Bench(store)
    first.log.append(readings([at(1), at(2), at(9)]))
    await first.caughtUp(store)
    await first.role.stop()
    const second = new Bench(store, new MemoryLog('log-2'))
    second.log.append(readings([at(9), at(2, 5), at(10)]))
    await second.caughtUp(store)
    await second.role.stop()
    assert.deepEqual(
      (await answer(store, {})).map((row) => row['value']),
      [1, 5, 9, 10],
    )
  })

  void it('lets a lone reading through at once, and gathers under load', async () => {
    const store = new ModelStore()
    const bench = new Bench(store)
    bench.log.perDelivery = 1
    await bench.clock.advance(1)
    const lingerMs = bench.log.opened.at(-1)!.batch!.lingerMs as () => number
    assert.equal(lingerMs(), 0)
    bench.log.append(readings([at(0)]))
    await bench.caughtUp(store)
    assert.ok(lingerMs() <= 10)
    await bench.clock.advance(1000)
    assert.equal(lingerMs(), 0)
    for (let i = 1; i < 30; i++) {
      bench.log.append(readings(Array.from({ length: 600 }, (_, k) => at(i + k / 1000, k, `d${k % 2}`))))
      await bench.clock.advance(10)
    }
    assert.ok(lingerMs() > 80, `${lingerMs()} ms`)
    await bench.role.stop()
  })

  void it('waits no longer than commitMessages take to arrive, counted in messages and not in readings', async () => {
    const waits = async (commitMessages: number): Promise<number> => {
      const bench = new Bench(new ModelStore(), new MemoryLog(), commitMessages)
      bench.log.perDelivery = 1
      await bench.clock.advance(1)
      const lingerMs = bench.log.opened.at(-1)!.batch!.lingerMs as () => number
      // 20 messages of 30 readings every 10 ms: 2,000 messages a second, 60,000 readings.
      const metrics = Array.from({ length: 30 }, (_, k) => `m${k}`)
      for (let i = 1; i < 60; i++) {
        const messages = Array.from({ length: 20 }, (_, k) => metrics.map((metric) => ({ ...at(i + k / 1000, k, `d${k % 2}`), metric })))
        bench.log.append(readings(messages.flat()))
        await bench.clock.advance(10)
      }
      const ms = lingerMs()
      await bench.role.stop()
      return ms
    }
    assert.ok((await waits(0)) > 80)
    // 40 messages take 20 ms, of which up to 10 have passed since the last commit.
    const forty = await waits(40)
    assert.ok(forty > 5 && forty < 25, `${forty} ms`)
    assert.ok((await waits(1)) < 1)
    assert.ok((await waits(100_000)) > 80, 'more than arrive in the longest wait')
  })

  void it('comes back from kills at any moment with rows and rollups as if nothing had been', async () => {
    const root = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-role-'))
    let n = 0
    const plan = fc.record({
      kills: fc.array(fc.nat(25), { minLength: 1, maxLength: 4 }),
      perDelivery: fc.integer({ min: 1, max: 9 }),
      seed: fc.nat(1000),
    })
    try {
      await fc.assert(
        fc.asyncProperty(plan, async ({ kills, perDelivery, seed }) => {
          const store = await openDuckdbStore({ dir: path.join(root, `s${n++}`), env: nodeEnv(silentLogger), memoryLimitMb: 128 })
          try {
            await killed(store, kills, perDelivery, seed)
          } finally {
            await store.close()
          }
        }),
        { ...modelRuns(4), endOnFailure: true },
      )
    } finally {
      fs.rmSync(root, { recursive: true, force: true })
    }
  })
})

/** Runs the same log through roles that are killed after so many commits each, and compares rows, minutes and hours with the log. */
async function killed(store: Store, kills: readonly number[], perDelivery: number, seed: number): Promise<void> {
  const log = new MemoryLog()
  log.perDelivery = perDelivery
  const expected = new Map<number, number>()
  for (let i = 0; i < 120; i++) {
    const rows = Array.from({ length: 8 }, (_, k) => {
      const dice = (seed * 31 + i * 17 + k * 7) % 23
      const seconds = dice === 0 ? i * 30 : dice === 1 ? Math.max(0, i * 40 - 900) : i * 40 + k * 5
      return at(seconds, dice === 2 ? -k : seconds * 2)
    })
    for (const row of rows) expected.set(row.timeUs, row.value!)
    log.append(readings(rows, t0 + i * 41 * s))
    if (i % 7 === 3) log.append(tickAt(t0 + i * 41 * s))
    // What comes afterwards reaches back behind it.
    if (i === 60 && seed % 3 !== 0) {
      log.append(erasureOf('d1'))
      expected.clear()
    }
  }
  for (const commits of [...kills, Number.MAX_SAFE_INTEGER]) {
    let dead = false
    let left = commits
    const doomed: Store = {
      commit: async (c, stop) => {
        if (dead) await new Promise(() => undefined)
        dead = --left < 0
        await store.commit(c, stop)
        if (dead) await new Promise(() => undefined)
      },
      resume: (l, t, p) => store.resume(l, t, p),
      query: (q, a) => store.query(q, a),
      latest: (m, a) => store.latest(m, a),
      series: (m, a, page) => store.series(m, a, page),
      close: () => Promise.resolve(),
    }
    const bench = new Bench(doomed, log)
    await bench.until(async () => dead || (await store.resume(log.id, 'telemetry', 0))?.next === log.end(''))
    // An orderly stop commits once more.
    left = Number.MAX_SAFE_INTEGER
    if (!dead) await bench.role.stop()
    // The log may forget what was acknowledged.
    log.earliest = log.groups.get('store') ?? 0n
  }
  const rows = await answer(store, {})
  assert.deepEqual(new Map(rows.map((row) => [row.timeUs, row['value']])), expected)
  assert.equal(rows.length, expected.size)
  for (const stepUs of [60 * s, 3600 * s]) {
    const found = await answer(store, { stepUs, aggregations: ['count', 'sum', 'last'] })
    const groups = Map.groupBy(
      [...expected].sort(([a], [b]) => a - b),
      ([timeUs]) => timeUs - (timeUs % stepUs),
    )
    assert.deepEqual(
      found.map((row) => [row.timeUs, row['count'], row['sum'], row['last']]),
      [...groups].map(([timeUs, list]) => [timeUs, list.length, list.reduce((sum, [, value]) => sum + value, 0), list.at(-1)![1]]),
    )
  }
}
