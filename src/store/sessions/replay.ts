import type { Logger } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import type { StreamLog } from '../../core/ports.ts'
import { decodeChanges } from './changes.ts'
import { State } from './state.ts'

export interface ReadBack {
  readonly state: State
  /** The offset after the last record. */
  readonly next: bigint
  readonly bytes: number
}

/**
 * Makes the state from the journal, from where its group stands (or the earliest record that is kept; both may lie before what is needed) to its end.
 * Rejects with `log_corrupt` or `log_format`, naming topic and offset; nothing is changed.
 */
export async function readJournal(log: StreamLog, topic: string, group: string, logger: Logger): Promise<ReadBack> {
  const lag = (await log.lag(topic, group))[0]
  const start = lag?.committed ?? 0n
  // Retention must wait for the group, also where a crash came before the log had written it down.
  await log.reader({ topic, group, start: { offset: start } }).close()
  const end = lag?.end ?? 0n
  const state = new State(start === 0n)
  let bytes = 0
  if (start < end) {
    const source = log.reader({ topic, start: { offset: start } })
    try {
      for await (const delivery of source.open(new AbortController().signal)) {
        const { records, span } = delivery
        // `kymo log repair` has set something aside: what was lost with it cannot be told from what is damaged.
        if (span !== undefined && span.next - span.first !== BigInt(records.length)) state.lenient = true
        for (const [i, record] of records.entries()) {
          const offset = record.offset ?? (span?.first ?? 0n) + BigInt(i)
          if (record.kind !== 'sessions') throw damaged(topic, offset, `a record of kind ${record.kind} does not belong there`)
          bytes += record.body.length
          try {
            decodeChanges(record.body, state)
          } catch (thrown) {
            if (thrown instanceof KymoError) throw damaged(topic, offset, thrown.message, thrown)
            throw thrown
          }
        }
        delivery.ack()
        if (span !== undefined && span.next >= end) break
      }
    } finally {
      await source.close()
    }
  }
  if (!state.complete && !state.lenient) {
    throw damaged(topic, start, 'what comes before it is missing, and nothing after it states all sessions anew')
  }
  state.resolve()
  if (state.lenient) {
    state.prune()
    logger.warn('part of the journal of MQTT sessions was set aside; what referred to it is lost', { topic, changes: state.lost })
  }
  return { state, next: end, bytes }
}

function damaged(topic: string, offset: bigint, why: string, cause?: KymoError): KymoError {
  return new KymoError(cause?.code === 'log_format' ? 'log_format' : 'log_corrupt', {
    detail: `The journal of MQTT sessions cannot be read: log/${topic}/0, the segment with the record of offset ${offset}: ${why}. Nothing was removed.`,
    facts: { topic, offset: String(offset), ...cause?.details.facts },
    ...(cause === undefined ? {} : { cause }),
  })
}
