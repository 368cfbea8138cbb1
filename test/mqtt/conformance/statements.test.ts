import assert from 'node:assert/strict'
import { test } from 'node:test'
import { open } from './open.ts'
import { citationsOf, conformancePage, scan, statements } from './scan.ts'
import { clients3, statements3 } from './statements-3.ts'
import { clients5, statements5 } from './statements-5.ts'

test('each statement that is claimed has a test that cites it', () => {
  const tests = scan()
  const missing = Object.entries(statements).flatMap(([version, ids]) =>
    Object.keys(ids)
      .map((id) => `${version} ${id}`)
      .filter((key) => !open.has(key) && !tests.has(key)),
  )
  assert.deepEqual(missing, [], 'cite them in the name of a test, or add them to test/mqtt/conformance/open.ts')
})

test('the statements of MQTT 3.1.1 are all that appendix B of the standard has', () => {
  // By section: how many there are, numbered from 1.
  const sections =
    '1.5.3 3, 2.2.2 2, 2.3.1 7, 3.1.0 2, 3.1.2 24, 3.1.3 11, 3.1.4 5, 3.2.0 1, 3.2.2 6, 3.3.1 12, 3.3.2 3, 3.3.4 1, 3.3.5 2, 3.6.1 1, 3.8.1 1, 3.8.3 4, ' +
    '3.8.4 6, 3.9.3 2, 3.10.1 1, 3.10.3 2, 3.10.4 6, 3.12.4 1, 3.14.1 1, 3.14.4 3, 4.1.0 2, 4.3.1 1, 4.3.2 2, 4.3.3 2, 4.4.0 1, 4.5.0 2, 4.6.0 6, ' +
    '4.7.1 3, 4.7.2 1, 4.7.3 4, 4.8.0 2, 6.0.0 4, 7.0.0 2, 7.1.1 1, 7.1.2 1'
  const all = sections.split(', ').flatMap((entry) => {
    const [section, count] = entry.split(' ')
    return Array.from({ length: Number(count) }, (_, i) => `${section}-${i + 1}`)
  })
  assert.deepEqual([...Object.keys(statements3), ...clients3].toSorted(), all.toSorted())
})

test('the statements of MQTT 5 are all that appendix B of the standard has', () => {
  // As above; 2.2.1 begins with 2.
  const sections =
    '1.5.4 3, 1.5.5 1, 1.5.7 1, 2.1.3 1, 2.2.1 6, 2.2.2 1, 3.1.0 2, 3.1.2 30, 3.1.3 12, 3.1.4 6, 3.2.0 2, 3.2.2 22, 3.3.1 13, 3.3.2 20, 3.3.4 10, ' +
    '3.4.2 3, 3.5.2 3, 3.6.1 1, 3.6.2 3, 3.7.2 3, 3.8.1 1, 3.8.3 5, 3.8.4 8, 3.9.2 2, 3.9.3 2, 3.10.1 1, 3.10.3 2, 3.10.4 6, 3.11.2 2, 3.11.3 2, ' +
    '3.12.4 1, 3.14.0 1, 3.14.1 1, 3.14.2 4, 3.14.4 3, 3.15.1 1, 3.15.2 3, 4.1.0 2, 4.2.0 1, 4.3.1 1, 4.3.2 5, 4.3.3 13, 4.4.0 2, 4.5.0 2, 4.6.0 6, ' +
    '4.7.0 1, 4.7.1 2, 4.7.2 1, 4.7.3 4, 4.8.2 6, 4.9.0 3, 4.12.0 7, 4.12.1 2, 4.13.1 1, 4.13.2 1, 6.0.0 4'
  const all = sections.split(', ').flatMap((entry) => {
    const [section, count] = entry.split(' ')
    return Array.from({ length: Number(count) }, (_, i) => `${section}-${i + 1}`)
  })
  const ours = [...Object.keys(statements5), ...Object.keys(clients5)]
  assert.equal(ours.length, 251)
  assert.deepEqual(ours.toSorted(), all.filter((id) => id !== '2.2.1-1').toSorted())
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
  // Of clients in 3.1.1, of a Server Keep Alive in 5: neither file may claim the other's.
  assert.deepEqual(keysOf('five-a.test.ts', name('[MQTT-3.3.5-2]')), [])
  assert.deepEqual(keysOf('a.test.ts', name('[MQTT-3.14.4-2]')), [])
  // A case within a test counts for the test, a comment does not.
  const cases = `test('all', () => {\n  // [MQTT-2.2.2-1]\n  const wrong = [['MQTT-2.2.2-2, reserved bits', 1]]\n})`
  assert.deepEqual(keysOf('a.test.ts', cases), ['3.1.1 2.2.2-2 all'])
})

test('the page has a line for each statement', () => {
  const page = conformancePage('', open)
  for (const ids of Object.values(statements)) for (const id of Object.keys(ids)) assert.ok(page.includes(`| MQTT-${id} |`))
})
