import assert from 'node:assert/strict'
import { KymoError } from '../../../src/core/errors.ts'
import { aggregations, statistics, type Store, type Tables } from '../../../src/core/ports.ts'
import { answer, type TestRow } from '../../support/store-batches.ts'
import { StoreHead } from '../../support/store-head.ts'

export interface StoreSubject {
  /** A store over nothing yet. */
  open(): Promise<Store>
  /** Closes the store and opens what it left behind. */
  reopen(store: Store): Promise<Store>
  /** Gone without a trace. */
  remove(store: Store): Promise<void>
}

/** One test over a store that is new; what it returns is the store as it was reopened last. */
export type Using = (what: string, run: (store: Store) => Promise<Store | void>) => void

export const t0 = 1_700_000_000_000_000 - (1_700_000_000_000_000 % 3600e6)
export const s = 1e6
export const code = (expected: string) => (error: unknown) => error instanceof KymoError && error.code === expected
export const at = (text: string): number => Date.parse(text) * 1000

/** What heads the store of one test: gives what its commits want. */
export function head(): (rows: readonly TestRow[], receivedUs?: number) => { readonly tables: Tables } {
  const one = new StoreHead()
  return (rows, receivedUs) => ({ tables: one.push(rows, receivedUs) })
}

/** Buckets of a minute and an hour against the same from rows alone, in count, sum and spread; with quantiles and without, for they may be read in another way. */
export async function agree(store: Store): Promise<void> {
  for (const [stepUs, asked] of [60 * s, 3600 * s].flatMap((step) => [[step, aggregations] as const, [step, statistics] as const])) {
    const rollups = await answer(store, { stepUs, aggregations: asked, fromUs: t0 - 50 * s, toUs: t0 + 86_400 * s })
    const raw = (await answer(store, {})).filter((r) => r.text === undefined && r.timeUs < t0 + 86_400 * s && r.timeUs >= t0 - 50 * s)
    const groups = Map.groupBy(raw, (r) => `${Math.floor(r.timeUs / stepUs) * stepUs} ${r.device}${r.metric}`)
    assert.deepEqual(rollups.map((r) => `${r.timeUs} ${r.device}${r.metric}`).sort(), [...groups.keys()].sort())
    for (const bucket of rollups) {
      const values = groups.get(`${bucket.timeUs} ${bucket.device}${bucket.metric}`)!.map((r) => r['value'] as number)
      const mean = values.reduce((a, b) => a + b, 0) / values.length
      assert.equal(bucket['count'], values.length)
      close(bucket['sum'] as number, mean * values.length, `sum of ${bucket.timeUs}`)
      close(bucket['avg'] as number, mean, `mean of ${bucket.timeUs}`)
      if (values.length > 1)
        close(
          bucket['stddev'] as number,
          Math.sqrt(values.reduce((a, v) => a + (v - mean) ** 2, 0) / (values.length - 1)),
          `deviation of ${bucket.timeUs}`,
        )
      assert.equal(bucket['min'], Math.min(...values))
      assert.equal(bucket['max'], Math.max(...values))
      assert.equal(bucket['first'], values[0])
      assert.equal(bucket['last'], values.at(-1))
    }
  }
}

function close(found: number, expected: number, what: string): void {
  assert.ok(Math.abs(found - expected) <= 1e-9 * Math.max(1, Math.abs(expected)), `${what}: ${found} instead of ${expected}`)
}
