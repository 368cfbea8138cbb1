import { Buffer } from 'node:buffer'
import { gzipSync } from 'node:zlib'
import { limits } from '../../src/core/limits.ts'
import { id, refused, taken, type BadInput } from './case.ts'

const seedBad = { status: 400, routes: ['ingest'] } as const

export const times: readonly BadInput[] = [
  refused('year 0026', 'time_invalid', (d) => `{"device_id":${id(d)},"timestamp":"0026-01-01T00:00:00Z","x":1}`, '1970 to 2255.', {
    pointer: '/timestamp',
  }),
  refused('year 9999', 'time_invalid', (d) => `{"device_id":${id(d)},"time":"9999-12-31T23:59:59Z","x":1}`, '1970 to 2255.', { pointer: '/time' }),
  refused('a negative time', 'time_invalid', (d) => `{"device_id":${id(d)},"ts":-1,"x":1}`, '1970 to 2255.', { pointer: '/ts' }),
  refused('30 February', 'time_invalid', (d) => `{"device_id":${id(d)},"time":"2026-02-30T00:00:00Z","x":1}`, 'No such day.', { pointer: '/time' }),
  refused('a date without a time', 'time_invalid', (d) => `{"device_id":${id(d)},"time":"2026-02-03","x":1}`, 'RFC 3339 wants both.', {
    pointer: '/time',
  }),
  refused(
    'an epoch number in quotes',
    'time_invalid',
    (d) => `{"device_id":${id(d)},"time":"1700000000","x":1}`,
    'Is it seconds, or a date without dashes? Send it without quotes.',
    { pointer: '/time' },
  ),
  refused('a time that is an object', 'time_invalid', (d) => `{"device_id":${id(d)},"time":{"s":1},"x":1}`, 'Neither text nor number.', {
    pointer: '/time',
  }),
  refused(
    'a reading that is older than readings are kept',
    'too_old',
    (d) => `{"device_id":${id(d)},"ts":63072000,"x":1}`,
    'The server of this table has retention.raw=50y.',
    {
      pointer: '/ts',
    },
  ),
  refused('two times', 'alias_conflict', (d) => `{"device_id":${id(d)},"time":1700000000,"ts":1700000001,"x":1}`, 'Which one?', { pointer: '/ts' }),
  taken(
    'nanoseconds',
    [{ metric: 'x', value: 1, timeUs: 1_700_000_000_123_456 }],
    (d) => `{"device_id":${id(d)},"time":1700000000123456789,"x":1}`,
    'By magnitude; read as text, cut to the microsecond.',
  ),
  taken(
    'milliseconds',
    [{ metric: 'x', value: 1, timeUs: 1_700_000_000_123_000 }],
    (d) => `{"device_id":${id(d)},"time":1700000000123,"x":1}`,
    'By magnitude.',
  ),
  taken(
    'a time without a zone',
    [{ metric: 'x', value: 1, timeUs: 1_769_947_200_000_000 }],
    (d) => `{"device_id":${id(d)},"time":"2026-02-01 12:00:00","x":1}`,
    'UTC.',
  ),
]

