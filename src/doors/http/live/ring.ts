import type { Batch } from '../../../core/batch.ts'
import type { LiveEvent } from '../../../core/services.ts'

/** What an event takes beside its columns: the objects that hold them. */
const eventBytes = 500

interface Kept {
  readonly event: LiveEvent
  readonly bytes: number
}

/** A batch is on loan: its rows are copied, its keys only grow and are shared. Free metadata is not told to live clients. */
function copyOf({ rows, keys, series, timeUs, value, flags, text }: Batch): Batch {
  return {
    rows,
    keys,
    series: series.slice(0, rows),
    timeUs: timeUs.slice(0, rows),
    value: value.slice(0, rows),
    ...(flags === undefined ? {} : { flags: flags.slice(0, rows) }),
    ...(text === undefined || text.size === 0 ? {} : { text: new Map(text) }),
  }
}

function bytesOf(batch: Batch): number {
  let bytes = eventBytes + batch.rows * 21
  for (const text of batch.text?.values() ?? []) bytes += 100 + text.length * 2
  return bytes
}

/** The newest events of the live feed, at most so many bytes: what clients missed that come back with Last-Event-ID. */
export class LiveRing {
  readonly #bytesMax: number
  #kept: Kept[] = []
  /** Dropped from the front of `#kept`, which is cut only now and then. */
  #first = 0
  #bytes = 0
  /** All events from this id on were seen and are kept. Undefined: none was seen since the feed was joined. */
  #knownFrom: bigint | undefined

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  add({ id, batch, receivedUs }: LiveEvent): void {
    this.#knownFrom ??= id
    const copy = copyOf(batch)
    const bytes = bytesOf(copy)
    this.#kept.push({ event: { id, batch: copy, receivedUs }, bytes })
    this.#bytes += bytes
    while (this.#bytes > this.#bytesMax && this.#first < this.#kept.length) {
      const oldest = this.#kept[this.#first++]!
      this.#bytes -= oldest.bytes
      this.#knownFrom = oldest.event.id + 1n
    }
    if (this.#first > 1_024 && this.#first * 2 > this.#kept.length) {
      this.#kept = this.#kept.slice(this.#first)
      this.#first = 0
    }
  }

  /** The events after `since`, oldest first. `complete`: there were no others. An id that was never given (of other data) is not complete. */
  after(since: bigint): { readonly complete: boolean; readonly events: readonly LiveEvent[] } {
    const newest = this.#kept.at(-1)?.event.id
    if (this.#knownFrom === undefined || newest === undefined || since > newest) return { complete: false, events: [] }
    let low = this.#first
    let high = this.#kept.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#kept[middle]!.event.id <= since) low = middle + 1
      else high = middle
    }
    return { complete: since + 1n >= this.#knownFrom, events: this.#kept.slice(low).map(({ event }) => event) }
  }

  /** The feed was left: what comes later does not follow on. */
  clear(): void {
    this.#kept = []
    this.#first = 0
    this.#bytes = 0
    this.#knownFrom = undefined
  }
}
