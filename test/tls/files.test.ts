import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import { after, before, describe, it } from 'node:test'
import type { Env, Logger } from '../../src/core/env.ts'
import { KymoError } from '../../src/core/errors.ts'
import { Metrics } from '../../src/core/metrics.ts'
import { openCertificates } from '../../src/doors/tls/certificates.ts'
import { daysLeft, readCertificate, type TlsFiles } from '../../src/doors/tls/files.ts'
import { limits } from '../../src/core/limits.ts'
import { TestClock } from '../support/test-clock.ts'
import { Certificates, type Pair } from '../support/certificates.ts'
import { without } from '../support/programs.ts'

function filesOf(pair: Pair, caFile = ''): TlsFiles {
  return { setting: 'http.tls', certFile: pair.cert, keyFile: pair.key, caFile, minVersion: 'TLSv1.2' }
}

describe('certificates from files', { skip: without('openssl') }, () => {
  let made: Certificates
  before(() => {
    made = new Certificates()
  })
  after(() => made.remove())

  const refused = (files: TlsFiles, code: string, text: RegExp): void => {
    assert.throws(
      () => readCertificate(files, Date.now()),
      (error) => {
        assert.ok(error instanceof KymoError)
        assert.equal(error.code, code, error.message)
        assert.match(error.message, text)
        return true
      },
    )
  }

  it('reads a pair, signed by an authority or by itself, with keys of either kind', () => {
    const pair = made.pair('good', { days: 20 })
    const read = readCertificate(filesOf(pair, pair.ca), Date.now())
    assert.deepEqual([read.subject, read.selfSigned, read.worldReadable], ['CN=good', false, []])
    assert.equal(Math.round(daysLeft(read, Date.now())), 20)
    assert.match(read.fingerprint, /^(?:[0-9A-F]{2}:){31}[0-9A-F]{2}$/)
    assert.equal(readCertificate(filesOf(made.selfSigned('own')), Date.now()).selfSigned, true)
  })

  it('refuses what cannot work, and names setting, file and reason', () => {
    const [one, two, ended] = [made.pair('one'), made.pair('two'), made.pair('ended', { days: -2 })]
    refused(filesOf({ ...one, key: two.key }), 'tls_key_mismatch', /^http\.tls\.key_file: .*two\.key is not the key of .*one\.pem \(CN=one\)/)
    refused(filesOf(ended), 'tls_expired', /^http\.tls\.cert_file: .*ended\.pem \(CN=ended\) has expired on 20/)
    refused(filesOf({ ...one, cert: made.file('none.pem') }), 'tls_file_unreadable', /cert_file: .*none\.pem cannot be read: ENOENT/)
    refused(filesOf({ ...one, cert: made.dir }), 'tls_file_unreadable', /it is no file/)
    refused(filesOf({ ...one, cert: one.key }), 'tls_not_pem', /cert_file: .*one\.key holds no certificate in PEM: it holds a private key/)
    refused(filesOf({ ...one, key: one.cert }), 'tls_not_pem', /key_file: .*one\.pem holds no private key in PEM: it holds a certificate/)
    const write = (name: string, text: string | Buffer): string => {
      fs.writeFileSync(made.file(name), text)
      return made.file(name)
    }
    refused(filesOf({ ...one, cert: write('empty.pem', '') }), 'tls_not_pem', /it is empty/)
    refused(filesOf(one, write('ca.der', Buffer.from([0x30, 0x82]))), 'tls_not_pem', /ca_file: .*ca\.der holds no certificate/)
    const torn = fs.readFileSync(one.cert, 'latin1').replace(/\n.{10}/, '\nAAAAAAAAAA')
    refused(filesOf({ ...one, cert: write('torn.pem', torn) }), 'tls_not_pem', /cannot be read/)
    refused(filesOf({ ...one, cert: write('large.pem', Buffer.alloc(limits.tlsFileBytesMax + 1)) }), 'tls_file_unreadable', /larger than/)
    execFileSync('openssl', ['pkey', '-in', one.key, '-aes256', '-passout', 'pass:x', '-out', made.file('locked.key')])
    refused(filesOf({ ...one, key: made.file('locked.key') }), 'tls_not_pem', /has a passphrase; store it without: openssl pkey/)
  })

  it('tells of a key that everyone may read', () => {
    const pair = made.pair('open')
    fs.chmodSync(pair.key, 0o644)
    assert.deepEqual(readCertificate(filesOf(pair), Date.now()).worldReadable, [pair.key])
    fs.chmodSync(pair.key, 0o640)
    assert.deepEqual(readCertificate(filesOf(pair), Date.now()).worldReadable, [])
  })

  describe('kept up to date', () => {
    interface Kept {
      readonly clock: TestClock
      readonly env: Env
      readonly metrics: Metrics
      readonly said: string[]
    }
    /** A clock that begins now: certificates have dates. */
    class Now extends TestClock {
      readonly #from = Date.now() * 1e3 - super.nowUs()
      override nowUs(): number {
        return super.nowUs() + this.#from
      }
    }
    const kept = (): Kept => {
      const said: string[] = []
      const logger: Logger = {
        debug() {},
        info() {},
        warn: (text) => void said.push(`warn ${text}`),
        error: (text) => void said.push(`error ${text}`),
        child: () => logger,
      }
      const clock = new Now()
      return { clock, said, metrics: new Metrics(), env: { clock, logger, random: { next: () => 0, uuid: () => '' }, disk: undefined as never } }
    }
    const value = (metrics: Metrics, name: string): number => {
      const family = metrics.families.get(name)
      family?.collect?.()
      const [entry] = family?.cells.values() ?? []
      return entry !== undefined && 'value' in entry.cell ? entry.cell.value : Number.NaN
    }

    it('takes a new pair over at the next look, and no half of one', () => {
      const [first, second] = [made.pair('first'), made.pair('second')]
      const { clock, env, metrics, said } = kept()
      const used: unknown[] = []
      const keeper = openCertificates('http', filesOf(first), env, metrics)
      keeper.onChange((context) => void used.push(context.cert))
      clock.advance(10 * limits.tlsPollMs)
      assert.deepEqual([used.length, said], [0, []])

      const newer = fs.readFileSync(second.cert, 'latin1')
      fs.writeFileSync(first.cert, newer)
      clock.advance(limits.tlsPollMs)
      assert.equal(used.length, 0)
      assert.equal(keeper.current.subject, 'CN=first')
      assert.match(
        said.join('\n'),
        /^error The certificate on disk is not used, the one before stays: http\.tls\.key_file: .* \(kymo explain KYMO-E112\)$/,
      )
      assert.equal(value(metrics, 'kymo_tls_reload_failures_total'), 1)
      assert.match(keeper.component().detail ?? '', /^CN=first until .*; the one on disk is not used: .* \[KYMO-E112\]$/)
      assert.equal(keeper.component().ok, true)
      clock.advance(5 * limits.tlsPollMs)
      assert.equal(said.length, 1, 'what has not changed is not told again')

      fs.copyFileSync(second.key, first.key)
      clock.advance(limits.tlsPollMs)
      assert.deepEqual(used, [newer])
      assert.equal(keeper.current.subject, 'CN=second')
      assert.doesNotMatch(keeper.component().detail ?? '', /not used/)
      assert.equal(value(metrics, 'kymo_tls_reloads_total'), 1)
      keeper.stop()
      assert.equal(clock.timers, 0)
    })

    it('a reload reads at once and says what came of it', () => {
      const [first, second, ended] = [made.pair('now'), made.pair('then'), made.pair('late', { days: -2 })]
      const { env, metrics } = kept()
      const keeper = openCertificates('mqtt', filesOf(first), env, metrics)
      assert.deepEqual([keeper.reload().changed, keeper.reload().error], [false, undefined])
      made.replace(first, second)
      assert.deepEqual([keeper.reload().changed, keeper.reload().subject], [true, 'CN=then'])
      made.replace(first, ended)
      const refusedReload = keeper.reload()
      assert.deepEqual([refusedReload.changed, refusedReload.subject, refusedReload.error?.code], [false, 'CN=then', 'tls_expired'])
      fs.rmSync(first.cert)
      assert.equal(keeper.reload().error?.code, 'tls_file_unreadable')
      keeper.stop()
    })

    it('warns once a day of the end, and says that it has come', () => {
      const { clock, env, metrics, said } = kept()
      const keeper = openCertificates('http', filesOf(made.pair('short', { days: 15 })), env, metrics)
      assert.ok(Math.abs(value(metrics, 'kymo_tls_certificate_expiry_days') - 15) < 0.1)
      const daysOn = (days: number): void => {
        for (let i = 0; i < days * 24 * 60; i++) clock.advance(limits.tlsPollMs)
      }
      assert.deepEqual(said, [])
      daysOn(3)
      assert.ok(said.length >= 2 && said.length <= 4, said.join('\n'))
      assert.match(said[0] ?? '', /^warn The certificate ends on .*, in 13 days\. Renew .*short\.pem$/)
      daysOn(13)
      assert.match(said.at(-1) ?? '', /^error The certificate has expired on /)
      assert.ok(value(metrics, 'kymo_tls_certificate_expiry_days') < 0)
      assert.equal(keeper.component().ok, false)
      keeper.stop()
    })
  })
})
