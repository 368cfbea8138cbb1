import { isObject, isPassing, KymoError } from './error.ts'
import type { Reading } from './schema.ts'
import { backoff, wait } from './transport.ts'
import type { Operation, Send } from './transport.ts'

/** Readings as they become durable, or what is to be known of the stream. */
export type LiveEvent =
  /** The subscription stands: what becomes durable from now on will be told. Comes again after each reconnect. */
  | { readonly type: 'open' }
  | { readonly type: 'readings'; readonly id: string; readonly readings: readonly Reading[] }
  /**
   * Something is missing: `dropped` events, because they were not read fast enough, or what came after the event `since` and before the
   * connection stood again. It is in the store: ask `readings.query`.
   */
  | { readonly type: 'gap'; readonly since?: string; readonly dropped?: number }

export interface LiveOptions {
  /** Absent: all. */
  readonly devices?: readonly string[] | undefined
  /** Absent: all. */
  readonly metrics?: readonly string[] | undefined
  /** Ends the loop, without an error. */
  readonly signal?: AbortSignal | undefined
  /** The id of the last event that was seen, to go on behind it. */
  readonly lastEventId?: string | undefined
}

/** The server says something every 15 s; who is silent for three times as long has gone. */
const silenceMsMax = 45_000
/** An event holds the readings of one write of the log; more than this is not of our server. */
const lineCharsMax = 1 << 26

interface ServerEvent {
  readonly event: string
  readonly data: string
  readonly id: string | undefined
}

/** text/event-stream (HTML Living Standard, 9.2.6). Ends with the stream, or after too long a silence. */
async function* eventsOf(response: unknown): AsyncGenerator<ServerEvent, void, undefined> {
  if (!(response instanceof Response) || response.body === null) return
  const reader = response.body.getReader()
  const decoder = new TextDecoder()
  let rest = ''
  let event = ''
  let data: string[] = []
  let id: string | undefined
  try {
    for (;;) {
      const silence = setTimeout(() => void reader.cancel().catch(() => undefined), silenceMsMax)
      // A connection that breaks has ended.
      const { value, done } = await reader
        .read()
        .catch(() => ({ value: undefined, done: true as const }))
        .finally(() => clearTimeout(silence))
      if (done) return
      const text = decoder.decode(value, { stream: true })
      if (rest.length + text.length > lineCharsMax) throw new KymoError('answer_unexpected', { detail: 'An event of the live stream has no end.' })
      if (!text.includes('\n')) {
        rest += text
        continue
      }
      const lines = (rest + text).split('\n')
      rest = lines.pop() ?? ''
      for (const raw of lines) {
        const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw
        const colon = line.indexOf(':')
        const field = colon < 0 ? line : line.slice(0, colon)
        const said = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1)
        if (line === '') {
          yield { event, data: data.join('\n'), id }
          event = ''
          data = []
        } else if (field === 'event') event = said
        else if (field === 'data') data.push(said)
        else if (field === 'id') id = said
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined)
  }
}

function parsed({ event, data, id }: ServerEvent): LiveEvent | undefined {
  if (data === '' || (event !== 'readings' && event !== 'gap')) return undefined
  const document: unknown = JSON.parse(data)
  if (!isObject(document)) return undefined
  if (event === 'readings') {
    return Array.isArray(document['readings']) ? { type: 'readings', id: id ?? '', readings: document['readings'] as Reading[] } : undefined
  }
  const { since, dropped } = document
  return {
    type: 'gap',
    ...(typeof since === 'string' ? { since } : {}),
    ...(typeof dropped === 'number' ? { dropped } : {}),
  }
}

/** Ids are places in the log: decimal numbers that grow. */
function isAfter(id: string, last: string): boolean {
  return !/^\d+$/.test(id) || !/^\d+$/.test(last) || BigInt(id) > BigInt(last)
}

/**
 * Subscribes, and again whenever the connection ends, from where it was. The first connection is tried as often as any call; once it has
 * stood, the server is waited for without end. Throws KymoError for what will not pass (401, 422).
 */
export async function* live(send: Send, operation: Operation, o: LiveOptions, retries: number): AsyncGenerator<LiveEvent, void, undefined> {
  const { signal } = o
  let last = o.lastEventId
  let stood = false
  let anew = false
  let failures = 0
  try {
    for (;;) {
      // Of this connection alone: a signal that outlives many of them keeps nothing of those that are gone.
      const connection = new AbortController()
      const abort = (): void => connection.abort(signal?.reason)
      signal?.throwIfAborted()
      signal?.addEventListener('abort', abort)
      let waitMs = 0
      try {
        const headers = last === undefined ? {} : { 'last-event-id': last }
        const response = await send(operation, { device: o.devices, metric: o.metrics }, { signal: connection.signal, headers, retries: 0 })
        // Nothing had been heard yet that could be gone on from.
        if (stood && last === undefined) yield { type: 'gap' }
        stood = true
        yield { type: 'open' }
        for await (const event of eventsOf(response)) {
          failures = 0
          const told = parsed(event)
          // Behind a gap any place is a new beginning: the server's data may have been replaced.
          if (told?.type === 'gap' && told.since !== undefined) anew = true
          const again = told?.type === 'readings' && !anew && last !== undefined && !isAfter(told.id, last)
          if (told?.type === 'readings') anew = false
          if (event.id !== undefined && !again) last = event.id
          if (told !== undefined && !again) yield told
        }
      } catch (error) {
        if (!(error instanceof KymoError) || !isPassing(error) || (!stood && failures >= retries)) throw error
        waitMs = (error.retryAfter ?? 0) * 1000
      } finally {
        signal?.removeEventListener('abort', abort)
        connection.abort()
      }
      await wait(waitMs + backoff(failures++), signal)
    }
  } catch (error) {
    if (signal?.aborted !== true) throw error
  }
}
