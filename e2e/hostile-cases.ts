/** What e2e/hostile-http.test.ts sends, one row each. What is no HTTP may be answered by the connection's end. */
import { Buffer } from 'node:buffer'
import { setTimeout as delay } from 'node:timers/promises'
import { brotliCompressSync, constants, deflateSync, gzipSync } from 'node:zlib'
import { request, type Bytes } from './hostile-wire.ts'

export interface HostileCase {
  readonly name: string
  readonly send: () => Iterable<Bytes> | AsyncIterable<Bytes>
  /** What each answer may be; `close`: the connection may end without one. */
  readonly allowed: readonly (number | 'close')[]
  /** Of a refusal: what its detail or its errors must name. */
  readonly names?: RegExp
  readonly answers?: number
  /** More answers than this would be a request that was smuggled: the connection's end is waited for. */
  readonly answersMax?: number
  /** A route of line protocol, whose refusals have the form of its clients. */
  readonly influx?: true
  /** Our half is closed once all is sent. */
  readonly end?: true
}

const MiB = 2 ** 20
const telemetry = '/api/v1/telemetry'
const good = '{"device_id":"hostile","x":1}'
const goodLine = `Content-Type: application/json\r\nHost: 127.0.0.1\r\n`

function post(
  name: string,
  allowed: HostileCase['allowed'],
  names: RegExp | undefined,
  body: () => Bytes,
  o: { readonly url?: string; readonly headers?: Readonly<Record<string, string>> } = {},
): HostileCase {
  const row = {
    name,
    allowed,
    send: () => request('POST', o.url ?? telemetry, { body: body(), ...(o.headers === undefined ? {} : { headers: o.headers }) }),
  }
  return names === undefined ? row : { ...row, names }
}

/** Bytes as they are. */
function raw(name: string, allowed: HostileCase['allowed'], bytes: Bytes, more: Partial<HostileCase> = {}): HostileCase {
  return { name, allowed, send: () => [bytes], ...more }
}

function get(name: string, path: string, allowed: HostileCase['allowed'], names?: RegExp, headers?: Readonly<Record<string, string>>): HostileCase {
  const row = { name, allowed, send: () => request('GET', path, headers === undefined ? {} : { headers }) }
  return names === undefined ? row : { ...row, names }
}

const framed = (headers: string, body: string): string => `POST ${telemetry} HTTP/1.1\r\n${goodLine}${headers}\r\n${body}`
const chunkedGood = `${good.length.toString(16)}\r\n${good}\r\n0\r\n\r\n`
/** Answered 404 with its path, if ever somebody takes it for a request. */
const smuggled = 'GET /smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'

function* repeated(before: string, part: Bytes, times: number): Generator<Bytes> {
  yield before
  for (let i = 0; i < times; i++) yield part
}

async function* dripped(text: string, everyMs: number): AsyncGenerator<Bytes> {
  for (const letter of text) {
    yield letter
    await delay(everyMs)
  }
}

/** Members of gzip one after the other are one file (RFC 1952 2.2): a gigabyte of zeros for the price of 64 MiB. */
function bomb(): Bytes {
  const member = gzipSync(Buffer.alloc(64 * MiB), { level: 1 })
  return Buffer.concat(Array.from({ length: 16 }, () => member))
}

const json = [400, 422]

