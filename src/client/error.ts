import type { Problem } from './schema.ts'

/** A field of the request that is wrong: an RFC 6901 pointer into the body, or the name of a parameter. */
export interface FieldError {
  readonly pointer?: string
  readonly detail?: string
}

/** What the server said, or why nothing was heard of it. */
export class KymoError extends Error {
  override readonly name = 'KymoError'
  /** See docs/reference/errors.md; by the client itself: `server_unreachable`, `answer_unexpected`, `batcher_full`, `batcher_closed`. */
  readonly code: string
  /** Of HTTP; 0 when there was no answer. */
  readonly status: number
  readonly detail: string
  readonly errors: readonly FieldError[]
  readonly requestId: string | undefined
  /** Seconds after which it may be tried again. */
  readonly retryAfter: number | undefined
  /** The problem document (RFC 9457) as it came, with members that only some errors have. */
  readonly problem: Readonly<Partial<Problem> & Record<string, unknown>>

  constructor(
    code: string,
    o: {
      readonly detail: string
      readonly status?: number
      readonly errors?: readonly FieldError[]
      readonly requestId?: string | undefined
      readonly retryAfter?: number | undefined
      readonly problem?: Readonly<Record<string, unknown>>
      readonly cause?: unknown
    },
  ) {
    super(o.detail, o.cause === undefined ? undefined : { cause: o.cause })
    this.code = code
    this.status = o.status ?? 0
    this.detail = o.detail
    this.errors = o.errors ?? []
    this.requestId = o.requestId
    this.retryAfter = o.retryAfter
    this.problem = o.problem ?? {}
  }
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function fieldErrors(value: unknown): FieldError[] {
  return Array.isArray(value) ? value.filter((one): one is FieldError => isObject(one)) : []
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}

function parsed(body: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(body)
    return isObject(value) ? value : {}
  } catch {
    // Not ours: a proxy's page, or plain text.
    return {}
  }
}

/** RFC 9110, 10.2.3: seconds, or a date. */
function retryAfterOf(header: string | null): number | undefined {
  if (header === null) return undefined
  const seconds = /^\s*\d+\s*$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000
  return Number.isNaN(seconds) ? undefined : Math.max(0, seconds)
}

const codes: Readonly<Record<number, string>> = { 401: 'unauthenticated', 403: 'forbidden', 404: 'not_found', 429: 'rate_limited' }

/** Reads a response that is no success: problem details with our `code`, or what something between us and the server said. */
export async function errorOf(response: Response): Promise<KymoError> {
  const { status, headers } = response
  const body = await response.text()
  const problem = parsed(body)
  const code = text(problem['code']) ?? codes[status] ?? (status >= 500 ? 'server_unreachable' : 'request_invalid')
  const said = text(problem['detail']) ?? text(problem['error']) ?? text(problem['message']) ?? body.slice(0, 200)
  return new KymoError(code, {
    status,
    detail: said === '' ? `The server answered ${status}.` : said,
    errors: fieldErrors(problem['errors']),
    requestId: text(problem['request_id']) ?? headers.get('x-request-id') ?? undefined,
    retryAfter: retryAfterOf(headers.get('retry-after')),
    problem,
  })
}

/** The same request later may fare better. */
export function isPassing({ status }: KymoError): boolean {
  return status === 0 || status === 429 || status === 502 || status === 503 || status === 504
}
