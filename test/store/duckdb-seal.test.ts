import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { KymoError } from '../../src/core/errors.ts'
import { openDuckdbStore } from '../../src/store/duckdb/store.ts'
import { half, KeptStore } from '../support/kept-store.ts'
import { answer, batchOf, none, signal, spanOf, type TestRow } from '../support/store-batches.ts'

const root = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-seal-'))
after(() => fs.rmSync(root, { recursive: true, force: true }))
const us = (time: string): number => Date.parse(time) * 1000
const hour = 3600e6
const day = 24 * hour
const code =
  (expected: string, name = '') =>
  (thrown: unknown) =>
    thrown instanceof KymoError && thrown.code === expected && thrown.message.includes(name)

async function using(nowUs: number, run: (kept: KeptStore) => Promise<void>): Promise<void> {
  const kept = new KeptStore(fs.mkdtempSync(path.join(root, 's-')), nowUs)
  await kept.open()
  try {
    await run(kept)
  } finally {
    await kept.store.close()
  }
}

const steps = ['filled', 'checkpointed', 'synced', 'renamed', 'durable']

void describe('A child that is killed', () => {
  void it('while it seals: the answers stay right, and the next sealing does it again', { timeout: 200_000 }, async () => {
    await using(us('2026-10-01T00:00:00Z'), async (kept) => {
      for (const [i, exit] of [...steps.map((step) => `raw:${step}`), '1m:synced', '1m:renamed', '1h:filled', '1h:durable'].entries()) {
        kept.nowUs += day
        const [date] = new Date(kept.nowUs / 1000).toISOString().split('T')
        await kept.feed(half(kept.nowUs, 10))
        kept.nowUs += 2 * hour
        // The day before as well: a sealing of two partitions that dies in the second.
        await kept.feed(i === 0 ? [] : [{ device: 'd1', timeUs: kept.nowUs - day, value: 77 }])
        kept.exit = `${date}:${exit}`
        await assert.rejects(kept.store.seal(), code('store_unavailable'), exit)
        kept.exit = undefined
        await kept.check(`${exit}, killed`)
        if (i % 2 === 0) {
          await kept.reopen()
          kept.checkFolder(`${exit}, reopened`)
          await kept.check(`${exit}, reopened`)
        } else await kept.feed(half(kept.nowUs, 1))
        await kept.store.seal()
        await kept.check(`${exit}, sealed`)
        kept.checkFolder(`${exit}, sealed`)
      }
      await kept.reopen()
      kept.checkFolder('at the end')
      await kept.check('at the end')
    })
  })

  void it('while it merges: what it read stays until it is done', { timeout: 200_000 }, async () => {
    await using(us('2025-01-01T00:00:00Z'), async (kept) => {
      for (const [i, exit] of [...steps.map((step) => `raw:${step}`), '1m:renamed', '1h:synced', '1h:durable'].entries()) {
        const month = new Date(Date.UTC(2025, 3 * i)).toISOString().slice(0, 7)
        for (const date of ['03', '04']) {
          kept.nowUs = us(`${month}-${date}T01:00:00Z`)
          await kept.feed(half(kept.nowUs, 10))
          kept.nowUs += 2 * hour
          await kept.feed([])
          await kept.store.seal()
        }
        const days = (): string[] => kept.files().filter((name) => name.startsWith(`${month}-`))
        const before = days()
        assert.ok(before.length >= 6, before.join(' '))
        kept.nowUs = us(`${month}-01T00:00:00Z`) + 67 * day
        kept.exit = `${month}:${exit}`
        await assert.rejects(kept.store.seal(), code('store_unavailable'), exit)
        kept.exit = undefined
        assert.deepEqual(days(), before)
        await kept.check(`${exit}, killed`)
        if (i % 2 === 0) {
          await kept.reopen()
          kept.checkFolder(`${exit}, reopened`)
        }
        await kept.store.seal()
        assert.deepEqual(days(), [], 'days became a month')
        assert.ok(kept.files().some((name) => name.startsWith(`${month}/`)))
        await kept.check(`${exit}, merged`)
        kept.checkFolder(`${exit}, merged`)
      }
      await kept.reopen()
      kept.checkFolder('at the end')
      await kept.check('at the end')
    })
  })

  void it('is ended when the store closes, which does not wait for it', async () => {
    await using(us('2026-10-01T00:00:00Z'), async (kept) => {
      await kept.feed(half(kept.nowUs))
      const sealing = kept.store.seal().catch((thrown: unknown) => thrown)
      await kept.reopen()
      await sealing
      await kept.check('reopened')
      await kept.store.seal()
      kept.checkFolder('sealed')
      await kept.check('sealed')
    })
  })
})

