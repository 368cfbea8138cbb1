import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { KymoError } from '../../src/core/errors.ts'
import { createTables } from '../../src/store/duckdb/schema.ts'
import { Attachments } from '../../src/store/duckdb/sealed/attachments.ts'
import { quoted } from '../../src/store/duckdb/sealed/format.ts'
import { writeManifest } from '../../src/store/duckdb/sealed/manifest-file.ts'
import { emptyManifest, withFrozen, withSealed, type Manifest } from '../../src/store/duckdb/sealed/manifest.ts'
import { runSealer } from '../../src/store/duckdb/sealed/sealer.ts'
import { filesFor, SealedSources } from '../../src/store/duckdb/sealed/sources.ts'
import { engine, makeDir, reader } from '../support/sealed-store.ts'

const start = Date.UTC(2026, 10, 16) * 1000
const dayUs = 86_400e6
const devices = 100
const stop = new AbortController()
const dir = makeDir()
let manifest: Manifest

/** Four days of 100 devices with three metrics a minute, on clocks of whole milliseconds; the third lacks one reading in fifty. */
before(async () => {
  const { connection: c, close } = await engine()
  await c.run(`ATTACH ${quoted(path.join(dir, 'hot-1.duckdb'))} AS hot`)
  await c.run(createTables)
  await c.run(`INSERT INTO hot.series SELECT i, 'default', 'd' || i // 3, 'm' || i % 3 FROM range(${devices * 3}) t(i)`)
  await c.run(`INSERT INTO hot.readings SELECT d * 3 + m, make_timestamp(${start} + k * 60000000 + (d * 37 + k * 13 % 50) * 1000),
    round(20 + 5 * sin(k / 229.0 + d) + (hash(k, d, m) % 1000) / 5000.0, 2), 0 FROM range(5760) a(k), range(${devices}) b(d), range(3) c(m)
    WHERE m < 2 OR hash(k, d) % 50 > 0 ORDER BY k, d, m`)
  await c.run('CHECKPOINT hot; DETACH hot')
  c.closeSync()
  close()
  const frozen = withFrozen(emptyManifest, 1)
  writeManifest(dir, frozen)
  const { runs } = await runSealer({ do: 'seal', dir, hot: 1, generation: 1, nowUs: start + 5 * dayUs, existing: [] }, { signal: stop.signal })
  manifest = withSealed(frozen, 1, runs)
  // The frozen file stays: what was sealed is compared with it.
})

after(() => fs.rmSync(dir, { recursive: true, force: true }))

test('series that share their times stand in one row, those that lack a few with them', async () => {
  const files = manifest.runs.map((run) => run.files.raw!)
  assert.equal(files.length, 4)
  const { connection, close } = await engine()
  await connection.run(`ATTACH ${quoted(path.join(dir, filesFor(manifest, [{ kind: 'raw', fromUs: start, toUs: start + 1 }])[0]!))} AS f (READ_ONLY)`)
  const [row] = await (
    await connection.run('SELECT count(DISTINCT shape)::INTEGER, count(DISTINCT grp)::INTEGER, count(*)::INTEGER FROM f.columns')
  ).getRows()
  // A series that lacks one time in fifty is not recognised about that often, and then stands alone.
  assert.equal(row?.[2], devices * 3)
  assert.ok(Number(row?.[0]) <= 2 && Number(row?.[1]) <= devices * 1.1, `${row}`)
  const [shape] = await (await connection.run('SELECT tick::INTEGER, scales::VARCHAR FROM f.shapes ORDER BY shape')).getRows()
  assert.deepEqual(shape, [1000, '[2, 2, 2]'])
  connection.closeSync()
  close()
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0) / files.reduce((sum, file) => sum + file.rows, 0)
  // Of files this small half is fixed parts; narrow rows would take 7 bytes.
  assert.ok(bytes < 4, `${bytes} bytes a reading`)
})

