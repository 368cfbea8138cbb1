import assert from 'node:assert/strict'
import { test } from 'node:test'
import { open } from './open.ts'
import { citationsOf, conformancePage, scan, statements } from './scan.ts'

test('each statement that is claimed has a test that cites it', () => {
  const tests = scan()
  const missing = Object.entries(statements).flatMap(([version, ids]) =>
    Object.keys(ids)
      .map((id) => `${version} ${id}`)
      .filter((key) => !open.has(key) && !tests.has(key)),
  )
  assert.deepEqual(missing, [], 'cite them in the name of a test, or add them to test/mqtt/conformance/open.ts')
})

test('each statement that is open is one that there is', () => {
  const known = new Set(Object.entries(statements).flatMap(([version, ids]) => Object.keys(ids).map((id) => `${version} ${id}`)))
  assert.deepEqual(
    [...open].filter((key) => !known.has(key)),
    [],
  )
})

test('citations are of the version that the file is about, or that has the number', () => {
  const name = (ids: string): string => `  test('${ids} it\\'s so', () => {})\n`
  const keysOf = (file: string, source: string): string[] => [...citationsOf(file, source).keys()]
  // Keep-alive in 3.1.1, Maximum Packet Size in 5.
  assert.deepEqual(keysOf('a.test.ts', name('[MQTT-3.1.2-24]')), ["3.1.1 3.1.2-24 [MQTT-3.1.2-24] it's so"])
  assert.deepEqual(keysOf('five-a.test.ts', name('[MQTT-3.1.2-24]')), ["5.0 3.1.2-24 [MQTT-3.1.2-24] it's so"])
  assert.equal(keysOf('a.test.ts', `// Statements of MQTT 5\n${name('[MQTT-3.1.2-24]')}`)[0]?.slice(0, 3), '5.0')
  assert.equal(keysOf('a.test.ts', name('[MQTT-4.8.2-1]'))[0]?.slice(0, 3), '5.0')
  assert.equal(keysOf('a.test.ts', name('[MQTT-6.0.0-1]')).length, 2)
  assert.equal(keysOf('a.test.ts', name('[MQTT-9.9.9-9]')).length, 0)
  // A case within a test counts for the test, a comment does not.
  const cases = `test('all', () => {\n  // [MQTT-2.2.2-1]\n  const wrong = [['MQTT-2.2.2-2, reserved bits', 1]]\n})`
  assert.deepEqual(keysOf('a.test.ts', cases), ['3.1.1 2.2.2-2 all'])
})

test('the page has a line for each statement', () => {
  const page = conformancePage('', open)
  for (const ids of Object.values(statements)) for (const id of Object.keys(ids)) assert.ok(page.includes(`| MQTT-${id} |`))
})
