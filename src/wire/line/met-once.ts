/**
 * Which hashes have come before, a bit for each. When a quarter of the bits is set all are forgotten; so one hash in four at most is taken for one that has
 * come before and has not. Nothing is allocated before the first.
 */
export class MetOnce {
  readonly #bits: number
  #words: Uint32Array | undefined
  #set = 0

  /** `bits`: a power of two, 32 at least. */
  constructor(bits: number) {
    this.#bits = bits
  }

  /** Has it come before? From now on it has. */
  again(hash: number): boolean {
    const words = (this.#words ??= new Uint32Array(this.#bits / 32))
    const at = (hash ^ (hash >>> 15)) & (this.#bits - 1)
    const bit = 1 << (at & 31)
    const word = words[at >>> 5]!
    if ((word & bit) !== 0) return true
    if (this.#set >= this.#bits / 4) {
      words.fill(0)
      this.#set = 0
    }
    words[at >>> 5]! |= bit
    this.#set++
    return false
  }
}
