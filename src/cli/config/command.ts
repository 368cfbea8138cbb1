import path from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import type { Command } from 'commander'
import { checkTogether, valueOf, type Origin } from '../../core/config-resolve.ts'
import { enginesOf } from '../../core/config-engines.ts'
import { configLeaves } from '../../core/config.ts'
import { shown } from '../../core/config-value.ts'
import { asKymoError, errorTable, KymoError } from '../../core/errors.ts'
import { Exit } from '../exit.ts'
import { table } from '../format.ts'
import { readLock } from '../lock.ts'
import { examples, jsonOption } from '../options.ts'
import { configPage } from '../reference/config-page.ts'
import type { ReloadResult } from '../reload.ts'
import { settingsOf } from '../server-arguments.ts'
import { checkFile, configFileOf, configFor, fileInvalid, loadSettings, type Settings } from '../settings.ts'
import type { Terminal } from '../terminal.ts'

interface ConfigOptions {
  readonly config?: string
  readonly data?: string
  readonly changed?: boolean
  readonly json?: boolean
}

/** A server answers a reload as soon as its store has taken the settings over, which waits for no query. */
const reloadWithinMs = 10_000

export function declare(command: Command, terminal: Terminal): void {
  const show = command.command('show').description('every setting with its value and where it comes from, as kymo start here would have it')
  fileOption(show.option('--changed', 'only those that are not defaults')).allowUnknownOption(true).allowExcessArguments(true)
  jsonOption(show).action((options: ConfigOptions, self: Command) => showAll(options, self.args, terminal))

  const check = command.command('check').description('read a file and name all that is wrong with it; exit code 3 when anything is')
  jsonOption(check.argument('[file]', 'KYMO_CONFIG, else ./kymo.yaml').option('--config <file>', 'the same, as the other commands take it')).action(
    (file: string | undefined, options: ConfigOptions) => checkOne(file ?? options.config, options, terminal),
  )

  const docs = command.command('docs').description('print the reference of all settings')
  jsonOption(docs, 'print the schema of each setting as JSON').action((options: ConfigOptions) => {
    if (options.json === true) terminal.out(JSON.stringify(configLeaves().map(({ schema, ...names }) => ({ ...names, ...schema }))))
    else terminal.out(configPage('Settings of this version.').trimEnd())
  })

  const reload = command
    .command('reload')
    .description('have the server on this machine read its file again; exit code 3 when something needs a restart')
  jsonOption(reload.option('--data <dir>', "the server's data directory (./kymo-data)")).action((options: ConfigOptions) =>
    reloadServer(options, terminal),
  )

  examples(command, [
    ['kymo config show --changed', 'what is set, and by which flag, variable or line'],
    ['kymo config check kymo.yaml', 'before a deployment; names every error with line and column'],
    ['kymo config reload --data /var/lib/kymo', 'after the file was changed; says what needs a restart'],
  ])
}

function fileOption(command: Command): Command {
  return command.option('--config <file>', 'settings in YAML (KYMO_CONFIG, else ./kymo.yaml when it is there)')
}

function said(origin: Origin | undefined): string {
  return origin === undefined || origin.from === 'default' ? 'default' : (origin.where ?? origin.from)
}

async function showAll(options: ConfigOptions, rest: readonly string[], terminal: Terminal): Promise<void> {
  const settings = await loadSettings({ env: terminal.env, flags: settingsOf(rest, 'kymo config show'), configFile: options.config })
  const rows = configLeaves().flatMap(({ name, schema }) => {
    const origin = settings.origins.get(name)
    if (options.changed === true && origin?.from === 'default') return []
    const value = valueOf(settings.config, name)
    return [{ name, value, text: shown(schema, value), origin, reload: schema.reload === true }]
  })
  if (options.json === true) {
    const items = rows.map(({ name, value, text, origin, reload }) => ({
      name,
      value: typeof value === 'string' ? text : value,
      from: origin?.from ?? 'default',
      ...(origin?.where === undefined ? {} : { where: origin.where }),
      reload,
    }))
    terminal.out(
      JSON.stringify({ file: settings.file ?? null, items, pending: settings.pending.map(({ variable, effect }) => ({ variable, effect })) }),
    )
    return
  }
  const lines = table(
    [{ title: 'setting' }, { title: 'value' }, { title: 'from' }],
    rows.map(({ name, text, origin }) => [name, text === '' ? '(empty)' : text, said(origin)]),
    terminal.colors.dim,
  )
  for (const line of lines) terminal.out(`  ${line}`)
  tellPending(settings, terminal)
}

