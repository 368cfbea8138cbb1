import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { limits } from '../../src/core/limits.ts'
import { ItemSplitter, splitItems, type ItemKind } from '../../src/wire/payload/items.ts'
import { fuzzRuns } from '../support/effort.ts'

/** Items as text, refused ones as `!code at`; the body lies amid other bytes. */
function split(text: string, kind: ItemKind, itemsMax: number = limits.batchItemsMax, stepBytes?: number): string[] {
  const bytes = Buffer.concat([Buffer.from('[1,'), Buffer.from(text), Buffer.from(',2]')])
  const items = new ItemSplitter(bytes, 3, bytes.length - 3, kind, itemsMax, stepBytes)
  const found: string[] = []
  while (items.next()) {
    if (items.skipping) continue
    assert.equal(items.index, found.length)
    const body = bytes.toString('utf8', items.start, items.end)
    if (items.refusal === undefined) found.push(body)
    else found.push(`!${items.refusal.code} ${/at byte \d+|at the end|from byte \d+/.exec(items.refusal.message)?.[0]} ${body}`)
  }
  assert.equal(items.next(), false)
  return found
}

describe('arrays', () => {
  it('are split without being parsed', () => {
    assert.deepStrictEqual(split(' [ {"a":"]},{\\"["} , [1,[2]] ,"x,y", 1 ,null]\n', 'array'), ['{"a":"]},{\\"["}', '[1,[2]]', '"x,y"', '1', 'null'])
    assert.deepStrictEqual(split('[]', 'array'), [])
    assert.deepStrictEqual(split(' [ ] ', 'array'), [])
    assert.deepStrictEqual(split('\ufeff[1]', 'array'), ['1'])
    assert.deepStrictEqual(split('[NaN,{"a":NaN},tru,2]', 'array'), ['NaN', '{"a":NaN}', 'tru', '2'])
    assert.deepStrictEqual(split('[1,,2]', 'array'), ['1', '', '2'])
    assert.deepStrictEqual(split('[{"a":[1}],{"b":2}]', 'array'), ['{"a":[1}]', '{"b":2}'], 'brackets that do not pair stay inside their item')
  })

  it('give out what stands before a break, then the rest as one refusal', () => {
    assert.deepStrictEqual(split('[1,2', 'array'), ['1', '2', '!body_not_json at the end '])
    assert.deepStrictEqual(split('[1,{"a":1', 'array'), ['1', '!body_not_json at byte 3 {"a":1'])
    assert.deepStrictEqual(split('[1,{"a":"x},2]', 'array'), ['1', '!body_not_json at byte 3 {"a":"x},2]'])
    assert.deepStrictEqual(split('[{"a":1} {"b":2},3]', 'array'), ['{"a":1}', '!body_not_json at byte 9 {"b":2},3]'])
    assert.deepStrictEqual(split('[1,]', 'array'), ['1', '!body_not_json at byte 3 ]'])
    assert.deepStrictEqual(split('[1]x', 'array'), ['1', '!body_not_json at byte 3 x'])
    assert.deepStrictEqual(split('[1,2]]', 'array'), ['1', '2', '!body_not_json at byte 5 ]'])
    assert.deepStrictEqual(split('[]x', 'array'), ['!body_not_json at byte 2 x'])
    assert.deepStrictEqual(split('[', 'array'), ['!body_not_json at the end '])
    assert.deepStrictEqual(split('', 'array'), ['!body_not_json at the end '])
    assert.deepStrictEqual(split('{"a":1}', 'array'), ['!body_not_json at byte 0 {"a":1}'])
    assert.deepStrictEqual(split('[}]', 'array'), ['!body_not_json at byte 1 }]'])
    assert.deepStrictEqual(split('[{"a":1,{"b":2}]', 'array'), ['{"a":1,{"b":2}]'], 'an item that took the bracket is the only refusal')
  })

  it('are bounded in their items', () => {
    assert.deepStrictEqual(split('[1,2,3,4]', 'array', 2), ['1', '2', '!batch_too_long from byte 5 3,4]'])
    assert.deepStrictEqual(split('[1,2]', 'array', 2), ['1', '2'])
    assert.deepStrictEqual(split('1\n2\n3', 'ndjson', 2), ['1', '2', '!batch_too_long from byte 4 3'])
  })

  it('of any values come apart as JSON.parse sees them', () => {
    fc.assert(
      fc.property(fc.array(fc.jsonValue()), fc.constantFrom('', ' ', '\n'), (values, space) => {
        const text = `[${values.map((value) => `${space}${JSON.stringify(value)}${space}`).join(',')}]`
        assert.deepStrictEqual(
          split(text, 'array'),
          values.map((value) => JSON.stringify(value)),
        )
      }),
      fuzzRuns(300),
    )
  })

  it('come apart the same however short the steps are, whatever is wrong with them', () => {
    const part = fc.constantFrom('[', ']', '{', '}', '"', '\\\\', '\\"', ',', ' ', '\n', '1', 'null', '{"a":1}', '"x,]"', '  \t ')
    fc.assert(
      fc.property(
        fc.array(part, { maxLength: 40 }),
        fc.constantFrom<ItemKind>('array', 'ndjson'),
        fc.integer({ min: 1, max: 9 }),
        (parts, kind, step) => {
          const text = kind === 'array' ? `[${parts.join('')}` : parts.join('')
          assert.deepStrictEqual(split(text, kind, 5, step), split(text, kind, 5))
        },
      ),
      fuzzRuns(2_000),
    )
  })

  it('that are long give the caller a turn at each step', () => {
    const long = 1 << 20
    const step = 4_096
    for (const middle of [`{"a":"${'x'.repeat(long)}"}`, `[${'1,'.repeat(long / 2)}1]`, `1${' '.repeat(long)}`, `${' '.repeat(long)}1`]) {
      const bytes = Buffer.from(`[{"b":1},${middle},{"c":2}]`)
      const items = new ItemSplitter(bytes, 0, bytes.length, 'array', 10, step)
      let turns = 0
      let found = 0
      while (items.next()) {
        if (items.skipping) turns++
        else found++
      }
      assert.ok(turns >= long / step - 1 && turns <= (2 * long) / step + 2, `${turns} turns`)
      assert.equal(found, 3)
    }
  })

  it('nested a million deep cost no stack', () => {
    const deep = '['.repeat(1_000_000)
    const bytes = Buffer.from(`[1,${deep}`)
    const items = splitItems(bytes, 0, bytes.length, 'array')
    assert.equal(items.next(), true)
    assert.equal(items.next(), true)
    assert.equal(items.refusal?.code, 'body_not_json')
    assert.equal(items.next(), false)
  })
})

describe('NDJSON', () => {
  it('is split at line feeds, blank lines apart', () => {
    assert.deepStrictEqual(split('{"a":1}\r\n\n \t\n{"b":\n{"c":3}', 'ndjson'), ['{"a":1}\r', '{"b":', '{"c":3}'])
    assert.deepStrictEqual(split('\n\n', 'ndjson'), [])
    assert.deepStrictEqual(split('\ufeff1', 'ndjson'), ['1'])
  })
})
