import type { KymoError } from './errors.ts'
import type { SessionMessage } from './session-store.ts'

/** A filter to which somebody of a process has subscribed, `$share/group/` included: what the others are told of it. */
export interface Interest {
  readonly tenant: string
  readonly filter: string
}

/** An Application Message on its way from the process that took it to another one. */
export interface RoutedMessage extends SessionMessage {
  /** RETAIN of the publication, for subscriptions that ask for it as published (MQTT 5, 3.3.1.3). What is retained, the session store keeps. */
  readonly retain: boolean
}

/** Who is to get a message. */
export interface RouteTo {
  readonly node: string
  /** `$share/group/filter`: one member of it there. Absent: all who subscribed there by filters of their own, each of them once. */
  readonly share?: string | undefined
}

/** What a process is told: one call after the other, in the order of things at each of the others, and none within a call of this process's own. */
export interface RoutingHandlers {
  /** Somebody at another process is interested; told again, it changes nothing. */
  interested(node: string, interest: Interest): void
  withdrawn(node: string, interest: Interest): void
  /** A process has ended, and all its interest with it. */
  gone(node: string): void
  /**
   * A message for subscribers here, lent for the call. The promise resolves once what is to outlive this process is durable; undefined: nothing is to.
   * It does not wait for subscribers. A rejection is for what ends this process: until it is gone the message, and what follows it, is not safe.
   */
  deliver(message: RoutedMessage, share: string | undefined): Promise<void> | undefined
}

/**
 * Messages from process to process: who is interested in what, and the way there. Each process names those that a message is for; none is told its own
 * interest, or gets what it has published itself. What one process publishes for another arrives in that order. Durability is told by tickets, as the
 * ingest gate tells it: a message is safe, with all before it, once `durable >= ticket`: it reaches its process although this one dies, or was taken
 * there. What is `overloaded` is to be asked before a message is taken from a client: `publish` itself refuses nothing.
 */
export interface Routing {
  /** The name of this process among the others. */
  readonly node: string
  /** Takes part from now on; once. Resolves when `handlers` has been told what interest there is. */
  join(handlers: RoutingHandlers): Promise<void>
  /** Once for each filter, whoever subscribes to it. Returns the ticket to wait for before SUBACK: what is published elsewhere afterwards comes here. */
  announce(interest: Interest): number
  /** Nobody here is interested any more. What is on its way may still come. */
  withdraw(interest: Interest): void
  /** Lends `message` for the call. Returns the ticket to wait for before PUBACK or PUBREC. To a process that is gone: nothing happens. */
  publish(to: RouteTo, message: RoutedMessage): number
  readonly durable: number
  /** More is on its way than may be: nothing of QoS 1 and 2 is to be taken for other processes. */
  readonly overloaded: boolean
  /** Why nothing becomes durable at the moment; undefined when it does. */
  readonly stalled: KymoError | undefined
  /** Calls `listener` when more has become durable, and when overload ends. Returns the way to stop. */
  onDurable(listener: (durable: number) => void): () => void
  /** Takes no part any more: the others are told that this process is gone. */
  close(): Promise<void>
}