test('what was sealed is, bit for bit, what the frozen file has', async () => {
  const { connection, attachments, close } = await reader(dir)
  await connection.run(`ATTACH ${quoted(path.join(dir, 'hot-1.duckdb'))} AS hot (READ_ONLY)`)
  const between = { fromUs: start, toUs: start + 5 * dayUs }
  for (const ids of [[7, 8], Array.from({ length: devices * 3 }, (_, i) => i)]) {
    const lease = await attachments.acquire(filesFor(manifest, [{ kind: 'raw', ...between }]))
    const { base, late, texts } = (await SealedSources.of(manifest, lease.files, ids)).rows(ids, between)
    assert.deepEqual([late, texts], [[], []])
    const sealed = base.join(' UNION ALL ')
    const hot = `SELECT series, ts, v, flags FROM hot.readings WHERE series IN (${ids.join(',')})`
    for (const [a, b] of [
      [sealed, hot],
      [hot, sealed],
    ]) {
      const rows = await (await connection.run(`SELECT count(*)::INTEGER FROM ((${a}) EXCEPT ALL (${b}))`)).getRows()
      assert.deepEqual(rows, [[0]])
    }
    lease.release()
  }
  connection.closeSync()
  close()
})

test("one series' hours touch their row groups only", async () => {
  const { connection, connect, close } = await engine()
  const attachments = new Attachments(await connect(), dir)
  const between = { fromUs: start + 1000e6, toUs: start + 7000e6 }
  const lease = await attachments.acquire(filesFor(manifest, [{ kind: 'raw', ...between }]))
  const { base } = (await SealedSources.of(manifest, lease.files, [150])).rows([150], between)
  assert.equal(base.length, 1)
  const plan = await (await connection.run(`EXPLAIN (ANALYZE, FORMAT JSON) SELECT sum(v) FROM (${base[0]})`)).getRows()
  const scanned = [...String(plan[0]?.[1]).matchAll(/"operator_rows_scanned": (\d+)/g)].map((match) => Number(match[1]))
  assert.ok(Math.max(...scanned) > 0, 'the profile says what was scanned')
  assert.ok(Math.max(...scanned) <= 122_880, `${scanned} of ${devices * 1440} rows were scanned`)
  lease.release()
  connection.closeSync()
  close()
})

test('files are attached when they are needed, few stay, and none is detached under a lease', async () => {
  const { connection, attachments, close } = await reader(dir, 2)
  const all = { fromUs: start, toUs: start + 4 * dayUs }
  const names = filesFor(manifest, [{ kind: 'raw', ...all }])
  const lease = await attachments.acquire(names)
  assert.equal(attachments.size, 4)
  const { base } = (await SealedSources.of(manifest, lease.files, [0])).rows([0], all)
  const result = await connection.stream(base.join(' UNION ALL '))
  await result.fetchChunk()
  const other = await attachments.acquire(names.slice(0, 1))
  other.release()
  other.release()
  assert.equal((await attachments.acquire([])).files.size, 0)
  assert.equal(attachments.size, 4)
  const retired = attachments.retire(names.slice(0, 1)).then(() => attachments.size)
  let rows = 0
  for (let chunk = await result.fetchChunk(); chunk !== null && chunk.rowCount > 0; chunk = await result.fetchChunk()) rows += chunk.rowCount
  assert.ok(rows > 3000, `${rows} rows`)
  assert.equal(attachments.size, 4)
  lease.release()
  assert.ok((await retired) <= 3)
  await attachments.acquire([])
  assert.equal(attachments.size, 2)
  await assert.rejects(attachments.acquire([names[1]!, 'sealed/2026-11-16/99-raw.duckdb']), (thrown) => {
    assert.ok(thrown instanceof KymoError && thrown.code === 'store_corrupt')
    return true
  })
  const again = await attachments.acquire(names)
  assert.equal(again.files.size, 4)
  again.release()
  connection.closeSync()
  close()
})

test('closing waits for files on their way out, and then none is attached or detached', async () => {
  const { connection, connect, close } = await engine()
  const own = await connect()
  const attachments = new Attachments(own, dir, 1)
  const names = filesFor(manifest, [{ kind: 'raw', fromUs: start, toUs: start + 4 * dayUs }])
  const all = await attachments.acquire(names)
  const one = await attachments.acquire(names.slice(0, 1))
  all.release()
  await setImmediate() // the first of three is on its way
  await attachments.close()
  assert.equal(attachments.size, 1)
  await assert.rejects(attachments.acquire(names), (thrown) => thrown instanceof KymoError && thrown.code === 'shutting_down')
  one.release()
  own.closeSync()
  connection.closeSync()
  close()
})
