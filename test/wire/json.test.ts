import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { KymoError } from '../../src/core/errors.ts'
import { ByteTable, hashBytes } from '../../src/wire/json/byte-table.ts'
import { parseDocument, type JsonBounds } from '../../src/wire/json/document.ts'
import { compactText, toValue } from '../../src/wire/json/nodes.ts'
import { pointerOf } from '../../src/wire/json/pointer.ts'
import { FieldKind, FlatScanner } from '../../src/wire/json/flat.ts'
import { firstByte, skipSpace } from '../../src/wire/json/text.ts'
import { fuzz, valueOfJson } from './json-fuzz.ts'
import { fuzzCases, fuzzRuns } from '../support/effort.ts'

const bounds: JsonBounds = { depthMax: 32, valuesMax: 10_000 }

function parse(text: string | Uint8Array, b: JsonBounds = bounds) {
  const bytes = typeof text === 'string' ? Buffer.from(text) : text
  return parseDocument(bytes, 0, bytes.length, b)
}

function refused(text: string | Uint8Array, b?: JsonBounds): KymoError {
  try {
    parse(text, b)
  } catch (thrown) {
    if (thrown instanceof KymoError) return thrown
    throw thrown
  }
  return assert.fail('it was taken')
}

function tableOf(names: readonly string[]): ByteTable {
  const table = new ByteTable({ entriesMax: 1000, bytesMax: 1 << 16 })
  for (const name of names) {
    const bytes = Buffer.from(name)
    table.add(bytes, 0, bytes.length, hashBytes(bytes, 0, bytes.length))
  }
  return table
}

