import type { GotPublish } from './model-client.ts'
import type { PublishOp, Qos, SubscribeOp } from './model-ops.ts'

/** Clocks of a test drift by what settling takes. */
export const toleranceMs = 1_000

/** How a subscription has a message delivered. */
export interface How {
  readonly qos: Qos
  readonly retain: boolean
  readonly identifiers: readonly number[]
}

/** The same message by way of a group, for a session that gets it once: surely, or when its turn comes. */
export interface Also extends How {
  readonly name: string
  readonly sure: boolean
}

/** A message that is due to a session. */
export interface Due extends How {
  readonly topic: string
  readonly payload: string
  readonly also?: readonly Also[]
  readonly expiresMs: number
  /** Those of one block come in any order; 0: in its place. */
  readonly block: number
  /** Of retained messages: the subscription that asked for it. */
  readonly filter: string
  /** It may come, or not. */
  optional: boolean
}

/** A message for one of several. */
export interface Shared {
  readonly name: string
  readonly due: Due
  /** Who may get it, and how. */
  readonly holders: Map<Session, How & { readonly also?: readonly Also[] }>
  /** Handed over after its first receiver was lost: how exactly is its own affair. */
  readonly loose: boolean
  optional: boolean
}

export interface Flight {
  readonly packetId: number
  readonly qos: number
  readonly due: Due
  readonly shared: Shared | undefined
  state: 'sent' | 'received'
  /** PUBREL came. */
  released: boolean
  /** It is to come again on this connection. */
  again: boolean
}

export interface Will {
  readonly payload: string
  readonly qos: Qos
  readonly retain: boolean
  readonly delayS: number
}

export interface Session {
  readonly client: string
  /** It may outlive its connection. */
  readonly stays: boolean
  expiryS: number
  five: boolean
  connected: boolean
  receiveMaximum: number
  readonly filters: Map<string, SubscribeOp>
  /** QoS 0. */
  live: Due[]
  /** QoS 1 and 2, not sent. */
  queue: Due[]
  retained: Due[]
  /** Subscriptions whose retained messages may not have been read yet. */
  readonly asked: Map<string, SubscribeOp>
  flights: Flight[]
  /** QoS 2 publishes of its own that are not released. */
  readonly inbound: Map<number, PublishOp & { readonly payload: string }>
  /** What the server has to answer on this connection, in no order. */
  readonly owed: string[]
  will: Will | undefined
  leftMs: number
  /** It left before the server had time for all that was under way: what is in the queue may have its packet id. */
  hurried: boolean
}

export function fits(filter: string, topic: string): boolean {
  const levels = filter.split('/')
  const names = topic.split('/')
  for (const [i, level] of levels.entries()) {
    if (level === '#') return true
    if (i >= names.length || (level !== '+' && level !== names[i])) return false
  }
  return levels.length === names.length
}

export const shareOf = (filter: string): { readonly name: string; readonly filter: string } | undefined => {
  const parts = filter.split('/')
  return parts[0] === '$share' ? { name: filter, filter: parts.slice(2).join('/') } : undefined
}

export const sameNumbers = (a: readonly number[], b: readonly number[]): boolean => a.length === b.length && a.every((one, i) => one === b[i])
export const lower = (a: Qos, b: Qos): Qos => (a < b ? a : b)

export function retainedDue(
  { filter, qos, identifier }: SubscribeOp,
  topic: string,
  message: { payload: string; qos: Qos; expiresMs: number },
  optional: boolean,
): Due {
  const { payload, expiresMs } = message
  const identifiers = identifier === 0 ? [] : [identifier]
  return { topic, payload, qos: lower(message.qos, qos), retain: true, identifiers, expiresMs, block: 0, filter, optional }
}

export function isWhat(due: Due, { five }: Session, got: GotPublish, nowMs: number): boolean {
  const { topic, payload, expiresMs } = due
  // It is not to be sent any more [MQTT-3.3.2-5], unless that had begun.
  if (!got.dup && expiresMs + toleranceMs < nowMs) return false
  if (payload !== got.payload || topic !== got.topic) return false
  return ways(due, due.also ?? []).some(
    ({ qos, retain, identifiers }) => qos === got.qos && retain === got.retain && (!five || sameNumbers(identifiers, got.identifiers)),
  )
}

/** Once for several subscriptions: at the highest QoS, with all identifiers. */
function ways(one: How, also: readonly Also[]): How[] {
  const [first, ...rest] = also
  if (first === undefined) return [one]
  const both: How = {
    qos: first.qos > one.qos ? first.qos : one.qos,
    retain: one.retain || first.retain,
    identifiers: [...one.identifiers, ...first.identifiers].toSorted((a, b) => a - b),
  }
  return [...ways(both, rest), ...(first.sure ? [] : ways(one, rest))]
}
