/** What bench/stalls.ts does to the server, one hostile client at a time. */
import { Buffer } from 'node:buffer'
import http from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { RawMqtt } from '../test/support/mqtt-client.ts'
import type { RunningServer } from '../test/support/server.ts'

export interface Client {
  readonly server: RunningServer
  readonly request: (
    method: string,
    url: string,
    o?: { readonly body?: Buffer; readonly type?: string; readonly headers?: Readonly<Record<string, string>> },
  ) => Promise<{ readonly status: number; readonly bytes: number; readonly text: string }>
}

export interface Case {
  readonly name: string
  /** Everything that is to be there before the clock runs; returns what is measured, and that what is told of it. `n`: which try it is. */
  readonly prepare: (client: Client, n: number) => Promise<() => Promise<string>>
}

const MiB = 1 << 20
const telemetry = '/api/v1/telemetry'
const bodyBytes = 8 * MiB - 256

/** A body sent three times: the first run of code is compiled while it runs. */
function body(
  name: string,
  make: (n: number) => Buffer,
  o: { readonly url?: string; readonly type?: string; readonly headers?: Record<string, string> } = {},
): Case {
  return {
    name,
    async prepare({ request }, n) {
      const bytes = make(n)
      return async () => {
        const { url = telemetry, ...more } = o
        const told: string[] = []
        for (let i = 0; i < 3; i++) {
          const answer = await request('POST', url, { body: bytes, ...more })
          told.push(`${answer.status} ${/"code":"(\w+)"/.exec(answer.text)?.[1] ?? ''}`)
        }
        return [...new Set(told)].join(', ')
      }
    },
  }
}

const good = (i: number, device = 'bystander'): string =>
  `{"device_id":"${device}-${i % 100}","temperature":${20 + (i % 10)},"timestamp":${1_700_000_000_000 + i}}`
const filled = (before: string, part: string, after: string, bytes = bodyBytes): Buffer =>
  Buffer.from(before + part.repeat(Math.floor((bytes - before.length - after.length) / Buffer.byteLength(part))) + after)
const many = (count: number, item: (i: number) => string, separator = ','): string => Array.from({ length: count }, (_, i) => item(i)).join(separator)

const fleet = 30_000

/** Devices of five metrics each, once. */
let fleetSent: Promise<void> | undefined
function fleetOf({ request }: Client): Promise<void> {
  fleetSent ??= (async () => {
    const now = Date.now()
    for (let from = 0; from < fleet; from += 2_000) {
      const items = many(2_000, (i) => `{"device_id":"fleet-${from + i}","a":1,"b":2,"c":3,"d":4,"e":5,"firmware":"1.2.3","timestamp":${now}}`)
      const { status } = await request('POST', telemetry, { body: Buffer.from(`[${items}]`) })
      if (status !== 202) throw new Error(`the fleet was answered ${status}`)
    }
    await delay(3_000)
  })()
  return fleetSent
}

function get(url: string, times = 3): Case {
  return {
    name: `GET ${url}`,
    async prepare(client) {
      await fleetOf(client)
      return async () => {
        const told: string[] = []
        for (let i = 0; i < times; i++) {
          const { status, bytes } = await client.request('GET', url)
          told.push(`${status} ${Math.round(bytes / 1024)} KiB`)
        }
        return [...new Set(told)].join(', ')
      }
    },
  }
}

