import { Buffer } from 'node:buffer'
import { limits } from '../../src/core/limits.ts'
import { id, refused, taken, type BadInput } from './case.ts'

export const numbers: readonly BadInput[] = [
  refused('NaN', 'body_not_json', (d) => `{"device_id":${id(d)},"temperature":NaN}`, 'No JSON. Leave the field out, or send null.', {
    pointer: '/temperature',
  }),
  refused('Infinity', 'body_not_json', (d) => `{"device_id":${id(d)},"temperature":Infinity}`, 'No JSON.', { pointer: '/temperature' }),
  refused('-Infinity in an array', 'body_not_json', (d) => `{"device_id":${id(d)},"g":[1,-Infinity]}`, 'No JSON.', { pointer: '/g/1' }),
  refused('1e999', 'value_not_finite', (d) => `{"device_id":${id(d)},"temperature":1e999}`, 'JSON, but beyond what a double holds.', {
    pointer: '/temperature',
  }),
  refused('-1e999, nested', 'value_not_finite', (d) => `{"device":${id(d)},"values":{"a":{"b":-1e999}}}`, 'The same, with the way to the field.', {
    pointer: '/values/a/b',
  }),
  refused('"25" for a number', 'value_invalid', (d) => `{"device_id":${id(d)},"temperature":"25"}`, 'Text is not turned into a number.', {
    pointer: '/temperature',
  }),
  refused('true for a temperature', 'value_invalid', (d) => `{"device_id":${id(d)},"humidity":true}`, 'A boolean is no humidity.', {
    pointer: '/humidity',
  }),
  taken(
    'an integer beyond 2^53',
    [{ metric: 'counter', text: '9007199254740993' }],
    (d) => `{"device_id":${id(d)},"counter":9007199254740993}`,
    'Kept as text, to the digit.',
  ),
  taken(
    'an integer of 40 digits',
    [{ metric: 'n', text: '-1234567890123456789012345678901234567890' }],
    (d) => `{"device_id":${id(d)},"n":-1234567890123456789012345678901234567890}`,
    'Kept as text, to the digit.',
  ),
  taken(
    '2^53',
    [{ metric: 'counter', value: 9007199254740992 }],
    (d) => `{"device_id":${id(d)},"counter":9007199254740992}`,
    'The last integer that is stored as a number.',
  ),
  taken('-0', [{ metric: 'x', value: 0 }], (d) => `{"device_id":${id(d)},"x":-0}`, 'Stored as 0.'),
  taken('1e-400', [{ metric: 'x', value: 0 }], (d) => `{"device_id":${id(d)},"x":1e-400}`, 'Rounds to 0, as in JSON.parse.'),
  refused('a leading zero', 'body_not_json', (d) => `{"device_id":${id(d)},"x":012}`, 'No JSON.'),
  refused('a hexadecimal number', 'body_not_json', (d) => `{"device_id":${id(d)},"x":0x12}`, 'No JSON.'),
]

