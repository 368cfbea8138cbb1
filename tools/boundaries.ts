/**
 * Holds the rooms apart: `npm run boundaries`. Prints every import, size and word that breaks a rule, and exits 1 when there is
 * one. The rules are data in rooms.ts.
 */
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { importsOf, withoutComments, withoutText } from './imports.ts'
import { compositions, drivers, linesMax, linesWarn, only, pure, roles, rows, timeless, timelessWords, walled } from './rooms.ts'

export interface Finding {
  readonly file: string
  readonly line: number
  readonly rule: 'room' | 'folder' | 'role' | 'driver' | 'pure' | 'dynamic' | 'missing' | 'cycle' | 'size' | 'word'
  readonly text: string
  /** Told, but not a failure. */
  readonly warning?: true
}

/** Path from the root, with forward slashes, to source. */
export type Tree = ReadonlyMap<string, string>

const rankOf = new Map(rows.flatMap((row, rank) => row.map((room) => [room, rank] as const)))

interface Place {
  readonly room: string
  /** Second folder, or undefined for a file that lies in the room itself. */
  readonly folder: string | undefined
}

function placeOf(file: string): Place | undefined {
  const parts = file.split('/')
  if (parts[0] !== 'src' || parts.length < 3) return undefined
  return { room: parts[1]!, folder: parts.length > 3 ? parts[2]! : undefined }
}

/** Everything that is wrong with the imports, sizes and words of `tree`. */
export function check(tree: Tree): Finding[] {
  const findings: Finding[] = []
  const graph = new Map<string, string[]>()
  for (const [file, source] of tree) {
    if (file.startsWith('src/') && /\.[mc]?[jt]sx?$/.test(file)) {
      findings.push(...checkSource(file, source, tree, graph), ...checkSize(file, source))
    }
    findings.push(...checkWords(file, source))
  }
  for (const cycle of cyclesOf(graph)) {
    findings.push({ file: cycle[0]!, line: 1, rule: 'cycle', text: `imports itself through ${[...cycle, cycle[0]!].join(' → ')}` })
  }
  return findings
}

function checkSource(file: string, source: string, tree: Tree, graph: Map<string, string[]>): Finding[] {
  const found: Finding[] = []
  const from = placeOf(file)
  const targets: string[] = []
  for (const { specifier, line } of importsOf(source)) {
    if (specifier === '?') {
      found.push({ file, line, rule: 'dynamic', text: 'a computed import cannot be checked: name the module' })
    } else if (specifier.startsWith('.')) {
      const target = path.posix.normalize(path.posix.join(path.posix.dirname(file), specifier))
      targets.push(target)
      if (target.startsWith('src/') && !tree.has(target)) found.push({ file, line, rule: 'missing', text: `${specifier} does not exist` })
      found.push(...checkLocal(file, line, from, target))
    } else found.push(...checkPackage(file, line, from, specifier))
  }
  if (from !== undefined && timeless.includes(from.room)) {
    withoutComments(source)
      .split('\n')
      .forEach((text, i) => {
        const word = timelessWords.exec(text)
        if (word !== null)
          found.push({ file, line: i + 1, rule: 'pure', text: `src/${from.room} is given time and chance as data; ${word[0]} is not for it` })
      })
  }
  graph.set(file, targets)
  return found
}

