import http from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { asKymoError, errorTable, httpStatus, KymoError } from '../../core/errors.ts'
import type { FieldError } from '../../core/errors.ts'
import type { Logger } from '../../core/env.ts'
import type { CompatErrors } from './app-types.ts'

/** RFC 9457 problem details, with our own members. */
export interface Problem {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly detail: string
  readonly code: string
  /** KYMO-Ennn. */
  readonly id: string
  readonly request_id: string
  readonly errors?: readonly FieldError[]
  readonly facts?: Readonly<Record<string, string | number | boolean>>
  /** The seeds' reader looks here. */
  readonly error?: string
}

export const problemType = 'application/problem+json; charset=utf-8'

const ownFault = new Set(['overloaded', 'unavailable', 'corrupt', 'bug'])

/** What a client is told. Of a bug only that there was one: its message may carry paths or data. */
export function problemOf(error: KymoError, requestId: string, compat?: CompatErrors): Problem {
  const entry = errorTable[error.code]
  const hidden = error.kind === 'bug' || error.kind === 'corrupt'
  const detail = hidden ? entry.text : error.message
  const usual = httpStatus(error.code)
  const status = usual === 422 || error.code === 'request_invalid' ? (compat?.invalidStatus ?? usual) : usual
  return {
    type: `/docs#error-${error.code}`,
    title: entry.text,
    status,
    detail,
    code: error.code,
    id: entry.id,
    request_id: requestId,
    ...(error.details.errors === undefined ? {} : { errors: error.details.errors }),
    ...(error.details.facts === undefined || hidden ? {} : { facts: error.details.facts }),
    ...(compat === undefined ? {} : { error: ownFault.has(error.kind) ? compat.failed : compatText(error, detail) }),
  }
}

/** A problem document on a socket that has no request. */
export function answerBare(socket: Socket, error: KymoError): void {
  const problem = problemOf(error, '-')
  const body = JSON.stringify(problem)
  const retryAfter = retryAfterOf(error)
  const head = [
    `HTTP/1.1 ${problem.status} ${http.STATUS_CODES[problem.status] ?? ''}`,
    `content-type: ${problemType}`,
    `content-length: ${Buffer.byteLength(body)}`,
    ...(retryAfter === undefined ? [] : [`retry-after: ${retryAfter}`]),
    'x-content-type-options: nosniff',
    'cache-control: no-store',
    'connection: close',
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
}

/** S2's readers show one line: the field belongs into it. */
function compatText(error: KymoError, detail: string): string {
  const first = error.details.errors?.[0]
  if (first === undefined || first.pointer === '') return detail
  const field = `${first.pointer}: ${first.detail}`
  return detail.includes(first.detail) ? field : `${detail} ${field}`
}

export function retryAfterOf(error: KymoError): string | undefined {
  if (error.details.retryAfterS !== undefined) return String(Math.max(1, Math.ceil(error.details.retryAfterS)))
  if (error.kind === 'overloaded') return '1'
  return error.kind === 'unavailable' ? '5' : undefined
}

const fastifyCodes: Readonly<Record<string, ConstructorParameters<typeof KymoError>>> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: ['media_type'],
  FST_ERR_CTP_BODY_TOO_LARGE: ['body_too_large'],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: ['request_invalid', { detail: 'The body is not as long as Content-Length says.' }],
  FST_ERR_BAD_URL: ['request_invalid', { detail: 'The path is not a valid URL: a % must be followed by two hexadecimal digits of UTF-8.' }],
}

/** Fastify's own refusals keep their meaning; whatever else was thrown is a bug of ours. */
export function errorOf(thrown: unknown): KymoError {
  if (thrown instanceof KymoError) return thrown
  if (thrown instanceof Error) {
    const { code, statusCode } = thrown as Error & { code?: string; statusCode?: number }
    const known = code === undefined ? undefined : fastifyCodes[code]
    if (known !== undefined) return new KymoError(...known)
    if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) return new KymoError('request_invalid', { detail: thrown.message })
  }
  return asKymoError(thrown)
}

/** The one way an error leaves the door. */
export function sendProblem(request: FastifyRequest, reply: FastifyReply, thrown: unknown, logger: Logger): void {
  const error = errorOf(thrown)
  const problem = problemOf(error, request.id, request.routeOptions.config.compat)
  if (error.kind === 'bug' || error.kind === 'corrupt') {
    const stack = error.details.cause instanceof Error ? error.details.cause.stack : error.stack
    logger.error('request failed', { request: request.id, route: request.routeOptions.url, code: error.code, error: error.message, stack })
  }
  const retry = retryAfterOf(error)
  if (retry !== undefined) reply.header('retry-after', retry)
  if (problem.status === 401) reply.header('www-authenticate', 'Bearer realm="kymo"')
  if (problem.status === 405 && typeof error.details.facts?.['allow'] === 'string') reply.header('allow', error.details.facts['allow'])
  if (error.code === 'media_type') reply.header('accept-encoding', 'gzip, deflate, br, zstd')
  if (error.code === 'shutting_down') reply.header('connection', 'close')
  // A path that is no URL comes here without having passed any hook.
  reply.header('x-request-id', request.id).header('x-content-type-options', 'nosniff').header('cache-control', 'no-store')
  reply.code(problem.status).type(problemType).send(JSON.stringify(problem))
}
