import assert from 'node:assert/strict'
import fs from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { checkCertificates } from '../../src/cli/doctor/certificates.ts'
import { connectionOptions, trustHint } from '../../src/cli/trust.ts'
import { bannerLines, type BannerFacts } from '../../src/cli/banner.ts'
import { loadConfig } from '../../src/core/config-resolve.ts'
import { recordedTerminal } from './fixtures/terminal.ts'
import { Certificates, type Pair } from '../support/certificates.ts'
import { without } from '../support/programs.ts'

describe('kymo doctor on certificates', { skip: without('openssl') }, () => {
  let made: Certificates
  before(() => {
    made = new Certificates()
  })
  after(() => made.remove())
  const found = (pair: Pair, nowMs = Date.now()): (readonly [string, string])[] => {
    const config = loadConfig({ flags: { 'http.tls.cert_file': pair.cert, 'http.tls.key_file': pair.key } })
    return checkCertificates(config, nowMs).map(({ check, status }) => [check, status] as const)
  }

  it('fine, near its end, not valid yet, ended, and with a key for everyone', () => {
    const pair = made.pair('doctor', { days: 20 })
    assert.deepEqual(found(pair), [['http certificate', 'ok']])
    assert.deepEqual(found(pair, Date.now() + 7 * 86_400_000), [['http certificate', 'warn']])
    assert.deepEqual(found(pair, Date.now() + 21 * 86_400_000), [['http certificate', 'fail']])
    assert.deepEqual(found(pair, Date.now() - 86_400_000), [['http certificate', 'warn']])
    fs.chmodSync(pair.key, 0o604)
    assert.deepEqual(found(pair), [
      ['http certificate', 'ok'],
      ['http key', 'warn'],
    ])
    assert.deepEqual(checkCertificates(loadConfig(), Date.now()), [])
  })
})

it('whom to trust: what is given, and what to do about what goes wrong', () => {
  assert.deepEqual(connectionOptions({}), {})
  assert.deepEqual(connectionOptions({ insecure: true }), { rejectUnauthorized: false })
  assert.throws(() => connectionOptions({ ca: '/nowhere/ca.pem' }), /--ca \/nowhere\/ca\.pem cannot be read/)
  assert.throws(() => connectionOptions({ clientCert: 'a' }), /--client-cert and --client-key are given together/)
  for (const [code, hint] of [
    ['DEPTH_ZERO_SELF_SIGNED_CERT', /--ca/],
    ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', /--ca/],
    ['ERR_TLS_CERT_ALTNAME_INVALID', /name or address/],
    ['ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED', /--client-cert/],
    ['EPROTO', /http:\/\//],
  ] as const)
    assert.match(trustHint(code) ?? '', hint, code)
  assert.equal(trustHint('ECONNREFUSED'), undefined)
})

it('the banner’s lines to send with name scheme, port and certificate', () => {
  const { colors } = recordedTerminal()
  const facts = (o: Partial<BannerFacts>): string => {
    const base = { version: '1', nodeVersion: '24', dataDir: '/d', cwd: '/', components: [], extra: [], auth: 'loopback', readyMs: 1 } as const
    return bannerLines({ ...base, http: 'http://127.0.0.1:8080', mqtt: 'mqtt://127.0.0.1:1883', ...o }, colors).join('\n')
  }
  assert.match(facts({}), /mosquitto_pub -h 127\.0\.0\.1 -t [^]*curl 127\.0\.0\.1:8080\/ingest /)
  const both = facts({ http: 'https://127.0.0.1:8080', mqtts: 'mqtts://127.0.0.1:8883', trust: { http: 'cert.pem' } })
  assert.match(
    both,
    /MQTT, TLS {3}mqtts:\/\/127\.0\.0\.1:8883[^]*mosquitto_pub -h 127\.0\.0\.1 -t [^]*curl --cacert cert\.pem https:\/\/127\.0\.0\.1:8080\/ingest /,
  )
  const only = { mqtt: 'mqtts://127.0.0.1:8883', mqtts: 'mqtts://127.0.0.1:8883' }
  assert.match(facts({ ...only, trust: { mqtt: 'cert.pem' } }), /mosquitto_pub -h 127\.0\.0\.1 --cafile cert\.pem -t /)
  assert.match(facts(only), /mosquitto_pub -h 127\.0\.0\.1 --tls-use-os-certs -t /)
})
