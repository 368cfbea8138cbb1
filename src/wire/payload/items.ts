import type { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import { Byte, skipByteOrderMark, skipSpace } from '../json/text.ts'
import { refusal } from './refusal.ts'

export { firstByte, skipSpace } from '../json/text.ts'

export type ItemKind = 'array' | 'ndjson'

/**
 * The items of a JSON array, or the lines of NDJSON, one by one and as late as possible: no item is parsed here, each is judged
 * alone by the decoder, so that a bad one does not touch its neighbours.
 *
 *     while (items.next()) submit(bytes, items.start, items.end)   // or refuse with items.refusal when it is set
 *
 * `next` answers true for an item at bytes[start, end). Where the array itself is broken (a comma is missing, it is not closed,
 * something follows it), the items before the break are given out, and the rest of the body is one last item with `refusal` set,
 * whose detail names the byte. So is what lies beyond `itemsMax`. Blank lines of NDJSON are no items.
 */
export class ItemSplitter {
  /** Of the present item, in the body's bytes. */
  start = 0
  end = 0
  /** Number of the present item, from 0. */
  index = -1
  /** Set on the last item only: why bytes[start, end) cannot be split further. */
  refusal: KymoError | undefined = undefined
  /** The whole buffer up to the body's end. */
  readonly #bytes: Uint8Array
  readonly #from: number
  readonly #kind: ItemKind
  readonly #itemsMax: number
  #at: number
  #opened = false
  #done = false

  constructor(bytes: Uint8Array, start: number, end: number, kind: ItemKind, itemsMax: number = limits.batchItemsMax) {
    this.#bytes = bytes.subarray(0, end)
    this.#from = start
    this.#kind = kind
    this.#itemsMax = itemsMax
    this.#at = skipByteOrderMark(bytes, start, end)
  }

  next(): boolean {
    if (this.#done) return false
    const found = this.#kind === 'array' ? this.#nextInArray() : this.#nextLine()
    if (!found) {
      this.#done = true
      return false
    }
    this.index++
    if (this.refusal === undefined && this.index >= this.#itemsMax) {
      const detail = `The batch has more than ${this.#itemsMax} items; those from byte ${this.start - this.#from} on are not taken.`
      this.#giveUp(this.start, refusal('batch_too_long', '', detail))
    }
    return true
  }

  #nextInArray(): boolean {
    const bytes = this.#bytes
    const to = bytes.length
    let at = skipSpace(bytes, this.#at, to)
    if (!this.#opened) {
      if (at >= to || bytes[at] !== Byte.openBracket) return this.#broken(at, 'an array begins with [')
      this.#opened = true
      at = skipSpace(bytes, at + 1, to)
      if (at < to && bytes[at] === Byte.closeBracket) return this.#close(at)
    } else {
      // An item that lacks its brace has taken the array's bracket for it; its own refusal says so.
      if (at >= to) return this.#tookBracket() ? false : this.#broken(at, 'the array is not closed')
      if (bytes[at] === Byte.closeBracket) return this.#close(at)
      if (bytes[at] !== Byte.comma) return this.#broken(at, 'a comma or ] is expected')
      at = skipSpace(bytes, at + 1, to)
    }
    const end = itemEnd(bytes, at, to)
    if (end < 0) return this.#broken(at, 'this item is not closed')
    // Nothing between two commas is an item that the decoder refuses; nothing before a bracket is a comma too many.
    if (end === at && (at >= to || bytes[at] !== Byte.comma)) return this.#broken(at, 'an item is expected')
    this.start = at
    this.end = end
    this.#at = end
    return true
  }

  #tookBracket(): boolean {
    return this.#bytes[this.start] === Byte.openBrace && this.#bytes[this.end - 1] === Byte.closeBracket
  }

  #close(at: number): boolean {
    const rest = skipSpace(this.#bytes, at + 1, this.#bytes.length)
    return rest < this.#bytes.length ? this.#broken(rest, 'the array is over') : false
  }

  #nextLine(): boolean {
    const bytes = this.#bytes
    const start = skipSpace(bytes, this.#at, bytes.length)
    if (start >= bytes.length) return false
    const feed = bytes.indexOf(Byte.lineFeed, start)
    this.start = start
    this.end = feed < 0 ? bytes.length : feed
    this.#at = this.end
    return true
  }

  #broken(at: number, what: string): boolean {
    const where = at >= this.#bytes.length ? 'at the end' : `at byte ${at - this.#from}`
    this.#giveUp(
      at,
      refusal('body_not_json', '', `The array is not valid JSON: ${what}, ${where}. The items before it were taken, the rest was not.`),
    )
    return true
  }

  #giveUp(at: number, error: KymoError): void {
    this.start = at
    this.end = this.#bytes.length
    this.refusal = error
    this.#done = true
  }
}

export function splitItems(bytes: Uint8Array, start: number, end: number, kind: ItemKind): ItemSplitter {
  return new ItemSplitter(bytes, start, end, kind)
}

/**
 * Where the value that begins at `start` ends, by its brackets and strings alone: behind its last bracket or quote, or before the
 * comma or bracket that ends a bare word. -1: it does not end. Brackets are counted, not paired: what is wrong inside the item is for the
 * decoder to say, and stays inside.
 */
function itemEnd(bytes: Uint8Array, start: number, end: number): number {
  let depth = 0
  let at = start
  while (at < end) {
    const c = bytes[at]!
    if (c === Byte.quote) {
      at = stringEnd(bytes, at + 1, end)
      if (at < 0) return -1
      if (depth === 0) return trimmed(bytes, start, at)
      continue
    }
    if (c === Byte.openBrace || c === Byte.openBracket) depth++
    else if (c === Byte.closeBrace || c === Byte.closeBracket) {
      if (depth === 0) return trimmed(bytes, start, at)
      if (--depth === 0) return at + 1
    } else if (depth === 0 && c === Byte.comma) return trimmed(bytes, start, at)
    at++
  }
  return depth === 0 ? trimmed(bytes, start, end) : -1
}

function stringEnd(bytes: Uint8Array, start: number, end: number): number {
  let at = start
  while (at < end) {
    const c = bytes[at]!
    if (c === Byte.quote) return at + 1
    at += c === Byte.backslash ? 2 : 1
  }
  return -1
}

function trimmed(bytes: Uint8Array, start: number, end: number): number {
  let at = end
  while (at > start && skipSpace(bytes, at - 1, at) === at) at--
  return at
}
