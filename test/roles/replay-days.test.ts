import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { airQualityRows, expected, intelIsThere, intelRows, type Row, type SeriesFigures } from '../../e2e/expected/series.ts'
import { quantileError } from '../../src/core/ports.ts'
import { openEmbeddedLog, type EmbeddedLog } from '../../src/log/embedded/log.ts'
import { startStoreRole } from '../../src/roles/store.ts'
import { readManifest } from '../../src/store/duckdb/sealed/manifest-file.ts'
import { openDuckdbStore, type DuckdbStore } from '../../src/store/duckdb/store.ts'
import { replaySpeed } from '../support/effort.ts'
import { envAt } from '../support/kept-store.ts'
import { answer, batchOf, signal, type TestRow } from '../support/store-batches.ts'

/*
 * Two real fleets of spring 2004 through log, store role and store, on a clock that runs as fast as they do: hot files are closed and sealed within
 * the day, days are merged when they are over, March becomes a month. KYMO_TEST_SPEED=10000 runs through all of it, in ten minutes; what runs with
 * every change ends after two weeks, and comes back in May.
 */
const speed = replaySpeed(150_000)
const hourMs = 3_600_000
const dayMs = 24 * hourMs
const startMs = Date.UTC(2004, 2, 1)
const endMs = speed > 20_000 ? Date.UTC(2004, 2, 15) : Date.UTC(2004, 4, 7)
const mayMs = Date.UTC(2004, 4, 7)
/** A mote that was out of reach says everything so much later; a correction takes as long. */
const lateMs = 36 * hourMs

/** `value`: what was said then, which may have been wrong. */
interface Delivery {
  readonly dueMs: number
  readonly row: Row
}

/** Each row when it is due; some twice, some late, some wrong first and put right later. */
function deliveries(rows: readonly Row[]): Delivery[] {
  const out: Delivery[] = []
  rows.forEach((row, n) => {
    const late = row.device === 'mote-7' && row.timeMs % (5 * dayMs) < dayMs
    out.push({ dueMs: row.timeMs + (late ? lateMs : 0), row })
    if (n % 50 === 0) out.push({ dueMs: row.timeMs + hourMs, row })
    if (n % 97 === 0) {
      const wrong = Object.fromEntries(Object.entries(row.values).map(([metric, value]) => [metric, value + 1000]))
      out.pop()
      out.push({ dueMs: row.timeMs, row: { ...row, values: wrong } }, { dueMs: row.timeMs + lateMs, row })
    }
  })
  return out.toSorted((a, b) => a.dueMs - b.dueMs)
}

/** What has been written so far: of each series and time every value that was said, and the offset below which the first one is. */
class Written {
  readonly #series = new Map<string, Map<number, { readonly values: Set<number>; readonly below: bigint }>>()

  add(row: Row, below: bigint): void {
    for (const [metric, value] of Object.entries(row.values)) {
      const key = `${row.device}/${metric}`
      const own = this.#series.get(key) ?? new Map<number, { readonly values: Set<number>; readonly below: bigint }>()
      this.#series.set(key, own)
      const known = own.get(row.timeMs)
      if (known === undefined) own.set(row.timeMs, { values: new Set([value]), below })
      else known.values.add(value)
    }
  }

  get keys(): readonly string[] {
    return [...this.#series.keys()]
  }

  /** Whether an answer has each reading below `committed` once, and nothing that was not said. */
  check(key: string, fromMs: number, toMs: number, committed: bigint, found: readonly { readonly timeUs: number; readonly value?: unknown }[]): void {
    const own = this.#series.get(key)!
    const seen = new Set<number>()
    for (const { timeUs, value } of found) {
      const said = own.get(timeUs / 1000)
      assert.ok(said?.values.has(Number(value)), `${key} at ${timeUs}: ${String(value)} was not said`)
      assert.ok(!seen.has(timeUs / 1000), `${key} at ${timeUs} is there twice`)
      seen.add(timeUs / 1000)
    }
    for (const [timeMs, { below }] of own)
      if (timeMs >= fromMs && timeMs < toMs && below <= committed) assert.ok(seen.has(timeMs), `${key} at ${timeMs} is missing`)
  }
}

/** It runs `speed` times as fast as the machine's, and waits where the store has not been sealed for a day and a half: a slow machine takes longer, and sees the same. */
class FastClock {
  waitsAtMs = startMs + 1.5 * dayMs
  #ms = startMs
  #lookedAt = performance.now()
  #stopped = false

