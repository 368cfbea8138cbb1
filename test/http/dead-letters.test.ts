import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { DeadLetter } from '../../src/core/services.ts'
import { serve } from './support.ts'

function letter(id: string, status: DeadLetter['status'] = 'waiting'): DeadLetter {
  return {
    id,
    time_us: 1_790_000_000_000_000,
    code: 'value_invalid',
    detail: 'no',
    errors: [],
    transport: 'mqtt',
    client: 'c',
    topic: 't',
    tenant: 'default',
    shape: 'any',
    bytes_total: 3,
    truncated: false,
    status,
    body: Buffer.from('{x}'),
  }
}

test('DELETE dismisses one letter, as often as it is asked to; a replayed one it does not', async (t) => {
  const s = await serve(t)
  s.letters.letters = [letter('3'), letter('2', 'replayed')]
  const remove = (id: string): ReturnType<typeof s.call> => s.call(`/api/v1/dead-letters/${id}`, { method: 'DELETE' })
  const first = await remove('3')
  assert.deepEqual([first.status, first.text], [204, ''])
  assert.equal((await s.call('/api/v1/dead-letters/3')).json['status'], 'dismissed')
  assert.equal((await remove('3')).status, 204)
  const settled = await remove('2')
  assert.deepEqual([settled.status, settled.json['code']], [409, 'dead_letter_settled'])
  const absent = await remove('9')
  assert.deepEqual([absent.status, absent.json['code']], [404, 'not_found'])
  assert.equal((await remove('x')).status, 400)
  s.letters.letters = [letter('4')]
  s.letters.dismissFails = 'disk_full'
  const failed = await remove('4')
  assert.deepEqual([failed.status, failed.json['code']], [503, 'disk_full'])
})

test('many are dismissed by id, or all that wait', async (t) => {
  const s = await serve(t)
  s.letters.letters = [letter('3'), letter('2'), letter('1')]
  const some = await s.post('/api/v1/dead-letters/dismiss', { ids: ['3'] })
  assert.deepEqual([some.status, some.json], [200, { dismissed: 1, failed: 0, results: [{ id: '3', ok: true }] }])
  const all = await s.post('/api/v1/dead-letters/dismiss', { all: true })
  assert.equal(all.json['dismissed'], 2)
  for (const body of [{}, { ids: ['1'], all: true }, { ids: [] }, { ids: ['x'] }, { all: false }])
    assert.equal((await s.post('/api/v1/dead-letters/dismiss', body)).status, 400, JSON.stringify(body))
})

test('who may only read or send may not dismiss', async (t) => {
  const s = await serve(t, { auth: 'token' })
  s.letters.letters = [letter('3')]
  const token = async (...scopes: ('read' | 'ingest' | 'admin')[]): Promise<Record<string, string>> => ({
    authorization: `Bearer ${(await s.tokens.create({ name: 'n', scopes })).token}`,
  })
  for (const headers of [await token('read'), await token('ingest')]) {
    assert.equal((await s.call('/api/v1/dead-letters/3', { method: 'DELETE', headers })).status, 403)
    assert.equal((await s.post('/api/v1/dead-letters/dismiss', { all: true }, headers)).status, 403)
  }
  assert.equal((await s.call('/api/v1/dead-letters/3', { method: 'DELETE' })).status, 401)
  assert.equal((await s.call('/api/v1/dead-letters/3', { method: 'DELETE', headers: await token('admin') })).status, 204)
})
