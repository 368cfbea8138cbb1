import type { Violation } from './packets.ts'
import { violation } from './packets.ts'

const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
const encoder = new TextEncoder()

/** Bytes that were found valid, as text. A byte order mark is a character like any other [MQTT-1.5.3-3]. */
export function decodeText(bytes: Uint8Array, start: number, end: number): string {
  return decoder.decode(bytes.subarray(start, end))
}

/** A copy that is one: `Buffer.slice` only looks like it. */
export function copyBytes(bytes: Uint8Array, start: number, end: number): Uint8Array {
  return new Uint8Array(bytes.subarray(start, end))
}

export function encodeText(text: string): Uint8Array {
  return encoder.encode(text)
}

/**
 * Whether bytes[start, end) are an MQTT string: well-formed UTF-8 (RFC 3629: no overlong form, no surrogate, nothing above
 * U+10FFFF) [MQTT-1.5.3-1] without U+0000 [MQTT-1.5.3-2].
 */
export function checkText(bytes: Uint8Array, start: number, end: number): Violation | undefined {
  let at = start
  while (at < end) {
    const first = bytes[at]!
    if (first === 0) return nul
    if (first < 0x80) {
      at++
      continue
    }
    const length = sequenceLength(first)
    if (length === 0 || at + length > end) return illFormed
    const second = bytes[at + 1]!
    if ((second & 0xc0) !== 0x80) return illFormed
    if (first === 0xe0 && second < 0xa0) return illFormed
    if (first === 0xed && second > 0x9f) return illFormed
    if (first === 0xf0 && second < 0x90) return illFormed
    if (first === 0xf4 && second > 0x8f) return illFormed
    for (let i = 2; i < length; i++) if ((bytes[at + i]! & 0xc0) !== 0x80) return illFormed
    at += length
  }
  return undefined
}

const nul = violation('MQTT-1.5.3-2', 'A string holds U+0000.', { statement5: 'MQTT-1.5.4-2' })
const illFormed = violation('MQTT-1.5.3-1', 'A string is not well-formed UTF-8.', { statement5: 'MQTT-1.5.4-1' })

function sequenceLength(first: number): number {
  if (first >= 0xc2 && first <= 0xdf) return 2
  if (first >= 0xe0 && first <= 0xef) return 3
  if (first >= 0xf0 && first <= 0xf4) return 4
  return 0
}

/**
 * As `checkText`, without what the standards would rather not have in a string and allow a receiver to refuse (3.1.1, 1.5.3; 5, 1.5.4 and 5.4.9):
 * control characters, U+0000 to U+001F and U+007F to U+009F, and code points that are no characters, such as U+FFFF. In names, which end up in
 * logs, terminals and tables, nobody wants them.
 */
export function checkName(bytes: Uint8Array, start: number, end: number): Violation | undefined {
  return checkText(bytes, start, end) ?? (hasDisallowed(bytes, start, end) ? disallowed : undefined)
}

/** Of bytes that are well-formed. */
function hasDisallowed(bytes: Uint8Array, start: number, end: number): boolean {
  for (let at = start; at < end; at++) {
    const byte = bytes[at]!
    if (byte < 0x20 || byte === 0x7f) return true
    if (byte === 0xc2 && bytes[at + 1]! < 0xa0) return true
    if (byte === 0xef && bytes[at + 1] === 0xb7 && bytes[at + 2]! >= 0x90 && bytes[at + 2]! <= 0xaf) return true
    if (byte === 0xef && bytes[at + 1] === 0xbf && bytes[at + 2]! >= 0xbe) return true
    // U+1FFFE, U+1FFFF, and so on in each plane.
    if (byte >= 0xf0 && (bytes[at + 1]! & 0x0f) === 0x0f && bytes[at + 2] === 0xbf && bytes[at + 3]! >= 0xbe) return true
  }
  return false
}

const disallowed = violation('section 1.5.3', 'A name holds a control character, or what is no character.', { statement5: 'section 1.5.4' })

const hash = 0x23
const plus = 0x2b
const slash = 0x2f

/**
 * Whether bytes[start, end) are a topic name: an MQTT string of at least one character without wildcards, and without what `checkName` refuses unless
 * it is `lenient`: what another broker lets pass is read all the same.
 */
export function checkTopicName(bytes: Uint8Array, start: number, end: number, lenient = false): Violation | undefined {
  if (start === end) return emptyTopic
  let plain = true
  for (let at = start; at < end; at++) {
    const byte = bytes[at]!
    // Letters, digits, slashes: what topics are made of.
    if (byte > plus && byte < 0x7f) continue
    if (byte === hash || byte === plus) return wildcard
    if (byte === 0) return nul
    if (byte < 0x20 || byte >= 0x7f) plain = false
  }
  if (plain) return undefined
  return lenient ? checkText(bytes, start, end) : checkName(bytes, start, end)
}

const emptyTopic = violation('MQTT-4.7.3-1', 'A topic name or filter is empty.')
const wildcard = violation('MQTT-3.3.2-2', 'A topic name holds a wildcard.')

/** Whether bytes[start, end) are a topic filter: `#` only as the last level, `+` and `#` only as whole levels. */
export function checkTopicFilter(bytes: Uint8Array, start: number, end: number): Violation | undefined {
  if (start === end) return emptyTopic
  for (let at = start; at < end; at++) {
    const byte = bytes[at]!
    if (byte !== hash && byte !== plus) continue
    const opens = at === start || bytes[at - 1] === slash
    const closes = at + 1 === end || bytes[at + 1] === slash
    if (byte === hash && !(opens && at + 1 === end)) return misplacedHash
    if (byte === plus && !(opens && closes)) return misplacedPlus
  }
  return checkName(bytes, start, end)
}

const misplacedHash = violation('MQTT-4.7.1-2', 'A # stands elsewhere than alone in the last level of a filter.', { statement5: 'MQTT-4.7.1-1' })
const misplacedPlus = violation('MQTT-4.7.1-3', 'A + does not fill a whole level of a filter.', { statement5: 'MQTT-4.7.1-2' })
