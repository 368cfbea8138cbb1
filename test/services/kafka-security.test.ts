import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { describe, test } from 'node:test'
import { checkKafka } from '../../src/cli/doctor/kafka.ts'
import { loadConfig } from '../../src/core/config-resolve.ts'
import type { Config } from '../../src/core/config.ts'
import { asKymoError, type Code } from '../../src/core/errors.ts'
import { kafkaAddress } from '../../src/log/kafka/configured.ts'
import type { KafkaAddress } from '../../src/log/kafka/options.ts'
import { readings, take } from '../contract/stream-log.ts'
import { testLog, testPrefix } from '../support/kafka.ts'

const { KYMO_TEST_KAFKA_TLS_URL: tls, KYMO_TEST_KAFKA_SASL_URL: sasl, KYMO_TEST_KAFKA_SASL_TLS_URL: both, KYMO_TEST_KAFKA_CA: ca } = process.env
const never = new AbortController().signal

/** An unsigned token (RFC 7515, section 6), which the test broker takes from whoever it names. */
function token(sub: string, seconds: number): string {
  const part = (json: object): string => Buffer.from(JSON.stringify(json)).toString('base64url')
  const now = Math.floor(Date.now() / 1000)
  return `${part({ alg: 'none' })}.${part({ sub, iat: now - 5, exp: now + seconds })}.`
}

function address(url: string, kafka: Partial<Config['kafka']> = {}): KafkaAddress {
  return kafkaAddress({ kafka: { ...loadConfig().kafka, ...kafka } }, url)
}

/** Writes and reads a record: by a producer, an admin, a fetcher and a member of a group, each on connections of its own. */
async function goesThrough(where: KafkaAddress): Promise<void> {
  const log = testLog(where)
  try {
    await log.write([readings('t', 'a', [1])], undefined, never)
    const kept = await take(log.reader({ topic: 't', group: 'g', start: 'committed' }), 1)
    assert.equal(kept[0]?.rows[0]?.value, 1)
  } finally {
    await log.close()
  }
}

async function refused(where: KafkaAddress, code: Code, text: RegExp): Promise<void> {
  const log = testLog(where)
  const told = (thrown: unknown): boolean => {
    const error = asKymoError(thrown)
    assert.equal(error.code, code, error.message)
    assert.match(error.message, text)
    assert.doesNotMatch(error.message, /kymo-password|wrong/)
    return true
  }
  try {
    await assert.rejects(async () => {
      await log.probe()
      await log.write([readings('t', 'a', [1])], undefined, never)
    }, told)
  } finally {
    await log.close()
  }
}

if (tls === undefined || sasl === undefined || both === undefined || ca === undefined)
  describe('Kafka with TLS and SASL', { skip: 'KYMO_TEST_KAFKA_TLS_URL is not set (npm run test:services)' }, () => undefined)
else {
  void describe('Kafka with TLS and SASL', { timeout: 120_000 }, () => {
    const secret = 'kymo-password'
    const bare = sasl.replace(/\/\/.*@/, '//')

    test('TLS with an authority of our own, and with a certificate for us', async () => {
      await goesThrough(address(tls, { ca_file: ca }))
      const { KYMO_TEST_KAFKA_CERT: cert = '', KYMO_TEST_KAFKA_KEY: key = '' } = process.env
      await goesThrough(address(tls.replace('kafkas:', 'kafka:') + '?tls=true', { ca_file: ca, cert_file: cert, key_file: key }))
    })

    test('a certificate that nobody vouches for, or the wrong protocol, is told as such', async () => {
      await refused(address(tls), 'log_unavailable', /certificate/)
      await refused(address(tls.replace('kafkas:', 'kafka:')), 'log_unavailable', /requires TLS/)
      await refused(
        address(process.env['KYMO_TEST_KAFKA_URL']!.replace('kafka:', 'kafkas:'), { ca_file: ca }),
        'log_unavailable',
        /TLS handshake failed/,
      )
    })

    for (const mechanism of ['plain', 'scram-sha-256', 'scram-sha-512'] as const) {
      test(`SASL ${mechanism}, from the URL or from settings, with and without TLS`, async () => {
        await goesThrough(address(`${sasl}?sasl=${mechanism}`))
        await goesThrough(address(both.replace(/\/\/.*@/, '//'), { ca_file: ca, sasl: mechanism, username: 'kymo', password: secret }))
        await refused(address(`${sasl.replace(secret, 'wrong')}?sasl=${mechanism}`), 'log_denied', /SASL authentication failed/)
      })
    }

    test('SASL oauthbearer, with a token from a file that is renewed', async () => {
      const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-token-')), 'token')
      try {
        fs.writeFileSync(file, `${token('kymo', -60)}\n`)
        const where = address(bare, { sasl: 'oauthbearer', token_file: file })
        await refused(where, 'log_denied', /invalid_token/)
        fs.writeFileSync(file, `${token('kymo', 60)}\n`)
        await goesThrough(where)
      } finally {
        fs.rmSync(path.dirname(file), { recursive: true })
      }
      await goesThrough(address(`${bare}?sasl=oauthbearer&token=${token('kymo', 60)}`))
    })

    test('a user without rights is told so', async () => {
      await refused(address(sasl.replace(`kymo:${secret}`, 'guest:guest-password')), 'log_denied', /authorization failed/i)
    })

    test('kymo doctor tells of the cluster, and what it refuses', async () => {
      const doctor = (where: string) => checkKafka(loadConfig({ flags: { 'log.url': where, 'kafka.prefix': testPrefix() } }))
      assert.deepEqual(
        (await doctor(`${sasl}?sasl=scram-sha-512`)).map(({ status }) => status),
        ['ok', 'warn'],
      )
      const [denied] = await doctor(sasl.replace(secret, 'wrong'))
      assert.deepEqual([denied?.status, denied?.code], ['fail', 'log_denied'])
      const prefix = testPrefix()
      const log = testLog(address(sasl), { prefix })
      await log.write([readings('telemetry', 'a', [1])], undefined, never)
      await log.close()
      const found = await checkKafka(loadConfig({ flags: { 'log.url': sasl, 'kafka.prefix': prefix } }))
      assert.deepEqual(
        found.map(({ status }) => status),
        ['ok', 'warn', 'warn', 'warn', 'warn'],
        'one copy, acknowledged by one; two groups that have read nothing of what is months old',
      )
    })

    test('who says nothing of himself where it is asked for is not let in', async () => {
      await refused(address(bare), 'log_unavailable', /./)
    })
  })
}
