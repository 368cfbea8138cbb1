/** Of what is smaller the allocator has enough. */
const spareBytesMin = 64 * 1024

/**
 * Buffers of large packets that came in pieces, kept for the next ones. A packet of a megabyte grows through five buffers, of two megabytes together; left
 * to the garbage collector, each few such packets would cost a collection of the whole heap.
 */
export class Spares {
  readonly #bytesMax: number
  #bytes = 0
  readonly #bySize = new Map<number, Uint8Array[]>()

  /** `bytesMax`: what may lie here unused. */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  /** One of at least so many bytes, which hold anything. */
  take(bytes: number): Uint8Array {
    if (bytes < spareBytesMin) return new Uint8Array(bytes)
    const size = 2 ** Math.ceil(Math.log2(bytes))
    const spare = this.#bySize.get(size)?.pop()
    if (spare === undefined) return new Uint8Array(size)
    this.#bytes -= size
    return spare
  }

  /** Nobody refers to it any more. */
  give(buffer: Uint8Array): void {
    const size = buffer.length
    if (size < spareBytesMin || this.#bytes + size > this.#bytesMax || !Number.isInteger(Math.log2(size))) return
    this.#bytes += size
    const spares = this.#bySize.get(size)
    if (spares === undefined) this.#bySize.set(size, [buffer])
    else spares.push(buffer)
  }
}
