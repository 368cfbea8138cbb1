import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { KymoError } from '../../src/core/errors.ts'
import { checkFiles, readManifest, removeFiles, sweep, writeManifest } from '../../src/store/duckdb/sealed/manifest-file.ts'
import {
  emptyManifest,
  endsBefore,
  mayFold,
  parseManifest,
  runsIn,
  withFrozen,
  withMerged,
  withoutFiles,
  withSealed,
  type Manifest,
  type Run,
} from '../../src/store/duckdb/sealed/manifest.ts'
import { dayUs, partitionsMax, rangeOf, split } from '../../src/store/duckdb/sealed/partition.ts'
import { nextMerge } from '../../src/store/duckdb/sealed/policy.ts'
import { makeDir } from '../support/sealed-store.ts'

const us = (time: string): number => Date.parse(time) * 1000
const nowUs = us('2026-11-21T12:00:00Z')

function run(partition: string, generation: number, rows: number, covers: readonly number[] = [generation]): Run {
  const { fromUs, toUs } = rangeOf(partition)
  return { partition, generation, covers, files: { raw: { bytes: rows * 2, sha256: '', rows, above: 0, texts: 0, fromUs, toUs: toUs - 1 } } }
}

function manifestOf(runs: readonly Run[]): Manifest {
  return { ...emptyManifest, next: 1 + Math.max(0, ...runs.map((one) => one.generation)), runs }
}

const isCode = (code: string) => (thrown: unknown) => thrown instanceof KymoError && thrown.code === code

test('names of partitions say their ranges', () => {
  assert.deepEqual(rangeOf('2026-11-21'), { fromUs: us('2026-11-21'), toUs: us('2026-11-22') })
  assert.deepEqual(rangeOf('2026-12'), { fromUs: us('2026-12-01'), toUs: us('2027-01-01') })
  assert.deepEqual(rangeOf('2024'), { fromUs: us('2024-01-01'), toUs: us('2025-01-01') })
  assert.throws(() => rangeOf('../etc'), isCode('store_corrupt'))
})

test('rows stand by days, old ones by months, a backfill of many years by years; no partition overlaps another', () => {
  const days = (from: string, count: number): number[] => Array.from({ length: count }, (_, i) => us(from) + i * dayUs)
  assert.deepEqual(split(days('2026-11-20', 2), nowUs), ['2026-11-20', '2026-11-21'])
  // October ended 21 days ago, September more than 35.
  assert.deepEqual(split([...days('2026-09-30', 2), us('2031-01-01')], nowUs), ['2026-09', '2026-10-01', '2031-01'])
  assert.deepEqual(split(days('2026-11-22', 1), nowUs), ['2026-11-22'])
  const years = split(days('1999-12-31', 365 * 27), nowUs)
  assert.ok(years.length <= partitionsMax + 12)
  assert.equal(years[0], '1999')
  assert.ok(years.includes('2026-09') && years.includes('2026-11-01'))
  for (const [i, name] of years.entries()) if (i > 0) assert.equal(rangeOf(years[i - 1]!).toUs, rangeOf(name).fromUs, name)
})

test('a manifest follows rotation, sealing, merge and retention', () => {
  let manifest = withFrozen(withFrozen(emptyManifest, 1), 2)
  assert.throws(() => withFrozen(manifest, 2))
  assert.throws(() => withSealed(manifest, 2, []))
  manifest = withSealed(manifest, 1, [run('2026-11-21', 1, 10), run('2026-11-20', 1, 5)])
  assert.deepEqual([manifest.next, manifest.sealedTo, manifest.frozen], [2, 1, [{ hot: 2 }]])
  assert.deepEqual(
    manifest.runs.map((one) => one.partition),
    ['2026-11-20', '2026-11-21'],
  )
  manifest = withSealed(manifest, 2, [run('2026-11-21', 2, 10)])
  assert.throws(() => withFrozen(manifest, 2))
  const inputs = runsIn(manifest, 'raw', us('2026-11-21'), us('2026-11-22'))
  manifest = withMerged(manifest, inputs, run('2026-11-21', 3, 20, [1, 2]))
  assert.deepEqual(
    manifest.runs.map((one) => one.generation),
    [1, 3],
  )
  assert.throws(() => withMerged(manifest, inputs, run('2026-11-21', 4, 20, [1, 2])))
  assert.deepEqual(parseManifest(JSON.stringify(manifest), 'm'), manifest)
  const kept = withoutFiles(manifest, (one, kind) => kind === 'raw' && endsBefore(one, us('2026-11-21')))
  assert.deepEqual(
    kept.runs.map((one) => one.partition),
    ['2026-11-21'],
  )
})

test('late rows are put in their place only when nothing older stands outside', () => {
  const [day1, day2, month, other] = [run('2026-09-10', 1, 10), run('2026-09-11', 2, 10), run('2026-09', 3, 1), run('2026-10-01', 1, 1)]
  const manifest = manifestOf([day1, day2, month, other])
  assert.equal(mayFold(manifest, '2026-09-10', [day1], [1]), true)
  assert.equal(mayFold(manifest, '2026-09', [month], [3]), false)
  assert.equal(mayFold(manifest, '2026-09', [day1, day2, month], [1, 2, 3]), true)
  assert.equal(mayFold(manifest, '2026-09', [day1, month], [1, 3]), false)
  assert.equal(mayFold(manifest, '2026-09-12', [], [4]), false)
})