function checkLocal(file: string, line: number, from: Place | undefined, target: string): Finding[] {
  const to = placeOf(target)
  if (from === undefined) return []
  if (to === undefined) {
    return target === 'package.json' ? [] : [{ file, line, rule: 'room', text: `src/ does not import ${target}` }]
  }
  if (from.room !== to.room) {
    const a = rankOf.get(from.room)
    const b = rankOf.get(to.room)
    if (a === undefined || b === undefined)
      return [{ file, line, rule: 'room', text: `src/${a === undefined ? from.room : to.room} is no room of the table` }]
    const few = only[from.room]
    if (few !== undefined && !few.includes(to.room))
      return [{ file, line, rule: 'room', text: `src/${from.room} runs in browsers: of our rooms it may import ${few.join(', ')} only` }]
    if (b < a) return []
    return [
      { file, line, rule: 'room', text: `src/${from.room} may not import src/${to.room}: ${b === a ? 'they stand in one row' : 'it stands below'}` },
    ]
  }
  if (from.room === 'roles') return checkRoles(file, line, from, to, target)
  const wall = walled[from.room]
  if (
    wall === undefined ||
    from.folder === undefined ||
    to.folder === undefined ||
    from.folder === to.folder ||
    wall.sharedFolders.includes(to.folder)
  )
    return []
  return [{ file, line, rule: 'folder', text: `src/${from.room}/${from.folder} may not import its neighbour src/${from.room}/${to.folder}` }]
}

function checkRoles(file: string, line: number, from: Place, to: Place, target: string): Finding[] {
  // ingest.ts, ingest-metrics.ts and ingest/ belong to the role ingest; what is named after no role is a part that any may use.
  const roleOf = (place: Place, name: string): string | undefined =>
    roles.find((role) => role === (place.folder ?? /^[a-z]+/.exec(path.posix.basename(name))?.[0]))
  const theirs = roleOf(to, target)
  if (compositions.includes(file) || theirs === undefined || roleOf(from, file) === theirs) return []
  return [{ file, line, rule: 'role', text: `roles meet in the log and the stores only: ${file} may not import ${target}` }]
}

function checkPackage(file: string, line: number, from: Place | undefined, specifier: string): Finding[] {
  const found: Finding[] = []
  for (const driver of drivers) {
    if (driver.packages.test(specifier) && !driver.only.some((folder) => file.startsWith(folder))) {
      found.push({ file, line, rule: 'driver', text: `${specifier} belongs to ${driver.only.join(', ')}` })
    }
  }
  const allowed = from === undefined ? undefined : pure[from.room]
  if (allowed !== undefined && specifier.startsWith('node:') && !allowed.test(specifier)) {
    found.push({ file, line, rule: 'pure', text: `src/${from?.room} computes and nothing else: ${specifier} is not for it` })
  }
  return found
}

function checkSize(file: string, source: string): Finding[] {
  // What nobody writes nobody reads as a whole.
  if (source.startsWith('/* Generated by ')) return []
  const lines = source.split('\n').length - (source.endsWith('\n') ? 1 : 0)
  if (lines > linesMax) return [{ file, line: linesMax, rule: 'size', text: `${lines} lines; more than ${linesMax} is more than one thing` }]
  if (lines > linesWarn) return [{ file, line: linesWarn, rule: 'size', text: `${lines} lines; think of splitting it`, warning: true }]
  return []
}

// Written in pieces, so that this file passes its own check.
const word = (...parts: readonly string[]): string => parts.join('')
const words: readonly { readonly pattern: RegExp; readonly why: string }[] = [
  {
    pattern: new RegExp(
      `\\b(${[word('TO', 'DO'), word('FIX', 'ME'), word('X', 'XX'), word('HA', 'CK'), word('not impl', 'emented'), word('place', 'holder'), word('dum', 'my'), word('lor', 'em')].join('|')})\\b`,
    ),
    why: 'unfinished work, or a word that says so',
  },
  { pattern: new RegExp(`/(${['wo', 'fa', 'ro'].map((a, i) => a + ['rk', 'rm', 'ot'][i]!).join('|')})/`), why: 'a path of one machine' },
  { pattern: new RegExp(`@ts-(?:${word('ig', 'nore')}|${word('no', 'check')}|${word('expect', '-error')})`), why: 'a type given up' },
]
/** Looked for in code only: not in comments, strings and templates. */
const codeWords: readonly { readonly pattern: RegExp; readonly why: string }[] = [
  { pattern: /\b(?:it|test|describe)[.](?:only|skip|todo)\(/, why: 'a test that is switched off or alone' },
  { pattern: /catch *(?:\([^)]*\))? *\{ *\}/, why: 'an error swallowed in silence' },
  { pattern: new RegExp(`(?:\\bas |: |<)${word('a', 'ny')}\\b|\\b${word('a', 'ny')}\\[\\]`), why: 'a type given up' },
]

