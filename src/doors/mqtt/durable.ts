import type { SessionRecipient, SessionRef } from '../../core/session-store.ts'
import type { Outgoing, Qos, Subscriber } from './message.ts'
import type { SharedGroup } from './roster.ts'
import type { Readiness } from './shared.ts'

/** No session of the store. */
export const nobody: readonly SessionRecipient[] = []

/**
 * A session that the store keeps, as the topic tree knows it: the same one with and without a connection. Messages of QoS 1 and 2 are named for the
 * store, with the publication that they came with; those of QoS 0 go to the connection, or nowhere.
 */
export class DurableSession implements Subscriber {
  readonly kept = true
  readonly ref: SessionRef
  /** Recipients of the publication that is being delivered. */
  readonly #recipients: SessionRecipient[]
  #connection: Subscriber | undefined

  constructor(ref: SessionRef, recipients: SessionRecipient[]) {
    this.ref = ref
    this.#recipients = recipients
  }

  get connected(): boolean {
    return this.#connection !== undefined
  }

  /** Undefined: it is away. The tree is to be told. */
  set connection(to: Subscriber | undefined) {
    this.#connection = to
  }

  readiness(): Readiness {
    return this.#connection?.readiness() ?? 'away'
  }

  deliver(message: Outgoing, qos: Qos, retain: boolean, identifiers: readonly number[] | undefined, group?: SharedGroup<Subscriber>): void {
    if (qos === 0) this.#connection?.deliver(message, qos, retain, identifiers, group)
    else if (group === undefined && identifiers === undefined) this.#recipients.push({ session: this.ref, qos, retain })
    else
      this.#recipients.push({
        session: this.ref,
        qos,
        retain,
        identifiers: identifiers ?? [],
        ...(group === undefined ? {} : { group: group.filter }),
      })
  }
}
