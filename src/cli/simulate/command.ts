import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Command } from 'commander'
import { InvalidArgumentError, Option } from 'commander'
import { KymoError } from '../../core/errors.ts'
import { HttpSender } from '../http-sender.ts'
import { count, milliseconds } from '../format.ts'
import { parseBrokerAddress } from '../../wire/mqtt/address.ts'
import { MqttPublisher } from '../mqtt-client/publisher.ts'
import { examples, integerBetween, jsonOption, numberBetween, parseDuration } from '../options.ts'
import { trustOptions } from '../trust.ts'
import type { Terminal } from '../terminal.ts'
import type { FaultKind } from './faults.ts'
import { faultKinds } from './faults.ts'
import { Fleet } from './fleet.ts'

interface SimulateOptions {
  readonly deviceCount: number
  readonly interval: number
  readonly broker: string
  readonly port?: number
  readonly topic: string
  readonly duration?: number
  readonly seed: number
  readonly faults?: readonly FaultKind[]
  readonly faultsPerHour: number
  readonly qos: number
  readonly http?: string
  readonly token?: string
  readonly prefix: string
  readonly json?: boolean
}

const statusEveryMs = 1_000
const plainEveryMs = 10_000
const flushTimeoutMs = 10_000

export function declare(command: Command, terminal: Terminal): void {
  command
    .addOption(new Option('-d, --device-count <n>', 'how many devices').env('DEVICE_COUNT').default(10).argParser(integerBetween(1, 10_000)))
    .addOption(
      new Option('-i, --interval <seconds>', 'time between two messages of a device')
        .env('INTERVAL')
        .default(5)
        .argParser(numberBetween(0.01, 86_400)),
    )
    .addOption(new Option('--broker <host>', 'MQTT server: a host name or an mqtt:// URL').env('MQTT_BROKER').default('127.0.0.1'))
    .addOption(new Option('--port <n>', 'its port (1883)').env('MQTT_PORT').argParser(integerBetween(1, 65_535)))
    .addOption(new Option('--topic <topic>', 'topic; {device} becomes the device id').env('MQTT_TOPIC').default('portfolio/telemetry'))
    .option('--qos <n>', '1: every message is acknowledged; 0: none is', integerBetween(0, 1), 1)
    .option('--http <url>', 'send to an HTTP server instead, to /api/v1/telemetry unless the URL has a path')
    .addOption(new Option('--token <token>', 'credentials: the MQTT password, or the Bearer token').env('KYMO_TOKEN'))
    .option('--duration <time>', 'stop after this long: 30s, 5m, 1h', parseDuration)
    .option('--seed <n>', 'the same seed gives the same readings', integerBetween(0, Number.MAX_SAFE_INTEGER), 1)
    .option('--faults <kinds>', `what goes wrong, separated by commas: ${faultKinds.join(', ')}`, parseFaults)
    .option('--faults-per-hour <n>', 'how often, for each device', numberBetween(0.001, 3_600), 6)
    .option('--prefix <text>', 'device ids start with it', 'device-')
  trustOptions(command)
  jsonOption(command, 'print the final counts as JSON')
  examples(command, [
    ['kymo simulate --device-count 5 --interval 2', 'five devices, one message every two seconds, to 127.0.0.1:1883'],
    ['kymo simulate -d 20 -i 1 --broker test.example.org --topic portfolio/telemetry', 'to another broker'],
    ['kymo simulate --broker mqtts://iot.example.com --ca ca.pem', 'over TLS, to port 8883'],
    ['kymo simulate --faults spike,stuck --faults-per-hour 30 --duration 10m', 'with sensors that go wrong'],
  ]).action(async (options: SimulateOptions) => simulate(options, terminal))
}

export function parseFaults(text: string): FaultKind[] {
  return text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map((part) => {
      const kind = faultKinds.find((known) => known === part)
      if (kind === undefined) throw new InvalidArgumentError(`"${part}" is none of ${faultKinds.join(', ')}.`)
      return kind
    })
}

/** How messages leave: one connection a device over MQTT, a few shared ones over HTTP. */
interface Outlet {
  readonly name: string
  send(index: number, deviceId: string, payload: Buffer): boolean
  /** Of how many connections how many are open, as text. */
  state(): string
  acked(): number
  failed(): number
  end(timeoutMs: number): Promise<number>
}

