import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { Check } from 'typebox/schema'
import { checkSchema, coerceQuery, splitList } from '../../src/doors/http/schema-check.ts'
import type { JsonSchema } from '../../src/doors/http/schema-check.ts'
import type { FieldError } from '../../src/core/errors.ts'
import { fuzzRuns } from '../support/effort.ts'

function errorsOf(schema: JsonSchema, value: unknown): FieldError[] {
  const errors: FieldError[] = []
  checkSchema(schema, value, '', errors)
  return errors
}

const leaf: fc.Arbitrary<JsonSchema> = fc.oneof(
  fc.record(
    {
      type: fc.constant('string' as const),
      minLength: fc.integer({ min: 0, max: 3 }),
      maxLength: fc.integer({ min: 0, max: 5 }),
      pattern: fc.constantFrom('^a', '\\d', '.'),
    },
    { requiredKeys: ['type'] },
  ),
  fc.record(
    {
      type: fc.constantFrom('integer' as const, 'number' as const),
      minimum: fc.integer({ min: -3, max: 3 }),
      maximum: fc.integer({ min: -3, max: 3 }),
    },
    { requiredKeys: ['type'] },
  ),
  fc.constant<JsonSchema>({ type: 'boolean' }),
  fc.constant<JsonSchema>({ enum: ['a', 1, true] }),
  fc.constant<JsonSchema>({}),
)
const schemas = fc.letrec<{ schema: JsonSchema }>((tie) => ({
  schema: fc.oneof(
    { depthSize: 'small' },
    leaf,
    fc.record({ type: fc.constant('array' as const), items: tie('schema'), minItems: fc.nat(2), maxItems: fc.nat(3) }, { requiredKeys: ['type'] }),
    fc.record(
      {
        type: fc.constant('object' as const),
        properties: fc.dictionary(fc.constantFrom('a', 'b'), tie('schema')),
        required: fc.subarray(['a', 'b']),
        additionalProperties: fc.oneof(fc.boolean(), tie('schema')),
        maxProperties: fc.nat(3),
      },
      { requiredKeys: ['type'] },
    ),
  ),
})).schema
const values = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    fc.constantFrom<unknown>(null, true, false, 0, 1, -1, 2.5, Number.MAX_SAFE_INTEGER, '', 'a', 'ab1', '😀😀', 'abcdefg'),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(fc.constantFrom('a', 'b', 'c'), tie('value')),
  ),
})).value

test("agrees with TypeBox's checker on every schema and value of the part that it knows", () => {
  fc.assert(
    fc.property(schemas, values, (schema, value) => {
      assert.equal(errorsOf(schema, value).length === 0, Check(schema as Parameters<typeof Check>[0], value), JSON.stringify(schema))
    }),
    fuzzRuns(3_000),
  )
})

test('an integer is one that a double holds exactly: stricter than JSON Schema', () => {
  assert.equal(errorsOf({ type: 'integer' }, 2 ** 53).length, 1)
  assert.equal(errorsOf({ type: 'number' }, 1e300).length, 0)
})

test('only own properties count', () => {
  const schema = JSON.parse(
    '{"type":"object","properties":{"toString":{"type":"string"}},"required":["constructor"],"additionalProperties":false}',
  ) as JsonSchema
  assert.deepEqual(
    errorsOf(schema, {}).map((e) => e.pointer),
    ['/constructor'],
  )
  assert.deepEqual(
    errorsOf(schema, JSON.parse('{"__proto__":1,"constructor":1,"toString":"x"}')).map((e) => e.pointer),
    ['/__proto__', '/constructor'],
  )
})

test('pointers are RFC 6901', () => {
  assert.deepEqual(
    errorsOf({ type: 'object', additionalProperties: { type: 'array', items: { type: 'integer' } } }, { 'a/b~c': [1, 'x'] }).map((e) => e.pointer),
    ['/a~1b~0c/1'],
  )
})

test('a query is text until its schema says otherwise', () => {
  const schema: JsonSchema = {
    type: 'object',
    properties: { n: { type: 'integer' }, flag: { type: 'boolean' }, list: { type: 'array', items: { type: 'string' } }, s: { type: 'string' } },
  }
  assert.deepEqual(
    { ...coerceQuery(schema, { n: '5', flag: '', list: ['a,b', 'c'], s: '5', other: '1' }) },
    { n: 5, flag: true, list: ['a', 'b', 'c'], s: '5', other: '1' },
  )
  assert.deepEqual({ ...coerceQuery(schema, { n: '0x5', flag: 'yes' }) }, { n: '0x5', flag: 'yes' })
  assert.deepEqual(splitList('a,,b{x=1,y=2},c\\,d,'), ['a', 'b{x=1,y=2}', 'c,d'])
})
