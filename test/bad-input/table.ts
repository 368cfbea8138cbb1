import { Buffer } from 'node:buffer'
import { gzipSync } from 'node:zlib'
import { httpStatus, type Code } from '../../src/core/errors.ts'
import { limits } from '../../src/core/limits.ts'

/** Where a message can come in. `ingest` is S2's and S3's path: the body tells which of them is meant. */
export type Route = 'telemetry' | 'sensor-data' | 'ingest' | 'ingest-batch' | 'mqtt'

export const routePaths: Readonly<Record<Route, string>> = {
  telemetry: 'POST /api/v1/telemetry',
  'sensor-data': 'POST /sensor-data',
  ingest: 'POST /ingest',
  'ingest-batch': 'POST /ingest/batch',
  mqtt: 'MQTT, a telemetry topic',
}

export interface StoredValue {
  readonly metric: string
  readonly value?: number
  readonly text?: string
  /** Epoch microseconds; absent: not looked at. */
  readonly timeUs?: number
}

export interface BadInput {
  readonly name: string
  readonly routes: readonly Route[]
  /** The body as the documentation shows it, when its bytes are not to be printed. */
  readonly shown?: string
  /** The body, for a device id that no other case uses. */
  readonly body: (device: string) => string | Uint8Array
  readonly headers?: Readonly<Record<string, string>>
  /** MQTT topic; absent: portfolio/telemetry. */
  readonly topic?: (device: string) => string
  /** The device that holds the rows, when it is not the id given to `body`. */
  readonly storedAs?: (device: string) => string
  /** Sent before by the same device, and taken. */
  readonly before?: (device: string) => readonly string[]
  /** By which part it is judged: `decoder` cases also run without a server. */
  readonly judge: 'decoder' | 'door'
  /** Answer of HTTP; on MQTT an acknowledged message is 202 as well, and refused ones have their code in the dead letter. */
  readonly status: number
  /** Absent: the message is taken. */
  readonly code?: Code
  /** Which field is named (RFC 6901). Absent: not looked at. */
  readonly pointer?: string
  /** Rows that are stored. */
  readonly stored: number
  readonly values?: readonly StoredValue[]
  /** New dead letters. */
  readonly deadLetters: number
  /** Of a batch: the items that were refused. */
  readonly results?: readonly { readonly index: number; readonly code: Code }[]
  readonly why: string
}

const own: readonly Route[] = ['telemetry', 'mqtt']

interface Refused {
  readonly topic?: (device: string) => string
  readonly storedAs?: (device: string) => string
  readonly deadLetters?: number
  readonly routes?: readonly Route[]
  readonly shown?: string
  readonly before?: (device: string) => readonly string[]
  readonly pointer?: string
  readonly status?: number
}

function refused(name: string, code: Code, body: BadInput['body'], why: string, o: Refused = {}): BadInput {
  return { name, routes: own, body, judge: 'decoder', status: httpStatus(code), code, stored: 0, deadLetters: 1, why, ...o }
}

function taken(name: string, values: readonly StoredValue[], body: BadInput['body'], why: string, o: Omit<Refused, 'pointer'> = {}): BadInput {
  return { name, routes: own, body, judge: 'decoder', status: 202, stored: values.length, values, deadLetters: 0, why, ...o }
}

const id = (text: string): string => JSON.stringify(text)
const seedBad = { status: 400, routes: ['ingest'] } as const