test('a damaged, newer or missing manifest is an error, never an empty store', () => {
  assert.throws(() => parseManifest('{"format":1', 'm'), isCode('store_corrupt'))
  assert.throws(() => parseManifest('{"format":2}', 'm'), isCode('store_format'))
  assert.throws(() => parseManifest('{"format":1,"next":1,"sealedTo":0,"runs":[{"partition":"x"}],"frozen":[]}', 'm'), isCode('store_corrupt'))
  const dir = makeDir()
  try {
    assert.deepEqual(readManifest(dir), emptyManifest)
    fs.mkdirSync(path.join(dir, 'sealed/2026-11-21'), { recursive: true })
    fs.writeFileSync(path.join(dir, 'sealed/2026-11-21/1-raw.duckdb'), 'x')
    assert.throws(() => readManifest(dir), isCode('store_corrupt'))
  } finally {
    fs.rmSync(dir, { recursive: true })
  }
})

test('sweep names what no start needs and nothing else', () => {
  const dir = makeDir()
  try {
    const manifest = withFrozen({ ...manifestOf([run('2026-11-21', 3, 1, [1, 2])]), sealedTo: 2 }, 3)
    writeManifest(dir, manifest)
    const put = (name: string, bytes: number): void => {
      fs.mkdirSync(path.dirname(path.join(dir, name)), { recursive: true })
      fs.writeFileSync(path.join(dir, name), 'x'.repeat(bytes))
    }
    const keep = [
      'sealed/2026-11-21/3-raw.duckdb',
      'hot-3.duckdb',
      'hot-4.duckdb',
      'hot-4.duckdb.wal',
      'sealed/notes.txt',
      'sealed/2026-11-21/notes.txt',
    ]
    const orphans = [
      'sealed/2026-11-21/1-raw.duckdb',
      'sealed/2026-11-21/2-1m.duckdb',
      'sealed/2026-11-21/4-raw.duckdb.tmp',
      'sealed/2026-11-21/4-raw.duckdb.tmp.wal',
      'sealed/2026-11/4-1h.duckdb',
      'sealed/manifest.json.tmp',
      'hot-1.duckdb',
      'hot-2.duckdb',
      'hot-2.duckdb.wal',
    ]
    for (const name of [...keep, ...orphans]) put(name, 2)
    assert.deepEqual(sweep(dir, manifest).sort(), orphans.toSorted())
    removeFiles(dir, sweep(dir, manifest))
    assert.deepEqual(sweep(dir, manifest), [])
    assert.ok(keep.every((name) => fs.existsSync(path.join(dir, name))))
    assert.ok(!fs.existsSync(path.join(dir, 'sealed/2026-11')))
    checkFiles(dir, manifest)
    put('sealed/2026-11-21/3-raw.duckdb', 1)
    assert.throws(() => checkFiles(dir, manifest), isCode('store_corrupt'))
    fs.rmSync(path.join(dir, 'sealed/2026-11-21/3-raw.duckdb'))
    assert.throws(() => checkFiles(dir, manifest), /3-raw\.duckdb is missing/)
  } finally {
    fs.rmSync(dir, { recursive: true })
  }
})

/** Each merge of the policy in turn, with the rows that it writes. */
function settle(manifest: Manifest, now: number): { manifest: Manifest; written: number; merges: string[] } {
  let written = 0
  const merges: string[] = []
  for (let merge = nextMerge(manifest, now); merge !== undefined; merge = nextMerge(manifest, now)) {
    const rows = merge.inputs.reduce((sum, one) => sum + one.files.raw!.rows, 0)
    written += rows
    merges.push(`${merge.partition} ${rows}`)
    const covers = [...new Set(merge.inputs.flatMap((one) => one.covers))].sort((a, b) => a - b)
    manifest = withMerged(manifest, merge.inputs, run(merge.partition, manifest.next, rows, covers))
    assert.ok(merges.length < 100, 'merges end')
  }
  return { manifest, written, merges }
}

test('hours become a day and days a month, each row written a few times only', () => {
  let manifest = emptyManifest
  let written = 0
  for (let hour = 0; hour < 30 * 24; hour++) {
    const now = us('2026-09-01') + (hour + 1) * 3600e6
    manifest = withSealed(withFrozen(manifest, hour + 1), hour + 1, [run(new Date(now / 1000 - 1).toISOString().slice(0, 10), manifest.next, 1000)])
    const settled = settle(manifest, now)
    manifest = settled.manifest
    written += settled.written
    assert.ok(manifest.runs.length < 30 + 16, `${manifest.runs.length} runs`)
  }
  ;({ manifest } = settle(manifest, us('2026-10-01T02:00:00Z')))
  assert.equal(manifest.runs.length, 30)
  const before = settle(manifest, us('2026-11-04T23:00:00Z'))
  assert.deepEqual(before.merges, [])
  const after = settle(manifest, us('2026-11-05T01:00:00Z'))
  assert.deepEqual(after.merges, ['2026-09 720000'])
  assert.ok((written + after.written) / 720_000 <= 3, `${(written + after.written) / 720_000} times`)
})

test('what comes late rewrites its partition when it is a tenth of it, and no other', () => {
  const base = [run('2025-03', 1, 1_000_000), run('2025-04', 2, 1_000_000), run('2024', 3, 9_000_000), run('2026-11-10', 4, 1_000_000)]
  const settled = (more: readonly Run[]): string[] => settle(manifestOf([...base, ...more]), nowUs).merges
  assert.deepEqual(settled([run('2025-03', 5, 90_000)]), [])
  assert.deepEqual(settled([run('2025-03', 5, 200_000)]), ['2025-03 1200000'])
  assert.deepEqual(settled(Array.from({ length: 9 }, (_, i) => run('2026-11-10', 5 + i, 10))), ['2026-11-10 90'])
  assert.deepEqual(settled([run('2024', 5, 10_000)]), [])
})
