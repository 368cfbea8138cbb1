import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defaultMqttLimits } from '../../src/doors/mqtt/limits.ts'
import type { MqttLimits } from '../../src/doors/mqtt/limits.ts'
import { Peers } from '../../src/doors/mqtt/peers.ts'
import { TestClock } from '../support/test-clock.ts'
import { connect, pingreq } from './client-packets.ts'
import { World } from './harness.ts'

class One {
  readonly #peers: Peers
  gone = false
  constructor(peers: Peers, address: string) {
    this.#peers = peers
    peers.enter(this, address)
  }
  crowdedOut(): void {
    this.gone = true
    this.#peers.left(this)
  }
}

function peers(limits: Partial<MqttLimits>, clock = new TestClock()): Peers {
  return new Peers(clock, { ...defaultMqttLimits, ...limits })
}

test('one address has so many connections, others have theirs', () => {
  const some = peers({ connectionsMax: 4, connectionsPerAddressMax: 2 })
  const first = new One(some, '10.0.0.1')
  const second = new One(some, '::ffff:10.0.0.1')
  assert.deepEqual([some.refusal('10.0.0.1'), some.refusal('10.0.0.2')], ['connections', undefined])
  some.left(first)
  some.left(first)
  assert.deepEqual([some.refusal('10.0.0.1'), some.size], [undefined, 1])
  some.left(second)
  const others = ['10.0.0.3', '10.0.0.4', '10.0.0.5', '10.0.0.6'].map((address) => new One(some, address))
  assert.equal(some.size, others.length)
  assert.equal(some.refusal('10.0.0.7'), 'connections')
})

test('connections come no faster than one address may open them; loopback is not counted', () => {
  const clock = new TestClock()
  const some = peers({ connectsPerS: 10, connectsBurst: 3 }, clock)
  const tried = (address: string): unknown[] => Array.from({ length: 4 }, () => some.refusal(address))
  assert.deepEqual(tried('10.0.0.1'), [undefined, undefined, undefined, 'connect_rate'])
  assert.deepEqual(tried('10.0.0.2'), [undefined, undefined, undefined, 'connect_rate'])
  assert.deepEqual(tried('127.0.0.1'), [undefined, undefined, undefined, undefined])
  clock.advance(100)
  assert.deepEqual(tried('10.0.0.1'), [undefined, 'connect_rate', 'connect_rate', 'connect_rate'])
  const unlimited = peers({ connectsPerS: 0, connectsBurst: 1 })
  assert.deepEqual([unlimited.refusal('10.0.0.1'), unlimited.refusal('10.0.0.1')], [undefined, undefined])
})

test('of connections that say nothing the oldest makes room, of its own address first', () => {
  const some = peers({ silentPerAddressMax: 2, silentMax: 3 })
  const a = [1, 2].map(() => new One(some, '10.0.0.1'))
  const b = new One(some, '10.0.0.2')
  a.push(new One(some, '10.0.0.1'))
  assert.deepEqual([a[0]!.gone, a[1]!.gone, b.gone], [true, false, false])
  const c = new One(some, '10.0.0.3')
  assert.deepEqual([a[1]!.gone, b.gone, c.gone], [true, false, false])
  some.connected(b)
  const later = ['10.0.0.4', '10.0.0.5'].map((address) => new One(some, address))
  assert.deepEqual([a[2]!.gone, b.gone, later[1]!.gone], [true, false, false], 'who is let in is silent no more')
})

test('a client gets in beside any number of connections that say nothing', () => {
  const world = new World({ silentPerAddressMax: 3, silentMax: 3 })
  const silent = Array.from({ length: 10 }, () => world.line())
  const client = world.line()
  client.send(connect({ clientId: 'c' }))
  client.expect('20 02 00 00')
  for (let i = 0; i < 10; i++) silent.push(world.line())
  client.send(pingreq)
  client.expect('d0 00')
  assert.equal(silent.filter(({ ended }) => !ended).length, 3)
  assert.equal(world.count('kymo_mqtt_disconnects_total', { reason: 'silent' }), 17)
  assert.equal(world.broker.connections, 4)
})
