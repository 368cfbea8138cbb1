import { KymoError } from '../../../core/errors.ts'
import type { IngestGate, MessageContext } from '../../../core/gate.ts'
import { limits } from '../../../core/limits.ts'
import type { HttpContext } from '../options.ts'
import { Slices } from '../slices.ts'
import type { Items } from './items.ts'

export interface Refusal {
  readonly index: number
  readonly error: KymoError
}

/** What became of the items of one body, all of it durable (the dead letters of refused ones too). */
export interface Outcome {
  readonly items: number
  readonly accepted: number
  /** Time of the last item that was taken, as it is stored; epoch microseconds. Undefined when none was. */
  readonly timeUs?: number | undefined
  /** The first `resultsMax` that were refused. */
  readonly refusals: readonly Refusal[]
}

/** Looking at the clock costs 30 ns: not for each item, unless items are large. */
const clockEvery = 32
const clockEveryBytes = 4_096
/** What a slice decodes is encoded for the log in a later turn, beside another slice: formats that decode fast end theirs sooner. */
const sliceBytesMax = 128 * 1024

function overloadError(gate: IngestGate): KymoError {
  return gate.stalled ?? gate.refusal ?? new KymoError('overloaded', { retryAfterS: 1 })
}

/** Resolves when the gate takes messages again, or with false: it is stalled, or `timeoutMs` are over. */
function roomAgain(context: HttpContext, timeoutMs: number): Promise<boolean> {
  const { gate, env } = context
  return new Promise((resolve) => {
    const finish = (room: boolean): void => {
      stop()
      timer.cancel()
      resolve(room && gate.stalled === undefined)
    }
    const timer = env.clock.after(Math.max(0, timeoutMs), () => finish(false))
    const stop = gate.onDurable(() => {
      if (!gate.overloaded) finish(true)
    })
  })
}

/** The log's own words, and what the sender has to know: its readings are under way, and may be sent again. */
function notDurableYet(stalled: KymoError): KymoError {
  const detail =
    `${stalled.message} What was sent may still become durable; send it again until it is answered with success: a reading with its ` +
    'own time counts once, and under the same Idempotency-Key one without a time does too.'
  return new KymoError(stalled.code, { ...stalled.details, detail })
}

/**
 * Resolves when the ticket is durable. Rejects with what the log says when it is stalled at two looks in a row, and after
 * `durableTimeoutMs` in any case.
 */
function durable({ env, gate, limits }: HttpContext, ticket: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let stalledBefore = false
    let looks = Math.ceil(limits.durableTimeoutMs / limits.stalledLookMs)
    const look = (): void => {
      const { stalled } = gate
      if (stalled !== undefined && stalledBefore) return reject(notDurableYet(stalled))
      stalledBefore = stalled !== undefined
      if (--looks > 0) timer = env.clock.after(limits.stalledLookMs, look)
    }
    let timer = env.clock.after(limits.stalledLookMs, look)
    gate
      .whenDurable(ticket, limits.durableTimeoutMs)
      .finally(() => timer.cancel())
      .then(resolve, reject)
  })
}

/** One body on its way through the gate. */
class Submission {
  readonly #context: HttpContext
  readonly #message: MessageContext
  readonly #bytes: Uint8Array
  readonly #refusals: Refusal[] = []
  #accepted = 0
  /** Refused since all was durable. */
  #refused = 0
  #timeUs: number | undefined
  #last = 0
  /** When waiting for room ends; all waits of a body together. */
  #waitUntilMs = Infinity
  /** Set once waiting for room was in vain: what then remains is refused with it. */
  #noRoom: KymoError | undefined

  constructor(context: HttpContext, message: MessageContext, bytes: Uint8Array) {
    this.#context = context
    this.#message = message
    this.#bytes = bytes
  }

  /** False: there is no room, the item has to be offered again. */
  offer(items: Items): boolean {
    const { gate } = this.#context
    if (this.#noRoom !== undefined) {
      this.#refuse(items.index, this.#noRoom)
      return true
    }
    this.#message.item = items.index
    if (items.line !== undefined) this.#message.line = items.line
    const { refusal: unsplit } = items
    const ticket =
      unsplit === undefined
        ? gate.submit(this.#message, this.#bytes, items.start, items.end)
        : gate.deadLetter(this.#message, unsplit, this.#bytes.subarray(items.start, items.end), items.end - items.start)
    if (ticket === 0) return false
    this.#last = ticket
    const refusal = unsplit ?? gate.refusal
    if (refusal === undefined) {
      this.#accepted++
      this.#timeUs = gate.takenUs
    } else {
      this.#refused++
      this.#refuse(items.index, refusal)
    }
    return true
  }

  async waitForRoom(): Promise<void> {
    const { env, gate, limits } = this.#context
    const error = overloadError(gate)
    if (this.#last === 0) throw error
    const now = env.clock.monotonicMs()
    if (this.#waitUntilMs === Infinity) this.#waitUntilMs = now + limits.durableTimeoutMs
    if (!(await roomAgain(this.#context, this.#waitUntilMs - now))) this.#noRoom = gate.stalled ?? error
  }

  /** So many dead letters of this body wait for durability that `durable` is to be awaited before the next item. */
  get letters(): boolean {
    return this.#refused >= limits.httpRefusedPendingMax
  }

  async durable(): Promise<void> {
    await durable(this.#context, this.#last)
    this.#refused = 0
  }

  async outcome(items: number): Promise<Outcome> {
    if (this.#last > 0) await durable(this.#context, this.#last)
    return { items, accepted: this.#accepted, timeUs: this.#timeUs, refusals: this.#refusals }
  }

  #refuse(index: number, error: KymoError): void {
    if (this.#refusals.length < this.#context.limits.resultsMax) this.#refusals.push({ index, error })
  }
}

/**
 * Hands the items of a body to the gate, one after the other, and waits until all that was taken is durable. The loop is flat and gives
 * the event loop back every few milliseconds. When the gate is overloaded: a body of which nothing was taken is refused at once
 * (`overloaded`); otherwise room is waited for, and what still finds none is refused item by item.
 */
export async function submitItems(context: HttpContext, message: MessageContext, bytes: Uint8Array, items: Items): Promise<Outcome> {
  const submission = new Submission(context, message, bytes)
  const slices = new Slices(context)
  let count = 0
  let lookAt = items.start + clockEveryBytes
  let pauseAt = items.start + sliceBytesMax
  while (items.next()) {
    if (items.skipping === true) {
      if (slices.over) await slices.pause()
      continue
    }
    count++
    while (!submission.offer(items)) {
      await submission.waitForRoom()
      slices.restart()
    }
    if (submission.letters) {
      await submission.durable()
      slices.restart()
    }
    if (items.index % clockEvery !== clockEvery - 1 && items.end < lookAt) continue
    lookAt = items.end + clockEveryBytes
    if (!slices.over && items.end < pauseAt) continue
    await slices.pause()
    pauseAt = items.end + sliceBytesMax
  }
  return submission.outcome(count)
}

/** Keeps what no decoder saw, durably, before its sender is told. */
export async function keepUnread(
  context: HttpContext,
  message: MessageContext,
  error: KymoError,
  bytes: Uint8Array,
  totalBytes: number,
): Promise<void> {
  const { gate } = context
  if (bytes.length === 0) return
  const ticket = gate.deadLetter(message, error, bytes, totalBytes)
  if (ticket === 0) throw overloadError(gate)
  await durable(context, ticket)
}
