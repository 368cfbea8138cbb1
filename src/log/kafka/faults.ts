import { asKymoError, KymoError } from '../../core/errors.ts'

/** An error with all that it comes from: the client nests them by `errors` and by `cause`. */
function* causesOf(thrown: unknown, depth = 0): Generator<Error> {
  if (!(thrown instanceof Error) || depth > 8) return
  yield thrown
  if (thrown instanceof AggregateError) for (const one of thrown.errors) yield* causesOf(one, depth + 1)
  yield* causesOf(thrown.cause, depth + 1)
}

function text(error: object, name: string): string | undefined {
  const value: unknown = Reflect.get(error, name)
  return typeof value === 'string' ? value : undefined
}

/** Does an answer of the cluster say one of these (Kafka's protocol guide, "Error codes")? */
export function is(thrown: unknown, ...codes: readonly string[]): boolean {
  for (const error of causesOf(thrown)) {
    const code = text(error, 'apiId')
    if (code !== undefined && codes.includes(code)) return true
  }
  return false
}

/** Is it an answer of the cluster, and not the lack of one? */
export function answered(thrown: unknown): boolean {
  for (const error of causesOf(thrown)) if (text(error, 'apiId') !== undefined) return true
  return false
}

/** Who we are or what we may do is refused: waiting does not help, an operator does. */
function denied(error: Error): boolean {
  const code = text(error, 'apiId') ?? text(error, 'code') ?? ''
  return (
    code === 'PLT_KFK_AUTHENTICATION' ||
    code === 'SASL_AUTHENTICATION_FAILED' ||
    code === 'UNSUPPORTED_SASL_MECHANISM' ||
    code.endsWith('AUTHORIZATION_FAILED')
  )
}

/**
 * What the client throws, as something that is tried again: `log_denied` where the cluster refuses our credentials, rights or certificate, else
 * `log_unavailable`. The text has all that is known, the innermost last; the client never puts a password into one.
 */
export function unavailable(thrown: unknown): KymoError {
  if (thrown instanceof KymoError) return thrown
  const causes = [...causesOf(thrown)]
  const said = causes.flatMap((one) => [one.message, text(one, 'serverErrorMessage') ?? ''])
  const words = causes.length === 0 ? [asKymoError(thrown).message] : said.filter((one) => one !== '')
  const detail = `Kafka: ${[...new Set(words)].join(' ')}`.slice(0, 600)
  return new KymoError(causes.some(denied) ? 'log_denied' : 'log_unavailable', { detail, retryAfterS: 1 })
}
