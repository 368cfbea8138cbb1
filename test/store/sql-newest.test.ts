import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { Attachments } from '../../src/store/duckdb/sealed/attachments.ts'
import { half, KeptStore } from '../support/kept-store.ts'
import { signal } from '../support/store-batches.ts'

test('the newest rows of all times are looked for in the newest files', async (t) => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-newest-'))
  const day = 86_400e6
  const start = Date.UTC(2026, 6, 1) * 1000
  const kept = new KeptStore(dir, start)
  await kept.open()
  try {
    for (let i = 0; i < 5; i++) {
      kept.nowUs = start + i * day + 3600e6
      await kept.feed(half(start + i * day))
      await kept.store.seal()
    }
    const asked = new Set<string>()
    const acquire = Attachments.prototype.acquire
    t.mock.method(Attachments.prototype, 'acquire', function (this: Attachments, names: readonly string[]) {
      for (const name of names) asked.add(name)
      return acquire.call(this, names)
    })
    const rows = async (sql: string): Promise<{ rows: number; files: number }> => {
      asked.clear()
      const found = await kept.store.sql({ tenant: 'default', sql, parameters: [], limit: 100_000, nowUs: kept.nowUs }, signal)
      assert.ok(found !== 'needs devices')
      return { rows: found.rows, files: asked.size }
    }
    const all = kept.files().filter((name) => name.endsWith('-raw.duckdb')).length
    assert.ok(all >= 5)
    assert.deepEqual(await rows('SELECT * FROM readings ORDER BY time DESC LIMIT 10'), { rows: 10, files: 1 })
    // More than a day has: the day before as well, and in the end all.
    assert.equal((await rows('SELECT * FROM readings ORDER BY time DESC LIMIT 900')).rows, 900)
    assert.ok((await rows('SELECT * FROM readings ORDER BY time DESC LIMIT 900')).files < all)
    const total = (await rows('SELECT * FROM readings')).rows
    assert.deepEqual(await rows('SELECT * FROM readings ORDER BY time DESC LIMIT 90000'), { rows: total, files: all })
  } finally {
    await kept.store.close()
    fs.rmSync(dir, { recursive: true, force: true })
  }
})
