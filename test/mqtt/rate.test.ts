import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ClientRate } from '../../src/doors/rate.ts'
import { disconnect, publish } from './client-packets.ts'
import { TestClock } from '../support/test-clock.ts'
import { World } from './harness.ts'

const message = (text: string): Uint8Array => publish('portfolio/telemetry', text)

test('without limits a client is never slowed', () => {
  const world = new World()
  const line = world.client('c')
  line.send(...Array.from({ length: 5_000 }, () => message('m')))
  assert.deepEqual([world.gate.taken.length, line.paused], [5_000, false])
})

test('a client that sends too fast is read later; nothing is lost and the order stays', () => {
  const world = new World({ clientMessagesPerS: 100 })
  const line = world.client('c')
  const other = world.client('d')
  line.send(...Array.from({ length: 150 }, (_, i) => message(`m${i}`)))
  assert.equal(line.paused, true)
  assert.ok(world.gate.taken.length >= 100 && world.gate.taken.length <= 102, String(world.gate.taken.length))
  assert.equal(world.count('kymo_mqtt_slowed_total'), 1)
  other.send(message('other'))
  assert.equal(world.gate.taken.at(-1)?.text, 'other', 'others are not slowed')
  world.clock.advance(200)
  assert.ok(world.gate.taken.length >= 115 && world.gate.taken.length <= 125, String(world.gate.taken.length))
  world.clock.advance(1_000)
  const texts = world.gate.taken.map(({ text }) => text).filter((text) => text !== 'other')
  assert.deepEqual(
    texts,
    Array.from({ length: 150 }, (_, i) => `m${i}`),
  )
  assert.equal(line.paused, false)
})

test('over minutes the rate holds, in messages and in bytes, and a slow client is not disconnected', () => {
  for (const limits of [{ clientMessagesPerS: 50 }, { clientBytesPerS: 50 * 120 }]) {
    const world = new World(limits)
    const line = world.client('c', { keepAlive: 10 })
    const text = 'x'.repeat(100)
    let sent = 0
    for (let ms = 0; ms < 60_000; ms += 50) {
      // TCP: what is not read is not sent either.
      if (!line.paused) {
        line.send(...Array.from({ length: 20 }, () => message(text)))
        sent += 20
      }
      world.clock.advance(50)
    }
    assert.equal(line.ended, false)
    const { length } = world.gate.taken
    assert.ok(length > 2_900 && length < 3_300, `${JSON.stringify(limits)}: ${length} of ${sent}`)
    line.send(disconnect)
  }
})

test('a message that is larger than a second’s worth is taken, and waited for', () => {
  const clock = new TestClock()
  const rate = new ClientRate(clock, { messagesPerS: 0, bytesPerS: 1_000, wakeMs: 50 })
  assert.equal(rate.took(900), 0)
  assert.equal(rate.took(5_100), 5_000)
  clock.advance(5_000)
  assert.equal(rate.took(10), 50)
})

test('a client that ends while it is slowed leaves no timer', () => {
  const world = new World({ clientMessagesPerS: 1 })
  const before = world.clock.timers
  const line = world.client('c')
  line.send(message('a'), message('b'), message('c'))
  assert.equal(line.paused, true)
  line.hangUp()
  assert.equal(world.clock.timers, before)
})
