import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SysTopics } from '../../src/doors/mqtt/sys-topics.ts'
import type { SysFigures } from '../../src/doors/mqtt/sys-topics.ts'
import { TestClock } from '../support/test-clock.ts'
import { hex, publish, subscribe, unsubscribe } from './client-packets.ts'
import { World } from './harness.ts'

const figures: SysFigures = {
  clients: { connected: 3, disconnected: 2, maximum: 4 },
  subscriptions: 7,
  sharedSubscriptions: 1,
  retained: 5,
  stored: { messages: 6, bytes: 60 },
  publish: { received: 100, sent: 200, dropped: 3 },
  connections: 9,
}

class Told {
  readonly clock = new TestClock()
  readonly told = new Map<string, string>()
  now = figures
  readonly sys = new SysTopics({
    version: '1.2.3',
    figures: () => this.now,
    publish: (topic, payload) => this.told.set(topic, new TextDecoder().decode(payload)),
    clock: this.clock,
    intervalMs: 10_000,
  })
}

test('Mosquitto’s names and units; only what has changed is told again', () => {
  const world = new Told()
  world.clock.advance(9_999)
  assert.equal(world.told.size, 0)
  world.clock.advance(1)
  const told = Object.fromEntries([...world.told].map(([topic, text]) => [topic.replace('$SYS/broker/', ''), text]))
  for (const [topic, text] of Object.entries({
    version: 'kymo version 1.2.3',
    uptime: '10 seconds',
    'clients/total': '5',
    'clients/connected': '3',
    'clients/active': '3',
    'clients/disconnected': '2',
    'clients/inactive': '2',
    'clients/maximum': '4',
    'subscriptions/count': '7',
    'shared_subscriptions/count': '1',
    'retained messages/count': '5',
    'messages/received': '100',
    'messages/sent': '200',
    'messages/stored': '6',
    'store/messages/count': '6',
    'store/messages/bytes': '60',
    'publish/messages/received': '100',
    'publish/messages/sent': '200',
    'publish/messages/dropped': '3',
    // 600 a minute for 10 of 60 seconds: 600 x (1 - e^(-1/6)).
    'load/publish/received/1min': '92.11',
    'load/publish/received/15min': '6.63',
  }))
    assert.equal(told[topic], text, topic)
  world.told.clear()
  world.now = { ...figures, clients: { ...figures.clients, connected: 4 } }
  world.clock.advance(10_000)
  assert.deepEqual([...world.told.keys()].filter((topic) => !topic.includes('/load/')).sort(), [
    '$SYS/broker/clients/active',
    '$SYS/broker/clients/connected',
    '$SYS/broker/clients/total',
    '$SYS/broker/uptime',
  ])
  world.sys.stop()
  world.told.clear()
  world.clock.advance(100_000)
  assert.equal(world.told.size, 0)
})

test('a load average approaches what happens in a minute', () => {
  const world = new Told()
  for (let i = 1; i <= 100; i++) {
    world.now = { ...figures, publish: { ...figures.publish, received: i * 50 } }
    world.clock.advance(10_000)
  }
  assert.equal(world.told.get('$SYS/broker/load/publish/received/1min'), '300.00')
})

test('who subscribes gets what matches at once, and each interval while it is subscribed; nobody else gets anything', async () => {
  const world = new World({}, { sys: { version: '1.2.3', intervalMs: 10_000 } })
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 3; i++) {
      await new Promise((resolve) => void setImmediate(resolve))
      world.clock.advance(1)
    }
  }
  const everything = world.client('all')
  everything.send(subscribe(1, ['#', 0]))
  const theirs = world.client('other', { username: 'b:u' })
  theirs.send(subscribe(1, ['$SYS/#', 0]))
  theirs.take()
  const client = world.client('s')
  everything.take()
  client.send(subscribe(2, ['$SYS/broker/version', 0], ['$SYS/broker/clients/+', 0]))
  await settle()
  const packets = client.packets()
  assert.ok(packets.includes(hex(publish('$SYS/broker/version', 'kymo version 1.2.3', { retain: true }))))
  assert.ok(packets.includes(hex(publish('$SYS/broker/clients/connected', '3', { retain: true }))))
  world.clock.advance(10_000)
  assert.ok(client.packets().includes(hex(publish('$SYS/broker/clients/connected', '3'))))
  client.send(unsubscribe(3, '$SYS/broker/clients/connected', '$SYS/broker/clients/+', '$SYS/broker/version'))
  client.take()
  world.client('another')
  world.clock.advance(10_000)
  client.expect()
  client.send(publish('$SYS/broker/clients/connected', '99'))
  everything.expect()
  theirs.expect()
  await world.broker.close(0)
})