export const types: readonly BadInput[] = [
  refused('a metric that becomes text', 'metric_text_changed', (d) => `{"device_id":${id(d)},"power":"high"}`, 'It has held numbers so far.', {
    before: (d) => [`{"device_id":${id(d)},"power":5}`],
    pointer: '/power',
  }),
  refused(
    'a boolean metric that becomes text',
    'metric_text_changed',
    (d) => `{"device_id":${id(d)},"open":"yes"}`,
    'Booleans are numbers (0 and 1).',
    { before: (d) => [`{"device_id":${id(d)},"open":true}`], pointer: '/open' },
  ),
  taken(
    'a text metric that becomes a number',
    [{ metric: 'state', value: 1 }],
    (d) => `{"device_id":${id(d)},"state":1}`,
    'Stored. From now on it is a number.',
    { before: (d) => [`{"device_id":${id(d)},"state":"on"}`] },
  ),
  taken(
    'a number that becomes a boolean',
    [{ metric: 'relay', value: 1 }],
    (d) => `{"device_id":${id(d)},"relay":true}`,
    'Stored as 1, flagged as boolean.',
    { before: (d) => [`{"device_id":${id(d)},"relay":0}`] },
  ),
  taken(
    'null beside a value',
    [{ metric: 'humidity', value: 40 }],
    (d) => `{"device_id":${id(d)},"temperature":null,"humidity":40}`,
    'null is the same as absent.',
  ),
  refused('null only', 'values_missing', (d) => `{"device_id":${id(d)},"temperature":null}`, 'Nothing to store.', { pointer: '' }),
  refused('no value at all', 'values_missing', (d) => `{"device_id":${id(d)},"timestamp":1700000000}`, 'Nothing to store.', { pointer: '' }),
  taken('attributes only', [], (d) => `{"device_id":${id(d)},"firmware":"2.0.0"}`, 'No row, but the device is known by its firmware now.'),
  taken(
    'an array of numbers',
    [
      { metric: 'g.0', value: 1 },
      { metric: 'g.1', value: 2.5 },
    ],
    (d) => `{"device_id":${id(d)},"g":[1,2.5]}`,
    'Positions become part of the name.',
  ),
  refused(
    'an array of 65 numbers',
    'value_invalid',
    (d) => `{"device_id":${id(d)},"wave":[${Array.from({ length: limits.arrayItemsMax + 1 }, (_, i) => i).join(',')}]}`,
    `Up to ${limits.arrayItemsMax} positions become metrics.`,
    { shown: '{"device_id":…,"wave":[0,1,…,64]}', pointer: '/wave' },
  ),
  refused(
    'two names of one metric, different',
    'alias_conflict',
    (d) => `{"device_id":${id(d)},"temperature":20,"temperature_c":21}`,
    'temperature_c is temperature.',
    { pointer: '/temperature_c' },
  ),
  taken(
    'two names of one metric, equal',
    [{ metric: 'temperature', value: 20 }],
    (d) => `{"device_id":${id(d)},"temperature":20,"temperature_c":20.0}`,
    'One row.',
  ),
  refused('a nested name that meets a flat one', 'alias_conflict', (d) => `{"device_id":${id(d)},"a":{"b":1},"a.b":2}`, 'Both are a.b.', {
    pointer: '/a.b',
  }),
]