describe('the parser', () => {
  it('gives what JSON.parse gives, for any value', () => {
    fc.assert(
      fc.property(fc.json({ noUnicodeString: false }), (text) => {
        assert.deepStrictEqual(toValue(parse(text, { depthMax: 1000, valuesMax: Infinity }).root), valueOfJson(text))
      }),
      fuzzRuns(500),
    )
  })

  it('tells which byte and which field is wrong', () => {
    const cases: readonly (readonly [string, string, RegExp])[] = [
      ['{"a":1,"b":NaN}', '/b', /NaN and Infinity are no JSON values.*at byte 11/],
      ['{"a":{"b/c":[1,-Infinity]}}', '/a/b~1c/1', /Infinity/],
      ['{"a":1', '', /at its end/],
      ['{"a":1,}', '', /key in quotes.*byte 7/],
      ['{"a" 1}', '/a', /colon.*byte 5/],
      ['{"a":01}', '', /byte 6/],
      ['{"a":1}x', '', /over.*byte 7/],
      ["{'a':1}", '', /byte 1/],
      ['{"a":"x\ny"}', '/a', /control character.*byte 7/],
      ['{"a":"\\x"}', '/a', /escape.*byte 6/],
      ['{"a":undefined}', '/a', /byte 5/],
      ['[1,2', '', /at its end/],
      ['', '', /at its end/],
    ]
    for (const [text, pointer, detail] of cases) {
      const error = refused(text)
      assert.equal(error.code, 'body_not_json', text)
      assert.match(error.message, detail, text)
      assert.equal(error.details.errors?.[0]?.pointer, pointer, text)
    }
  })

  it('refuses depth 10,000 and a million without a deep stack', () => {
    for (const depth of [33, 10_000, 1_000_000]) {
      assert.equal(refused('['.repeat(depth) + ']'.repeat(depth)).code, 'too_deep')
      assert.equal(refused('{"a":'.repeat(depth) + '1' + '}'.repeat(depth)).code, 'too_deep')
    }
    assert.doesNotThrow(() => parse('['.repeat(32) + ']'.repeat(32)))
  })

  it('stops at its bound of values, however long the document', () => {
    const error = refused(`[${'1,'.repeat(100_000)}1]`)
    assert.equal(error.code, 'too_many_fields')
    assert.doesNotThrow(() => parse(`[${'1,'.repeat(9_998)}1]`))
    assert.throws(() => parse(`[${'1,'.repeat(9_999)}1]`))
  })

  it('finds a key that stands twice, also behind an escape, in small and large objects', () => {
    assert.equal(parse('{"a":1,"\\u0061":2}').duplicate?.pointer, '/a')
    assert.equal(parse('{"x":{"a/b":1,"c":2,"a/b":1}}').duplicate?.pointer, '/x/a~1b')
    const many = Array.from({ length: 40 }, (_, i) => `"k${i}":${i}`).join(',')
    assert.equal(parse(`{${many}}`).duplicate, undefined)
    assert.equal(parse(`{${many},"k3":1}`).duplicate?.key, 'k3')
    assert.equal(parse(`{${many},"k39":1}`).duplicate?.key, 'k39')
    assert.equal(parse('{"a":{"b":1},"b":2,"c":{"b":3}}').duplicate, undefined)
    assert.equal(parse('{"__proto__":1,"constructor":2,"toString":3}').duplicate, undefined)
  })

  it('ignores a byte order mark at the beginning only', () => {
    const mark = Buffer.from([0xef, 0xbb, 0xbf])
    assert.deepStrictEqual(toValue(parse(Buffer.concat([mark, Buffer.from('{"a":1}')])).root), { a: 1 })
    assert.equal(refused(Buffer.concat([Buffer.from(' '), mark, Buffer.from('1')])).code, 'body_not_json')
    assert.equal(toValue(parse(Buffer.concat([Buffer.from('"'), mark, Buffer.from('"')])).root), '\ufeff')
  })

  it('says at which byte UTF-8 breaks', () => {
    for (const [head, bad] of [
      ['{"a":"', [0xff]],
      ['{"é":"', [0xc3, 0x28]],
      ['"', [0xed, 0xa0, 0x80]],
      ['"', [0xf0, 0x9f, 0x98]],
      ['"', [0xc0, 0xaf]],
    ] as const) {
      const start = Buffer.from(head)
      const error = refused(Buffer.concat([start, Buffer.from(bad), Buffer.from('"}')]))
      assert.equal(error.code, 'body_not_utf8')
      assert.match(error.message, new RegExp(`byte ${start.length} `))
    }
  })

  it('reads doubles exactly as Number does', () => {
    const check = (source: string): void => assert.ok(Object.is(toValue(parse(source).root), Number(source)), source)
    for (let i = -40; i <= 40; i++) check(String(9007199254740991n + BigInt(i)))
    fc.assert(
      fc.property(fc.maxSafeInteger(), fc.integer({ min: 0, max: 18 }), (x, point) => {
        const digits = String(Math.abs(x)).padStart(point + 1, '0')
        const sign = x < 0 ? '-' : ''
        check(String(x))
        if (point > 0) check(`${sign}${digits.slice(0, -point)}.${digits.slice(-point)}`)
      }),
      fuzzRuns(2000),
    )
    fc.assert(
      fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (x) => check(Object.is(x, -0) ? '-0' : String(x))),
      fuzzRuns(1000),
    )
  })

  it('keeps numbers as they were written', () => {
    const text = '[12345678901234567890,1.50,-0,1E2,1e999]'
    const { root } = parse(text)
    assert.equal(compactText(root), text)
    assert.deepStrictEqual(toValue(root), [12345678901234567890, 1.5, -0, 100, Infinity])
  })

  it('writes compact text that means the same', () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        assert.deepStrictEqual(valueOfJson(compactText(parse(text, { depthMax: 1000, valuesMax: Infinity }).root)), valueOfJson(text))
      }),
      fuzzRuns(200),
    )
  })

  it('escapes pointers as RFC 6901 says', () => {
    assert.equal(pointerOf(['a/b', 'm~n', 0, '']), '/a~1b/m~0n/0/')
  })
})

