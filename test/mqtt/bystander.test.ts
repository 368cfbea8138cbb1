import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { nodeClock, nodeRandom } from '../../src/core/env/node-env.ts'
import type { Env } from '../../src/core/env.ts'
import { Metrics } from '../../src/core/metrics.ts'
import { Topic } from '../../src/core/record.ts'
import { SeriesTable } from '../../src/core/series-table.ts'
import { openMqttDoor } from '../../src/doors/mqtt/door.ts'
import type { MqttDoor } from '../../src/doors/mqtt/door.ts'
import { Ingest } from '../../src/roles/ingest.ts'
import { PayloadDecoder } from '../../src/wire/payload/decoder.ts'
import { defaultTelemetryTopics, TelemetryTopics } from '../../src/wire/topics.ts'
import { MemoryLog } from '../roles/live-memory-log.ts'
import { connect, publish, subscribe } from './client-packets.ts'
import { quiet, testAuthorizer } from './harness.ts'

// The door over real sockets with the real decoder. While somebody misbehaves, a neighbour publishes at QoS 1, one message at a
// time. The bound is far from what is usual (some milliseconds), so that a busy machine does not fail it: it finds what stops the event loop,
// or grows with what is sent.

const rounds = 60
const latencyMaxMs = 2_000

interface Hostile {
  readonly door: MqttDoor
  readonly stopped: () => boolean
  /** A connection that is closed at the end. */
  open(): Promise<net.Socket>
  /** Writes, and waits until the kernel took it or the connection is gone. */
  write(socket: net.Socket, bytes: Uint8Array): Promise<void>
  gone(socket: net.Socket): Promise<void>
}

async function attacked(
  attack: (hostile: Hostile) => Promise<void>,
  more: (log: MemoryLog, metrics: Metrics) => void = () => undefined,
): Promise<void> {
  const env: Env = { clock: nodeClock, random: nodeRandom, logger: quiet, disk: undefined as never }
  const metrics = new Metrics()
  const series = new SeriesTable()
  const log = new MemoryLog()
  const ingest = new Ingest({ log, series, decoder: new PayloadDecoder({ series }), env, metrics, onFatal: (error) => assert.fail(error.message) })
  const door = await openMqttDoor({
    host: '127.0.0.1',
    port: 0,
    gate: ingest,
    topics: new TelemetryTopics(defaultTelemetryTopics),
    authorizer: testAuthorizer,
    env,
    metrics,
  })
  const sockets: net.Socket[] = []
  let stopped = false
  const open = async (): Promise<net.Socket> => {
    const socket = net.connect(door.port, '127.0.0.1')
    socket.on('error', () => undefined)
    sockets.push(socket)
    await Promise.race([once(socket, 'connect'), once(socket, 'close')])
    socket.resume()
    return socket
  }
  const hostile: Hostile = {
    door,
    stopped: () => stopped,
    open,
    write: async (socket, bytes) => {
      if (!socket.destroyed && !socket.write(bytes)) await Promise.race([once(socket, 'drain'), once(socket, 'close')])
    },
    gone: async (socket) => {
      if (!socket.destroyed) await once(socket, 'close')
    },
  }
  const attackDone = attack(hostile)
  try {
    const neighbour = await open()
    neighbour.setNoDelay(true)
    let waiting: ((bytes: Buffer) => void) | undefined
    neighbour.on('data', (chunk: Buffer) => waiting?.(chunk))
    neighbour.on('close', () => waiting?.(Buffer.from('closed')))
    const answer = async (bytes: Uint8Array): Promise<string> => {
      const answered = new Promise<Buffer>((resolve) => (waiting = resolve))
      neighbour.write(bytes)
      return (await answered).toString('hex')
    }
    assert.equal(await answer(connect({ clientId: 'neighbour' })), '20020000')
    let slowest = 0
    for (let id = 1; id <= rounds; id++) {
      const fromMs = nodeClock.monotonicMs()
      assert.equal(await answer(publish('devices/neighbour/telemetry', `{"n":${id}}`, { qos: 1, id })), `4002${id.toString(16).padStart(4, '0')}`)
      slowest = Math.max(slowest, nodeClock.monotonicMs() - fromMs)
      await pause(2)
    }
    assert.ok(slowest < latencyMaxMs, `the slowest PUBACK took ${Math.round(slowest)} ms`)
    const rows = log
      .topic(Topic.telemetry)
      .records.flatMap((record) =>
        record.kind === 'readings' ? Array.from(record.batch.series.subarray(0, record.batch.rows), (one) => record.batch.keys[one]!.device) : [],
      )
    assert.equal(rows.filter((device) => device === 'neighbour').length, rounds)
    more(log, metrics)
  } finally {
    stopped = true
    for (const socket of sockets) socket.destroy()
    await attackDone
    await door.close(100)
    await ingest.stop()
  }
}

