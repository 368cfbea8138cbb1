import { randomBytes } from 'node:crypto'
import process from 'node:process'
import type { Command } from 'commander'
import { Option } from 'commander'
import { KymoError } from '../../core/errors.ts'
import { Api } from '../api.ts'
import { isLoopback } from '../banner.ts'
import { Exit } from '../exit.ts'
import { count, milliseconds } from '../format.ts'
import { parseBrokerAddress } from '../../wire/mqtt/address.ts'
import { examples, integerBetween, numberBetween, oneOf, parseDuration, serverOptions } from '../options.ts'
import { Progress } from '../progress.ts'
import type { Terminal } from '../terminal.ts'
import type { Assertion } from './assertion.ts'
import { judge, measures, parseAssertions } from './assertion.ts'
import type { Schedule } from './ledger.ts'
import { Ledger } from './ledger.ts'
import type { Format } from './payload.ts'
import { formats } from './payload.ts'
import { readBackSettled } from './read-back.ts'
import type { LoadReport } from './report.ts'
import { jsonReport, measuresOf, printReport } from './report.ts'
import type { Carrier, CarrierOptions } from './run.ts'
import { AckLatency, httpCarrier, mqttCarrier, runSchedule } from './run.ts'
import { serverCpuSeconds } from './server-cpu.ts'

interface LoadOptions {
  readonly url: string
  readonly token?: string
  readonly json?: boolean
  readonly devices: number
  readonly rps: number
  readonly baseUrl?: string
  readonly mqtt?: string
  readonly topic: string
  readonly duration: number
  readonly assert?: readonly Assertion[]
  readonly format?: Format
  readonly batch: number
  readonly qos: number
  readonly clients?: number
  readonly settle: number
  readonly iOwnThisTarget?: boolean
}

/** The ledger keeps two bytes a message. */
const messagesMax = 200_000_000
const clientsDefault = 50

export function declare(command: Command, terminal: Terminal): void {
  command
    .option('--devices <n>', 'how many devices', integerBetween(1, 1_000_000), 10)
    .option('--rps <n>', 'messages a second of each device', numberBetween(1e-6, 1_000_000), 1)
    .option('--base-url <url>', 'send over HTTP to this server (otherwise --url)')
    .option('--mqtt <url>', 'send over MQTT to this server, such as mqtt://127.0.0.1:1883; read back from --url')
    .option('--topic <topic>', 'MQTT topic; {device} becomes the device id', 'portfolio/telemetry')
    .addOption(new Option('--duration <time>', 'how long: 30s, 5m').argParser(parseDuration).default(10_000, '10s'))
    .option('--assert <list>', `fail with exit code 99 unless all hold. Measures: ${measures.join(', ')}`, parseAssertions)
    .option('--format <shape>', `shape of a message: ${formats.join(', ')} (HTTP: reading, MQTT: flat)`, oneOf(formats))
    .option('--batch <n>', 'HTTP: messages in one request', integerBetween(1, 10_000), 1)
    .option('--qos <n>', 'MQTT: 1 is acknowledged, 0 is not', integerBetween(0, 1), 1)
    .option('--clients <n>', `connections (at most ${clientsDefault}, and no more than devices)`, integerBetween(1, 20_000))
    .addOption(new Option('--settle <time>', 'how long the store may be behind when reading back').argParser(parseDuration).default(10_000, '10s'))
    .addOption(new Option('--i-own-this-target', 'allow a target that is not this machine'))
  serverOptions(command)
  examples(command, [
    ["kymo load --devices 1000 --rps 5 --duration 30s --assert 'lost==0,p99<250ms'", 'over HTTP, one message a request'],
    ['kymo load --mqtt mqtt://127.0.0.1:1883 --devices 1000 --rps 20', 'over MQTT, QoS 1'],
    ['kymo load --devices 10 --rps 2.0 --base-url http://localhost:8001', 'another port of the same server'],
    ["kymo load --batch 100 --format canonical --devices 500 --rps 20 --assert 'errors==0'", 'a hundred messages a request'],
  ]).action(async (options: LoadOptions) => load(options, terminal))
}

