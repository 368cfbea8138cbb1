import type { ImportSource, Page, Position } from './source.ts'
import type { ImportBatch, Reject, Settled } from './deliver.ts'
import { Delivery } from './deliver.ts'
import type { ImportCounts } from './state.ts'

/**
 * Messages of a batch: the server tells each refusal of a bulk answer up to this many. Bytes: a body of some 250 kB is decoded in a few
 * milliseconds.
 */
const batchMessagesMax = 1_000
const batchBytesMax = 512 * 1024

export interface RunOptions {
  readonly source: ImportSource
  readonly url: string
  readonly token: string | undefined
  /** Where to begin; what lies before it was delivered by an earlier run. */
  readonly from: Position
  readonly counts: ImportCounts
  /** Tells this file's batches from others', for messages without a time. */
  readonly key: string
  readonly signal: AbortSignal
  readonly onReject: (reject: Reject) => void
  /** Everything before the position is settled. */
  readonly onSettled: (counts: ImportCounts, position: Position | undefined) => void
}

/** Resolves at the end of the file, or once what was under way is settled after an abort. Rejects with what ended it. */
export async function runImport(o: RunOptions): Promise<void> {
  let counts = o.counts
  const settled = ({ batch, accepted, acceptedReadings, rejects }: Settled): void => {
    for (const reject of rejects) o.onReject(reject)
    counts = {
      rows: counts.rows + batch.rows,
      messages: counts.messages + accepted,
      readings: counts.readings + acceptedReadings,
      rejected: counts.rejected + rejects.length,
    }
    o.onSettled(counts, batch.after)
  }
  const delivery = new Delivery({ url: o.url, token: o.token, signal: o.signal, onSettled: settled })
  try {
    for await (const page of pagesFrom(o.source, o.from)) {
      if (o.signal.aborted) break
      for (const batch of batchesOf(page, o.source.ownTimes ? undefined : o.key)) {
        if (o.signal.aborted) break
        await delivery.send(batch)
      }
    }
  } finally {
    await delivery.end()
  }
}

/** Times of a zone are read with a memory of what came before: a resume maps the file from its beginning, and sends from the mark on. */
export async function* pagesFrom(source: ImportSource, from: Position): AsyncGenerator<Page> {
  const remembers = source.plan !== undefined && source.plan.timeZone !== 'UTC'
  for await (const page of source.pages(remembers ? source.first : from)) {
    if (page.start < from.offset) page.feed({ message: () => undefined, reject: () => undefined })
    else yield page
  }
}

/** The page's messages in batches; the last one carries the position behind the page. */
export function batchesOf(page: Page, key: string | undefined): ImportBatch[] {
  const batches: ImportBatch[] = []
  let messages: string[] = []
  let lines: number[] = []
  let readings: number[] = []
  let rejects: Reject[] = []
  let bytes = 0
  const cut = (rows: number, after?: Position): void => {
    const idempotencyKey = key === undefined ? undefined : `import-${key}-${page.start}-${batches.length}`
    batches.push({
      messages,
      lines,
      readings,
      rows,
      rejects,
      ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
      ...(after === undefined ? {} : { after }),
    })
    messages = []
    lines = []
    readings = []
    rejects = []
    bytes = 0
  }
  const rows = page.feed({
    message(json, line, n) {
      if (messages.length >= batchMessagesMax || bytes + json.length > batchBytesMax) cut(0)
      messages.push(json)
      lines.push(line)
      readings.push(n)
      bytes += json.length
    },
    reject: (line, reason, record) => void rejects.push({ line, reason, record }),
  })
  cut(rows, page.after)
  return batches
}
