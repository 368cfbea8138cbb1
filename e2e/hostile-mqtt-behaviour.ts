/** What hostile clients of e2e/hostile-mqtt.test.ts do, over many packets or connections. Each ends when it has seen what it must see. */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { setTimeout as delay } from 'node:timers/promises'
import WebSocket from 'ws'
import { ack, connect, disconnect, packet, field, pingreq, publish, subscribe, unsubscribe } from '../test/mqtt/client-packets.ts'
import { connect5, Hostile, inParallel, none, properties, publish5, subscribe5, unsubscribe5, userProperty } from './hostile-mqtt-wire.ts'

export interface Ports {
  readonly mqtt: number
  readonly http: number
}

export interface Behaviour {
  readonly name: string
  run(ports: Ports): Promise<void>
}

const times = <T>(length: number, make: (index: number) => T): T[] => Array.from({ length }, (_, index) => make(index))
const wide = (i: number, depth: number): string => times(depth, (level) => ((i >> level) & 1 ? '+' : 'a')).join('/')

/** Connections that are left open; `letGo` closes them. */
const left: Hostile[] = []
const drips: NodeJS.Timeout[] = []

export function letGo(): void {
  for (const timer of drips.splice(0)) clearInterval(timer)
  for (const one of left.splice(0)) one.destroy()
}

/** Begun first, and left beside all that follows. */
export const lasting: readonly Behaviour[] = [
  {
    name: '600 connections that say nothing',
    async run({ mqtt }) {
      await inParallel(times(600, String), 50, async () => void left.push(await Hostile.open(mqtt)))
    },
  },
  {
    name: '100 connections that send a CONNECT, and 50 a PUBLISH, at a byte a second',
    async run({ mqtt }) {
      const slowly = (client: Hostile, bytes: Uint8Array): void => {
        let at = 0
        drips.push(setInterval(() => client.send(bytes.subarray(at, ++at)), 1_000))
        left.push(client)
      }
      await inParallel(times(100, String), 20, async () => slowly(await Hostile.open(mqtt), connect({ clientId: 'x'.repeat(200) })))
      const long = publish('hostile/slow', 'x'.repeat(200_000), { qos: 1 })
      await inParallel(times(50, String), 20, async (n) => slowly(await Hostile.greeted(mqtt, n.length === 1 ? 3 : 5, `drip-${n}`), long))
    },
  },
  {
    name: '20 subscribers that never read, and 20 that never acknowledge',
    async run({ mqtt }) {
      for (let n = 0; n < 20; n++) {
        const deaf = await Hostile.greeted(mqtt, 3, `deaf-${n}`)
        deaf.send(subscribe(1, ['hostile/#', 0], ['devices/#', 1]))
        await deaf.next(0x90)
        deaf.socket.pause()
        const mute = await Hostile.greeted(mqtt, 5, `mute-${n}`)
        mute.counting = true
        mute.send(subscribe5(1, ['hostile/#', 2], ['devices/#', 1]))
        await mute.until(() => mute.count(0x90) === 1)
        left.push(deaf, mute)
      }
    },
  },
]

