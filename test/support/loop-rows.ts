import type { TestRow } from './store-batches.ts'

const t0 = 1_700_000_000_000_000

/** The rows of one offset: 200 new ones, the last ten of the offset before once more, and one that is late. */
export function loopRows(offset: number): TestRow[] {
  const row = (i: number): TestRow => ({ device: `d${i % 5}`, timeUs: t0 + i * 1e6, value: i })
  const rows = Array.from({ length: 210 }, (_, i) => row(offset * 200 + i - 10)).filter((one) => one.timeUs >= t0)
  return offset < 10 ? rows : [...rows, { device: 'd0', timeUs: t0 + offset * 5e6 + 500_000, value: -1 }]
}

/** How many different identities the offsets below `next` hold. */
export function loopIdentities(next: number): number {
  return next * 200 + Math.max(0, next - 10)
}
