import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ack, hex, pingreq, publish } from './client-packets.ts'
import { World } from './harness.ts'
import { fuzzRuns } from '../support/effort.ts'

const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('publish' as const),
      topic: fc.constantFrom('devices/d1/telemetry', 'devices/d2/telemetry', 'chat'),
      qos: fc.integer({ min: 0, max: 2 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('sync' as const), behind: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'overload' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'relief' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'ping' as const }) },
)

const bytes = (first: number, id = 0): string => hex(ack(first, id))

test('whatever the gate does: no acknowledgement before durable, all in order, none lost, nothing left held', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), fc.integer({ min: 2, max: 12 }), (steps, receiveInflightMax) => {
      const world = new World({ receiveInflightMax, holdBytesMax: 1500 })
      const client = world.client('c')
      const sent: { id: number; qos: number; telemetry: boolean }[] = []
      const due: string[] = []
      const toRelease: number[] = []
      const released: number[] = []
      let acked = 0
      let nextId = 1

      const collect = (): void => {
        for (const packet of client.packets()) {
          if (packet === 'd0 00') continue
          if (packet.startsWith('70')) {
            assert.equal(packet, bytes(0x70, released.shift()))
            continue
          }
          assert.equal(packet, due[acked], 'acknowledgements come in the order of the publishes')
          const { id, qos, telemetry } = sent.filter((message) => message.qos > 0)[acked]!
          if (telemetry) {
            const place = world.gate.taken.findIndex((taken) => taken.packetId === id)
            assert.ok(place >= 0 && place + 1 <= world.gate.durable, `packet ${id} was acknowledged before it was durable`)
          }
          if (qos === 2) toRelease.push(id)
          acked++
        }
        // The network keeps what a paused connection does not read.
        while (!client.paused && toRelease.length > 0) {
          const id = toRelease.shift()!
          released.push(id)
          client.send(ack(0x62, id))
          collect()
        }
      }
      for (const next of steps) {
        if (next.kind === 'publish') {
          if (client.paused) continue
          const id = nextId++
          sent.push({ id, qos: next.qos, telemetry: next.topic !== 'chat' })
          if (next.qos > 0) due.push(bytes(next.qos === 1 ? 0x40 : 0x50, id))
          client.send(publish(next.topic, `${id}`, { qos: next.qos, id }))
        } else if (next.kind === 'sync') world.gate.sync(Math.max(world.gate.durable, world.gate.last - next.behind))
        else if (next.kind === 'ping') client.send(pingreq)
        else world.gate.overloaded = next.kind === 'overload'
        assert.equal(client.ended, false)
        collect()
      }
      world.gate.overloaded = false
      for (let i = 0; i < 50; i++) {
        world.gate.sync()
        collect()
      }
      assert.equal(acked, due.length, 'every publish of QoS 1 and 2 is acknowledged in the end')
      assert.deepEqual([client.paused, toRelease, released], [false, [], []])
      assert.deepEqual([world.broker.held.used, world.broker.partial.used, world.broker.sending.used], [0, 0, 0])
      const kept = world.gate.taken.filter((taken) => taken.packetId > 0).map((taken) => taken.packetId)
      assert.deepEqual(
        kept,
        sent.filter((message) => message.telemetry && message.qos > 0).map((message) => message.id),
      )
    }),
    fuzzRuns(800),
  )
})
