import type { Command } from 'commander'
import { InvalidArgumentError } from 'commander'
import { enginesOf } from '../core/config-engines.ts'
import type { Config } from '../core/config.ts'
import type { Env } from '../core/env.ts'
import { createLogger, nodeEnv } from '../core/env/node-env.ts'
import { KymoError } from '../core/errors.ts'
import type { Scope } from '../core/services.ts'
import { openTokens } from '../devices/tokens.ts'
import type { Tokens } from '../devices/tokens.ts'
import type { SharedMetaStore } from '../store/meta/batched.ts'
import { openSqliteMeta } from '../store/meta/sqlite.ts'
import { table, time } from './format.ts'
import { commaList, examples, jsonOption, timeZoneOption } from './options.ts'
import { configFor } from './settings.ts'
import type { Terminal } from './terminal.ts'

interface TokenOptions {
  readonly data?: string
  readonly json?: boolean
  readonly timeZone?: string
}

const scopes: readonly Scope[] = ['ingest', 'read', 'admin']

export function declare(command: Command, terminal: Terminal): void {
  const create = dataOptions(command.command('create').description('make a token; it is shown once'))
    .requiredOption('--name <text>', 'what it is for')
    .option('--scopes <list>', `what it may do: ${scopes.join(', ')} (all)`, parseScopes)
  create.action(async (options: TokenOptions & { readonly name: string; readonly scopes?: readonly Scope[] }) =>
    withTokens(options, terminal, async (tokens) => {
      const { token, info } = await tokens.create({ name: options.name, scopes: options.scopes ?? scopes })
      if (options.json === true) terminal.out(JSON.stringify({ token, ...info }))
      else {
        terminal.out(token)
        terminal.err(`  ${info.name} (${info.scopes.join(', ')}), id ${info.id}. It is stored hashed and not shown again.`)
        terminal.err('  HTTP: Authorization: Bearer <token>.  MQTT: any user name, the token as the password.  kymo: KYMO_TOKEN.')
      }
    }),
  )

  const list = timeZoneOption(dataOptions(command.command('list').description('tokens, without their secrets')))
  list.action(async (options: TokenOptions) =>
    withTokens(options, terminal, async (tokens) => {
      const infos = await tokens.list()
      if (options.json === true) terminal.out(JSON.stringify({ items: infos }))
      else {
        const rows = infos.map((info) => [
          info.id,
          info.name,
          info.scopes.join(','),
          time(info.created_us / 1_000, options.timeZone),
          info.revoked_us === undefined ? '' : `revoked ${time(info.revoked_us / 1_000, options.timeZone)}`,
        ])
        for (const line of table(
          [{ title: 'id' }, { title: 'name' }, { title: 'scopes' }, { title: 'created' }, { title: '' }],
          rows,
          terminal.colors.dim,
        ))
          terminal.out(line)
      }
    }),
  )

  const revoke = dataOptions(command.command('revoke').description('make a token worthless')).argument('<id>', 'as kymo tokens list shows it')
  revoke.action(async (id: string, options: TokenOptions) =>
    withTokens(options, terminal, async (tokens) => {
      if (!(await tokens.revoke(id)))
        throw new KymoError('not_found', { detail: `there is no token ${id}`, facts: { fix: 'Ids:  kymo tokens list' } })
      terminal.out(options.json === true ? JSON.stringify({ id, revoked: true }) : `  revoked ${id}`)
    }),
  )

  examples(command, [
    ['kymo tokens create --name gateway-7 --scopes ingest', 'for a device that only sends'],
    ['kymo tokens create --name me --data /var/lib/kymo', 'before the first start of a server that serves the network'],
    ['kymo tokens revoke 0190b5e2-…', 'a running server takes it over within a second or two'],
  ])
}

function dataOptions(command: Command): Command {
  return jsonOption(command.option('--data <dir>', "the server's data directory (./kymo-data)"))
}

function parseScopes(text: string): Scope[] {
  return commaList(text, undefined).map((name) => {
    const scope = scopes.find((known) => known === name)
    if (scope === undefined) throw new InvalidArgumentError(`"${name}" is none of ${scopes.join(', ')}.`)
    return scope
  })
}

/** Works on the metadata itself, beside a running server or without one. */
async function withTokens(options: TokenOptions, terminal: Terminal, work: (tokens: Tokens) => Promise<void>): Promise<void> {
  const config = await configFor({ data: options.data, env: terminal.env })
  const env = nodeEnv(createLogger({ level: 'warn', format: 'text' }))
  const meta = await openMeta(config, env)
  try {
    const tokens = await openTokens({ meta, env, watch: false })
    try {
      await work(tokens)
    } finally {
      await tokens.close()
    }
  } finally {
    await meta.close()
  }
}

async function openMeta(config: Config, env: Env): Promise<SharedMetaStore> {
  const { meta } = enginesOf(config)
  if (meta.kind === 'local') return openSqliteMeta({ path: meta.path, env, thread: false })
  const { openPostgresMeta } = await import('../store/meta/postgres.ts')
  return openPostgresMeta({ url: meta.url, env })
}
