import { limits } from '../core/limits.ts'

const ways = 4

/**
 * Recently taken messages that had no time of their own, by a 64-bit identity: (client, packet id, item, payload) for MQTT,
 * (Idempotency-Key, item) for HTTP. A set-associative table: bounded without any bookkeeping, the oldest of a set gives way.
 * Rebuilt from the log's tail at start (docs/ARCHITECTURE.md, "Exactly once").
 */
export class OriginWindow {
  readonly #high: Uint32Array
  readonly #low: Uint32Array
  readonly #ticket: Float64Array
  readonly #turn: Uint8Array
  readonly #mask: number
  /** The identity that `hash` computed last. */
  high = 0
  low = 0

  constructor(entries: number = limits.originWindowMax) {
    const sets = 2 ** Math.ceil(Math.log2(Math.max(1, entries / ways)))
    this.#high = new Uint32Array(sets * ways)
    this.#low = new Uint32Array(sets * ways)
    this.#ticket = new Float64Array(sets * ways).fill(-1)
    this.#turn = new Uint8Array(sets)
    this.#mask = sets - 1
  }

  /**
   * Mixes bytes[start, end) and two seeds into `high` and `low`. Two lanes of multiply-xor, four bytes a step: not
   * cryptographic; a client can only collide with itself, since its name seeds it.
   */
  hash(seedA: number, seedB: number, bytes: Uint8Array, start: number, end: number): void {
    let a = (seedA ^ 0x9e3779b9) | 0
    let b = (seedB ^ 0x85ebca6b) | 0
    let i = start
    for (; i + 4 <= end; i += 4) {
      const word = bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24)
      a = Math.imul(a ^ word, 0x01000193)
      a ^= a >>> 15
      b = Math.imul(b + word, 0x5bd1e995)
      b ^= b >>> 13
    }
    for (; i < end; i++) {
      a = Math.imul(a ^ bytes[i]!, 0x01000193)
      b = Math.imul(b + bytes[i]!, 0x5bd1e995)
    }
    a = Math.imul(a ^ (end - start), 0x85ebca6b)
    b = Math.imul(b ^ (b >>> 16) ^ a, 0xc2b2ae35)
    this.high = (a ^ (a >>> 13)) >>> 0
    this.low = (b ^ (b >>> 16)) >>> 0
  }

  /** The ticket under which this identity was taken, or -1. */
  find(high: number, low: number): number {
    const base = (low & this.#mask) * ways
    for (let i = base; i < base + ways; i++) if (this.#high[i] === high && this.#low[i] === low && this.#ticket[i]! >= 0) return this.#ticket[i]!
    return -1
  }

  add(high: number, low: number, ticket: number): void {
    const set = low & this.#mask
    const base = set * ways
    for (let i = base; i < base + ways; i++) {
      if (this.#high[i] === high && this.#low[i] === low) {
        this.#ticket[i] = ticket
        return
      }
    }
    const i = base + (this.#turn[set]! & (ways - 1))
    this.#turn[set] = this.#turn[set]! + 1
    this.#high[i] = high
    this.#low[i] = low
    this.#ticket[i] = ticket
  }
}

/** A 32-bit hash of a name, for the seeds above. */
export function hashName(name: string): number {
  let h = 0x811c9dc5
  for (let i = 0; i < name.length; i++) h = Math.imul(h ^ name.charCodeAt(i), 0x01000193)
  return h | 0
}
