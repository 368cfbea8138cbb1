import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { ReaderOptions, Source } from '../../core/ports.ts'
import type { Delivery, LogRecord, Span } from '../../core/record.ts'
import { decodeBatch, ReaderKeys } from '../../wire/batch/decode.ts'
import type { GroupPosition } from './board.ts'
import { frameBodyAt, frameHeader, frameKey, gapKind, kinds } from './format.ts'
import type { ReadSide } from './read-side.ts'
import { SegmentCursor, type Run } from './segment-cursor.ts'

interface Outstanding {
  readonly from: GroupPosition
  readonly after: GroupPosition
  acknowledged: boolean
}

/** How often a reader that lingers long looks whether its delivery is full. */
const lookEveryMs = 250

/**
 * Reads one topic in order. Deliveries of one reader share one `keys` array that only grows, and a series keeps its index in it for the
 * reader's whole life, so a consumer may cache by index. Several deliveries may be outstanding; the group's position is the
 * first that is not acknowledged. After a `nack`, and when the consumer stops, `open` starts there again.
 */
export class LogReader implements Source {
  readonly #side: ReadSide
  readonly #topicName: string
  readonly #topic: number
  readonly #group: number | undefined
  readonly #bytesMax: number
  readonly #linger: number | (() => number)
  readonly #keys = new ReaderKeys()
  readonly #outstanding: Outstanding[] = []
  readonly #spare: Buffer<ArrayBuffer>[] = []
  readonly #ends = new Set<() => void>()
  #resume: GroupPosition
  #open = false
  #closed = false
  #nacked = false
  /** Was the delivery before as large as one may be? */
  #wasFull = false

