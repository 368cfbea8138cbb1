import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { SqlValue } from '../../src/core/sql.ts'
import { FedStore, noDevices } from '../support/fed-store.ts'
import type { TestRow } from '../support/store-batches.ts'

const second = 1e6
const minute = 60 * second
const hour = 60 * minute
const t0 = Math.floor(1_700_000_000_000_000 / hour) * hour

/** What the views of rollups must say, worked out from the view of readings. Both over the same time, cut at buckets. */
const fromReadings = (width: 'minute' | 'hour', where: string): string =>
  `SELECT device, metric, date_trunc('${width}', time) AS t, count(*), sum(value), avg(value), min(value), max(value), arg_min(value, time),
    arg_max(value, time), stddev(value) FROM (SELECT * FROM readings) r WHERE value IS NOT NULL AND ${where} GROUP BY ALL ORDER BY ALL`

async function agree(fed: FedStore, stage: string): Promise<void> {
  for (const [view, width] of [
    ['readings_1m', 'minute'],
    ['readings_1h', 'hour'],
  ] as const) {
    const text = (us: number): string => `make_timestamp(${us})`
    for (const [from, to, device] of [
      [0, 9e15, undefined],
      [t0 + 25 * minute, t0 + 155 * minute, 'fickle'],
      [t0 - hour, t0 + 70 * minute, undefined],
      [t0 + 90 * minute + 7 * second, t0 + 20 * hour, 'sparse'],
    ] as const) {
      const only = device === undefined ? 'true' : `device = '${device}'`
      const bucket = `date_trunc('${width}', time)`
      const expected = await fed.rows(fromReadings(width, `${only} AND ${bucket} >= ${text(from)} AND ${bucket} < ${text(to)}`))
      const found = await fed.rows(
        `SELECT device, metric, time, n, sum, mean, min, max, first, last, stddev FROM ${view}
          WHERE ${only} AND time >= ${text(from)} AND time < ${text(to)} ORDER BY ALL`,
      )
      same(found, expected, `${stage}: ${view} ${device ?? 'all'} ${from} ${to}`)
    }
  }
}

function same(found: SqlValue[][], expected: SqlValue[][], what: string): void {
  const keys = (rows: SqlValue[][]): unknown[] => rows.map((row) => row.slice(0, 4).join(' '))
  assert.deepEqual(keys(found), keys(expected), what)
  found.forEach((row, r) =>
    row.forEach((cell, c) => {
      const other = expected[r]![c]!
      if (typeof cell !== 'number' || typeof other !== 'number') assert.equal(cell, other, what)
      else
        assert.ok(
          Math.abs(cell - other) <= 1e-9 * Math.max(1, Math.abs(other)),
          `${what}: ${row.slice(0, 3).join(' ')} column ${c}: ${cell}, not ${other}`,
        )
    }),
  )
}

