import assert from 'node:assert/strict'
import { quantiles, type Store } from '../../src/core/ports.ts'
import { signal, type AnswerRow } from './store-batches.ts'

const everyone = { tenant: 'default' }

/** Two answers to one query. Sums may have been made in another order: 1e-7; quantiles are within their one per cent. */
export function sameAnswer(found: readonly AnswerRow[], expected: readonly AnswerRow[], what: string): void {
  assert.equal(found.length, expected.length, `${what}: rows`)
  found.forEach((row, i) => {
    for (const [name, value] of Object.entries(expected[i]!)) {
      const mine = row[name]
      const allowed =
        typeof value !== 'number' ? 0 : Object.hasOwn(quantiles, name) ? 0.010001 * Math.abs(value) : 1e-7 * Math.max(1, Math.abs(value))
      const near = typeof value === 'number' && typeof mine === 'number' && Math.abs(mine - value) <= allowed
      const at = new Date(row.timeUs / 1000).toISOString()
      assert.ok(near || Object.is(mine, value), `${what}: row ${i} ${row.device} ${at}: ${name} is ${mine} instead of ${value}`)
    }
  })
}

/** Whether two stores know the same series with the same latest values. */
export async function sameSeries(found: Store, expected: Store, what: string): Promise<void> {
  assert.deepEqual(await found.series(everyone, signal), await expected.series(everyone, signal), what)
  assert.deepEqual(shown(await found.latest(everyone, signal)), shown(await expected.latest(everyone, signal)), what)
}

function shown(batch: Awaited<ReturnType<Store['latest']>>): unknown[] {
  return Array.from({ length: batch.rows }, (_, i) => [
    batch.keys[batch.series[i]!],
    batch.timeUs[i],
    batch.value[i],
    batch.flags?.[i] ?? 0,
    batch.text?.get(i),
  ])
}
