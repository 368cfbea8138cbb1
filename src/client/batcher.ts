import { isObject, KymoError } from './error.ts'
import type { FieldError } from './error.ts'
import type { TelemetryAnswer } from './schema.ts'
import { backoff, newKey, wait } from './transport.ts'

/** A message in any of the shapes of docs/reference/payloads.md; `device_id` or the like names the device. */
export type Message = Readonly<Record<string, unknown>>

export interface BatcherOptions {
  /** Messages of one request; 500 when absent, at most 1,000: the server tells so many refusals one by one. */
  readonly maxItems?: number | undefined
  /** How long a message may wait for company, in ms; 100 when absent. */
  readonly maxDelayMs?: number | undefined
  /** Messages that wait or are under way; 10,000 when absent. More are refused with `batcher_full`. */
  readonly maxQueued?: number | undefined
  /** Ends what waits: it rejects with the signal's reason. What is under way may have been stored. */
  readonly signal?: AbortSignal | undefined
}

export interface Batcher {
  /** Resolves when the message is durable; rejects with KymoError when it was refused, or could not be sent. */
  add(message: Message): Promise<void>
  /** Sends what waits, now; resolves when all that was added before is settled, also when some of it was refused. */
  flush(): Promise<void>
  /** `flush`, and refuses what comes later with `batcher_closed`. */
  close(): Promise<void>
  /** Messages that wait or are under way. */
  readonly size: number
}

/** Sends a JSON array under a key of its own; rejects with KymoError. */
export type SendArray = (body: string, idempotencyKey: string, signal: AbortSignal | undefined) => Promise<TelemetryAnswer>

const itemsDefault = 500
const itemsMax = 1_000
const delayMsDefault = 100
const queuedDefault = 10_000
/** Far below what the server takes in one body. */
const bytesMax = 1 << 20

interface Waiting {
  readonly text: string
  resolve(): void
  reject(reason: unknown): void
}

interface Refusal {
  readonly index: number
  readonly status: number
  readonly code: string
  readonly detail: string
  readonly errors?: readonly FieldError[]
}

function refusalsOf(results: unknown): Map<number, Refusal> {
  const list = Array.isArray(results) ? (results as unknown[]) : []
  const refusals = list.filter((one): one is Refusal => isObject(one) && typeof one['index'] === 'number' && typeof one['code'] === 'string')
  return new Map(refusals.map((refusal) => [refusal.index, refusal]))
}

const passing = new Set([429, 503])

/**
 * Gathers messages into requests, one under way at a time, in the order of `add`. What is refused for lack of room is sent again with its
 * neighbours under the same Idempotency-Key, under which each counts once.
 */
export function batcher(send: SendArray, o: BatcherOptions, retries: number): Batcher {
  const { signal } = o
  const most = Math.max(1, Math.min(itemsMax, o.maxItems ?? itemsDefault))
  const queuedMax = o.maxQueued ?? queuedDefault
  let queue: Waiting[] = []
  let size = 0
  let closed = false
  let timer: ReturnType<typeof setTimeout> | undefined
  let running: Promise<void> | undefined

  async function sendAll(batch: readonly Waiting[]): Promise<void> {
    const body = `[${batch.map((item) => item.text).join(',')}]`
    const key = newKey()
    let refused: Map<number, Refusal>
    for (let attempt = 0; ; attempt++) {
      refused = refusalsOf((await send(body, key, signal).catch(refusalsOfError)).results)
      const noRoom = [...refused.values()].some((refusal) => passing.has(refusal.status))
      if (!noRoom || attempt >= retries) break
      await wait(backoff(attempt), signal)
    }
    batch.forEach((item, index) => {
      const refusal = refused.get(index)
      if (refusal === undefined) item.resolve()
      else item.reject(new KymoError(refusal.code, refusal))
    })
  }

  function take(): Waiting[] {
    let count = 0
    let chars = 0
    while (count < queue.length && count < most && (count === 0 || chars + queue[count]!.text.length <= bytesMax))
      chars += queue[count++]!.text.length
    const batch = queue.slice(0, count)
    queue = queue.slice(count)
    return batch
  }

  async function run(untilEmpty: boolean): Promise<void> {
    clearTimeout(timer)
    timer = undefined
    // Whoever calls has noted that it runs before it can have ended; what is added in the same turn comes along.
    await Promise.resolve()
    do {
      const batch = take()
      try {
        await sendAll(batch)
      } catch (error) {
        for (const item of batch) item.reject(error)
      }
      size -= batch.length
    } while (queue.length >= most || (untilEmpty && queue.length > 0))
    running = undefined
    later()
  }

  function later(): void {
    if (running !== undefined || queue.length === 0) return
    if (queue.length >= most || signal?.aborted === true) running = run(false)
    else timer ??= setTimeout(() => (running ??= run(false)), o.maxDelayMs ?? delayMsDefault)
  }

  async function flush(): Promise<void> {
    const until = queue.at(-1)
    while (running !== undefined) await running
    if (until !== undefined && queue.includes(until)) await (running = run(true))
  }

  signal?.addEventListener('abort', () => void flush(), { once: true })
  return {
    add(message) {
      if (closed) return Promise.reject(new KymoError('batcher_closed', { detail: 'The batcher has been closed.' }))
      if (size >= queuedMax) {
        const detail = `${size} messages wait already: await some of them, or send more slowly.`
        return Promise.reject(new KymoError('batcher_full', { detail }))
      }
      return new Promise<void>((resolve, reject) => {
        const text = JSON.stringify(message)
        size++
        queue.push({ text, resolve, reject })
        later()
      })
    },
    flush,
    close() {
      closed = true
      return flush()
    },
    get size() {
      return size
    },
  }
}

/** When none was taken, the problem document tells of each; otherwise it is about all of them. */
function refusalsOfError(error: unknown): { readonly results: unknown } {
  if (error instanceof KymoError && Array.isArray(error.problem['results'])) return { results: error.problem['results'] }
  throw error
}
