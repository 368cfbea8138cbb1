import type { MessageContext } from '../../core/gate.ts'
import type { Match } from './subscriptions.ts'
import type { Subscriber } from './message.ts'

/** What is known of one topic on one connection. */
export interface Route {
  readonly topic: string
  readonly topicBytes: Uint8Array
  /** `misfit`: to the dead letters. `reserved`: acknowledged, otherwise ignored. `denied`: the client may not publish there. */
  readonly use: 'telemetry' | 'routed' | 'misfit' | 'reserved' | 'denied'
  /** Handed to the gate with packet id and DUP set anew for each message. */
  readonly context: MessageContext
  /** Of `misfit`: why the topic does not fit the template that covers it. */
  readonly refused: string | undefined
  /** Of `reserved` and `denied`: what a client of MQTT 5 is told. */
  readonly reasonCode: number
  /** What holds for messages with RETAIN, where that is another: the client may publish here and retain nothing. */
  readonly retained: Route | undefined
  /** To be brought up to date before each use. */
  readonly match: Match<Subscriber>
}

interface Slot {
  readonly route: Route
  readonly hash: number
  readonly next: Slot | undefined
}

/** Topic bytes to route, per connection: no text is made for a topic that was seen before. Forgets all when it is full. */
export class RouteCache {
  readonly #max: number
  readonly #seed: number
  #last: Slot | undefined
  #slots: Map<number, Slot> | undefined

  constructor(max: number, seed: number) {
    this.#max = max
    this.#seed = seed | 0
  }

  find(bytes: Uint8Array, start: number, end: number): Route | undefined {
    const last = this.#last
    if (last !== undefined && same(last.route.topicBytes, bytes, start, end)) return last.route
    if (this.#slots === undefined) return undefined
    let slot = this.#slots.get(hashOf(bytes, start, end, this.#seed))
    while (slot !== undefined && !same(slot.route.topicBytes, bytes, start, end)) slot = slot.next
    if (slot !== undefined) this.#last = slot
    return slot?.route
  }

  add(route: Route): void {
    const { topicBytes } = route
    const hash = hashOf(topicBytes, 0, topicBytes.length, this.#seed)
    if (this.#last === undefined) {
      // Most devices publish to one topic: no table for them.
      this.#last = { route, hash, next: undefined }
      return
    }
    if (this.#slots === undefined) this.#slots = new Map([[this.#last.hash, this.#last]])
    if (this.#slots.size >= this.#max) this.#slots.clear()
    // A second topic of one hash forgets the first: chains cannot grow.
    const before = this.#slots.get(hash)
    const slot: Slot = { route, hash, next: before === undefined ? undefined : { route: before.route, hash, next: undefined } }
    this.#slots.set(hash, slot)
    this.#last = slot
  }
}

function same(topic: Uint8Array, bytes: Uint8Array, start: number, end: number): boolean {
  if (topic.length !== end - start) return false
  // From the end: topics of one client differ there.
  for (let i = topic.length - 1; i >= 0; i--) if (topic[i] !== bytes[start + i]) return false
  return true
}

/** FNV-1a over the bytes, seeded: what one client sends cannot be made to collide on another's. */
function hashOf(bytes: Uint8Array, start: number, end: number, seed: number): number {
  let hash = seed
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193)
  return hash
}