const documents: readonly HostileCase[] = [
  post('JSON: nothing', [400], /empty/i, () => ''),
  post('JSON: an object that does not end', [400], /JSON/, () => '{"device_id":"h","t":1'),
  post('JSON: two documents', [400], /JSON/, () => `${good} ${good}`),
  post('JSON: NaN', [400], /JSON/, () => '{"device_id":"h","t":NaN}'),
  post('JSON: a byte order mark and UTF-16', json, /UTF-8|JSON/, () => Buffer.from(`\ufeff${good}`, 'utf16le')),
  post('JSON: bad UTF-8', [400], /UTF-8/, () => Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])),
  post('JSON: NUL bytes', json, /JSON/, () => Buffer.alloc(1_000)),
  ...['null', 'true', '1', '"x"', '[null]', '[[]]', '[1,"x",true]'].flatMap((text) =>
    ['/api/v1/telemetry', '/sensor-data', '/ingest', '/ingest/batch'].map((url) =>
      post(`types: ${text} to ${url}`, url === '/ingest/batch' ? [...json, 207] : json, /./, () => text, { url }),
    ),
  ),
  ...['null', '{}', '[]', 'true', '""'].map((text) => post(`types: device_id ${text}`, [422], /device/, () => `{"device_id":${text},"t":1}`)),
  ...['{}', '[]', 'true', '"soon"', '1e400', '-1'].map((text) =>
    post(`types: timestamp ${text}`, [422], /time/, () => `{"device_id":"h","t":1,"timestamp":${text}}`),
  ),
  post('numbers: 1e999', [422], /\/t|double/, () => '{"device_id":"h","t":1e999}'),
  post('numbers: -1e999', [422], /\/t|double/, () => '{"device_id":"h","t":-1e999}'),
  post('numbers: an exponent of 100,000 digits', [400, 413, 422], /./, () => `{"device_id":"h","t":1e${'9'.repeat(100_000)}}`),
  post('numbers: 4 MiB of digits', [400, 413, 422], /./, () => `{"device_id":"h","t":${'7'.repeat(4 * MiB)}}`),
  post('nesting: a million [', json, /./, () => '['.repeat(MiB)),
  post('nesting: 100,000 objects', [400, 413, 422], /./, () => `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`),
  post('nesting: 33 levels', [422], /deep|nest/i, () => `{"device_id":"h","a":${'{"a":'.repeat(33)}1${'}'.repeat(34)}`),
  post('nesting: /api/v1/devices', json, /./, () => `{"device_id":${'['.repeat(100_000)}`, { url: '/api/v1/devices' }),
  post('keys: twice the same', [422], /twice|same key|duplicate/i, () => '{"device_id":"h","t":1,"t":2}'),
  post(
    'keys: 20,000',
    [413, 422],
    /values|limit|larger/i,
    () => `{"device_id":"h"${Array.from({ length: 20_000 }, (_, i) => `,"k${i}":1`).join('')}}`,
  ),
  post(
    'keys: __proto__ and constructor',
    [202, 422],
    undefined,
    () => '{"device_id":"h","__proto__":{"admin":1},"constructor":{"prototype":{"x":1}}}',
  ),
  post('text: a metric of 100 KB', [413, 422], /./, () => `{"device_id":"h","${'m'.repeat(100_000)}":1}`),
  post('a million items', [413, 422], /items/, () => `[${'0,'.repeat(999_999)}0]`),
  post('a million empty objects', [413, 422], /items/, () => `[${'{},'.repeat(999_999)}{}]`),
  post('a million readings', [413, 'close'], /larger/, () => `[${`${good},`.repeat(999_999)}${good}]`),
  {
    name: 'a million lines',
    allowed: [400, 413],
    influx: true,
    send: () => request('POST', '/api/v2/write', { body: 'x\n'.repeat(1_000_000), headers: { 'content-type': 'text/plain' } }),
  },
  post('50 MB', [413, 'close'], /larger/, () => `{"device_id":"h","note":"${'a'.repeat(50e6)}"}`),
  post('50 MB to a route of documents', [413, 'close'], /larger/, () => `{"device_id":"h","name":"${'a'.repeat(50e6)}"}`, { url: '/api/v1/devices' }),
  {
    name: '50 MB in chunks',
    allowed: [413, 'close'],
    names: /larger/,
    send: () => repeated(framed('Transfer-Encoding: chunked\r\n', ''), `10000\r\n${'a'.repeat(65_536)}\r\n`, 800),
  },
  post('gzip: a bomb of 1 GiB', [413], /Unpacked/, bomb, { headers: { 'content-encoding': 'gzip' } }),
  post('deflate: a bomb of 64 MiB', [413], /Unpacked/, () => deflateSync(Buffer.alloc(64 * MiB), { level: 1 }), {
    headers: { 'content-encoding': 'deflate' },
  }),
  post(
    'br: a bomb of 64 MiB',
    [413],
    /Unpacked/,
    () => brotliCompressSync(Buffer.alloc(64 * MiB), { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } }),
    { headers: { 'content-encoding': 'br' } },
  ),
  post('gzip: cut off', [400], /gzip/, () => gzipSync(good).subarray(0, 20), { headers: { 'content-encoding': 'gzip' } }),
  post('gzip: none', [400], /gzip/, () => good, { headers: { 'content-encoding': 'gzip' } }),
  post('gzip: gzip of gzip', [415], /gzip, gzip/, () => gzipSync(gzipSync(good)), { headers: { 'content-encoding': 'gzip, gzip' } }),
  post('an encoding of which nobody has heard', [415], /encoding/, () => good, { headers: { 'content-encoding': 'x'.repeat(5_000) } }),
  post('a content type of which nobody has heard', [415], /./, () => good, { headers: { 'content-type': 'application/x-shockwave-flash' } }),
  post('an Idempotency-Key of 10 KB', [400, 422], /Idempotency-Key/i, () => good, { headers: { 'idempotency-key': 'k'.repeat(10_000) } }),
  post('SQL: two statements', [400, 422], /./, () => '{"sql":"SELECT 1; DROP TABLE readings"}', { url: '/api/v1/sql' }),
  post('SQL: a file of the machine', [400, 422], /read_csv|read_text/, () => `{"sql":"SELECT * FROM read_text('/etc/passwd')"}`, {
    url: '/api/v1/sql',
  }),
  post('SQL: ATTACH', [400, 422], /./, () => `{"sql":"ATTACH '/tmp/x.db' AS x"}`, { url: '/api/v1/sql' }),
  post('SQL: a number', [400, 422], /sql/, () => '{"sql":1}', { url: '/api/v1/sql' }),
  post('SQL: 5,000 brackets', [200, 400, 422], /./, () => JSON.stringify({ sql: `SELECT ${'('.repeat(5_000)}1${')'.repeat(5_000)}` }), {
    url: '/api/v1/sql',
  }),
  post('nesting: 1,000 objects to /devices, not closed', [400, 404, 422], /./, () => '{"a":'.repeat(1_000), { url: '/devices' }),
]

