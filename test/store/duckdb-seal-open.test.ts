import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, describe, it } from 'node:test'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { KymoError } from '../../src/core/errors.ts'
import { openDuckdbStore } from '../../src/store/duckdb/store.ts'
import { checkFolder, exact, half, KeptStore } from '../support/kept-store.ts'
import { answer, signal } from '../support/store-batches.ts'

const root = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-seal-'))
after(() => fs.rmSync(root, { recursive: true, force: true }))
const us = (time: string): number => Date.parse(time) * 1000
const hour = 3600e6
const code =
  (expected: string, name = '') =>
  (thrown: unknown) =>
    thrown instanceof KymoError && thrown.code === expected && thrown.message.includes(name)

void describe('The age of the hot file', () => {
  void it('counts from when it was made, also over restarts', async () => {
    const dir = fs.mkdtempSync(path.join(root, 's-'))
    const kept = new KeptStore(dir, us('2026-10-01T00:00:00Z'), { sealBytes: 1e12, sealAfterMs: 3_600_000 })
    await kept.open()
    try {
      await kept.feed(half(kept.nowUs))
      for (const [minutes, sealed] of [
        [30, false],
        [31, true],
      ] as const) {
        await kept.store.close()
        kept.nowUs += minutes * 60e6
        await kept.open()
        await kept.store.seal()
        assert.equal(kept.files().length > 0, sealed, `after ${minutes} minutes more`)
      }
      await kept.check('sealed')
    } finally {
      await kept.store.close()
    }
  })
})

void describe('Closing', () => {
  void it('waits for the files that queries have just let go', async () => {
    const dir = fs.mkdtempSync(path.join(root, 's-'))
    const kept = new KeptStore(dir, us('2026-10-01T00:00:00Z'), { attachedMax: 1 })
    await kept.open()
    for (let day = 0; day < 8; day++, kept.nowUs += 24 * hour) await kept.feed(half(kept.nowUs))
    await kept.store.seal()
    assert.ok(kept.files().length > 8)
    // The engine does not survive a connection that is closed while a file is detached on it: without waiting it dies or hangs in one of these.
    for (let i = 0; i < 8; i++) {
      const rows = await answer(kept.store, { limit: 1_000_000 })
      await kept.store.close()
      assert.ok(rows.length > 0)
      await kept.open()
    }
    await kept.check('opened again')
    await kept.store.close()
  })
})

void describe('Damage', () => {
  void it('a sealed file that is missing or short, and a manifest of a newer version, are told at the start', async () => {
    const dir = fs.mkdtempSync(path.join(root, 's-'))
    const kept = new KeptStore(dir, us('2026-10-01T00:00:00Z'))
    await kept.open()
    await kept.feed(half(kept.nowUs))
    kept.nowUs += 2 * hour
    await kept.feed([])
    await kept.store.seal()
    await kept.store.close()
    const files = kept.files()
    assert.deepEqual(
      files.map((name) => name.slice(name.indexOf('-', 12) + 1)),
      ['1h.duckdb', '1m.duckdb', 'raw.duckdb'],
    )
    for (const name of files) {
      const file = path.join(dir, 'sealed', name)
      const bytes = fs.readFileSync(file)
      fs.truncateSync(file, bytes.length - 1)
      await assert.rejects(kept.open(), code('store_corrupt', name), 'short')
      fs.rmSync(file)
      await assert.rejects(kept.open(), code('store_corrupt', name), 'missing')
      fs.writeFileSync(file, bytes)
    }
    const manifest = path.join(dir, 'sealed', 'manifest.json')
    const text = fs.readFileSync(manifest, 'utf8')
    fs.writeFileSync(manifest, text.replace('"format":1', '"format":2'))
    await assert.rejects(kept.open(), code('store_format', 'manifest.json'))
    fs.writeFileSync(manifest, text.slice(0, 40))
    await assert.rejects(kept.open(), code('store_corrupt', 'manifest.json'))
    fs.rmSync(manifest)
    await assert.rejects(kept.open(), code('store_corrupt', 'manifest.json'))
    fs.writeFileSync(manifest, text)
    await kept.open()
    try {
      await kept.check('put back')
    } finally {
      await kept.store.close()
    }
  })
})

void describe('Stores of earlier versions', () => {
  const archives = path.join(import.meta.dirname, '../data/versions')
  for (const archive of fs.readdirSync(archives).filter((name) => name.endsWith('.tar.gz')))
    void it(`${archive} opens, seals, and answers as before`, async () => {
      const data = fs.mkdtempSync(path.join(root, 'v-'))
      execFileSync('tar', ['xzf', path.join(archives, archive), '-C', data])
      const dir = path.join(data, 'store')
      const open = () => openDuckdbStore({ dir, env: nodeEnv(silentLogger), memoryLimitMb: 128, sealBytes: 0 })
      let store = await open()
      const told = async (): Promise<unknown[]> => [
        await answer(store, {}),
        ...(await Promise.all([1e6, 40e6, 60e6, hour].map((stepUs) => answer(store, { stepUs, aggregations: exact })))),
        await store.series({ tenant: 'default' }, signal),
        await store.latest({ tenant: 'default' }, signal),
      ]
      const before = await told()
      assert.ok(before.every((part) => !Array.isArray(part) || part.length > 0))
      await store.seal()
      assert.ok(fs.readdirSync(path.join(dir, 'sealed')).length > 1)
      same(await told(), before)
      await store.close()
      store = await open()
      same(await told(), before)
      checkFolder(dir, archive)
      await store.close()
    })
})

/** Numbers up to their last digits: sums of parts are rounded in another order. */
function same(found: unknown, expected: unknown): void {
  const rounded = (_: string, value: unknown): unknown => (typeof value === 'number' && !Number.isInteger(value) ? value.toPrecision(12) : value)
  assert.equal(JSON.stringify(found, rounded), JSON.stringify(expected, rounded))
}
