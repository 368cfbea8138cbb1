import { KymoError, fromPlainError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { LogRecord } from '../../core/record.ts'
import { type BatchEncoder, WriterDictionary } from '../../wire/batch/encode.ts'
import { finishFrame, frameBytesMin, frameHeaderBytes, frameSeed, kindNumber, segmentHeaderBytes, startFrame } from './format.ts'
import type { TopicSettings, TopicState, WriteOp } from './protocol.ts'

/** The buffer that a cycle is encoded into; grows, keeps what is in it. */
export class CycleBuffer {
  bytes: Buffer<SharedArrayBuffer>
  used = 0
  readonly #sizeFirst: number

  constructor(size: number) {
    this.#sizeFirst = size
    this.bytes = Buffer.from(new SharedArrayBuffer(size))
  }

  reserve(count: number): void {
    const needed = this.used + count
    if (needed <= this.bytes.length) return
    const grown = Buffer.from(new SharedArrayBuffer(Math.max(needed, this.bytes.length * 2)))
    this.bytes.copy(grown, 0, 0, this.used)
    this.bytes = grown
  }

  /** The writer thread is done with it; one that grew for a large record is let go. */
  clear(): void {
    if (this.bytes.length > limits.logCycleBytesMax) this.bytes = Buffer.from(new SharedArrayBuffer(this.#sizeFirst))
    this.used = 0
  }
}

export interface TopicMark {
  readonly base: bigint
  readonly position: number
  readonly durable: number
  readonly next: bigint
  readonly bytes: number
  readonly segments: number
}

/** Where the next record of a topic goes, as the encoding thread knows it: one cycle ahead of the disk. */
export class TopicWriter {
  readonly name: string
  readonly settings: TopicSettings
  next = 0n
  /** Bytes of all segments. */
  bytes = 0
  damage: KymoError | undefined
  segments: { base: bigint; bytes: number }[] = []
  #base = 0n
  #position = 0
  /** Bytes of the last segment that are durable: what a frame vouches for. */
  #durable = 0
  readonly #dictionary: WriterDictionary
  readonly #logId: () => string

  /** `generation`: any number that differs from process to process. */
  constructor(name: string, settings: TopicSettings, logId: () => string, generation: number) {
    this.name = name
    this.settings = settings
    this.#logId = logId
    this.#dictionary = new WriterDictionary(generation)
  }

  /** Takes over what the engine says: at open, after retention, and after a cycle that was not kept. */
  adopt(state: TopicState): void {
    const moved = state.base !== this.#base || state.position !== this.#position
    this.#base = state.base
    this.#position = state.position
    this.#durable = state.position
    this.next = state.next
    this.segments = state.segments.map(({ base, bytes }) => ({ base, bytes }))
    this.bytes = this.segments.reduce((sum, segment) => sum + segment.bytes, 0)
    this.damage = state.damage === undefined ? undefined : fromPlainError(state.damage)
    if (moved) this.#dictionary.restart(frameSeed(this.#logId(), this.#base))
  }

  /** The cycle is durable. */
  settle(): void {
    this.#durable = this.#position
  }

  mark(): TopicMark {
    return { base: this.#base, position: this.#position, durable: this.#durable, next: this.next, bytes: this.bytes, segments: this.segments.length }
  }

  /** Back to before a record that turned out not to be writable. */
  reset(mark: TopicMark): void {
    this.#base = mark.base
    this.#position = mark.position
    this.#durable = mark.durable
    this.next = mark.next
    this.bytes = mark.bytes
    this.segments.length = mark.segments
    const last = this.segments.at(-1)
    if (last !== undefined) last.bytes = mark.position
    this.#dictionary.restart(frameSeed(this.#logId(), this.#base))
  }

  /** Encodes one record behind what the buffer holds and notes it in `ops`. */
  append(record: LogRecord, encoder: BatchEncoder, buffer: CycleBuffer, ops: WriteOp[]): void {
    if (record.key.length * 3 > 0xffff) throw new KymoError('record_too_large', { detail: 'The key of a record is longer than 65,535 bytes.' })
    let bound = this.#bound(record, encoder)
    if (bound > limits.logRecordBytesMax) {
      throw new KymoError('record_too_large', { detail: `A record may take ${bound} bytes; the log takes ${limits.logRecordBytesMax}.` })
    }
    if (this.bytes + bound > this.settings.quotaBytes) {
      throw new KymoError('log_quota', { retryAfterS: 1, facts: { topic: this.name, bytes: this.bytes, quotaBytes: this.settings.quotaBytes } })
    }
    const full = this.#position > segmentHeaderBytes && this.#position + bound > this.settings.segmentBytesMax
    const create = this.#position === 0 || full
    if (create) {
      this.#roll()
      bound = this.#bound(record, encoder)
    }
    buffer.reserve(bound)
    const start = buffer.used
    const header = { kind: kindNumber(record.kind), offset: this.next, receivedUs: record.receivedUs, durable: this.#durable }
    const bodyAt = startFrame(buffer.bytes, start, header, record.key)
    const end = record.kind === 'readings' ? encoder.write(record.batch, buffer.bytes, bodyAt) : writeBody(record.body, buffer.bytes, bodyAt)
    buffer.used = finishFrame(buffer.bytes, start, end)
    this.next++
    this.#note(ops, create, start, buffer.used, record.receivedUs)
  }

  #note(ops: WriteOp[], create: boolean, start: number, end: number, receivedUs: number): void {
    const last = ops.at(-1)
    if (!create && last !== undefined && last.topic === this.name && last.base === this.#base && last.end === start) {
      last.end = end
      last.next = this.next
      last.lastReceivedUs = receivedUs
    } else {
      ops.push({ topic: this.name, base: this.#base, create, position: this.#position, start, end, next: this.next, lastReceivedUs: receivedUs })
    }
    this.#position += end - start
    this.bytes += end - start
    this.segments.at(-1)!.bytes = this.#position
  }

  #roll(): void {
    this.#base = this.next
    this.#position = segmentHeaderBytes
    this.#durable = 0
    this.segments.push({ base: this.#base, bytes: segmentHeaderBytes })
    this.bytes += segmentHeaderBytes
    this.#dictionary.restart(frameSeed(this.#logId(), this.#base))
  }

  #bound(record: LogRecord, encoder: BatchEncoder): number {
    const body = record.kind === 'readings' ? encoder.measure(record.batch, this.#dictionary) : record.body.length
    return frameHeaderBytes + record.key.length * 3 + 16 + body + frameBytesMin
  }
}

function writeBody(body: Uint8Array, target: Buffer, at: number): number {
  target.set(body, at)
  return at + body.length
}
