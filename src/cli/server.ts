/** The server process: what `kymo start` supervises. Its first argument is a `ServerArguments` as JSON. */
import module from 'node:module'
import path from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import type { Config } from '../core/config.ts'
import { checkTogether } from '../core/config-resolve.ts'
import { enginesOf } from '../core/config-engines.ts'
import { createLogger, nodeEnv } from '../core/env/node-env.ts'
import type { Logger } from '../core/env.ts'
import { asKymoError, KymoError } from '../core/errors.ts'
import { limits } from '../core/limits.ts'
import type { FirstMessage } from '../roles/first-message.ts'
import { engineNames } from '../roles/engines.ts'
import type { RunningServer } from '../roles/server.ts'
import { startServer } from '../roles/server.ts'
import { tlsFilesOf } from '../roles/doors.ts'
import { bannerLines } from './banner.ts'
import { Exit, exitCodeOf } from './exit.ts'
import { printFailure } from './failure.ts'
import { count, printable } from './format.ts'
import type { DataLock, LockOutcome, LockState } from './lock.ts'
import { takeLock } from './lock.ts'
import { portOwner } from './port-owner.ts'
import type { DemoFleet } from './simulate/demo.ts'
import { createReloader, type Reloader } from './reload.ts'
import { parseArguments, settingsOf } from './server-arguments.ts'
import { loadSettings, type Settings } from './settings.ts'
import type { ReadyMessage } from './supervisor.ts'
import { isReload, isStop } from './supervisor.ts'
import type { Terminal } from './terminal.ts'
import { processTerminal } from './terminal.ts'
import { version } from './version.ts'

/** Devices that are greeted by a line each; a fleet's would fill the screen. */
const greetingsMax = 5
/** A drain that takes longer than its own limit by this much is not waited for. */
const drainGraceMs = 5_000

const args = parseArguments(process.argv[2])
const terminal = processTerminal()
const supervised = process.send !== undefined
let lock: DataLock | undefined
/** From the first moment on: a hangup without a listener would end the process. */
let reloader: Reloader | undefined
let stopNow: (() => void) | undefined
process.on('SIGHUP', () => {
  if (args.inTerminal) stopNow?.()
  else void reloader?.reload()
})

function event(name: string, fields: Readonly<Record<string, unknown>>, text: readonly string[]): void {
  if (args.json) terminal.out(JSON.stringify({ event: name, ...fields }))
  else for (const line of text) terminal.out(line)
}

/** Resolves at the first reason to stop: a message or the death of the supervisor, a signal, or a failure of a part. */
function stopRequested(server: RunningServer): Promise<KymoError | undefined> {
  return new Promise((resolve) => {
    const stop = (): void => resolve(undefined)
    process.on('SIGTERM', stop)
    stopNow = stop
    // A Ctrl-C reaches the whole foreground group: under a supervisor, that one decides.
    process.on('SIGINT', () => {
      if (!supervised) stop()
    })
    process.on('message', (message) => {
      if (isStop(message)) stop()
      else if (isReload(message)) void reloader?.reload()
    })
    process.on('disconnect', stop)
    server.onFatal((error) => resolve(asKymoError(error)))
  })
}

/** Waits while a server that is stopping still holds the directory. */
async function lockData(dir: string): Promise<LockOutcome> {
  const untilMs = performance.now() + limits.drainTimeoutMs + drainGraceMs
  for (;;) {
    const outcome = takeLock(dir, { version: version(), now: new Date() })
    if (outcome.taken || outcome.holder?.state !== 'stopping' || performance.now() > untilMs) return outcome
    await delay(50)
  }
}

function tellRunning(dir: string, holder: LockState | undefined): void {
  const { http = '(still starting)', mqtt = '-' } = holder?.urls ?? {}
  const who = holder === undefined ? '' : `   pid ${holder.pid}, since ${holder.started}`
  event('already_running', { data_dir: dir, ...holder }, [`  already running at ${http}   mqtt ${mqtt}${who}`])
}

