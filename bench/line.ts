/**
 * What a reading of line protocol costs: splitting a body into lines, and decoding them into the open batch; no sockets, no log, one thread. Not
 * part of `npm run bench`: it looks at one part alone.
 *
 *   node bench/line.ts [lines=20000] [rounds=20] [words of shapes]
 *
 * Lines as Telegraf's inputs cpu (10 fields) and mem write them, small lines of one field, and what is less usual. Each body is decoded so
 * many times; printed is the CPU time (user and system) of the median round by reading, after rounds that warm up. `general` has the fast lane
 * turned off: every line is read into columns, which else only lines are that are new or unusual. Of shapes whose lines are all new each round begins
 * with empty tables; `tables` is what registering their devices and series costs by itself, with names that are there already.
 */
import { Buffer } from 'node:buffer'
import process from 'node:process'
import { BatchBuilder } from '../src/core/batch-builder.ts'
import type { MessageContext } from '../src/core/gate.ts'
import { SeriesTable } from '../src/core/series-table.ts'
import { LineSplitter } from '../src/wire/line/lines.ts'
import { LineDecoder } from '../src/wire/line-decoder.ts'
import { PayloadDecoder } from '../src/wire/payload/decoder.ts'

const lineCount = Number(process.argv[2] ?? 20_000)
const rounds = Number(process.argv[3] ?? 20)
const words = process.argv.slice(4)
const context: MessageContext = {
  transport: 'http',
  tenant: 'default',
  client: 'bench',
  topic: '/api/v2/write',
  shape: 'line-ns',
  packetId: 0,
  dup: false,
}
const receivedUs = 1_790_000_000_000_000

const cpuFields = [
  'usage_user',
  'usage_system',
  'usage_idle',
  'usage_nice',
  'usage_iowait',
  'usage_irq',
  'usage_softirq',
  'usage_steal',
  'usage_guest',
  'usage_guest_nice',
]

/** A number with so many digits behind the point, other in each line. */
function decimal(i: number, digits: number): string {
  return (Math.abs(Math.sin(i)) * 100).toFixed(digits)
}

interface Shape {
  readonly name: string
  readonly fields: number
  readonly line: (i: number) => string
  /** Each round begins with empty tables. */
  readonly fresh?: boolean
  /** Decoded before each round, and not measured. */
  readonly before?: (i: number) => string
}

const telegraf = (i: number, host: number): string =>
  `cpu,cpu=cpu${i % 8},host=server${host} ${cpuFields.map((f, k) => `${f}=${decimal(i * 10 + k, 12)}`).join(',')} ${time(i)}`
const tags = Array.from({ length: 12 }, (_, k) => `tag${String(k).padStart(2, '0')}=value-${k}`)

const shapes: readonly Shape[] = [
  { name: 'Telegraf cpu: 10 fields of 14 digits, 2 tags', fields: 10, line: (i) => telegraf(i, i % 50) },
  {
    name: 'Telegraf cpu: 10 fields of 16 to 17 digits',
    fields: 10,
    line: (i) =>
      `cpu,cpu=cpu${i % 8},host=server${i % 50} ${cpuFields.map((f, k) => `${f}=${Math.abs(Math.sin(i * 10 + k)) * 100}`).join(',')} ${time(i)}`,
  },
  {
    name: 'Telegraf mem: 10 integers',
    fields: 10,
    line: (i) => `mem,host=server${i % 50} ${cpuFields.map((f, k) => `${f}=${8_000_000_000 + i * 10 + k}i`).join(',')} ${time(i)}`,
  },
  { name: '1 field of 2 decimals, 1 tag', fields: 1, line: (i) => `weather,device_id=d${i % 1000} temperature=${decimal(i, 2)} ${time(i)}` },
  { name: '1 field, without a time', fields: 1, line: (i) => `weather,device_id=d${i % 1000} temperature=${decimal(i, 2)}` },
  { name: '1 field of 17 digits', fields: 1, line: (i) => `weather,device_id=d${i % 1000} temperature=${Math.abs(Math.sin(i)) * 100} ${time(i)}` },
  { name: '1 integer', fields: 1, line: (i) => `meter,device_id=d${i % 1000} count=${i}i ${time(i)}` },
  {
    name: '1 integer beyond 2^53',
    fields: 1,
    line: (i) => `meter,device_id=d${i % 1000} count=${9_100_000_000_000_000_000n + BigInt(i)}i ${time(i)}`,
  },
  { name: '1 boolean', fields: 1, line: (i) => `door,device_id=d${i % 1000} open=${['t', 'true', 'FALSE', 'f'][i % 4]} ${time(i)}` },
  { name: '1 field with sign and exponent', fields: 1, line: (i) => `lab,device_id=d${i % 1000} charge=+${decimal(i, 4)}e-19 ${time(i)}` },
  { name: '1 field, blanks where they may be', fields: 1, line: (i) => ` weather,device_id=d${i % 1000}  temperature=${decimal(i, 2)}  ${time(i)} ` },
  { name: '1 field, 13 tags', fields: 1, line: (i) => `weather,device_id=d${i % 1000},${tags.join(',')} temperature=${decimal(i, 2)} ${time(i)}` },
  {
    name: '1 field, escapes in each name',
    fields: 1,
    line: (i) => `my\\ weather,device_id=d\\ ${i % 1000},site=a\\,b\\=c air\\ temperature=${decimal(i, 2)} ${time(i)}`,
  },
  {
    name: 'text: 20 characters',
    fields: 1,
    line: (i) => `log,host=h${i % 50} message="a line of text ${String(i % 10_000).padStart(5, '0')}" ${time(i)}`,
  },
  {
    name: 'text: with escapes',
    fields: 1,
    line: (i) => `log,host=h${i % 50} message="said \\"yes\\" ${String(i % 10_000).padStart(5, '0')}" ${time(i)}`,
  },
  { name: 'text: not ASCII', fields: 1, line: (i) => `log,host=h${i % 50} message="Tür geöffnet ${String(i % 10_000).padStart(5, '0')}" ${time(i)}` },
  {
    name: 'series known, beginning new',
    fields: 1,
    fresh: true,
    before: (i) => `weather,device_id=d${i % 1000},probe=p${Math.floor(i / 1000)} temperature=${decimal(i, 2)} ${time(i)}`,
    line: (i) => `weather,probe=p${Math.floor(i / 1000)},device_id=d${i % 1000} temperature=${decimal(i, 2)} ${time(i)}`,
  },
  {
    name: 'beginning for the second time: remembered',
    fields: 1,
    fresh: true,
    before: (i) => `weather,device_id=d${i % 1000},probe=p${Math.floor(i / 1000)} temperature=${decimal(i, 2)} ${time(i)}`,
    line: (i) => `weather,device_id=d${i % 1000},probe=p${Math.floor(i / 1000)} temperature=${decimal(i, 2)} ${time(i)}`,
  },
  {
    // The dearest stream there is: each beginning is read, remembered, and never seen again.
    name: 'new series, each twice and never again',
    fields: 1,
    fresh: true,
    line: (i) => {
      const k = i % (lineCount >> 1)
      return `weather,device_id=d${k % 1000},probe=p${Math.floor(k / 1000)} temperature=${decimal(i, 2)} ${time(i)}`
    },
  },
  {
    name: 'new series each line, 1 field',
    fields: 1,
    fresh: true,
    line: (i) => `weather,device_id=d${i % 1000},probe=p${Math.floor(i / 1000)} temperature=${decimal(i, 2)} ${time(i)}`,
  },
  {
    name: 'new field each line',
    fields: 1,
    fresh: true,
    line: (i) => `weather,device_id=d${i % 1000} temperature${Math.floor(i / 1000)}=${decimal(i, 2)} ${time(i)}`,
  },
  { name: 'new device each line, 1 field', fields: 1, fresh: true, line: (i) => `weather,device_id=d${i} temperature=${decimal(i, 2)} ${time(i)}` },
  { name: 'new device each line, 10 fields', fields: 10, fresh: true, line: (i) => telegraf(i, i) },
]

