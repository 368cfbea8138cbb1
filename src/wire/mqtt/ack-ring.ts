const firstCapacity = 16

/**
 * Acknowledgements in the order of their PUBLISHes [MQTT-4.6.0-2], each with the ticket it waits for, and, of what was also retained or queued, a
 * second one of another store. Grows by doubling.
 */
export class AckRing {
  #acks = new Uint32Array(firstCapacity)
  #tickets = new Float64Array(firstCapacity)
  /** There once somebody needs it: most clients retain nothing. */
  #seconds: Float64Array | undefined
  #head = 0
  count = 0

  /** `ack`: packet type in the bits above 16, packet id below. */
  push(ack: number, ticket: number, second = 0): void {
    if (this.count === this.#acks.length) this.#grow()
    const at = (this.#head + this.count) & (this.#acks.length - 1)
    this.#acks[at] = ack
    this.#tickets[at] = ticket
    if (second > 0) this.#seconds ??= new Float64Array(this.#acks.length)
    if (this.#seconds !== undefined) this.#seconds[at] = second
    this.count++
  }

  /** How many from the oldest on are durable, without a gap. */
  ready(durable: number, second = 0): number {
    const mask = this.#acks.length - 1
    const seconds = this.#seconds
    let n = 0
    while (n < this.count && this.#tickets[(this.#head + n) & mask]! <= durable) {
      if (seconds !== undefined && seconds[(this.#head + n) & mask]! > second) break
      n++
    }
    return n
  }

  shift(): number {
    const ack = this.#acks[this.#head]!
    this.#head = (this.#head + 1) & (this.#acks.length - 1)
    this.count--
    return ack
  }

  #grow(): void {
    const capacity = this.#acks.length
    const acks = new Uint32Array(capacity * 2)
    const tickets = new Float64Array(capacity * 2)
    const seconds = this.#seconds === undefined ? undefined : new Float64Array(capacity * 2)
    for (let i = 0; i < this.count; i++) {
      acks[i] = this.#acks[(this.#head + i) & (capacity - 1)]!
      tickets[i] = this.#tickets[(this.#head + i) & (capacity - 1)]!
      if (seconds !== undefined) seconds[i] = this.#seconds![(this.#head + i) & (capacity - 1)]!
    }
    this.#acks = acks
    this.#tickets = tickets
    this.#seconds = seconds
    this.#head = 0
  }
}
