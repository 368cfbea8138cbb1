import type { Clock } from '../../core/env.ts'
import type { SessionRecipient } from '../../core/session-store.ts'
import type { MessageArray } from '../../wire/message-array.ts'
import { copyBytes } from '../../wire/mqtt/text.ts'
import type { PublishProperties } from '../../wire/mqtt/v5/publish.ts'
import { ReasonCode } from '../../wire/mqtt/v5/reason.ts'
import type { Budget } from './budget.ts'
import { nobody } from './durable.ts'
import { Fifo } from './fifo.ts'
import type { LargeFanout } from './large-fanout.ts'
import { keepProperties, noneKept } from './message.ts'
import type { KeptProperties } from './message.ts'
import type { Route } from './routes.ts'

/**
 * What is to be done next with a PUBLISH. `offer`: the gate is to take it. `route`: it is to be delivered. `store`: the session store is to keep it for
 * sessions, or as retained. `answer`: nothing but its acknowledgement is left.
 */
export type Stage = 'offer' | 'route' | 'store' | 'answer'

/** A PUBLISH on its way through the door. In hand its bytes and properties are borrowed from the packet; held they are copies. */
export interface Arrival {
  stage: Stage
  route: Route
  flags: number
  packetId: number
  /** The payload is bytes[start, end). */
  bytes: Uint8Array
  start: number
  end: number
  properties: PublishProperties | KeptProperties
  /** The gate's, once it has taken it; 0: it has not, or has nothing to do with it. */
  ticket: number
  /** That of its way to other processes; 0: it goes to none. */
  routed: number
  /** What it is answered with. */
  reasonCode: number
  /** Sessions that the store is to keep it for. */
  recipients: readonly SessionRecipient[]
  /** Of an array that the gate has taken in part: the rest of it. */
  array: MessageArray | undefined
  /** Of a message to more subscribers than a turn has room for, while it is being delivered. */
  fan: LargeFanout | undefined
}

/** What its acknowledgement is made of. */
export type Answerable = Pick<Arrival, 'flags' | 'packetId' | 'ticket' | 'routed' | 'reasonCode'>

export const noBytes: Uint8Array = new Uint8Array(0)

/** One to be filled in. */
export function arrivalOn(route: Route): Arrival {
  return {
    stage: 'answer',
    route,
    flags: 0,
    packetId: 0,
    bytes: noBytes,
    start: 0,
    end: 0,
    properties: noneKept,
    ticket: 0,
    routed: 0,
    reasonCode: ReasonCode.success,
    recipients: nobody,
    array: undefined,
    fan: undefined,
  }
}

/** Tells the gate by what a redelivery would be recognised. */
export function describe({ context }: Route, flags: number, packetId: number): void {
  context.packetId = packetId
  context.dup = (flags & dupFlag) !== 0
}

const dupFlag = 0x08

/** Counted for each held publish beside its payload. */
const heldOverheadBytes = 128

/** Publishes that wait, in their order, and the bytes that they count for against what the door may hold. */
export class HeldArrivals {
  /** Bytes of those that wait here. */
  bytes = 0
  readonly #fifo = new Fifo<Arrival>()
  readonly #budget: Budget
  readonly #clock: Clock

  constructor(budget: Budget, clock: Clock) {
    this.#budget = budget
    this.#clock = clock
  }

  get length(): number {
    return this.#fifo.length
  }

  /** Keeps a copy of one that is in hand, or one that was held elsewhere. */
  keep(arrival: Arrival): void {
    const { bytes, start, end, array } = arrival
    const payload = copyBytes(bytes, start, end)
    const properties = keepProperties(bytes, arrival.properties, this.#clock)
    const held: Arrival = { ...arrival, bytes: payload, start: 0, end: payload.length, properties, array: array?.moved(payload) }
    this.#fifo.push(held)
    this.#weigh(weightOf(held))
  }

  /** The one whose turn it is. */
  peek(): Arrival | undefined {
    return this.#fifo.peek()
  }

  /** It is done with. */
  shift(): void {
    const done = this.#fifo.shift()
    if (done !== undefined) this.#weigh(-weightOf(done))
  }

  clear(): void {
    this.#weigh(-this.bytes)
    this.#fifo.clear()
  }

  #weigh(bytes: number): void {
    this.bytes += bytes
    this.#budget.used += bytes
  }
}

function weightOf({ bytes, properties }: Arrival): number {
  return bytes.length + ('forwarded' in properties ? properties.forwarded.bytes.length : 0) + heldOverheadBytes
}
