import type { Document, LineCounter, Node, Pair, ParsedNode } from 'yaml'
import { configLeaves, type Leaf } from './config.ts'
import type { FileSettings } from './config-resolve.ts'
import { complaint, suggest, withoutPassword } from './config-value.ts'
import type { FieldError } from './errors.ts'
import { limits } from './limits.ts'

/** What is wrong in a file: `pointer` is `kymo.yaml:14:5`, `detail` ends with the line and a mark below the place. */
export interface ConfigFileRead {
  readonly settings: FileSettings
  readonly errors: readonly FieldError[]
}

/** Lines that begin with a tab: YAML forbids it, and the parser speaks of it as a missing comma or colon. */
const tabbed = /^ *\t/

/**
 * Reads YAML 1.2, nested as the dotted names of the settings, and finds all that is wrong at once. Anchors, aliases, tags and further documents
 * are refused: settings need none, and aliases let a small file expand without bound. A setting that is secret may be `{file: /path}`.
 */
export async function readConfigFile(text: string, file: string, readSecret: (path: string) => string): Promise<ConfigFileRead> {
  const errors: FieldError[] = []
  const values = new Map<string, { readonly value: unknown; readonly where: string }>()
  const answer: ConfigFileRead = { settings: { file, values }, errors }
  if (Buffer.byteLength(text) > limits.configFileBytesMax) {
    errors.push({ pointer: file, detail: `is larger than ${limits.configFileBytesMax} bytes` })
    return answer
  }
  const lines = text.split(/\r\n|\n|\r/)
  const tab = lines.findIndex((line) => tabbed.test(line))
  if (tab !== -1) {
    errors.push(pointed(file, lines, { line: tab + 1, col: lines[tab]!.indexOf('\t') + 1 }, 1, 'a tab in the indentation; YAML takes spaces only'))
    return answer
  }
  const yaml = await import('yaml')
  const counter = new yaml.LineCounter()
  const at = (offset: number, length: number, detail: string): void => {
    errors.push(pointed(file, lines, placeOf(counter, offset, lines), length, detail))
  }
  let document: Document.Parsed
  try {
    document = yaml.parseDocument(text, {
      version: '1.2',
      schema: 'core',
      strict: true,
      uniqueKeys: false,
      prettyErrors: false,
      lineCounter: counter,
    })
  } catch (thrown) {
    if (!(thrown instanceof RangeError)) throw thrown
    errors.push({ pointer: file, detail: 'is nested too deep to be read' })
    return answer
  }
  for (const error of [...document.errors, ...document.warnings]) at(error.pos[0], Math.max(1, error.pos[1] - error.pos[0]), error.message)
  if (errors.length > 0 || document.contents === null) return answer

  const leaves = new Map(configLeaves().map((leaf) => [leaf.name, leaf]))
  const where = (offset: number): string => {
    const { line, col } = placeOf(counter, offset, lines)
    return `${file}:${line}:${col}`
  }
  const start = (node: Node): number => node.range?.[0] ?? 0
  const length = (node: Node): number => Math.max(1, (node.range?.[1] ?? 0) - start(node))
  const plain = (node: Node): boolean => {
    if (yaml.isAlias(node)) at(start(node), length(node), 'aliases are not taken here; write the value out')
    else if ('anchor' in node && node.anchor !== undefined) at(start(node), length(node), 'anchors are not taken here')
    else if (node.tag !== undefined && !node.tag.startsWith('tag:yaml.org,2002:'))
      at(start(node), length(node), `the tag ${node.tag} is not taken here`)
    else return true
    return false
  }
  const secretOf = (leaf: Leaf, node: ParsedNode | Node): { readonly value: unknown } | undefined => {
    if (leaf.schema.secret !== true || !yaml.isMap(node)) return undefined
    const from: unknown = node.get('file')
    if (typeof from !== 'string' || node.items.length !== 1) {
      at(start(node), length(node), `${leaf.name} must be text, or {file: /path}`)
      return { value: undefined }
    }
    return { value: readSecret(from) }
  }
  /** A list is kept as the JSON that the setting takes elsewhere. */
  const listOf = (leaf: Leaf, node: Node): string | undefined => {
    if (!('format' in leaf.schema) || leaf.schema.format !== 'rules' || !yaml.isSeq(node)) return undefined
    let fine = true
    yaml.visit(node, (_, inner) => {
      if (yaml.isNode(inner) && !plain(inner)) fine = false
    })
    return fine ? JSON.stringify(node.toJS(document)) : ''
  }
  const takeLeaf = (leaf: Leaf, node: Node): void => {
    const secret = secretOf(leaf, node)
    if (secret !== undefined && secret.value === undefined) return
    const value = secret === undefined ? (yaml.isScalar(node) ? node.value : listOf(leaf, node)) : secret.value
    const wrong = value === null ? 'has no value' : complaint(leaf.schema, value)
    const hint = typeof value === 'number' && leaf.schema.type === 'string' ? `; put it in quotes: '${value}'` : ''
    if (wrong === undefined) values.set(leaf.name, { value, where: where(start(node)) })
    else at(start(node), length(node), `${leaf.name} ${wrong}${hint}`)
  }
  const unknown = (key: Node, name: string, prefix: string): void => {
    const names = [...leaves.keys()]
    const here = new Set(names.filter((one) => one.startsWith(prefix)).map((one) => one.slice(prefix.length).split('.')[0]!))
    const word = name.slice(prefix.length)
    if (leaves.has(name)) return at(start(key), length(key), `${name} is written nested: ${name.slice(prefix.length).split('.').join(': ')}`)
    const near = suggest(word, [...here])
    const elsewhere = near === undefined ? names.find((one) => one.endsWith(`.${word}`)) : undefined
    const hint = near ?? elsewhere
    at(start(key), length(key), `unknown setting ${name}${hint === undefined ? '' : `; did you mean ${hint}?`}`)
  }
  const takeMap = (node: Node, prefix: string): void => {
    if (!plain(node)) return
    // `store:` with nothing below says nothing.
    if (yaml.isScalar(node) && node.value === null) return
    if (!yaml.isMap(node))
      return at(start(node), length(node), prefix === '' ? 'the file is a map of settings' : `${prefix.slice(0, -1)} is a group of settings`)
    const seen = new Map<string, string>()
    for (const pair of node.items) takePair(pair, prefix, seen)
  }
  const takePair = ({ key, value }: Pair, prefix: string, seen: Map<string, string>): void => {
    if (!yaml.isScalar(key) || typeof key.value !== 'string') {
      if (yaml.isNode(key)) at(start(key), length(key), 'the name of a setting is plain text')
      return
    }
    if (!plain(key)) return
    const name = prefix + key.value
    const before = seen.get(name)
    if (before !== undefined) return at(start(key), length(key), `${name} stands twice; before at ${before}`)
    seen.set(name, where(start(key)))
    const leaf = leaves.get(name)
    const branch = [...leaves.keys()].some((one) => one.startsWith(`${name}.`))
    if ((leaf === undefined && !branch) || (leaf !== undefined && key.value.includes('.')) || (branch && key.value.includes('.')))
      return unknown(key, name, prefix)
    if (!yaml.isNode(value)) {
      if (leaf !== undefined) at(start(key), length(key), `${name} has no value`)
      return
    }
    if (leaf === undefined) takeMap(value, `${name}.`)
    else if (plain(value)) takeLeaf(leaf, value)
  }
  takeMap(document.contents, '')
  return answer
}

