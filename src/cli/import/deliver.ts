import { setTimeout as delay } from 'node:timers/promises'
import type { KymoError } from '../../core/errors.ts'
import { KymoError as Failure } from '../../core/errors.ts'
import { problemOf } from '../api.ts'
import { HttpSender } from '../http-sender.ts'
import type { Position } from './source.ts'

/** A row that was not taken: by the mapping, or (with a code) by the server. */
export interface Reject {
  readonly line: number
  readonly reason: string
  readonly code?: string
  readonly record: string
}

/** What goes to the server at once. */
export interface ImportBatch {
  readonly messages: readonly string[]
  /** Of each message's first row. */
  readonly lines: readonly number[]
  readonly readings: readonly number[]
  readonly rows: number
  /** Rows that the mapping rejected. */
  readonly rejects: readonly Reject[]
  /** For messages that carry no time of their own: a redelivery is known by it. */
  readonly idempotencyKey?: string
  /** Everything before it is in this batch or an earlier one. */
  readonly after?: Position
}

/** What became of a batch; told in the order of the file. */
export interface Settled {
  readonly batch: ImportBatch
  readonly accepted: number
  readonly acceptedReadings: number
  readonly rejects: readonly Reject[]
}

interface Waiting {
  readonly batch: ImportBatch
  result: Settled | undefined
}

/** Answered with nothing but "later" for so long: it is given up; what was sent stays, and --resume goes on. */
const patienceMs = 60_000
const backoffMaxMs = 5_000
const connections = 4

/**
 * Sends batches over a few connections and settles them in order. A busy server (429, 503, or items refused for lack of room) is asked again
 * with growing waits: sending twice does no harm, a reading is known by device, metric and time.
 */
export class Delivery {
  readonly #sender: HttpSender
  readonly #onSettled: (settled: Settled) => void
  readonly #signal: AbortSignal
  readonly #queue: Waiting[] = []
  readonly #underWay = new Set<Promise<void>>()
  #progressMs = performance.now()
  #failed: KymoError | undefined
  /** Times that the server asked to come again. */
  retries = 0

