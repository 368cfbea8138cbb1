import { errorOf, isPassing, KymoError } from './error.ts'
import type { CallOptions, ClientOptions, RawBody } from './types.ts'

/** One operation, as operations.ts writes it: `METHOD answer path [type of the body, or -] [headers that are parameters]`. */
export interface Operation {
  readonly method: string
  readonly answer: string
  readonly path: string
  readonly bodyType: string | undefined
  readonly headers: readonly string[]
}

export type Values = Readonly<Record<string, unknown>>
export type Options = CallOptions & { readonly as?: 'text' | 'response' }
export type Send = (operation: Operation, values: Values, options?: Options) => Promise<unknown>

const timeoutMsDefault = 60_000
const retriesDefault = 3
/** Without Retry-After: this, doubled by each attempt, half of it by chance so that clients do not come back together. */
const backoffMs = 250
const backoffMsMax = 8_000
/** Who is told to come back later than this is told so, instead of being kept waiting. */
const waitMsMax = 60_000

export function operationOf(line: string): Operation {
  const [method = '', answer = '', path = '', bodyType = '-', ...headers] = line.split(' ')
  return { method, answer, path, bodyType: bodyType === '-' ? undefined : bodyType, headers }
}

/** What iterates over all pages of the list `name`: `list` has `all`, `listSeries` has `allSeries`, `summary` has `allSummary`. */
export function itemsName(name: string): string {
  return name.startsWith('list') ? `all${name.slice(4)}` : `all${name[0]?.toUpperCase()}${name.slice(1)}`
}

/** `idempotency-key` is the parameter idempotencyKey. */
function parameterOf(header: string): string {
  return header.replaceAll(/-(.)/g, (_, letter: string) => letter.toUpperCase())
}

/** randomUUID is missing in browsers where a page came without TLS. */
export function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('')
}

export function backoff(attempt: number): number {
  const most = Math.min(backoffMsMax, backoffMs * 2 ** attempt)
  return most / 2 + (Math.random() * most) / 2
}

/** Resolves after `ms`, or rejects with the signal's reason. */
export function wait(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      clearTimeout(timer)
      reject(signal?.reason as Error)
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', abort)
      resolve()
    }, ms)
    if (signal?.aborted === true) abort()
    else signal?.addEventListener('abort', abort, { once: true })
  })
}

function textOf(name: string, value: unknown): string {
  if (typeof value === 'string') return value
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  throw new TypeError(`${name} must be a text, a number or a boolean`)
}

/** A comma in a list's text separates names; within a name it is `\,`. */
function addQuery(query: URLSearchParams, name: string, value: unknown): void {
  if (Array.isArray(value)) for (const one of value) query.append(name, textOf(name, one).replaceAll(',', '\\,'))
  else if (value !== undefined && value !== null) query.append(name, textOf(name, value))
}

function isRaw(body: unknown): body is RawBody {
  return (
    typeof body === 'string' || body instanceof Uint8Array || body instanceof ArrayBuffer || body instanceof Blob || body instanceof URLSearchParams
  )
}

const accepted: Readonly<Record<string, string>> = { json: 'application/json', stream: 'text/event-stream' }

function because(thrown: unknown): string {
  const error = thrown instanceof Error && thrown.cause instanceof Error ? thrown.cause : thrown
  if (!(error instanceof Error)) return String(thrown)
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message
}

