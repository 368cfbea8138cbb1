import type { Env } from '../core/env.ts'
import { asKymoError, KymoError } from '../core/errors.ts'
import type { Code } from '../core/errors.ts'
import { isLineShape, type IngestGate, type MessageContext, type Shape } from '../core/gate.ts'
import { limits } from '../core/limits.ts'
import type { Metrics } from '../core/metrics.ts'
import type { Source, StreamLog } from '../core/ports.ts'
import { pump } from '../core/pump.ts'
import { Topic } from '../core/record.ts'
import type { OpaqueRecord } from '../core/record.ts'
import type { DeadLetter, DeadLetterService, Page } from '../core/services.ts'
import { encodeDeadLetterMark } from '../wire/dead-letter.ts'
import type { DeadLetterMark } from '../wire/dead-letter.ts'
import { firstByte, ItemSplitter } from '../wire/payload/items.ts'
import { DeadLetterIndex, IndexSink } from './dead-letters-index.ts'
import type { IndexedLetter } from './dead-letters-index.ts'
import { readLetters } from './dead-letters-reader.ts'

/** Letters whose bodies are in memory at a time during a replay: 64 x 64 KiB = 4 MB. */
const replayChunk = 64
/** Marks of one write: 1,000 of 60 bytes. */
const marksPerWrite = 1_000
/** How long a replay waits for a gate that takes nothing, and for its readings to be durable. */
const replayWaitMs = 30_000

const openBracket = 0x5b

interface Offered {
  readonly ticket: number
  readonly refusal: KymoError | undefined
}

type Result = Awaited<ReturnType<DeadLetterService['dismiss']>>['results'][number]

export interface DeadLetters extends DeadLetterService {
  /** Letters of all tenants that were neither replayed nor dismissed, as far as the index is built. */
  readonly waiting: number
  stop(): Promise<void>
}

export interface DeadLettersOptions {
  readonly log: StreamLog
  readonly gate: IngestGate
  readonly env: Env
  readonly metrics: Metrics
  /** The topic can no longer be read. */
  readonly onFatal?: (error: KymoError) => void
}

/**
 * The dead letters that the log still keeps. An index is in memory (`limits.deadLetterIndexMax` letters, newest kept); bodies are
 * read from the log when somebody asks. The index is built in the background; calls wait for it.
 */
export async function startDeadLetters(o: DeadLettersOptions): Promise<DeadLetters> {
  const role = new DeadLetterRole(o)
  await role.start()
  return role
}

class DeadLetterRole implements DeadLetters {
  readonly #o: DeadLettersOptions
  readonly #index: DeadLetterIndex
  readonly #abort = new AbortController()
  #source: Source | undefined
  #pumped: Promise<void> = Promise.resolve()
  #built: Promise<void> = Promise.resolve()
  #failed: KymoError | undefined

  constructor(o: DeadLettersOptions) {
    this.#o = o
    this.#index = new DeadLetterIndex(o.env.logger)
    const waiting = o.metrics.gauge('kymo_dlq_waiting', 'Dead letters that were neither replayed nor dismissed.', {}, () => {
      waiting.value = this.#index.waiting
      forgotten.value = this.#index.forgotten
      // For the next look: the log may answer later.
      void this.#dropGone().catch(() => undefined)
    })
    const forgotten = o.metrics.counter(
      'kymo_dlq_forgotten_total',
      'Dead letters that were neither replayed nor dismissed when they made room for newer ones, since the start.',
    )
  }

  get waiting(): number {
    return this.#index.waiting
  }