  constructor(o: {
    readonly url: string
    readonly token: string | undefined
    readonly signal: AbortSignal
    readonly onSettled: (settled: Settled) => void
  }) {
    this.#sender = new HttpSender({
      url: o.url,
      connections,
      contentType: 'application/x-ndjson',
      ...(o.token === undefined ? {} : { token: o.token }),
    })
    this.#onSettled = o.onSettled
    this.#signal = o.signal
  }

  /** Resolves when there is room for one more. Rejects with what ended the delivery. */
  async send(batch: ImportBatch): Promise<void> {
    if (this.#underWay.size >= connections) await Promise.race(this.#underWay)
    // One batch that waits for the server must not let those behind it pile up.
    while (this.#queue.length >= 4 * connections && this.#failed === undefined) await Promise.race(this.#underWay)
    if (this.#failed !== undefined) throw this.#failed
    const waiting: Waiting = { batch, result: undefined }
    this.#queue.push(waiting)
    const sending: Promise<void> = this.#deliver(waiting).finally(() => {
      this.#underWay.delete(sending)
      this.#settle()
    })
    this.#underWay.add(sending)
  }

  /** Waits for every answer. Rejects with what ended the delivery; what was settled before stays so. */
  async end(): Promise<void> {
    await Promise.all(this.#underWay)
    await this.#sender.end(0)
    if (this.#failed !== undefined) throw this.#failed
  }

  #settle(): void {
    while (this.#queue[0]?.result !== undefined) this.#onSettled(this.#queue.shift()!.result!)
  }

  async #deliver(waiting: Waiting): Promise<void> {
    const { batch } = waiting
    if (batch.messages.length === 0) {
      waiting.result = { batch, accepted: 0, acceptedReadings: 0, rejects: batch.rejects }
      return
    }
    const body = Buffer.from(batch.messages.join('\n'))
    const headers = batch.idempotencyKey === undefined ? undefined : { 'idempotency-key': batch.idempotencyKey }
    for (let attempt = 0; this.#failed === undefined; attempt++) {
      const answer = await this.#post(body, headers)
      const results = answer.status === 207 || answer.status === 422 ? resultsOf(answer.text) : []
      if (!isPassing(answer.status, results)) {
        this.#progressMs = performance.now()
        this.#take(waiting, answer, results)
        return
      }
      this.retries++
      const stuckMs = performance.now() - this.#progressMs
      if (stuckMs > patienceMs || this.#signal.aborted) {
        this.#failed ??= new Failure('server_unreachable', {
          detail: `the server has taken nothing for ${Math.round(stuckMs / 1_000)} s: ${answer.problem}`,
        })
        return
      }
      await delay(Math.min(backoffMaxMs, 50 * 2 ** Math.min(attempt, 10)) * (0.5 + Math.random() / 2))
    }
  }

  #post(body: Buffer, headers: Readonly<Record<string, string>> | undefined): Promise<{ status: number; problem: string; text: string }> {
    return new Promise((resolve) => {
      const taken = this.#sender.post(body, (status, problem, text) => resolve({ status, problem, text }), headers)
      if (!taken) resolve({ status: 429, problem: 'too many requests wait', text: '' })
    })
  }

  #take(waiting: Waiting, answer: { readonly status: number; readonly text: string }, results: readonly Result[]): void {
    const { batch } = waiting
    const { status, text } = answer
    if (status >= 200 && status < 300 && status !== 207) {
      waiting.result = { batch, accepted: batch.messages.length, acceptedReadings: sum(batch.readings), rejects: batch.rejects }
      return
    }
    if (results.length === 0 && (status !== 422 || batch.messages.length > 1)) {
      // Refused as a whole: wrong credentials, another program on this port, a limit that no batch of ours should reach.
      this.#failed ??= problemOf(status, text, '/api/v1/telemetry')
      return
    }
    const refused: readonly Result[] = results.length === 0 ? [{ index: 0, detail: problemOf(status, text, '').message }] : results
    const gone = new Set(refused.map(({ index }) => index))
    const rejects = refused.map(({ index, detail, code }): Reject => {
      const message = { line: batch.lines[index] ?? 0, reason: detail, record: batch.messages[index] ?? '' }
      return code === undefined ? message : { ...message, code }
    })
    waiting.result = {
      batch,
      accepted: batch.messages.length - gone.size,
      acceptedReadings: sum(batch.readings.filter((_, index) => !gone.has(index))),
      rejects: [...batch.rejects, ...rejects].sort((a, b) => a.line - b.line),
    }
  }
}

function sum(values: readonly number[]): number {
  let total = 0
  for (const value of values) total += value
  return total
}

interface Result {
  readonly index: number
  readonly detail: string
  readonly status?: number
  readonly code?: string
}

function isPassing(status: number, results: readonly Result[]): boolean {
  return status === 0 || status === 429 || status >= 500 || results.some((item) => item.status === 429 || item.status === 503)
}

/** The items of a bulk answer that were refused. */
function resultsOf(text: string): Result[] {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (error) {
    if (error instanceof SyntaxError) return []
    throw error
  }
  if (typeof parsed !== 'object' || parsed === null || !('results' in parsed) || !Array.isArray(parsed.results)) return []
  return parsed.results.flatMap((item: unknown) => {
    if (typeof item !== 'object' || item === null || !('index' in item) || typeof item.index !== 'number') return []
    return [
      {
        index: item.index,
        detail: 'detail' in item && typeof item.detail === 'string' ? item.detail : 'refused',
        ...('status' in item && typeof item.status === 'number' ? { status: item.status } : {}),
        ...('code' in item && typeof item.code === 'string' ? { code: item.code } : {}),
      },
    ]
  })
}
