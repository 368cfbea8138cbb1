import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loadConfig } from '../../src/core/config-resolve.ts'
import { shown } from '../../src/core/config-value.ts'
import { configLeaves } from '../../src/core/config.ts'
import { KymoError } from '../../src/core/errors.ts'
import { Backoff } from '../../src/doors/pull/mqtt/backoff.ts'
import { configuredPull } from '../../src/doors/pull/mqtt/configured.ts'
import { besideGroup, covers, pullTopics } from '../../src/doors/pull/mqtt/filters.ts'
import { isOwnDoor, refuseOwnDoor } from '../../src/doors/pull/mqtt/own-door.ts'

function settings(env: Readonly<Record<string, string>>): ReturnType<typeof configuredPull> {
  return configuredPull(loadConfig({ env }))
}

function refusal(env: Readonly<Record<string, string>>): string {
  try {
    settings(env)
  } catch (error) {
    assert.ok(error instanceof KymoError && error.code === 'config_invalid')
    return error.message
  }
  return assert.fail('it was taken')
}

test('the wait doubles to its bound, part of it by chance, and begins anew after a good connection; a refusal waits long', () => {
  let chance = 0
  const backoff = new Backoff({ firstMs: 100, maxMs: 1_000, refusedMs: 60_000 }, { next: () => chance, uuid: () => '' })
  assert.deepEqual(
    Array.from({ length: 6 }, () => backoff.next(false)),
    [50, 100, 200, 400, 500, 500],
  )
  backoff.reset()
  chance = 0.999
  assert.ok(Math.abs(backoff.next(false) - 100) < 1)
  assert.ok(Math.abs(backoff.next(true) - 60_000) < 50)
  assert.ok(Math.abs(backoff.next(false) - 200) < 1, 'a refusal does not move the doubling')
  for (let i = 0; i < 5_000; i++) assert.ok(backoff.next(false) <= 1_000)
})

test('templates become filters; what another filter covers is left out', () => {
  const topics = pullTopics(['portfolio/telemetry', 'devices/{device}/telemetry', 'zigbee2mqtt/{device...}', '$share/kymo/t/{device}'])
  assert.deepEqual(topics.filters, ['portfolio/telemetry', 'devices/+/telemetry', 'zigbee2mqtt/#', '$share/kymo/t/+'])
  assert.equal(topics.match('t/d1').device, 'd1')
  assert.equal(topics.match('zigbee2mqtt/a/b').device, 'a/b')
  assert.equal(topics.match('elsewhere').telemetry, false)
  assert.deepEqual(pullTopics(['a/+', 'a/b', 'a/#', 'a/#', 'b']).filters, ['a/#', 'b'])
  assert.throws(() => pullTopics(['a#']), KymoError)
  assert.deepEqual(pullTopics(['a/{device}', '$share/own/b'], 'kymo').filters, ['$share/kymo/a/+', '$share/own/b'])
  assert.deepEqual(pullTopics(['a/#', '$share/g/a/b', '$share/g/c/+', '$share/g/c/d', '$share/h/c/d']).filters, [
    'a/#',
    '$share/g/c/+',
    '$share/h/c/d',
  ])
  assert.deepEqual(
    ['a/b', '$share/g/a/b'].map((filter) => besideGroup(filter, 'x')),
    ['a/b', '$share/g-x/a/b'],
  )
  for (const [wide, filter] of [
    ['#', 'a'],
    ['#', '+/b'],
    ['a/#', 'a'],
    ['a/#', 'a/+/c'],
    ['+', 'a'],
    ['+/b', 'a/b'],
    ['a/#', 'a/#'],
  ] as const)
    assert.ok(covers(wide, filter), `${wide} ${filter}`)
  for (const [wide, filter] of [
    ['a', '+'],
    ['+', '#'],
    ['#', '$SYS/x'],
    ['+/x', '$SYS/x'],
    ['a/b', 'a'],
    ['a', 'a/b'],
    ['a/+', 'a/#'],
    ['a/#', 'ab'],
  ] as const)
    assert.ok(!covers(wide, filter), `${wide} ${filter}`)
})

