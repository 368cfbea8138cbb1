import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import type { Command } from 'commander'
import { checkTogether } from '../../core/config-resolve.ts'
import { enginesOf, places, type Places } from '../../core/config-engines.ts'
import type { Config } from '../../core/config.ts'
import { asKymoError, errorTable } from '../../core/errors.ts'
import { effectiveAuth } from '../../roles/access.ts'
import { Api } from '../api.ts'
import { pinned, readLock, type LockState } from '../lock.ts'
import { examples, jsonOption } from '../options.ts'
import { settingsOf } from '../server-arguments.ts'
import { loadSettings, type Settings } from '../settings.ts'
import type { Terminal } from '../terminal.ts'
import { secureFetch, trust, trustOptions } from '../trust.ts'
import { version } from '../version.ts'
import { checkCertificates } from './certificates.ts'
import { checkForecasts, checkFormats, checkHot, checkMeta, checkQuota } from './data.ts'
import { exitOf, fail, ok, warn, type Finding } from './finding.ts'
import { checkClock, checkDataDir, checkMemory, checkNode, checkOpenFiles, checkPort, softOpenFiles } from './machine.ts'
import { checkServer } from './server.ts'

interface DoctorOptions {
  readonly data?: string
  readonly config?: string
  readonly url?: string
  readonly token?: string
  readonly json?: boolean
}

export function declare(command: Command, terminal: Terminal): void {
  command
    .option('--data <dir>', "the server's data directory (./kymo-data)")
    .option('--config <file>', 'settings in YAML (KYMO_CONFIG, else ./kymo.yaml when it is there)')
    .option('--url <url>', 'look at this server too (KYMO_URL); else at the one of the data directory')
    .option('--token <token>', 'an API token, where the server asks for one (KYMO_TOKEN)')
    .allowUnknownOption(true)
    .allowExcessArguments(true)
  trustOptions(command)
  jsonOption(command)
  command.addHelpText(
    'after',
    '\nSettings may be given as to kymo start, to be judged before one. Exit code: 0, or that of the first check that fails.',
  )
  examples(command, [
    ['kymo doctor', 'this machine, ./kymo-data, and the server that uses it, when one runs'],
    ['kymo doctor --data /var/lib/kymo --http-port 80', 'would a start with these settings succeed?'],
    ['kymo doctor --json', 'for a report of a problem; it holds no secrets'],
  ]).action(async (options: DoctorOptions, self: Command) => {
    const findings = await examine(options, self.args, terminal)
    const code = exitOf(findings)
    if (options.json === true) terminal.out(JSON.stringify(report(findings, code)))
    else for (const line of lines(findings, terminal)) terminal.out(line)
    process.exitCode = code
  })
}

async function examine(options: DoctorOptions, rest: readonly string[], terminal: Terminal): Promise<Finding[]> {
  const findings: Finding[] = [checkNode(process.versions.node), checkClock(Date.now())]
  const flags = { ...settingsOf(rest, 'kymo doctor'), ...(options.data === undefined ? {} : { data_dir: options.data }) }
  const settings = await readSettings(findings, { flags, configFile: options.config, env: terminal.env })
  if (settings === undefined) return findings
  const { config } = settings
  const { dataDir, log, store, meta, forecast } = enginesOf(config)
  findings.push(checkMemory(config), checkOpenFiles(config, softOpenFiles()))
  const directory = checkDataDir(dataDir, config)
  findings.push(...directory)
  const usable = !directory.some(({ code }) => code === 'data_dir_unusable')
  // What is on engines elsewhere has no files here.
  const where: Places | undefined = log.kind === 'local' && store.kind === 'local' && meta.kind === 'local' ? places(config) : undefined
  if (usable && where !== undefined) {
    const found = await checkMeta(where)
    findings.push(...checkFormats(where), found.finding, checkAccess(config, found.tokens), checkQuota(config, where))
  }
  if (/^kafkas?:/.test(config.log.url)) {
    const { checkKafka } = await import('./kafka.ts')
    findings.push(...(await checkKafka(config)))
  }
  if (forecast.kind === 'local' && usable) findings.push(checkForecasts(forecast.path))
  if ([store, meta, forecast].some(({ kind }) => kind === 'postgres')) {
    const { checkPostgres } = await import('./postgres.ts')
    findings.push(...(await checkPostgres(config)))
  }

  const holder = usable ? await serving(dataDir) : undefined
  if (usable && where !== undefined && holder === undefined) findings.push(...(await checkHot(where)))
  findings.push(await checkPort('http', config.http, portOf(holder?.urls.http)))
  const { mqtt } = config
  if (mqtt.plain) findings.push(await checkPort('mqtt', mqtt, portOf(holder?.urls.mqtt)))
  if (mqtt.tls.cert_file !== '') findings.push(await checkPort('mqtt-tls', { host: mqtt.host, port: mqtt.tls.port }, portOf(holder?.urls.mqtts)))
  findings.push(...checkCertificates(config, Date.now()))
  if (config.mqtt.pull.url !== '') {
    const { checkPull } = await import('./pull.ts')
    findings.push(...(await checkPull(config)))
  }
  const url = options.url ?? terminal.env['KYMO_URL'] ?? holder?.urls.http
  const token = options.token ?? terminal.env['KYMO_TOKEN']
  if (url === undefined) findings.push(ok('server', `none runs on ${dataDir}`))
  else
    findings.push(
      ...(await checkServer(
        new Api({ url, ...(token === undefined ? {} : { token }) }, url === holder?.urls.http ? pinned(holder) : undefined),
        Date.now,
      )),
    )
  return findings
}

