import { createHash } from 'node:crypto'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { KymoError } from '../../../core/errors.ts'
import { limits } from '../../../core/limits.ts'
import type { HttpContext } from '../options.ts'
import type { Answer } from './answers.ts'

interface Entry {
  readonly hash: string
  readonly sinceMs: number
  readonly answer: Promise<Answer>
  bytes: number
}

/** What an entry costs beside its answer's body. */
const entryBytes = 400
const hashSlice = 1 << 20

async function hashOf(bytes: Uint8Array): Promise<string> {
  const hash = createHash('sha256')
  for (let at = 0; at < bytes.length; at += hashSlice) {
    if (at > 0) await nextTurn()
    hash.update(bytes.subarray(at, at + hashSlice))
  }
  return hash.digest('base64')
}

/** Throws `request_invalid` for a key that is empty, too long or not visible ASCII. */
export function checkKey(key: string | string[] | undefined): string | undefined {
  if (key === undefined) return undefined
  if (typeof key !== 'string' || !/^[\x21-\x7e][\x20-\x7e]*$/.test(key) || key.length > limits.idempotencyKeyCharsMax) {
    throw new KymoError('request_invalid', { detail: `Idempotency-Key must be 1 to ${limits.idempotencyKeyCharsMax} visible ASCII characters.` })
  }
  return key
}

/**
 * Answers by Idempotency-Key (draft-ietf-httpapi-idempotency-key-header), oldest dropped first. This saves work and gives the same answer
 * again; that rows count once, also after a restart, is the gate's doing.
 */
export class IdempotentAnswers {
  readonly #entries = new Map<string, Entry>()
  readonly #context: HttpContext
  #bytes = 0

  constructor(context: HttpContext) {
    this.#context = context
  }

  get size(): number {
    return this.#entries.size
  }

  /**
   * Runs `work` for a key that is new; gives its answer to whoever repeats the request, also while the first is under way. Throws
   * `idempotency_conflict` for another body under the same key. Answers that time may change (429, 503) are not kept.
   */
  async answer(
    scope: string,
    key: string,
    body: Uint8Array,
    work: () => Promise<Answer>,
  ): Promise<{ readonly answer: Answer; readonly replayed: boolean }> {
    const hash = await hashOf(body)
    const id = `${scope}\u0000${key}`
    this.#expire()
    const known = this.#entries.get(id)
    if (known !== undefined) {
      if (known.hash !== hash) throw new KymoError('idempotency_conflict')
      return { answer: await known.answer, replayed: true }
    }
    const entry: Entry = { hash, sinceMs: this.#context.env.clock.monotonicMs(), answer: work(), bytes: entryBytes }
    this.#entries.set(id, entry)
    this.#bytes += entryBytes
    try {
      const answer = await entry.answer
      if (answer.passing) this.#drop(id, entry)
      else this.#keep(id, entry, answer)
      return { answer, replayed: false }
    } catch (error) {
      this.#drop(id, entry)
      throw error
    }
  }

  #keep(id: string, entry: Entry, answer: Answer): void {
    if (this.#entries.get(id) !== entry) return
    entry.bytes += answer.body.length
    this.#bytes += answer.body.length
    this.#expire()
  }

  #drop(id: string, entry: Entry): void {
    if (this.#entries.get(id) !== entry) return
    this.#entries.delete(id)
    this.#bytes -= entry.bytes
  }

  #expire(): void {
    const { idempotencyKeysMax, idempotencyBytesMax, idempotencyAgeMaxMs } = this.#context.limits
    const oldest = this.#context.env.clock.monotonicMs() - idempotencyAgeMaxMs
    for (const [id, entry] of this.#entries) {
      const tooMany = this.#entries.size > idempotencyKeysMax || this.#bytes > idempotencyBytesMax
      if (!tooMany && entry.sinceMs >= oldest) return
      this.#drop(id, entry)
    }
  }
}
