import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { after, before, describe, test } from 'node:test'
import { Admin, Consumer, Producer } from '@platformatic/kafka'
import { loadConfig } from '../../src/core/config-resolve.ts'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { startServer, type RunningServer } from '../../src/roles/server.ts'
import { readings, take } from '../contract/stream-log.ts'
import { readings as stored, settled } from '../support/api.ts'
import { testLog, testPrefix, until } from '../support/kafka.ts'

const url = process.env['KYMO_TEST_KAFKA_URL']

type Json = Record<string, unknown>

if (url === undefined) describe('Kafka: topics of others', { skip: 'KYMO_TEST_KAFKA_URL is not set (npm run test:services)' }, () => undefined)
else {
  void describe('Kafka: topics of others', { timeout: 120_000 }, () => {
    const names = testPrefix()
    const raw = `${names}telemetry.raw`
    const copies = `${names}telemetry.copies`
    const letters = `${names}telemetry.dlq`
    const bootstrapBrokers = [new URL(url).host]
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-documents-'))
    let server: RunningServer | undefined

    const start = async (group = `${names}kymo`): Promise<RunningServer> => {
      const flags = {
        data_dir: dir,
        'http.port': 0,
        'mqtt.port': 0,
        'kafka.pull.url': url,
        'kafka.pull.topics': raw,
        'kafka.pull.group': group,
        'kafka.publish.url': url,
        'kafka.publish.topic': copies,
        'kafka.dead_letters.topic': letters,
      }
      server = await startServer(loadConfig({ flags }), nodeEnv(silentLogger), {
        jobScript: new URL('../../src/cli/bin.js', import.meta.url).pathname,
      })
      return server
    }
    const get = async (route: string): Promise<Json> => (await (await fetch(`${server!.urls.http}${route}`)).json()) as Json

    /** What others have written, or Kymo. */
    const all = async (topic: string, count: number): Promise<Json[]> => {
      const consumer = new Consumer<string, string, string, string>({
        clientId: 'test',
        groupId: `${testPrefix()}reader`,
        bootstrapBrokers,
        deserializers: { value: (bytes) => String(bytes) },
      })
      const found: Json[] = []
      try {
        const stream = await consumer.consume({ topics: [topic], mode: 'earliest', autocommit: false })
        for await (const message of stream) {
          found.push(JSON.parse(message.value) as Json)
          if (found.length >= count) break
        }
      } finally {
        await consumer.close(true)
      }
      return found
    }

    const send = async (...documents: readonly (string | null)[]): Promise<void> => {
      const producer = new Producer<string, string, string, string>({
        clientId: 'test',
        bootstrapBrokers,
        serializers: { value: (text) => (text === undefined ? undefined : Buffer.from(text)) },
      })
      await producer.send({ messages: documents.map((value) => ({ topic: raw, partition: 0, ...(value === null ? {} : { value }) })) })
      await producer.close()
    }

    before(async () => {
      const admin = new Admin({ clientId: 'test', bootstrapBrokers })
      await admin.createTopics({ topics: [raw, copies, letters], partitions: 2, replicas: 1 })
      await admin.close()
      await start()
    })
    after(async () => {
      await server?.stop()
      fs.rmSync(dir, { recursive: true, force: true })
    })

    test('documents of the topic are taken as readings, what is none goes to the dead letters and to their topic', async () => {
      await send(
        '{"device_id":"dev-1","ts":"2026-01-01T00:00:00Z","temperature_c":20.5,"humidity":50}',
        '{"device_id":"dev-2","temperature_c":1}',
        'no json',
        null,
      )
      const values = async (): Promise<unknown> => {
        const { items } = (await get('/api/v1/devices?limit=10')) as { items: { id: string }[] }
        return items.map(({ id }) => id).toSorted()
      }
      await until('both are there', async () => JSON.stringify(await values()) === '["dev-1","dev-2"]')
      const [letter] = await all(letters, 1)
      assert.equal(letter?.['code'], 'body_not_json')
      assert.equal(letter['payload'], 'no json')
      assert.match(String(letter['timestamp']), /^2\d{3}-/)
      assert.ok(String(letter['reason']).length > 0)
    })

    test('readings are published, those of one message as one document', async () => {
      const body = '{"device_id":"dev-3","ts":"2026-01-01T00:00:01Z","temperature_c":21,"humidity":55,"battery":3.7}'
      const answer = await fetch(`${server!.urls.http}/ingest`, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
      assert.equal(answer.status, 200)
      const found = await all(copies, 3)
      assert.deepEqual(
        found.find((one) => one['device_id'] === 'dev-3'),
        { device_id: 'dev-3', ts: '2026-01-01T00:00:01.000Z', temperature_c: 21, humidity: 55, battery: 3.7 },
      )
      assert.deepEqual(
        found.find((one) => one['device_id'] === 'dev-1'),
        { device_id: 'dev-1', ts: '2026-01-01T00:00:00.000Z', temperature_c: 20.5, humidity: 50 },
      )
    })

    test('what Kymo has published is not taken, nor what is empty', async () => {
      const producer = new Producer<Buffer, Buffer, Buffer, Buffer>({ clientId: 'test', bootstrapBrokers })
      const value = Buffer.from('{"device_id":"dev-9","temperature_c":1}')
      await producer.send({ messages: [{ topic: raw, value, partition: 0, headers: new Map([[Buffer.from('kymo-published'), Buffer.from('1')]]) }] })
      await producer.close()
      await until('it is passed over', async () => {
        const text = await (await fetch(`${server!.urls.http}/metrics`)).text()
        return text.includes('kymo_kafka_pull_dropped_total{reason="published"} 1\n')
      })
      const text = await (await fetch(`${server!.urls.http}/metrics`)).text()
      assert.match(text, /kymo_kafka_pull_dropped_total\{reason="empty"\} 1\n/)
      assert.match(text, /kymo_kafka_pull_messages_total 3\n/)
    })

    test('after a restart it goes on behind what is durable', async () => {
      await server?.stop()
      await send('{"device_id":"dev-4","temperature_c":4}')
      await start()
      await until('it is there', async () => {
        const { items } = (await get('/api/v1/devices?limit=10')) as { items: { id: string }[] }
        return items.some(({ id }) => id === 'dev-4')
      })
      const text = await (await fetch(`${server!.urls.http}/metrics`)).text()
      assert.match(text, /kymo_kafka_pull_messages_total 1\n/)
    })

    test('what comes again is the same readings, also of messages without a time', async () => {
      const values = async (): Promise<number> => (await stored(server!.urls.http, { limit: 100 })).length
      await until('all is stored', async () => (await values()) === 7)
      await server?.stop()
      await start(`${names}again`)
      await until('it is all taken again', async () => {
        const text = await (await fetch(`${server!.urls.http}/metrics`)).text()
        return text.includes('kymo_kafka_pull_messages_total 4\n')
      })
      await settled(server!.urls.http)
      assert.equal(await values(), 7)
    })
  })

  void describe('Kafka: a message in a topic of the log that is none of its records', { timeout: 60_000 }, () => {
    test('goes to the dead letters for the group that keeps them, and is passed over by the others', async () => {
      const prefix = testPrefix()
      const log = testLog(url, { prefix, partitions: 1, unusableGroup: 'store' })
      const never = new AbortController().signal
      try {
        await log.write([readings('telemetry', 'a', [1])], undefined, never)
        const producer = new Producer<Buffer, Buffer, Buffer, Buffer>({ clientId: 'test', bootstrapBrokers: [new URL(url).host] })
        await producer.send({ messages: [{ topic: `${prefix}telemetry`, partition: 0, value: Buffer.from('strange') }] })
        await producer.close()
        await log.write([readings('telemetry', 'a', [2])], undefined, never)
        for (const group of ['store', 'registry']) {
          const kept = await take(log.reader({ topic: 'telemetry', group, start: 'committed', batch: { bytesMax: 1 } }), 2)
          assert.deepEqual(
            kept.flatMap(({ rows }) => rows.map(({ value }) => value)),
            [1, 2],
          )
        }
        const [letter] = await take(log.reader({ topic: 'dead-letters', start: 'earliest' }), 1)
        assert.equal(letter?.kind, 'dead-letter')
        assert.ok(Buffer.from(letter.body).includes('strange'))
        const places = await log.places('dead-letters')
        assert.equal(places.partitions[0]?.end, 1n, 'one letter')
      } finally {
        await log.close()
      }
    })
  })
}
