import type { FieldError } from '../../core/errors.ts'

/**
 * The part of JSON Schema 2020-12 that the routes use. Schemas are plain objects, typed through TypeBox's `XStatic` without loading
 * it: TypeBox takes 160 ms and Ajv 50 ms to load, this takes none (a test holds it against TypeBox's own checker).
 */
type TypeName = 'object' | 'array' | 'string' | 'integer' | 'number' | 'boolean' | 'null'

export interface JsonSchema {
  readonly type?: TypeName | readonly TypeName[]
  readonly description?: string
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly required?: readonly string[]
  readonly additionalProperties?: boolean | JsonSchema
  readonly maxProperties?: number
  readonly items?: JsonSchema
  readonly minItems?: number
  readonly maxItems?: number
  readonly enum?: readonly (string | number | boolean)[]
  readonly minLength?: number
  readonly maxLength?: number
  readonly pattern?: string
  readonly minimum?: number
  readonly maximum?: number
}

const patterns = new Map<string, RegExp>()

function typeName(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'array'
  return typeof value
}

function isType(type: NonNullable<JsonSchema['type']>, value: unknown): boolean {
  if (typeof type !== 'string') return type.some((one) => isType(one, value))
  if (type === 'integer') return Number.isSafeInteger(value)
  if (type === 'number') return typeof value === 'number' && Number.isFinite(value)
  return typeName(value) === type
}

/** RFC 6901. */
export function pointerTo(parent: string, key: string | number): string {
  return `${parent}/${String(key).replaceAll('~', '~0').replaceAll('/', '~1')}`
}

/** Adds to `errors` what of `value` does not fit; at most a few dozen, the first are the telling ones. */
export function checkSchema(schema: JsonSchema, value: unknown, pointer: string, errors: FieldError[]): void {
  if (errors.length >= 20) return
  const wrong = (detail: string): void => void errors.push({ pointer, detail })
  if (schema.type !== undefined && !isType(schema.type, value)) {
    wrong(`must be ${typeof schema.type === 'string' ? schema.type : schema.type.join(' or ')}, is ${typeName(value)}`)
    return
  }
  if (schema.enum !== undefined && !schema.enum.some((allowed) => allowed === value)) {
    wrong(`must be one of ${schema.enum.join(', ')}`)
  }
  if (typeof value === 'string') checkString(schema, value, wrong)
  else if (typeof value === 'number') {
    if (schema.minimum !== undefined && value < schema.minimum) wrong(`must be at least ${schema.minimum}`)
    if (schema.maximum !== undefined && value > schema.maximum) wrong(`must be at most ${schema.maximum}`)
  } else if (Array.isArray(value)) {
    if (schema.minItems !== undefined && value.length < schema.minItems) wrong(`must have at least ${schema.minItems} items`)
    if (schema.maxItems !== undefined && value.length > schema.maxItems) wrong(`must have at most ${schema.maxItems} items`)
    const items = schema.items
    if (items !== undefined) value.forEach((item, i) => checkSchema(items, item, pointerTo(pointer, i), errors))
  } else if (typeof value === 'object' && value !== null) checkObject(schema, value as Record<string, unknown>, pointer, errors)
}

/** JSON Schema counts code points, not UTF-16 units. */
function checkString(schema: JsonSchema, value: string, wrong: (detail: string) => void): void {
  if (schema.minLength !== undefined || schema.maxLength !== undefined) {
    let length = 0
    for (const _ of value) length++
    if (length < (schema.minLength ?? 0)) wrong(length === 0 ? 'must not be empty' : `must have at least ${schema.minLength} characters`)
    if (length > (schema.maxLength ?? Infinity)) wrong(`must have at most ${schema.maxLength} characters`)
  }
  if (schema.pattern === undefined) return
  let pattern = patterns.get(schema.pattern)
  if (pattern === undefined) patterns.set(schema.pattern, (pattern = new RegExp(schema.pattern, 'u')))
  if (!pattern.test(value)) wrong(schema.description ?? `must match ${schema.pattern}`)
}

function checkObject(schema: JsonSchema, value: Record<string, unknown>, pointer: string, errors: FieldError[]): void {
  const properties = schema.properties ?? {}
  for (const name of schema.required ?? []) {
    if (!Object.hasOwn(value, name)) errors.push({ pointer: pointerTo(pointer, name), detail: 'is required' })
  }
  const names = Object.keys(value)
  if (schema.maxProperties !== undefined && names.length > schema.maxProperties) {
    errors.push({ pointer, detail: `must have at most ${schema.maxProperties} members` })
  }
  for (const name of names) {
    if (Object.hasOwn(properties, name)) checkSchema(properties[name]!, value[name], pointerTo(pointer, name), errors)
    else if (schema.additionalProperties === false) {
      errors.push({ pointer: pointerTo(pointer, name), detail: `is not known here; known are ${Object.keys(properties).join(', ') || 'none'}` })
    } else if (typeof schema.additionalProperties === 'object') {
      checkSchema(schema.additionalProperties, value[name], pointerTo(pointer, name), errors)
    }
  }
}

/**
 * Text of a query string as the schema's types: integers, booleans (`?total` alone is true), lists (repeated, or separated by
 * commas). What does not convert stays text, for `checkSchema` to name.
 */
export function coerceQuery(schema: JsonSchema, query: Readonly<Record<string, string | string[]>>): Record<string, unknown> {
  const result: Record<string, unknown> = Object.create(null) as Record<string, unknown>
  for (const name of Object.keys(query)) {
    const property = schema.properties !== undefined && Object.hasOwn(schema.properties, name) ? schema.properties[name] : undefined
    result[name] = coerce(property, query[name]!)
  }
  return result
}

function coerce(schema: JsonSchema | undefined, value: string | string[]): unknown {
  if (schema === undefined) return value
  if (schema.type === 'array') return (Array.isArray(value) ? value : [value]).flatMap(splitList)
  if (typeof value !== 'string') return value
  if ((schema.type === 'integer' || schema.type === 'number') && /^-?\d+(\.\d+)?$/.test(value)) return Number(value)
  if (schema.type === 'boolean') {
    if (value === '' || value === 'true' || value === '1') return true
    if (value === 'false' || value === '0') return false
  }
  return value
}

/** `a,b` is two names; `cpu{core=1,host=x}` is one, and `\,` is a comma within a name. */
export function splitList(text: string): string[] {
  if (!text.includes(',')) return text === '' ? [] : [text]
  const names: string[] = []
  let name = ''
  let depth = 0
  for (let i = 0; i < text.length; i++) {
    const c = text[i]!
    if (c === '\\' && text[i + 1] === ',') {
      name += ','
      i++
      continue
    }
    if (c === '{') depth++
    else if (c === '}' && depth > 0) depth--
    if (c === ',' && depth === 0) {
      names.push(name)
      name = ''
    } else name += c
  }
  names.push(name)
  return names.filter((n) => n !== '')
}
