import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { describe, it } from 'node:test'
import { Flag } from '../../src/core/batch.ts'
import type { KymoError } from '../../src/core/errors.ts'
import type { LineShape } from '../../src/core/gate.ts'
import { limits } from '../../src/core/limits.ts'
import { LineSplitter } from '../../src/wire/line/lines.ts'
import { Bench, context, receivedUs, split } from './line-bench.ts'

/** A line sent three times: as a new one, as one that is remembered, and on the fast lane where it can be: all give the same. */
function taken(line: string, shape: LineShape = 'line-ns'): ReturnType<Bench['rows']> {
  const bench = new Bench()
  assert.equal(bench.take(line, shape), undefined)
  const first = bench.rows()
  for (const _ of ['remembered', 'known']) {
    bench.out.reset()
    assert.equal(bench.take(line, shape), undefined)
    assert.deepStrictEqual(bench.rows(), first)
  }
  return first
}

function refusedFor(line: string | Uint8Array, shape: LineShape = 'line-ns'): { code: string; pointer: string | undefined } {
  const bench = new Bench()
  const error = bench.take(line, shape)
  assert.ok(error !== undefined, `${String(line)} was taken`)
  assert.equal(bench.out.rows, 0)
  assert.equal(bench.series.deviceCount, 0, 'nothing is left behind')
  return { code: error.code, pointer: error.details.errors?.[0]?.pointer }
}

