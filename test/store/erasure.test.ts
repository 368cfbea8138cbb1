import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, describe, it } from 'node:test'
import { readManifest } from '../../src/store/duckdb/sealed/manifest-file.ts'
import { filesOf } from '../../src/store/duckdb/sealed/manifest.ts'
import { half, KeptStore } from '../support/kept-store.ts'
import { engine } from '../support/sealed-store.ts'
import { answer, signal } from '../support/store-batches.ts'

const day = 86_400e6
const t0 = Date.UTC(2026, 10, 20) * 1000
const root = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-erasure-'))
const stores: KeptStore[] = []
after(async () => {
  for (const kept of stores) await kept.store.close()
  fs.rmSync(root, { recursive: true, force: true })
})

/** Three days of d1, d2 and d3, the first two sealed, with late rows and corrections of each; the third is being written. */
async function threeDays(): Promise<KeptStore> {
  const kept = new KeptStore(fs.mkdtempSync(path.join(root, 's-')), t0)
  stores.push(kept)
  await kept.open()
  for (let i = 0; i < 3; i++) {
    const from = t0 + i * day + 6 * 3600e6
    kept.nowUs = from + 1800e6
    await kept.feed(half(from))
    const late = from - 3 * 3600e6
    await kept.feed(
      ['d1', 'd2'].flatMap((device) => [
        { device, timeUs: late, value: 7, meta: '{"secret":"s"}' },
        { device, timeUs: from, value: -5 },
      ]),
    )
    kept.nowUs += 3600e6
    await kept.feed([])
    if (i < 2) await kept.store.seal()
  }
  return kept
}

/** Ids of all series that any file has rows of, by the name of the file. */
async function seriesInFiles(dir: string): Promise<Map<string, number[]>> {
  const found = new Map<string, number[]>()
  const { connection, close } = await engine()
  const hot = fs.readdirSync(dir).filter((name) => /^hot-\d+\.duckdb$/.test(name))
  for (const name of [...filesOf(readManifest(dir)).keys(), ...hot]) {
    const copy = path.join(root, 'looked-at.duckdb')
    for (const end of ['', '.wal']) {
      fs.rmSync(copy + end, { force: true })
      if (fs.existsSync(path.join(dir, name + end))) fs.copyFileSync(path.join(dir, name + end), copy + end)
    }
    await connection.run(`ATTACH '${copy}' AS f`)
    const tables = name.startsWith('hot')
      ? ['readings', 'texts', 'late', 'rollup_1m', 'rollup_1h', 'corrected_1m', 'corrected_1h', 'pending', 'minutes_kept']
      : name.endsWith('-raw.duckdb')
        ? ['columns', 'narrow', 'texts', 'late']
        : ['packed', 'plain', 'corrected', ...(name.endsWith('-1h.duckdb') ? ['bins'] : [])]
    const rows = await (await connection.run(tables.map((table) => `SELECT DISTINCT series FROM f.${table}`).join(' UNION '))).getRows()
    found.set(
      name,
      rows.map(([id]) => Number(id)).sort((a, b) => a - b),
    )
    await connection.run('DETACH f')
  }
  connection.closeSync()
  close()
  return found
}

/** Files below `dir` that have these bytes. */
function filesWith(dir: string, bytes: string | Buffer): string[] {
  return fs
    .globSync('**/*', { cwd: dir, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name))
    .filter((file) => fs.readFileSync(file).includes(bytes))
}

