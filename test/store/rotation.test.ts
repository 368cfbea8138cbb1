import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, describe, it } from 'node:test'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { openDuckdbStore, type DuckdbStore } from '../../src/store/duckdb/store.ts'
import { answer, batchOf, none, signal, spanOf } from '../support/store-batches.ts'

const env = nodeEnv(silentLogger)
const t0 = Date.UTC(2026, 10, 1) * 1000
const root = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-rotation-'))
after(() => fs.rmSync(root, { recursive: true, force: true }))

/** Each commit brings a reading of `all`, a series of its own, and other states of the operators. */
class Writing implements AsyncDisposable {
  store!: DuckdbStore
  commits = 0

  /** A store that a failed test has left open would keep the process. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.store.close()
  }

  async commit(erase?: string): Promise<void> {
    const n = this.commits++
    const rows = [
      { device: 'all', timeUs: t0 + n * 1e6, value: n },
      { device: `only-${n}`, timeUs: t0 + n * 1e6, value: n },
    ]
    const states = [{ operator: 'dedupe', at: BigInt(n + 1), bytes: new TextEncoder().encode(`state ${n} of secret-device`.padEnd(100_000)) }]
    const erasing = erase === undefined ? {} : { erase: { id: `erasure-${n}`, tenant: 'default', device: erase } }
    await this.store.commit({ tables: { ...none, readings: [batchOf(rows)] }, span: spanOf(n, n + 1), states, ...erasing }, signal)
  }

  /** As of so many commits, with nothing of a later one. */
  async check(store: DuckdbStore, commits: number, erased: ReadonlySet<string> = new Set()): Promise<void> {
    const rows = await answer(store, { match: { tenant: 'default', devices: ['all'] } })
    assert.deepEqual(
      rows.map(({ value }) => value),
      Array.from({ length: commits }, (_, n) => n),
    )
    const resumed = await store.resume('log-1', 'telemetry', 0)
    assert.equal(resumed?.next, BigInt(commits))
    assert.match(new TextDecoder().decode(resumed.states[0]?.bytes), new RegExp(`^state ${commits - 1} of`))
    const devices = (await store.series({ tenant: 'default' }, signal)).map(({ key }) => key.device).sort()
    const expected = ['all', ...Array.from({ length: commits }, (_, n) => `only-${n}`)].filter((device) => !erased.has(device)).sort()
    assert.deepEqual(devices, expected)
    const latest = await store.latest({ tenant: 'default', devices: ['all'] }, signal)
    assert.equal(latest.value[0], commits - 1)
  }
}

describe('Beginning the next hot file', () => {
  it('goes on beside commits, and takes over all that came meanwhile', { timeout: 60_000 }, async () => {
    await using writing = new Writing()
    const dir = path.join(root, 'beside')
    writing.store = await openDuckdbStore({ dir, env, sealBytes: 2 ** 40 })
    const copies: { into: string; commits: number }[] = []
    let beside = 0
    for (let round = 0; round < 5; round++) {
      await writing.commit()
      let over = false
      const before = writing.commits
      const loop = (async () => {
        while (!over) await writing.commit()
      })()
      const into = path.join(root, `copy-${round}`)
      fs.mkdirSync(into)
      const { spans, files } = await writing.store.snapshot(into)
      over = true
      await loop
      beside += writing.commits - before
      for (const { path: name, bytes } of files) assert.equal(fs.statSync(path.join(into, name)).size, bytes, name)
      copies.push({ into, commits: Number(spans?.[0]?.next) })
    }
    assert.ok(beside > 10, `${beside} commits beside five rotations: they wait for them`)
    await writing.check(writing.store, writing.commits)
    await writing.store.close()
    for (const { into, commits } of copies) {
      const copy = await openDuckdbStore({ dir: into, env })
      await writing.check(copy, commits)
      await copy.close()
    }
    writing.store = await openDuckdbStore({ dir, env })
    await writing.check(writing.store, writing.commits)
    await writing.store.close()
    assert.deepEqual(fs.globSync('*.tmp*', { cwd: dir }), [])
  })

  it('leaves nothing behind of a device that is erased while it is prepared', { timeout: 60_000 }, async () => {
    const dir = path.join(root, 'erased')
    await using writing = new Writing()
    writing.store = await openDuckdbStore({ dir, env, sealBytes: 2 ** 40 })
    for (let n = 0; n < 20; n++) await writing.commit()
    // What is prepared is held up by a query, and the erasure comes in between.
    const reading = writing.store.query({ match: { tenant: 'default' }, fromUs: 0, toUs: 9e15, order: 'asc', limit: 10 }, signal)
    await reading.next()
    const into = path.join(root, 'copy-erased')
    fs.mkdirSync(into)
    const taking = writing.store.snapshot(into)
    const prepared = path.join(dir, 'hot-2.duckdb.tmp')
    while (!fs.existsSync(prepared) || !fs.readFileSync(prepared).includes('only-7')) await new Promise((resolve) => setTimeout(resolve, 5))
    await writing.commit('only-7')
    await reading.return(undefined)
    await taking
    await writing.check(writing.store, writing.commits, new Set(['only-7']))
    const copied = fs.readFileSync(path.join(into, 'hot-2.duckdb'))
    assert.ok(copied.includes('only-8'))
    assert.ok(!copied.includes('only-7'), 'its name is in a block that is not used any more')
    await writing.store.close()
  })
})
