import type { Env } from '../core/env.ts'
import { limits } from '../core/limits.ts'
import { sleep } from '../core/pump.ts'
import type { LogRecord } from '../core/record.ts'

/** To decode and take in a record that is no batch costs as much as so many rows. */
const recordRows = 8

/**
 * Resolves in a later turn of the event loop when what was just taken in was much (`limits.mainDeliveryRowsMax`), else at once: a reader on the main
 * thread that works off a backlog holds nobody up. Counted and not timed, as to decode the next delivery belongs to it.
 */
export function giveTurn(env: Pick<Env, 'clock'>, records: readonly LogRecord[], signal: AbortSignal | undefined): Promise<void> | undefined {
  let rows = 0
  for (const record of records) rows += record.kind === 'readings' ? record.batch.rows : recordRows
  return rows < limits.mainDeliveryRowsMax ? undefined : sleep(env, 0, signal)
}