const traversal = (path: string): HostileCase => get(`traversal: ${path}`, path, [400, 404], /./)

const paths: readonly HostileCase[] = [
  ...[
    '/../../../../etc/passwd',
    '/%2e%2e/%2e%2e/%2e%2e/etc/passwd',
    '/..%2f..%2f..%2fetc%2fpasswd',
    '/assets/../../../etc/passwd',
    '/assets/..%5c..%5cpackage.json',
    '/assets/%00',
    '/%c0%ae%c0%ae/etc/passwd',
    '//etc/passwd',
    '/api/v1/jobs/..%2f..%2f..%2fetc%2fpasswd/download',
    '/api/v1/dead-letters/..%2f..%2fkymo.lock',
    '/api/v1/snapshots/x/file?path=../../../../etc/passwd',
  ].map(traversal),
  get('a path that is no URL', '/%zz', [400], /%/),
  get('an absolute URL of another site', 'http://evil.example/api/v1/status', [200, 400, 403, 404]),
  get('a path of 100 KB', `/${'a'.repeat(100_000)}`, [414, 431, 'close'], /larger/),
  get('3,000 parameters', `/api/v1/query?${'a=1&'.repeat(3_000)}`, [200, 400], /./),
  get('limit=-1', '/api/v1/query?limit=-1', [400], /limit/),
  get('limit=1e99', '/api/v1/query?limit=1e99', [400], /limit/),
  get('from=NaN', '/api/v1/query?from=NaN', [400, 422], /from/),
  get('step=0', '/api/v1/query?metric=x&step=0&agg=avg', [400, 422], /step/),
  get('a cursor of rubbish', '/api/v1/query?cursor=AAAA', [400, 422], /cursor/),
  get('from=-100000000000y', '/api/v1/query?from=-100000000000y', [400, 422], /from/),
  ...['PUT', 'DELETE', 'PATCH', 'TRACE', 'PROPFIND', 'SEARCH'].map((method): HostileCase => ({
    name: `method: ${method} ${telemetry}`,
    allowed: [405],
    names: /POST/,
    send: () => request(method, telemetry),
  })),
  { name: 'method: CONNECT', allowed: [400, 403, 404, 405, 'close'], send: () => request('CONNECT', 'evil.example:443') },
  { name: 'method: BREW', allowed: [400, 405, 'close'], send: () => request('BREW', '/') },
  {
    name: 'Upgrade to h2c',
    allowed: [200, 400, 404, 426, 'close'],
    send: () => request('GET', '/livez', { headers: { connection: 'Upgrade', upgrade: 'h2c' } }),
  },
  {
    name: 'Upgrade to WebSocket where none is',
    allowed: [200, 400, 404, 426, 'close'],
    send: () => request('GET', '/livez', { headers: { connection: 'Upgrade', upgrade: 'websocket' } }),
  },
  get('Expect: what nobody can', '/livez', [200], undefined, { expect: 'miracles' }),
  get('a Range of everything', '/metrics', [200, 416], /./, { range: `bytes=${'0-,'.repeat(3_000)}0-` }),
  get('Accept of rubbish', '/api/v1/status', [200, 406], /./, { accept: ';;q=9,,*/*/*' }),
  get('Host of another site', '/api/v1/status', [403], /Host/, { host: 'evil.example' }),
  get('Origin of another site', '/api/v1/status', [403], /evil/, { origin: 'http://evil.example' }),
  raw('no Host', [400], 'GET /api/v1/status HTTP/1.1\r\n\r\n', { names: /Host/ }),
  raw('two Hosts', [400], 'GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n', { names: /Host/ }),
]

