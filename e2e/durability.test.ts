import assert from 'node:assert/strict'
import process from 'node:process'
import { it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { readings, settled } from '../test/support/api.ts'
import { RunningServer } from '../test/support/server.ts'
import { faults, httpSender, mqttSender, seeded, type Sender } from './ledger.ts'
import { killCount } from '../test/support/effort.ts'

const kills = killCount(20)
const seed = Number(process.env['KYMO_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

it(`every acknowledged reading is there exactly once after ${kills} kills`, { timeout: 120_000 + kills * 30_000 }, async (t) => {
  t.diagnostic(`seed ${seed} (KYMO_TEST_SEED)`)
  const random = seeded(seed)
  let server = await RunningServer.start()
  const { mqttPort, httpPort } = server
  const senders: Sender[] = []
  try {
    for (let i = 0; i < 2; i++) {
      senders.push(mqttSender({ port: () => mqttPort, device: `mqtt-timed-${i}`, ownTime: true, random: seeded(seed + 10 + i) }))
      senders.push(mqttSender({ port: () => mqttPort, device: `mqtt-untimed-${i}`, ownTime: false, random: seeded(seed + 20 + i) }))
      senders.push(httpSender({ port: () => httpPort, device: `http-timed-${i}`, ownTime: true, random: seeded(seed + 30 + i), run: String(seed) }))
      senders.push(httpSender({ port: () => httpPort, device: `http-key-${i}`, ownTime: false, random: seeded(seed + 40 + i), run: String(seed) }))
    }
    for (let kill = 0; kill < kills; kill++) {
      await delay(30 + random() * 700)
      await server.kill()
      await delay(random() * 50)
      server = await server.restart()
    }
    await delay(300)
    await Promise.all(senders.map((sender) => sender.finish(30_000)))
    await settled(server.http)
    const wrong: string[] = []
    for (const { ledger } of senders) {
      const stored = await readings(server.http, { device: ledger.device, metric: 'seq' })
      wrong.push(...faults(ledger, stored))
      t.diagnostic(`${ledger.how}: ${ledger.acknowledged.size} acknowledged, ${ledger.redelivered} sent again, ${stored.length} stored`)
      assert.ok(ledger.acknowledged.size > kills, `${ledger.device} hardly sent anything`)
    }
    assert.equal(wrong.join('\n'), '', `seed ${seed}`)
    const again = senders.filter(({ ledger }) => ledger.redelivered > 0).length
    assert.ok(again >= senders.length / 2, 'the kills hit nothing in flight')
    // What the log gave once must not come again from a restart that happens while nothing is sent.
    await server.kill()
    server = await server.restart()
    await settled(server.http)
    for (const { ledger } of senders) wrong.push(...faults(ledger, await readings(server.http, { device: ledger.device, metric: 'seq' })))
    assert.equal(wrong.join('\n'), '', `after one more restart, seed ${seed}`)
  } finally {
    for (const sender of senders) sender.stop()
    await server.dispose()
  }
})