/** The one way to the server. */
export function transport(client: ClientOptions): Send {
  const base = String(client.url).replace(/\/+$/, '')
  const fetchOne = client.fetch ?? ((url, init) => fetch(url, init))
  if (!/^https?:\/\//.test(base)) throw new TypeError(`"${base}" is not the address of a server: http://host:port is expected`)

  function prepare(
    operation: Operation,
    values: Values,
    o: Options,
  ): { readonly url: string; readonly init: RequestInit; readonly repeatable: boolean } {
    const { body, ...rest } = values
    const headers = new Headers({ accept: o.as === undefined ? (accepted[operation.answer] ?? '*/*') : '*/*' })
    const query = new URLSearchParams()
    const inPath = new Set<string>()
    const path = operation.path.replaceAll(/\{([^}]+)\}/g, (_, name: string) => {
      inPath.add(name)
      const value = rest[name]
      // An empty part, or one of dots alone, would name another route.
      if (typeof value !== 'string' || /^\.{0,2}$/.test(value)) throw new TypeError(`${name} must be a text other than "", . and ..`)
      return encodeURIComponent(value)
    })
    const inHeader = new Map(operation.headers.map((header) => [parameterOf(header), header]))
    for (const [name, value] of Object.entries(rest)) {
      const header = inHeader.get(name)
      if (header !== undefined) {
        if (value !== undefined) headers.set(header, textOf(name, value))
      } else if (!inPath.has(name)) addQuery(query, name, value)
    }
    if (operation.headers.includes('idempotency-key') && !headers.has('idempotency-key')) headers.set('idempotency-key', newKey())
    if (client.token !== undefined) headers.set('authorization', `Bearer ${client.token}`)
    if (operation.bodyType !== undefined && body !== undefined) headers.set('content-type', operation.bodyType)
    for (const [name, value] of Object.entries({ ...client.headers, ...o.headers })) headers.set(name, value)
    const search = String(query)
    return {
      url: base + path + (search === '' ? '' : `?${search}`),
      init: { method: operation.method, headers, ...(body === undefined ? {} : { body: isRaw(body) ? body : JSON.stringify(body) }) },
      repeatable: !/^(?:POST|PATCH)$/.test(operation.method) || headers.has('idempotency-key'),
    }
  }

  async function once(url: string, init: RequestInit, answer: string, o: Options): Promise<unknown> {
    const { signal } = o
    const timeoutMs = o.timeoutMs ?? client.timeoutMs ?? timeoutMsDefault
    signal?.throwIfAborted()
    const stop = new AbortController()
    const abort = (): void => stop.abort(signal?.reason)
    signal?.addEventListener('abort', abort, { once: true })
    let late = false
    const timer = setTimeout(() => {
      late = true
      stop.abort()
    }, timeoutMs)
    let streaming = false
    try {
      const response = await fetchOne(url, { ...init, signal: stop.signal })
      o.onResponse?.(response)
      if (!response.ok) throw await errorOf(response)
      streaming = answer === 'response' || answer === 'stream'
      return await read(response, answer)
    } catch (thrown) {
      if (signal?.aborted === true) throw signal.reason
      if (thrown instanceof KymoError) throw thrown
      const why = late ? `nothing within ${timeoutMs} ms` : because(thrown)
      throw new KymoError('server_unreachable', { detail: `No answer from ${base}: ${why}`, cause: thrown })
    } finally {
      clearTimeout(timer)
      // A stream that is still to be read ends with its signal.
      if (!streaming) signal?.removeEventListener('abort', abort)
    }
  }

  return async (operation, values, o = {}) => {
    const { url, init, repeatable } = prepare(operation, values, o)
    const retries = repeatable ? (o.retries ?? client.retries ?? retriesDefault) : 0
    for (let attempt = 0; ; attempt++) {
      try {
        return await once(url, init, o.as ?? operation.answer, o)
      } catch (error) {
        if (!(error instanceof KymoError) || attempt >= retries || !isPassing(error)) throw error
        const ms = error.retryAfter === undefined ? backoff(attempt) : error.retryAfter * 1000
        if (ms > waitMsMax) throw error
        await wait(ms, o.signal)
      }
    }
  }
}

async function read(response: Response, answer: string): Promise<unknown> {
  if (answer === 'response' || answer === 'stream') return response
  const text = await response.text()
  if (answer === 'text') return text
  if (text === '') return undefined
  const type = response.headers.get('content-type') ?? ''
  if (/[/+]json\b/.test(type)) {
    const value: unknown = JSON.parse(text)
    return value
  }
  throw new KymoError('answer_unexpected', {
    status: response.status,
    detail: `The answer is ${type === '' ? 'of no type' : type}, not JSON; with { as: 'text' } it is given as it is.`,
  })
}