function time(i: number): string {
  return `${1_700_000_000 + Math.floor(i / 100)}000000000`
}

class Way {
  readonly series = new SeriesTable()
  readonly #payload: PayloadDecoder
  readonly #lines: LineDecoder
  readonly #out: BatchBuilder

  constructor(fastLane: boolean) {
    const { series } = this
    this.#payload = new PayloadDecoder({ series })
    this.#lines = new LineDecoder({ series, payload: this.#payload, fastLane })
    this.#out = new BatchBuilder(series.keys)
  }

  /** Rows of the body. */
  decode(body: Buffer): number {
    const splitter = new LineSplitter(body, 0, body.length)
    const out = this.#out
    let rows = 0
    while (splitter.next()) {
      const refused = this.#lines.decode(body, splitter.start, splitter.end, 'line-ns', context, receivedUs, out)
      if (refused !== undefined) throw refused
      rows += this.#payload.rows
      if (out.rows >= 8_192) out.reset()
    }
    out.reset()
    return rows
  }
}

const bodyOf = (line: (i: number) => string): Buffer => Buffer.from(Array.from({ length: lineCount }, (_, i) => line(i)).join('\n'))

/** Of the median round, by reading; `round` is given what `prepare` made. */
function median<T>(readings: number, prepare: () => T, round: (prepared: T) => void): number {
  const times: number[] = []
  for (let i = 0; i < rounds + 5; i++) {
    const prepared = prepare()
    const before = process.cpuUsage()
    round(prepared)
    const used = process.cpuUsage(before)
    if (i >= 5) times.push(used.user + used.system)
  }
  return times.toSorted((a, b) => a - b)[Math.floor(rounds / 2)]! / readings
}

function measure(shape: Shape, fastLane: boolean): number {
  const body = bodyOf(shape.line)
  const warm = shape.before === undefined ? undefined : bodyOf(shape.before)
  const ready = (): Way => {
    const way = new Way(fastLane)
    if (warm !== undefined) way.decode(warm)
    return way
  }
  const kept = ready()
  const readings = lineCount * shape.fields
  return median(
    readings,
    () => (shape.fresh === true ? ready() : kept),
    (way) => {
      const rows = way.decode(body)
      if (rows !== readings) throw new Error(`${rows} rows of ${readings}`)
    },
  )
}

/** What a shape's devices and series cost in the table by themselves. */
function measureTables(shape: Shape): number {
  const way = new Way(false)
  if (shape.before !== undefined) return 0
  way.decode(bodyOf(shape.line))
  const { keys } = way.series
  return median(
    keys.length,
    () => new SeriesTable(),
    (table) => {
      for (const { tenant, device, metric } of keys) {
        const entry = table.device(tenant, device)
        if (typeof entry === 'string' || table.series(entry, metric) < 0) throw new Error(`${device} ${metric} found no place`)
      }
    },
  )
}

const column = (n: number): string => n.toFixed(3).padStart(10)
process.stdout.write(`${'us of CPU a reading'.padEnd(52)}${'fast lane'.padStart(10)}${'general'.padStart(10)}${'tables'.padStart(10)}\n`)
for (const shape of shapes.filter(({ name }) => words.every((word) => name.includes(word)))) {
  const tables = shape.fresh === true && shape.before === undefined ? column(measureTables(shape)) : ''
  process.stdout.write(`${shape.name.padEnd(52)}${column(measure(shape, true))}${column(measure(shape, false))}${tables}\n`)
}
