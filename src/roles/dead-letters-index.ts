import type { Env, Logger } from '../core/env.ts'
import { asKymoError } from '../core/errors.ts'
import { limits } from '../core/limits.ts'
import type { Sink } from '../core/ports.ts'
import { sleep } from '../core/pump.ts'
import type { LogRecord, Span } from '../core/record.ts'
import type { DeadLetter } from '../core/services.ts'
import { decodeDeadLetter, decodeDeadLetterMark } from '../wire/dead-letter.ts'

/** What is known of a dead letter without reading it. */
export interface IndexedLetter {
  /** In its topic. Doubles hold every offset that a log of our time reaches. */
  readonly offset: number
  readonly code: string
  readonly client: string
  readonly tenant: string
  status: DeadLetter['status']
}

/** Work between two turns of the event loop while the index is built. */
const busyMsMax = 5

/** Letters in the order of the log; the oldest are dropped at `limits.deadLetterIndexMax`. */
export class DeadLetterIndex {
  /** Letters that were neither replayed nor dismissed when they made room for newer ones. */
  forgotten = 0
  #letters: IndexedLetter[] = []
  /** Dropped from the front of `#letters`, which is cut only now and then. */
  #first = 0
  /** One copy of each code, client and tenant. */
  #names = new Map<string, string>()
  readonly #logger: Logger
  #told = false

  constructor(logger: Logger) {
    this.#logger = logger
  }

  get waiting(): number {
    let count = 0
    for (let i = this.#first; i < this.#letters.length; i++) if (this.#letters[i]!.status === 'waiting') count++
    return count
  }

  add(offset: number, letter: Pick<DeadLetter, 'code' | 'client' | 'tenant'>): void {
    const last = this.#letters.at(-1)
    if (last !== undefined && offset <= last.offset) return
    const { code, client, tenant } = letter
    this.#letters.push({ offset, code: this.#name(code), client: this.#name(client), tenant: this.#name(tenant), status: 'waiting' })
    if (this.#letters.length - this.#first <= limits.deadLetterIndexMax) return
    this.#drop(this.#first + 1)
  }

  mark(offset: number, status: 'replayed' | 'dismissed'): void {
    const letter = this.find(offset)
    if (letter !== undefined) letter.status = status
  }

  find(offset: number): IndexedLetter | undefined {
    const letter = this.#letters[this.#firstNotBefore(offset)]
    return letter?.offset === offset ? letter : undefined
  }

  /** Those strictly before `before`, newest first. */
  *newestFirst(before: number | undefined): Generator<IndexedLetter> {
    const from = before === undefined ? this.#letters.length : this.#firstNotBefore(before)
    for (let i = from - 1; i >= this.#first; i--) yield this.#letters[i]!
  }

  /** Oldest first. */
  waitingOf(tenant: string): IndexedLetter[] {
    return this.#letters.slice(this.#first).filter((letter) => letter.status === 'waiting' && letter.tenant === tenant)
  }

  dropBefore(offset: bigint): void {
    this.#drop(this.#firstNotBefore(Number(offset)))
  }

  #drop(first: number): void {
    const before = this.forgotten
    for (; this.#first < first; this.#first++) if (this.#letters[this.#first]!.status === 'waiting') this.forgotten++
    this.#cut()
    if (this.#told || this.forgotten === before) return
    this.#told = true
    this.#logger.warn('dead letters that were neither replayed nor dismissed made room for newer ones', {
      listed: limits.deadLetterIndexMax,
      bytes: limits.deadLetterBytesMax,
    })
  }

  #firstNotBefore(offset: number): number {
    let low = this.#first
    let high = this.#letters.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#letters[middle]!.offset < offset) low = middle + 1
      else high = middle
    }
    return low
  }

  #cut(): void {
    if (this.#first < 1024 || this.#first * 2 < this.#letters.length) return
    this.#letters = this.#letters.slice(this.#first)
    this.#first = 0
  }

  #name(name: string): string {
    const known = this.#names.get(name)
    if (known !== undefined) return known
    // A cache: client ids may be new with every connection.
    if (this.#names.size >= 65_536) this.#names = new Map()
    this.#names.set(name, name)
    return name
  }
}

/** Feeds the index from the log. */
export class IndexSink implements Sink {
  readonly built: Promise<void>
  readonly #index: DeadLetterIndex
  readonly #env: Env
  readonly #end: bigint
  #finish: () => void = () => undefined
  #busyMs = 0

  /** `end`: with what was before it the index counts as built. */
  constructor(index: DeadLetterIndex, env: Env, end: bigint) {
    this.#index = index
    this.#env = env
    this.#end = end
    this.built = new Promise((resolve) => {
      this.#finish = resolve
    })
  }

  finish(): void {
    this.#finish()
  }

  async write(records: readonly LogRecord[], span: Span | undefined, signal: AbortSignal): Promise<void> {
    const fromMs = this.#env.clock.monotonicMs()
    let place = Number(span?.first ?? 0n)
    for (const record of records) this.#take(record, record.offset === undefined ? place++ : Number(record.offset))
    if (span !== undefined && span.next >= this.#end) this.#finish()
    this.#busyMs += this.#env.clock.monotonicMs() - fromMs
    if (this.#busyMs < busyMsMax) return
    this.#busyMs = 0
    await sleep(this.#env, 0, signal)
  }

  async close(): Promise<void> {
    // The index belongs to the role.
  }

  /** A letter that cannot be read (of a newer version) is left out and told: it must not hide the others. */
  #take(record: LogRecord, offset: number): void {
    try {
      if (record.kind === 'dead-letter') this.#index.add(offset, decodeDeadLetter(record.body))
      if (record.kind !== 'dead-letter-mark') return
      const mark = decodeDeadLetterMark(record.body)
      this.#index.mark(Number(mark.letter), mark.status)
    } catch (thrown) {
      this.#env.logger.warn('a record of the dead letters cannot be read', { offset, error: asKymoError(thrown).message })
    }
  }
}
