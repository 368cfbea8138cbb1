import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import { Byte, skipByteOrderMark } from '../json/text.ts'

const hash = 0x23
const equals = 0x3d

/** So much of comments and blank lines is skipped at most before the caller is asked whether others should have their turn. */
const skipBytes = 64 * 1024

/**
 * The lines of a body of line protocol, one by one; none is parsed here. A line ends at a line feed that stands in no string field
 * (strings may hold line feeds). Where a string is not closed, or something follows its end that cannot, the line ends at its first
 * line feed, so that its neighbours are judged alone. Blank lines and comments (`#`) are no items.
 *
 *     while (lines.next()) if (!lines.skipping) submit(bytes, lines.start, lines.end)   // or refuse with lines.refusal when it is set
 *
 * What lies beyond `itemsMax` is one last item with `refusal` set.
 */
export class LineSplitter {
  /** Of the present line, in the body's bytes; without white space before it, and without the line end. */
  start = 0
  end = 0
  /** Number of the present line among the items, from 0; and of its beginning among all lines of the body, from 1. */
  index = -1
  line = 0
  refusal: KymoError | undefined = undefined
  /** True: there is no item yet, `next` only gives the caller a turn amid comments. */
  skipping = false
  readonly #bytes: Uint8Array
  readonly #itemsMax: number
  #at: number
  #nextLine = 1
  /** The first quote from `#at` on; the body's length when there is none. */
  #quote = -1

  constructor(bytes: Uint8Array, start: number, end: number, itemsMax: number = limits.batchItemsMax) {
    this.#bytes = bytes.subarray(0, end)
    this.#at = skipByteOrderMark(bytes, start, end)
    this.#itemsMax = itemsMax
  }

  next(): boolean {
    const bytes = this.#bytes
    const to = bytes.length
    const pauseAt = this.#at + skipBytes
    this.skipping = false
    while (this.#at < to) {
      if (this.#at > pauseAt) {
        this.skipping = true
        return true
      }
      let at = this.#at
      while (at < to && (bytes[at] === Byte.space || bytes[at] === Byte.tab)) at++
      const found = bytes.indexOf(Byte.lineFeed, at)
      const feed = found < 0 ? to : found
      if (at === feed || bytes[at] === hash || (at + 1 === feed && bytes[at] === Byte.carriageReturn)) {
        this.#at = feed + 1
        this.#nextLine++
        continue
      }
      this.#give(at, this.#hasQuote(at, feed) ? this.#endOf(at, feed) : feed, feed)
      return true
    }
    return false
  }

  /** `feed` is the line's first line feed; those between it and the end stand in strings. */
  #give(start: number, end: number, feed: number): void {
    const bytes = this.#bytes
    this.line = this.#nextLine++
    this.start = start
    this.#at = end + 1
    if (++this.index >= this.#itemsMax) {
      const detail = `The body has more than ${this.#itemsMax} lines; those from line ${this.line} on are not taken.`
      this.refusal = new KymoError('batch_too_long', { detail, errors: [{ pointer: '', detail }] })
      this.end = this.#at = bytes.length
      return
    }
    for (let i = feed; i < end; i++) if (bytes[i] === Byte.lineFeed) this.#nextLine++
    this.end = end > start && bytes[end - 1] === Byte.carriageReturn ? end - 1 : end
  }

  #hasQuote(at: number, feed: number): boolean {
    if (this.#quote < at) {
      const found = this.#bytes.indexOf(Byte.quote, at)
      this.#quote = found < 0 ? this.#bytes.length : found
    }
    return this.#quote < feed
  }

  /** The end of the line at `from`, whose first line feed is at `feed`, by its strings. */
  #endOf(from: number, feed: number): number {
    const bytes = this.#bytes
    const to = Math.min(bytes.length, from + limits.lineBytesMax)
    let at = from
    // The first space that is not escaped ends measurement and tags: there a quote is a character like others.
    while (at < feed && (bytes[at] !== Byte.space || bytes[at - 1] === Byte.backslash)) at++
    for (; at < to; at++) {
      const c = bytes[at]!
      if (c === Byte.lineFeed) return at
      if (c !== Byte.quote || bytes[at - 1] !== equals || bytes[at - 2] === Byte.backslash) continue
      const close = stringEnd(bytes, at + 1, to)
      if (close < 0) return feed
      const follows = close + 1 < bytes.length ? bytes[close + 1] : Byte.lineFeed
      const good = follows === Byte.comma || follows === Byte.space || follows === Byte.lineFeed || follows === Byte.carriageReturn
      if (!good && close > feed) return feed
      at = close
    }
    return at === bytes.length ? at : feed
  }
}

/** The index of the quote that ends the string whose contents begin at `from`, or -1. */
function stringEnd(bytes: Uint8Array, from: number, to: number): number {
  for (let at = from; at < to; at++) {
    const c = bytes[at]!
    if (c === Byte.quote) return at
    if (c === Byte.backslash && (bytes[at + 1] === Byte.quote || bytes[at + 1] === Byte.backslash)) at++
  }
  return -1
}
