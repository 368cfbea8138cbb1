import { limits } from '../core/limits.ts'
import type { LogRecord } from '../core/record.ts'

/** Bytes that a row is counted as: series 4, time 8, value 8, flags 1. */
export const rowBytes = 21

/**
 * The records of one write to the log in parts that each are encoded in a few milliseconds (`limits.ingestPartBytesMax`), in their order. As a
 * rule there is one: 100,000 dead letters of one body are many.
 */
export function* writeParts(records: readonly LogRecord[]): Generator<readonly LogRecord[]> {
  let from = 0
  let bytes = 0
  for (let at = 0; at < records.length; at++) {
    const record = records[at]!
    bytes += record.kind === 'readings' ? record.batch.rows * rowBytes : record.body.length
    if (bytes < limits.ingestPartBytesMax && at + 1 - from < limits.ingestPartRecordsMax) continue
    yield records.slice(from, at + 1)
    from = at + 1
    bytes = 0
  }
  if (from === 0 && records.length > 0) yield records
  else if (from < records.length) yield records.slice(from)
}
