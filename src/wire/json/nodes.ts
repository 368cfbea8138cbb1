/** A JSON value with where it stood: bytes[start, end) is its source. */
export type JsonNode = JsonObject | JsonArray | JsonString | JsonNumber | JsonLiteral

export interface JsonObject {
  readonly kind: 'object'
  /** Unescaped, in the order of the text, duplicates included. */
  readonly keys: string[]
  readonly items: JsonNode[]
  readonly start: number
  end: number
}
export interface JsonArray {
  readonly kind: 'array'
  readonly items: JsonNode[]
  readonly start: number
  end: number
}
export interface JsonString {
  readonly kind: 'string'
  readonly text: string
  readonly start: number
  readonly end: number
}
export interface JsonNumber {
  readonly kind: 'number'
  /** As JSON.parse gives it: rounded to a double, infinite when it overflows. */
  readonly value: number
  /** Written without fraction and exponent. */
  readonly integer: boolean
  /** Exactly as written. */
  readonly source: string
  readonly start: number
  readonly end: number
}
export interface JsonLiteral {
  readonly kind: 'true' | 'false' | 'null'
  readonly start: number
  readonly end: number
}

/** The value as JSON.parse would give it (of duplicate keys the last one). For messages that are handled as objects. */
export function toValue(node: JsonNode): unknown {
  switch (node.kind) {
    case 'object': {
      const entries: [string, unknown][] = []
      for (let i = 0; i < node.keys.length; i++) entries.push([node.keys[i]!, toValue(node.items[i]!)])
      // fromEntries defines own properties: a member named __proto__ is a member like others.
      return Object.fromEntries(entries)
    }
    case 'array':
      return node.items.map(toValue)
    case 'string':
      return node.text
    case 'number':
      return node.value
    case 'null':
      return null
    default:
      return node.kind === 'true'
  }
}

/** The node as JSON text without white space; numbers exactly as they were written. */
export function compactText(node: JsonNode): string {
  switch (node.kind) {
    case 'object':
      return '{' + node.keys.map((key, i) => JSON.stringify(key) + ':' + compactText(node.items[i]!)).join(',') + '}'
    case 'array':
      return '[' + node.items.map(compactText).join(',') + ']'
    case 'string':
      return JSON.stringify(node.text)
    case 'number':
      return node.source
    default:
      return node.kind
  }
}
