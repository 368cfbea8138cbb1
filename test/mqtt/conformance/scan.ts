import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { clients3, statements3 } from './statements-3.ts'
import { clients5, statements5 } from './statements-5.ts'

export type Version = '3.1.1' | '5.0'

/** A test that cites a statement. */
export interface Citation {
  readonly file: string
  readonly name: string
}

export const statements: Readonly<Record<Version, Readonly<Record<string, string>>>> = { '3.1.1': statements3, '5.0': statements5 }

const root = path.resolve(import.meta.dirname, '../../..')
const folders = ['test/mqtt', 'test/wire', 'test/sessions', 'e2e']

const testStart = /^([ \t]*)(?:await )?(?:test|it)(?:\.\w+)?\(\s*(['"`])((?:\\.|(?!\2)[^\\])*)\2/gm
const cited = /MQTT-(\d+\.\d+\.\d+-\d+)/g
/** What a case of a table within a test is called. */
const caseName = /(['"`])\[?MQTT-\d(?:\\.|(?!\1)[^\\\n])*\1/g

/**
 * Which version a file's citations are of: both have numbers that mean different things in the other. A file of MQTT 5 has a 5, or "five", in its
 * name, or says `Statements of MQTT 5`.
 */
function versionOf(file: string, source: string): Version {
  const said = /Statements of MQTT (3\.1\.1|5)/.exec(source)?.[1]
  if (said !== undefined) return said === '5' ? '5.0' : '3.1.1'
  return /5|five/.test(path.basename(file)) ? '5.0' : '3.1.1'
}

/**
 * Statements that a text names, in the version of its file. One that 3.1.1 does not have is one of 5 wherever it is cited (what both versions do, as
 * shared subscriptions); those of WebSocket are the same in both.
 */
function* named(text: string, version: Version): Generator<readonly [Version, string], void, undefined> {
  for (const [, id = ''] of text.matchAll(cited)) {
    if (id in statements[version]) yield [version, id]
    if (version === '3.1.1') {
      const unknown = !(id in statements3) && !clients3.includes(id)
      if (id in statements5 && (unknown || id.startsWith('6.'))) yield ['5.0', id]
    } else if (id in statements3 && id.startsWith('6.')) yield ['3.1.1', id]
  }
}

/** Citations of one source: in tests' names, and in names of cases within them. */
export function citationsOf(file: string, source: string): Map<string, Citation> {
  const found = new Map<string, Citation>()
  const version = versionOf(file, source)
  const tests = [...source.matchAll(testStart)]
  for (const [i, match] of tests.entries()) {
    const name = (match[3] ?? '').replaceAll(/\\(.)/g, '$1')
    const rest = source.slice(match.index + match[0].length, tests[i + 1]?.index ?? source.length)
    // What stands behind its end is not of the test.
    const end = rest.indexOf(`\n${match[1]}})`)
    const body = end < 0 ? rest : rest.slice(0, end)
    const cases = [...body.matchAll(caseName)].map(([text]) => text).join('\n')
    for (const [of, id] of named(`${name}\n${cases}`, version)) found.set(`${of} ${id} ${name}`, { file, name })
  }
  return found
}

/** Cites statements to test this, not to show them. */
const ownTest = 'statements.test.ts'

/** Tests by `version id`, in the order of files and of their places there. */
export function scan(): ReadonlyMap<string, readonly Citation[]> {
  const all = new Map<string, Citation[]>()
  for (const folder of folders) {
    const files = readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' })
    for (const name of files.filter((one) => one.endsWith('.test.ts') && path.basename(one) !== ownTest).toSorted()) {
      const file = path.posix.join(folder, name.split(path.sep).join('/'))
      for (const [key, citation] of citationsOf(file, readFileSync(path.join(root, file), 'utf8'))) {
        const [version = '', id = ''] = key.split(' ', 2)
        const list = all.get(`${version} ${id}`)
        if (list === undefined) all.set(`${version} ${id}`, [citation])
        else list.push(citation)
      }
    }
  }
  return all
}

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ')

/** docs/mqtt-conformance.md. `open`: statements that are not claimed, as `version id`. */
export function conformancePage(header: string, open: ReadonlySet<string>): string {
  const tests = scan()
  const out = ['# MQTT conformance', '', header, '']
  out.push(
    'Numbered statements of the two standards that bind a server, and the tests that show what Kymo does: names of tests cite them. `open`: not claimed.',
    'Statements that bind clients alone are marked so (5.0), or left out (3.1.1); what the server does about clients that break them is tested with the packets concerned.',
    'What no numbered statement settles: a property that its packet may not carry makes the packet malformed (5.0, 2.2.2.2) and is answered with 0x81, as an unknown one is; ' +
      'one that stands twice or has a value out of its range is a protocol error, 0x82 (test/wire/mqtt5-malformed.test.ts).',
    'The words here are a reminder and not the standard: [3.1.1](https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/mqtt-v3.1.1.html), ' +
      '[5.0](https://docs.oasis-open.org/mqtt/mqtt/v5.0/mqtt-v5.0.html).',
  )
  for (const version of ['3.1.1', '5.0'] as const) {
    const ids = Object.keys(statements[version])
    const claimed = ids.filter((id) => !open.has(`${version} ${id}`))
    out.push('', `## MQTT ${version}`, '', `${claimed.length} of ${ids.length} statements are claimed.`, '')
    out.push('| statement | what it asks for | tests |', '| --- | --- | --- |')
    for (const id of ids) {
      const shown = (tests.get(`${version} ${id}`) ?? []).map(({ file, name }) => `${file}: ${cell(name)}`)
      const where = open.has(`${version} ${id}`) ? ['open', ...shown] : shown
      out.push(`| MQTT-${id} | ${cell(statements[version][id] ?? '')} | ${where.join('<br>')} |`)
    }
    if (version === '5.0') for (const [id, words] of Object.entries(clients5)) out.push(`| MQTT-${id} | ${cell(words)} | of clients alone |`)
  }
  return `${out.join('\n')}\n`
}