interface Place {
  readonly line: number
  readonly col: number
}

/** Columns count characters as an editor does, not UTF-16 units. */
function placeOf(counter: LineCounter, offset: number, lines: readonly string[]): Place {
  const { line, col } = counter.linePos(offset)
  if (line === 0) return { line: 1, col: 1 }
  return { line, col: charactersOf((lines[line - 1] ?? '').slice(0, col - 1)).length + 1 }
}

/** As an editor's column counts them. */
function charactersOf(text: string): string[] {
  return Array.from(text)
}

const shownMax = 120

/** A line with a secret, or a URL with a password, is named and not quoted. */
function tells(line: string): boolean {
  return withoutPassword(line) !== line || configLeaves().some(({ name, schema }) => schema.secret === true && line.includes(name.split('.').at(-1)!))
}

function pointed(file: string, lines: readonly string[], { line, col }: Place, length: number, detail: string): FieldError {
  const text = charactersOf(lines[line - 1] ?? '')
    .slice(0, shownMax)
    .join('')
  const mark = '^'.repeat(Math.max(1, Math.min(length, charactersOf(text).length - col + 1)))
  const quoted = text.trim() === '' || tells(text) ? '' : `\n${String(line).padStart(6)} | ${text}\n${' '.repeat(6)} | ${' '.repeat(col - 1)}${mark}`
  return { pointer: `${file}:${line}:${col}`, detail: `${detail}${quoted}` }
}