describe('a line becomes readings', () => {
  it('device from its tag, metric from measurement, field and the other tags, sorted', () => {
    const line = 'cpu,host=server01,cpu=cpu0,az=b usage_idle=98.5,count=3i 1700000000123456789'
    assert.deepStrictEqual(taken(line), [
      { device: 'server01', metric: 'cpu.usage_idle{az=b,cpu=cpu0}', timeUs: 1_700_000_000_123_456, value: 98.5, flags: 0 },
      { device: 'server01', metric: 'cpu.count{az=b,cpu=cpu0}', timeUs: 1_700_000_000_123_456, value: 3, flags: 0 },
    ])
  })

  it('device_id before device before sensor_id before host', () => {
    const of = (line: string): string => `${taken(line)[0]!.device} ${taken(line)[0]!.metric}`
    assert.equal(of('m,host=h,sensor_id=s,device=d,device_id=i x=1'), 'i m.x{device=d,host=h,sensor_id=s}')
    assert.equal(of('m,host=h,sensor_id=s,device=d x=1'), 'd m.x{host=h,sensor_id=s}')
    assert.equal(of('m,host=h,sensor_id=s x=1'), 's m.x{host=h}')
    assert.equal(of('m,host=h x=1'), 'h m.x')
  })

  it('without such a tag the device is measurement and tags', () => {
    assert.equal(
      taken('weather,station=x,location=us-midwest temperature=82 1465839830100400200')[0]!.device,
      'weather{location=us-midwest,station=x}',
    )
    assert.equal(taken('weather temperature=82')[0]!.device, 'weather')
  })

  it('which tags name the device is a setting', () => {
    const bench = new Bench({ deviceTags: ['meter'] })
    assert.equal(bench.take('m,host=h,meter=7 x=1'), undefined)
    assert.deepStrictEqual(
      bench.rows().map(({ device, metric }) => [device, metric]),
      [['7', 'm.x{host=h}']],
    )
  })

  it('two sets of tags never have the same name', () => {
    const one = taken('m,host=h,a=1\\,b\\=2 x=1')[0]!.metric
    const other = taken('m,host=h,a=1,b=2 x=1')[0]!.metric
    assert.equal(one, 'm.x{a=1\\,b\\=2}')
    assert.equal(other, 'm.x{a=1,b=2}')
  })

  it('escapes as InfluxDB documents them', () => {
    // From the line protocol reference: "Special characters", and its examples.
    assert.deepStrictEqual(
      taken('my\\ Measurement,host=h,tagKey1=tag\\ Value1,tag\\ Key2=tagValue2 fieldKey=100').map(({ metric }) => metric),
      ['my Measurement.fieldKey{tag Key2=tagValue2,tagKey1=tag Value1}'],
    )
    assert.deepStrictEqual(
      taken('myMeasurement,host=h fieldKey="string value"').map(({ value }) => value),
      ['string value'],
    )
    assert.equal(taken('m,host=h f="\\"string\\" within a string"')[0]!.value, '"string" within a string')
    assert.equal(taken('m,host=h f="a\\\\b\\c"')[0]!.value, 'a\\b\\c')
    assert.equal(taken(`m,host=h f="${'\\"'.repeat(16_384)}"`)[0]!.value, '"'.repeat(16_384))
    assert.equal(taken('m,host=C:\\\\x f=1')[0]!.device, 'C:\\\\x')
    assert.equal(taken('m,host=h f\\,1\\ a\\=b=1')[0]!.metric, 'm.f,1 a=b')
    assert.equal(taken('m,host=h f="line 1\nline 2"')[0]!.value, 'line 1\nline 2')
    assert.equal(taken('m,host=münchen f=1')[0]!.device, 'münchen')
  })

  it('every kind of value', () => {
    const of = (text: string): [unknown, number] => {
      const row = taken(`m,host=h f=${text} 1000`)[0]!
      return [row.value, row.flags]
    }
    for (const t of ['t', 'T', 'true', 'True', 'TRUE']) assert.deepStrictEqual(of(t), [1, Flag.boolean], t)
    for (const f of ['f', 'F', 'false', 'False', 'FALSE']) assert.deepStrictEqual(of(f), [0, Flag.boolean], f)
    for (const [text, value] of [
      ['1', 1],
      ['1i', 1],
      ['-12i', -12],
      ['7u', 7],
      ['007i', 7],
      ['1.', 1],
      ['.5', 0.5],
      ['-.5', -0.5],
      ['+3', 3],
      ['-0', 0],
      ['-1.234456e+78', -1.234456e78],
      ['1E-7', 1e-7],
      ['0.00000000000000000000000125', 1.25e-24],
      ['98.78787878787879', 98.78787878787879],
      ['0.30000000000000004', 0.30000000000000004],
      ['9007199254740992i', 9007199254740992],
    ] as const)
      assert.deepStrictEqual(of(text), [value, 0], text)
    for (const text of ['9007199254740993', '-9223372036854775808', '18446744073709551615']) {
      assert.deepStrictEqual(of(`${text}${text.length === 20 && !text.startsWith('-') ? 'u' : 'i'}`), [text, Flag.text | Flag.bigInteger])
    }
    assert.deepStrictEqual(of('""'), ['', Flag.text])
  })

  it('times in every unit, nanoseconds cut to the microsecond, and none', () => {
    const of = (time: string, shape: LineShape): number => taken(`m,host=h f=1 ${time}`, shape)[0]!.timeUs
    assert.equal(of('1700000000123456789', 'line-ns'), 1_700_000_000_123_456)
    assert.equal(of('999', 'line-ns'), 0)
    assert.equal(of('1700000000123456', 'line-us'), 1_700_000_000_123_456)
    assert.equal(of('1700000000123', 'line-ms'), 1_700_000_000_123_000)
    assert.equal(of('1700000000', 'line-s'), 1_700_000_000_000_000)
    assert.equal(of('28333333', 'line-m'), 28_333_333 * 60e6)
    assert.equal(of('472222', 'line-h'), 472_222 * 3600e6)
    const row = taken('m,host=h f=1')[0]!
    assert.deepStrictEqual([row.timeUs, row.flags], [receivedUs, Flag.arrivalTime])
    assert.equal(taken('m,host=h f=1 1890000000000000000')[0]!.flags, Flag.clockAhead)
  })

  it('white space where it may be', () => {
    assert.equal(taken('  m,host=h   f=1   1000  ')[0]!.timeUs, 1)
    assert.equal(taken('m,host=h f=1 1000\r')[0]!.timeUs, 1)
  })
})

