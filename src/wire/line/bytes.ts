import { Buffer } from 'node:buffer'
import { limits } from '../../core/limits.ts'
import { Byte, utf8Text } from '../json/text.ts'

/** Are bytes[from, to) those of `other` from `at` on? */
export function isSame(other: Uint8Array, at: number, bytes: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (bytes[i] !== other[at + i - from]) return false
  return true
}

/** Has the set got it? If not, now it has. */
export function isSecond(seen: Set<string>, key: string): boolean {
  if (seen.has(key)) return true
  seen.add(key)
  return false
}

/** Bytes that stand for something else in a name, or get a backslash when it becomes part of a metric's. */
export function isMark(c: number): boolean {
  return c === Byte.backslash || c === Byte.openBrace || c === Byte.closeBrace
}

export function isBlank(c: number): boolean {
  return c === Byte.space || c === Byte.tab || c === Byte.carriageReturn
}

export function skipBlank(bytes: Uint8Array, from: number, to: number): number {
  let at = from
  while (at < to && isBlank(bytes[at]!)) at++
  return at
}

/** The name in bytes[start, end), without its escapes: of a tag, a field or a tag's value. */
export function nameText(bytes: Uint8Array, start: number, end: number): string {
  const text = utf8Text(bytes, start, end)
  return text.includes('\\') ? text.replace(/\\([, =])/g, '$1') : text
}

const scratch = Buffer.alloc(limits.textBytesMax)

/** The text in bytes[start, end), of a string that is not too long: a backslash escapes a quote and a backslash, and is itself elsewhere. */
export function unescapedText(bytes: Uint8Array, start: number, end: number): string {
  let to = 0
  for (let at = start; at < end; at++) {
    let c = bytes[at]!
    if (c === Byte.backslash && at + 1 < end && (bytes[at + 1] === Byte.quote || bytes[at + 1] === Byte.backslash)) c = bytes[++at]!
    scratch[to++] = c
  }
  return scratch.toString('utf8', 0, to)
}