function portOption(port: number, { mqtt }: Config): string {
  if (mqtt.tls.cert_file !== '' && port === mqtt.tls.port) return 'mqtt-tls-port'
  return port === mqtt.port ? 'mqtt-port' : 'http-port'
}

function explain(thrown: unknown, config: Config): KymoError {
  const error = asKymoError(thrown)
  const port = error.details.facts?.['port']
  if (error.code !== 'port_in_use' || typeof port !== 'number') return error
  const owner = portOwner(port)
  return new KymoError('port_in_use', {
    detail: `port ${port} is in use${owner === undefined ? '' : ` by ${owner}`}`,
    facts: { ...error.details.facts, option: portOption(port, config), ...(owner === undefined ? {} : { owner }) },
  })
}

function greet(server: RunningServer): void {
  let greeted = 0
  server.onFirstMessage((first: FirstMessage) => {
    if (greeted >= greetingsMax) return
    greeted++
    const at = new Date().toISOString().slice(11, 19)
    event('first_message', { ...first }, [
      `  ${at}  first message from ${printable(first.device)}   ${printable(first.metric)} ${printable(String(first.value))}   ` +
        `stored in ${count(first.storedMs)} ms`,
    ])
  })
}

/** `config` is asked for each line: log.level may change while the server runs. */
function loggerOf(config: () => Config): Logger {
  const { format } = config().log
  const chosen = format === 'auto' ? (process.stderr.isTTY === true && !args.json ? 'text' : 'json') : format
  const level = (): Config['log']['level'] => {
    const asked = config().log.level
    // Beside a banner that a person reads, what is merely going well need not be said.
    return format === 'auto' && asked === 'info' && !args.json ? 'warn' : asked
  }
  return createLogger({ level, format: chosen })
}

function readSettings(): Promise<Settings> {
  return loadSettings({
    env: process.env,
    flags: { ...args.flags, ...settingsOf(args.rest) },
    ...(args.config === undefined ? {} : { configFile: args.config }),
  })
}

/** What of the environment counts though it is not ours, and what of it has no effect yet: once, before the start. */
function tellVariables({ origins, pending }: Settings): void {
  const used = new Set([...origins.values()].filter(({ from }) => from === 'alias').flatMap(({ where = '' }) => where.split(', ')))
  for (const variable of used) event('variable', { variable, used: true }, [`  using ${variable} from the environment`])
  for (const { variable, effect } of pending) {
    const text = `${variable} is set but has no effect in this version (${effect}).`
    if (args.json) terminal.err(JSON.stringify({ event: 'variable', variable, used: false, effect }))
    else terminal.err(`  ${terminal.colors.yellow('!')} ${text}`)
  }
}

function announce(server: RunningServer, config: Config, components: RunningServer['components']): void {
  const readyMs = Math.round(performance.now())
  const { http, mqtt, mqtts, ws, extra } = server.urls
  if (args.restarts > 0 && !args.json) {
    terminal.out(`  Running again at ${[http, ...(mqtt === undefined ? [] : [mqtt])].join(' and ')}, after ${readyMs} ms.`)
    return
  }
  const facts = {
    version: version(),
    engines: engineNames(config),
    roles: server.roles,
    nodeVersion: process.versions.node,
    dataDir: server.dataDir,
    cwd: process.cwd(),
    components,
    http,
    ...(mqtt === undefined ? {} : { mqtt }),
    ...(mqtts === undefined ? {} : { mqtts }),
    ...(ws === undefined ? {} : { ws }),
    ...(server.trust === undefined ? {} : { trust: server.trust }),
    extra,
    auth: server.auth,
    readyMs,
  }
  event(
    'ready',
    {
      version: facts.version,
      pid: process.pid,
      data_dir: server.dataDir,
      roles: [...server.roles],
      urls: server.urls,
      auth: server.auth,
      components,
      ready_ms: readyMs,
      restarts: args.restarts,
    },
    [...bannerLines(facts, terminal.colors)],
  )
}

