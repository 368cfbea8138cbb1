import { durationUs } from '../../../core/duration.ts'
import { limits } from '../../../core/limits.ts'

/** Widths that people read off an axis, finest first; from 1m on they are whole minutes and from 1h on whole hours, which rollups serve. */
const widths: readonly string[] = [1, 2, 5, 10, 20, 50, 100, 200, 500]
  .map((n) => `${n}ms`)
  .concat('1s', '2s', '5s', '10s', '15s', '30s', '1m', '2m', '5m', '10m', '15m', '30m', '1h', '2h', '3h', '6h', '12h', '1d', '1w')

/** Of the usual widths the finest with some `limits.autoStepBucketsMax` buckets in the range at most; `1mo` when all have more. */
export function autoStep(fromUs: number, toUs: number): string {
  return widths.find((width) => (durationUs(width) ?? Number.NaN) * limits.autoStepBucketsMax >= toUs - fromUs) ?? '1mo'
}
