import type { KymoError } from '../../../core/errors.ts'
import { isSpace, ItemSplitter, skipSpace } from '../../../wire/payload/items.ts'

/** The items of a body, one after the other; see ItemSplitter, which is one. */
export interface Items {
  readonly start: number
  readonly end: number
  readonly index: number
  readonly refusal: KymoError | undefined
  /** Of line protocol: the item's line in the body, from 1. */
  readonly line?: number
  /** There is no item yet: `next` gives the event loop a turn amid what is none. */
  readonly skipping?: boolean
  next(): boolean
}

/** The body as one item. */
export class OneItem implements Items {
  readonly start: number
  readonly end: number
  readonly refusal = undefined
  index = -1

  constructor(start: number, end: number) {
    this.start = start
    this.end = end
  }

  next(): boolean {
    return ++this.index === 0
  }
}

/** Of one item so much is looked through in a turn: a third of a millisecond. */
const stepBytes = 128 * 1024

/** More white space than that at a line's end is not looked through to tell lines from one document. */
const blankBytesMax = 4_096

const lineFeed = 0x0a
const openBrace = 0x7b
const closeBrace = 0x7d
const openBracket = 0x5b

/** In one JSON document no `{` follows directly on a `}`: two of them around the first line's end are two documents. */
function looksLikeLines(bytes: Uint8Array, first: number): boolean {
  const feed = bytes.indexOf(lineFeed, first)
  if (bytes[first] !== openBrace || feed < 0) return false
  let last = feed - 1
  const stop = Math.max(first, last - blankBytesMax)
  while (last > stop && isSpace(bytes[last]!)) last--
  if (bytes[last] !== closeBrace) return false
  return bytes[skipSpace(bytes, feed, Math.min(bytes.length, feed + blankBytesMax))] === openBrace
}

/** An array, lines, or one document, by what the client said and how the body begins. `first` is its first byte that is not space. */
export function itemsOf(bytes: Uint8Array, first: number, ndjson: boolean, itemsMax: number): Items {
  if (ndjson || looksLikeLines(bytes, first)) return new ItemSplitter(bytes, first, bytes.length, 'ndjson', itemsMax, stepBytes)
  if (bytes[first] === openBracket) return new ItemSplitter(bytes, first, bytes.length, 'array', itemsMax, stepBytes)
  return new OneItem(first, bytes.length)
}