describe('the flat scanner', () => {
  const names = ['a', 'b', 'values', 'é']
  const scanner = new FlatScanner(tableOf(names))
  scanner.containerKey = 2
  const scan = (text: string): boolean => {
    const bytes = Buffer.from(text)
    return scanner.scan(bytes, 0, bytes.length)
  }

  it('reads doubles exactly as Number does', () => {
    const check = (source: string): void => {
      assert.ok(scan(`{"a":${source}}`), source)
      const value = Number(source)
      if (scanner.kind[0] === FieldKind.longInteger) assert.ok(Math.abs(value) >= Number.MAX_SAFE_INTEGER, source)
      else assert.ok(Object.is(scanner.number[0], value), source)
    }
    for (let i = -40; i <= 40; i++) check(String(9007199254740991n + BigInt(i)))
    for (const source of [
      '0',
      '-0',
      '0.1',
      '0.30000000000000004',
      '1e22',
      '1e23',
      '1e-22',
      '1e-23',
      '9007199254740991',
      '9007199254740992',
      '9007199254740993',
      '900719925474099.3',
      '9007199254740993.0',
      '123456789',
      '1234567890',
      '12345678.9',
      '123456789.1',
      '4.35',
      '5e-324',
      '2.2250738585072011e-308',
      '1.7976931348623157e308',
      '0e999',
      '0.000000000000000000000001',
      '00000'.slice(4),
    ])
      check(source)
    fc.assert(
      fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (x) => check(Object.is(x, -0) ? '-0' : String(x).replace('+', ''))),
      fuzzRuns(1000),
    )
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 31 - 1 }), fc.integer({ min: 0, max: 12 }), (x, digits) => check((x / 997).toFixed(digits))),
      fuzzRuns(1000),
    )
    fc.assert(
      fc.property(fc.maxSafeInteger(), fc.integer({ min: -40, max: 40 }), (x, e) => check(`${x}e${e}`)),
      fuzzRuns(1000),
    )
  })

  it('leaves to the general lane what is not simple', () => {
    for (const text of [
      '{"c":1}',
      '{"a":"\\n"}',
      '{"a":[1]}',
      '{"a":{"b":1}}',
      '{"values":{"values":{"a":1}}}',
      '{"a":1e999}',
      '[1]',
      '1',
      '',
      '{',
      '{"a":1',
      '{"a":1}}',
      '{"a":1,}',
      '{"a":"x}',
    ]) {
      assert.equal(scan(text), false, text)
    }
    assert.equal(scanner.scan(Buffer.from([0x7b, 0x22, 0x61, 0x22, 0x3a, 0x22, 0xff, 0x22, 0x7d]), 0, 9), false, 'bad UTF-8')
  })

  it('takes white space, an empty object and one object inside', () => {
    assert.ok(scan(' {\t"a" :\r\n1 , "b":"x" }\n'))
    assert.equal(scanner.count, 2)
    assert.ok(scan('{}'))
    assert.equal(scanner.count, 0)
    assert.ok(scan('{"a":1,"values":{"a":2,"é":true},"b":null}'))
    assert.deepStrictEqual([...scanner.inner.subarray(0, 5)], [0, 0, 1, 1, 0])
    assert.deepStrictEqual(
      [...scanner.kind.subarray(0, 5)],
      [FieldKind.number, FieldKind.container, FieldKind.number, FieldKind.true, FieldKind.null],
    )
    assert.ok(scan('{"values":{}}'))
    assert.ok(scan('{"values":{},"a":1}'))
  })

  it('never reads beyond the end of its message in a shared buffer', () => {
    const bytes = Buffer.from('{"a":12}345,"b":1}')
    assert.ok(scanner.scan(bytes, 0, 8))
    assert.equal(scanner.number[0], 12)
    for (let end = 0; end < 8; end++) assert.equal(scanner.scan(bytes, 0, end), false, `cut at ${end}`)
    // A known key that contains a brace and a quote's place beyond the end.
    const odd = new FlatScanner(tableOf(['a}bc']))
    const tail = Buffer.from('{"a}bc":1}')
    assert.equal(odd.scan(tail, 0, 4), false)
    assert.ok(odd.scan(tail, 0, tail.length))
    assert.equal(odd.scan(tail, 0, 4), false, 'also when the key is guessed')
    // Digits up to the buffer's own end, beyond the message: nothing there to stop at.
    assert.equal(odd.scan(new Uint8Array(Buffer.from('{"a}bc":1234567890')), 0, 4), false)
  })

  it('takes no more fields than it has columns for', () => {
    const wide = Array.from({ length: 1100 }, (_, i) => `k${i}`)
    const table = new ByteTable({ entriesMax: 2000, bytesMax: 1 << 16 })
    for (const name of wide) {
      const bytes = Buffer.from(name)
      assert.ok(table.add(bytes, 0, bytes.length, hashBytes(bytes, 0, bytes.length)) >= 0)
    }
    const wideScanner = new FlatScanner(table)
    const text = (n: number): Buffer =>
      Buffer.from(
        `{${wide
          .slice(0, n)
          .map((k) => `"${k}":1`)
          .join(',')}}`,
      )
    assert.ok(wideScanner.scan(text(1024), 0, text(1024).length))
    assert.equal(wideScanner.scan(text(1025), 0, text(1025).length), false)
  })
})