/** Undefined, and told: nothing more can be judged. */
async function readSettings(findings: Finding[], sources: Parameters<typeof loadSettings>[0]): Promise<Settings | undefined> {
  let settings: Settings
  try {
    settings = await loadSettings(sources)
    checkTogether(settings.config)
  } catch (thrown) {
    const { code, message } = asKymoError(thrown)
    findings.push(fail('configuration', code, message, 'kymo config check FILE names all that is wrong; kymo config docs says what may be set.'))
    return undefined
  }
  const set = [...settings.origins.values()].filter(({ from }) => from !== 'default').length
  findings.push(ok('configuration', `${settings.file ?? 'no file'}, ${set} settings given`))
  for (const { variable, effect } of settings.pending)
    findings.push(warn('environment', `${variable} has no effect in this version (${effect})`, `Unset it: unset ${variable}`))
  return settings
}

function checkAccess(config: Config, tokens: boolean): Finding {
  const bound = config.http.host === config.mqtt.host ? config.http.host : `${config.http.host} and ${config.mqtt.host}`
  try {
    const auth = effectiveAuth(config, tokens)
    if (auth === 'loopback') return ok('access', `bound to ${bound}: this machine only, without credentials`)
    if (auth === 'token') return ok('access', `bound to ${bound}: tokens are asked for`)
    return warn(
      'access',
      `bound to ${bound} and open to everyone who can reach it`,
      'Unless the network protects it: auth=token, and kymo tokens create.',
    )
  } catch (thrown) {
    const { code, message } = asKymoError(thrown)
    return fail('access', code, `bound to ${bound}: ${message}`, `kymo tokens create --name me --data ${path.relative('', config.data_dir) || '.'}`)
  }
}

/** The server of the directory, when it answers: a lock file alone may be what a killed one has left. */
async function serving(dir: string): Promise<LockState | undefined> {
  const holder = readLock(path.join(dir, 'kymo.lock'))
  if (holder?.urls.http === undefined) return undefined
  try {
    const [url, signal] = [new URL('/livez', holder.urls.http), AbortSignal.timeout(5_000)]
    // Nothing is told to it: whether anybody answers is all that is asked.
    const tls = { ...trust(), rejectUnauthorized: false }
    const answer = url.protocol === 'https:' ? await secureFetch(url, { method: 'GET', headers: {}, signal, tls }) : await fetch(url, { signal })
    await answer.arrayBuffer()
    return holder
  } catch {
    // Nobody answers there: there is no server, which is what this says.
    return undefined
  }
}

function portOf(url: string | undefined): number | undefined {
  return url === undefined ? undefined : Number(new URL(url).port)
}

const signs = { ok: '✓', warn: '!', fail: '✗' } as const

function lines(findings: readonly Finding[], { colors }: Terminal): string[] {
  const paint = { ok: colors.green, warn: colors.yellow, fail: colors.red }
  const width = Math.max(...findings.map(({ check }) => check.length))
  const out = findings.flatMap(({ check, status, detail, fix, code }) => {
    const [first = '', ...more] = detail.split('\n')
    const id = code === undefined ? '' : colors.dim(`  [${errorTable[code].id}]`)
    const indent = ' '.repeat(width + 6)
    const below = [...more, ...(fix === undefined ? [] : [`→ ${fix}`])]
    return [`  ${paint[status](signs[status])} ${check.padEnd(width)}  ${first}${id}`, ...below.map((line) => indent + line)]
  })
  const counted = (status: Finding['status']): number => findings.filter((finding) => finding.status === status).length
  out.push('', `  ${counted('ok')} fine · ${counted('warn')} to look at · ${counted('fail')} to mend`)
  return out
}

function report(findings: readonly Finding[], code: number): Record<string, unknown> {
  return {
    version: version(),
    node: process.versions.node,
    platform: `${process.platform} ${process.arch} ${os.release()}`,
    at: new Date().toISOString(),
    exit_code: code,
    findings: findings.map(({ code: error, ...finding }) => ({
      ...finding,
      ...(error === undefined ? {} : { code: error, id: errorTable[error].id }),
    })),
  }
}
