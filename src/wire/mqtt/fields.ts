import type { Violation } from './packets.ts'
import { violation } from './packets.ts'
import { checkName, checkText, checkTopicFilter, checkTopicName, copyBytes, decodeText } from './text.ts'

/** Reads the fields of a packet one after the other; the first thing wrong stays in `failed`, and what is read after it is empty. */
export class Fields {
  at: number
  readonly end: number
  readonly bytes: Uint8Array
  failed: Violation | undefined
  readonly #truncated: Violation

  /** `truncated` is what is wrong when bytes[start, end) end within a field. */
  constructor(bytes: Uint8Array, start: number, end: number, truncated: Violation) {
    this.bytes = bytes
    this.at = start
    this.end = end
    this.#truncated = truncated
  }

  fail(wrong: Violation): void {
    this.failed ??= wrong
  }

  byte(): number {
    return this.#has(1) ? this.bytes[this.at++]! : 0
  }

  uint16(): number {
    if (!this.#has(2)) return 0
    this.at += 2
    return (this.bytes[this.at - 2]! << 8) | this.bytes[this.at - 1]!
  }

  uint32(): number {
    const high = this.uint16()
    return high * 65_536 + this.uint16()
  }

  /** A variable byte integer in its shortest form (MQTT 5, section 1.5.5). */
  variable(): number {
    let value = 0
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = this.byte()
      if (this.failed !== undefined) return 0
      value |= (byte & 0x7f) << shift
      if (byte >= 0x80) continue
      if (byte === 0 && shift > 0) this.fail(notShortest)
      return value
    }
    this.fail(variableTooLong)
    return 0
  }

  /** Steps over a length-prefixed field; it is bytes[at - length, at) afterwards. */
  skip(): number {
    const length = this.uint16()
    if (!this.#has(length)) return 0
    this.at += length
    return length
  }

  /** Whether the text that comes next has no characters. */
  startsEmpty(): boolean {
    return this.at + 2 <= this.end && this.bytes[this.at] === 0 && this.bytes[this.at + 1] === 0
  }

  text(): string {
    return this.#checked(checkText)
  }

  /** A text that names somebody. */
  name(): string {
    return this.#checked(checkName)
  }

  topicName(): string {
    return this.#checked(checkTopicName)
  }

  topicFilter(): string {
    return this.#checked(checkTopicFilter)
  }

  binary(): Uint8Array {
    const length = this.skip()
    return copyBytes(this.bytes, this.at - length, this.at)
  }

  #checked(check: (bytes: Uint8Array, start: number, end: number) => Violation | undefined): string {
    const length = this.skip()
    this.failed ??= check(this.bytes, this.at - length, this.at)
    return this.failed === undefined ? decodeText(this.bytes, this.at - length, this.at) : ''
  }

  #has(length: number): boolean {
    if (this.failed === undefined && this.at + length > this.end) this.failed = this.#truncated
    return this.failed === undefined
  }
}

export const notShortest = violation('MQTT-1.5.5-1', 'A variable byte integer has more bytes than it needs.')
export const variableTooLong = violation('section 1.5.5', 'A variable byte integer has more than four bytes.')
