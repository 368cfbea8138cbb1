import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { KymoError } from '../../src/core/errors.ts'
import { engine, makeDir, noRollups, reader, readRollups, readRows, shownRollup, shownRow, writeHot, type HotRow } from '../support/sealed-store.ts'
import { fileOf, quoted, type Tuning } from '../../src/store/duckdb/sealed/format.ts'
import type { Job } from '../../src/store/duckdb/sealed/jobs.ts'
import { checkFiles, readManifest, removeFiles, sweep, writeManifest } from '../../src/store/duckdb/sealed/manifest-file.ts'
import { emptyManifest, filesOf, withFrozen, withMerged, withSealed, type Manifest } from '../../src/store/duckdb/sealed/manifest.ts'
import { runSealer } from '../../src/store/duckdb/sealed/sealer.ts'

const start = Date.UTC(2026, 10, 20) * 1000
const nowUs = start + 30 * 3600e6
const tuning: Tuning = { shapesMax: 4, shapeReadingsMin: 30, passReadings: 200 }
const ids = [0, 1, 2, 3, 4, 5]
const stop = new AbortController()
const dirs: string[] = []
/** Two hot files, the first of which is sealed; and the rows of both. */
let template: string
let expected: string[]
const rollup = {
  series: 1,
  bucket: start + 3600e6,
  n: 3,
  numbers: [0.1 + 0.2, 1 / 3, 0.1, 0.1, 0.1, 0.1],
  first: start + 3600e6,
  last: start + 3600e6 + 5,
  gen: 7,
}
const correction = { ...rollup, n: 4, gen: 9 }

function seal(dir: string, manifest: Manifest): Job {
  const existing = manifest.runs.map((run) => run.partition)
  return { do: 'seal', dir, hot: manifest.frozen[0]!.hot, generation: manifest.next, nowUs, existing, tuning }
}

function merge(dir: string, manifest: Manifest): Job {
  return { do: 'merge', dir, partition: '2026-11', inputs: manifest.runs, generation: manifest.next, nowUs, fold: true, tuning }
}

before(async () => {
  template = makeDir()
  dirs.push(template)
  const rows = (from: number): HotRow[] =>
    Array.from({ length: 60 }, (_, k) => ids.map((series) => ({ series, ts: from + k * 10e6, v: (k + series) / 10, flags: 0 }))).flat()
  const first = [...rows(start), ...rows(start + 86_395e6)]
  const second = rows(start + 7200e6)
  const late = [
    { ...first[0]!, v: 99, flags: 32, seq: 1, text: 'corrected' },
    { series: 5, ts: start + 5, v: 1, flags: 32, seq: 2 },
  ]
  const content = { series: 6, rollups: { '1m': [rollup], '1h': [rollup] }, corrected: noRollups }
  await writeHot(template, 1, { ...content, readings: first, late: [] })
  await writeHot(template, 2, { ...content, readings: second, late, rollups: noRollups, corrected: { '1m': [correction], '1h': [] } })
  let manifest = withFrozen(emptyManifest, 1)
  writeManifest(template, manifest)
  const sealed = await runSealer(seal(template, manifest), { signal: stop.signal })
  manifest = withFrozen(withSealed(manifest, 1, sealed.runs), 2)
  writeManifest(template, manifest)
  removeFiles(template, sweep(template, manifest))
  expected = [...first.slice(1), ...second, ...late].map(shownRow).sort()
  assert.deepEqual(
    sealed.runs.map((run) => run.partition),
    ['2026-11-20', '2026-11-21'],
  )
})

after(() => {
  for (const dir of dirs) fs.rmSync(dir, { recursive: true, force: true })
})

function copyOf(dir: string): string {
  const copy = makeDir()
  fs.cpSync(dir, copy, { recursive: true })
  dirs.push(copy)
  return copy
}

/** As a start does it; then the job again, its commit, and what is read. */
async function recover(dir: string, job: (dir: string, manifest: Manifest) => Job): Promise<void> {
  const manifest = readManifest(dir)
  checkFiles(dir, manifest)
  removeFiles(dir, sweep(dir, manifest))
  const asked = job(dir, manifest)
  const { runs } = await runSealer(asked, { signal: stop.signal })
  const after = asked.do === 'seal' ? withSealed(manifest, asked.hot, runs) : withMerged(manifest, asked.inputs, runs[0]!)
  writeManifest(dir, after)
  removeFiles(dir, sweep(dir, after))
  checkFiles(dir, after)
  const left = fs.globSync('**/*', { cwd: dir, withFileTypes: true }).filter((entry) => entry.isFile())
  const names = left.map((entry) => path.relative(dir, path.join(entry.parentPath, entry.name))).sort()
  assert.deepEqual(names, ['sealed/manifest.json', ...filesOf(after).keys()].sort())
  await reads(dir, after)
}