void describe('Erasing a device in the store', () => {
  void it('hides all that it has with the commit, then takes it out of every file', async () => {
    const kept = await threeDays()
    const ids = new Set<number>()
    for (const [, series] of await seriesInFiles(kept.dir)) for (const id of series) ids.add(id)
    assert.equal(ids.size, 4)
    const from = t0 + 2 * day + 8 * 3600e6
    await kept.erase('d2', [
      { device: 'd2', timeUs: from, value: 1 },
      { device: 'd2', metric: 'new', timeUs: from, value: 2 },
    ])
    assert.deepEqual([...kept.store.erasing()], [['erasure-of-d2', 2]])
    await kept.check('hidden')
    assert.equal((await kept.store.latest({ tenant: 'default', devices: ['d2'] }, signal)).rows, 0)
    assert.equal((await kept.store.latest({ tenant: '', everyTenant: true }, signal)).keys.length, 3)
    // Others, and the same name again: its old times are new.
    await kept.feed([...half(from).slice(0, 60), { device: 'd2', timeUs: t0 + 6 * 3600e6, value: 3 }])
    await kept.check('spoken again')
    await kept.reopen()
    await kept.check('opened again')
    assert.deepEqual([...kept.store.erasing()], [['erasure-of-d2', 2]])
    await kept.store.seal()
    assert.equal(kept.store.erasing().size, 0)
    await kept.check('purged')
    kept.checkFolder('purged')
    for (const [name, series] of await seriesInFiles(kept.dir))
      assert.ok(!series.includes(1) && !series.includes(4), `${name} has ${series.join(' ')}`)
    const before = kept.files()
    await kept.store.seal()
    assert.deepEqual(kept.files(), before, 'nothing is written once more')
    await kept.reopen()
    await kept.check('opened after it')
    assert.equal(kept.store.stats().series, 4)
  })

  void it('leaves no name of it behind, nor its values in the states of operators', async () => {
    const kept = await threeDays()
    const rows = [
      { device: 'walter-42', timeUs: kept.nowUs, value: 8123.456789123 },
      { device: 'walter-42', metric: 'word', timeUs: kept.nowUs, text: 'incriminating' },
    ]
    await kept.feed(rows)
    await kept.store.seal()
    assert.notDeepEqual(filesWith(kept.dir, Buffer.from(Float64Array.of(8123.456789123).buffer)), [], 'it would be found')
    await kept.erase('walter-42', [], 'erasure-1')
    await kept.store.seal()
    await kept.store.close()
    // As operators, `series_state` and rows that stand by themselves keep it.
    const value = Buffer.from(Float64Array.of(8123.456789123).buffer)
    for (const bytes of ['walter-42', 'incriminating', value]) assert.deepEqual(filesWith(kept.dir, bytes), [], String(bytes))
    await kept.open()
    await kept.check('afterwards')
  })

  void it('writes only runs that have it again', async () => {
    const kept = await threeDays()
    await kept.feed([{ device: 'd9', timeUs: kept.nowUs, value: 1 }])
    await kept.store.seal()
    const before = kept.files()
    await kept.erase('d9')
    await kept.store.seal()
    const changed = before.filter((name) => !kept.files().includes(name)).map((name) => name.split('/')[0])
    assert.deepEqual([...new Set(changed)], ['2026-11-22'])
    await kept.check('without d9')
    // One of whom the store knows nothing.
    await kept.erase('nobody')
    assert.equal(kept.store.erasing().size, 0)
  })

  void it('goes on after a kill at any step of the child', { timeout: 240_000 }, async () => {
    const kept = await threeDays()
    await kept.erase('d1')
    await kept.erase('d3')
    for (const label of [
      '2026-11-22:raw:filled',
      '2026-11-20:raw:checkpointed',
      '2026-11-20:1m:renamed',
      '2026-11-21:raw:durable',
      '2026-11-21:1h:synced',
    ]) {
      kept.exit = label
      await assert.rejects(kept.store.seal(), { code: 'store_unavailable' }, label)
      kept.exit = undefined
      assert.equal(kept.store.erasing().size, 2, label)
      await kept.check(label)
      await kept.reopen()
      await kept.check(`${label}, opened again`)
      kept.checkFolder(label)
    }
    await kept.store.seal()
    assert.equal(kept.store.erasing().size, 0)
    await kept.check('in the end')
    for (const [name, series] of await seriesInFiles(kept.dir))
      assert.deepEqual(
        series.filter((id) => id !== 1),
        [],
        name,
      )
  })

  void it('is not told of by SQL either, while files still have it', async () => {
    const kept = await threeDays()
    await kept.erase('d2')
    const ask = async (sql: string): Promise<unknown> => {
      const found = await kept.store.sql({ tenant: 'default', sql, parameters: [], limit: 10, nowUs: kept.nowUs }, signal)
      return found === 'needs devices' ? found : found.values.map((column) => column[0])
    }
    for (const view of ['readings', 'readings_1m', 'readings_1h'])
      assert.deepEqual(await ask(`SELECT count(*)::INTEGER FROM ${view} WHERE device NOT IN ('d1', 'd3')`), [0], view)
    assert.deepEqual(await ask(`SELECT count(*)::INTEGER FROM readings WHERE device = 'd2'`), [0])
    assert.equal((await answer(kept.store, { match: { tenant: '' } })).length, 0)
  })
})
