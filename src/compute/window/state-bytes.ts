import { KymoError } from '../../core/errors.ts'

const encoder = new TextEncoder()
const decoder = new TextDecoder()

/** Writes an operator's snapshot: little-endian numbers and length-prefixed UTF-8, in a buffer that grows. */
export class StateWriter {
  #bytes: Uint8Array<ArrayBuffer>
  #view: DataView<ArrayBuffer>
  #at = 0

  constructor(sizeHint: number) {
    this.#bytes = new Uint8Array(Math.max(64, sizeHint))
    this.#view = new DataView(this.#bytes.buffer)
  }

  u8(value: number): void {
    this.#reserve(1)
    this.#view.setUint8(this.#at++, value)
  }

  u16(value: number): void {
    this.#reserve(2)
    this.#view.setUint16(this.#at, value, true)
    this.#at += 2
  }

  u32(value: number): void {
    this.#reserve(4)
    this.#view.setUint32(this.#at, value, true)
    this.#at += 4
  }

  f64(value: number): void {
    this.#reserve(8)
    this.#view.setFloat64(this.#at, value, true)
    this.#at += 8
  }

  /** At most 65,535 bytes: names are bounded far below. */
  text(value: string): void {
    this.#reserve(2 + value.length * 3)
    const { written } = encoder.encodeInto(value, this.#bytes.subarray(this.#at + 2))
    this.u16(written)
    this.#at += written
  }

  /** The count, then the numbers in single precision. */
  f32s(values: Float32Array): void {
    this.u32(values.length)
    this.#reserve(4 * values.length)
    for (let i = 0; i < values.length; i++) this.#view.setFloat32(this.#at + 4 * i, values[i]!, true)
    this.#at += 4 * values.length
  }

  f64s(values: Float64Array): void {
    this.u32(values.length)
    this.#reserve(8 * values.length)
    for (let i = 0; i < values.length; i++) this.#view.setFloat64(this.#at + 8 * i, values[i]!, true)
    this.#at += 8 * values.length
  }

  /** The count, then bytes as they are. */
  bytes(values: Uint8Array): void {
    this.u32(values.length)
    this.#reserve(values.length)
    this.#bytes.set(values, this.#at)
    this.#at += values.length
  }

  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#at)
  }

  #reserve(n: number): void {
    if (this.#at + n <= this.#bytes.length) return
    const grown = new Uint8Array(Math.max(this.#bytes.length * 2, this.#at + n))
    grown.set(this.#bytes)
    this.#bytes = grown
    this.#view = new DataView(grown.buffer)
  }
}

/** Reads what StateWriter wrote; a state that ends early or is of another kind or version is refused with `store_format`. */
export class StateReader {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  #at = 0

  constructor(bytes: Uint8Array, what: string, version: number) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const found = bytes.length < 6 ? 'nothing readable' : `${decoder.decode(bytes.subarray(0, 4))} version ${this.#view.getUint16(4, true)}`
    if (found !== `${what} version ${version}`) {
      throw new KymoError('store_format', { detail: `An operator state should be ${what} version ${version}, and is ${found}.` })
    }
    this.#at = 6
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1))
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true)
  }

  f64(): number {
    return this.#view.getFloat64(this.#take(8), true)
  }

  text(): string {
    const length = this.#view.getUint16(this.#take(2), true)
    const at = this.#take(length)
    return decoder.decode(this.#bytes.subarray(at, at + length))
  }

  f32s(): Float32Array {
    const length = this.u32()
    const at = this.#take(4 * length)
    const values = new Float32Array(length)
    for (let i = 0; i < length; i++) values[i] = this.#view.getFloat32(at + 4 * i, true)
    return values
  }

  f64s(): Float64Array {
    const length = this.u32()
    const at = this.#take(8 * length)
    const values = new Float64Array(length)
    for (let i = 0; i < length; i++) values[i] = this.#view.getFloat64(at + 8 * i, true)
    return values
  }

  /** A view, on loan like the state itself. */
  bytes(): Uint8Array {
    const length = this.u32()
    const at = this.#take(length)
    return this.#bytes.subarray(at, at + length)
  }

  /** Whether all has been read. */
  get ended(): boolean {
    return this.#at === this.#bytes.length
  }

  #take(n: number): number {
    const at = this.#at
    if (at + n > this.#bytes.length) throw new KymoError('store_format', { detail: `An operator state ends early, at byte ${this.#bytes.length}.` })
    this.#at = at + n
    return at
  }
}

/** Four letters that name the operator, and its format version: how each state begins. */
export function beginState(what: string, version: number, sizeHint: number): StateWriter {
  const writer = new StateWriter(sizeHint)
  for (let i = 0; i < 4; i++) writer.u8(what.charCodeAt(i))
  writer.u16(version)
  return writer
}
