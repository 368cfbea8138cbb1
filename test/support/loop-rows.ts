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

/** When offset `offset` of the loop that seals comes: twelve in a day, ten minutes apart, then one of three weeks later. */
export function sealTimeUs(offset: number): number {
  return t0 + Math.floor(offset / 12) * 21 * 86_400e6 + (offset % 12) * 600e6
}

/**
 * Its rows: five minutes of three devices every 5 s, the last ten of the offset before once more, and from the tenth on one that is late by half of
 * what has passed, and one that corrects.
 */
export function sealRows(offset: number): TestRow[] {
  const all = (of: number): TestRow[] =>
    Array.from({ length: 180 }, (_, i) => ({ device: `d${i % 3}`, timeUs: sealTimeUs(of) + Math.floor(i / 3) * 5e6, value: i }))
  const again = offset === 0 ? [] : all(offset - 1).slice(-10)
  if (offset < 10) return [...again, ...all(offset)]
  const before = sealTimeUs(Math.floor(offset / 2))
  return [
    ...again,
    ...all(offset),
    { device: 'd0', timeUs: before + 500_000 + (offset % 2) * 1000, value: -1 },
    { device: 'd1', timeUs: before + 5e6, value: 1000 },
  ]
}

/** How many different identities the offsets below `next` hold, and the sum of their values. */
export function sealTotals(next: number): { readonly count: number; readonly sum: number } {
  const values = new Map<string, number>()
  for (let offset = 0; offset < next; offset++) for (const row of sealRows(offset)) values.set(`${row.device} ${row.timeUs}`, row.value!)
  return { count: values.size, sum: [...values.values()].reduce((a, b) => a + b, 0) }
}