function checkWords(file: string, source: string): Finding[] {
  const found: Finding[] = []
  const look = (text: string, patterns: readonly { readonly pattern: RegExp; readonly why: string }[]): void => {
    text.split('\n').forEach((line, i) => {
      for (const { pattern, why } of patterns) {
        const hit = pattern.exec(line)
        if (hit !== null) found.push({ file, line: i + 1, rule: 'word', text: `"${hit[0].trim()}": ${why}` })
      }
    })
  }
  look(source, words)
  if (/\.[mc]?[jt]sx?$/.test(file)) look(withoutText(source), codeWords)
  return found
}

/** Strongly connected groups of more than one file, or files that import themselves (Tarjan 1972). */
export function cyclesOf(graph: ReadonlyMap<string, readonly string[]>): string[][] {
  const index = new Map<string, number>()
  const low = new Map<string, number>()
  const stack: string[] = []
  const cycles: string[][] = []
  const visit = (node: string): void => {
    index.set(node, index.size)
    low.set(node, index.get(node)!)
    stack.push(node)
    for (const next of graph.get(node) ?? []) {
      if (!graph.has(next)) continue
      if (!index.has(next)) {
        visit(next)
        low.set(node, Math.min(low.get(node)!, low.get(next)!))
      } else if (stack.includes(next)) low.set(node, Math.min(low.get(node)!, index.get(next)!))
    }
    if (low.get(node) !== index.get(node)) return
    const group = stack.splice(stack.indexOf(node))
    const first = group.indexOf(group.toSorted()[0]!)
    if (group.length > 1 || (graph.get(node) ?? []).includes(node)) cycles.push([...group.slice(first), ...group.slice(0, first)])
  }
  for (const node of graph.keys()) if (!index.has(node)) visit(node)
  return cycles
}

const skippedFolders = new Set(['node_modules', '.git', 'kymo-data', 'coverage', 'dist', '.services'])
const textFile = /\.(?:[mc]?[jt]sx?|md|json|jsonc|ya?ml|sh|py|txt|html|css|svg)$|^[^.]+$|^\.(?:gitignore|npmrc)$/
/** Made by npm, or data of others: their words are not ours. */
const foreign = /^(?:package-lock\.json|test\/data\/.*\.(?:csv|txt|json))$/

/** Every text file of the working tree. */
export function readTree(root: string): Map<string, string> {
  const tree = new Map<string, string>()
  const walk = (folder: string): void => {
    for (const entry of readdirSync(path.join(root, folder), { withFileTypes: true })) {
      const name = folder === '' ? entry.name : `${folder}/${entry.name}`
      if (entry.isDirectory()) {
        if (!skippedFolders.has(entry.name)) walk(name)
      } else if (entry.isFile() && textFile.test(entry.name) && !foreign.test(name)) tree.set(name, readFileSync(path.join(root, name), 'utf8'))
    }
  }
  walk('')
  return tree
}

if (import.meta.main) {
  const root = path.resolve(import.meta.dirname, '..')
  const tree = readTree(root)
  const findings = check(tree)
  const failures = findings.filter((finding) => finding.warning !== true)
  for (const { file, line, rule, text, warning } of findings) {
    process.stdout.write(`${warning === true ? 'warning' : 'error'}: ${file}:${line}  ${text}  [${rule}]\n`)
  }
  const sources = [...tree.keys()].filter((file) => file.startsWith('src/')).length
  process.stdout.write(`boundaries: ${sources} files of src/, ${failures.length} errors, ${findings.length - failures.length} warnings\n`)
  process.exitCode = failures.length > 0 ? 1 : 0
}
