import { Buffer } from 'node:buffer'
import { limits } from '../../core/limits.ts'
import { asciiText, Byte, utf8Text } from '../json/text.ts'
import { nameText } from './bytes.ts'
import type { LineScanner } from './scan.ts'

/** How a line names its device and its metrics. */
export interface LineNames {
  readonly device: string
  /** Index in the list of device tags; -1: none of them is there, measurement and tags are the device. */
  readonly deviceTag: number
  /** Measurement and tags mean what they look like, and the tags but the device's are in order: metrics can be put together from bytes. */
  readonly plain: boolean
  /** Which of the line's tags names the device, or -1. */
  readonly tag: number
}

/** Room for a metric's name, several times as long as it may be. */
const scratch = Buffer.alloc(4 * limits.nameBytesMax)

/** A tag's key as it is written in a line. */
export function writtenKey(name: string): Uint8Array {
  return new TextEncoder().encode(name.replace(/[, =]/g, '\\$&'))
}

/** The names of a line whose tags were scanned. `deviceTags`: as written; the first that the line has names the device. */
export function lineNames(bytes: Uint8Array, scan: LineScanner, deviceTags: readonly Uint8Array[]): LineNames {
  const { tagEquals, tagEnd } = scan
  for (let deviceTag = 0; deviceTag < deviceTags.length; deviceTag++) {
    const tag = tagOf(bytes, scan, deviceTags[deviceTag]!)
    if (tag < 0) continue
    const device = scan.plain ? asciiText(bytes, tagEquals[tag]! + 1, tagEnd[tag]!) : nameText(bytes, tagEquals[tag]! + 1, tagEnd[tag]!)
    return { device, deviceTag, plain: scan.plain && isSorted(bytes, scan, tag), tag }
  }
  return { device: measurementText(bytes, scan) + suffix(bytes, scan, -1), deviceTag: -1, plain: scan.plain, tag: -1 }
}

/** The metric of the i-th field: measurement.field, followed by the other tags unless they are the device. */
export function metricName(bytes: Uint8Array, scan: LineScanner, names: LineNames, i: number): string {
  const { keyStart, keyEnd, measurementEnd, fieldStart, fieldEnd } = scan
  const start = fieldStart[i]!
  const end = fieldEnd[i]!
  if (names.plain && keyEnd - keyStart + end - start < scratch.length - 8) {
    // One text of bytes put side by side costs less than texts joined, to make and to look up.
    let to = copy(bytes, keyStart, measurementEnd, 0)
    scratch[to++] = Byte.point
    let at = start
    for (let c; at < end && (c = bytes[at]!) < 0x80 && c !== Byte.backslash; at++) scratch[to++] = c
    if (at === end) return scratch.toString('latin1', 0, names.tag < 0 ? to : copySuffix(bytes, scan, names.tag, to))
  }
  const name = `${measurementText(bytes, scan)}.${nameText(bytes, start, end)}`
  return names.tag < 0 ? name : name + suffix(bytes, scan, names.tag)
}

/** In a measurement an equals sign needs no backslash, and so has none to lose. */
export function measurementText(bytes: Uint8Array, { keyStart, measurementEnd }: LineScanner): string {
  const text = utf8Text(bytes, keyStart, measurementEnd)
  return text.includes('\\') ? text.replace(/\\([, ])/g, '$1') : text
}

function tagOf(bytes: Uint8Array, scan: LineScanner, key: Uint8Array): number {
  const { tagStart, tagEquals } = scan
  for (let i = 0; i < scan.tagCount; i++) {
    const start = tagStart[i]!
    if (tagEquals[i]! - start !== key.length) continue
    let at = 0
    while (at < key.length && key[at] === bytes[start + at]) at++
    if (at === key.length) return i
  }
  return -1
}

function copy(bytes: Uint8Array, start: number, end: number, to: number): number {
  for (let at = start; at < end; at++) scratch[to++] = bytes[at]!
  return to
}

/** The tags but one as they stand in the line, in braces. */
function copySuffix(bytes: Uint8Array, { tagCount, tagStart, tagEnd }: LineScanner, without: number, from: number): number {
  if (tagCount === 1) return from
  const last = tagCount - 1
  let to = from
  scratch[to++] = Byte.openBrace
  if (without > 0) to = copy(bytes, tagStart[0]!, tagEnd[without - 1]!, to)
  if (without > 0 && without < last) scratch[to++] = Byte.comma
  if (without < last) to = copy(bytes, tagStart[without + 1]!, tagEnd[last]!, to)
  scratch[to++] = Byte.closeBrace
  return to
}

/** Of ASCII without escapes, the order of bytes is that of texts. */
function isSorted(bytes: Uint8Array, scan: LineScanner, without: number): boolean {
  const { tagCount, tagStart, tagEquals } = scan
  let other = -1
  for (let i = 0; i < tagCount; i++) {
    if (i === without) continue
    if (other >= 0 && !isBefore(bytes, tagStart[other]!, tagEquals[other]!, tagStart[i]!, tagEquals[i]!)) return false
    other = i
  }
  return true
}

function isBefore(bytes: Uint8Array, a: number, aEnd: number, b: number, bEnd: number): boolean {
  let i = 0
  while (a + i < aEnd && b + i < bEnd && bytes[a + i] === bytes[b + i]) i++
  return a + i === aEnd || (b + i < bEnd && bytes[a + i]! < bytes[b + i]!)
}

/** The tags but one, sorted by their keys: `{a=1,b=2}`; '' when there is no other. */
function suffix(bytes: Uint8Array, scan: LineScanner, without: number): string {
  const { tagCount, tagStart, tagEquals, tagEnd } = scan
  // Tags of which no name can be made are not put in order: the beginning of them says enough.
  if (tagCount > 0 && tagEnd[tagCount - 1]! - tagStart[0]! > 16 * limits.nameBytesMax) {
    return `{${utf8Text(bytes, tagStart[0]!, tagStart[0]! + 4 * limits.nameBytesMax)}}`
  }
  const tags: [key: string, value: string][] = []
  for (let i = 0; i < tagCount; i++) {
    if (i !== without) tags.push([nameText(bytes, tagStart[i]!, tagEquals[i]!), nameText(bytes, tagEquals[i]! + 1, tagEnd[i]!)])
  }
  if (tags.length === 0) return ''
  tags.sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${tags.map(([key, value]) => `${escaped(key)}=${escaped(value)}`).join(',')}}`
}

/** So that two different sets of tags never have the same name. */
function escaped(text: string): string {
  return text.replace(/[\\,={}]/g, '\\$&')
}