const numbers: readonly BadInput[] = [
  refused('NaN', 'body_not_json', (d) => `{"device_id":${id(d)},"temperature":NaN}`, 'No JSON. Leave the field out, or send null.', { pointer: '/temperature' }),
  refused('Infinity', 'body_not_json', (d) => `{"device_id":${id(d)},"temperature":Infinity}`, 'No JSON.', { pointer: '/temperature' }),
  refused('-Infinity in an array', 'body_not_json', (d) => `{"device_id":${id(d)},"g":[1,-Infinity]}`, 'No JSON.', { pointer: '/g/1' }),
  refused('1e999', 'value_not_finite', (d) => `{"device_id":${id(d)},"temperature":1e999}`, 'JSON, but beyond what a double holds.', { pointer: '/temperature' }),
  refused('-1e999, nested', 'value_not_finite', (d) => `{"device":${id(d)},"values":{"a":{"b":-1e999}}}`, 'The same, with the way to the field.', { pointer: '/values/a/b' }),
  refused('"25" for a number', 'value_invalid', (d) => `{"device_id":${id(d)},"temperature":"25"}`, 'Text is not turned into a number.', { pointer: '/temperature' }),
  refused('true for a temperature', 'value_invalid', (d) => `{"device_id":${id(d)},"humidity":true}`, 'A boolean is no humidity.', { pointer: '/humidity' }),
  taken('an integer beyond 2^53', [{ metric: 'counter', text: '9007199254740993' }], (d) => `{"device_id":${id(d)},"counter":9007199254740993}`, 'Kept as text, to the digit.'),
  taken('an integer of 40 digits', [{ metric: 'n', text: '-1234567890123456789012345678901234567890' }], (d) => `{"device_id":${id(d)},"n":-1234567890123456789012345678901234567890}`, 'Kept as text, to the digit.'),
  taken('2^53', [{ metric: 'counter', value: 9007199254740992 }], (d) => `{"device_id":${id(d)},"counter":9007199254740992}`, 'The last integer that is stored as a number.'),
  taken('-0', [{ metric: 'x', value: 0 }], (d) => `{"device_id":${id(d)},"x":-0}`, 'Stored as 0.'),
  taken('1e-400', [{ metric: 'x', value: 0 }], (d) => `{"device_id":${id(d)},"x":1e-400}`, 'Rounds to 0, as in JSON.parse.'),
  refused('a leading zero', 'body_not_json', (d) => `{"device_id":${id(d)},"x":012}`, 'No JSON.'),
  refused('a hexadecimal number', 'body_not_json', (d) => `{"device_id":${id(d)},"x":0x12}`, 'No JSON.'),
]

const types: readonly BadInput[] = [
  refused('a metric that becomes text', 'metric_text_changed', (d) => `{"device_id":${id(d)},"power":"high"}`, 'It has held numbers so far.', { before: (d) => [`{"device_id":${id(d)},"power":5}`], pointer: '/power' }),
  refused('a boolean metric that becomes text', 'metric_text_changed', (d) => `{"device_id":${id(d)},"open":"yes"}`, 'Booleans are numbers (0 and 1).', { before: (d) => [`{"device_id":${id(d)},"open":true}`], pointer: '/open' }),
  taken('a text metric that becomes a number', [{ metric: 'state', value: 1 }], (d) => `{"device_id":${id(d)},"state":1}`, 'Stored. From now on it is a number.', { before: (d) => [`{"device_id":${id(d)},"state":"on"}`] }),
  taken('a number that becomes a boolean', [{ metric: 'relay', value: 1 }], (d) => `{"device_id":${id(d)},"relay":true}`, 'Stored as 1, flagged as boolean.', { before: (d) => [`{"device_id":${id(d)},"relay":0}`] }),
  taken('null beside a value', [{ metric: 'humidity', value: 40 }], (d) => `{"device_id":${id(d)},"temperature":null,"humidity":40}`, 'null is the same as absent.'),
  refused('null only', 'values_missing', (d) => `{"device_id":${id(d)},"temperature":null}`, 'Nothing to store.', { pointer: '' }),
  refused('no value at all', 'values_missing', (d) => `{"device_id":${id(d)},"timestamp":1700000000}`, 'Nothing to store.', { pointer: '' }),
  taken('attributes only', [], (d) => `{"device_id":${id(d)},"firmware":"2.0.0"}`, 'No row, but the device is known by its firmware now.'),
  taken('an array of numbers', [{ metric: 'g.0', value: 1 }, { metric: 'g.1', value: 2.5 }], (d) => `{"device_id":${id(d)},"g":[1,2.5]}`, 'Positions become part of the name.'),
  refused('an array of 65 numbers', 'value_invalid', (d) => `{"device_id":${id(d)},"wave":[${Array.from({ length: limits.arrayItemsMax + 1 }, (_, i) => i).join(',')}]}`, `Up to ${limits.arrayItemsMax} positions become metrics.`, { shown: '{"device_id":…,"wave":[0,1,…,64]}', pointer: '/wave' }),
  refused('two names of one metric, different', 'alias_conflict', (d) => `{"device_id":${id(d)},"temperature":20,"temperature_c":21}`, 'temperature_c is temperature.', { pointer: '/temperature_c' }),
  taken('two names of one metric, equal', [{ metric: 'temperature', value: 20 }], (d) => `{"device_id":${id(d)},"temperature":20,"temperature_c":20.0}`, 'One row.'),
  refused('a nested name that meets a flat one', 'alias_conflict', (d) => `{"device_id":${id(d)},"a":{"b":1},"a.b":2}`, 'Both are a.b.', { pointer: '/a.b' }),
]