  constructor(side: ReadSide, options: ReaderOptions) {
    this.#side = side
    this.#topicName = options.topic
    this.#topic = side.board.topic(options.topic)
    this.#bytesMax = Math.max(1, options.batch?.bytesMax ?? limits.deliveryBytesMax)
    this.#linger = options.batch?.lingerMs ?? 0
    const start = this.#start(options.start)
    if (options.group === undefined) {
      this.#group = undefined
      this.#resume = start
    } else {
      const { group, isNew } = side.board.group(this.#topic, options.group, start)
      this.#group = group
      if (options.start === 'committed' && !isNew) this.#resume = side.board.position(group)
      else {
        this.#resume = start
        side.board.commit(group, start)
      }
    }
  }

  open(signal: AbortSignal): AsyncIterable<Delivery> {
    if (this.#open) throw new KymoError('bug', { detail: 'A reader of the log is open already; it serves one consumer at a time.' })
    if (this.#closed) throw new KymoError('shutting_down')
    this.#open = true
    this.#nacked = false
    this.#outstanding.length = 0
    return this.#run(signal)
  }

  async close(): Promise<void> {
    this.#closed = true
    for (const end of this.#ends) end()
    await Promise.resolve()
  }

  #start(start: ReaderOptions['start']): GroupPosition {
    const { board } = this.#side
    if (start === 'latest') return { offset: board.end(this.#topic), base: 0n, at: 0 }
    if (typeof start === 'object') {
      const offset = 'offset' in start ? start.offset : start.offsets.get(0)
      return { offset: offset ?? board.end(this.#topic), base: 0n, at: 0 }
    }
    return { offset: board.earliest(this.#topic), base: 0n, at: 0 }
  }

  async *#run(signal: AbortSignal): AsyncGenerator<Delivery, void, void> {
    const { board } = this.#side
    const cursor = new SegmentCursor(this.#side, this.#topicName, this.#topic, this.#keys)
    try {
      const end = board.end(this.#topic)
      if (this.#resume.offset > end) {
        throw new KymoError('log_corrupt', {
          detail: `${this.#topicName}: offset ${this.#resume.offset} was asked for, but the log ends at ${end}. Records that were read once are missing.`,
          facts: { topic: this.#topicName, offset: String(this.#resume.offset), end: String(end) },
        })
      }
      let offset = this.#resume.offset
      while (!this.#over(signal)) {
        if (board.end(this.#topic) <= offset) {
          await this.#change(signal, offset)
          continue
        }
        await cursor.seek(offset)
        if (board.end(this.#topic) <= cursor.offset) {
          await this.#change(signal, cursor.offset)
          continue
        }
        const run = await this.#gather(cursor, signal)
        if (run === undefined) continue
        const delivery = this.#delivery(run, cursor)
        offset = run.next
        yield delivery
      }
    } finally {
      cursor.close()
      const first = this.#outstanding.find((one) => !one.acknowledged)
      if (first !== undefined) this.#resume = first.from
      this.#open = false
    }
  }

  #over(signal: AbortSignal): boolean {
    return signal.aborted || this.#closed || this.#nacked || this.#side.board.closed
  }

  /**
   * Takes what is durable; while that is less than a full delivery, sleeps the linger out for more of the same segment. It wakes for time
   * and not for writes: following every write to copy a little more costs more than all the rest of reading.
   */
  async #gather(cursor: SegmentCursor, signal: AbortSignal): Promise<Run | undefined> {
    const { board, clock } = this.#side
    const lingerMs = typeof this.#linger === 'function' ? this.#linger() : this.#linger
    const until = clock.monotonicMs() + lingerMs
    // Where one delivery was full there is more: it needs no company.
    if (lingerMs > 0 && lingerMs <= lookEveryMs && !this.#wasFull) await this.#sleep(signal, lingerMs)
    let run = cursor.take(this.#takeBuffer(), this.#bytesMax, board.end(this.#topic))
    while (run !== undefined && !run.full && !this.#over(signal)) {
      const left = until - clock.monotonicMs()
      if (left <= 0) break
      await this.#sleep(signal, Math.min(left, lookEveryMs))
      run = cursor.more(run, this.#bytesMax, board.end(this.#topic))
    }
    this.#wasFull = run?.full === true
    return run
  }

  #delivery(run: Run, cursor: SegmentCursor): Delivery {
    const records: LogRecord[] = []
    for (let i = 0; i < run.count; i++) {
      const record = this.#record(run, run.starts[i]!, cursor)
      if (record !== undefined) records.push(record)
    }
    const span: Span = { log: this.#side.id, topic: this.#topicName, partition: 0, first: run.first, next: run.next }
    const from = { offset: run.first, base: run.base, at: run.at }
    const after = { offset: run.next, base: run.base, at: run.at + run.used }
    cursor.advance(run)
    const mine: Outstanding = { from, after, acknowledged: false }
    this.#outstanding.push(mine)
    let settled = false
    const settle = (): void => {
      if (settled) throw new KymoError('bug', { detail: 'A delivery of the log was settled twice.' })
      settled = true
    }
    return {
      records,
      span,
      ack: () => {
        settle()
        mine.acknowledged = true
        this.#acknowledge()
        if (this.#spare.length < 2) this.#spare.push(run.bytes)
      },
      nack: () => {
        settle()
        this.#nacked = true
        for (const end of this.#ends) end()
      },
    }
  }

  #acknowledge(): void {
    let after: GroupPosition | undefined
    while (this.#outstanding[0]?.acknowledged === true) after = this.#outstanding.shift()!.after
    if (after === undefined) return
    this.#resume = after
    if (this.#group !== undefined) this.#side.board.commit(this.#group, after)
  }

  #record(run: Run, at: number, cursor: SegmentCursor): LogRecord | undefined {
    const { kind: number, offset, receivedUs } = frameHeader(run.bytes, at)
    const length = run.bytes.readUInt32LE(at + 4)
    if (number === gapKind) {
      cursor.follow(run.bytes, at, length, at)
      return undefined
    }
    const bodyAt = frameBodyAt(run.bytes, at, length)
    const kind = kinds[number - 1]
    if (bodyAt === undefined || kind === undefined) throw cursor.damaged(at, `the record of offset ${offset} is not a known one`)
    const body = new Uint8Array(run.bytes.buffer, run.bytes.byteOffset + bodyAt, at + length - bodyAt)
    const common = { topic: this.#topicName, key: frameKey(run.bytes, at), receivedUs, offset }
    if (kind !== 'readings') return { ...common, kind, body }
    try {
      return { ...common, kind, batch: decodeBatch(body, this.#keys) }
    } catch (thrown) {
      if (!(thrown instanceof KymoError) || thrown.code !== 'log_corrupt') throw thrown
      throw cursor.damaged(at, thrown.message)
    }
  }

  #takeBuffer(): Buffer<ArrayBuffer> | undefined {
    return this.#spare.pop()
  }

  /** Resolves when there is something after `offset`, or when reading is over. */
  #change(signal: AbortSignal, offset: bigint): Promise<void> {
    return new Promise((resolve) => {
      const done = this.#ending(signal, () => {
        stop()
        resolve()
      })
      const look = (): void => {
        if (this.#over(signal) || this.#side.board.end(this.#topic) > offset) done()
      }
      const stop = this.#side.onChange(look)
      look()
    })
  }

  /** Resolves after `ms`, or when reading is over. */
  #sleep(signal: AbortSignal, ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = this.#ending(signal, () => {
        timer.cancel()
        resolve()
      })
      const timer = this.#side.clock.after(ms, done)
    })
  }

  /** Calls `end` once: when the function given back is called, or when reading is over. */
  #ending(signal: AbortSignal, end: () => void): () => void {
    const done = (): void => {
      signal.removeEventListener('abort', done)
      if (this.#ends.delete(done)) end()
    }
    signal.addEventListener('abort', done, { once: true })
    this.#ends.add(done)
    return done
  }
}