const noHttp = [400, 'close'] as const

const framing: readonly HostileCase[] = [
  get('headers: one of 100 KB', '/livez', [431], /larger/, { 'x-a': 'a'.repeat(100_000) }),
  raw('headers: 100,000', [431, 'close'], `GET /livez HTTP/1.1\r\nHost: a\r\n${'a: b\r\n'.repeat(100_000)}\r\n`),
  { name: 'headers: without end', allowed: [431, 'close'], send: () => repeated('GET /livez HTTP/1.1\r\n', `x-${'a'.repeat(1_000)}: 1\r\n`, 50_000) },
  raw('headers: folded', [200, 400, 403], 'GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\r\n b\r\n\r\n', { end: true }),
  raw('headers: NUL', [400], 'GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\0b\r\n\r\n'),
  raw('headers: a lone CR', [400], 'GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\rSet-Cookie: b\r\n\r\n', { end: true }),
  raw('headers: a name with a space', [400], 'GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX Y: a\r\n\r\n'),
  raw('headers: lines that end with LF', [200, 400], 'GET /livez HTTP/1.1\nHost: 127.0.0.1\n\n', { end: true }),
  raw('Content-Length twice, different', [400], framed(`Content-Length: 29\r\nContent-Length: 5\r\n`, good), { answersMax: 1 }),
  raw('Content-Length twice, the same', [400], framed(`Content-Length: 29\r\nContent-Length: 29\r\n`, good), { answersMax: 1 }),
  ...['-1', '+29', '0x1d', '29, 29', '1e3', ' ', '99999999999999999999', '29 29'].map((length) =>
    raw(`Content-Length: "${length}"`, [400, 413, 'close'], framed(`Content-Length: ${length}\r\n`, good), { end: true, answersMax: 1 }),
  ),
  raw('Content-Length beyond the body', [400, 'close'], framed('Content-Length: 1000\r\n', good), { end: true }),
  raw('Content-Length short of the body', [400, 422, 'close'], framed('Content-Length: 10\r\n', good), { end: true }),
  raw('Content-Length and Transfer-Encoding', [400], framed(`Content-Length: 6\r\nTransfer-Encoding: chunked\r\n`, `0\r\n\r\n${smuggled}`), {
    answersMax: 1,
  }),
  raw('Transfer-Encoding and Content-Length', [400], framed(`Transfer-Encoding: chunked\r\nContent-Length: 4\r\n`, `${chunkedGood}${smuggled}`), {
    answersMax: 1,
  }),
  ...['xchunked', 'chunked, identity', 'identity', 'chunked, chunked', '\u000bchunked', 'gzip, chunked', 'chunked\r\nTransfer-Encoding: cow'].map(
    (coding) =>
      raw(`Transfer-Encoding: ${JSON.stringify(coding)}`, [400, 422, 501, 'close'], framed(`Transfer-Encoding: ${coding}\r\n`, chunkedGood), {
        end: true,
        answersMax: 1,
      }),
  ),
  raw('Transfer-Encoding with a space before the colon', [400], framed('Transfer-Encoding : chunked\r\n', `${chunkedGood}${smuggled}`), {
    answersMax: 1,
  }),
  raw('a GET with a request for its body', [200], `GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: ${smuggled.length}\r\n\r\n${smuggled}`, {
    end: true,
    answers: 2,
    answersMax: 1,
  }),
  ...['zz', '-1', '0x5', 'fffffffffffffffff', '5 5', '', ' 5', '5;'.padEnd(40_000, 'x')].map((size) =>
    raw(
      `chunks: a size of ${JSON.stringify(size.slice(0, 20))}`,
      [400, 413, 431, 'close'],
      framed('Transfer-Encoding: chunked\r\n', `${size}\r\nhello\r\n0\r\n\r\n`),
      { end: true },
    ),
  ),
  raw('chunks: more than their size', [400], framed('Transfer-Encoding: chunked\r\n', `5\r\nhello world\r\n0\r\n\r\n`)),
  raw('chunks: no last one', [400, 'close'], framed('Transfer-Encoding: chunked\r\n', '5\r\nhello\r\n'), { end: true }),
  {
    name: 'chunks: of one byte, 100,000',
    allowed: [400, 413, 422, 'close'],
    names: /./,
    send: () => [framed('Transfer-Encoding: chunked\r\n', `${'1\r\n \r\n'.repeat(100_000)}0\r\n\r\n`)],
  },
  {
    name: 'chunks: trailers without end',
    allowed: [400, 431, 'close'],
    send: () => repeated(framed('Transfer-Encoding: chunked\r\n', `1d\r\n${good}\r\n0\r\n`), `x-${'a'.repeat(1_000)}: 1\r\n`, 50_000),
  },
  {
    name: 'chunks: extensions without end',
    allowed: [400, 413, 431, 'close'],
    send: () => repeated(framed('Transfer-Encoding: chunked\r\n', '5;'), 'x'.repeat(10_000), 5_000),
  },
  raw('HTTP/0.9', noHttp, 'GET /\r\n', { end: true }),
  raw('HTTP/2 by prior knowledge', noHttp, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  raw('HTTP/9.9', [400, 505, 'close'], 'GET /livez HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n'),
  raw('SSH', noHttp, 'SSH-2.0-OpenSSH_9.9\r\n'),
  raw('TLS ClientHello', noHttp, Buffer.from('16030100c8010000c40303'.padEnd(400, '5a'), 'hex')),
  raw('MQTT CONNECT', noHttp, Buffer.from('101000044d5154540402003c000474657374', 'hex')),
  raw('64 KiB of zeros', noHttp, Buffer.alloc(65_536)),
  raw('64 KiB of noise', noHttp, Buffer.from(Array.from({ length: 65_536 }, (_, i) => (i * 2_654_435_761) >>> 24))),
  { name: 'line ends without end', allowed: noHttp, end: true, send: () => repeated('', '\r\n'.repeat(10_000), 500) },
  raw('nothing', ['close'], '', { end: true }),
  { name: 'pipelining: 200 requests', allowed: [200], answers: 200, send: () => ['GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'.repeat(200)] },
  {
    name: 'pipelining: a bad one between good ones',
    allowed: [200, 400],
    answers: 3,
    send: () => ['GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nrubbish\r\n\r\n', smuggled],
    answersMax: 2,
  },
  {
    name: 'pipelining: 100 large answers, of which one is read',
    allowed: [200, 'close'],
    answers: 1,
    send: () => ['GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'.repeat(100)],
  },
  { name: 'a body dripped byte by byte', allowed: [202], send: () => dripped(framed(`Content-Length: ${good.length}\r\n`, good), 10) },
]

export const hostileCases: readonly HostileCase[] = [...documents, ...paths, ...framing]