export const documents: readonly BadInput[] = [
  refused('an empty body', 'empty_body', () => '', 'Nothing, so that nothing is kept.', {
    routes: ['telemetry'],
    deadLetters: 0,
    shown: '(nothing)',
  }),
  refused('white space', 'empty_body', () => ' \r\n\t', 'The same.', { routes: ['telemetry'], deadLetters: 0, shown: '(spaces)' }),
  refused('hello', 'body_not_json', () => 'hello', 'No JSON.'),
  refused('truncated JSON', 'body_not_json', (d) => `{"device_id":${id(d)},"temperature":2`, 'The object is not closed.'),
  refused('something behind the document', 'body_not_json', (d) => `{"device_id":${id(d)},"temperature":20} 1`, 'One document a message.'),
  refused(
    'bad UTF-8',
    'body_not_utf8',
    (d) => Buffer.concat([Buffer.from(`{"device_id":${id(d)},"note":"`), Buffer.from([0xc3, 0x28]), Buffer.from('"}')]),
    'The byte is named.',
    { shown: '{"device_id":…,"note":"\\xc3("}', pointer: '' },
  ),
  refused(
    'UTF-8 of a surrogate',
    'body_not_utf8',
    (d) => Buffer.concat([Buffer.from(`{"device_id":${id(d)},"note":"`), Buffer.from([0xed, 0xa0, 0x80]), Buffer.from('"}')]),
    'RFC 3629 forbids it.',
    { shown: '{"device_id":…,"note":"\\xed\\xa0\\x80"}', pointer: '' },
  ),
  taken(
    'a byte order mark',
    [{ metric: 'temperature', value: 20 }],
    (d) => `\ufeff{"device_id":${id(d)},"temperature":20}`,
    'Ignored at the beginning.',
    { shown: '(EF BB BF){"device_id":…,"temperature":20}' },
  ),
  refused('a bare number', 'shape_unknown', () => '42', 'A message is an object.', { pointer: '' }),
  refused(
    'duplicate keys',
    'duplicate_key',
    (d) => `{"device_id":${id(d)},"temperature":20,"temperature":21}`,
    'Which one? JSON.parse would silently take the last.',
    { pointer: '/temperature' },
  ),
  refused('duplicate keys by an escape', 'duplicate_key', (d) => `{"device_id":${id(d)},"x":1,"\\u0078":1}`, 'The same.', { pointer: '/x' }),
  refused(
    'depth 10,000',
    'too_deep',
    (d) => `{"device_id":${id(d)},"a":${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)}}`,
    `At most ${limits.jsonDepthMax} levels.`,
    { shown: '{"device_id":…,"a":{"a":{"a":…' },
  ),
  refused(
    'depth 33',
    'too_deep',
    (d) => `{"device_id":${id(d)},"a":${'{"a":'.repeat(limits.jsonDepthMax)}1${'}'.repeat(limits.jsonDepthMax)}}`,
    `At most ${limits.jsonDepthMax} levels.`,
    { shown: '{"device_id":…,"a":{"a":{"a":…' },
  ),
  taken(
    'depth 32',
    [{ metric: Array.from({ length: limits.jsonDepthMax }, () => 'a').join('.'), value: 1 }],
    (d) => `{"device_id":${id(d)},"a":${'{"a":'.repeat(limits.jsonDepthMax - 1)}1${'}'.repeat(limits.jsonDepthMax - 1)}}`,
    'Just fits.',
    { shown: '{"device_id":…,"a":{"a":{"a":…' },
  ),
  refused(
    'a message of 300 kB',
    'body_too_large',
    (d) => `{"device_id":${id(d)},"note":"${'x'.repeat(300_000)}"}`,
    `One message is at most ${limits.messageBytesMax / 1024} KiB, also as an item of a larger body: its neighbours are taken.`,
    { shown: '{"device_id":…,"note":"xxx…"}', routes: ['telemetry', 'mqtt'] },
  ),
  refused(
    '10,000 metrics in one message',
    'too_many_fields',
    (d) => `{"device_id":${id(d)},${manyMetrics(0, 10_000)}}`,
    `At most ${limits.valuesPerMessageMax} values.`,
    { shown: '{"device_id":…,"m0":1,"m1":1,…', routes: ['telemetry'] },
  ),
  refused(
    '100,000 new metric names, 1,000 a message',
    'too_many_metrics',
    (d) => `{"device_id":${id(d)},${manyMetrics(1000, 1000)}}`,
    `A device has at most ${limits.metricsPerDeviceMax} metrics: the first message is taken, the next are refused.`,
    { shown: '{"device_id":…,"m1000":1,"m1001":1,…', before: (d) => [`{"device_id":${id(d)},${manyMetrics(0, 1000)}}`], pointer: '/m1000' },
  ),
  refused(
    'metadata of 4 KiB and more',
    'value_invalid',
    (d) => `{"device_id":${id(d)},"x":1,"metadata":{"a":"${'m'.repeat(limits.metadataBytesMax)}"}}`,
    'It is kept with every message.',
    { shown: '{"device_id":…,"x":1,"metadata":{"a":"mmm…"}}', pointer: '/metadata' },
  ),
]

