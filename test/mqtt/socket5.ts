import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { nodeClock, nodeRandom } from '../../src/core/env/node-env.ts'
import type { Env } from '../../src/core/env.ts'
import { Metrics } from '../../src/core/metrics.ts'
import { openMqttDoor } from '../../src/doors/mqtt/door.ts'
import type { MqttDoor } from '../../src/doors/mqtt/door.ts'
import type { MqttLimits } from '../../src/doors/mqtt/limits.ts'
import { openEmbeddedLog } from '../../src/log/embedded/log.ts'
import { openSessionStore } from '../../src/store/sessions/store.ts'
import { simEnv } from '../sim/clock.ts'
import { pingreq } from './client-packets.ts'
import { createFastGate } from './fast-gate.ts'
import { quiet, testAuthorizer, testTopics } from './harness.ts'
import { connect5, disconnect5, publish5, read, subscribe5 } from './packets5.ts'
import type { Hello, Property, Received, Say } from './packets5.ts'

const answerMs = 10_000

/** A client of MQTT 5 over a raw socket. What it receives is shown in words, so that a test reads like the exchange. */
export class Socket5 {
  readonly socket: net.Socket
  isClosed = false
  /** CONNACK. */
  answer: Received | undefined
  #bytes = Buffer.alloc(0)
  readonly #received: Received[] = []
  #wake: (() => void) | undefined

  constructor(socket: net.Socket) {
    this.socket = socket
    socket.setNoDelay(true)
    socket.on('error', () => undefined)
    socket.on('data', (chunk) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk])
      this.#cut()
      this.#wake?.()
    })
    socket.on('close', () => {
      this.isClosed = true
      this.#wake?.()
    })
  }

  send(...packets: readonly Uint8Array[]): void {
    this.socket.write(Buffer.concat(packets))
  }

  /** The next packet. */
  async next(): Promise<Received> {
    const until = performance.now() + answerMs
    while (this.#received.length === 0) {
      assert.ok(!this.isClosed, 'the connection was closed')
      assert.ok(performance.now() < until, 'nothing came')
      await this.#change()
    }
    return this.#received.shift()!
  }

  /** The next packets are these, in words. Returns the last. */
  async expect(...said: readonly string[]): Promise<Received> {
    let last: Received | undefined
    for (const one of said) {
      last = await this.next()
      assert.equal(last.said, one)
    }
    assert.ok(last !== undefined)
    return last
  }

  /** Nothing has come that was not asked for. */
  async quiet(): Promise<void> {
    this.send(pingreq)
    await this.expect('pingresp')
  }

  /** The connection ends with this DISCONNECT, or CONNACK, and nothing behind it. */
  async ends(said: string): Promise<Received> {
    const last = await this.expect(said)
    await this.gone()
    return last
  }

  /** The connection ends, and nothing more comes. */
  async gone(): Promise<void> {
    const until = performance.now() + answerMs
    while (!this.isClosed) {
      assert.ok(performance.now() < until, 'the connection was not closed')
      await this.#change()
    }
    assert.deepEqual(
      this.#received.map((one) => one.said),
      [],
    )
    assert.equal(this.#bytes.length, 0)
  }

  async subscribe(filters: Readonly<Record<string, number>>, properties?: readonly Property[]): Promise<void> {
    this.send(subscribe5(9, filters, properties))
    await this.expect(
      `suback 9 ${Object.values(filters)
        .map((options) => options & 3)
        .join(' ')}`,
    )
  }

  /** Publishes at QoS 1 and waits for PUBACK: all who are connected have it by then, or it is on its way to them. */
  async say(topic: string, payload: string | Uint8Array, o: Say = {}): Promise<Received> {
    this.send(publish5(topic, payload, { qos: 1, ...o }))
    const answer = await this.next()
    assert.match(answer.said, new RegExp(`^puback ${o.id ?? 1}( 10)?$`))
    return answer
  }

  /** Something came, or the connection was closed; or enough time has passed to look. */
  #change(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, answerMs)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  /** Says goodbye, and waits until the server knows. */
  async leave(code = 0, properties: readonly Property[] = []): Promise<void> {
    this.send(disconnect5(code, properties))
    while (!this.isClosed) await this.#change()
  }

  /** As a network that fails. */
  drop(): void {
    this.socket.destroy()
  }

  #cut(): void {
    for (;;) {
      let length = 0
      let at = 1
      for (let shift = 0; ; shift += 7) {
        if (at >= this.#bytes.length) return
        const byte = this.#bytes[at++]!
        length += (byte & 127) * 2 ** shift
        if (byte < 128) break
      }
      if (this.#bytes.length < at + length) return
      this.#received.push(read(this.#bytes.subarray(0, at + length), at))
      this.#bytes = this.#bytes.subarray(at + length)
    }
  }
}

const env: Env = { ...simEnv(1), clock: nodeClock, random: nodeRandom, logger: quiet }

/** The door on a port of its own, with the store of sessions. */
export class Door5 {
  readonly door: MqttDoor
  /** Telemetry that the gate took: topic and text. */
  readonly taken: [string, string][]
  readonly #close: () => Promise<void>

  private constructor(door: MqttDoor, taken: [string, string][], close: () => Promise<void>) {
    this.door = door
    this.taken = taken
    this.#close = close
  }

  static async open(limits: Partial<MqttLimits> = {}): Promise<Door5> {
    const own = { ...env, disk: simEnv(1).disk }
    const log = await openEmbeddedLog({ dir: '/log', env: own, threads: false, reserveBytes: 0 })
    const store = await openSessionStore({ log, env: own })
    const taken: [string, string][] = []
    const gate = createFastGate((topic, text) => taken.push([topic, text]))
    const authorizer = testAuthorizer
    const door = await openMqttDoor({
      host: '127.0.0.1',
      port: 0,
      gate,
      topics: testTopics,
      authorizer,
      env: own,
      metrics: new Metrics(),
      limits: { authDelayMs: 10, ...limits },
      store,
    })
    return new Door5(door, taken, async () => {
      await door.close(100)
      await store.close()
      await log.close()
    })
  }

  /** A connection on which nothing was sent. */
  async line(): Promise<Socket5> {
    const socket = net.connect(this.door.port, '127.0.0.1')
    await once(socket, 'connect')
    return new Socket5(socket)
  }

  /** A client that is let in. `present`: its session was there. */
  async client(clientId: string, o: Hello & { readonly present?: boolean } = {}): Promise<Socket5> {
    const client = await this.line()
    client.send(connect5(clientId, o))
    client.answer = await client.expect(`connack 0${o.present === true ? ' present' : ''}`)
    return client
  }

  async close(): Promise<void> {
    await this.#close()
  }
}