  nowMs(): number {
    const at = performance.now()
    if (!this.#stopped) this.#ms = Math.max(this.#ms, Math.min(this.waitsAtMs, this.#ms + (at - this.#lookedAt) * speed))
    this.#lookedAt = at
    return this.#ms
  }

  stopAt(ms: number): void {
    this.#stopped = true
    this.#ms = ms
  }
}

const matchOf = (key: string) => {
  const [device, metric] = key.split('/')
  return { tenant: 'default', devices: [device!], metrics: [metric!] }
}

/** Both sides add up in different orders. */
function close(actual: unknown, wanted: number, what: string): void {
  assert.ok(Math.abs(Number(actual) - wanted) <= 1e-9 * Math.max(1, Math.abs(wanted)), `${what}: ${String(actual)} instead of ${wanted}`)
}

const exactly = ['count', 'avg', 'min', 'max', 'first', 'last'] as const

async function checkHours(store: DuckdbStore, key: string, figures: SeriesFigures, fromMs: number, toMs: number): Promise<void> {
  const range = { match: matchOf(key), fromUs: fromMs * 1000, toUs: toMs * 1000 }
  const hours = await answer(store, { ...range, stepUs: 3600e6, aggregations: exactly })
  const wanted = [...figures.hours].filter(([hour]) => hour >= fromMs && hour < toMs)
  assert.equal(hours.length, wanted.length, `hours of ${key}`)
  for (const [i, [hour, { count, min, max, mean, first, last }]] of wanted.entries()) {
    const { timeUs, avg, ...rest } = hours[i]!
    const what = `${key} at ${new Date(hour).toISOString()}`
    assert.deepEqual(
      [timeUs, rest['count'], rest['min'], rest['max'], rest['first'], rest['last']],
      [hour * 1000, count, min, max, first[1], last[1]],
      what,
    )
    close(avg, mean, `mean of ${what}`)
  }
}

/** Readings, hours, and one bucket over all with its quantiles. */
async function checkAll(store: DuckdbStore, figures: readonly (readonly [key: string, series: SeriesFigures])[]): Promise<void> {
  for (const [key, series] of figures) {
    const rows = await answer(store, { match: matchOf(key) })
    assert.deepEqual(
      rows.map(({ timeUs, value }) => [timeUs / 1000, value]),
      [...series.points].toSorted(([a], [b]) => a - b),
      key,
    )
    await checkHours(store, key, series, startMs, endMs)
    const [whole, ...more] = await answer(store, { match: matchOf(key), stepUs: 1e6 * 3600e6, aggregations: ['count', 'avg', 'p10', 'p50', 'p90'] })
    assert.deepEqual([whole?.['count'], more], [series.count, []], key)
    close(whole?.['avg'], series.mean, `mean of ${key}`)
    const sorted = [...series.points.values()].toSorted((a, b) => a - b)
    for (const [name, q] of [
      ['p10', 0.1],
      ['p50', 0.5],
      ['p90', 0.9],
    ] as const) {
      const rank = sorted[Math.floor(q * (sorted.length - 1))]!
      assert.ok(Math.abs(Number(whole?.[name]) - rank) <= (quantileError + 1e-9) * Math.abs(rank), `${name} of ${key}: ${whole?.[name]} for ${rank}`)
    }
  }
}

const toTestRows = ({ device, timeMs, values }: Row): TestRow[] =>
  Object.entries(values).map(([metric, value]) => ({ device, metric, timeUs: timeMs * 1000, value }))

test(
  `spring 2004 at ${speed} times its speed: sealed, merged and asked while it runs, every figure is that of the files`,
  { timeout: 300_000 + (2 * (endMs - startMs)) / speed },
  async (t) => {
    const rows = [...(intelIsThere ? intelRows() : []), ...airQualityRows()].filter(
      ({ timeMs, values }) => timeMs >= startMs && timeMs < endMs && Object.keys(values).length > 0,
    )
    const figures = expected(rows)
    const queue = deliveries(rows)
    const clock = new FastClock()
    const env = envAt(() => clock.nowMs() * 1000)
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-replay-days-'))
    const open = (): Promise<DuckdbStore> => openDuckdbStore({ dir: path.join(dir, 'store'), env, memoryLimitMb: 256, sealBytes: 0 })
    const log: EmbeddedLog = await openEmbeddedLog({ dir: path.join(dir, 'log'), env, threads: true })
    let store = await open()
    let committed = 0n
    const role = startStoreRole({ log, store, env, onCommitted: ({ next }) => void (committed = next) })
    const written = new Written()
    /** What is due before it has been written. */
    let writtenMs = 0
    let ended = false
    const partitions = new Set<string>()
    const sealing = async (): Promise<void> => {
      while (!ended) {
        const atMs = clock.nowMs()
        await store.seal()
        clock.waitsAtMs = atMs + 1.5 * dayMs
        for (const { partition } of readManifest(path.join(dir, 'store')).runs) partitions.add(partition)
        await delay(20)
      }
    }
    let questions = 0
    let settledQuestions = 0
    const asking = async (): Promise<void> => {
      for (; !ended; questions++) {
        await delay(5)
        const key = written.keys[(questions * 7919) % Math.max(1, written.keys.length)]
        if (key === undefined) continue
        const fromMs = startMs + ((questions * 104_729) % Math.ceil((endMs - startMs) / dayMs)) * dayMs
        const toMs = fromMs + (1 + (questions % 9)) * dayMs
        const before = committed
        const found = await answer(store, { match: matchOf(key), fromUs: fromMs * 1000, toUs: toMs * 1000 })
        written.check(key, fromMs, toMs, before, found)
        // What is this old has all come, late and corrected as it may be; and it is in the store once the log is.
        const settledMs = Math.floor((writtenMs - lateMs) / hourMs) * hourMs
        if (toMs > settledMs || committed !== log.end('telemetry')) continue
        await checkHours(store, key, figures.get(key)!, fromMs, toMs)
        settledQuestions++
      }
    }
    const delivering = async (): Promise<void> => {
      for (let at = 0; at < queue.length;) {
        const now = clock.nowMs()
        const due = queue.slice(at, at + 2_000).filter(({ dueMs }) => dueMs <= now)
        at += due.length
        if (due.length === 0) {
          await delay(5)
          continue
        }
        const next = log.end('telemetry') + 1n
        const batch = batchOf(due.flatMap(({ row }) => toTestRows(row)))
        await log.write([{ topic: 'telemetry', kind: 'readings', key: '', receivedUs: clock.nowMs() * 1000, batch }], undefined, signal)
        for (const { row } of due) written.add(row, next)
        writtenMs = due.at(-1)!.dueMs
      }
    }
    try {
      const others = Promise.all([sealing(), asking()]).finally(() => (ended = true))
      await Promise.race([others, role.done, delivering()])
      while (committed < log.end('telemetry') && !ended) await delay(5)
      ended = true
      await others
      // March has been over for 35 days.
      clock.stopAt(mayMs + dayMs)
      await store.seal()
      await checkAll(store, [...figures])
      const { runs, next } = readManifest(path.join(dir, 'store'))
      const left = runs.map((run) => run.partition)
      t.diagnostic(
        `${queue.length} messages, ${questions} questions (${settledQuestions}), ${next - 1} runs written, ${runs.length} left: ${left.join(' ')}`,
      )
      assert.ok(questions > 50 && settledQuestions > 10, `${questions} questions were asked, ${settledQuestions} of them of what is settled`)
      assert.ok(
        partitions.has('2004-03-11') && left.includes('2004-03') && !left.includes('2004-03-11'),
        'days of March stood alone, and then were a month',
      )
      assert.ok(next - 1 > runs.length + 10, 'nothing was merged')
      await role.stop()
      await store.close()
      store = await open()
      await checkAll(
        store,
        [...figures].filter((_, i) => i % 8 === 0),
      )
    } finally {
      ended = true
      await role.stop().catch(() => undefined)
      await store.close()
      await log.close()
      fs.rmSync(dir, { recursive: true, force: true })
    }
  },
)
