import type { ConnectionOptions } from 'node:tls'
import type { Code } from '../core/errors.ts'
import { errorTable, KymoError } from '../core/errors.ts'
import type { CommonOptions } from './options.ts'
import { secureFetch, trust, trustHint } from './trust.ts'

export type QueryParameters = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>

/** An answer to a range query, as JSON columns. Row i is of series[columns.series[i]], at columns.time[i] (epoch ms, with fractions). */
export interface ColumnsAnswer {
  readonly from: string | null
  readonly to: string | null
  readonly step?: string
  readonly order: 'asc' | 'desc'
  readonly rows: number
  readonly truncated: boolean
  readonly next_cursor: string | null
  /** Of answers that have percentiles: at most how far each is from a reading, as a share of it. */
  readonly relative_error?: number
  /** A bucket has readings and no percentiles. */
  readonly partial?: boolean
  readonly series: readonly { readonly device: string; readonly metric: string; readonly unit?: string }[]
  readonly columns: { readonly time: readonly number[]; readonly series: readonly number[] } & Readonly<
    Record<string, readonly (number | string | boolean | null)[]>
  >
}

export interface ListAnswer<T> {
  readonly items: readonly T[]
  readonly next_cursor: string | null
}

const timeoutMs = 60_000

/** The HTTP API of one server. Throws KymoError: server_unreachable, or what its problem document says. */
export class Api {
  readonly base: URL
  readonly #token: string | undefined
  readonly #tls: ConnectionOptions | undefined

  /** `tls`: in place of what the command line says. */
  constructor(options: Pick<CommonOptions, 'url' | 'token'>, tls?: ConnectionOptions) {
    const text = options.url.includes('://') ? options.url : `http://${options.url}`
    const base = URL.parse(text)
    if (base === null || (base.protocol !== 'http:' && base.protocol !== 'https:')) {
      throw new KymoError('usage', { detail: `"${options.url}" is not an address of a server: http://host:port is expected` })
    }
    this.base = base
    this.#token = options.token
    this.#tls = tls
  }

  async json<T>(path: string, query: QueryParameters = {}): Promise<T> {
    const response = await this.request('GET', path, { query })
    return (await response.json()) as T
  }

  async post<T>(path: string, body: unknown): Promise<T> {
    const response = await this.request('POST', path, { body: JSON.stringify(body) })
    return (await response.json()) as T
  }

  async text(path: string, query: QueryParameters = {}, accept = 'text/plain'): Promise<string> {
    return (await this.request('GET', path, { query, accept })).text()
  }

  /** All pages of a list, one item at a time. */
  async *items<T>(path: string, query: QueryParameters): AsyncGenerator<T> {
    let cursor: string | undefined
    do {
      const page: ListAnswer<T> = await this.json(path, { ...query, cursor })
      yield* page.items
      cursor = page.next_cursor ?? undefined
    } while (cursor !== undefined)
  }

  /** The response when its status is 2xx; `signal` ends a stream, which has no time limit. */
  async request(
    method: 'GET' | 'POST' | 'DELETE',
    path: string,
    o: {
      readonly query?: QueryParameters
      readonly body?: string
      readonly accept?: string
      readonly signal?: AbortSignal
      readonly headers?: Readonly<Record<string, string>>
    } = {},
  ): Promise<Response> {
    const url = new URL(path, this.base)
    for (const [name, value] of Object.entries(o.query ?? {})) {
      if (Array.isArray(value)) for (const one of value as readonly string[]) url.searchParams.append(name, one)
      else if (value !== undefined) url.searchParams.set(name, String(value))
    }
    let response: Response
    try {
      const sent = {
        method,
        headers: {
          accept: o.accept ?? 'application/json',
          ...(this.#token === undefined ? {} : { authorization: `Bearer ${this.#token}` }),
          ...(o.body === undefined ? {} : { 'content-type': 'application/json' }),
          ...o.headers,
        },
        ...(o.body === undefined ? {} : { body: o.body }),
        signal: o.signal ?? AbortSignal.timeout(timeoutMs),
      }
      response = url.protocol === 'https:' ? await secureFetch(url, { ...sent, tls: this.#tls ?? trust() }) : await fetch(url, sent)
    } catch (thrown) {
      if (o.signal?.aborted === true) throw thrown
      const code = codeOf(thrown)
      const fix = trustHint(code)
      throw new KymoError('server_unreachable', {
        detail: `no Kymo server answers at ${this.base.origin}${because(thrown, code)}`,
        ...(fix === undefined ? {} : { facts: { fix } }),
        cause: thrown,
      })
    }
    if (!response.ok) throw problemOf(response.status, await response.text(), url.pathname)
    return response
  }
}

/** Of the socket: `fetch` hides it in the cause. */
function codeOf(thrown: unknown): string | undefined {
  for (const one of [thrown, thrown instanceof Error ? thrown.cause : undefined])
    if (one instanceof Error && 'code' in one && typeof one.code === 'string') return one.code
  return undefined
}

function because(thrown: unknown, code: string | undefined): string {
  if (!(thrown instanceof Error)) return ''
  if (thrown.name === 'TimeoutError' || (thrown.cause instanceof Error && thrown.cause.name === 'TimeoutError'))
    return `: nothing within ${timeoutMs / 1000} s`
  return code === undefined ? '' : `: ${code}`
}

/** RFC 9457 problem details with `code`, or whatever stands between us and the server said. */
export function problemOf(status: number, text: string, where: string): KymoError {
  let body: Readonly<Record<string, unknown>> = {}
  try {
    const parsed: unknown = JSON.parse(text)
    if (typeof parsed === 'object' && parsed !== null) body = parsed as Readonly<Record<string, unknown>>
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
  }
  const code = typeof body['code'] === 'string' && Object.hasOwn(errorTable, body['code']) ? (body['code'] as Code) : codeOfStatus(status)
  const said = [body['detail'], body['error'], body['title']].find((part) => typeof part === 'string')
  const detail = said ?? `${where} answered ${status}${text === '' ? '' : `: ${text.slice(0, 200)}`}`
  const errors = Array.isArray(body['errors']) ? (body['errors'] as { pointer: string; detail: string }[]) : undefined
  const requestId = body['request_id']
  return new KymoError(code, {
    detail,
    ...(errors === undefined ? {} : { errors }),
    facts: { status, ...(typeof requestId === 'string' ? { request_id: requestId } : {}) },
  })
}

function codeOfStatus(status: number): Code {
  if (status === 401) return 'unauthenticated'
  if (status === 403) return 'forbidden'
  if (status === 404) return 'not_found'
  if (status === 429) return 'rate_limited'
  if (status >= 500) return 'server_unreachable'
  return 'request_invalid'
}
