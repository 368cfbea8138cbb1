import { KymoError } from '../core/errors.ts'
import type { StreamLog } from '../core/ports.ts'
import { Topic } from '../core/record.ts'
import type { DeadLetter } from '../core/services.ts'
import { decodeDeadLetter } from '../wire/dead-letter.ts'
import type { IndexedLetter } from './dead-letters-index.ts'

/** Letters further apart than this are read by a new reader rather than by reading what lies between. */
const gapMax = 64
const readBytes = 1024 * 1024

/** Reads these letters, oldest first; those that the log no longer has are missing. Bodies are copies. */
export async function readLetters(o: {
  readonly log: StreamLog
  readonly letters: readonly IndexedLetter[]
  readonly signal: AbortSignal
}): Promise<DeadLetter[]> {
  const wanted = o.letters.toSorted((a, b) => a.offset - b.offset)
  const found: DeadLetter[] = []
  for (let i = 0; i < wanted.length;) {
    let end = i + 1
    while (end < wanted.length && wanted[end]!.offset - wanted[end - 1]!.offset <= gapMax) end++
    await readRun(o.log, wanted.slice(i, end), o.signal, found)
    i = end
  }
  return found
}

async function readRun(log: StreamLog, run: readonly IndexedLetter[], signal: AbortSignal, found: DeadLetter[]): Promise<void> {
  const [first, last] = [run[0], run.at(-1)]
  if (first === undefined || last === undefined) return
  const wanted = new Map(run.map((letter) => [letter.offset, letter]))
  const source = log.reader({ topic: Topic.deadLetters, start: { offsets: new Map([[0, BigInt(first.offset)]]) }, batch: { bytesMax: readBytes } })
  const done = new AbortController()
  try {
    for await (const delivery of source.open(AbortSignal.any([signal, done.signal]))) {
      const { records, span } = delivery
      let place = Number(span?.first ?? 0n)
      for (const record of records) {
        const offset = record.offset === undefined ? place : Number(record.offset)
        const letter = wanted.get(offset)
        if (letter !== undefined && record.kind === 'dead-letter') {
          const content = decodeDeadLetter(record.body)
          found.push({ ...content, body: content.body.slice(), id: String(offset), status: letter.status })
        }
        place = offset + 1
      }
      delivery.ack()
      if (Number(span?.next ?? place) > last.offset) break
    }
    if (signal.aborted) throw new KymoError('shutting_down')
  } finally {
    done.abort()
    await source.close()
  }
}
