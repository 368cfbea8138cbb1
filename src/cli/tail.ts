import { setTimeout as delay } from 'node:timers/promises'
import type { Command } from 'commander'
import { asKymoError, KymoError } from '../core/errors.ts'
import { Api } from './api.ts'
import { printable, time, value } from './format.ts'
import type { CommonOptions } from './options.ts'
import { commaList, examples, integerBetween, serverOptions, timeZoneOption } from './options.ts'
import type { ServerEvent } from './sse.ts'
import { SseReader } from './sse.ts'
import { tailMessages } from './tail-messages.ts'
import type { Terminal } from './terminal.ts'

interface TailOptions extends CommonOptions {
  readonly device?: readonly string[]
  readonly metric?: readonly string[]
  readonly count?: number
  readonly timeZone?: string
}

interface LiveReading {
  readonly device: string
  readonly metric: string
  readonly time: string
  readonly value: number | string | boolean | null
  readonly unit?: string
}

const retryMs = 1_000
const deviceWidth = 24
const metricWidth = 20

export function declare(command: Command, terminal: Terminal): void {
  command
    .argument('[filter]', 'messages of the broker that this MQTT filter matches, in place of readings')
    .option('--device <ids>', 'only these devices, separated by commas', commaList)
    .option('--metric <names>', 'only these metrics, separated by commas', commaList)
    .option('-n, --count <n>', 'end after so many readings', integerBetween(1, 1_000_000_000))
  serverOptions(command)
  timeZoneOption(command)
  examples(command, [
    ['kymo tail', 'every reading as it becomes durable, until Ctrl-C'],
    ['kymo tail --device dev-1 --metric temperature --json', 'one device and metric, a JSON object a line'],
    ['kymo tail -n 1', 'wait for one reading'],
    ["kymo tail 'devices/+/commands'", 'every message to these topics as the broker delivers it, those that are no telemetry too'],
  ]).action(async (filter: string | undefined, options: TailOptions) => {
    if (filter === undefined) return tail(options, terminal)
    if (options.device !== undefined || options.metric !== undefined)
      throw new KymoError('usage', { detail: '--device and --metric choose readings; a filter chooses messages: give the one or the other' })
    const left = await tailMessages(filter, options, terminal, terminal.interrupted())
    if (!left) throw new KymoError('server_unreachable', { detail: 'the server ended the connection' })
  })
}

/** Follows the live stream; after a lost connection it goes on behind the last event that it saw. */
async function tail(options: TailOptions, terminal: Terminal): Promise<void> {
  const api = new Api(options)
  const interrupted = terminal.interrupted()
  const printer = new Printer(options, terminal)
  let lastId = ''
  let connected = false
  while (!interrupted.aborted && !printer.done) {
    const ended = new AbortController()
    const signal = AbortSignal.any([interrupted, ended.signal])
    try {
      const response = await api.request('GET', '/api/v1/live', {
        query: { device: options.device, metric: options.metric },
        accept: 'text/event-stream',
        headers: lastId === '' ? {} : { 'last-event-id': lastId },
        signal,
      })
      connected = true
      lastId = await follow(response, printer, lastId)
      ended.abort()
      if (!printer.done) terminal.err('  the server ended the stream')
    } catch (thrown) {
      if (interrupted.aborted) return
      const error = asKymoError(thrown)
      // Never connected, or told no: trying again would not help. A stream that broke off is another thing.
      if (!connected || (error.code !== 'bug' && error.code !== 'server_unreachable')) throw error
      terminal.err(`  ${error.message}; trying again`)
    }
    if (!interrupted.aborted && !printer.done) await pause(interrupted)
  }
}

async function pause(signal: AbortSignal): Promise<void> {
  try {
    await delay(retryMs, undefined, { signal })
  } catch (error) {
    if (!signal.aborted) throw error
  }
}

async function follow(response: Response, printer: Printer, fromId: string): Promise<string> {
  const reader = new SseReader()
  const decoder = new TextDecoder()
  let lastId = fromId
  if (response.body === null) return lastId
  for await (const chunk of response.body) {
    for (const event of reader.push(decoder.decode(chunk as Uint8Array, { stream: true }))) {
      if (event.id !== '') lastId = event.id
      printer.event(event)
      if (printer.done) return lastId
    }
  }
  return lastId
}

class Printer {
  readonly #options: TailOptions
  readonly #terminal: Terminal
  #left: number
  #headed = false

  constructor(options: TailOptions, terminal: Terminal) {
    this.#options = options
    this.#terminal = terminal
    this.#left = options.count ?? Number.POSITIVE_INFINITY
  }

  get done(): boolean {
    return this.#left <= 0
  }

  event({ event, data }: ServerEvent): void {
    const parsed: unknown = JSON.parse(data)
    if (event === 'gap') {
      if (this.#options.json === true) this.#terminal.out(JSON.stringify({ event: 'gap', ...(parsed as object) }))
      else this.#terminal.err(`  ${gapText(parsed as { readonly dropped?: number })}`)
      return
    }
    if (event !== 'readings') return
    for (const reading of (parsed as { readonly readings: readonly LiveReading[] }).readings) {
      if (this.#left <= 0) return
      this.#left--
      if (this.#options.json === true) this.#terminal.out(JSON.stringify(reading))
      else this.#row(reading)
    }
  }

  #row(reading: LiveReading): void {
    const { colors } = this.#terminal
    if (!this.#headed) {
      this.#terminal.out(colors.dim(`${'time'.padEnd(24)}  ${'device'.padEnd(deviceWidth)}  ${'metric'.padEnd(metricWidth)}  value`))
      this.#headed = true
    }
    const unit = reading.unit === undefined ? '' : ` ${printable(reading.unit)}`
    const at = time(Date.parse(reading.time), this.#options.timeZone).padEnd(24)
    this.#terminal.out(
      `${at}  ${printable(reading.device).padEnd(deviceWidth)}  ${printable(reading.metric).padEnd(metricWidth)}  ` +
        `${printable(value(reading.value))}${unit}`,
    )
  }
}

function gapText(gap: { readonly dropped?: number }): string {
  const where = 'kymo query has them'
  return gap.dropped === undefined
    ? `connected again; what came in between is not shown: ${where}`
    : `${gap.dropped} readings came faster than they could be shown: ${where}`
}