export const seedShapes: readonly BadInput[] = [
  refused('S3 without a temperature', 'field_missing', (d) => `{"device_id":${id(d)},"humidity":60}`, 'The field is named.', {
    routes: ['ingest'],
    pointer: '/temperature_c',
  }),
  refused('S3 without a device', 'field_missing', () => '{"temperature_c":20,"humidity":60}', 'The field is named.', {
    routes: ['ingest'],
    pointer: '/device_id',
  }),
  refused('S3 with "25"', 'value_invalid', (d) => `{"device_id":${id(d)},"temperature_c":"25","humidity":60}`, 'Text is not turned into a number.', {
    routes: ['ingest'],
    pointer: '/temperature_c',
  }),
  refused('S3 with a numeric device', 'value_invalid', () => '{"device_id":7,"temperature_c":20,"humidity":60}', 'S3 wants a string.', {
    routes: ['ingest'],
    pointer: '/device_id',
  }),
  refused('S2 without a value', 'field_missing', (d) => `{"device_id":${id(d)},"metric":"pressure"}`, 'On S2’s routes what is refused is 400.', {
    ...seedBad,
    pointer: '/value',
  }),
  refused(
    'S2 with text for a value',
    'value_invalid',
    (d) => `{"device_id":${id(d)},"metric":"pressure","value":"1013"}`,
    'On S2’s routes what is refused is 400.',
    { ...seedBad, pointer: '/value' },
  ),
  refused(
    'S2 with a bad timestamp',
    'time_invalid',
    (d) => `{"device_id":${id(d)},"metric":"pressure","value":1013,"timestamp":"yesterday"}`,
    'On S2’s routes what is refused is 400.',
    { ...seedBad, pointer: '/timestamp' },
  ),
  refused('neither S2 nor S3', 'shape_unknown', (d) => `{"device_id":${id(d)},"x":1}`, 'Free-form JSON goes to /api/v1/telemetry.', {
    routes: ['ingest'],
  }),
  refused('S0 without a sensor', 'field_missing', () => '{"temperature":20,"humidity":60,"location":"Office_A"}', 'The field is named.', {
    routes: ['sensor-data'],
    pointer: '/sensor_id',
  }),
  refused(
    'S0 with text for a humidity',
    'value_invalid',
    (d) => `{"sensor_id":${id(d)},"temperature":20,"humidity":"60"}`,
    'Text is not turned into a number.',
    { routes: ['sensor-data'], pointer: '/humidity' },
  ),
  refused(
    'S0 with a number for a location',
    'value_invalid',
    (d) => `{"sensor_id":${id(d)},"temperature":20,"humidity":60,"location":7}`,
    'A location is text.',
    { routes: ['sensor-data'], pointer: '/location' },
  ),
]