  async start(): Promise<void> {
    const { log, env, onFatal } = this.#o
    const { earliest, end } = await this.#place()
    const source = log.reader({
      topic: Topic.deadLetters,
      start: { offsets: new Map([[0, earliest]]) },
      batch: { bytesMax: limits.mainDeliveryBytesMax },
    })
    this.#source = source
    const sink = new IndexSink(this.#index, env, end)
    if (earliest >= end) sink.finish()
    this.#built = sink.built
    this.#pumped = pump(source, sink, this.#abort.signal, { env, name: 'dead letters' }).catch((thrown: unknown) => {
      if (this.#abort.signal.aborted) return
      this.#failed = asKymoError(thrown)
      sink.finish()
      env.logger.error('the dead letters cannot be read', { code: this.#failed.code, error: this.#failed.message })
      onFatal?.(this.#failed)
    })
  }

  async list(
    tenant: string,
    o: { readonly after?: string; readonly limit: number; readonly code?: string; readonly client?: string; readonly status?: DeadLetter['status'] },
  ): Promise<Page<DeadLetter>> {
    await this.#ready()
    const limit = Math.min(o.limit, limits.deadLetterPageMax)
    const found: IndexedLetter[] = []
    for (const letter of this.#index.newestFirst(o.after === undefined ? undefined : letterOffset(o.after))) {
      if (letter.tenant !== tenant) continue
      if (o.code !== undefined && letter.code !== o.code) continue
      if (o.client !== undefined && letter.client !== o.client) continue
      if (o.status !== undefined && letter.status !== o.status) continue
      found.push(letter)
      if (found.length > limit) break
    }
    const page = found.slice(0, limit)
    const last = page.at(-1)
    const items = (await this.#read(page)).reverse()
    return { items, ...(found.length > limit && last !== undefined ? { next: String(last.offset) } : {}) }
  }

  async get(tenant: string, id: string): Promise<DeadLetter | undefined> {
    await this.#ready()
    const letter = this.#find(tenant, id)
    return letter === undefined ? undefined : (await this.#read([letter]))[0]
  }

  /**
   * Oldest first. A letter counts as replayed once its bytes were offered again and what came of it is durable: its readings, or a new
   * letter with the reason of today (then `ok` is false, and `failed` counts it). A letter that could not be offered (truncated,
   * gone, the gate closed) stays as it was. After a crash between the two writes a letter may be offered twice: readings are
   * identified by device, metric and time, so they count once all the same. `results` holds the first `deadLetterResultsMax`.
   */
  async replay(tenant: string, ids: readonly string[] | 'all'): ReturnType<DeadLetterService['replay']> {
    await this.#ready()
    const results: Result[] = []
    let replayed = 0
    let failed = 0
    const tell = (result: Result): void => {
      if (result.ok) replayed++
      else failed++
      if (results.length < limits.deadLetterResultsMax) results.push(result)
    }
    const letters = ids === 'all' ? this.#index.waitingOf(tenant) : this.#named(tenant, ids, tell)
    // Once the gate has taken nothing for so long, the others are not offered: each would wait as long.
    let closed: KymoError | undefined
    for (let i = 0; i < letters.length; i += replayChunk) {
      const some = letters.slice(i, i + replayChunk)
      if (closed === undefined) closed = await this.#replaySome(some, tell)
      else for (const letter of some) tell(refused(String(letter.offset), closed))
    }
    return { replayed, failed, results }
  }

  /** Replayed letters stay replayed (`dead_letter_settled`); one that was dismissed before counts as dismissed again. */
  async dismiss(tenant: string, ids: readonly string[] | 'all'): ReturnType<DeadLetterService['dismiss']> {
    await this.#ready()
    const results: Result[] = []
    let failed = 0
    let dismissed = 0
    const tell = (result: Result): void => {
      if (result.ok) dismissed++
      else failed++
      if (results.length < limits.deadLetterResultsMax) results.push(result)
    }
    const letters = ids === 'all' ? this.#index.waitingOf(tenant) : this.#named(tenant, ids, tell, 'dismissed')
    for (let i = 0; i < letters.length; i += marksPerWrite) {
      const some = letters.slice(i, i + marksPerWrite)
      const error = await this.#mark(some, 'dismissed').then(() => undefined, asKymoError)
      for (const { offset } of some) tell(error === undefined ? { id: String(offset), ok: true } : refused(String(offset), error))
    }
    return { dismissed, failed, results }
  }

  async stop(): Promise<void> {
    this.#abort.abort()
    await this.#pumped
    await this.#source?.close()
  }

  /** Waits for the index, and drops from it what the log no longer has. */
  async #ready(): Promise<void> {
    await this.#built
    if (this.#failed !== undefined) throw this.#failed
    await this.#dropGone()
  }

  async #dropGone(): Promise<void> {
    this.#index.dropBefore((await this.#place()).earliest)
  }

  /** Letters have no key: on a log of many partitions they are all in the first one. */
  async #place(): Promise<{ readonly earliest: bigint; readonly end: bigint }> {
    const [first] = (await this.#o.log.places(Topic.deadLetters)).partitions
    return first ?? { earliest: 0n, end: 0n }
  }

  #find(tenant: string, id: string): IndexedLetter | undefined {
    const offset = letterOffset(id)
    const letter = offset === undefined ? undefined : this.#index.find(offset)
    return letter?.tenant === tenant ? letter : undefined
  }

  /** In the order of the log; ids that name no letter, or one that is settled, are told as failed; those that are `already` so, as done. */
  #named(tenant: string, ids: readonly string[], tell: (result: Result) => void, already?: DeadLetter['status']): IndexedLetter[] {
    const letters = new Set<IndexedLetter>()
    for (const id of new Set(ids)) {
      const letter = this.#find(tenant, id)
      if (letter === undefined) tell(refused(id, new KymoError('not_found', { detail: 'There is no dead letter with this id.' })))
      else if (letter.status === already) tell({ id, ok: true })
      else if (letter.status !== 'waiting') tell(refused(id, new KymoError('dead_letter_settled')))
      else letters.add(letter)
    }
    return [...letters].sort((a, b) => a.offset - b.offset)
  }

  #read(letters: readonly IndexedLetter[]): Promise<DeadLetter[]> {
    return readLetters({ log: this.#o.log, letters, signal: this.#abort.signal })
  }

  /** Gives back why the gate takes nothing, if so. */
  async #replaySome(letters: readonly IndexedLetter[], tell: (result: Result) => void): Promise<KymoError | undefined> {
    const read = new Map((await this.#read(letters)).map((letter) => [letter.id, letter]))
    const offered: { readonly indexed: IndexedLetter; readonly result: Result }[] = []
    let lastTicket = 0
    let closed: KymoError | undefined
    for (const indexed of letters) {
      const id = String(indexed.offset)
      const letter = read.get(id)
      if (letter === undefined) tell(refused(id, new KymoError('not_found', { detail: 'The log no longer has this dead letter.' })))
      else if (indexed.status !== 'waiting') tell(refused(id, new KymoError('dead_letter_settled')))
      else if (letter.truncated) tell(refused(id, new KymoError('dead_letter_truncated')))
      else if (closed !== undefined) tell(refused(id, closed))
      else {
        const { ticket, refusal } = await this.#offer(letter)
        if (ticket === 0) {
          closed = refusal ?? this.#o.gate.stalled ?? new KymoError('overloaded')
          tell(refused(id, closed))
          continue
        }
        lastTicket = Math.max(lastTicket, ticket)
        offered.push({ indexed, result: refusal === undefined ? { id, ok: true } : refused(id, refusal) })
      }
    }
    if (offered.length === 0) return closed
    try {
      await this.#o.gate.whenDurable(lastTicket, replayWaitMs)
      await this.#mark(
        offered.map(({ indexed }) => indexed),
        'replayed',
      )
    } catch (thrown) {
      const error = asKymoError(thrown)
      for (const { indexed } of offered) tell(refused(String(indexed.offset), error))
      return error
    }
    for (const { result } of offered) tell(result)
    return closed
  }

  /** Offers the bytes to the gate until it takes them, or for so long. Ticket 0: it did not, or of an array not all. */
  async #offer(letter: DeadLetter): Promise<Offered> {
    const { body } = letter
    const context = contextOf(letter)
    const untilMs = this.#o.env.clock.monotonicMs() + replayWaitMs
    if (isLineShape(context.shape) || firstByte(body, 0, body.length) !== openBracket) return this.#offerOne(context, body, 0, body.length, untilMs)
    // Kept whole for its topic, say: what is wrong with one item is not its neighbours' fault. Without times of their own the items need different ones.
    const items = new ItemSplitter(body, 0, body.length, 'array')
    let last = this.#o.gate.durable
    let first: KymoError | undefined
    while (items.next()) {
      const { start, end, index } = items
      const { ticket, refusal } = await this.#offerOne({ ...context, arrivedUs: letter.time_us + index }, body, start, end, untilMs)
      if (ticket === 0) return { ticket, refusal }
      last = Math.max(last, ticket)
      first ??= refusal
    }
    return { ticket: Math.max(1, last), refusal: first }
  }

  async #offerOne(context: MessageContext, bytes: Uint8Array, start: number, end: number, untilMs: number): Promise<Offered> {
    const { gate, env } = this.#o
    for (;;) {
      const ticket = gate.submit(context, bytes, start, end)
      const { refusal } = gate
      const leftMs = untilMs - env.clock.monotonicMs()
      if (ticket !== 0 || leftMs <= 0 || this.#abort.signal.aborted) return { ticket, refusal }
      await this.#gateMoves(leftMs)
    }
  }

  #gateMoves(maxMs: number): Promise<void> {
    return new Promise((resolve) => {
      const moved = (): void => {
        timer.cancel()
        forget()
        resolve()
      }
      const timer = this.#o.env.clock.after(Math.min(maxMs, 100), moved)
      const forget = this.#o.gate.onDurable(moved)
    })
  }

  async #mark(letters: readonly IndexedLetter[], status: DeadLetterMark['status']): Promise<void> {
    const receivedUs = this.#o.env.clock.nowUs()
    const records = letters.map(({ offset }): OpaqueRecord => ({
      topic: Topic.deadLetters,
      kind: 'dead-letter-mark',
      key: '',
      receivedUs,
      body: encodeDeadLetterMark({ letter: String(offset), status }),
    }))
    await this.#o.log.write(records, undefined, this.#abort.signal)
    for (const letter of letters) this.#index.mark(letter.offset, status)
  }
}