test('a neighbour is served while others send garbage, one connection after the other', () =>
  attacked(async ({ open, write, gone, stopped }) => {
    const garbage = Buffer.alloc(64 * 1024, 0xa5)
    const one = async (): Promise<void> => {
      for (let n = 0; !stopped(); n++) {
        const socket = await open()
        await write(socket, n % 2 === 0 ? garbage : Buffer.concat([connect({ clientId: `g${n}` }), garbage]))
        await gone(socket)
      }
    }
    await Promise.all([one(), one(), one()])
  }))

test('a neighbour is served while 200 connections drip a CONNECT each', () =>
  attacked(async ({ open, write, stopped }) => {
    const bytes = connect({ clientId: 'x'.repeat(200) })
    const sockets = await Promise.all(Array.from({ length: 200 }, open))
    for (let at = 0; at < bytes.length - 1 && !stopped(); at++) {
      for (const socket of sockets) await write(socket, bytes.subarray(at, at + 1))
      await pause(5)
    }
  }))

test('a neighbour is served while others leave large packets half sent', () =>
  attacked(async ({ open, write }) => {
    const half = publish('chat', Buffer.alloc(1_000_000, 0x78)).subarray(0, 500_000)
    for (let n = 0; n < 40; n++) {
      const socket = await open()
      await write(socket, connect({ clientId: `half${n}` }))
      await write(socket, half)
    }
  }))

test('a neighbour is served while others hold 10,000 subscriptions, and publish where most of them have to be looked at', () =>
  attacked(async ({ open, write, stopped }) => {
    for (let n = 0; n < 10; n++) {
      const socket = await open()
      const filters = Array.from({ length: 1_000 }, (_, i) => {
        const levels = Array.from({ length: 14 }, (__, level) => (((i * 10 + n) >> level) & 1 ? '+' : 'a'))
        return [levels.join('/'), 1] as const
      })
      await write(socket, Buffer.concat([connect({ clientId: `many${n}` }), subscribe(1, ...filters)]))
    }
    const socket = await open()
    await write(socket, connect({ clientId: 'publisher' }))
    while (!stopped()) {
      await write(socket, publish(Array.from({ length: 14 }, () => 'a').join('/'), 'x'))
      await pause(1)
    }
  }))

test('a neighbour is served while another publishes to topics of the greatest depth, none twice', () =>
  attacked(async ({ open, write, stopped }) => {
    const watcher = await open()
    await write(
      watcher,
      Buffer.concat([connect({ clientId: 'deep' }), subscribe(1, [`${'+/'.repeat(127)}+`, 0], ['#', 0], [`${'a/'.repeat(120)}#`, 0])]),
    )
    const socket = await open()
    await write(socket, connect({ clientId: 'diver' }))
    for (let n = 0; !stopped(); n++) {
      await write(socket, Buffer.concat(Array.from({ length: 20 }, (_, i) => publish(`${'a/'.repeat(127)}${n * 20 + i}`, 'x'))))
      await pause(1)
    }
  }))

test('a neighbour is served while others send arrays of nothing but bad messages', () =>
  attacked(
    async ({ open, write, stopped }) => {
      const array = publish('telemetry', `[${'1,'.repeat(9_999)}1]`, { qos: 1, id: 1 })
      const one = async (n: number): Promise<void> => {
        const socket = await open()
        await write(socket, connect({ clientId: `bad${n}` }))
        while (!stopped() && !socket.destroyed) await write(socket, array)
      }
      await Promise.all([one(1), one(2), one(3)])
    },
    (log) => assert.ok(log.topic(Topic.deadLetters).records.length > 100),
  ))

test('a neighbour is served while another sends messages over the limit again and again; what is kept of them is bounded', () =>
  attacked(
    async ({ open, write, gone, stopped }) => {
      const large = publish('telemetry', Buffer.alloc(2_000_000, 0x78), { qos: 1, id: 1 }).subarray(0, 60_000)
      while (!stopped()) {
        const socket = await open()
        await write(socket, Buffer.concat([connect({ clientId: 'large' }), large]))
        await gone(socket)
      }
    },
    (log, metrics) => {
      const { records } = log.topic(Topic.deadLetters)
      assert.ok(records.length > 0 && records.length <= 101, `${records.length} were kept`)
      for (const record of records) assert.ok('body' in record && record.body.length < 6_000)
      const dropped = metrics.counter('kymo_mqtt_dropped_total', '', { reason: 'oversized' }).value
      assert.ok(dropped === 0 || records.length >= 100, `${dropped} were not kept`)
    },
  ))
