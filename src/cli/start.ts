import module from 'node:module'
import os from 'node:os'
import process from 'node:process'
import tty from 'node:tty'
import { fileURLToPath } from 'node:url'
import type { Command } from 'commander'
import { KymoError } from '../core/errors.ts'
import { milliseconds } from './format.ts'
import type { ServerArguments } from './server-arguments.ts'
import { examples, integerBetween, jsonOption } from './options.ts'
import type { Crash, ReadyMessage } from './supervisor.ts'
import { supervise } from './supervisor.ts'
import { printFailure } from './failure.ts'
import type { Terminal } from './terminal.ts'

interface StartOptions {
  readonly data?: string
  readonly httpPort?: number
  readonly mqttPort?: number
  readonly host?: string
  readonly demo?: boolean
  readonly compatPorts?: boolean
  readonly config?: string
  readonly json?: boolean
}

/**
 * libuv's pool runs DuckDB's asynchronous calls beside DNS and file reads: at most two queries, an append and a checkpoint,
 * and as many again for everything else.
 */
const threadPoolSizeMin = 8

export function declare(command: Command, terminal: Terminal): void {
  command
    .option('--data <dir>', 'directory of everything that is kept (./kymo-data)')
    .option('--http-port <n>', 'port of the HTTP door (8080); 0: any free one', integerBetween(0, 65_535))
    .option('--mqtt-port <n>', 'port of the MQTT door (1883); 0: any free one', integerBetween(0, 65_535))
    .option('--host <addr>', 'address that both doors bind (127.0.0.1); beyond loopback, credentials are needed')
    .option('--demo', 'ten simulated devices send one message a second')
    .option('--config <file>', 'settings in YAML (KYMO_CONFIG, else ./kymo.yaml when it is there)')
    .option('--compat-ports', 'also listen on 8000 to 8004, where free')
    .allowUnknownOption(true)
    .allowExcessArguments(true)
  jsonOption(command, 'print events as JSON lines: ready, first_message, draining, stopped')
  command.addHelpText(
    'after',
    '\nEvery setting of the configuration is also a flag: store.url is --store-url, KYMO_STORE_URL, and in the file store: url:.',
  )
  examples(command, [
    ['kymo start --demo', 'try it: dashboard and API on http://127.0.0.1:8080, MQTT on 1883'],
    ['kymo start --data /var/lib/kymo --host 0.0.0.0', 'serve the network; needs a token first: kymo tokens create --data /var/lib/kymo'],
    ['kymo start --http-port 0 --mqtt-port 0 --json', 'any free ports, told as JSON'],
  ]).action(async (options: StartOptions, self: Command) => {
    process.exitCode = await start(options, self.args, terminal)
  })
}

async function start(options: StartOptions, rest: readonly string[], terminal: Terminal): Promise<number> {
  const flags: Record<string, unknown> = {}
  if (options.data !== undefined) flags['data_dir'] = options.data
  if (options.httpPort !== undefined) flags['http.port'] = options.httpPort
  if (options.mqttPort !== undefined) flags['mqtt.port'] = options.mqttPort
  if (options.host !== undefined) {
    flags['http.host'] = options.host
    flags['mqtt.host'] = options.host
  }
  if (options.demo === true) flags['demo.devices'] = 10
  if (options.compatPorts === true) flags['http.compat_ports'] = true
  const json = options.json === true
  const inTerminal = [0, 1, 2].some((fd) => tty.isatty(fd))
  const given = options.config === undefined ? {} : { config: options.config }

  return supervise({
    args: (restarts, ready) => [
      '--disable-warning=ExperimentalWarning',
      serverEntry(),
      JSON.stringify({
        flags: { ...flags, ...samePorts(ready) },
        rest: [...rest, ...sameTlsPort(ready)],
        json,
        ...given,
        inTerminal,
        restarts,
      } satisfies ServerArguments),
    ],
    env: serverEnvironment(),
    reloadOnHangup: !inTerminal,
    onCrash: (crash) => tellCrash(terminal, crash, json),
  })
}

/** A server that chose free ports comes back on the same ones. */
function samePorts(ready: ReadyMessage | undefined): Record<string, unknown> {
  if (ready === undefined) return {}
  return {
    'http.port': ready.httpPort,
    ...(ready.mqttPort === undefined ? {} : { 'mqtt.port': ready.mqttPort }),
  }
}

/** What stands in `rest` wins over flags, so it is said there again, behind. */
function sameTlsPort(ready: ReadyMessage | undefined): readonly string[] {
  return ready?.mqttsPort === undefined ? [] : [`--mqtt-tls-port=${ready.mqttsPort}`]
}

function serverEntry(): string {
  return fileURLToPath(new URL('./server.ts', import.meta.url))
}

function serverEnvironment(): NodeJS.ProcessEnv {
  const cache = module.getCompileCacheDir?.()
  return {
    // Arenas that glibc makes per thread cost 19 MB of idle memory; with its own thresholds, which grow with what is freed, it kept some
    // 100 MB after a load. What is set outside wins, below.
    MALLOC_ARENA_MAX: '2',
    MALLOC_TRIM_THRESHOLD_: '2000000',
    MALLOC_MMAP_THRESHOLD_: '262144',
    UV_THREADPOOL_SIZE: String(Math.max(threadPoolSizeMin, os.availableParallelism() + 4)),
    ...(cache === undefined ? {} : { NODE_COMPILE_CACHE: cache }),
    ...process.env,
  }
}

function tellCrash(terminal: Terminal, crash: Crash, json: boolean): void {
  if (crash.restartInMs === undefined) {
    const detail = `the server ended ${crash.recent} times within a minute, the last time by ${crash.how}; it is not started again`
    const fix = 'What it said last stands above. Nothing that was acknowledged is lost: it is read from the log at the next start.'
    printFailure(terminal, new KymoError('bug', { detail, facts: { fix } }), json)
  } else if (json) terminal.err(JSON.stringify({ event: 'crashed', how: crash.how, recent: crash.recent, restart_in_ms: crash.restartInMs }))
  else terminal.err(`  The server ended by ${crash.how}. Starting it again in ${milliseconds(crash.restartInMs)}.`)
}