async function simulate(options: SimulateOptions, terminal: Terminal): Promise<void> {
  const outlet = options.http === undefined ? await mqttOutlet(options, terminal) : httpOutlet(options.http, options)
  const fleet = new Fleet(
    {
      devices: options.deviceCount,
      intervalMs: Math.round(options.interval * 1_000),
      seed: options.seed,
      faults: options.faults ?? [],
      faultsPerHour: options.faultsPerHour,
      prefix: options.prefix,
      send: (index, deviceId, payload) => outlet.send(index, deviceId, payload),
    },
    Date.now(),
  )
  const quiet = options.json === true
  if (!quiet)
    terminal.err(
      `  ${count(options.deviceCount)} devices, a message every ${milliseconds(options.interval * 1_000)} each, to ${outlet.name}. Ctrl-C ends it.`,
    )
  const interrupted = terminal.interrupted()
  const startedMs = performance.now()
  fleet.start()
  const status = setInterval(
    () => {
      if (quiet) return
      const line =
        `  ${milliseconds(performance.now() - startedMs)}  sent ${count(fleet.sent)}  acknowledged ${count(outlet.acked())}  ` +
        `failed ${count(outlet.failed() + fleet.refused)}  ${outlet.state()}`
      if (terminal.errTty) terminal.status(line)
      else terminal.err(line)
    },
    terminal.errTty ? statusEveryMs : plainEveryMs,
  )
  await new Promise<void>((resolve) => {
    if (interrupted.aborted) resolve()
    interrupted.addEventListener('abort', () => resolve(), { once: true })
    if (options.duration !== undefined) setTimeout(resolve, options.duration)
  })
  fleet.stop()
  clearInterval(status)
  const missing = await outlet.end(flushTimeoutMs)
  report(options, terminal, { sent: fleet.sent, acked: outlet.acked(), missing, failed: outlet.failed() + fleet.refused, faults: fleet.faults() })
}

function report(
  options: SimulateOptions,
  terminal: Terminal,
  result: {
    readonly sent: number
    readonly acked: number
    readonly missing: number
    readonly failed: number
    readonly faults: Readonly<Record<FaultKind, number>>
  },
): void {
  const { sent, acked, missing, failed, faults } = result
  if (options.json === true) terminal.out(JSON.stringify({ sent, acknowledged: acked, unacknowledged: missing, failed, faults }))
  else {
    terminal.out(`  sent ${count(sent)}  acknowledged ${count(acked)}  unacknowledged ${count(missing)}  failed ${count(failed)}`)
    const begun = faultKinds.filter((kind) => faults[kind] > 0).map((kind) => `${kind} ${faults[kind]}`)
    if (begun.length > 0) terminal.out(`  faults begun: ${begun.join(', ')}`)
  }
  if (missing > 0)
    throw new KymoError('server_unreachable', {
      detail: `${count(missing)} messages were not acknowledged before the end`,
      facts: { fix: 'They may have arrived all the same: kymo tail, or kymo query.' },
    })
}

async function mqttOutlet(options: SimulateOptions, terminal: Terminal): Promise<Outlet> {
  const target = parseBrokerAddress(options.broker)
  const host = target.host.includes(':') ? `[${target.host}]` : target.host
  const port = options.port ?? target.port
  const url = `${target.secure ? 'mqtts' : 'mqtt'}://${host}:${port}`
  const run = randomUUID().slice(0, 8)
  let acked = 0
  let lost = 0
  const publishers = Array.from({ length: options.deviceCount }, (_, i) => {
    const username = target.username ?? (options.token === undefined ? undefined : 'kymo')
    const password = target.password ?? options.token
    return new MqttPublisher({
      url,
      clientId: `${options.prefix}${i + 1}-${run}`,
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password }),
      onAck: () => acked++,
      onLost: (reason) => {
        // One line for a server that goes away, not one for each device.
        if (lost++ === 0) terminal.err(`  ${reason}. Trying again until it is back.`)
      },
      onConnected: () => {
        lost = 0
      },
    })
  })
  // The first says whether anybody is there; the others follow a few at a time.
  await publishers[0]?.connect()
  for (let i = 1; i < publishers.length; i += 100) {
    for (const publisher of publishers.slice(i, i + 100)) publisher.connectInBackground()
    if (publishers.length > 100) await delay(20)
  }
  const qos = options.qos === 0 ? 0 : 1
  return {
    name: `${url} ${options.topic}`,
    send(index, deviceId, payload) {
      return publishers[index]?.publish(options.topic.replaceAll('{device}', deviceId), payload, qos) ?? false
    },
    state: () => `${count(publishers.filter(({ connected }) => connected).length)} of ${count(publishers.length)} connected`,
    acked: () => acked,
    failed: () => 0,
    async end(timeoutMs) {
      const missing = await Promise.all(publishers.map((publisher) => publisher.end(timeoutMs)))
      return missing.reduce((sum, n) => sum + n, 0)
    },
  }
}

function httpOutlet(text: string, options: SimulateOptions): Outlet {
  const url = URL.parse(text.includes('://') ? text : `http://${text}`)
  if (url === null) throw new KymoError('usage', { detail: `"${text}" is not an HTTP address`, facts: { command: 'kymo simulate' } })
  if (url.pathname === '/') url.pathname = '/api/v1/telemetry'
  const sender = new HttpSender({
    url: url.href,
    connections: Math.min(options.deviceCount, 64),
    ...(options.token === undefined ? {} : { token: options.token }),
  })
  let acked = 0
  let failed = 0
  let last = ''
  return {
    name: url.href,
    send: (_, __, payload) =>
      sender.post(payload, (status, problem) => {
        if (status >= 200 && status < 300) acked++
        else {
          failed++
          last = problem
        }
      }),
    state: () => (last === '' ? '' : `last failure: ${last}`),
    acked: () => acked,
    failed: () => failed,
    end: (timeoutMs) => sender.end(timeoutMs),
  }
}
