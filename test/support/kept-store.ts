import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { Dedupe } from '../../src/compute/window/dedupe.ts'
import { Rollup } from '../../src/compute/window/rollup.ts'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import type { Env } from '../../src/core/env.ts'
import type { Aggregation, RollupColumns, Store, Tables } from '../../src/core/ports.ts'
import { readManifest, sweep } from '../../src/store/duckdb/sealed/manifest-file.ts'
import { filesOf } from '../../src/store/duckdb/sealed/manifest.ts'
import { openDuckdbStore, type DuckdbOptions, type DuckdbStore } from '../../src/store/duckdb/store.ts'
import { ModelStore } from './model-store.ts'
import { answer, batchOf, signal, spanOf, type AnswerRow, type TestRow } from './store-batches.ts'

/** Those that are exact. */
export const exact: readonly Aggregation[] = ['avg', 'min', 'max', 'sum', 'count', 'stddev', 'first', 'last']

/** An environment whose wall clock is told by `nowUs`. */
export function envAt(nowUs: () => number): Env {
  const real = nodeEnv(silentLogger)
  return { ...real, clock: { ...real.clock, nowUs, monotonicMs: () => real.clock.monotonicMs(), after: (ms, fn) => real.clock.after(ms, fn) } }
}

/** A store that closes its hot file at each `seal()`, the model beside it, and what heads them both; the wall clock is the test's. */
export class KeptStore {
  store!: DuckdbStore
  readonly model = new ModelStore()
  /** The step after which the child that seals or merges kills itself. */
  exit: string | undefined
  nowUs: number
  readonly dir: string
  readonly #more: Partial<DuckdbOptions>
  readonly #dedupe = new Dedupe()
  readonly #rollup = new Rollup()
  #next = 0

  constructor(dir: string, nowUs: number, more: Partial<DuckdbOptions> = {}) {
    this.dir = dir
    this.nowUs = nowUs
    this.#more = more
  }

  async open(): Promise<void> {
    const env = envAt(() => this.nowUs)
    this.store = await openDuckdbStore({
      dir: this.dir,
      env,
      memoryLimitMb: 128,
      sealBytes: 0,
      exitAfter: () => this.exit,
      ...this.#more,
    })
  }

  async reopen(): Promise<void> {
    await this.store.close()
    await this.open()
  }

  /** Commits rows as the store role does: what is known or late told apart, closed buckets with them. */
  async feed(rows: readonly TestRow[]): Promise<void> {
    const rollups: RollupColumns[] = []
    const tables = { readings: [] as Tables['readings'][number][], late: [] as Tables['late'][number][], rollups }
    const closed = (columns: RollupColumns): void => void rollups.push(columns)
    this.#rollup.tick(this.nowUs, closed)
    if (rows.length > 0)
      this.#dedupe.push(
        batchOf(rows),
        (out) => {
          tables.readings.push(out.inOrder)
          tables.late.push(out.late)
          this.#rollup.push(out.inOrder, closed)
        },
        this.nowUs,
      )
    const span = spanOf(this.#next, ++this.#next)
    await this.store.commit({ tables, span }, signal)
    await this.model.commit({ tables, span }, signal)
  }

  /** Whether everything that can be asked is answered as the model does. */
  async check(what: string): Promise<void> {
    const all = { limit: 1_000_000 }
    same(await answer(this.store, all), await answer(this.model, all), what)
    for (const stepUs of [60e6, 3600e6, 90e6]) {
      const query = { ...all, stepUs, aggregations: exact }
      same(await answer(this.store, query), await answer(this.model, query), `${what}, step ${stepUs / 1e6} s`)
    }
    const everyone = { tenant: 'default' }
    assert.deepEqual(await this.store.series(everyone, signal), await this.model.series(everyone, signal), what)
    assert.deepEqual(shown(await this.store.latest(everyone, signal)), shown(await this.model.latest(everyone, signal)), what)
    const rows = await answer(this.model, all)
    const { count, distinct } = await this.counted()
    assert.deepEqual([count, distinct], [rows.length, rows.length], `${what}, SQL`)
  }

  /** By SQL: readings, and different ones. */
  async counted(): Promise<{ readonly count: number; readonly distinct: number }> {
    const sql = 'SELECT count(*)::INTEGER, count(DISTINCT device || metric || time::VARCHAR)::INTEGER FROM readings'
    const found = await this.store.sql({ tenant: 'default', sql, parameters: [], limit: 1, nowUs: this.nowUs }, signal)
    assert.ok(found !== 'needs devices')
    return { count: Number(found.values[0]?.[0]), distinct: Number(found.values[1]?.[0]) }
  }

  /** Names of the sealed files, from `sealed/`. */
  files(): string[] {
    return [...filesOf(readManifest(this.dir)).keys()].map((name) => name.slice('sealed/'.length)).sort()
  }

  /** Whether the folder has what the manifest and the hot file need, and nothing else. */
  checkFolder(what: string): void {
    checkFolder(this.dir, what)
  }
}

/** Half an hour of two devices that speak every 5 s, and of one that speaks every minute, with text now and then. */
export function half(fromUs: number, minutes = 30): TestRow[] {
  const rows: TestRow[] = []
  for (let i = 0; i < minutes * 12; i++) {
    const timeUs = fromUs + i * 5e6
    rows.push({ device: 'd1', timeUs, value: i / 10 }, { device: 'd2', timeUs: timeUs + 137_000, value: Math.sqrt(i) })
    if (i % 12 === 0)
      rows.push({ device: 'd3', metric: i % 60 === 0 ? 'state' : 'level', timeUs, ...(i % 60 === 0 ? { text: `is ${i}` } : { value: i }) })
  }
  return rows
}

export function checkFolder(dir: string, what: string): void {
  const manifest = readManifest(dir)
  assert.deepEqual(sweep(dir, manifest), [], what)
  const found = fs
    .globSync('**/*', { cwd: dir, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(dir, path.join(entry.parentPath, entry.name)))
    .filter((name) => !/^(LOCK|hot-\d+\.duckdb(\.wal)?|sealed\/manifest\.json)$/.test(name))
  assert.deepEqual(found.sort(), [...filesOf(manifest).keys()].sort(), what)
  const hot = fs.readdirSync(dir).filter((name) => /^hot-\d+\.duckdb$/.test(name))
  assert.ok(hot.length > manifest.frozen.length, `${what}: ${hot.join(' ')}`)
}

function shown(batch: Awaited<ReturnType<Store['latest']>>): unknown[] {
  return Array.from({ length: batch.rows }, (_, i) => [
    batch.keys[batch.series[i]!],
    batch.timeUs[i],
    batch.value[i],
    batch.flags?.[i] ?? 0,
    batch.text?.get(i),
  ])
}

function same(found: readonly AnswerRow[], expected: readonly AnswerRow[], what: string): void {
  assert.equal(found.length, expected.length, `${what}: rows`)
  found.forEach((row, i) => {
    for (const [name, value] of Object.entries(expected[i]!)) {
      const mine = row[name]
      const near = typeof value === 'number' && typeof mine === 'number' && Math.abs(mine - value) <= 1e-7 * Math.max(1, Math.abs(value))
      const at = new Date(row.timeUs / 1000).toISOString()
      assert.ok(near || Object.is(mine, value), `${what}: row ${i} ${row.device} ${at}: ${name} is ${mine} instead of ${value}`)
    }
  })
}