void describe('Queries beside sealings and merges', () => {
  void it('see each reading once at every moment', { timeout: 200_000 }, async () => {
    await using(us('2026-09-01T00:00:00Z'), async (kept) => {
      /** Readings whose commit has begun, and those whose commit is done. */
      let [begun, done, asked] = [0, 0, 0]
      let over = false
      const feed = async (rows: readonly TestRow[]): Promise<void> => {
        begun += rows.length
        await kept.feed(rows)
        done += rows.length
      }
      const between = (what: string, least: number, found: number): void => {
        asked++
        assert.ok(found >= least && found <= begun, `${what}: ${found}, and there were from ${least} to ${begun}`)
      }
      const lane = async (what: string, count: () => Promise<number>): Promise<void> => {
        while (!over) {
          const least = done
          between(what, least, await count())
          await delay(5)
        }
      }
      const counts = (stepUs: number) => async () => {
        const rows = await answer(kept.store, { limit: 1_000_000, stepUs, aggregations: ['count'] })
        return rows.reduce((sum, row) => sum + Number(row['count']), 0)
      }
      await feed(numbers(kept.nowUs))
      const lanes = [
        lane('raw', async () => {
          const rows = await answer(kept.store, { limit: 1_000_000 })
          assert.equal(new Set(rows.map((row) => `${row.device} ${row.timeUs}`)).size, rows.length, 'one was there twice')
          return rows.length
        }),
        lane('minutes', counts(60e6)),
        lane('hours', counts(hour)),
        lane('rows', counts(1e6)),
        lane('SQL', async () => {
          const { count, distinct } = await kept.counted()
          assert.equal(count, distinct)
          return count
        }),
        // The newest of a device never goes back.
        (async () => {
          for (let last = 0; !over;) {
            const latest = await kept.store.latest({ tenant: 'default', devices: ['d1'] }, signal)
            assert.ok(latest.timeUs[0]! >= last)
            last = latest.timeUs[0]!
            await delay(1) // It is answered from memory.
          }
        })(),
      ]
      const all = Promise.all(lanes).finally(() => (over = true))
      all.catch(() => undefined) // It is awaited below.
      try {
        for (let round = 0; round < 9 && !over; round++) {
          kept.nowUs += round % 4 === 3 ? 80 * day : 8 * hour
          const sealing = kept.store.seal()
          for (let i = 0; i < 4; i++) {
            await feed(numbers(kept.nowUs + i * 600e6))
            await feed([{ device: 'd1', timeUs: us('2026-09-01T00:00:00.5Z') + round * 8e6 + i * 1e6, value: 1 }])
          }
          await sealing
          await kept.store.seal()
        }
      } finally {
        over = true
      }
      await all
      assert.ok(asked > 50, `${asked} queries`)
      assert.ok(
        kept.files().some((name) => /^2026-\d\d\//.test(name)),
        'months were made',
      )
      await kept.check('at the end')
      kept.checkFolder('at the end')
    })
  })
})

void describe('Closing the hot file', () => {
  void it('gives up beside a long query, so that others wait a second and not for its end; when it is overdue it waits', async () => {
    let sealBytes = 2 ** 40
    const options = {
      dir: fs.mkdtempSync(path.join(root, 's-')),
      env: nodeEnv(silentLogger),
      memoryLimitMb: 128,
      get sealBytes() {
        return sealBytes
      },
    }
    const store = await openDuckdbStore(options)
    try {
      await store.commit({ tables: { ...none, readings: [batchOf(half(us('2026-10-01T00:00:00Z'), 120))] }, span: spanOf(0, 1) }, signal)
      const pages = store.query({ match: { tenant: 'default' }, fromUs: 0, toUs: 9e15, order: 'asc', limit: 1_000_000 }, signal)
      await pages.next()
      sealBytes = Math.floor(store.stats().bytes / 1.5)
      const sealing = store.seal()
      const began = performance.now()
      assert.equal((await answer(store, { match: { tenant: 'default', devices: ['d1'] }, limit: 5 })).length, 5)
      assert.ok(performance.now() - began < 10_000)
      await sealing
      assert.ok(!fs.existsSync(path.join(options.dir, 'sealed')), 'the long query still reads')
      sealBytes = 1
      const overdue = store.seal()
      await delay(1500)
      assert.ok(!fs.existsSync(path.join(options.dir, 'sealed')))
      await pages.return()
      await overdue
      assert.ok(fs.existsSync(path.join(options.dir, 'sealed')))
    } finally {
      await store.close()
    }
  })
})

/** Ten minutes of two devices, numbers alone. */
function numbers(fromUs: number): TestRow[] {
  return half(fromUs, 10).filter((row) => row.device !== 'd3')
}

void describe('What comes for ranges that are sealed', () => {
  void it('late, corrected or twice: rows and rollups follow, and after each sealing and merge as well', { timeout: 200_000 }, async () => {
    await using(us('2026-08-01T00:00:00Z'), async (kept) => {
      const first = kept.nowUs
      for (let i = 0; i < 4; i++) {
        await kept.feed(half(kept.nowUs))
        kept.nowUs += 12 * hour
        await kept.feed([])
        await kept.store.seal()
      }
      /** Of the n-th half hour: a new reading, another value, the same again, text for a number and the reverse, a gap in time. */
      const spoilt = (n: number, value: number): TestRow[] => {
        const at = first + n * 12 * hour
        return [
          { device: 'd1', timeUs: at + 100e6 + value, value },
          { device: 'd1', timeUs: at + 200e6, value: -value },
          { device: 'd2', timeUs: at + 300e6 + 137_000, value: Math.sqrt(60) },
          { device: 'd2', timeUs: at + 305e6 + 137_000, text: `no number ${value}`, meta: '{"by":"hand"}' },
          { device: 'd3', metric: 'state', timeUs: at, text: `was ${value}` },
          { device: 'd3', metric: 'level', timeUs: at + 4 * hour, value },
        ]
      }
      for (const [round, pass] of [1 * hour, 6 * hour, 2 * day, 3 * day, 70 * day, 30 * day].entries()) {
        await kept.feed(spoilt(round % 4, round + 1))
        await kept.check(`round ${round}, hot`)
        await kept.store.seal()
        await kept.check(`round ${round}, sealed`)
        await kept.feed([...spoilt((round + 1) % 4, round + 10), ...spoilt(round % 4, round + 20)])
        if (round % 2 === 0) await kept.reopen()
        await kept.check(`round ${round}, again`)
        kept.nowUs += pass
        await kept.store.seal()
        await kept.check(`round ${round}, merged`)
        kept.checkFolder(`round ${round}`)
      }
      assert.ok(
        kept.files().some((name) => name.startsWith('2026-08/')),
        'it became a month',
      )
      await kept.reopen()
      await kept.check('at the end')
    })
  })

  void it('a minute whose last number goes has no bucket any more', async () => {
    await using(us('2026-08-01T00:00:00Z'), async (kept) => {
      await kept.feed(half(kept.nowUs, 70))
      kept.nowUs += 3 * hour
      await kept.feed([{ device: 'd1', timeUs: kept.nowUs, value: 1 }])
      await kept.store.seal()
      await kept.feed(Array.from({ length: 12 }, (_, i) => ({ device: 'd1', timeUs: us('2026-08-01T00:30:00Z') + i * 5e6, text: 'gone' })))
      for (const pass of [0, day, 70 * day]) {
        kept.nowUs += pass
        await kept.store.seal()
        const query = { match: { tenant: 'default', devices: ['d1'] }, stepUs: 60e6, aggregations: ['count'] } as const
        const minutes = await answer(kept.store, query)
        assert.equal(minutes.length, 70, `${pass}`)
        assert.ok(!minutes.some((row) => row.timeUs === us('2026-08-01T00:30:00Z')))
        await kept.check(`${pass}`)
      }
    })
  })

  void it('a month that an edge site sends again touches the files of that month alone', { timeout: 120_000 }, async () => {
    await using(us('2026-05-01T00:00:00Z'), async (kept) => {
      const days = (month: string): number[] => ['02', '09', '16', '23'].map((date) => us(`${month}-${date}T06:00:00Z`))
      for (const month of ['2026-05', '2026-06', '2026-07'])
        for (const from of days(month)) {
          kept.nowUs = from
          await kept.feed(half(from, 10))
        }
      kept.nowUs = us('2026-10-01T00:00:00Z')
      await kept.feed([])
      await kept.store.seal()
      await kept.feed(half(kept.nowUs, 10))
      await kept.store.seal()
      const before = kept.files()
      assert.deepEqual([...new Set(before.map((name) => name.split('/')[0]))], ['2026-05', '2026-06', '2026-07', '2026-10-01'])
      const sizes = (): Map<string, number> =>
        new Map(kept.files().map((name) => [name, fs.statSync(path.join(kept.dir, 'sealed', name)).mtimeMs] as const))
      const written = sizes()
      // Most as it was, some corrected, some that had been lost.
      const again = days('2026-06').flatMap((from) => [
        ...half(from, 10).map((row, i) => (i % 5 === 0 && row.text === undefined ? { ...row, value: 1000 + i } : row)),
        { device: 'd1', timeUs: from + 1_000_000, value: 5 },
      ])
      await kept.feed(again)
      await kept.check('sent again')
      await kept.store.seal()
      await kept.check('sealed')
      for (const [name, mtime] of sizes()) {
        if (name.startsWith('2026-06/')) assert.ok(!before.includes(name), `${name} is new`)
        else assert.equal(mtime, written.get(name), `${name} was not touched`)
      }
      assert.deepEqual(
        kept.files().filter((name) => !name.startsWith('2026-06/')),
        before.filter((name) => !name.startsWith('2026-06/')),
      )
      kept.checkFolder('sealed')
    })
  })
})
