import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { readings, settled } from '../test/support/api.ts'
import { RawMqtt } from '../test/support/mqtt-client.ts'
import { faultPoints } from '../test/support/mqtt-fault.ts'
import { isAlive, RunningServer } from '../test/support/server.ts'
import { LedgerSubscriber } from './mqtt-ledger.ts'

const topic = 'devices/exactly/telemetry'
const windowMax = 4
/** Before and behind the one that a kill meets. */
const beforeKill = 6
const patienceMs = 20_000

/** Publishes readings without a time at QoS 2 under a session that stays, some at once, and goes on where it was [MQTT-4.4.0-1]. */
class ExactPublisher {
  sent = 0
  again = 0
  readonly #port: number
  readonly #open = new Map<number, { readonly payload: string; received: boolean }>()
  #client: RawMqtt | undefined

  constructor(port: number) {
    this.#port = port
  }

  async connect(): Promise<void> {
    const client = await RawMqtt.connect({
      port: this.#port,
      clientId: 'exactly',
      cleanSession: false,
      onExactly: (type, packetId) => {
        const one = this.#open.get(packetId)
        if (type === 5 && one !== undefined) one.received = true
        if (type === 5) client.ack(6, packetId)
        if (type === 7) this.#open.delete(packetId)
      },
    })
    assert.equal(client.returnCode, 0)
    assert.equal(client.sessionPresent, this.sent > 0)
    this.#client = client
    for (const [packetId, { payload, received }] of this.#open) {
      this.again++
      if (received) client.ack(6, packetId)
      else client.publish({ topic, payload, qos: 2, packetId, dup: true })
    }
  }

  /** Sends so many more, as long as there is a connection. */
  async send(count: number): Promise<void> {
    const until = performance.now() + patienceMs
    for (let left = count; left > 0 || this.#open.size > 0;) {
      if (this.#client?.closed !== false) return
      assert.ok(performance.now() < until, `${this.#open.size} are not acknowledged`)
      if (left > 0 && this.#open.size < windowMax) {
        left--
        const packetId = ++this.sent
        const payload = JSON.stringify({ seq: this.sent })
        this.#open.set(packetId, { payload, received: false })
        this.#client.publish({ topic, payload, qos: 2, packetId })
      } else await delay(1)
    }
  }

  stop(): void {
    this.#client?.destroy()
  }
}

it(
  'QoS 2 telemetry: killed at each step from the gate to PUBCOMP, every reading is there once, and every subscriber has each message once',
  { timeout: 60_000 + faultPoints.length * 30_000 },
  async (t) => {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-exactly-'))
    const file = path.join(dir, 'fault')
    fs.writeFileSync(file, '')
    const preload = `--import=${path.resolve(import.meta.dirname, '../test/support/mqtt-fault.ts')}`
    let server = await RunningServer.start({ env: { FAULT_FILE: file, NODE_OPTIONS: preload } })
    const port = server.mqttPort
    const subscribers = [1, 2].map((n) => new LedgerSubscriber({ port, name: `s${n}`, random: Math.random, qos: 2, filter: 'devices/+/telemetry' }))
    const publisher = new ExactPublisher(port)
    try {
      while (subscribers.some(({ known }) => !known)) await delay(10)
      for (const point of faultPoints) {
        await publisher.connect()
        await publisher.send(beforeKill)
        fs.writeFileSync(file, point)
        await publisher.send(beforeKill)
        assert.equal(fs.readFileSync(file, 'utf8'), '', `nothing came by ${point}`)
        for (const until = performance.now() + patienceMs; isAlive(server.serverPid); await delay(5)) assert.ok(performance.now() < until)
        await server.kill()
        server = await server.restart()
      }
      await publisher.connect()
      await publisher.send(beforeKill)
      await Promise.all(subscribers.map((subscriber) => subscriber.finish(1_000)))
      await settled(server.http)
      const all = Array.from({ length: publisher.sent }, (_, i) => i + 1)
      const stored = await readings(server.http, { device: 'exactly', metric: 'seq' })
      assert.deepEqual(
        stored.map(({ value }) => value).toSorted((a, b) => Number(a) - Number(b)),
        all,
      )
      for (const { name, got } of subscribers) {
        const seqs = got.map(({ payload }) => Number(/\d+/.exec(payload)![0]))
        assert.deepEqual(
          seqs.toSorted((a, b) => a - b),
          all,
          name,
        )
      }
      t.diagnostic(`${publisher.sent} messages, ${publisher.again} sent again after ${faultPoints.length} kills`)
      assert.ok(publisher.again >= faultPoints.length)
    } finally {
      publisher.stop()
      await Promise.all(subscribers.map((one) => one.stop().catch(() => undefined)))
      await server.dispose()
      fs.rmSync(dir, { recursive: true, force: true })
    }
  },
)
