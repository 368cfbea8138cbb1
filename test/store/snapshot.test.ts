import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { readManifest } from '../../src/store/duckdb/sealed/manifest-file.ts'
import { readSpans } from '../../src/store/duckdb/spans.ts'
import { openDuckdbStore } from '../../src/store/duckdb/store.ts'
import { answer, batchOf, none, signal, spanOf } from '../support/store-batches.ts'

const env = nodeEnv(silentLogger)
const start = Date.UTC(2026, 10, 1) * 1000
const perCommit = 500

test('snapshots while the store seals: each is a store of its moment, and the store itself misses nothing', { timeout: 60_000 }, async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-snapshot-'))
  const store = await openDuckdbStore({ dir: path.join(dir, 'store'), env, sealBytes: 1, sealAfterMs: 1e9 })
  let commits = 0
  const commit = async (): Promise<void> => {
    const rows = Array.from({ length: perCommit }, (_, i) => ({ timeUs: start + (commits * perCommit + i) * 1e6, value: commits * perCommit + i }))
    await store.commit({ tables: { ...none, readings: [batchOf(rows)] }, span: spanOf(commits, commits + 1) }, signal)
    commits++
  }
  const values = async (of: typeof store): Promise<unknown[]> => (await answer(of, {})).map((row) => row['value'])
  const taken: { into: string; rows: number; commits: number }[] = []
  try {
    for (let round = 0; round < 3; round++) {
      await commit()
      let sealing = true
      // Rotates, and starts a process that seals: what follows happens beside it.
      const sealed = store.seal().finally(() => (sealing = false))
      while (readManifest(path.join(dir, 'store')).frozen.length === 0 && sealing) await new Promise((resolve) => setImmediate(resolve))
      await commit()
      const into = path.join(dir, `into-${round}`)
      fs.mkdirSync(into)
      const { spans } = await store.snapshot(into)
      assert.ok(sealing, 'the sealing was over before the snapshot; the test shows nothing')
      assert.equal(spans?.[0]?.next, BigInt(commits))
      assert.equal((await readSpans(into))[0]?.next, BigInt(commits))
      taken.push({ into, rows: commits * perCommit, commits })
      await commit()
      await sealed
      const expected = Array.from({ length: commits * perCommit }, (_, i) => i)
      assert.deepEqual(await values(store), expected)
    }
  } finally {
    await store.close()
  }
  for (const { into, rows } of taken) {
    const copy = await openDuckdbStore({ dir: into, env })
    const expected = Array.from({ length: rows }, (_, i) => i)
    assert.deepEqual(await values(copy), expected)
    await copy.close()
  }
  const again = await openDuckdbStore({ dir: path.join(dir, 'store'), env })
  assert.equal((await values(again)).length, commits * perCommit)
  await again.close()
  fs.rmSync(dir, { recursive: true, force: true })
})