export const batches: readonly BadInput[] = [
  {
    name: 'one bad item among three',
    routes: ['telemetry', 'mqtt'],
    judge: 'decoder',
    status: 207,
    stored: 2,
    deadLetters: 1,
    body: (d) => `[{"device_id":${id(d)},"x":1,"ts":1700000001},{"device_id":${id(d)},"x":NaN},{"device_id":${id(d)},"x":3,"ts":1700000003}]`,
    values: [
      { metric: 'x', value: 1 },
      { metric: 'x', value: 3 },
    ],
    results: [{ index: 1, code: 'body_not_json' }],
    why: 'Its neighbours are stored.',
  },
  {
    name: 'items that are no messages',
    routes: ['telemetry', 'mqtt'],
    judge: 'decoder',
    status: 207,
    stored: 1,
    deadLetters: 3,
    body: (d) => `[1,{"device_id":${id(d)},"x":1},,["a"]]`,
    values: [{ metric: 'x', value: 1 }],
    results: [
      { index: 0, code: 'shape_unknown' },
      { index: 2, code: 'empty_body' },
      { index: 3, code: 'shape_unknown' },
    ],
    why: 'Each is judged alone.',
  },
  {
    name: 'an array that breaks in the middle',
    routes: ['telemetry', 'mqtt'],
    judge: 'decoder',
    status: 207,
    stored: 1,
    deadLetters: 1,
    body: (d) => `[{"device_id":${id(d)},"x":1},{"device_id":${id(d)},"x":2,{"device_id":${id(d)},"x":3}]`,
    values: [{ metric: 'x', value: 1 }],
    results: [{ index: 1, code: 'body_not_json' }],
    why: 'What stands before the break is stored; the rest is one refusal that names the byte.',
  },
  {
    name: 'a comma that is missing',
    routes: ['telemetry', 'mqtt'],
    judge: 'decoder',
    status: 207,
    stored: 1,
    deadLetters: 1,
    body: (d) => `[{"device_id":${id(d)},"x":1} {"device_id":${id(d)},"x":2}]`,
    values: [{ metric: 'x', value: 1 }],
    results: [{ index: 1, code: 'body_not_json' }],
    why: 'The same.',
  },
  {
    name: 'NDJSON with a bad line and a blank one',
    routes: ['telemetry'],
    judge: 'decoder',
    status: 207,
    stored: 2,
    deadLetters: 1,
    headers: { 'content-type': 'application/x-ndjson' },
    body: (d) => `{"device_id":${id(d)},"x":1,"ts":1700000001}\n{"device_id":${id(d)},\r\n\n{"device_id":${id(d)},"x":3,"ts":1700000003}\n`,
    values: [
      { metric: 'x', value: 1 },
      { metric: 'x', value: 3 },
    ],
    results: [{ index: 1, code: 'body_not_json' }],
    why: 'Blank lines are no items.',
  },
  {
    name: 'an S2 batch with a bad item',
    routes: ['ingest-batch'],
    judge: 'decoder',
    status: 207,
    stored: 1,
    deadLetters: 1,
    body: (d) => `[{"device_id":${id(d)},"metric":"t","value":1},{"device_id":${id(d)},"metric":"t"}]`,
    values: [{ metric: 't', value: 1 }],
    results: [{ index: 1, code: 'field_missing' }],
    why: 'The seed drops it silently; here it is told and kept.',
  },
  {
    name: 'an empty array',
    routes: ['telemetry', 'mqtt'],
    judge: 'decoder',
    status: 202,
    stored: 0,
    deadLetters: 0,
    body: () => '[]',
    values: [],
    results: [],
    why: 'Nothing was asked for.',
  },
  refused(
    'NDJSON in an MQTT message',
    'body_not_json',
    (d) => `{"device_id":${id(d)},"x":1}\n{"device_id":${id(d)},"x":2}`,
    'MQTT tells no content type. Send an array, or a message each.',
    { routes: ['mqtt'] },
  ),
  refused('an array of bad items only', 'values_missing', (d) => `[{"device_id":${id(d)}}]`, 'No item was taken.'),
]

export const doors: readonly BadInput[] = [
  {
    ...refused(
      'a body of 10 MB',
      'body_too_large',
      (d) => `{"device_id":${id(d)},"note":"${'x'.repeat(10 * 1024 * 1024)}"}`,
      'Its size and first 4 KiB are kept.',
      { routes: ['telemetry'], shown: '{"device_id":…,"note":"xxx…"}' },
    ),
    judge: 'door',
  },
  {
    ...refused('a gzip bomb', 'body_too_large', () => gzipSync(Buffer.alloc(64 * 1024 * 1024, 0x20)), 'Unpacking stops at the limit.', {
      routes: ['telemetry'],
      shown: '(64 MiB of spaces in 64 kB of gzip)',
    }),
    judge: 'door',
    headers: { 'content-encoding': 'gzip' },
  },
  {
    ...refused('gzip that is none', 'body_encoding', () => Buffer.from('no gzip at all'), 'It cannot be unpacked.', {
      routes: ['telemetry'],
      shown: 'no gzip at all',
    }),
    judge: 'door',
    headers: { 'content-encoding': 'gzip' },
  },
]

function manyMetrics(first: number, count: number): string {
  return Array.from({ length: count }, (_, i) => `"m${first + i}":1`).join(',')
}