const names: readonly BadInput[] = [
  refused('no device', 'device_missing', () => '{"temperature":20}', 'Neither the body nor the topic names one.', { pointer: '/device' }),
  refused('a device id of nothing', 'device_invalid', () => '{"device_id":"","temperature":20}', 'At least one byte.', { pointer: '/device_id' }),
  refused('a device id of 257 bytes', 'device_invalid', () => `{"device_id":"${'x'.repeat(257)}","temperature":20}`, 'At most 256.', { shown: '{"device_id":"xxx…","temperature":20}', pointer: '/device_id' }),
  refused('a device id of 86 three-byte letters', 'device_invalid', () => `{"device_id":"${'☃'.repeat(86)}","temperature":20}`, 'Bytes are counted, not letters: 258.', { shown: '{"device_id":"☃☃☃…","temperature":20}', pointer: '/device_id' }),
  refused('a device id with a control character', 'device_invalid', (d) => `{"device_id":"${d}\\u0007","temperature":20}`, 'C0, DEL and C1 are refused.', { pointer: '/device_id' }),
  refused('a device id with NUL', 'device_invalid', (d) => `{"device_id":"${d}\\u0000","temperature":20}`, 'The same.', { pointer: '/device_id' }),
  refused('a device id with a C1 control', 'device_invalid', (d) => `{"device_id":"${d}\u0085","temperature":20}`, 'The same, unescaped.', { pointer: '/device_id' }),
  refused('a device id with half a surrogate pair', 'device_invalid', (d) => `{"device_id":"${d}\\ud83d","temperature":20}`, 'UTF-8 cannot hold it.', { pointer: '/device_id' }),
  taken('an emoji in a device id', [{ metric: 'temperature', value: 20 }], (d) => `{"device_id":"🌡️-${d}","temperature":20}`, 'Text like other text.', { storedAs: (d) => `🌡️-${d}` }),
  refused('a device id that is an object', 'device_invalid', () => '{"device_id":{"a":1},"temperature":20}', 'Text, or an unsigned integer.', { pointer: '/device_id' }),
  refused('a device id that is a fraction', 'device_invalid', () => '{"device_id":1.5,"temperature":20}', 'Text, or an unsigned integer.', { pointer: '/device_id' }),
  taken('a device id that is an integer', [{ metric: 'temperature', value: 20 }], (d) => `{"device_id":${digitsOf(d)},"temperature":20}`, 'Its digits are the id, exact beyond 2^53 as well.', { storedAs: digitsOf, shown: '{"device_id":356938035643809123456,"temperature":20}' }),
  taken('another device in the topic', [{ metric: 'temperature', value: 20 }], () => '{"device_id":"other","temperature":20}', 'The topic wins; the difference is counted.', { routes: ['mqtt'], topic: (d) => `devices/${d}/telemetry` }),
  refused('two device ids', 'alias_conflict', (d) => `{"device_id":${id(d)},"sensor_id":"other","temperature":20}`, 'Which one?', { pointer: '/sensor_id' }),
  refused('a metric without a name', 'metric_invalid', (d) => `{"device_id":${id(d)},"":20}`, 'At least one byte.', { pointer: '/' }),
  refused('a metric name of 257 bytes', 'metric_invalid', (d) => `{"device_id":${id(d)},"${'m'.repeat(257)}":20}`, 'At most 256, nested names joined.', { shown: '{"device_id":…,"mmm…":20}', pointer: `/${'m'.repeat(257)}` }),
  refused('a metric name with a control character', 'metric_invalid', (d) => `{"device_id":${id(d)},"a\\nb":20}`, 'C0, DEL and C1 are refused.', { pointer: '/a\nb' }),
  refused('a metric name with half a surrogate pair', 'metric_invalid', (d) => `{"device_id":${id(d)},"\\udc00":20}`, 'UTF-8 cannot hold it.'),
  taken('prototype keys', ['__proto__', 'constructor', 'toString', 'hasOwnProperty'].map((metric, i) => ({ metric, value: i })), (d) => `{"device_id":${id(d)},"__proto__":0,"constructor":1,"toString":2,"hasOwnProperty":3}`, 'Names like others.'),
  taken('a prototype key that nests', [{ metric: '__proto__.polluted', value: 1 }], (d) => `{"device_id":${id(d)},"__proto__":{"polluted":true}}`, 'A name like others.'),
  taken('SQL in text and in a name', [{ metric: "x'); DROP TABLE readings;--", value: 1 }, { metric: 'note', text: "'; DROP TABLE readings; --" }], (d) => `{"device_id":${id(d)},"x'); DROP TABLE readings;--":1,"note":"'; DROP TABLE readings; --"}`, 'Text.'),
  taken('CSV formulas and HTML', [{ metric: 'note', text: '=1+1,"a"\n' }, { metric: 'html', text: '<script>alert(1)</script>' }], (d) => `{"device_id":${id(d)},"note":"=1+1,\\"a\\"\\n","html":"<script>alert(1)</script>"}`, 'Text. Escaping is for whoever prints it.'),
  refused('NUL in text', 'value_invalid', (d) => `{"device_id":${id(d)},"note":"a\\u0000b"}`, 'Stores do not keep it.', { pointer: '/note' }),
  refused('half a surrogate pair in text', 'value_invalid', (d) => `{"device_id":${id(d)},"note":"a\\ud800b"}`, 'UTF-8 cannot hold it.', { pointer: '/note' }),
  refused('text of 16 KiB and a byte', 'value_invalid', (d) => `{"device_id":${id(d)},"note":"${'n'.repeat(limits.textBytesMax + 1)}"}`, 'A document, not a reading.', { shown: '{"device_id":…,"note":"nnn…"}', pointer: '/note' }),
]

