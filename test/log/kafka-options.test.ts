import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { describe, test } from 'node:test'
import { kafkaErrors } from '../../src/core/config-kafka.ts'
import { loadConfig } from '../../src/core/config-resolve.ts'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { asKymoError } from '../../src/core/errors.ts'
import { kafkaAddress, kafkaDocumentOptions, kafkaLogOptions } from '../../src/log/kafka/configured.ts'
import { parseKafkaUrl } from '../../src/log/kafka/options.ts'

const config = (flags: Record<string, unknown> = {}) => loadConfig({ flags })
const env = nodeEnv(silentLogger)

/** What is told of settings that are wrong. */
function refusal(task: () => unknown): string {
  try {
    task()
  } catch (thrown) {
    const { code, message } = asKymoError(thrown)
    return `${code} ${message}`
  }
  return assert.fail('it was taken')
}

void describe('addresses of Kafka', () => {
  test('name brokers, with and without ports', () => {
    assert.deepEqual(parseKafkaUrl('kafka://one,two:9093,[::1]:1/'), {
      brokers: [
        { host: 'one', port: 9092 },
        { host: 'two', port: 9093 },
        { host: '::1', port: 1 },
      ],
    })
  })

  test('say whether TLS is spoken', () => {
    assert.deepEqual(parseKafkaUrl('kafkas://a').tls, {})
    assert.deepEqual(parseKafkaUrl('kafka://a?tls=true').tls, {})
    assert.equal(parseKafkaUrl('kafka://a?tls=false').tls, undefined)
    assert.match(
      refusal(() => parseKafkaUrl('kafkas://a?tls=false')),
      /tls=false forbids it/,
    )
    assert.match(
      refusal(() => parseKafkaUrl('kafka://a?tls=yes')),
      /true or false/,
    )
  })

  test('say who we are', () => {
    assert.deepEqual(parseKafkaUrl('kafka://u%40x:p%2F@a').sasl, { mechanism: 'PLAIN', username: 'u@x', password: 'p/' })
    assert.equal(parseKafkaUrl('kafka://u:p@a?sasl=SCRAM-sha-512').sasl?.mechanism, 'SCRAM-SHA-512')
    assert.deepEqual(parseKafkaUrl('kafka://a?sasl=oauthbearer&token=t').sasl, { mechanism: 'OAUTHBEARER', token: 't' })
    assert.equal(parseKafkaUrl('kafka://a').sasl, undefined)
  })

  test('that are wrong are told with the setting, and never with the password', () => {
    for (const [url, text] of [
      ['http://a', /no address of Kafka/],
      ['kafka://a:0', /"a:0" is no host:port/],
      ['kafka://u:secret@a?sasl=md5', /sasl must be one of plain/],
      ['kafka://u@a', /sasl=plain needs user:password@/],
      ['kafka://u:secret@a?acks=1', /"acks" is not known; sasl, tls, token are/],
      ['kafka://%zz:secret@a', /percent-encoded/],
      ['kafka://a?sasl=oauthbearer', /needs a token/],
    ] as const) {
      const told = refusal(() => parseKafkaUrl(url, 'kafka.pull.url'))
      assert.match(told, text)
      assert.match(told, /^config_invalid kafka\.pull\.url: /)
      assert.doesNotMatch(told, /secret/)
    }
  })
})

void describe('settings of Kafka', () => {
  test('fill what the address of the log leaves out, and nothing that it says', () => {
    const { kafka } = config({ 'kafka.sasl': 'scram-sha-256', 'kafka.username': 'u', 'kafka.password': 'p' })
    assert.deepEqual(kafkaAddress({ kafka }, 'kafka://a').sasl, { mechanism: 'SCRAM-SHA-256', username: 'u', password: 'p' })
    assert.deepEqual(kafkaAddress({ kafka }, 'kafka://v:q@a?sasl=plain').sasl, { mechanism: 'PLAIN', username: 'v', password: 'q' })
  })

  test('give no other cluster the user and password of the log', () => {
    const both = config({ 'log.url': 'kafka://a', 'kafka.username': 'u', 'kafka.password': 'p', 'kafka.pull.url': 'kafka://b' })
    assert.equal(kafkaDocumentOptions(env, both, 'kafka.pull.url').address.sasl, undefined)
    const { address, prefix } = kafkaDocumentOptions(env, both, 'kafka.publish.url')
    assert.deepEqual([address.brokers[0]?.host, address.sasl?.username, prefix], ['a', 'u', ''])
    assert.match(
      refusal(() => kafkaDocumentOptions(env, config(), 'kafka.publish.url')),
      /kafka\.publish\.url: no address/,
    )
  })

  test('name files that are read, and told when they are not there or for nothing', () => {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-kafka-'))
    try {
      const file = path.join(dir, 'ca.pem')
      fs.writeFileSync(file, 'PEM')
      assert.deepEqual(kafkaAddress(config({ 'kafka.ca_file': file }), 'kafkas://a').tls, { ca: 'PEM' })
      assert.match(
        refusal(() => kafkaAddress(config({ 'kafka.ca_file': file }), 'kafka://a')),
        /log\.url needs kafkas:\/\//,
      )
      assert.match(
        refusal(() => kafkaAddress(config({ 'kafka.cert_file': file }), 'kafkas://a')),
        /belong together/,
      )
      assert.match(
        refusal(() => kafkaAddress(config({ 'kafka.ca_file': `${file}x` }), 'kafkas://a')),
        /^tls_file_unreadable kafka\.ca_file: .*ca\.pemx/,
      )
    } finally {
      fs.rmSync(dir, { recursive: true })
    }
  })

  test('say how topics are made', () => {
    const options = kafkaLogOptions(env, config({ 'kafka.partitions': 4, 'kafka.retention': '7d' }), 'kafka://a')
    assert.ok(typeof options.partitions === 'function')
    assert.deepEqual([options.partitions('telemetry'), options.partitions('dead-letters'), options.retentionMs], [4, 1, 7 * 86_400_000])
    assert.equal(kafkaLogOptions(env, config({ 'kafka.retention': '' }), 'kafka://a').retentionMs, -1)
  })

  test('refuse to publish into a topic that is taken', () => {
    const same = { 'kafka.pull.topics': 'a, b', 'kafka.publish.topic': 'b' }
    assert.match(kafkaErrors(config(same))[0]?.detail ?? '', /written there once more/)
    assert.deepEqual(kafkaErrors(config({ ...same, 'kafka.publish.url': 'kafka://other' })), [])
    assert.deepEqual(kafkaErrors(config({ ...same, 'kafka.publish.topic': 'c' })), [])
  })
})