async function drain(server: RunningServer, demo: DemoFleet | undefined): Promise<number> {
  lock?.update({ state: 'stopping' })
  await demo?.stop()
  const pending = server.pending()
  if (args.json) event('draining', { pending }, [])
  else await terminal.write(`\n  Draining ${count(pending)} messages… `)
  const late = delay(limits.drainTimeoutMs + drainGraceMs, 'late' as const, { ref: false })
  const result = await Promise.race([server.stop(), late])
  if (result === 'late') {
    terminal.err('not finished in time. What was acknowledged is in the log and is read at the next start.')
    return Exit.storage
  }
  event('stopped', result, [`stored. Bye. (${count(result.lost)} lost)`])
  return result.lost === 0 ? Exit.ok : Exit.storage
}

async function serve(): Promise<number> {
  const settings = await readSettings()
  const { config } = settings
  checkTogether(config)
  const { dataDir } = enginesOf(config)
  const outcome = await lockData(dataDir)
  if (!outcome.taken) {
    tellRunning(dataDir, outcome.holder)
    return Exit.ok
  }
  lock = outcome.lock
  if (args.restarts === 0) tellVariables(settings)
  const logger = loggerOf(() => reloader?.config ?? config)
  let server: RunningServer
  try {
    server = await startServer(config, nodeEnv(logger), { jobScript: path.join(import.meta.dirname, 'job.ts') })
  } catch (thrown) {
    throw explain(thrown, config)
  }
  const stop = stopRequested(server)
  reloader = createReloader({
    running: settings,
    load: readSettings,
    apply: (next) => server.reconfigure(next),
    certificates: () => server.reloadCertificates(),
    logger,
    now: () => new Date(),
    done: (reload) => lock?.update({ reload }),
  })
  const { startDemo } = await import('./simulate/demo.ts')
  const { http, mqtt, mqtts } = server.urls
  const demo = config.demo.devices > 0 && mqtt !== undefined ? await startDemo(mqtt, config.demo, process.env['KYMO_TOKEN']) : undefined
  const certificate = tlsFilesOf(config, 'http')?.certFile
  lock.update({
    state: 'running',
    ...(certificate === undefined ? {} : { certificate }),
    urls: { http, ...(mqtt === undefined ? {} : { mqtt }), ...(mqtts === undefined ? {} : { mqtts }) },
    hangup: args.inTerminal ? 'stop' : 'reload',
  })
  announce(server, config, demo === undefined ? server.components : [...server.components, demo.component])
  greet(server)
  const { ports } = server
  const ready: ReadyMessage = {
    kind: 'ready',
    httpPort: ports.http,
    ...(config.mqtt.plain && ports.mqtt !== undefined ? { mqttPort: ports.mqtt } : {}),
    ...(ports.mqtts === undefined ? {} : { mqttsPort: ports.mqtts }),
  }
  process.send?.(ready)
  // Compiled code is otherwise kept only at a clean end; a killed server's next start shall be quick too.
  setTimeout(() => module.flushCompileCache(), 2_000).unref()

  const fatal = await stop
  if (fatal === undefined) return drain(server, demo)
  printFailure(terminal, fatal, args.json)
  try {
    await drain(server, demo)
  } catch (thrown) {
    // What stops it is told already, and decides the exit code.
    terminal.err(`  the drain did not succeed: ${asKymoError(thrown).message}`)
  }
  return exitCodeOf(fatal)
}

function die(thrown: unknown, into: Terminal): void {
  const error = asKymoError(thrown)
  printFailure(into, error, args.json)
  if (error.code === 'bug' && thrown instanceof Error && thrown.stack !== undefined) into.err(thrown.stack)
  lock?.release()
  process.exit(exitCodeOf(error))
}

// A terminal that has gone away must not end the server.
process.stdout.removeAllListeners('error').on('error', () => undefined)
process.stderr.on('error', () => undefined)
process.on('uncaughtException', (error) => die(error, terminal))
process.on('unhandledRejection', (reason) => die(reason, terminal))

try {
  const code = await serve()
  lock?.release()
  process.exit(code)
} catch (thrown) {
  die(thrown, terminal)
}