const times: readonly BadInput[] = [
  refused('year 0026', 'time_invalid', (d) => `{"device_id":${id(d)},"timestamp":"0026-01-01T00:00:00Z","x":1}`, '1970 to 2255.', { pointer: '/timestamp' }),
  refused('year 9999', 'time_invalid', (d) => `{"device_id":${id(d)},"time":"9999-12-31T23:59:59Z","x":1}`, '1970 to 2255.', { pointer: '/time' }),
  refused('a negative time', 'time_invalid', (d) => `{"device_id":${id(d)},"ts":-1,"x":1}`, '1970 to 2255.', { pointer: '/ts' }),
  refused('30 February', 'time_invalid', (d) => `{"device_id":${id(d)},"time":"2026-02-30T00:00:00Z","x":1}`, 'No such day.', { pointer: '/time' }),
  refused('a date without a time', 'time_invalid', (d) => `{"device_id":${id(d)},"time":"2026-02-03","x":1}`, 'RFC 3339 wants both.', { pointer: '/time' }),
  refused('an epoch number in quotes', 'time_invalid', (d) => `{"device_id":${id(d)},"time":"1700000000","x":1}`, 'Is it seconds, or a date without dashes? Send it without quotes.', { pointer: '/time' }),
  refused('a time that is an object', 'time_invalid', (d) => `{"device_id":${id(d)},"time":{"s":1},"x":1}`, 'Neither text nor number.', { pointer: '/time' }),
  refused('two times', 'alias_conflict', (d) => `{"device_id":${id(d)},"time":1700000000,"ts":1700000001,"x":1}`, 'Which one?', { pointer: '/ts' }),
  taken('nanoseconds', [{ metric: 'x', value: 1, timeUs: 1_700_000_000_123_456 }], (d) => `{"device_id":${id(d)},"time":1700000000123456789,"x":1}`, 'By magnitude; read as text, cut to the microsecond.'),
  taken('milliseconds', [{ metric: 'x', value: 1, timeUs: 1_700_000_000_123_000 }], (d) => `{"device_id":${id(d)},"time":1700000000123,"x":1}`, 'By magnitude.'),
  taken('a time without a zone', [{ metric: 'x', value: 1, timeUs: 1_769_947_200_000_000 }], (d) => `{"device_id":${id(d)},"time":"2026-02-01 12:00:00","x":1}`, 'UTC.'),
]

