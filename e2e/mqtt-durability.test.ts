import assert from 'node:assert/strict'
import process from 'node:process'
import { it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { killCount } from '../test/support/effort.ts'
import { RawMqtt } from '../test/support/mqtt-client.ts'
import { RunningServer } from '../test/support/server.ts'
import { seeded } from './ledger.ts'
import { LedgerPublisher, LedgerSubscriber } from './mqtt-ledger.ts'

const kills = killCount(8)
const seed = Number(process.env['KYMO_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

/** What is retained below `state/`: the number of each publisher's message. */
async function retained(port: number, count: number): Promise<Map<string, number>> {
  const found = new Map<string, number>()
  const client = await RawMqtt.connect({
    port,
    clientId: 'looks',
    onPublish: ({ payload }) => {
      const [name = '', number] = payload.toString().split(' ')
      if (!found.has(name)) found.set(name, Number(number))
    },
  })
  await client.subscribe('state/#', 0)
  for (let waited = 0; found.size < count && waited < 5_000; waited += 10) await delay(10)
  await client.end()
  return found
}

it(`MQTT sessions after ${kills} kills: nothing acknowledged is lost, QoS 2 never doubled`, { timeout: 120_000 + kills * 30_000 }, async (t) => {
  t.diagnostic(`seed ${seed} (KYMO_TEST_SEED)`)
  const random = seeded(seed)
  let server = await RunningServer.start()
  const port = server.mqttPort
  const o = (name: string, n: number): { port: number; name: string; random: () => number } => ({ port, name, random: seeded(seed + n) })
  const subscribers = [
    new LedgerSubscriber({ ...o('at-least-once', 1), qos: 1 }),
    new LedgerSubscriber({ ...o('exactly-once', 2), qos: 2 }),
    new LedgerSubscriber({ ...o('exactly-once-too', 3), qos: 2 }),
  ]
  const publishers: LedgerPublisher[] = []
  try {
    while (subscribers.some(({ known }) => !known)) await delay(10)
    for (const [i, qos] of ([1, 1, 2, 2] as const).entries()) publishers.push(new LedgerPublisher({ ...o(`p${i}`, 10 + i), qos }))
    const states = ([1, 2] as const).map((qos) => new LedgerPublisher({ ...o(`r${qos}`, 20 + qos), qos, retain: true }))
    publishers.push(...states)
    for (let kill = 0; kill < kills; kill++) {
      await delay(30 + random() * 1_000)
      await server.kill()
      const before = states.map(({ acknowledged }) => Math.max(0, ...acknowledged))
      await delay(random() * 50)
      server = await server.restart()
      const now = await retained(port, before.filter((number) => number > 0).length)
      for (const [i, { name, sent }] of states.entries()) {
        const number = now.get(name) ?? 0
        assert.ok(number >= before[i]! && number <= sent, `${name}: ${number} is retained, ${before[i]} was acknowledged, ${sent} sent; seed ${seed}`)
      }
    }
    await delay(300)
    await Promise.all(publishers.map((publisher) => publisher.finish(30_000)))
    await Promise.all(subscribers.map((subscriber) => subscriber.finish(1_000)))
    const loads = publishers.filter(({ retain }) => !retain)
    const wrong = subscribers.flatMap((subscriber) => loads.flatMap((publisher) => subscriber.faults(publisher)))
    assert.equal(wrong.join('\n'), '', `seed ${seed}`)
    const last = await retained(port, states.length)
    for (const { name, sent } of states) assert.equal(last.get(name), sent, `${name}: what is retained is not the last; seed ${seed}`)
    for (const { name, sent, acknowledged, again } of publishers) {
      t.diagnostic(`${name}: ${acknowledged.size} acknowledged of ${sent}, ${again} sent again`)
      assert.ok(acknowledged.size > kills, `${name} hardly sent anything`)
    }
    for (const { name, got, connections } of subscribers) t.diagnostic(`${name}: ${got.length} received on ${connections} connections`)
    assert.ok(
      publishers.some(({ again }) => again > 0),
      'the kills hit nothing under way',
    )
  } finally {
    await Promise.all([...publishers, ...subscribers].map((one) => one.stop().catch(() => undefined)))
    await server.dispose()
  }
})
