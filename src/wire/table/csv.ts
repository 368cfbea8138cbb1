import { Buffer } from 'node:buffer'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'

/** A run of whole records: bytes in UTF-8. */
export interface Block {
  readonly bytes: Buffer
  /** Of its first record, from 1. */
  readonly line: number
  /** Bytes of the text up to and with this block: where reading goes on after it. */
  readonly end: number
}

export interface CsvRow {
  /** Where it begins, from 1. */
  readonly line: number
  readonly cells: readonly string[]
  /** The record as it stood there, without its line end. */
  readonly text: string
}

const feed = 0x0a
const quote = 0x22
const empty = Buffer.alloc(0)

/**
 * Cuts a byte stream into blocks of whole records, so that a position between two of them is one where reading can begin anew. With a
 * delimiter: CSV (RFC 4180), whose quoted cells may hold line ends; without: lines. Bytes are never decoded here: in UTF-8 a line
 * feed or a quote is never part of another character. Throws request_invalid, naming the line.
 */
export class RecordBlocks {
  readonly #delimiter: number
  #held: Buffer = empty
  #quoted = false
  /** The byte before closed quotes: one more quote was a doubled one within the text. */
  #closed = false
  #cellStart = true
  #line: number
  #end: number

  constructor(o: { readonly delimiter?: string; readonly line?: number; readonly offset?: number } = {}) {
    this.#delimiter = o.delimiter === undefined ? -1 : o.delimiter.charCodeAt(0)
    this.#line = o.line ?? 1
    this.#end = o.offset ?? 0
  }

  push(chunk: Buffer): Block | undefined {
    const last = this.#lastEnd(chunk)
    if (last < 0) {
      this.#held = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk])
      if (this.#held.length > limits.tableRecordBytesMax) {
        throw badLine(this.#line, `a record of more than ${limits.tableRecordBytesMax} bytes${this.#quoted ? '; is a quote never closed?' : ''}`)
      }
      return undefined
    }
    const whole = chunk.subarray(0, last + 1)
    const bytes = this.#held.length === 0 ? whole : Buffer.concat([this.#held, whole])
    this.#held = chunk.subarray(last + 1)
    return this.#block(bytes)
  }

  /** What stands behind the last line end. */
  end(): Block | undefined {
    if (this.#quoted) throw badLine(this.#line, 'a quote is opened behind this line and never closed')
    if (this.#held.length === 0) return undefined
    const bytes = this.#held
    this.#held = empty
    return this.#block(bytes)
  }

  #block(bytes: Buffer): Block {
    const line = this.#line
    for (let at = bytes.indexOf(feed); at >= 0; at = bytes.indexOf(feed, at + 1)) this.#line++
    this.#end += bytes.length
    return { bytes, line, end: this.#end }
  }

  /** Position of the last line end that is outside quotes; -1: none. */
  #lastEnd(chunk: Buffer): number {
    if (this.#delimiter < 0) return chunk.lastIndexOf(feed)
    if (!this.#quoted && !chunk.includes(quote)) {
      const before = chunk.at(-1)
      if (before !== undefined) {
        this.#cellStart = before === this.#delimiter || before === feed
        this.#closed = false
      }
      return chunk.lastIndexOf(feed)
    }
    let last = -1
    for (let i = 0; i < chunk.length; i++) {
      const c = chunk[i]!
      if (this.#quoted) {
        if (c === quote) {
          this.#quoted = false
          this.#closed = true
        }
        continue
      }
      const closed = this.#closed
      this.#closed = false
      if (c === quote) {
        this.#quoted = this.#cellStart || closed
        this.#cellStart = false
      } else if (c === feed) {
        last = i
        this.#cellStart = true
      } else this.#cellStart = c === this.#delimiter
    }
    return last
  }
}

/** Records of a block's text. Empty lines are skipped. */
export function parseCsv(text: string, delimiter: string, firstLine: number): CsvRow[] {
  const rows: CsvRow[] = []
  if (!text.includes('"')) {
    const lines = text.split('\n')
    for (let i = 0; i < lines.length; i++) {
      const line = withoutReturn(lines[i]!)
      if (line !== '') rows.push({ line: firstLine + i, cells: line.split(delimiter), text: line })
    }
    return rows
  }
  let at = 0
  let line = firstLine
  while (at < text.length) {
    const cells: string[] = []
    const start = at
    const startLine = line
    let cell = ''
    let from = at
    let ended = false
    while (!ended) {
      const c = text.charCodeAt(at)
      if (at >= text.length || c === feed) {
        cells.push(cell + withoutReturn(text.slice(from, at)))
        ended = true
      } else if (c === quote && cell === '' && at === from) {
        ;[cell, at] = quotedText(text, at + 1)
        // What follows a closing quote belongs to the cell all the same.
        from = at
        while (at < text.length && text[at] !== delimiter && text.charCodeAt(at) !== feed) at++
        cell += text.charCodeAt(at) === feed || at >= text.length ? withoutReturn(text.slice(from, at)) : text.slice(from, at)
        from = at
        if (text[at] === delimiter) {
          cells.push(cell)
          cell = ''
          from = ++at
        } else {
          cells.push(cell)
          ended = true
        }
      } else if (text[at] === delimiter) {
        cells.push(text.slice(from, at))
        from = ++at
      } else at++
    }
    const record = withoutReturn(text.slice(start, at))
    for (let i = text.indexOf('\n', start); i >= 0 && i < at; i = text.indexOf('\n', i + 1)) line++
    at++
    line++
    if (record !== '') rows.push({ line: startLine, cells, text: record })
  }
  return rows
}

/** From behind the opening quote: the text, and where it goes on behind the closing one. */
function quotedText(text: string, start: number): [string, number] {
  let value = ''
  let from = start
  for (;;) {
    const close = text.indexOf('"', from)
    if (close < 0) return [value + text.slice(from), text.length]
    value += text.slice(from, close)
    if (text[close + 1] !== '"') return [value, close + 1]
    value += '"'
    from = close + 2
  }
}

export function withoutReturn(line: string): string {
  return line.endsWith('\r') ? line.slice(0, -1) : line
}

export function badLine(line: number, what: string): KymoError {
  return new KymoError('request_invalid', { detail: `line ${line}: ${what}`, facts: { line } })
}

/** The likeliest separator of a header line. */
export function likelyDelimiter(header: string): string {
  let best = ','
  let most = 0
  for (const candidate of [',', ';', '\t', '|']) {
    const n = header.split(candidate).length - 1
    if (n > most) [best, most] = [candidate, n]
  }
  return best
}

/** RFC 4180. */
export function csvCell(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}