const documents: readonly BadInput[] = [
  refused('an empty body', 'empty_body', () => '', 'Nothing, so that nothing is kept.', { routes: ['telemetry'], deadLetters: 0, shown: '(nothing)' }),
  refused('white space', 'empty_body', () => ' \r\n\t', 'The same.', { routes: ['telemetry'], deadLetters: 0, shown: '(spaces)' }),
  refused('hello', 'body_not_json', () => 'hello', 'No JSON.'),
  refused('truncated JSON', 'body_not_json', (d) => `{"device_id":${id(d)},"temperature":2`, 'The object is not closed.'),
  refused('something behind the document', 'body_not_json', (d) => `{"device_id":${id(d)},"temperature":20} 1`, 'One document a message.'),
  refused('bad UTF-8', 'body_not_utf8', (d) => Buffer.concat([Buffer.from(`{"device_id":${id(d)},"note":"`), Buffer.from([0xc3, 0x28]), Buffer.from('"}')]), 'The byte is named.', { shown: '{"device_id":…,"note":"\\xc3("}', pointer: '' }),
  refused('UTF-8 of a surrogate', 'body_not_utf8', (d) => Buffer.concat([Buffer.from(`{"device_id":${id(d)},"note":"`), Buffer.from([0xed, 0xa0, 0x80]), Buffer.from('"}')]), 'RFC 3629 forbids it.', { shown: '{"device_id":…,"note":"\\xed\\xa0\\x80"}', pointer: '' }),
  taken('a byte order mark', [{ metric: 'temperature', value: 20 }], (d) => `\ufeff{"device_id":${id(d)},"temperature":20}`, 'Ignored at the beginning.', { shown: '(EF BB BF){"device_id":…,"temperature":20}' }),
  refused('a bare number', 'shape_unknown', () => '42', 'A message is an object.', { pointer: '' }),
  refused('duplicate keys', 'duplicate_key', (d) => `{"device_id":${id(d)},"temperature":20,"temperature":21}`, 'Which one? JSON.parse would silently take the last.', { pointer: '/temperature' }),
  refused('duplicate keys by an escape', 'duplicate_key', (d) => `{"device_id":${id(d)},"x":1,"\\u0078":1}`, 'The same.', { pointer: '/x' }),
  refused('depth 10,000', 'too_deep', (d) => `{"device_id":${id(d)},"a":${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)}}`, `At most ${limits.jsonDepthMax} levels.`, { shown: '{"device_id":…,"a":{"a":{"a":…' }),
  refused('depth 33', 'too_deep', (d) => `{"device_id":${id(d)},"a":${'{"a":'.repeat(limits.jsonDepthMax)}1${'}'.repeat(limits.jsonDepthMax)}}`, `At most ${limits.jsonDepthMax} levels.`, { shown: '{"device_id":…,"a":{"a":{"a":…' }),
  taken('depth 32', [{ metric: Array.from({ length: limits.jsonDepthMax }, () => 'a').join('.'), value: 1 }], (d) => `{"device_id":${id(d)},"a":${'{"a":'.repeat(limits.jsonDepthMax - 1)}1${'}'.repeat(limits.jsonDepthMax - 1)}}`, 'Just fits.', { shown: '{"device_id":…,"a":{"a":{"a":…' }),
  refused('100,000 metrics in one message', 'too_many_fields', (d) => `{"device_id":${id(d)},${manyMetrics(0, 100_000)}}`, `At most ${limits.valuesPerMessageMax} values.`, { shown: '{"device_id":…,"m0":1,"m1":1,…', routes: ['telemetry'] }),
  refused('100,000 new metric names, 1,000 a message', 'too_many_metrics', (d) => `{"device_id":${id(d)},${manyMetrics(1000, 1000)}}`, `A device has at most ${limits.metricsPerDeviceMax} metrics: the first message is taken, the next are refused.`, { shown: '{"device_id":…,"m1000":1,"m1001":1,…', before: (d) => [`{"device_id":${id(d)},${manyMetrics(0, 1000)}}`], pointer: '/m1000' }),
  refused('metadata of 4 KiB and more', 'value_invalid', (d) => `{"device_id":${id(d)},"x":1,"metadata":{"a":"${'m'.repeat(limits.metadataBytesMax)}"}}`, 'It is kept with every message.', { shown: '{"device_id":…,"x":1,"metadata":{"a":"mmm…"}}', pointer: '/metadata' }),
]

