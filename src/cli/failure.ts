import type { KymoError } from '../core/errors.ts'
import { errorTable } from '../core/errors.ts'
import type { Terminal } from './terminal.ts'

const idColumn = 64

/** What to do about it, one line each. Facts of the error make it concrete. */
export function fixOf(error: KymoError): readonly string[] {
  const facts = error.details.facts ?? {}
  if (typeof facts['fix'] === 'string') return [facts['fix']]
  switch (error.code) {
    case 'usage': {
      const command = typeof facts['command'] === 'string' ? facts['command'] : 'kymo'
      return [`Usage and examples:  ${command} --help`]
    }
    case 'port_in_use': {
      const option = typeof facts['option'] === 'string' ? facts['option'] : undefined
      if (option === undefined) return []
      const port = typeof facts['port'] === 'number' ? facts['port'] : undefined
      const next = port === undefined ? '' : `Use another:  kymo start --${option} ${port + 1}    or any`
      return [`${next === '' ? 'Any' : next} free: --${option} 0`]
    }
    case 'server_unreachable':
      return ['Start one:  kymo start      or name it:  --url http://host:8080 (KYMO_URL)']
    case 'unauthenticated':
      return ['Give a token:  --token tk_… (KYMO_TOKEN).  Create one on the server:  kymo tokens create --name me --data DIR']
    case 'log_corrupt':
      return ['Look first:  kymo log verify --data DIR      then:  kymo log repair --data DIR']
    case 'config_invalid':
      return []
    case 'bug':
      return ['With KYMO_LOG_LEVEL=debug the server says more. Please report it with the lines above.']
    default: {
      const table = errorTable[error.code].text
      // A message that begins as the table's text says the same with more facts.
      return error.message.startsWith(table.slice(0, 24)) ? [] : [table]
    }
  }
}

/** As `error: …   [KYMO-E104]` and the fix below it; or one JSON document, on stderr either way. */
export function printFailure(terminal: Terminal, error: KymoError, json: boolean): void {
  if (json) {
    const facts = error.details.facts
    const errors = error.details.errors
    const fix = fixOf(error).join('\n')
    const body = {
      code: error.code,
      id: error.id,
      detail: error.message,
      ...(fix === '' ? {} : { fix }),
      ...(errors === undefined ? {} : { errors }),
      ...(facts === undefined ? {} : { facts }),
      more: `kymo explain ${error.id}`,
    }
    terminal.err(JSON.stringify({ error: body }))
    return
  }
  const { colors } = terminal
  const text = `error: ${error.message}`
  const [first = '', ...rest] = text.split('\n')
  const padding = ' '.repeat(Math.max(2, idColumn - first.length))
  terminal.err(`${colors.red('error:')}${first.slice('error:'.length)}${padding}${colors.dim(`[${error.id}]`)}`)
  for (const line of rest) terminal.err(`  ${line}`)
  // What the message says already is not said again.
  const further = (error.details.errors ?? []).filter(({ detail }) => !error.message.includes(detail))
  for (const { pointer, detail } of further) terminal.err(`  ${pointer === '' ? '(body)' : pointer}  ${detail}`)
  for (const line of fixOf(error)) terminal.err(`  ${line}`)
  if (error.code !== 'usage') terminal.err(colors.dim(`  More:  kymo explain ${error.id}`))
  if (error.code === 'bug' && error.details.cause instanceof Error && terminal.env['KYMO_LOG_LEVEL'] === 'debug') {
    terminal.err(error.details.cause.stack ?? String(error.details.cause))
  }
}
