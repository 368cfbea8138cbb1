import { KymoError } from '../../core/errors.ts'

const firstBytes = 4096
const largeBytes = 64 * 1024
/** A record that is closed at 1 MiB, and one more message. */
const spareBytesMax = 4 * 1024 * 1024

/** Bytes that grow at their end. */
export class ByteWriter {
  bytes = Buffer.allocUnsafe(firstBytes)
  used = 0
  #spare: Buffer<ArrayBuffer> | undefined

  u8(value: number): void {
    this.#reserve(1)
    this.bytes[this.used++] = value
  }

  /** LEB128, up to 2^53 - 1. */
  varint(value: number): void {
    this.#reserve(8)
    while (value >= 0x80) {
      this.bytes[this.used++] = (value % 0x80) | 0x80
      value = value > 0x7fff_ffff ? Math.floor(value / 0x80) : value >>> 7
    }
    this.bytes[this.used++] = value
  }

  f64(value: number): void {
    this.#reserve(8)
    this.used = this.bytes.writeDoubleLE(value, this.used)
  }

  text(value: string): void {
    const length = Buffer.byteLength(value)
    this.varint(length)
    this.#reserve(length)
    this.used += this.bytes.write(value, this.used, 'utf8')
  }

  blob(value: Uint8Array): void {
    this.varint(value.length)
    this.#reserve(value.length)
    this.bytes.set(value, this.used)
    this.used += value.length
  }

  /** What was written, which is from now on the caller's; begins anew. */
  take(): Buffer {
    const taken = this.bytes.subarray(0, this.used)
    this.bytes = this.#spare ?? Buffer.allocUnsafe(firstBytes)
    this.#spare = undefined
    this.used = 0
    return taken
  }

  /** The caller is done with what `take` gave, and so is the log whose `write` has resolved (`StreamLog`). A large one is used again: left to the garbage collector, it would cost a collection each few messages. */
  giveBack({ buffer }: Uint8Array): void {
    const size = buffer.byteLength
    // What is no larger than Node's pool may be the pool, which others write into.
    const own = buffer instanceof ArrayBuffer && size > Math.max(largeBytes, Buffer.poolSize)
    if (!own || size > spareBytesMax || size <= (this.#spare?.length ?? 0)) return
    this.#spare = Buffer.from(buffer)
  }

  #reserve(count: number): void {
    const needed = this.used + count
    if (needed <= this.bytes.length) return
    // A large payload brings its own size, and little comes behind it: doubled, it would be copied once more, into twice as much.
    const size = count >= largeBytes ? needed + firstBytes : Math.max(needed, this.bytes.length * 2)
    const grown = Buffer.allocUnsafe(size)
    this.bytes.copy(grown, 0, 0, this.used)
    this.bytes = grown
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true })

/** Reads what `ByteWriter` wrote. Throws `log_corrupt` where bytes are missing or say what cannot be. */
export class ByteReader {
  at = 0
  readonly #bytes: Buffer

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  }

  get left(): number {
    return this.#bytes.length - this.at
  }

  u8(): number {
    this.#need(1)
    return this.#bytes[this.at++]!
  }

  varint(): number {
    let value = 0
    for (let scale = 1; ; scale *= 0x80) {
      const byte = this.u8()
      value += (byte & 0x7f) * scale
      if (value > Number.MAX_SAFE_INTEGER) throw this.wrong('a number is larger than 2^53')
      if (byte < 0x80) return value
      if (scale > 2 ** 49) throw this.wrong('a number is longer than eight bytes')
    }
  }

  /** How many things follow, of which each takes at least `bytesEach`: nothing is set aside for what is not there. */
  count(bytesEach: number): number {
    const count = this.varint()
    if (count * bytesEach > this.left) throw this.wrong(`${count} items are announced, and ${this.left} bytes are left`)
    return count
  }

  f64(): number {
    this.#need(8)
    const value = this.#bytes.readDoubleLE(this.at)
    this.at += 8
    return value
  }

  text(): string {
    const bytes = this.#slice()
    try {
      return utf8.decode(bytes)
    } catch {
      throw this.wrong('a text is not UTF-8')
    }
  }

  /** A copy. */
  blob(): Uint8Array {
    const bytes = this.#slice()
    return bytes.length === 0 ? noBytes : copyOf(bytes)
  }

  wrong(why: string): KymoError {
    return new KymoError('log_corrupt', { detail: `byte ${this.at}: ${why}`, facts: { byte: this.at } })
  }

  #slice(): Buffer {
    const length = this.varint()
    this.#need(length)
    this.at += length
    return this.#bytes.subarray(this.at - length, this.at)
  }

  #need(count: number): void {
    if (count > this.left) throw this.wrong(`${count} bytes are needed, and ${this.left} are left`)
  }
}

export const noBytes = new Uint8Array(0)

/** A copy with memory of its own: one in a shared slab would keep the slab for as long as it waits for its client. */
export function copyOf(bytes: Uint8Array): Uint8Array {
  if (bytes.length === 0) return noBytes
  const copy = Buffer.allocUnsafeSlow(bytes.length)
  copy.set(bytes)
  return copy
}
