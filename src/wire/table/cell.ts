/** A cell of a typed table (Parquet, JSON) as it is, or of CSV as text. */
export type Cell = string | number | boolean | null | undefined

export interface CellRules {
  readonly decimalComma: boolean
  /** Cells that mean "no value", beside the empty one. Numbers compare by value: -200 is -200.0 too. */
  readonly missing: readonly string[]
}

const alwaysMissing = new Set(['', 'na', 'n/a', 'nan', 'null', 'none', '-'])
const formula = /^[=+\-@\t\r']/
const grouped = /^[+-]?\d{1,3}(\.\d{3})+(,\d+)?$/
const numberStart = /^[+\-.\d]/
const wordStart = /^[A-Za-z]/

/** Reads cells as values. One instance per file: what stands for "missing" is prepared once. */
export class CellReader {
  readonly #decimalComma: boolean
  readonly #texts: ReadonlySet<string>
  readonly #numbers: ReadonlySet<number>

  constructor(rules: CellRules) {
    this.#decimalComma = rules.decimalComma
    this.#texts = new Set(rules.missing.map((text) => text.trim().toLowerCase()))
    this.#numbers = new Set(rules.missing.map((text) => this.#number(text.trim())).filter((n) => n !== undefined))
  }

  /**
   * The value as JSON text; undefined: there is none. A cell that reads as a number is one; `true` and `false` are booleans; the rest is
   * text. An apostrophe before what would be something else makes it text, as in spreadsheets (`textCell` writes it).
   */
  json(cell: string): string | undefined {
    const text = cell.trim()
    if (text === '') return undefined
    if (numberStart.test(text)) {
      const number = this.#number(text)
      if (number === undefined) return text === '-' || this.#texts.has(text.toLowerCase()) ? undefined : JSON.stringify(text)
      if (this.#numbers.size > 0 && this.#numbers.has(number)) return undefined
      // Beyond 2^53 a double loses digits; the door keeps them as they are written.
      return text.length > 15 && /^-?[1-9]\d{15,}$/.test(text) ? text : String(number)
    }
    if (text.length <= 5 && wordStart.test(text)) {
      const lower = text.toLowerCase()
      if (lower === 'true' || lower === 'false') return lower
      if (alwaysMissing.has(lower)) return undefined
    }
    if (this.#texts.size > 0 && this.#texts.has(text.toLowerCase())) return undefined
    return JSON.stringify(unmark(cell, this) ?? text)
  }

  /** A typed cell. */
  typed(cell: Cell): string | undefined {
    if (cell === null || cell === undefined) return undefined
    if (typeof cell === 'string') return this.#texts.has(cell.trim().toLowerCase()) ? undefined : JSON.stringify(cell)
    if (typeof cell === 'boolean') return String(cell)
    return Number.isFinite(cell) && !this.#numbers.has(cell) ? String(cell) : undefined
  }

  #number(text: string): number | undefined {
    let plain = text
    if (this.#decimalComma && text.includes(',')) {
      if (text.includes('.') && !grouped.test(text)) return undefined
      plain = text.replaceAll('.', '').replace(',', '.')
    }
    // Number() takes 0x1f too, and "" as 0.
    if (plain === '' || (plain.length > 2 && /^[+-]?0[xob]/i.test(plain))) return undefined
    const number = Number(plain)
    return Number.isFinite(number) ? number : undefined
  }
}

/** Without the apostrophe that marks text, where the rest shows why it was needed; undefined: there is no such mark. */
function unmark(cell: string, reader: CellReader): string | undefined {
  if (!cell.startsWith("'") || cell.length < 2) return undefined
  const rest = cell.slice(1)
  return formula.test(rest) || rest.trim() !== rest || reader.json(rest) !== JSON.stringify(rest) ? rest : undefined
}

const plain = new CellReader({ decimalComma: false, missing: [] })

/** A name as it was before `textCell`: marks are taken away only before what a spreadsheet would run. */
export function nameOf(cell: string): string {
  return cell.startsWith("'") && formula.test(cell.slice(1)) ? cell.slice(1) : cell.trim()
}

/** A name as a cell: harmless in a spreadsheet (OWASP, "CSV Injection"), and `nameOf` gives it back. */
export function nameCell(text: string): string {
  return formula.test(text) || text.trim() !== text ? `'${text}` : text
}

/** Text as a cell that reads back as this text, and that no spreadsheet runs as a formula. */
export function textCell(text: string): string {
  return formula.test(text) || text.trim() !== text || plain.json(text) !== JSON.stringify(text) ? `'${text}` : text
}
