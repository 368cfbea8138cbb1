import { KymoError } from '../core/errors.ts'
import type { IngestGate } from '../core/gate.ts'

/** What is asked of a part that this process does not have. */
export function otherRole(roles: Iterable<string>): KymoError {
  return new KymoError('other_role', { detail: `This process has the roles ${[...roles].join(', ')}, and that is for another one.` })
}

/**
 * In place of a service that no route of this process reaches: whoever reaches it all the same is told. It stands for any type, since nothing can be
 * had of it.
 */
export function absent(error: KymoError): never {
  const get = (): never => {
    throw error
  }
  return new Proxy({}, { get }) as never
}

/** The gate of a process that takes nothing. */
export function closedGate(error: KymoError): IngestGate {
  return {
    submit: () => 0,
    deadLetter: () => 0,
    refusal: error,
    takenUs: 0,
    durable: 0,
    overloaded: false,
    stalled: undefined,
    onDurable: () => () => undefined,
    whenDurable: () => Promise.reject(error),
  }
}