export const names: readonly BadInput[] = [
  refused('no device', 'device_missing', () => '{"temperature":20}', 'Neither the body nor the topic names one.', { pointer: '/device' }),
  refused('a device id of nothing', 'device_invalid', () => '{"device_id":"","temperature":20}', 'At least one byte.', { pointer: '/device_id' }),
  refused('a device id of 257 bytes', 'device_invalid', () => `{"device_id":"${'x'.repeat(257)}","temperature":20}`, 'At most 256.', {
    shown: '{"device_id":"xxx…","temperature":20}',
    pointer: '/device_id',
  }),
  refused(
    'a device id of 86 three-byte letters',
    'device_invalid',
    () => `{"device_id":"${'☃'.repeat(86)}","temperature":20}`,
    'Bytes are counted, not letters: 258.',
    { shown: '{"device_id":"☃☃☃…","temperature":20}', pointer: '/device_id' },
  ),
  refused(
    'a device id with a control character',
    'device_invalid',
    (d) => `{"device_id":"${d}\\u0007","temperature":20}`,
    'C0, DEL and C1 are refused.',
    { pointer: '/device_id' },
  ),
  refused('a device id with NUL', 'device_invalid', (d) => `{"device_id":"${d}\\u0000","temperature":20}`, 'The same.', { pointer: '/device_id' }),
  refused('a device id with a C1 control', 'device_invalid', (d) => `{"device_id":"${d}\u0085","temperature":20}`, 'The same, unescaped.', {
    pointer: '/device_id',
  }),
  refused(
    'a device id with half a surrogate pair',
    'device_invalid',
    (d) => `{"device_id":"${d}\\ud83d","temperature":20}`,
    'UTF-8 cannot hold it.',
    { pointer: '/device_id' },
  ),
  taken(
    'an emoji in a device id',
    [{ metric: 'temperature', value: 20 }],
    (d) => `{"device_id":"🌡️-${d}","temperature":20}`,
    'Text like other text.',
    { storedAs: (d) => `🌡️-${d}` },
  ),
  refused('a device id that is an object', 'device_invalid', () => '{"device_id":{"a":1},"temperature":20}', 'Text, or an unsigned integer.', {
    pointer: '/device_id',
  }),
  refused('a device id that is a fraction', 'device_invalid', () => '{"device_id":1.5,"temperature":20}', 'Text, or an unsigned integer.', {
    pointer: '/device_id',
  }),
  taken(
    'a device id that is an integer',
    [{ metric: 'temperature', value: 20 }],
    (d) => `{"device_id":${digitsOf(d)},"temperature":20}`,
    'Its digits are the id, exact beyond 2^53 as well.',
    { storedAs: digitsOf, shown: '{"device_id":356938035643809123456,"temperature":20}' },
  ),
  taken(
    'another device in the topic',
    [{ metric: 'temperature', value: 20 }],
    () => '{"device_id":"other","temperature":20}',
    'The topic wins; the difference is counted.',
    { routes: ['mqtt'], topic: (d) => `devices/${d}/telemetry` },
  ),
  refused('two device ids', 'alias_conflict', (d) => `{"device_id":${id(d)},"sensor_id":"other","temperature":20}`, 'Which one?', {
    pointer: '/sensor_id',
  }),
  refused('a metric without a name', 'metric_invalid', (d) => `{"device_id":${id(d)},"":20}`, 'At least one byte.', { pointer: '/' }),
  refused(
    'a metric name of 257 bytes',
    'metric_invalid',
    (d) => `{"device_id":${id(d)},"${'m'.repeat(257)}":20}`,
    'At most 256, nested names joined.',
    { shown: '{"device_id":…,"mmm…":20}', pointer: `/${'m'.repeat(257)}` },
  ),
  refused('a metric name with a control character', 'metric_invalid', (d) => `{"device_id":${id(d)},"a\\nb":20}`, 'C0, DEL and C1 are refused.', {
    pointer: '/a\nb',
  }),
  refused('a metric name with half a surrogate pair', 'metric_invalid', (d) => `{"device_id":${id(d)},"\\udc00":20}`, 'UTF-8 cannot hold it.'),
  taken(
    'prototype keys',
    ['__proto__', 'constructor', 'toString', 'hasOwnProperty'].map((metric, i) => ({ metric, value: i })),
    (d) => `{"device_id":${id(d)},"__proto__":0,"constructor":1,"toString":2,"hasOwnProperty":3}`,
    'Names like others.',
  ),
  taken(
    'a prototype key that nests',
    [{ metric: '__proto__.polluted', value: 1 }],
    (d) => `{"device_id":${id(d)},"__proto__":{"polluted":true}}`,
    'A name like others.',
  ),
  taken(
    'SQL in text and in a name',
    [
      { metric: "x'); DROP TABLE readings;--", value: 1 },
      { metric: 'note', text: "'; DROP TABLE readings; --" },
    ],
    (d) => `{"device_id":${id(d)},"x'); DROP TABLE readings;--":1,"note":"'; DROP TABLE readings; --"}`,
    'Text.',
  ),
  taken(
    'CSV formulas and HTML',
    [
      { metric: 'note', text: '=1+1,"a"\n' },
      { metric: 'html', text: '<script>alert(1)</script>' },
    ],
    (d) => `{"device_id":${id(d)},"note":"=1+1,\\"a\\"\\n","html":"<script>alert(1)</script>"}`,
    'Text. Escaping is for whoever prints it.',
  ),
  refused('NUL in text', 'value_invalid', (d) => `{"device_id":${id(d)},"note":"a\\u0000b"}`, 'Stores do not keep it.', { pointer: '/note' }),
  refused('half a surrogate pair in text', 'value_invalid', (d) => `{"device_id":${id(d)},"note":"a\\ud800b"}`, 'UTF-8 cannot hold it.', {
    pointer: '/note',
  }),
  refused(
    'text of 16 KiB and a byte',
    'value_invalid',
    (d) => `{"device_id":${id(d)},"note":"${'n'.repeat(limits.textBytesMax + 1)}"}`,
    'A document, not a reading.',
    { shown: '{"device_id":…,"note":"nnn…"}', pointer: '/note' },
  ),
]

function digitsOf(device: string): string {
  return `9${Buffer.from(device).join('')}`
}
