import assert from 'node:assert/strict'
import fs from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import { stepOfKind, type RollupKind } from '../../src/store/duckdb/sealed/format.ts'
import { isEmptyRun, runJob } from '../../src/store/duckdb/sealed/jobs.ts'
import { checkFiles, readManifest, removeFiles, sweep, writeManifest } from '../../src/store/duckdb/sealed/manifest-file.ts'
import { emptyManifest, mayFold, runsOf, withFrozen, withMerged, withSealed, type Run } from '../../src/store/duckdb/sealed/manifest.ts'
import { monthOf } from '../../src/store/duckdb/sealed/partition.ts'
import { nextMerge } from '../../src/store/duckdb/sealed/policy.ts'
import {
  engine,
  makeDir,
  reader,
  readRollups,
  readRows,
  shownRollup,
  shownRow,
  writeHot,
  type HotContent,
  type HotRollup,
  type HotRow,
} from '../support/sealed-store.ts'
import { modelRuns } from '../support/effort.ts'

const runs = modelRuns(8)
const day = 86_400e6
const start = Date.UTC(2026, 10, 20) * 1000
const seriesMax = 12
const far = { fromUs: 0, toUs: Date.UTC(2200, 0, 1) * 1000 }

type Step =
  | {
      readonly do: 'seal'
      readonly rows: readonly (readonly [kind: number, series: number, time: number, value: number])[]
      readonly regular: number
      readonly seed: number
    }
  | { readonly do: 'merge'; readonly which: number; readonly count: number }
  | { readonly do: 'policy'; readonly days: number }
  | { readonly do: 'month'; readonly which: number }

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant('seal' as const),
        rows: fc.array(fc.tuple(fc.nat(9), fc.nat(seriesMax - 1), fc.nat(5000), fc.nat(4000)), { maxLength: 40 }),
        regular: fc.nat(60),
        seed: fc.nat(5),
      }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('merge' as const), which: fc.nat(50), count: fc.integer({ min: 1, max: 4 }) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('policy' as const), days: fc.nat(40) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('month' as const), which: fc.nat(50) }) },
  ),
  { minLength: 2, maxLength: 9 },
)

/** A store's folder whose hot files are written by hand, and what it must hold. */
class Pair {
  readonly dir = makeDir()
  readonly #rows = new Map<string, HotRow>()
  readonly #rollups: Record<RollupKind, Map<string, HotRollup>> = { '1m': new Map(), '1h': new Map() }
  readonly #emptied = new Set<string>()
  #manifest = emptyManifest
  #hot = 0
  #seq = 0
  #gen = 0
  #nowUs = start + 3 * day

