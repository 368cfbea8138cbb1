import { limits } from '../../src/core/limits.ts'
import { refused, type BadInput, type Refused } from './case.ts'

/** A line of line protocol that is refused; `line` begins behind the measurement and the device's tag. */
function bad(name: string, code: Parameters<typeof refused>[1], line: string, why: string, o: Refused = {}): BadInput {
  return refused(name, code, (d) => `m,device=${d}${line}`, why, { routes: ['line'], status: 400, ...o })
}

/** InfluxDB line protocol. InfluxDB's own code is `invalid`; ours stands in `results` and in the dead letter. */
export const lines: readonly BadInput[] = [
  bad('a line without a field', 'line_invalid', ' 1700000000000000000', 'A field is key=value.', { pointer: '/fields/1700000000000000000' }),
  bad('an empty tag value', 'line_invalid', ',room= x=1', 'Leave the tag out.', { pointer: '/tags/room' }),
  bad('a tag that stands twice', 'duplicate_key', ',room=a,room=b x=1', 'Which one?', { pointer: '/tags/room' }),
  bad('a field that stands twice', 'duplicate_key', ' x=1,x=2', 'Which one?', { pointer: '/fields/x' }),
  bad('text without quotes', 'line_invalid', ' x=on', 'Neither a number nor a boolean.', { pointer: '/fields/x' }),
  bad('a string that is not closed', 'line_invalid', ' x="on', 'The line ends at its line feed; its neighbours are taken.', { pointer: '/fields/x' }),
  bad('NaN in a line', 'value_not_finite', ' x=NaN', 'Leave the field out.', { pointer: '/fields/x' }),
  bad('an integer beyond 64 bits', 'value_invalid', ' x=9223372036854775808i', 'InfluxDB refuses it too.', { pointer: '/fields/x' }),
  bad('a fraction as integer', 'line_invalid', ' x=1.5i', 'i says integer.', { pointer: '/fields/x' }),
  bad('a negative unsigned', 'line_invalid', ' x=-1u', 'u says unsigned.', { pointer: '/fields/x' }),
  bad('a time with a fraction', 'line_invalid', ' x=1 1700000000.5', 'An integer of the precision.', { pointer: '/timestamp' }),
  bad('a time before 1970 in a line', 'time_invalid', ' x=1 -1', '1970 to 2255.', { pointer: '/timestamp' }),
  bad('seconds where nanoseconds are said', 'too_old', ' x=1 1700000000', 'It is 1.7 s after 1970: give the request its precision.', {
    pointer: '/timestamp',
  }),
  bad('tags beyond a name', 'metric_invalid', `,room=${'r'.repeat(260)} x=1`, 'Tags are part of the metric: 256 bytes in all.', {
    pointer: '/fields/x',
  }),
  bad('a line beyond 256 KiB', 'body_too_large', ` x="${'x'.repeat(limits.lineBytesMax)}"`, 'The first 4 KiB are kept.', { pointer: '' }),
  bad('text where a line held numbers', 'metric_text_changed', ' x="on" 1700000000000000000', 'As in JSON.', {
    pointer: '/fields/x',
    before: (d) => [`m,device=${d} x=1 1700000000000000000`],
  }),
  {
    name: 'lines with one bad among them',
    routes: ['line'],
    body: (d) => `m,device=${d} x=1 1700000000000000000\nm,device=${d} x=on\n# a comment\nm,device=${d} x=3 1700000002000000000`,
    judge: 'decoder',
    status: 400,
    stored: 2,
    values: [
      { metric: 'm.x', value: 1 },
      { metric: 'm.x', value: 3 },
    ],
    deadLetters: 1,
    results: [{ index: 1, code: 'line_invalid' }],
    why: 'The good ones are stored; the answer names the line.',
  },
  {
    name: 'an integer beyond 2^53 in a line',
    routes: ['line'],
    body: (d) => `m,device=${d} x=9007199254740993i 1700000000000000000`,
    judge: 'decoder',
    status: 204,
    stored: 1,
    values: [{ metric: 'm.x', text: '9007199254740993' }],
    deadLetters: 0,
    why: 'Kept digit by digit, as text.',
  },
]