function letterOffset(id: string): number | undefined {
  return /^\d{1,15}$/.test(id) ? Number(id) : undefined
}

function refused(id: string, error: KymoError): Result & { readonly code: Code } {
  return { id, ok: false, code: error.code, detail: error.message }
}

const documentShapes = ['any', 'sensor-data', 'data-point', 'reading'] satisfies Shape[]
const lineShapes = ['line-ns', 'line-us', 'line-ms', 'line-s', 'line-m', 'line-h'] satisfies Shape[]
const shapes = new Set<string>([...documentShapes, ...lineShapes])

const transports = ['http', 'mqtt', 'mqtt-pull', 'kafka-pull'] as const

/** As it came the first time: same tenant, topic and shape, and the time of its first arrival for a message without a time. */
function contextOf(letter: DeadLetter): MessageContext {
  return {
    transport: transports.find((one) => one === letter.transport) ?? 'mqtt',
    tenant: letter.tenant,
    client: letter.client,
    topic: letter.topic,
    shape: shapes.has(letter.shape) ? (letter.shape as Shape) : 'any',
    ...(letter.retained === true ? { retained: true } : {}),
    ...(letter.topic_device === undefined ? {} : { topicDevice: letter.topic_device }),
    ...(letter.content_type === undefined ? {} : { contentType: letter.content_type }),
    packetId: 0,
    dup: false,
    arrivedUs: letter.time_us,
  }
}