describe('what a line may not be', () => {
  const cases: readonly (readonly [string, string, string])[] = [
    [',host=h f=1', 'line_invalid', '/measurement'],
    ['m', 'line_invalid', '/fields'],
    ['m,host=h', 'line_invalid', '/fields'],
    ['m,host=h 1000', 'line_invalid', '/fields/1000'],
    ['m,host= f=1', 'line_invalid', '/tags/host'],
    ['m,host f=1', 'line_invalid', '/tags/host'],
    ['m,=x f=1', 'line_invalid', '/tags'],
    ['m, f=1', 'line_invalid', '/tags'],
    ['m,host=a=b f=1', 'line_invalid', '/tags/host'],
    ['m,host=a,host=b f=1', 'duplicate_key', '/tags/host'],
    ['m,host=h f=1,f=2', 'duplicate_key', '/fields/f'],
    ['m,host=h f=', 'line_invalid', '/fields/f'],
    ['m,host=h =1', 'line_invalid', '/fields'],
    ['m,host=h f=1,', 'line_invalid', '/fields'],
    ['m,host=h f=on', 'line_invalid', '/fields/f'],
    ['m,host=h f=1ii', 'line_invalid', '/fields/f'],
    ['m,host=h f=1.5i', 'line_invalid', '/fields/f'],
    ['m,host=h f=-1u', 'line_invalid', '/fields/f'],
    ['m,host=h f=0x10', 'line_invalid', '/fields/f'],
    ['m,host=h f="open', 'line_invalid', '/fields/f'],
    ['m,host=h f="a"b', 'line_invalid', '/fields/f'],
    ['m,host=h f=NaN', 'value_not_finite', '/fields/f'],
    ['m,host=h f=-Inf', 'value_not_finite', '/fields/f'],
    ['m,host=h f=1e999', 'value_not_finite', '/fields/f'],
    ['m,host=h f=9223372036854775808i', 'value_invalid', '/fields/f'],
    ['m,host=h f="a\0b"', 'value_invalid', '/fields/f'],
    ['m,host=h f=1 yesterday', 'line_invalid', '/timestamp'],
    ['m,host=h f=1 1.5', 'line_invalid', '/timestamp'],
    ['m,host=h f=1 1 2', 'line_invalid', '/timestamp'],
    ['m,host=h f=1 -1', 'time_invalid', '/timestamp'],
    ['m,host=h f=1 99999999999999999999', 'time_invalid', '/timestamp'],
    [`m,host=${'h'.repeat(257)} f=1`, 'device_invalid', '/tags/host'],
    ['m,host=a\u0001b f=1', 'device_invalid', '/tags/host'],
    [`m,host=h,t=${'x'.repeat(260)} f=1`, 'metric_invalid', '/fields/f'],
    [`m,host=h,${Array.from({ length: 20_000 }, (_, i) => `t${i}=1`).join(',')} f=1`, 'metric_invalid', '/fields/f'],
    [`m,${Array.from({ length: 20_000 }, (_, i) => `t${i}=1`).join(',')} f=1`, 'device_invalid', '/measurement'],
    [`m,host=h f="${'x'.repeat(16_385)}"`, 'value_invalid', '/fields/f'],
    [`m,host=h f="${'\\"'.repeat(16_385)}"`, 'value_invalid', '/fields/f'],
    [`m,host=h ${Array.from({ length: 2_001 }, (_, i) => `f${i}=1`).join(',')}`, 'too_many_fields', '/fields/f2000'],
    [`m,host=h ${Array.from({ length: 1_001 }, (_, i) => `f${i}=1`).join(',')}`, 'too_many_metrics', '/fields/f0'],
    [`m,host=h f=${'1'.repeat(1_000)}`, 'line_invalid', '/fields/f'],
    [`m,host=h f="${'x'.repeat(300_000)}"`, 'body_too_large', ''],
  ]
  for (const [line, code, pointer] of cases)
    it(`${JSON.stringify(line.slice(0, 50))} is ${code}`, () => assert.deepStrictEqual(refusedFor(line), { code, pointer }))

  it('invalid UTF-8', () => assert.equal(refusedFor(Buffer.from('m,host=\xff f=1', 'latin1')).code, 'body_not_utf8'))

  it('text where numbers were, and nothing of its line stays; the line is named', () => {
    const bench = new Bench()
    assert.equal(bench.take('m,host=h f=1,g=2'), undefined)
    const error = bench.take('m,host=h g=3,f="on"', 'line-ns', context('default', 7))
    assert.equal(error?.code, 'metric_text_changed')
    assert.match(error.message, /^Line 7: /)
    assert.equal(bench.out.rows, 2)
  })

  it('what a known line must not hide', () => {
    for (const [line, code] of [
      ['m,host=h f=1,f=2 1000', 'duplicate_key'],
      ['m,host=h g=2,f=1,g=3 1000', 'duplicate_key'],
      ['m,host=h f=1i2,g=2 1000', 'line_invalid'],
      ['m,host=h f=1,g=2 1000 5', 'line_invalid'],
      ['m,host=h f=1,g=2, 1000', 'line_invalid'],
      ['m,host=h f="on",g=2 1000', 'metric_text_changed'],
      ['m,host=h f=1,g=1e999 1000', 'value_not_finite'],
    ] as const) {
      const bench = new Bench()
      for (let i = 0; i < 2; i++) assert.equal(bench.take('m,host=h f=1,g=2 1000'), undefined)
      assert.equal(bench.take('m,host=h g=2,f=1 1000'), undefined)
      assert.equal(bench.lines.fastLines, 1)
      assert.equal(bench.take(line)?.code, code, line)
      assert.equal(bench.out.rows, 6)
    }
    const bench = new Bench()
    for (const value of ['1i', '2i', '9007199254740993i', '-9007199254740993i', '9007199254740992i', '9007199254740993', '0009007199254740993i'])
      bench.take(`m,host=h f=${value} 1000`)
    assert.deepStrictEqual(
      bench.rows().map(({ value }) => value),
      [1, 2, '9007199254740993', '-9007199254740993', 9007199254740992, 9007199254740992, '9007199254740993'],
    )
    for (const value of ['9223372036854775808i', '-9223372036854775809i', '18446744073709551616u', `${'0'.repeat(512)}1i`])
      assert.ok(bench.take(`m,host=h f=${value} 1000`) !== undefined, value)
  })

  it('tenants whose lines are alike keep their own series', () => {
    const bench = new Bench()
    for (const tenant of ['a', 'b', 'a', 'b', 'a', 'b']) assert.equal(bench.take('m,host=h f=1 1000', 'line-ns', context(tenant)), undefined)
    const batch = bench.out.view()
    assert.deepStrictEqual(
      Array.from(batch.series, (id) => batch.keys[id]!.tenant),
      ['a', 'b', 'a', 'b', 'a', 'b'],
    )
    assert.equal(bench.lines.fastLines, 2)
  })

  it('what comes once is not remembered; what comes again is, its new fields too', () => {
    const bench = new Bench()
    const fastAfter = (line: string): number => {
      assert.equal(bench.take(line), undefined)
      return bench.lines.fastLines
    }
    assert.deepStrictEqual(
      [1, 2, 3, 4].map((f) => fastAfter(`m,host=h f=${f}`)),
      [0, 0, 1, 2],
    )
    assert.deepStrictEqual(
      [1, 2, 3].map((g) => fastAfter(`m,host=h f=1,g=${g}`)),
      [2, 2, 3],
    )
    // More of those that come once than are ever remembered drive nothing out.
    for (let i = 0; i <= limits.lineKeysMax; i++) {
      const once = Buffer.from(`m,host=once${i} f=1`)
      bench.lines.decode(once, 0, once.length, 'line-ns', context(), receivedUs, bench.out)
      bench.out.reset()
    }
    assert.equal(fastAfter('m,host=h f=5'), 4)
  })

  it('text of a known line: its escapes, its encoding and its length are looked at', () => {
    const bench = new Bench()
    const text = (bytes: string | Uint8Array): string | undefined =>
      bench.take(Buffer.concat([Buffer.from('m,host=h f="'), Buffer.from(bytes), Buffer.from('" 1000')]))?.code
    for (const good of ['a', 'b', 'said \\"yes\\"', 'Tür \\\\', 'x\\y', '\ufffd', '\\"'.repeat(16_384)]) assert.equal(text(good), undefined)
    assert.ok(bench.lines.fastLines >= 4, String(bench.lines.fastLines))
    const rows = bench.rows().map(({ value }) => value)
    assert.deepStrictEqual(rows, ['a', 'b', 'said "yes"', 'Tür \\', 'x\\y', '\ufffd', '"'.repeat(16_384)])
    assert.equal(text(Buffer.from([0xed, 0xa0, 0x80])), 'body_not_utf8')
    assert.equal(text(Buffer.from([0x41, 0xff])), 'body_not_utf8')
    assert.equal(text('a\0'), 'value_invalid')
    assert.equal(text('\\"'.repeat(16_385)), 'value_invalid')
    assert.equal(text('open\\'), 'line_invalid')
  })
})