  async take(step: Step): Promise<void> {
    if (step.do === 'seal') await this.#seal(step)
    else if (step.do === 'policy') {
      this.#nowUs += step.days * day
      for (let merge = nextMerge(this.#manifest, this.#nowUs); merge !== undefined; merge = nextMerge(this.#manifest, this.#nowUs))
        await this.#merge(merge.partition, merge.inputs)
    } else if (this.#manifest.runs.length > 0) {
      const chosen = this.#manifest.runs[step.which % this.#manifest.runs.length]!
      if (step.do === 'merge') {
        const same = this.#manifest.runs.filter((run) => run.partition === chosen.partition)
        await this.#merge(chosen.partition, same.slice(step.which % same.length).slice(0, step.count))
      } else await this.#merge(chosen.partition.slice(0, 7), runsOf(this.#manifest, monthOf(Date.parse(chosen.partition) * 1000)))
    }
    await this.check()
  }

  async #job(job: Parameters<typeof runJob>[1]): Promise<Run[]> {
    const { connection, close } = await engine()
    const written = await runJob(connection, job, () => undefined)
    connection.closeSync()
    close()
    return written
  }

  async #merge(partition: string, inputs: readonly Run[]): Promise<void> {
    if (inputs.length === 0) return
    const fold = mayFold(
      this.#manifest,
      partition,
      inputs,
      inputs.flatMap((run) => run.covers),
    )
    const tuning = { shapesMax: 4, shapeReadingsMin: 30, passReadings: 50 }
    const [run] = await this.#job({
      do: 'merge',
      dir: this.dir,
      partition,
      inputs,
      generation: this.#manifest.next,
      nowUs: this.#nowUs,
      fold,
      tuning,
    })
    if (fold) assert.ok(Object.values(run!.files).every((file) => file.above === 0))
    this.#manifest = withMerged(this.#manifest, inputs, run!)
    this.#commit()
  }

  #commit(): void {
    writeManifest(this.dir, this.#manifest)
    assert.deepEqual(readManifest(this.dir), this.#manifest)
    removeFiles(this.dir, sweep(this.dir, this.#manifest))
    checkFiles(this.dir, this.#manifest)
  }

  async #seal(step: Step & { readonly do: 'seal' }): Promise<void> {
    const hot = ++this.#hot
    const content = this.#content(step)
    await writeHot(this.dir, hot, content)
    this.#manifest = withFrozen(this.#manifest, hot)
    this.#commit()
    const tuning = { shapesMax: 4, shapeReadingsMin: 30, passReadings: 50 }
    const existing = this.#manifest.runs.map((run) => run.partition)
    const written = await this.#job({ do: 'seal', dir: this.dir, hot, generation: this.#manifest.next, nowUs: this.#nowUs, existing, tuning })
    this.#manifest = withSealed(this.#manifest, hot, written)
    this.#commit()
    assert.ok(!fs.existsSync(`${this.dir}/hot-${hot}.duckdb`))
    assert.ok(written.every((run) => !isEmptyRun(run)))
  }

  #content(step: Step & { readonly do: 'seal' }): HotContent {
    const readings: HotRow[] = []
    const late: HotRow[] = []
    const put = (row: HotRow, asLate: boolean): void => {
      const key = `${row.series} ${row.ts}`
      // As in a store: an identity that may be there already is late, and the last one counts.
      const goes = asLate || this.#rows.has(key)
      if (goes) late.push({ ...row, seq: ++this.#seq })
      else readings.push(row)
      this.#rows.set(key, row)
    }
    for (let k = 0; k < step.regular; k++) {
      for (let series = 0; series < 6; series++) {
        // Device 0 on a regular clock, device 1 with jitter of whole milliseconds; some rows of some series are lost.
        if ((k * 7 + series * 3 + step.seed) % 11 === 0 && series % 3 === 2) continue
        const jitter = series < 3 ? 1234 : ((k * 37) % 50) * 1000
        const boolean = series === 2
        put(
          { series, ts: start + step.seed * 7200e6 + k * 10e6 + jitter, v: boolean ? k % 2 : (k * 37 + series) / 100, flags: boolean ? 1 : 0 },
          false,
        )
      }
    }
    for (const [kind, series, time, value] of step.rows) {
      const ts = start + (kind === 8 ? -60 * day : 0) + (kind === 9 ? -400 * day : 0) + time * 60e6 + (value % 3) * 500e3
      const v = [value, value / 8, value / 10, -value, -0, Math.sqrt(value), Number.NaN, value * 1e15, value / 1000, 1 / (value + 3)][
        (value + kind) % 10
      ]!
      const isText = Number.isNaN(v)
      const meta = kind === 3 ? `{"n":${value}}` : undefined
      put(
        { series, ts, v, flags: (isText ? 2 : kind === 2 ? 1 : 0) | (kind === 5 ? 64 : 0), ...(isText ? { text: `it's ${value}` } : {}), meta },
        kind === 1,
      )
    }
    return { series: seriesMax, readings, late, rollups: this.#newRollups(step, false), corrected: this.#newRollups(step, true) }
  }

  /** Not those of the rows: what counts here is that what was put in comes out. */
  #newRollups(step: Step & { readonly do: 'seal' }, corrected: boolean): Record<RollupKind, HotRollup[]> {
    const made: Record<RollupKind, HotRollup[]> = { '1m': [], '1h': [] }
    for (const [kind, series, time, value] of step.rows) {
      for (const width of ['1m', '1h'] as const) {
        const ts = start + time * 60e6
        const bucket = ts - (ts % stepOfKind[width])
        const key = `${series} ${bucket}`
        // As in a store: a bucket that was computed again, to nothing too, gets no rollup row after that (docs/format/store.md, points 3 and 4).
        const known = this.#rollups[width].has(key) || this.#emptied.has(`${width} ${key}`)
        if (corrected ? kind > 2 : known) continue
        const numbers =
          series < 6
            ? [value / 10 + 0.1 + 0.2, value / 7, value / 100, value / 50, value / 100, value / 80]
            : [value / 7, 0, -0, value / 3, 1e300, 0.1]
        const row: HotRollup = {
          series,
          bucket,
          n: corrected && kind === 0 ? 0 : value + 1,
          numbers,
          first: bucket + (value % 7) * 1000,
          last: bucket + 59e6 + (series % 2),
          gen: ++this.#gen,
        }
        if (row.n === 0) {
          this.#rollups[width].delete(key)
          this.#emptied.add(`${width} ${key}`)
        } else this.#rollups[width].set(key, row)
        made[width].push(row)
      }
    }
    return made
  }

  async check(): Promise<void> {
    const from = await reader(this.dir, 3)
    try {
      const all = Array.from({ length: seriesMax }, (_, id) => id)
      const many = [...all, ...Array.from({ length: 40 }, (_, i) => 1000 + i)]
      const expected = (ids: readonly number[], fromUs: number, toUs: number): string[] =>
        [...this.#rows.values()]
          .filter((r) => ids.includes(r.series) && r.ts >= fromUs && r.ts < toUs)
          .map(shownRow)
          .sort()
      assert.deepEqual(await readRows(from, this.#manifest, all, far.fromUs, far.toUs), expected(all, far.fromUs, far.toUs))
      assert.deepEqual(await readRows(from, this.#manifest, many, far.fromUs, far.toUs), expected(all, far.fromUs, far.toUs))
      const [a, b] = [start + 123_456_789, start + 9000_001_234]
      assert.deepEqual(await readRows(from, this.#manifest, [1, 5], a, b), expected([1, 5], a, b))
      assert.deepEqual(await readRows(from, this.#manifest, many, a, b), expected(all, a, b))
      for (const kind of ['1m', '1h'] as const) {
        const rollups = (fromUs: number, toUs: number): string[] =>
          [...this.#rollups[kind].values()]
            .filter((r) => r.bucket >= fromUs && r.bucket < toUs)
            .map(shownRollup)
            .sort()
        assert.deepEqual(await readRollups(from, this.#manifest, kind, all, far.fromUs, far.toUs), rollups(far.fromUs, far.toUs))
        assert.deepEqual(await readRollups(from, this.#manifest, kind, many, a, b), rollups(a, b))
      }
      await from.attachments.acquire([]).then((lease) => lease.release())
      assert.ok(from.attachments.size <= 3)
    } finally {
      from.connection.closeSync()
      from.close()
    }
  }
}

test('what is sealed and merged in any order reads as the rows that were written', { timeout: 120_000 + runs.numRuns * 60_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(steps, async (list) => {
      const pair = new Pair()
      try {
        for (const step of list) await pair.take(step)
      } finally {
        fs.rmSync(pair.dir, { recursive: true, force: true })
      }
    }),
    runs,
  )
})