async function reads(dir: string, manifest: Manifest): Promise<void> {
  const from = await reader(dir)
  assert.deepEqual(await readRows(from, manifest, ids, 0, start * 2), expected)
  assert.deepEqual(await readRollups(from, manifest, '1m', ids, 0, start * 2), [shownRollup(correction)])
  assert.deepEqual(await readRollups(from, manifest, '1h', ids, 0, start * 2), [shownRollup(rollup)])
  from.connection.closeSync()
  from.close()
}

const steps = ['filled', 'checkpointed', 'synced', 'renamed', 'durable']

test('a sealing that is killed at any step is done again: nothing lost, doubled or left', { timeout: 240_000 }, async () => {
  for (const label of ['2026-11-20:raw', '2026-11-20:1m']) {
    for (const step of steps) {
      const dir = copyOf(template)
      const killed = runSealer(seal(dir, readManifest(dir)), { signal: stop.signal, exitAfter: `${label}:${step}` })
      await assert.rejects(killed, (thrown) => thrown instanceof KymoError && thrown.code === 'store_unavailable', `${label}:${step}`)
      await recover(dir, seal)
    }
  }
})

test('a merge that is killed at any step is done again, and leaves the runs that it read until it is committed', { timeout: 240_000 }, async () => {
  const sealed = copyOf(template)
  await recover(sealed, seal)
  for (const label of ['2026-11:raw', '2026-11:1h']) {
    for (const step of steps) {
      const dir = copyOf(sealed)
      const killed = runSealer(merge(dir, readManifest(dir)), { signal: stop.signal, exitAfter: `${label}:${step}` })
      await assert.rejects(killed, (thrown) => thrown instanceof KymoError && thrown.code === 'store_unavailable', `${label}:${step}`)
      await reads(dir, readManifest(dir))
      await recover(dir, merge)
    }
  }
})

test('the same job gives the same files', async () => {
  const [a, b] = [copyOf(template), copyOf(template)]
  const again = async (dir: string) => (await runSealer(seal(dir, readManifest(dir)), { signal: stop.signal })).runs
  await again(a)
  const counts = (runs: Awaited<ReturnType<typeof again>>) =>
    runs.map(({ files, ...run }) => ({ ...run, files: Object.entries(files).map(([kind, { sha256: _, ...file }]) => [kind, file]) }))
  assert.deepEqual(counts(await again(a)), counts(await again(b)))
})

test('an aborted sealing ends its process; a file that is missing, damaged or newer is named', async () => {
  const dir = copyOf(template)
  await recover(dir, seal)
  const manifest = readManifest(dir)
  const gone = new AbortController()
  const running = runSealer(merge(dir, manifest), { signal: gone.signal })
  gone.abort(new Error('enough'))
  await assert.rejects(running, /enough/)
  const run = manifest.runs[0]!
  const name = fileOf(run.partition, run.generation, 'raw')
  const { connection, close } = await engine()
  await connection.run(`ATTACH ${quoted(path.join(dir, name))} AS f; UPDATE f.run_info SET format = 2; CHECKPOINT f; DETACH f`)
  connection.closeSync()
  close()
  const is = (code: string) => (thrown: unknown) => thrown instanceof KymoError && thrown.code === code && thrown.message.includes(name)
  const from = await reader(dir)
  await assert.rejects(readRows(from, manifest, ids, 0, start * 2), is('store_format'))
  await assert.rejects(runSealer(merge(dir, manifest), { signal: stop.signal }), is('store_format'))
  fs.writeFileSync(path.join(dir, name), 'this is no database')
  await assert.rejects(readRows(from, manifest, ids, 0, start * 2), is('store_corrupt'))
  assert.throws(() => checkFiles(dir, manifest), is('store_corrupt'))
  fs.rmSync(path.join(dir, name))
  await assert.rejects(readRows(from, manifest, ids, 0, start * 2), is('store_corrupt'))
  assert.throws(() => checkFiles(dir, manifest), is('store_corrupt'))
  from.connection.closeSync()
  from.close()
})
