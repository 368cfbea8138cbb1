/**
 * What a reading of line protocol costs: splitting a body into lines, and decoding them into the open batch; no sockets, no log, one thread. Not
 * part of `npm run bench`: it looks at one part alone.
 *
 *   node bench/line.ts [lines=20000] [rounds=20]
 *
 * Lines as Telegraf's inputs cpu (10 fields) and mem write them, a small line of one field, and lines of text. Each body is decoded so
 * many times; printed is the CPU time (user and system) of the median round by reading, after rounds that warm up. `parser` is the general lane
 * alone, which takes what is new or unusual.
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

const bodies: readonly { readonly name: string; readonly fields: number; readonly line: (i: number) => string }[] = [
  {
    name: 'Telegraf cpu: 10 fields of 14 digits, 2 tags',
    fields: 10,
    line: (i) => `cpu,cpu=cpu${i % 8},host=server${i % 50} ${cpuFields.map((f, k) => `${f}=${decimal(i * 10 + k, 12)}`).join(',')} ${time(i)}`,
  },
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
  { name: 'small: 1 field of 2 decimals, 1 tag', fields: 1, line: (i) => `weather,device_id=d${i % 1000} temperature=${decimal(i, 2)} ${time(i)}` },
  { name: 'small, without a time', fields: 1, line: (i) => `weather,device_id=d${i % 1000} temperature=${decimal(i, 2)}` },
  {
    name: 'text: 1 field of 20 characters',
    fields: 1,
    line: (i) => `log,host=h${i % 50} message="a line of text ${String(i % 10_000).padStart(5, '0')}" ${time(i)}`,
  },
]

function time(i: number): string {
  return `${1_700_000_000 + Math.floor(i / 100)}000000000`
}

function measure(body: Buffer, fields: number, fastLane: boolean): number {
  const series = new SeriesTable()
  const lines = new LineDecoder({ series, payload: new PayloadDecoder({ series }), fastLane })
  const out = new BatchBuilder(series.keys)
  const perReading: number[] = []
  for (let round = 0; round < rounds + 5; round++) {
    const before = process.cpuUsage()
    const splitter = new LineSplitter(body, 0, body.length)
    let rows = 0
    while (splitter.next()) {
      const refused = lines.decode(body, splitter.start, splitter.end, 'line-ns', context, receivedUs, out)
      if (refused !== undefined) throw refused
      if (out.rows < 8_192) continue
      rows += out.rows
      out.reset()
    }
    rows += out.rows
    out.reset()
    const used = process.cpuUsage(before)
    if (rows !== lineCount * fields) throw new Error(`${rows} rows of ${lineCount * fields}`)
    if (round >= 5) perReading.push((used.user + used.system) / rows)
  }
  return perReading.toSorted((a, b) => a - b)[Math.floor(rounds / 2)]!
}

process.stdout.write(`${'us of CPU a reading'.padEnd(52)}${'fast lane'.padStart(10)}${'parser'.padStart(10)}\n`)
for (const { name, fields, line } of bodies) {
  const body = Buffer.from(Array.from({ length: lineCount }, (_, i) => line(i)).join('\n'))
  const [fast, parser] = [measure(body, fields, true), measure(body, fields, false)]
  process.stdout.write(`${name.padEnd(52)}${fast.toFixed(3).padStart(10)}${parser.toFixed(3).padStart(10)}\n`)
}