describe('the byte table', () => {
  it('finds what it keeps, and nothing else, while it grows', () => {
    const table = new ByteTable({ entriesMax: 5_000, bytesMax: 1 << 17 })
    const entries = new Map<string, number>()
    for (let i = 0; i < 5_000; i++) {
      const bytes = Buffer.from(`name-${i * 7}`)
      entries.set(bytes.toString(), table.add(bytes, 0, bytes.length, hashBytes(bytes, 0, bytes.length)))
    }
    let found = 0
    for (const [name, entry] of entries) {
      const bytes = Buffer.from(`..${name}..`)
      const at = table.find(bytes, 2, bytes.length - 2, hashBytes(bytes, 2, bytes.length - 2))
      assert.ok(at === entry || at === -1)
      if (at === entry) found++
    }
    assert.ok(found >= 4_990, `only ${found} found`)
    const other = Buffer.from('another')
    assert.equal(table.find(other, 0, 7, hashBytes(other, 0, 7)), -1)
  })

  it('keeps to its bounds and answers -1 beyond', () => {
    const table = new ByteTable({ entriesMax: 2, bytesMax: 10 })
    const add = (name: string): number => table.add(Buffer.from(name), 0, name.length, hashBytes(Buffer.from(name), 0, name.length))
    assert.equal(add('abc'), 0)
    assert.equal(add('abcdefgh'), -1)
    assert.equal(add('abcdefg'), 1)
    assert.equal(add(''), -1)
    table.clear()
    assert.equal(add('x'), 0)
  })

  it('is not slowed down by names that collide', () => {
    const table = new ByteTable({ entriesMax: 10_000, bytesMax: 1 << 20 })
    let kept = 0
    for (let i = 0; i < 10_000; i++) if (table.add(Buffer.from(String(i)), 0, String(i).length, 42) >= 0) kept++
    assert.ok(kept >= 1 && kept <= 64, `${kept} kept`)
  })
})

describe('sniffing', () => {
  it('finds the first byte behind byte order mark and space', () => {
    assert.equal(firstByte(Buffer.from('\ufeff \n[1]'), 0, 8), 0x5b)
    assert.equal(firstByte(Buffer.from(' \n'), 0, 2), -1)
    assert.equal(firstByte(Buffer.from('xx{'), 2, 3), 0x7b)
    assert.equal(skipSpace(Buffer.from('  a'), 0, 3), 2)
    assert.equal(skipSpace(Buffer.from('\v'), 0, 1), 0)
  })
})

describe('fuzz', () => {
  it('agrees with JSON.parse on documents good and bad', () => {
    const result = fuzz(fuzzCases(20_000), 20_261_120)
    const least = result.cases / 10
    assert.ok(least > 0 && result.accepted > least && result.refused > least && result.fast > least, JSON.stringify(result))
  })
})
