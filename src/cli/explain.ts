import type { Command } from 'commander'
import { errorTable, httpStatus, KymoError } from '../core/errors.ts'
import { suggest } from '../core/config-value.ts'
import { exitCodeOf } from './exit.ts'
import { examples, jsonOption } from './options.ts'
import { errorGuide } from './reference/error-guide.ts'
import { errorCodes, errorPage, findCode } from './reference/error-page.ts'
import type { Terminal } from './terminal.ts'

export function declare(command: Command, terminal: Terminal): void {
  jsonOption(command.argument('[error]', 'an id as KYMO-E214, or a code as data_dir_unusable; without it, all of them are listed'))
  examples(command, [
    ['kymo explain KYMO-E104', 'cause and what to do; needs no network'],
    ['kymo explain', 'every error in a line'],
  ]).action((asked: string | undefined, options: { readonly json?: boolean }) => explain(asked, options.json === true, terminal))
}

function explain(asked: string | undefined, json: boolean, terminal: Terminal): void {
  if (asked === undefined) {
    for (const code of errorCodes()) {
      const { id, kind, text } = errorTable[code]
      terminal.out(json ? JSON.stringify({ id, code, kind, text }) : `  ${id}  ${code.padEnd(24)}  ${text}`)
    }
    return
  }
  const code = findCode(asked)
  if (code === undefined) {
    const near = suggest(asked.toLowerCase(), errorCodes())
    throw new KymoError('usage', {
      detail: `there is no error ${asked}${near === undefined ? '' : `; did you mean ${near}?`}`,
      facts: { command: 'kymo explain', fix: 'All of them:  kymo explain' },
    })
  }
  if (json) {
    const { id, kind, text } = errorTable[code]
    terminal.out(
      JSON.stringify({ id, code, kind, text, ...errorGuide[code], http_status: httpStatus(code), exit_code: exitCodeOf(new KymoError(code)) }),
    )
  } else terminal.out(errorPage(code).trimEnd())
}