export const behaviours: readonly Behaviour[] = [
  {
    name: 'large messages for those who do not read',
    async run({ mqtt }) {
      const client = await Hostile.greeted(mqtt, 5, 'loud')
      client.counting = true
      for (let id = 1; id <= 60; id++) {
        await client.push(publish5('hostile/loud', Buffer.alloc(100_000, id), { qos: 1, id }))
        await client.until(() => client.count(0x40) === id)
      }
      client.destroy()
    },
  },
  {
    name: '256 MB, of which a megabyte comes, 40 times',
    async run({ mqtt }) {
      await inParallel(times(40, Number), 10, async (n) => {
        const client = await Hostile.greeted(mqtt, n % 2 === 0 ? 3 : 5, `huge-${n}`)
        client.send(Uint8Array.of(0x30, 0xff, 0xff, 0xff, 0x7f, 0, 9), Buffer.from('hostile/h'), Buffer.alloc(2 ** 20, 0))
        assert.equal(await client.reason(), n % 2 === 0 ? 0 : 0x95)
      })
    },
  },
  {
    name: '2,000 connections one after the other, with CONNECT, DISCONNECT, or neither',
    async run({ mqtt }) {
      await inParallel(times(2_000, Number), 40, async (n) => {
        const client = await Hostile.open(mqtt)
        if (n % 3 !== 0) {
          client.send(n % 2 === 0 ? connect({ clientId: `flood-${n}` }) : connect5(`flood-${n}`))
          await client.next(0x20)
        }
        if (n % 3 === 1) client.send(disconnect)
        if (n % 7 === 0) client.socket.resetAndDestroy()
        client.destroy()
      })
    },
  },
  {
    name: '400 connections that fight for one client id, with sessions that stay and without',
    async run({ mqtt }) {
      const fighters: Hostile[] = []
      await inParallel(times(400, Number), 40, async (n) => {
        const client = await Hostile.open(mqtt)
        fighters.push(client)
        client.send(n % 2 === 0 ? connect({ clientId: 'prize', clean: n % 4 === 0 }) : connect5('prize', { clean: n % 3 === 0 }))
        await client.until(() => client.count(0x20) > 0 || client.count(0xe0) > 0)
      })
      const last = await Hostile.greeted(mqtt, 3, 'prize')
      for (const one of fighters) await one.until(() => one.closed)
      assert.equal(await last.alive(), true)
      last.send(disconnect)
      await last.until(() => last.closed)
    },
  },
  {
    name: 'aliases that are named anew 20,000 times',
    async run({ mqtt }) {
      const client = await Hostile.greeted(mqtt, 5, 'aliases')
      for (let n = 0; n < 20; n++)
        await client.push(
          Buffer.concat(times(1_000, (i) => publish5(`hostile/alias/${n * 1_000 + i}`, 'x', { properties: properties([0x23, 0, 1 + (i % 200)]) }))),
        )
      assert.equal(await client.alive(), true)
      client.destroy()
    },
  },
  {
    name: 'a megabyte of user properties, 20 times',
    async run({ mqtt }) {
      const bytes = publish5('hostile/properties', 'x', { qos: 1, properties: properties(Buffer.alloc(1_000_000, userProperty('', ''))) })
      for (let n = 0; n < 20; n++) {
        const client = await Hostile.greeted(mqtt, 5, 'properties')
        // It may be told before it has sent everything.
        await client.push(bytes).catch(() => undefined)
        assert.equal(await client.reason(), 0x97)
        client.destroy()
      }
      const client = await Hostile.greeted(mqtt, 5, 'properties')
      const many = publish5('hostile/properties', 'x', { qos: 1, properties: properties(Buffer.alloc(5_000, userProperty('', ''))) })
      for (let n = 0; n < 20; n++) await client.push(many)
      assert.equal(await client.until(() => client.count(0x40) === 20), true)
      client.destroy()
    },
  },
  {
    name: '10,000 filters of one client, of which it gets 1,000, and unsubscribing 10,000 that are not there',
    async run({ mqtt }) {
      const client = await Hostile.greeted(mqtt, 5, 'filters')
      for (let n = 0; n < 10; n++) await client.push(subscribe5(n + 1, ...times(1_000, (i) => [`hostile/filters/${n * 1_000 + i}`, 2] as const)))
      await client.until(() => client.count(0x90) === 10)
      const codes = client.packets.filter(({ first }) => first === 0x90).flatMap(({ body }) => [...body.subarray(-1_000)])
      assert.deepEqual([codes.filter((code) => code === 2).length, codes.filter((code) => code === 0x97).length], [1_000, 9_000])
      for (let n = 0; n < 10; n++) await client.push(unsubscribe5(n + 1, ...times(1_000, (i) => `hostile/none/${n * 1_000 + i}`)))
      await client.until(() => client.count(0xb0) === 10)
      assert.ok(client.packets.filter(({ first }) => first === 0xb0).every(({ body }) => body.subarray(-1_000).every((code) => code === 0x11)))
      client.destroy()
    },
  },
  {
    name: 'filters of + at every level, and messages to deep topics, none twice',
    async run({ mqtt }) {
      const holders = await Promise.all(times(8, (n) => Hostile.greeted(mqtt, 3, `bomb-${n}`)))
      for (const [n, holder] of holders.entries()) {
        holder.counting = true
        await holder.push(subscribe(1, ...times(1_000, (i) => [`${wide(i * 8 + n, 13)}/#`, 0] as const)))
        await holder.push(subscribe(2, ...times(100, (i) => [times(127, (level) => ((i >> (level % 7)) & 1 ? '+' : 'a')).join('/'), 0] as const)))
        await holder.until(() => holder.count(0x90) === 2)
      }
      await inParallel(times(4, Number), 4, async (n) => {
        const client = await Hostile.greeted(mqtt, 3, `diver-${n}`)
        for (let i = 0; i < 10; i++)
          await client.push(Buffer.concat(times(30, (j) => publish(`${'a/'.repeat(j % 2 === 0 ? 13 : 126)}${n * 1_000 + i * 30 + j}`, 'x'))))
        assert.equal(await client.alive(), true)
        client.destroy()
      })
      for (const holder of holders) {
        assert.equal(await holder.alive(), true)
        holder.destroy()
      }
    },
  },
  {
    name: 'subscribing and unsubscribing without end',
    async run({ mqtt }) {
      await inParallel(times(4, Number), 4, async (n) => {
        const client = await Hostile.greeted(mqtt, 3, `restless-${n}`)
        client.counting = true
        const filters = times(900, (i) => `${'r/'.repeat(20)}${i}`)
        for (let i = 0; i < 10; i++)
          await client.push(Buffer.concat([subscribe(1, ...filters.map((filter) => [filter, 1] as const)), unsubscribe(2, ...filters)]))
        await client.until(() => client.count(0xb0) === 10)
        client.destroy()
      })
    },
  },
  {
    name: '20,000 acknowledgements of each kind for packets that were never sent',
    async run({ mqtt }) {
      const client = await Hostile.greeted(mqtt, 5, 'acks')
      client.counting = true
      for (const first of [0x40, 0x50, 0x62, 0x70]) await client.push(Buffer.concat(times(20_000, (i) => ack(first, 1 + i))))
      assert.equal(await client.alive(), true)
      // PUBREL is answered PUBCOMP, and PUBREC PUBREL, both with 0x92.
      assert.deepEqual([client.count(0x70), client.count(0x62)], [20_000, 20_000])
      client.destroy()
    },
  },
  {
    name: 'packet ids of QoS 2 kept open, up to the limit and beyond, again and again',
    async run({ mqtt }) {
      for (let n = 0; n < 3; n++) {
        const client = await Hostile.greeted(mqtt, 5, 'open-ids')
        await client.push(Buffer.concat(times(2_048, (i) => publish5('hostile/ids', 'x', { qos: 2, id: 1 + i }))))
        assert.equal(await client.until(() => client.count(0x50) === 2_048), true)
        client.send(publish5('hostile/ids', 'x', { qos: 2, id: 60_000 }))
        assert.equal(await client.reason(), 0x93)
        const old = await Hostile.greeted(mqtt, 3, 'open-ids-3')
        await old.push(Buffer.concat(times(3_000, (i) => publish('hostile/ids', 'x', { qos: 2, id: 1 + i }))))
        await old.until(() => old.closed)
      }
    },
  },
  {
    name: '300 wills of 60 kB whose clients all go at once',
    async run({ mqtt }) {
      const clients: Hostile[] = []
      await inParallel(times(300, Number), 30, async (n) => {
        const client = await Hostile.open(mqtt)
        client.send(connect({ clientId: `will-${n}`, will: { topic: `hostile/will/${n}`, payload: 'w'.repeat(60_000), qos: n % 3 } }))
        assert.equal((await client.next(0x20))?.body[1], 0)
        clients.push(client)
      })
      for (const client of clients) client.socket.resetAndDestroy()
    },
  },
  {
    name: 'retained messages up to the limit and beyond, which then are cleared',
    async run({ mqtt }) {
      const client = await Hostile.greeted(mqtt, 5, 'retainer')
      const count = 70
      for (let id = 1; id <= count; id++) {
        await client.push(publish5(`keep/${id}`, Buffer.alloc(1_000_000, 1), { qos: 1, id, retain: true }))
        await client.until(() => client.count(0x40) === id)
      }
      // 64 MiB are kept; whoever sends more is told.
      const codes = client.packets.filter(({ first }) => first === 0x40).map(({ body }) => body[2] ?? 0)
      assert.ok(codes.slice(0, 60).every((code) => code < 0x80))
      assert.ok(codes.slice(-2).every((code) => code === 0x97))
      for (let id = 1; id <= count; id++) await client.push(publish5(`keep/${id}`, '', { qos: 1, id, retain: true }))
      await client.until(() => client.count(0x40) === 2 * count)
      client.destroy()
    },
  },
  {
    name: '100,000 PINGREQs of one that reads no answer',
    async run({ mqtt }) {
      const client = await Hostile.greeted(mqtt, 3, 'pings')
      client.socket.pause()
      const bytes = Buffer.alloc(200_000, Buffer.from(pingreq))
      for (let n = 0; n < 5; n++) client.send(bytes)
      await delay(200)
      client.destroy()
    },
  },
  {
    name: 'WebSockets that send text, fragments, noise, and 256 MB',
    async run({ http, mqtt }) {
      const over = (bytes: readonly (string | Uint8Array)[], fragments = false): Promise<number> =>
        new Promise((resolve, reject) => {
          const socket = new WebSocket(`ws://127.0.0.1:${http}/mqtt`, 'mqtt')
          const late = setTimeout(() => reject(new Error(`a WebSocket was not closed after ${bytes.length} messages`)), 20_000)
          socket.on('open', () => {
            for (const [i, one] of bytes.entries()) socket.send(one, { binary: typeof one !== 'string', fin: !fragments || i === bytes.length - 1 })
          })
          socket
            .on('error', () => undefined)
            .on('close', (code) => {
              clearTimeout(late)
              resolve(code)
            })
        })
      assert.equal(await over(['hello']), 1003)
      await inParallel(times(100, Number), 10, async (n) => void (await over([Buffer.alloc(1 + n * 37, n)])))
      assert.equal(await over([...connect({ clientId: 'pieces' }), 0xc0, 1].map((byte) => Uint8Array.of(byte))), 1000)
      assert.equal(
        await over(
          [...connect({ clientId: 'pieces' }), 0xc0, 1].map((byte) => Uint8Array.of(byte)),
          true,
        ),
        1000,
      )
      assert.equal(await over([connect({ clientId: 'ws-huge' }), Uint8Array.of(0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1)]), 1000)
      assert.equal(await over([Buffer.alloc(2 ** 21)]), 1009)
      // HTTP at the port of MQTT, and a frame without a handshake at that of HTTP.
      const plain = await Hostile.open(mqtt)
      plain.send(Buffer.from('GET /mqtt HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n'))
      await plain.until(() => plain.closed)
      const frame = await Hostile.open(http)
      frame.send(Uint8Array.of(0x82, 0xff, 0, 0, 0, 0, 0x10, 0, 0, 0))
      await frame.until(() => frame.closed)
    },
  },
  {
    name: 'arrays of nothing but bad messages, and messages over the limit',
    async run({ mqtt }) {
      await inParallel(times(6, Number), 6, async (n) => {
        const client = await Hostile.greeted(mqtt, 5, `bad-${n}`)
        await client.push(publish5('devices/bad/telemetry', `[${'1,'.repeat(2_999)}1]`, { qos: 1 }))
        await client.until(() => client.count(0x40) === 1)
        await client.push(packet(0x32, field('devices/bad/telemetry'), [0, 2], none, Buffer.alloc(1_100_000, 0x78)))
        assert.equal(await client.reason(), 0x95)
      })
    },
  },
]
