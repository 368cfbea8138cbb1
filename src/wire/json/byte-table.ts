/**
 * A bounded set of byte strings, numbered densely from 0 in order of arrival: open addressing over one arena. Finding a name
 * allocates nothing. The number of probes is bounded as well, so that names crafted to collide cost a miss, not a crawl: what
 * cannot be placed within the bound is simply not kept.
 */
export class ByteTable {
  count = 0
  /** The bytes of entry i are arena[offset[i], offset[i] + length[i]). Replaced when they grow: read them anew per message. */
  arena = new Uint8Array(4096)
  offset = new Int32Array(64)
  length = new Int32Array(64)
  #hash = new Int32Array(64)
  /** Entry + 1; 0 is free. A power of two, at least twice the entries. */
  #slots = new Int32Array(128)
  #used = 0
  readonly #entriesMax: number
  readonly #bytesMax: number

  constructor(o: { readonly entriesMax: number; readonly bytesMax: number }) {
    this.#entriesMax = o.entriesMax
    this.#bytesMax = o.bytesMax
  }

  /** The entry whose bytes are bytes[start, end) and whose `hashBytes` is `hash`, or -1. */
  find(bytes: Uint8Array, start: number, end: number, hash: number): number {
    const slots = this.#slots
    const mask = slots.length - 1
    let slot = spread(hash) & mask
    for (let probe = 0; probe < probesMax; probe++) {
      const entry = slots[slot]! - 1
      if (entry < 0) return -1
      if (this.#hash[entry] === hash && this.length[entry] === end - start && this.#same(entry, bytes, start)) return entry
      slot = (slot + 1) & mask
    }
    return -1
  }

  /** The first entry that was kept with this hash, or -1: for those who compare the bytes themselves. */
  candidate(hash: number): number {
    const slots = this.#slots
    const mask = slots.length - 1
    let slot = spread(hash) & mask
    for (let probe = 0; probe < probesMax; probe++) {
      const entry = slots[slot]! - 1
      if (entry < 0 || this.#hash[entry] === hash) return entry
      slot = (slot + 1) & mask
    }
    return -1
  }

  isFull(length: number): boolean {
    return this.count >= this.#entriesMax || this.#used + length > this.#bytesMax
  }

  /** Keeps bytes that `find` did not find. Returns the new entry, or -1 when there is no place for it. */
  add(bytes: Uint8Array, start: number, end: number, hash: number): number {
    const length = end - start
    if (this.isFull(length)) return -1
    if (this.count === this.offset.length) this.#growEntries()
    while (this.#used + length > this.arena.length) this.#growArena()
    if (!this.#place(this.count, hash)) return -1
    const entry = this.count++
    const { arena } = this
    // To make a view of a short name costs more than to copy it.
    if (length > 256) arena.set(bytes.subarray(start, end), this.#used)
    else for (let at = start, to = this.#used; at < end; at++) arena[to++] = bytes[at]!
    this.offset[entry] = this.#used
    this.length[entry] = length
    this.#hash[entry] = hash
    this.#used += length
    return entry
  }

  clear(): void {
    this.count = 0
    this.#used = 0
    this.#slots.fill(0)
  }

  #same(entry: number, bytes: Uint8Array, start: number): boolean {
    const arena = this.arena
    const from = this.offset[entry]!
    const length = this.length[entry]!
    for (let i = 0; i < length; i++) if (arena[from + i] !== bytes[start + i]) return false
    return true
  }

  #place(entry: number, hash: number): boolean {
    const slots = this.#slots
    const mask = slots.length - 1
    let slot = spread(hash) & mask
    for (let probe = 0; probe < probesMax; probe++) {
      if (slots[slot] === 0) {
        slots[slot] = entry + 1
        return true
      }
      slot = (slot + 1) & mask
    }
    return false
  }

  #growArena(): void {
    const arena = new Uint8Array(this.arena.length * 2)
    arena.set(this.arena)
    this.arena = arena
  }

  #growEntries(): void {
    this.offset = doubled(this.offset)
    this.length = doubled(this.length)
    this.#hash = doubled(this.#hash)
    this.#slots = new Int32Array(this.#slots.length * 2)
    // An entry that finds no place in the larger table is not found any more: a miss, as for one never kept.
    for (let entry = 0; entry < this.count; entry++) this.#place(entry, this.#hash[entry]!)
  }
}

const probesMax = 32

/** FNV-1a, 32 bits: for each byte, `Math.imul(hash ^ byte, fnvPrime)`. */
export const fnvStart = 0x811c9dc5 | 0
export const fnvPrime = 0x01000193

export function hashBytes(bytes: Uint8Array, start: number, end: number): number {
  let hash = fnvStart
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ bytes[i]!, fnvPrime)
  return hash
}

/** FNV's low bits depend on few of the last byte's bits; the slot is taken from a mix of all. */
function spread(hash: number): number {
  return hash ^ (hash >>> 15) ^ (hash >>> 7)
}

function doubled(a: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const b = new Int32Array(a.length * 2)
  b.set(a)
  return b
}
