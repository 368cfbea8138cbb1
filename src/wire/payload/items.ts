import type { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import { Byte, isSpace, skipByteOrderMark, skipSpace } from '../json/text.ts'
import { refusal } from './refusal.ts'

export { firstByte, isSpace, skipSpace } from '../json/text.ts'

export type ItemKind = 'array' | 'ndjson'

const Place = { before: 0, opened: 1, behindItem: 2, behindComma: 3, inItem: 4 } as const
type Place = (typeof Place)[keyof typeof Place]

/** Of where an item ends. */
const unclosed = -1
const undecided = -2

/**
 * The items of a JSON array, or the lines of NDJSON, one by one and as late as possible: no item is parsed here, each is judged
 * alone by the decoder, so that a bad one does not touch its neighbours.
 *
 *     while (items.next()) submit(bytes, items.start, items.end)   // or refuse with items.refusal when it is set
 *
 * `next` answers true for an item at bytes[start, end). Where the array itself is broken (a comma is missing, it is not closed,
 * something follows it), the items before the break are given out, and the rest of the body is one last item with `refusal` set,
 * whose detail names the byte. So is what lies beyond `itemsMax`. Blank lines of NDJSON are no items.
 *
 * With `stepBytes` no call looks at more bytes of an item than that: it answers true with `skipping` set when the item's end has not been
 * found yet, so that the caller can give others their turn, and `next` looks on.
 */
export class ItemSplitter {
  /** Of the present item, in the body's bytes. */
  start = 0
  end = 0
  /** Number of the present item, from 0. */
  index = -1
  /** Set on the last item only: why bytes[start, end) cannot be split further. */
  refusal: KymoError | undefined = undefined
  /** True: there is no item yet, `next` only gives the caller a turn amid a long one or much white space. */
  skipping = false
  /** The whole buffer up to the body's end. */
  readonly #bytes: Uint8Array
  readonly #from: number
  readonly #kind: ItemKind
  readonly #itemsMax: number
  readonly #stepBytes: number
  #at: number
  #place: Place = Place.before
  #done = false
  /** Where the present item's end is looked for, in how many brackets, and whether within a string. */
  #scanAt = 0
  #depth = 0
  #inString = false
  /** Of a bare word: behind its last byte that is no white space. */
  #wordEnd = 0

  constructor(
    bytes: Uint8Array,
    start: number,
    end: number,
    kind: ItemKind,
    itemsMax: number = limits.batchItemsMax,
    stepBytes: number = Number.POSITIVE_INFINITY,
  ) {
    this.#bytes = bytes.subarray(0, end)
    this.#from = start
    this.#kind = kind
    this.#itemsMax = itemsMax
    this.#stepBytes = stepBytes
    this.#at = skipByteOrderMark(bytes, start, end)
  }

  next(): boolean {
    if (this.#done) return false
    this.skipping = false
    const found = this.#kind === 'array' ? this.#nextInArray() : this.#nextLine()
    if (!found) {
      this.#done = true
      return false
    }
    if (this.skipping) return true
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
    while (this.#place !== Place.inItem) {
      if (!this.#skipSpace()) return true
      const at = this.#at
      const c = at < to ? bytes[at]! : -1
      switch (this.#place) {
        case Place.before:
          if (c !== Byte.openBracket) return this.#broken(at, 'an array begins with [')
          this.#place = Place.opened
          this.#at = at + 1
          break
        case Place.behindItem:
          // An item that lacks its brace has taken the array's bracket for it; its own refusal says so.
          if (c < 0) return this.#tookBracket() ? false : this.#broken(at, 'the array is not closed')
          if (c === Byte.closeBracket) return this.#close(at)
          if (c !== Byte.comma) return this.#broken(at, 'a comma or ] is expected')
          this.#place = Place.behindComma
          this.#at = at + 1
          break
        default:
          if (this.#place === Place.opened && c === Byte.closeBracket) return this.#close(at)
          this.#place = Place.inItem
          this.#scanAt = this.#wordEnd = at
          this.#depth = 0
          this.#inString = false
      }
    }
    return this.#take(this.#at)
  }

  #take(at: number): boolean {
    const bytes = this.#bytes
    const end = this.#itemEnd()
    if (end === undecided) return (this.skipping = true)
    if (end === unclosed) return this.#broken(at, 'this item is not closed')
    // Nothing between two commas is an item that the decoder refuses; nothing before a bracket is a comma too many.
    if (end === at && (at >= bytes.length || bytes[at] !== Byte.comma)) return this.#broken(at, 'an item is expected')
    this.start = at
    this.end = end
    this.#at = end
    this.#place = Place.behindItem
    return true
  }

  /** False: there is more of it than a step. */
  #skipSpace(): boolean {
    const to = this.#bytes.length
    const pause = this.#at + this.#stepBytes
    this.#at = skipSpace(this.#bytes, this.#at, Math.min(to, pause))
    this.skipping = this.#at === pause && pause < to
    return !this.skipping
  }

  /**
   * Where the present value ends, by its brackets and strings alone: behind its last bracket or quote, or before the white space before the
   * comma or bracket that ends a bare word. `unclosed`: it does not end; `undecided`: not within this step. Brackets are counted, not paired:
   * what is wrong inside the item is for the decoder to say, and stays inside.
   */
  #itemEnd(): number {
    const bytes = this.#bytes
    const last = bytes.length
    let at = this.#scanAt
    let depth = this.#depth
    let inString = this.#inString
    let wordEnd = this.#wordEnd
    const to = Math.min(last, at + this.#stepBytes)
    for (; at < to; at++) {
      const c = bytes[at]!
      if (inString || c === Byte.quote) {
        if (!inString) at++
        while (at < to && bytes[at] !== Byte.quote) at += bytes[at] === Byte.backslash ? 2 : 1
        inString = at >= to
        if (inString) break
        if (depth === 0) return at + 1
      } else if (c === Byte.openBrace || c === Byte.openBracket) depth++
      else if (c === Byte.closeBrace || c === Byte.closeBracket) {
        if (depth === 0) return wordEnd
        if (--depth === 0) return at + 1
      } else if (depth === 0) {
        if (c === Byte.comma) return wordEnd
        if (!isSpace(c)) wordEnd = at + 1
      }
    }
    if (at >= last) return depth === 0 && !inString ? wordEnd : unclosed
    this.#scanAt = at
    this.#depth = depth
    this.#inString = inString
    this.#wordEnd = wordEnd
    return undecided
  }

  #tookBracket(): boolean {
    return this.#bytes[this.start] === Byte.openBrace && this.#bytes[this.end - 1] === Byte.closeBracket
  }

  #close(at: number): boolean {
    const rest = skipSpace(this.#bytes, at + 1, this.#bytes.length)
    return rest < this.#bytes.length ? this.#broken(rest, 'the array is over') : false
  }

  #nextLine(): boolean {
    if (!this.#skipSpace()) return true
    const bytes = this.#bytes
    const start = this.#at
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