const seedShapes: readonly BadInput[] = [
  refused('S3 without a temperature', 'field_missing', (d) => `{"device_id":${id(d)},"humidity":60}`, 'The field is named.', { routes: ['ingest'], pointer: '/temperature_c' }),
  refused('S3 without a device', 'field_missing', () => '{"temperature_c":20,"humidity":60}', 'The field is named.', { routes: ['ingest'], pointer: '/device_id' }),
  refused('S3 with "25"', 'value_invalid', (d) => `{"device_id":${id(d)},"temperature_c":"25","humidity":60}`, 'Text is not turned into a number.', { routes: ['ingest'], pointer: '/temperature_c' }),
  refused('S3 with a numeric device', 'value_invalid', () => '{"device_id":7,"temperature_c":20,"humidity":60}', 'S3 wants a string.', { routes: ['ingest'], pointer: '/device_id' }),
  refused('S2 without a value', 'field_missing', (d) => `{"device_id":${id(d)},"metric":"pressure"}`, 'On S2’s routes what is refused is 400.', { ...seedBad, pointer: '/value' }),
  refused('S2 with text for a value', 'value_invalid', (d) => `{"device_id":${id(d)},"metric":"pressure","value":"1013"}`, 'On S2’s routes what is refused is 400.', { ...seedBad, pointer: '/value' }),
  refused('S2 with a bad timestamp', 'time_invalid', (d) => `{"device_id":${id(d)},"metric":"pressure","value":1013,"timestamp":"yesterday"}`, 'On S2’s routes what is refused is 400.', { ...seedBad, pointer: '/timestamp' }),
  refused('neither S2 nor S3', 'shape_unknown', (d) => `{"device_id":${id(d)},"x":1}`, 'Free-form JSON goes to /api/v1/telemetry.', { routes: ['ingest'] }),
  refused('S0 without a sensor', 'field_missing', () => '{"temperature":20,"humidity":60,"location":"Office_A"}', 'The field is named.', { routes: ['sensor-data'], pointer: '/sensor_id' }),
  refused('S0 with text for a humidity', 'value_invalid', (d) => `{"sensor_id":${id(d)},"temperature":20,"humidity":"60"}`, 'Text is not turned into a number.', { routes: ['sensor-data'], pointer: '/humidity' }),
  refused('S0 with a number for a location', 'value_invalid', (d) => `{"sensor_id":${id(d)},"temperature":20,"humidity":60,"location":7}`, 'A location is text.', { routes: ['sensor-data'], pointer: '/location' }),
]

