import type { IngestGate, MessageContext } from '../core/gate.ts'
import { firstByte, ItemSplitter } from './payload/items.ts'

const openBrace = 0x7b
const openBracket = 0x5b

/** Whether a payload is an array of messages: its first byte that is not white space tells. Of an object only one byte is looked at. */
export function isArray(bytes: Uint8Array, start: number, end: number): boolean {
  return bytes[start] !== openBrace && firstByte(bytes, start, end) === openBracket
}

/**
 * The messages of one array on their way to the gate, each judged alone. It can be left when the gate takes no more, or when the turn
 * is over, and taken up again where it was.
 */
export class MessageArray {
  /** Of the last message taken; 0 while none was. The array is durable when this ticket is. */
  ticket = 0
  done = false
  /** Messages of the last `offer` that went to the dead letters. */
  refused = 0
  readonly #bytes: Uint8Array
  readonly #start: number
  readonly #end: number
  readonly #itemsMax: number
  readonly #items: ItemSplitter
  #taken = 0

  /** The bytes are not copied: see `moved`. */
  constructor(bytes: Uint8Array, start: number, end: number, itemsMax: number) {
    this.#bytes = bytes
    this.#start = start
    this.#end = end
    this.#itemsMax = itemsMax
    this.#items = new ItemSplitter(bytes, start, end, 'array', itemsMax)
    this.#next()
  }

  /** Messages taken so far. */
  get taken(): number {
    return this.#taken
  }

  /**
   * Offers the next messages, up to `unitsMax`, of which a message takes one, and one more for each KiB that it is long. Returns the units of those that
   * the gate took: fewer when it is overloaded, or when this is `done`.
   */
  offer(gate: IngestGate, context: MessageContext, unitsMax: number): number {
    const items = this.#items
    let units = 0
    this.refused = 0
    try {
      while (!this.done && units < unitsMax) {
        // The part of a message's identity that tells equal messages of one array apart.
        context.item = items.index
        const { refusal, start, end } = items
        const ticket =
          refusal === undefined
            ? gate.submit(context, this.#bytes, start, end)
            : gate.deadLetter(context, refusal, this.#bytes.subarray(start, end), end - start)
        if (ticket === 0) break
        if ((refusal ?? gate.refusal) !== undefined) this.refused++
        if (ticket > this.ticket) this.ticket = ticket
        this.#taken++
        units += 1 + ((end - start) >> 10)
        this.#next()
      }
    } finally {
      context.item = 0
    }
    return units
  }

  /** The same, over a copy of its bytes that outlives the call they came in. `copy` holds what was at [start, end). */
  moved(copy: Uint8Array): MessageArray {
    const array = new MessageArray(copy, 0, this.#end - this.#start, this.#itemsMax)
    for (let i = 0; i < this.#taken; i++) array.#next()
    array.#taken = this.#taken
    array.ticket = this.ticket
    return array
  }

  /** The splitter stands at the first message that was not taken. */
  #next(): void {
    this.done = !this.#items.next()
  }
}
