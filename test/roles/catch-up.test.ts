import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { Metrics } from '../../src/core/metrics.ts'
import { openEmbeddedLog, type EmbeddedLog } from '../../src/log/embedded/log.ts'
import { openStoreThread, type StoreThread } from '../../src/roles/store-thread.ts'
import { answer, answerInPages, batchOf, signal, type TestRow } from '../support/store-batches.ts'

const env = nodeEnv(silentLogger)
const t0 = Date.UTC(2026, 10, 1) * 1000
const devices = 40
const perWrite = 400

/** What was sent, by (device, time): of two values the one that came later. Each device speaks every second. */
class Sent {
  readonly values = new Map<string, Map<number, number>>()
  #n = 0

  /** Mostly the next readings of each device; some again, some late, some corrected. */
  next(): TestRow[] {
    const rows: TestRow[] = []
    for (let i = 0; i < perWrite; i++) {
      const n = this.#n++
      const timeUs = t0 + Math.floor(n / devices) * 1e6
      const row = { device: `d${n % devices}`, timeUs, value: n }
      if (n % 97 === 96) rows.push(row, row)
      else if (n % 211 === 210) rows.push({ ...row, timeUs: Math.max(t0, timeUs - 900e6), value: -n }, row)
      else rows.push(row)
    }
    for (const { device, timeUs, value } of rows) {
      const own = this.values.get(device ?? '') ?? new Map<number, number>()
      own.set(timeUs, value ?? 0)
      this.values.set(device ?? '', own)
    }
    return rows
  }
}

async function write(log: EmbeddedLog, sent: Sent): Promise<void> {
  const rows = sent.next()
  const receivedUs = rows.reduce((latest, { timeUs }) => Math.max(latest, timeUs), 0)
  await log.write([{ topic: 'telemetry', kind: 'readings', key: '', receivedUs, batch: batchOf(rows) }], undefined, signal)
}

/** Until the store has what the log had when this was called. */
async function drained(log: EmbeddedLog, store: StoreThread): Promise<void> {
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

function bucketsOf(values: ReadonlyMap<number, number>, stepUs: number): Map<number, { count: number; min: number; max: number; sum: number }> {
  const found = new Map<number, { count: number; min: number; max: number; sum: number }>()
  for (const [timeUs, value] of values) {
    const bucket = timeUs - (timeUs % stepUs)
    const one = found.get(bucket) ?? { count: 0, min: Number.POSITIVE_INFINITY, max: Number.NEGATIVE_INFINITY, sum: 0 }
    found.set(bucket, { count: one.count + 1, min: Math.min(one.min, value), max: Math.max(one.max, value), sum: one.sum + value })
  }
  return found
}

test(
  'after an outage of the store what was acknowledged meanwhile is there once, in order, with its latest values and rollups',
  { timeout: 120_000 },
  async () => {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-catch-up-'))
    const log = await openEmbeddedLog({ dir: path.join(dir, 'log'), env, threads: true })
    const open = (): Promise<StoreThread> =>
      openStoreThread({
        dir: path.join(dir, 'store'),
        log: log.handle(),
        env,
        metrics: new Metrics(),
        memoryLimitMb: 256,
        onFatal: (error) => assert.fail(error.message),
      })
    const sent = new Sent()
    let store = await open()
    try {
      for (let i = 0; i < 20; i++) await write(log, sent)
      await drained(log, store)
      // The worker is gone; the log goes on acknowledging: each write resolves when it is durable.
      await store.close()
      const before = log.end('telemetry')
      for (let i = 0; i < 400; i++) await write(log, sent)
      assert.ok(log.end('telemetry') > before)
      store = await open()
      const behind = log.end('telemetry') - (store.next ?? 0n)
      assert.ok(behind >= 300n, `the backlog has ${behind} records only: the test shows nothing`)
      // It drains beside what goes on arriving.
      let arriving = true
      const arrive = (async () => {
        for (let i = 0; i < 100 && arriving; i++) await write(log, sent)
      })()
      await drained(log, store)
      await arrive
      arriving = false
      await drained(log, store)

      for (const [device, values] of sent.values) {
        const match = { tenant: 'default', devices: [device] }
        const rows = await answerInPages(store, { match })
        const expected = [...values].toSorted(([a], [b]) => a - b)
        assert.deepEqual(
          rows.map(({ timeUs, value }) => [timeUs, value]),
          expected,
          device,
        )
        for (const stepUs of [60e6, 3600e6]) {
          const rolled = await answer(store, { match, stepUs, aggregations: ['count', 'min', 'max', 'sum'] })
          const buckets = [...bucketsOf(values, stepUs)].toSorted(([a], [b]) => a - b).map(([timeUs, bucket]) => ({ timeUs, ...bucket }))
          assert.deepEqual(
            rolled.map(({ timeUs, count, min, max, sum }) => ({ timeUs, count, min, max, sum })),
            buckets,
            `${device}, ${stepUs} µs`,
          )
        }
      }
      const latest = await store.latest({ tenant: 'default' }, signal)
      assert.equal(latest.rows, devices)
      for (let i = 0; i < latest.rows; i++) {
        const values = sent.values.get(latest.keys[latest.series[i]!]!.device)!
        const last = Math.max(...values.keys())
        assert.deepEqual([latest.timeUs[i], latest.value[i]], [last, values.get(last)])
      }
    } finally {
      await store.close()
      await log.close()
      fs.rmSync(dir, { recursive: true, force: true })
    }
  },
)