const batches: readonly BadInput[] = [
  {
    name: 'one bad item among three', routes: ['telemetry'], judge: 'decoder', status: 207, stored: 2, deadLetters: 1,
    body: (d) => `[{"device_id":${id(d)},"x":1,"ts":1700000001},{"device_id":${id(d)},"x":NaN},{"device_id":${id(d)},"x":3,"ts":1700000003}]`,
    values: [{ metric: 'x', value: 1 }, { metric: 'x', value: 3 }], results: [{ index: 1, code: 'body_not_json' }], why: 'Its neighbours are stored.',
  },
  {
    name: 'items that are no messages', routes: ['telemetry'], judge: 'decoder', status: 207, stored: 1, deadLetters: 3,
    body: (d) => `[1,{"device_id":${id(d)},"x":1},,["a"]]`,
    values: [{ metric: 'x', value: 1 }], results: [{ index: 0, code: 'shape_unknown' }, { index: 2, code: 'empty_body' }, { index: 3, code: 'shape_unknown' }], why: 'Each is judged alone.',
  },
  {
    name: 'an array that breaks in the middle', routes: ['telemetry'], judge: 'decoder', status: 207, stored: 1, deadLetters: 1,
    body: (d) => `[{"device_id":${id(d)},"x":1},{"device_id":${id(d)},"x":2,{"device_id":${id(d)},"x":3}]`,
    values: [{ metric: 'x', value: 1 }], results: [{ index: 1, code: 'body_not_json' }], why: 'What stands before the break is stored; the rest is one refusal that names the byte.',
  },
  {
    name: 'a comma that is missing', routes: ['telemetry'], judge: 'decoder', status: 207, stored: 1, deadLetters: 1,
    body: (d) => `[{"device_id":${id(d)},"x":1} {"device_id":${id(d)},"x":2}]`,
    values: [{ metric: 'x', value: 1 }], results: [{ index: 1, code: 'body_not_json' }], why: 'The same.',
  },
  {
    name: 'NDJSON with a bad line and a blank one', routes: ['telemetry'], judge: 'decoder', status: 207, stored: 2, deadLetters: 1,
    headers: { 'content-type': 'application/x-ndjson' },
    body: (d) => `{"device_id":${id(d)},"x":1,"ts":1700000001}\n{"device_id":${id(d)},\r\n\n{"device_id":${id(d)},"x":3,"ts":1700000003}\n`,
    values: [{ metric: 'x', value: 1 }, { metric: 'x', value: 3 }], results: [{ index: 1, code: 'body_not_json' }], why: 'Blank lines are no items.',
  },
  {
    name: 'an S2 batch with a bad item', routes: ['ingest-batch'], judge: 'decoder', status: 207, stored: 1, deadLetters: 1,
    body: (d) => `[{"device_id":${id(d)},"metric":"t","value":1},{"device_id":${id(d)},"metric":"t"}]`,
    values: [{ metric: 't', value: 1 }], results: [{ index: 1, code: 'field_missing' }], why: 'The seed drops it silently; here it is told and kept.',
  },
  { name: 'an empty array', routes: ['telemetry'], judge: 'decoder', status: 202, stored: 0, deadLetters: 0, body: () => '[]', values: [], results: [], why: 'Nothing was asked for.' },
  refused('an array of bad items only', 'values_missing', (d) => `[{"device_id":${id(d)}}]`, 'No item was taken.', { routes: ['telemetry'] }),
]