function tellPending({ pending }: Settings, terminal: Terminal): void {
  for (const { variable, effect } of pending)
    terminal.err(`  ${terminal.colors.yellow('!')} ${variable} is set but has no effect in this version (${effect}).`)
}

/** The file for itself: the environment of who checks is not that of the server. What must hold together is checked with the defaults. */
async function checkOne(given: string | undefined, options: ConfigOptions, terminal: Terminal): Promise<void> {
  const file = given ?? configFileOf({ env: terminal.env })
  if (file === undefined) throw new KymoError('usage', { detail: 'there is no ./kymo.yaml; name the file', facts: { command: 'kymo config check' } })
  const { settings, errors } = await checkFile(file)
  if (errors.length > 0) throw fileInvalid(file, errors)
  const { config } = await loadSettings({ env: {}, configFile: file })
  const production = config.environment === 'production' && config.session_key === ''
  // The key may come from the environment of the server.
  if (!production) checkTogether(config)
  enginesOf(config)
  if (options.json === true) terminal.out(JSON.stringify({ file, ok: true, settings: settings.values.size }))
  else {
    terminal.out(`  ${terminal.colors.green('✓')} ${file}: ${settings.values.size} settings, no errors`)
    if (production) terminal.out(`  ${terminal.colors.yellow('!')} production needs KYMO_SESSION_KEY or SECRET_KEY in the environment of the server`)
  }
}

async function reloadServer(options: ConfigOptions, terminal: Terminal): Promise<void> {
  // A server that is named need not be the one of the file that lies here.
  const dataDir = path.resolve(options.data ?? (await configFor({ env: terminal.env })).data_dir)
  const file = path.join(dataDir, 'kymo.lock')
  const before = readLock(file)
  if (before === undefined || before.state !== 'running')
    throw new KymoError('server_unreachable', {
      detail: before === undefined ? `no server uses ${dataDir}` : `the server of ${dataDir} is ${before.state}`,
      facts: { fix: 'Name the data directory of the server:  kymo config reload --data DIR' },
    })
  if (before.hangup !== 'reload')
    throw new KymoError('usage', {
      detail: 'this server runs in a terminal, where SIGHUP means that the terminal was closed',
      facts: { fix: 'Stop it with Ctrl-C and start it again, or run it as a service.' },
    })
  try {
    process.kill(before.pid, 'SIGHUP')
  } catch (cause) {
    const why = asKymoError(cause).message
    throw new KymoError('server_unreachable', {
      detail: `the server of ${dataDir} (pid ${before.pid}) cannot be told: ${why}`,
      facts: { fix: 'Run this as the same user and in the same container as the server.' },
      cause,
    })
  }
  const result = await answerOf(file, before.reload?.at)
  if (result === undefined)
    throw new KymoError('server_unreachable', {
      detail: `the server of ${dataDir} (pid ${before.pid}) did not answer within ${reloadWithinMs / 1000} s; its log says more`,
    })
  if (result.error !== undefined)
    throw new KymoError('config_invalid', {
      detail: `nothing was changed: ${result.error.detail}`,
      facts: { fix: 'Mend the file and reload again.' },
    })
  if (options.json === true) terminal.out(JSON.stringify(result))
  else for (const line of resultLines(result, terminal)) terminal.out(line)
  if (result.refused.length > 0 || result.certificates?.some(({ error }) => error !== undefined) === true) process.exitCode = Exit.config
}

async function answerOf(file: string, before: string | undefined): Promise<ReloadResult | undefined> {
  for (const until = performance.now() + reloadWithinMs; performance.now() < until; await delay(20)) {
    const result = readLock(file)?.reload
    if (result !== undefined && result.at !== before) return result
  }
  return undefined
}

function resultLines({ applied, refused, certificates = [] }: ReloadResult, { colors }: Terminal): string[] {
  const text = (value: string): string => (value === '' ? '(empty)' : value)
  const lines = applied.map(({ setting, from, to }) => `  ${colors.green('✓')} ${setting}   ${text(from)} → ${text(to)}`)
  for (const { setting, from, to, reason } of refused) lines.push(`  ${colors.yellow('!')} ${setting} stays ${text(from)}: ${text(to)} ${reason}`)
  for (const { door, changed, subject, expires, error } of certificates) {
    if (error !== undefined) lines.push(`  ${colors.red('✗')} ${door} certificate stays ${subject}: ${error.detail}  [${errorIdOf(error.code)}]`)
    else if (changed) lines.push(`  ${colors.green('✓')} ${door} certificate is now ${subject}, until ${expires}`)
  }
  return lines.length === 0 ? ['  nothing has changed'] : lines
}

function errorIdOf(code: string): string {
  return Object.entries(errorTable).find(([name]) => name === code)?.[1].id ?? code
}
