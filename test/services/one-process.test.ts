import assert from 'node:assert/strict'
import process from 'node:process'
import { describe, it } from 'node:test'
import { deadLetters, eventually, readings, settled, status } from '../support/api.ts'
import { testPrefix } from '../support/kafka.ts'
import { RawMqtt } from '../support/mqtt-client.ts'
import { newSchema } from '../support/postgres-stores.ts'
import { RunningServer } from '../support/server.ts'

const database = process.env['KYMO_TEST_POSTGRES_URL']
const kafka = process.env['KYMO_TEST_KAFKA_URL']

interface Answer {
  readonly status: number
  readonly json: Record<string, unknown>
}

async function ask(base: string, request: string, body?: unknown): Promise<Answer> {
  const [method = 'GET', path = ''] = request.split(' ')
  const sent =
    body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body), headers: { 'content-type': 'application/json' } }
  const answer = await fetch(new URL(path, base), { method, ...sent })
  return { status: answer.status, json: JSON.parse((await answer.text()) || '{}') as Record<string, unknown> }
}

/** What a server does for its users, whatever is behind it. */
async function serves(server: RunningServer): Promise<void> {
  const { http } = server
  assert.equal((await ask(http, 'POST /ingest', { device_id: 'a', temperature_c: 25.5, humidity: 60 })).status, 200)
  const client = await RawMqtt.connect({ port: server.mqttPort, clientId: 'sender' })
  const acknowledged = new Promise<void>((resolve) => (client.onPuback = () => resolve()))
  client.publish({ topic: 'portfolio/telemetry', payload: '{"device_id":"b","temperature":21.5,"firmware":"1.0"}', qos: 1, packetId: 1 })
  await acknowledged
  client.destroy()
  assert.equal((await ask(http, 'POST /api/v1/telemetry', '{"device":"x"')).status, 400)
  await settled(http)
  assert.deepEqual((await readings(http, {})).map(({ device, metric, value }) => [device, metric, value]).toSorted(), [
    ['a', 'humidity', 60],
    ['a', 'temperature', 25.5],
    ['b', 'temperature', 21.5],
  ])
  const latest = await eventually(async () => {
    const { json } = await ask(http, 'GET /api/v1/latest')
    return (json['items'] as unknown[]).length === 3 ? json : undefined
  })
  assert.ok(latest)
  assert.deepEqual((await ask(http, 'GET /api/v1/devices/b')).json['attributes'], { firmware: '1.0' })
  const [letter] = await deadLetters(http)
  assert.equal(letter?.code, 'body_not_json')
  const replay = await ask(http, 'POST /api/v1/dead-letters/replay', { ids: [letter!.id] })
  assert.deepEqual([replay.json['replayed'], replay.json['failed']], [0, 1], 'it fails again, and is a new letter')
  // An erasure is a record in the log, met by every consumer at its place.
  const { json: erasure } = await ask(http, 'DELETE /api/v1/devices/a/data')
  await eventually(async () => ((await ask(http, `GET /api/v1/erasures/${String(erasure['id'])}`)).json['state'] === 'done' ? true : undefined))
  assert.deepEqual(await readings(http, { device: 'a' }), [])
  assert.equal((await ask(http, 'GET /api/v1/devices/a')).status, 404)
  for (const [request, body] of [
    ['POST /api/v1/sql', { sql: 'SELECT 1' }],
    ['POST /api/v1/snapshots', {}],
  ] as const) {
    const { status: code, json } = await ask(http, request, body)
    assert.deepEqual([code, json['code']], [501, 'not_offered'], request)
  }
}

if (database === undefined || kafka === undefined) {
  describe(
    'one process on other engines',
    { skip: 'KYMO_TEST_POSTGRES_URL and KYMO_TEST_KAFKA_URL are not set (npm run test:services)' },
    () => undefined,
  )
} else {
  void describe('one process on other engines', { timeout: 240_000 }, () => {
    for (const [name, log] of [
      ['Kafka and PostgreSQL', { KYMO_LOG_URL: kafka, KYMO_KAFKA_PREFIX: testPrefix(), KYMO_KAFKA_PARTITIONS: '3' }],
      ['the embedded log and PostgreSQL', {}],
    ] as const) {
      void it(`${name}: telemetry in, questions, dead letters, erasures, and all of it again after a kill`, async () => {
        const schema = newSchema(database)
        const env = { ...log, KYMO_STORE_URL: schema.location, KYMO_META_URL: schema.location }
        let server = await RunningServer.start({ env, readyWithinMs: 90_000 })
        try {
          await serves(server)
          await server.kill()
          server = await server.restart()
          await settled(server.http, 90_000)
          assert.deepEqual(
            (await readings(server.http, {})).map(({ device, value }) => [device, value]),
            [['b', 21.5]],
          )
          assert.equal((await deadLetters(server.http)).length, 2)
          assert.equal((await status(server.http)).devices, 1)
        } finally {
          await server.dispose()
          await schema.remove()
        }
      })
    }
  })
}