const doors: readonly BadInput[] = [
  { ...refused('a body of 10 MB', 'body_too_large', (d) => `{"device_id":${id(d)},"note":"${'x'.repeat(10 * 1024 * 1024)}"}`, 'Its size and first 4 KiB are kept.', { routes: ['telemetry'], shown: '{"device_id":…,"note":"xxx…"}' }), judge: 'door' },
  {
    ...refused('a gzip bomb', 'body_too_large', () => gzipSync(Buffer.alloc(64 * 1024 * 1024, 0x20)), 'Unpacking stops at the limit.', { routes: ['telemetry'], shown: '(64 MiB of spaces in 64 kB of gzip)' }),
    judge: 'door', headers: { 'content-encoding': 'gzip' },
  },
  {
    ...refused('gzip that is none', 'body_encoding', () => Buffer.from('no gzip at all'), 'It cannot be unpacked.', { routes: ['telemetry'], shown: 'no gzip at all' }),
    judge: 'door', headers: { 'content-encoding': 'gzip' },
  },
]

/** What comes in and should not, and what becomes of it. Documentation and tests are made from this. */
export const badInput: readonly BadInput[] = [...numbers, ...types, ...names, ...times, ...documents, ...seedShapes, ...batches, ...doors]

function digitsOf(device: string): string {
  return `9${Buffer.from(device).join('')}`
}

function manyMetrics(first: number, count: number): string {
  return Array.from({ length: count }, (_, i) => `"m${first + i}":1`).join(',')
}

const intro = `# Bad input

What Kymo does with input that is wrong, or looks as if it were. This page is made from test/bad-input/table.ts; the tests run
from the same table.

- A message is taken as a whole or not at all. What is refused leaves no reading, no device and no metric behind.
- Every refusal names the field by an RFC 6901 pointer into the item, in the answer's \`errors\` and in the dead letter.
- What is refused is kept in the dead letters with its original bytes, and can be replayed after a fix (\`kymo dlq\`).
- An item of an array or a line of NDJSON is judged alone: the answer is 207 when some were taken, and \`results\` names the others.
- On S2's routes (\`/ingest\` with \`metric\`, \`/ingest/batch\`) what is refused is 400. The seeds' routes answer 200 where ours answers 202.
- On MQTT a refused message is acknowledged once its dead letter is durable; the code stands there.
- 429 (new devices arrive faster than the limit, or overload) is no fault of the message: it is neither stored nor kept; send it again.
`

/** docs/reference/bad-input.md. */
export function tableAsMarkdown(): string {
  const lines = [intro, '| input | example | where | status | code | field | readings stored | dead letters | |', '|---|---|---|---|---|---|---|---|---|']
  for (const row of badInput) {
    const where = row.routes.map((route) => (route === 'mqtt' ? 'MQTT' : routePaths[route].replace('POST ', ''))).join(', ')
    const codes = row.results === undefined ? (row.code ?? '') : row.results.map(({ index, code }) => `item ${index}: ${code}`).join(', ')
    const field = row.pointer === undefined ? '' : row.pointer === '' ? '(the whole)' : code(cut(row.pointer))
    lines.push(`| ${[cell(row.name), code(example(row)), where, row.status, codes, field, row.stored, row.deadLetters, cell(row.why)].join(' | ')} |`)
  }
  return `${lines.join('\n')}\n`
}

function example(row: BadInput): string {
  const body = row.shown ?? Buffer.from(row.body('d')).toString('utf8')
  const before = row.before === undefined || row.shown !== undefined ? '' : `${row.before('d').join(' ')} then `
  return cut(before + (row.topic === undefined ? '' : `${row.topic('d')} `) + body, 160)
}

function cut(text: string, max = 40): string {
  return text.length > max ? `${text.slice(0, max)}…` : text
}

/** Visible whatever it holds: control characters as escapes, and nothing that ends a cell or the code in it. */
function code(text: string): string {
  const visible = text.replace(/[\u0000-\u001f\u007f-\u009f]/g, (c) => (c === '\n' ? '⏎' : `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`))
  return `\`${cell(visible)}\``
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|')
}
