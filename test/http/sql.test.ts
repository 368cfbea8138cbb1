import assert from 'node:assert/strict'
import test from 'node:test'
import { KymoError } from '../../src/core/errors.ts'
import type { SqlRows } from '../../src/core/sql.ts'
import { serve } from './support.ts'

const rows: SqlRows = {
  columns: [
    { name: 'device', type: 'VARCHAR' },
    { name: 'x', type: 'DOUBLE' },
    { name: 'list', type: 'INTEGER[]' },
  ],
  rows: 3,
  values: [
    ['a', '=1+1', 'quo"ted,\n'],
    [1.5, null, -2],
    [[1, 2], null, []],
  ],
}

const post = (body: unknown, headers: Record<string, string> = {}) => ({
  method: 'POST',
  body: JSON.stringify(body),
  headers: { 'content-type': 'application/json', ...headers },
})

test('rows come as JSON, NDJSON and CSV, by format or Accept', async (t) => {
  const s = await serve(t)
  s.store.sqlAnswer = rows
  const json = await s.call('/api/v1/sql', post({ sql: 'SELECT 1', params: [1, 'a', null, true], limit: 5 }))
  assert.deepEqual(JSON.parse(json.text), {
    columns: rows.columns,
    rows: [
      ['a', 1.5, [1, 2]],
      ['=1+1', null, null],
      ['quo"ted,\n', -2, []],
    ],
    row_count: 3,
    truncated: false,
  })
  const { nowUs, ...asked } = s.store.sqlAsked[0]!
  assert.deepEqual(asked, { tenant: 'default', sql: 'SELECT 1', parameters: [1, 'a', null, true], limit: 5 })
  assert.ok(Math.abs(nowUs - Date.now() * 1e3) < 60e6)
  const ndjson = await s.call('/api/v1/sql', post({ sql: 'SELECT 1' }, { accept: 'application/x-ndjson' }))
  assert.equal(ndjson.text.split('\n')[0], '{"device":"a","x":1.5,"list":[1,2]}')
  const csv = await s.call('/api/v1/sql', post({ sql: 'SELECT 1', format: 'csv' }))
  assert.equal(csv.text, 'device,x,list\r\na,1.5,"[1,2]"\r\n\'=1+1,,\r\n"quo""ted,\n",-2,[]\r\n')
})

test('an answer that was cut says by what', async (t) => {
  const s = await serve(t)
  for (const truncated of ['rows', 'bytes'] as const) {
    s.store.sqlAnswer = { ...rows, truncated }
    const json = JSON.parse((await s.call('/api/v1/sql', post({ sql: 'SELECT 1' }))).text) as Record<string, unknown>
    assert.deepEqual([json['truncated'], json['truncated_by']], [true, truncated])
    assert.equal((await s.call('/api/v1/sql', post({ sql: 'SELECT 1', format: 'ndjson' }))).headers.get('x-truncated'), 'true')
  }
})

test('devices are handed over when a statement needs them, and only then', async (t) => {
  const s = await serve(t)
  for (let i = 0; i < 3; i++) await s.devices.create('default', { id: `d${i}` })
  s.devices.byId.set('d1', { ...s.devices.byId.get('d1')!, attributes: { firmware: '2.0', location: 'hall' }, last_seen_us: 5 })
  await s.call('/api/v1/sql', post({ sql: 'SELECT 1' }))
  assert.equal(s.store.sqlAsked.length, 1)
  await s.call('/api/v1/sql', post({ sql: 'SELECT * FROM devices' }))
  const { devices } = s.store.sqlAsked[2]!
  assert.deepEqual(devices?.device, ['d0', 'd1', 'd2'])
  assert.deepEqual(devices.firmware, [null, '2.0', null])
  assert.deepEqual(devices.location, [null, 'hall', null])
  assert.deepEqual(devices.lastSeenUs, [null, 5, null])
  assert.equal(devices.attributes[1], '{"firmware":"2.0","location":"hall"}')
})

test('a statement that takes too long is answered with its code', async (t) => {
  const s = await serve(t, { limits: { queryDeadlineMs: 50 } })
  s.store.sql = () => new Promise(() => undefined)
  const late = await s.call('/api/v1/sql', post({ sql: 'SELECT 1' }))
  assert.equal(late.status, 503)
  assert.match(late.text, /query_deadline/)
  s.store.sql = () => Promise.reject(new KymoError('sql_refused', { detail: 'No.' }))
  assert.equal((await s.call('/api/v1/sql', post({ sql: 'SELECT 1' }))).status, 422)
})
