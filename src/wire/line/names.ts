import { Buffer } from 'node:buffer'
import { limits } from '../../core/limits.ts'
import { ByteTable, fnvPrime } from '../json/byte-table.ts'
import { asciiText, Byte, utf8Text } from '../json/text.ts'
import { isSame, nameText } from './bytes.ts'
import type { LineScanner } from './scan.ts'

/** Room for a metric's name, several times as long as it may be. */
const scratch = Buffer.alloc(4 * limits.nameBytesMax)

/** A tag's key as it is written in a line. */
export function writtenKey(name: string): Uint8Array {
  return new TextEncoder().encode(name.replace(/[, =]/g, '\\$&'))
}

/**
 * How a line names its device and its metrics: texts, for what is not known by how it is written. Names of metrics that devices have in common are made
 * once. `deviceTags`: as written; the first that a line has names its device. `isName`: may a metric be named so?
 */
export class LineNames {
  /** Index in the list of device tags; -1: none of them is there, measurement and tags are the device. */
  deviceTag = -1
  /** Is the metric that was named last one that a device may have? */
  isGood = false
  readonly #deviceTags: readonly Uint8Array[]
  readonly #isName: (name: string) => boolean
  readonly #metrics = new ByteTable({ entriesMax: limits.lineMetricsMax, bytesMax: limits.lineMetricBytesMax })
  readonly #texts: string[] = []
  /** Which of the line's tags names the device, or -1. */
  #tag = -1
  /** Measurement and tags mean what they look like, and the tags but the device's are in order: metrics are bytes of the line put together. */
  #plain = false
  /** Of measurement and the tags but the device's. */
  #hash = 0
  /** Where those before the device's begin and end, and those behind it; nowhere when the device is all of them. */
  #start = 0
  #end = 0
  #nextStart = 0
  #nextEnd = 0

  constructor(deviceTags: readonly Uint8Array[], isName: (name: string) => boolean) {
    this.#deviceTags = deviceTags
    this.#isName = isName
  }

  /** The next line, whose tags were scanned. */
  read(bytes: Uint8Array, scan: LineScanner): void {
    this.#tag = -1
    this.deviceTag = -1
    for (let deviceTag = 0; deviceTag < this.#deviceTags.length && this.#tag < 0; deviceTag++) {
      this.#tag = tagOf(bytes, scan, this.#deviceTags[deviceTag]!)
      if (this.#tag >= 0) this.deviceTag = deviceTag
    }
    const tag = this.#tag
    const { tagStart, tagEnd, tagHash, tagCount } = scan
    this.#plain = scan.plain && (tag < 0 || isSorted(bytes, scan, tag))
    this.#start = this.#end = this.#nextStart = this.#nextEnd = 0
    let hash = scan.measurementHash
    if (tag >= 0) {
      for (let i = 0; i < tagCount; i++) if (i !== tag) hash = Math.imul(hash ^ tagHash[i]!, fnvPrime)
      if (tag > 0) {
        this.#start = tagStart[0]!
        this.#end = tagEnd[tag - 1]!
      }
      if (tag + 1 < tagCount) {
        this.#nextStart = tagStart[tag + 1]!
        this.#nextEnd = tagEnd[tagCount - 1]!
      }
    }
    this.#hash = hash
  }

  device(bytes: Uint8Array, scan: LineScanner): string {
    if (this.#tag < 0) return measurementText(bytes, scan) + suffix(bytes, scan, -1)
    const start = scan.tagEquals[this.#tag]! + 1
    const end = scan.tagEnd[this.#tag]!
    return scan.plain ? asciiText(bytes, start, end) : nameText(bytes, start, end)
  }

  /** The metric of the i-th field: measurement.field, followed by the other tags unless they are the device. */
  metric(bytes: Uint8Array, scan: LineScanner, i: number): string {
    const start = scan.fieldStart[i]!
    const end = scan.fieldEnd[i]!
    if (this.#plain) {
      const hash = Math.imul(this.#hash ^ scan.fieldHash[i]!, fnvPrime)
      const known = this.#metrics.candidate(hash)
      if (known >= 0 && this.#isNamed(known, bytes, scan, start, end)) {
        this.isGood = true
        return this.#texts[known]!
      }
      if (scan.keyEnd - scan.keyStart + end - start < scratch.length - 8 && isPlain(bytes, start, end))
        return this.#made(bytes, scan, start, end, hash)
    }
    const name = `${measurementText(bytes, scan)}.${nameText(bytes, start, end)}`
    return this.#judged(this.#tag < 0 ? name : name + suffix(bytes, scan, this.#tag))
  }

  /** Is the known metric that of the field in bytes[start, end)? */
  #isNamed(known: number, bytes: Uint8Array, { keyStart, measurementEnd }: LineScanner, start: number, end: number): boolean {
    const { arena, offset, length } = this.#metrics
    const tags = this.#end - this.#start
    const next = this.#nextEnd - this.#nextStart
    const measurement = measurementEnd - keyStart
    let at = offset[known]!
    const braces = tags > 0 && next > 0 ? 3 : tags > 0 || next > 0 ? 2 : 0
    if (length[known] !== measurement + 1 + end - start + tags + next + braces) return false
    if (!isSame(arena, at, bytes, keyStart, measurementEnd) || arena[(at += measurement)] !== Byte.point) return false
    if (!isSame(arena, ++at, bytes, start, end)) return false
    at += end - start
    if (braces === 0) return true
    if (arena[at] !== Byte.openBrace || !isSame(arena, ++at, bytes, this.#start, this.#end)) return false
    at += tags
    if (braces === 3 && arena[at++] !== Byte.comma) return false
    return isSame(arena, at, bytes, this.#nextStart, this.#nextEnd) && arena[at + next] === Byte.closeBrace
  }

  /** The name of bytes put side by side. */
  #made(bytes: Uint8Array, { keyStart, measurementEnd }: LineScanner, start: number, end: number, hash: number): string {
    let to = copy(bytes, keyStart, measurementEnd, 0)
    scratch[to++] = Byte.point
    to = copy(bytes, start, end, to)
    const isBoth = this.#end > 0 && this.#nextEnd > 0
    if (this.#end > 0 || this.#nextEnd > 0) {
      scratch[to++] = Byte.openBrace
      to = copy(bytes, this.#start, this.#end, to)
      if (isBoth) scratch[to++] = Byte.comma
      to = copy(bytes, this.#nextStart, this.#nextEnd, to)
      scratch[to++] = Byte.closeBrace
    }
    const name = this.#judged(scratch.toString('latin1', 0, to))
    if (!this.isGood) return name
    const metrics = this.#metrics
    if (metrics.isFull(to)) {
      metrics.clear()
      this.#texts.length = 0
    }
    const entry = metrics.add(scratch, 0, to, hash)
    if (entry >= 0) this.#texts[entry] = name
    return name
  }

  #judged(name: string): string {
    this.isGood = this.#isName(name)
    return name
  }
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

/** ASCII without backslashes. */
function isPlain(bytes: Uint8Array, start: number, end: number): boolean {
  for (let at = start; at < end; at++) if (bytes[at]! > 0x7f || bytes[at] === Byte.backslash) return false
  return true
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
