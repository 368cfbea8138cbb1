/** JSON Schema as TypeScript types, for tools/client.ts. */
export interface Node {
  readonly [key: string]: unknown
}

export function isObject(node: unknown): node is Node {
  return typeof node === 'object' && node !== null && !Array.isArray(node)
}

export function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

export function pascal(text: string): string {
  return text.replaceAll(/(?:^|[^A-Za-z0-9]+)([A-Za-z0-9])/g, (_, letter: string) => letter.toUpperCase())
}

export function camel(text: string): string {
  return pascal(text).replace(/^./, (letter) => letter.toLowerCase())
}

/** A member of an interface, with its description above. */
export function memberOf(name: string, type: string, required: boolean, description: string, indent: string): string {
  const key = /^[A-Za-z_$][\w$]*$/.test(name) ? name : `'${name}'`
  const comment = description === '' ? '' : `${indent}/** ${description.replaceAll('*/', '*\\/')} */\n`
  return `${comment}${indent}readonly ${key}${required ? '' : '?'}: ${type}`
}

/** Keywords that make a type. */
const shaping = new Set(['type', 'enum', 'const', 'properties', 'required', 'additionalProperties', 'items', '$ref', 'anyOf', 'oneOf', 'title'])
/** Keywords that a TypeScript type does not tell; the server checks them. */
const untold = new Set([
  'description',
  'default',
  'examples',
  'format',
  'pattern',
  'minLength',
  'maxLength',
  'minimum',
  'maximum',
  'minItems',
  'maxItems',
  'maxProperties',
])

const primitives: Readonly<Record<string, string>> = { string: 'string', integer: 'number', number: 'number', boolean: 'boolean', null: 'null' }

/** Fewer members than this are written where they are, unless a title names them. */
const membersOfNamed = 3

export class SchemaTypes {
  readonly #document: Node
  /** Text of a type without names and comments, to its name. */
  readonly #names = new Map<string, string>()
  readonly #schemas = new Map<string, Node>()

  constructor(document: Node) {
    this.#document = document
  }

  /** Gives objects of this shape a name, when neither the shape nor the name is taken. Returns whether it has one now. */
  name(schema: Node, name: string, least = membersOfNamed): boolean {
    if (!isObject(schema['properties'])) return false
    const bare = this.#bare(schema)
    if (this.#names.has(bare)) return true
    if (Object.keys(schema['properties']).length < least) return false
    const free = [name, `${name}Item`].find((one) => !this.#schemas.has(one))
    if (free === undefined) throw new Error(`three shapes would be ${name}: give the schema a title`)
    this.#names.set(bare, free)
    this.#schemas.set(free, schema)
    return true
  }

  /** Names every object below `node` that has a title. */
  nameTitled(node: unknown): void {
    if (Array.isArray(node)) for (const one of node) this.nameTitled(one)
    if (!isObject(node)) return
    if (typeof node['title'] === 'string' && isObject(node['properties'])) this.name(node, pascal(node['title']), 1)
    for (const value of Object.values(node)) this.nameTitled(value)
  }

  namedTypeOf(schema: Node, name: string, indent: string): string {
    this.name(schema, name)
    return this.typeOf(schema, indent)
  }

  /** All named shapes as interfaces. */
  declarations(): string[] {
    return [...this.#schemas].map(([name, schema]) => {
      const description = textOf(schema['description'])
      const comment = description === '' ? '' : `/** ${description} */\n`
      return `${comment}export interface ${name} ${this.#object(schema, '', true)}\n`
    })
  }

  typeOf(schema: Node, indent: string): string {
    return this.#type(schema, indent, true)
  }

  #bare(schema: Node): string {
    return this.#type(schema, '', false)
  }

  #type(schema: Node, indent: string, named: boolean): string {
    for (const keyword of Object.keys(schema)) {
      if (!shaping.has(keyword) && !untold.has(keyword)) throw new Error(`the keyword ${keyword} of JSON Schema is not known here`)
    }
    if (typeof schema['$ref'] === 'string') return this.#type(this.#resolve(schema['$ref']), indent, named)
    const choice = schema['anyOf'] ?? schema['oneOf']
    if (Array.isArray(choice)) return union(choice.filter(isObject).map((one) => this.#type(one, indent, named)))
    if (schema['const'] !== undefined) return literal(schema['const'])
    if (Array.isArray(schema['enum'])) return union(schema['enum'].map(literal))
    const { type } = schema
    if (type === undefined) return 'unknown'
    const kinds: unknown[] = Array.isArray(type) ? type : [type]
    return union(kinds.map((kind) => this.#kind(textOf(kind), schema, indent, named)))
  }

  #kind(kind: string, schema: Node, indent: string, named: boolean): string {
    if (kind === 'array') {
      const item = isObject(schema['items']) ? this.#type(schema['items'], indent, named) : 'unknown'
      return `readonly ${/[ |]/.test(item) && !item.startsWith('{') ? `(${item})` : item}[]`
    }
    if (kind === 'object') {
      if (!isObject(schema['properties'])) return `Readonly<Record<string, ${this.#more(schema, indent, named) ?? 'unknown'}>>`
      const name = named ? this.#names.get(this.#bare({ ...schema, type: 'object' })) : undefined
      return name ?? this.#object(schema, indent, named)
    }
    const primitive = primitives[kind]
    if (primitive === undefined) throw new Error(`the type "${kind}" of JSON Schema is not known here`)
    return primitive
  }

  #object(schema: Node, indent: string, named: boolean): string {
    const inner = `${indent}  `
    const required = new Set(Array.isArray(schema['required']) ? schema['required'].map(textOf) : [])
    const members = Object.entries(isObject(schema['properties']) ? schema['properties'] : {}).map(([name, value]) => {
      const property = isObject(value) ? value : {}
      return memberOf(name, this.#type(property, inner, named), required.has(name), named ? textOf(property['description']) : '', inner)
    })
    const more = this.#more(schema, inner, named)
    if (more !== undefined) members.push(`${inner}readonly [name: string]: ${more}`)
    return members.length === 0 ? 'Readonly<Record<string, never>>' : `{\n${members.join('\n')}\n${indent}}`
  }

  /** Of members that have no schema of their own; undefined when there may be none, or nothing is said of them. */
  #more(schema: Node, indent: string, named: boolean): string | undefined {
    const more = schema['additionalProperties']
    if (more === true) return 'unknown'
    return isObject(more) ? this.#type(more, indent, named) : undefined
  }

  #resolve(reference: string): Node {
    let target: unknown = this.#document
    for (const step of reference.replace(/^#\//, '').split('/')) target = isObject(target) ? target[step] : undefined
    if (!isObject(target)) throw new Error(`${reference} is nowhere in the document`)
    return target
  }
}

function literal(value: unknown): string {
  return typeof value === 'string' ? `'${value.replaceAll(/['\\]/g, String.raw`\$&`)}'` : JSON.stringify(value)
}

function union(types: readonly string[]): string {
  return [...new Set(types)].join(' | ')
}