describe('a body becomes lines', () => {
  it('comments, blank lines, CRLF, white space', () => {
    assert.deepStrictEqual(split('# one\n\n  \r\na f=1\r\n\t b f=2\n#\nc f=3'), [
      [4, 'a f=1'],
      [5, 'b f=2'],
      [7, 'c f=3'],
    ])
    assert.deepStrictEqual(split(''), [])
    assert.deepStrictEqual(split('\ufeffa f=1'), [[1, 'a f=1']])
  })

  it('a line feed within a string is none', () => {
    assert.deepStrictEqual(split('a f="x\ny",g=1 5\nb,t="q f=1\nc f="\\"\n"\nd f=1'), [
      [1, 'a f="x\ny",g=1 5'],
      [3, 'b,t="q f=1'],
      [4, 'c f="\\"\n"'],
      [6, 'd f=1'],
    ])
  })

  it('a string that is not closed does not touch its neighbours', () => {
    assert.deepStrictEqual(split('a f=1\nb f="open\nc f=2'), [
      [1, 'a f=1'],
      [2, 'b f="open'],
      [3, 'c f=2'],
    ])
    assert.deepStrictEqual(split('b f="open\nc f="x"\nd f=1'), [
      [1, 'b f="open'],
      [2, 'c f="x"'],
      [3, 'd f=1'],
    ])
    const long = `b f="${'x'.repeat(300_000)}\nc f=2`
    assert.deepStrictEqual(split(long)[1], [2, 'c f=2'])
  })

  it('what is beyond the limit is one item', () => {
    const bytes = Buffer.from('a f=1\nb f=1\nc f=1\nd f=1')
    const lines = new LineSplitter(bytes, 0, bytes.length, 2)
    assert.ok(lines.next() && lines.next() && lines.refusal === undefined && lines.next())
    assert.equal((lines.refusal as KymoError | undefined)?.code, 'batch_too_long')
    assert.equal(bytes.toString('utf8', lines.start, lines.end), 'c f=1\nd f=1')
    assert.ok(!lines.next())
  })

  it('gives a turn amid comments without end', () => {
    const bytes = Buffer.from('#\n'.repeat(200_000))
    const lines = new LineSplitter(bytes, 0, bytes.length)
    let turns = 0
    while (lines.next()) turns += lines.skipping ? 1 : 100
    assert.ok(turns >= 5 && turns < 20, String(turns))
  })
})
