import { errorTable, httpStatus, KymoError, type Code, type Kind } from '../../core/errors.ts'
import { exitCodeOf } from '../exit.ts'
import { errorGuide } from './error-guide.ts'

export const kindMeaning: Readonly<Record<Kind, string>> = {
  invalid: 'what was sent cannot be used; it goes to the dead letters where it came from a device',
  denied: 'not allowed',
  missing: 'there is no such thing',
  conflict: 'it contradicts what is already so',
  overloaded: 'too much at once; try again later',
  unavailable: 'something needed does not answer; it is tried again without end',
  corrupt: 'stored bytes are damaged; nothing is removed and nothing is guessed',
  usage: 'the command or the configuration is wrong',
  bug: 'a fault of Kymo itself',
}

/** All codes, in the order of their ids. */
export function errorCodes(): readonly Code[] {
  return codesOf(errorTable).toSorted((a, b) => (errorTable[a].id < errorTable[b].id ? -1 : 1))
}

function codesOf<C extends string>(table: Readonly<Record<C, unknown>>): C[] {
  return Object.keys(table).filter((code): code is C => Object.hasOwn(table, code))
}

/** `KYMO-E214`, `E214`, `214` or `data_dir_unusable`, in any case. */
export function findCode(text: string): Code | undefined {
  const asked = text.trim().toLowerCase()
  const digits = /^(?:kymo-)?e?(\d{3})$/.exec(asked)?.[1]
  return errorCodes().find((code) => code === asked || (digits !== undefined && errorTable[code].id === `KYMO-E${digits}`))
}

/** One error: docs/reference/errors/KYMO-Ennn.md, and what `kymo explain` prints. */
export function errorPage(code: Code, generated?: string): string {
  const { id, kind, text } = errorTable[code]
  const guide = errorGuide[code]
  const out = [`# ${id} ${code}`, '', ...(generated === undefined ? [] : [generated, '']), text, '']
  if (guide !== undefined) out.push('## Cause', '', guide.cause, '', '## What to do', '', guide.fix, '')
  out.push('## For programs', '', '| code | id | kind | HTTP | exit code |', '| --- | --- | --- | --- | --- |')
  out.push(`| \`${code}\` | ${id} | ${kind} | ${httpStatus(code)} | ${exitCodeOf(new KymoError(code))} |`, '', `Kind ${kind}: ${kindMeaning[kind]}.`)
  return `${out.join('\n')}\n`
}

/** docs/reference/errors.md: all of them, each with its page. */
export function errorsPage(generated: string): string {
  const out = ['# Errors', '', generated, '']
  out.push(
    'Every error carries a stable `code`, an id and a kind. The kind decides what happens; the text informs. `kymo explain KYMO-E214` prints a page.',
    '',
  )
  out.push('| kind | means |', '| --- | --- |')
  for (const [kind, text] of Object.entries(kindMeaning)) out.push(`| ${kind} | ${text} |`)
  out.push('', '| id | code | kind | HTTP | exit | |', '| --- | --- | --- | --- | --- | --- |')
  for (const code of errorCodes()) {
    const { id, kind, text } = errorTable[code]
    out.push(
      `| [${id}](errors/${id}.md) | \`${code}\` | ${kind} | ${httpStatus(code)} | ${exitCodeOf(new KymoError(code))} | ${text.replaceAll('|', '\\|')} |`,
    )
  }
  out.push('', 'Exit codes: 0 done · 1 refused by the server · 2 usage · 3 configuration · 4 port · 5 storage · 6 a dependency · 70 a bug ·')
  out.push('99 a failed assertion · 130 interrupted.')
  return `${out.join('\n')}\n`
}