export const cases: readonly Case[] = [
  { name: 'nothing', prepare: async () => async () => (await delay(1_000), '') },

  // One item.
  body('body: one text of 8 MiB', () => filled('{"device_id":"x","note":"', 'a', '"}')),
  body('body: one text of escapes', () => filled('{"device_id":"x","note":"', '\\u0041', '"}')),
  body('body: one text of short escapes', () => filled('{"device_id":"x","note":"', '\\n', '"}')),
  body('body: one key of 8 MiB of ~', () => filled('{"device_id":"x","', '~', '":1}')),
  body('body: one object of 900,000 members', () => filled('{"device_id":"x"', ',"k":1', '}')),
  body('body: one array nested in a member', () => filled('{"device_id":"x","w":[1', ',1.5', ']}')),
  body('body: one number of 8 MiB of digits', () => filled('{"device_id":"x","n":', '7', '}')),
  body('body: metadata of 8 MiB', () => filled('{"device_id":"x","t":1,"metadata":{"m":"', '\\"', '"}}')),
  body('body: bad UTF-8 at the end of 8 MiB', () =>
    Buffer.concat([filled('{"device_id":"x","note":"', 'é', ''), Buffer.from([0xff]), Buffer.from('"}')]),
  ),
  body('body: 8 MiB of white space', () => filled('', ' ', '')),
  body('body: array of one text of 8 MiB', () => filled(`[${good(1)},{"device_id":"x","note":"`, 'a', `"},${good(2)}]`)),
  body('body: array of one array of 8 MiB', () => filled(`[${good(1)},{"device_id":"x","w":[1`, ',1', `]},${good(2)}]`)),
  body('body: array of a word and 8 MiB of white space', () => filled(`[${good(1)},1`, ' ', `,${good(2)}]`)),
  body('body: array, 8 MiB of white space between items', () => filled(`[${good(1)},`, ' ', `${good(2)}]`)),
  body('body: array that does not close its string', () => filled(`[${good(1)},{"a":"`, 'a', ``)),
  body('body: NDJSON of one line of 8 MiB', () => filled(`${good(1)}\n{"device_id":"x","note":"`, '\\u0041', `"}\n${good(2)}\n`), {
    type: 'application/x-ndjson',
  }),
  body('body: NDJSON, 8 MiB of blank lines', () => filled(`${good(1)}\n`, '\n', `${good(2)}\n`), { type: 'application/x-ndjson' }),
  body('body: {} and white space before the first line end', () => filled('{}', ' ', '\n{}')),
  body('body: S2 /ingest of 1 MiB', () => filled('{"device_id":"x","metric":"m","value":1,"metadata":{"m":"', '\\u0041', '"}}', MiB - 10), {
    url: '/ingest',
  }),
  body('body: items of 2,000 values', (n) =>
    Buffer.from(
      `[${many(130, (i) => `{"device_id":"wide-${n}-${i}","v":{${many(900, (k) => `"metric_with_a_long_name_of_${n}_${i}_${k}":${k}`)}}}`)}]`,
    ),
  ),
  body('body: items of 60 KiB of text', () =>
    Buffer.from(`[${many(120, (i) => `{"device_id":"t-${i}","a":"${'ä'.repeat(8_000)}","b":"${'b'.repeat(16_000)}","c":"${'c'.repeat(16_000)}"}`)}]`),
  ),

  // Many items.
  body('body: 100,000 good items', (n) => Buffer.from(`[${many(100_000, (i) => good(i, `many${n}`))}]`)),
  body('body: 100,000 refused items (no JSON)', () => Buffer.from(`[${many(100_000, () => '{"a":nope}')}]`)),
  body('body: 100,000 refused items (no device)', () => Buffer.from(`[${many(100_000, (i) => `{"temperature":"hot ${i}"}`)}]`)),
  body('body: 100,000 refused items of S0', () => Buffer.from(`[${many(100_000, (i) => `{"x":${i}}`)}]`), { url: '/sensor-data' }),
  body('body: 200,000 items', (n) => Buffer.from(`[${many(200_000, (i) => `{"device":"m${n}","t":${i}}`)}]`)),
  body('body: 20,000 new devices', (n) =>
    Buffer.from(`[${many(20_000, (i) => `{"device_id":"new-${n}-${i}","m${i % 50}":1,"firmware":"2.${i % 7}"}`)}]`),
  ),
  body('body: 100 devices with 1,000 new metrics each', (n) =>
    Buffer.from(`[${many(1_000, (i) => `{"device_id":"wide-${n}-${i % 100}","v":{${many(100, (k) => `"x${i}_${k}":${k}`)}}}`)}]`),
  ),
  body('body: 100,000 new attributes', (n) =>
    Buffer.from(`[${many(100_000, (i) => `{"device_id":"a-${n}-${i % 1_000}","m":1,"firmware":"v${i}"}`)}]`),
  ),
  body('line: 100,000 bad lines', () => Buffer.from(many(100_000, (i) => `nothing here ${i}`, '\n')), { url: '/api/v2/write', type: 'text/plain' }),
  body(
    'line: 100,000 good lines of new series',
    (n) => Buffer.from(many(100_000, (i) => `m${n},host=h${i % 2_000} f${i % 40}=${i} ${1_700_000_000_000_000_000n + BigInt(i)}`, '\n')),
    {
      url: '/api/v2/write',
      type: 'text/plain',
    },
  ),
  body('line: one line of 8 MiB', () => filled('m,host=h f="', 'a', '" 1700000000000000000'), { url: '/api/v2/write', type: 'text/plain' }),
  body('line: 8 MiB of quotes', () => filled('m,host=h f=1\n', 'm f="\n', ''), { url: '/api/v2/write', type: 'text/plain' }),
  body(
    'line: lines of 2,000 fields',
    (n) => Buffer.from(many(300, (i) => `w${n},host=h${i} ${many(900, (k) => `field_number_${k}=${k}.5`)}`, '\n')),
    { url: '/api/v2/write', type: 'text/plain' },
  ),
  body('gzip: 8 MiB of white space', () => gzipSync(filled('', ' ', '')), { headers: { 'content-encoding': 'gzip' } }),
  body('gzip: 1 GiB of zeros', () => gzipSync(Buffer.alloc(512 * MiB)), { headers: { 'content-encoding': 'gzip' } }),
  body('gzip: 100,000 refused items', () => gzipSync(Buffer.from(`[${many(100_000, () => '{"a":nope}')}]`)), {
    headers: { 'content-encoding': 'gzip' },
  }),
  body('key: 100,000 good items with an Idempotency-Key', (n) => Buffer.from(`[${many(100_000, (i) => `{"device":"k${n}","t":${i}}`)}]`), {
    headers: { 'idempotency-key': 'k' },
  }),

  // Reads of a fleet of 30,000 devices.
  get('/metrics'),
  get('/openapi.json'),
  get('/api/v1/devices?limit=10000'),
  get('/api/v1/devices?limit=10000&total=true&search=99999999'),
  get('/api/v1/devices?limit=10000&search=fleet'),
  get('/api/v1/latest?limit=10000'),
  get('/api/v1/series?limit=10000'),
  get('/api/v1/query?from=-1h&limit=100000'),
  get('/api/v1/query?metric=a&from=-1h&step=1m&agg=avg,min,max&limit=100000'),
  get('/api/v1/status'),
  get('/api/v1/status/history'),
  get('/devices?limit=10000'),
  get('/sensors'),
  get('/sensor-data?limit=10000'),
  get('/stats'),
  get('/api/v1/dead-letters?limit=100'),
  get('/api/v1/dead-letters?limit=10000'),
  get('/docs'),
  get('/'),
  {
    name: 'live: 250 clients of a busy fleet',
    async prepare(client) {
      await fleetOf(client)
      const { server } = client
      const agent = new http.Agent({ maxSockets: 1_000 })
      const streams = await Promise.all(
        Array.from(
          { length: 250 },
          () =>
            new Promise<http.IncomingMessage>((resolve, reject) => {
              http.get(`${server.http}/api/v1/live`, { agent }, (answer) => resolve(answer.resume())).on('error', reject)
            }),
        ),
      )
      const bytes = Buffer.from(`[${many(2_000, (i) => `{"device_id":"fleet-${i}","a":1,"b":2,"c":3}`)}]`)
      return async () => {
        for (let i = 0; i < 5; i++) {
          await client.request('POST', telemetry, { body: bytes })
          await delay(200)
        }
        for (const stream of streams) stream.destroy()
        agent.destroy()
        return `${streams.filter((stream) => stream.statusCode === 200).length} streams`
      }
    },
  },
  {
    name: 'mqtt: SUBSCRIBE of 1,000 filters, 20 times',
    prepare: async ({ server }) => {
      const mqtt = await RawMqtt.connect({ port: server.mqttPort, clientId: 'subscriber' })
      return async () => {
        for (let i = 0; i < 20; i++) for (let k = 0; k < 50; k++) await mqtt.subscribe(`a/${i}/${k}/+/#`)
        mqtt.destroy()
        return ''
      }
    },
  },
  {
    name: 'mqtt: 2,000 clients at once',
    prepare:
      async ({ server }) =>
      async () => {
        const clients = await Promise.all(Array.from({ length: 2_000 }, (_, i) => RawMqtt.connect({ port: server.mqttPort, clientId: `storm-${i}` })))
        for (const each of clients) each.destroy()
        return `${clients.length}`
      },
  },
  {
    name: 'mqtt: one message to 1,000 subscribers, 100 times',
    prepare: async ({ server }) => {
      const clients = await Promise.all(Array.from({ length: 1_000 }, (_, i) => RawMqtt.connect({ port: server.mqttPort, clientId: `fan-${i}` })))
      for (const each of clients) await each.subscribe('fan/#')
      const sender = await RawMqtt.connect({ port: server.mqttPort, clientId: 'fan-sender' })
      return async () => {
        for (let i = 0; i < 100; i++) sender.publish({ topic: 'fan/out', payload: 'x'.repeat(100), qos: 0 })
        await sender.ping()
        await delay(1_000)
        for (const each of clients) each.destroy()
        sender.destroy()
        return ''
      }
    },
  },
  {
    name: 'mqtt: 10,000 refused messages in a second',
    prepare: async ({ server }) => {
      const sender = await RawMqtt.connect({ port: server.mqttPort, clientId: 'refused' })
      return async () => {
        for (let i = 0; i < 10_000; i++) sender.publish({ topic: 'portfolio/telemetry', payload: `{"a":${i}`, qos: 0 })
        await sender.ping()
        sender.destroy()
        return ''
      }
    },
  },
]
