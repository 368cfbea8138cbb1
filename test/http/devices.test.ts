import assert from 'node:assert/strict'
import test from 'node:test'
import { mergePatch } from '../../src/doors/http/routes/devices.ts'
import { serve } from './support.ts'
import type { Reply, Served } from './support.ts'

function patch(s: Served, id: string, body: unknown, headers: Readonly<Record<string, string>>): Promise<Reply> {
  return s.call(`/api/v1/devices/${id}`, {
    method: 'PATCH',
    headers: { 'content-type': 'application/merge-patch+json', ...headers },
    body: JSON.stringify(body),
  })
}

test('register with an id or get a UUIDv7; twice is 409', async (t) => {
  const s = await serve(t)
  const made = await s.post('/api/v1/devices', { id: 'pump-1', name: 'Pump', metadata: { floor: 2 } })
  assert.deepEqual(
    [made.status, made.headers.get('location'), made.json['device_id'], made.json['last_seen']],
    [201, '/api/v1/devices/pump-1', 'pump-1', null],
  )
  assert.deepEqual([(await s.post('/api/v1/devices', { id: 'pump-1' })).json['code']], ['already_exists'])
  const ids = [String((await s.post('/api/v1/devices', {})).json['id']), String((await s.post('/api/v1/devices', {})).json['id'])]
  for (const id of ids) assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  assert.notEqual(ids[0], ids[1])
  const ms = Number.parseInt(ids[0]!.replaceAll('-', '').slice(0, 12), 16)
  assert.ok(Math.abs(ms - Date.now()) < 60_000)
})

test('lists are paged, with the total on request', async (t) => {
  const s = await serve(t)
  for (const id of ['a', 'b', 'c']) await s.devices.create('default', { id })
  const first = await s.call('/api/v1/devices?limit=2&total')
  assert.deepEqual([(first.json['items'] as { id: string }[]).map((d) => d.id), first.json['total']], [['a', 'b'], 3])
  const second = await s.call(`/api/v1/devices?limit=2&cursor=${String(first.json['next_cursor'])}`)
  assert.deepEqual(
    [(second.json['items'] as { id: string }[]).map((d) => d.id), second.json['next_cursor'], second.json['total']],
    [['c'], null, undefined],
  )
})

test('a search goes on until its page is full, and its cursor serves no other', async (t) => {
  const s = await serve(t)
  for (let i = 0; i < 20; i++) await s.post('/api/v1/devices', { id: `d-${String(i).padStart(2, '0')}`, name: i % 5 === 4 ? `Pump ${i}` : 'fan' })
  const ids = ({ json }: { readonly json: Record<string, unknown> }): unknown[] => (json['items'] as { id: string }[]).map(({ id }) => id)
  const first = await s.call('/api/v1/devices?search=pUMP&limit=3')
  assert.deepEqual(ids(first), ['d-04', 'd-09', 'd-14'])
  const cursor = String(first.json['next_cursor'])
  const second = await s.call(`/api/v1/devices?search=pUMP&limit=3&cursor=${cursor}`)
  assert.deepEqual([ids(second), second.json['next_cursor']], [['d-19'], null])
  assert.equal((await s.call(`/api/v1/devices?limit=3&cursor=${cursor}`)).status, 400)
  assert.deepEqual(ids(await s.call('/api/v1/devices?search=nobody')), [])
  assert.equal((await s.call('/api/v1/devices?search=')).status, 400)
})

test('changes need If-Match: 428 without, 412 when stale, * for whatever it is', async (t) => {
  const s = await serve(t)
  await s.devices.create('default', { id: 'a', metadata: { keep: 1, drop: 2, deep: { x: 1 } } })
  const etag = (await s.call('/api/v1/devices/a')).headers.get('etag')!
  const none = await patch(s, 'a', { name: 'n' }, {})
  assert.deepEqual([none.status, none.json['code']], [428, 'precondition_required'])
  const changed = await patch(s, 'a', { name: 'n', metadata: { drop: null, deep: { y: 2 } } }, { 'if-match': etag })
  assert.equal(changed.status, 200)
  assert.deepEqual([changed.json['name'], changed.json['metadata']], ['n', { keep: 1, deep: { x: 1, y: 2 } }])
  assert.notEqual(changed.headers.get('etag'), etag)
  const stale = await patch(s, 'a', { name: 'm' }, { 'if-match': etag })
  assert.deepEqual([stale.status, stale.json['code']], [412, 'version_conflict'])
  assert.equal((await patch(s, 'a', { name: 'm' }, { 'if-match': `W/${changed.headers.get('etag')!}` })).status, 412)
  assert.equal((await patch(s, 'a', { name: 'm' }, { 'if-match': `"0", ${changed.headers.get('etag')!}` })).status, 200)
  assert.equal((await patch(s, 'a', { status: 'retired' }, { 'if-match': '*' })).json['status'], 'retired')
  assert.equal((await patch(s, 'none', {}, { 'if-match': '*' })).status, 404)
  assert.equal((await patch(s, 'a', { id: 'b' }, { 'if-match': '*' })).status, 400)
})

test('If-None-Match: 304 until it changes, or is seen again', async (t) => {
  const s = await serve(t)
  await s.devices.create('default', { id: 'a' })
  const etag = (await s.call('/api/v1/devices/a')).headers.get('etag')!
  const get = (tag: string): Promise<Reply> => s.call('/api/v1/devices/a', { headers: { 'if-none-match': tag } })
  assert.deepEqual(
    [(await get(etag)).status, (await get(`W/${etag}`)).status, (await get(`"x", ${etag}`)).status, (await get('"x"')).status],
    [304, 304, 304, 200],
  )
  s.devices.byId.set('a', { ...s.devices.byId.get('a')!, last_seen_us: 1_700_000_000_000_000 })
  assert.equal((await get(etag)).status, 200)
  const seen = (await s.call('/api/v1/devices/a')).headers.get('etag')!
  assert.equal((await patch(s, 'a', { name: 'n' }, { 'if-match': etag })).status, 200, 'being seen is no change')
  assert.notEqual(seen, etag)
})

test('metadata: prototype names, size and depth are bounded', async (t) => {
  const s = await serve(t)
  const proto = await s.post('/api/v1/devices', '{"id":"a","metadata":{"__proto__":{"x":1}}}')
  assert.deepEqual([proto.status, (proto.json['errors'] as { pointer: string }[])[0]!.pointer], [400, '/metadata/__proto__'])
  assert.equal((await s.post('/api/v1/devices', { id: 'a', metadata: { x: 'y'.repeat(20_000) } })).status, 400)
  assert.equal((await s.post('/api/v1/devices', `{"id":"a","metadata":{"d":${'{"d":'.repeat(10_000)}1${'}'.repeat(10_000)}}}`)).status, 422)
  assert.equal(s.devices.byId.size, 0)
  assert.equal(({} as { x?: number }).x, undefined)
})

test('RFC 7396, appendix A', () => {
  const cases: readonly (readonly [unknown, unknown, unknown])[] = [
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [
      ['a', 'b'],
      ['c', 'd'],
      ['c', 'd'],
    ],
    [{ a: 'b' }, ['c'], ['c']],
    [{ a: 'foo' }, null, null],
    [{ a: 'foo' }, 'bar', 'bar'],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [[1, 2], { a: 'b', c: null }, { a: 'b' }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ]
  for (const [target, patch, result] of cases) assert.deepEqual(mergePatch(target, patch), result)
})
