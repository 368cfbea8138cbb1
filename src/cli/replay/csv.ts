import { KymoError } from '../../core/errors.ts'

/** Longer is no table of readings: a quote that is never closed would otherwise gather the whole file. */
const recordCharsMax = 1_000_000

export interface CsvRecord {
  /** Where it begins, from 1. */
  readonly line: number
  readonly cells: readonly string[]
}

/**
 * Records of RFC 4180 text that comes in chunks: quoted cells, doubled quotes, line ends within quotes; also bare LF and a byte
 * order mark. Empty lines are skipped. Throws request_invalid, naming the line.
 */
export class CsvReader {
  readonly #delimiter: string
  #cells: string[] = []
  #cell = ''
  #quoted = false
  #afterQuote = false
  #line = 1
  #startLine = 1
  #size = 0
  #first = true
  /** The cell ends in a CR that no quotes held: it belongs to the line's end when a LF follows. */
  #bareCr = false

  constructor(delimiter: string) {
    this.#delimiter = delimiter
  }

  push(chunk: string): CsvRecord[] {
    const records: CsvRecord[] = []
    const text = this.#first && chunk.startsWith('\ufeff') ? chunk.slice(1) : chunk
    if (chunk !== '') this.#first = false
    let start = 0
    for (let i = 0; i < text.length; i++) {
      const c = text.charCodeAt(i)
      if (this.#quoted) {
        if (c === 0x0a) this.#line++
        if (c !== 0x22) continue
        this.#take(text, start, i)
        start = i + 1
        this.#quoted = false
        this.#afterQuote = true
        this.#bareCr = false
      } else if (c === 0x22) {
        // A second quote right behind the first was one within the text.
        if (this.#afterQuote) this.#cell += '"'
        else if (this.#cell !== '' || i > start) continue
        start = i + 1
        this.#quoted = true
        this.#afterQuote = false
      } else if (c === 0x0a) {
        this.#take(text, start, i)
        start = i + 1
        this.#endRecord(records)
        this.#line++
        this.#startLine = this.#line
      } else if (text[i] === this.#delimiter) {
        this.#take(text, start, i)
        start = i + 1
        this.#endCell()
      }
    }
    this.#take(text, start, text.length)
    return records
  }

  end(): CsvRecord[] {
    if (this.#quoted) throw invalid(this.#startLine, 'a quote is opened and never closed')
    const records: CsvRecord[] = []
    this.#endRecord(records)
    return records
  }

  #take(text: string, start: number, end: number): void {
    if (end <= start) return
    this.#size += end - start
    if (this.#size > recordCharsMax) throw invalid(this.#startLine, `a record of more than ${recordCharsMax} characters; is a quote never closed?`)
    this.#cell += text.slice(start, end)
    this.#bareCr = !this.#quoted && this.#cell.endsWith('\r')
  }

  #endCell(): void {
    this.#cells.push(this.#cell)
    this.#cell = ''
    this.#bareCr = false
    this.#afterQuote = false
  }

  #endRecord(records: CsvRecord[]): void {
    if (this.#bareCr) this.#cell = this.#cell.slice(0, -1)
    this.#endCell()
    if (this.#cells.length > 1 || this.#cells[0] !== '') records.push({ line: this.#startLine, cells: this.#cells })
    this.#cells = []
    this.#size = 0
  }
}

export function invalid(line: number, what: string): KymoError {
  return new KymoError('request_invalid', { detail: `line ${line}: ${what}`, facts: { line } })
}

/** The likeliest separator of a header line. */
export function guessDelimiter(header: string): string {
  const candidates = [',', ';', '\t', '|']
  let best = ','
  let bestCount = 0
  for (const candidate of candidates) {
    const n = header.split(candidate).length - 1
    if (n > bestCount) {
      best = candidate
      bestCount = n
    }
  }
  return best
}
