import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Principal, Scope, TokenService } from '../../src/core/services.ts'
import { peerOf } from '../../src/doors/address.ts'
import { namesOf } from '../../src/doors/mqtt/certificate-names.ts'
import { createTokenAuthorizer } from '../../src/doors/mqtt/authorizer.ts'
import type { ConnectAnswer, ConnectRequest } from '../../src/doors/mqtt/authorizer.ts'

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

function asked(username?: string, password?: string): ConnectRequest {
  return { clientId: 'c', assigned: false, username, password: password === undefined ? undefined : Buffer.from(password), remoteAddress: '10.0.0.1' }
}

function answerOf(answer: ConnectAnswer | Promise<ConnectAnswer>): ConnectAnswer {
  assert.ok(!(answer instanceof Promise))
  return answer
}

function connect(open: boolean, username?: string, password?: string): ConnectAnswer {
  return answerOf(createTokenAuthorizer({ tokens, open }).connect(asked(username, password)))
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
  assert.deepEqual([authorizer.publish(device, 'a', false), authorizer.subscribe(device, 'a')], [true, false])
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

test('only passwords that a person chose are slowed by account: a token cannot be guessed, and where none is asked for there is nothing to guess', () => {
  const closed = createTokenAuthorizer({ tokens, open: false })
  const accounts = [asked('ada', 'secret'), asked('ada', 'tk_x'), asked('tk_x'), asked()].map((request) => closed.account?.(request))
  assert.deepEqual(accounts, ['ada', undefined, undefined, undefined])
  assert.equal(createTokenAuthorizer({ tokens, open: true }).account?.(asked('ada', 'secret')), undefined)
})

test('a certificate lets its owner in, under its name only', () => {
  const authorizer = createTokenAuthorizer({ tokens, open: false, identity: 'cn' })
  const shown = (subject: string, more: Partial<ConnectRequest> = {}): ConnectAnswer =>
    answerOf(
      authorizer.connect({
        ...asked(),
        clientId: 'sensor-7',
        certificate: { subject, altNames: undefined, serialNumber: '1', fingerprint: 'f' },
        ...more,
      }),
    )
  const letIn = { ok: true, tenant: 'default', id: 'certificate:sensor-7', clientId: 'sensor-7', mayPublish: true, maySubscribe: true }
  assert.deepEqual(shown('O=Example\nCN=sensor-7'), letIn)
  assert.deepEqual(shown('CN=sensor-7', { clientId: 'auto-1', assigned: true }), letIn)
  const other = shown('CN=sensor-8')
  assert.equal(other.ok ? '' : other.code, 'client_id')
  for (const subject of ['O=Example', 'CN=', 'CN=sensor-7\nCN=sensor-8', 'O=a, CN=sensor-7', 'OU=x\\0ACN=sensor-7']) {
    const none = shown(subject)
    assert.equal(none.ok ? '' : none.code, 'not_authorized', subject)
  }
  // A token beside it decides what its bearer may do; the name stays the certificate's.
  const device = shown('CN=sensor-7', { password: Buffer.from('tk_device') })
  assert.deepEqual([device.ok && device.id, device.ok && device.maySubscribe], ['tk_device', false])
  assert.equal(shown('CN=sensor-8', { password: Buffer.from('tk_admin') }).ok, false)
  assert.equal(shown('CN=sensor-7', { password: Buffer.from('tk_revoked') }).ok, false)
  // Without one, all is as without the setting.
  assert.equal(answerOf(authorizer.connect(asked())).ok, false)
  assert.equal(connect(false).ok, false)
})

test('names in certificates are read as they were written', () => {
  const names = (subject: string, altNames: string | undefined, identity: 'cn' | 'san'): readonly string[] =>
    namesOf({ subject, altNames, serialNumber: '1', fingerprint: 'f' }, identity)
  assert.deepEqual(names('O=Ex\nOU=b + CN=sen\\+sor\\, \\"7\\"\\C3\\BC', undefined, 'cn'), ['sen+sor, "7"\u00fc'])
  const alternatives = 'URI:urn:dev:7, DNS:a.example, IP Address:1.2.3.4, email:x@y, DNS:"q, DNS:admin", othername:<unsupported>'
  assert.deepEqual(names('CN=x', alternatives, 'san'), ['urn:dev:7', 'a.example', 'x@y', 'q, DNS:admin'])
  assert.deepEqual(names('CN=x', undefined, 'san'), [])
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
