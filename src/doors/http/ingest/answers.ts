import { errorTable, httpStatus, KymoError } from '../../../core/errors.ts'
import type { Code } from '../../../core/errors.ts'
import type { CompatErrors } from '../app-types.ts'
import { problemOf, problemType, retryAfterOf } from '../problem.ts'
import type { Outcome, Refusal } from './submit.ts'

/** An answer that is complete before it is sent, so that it can be given again for the same Idempotency-Key. */
export interface Answer {
  readonly status: number
  readonly type: string
  readonly body: string
  readonly retryAfter?: string
  /** The same request later may fare better: not to be kept. */
  readonly passing: boolean
}

export const jsonType = 'application/json; charset=utf-8'

export function jsonAnswer(status: number, body: unknown): Answer {
  return { status, type: jsonType, body: JSON.stringify(body), passing: false }
}

function isPassing(code: Code): boolean {
  const kind = errorTable[code].kind
  return kind === 'overloaded' || kind === 'unavailable'
}

/** An error as a complete answer, with further members. */
export function problemAnswer(error: KymoError, requestId: string, compat?: CompatErrors, more: Readonly<Record<string, unknown>> = {}): Answer {
  const problem = problemOf(error, requestId, compat)
  const retryAfter = retryAfterOf(error)
  return {
    status: problem.status,
    type: problemType,
    body: JSON.stringify({ ...problem, ...more }),
    passing: isPassing(error.code),
    ...(retryAfter === undefined ? {} : { retryAfter }),
  }
}

export interface Result {
  readonly index: number
  readonly status: number
  readonly code: Code
  readonly detail: string
  readonly errors?: KymoError['details']['errors']
}

function resultOf({ index, error }: Refusal, compat?: CompatErrors): Result {
  const status = httpStatus(error.code)
  const errors = error.details.errors
  return {
    index,
    status: status === 422 ? (compat?.invalidStatus ?? 422) : status,
    code: error.code,
    detail: error.message,
    ...(errors === undefined ? {} : { errors }),
  }
}

/** Counts and what was refused; the members that each batch answer has. */
export function tallyOf(
  outcome: Outcome,
  compat?: CompatErrors,
): { accepted: number; rejected: number; results?: Result[]; results_omitted?: number } {
  const rejected = outcome.items - outcome.accepted
  if (rejected === 0) return { accepted: outcome.accepted, rejected }
  const omitted = rejected - outcome.refusals.length
  return {
    accepted: outcome.accepted,
    rejected,
    results: outcome.refusals.map((refusal) => resultOf(refusal, compat)),
    ...(omitted === 0 ? {} : { results_omitted: omitted }),
  }
}

/** A partly refused batch can be sent again as a whole when what was refused was refused for lack of room. */
export function isPassingOutcome(outcome: Outcome): boolean {
  return outcome.refusals.some(({ error }) => isPassing(error.code))
}

/** When nothing of a body was taken: the error of its one message, or one that stands for all of the batch. */
export function nothingTaken(outcome: Outcome, requestId: string, compat?: CompatErrors): Answer {
  const first = outcome.refusals[0]!.error
  if (outcome.items === 1) return problemAnswer(first, requestId, compat, tallyOf(outcome, compat))
  const passing = outcome.refusals.find(({ error }) => isPassing(error.code))?.error
  const same = outcome.refusals.every(({ error }) => error.code === first.code)
  const error =
    passing ?? (same ? new KymoError(first.code, { detail: `None of the ${outcome.items} items was taken. The first: ${first.message}` }) : undefined)
  const stands = error ?? new KymoError('value_invalid', { detail: `None of the ${outcome.items} items was taken; results says why.` })
  const answer = problemAnswer(stands, requestId, compat, tallyOf(outcome, compat))
  // "422 none": a batch was parsed into items, whatever was wrong with each of them.
  return passing === undefined && answer.status === 400 && compat === undefined
    ? { ...answer, status: 422, body: answer.body.replace('"status":400', '"status":422') }
    : answer
}
