import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Principal, Scope, TokenService } from '../../src/core/services.ts'
import { peerOf } from '../../src/doors/address.ts'
import { createTokenAuthorizer } from '../../src/doors/mqtt/authorizer.ts'
import type { ConnectAnswer } from '../../src/doors/mqtt/authorizer.ts'

const known: Readonly<Record<string, readonly Scope[]>> = { tk_device: ['ingest'], tk_reader: ['read'], tk_admin: ['admin'], tk_none: [] }

const tokens: TokenService = {
  create: () => Promise.reject(new Error('not asked for here')),
  list: () => Promise.resolve([]),
  revoke: () => Promise.resolve(false),
  verify(token): Principal | undefined {
    const scopes = known[token]
    return scopes === undefined ? undefined : { tenant: 'acme', id: token, scopes: new Set(scopes) }
  },
  any: true,
}

function connect(open: boolean, username?: string, password?: string): ConnectAnswer {
  const request = { clientId: 'c', username, password: password === undefined ? undefined : Buffer.from(password), remoteAddress: '10.0.0.1' }
  return createTokenAuthorizer({ tokens, open }).connect(request)
}

test('a token is taken from the password, or from the user name', () => {
  for (const answer of [connect(false, 'anyone', 'tk_device'), connect(false, 'tk_device'), connect(false, 'tk_device', '')]) {
    assert.deepEqual(answer, { ok: true, tenant: 'acme', id: 'tk_device', clientId: 'c', mayPublish: true, maySubscribe: false })
  }
})

test('scopes decide who may publish and who may subscribe', () => {
  const may = (token: string): unknown => {
    const answer = connect(false, 'u', token)
    return answer.ok ? [answer.mayPublish, answer.maySubscribe] : answer.code
  }
  assert.deepEqual(
    [may('tk_device'), may('tk_reader'), may('tk_admin'), may('tk_none')],
    [[true, false], [false, true], [true, true], 'not_authorized'],
  )
  const authorizer = createTokenAuthorizer({ tokens, open: false })
  const device = connect(false, 'u', 'tk_device')
  assert.ok(device.ok)
  assert.deepEqual([authorizer.publish(device, 'a'), authorizer.subscribe(device, 'a')], [true, false])
})

test('closed: no credentials and wrong ones are refused, each with its code', () => {
  assert.deepEqual(connect(false), { ok: false, code: 'not_authorized' })
  assert.deepEqual(connect(false, 'u', 'p'), { ok: false, code: 'bad_credentials' })
  assert.deepEqual(connect(false, 'u', 'tk_revoked'), { ok: false, code: 'bad_credentials' })
})

test('open: whoever comes is let in, but a token that is presented must be valid', () => {
  for (const answer of [connect(true), connect(true, 'u', 'p')])
    assert.ok(answer.ok && answer.tenant === 'default' && answer.mayPublish && answer.maySubscribe)
  assert.deepEqual(connect(true, 'u', 'tk_device').ok && connect(true, 'u', 'tk_device'), connect(false, 'u', 'tk_device'))
  assert.deepEqual(connect(true, 'u', 'tk_revoked'), { ok: false, code: 'bad_credentials' })
})

test('a peer is an IPv4 address, or the network of an IPv6 address', () => {
  assert.deepEqual(['10.1.2.3', '::ffff:10.1.2.3', '2001:db8:1:2:3:4:5:6', '2001:db8:1:2::9', 'fe80::1%eth0', '::1'].map(peerOf), [
    '10.1.2.3',
    '10.1.2.3',
    '2001:db8:1:2::',
    '2001:db8:1:2::',
    'fe80::',
    '::',
  ])
})
