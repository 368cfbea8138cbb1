import { Buffer } from 'node:buffer'
import type { Env } from '../../core/env.ts'
import { asKymoError, type KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { ReaderOptions } from '../../core/ports.ts'
import { sleep } from '../../core/pump.ts'
import { Topic, type LogRecord, type OpaqueRecord } from '../../core/record.ts'
import { ReaderKeys } from '../../wire/batch/decode.ts'
import { encodeDeadLetter } from '../../wire/dead-letter.ts'
import { recordOf } from './messages.ts'
import type { Fetched } from './partition-queue.ts'
import type { Decode, Decoded } from './reader.ts'

export interface RecordDecoderOptions {
  readonly env: Env
  readonly unusableGroup?: string
}

type WriteLetter = (letter: OpaqueRecord, signal: AbortSignal) => Promise<void>

/** Messages of Kymo's own topics as records of the log. What is none becomes a dead letter, where there is somebody for it. */
export class RecordDecoder {
  readonly #o: RecordDecoderOptions
  readonly #write: WriteLetter

  constructor(o: RecordDecoderOptions, write: WriteLetter) {
    this.#o = o
    this.#write = write
  }

  /** Of one reader. */
  of({ topic, group }: ReaderOptions): Decode<LogRecord> {
    const keys = new ReaderKeys()
    const { env, unusableGroup } = this.#o
    return (fetched, where, signal): Decoded<LogRecord> => {
      try {
        return { record: recordOf(fetched.record, topic, fetched.offset, where, keys) }
      } catch (thrown) {
        if (unusableGroup === undefined) throw thrown
        const error = asKymoError(thrown)
        env.logger.error('a record of the log cannot be used', { code: error.code, where, error: error.message })
        // The index of dead letters passes over what it cannot read: a letter of a letter would have no end.
        if (group !== unusableGroup || topic === Topic.deadLetters) return { record: undefined }
        return { record: undefined, after: this.#keep(fetched, where, error, signal) }
      }
    }
  }

  async #keep({ record, timestampMs }: Fetched, where: string, error: KymoError, signal: AbortSignal): Promise<void> {
    const { env } = this.#o
    const bytes = record.value ?? Buffer.alloc(0)
    const body = encodeDeadLetter({
      time_us: timestampMs * 1000,
      code: error.code,
      detail: error.message,
      errors: [],
      transport: 'log',
      client: where,
      topic: '',
      tenant: 'default',
      shape: 'any',
      bytes_total: bytes.length,
      truncated: false,
      body: bytes,
    })
    const letter: OpaqueRecord = { topic: Topic.deadLetters, kind: 'dead-letter', key: '', receivedUs: env.clock.nowUs(), body }
    for (let waitMs: number = limits.kafkaRetryFirstMs; ; waitMs = Math.min(limits.kafkaRetryMaxMs, waitMs * 2)) {
      try {
        return await this.#write(letter, signal)
      } catch (thrown) {
        // Not kept, so not acknowledged: it comes again.
        if (signal.aborted) throw thrown
        await sleep(env, waitMs * (0.5 + env.random.next() / 2), signal)
      }
    }
  }
}
