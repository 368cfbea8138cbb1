import { Buffer } from 'node:buffer'

/** Bytes of JSON's punctuation (RFC 8259, section 2). */
export const Byte = {
  tab: 0x09,
  lineFeed: 0x0a,
  carriageReturn: 0x0d,
  space: 0x20,
  quote: 0x22,
  plus: 0x2b,
  comma: 0x2c,
  minus: 0x2d,
  point: 0x2e,
  zero: 0x30,
  nine: 0x39,
  colon: 0x3a,
  openBracket: 0x5b,
  backslash: 0x5c,
  closeBracket: 0x5d,
  openBrace: 0x7b,
  closeBrace: 0x7d,
} as const

/** The text of valid UTF-8 in bytes[start, end). A byte order mark inside is kept, as JSON.parse keeps it. */
export function utf8Text(bytes: Uint8Array, start: number, end: number): string {
  // What comes from a socket is a Buffer: no view of it has to be made.
  if (bytes instanceof Buffer) return bytes.toString('utf8', start, end)
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('utf8')
}

/** The text of ASCII in bytes[start, end). */
export function asciiText(bytes: Uint8Array, start: number, end: number): string {
  if (bytes instanceof Buffer) return bytes.toString('latin1', start, end)
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('latin1')
}

/** True when `text` consists of ASCII only and its bytes are bytes[start, end). Allocates nothing. */
export function asciiEquals(text: string, bytes: Uint8Array, start: number, end: number): boolean {
  if (text.length !== end - start) return false
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    if (unit !== bytes[start + i] || unit > 0x7f) return false
  }
  return true
}

/** JSON's white space: space, tab, line feed, carriage return (RFC 8259, section 2). */
export function isSpace(byte: number): boolean {
  return byte === Byte.space || byte === Byte.lineFeed || byte === Byte.carriageReturn || byte === Byte.tab
}

/** The first index in [start, end] that holds no JSON white space (space, tab, line feed, carriage return). */
export function skipSpace(bytes: Uint8Array, start: number, end: number): number {
  let at = start
  while (at < end) {
    const c = bytes[at]!
    if (c !== Byte.space && c !== Byte.lineFeed && c !== Byte.carriageReturn && c !== Byte.tab) break
    at++
  }
  return at
}

/** RFC 8259, section 8.1: a parser may ignore a leading byte order mark rather than refuse the text. */
export function skipByteOrderMark(bytes: Uint8Array, start: number, end: number): number {
  return end - start >= 3 && bytes[start] === 0xef && bytes[start + 1] === 0xbb && bytes[start + 2] === 0xbf ? start + 3 : start
}

/** The first byte that is neither byte order mark nor white space, or -1: tells an array from an object before parsing. */
export function firstByte(bytes: Uint8Array, start: number, end: number): number {
  const at = skipSpace(bytes, skipByteOrderMark(bytes, start, end), end)
  return at < end ? bytes[at]! : -1
}
