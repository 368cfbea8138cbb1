import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import type { Env } from '../../src/core/env.ts'
import type { Aggregation } from '../../src/core/ports.ts'
import { readManifest, sweep } from '../../src/store/duckdb/sealed/manifest-file.ts'
import { filesOf } from '../../src/store/duckdb/sealed/manifest.ts'
import { openDuckdbStore, type DuckdbOptions, type DuckdbStore } from '../../src/store/duckdb/store.ts'
import { ModelStore } from './model-store.ts'
import { sameAnswer, sameSeries } from './same-answers.ts'
import { answer, signal, spanOf, type TestRow } from './store-batches.ts'
import { StoreHead } from './store-head.ts'

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
  readonly #head = new StoreHead()
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
    const tables = this.#head.push(rows, this.nowUs)
    const span = spanOf(this.#next, ++this.#next)
    await this.store.commit({ tables, span }, signal)
    await this.model.commit({ tables, span }, signal)
  }

  /** Erases a device as the store role does, with rows that came with it before it. */
  async erase(device: string, rows: readonly TestRow[] = [], id = `erasure-of-${device}`): Promise<void> {
    const tables = this.#head.push(rows, this.nowUs)
    this.#head.forget('default', device)
    const span = spanOf(this.#next, ++this.#next)
    const c = { tables, span, states: this.#head.states(BigInt(this.#next)), erase: { id, tenant: 'default', device } }
    await this.store.commit(c, signal)
    await this.model.commit(c, signal)
  }

  /** Whether everything that can be asked is answered as the model does. */
  async check(what: string): Promise<void> {
    const all = { limit: 1_000_000 }
    sameAnswer(await answer(this.store, all), await answer(this.model, all), what)
    for (const stepUs of [60e6, 3600e6, 90e6]) {
      const query = { ...all, stepUs, aggregations: exact }
      sameAnswer(await answer(this.store, query), await answer(this.model, query), `${what}, step ${stepUs / 1e6} s`)
    }
    await sameSeries(this.store, this.model, what)
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
