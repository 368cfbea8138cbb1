import assert from 'node:assert/strict'
import fs from 'node:fs'
import { test } from 'node:test'
import type { Logger } from '../../src/core/env.ts'
import { silentLogger } from '../../src/core/env/node-env.ts'
import { readManifest } from '../../src/store/duckdb/sealed/manifest-file.ts'
import { filesOf } from '../../src/store/duckdb/sealed/manifest.ts'
import { envAt, KeptStore } from '../support/kept-store.ts'
import { makeDir } from '../support/sealed-store.ts'
import type { TestRow } from '../support/store-batches.ts'

const months = ['2025-02', '2025-03', '2025-04']
const resent = '2025-03'
const stepUs = 20 * 60e6

/** Four weeks of two series, a reading each twenty minutes; `off` corrects them. */
function monthRows(month: string, off = 0): TestRow[] {
  const fromUs = Date.parse(`${month}-01T00:00:00Z`) * 1000
  return Array.from({ length: 28 * 72 }, (_, i) =>
    ['a', 'b'].map((metric) => ({ metric, timeUs: fromUs + i * stepUs, value: off + ((i * 37) % 1000) / 100 })),
  ).flat()
}

test(
  'late rows rewrite what they touch: one row no month, a month that is sent again itself at most once for each tenth of it, and no other ever',
  { timeout: 120_000 },
  async (t) => {
    const written: { readonly what: string; readonly bytes: number }[] = []
    const logger: Logger = {
      ...silentLogger,
      debug: (what, fields) => {
        if (typeof fields?.['bytes'] === 'number') written.push({ what, bytes: fields['bytes'] })
      },
    }
    const dir = makeDir()
    const kept: KeptStore = new KeptStore(dir, Date.parse('2026-01-01T00:00:00Z') * 1000, { env: { ...envAt(() => kept.nowUs), logger } })
    await kept.open()
    t.after(async () => {
      await kept.store.close()
      fs.rmSync(dir, { recursive: true, force: true })
    })
    const sizeOf = (month: string): number =>
      [...filesOf(readManifest(dir))].reduce((sum, [name, { bytes }]) => sum + (name.includes(`/${month}/`) ? bytes : 0), 0)
    const namesOf = (others: boolean): string[] => kept.files().filter((name) => name.startsWith(resent) !== others)

    for (const month of months) await kept.feed(monthRows(month))
    await kept.store.seal()
    const others = namesOf(true)
    const own = namesOf(false)
    const monthBytes = sizeOf(resent)
    assert.deepEqual([...new Set(kept.files().map((name) => name.slice(0, 7)))], months)

    // One row: a run of its own, beside the month's files, which stay.
    written.length = 0
    await kept.feed([{ metric: 'a', timeUs: monthRows(resent)[0]!.timeUs, value: -1 }])
    await kept.store.seal()
    const one = written.reduce((sum, { bytes }) => sum + bytes, 0)
    t.diagnostic(`a month takes ${monthBytes} bytes; one late row wrote ${one}`)
    assert.ok(
      own.every((name) => kept.files().includes(name)),
      'the month was written again for one row',
    )
    assert.ok(written.every(({ what }) => !what.includes('merged')))

    // All of it once more with other values, in twelve parts: each is sealed by itself.
    written.length = 0
    const again = monthRows(resent, 5)
    const part = Math.ceil(again.length / 12)
    for (let at = 0; at < again.length; at += part) {
      await kept.feed(again.slice(at, at + part))
      await kept.store.seal()
    }
    assert.deepEqual(namesOf(true), others, 'files of other months were written')
    const merges = written.filter(({ what }) => what.includes('merged'))
    const rewritten = merges.reduce((sum, { bytes }) => sum + bytes, 0)
    t.diagnostic(`${merges.length} merges wrote ${rewritten} bytes, ${(rewritten / monthBytes).toFixed(1)} times the month`)
    assert.ok(merges.length > 0 && merges.length <= 10, `${merges.length} merges for one month`)
    // What is merged has both values of an identity at most until it is folded.
    assert.ok(rewritten <= 20 * monthBytes, `${rewritten} bytes for a month of ${monthBytes}`)
    await kept.check('a month sent again')
    await kept.reopen()
    await kept.check('and opened again')
  },
)