test('settings and the seed’s variables', () => {
  assert.equal(settings({}), undefined)
  const seed = settings({ MQTT_BROKER: 'broker', MQTT_TOPIC: 'portfolio/telemetry' })
  assert.deepEqual([seed?.address.host, seed?.address.port, seed?.topics.filters], ['broker', 1883, ['portfolio/telemetry']])
  assert.ok((settings({ MQTT_BROKER: 'broker' })?.topics.filters.length ?? 0) > 1, 'without topics: those of mqtt.topics')
  const login = settings({ KYMO_MQTT_PULL_URL: 'mqtts://u:p%40@b', KYMO_MQTT_PULL_PASSWORD: 'other' })
  assert.deepEqual([login?.address.username, login?.address.password, login?.password, login?.address.port], ['u', 'p@', 'other', 8883])

  const usual = settings({ KYMO_MQTT_PULL_URL: 'mqtt://b' })
  assert.deepEqual([usual?.version, usual?.sessionExpiryS, usual?.inflightMax], ['auto', 7 * 86_400, 16_384])
  const shared = settings({ KYMO_MQTT_PULL_URL: 'mqtt://b', KYMO_MQTT_PULL_GROUP: 'g', KYMO_MQTT_PULL_TOPICS: 'a', KYMO_MQTT_PULL_VERSION: '3.1.1' })
  assert.deepEqual([shared?.topics.filters, shared?.version], [['$share/g/a'], '3.1.1'])

  assert.match(refusal({ KYMO_MQTT_PULL_URL: 'mqtt://b', KYMO_MQTT_PULL_GROUP: 'a/b' }), /^mqtt\.pull\.group: is a name without/)
  assert.match(refusal({ KYMO_MQTT_PULL_URL: 'u:geheim@b:1883' }), /^mqtt\.pull\.url: /)
  assert.match(refusal({ KYMO_MQTT_PULL_URL: 'http://b' }), /is not an MQTT address/)
  assert.match(refusal({ KYMO_MQTT_PULL_URL: 'mqtt://b', KYMO_MQTT_PULL_CA_FILE: '/nothing' }), /mqtts:\/\/ only/)
  assert.match(refusal({ KYMO_MQTT_PULL_URL: 'mqtts://b', KYMO_MQTT_PULL_CA_FILE: '/nothing/ca.pem' }), /ca_file \/nothing\/ca\.pem cannot be read/)
  assert.match(refusal({ KYMO_MQTT_PULL_URL: 'mqtts://b', KYMO_MQTT_PULL_KEY_FILE: '/nothing' }), /go together/)
  assert.match(refusal({ KYMO_MQTT_PULL_URL: 'mqtt://b', KYMO_MQTT_PULL_TOPICS: 'a,,b' }), /^mqtt\.pull\.topics: /)
  for (const url of ['mqtt://u:geheim@b', 'mqtt://u:ge@heim@b:x', 'u:geheim@b', 'mqtt://u:geh/eim@b']) {
    assert.doesNotMatch(shown(configLeaves().find(({ name }) => name === 'mqtt.pull.url')!.schema, url), /geh?|heim/)
    try {
      settings({ KYMO_MQTT_PULL_URL: url })
    } catch (error) {
      assert.doesNotMatch(String(error), /geh?|heim/)
    }
  }
})

test('our own door is known by any of its names', async () => {
  const door = [{ host: '127.0.0.1', port: 1883 }]
  const address = { host: 'localhost', port: 1883, secure: false }
  await assert.rejects(refuseOwnDoor(address, door), /is mqtt:\/\/localhost:1883, which is Kymo's own MQTT door/)
  await assert.rejects(refuseOwnDoor({ ...address, host: '127.0.0.1' }, [{ host: 'localhost', port: 1883 }]), KymoError)
  await assert.rejects(refuseOwnDoor({ ...address, host: '0.0.0.0' }, door), KymoError)
  await assert.rejects(refuseOwnDoor({ ...address, host: '::1' }, [{ host: '0.0.0.0', port: 1883 }]), KymoError)
  await refuseOwnDoor({ ...address, port: 1884 }, door)
  await refuseOwnDoor({ ...address, host: '192.0.2.1' }, door)
  await refuseOwnDoor({ ...address, host: 'nowhere.invalid' }, door)
  assert.equal(await isOwnDoor({ address: '::ffff:127.0.0.1', port: 1883 }, door), true)
  assert.equal(await isOwnDoor({ address: '127.0.0.2', port: 1883 }, door), false)
})