test('the views of rollups say what the readings say, when minutes are kept, no longer kept, and kept again', { timeout: 120_000 }, async () => {
  const fed = new FedStore({ dense: 4, sparse: 1, minutes: 3 }, noDevices)
  fed.nowUs = t0 + 10 * hour
  await fed.open()
  const at = (device: string, timeUs: number, value: number, more: Partial<TestRow> = {}): TestRow => ({
    device,
    timeUs: t0 + timeUs,
    value,
    ...more,
  })
  /** So many readings in each minute of [from, to). */
  const filled = (device: string, from: number, to: number, each: number): TestRow[] =>
    Array.from({ length: to - from }, (_, m) => m + from).flatMap((m) =>
      Array.from({ length: each }, (_, i) => at(device, m * minute + i * 9 * second + 1, ((m * 31 + i * 7) % 50) / 4)),
    )
  const feed = (rows: readonly TestRow[], receivedMinute: number): Promise<void> => fed.feed(rows, t0 + receivedMinute * minute)
  const minutes = (): Promise<SqlValue[][]> => fed.rows("SELECT count(*), sum(n) FROM readings_1m WHERE device = 'fickle'")

  const stages: readonly (readonly [what: string, rows: readonly TestRow[], receivedMinute: number])[] = [
    ['sparse from the start', [...filled('fickle', 0, 10, 2), ...filled('sparse', 0, 10, 1), ...filled('dense', 0, 10, 6)], 12],
    ['minutes begin', [...filled('fickle', 10, 30, 6), ...filled('sparse', 10, 30, 1), ...filled('dense', 10, 30, 6)], 32],
    ['a late row in a minute that is kept', [at('fickle', 15 * minute + 30 * second + 3, 99)], 33],
    ['a late row before minutes began', [at('fickle', 5 * minute + 3, 77)], 33],
    ['a corrected reading', [at('fickle', 16 * minute + 1, -5), at('dense', 16 * minute + 1, -6)], 34],
    // All readings of a minute become text, so that it has no numbers: a correction with n = 0.
    [
      'a minute that loses its numbers',
      Array.from({ length: 6 }, (_, i) => at('fickle', 18 * minute + i * 9 * second + 1, Number.NaN, { text: 'gone' })),
      34,
    ],
    ['minutes end', [...filled('fickle', 30, 50, 1), ...filled('sparse', 30, 50, 1), ...filled('dense', 30, 50, 6)], 52],
    ['a late row in a minute that was kept', [at('fickle', 20 * minute + 5, 55), at('fickle', 45 * minute + 5, 56)], 53],
    ['minutes begin again', [...filled('fickle', 50, 80, 6), ...filled('sparse', 50, 80, 1)], 82],
    [
      'late rows on both sides of where they began again',
      [at('fickle', 21 * minute + 5, 44), at('fickle', 47 * minute, 45), at('fickle', 60 * minute, 46)],
      84,
    ],
    [
      'a correction of a minute that no longer counts',
      [at('fickle', 16 * minute + 1, 500), at('fickle', 18 * minute + 1, 7), at('dense', 16 * minute + 1, -9)],
      84,
    ],
    ['minutes end again', [...filled('fickle', 80, 140, 1), ...filled('dense', 80, 140, 6)], 142],
    ['a reading ahead of its time', [at('sparse', 300 * minute, 1), at('fickle', 300 * minute, 2)], 150],
    ['and once more', [...filled('fickle', 150, 170, 7), ...filled('sparse', 150, 170, 1)], 172],
  ]
  try {
    for (const [i, [what, rows, receivedMinute]] of stages.entries()) {
      await feed(rows, receivedMinute)
      await agree(fed, what)
      if (i % 3 === 2) {
        await fed.store.seal()
        await agree(fed, `${what}, sealed`)
      }
      if (i % 4 === 3) {
        await fed.reopen()
        await agree(fed, `${what}, reopened`)
      }
    }
    const before = await minutes()
    await fed.store.seal()
    await agree(fed, 'sealed in the end')
    await fed.reopen()
    await agree(fed, 'reopened in the end')
    assert.deepEqual(await minutes(), before)
  } finally {
    await fed.end()
  }
})

test('of a bucket that was corrected in several files the newest correction counts', { timeout: 60_000 }, async () => {
  const fed = new FedStore({ dense: 1, sparse: 0, minutes: 60 }, noDevices)
  fed.nowUs = t0 + 10 * hour
  await fed.open()
  try {
    const at = (seconds: number, value: number): TestRow => ({ device: 'd', timeUs: t0 + seconds * second, value })
    const received = t0 + 3 * hour
    await fed.feed(
      Array.from({ length: 400 }, (_, i) => at(i * 20, i % 7)),
      received,
    )
    await fed.store.seal()
    // Each time another value for the same minute, and the file with the correction is sealed before the next one comes.
    for (const value of [1000, 2000, 3000]) {
      await fed.feed([at(5, value)], received + value * second)
      await agree(fed, `value ${value}`)
      await fed.store.seal()
      await agree(fed, `value ${value}, sealed`)
    }
    await fed.reopen()
    await agree(fed, 'opened again')
  } finally {
    await fed.end()
  }
})
