import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { main } from '../../src/cli/main.ts'
import { csvCell } from '../../src/cli/query.ts'
import { CsvReader, guessDelimiter } from '../../src/cli/replay/csv.ts'
import { mapColumns } from '../../src/cli/replay/mapping.ts'
import { parseTime, timeParser } from '../../src/cli/replay/time-format.ts'
import { KymoError } from '../../src/core/errors.ts'
import { recordedTerminal } from './fixtures/terminal.ts'
import { fuzzRuns } from '../support/effort.ts'

function parse(text: string, delimiter = ',', cut = text.length): string[][] {
  const reader = new CsvReader(delimiter)
  const records = []
  for (let i = 0; i < text.length; i += Math.max(1, cut)) records.push(...reader.push(text.slice(i, i + Math.max(1, cut))))
  records.push(...reader.end())
  return records.map(({ cells }) => [...cells])
}

test('RFC 4180: what was quoted comes back, however the chunks are cut', () => {
  const cell = fc.string({ unit: fc.constantFrom('a', '1', ',', '"', '\n', '\r', ' ', 'é', ';'), maxLength: 6 })
  const quote = (c: string): string => (/[",\r\n]/.test(c) ? `"${c.replaceAll('"', '""')}"` : c)
  fc.assert(
    fc.property(
      fc.array(fc.tuple(cell, cell, cell), { minLength: 1, maxLength: 5 }),
      fc.constantFrom('\n', '\r\n'),
      fc.integer({ min: 1, max: 20 }),
      fc.boolean(),
      (rows, end, cut, last) => {
        const text = rows.map((row) => row.map(quote).join(',')).join(end) + (last ? end : '')
        assert.deepEqual(
          parse(text, ',', cut),
          rows.map((row) => [...row]),
        )
      },
    ),
    fuzzRuns(500),
  )
})

test('a byte order mark, empty lines, another delimiter, line numbers', () => {
  assert.deepEqual(parse('\ufeffa;b\n\n1;2\n', ';'), [
    ['a', 'b'],
    ['1', '2'],
  ])
  const reader = new CsvReader(',')
  const records = [...reader.push('a,b\n"x\ny",2\n\n3,4'), ...reader.end()]
  assert.deepEqual(
    records.map(({ line }) => line),
    [1, 2, 5],
  )
  assert.throws(() => parse('a,b\n"never closed\n1,2\n'), /line 2: a quote is opened and never closed/)
  assert.deepEqual([guessDelimiter('a;b,c;d'), guessDelimiter('a\tb'), guessDelimiter('alone')], [';', '\t', ','])
})

test('times as files have them', () => {
  const us = Date.UTC(2004, 2, 10, 18) * 1e3
  for (const text of [
    '2004/3/10 18:00',
    '2004-03-10 18:00:00',
    '2004-03-10T18:00:00Z',
    '2004-03-10T19:00:00+01:00',
    '2004-03-10T12:30:00-0530',
    ' 2004-03-10T18:00 ',
    '1078941600',
    '1078941600000',
    '1078941600000000',
    '1078941600000000000',
  ]) {
    assert.equal(parseTime(text), us, text)
  }
  assert.equal(parseTime('2004-03-10 18:00:00.123456'), us + 123_456)
  assert.equal(parseTime('2004-03-10'), Date.UTC(2004, 2, 10) * 1e3)
  for (const bad of ['', 'yesterday', '2004-02-30 10:00', '2004-13-01', '2004-03-10 25:00', '10/03/2004'])
    assert.ok(Number.isNaN(parseTime(bad)), bad)
  assert.equal(timeParser('step:30m:2004-03-01T00:00Z')('3'), (Date.UTC(2004, 2, 1) + 90 * 60_000) * 1e3)
  assert.equal(timeParser('ms')('1078941600000'), us)
  assert.equal(timeParser('s')('1.5'), 1_500_000)
  assert.throws(() => timeParser('step:30x:2004'), /Known: auto/)
})

const common = { device: 'file', parseTime: timeParser('auto'), missing: ['-200'] }

test('columns: found, named, renamed; missing values left out, also as -200.0', () => {
  const header = ['date', 'CO(GT)', 'T', 'RH', 'note']
  const all = mapColumns(header, common)
  assert.deepEqual(all.metrics, ['CO(GT)', 'T', 'RH', 'note'])
  const row = all.map({ line: 2, cells: ['2004/3/10 18:00', '2.6', '-200', '-200.0', 'NaN'] })
  assert.ok(typeof row === 'object')
  assert.deepEqual(
    { ...row, values: { ...row.values } },
    { device: 'file', timeUs: Date.UTC(2004, 2, 10, 18) * 1e3, values: { 'CO(GT)': 2.6 }, missing: 3 },
  )
  const some = mapColumns(header, { ...common, metrics: ['T=temperature', 'RH'], deviceColumn: 'note', devicePrefix: 'mote-' })
  assert.deepEqual(some.metrics, ['temperature', 'RH'])
  const renamed = some.map({ line: 3, cells: ['2004/3/10 18:00', '', '13.6', '48.9', '7'] })
  assert.ok(typeof renamed === 'object')
  assert.deepEqual([renamed.device, { ...renamed.values }], ['mote-7', { temperature: 13.6, RH: 48.9 }])
})

test('what is wrong with a row is said; a wrong column name is a usage error with a suggestion', () => {
  const mapping = mapColumns(['time', 'device', 'v'], { ...common, deviceColumn: 'device' })
  assert.equal(mapping.map({ line: 2, cells: ['2004-01-01', 'a'] }), '2 cells where the header has 3')
  assert.match(String(mapping.map({ line: 2, cells: ['noon', 'a', '1'] })), /"noon" in column "time" is not a time/)
  assert.match(String(mapping.map({ line: 2, cells: ['2004-01-01', ' ', '1'] })), /names no device/)
  assert.throws(
    () => mapColumns(['time', 'temperature'], { ...common, metrics: ['temprature'] }),
    (error: unknown) => error instanceof KymoError && error.code === 'usage' && /did you mean "temperature"/.test(error.message),
  )
  assert.throws(() => mapColumns(['a', 'b'], common), /no column looks like the time/)
})

test('a cell that a spreadsheet would run is made harmless in CSV output; a negative number stays one', () => {
  assert.deepEqual(['-1.5', '=1+1', 'a"b,c', '-x'].map(csvCell), ['-1.5', "'=1+1", '"a""b,c"', "'-x"])
})

interface Received {
  readonly device: string
  readonly time: number
  readonly values: Record<string, number>
}

/** Takes batches; `answers` says what the first requests get instead of 202. */
async function fakeIngest(
  t: { after(fn: () => void): void },
  answers: (readonly [number, unknown])[] = [],
): Promise<{ url: string; received: Received[] }> {
  const received: Received[] = []
  const server = http.createServer((request, response) => {
    if (request.method !== 'POST') {
      response.end('ok\n')
      return
    }
    let text = ''
    request.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
    request.on('end', () => {
      const [status, body] = answers.shift() ?? [202, { accepted: 1, rejected: 0 }]
      if (status < 400) received.push(...(JSON.parse(text) as Received[]))
      response.writeHead(status).end(JSON.stringify(body))
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-replay-'))
  t.after(() => {
    server.closeAllConnections()
    server.close()
    fs.rmSync(dir, { recursive: true, force: true })
  })
  files.set(server, dir)
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, received }
}
const files = new Map<http.Server, string>()

function written(name: string, text: string): string {
  const file = path.join([...files.values()].at(-1)!, name)
  fs.writeFileSync(file, name.endsWith('.gz') ? gzipSync(text) : text)
  return file
}

async function replay(...args: string[]): Promise<{ code: number; report: Record<string, unknown>; stderr: string }> {
  const terminal = recordedTerminal()
  const code = await main(['replay', ...args, '--json'], terminal)
  process.exitCode = undefined
  return { code, report: JSON.parse(terminal.stdout.at(-1) ?? '{}') as Record<string, unknown>, stderr: terminal.stderr.join('\n') }
}

test('a gzip file, a busy server that is asked again, counts that add up', async (t) => {
  const { url, received } = await fakeIngest(t, [
    [429, { detail: 'later' }],
    [503, {}],
  ])
  const rows = Array.from({ length: 1_200 }, (_, i) => `${1_078_941_600 + i},${i % 7},${i % 100 === 0 ? -200 : i / 10}`)
  const file = written('air.csv.gz', `time,node,T\n${rows.join('\n')}\n`)
  const { code, report } = await replay(
    file,
    '--http',
    url,
    '--device-column',
    'node',
    '--device-prefix',
    'n',
    '--missing',
    '-200',
    '--metrics',
    'T=temperature',
  )
  assert.equal(code, 0)
  assert.deepEqual(
    [
      report['rows'],
      report['messages'],
      report['readings'],
      report['acknowledged'],
      report['rejected'],
      report['missing_values'],
      report['empty_rows'],
      report['invalid_rows'],
    ],
    [1_200, 1_188, 1_188, 1_188, 0, 12, 12, 0],
  )
  assert.equal(received.length, 1_188)
  assert.equal(new Set(received.map((m) => m.time)).size, 1_188)
  const seventh = received.find((m) => m.time === (1_078_941_600 + 7) * 1e6)
  assert.deepEqual(seventh, { device: 'n0', time: (1_078_941_600 + 7) * 1e6, values: { temperature: 0.7 } })
})

test('items that the server refuses are counted and told, and the exit code says so', async (t) => {
  const refused = {
    accepted: 1,
    rejected: 1,
    results: [{ index: 0, status: 422, code: 'value_invalid', detail: 'The value has a type that cannot be stored.' }],
  }
  const { url } = await fakeIngest(t, [[207, refused]])
  const file = written('two.csv', 'time,v\n2004-01-01,1\n2004-01-02,2\n')
  const { code, report } = await replay(file, '--http', url)
  assert.equal(code, 1)
  assert.deepEqual([report['acknowledged'], report['rejected'], report['problems']], [1, 1, ['The value has a type that cannot be stored.']])
})

test('rows that cannot be read fail the command, unless they may be skipped', async (t) => {
  const { url } = await fakeIngest(t)
  const file = written('bad.csv', 'time,v\n2004-01-01,1\nnoon,2\n2004-01-03,3\n')
  const strict = await replay(file, '--http', url)
  assert.deepEqual([strict.code, strict.report['invalid_rows'], strict.report['acknowledged']], [1, 1, 2])
  assert.equal((await replay(file, '--http', url, '--skip-invalid')).code, 0)
})

test('speed and start: rows leave at their recorded pace, moved to where they were asked to be', async (t) => {
  const { url, received } = await fakeIngest(t)
  const file = written('slow.csv', 'time,v\n2004-01-01T00:00:00Z,1\n2004-01-01T00:01:00Z,2\n2004-01-01T00:02:00Z,3\n')
  const from = performance.now()
  const { code } = await replay(file, '--http', url, '--speed', '600', '--start', '2026-11-20T00:00:00Z')
  assert.equal(code, 0)
  // Two minutes at 600 times the pace: never quicker, however slow the machine is.
  assert.ok(performance.now() - from >= 195)
  assert.deepEqual(
    received.map((m) => m.time),
    [0, 60, 120].map((s) => Date.UTC(2026, 10, 20) * 1e3 + s * 1e6),
  )
})
