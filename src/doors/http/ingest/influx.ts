import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Logger } from '../../../core/env.ts'
import { errorTable, httpStatus, type Kind, KymoError } from '../../../core/errors.ts'
import { errorOf, retryAfterOf, sendProblem } from '../problem.ts'
import { isPassingOutcome, jsonAnswer, tallyOf, type Answer } from './answers.ts'
import type { Outcome } from './submit.ts'

/** InfluxDB's two APIs differ in the words of their errors: v2 (`/api/v2/write`) and v1 (`/write`, `/query`). */
export type InfluxApi = 'v1' | 'v2'

/** Why the first so many lines were refused is said in the message itself; clients print it. */
const reasonsShown = 5
/** v1 clients read this header; it must be visible ASCII. */
const headerCharsMax = 300

/** The v2 API's own codes (its OpenAPI document, schema Error). */
const v2Codes: Readonly<Record<Kind, string>> = {
  invalid: 'invalid',
  denied: 'forbidden',
  missing: 'not found',
  conflict: 'conflict',
  overloaded: 'too many requests',
  unavailable: 'unavailable',
  corrupt: 'internal error',
  usage: 'invalid',
  bug: 'internal error',
}

function v2Code(error: KymoError): string {
  switch (httpStatus(error.code)) {
    case 401:
      return 'unauthorized'
    case 405:
      return 'method not allowed'
    case 413:
      return 'request too large'
    case 415:
      return 'unsupported media type'
    default:
      return v2Codes[error.kind]
  }
}

/** Errors of InfluxDB's routes in InfluxDB's form; ours stand beside it (`kymo_code`, `request_id`). */
export function influxErrorHandler(api: InfluxApi, logger: Logger): (thrown: unknown, request: FastifyRequest, reply: FastifyReply) => void {
  return (thrown, request, reply) => {
    const error = errorOf(thrown)
    // What is our own fault is logged and told without its facts, as everywhere.
    if (error.kind === 'bug' || error.kind === 'corrupt') return sendProblem(request, reply, thrown, logger)
    const status = httpStatus(error.code)
    const retry = retryAfterOf(error)
    if (retry !== undefined) reply.header('retry-after', retry)
    if (status === 401) reply.header('www-authenticate', 'Token realm="kymo", Basic realm="kymo"')
    if (error.code === 'media_type') reply.header('accept-encoding', 'gzip, deflate, br, zstd')
    if (error.code === 'shutting_down') reply.header('connection', 'close')
    const own = { kymo_code: error.code, request_id: request.id, ...(error.details.errors === undefined ? {} : { errors: error.details.errors }) }
    const body = api === 'v2' ? { code: v2Code(error), message: error.message, ...own } : { error: error.message, ...own }
    reply.code(status).type('application/json; charset=utf-8')
    addHeader(api, reply, v2Code(error), error.message)
    reply.send(JSON.stringify(body))
  }
}

function addHeader(api: InfluxApi, reply: FastifyReply, code: string, message: string): void {
  if (api === 'v2') reply.header('x-platform-error-code', code)
  else reply.header('x-influxdb-error', message.slice(0, headerCharsMax).replace(/[^\x20-\x7e]/g, '?'))
}

/**
 * What became of a body: 204 when all lines were taken. Else 400 `partial write: …`, which Telegraf does not send again: good lines are stored and
 * bad ones are in the dead letters. Lines that found no room are to be sent again: 429 or 503, with Retry-After.
 */
export function writeAnswer(api: InfluxApi, outcome: Outcome, reply: FastifyReply): Answer {
  const rejected = outcome.items - outcome.accepted
  if (rejected === 0) return { status: 204, type: 'text/plain; charset=utf-8', body: '', passing: false }
  const passing = outcome.refusals.find(({ error }) => error.kind === 'overloaded' || error.kind === 'unavailable')?.error
  const shown = outcome.refusals.slice(0, reasonsShown).map(({ error }) => error.message.replace(/\.$/, ''))
  const more = rejected > shown.length ? `; and ${rejected - shown.length} more` : ''
  const message = `partial write: ${rejected} of ${outcome.items} lines refused: ${shown.join('; ')}${more}`
  const code = passing === undefined ? 'invalid' : v2Code(passing)
  const status = passing === undefined ? 400 : httpStatus(passing.code)
  addHeader(api, reply, code, message)
  const body = { ...(api === 'v2' ? { code, message } : { error: message }), ...tallyOf(outcome) }
  const retryAfter = passing === undefined ? undefined : retryAfterOf(passing)
  return { ...jsonAnswer(status, body), passing: isPassingOutcome(outcome), ...(retryAfter === undefined ? {} : { retryAfter }) }
}

/** v1's refusal of a statement: its clients read `error`. */
export function statementRefused(statement: string): KymoError {
  const shown = JSON.stringify(statement.length > 60 ? `${statement.slice(0, 60)}…` : statement)
  return new KymoError('request_invalid', {
    detail: `${errorTable.request_invalid.text} Of InfluxQL only CREATE DATABASE is answered; ${shown} is not. Queries: GET /api/v1/query, POST /api/v1/sql.`,
    errors: [{ pointer: '/q', detail: 'must be CREATE DATABASE <name>' }],
  })
}