async function load(options: LoadOptions, terminal: Terminal): Promise<void> {
  checkTarget(options)
  const schedule = scheduleOf(options)
  const ledger = new Ledger(schedule)
  const latency = new AckLatency(schedule, options.batch)
  const api = new Api({
    url: options.mqtt === undefined ? (options.baseUrl ?? options.url) : options.url,
    ...(options.token === undefined ? {} : { token: options.token }),
  })
  // Also finds out, before anything is sent, whether anybody is there to read back from.
  await api.text('/livez')
  const carrier = await carrierOf(options, schedule, ledger, latency, api)
  const interrupted = terminal.interrupted()
  const quiet = options.json === true
  if (!quiet)
    terminal.err(`  ${count(schedule.devices)} devices, ${count(schedule.rate)} messages/s for ${milliseconds(options.duration)} to ${carrier.name}`)

  const cpuBefore = await serverCpuSeconds(api)
  const progress = new Progress(terminal, { label: 'sending', total: schedule.messages, quiet })
  const { startedMs, done } = runSchedule({
    schedule,
    batch: options.batch,
    ledger,
    send: (first, n) => carrier.send(first, n),
    signal: interrupted,
    onTick: (sent) =>
      progress.update(sent, `acked ${count(ledger.acked)}  errors ${count(ledger.failed)}  p99 ${milliseconds(latency.histogram.quantileMs(0.99))}`),
  })
  latency.startedMs = startedMs
  const run = await done
  await carrier.end(30_000)
  const cpuAfter = await serverCpuSeconds(api)
  progress.end()

  const reading = new Progress(terminal, { label: 'reading back', total: ledger.sent, quiet })
  await readBackSettled(api, schedule, ledger, { settleMs: options.settle, onRows: (rows) => reading.update(rows) })
  reading.end()
  const result = options.mqtt !== undefined && options.qos === 0 ? withoutAcks(ledger) : ledger.result()
  const judged = judge(options.assert ?? [], measuresOf(result, latency.histogram, run))
  const report: LoadReport = {
    target: carrier.name,
    ledger: result,
    latency: latency.histogram,
    run,
    serverCpuSeconds: cpuBefore === undefined || cpuAfter === undefined ? undefined : cpuAfter - cpuBefore,
    problems: carrier.problems,
    judged,
  }
  if (quiet) terminal.out(jsonReport(report))
  else printReport(terminal, report)
  if (judged.some(({ holds }) => !holds)) {
    if (!quiet) terminal.out(`  exit ${Exit.assertion}`)
    process.exitCode = Exit.assertion
  }
}

/** QoS 0 promises nothing: what counts as lost is what was sent and is not there. */
function withoutAcks(ledger: Ledger): ReturnType<Ledger['result']> {
  const result = ledger.result()
  return { ...result, errors: 0, lost: result.sent - result.stored, unconfirmed: 0 }
}

async function carrierOf(options: LoadOptions, schedule: Schedule, ledger: Ledger, latency: AckLatency, api: Api): Promise<Carrier> {
  const common: CarrierOptions = {
    schedule,
    format: options.format ?? (options.mqtt === undefined ? 'reading' : 'flat'),
    ledger,
    clients: options.clients ?? Math.min(clientsDefault, options.devices),
    batch: options.batch,
    ...(options.token === undefined ? {} : { token: options.token }),
    onAck(first, n) {
      for (let i = 0; i < n; i++) if (ledger.ack(first + i)) latency.record(first + i)
    },
  }
  if (options.mqtt === undefined) return httpCarrier(common, api.base.href)
  return mqttCarrier(common, options.mqtt, options.topic, options.qos === 0 ? 0 : 1)
}

function scheduleOf(options: LoadOptions): Schedule {
  const rate = options.devices * options.rps
  const messages = Math.max(1, Math.floor((rate * options.duration) / 1_000))
  if (messages > messagesMax)
    throw new KymoError('usage', {
      detail: `that would be ${count(messages)} messages; a run keeps a ledger of at most ${count(messagesMax)}`,
      facts: { command: 'kymo load' },
    })
  if (options.batch > 1 && options.mqtt !== undefined)
    throw new KymoError('usage', { detail: '--batch is for HTTP: an MQTT packet carries one message', facts: { command: 'kymo load' } })
  return { run: randomBytes(4).toString('hex'), devices: options.devices, rate, startUs: Date.now() * 1_000, messages }
}

/** A load test of somebody else's server is an attack. */
function checkTarget(options: LoadOptions): void {
  if (options.iOwnThisTarget === true) return
  const hosts = [options.mqtt === undefined ? hostOf(options.baseUrl ?? options.url) : parseBrokerAddress(options.mqtt).host]
  for (const host of hosts) {
    if (!isLoopback(host)) {
      throw new KymoError('usage', {
        detail: `${host} is not this machine. Loading a server that is not yours is an attack; if it is yours, say --i-own-this-target`,
        facts: { command: 'kymo load' },
      })
    }
  }
}

function hostOf(url: string): string {
  return URL.parse(url.includes('://') ? url : `http://${url}`)?.hostname ?? url
}
