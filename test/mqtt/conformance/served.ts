import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { nodeEnv } from '../../../src/core/env/node-env.ts'
import { Metrics } from '../../../src/core/metrics.ts'
import { openMqttDoor } from '../../../src/doors/mqtt/door.ts'
import type { MqttDoor } from '../../../src/doors/mqtt/door.ts'
import type { MqttLimits } from '../../../src/doors/mqtt/limits.ts'
import { openEmbeddedLog } from '../../../src/log/embedded/log.ts'
import { openSessionStore } from '../../../src/store/sessions/store.ts'
import { connect, hex, pingreq } from '../client-packets.ts'
import type { ConnectOptions } from '../client-packets.ts'
import { quiet, TestGate, testAuthorizer, testTopics } from '../harness.ts'

const env = nodeEnv(quiet)
/** Far more than anything here takes; a test that waits so long has failed. */
const patienceMs = 10_000

/** A client's end of a real connection, byte by byte: what it sends is the test's, what comes is shown packet by packet in hex. */
export class Wire {
  readonly #socket: net.Socket
  #bytes = Buffer.alloc(0)
  readonly #packets: string[] = []
  #ended = false
  #wake: (() => void) | undefined

  private constructor(socket: net.Socket) {
    this.#socket = socket
    socket.setNoDelay(true)
    socket.on('data', (chunk) => this.#read(chunk))
    // A reset is an end like any other here.
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.#ended = true
      this.#wake?.()
    })
  }

  static async open(port: number): Promise<Wire> {
    const socket = net.connect(port, '127.0.0.1')
    await once(socket, 'connect')
    return new Wire(socket)
  }

  send(...packets: readonly Uint8Array[]): void {
    this.#socket.write(Buffer.concat(packets))
  }

  /** The next packets, in the order that they came. Rejects when the connection ends before. */
  async next(count: number): Promise<string[]> {
    await this.#until(() => this.#packets.length >= count || this.#ended, `${count} packets`)
    assert.ok(this.#packets.length >= count, `the connection ended after [${this.#packets.join(' | ')}]`)
    return this.#packets.splice(0, count)
  }

  async expect(...packets: readonly string[]): Promise<void> {
    assert.deepEqual(await this.next(packets.length), packets)
  }

  /** In any order. */
  async expectAll(...packets: readonly string[]): Promise<void> {
    assert.deepEqual((await this.next(packets.length)).toSorted(), packets.toSorted())
  }

  /** Nothing has come that was not asked for: the answer to a PINGREQ is the next. */
  async nothing(): Promise<void> {
    this.send(pingreq)
    await this.expect('d0 00')
  }

  /** The server ends the connection, and says nothing more. */
  async ends(): Promise<void> {
    await this.#until(() => this.#ended, 'the end of the connection')
    assert.deepEqual(this.#packets, [])
  }

  /** Without a DISCONNECT. */
  async hangUp(): Promise<void> {
    this.#socket.destroy()
    await this.#until(() => this.#ended, 'the end of the connection')
  }

  async #until(done: () => boolean, what: string): Promise<void> {
    let late = false
    const timer = setTimeout(() => {
      late = true
      this.#wake?.()
    }, patienceMs)
    while (!done() && !late) await new Promise<void>((resolve) => (this.#wake = resolve))
    clearTimeout(timer)
    assert.ok(done(), `waited in vain for ${what}; there came [${this.#packets.join(' | ')}]`)
  }

  #read(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk])
    for (;;) {
      let length = 0
      let at = 1
      for (; at < this.#bytes.length; at++) {
        length |= (this.#bytes[at]! & 0x7f) << (7 * (at - 1))
        if (this.#bytes[at]! < 0x80) break
      }
      const end = at + 1 + length
      if (this.#bytes.length < end) break
      this.#packets.push(hex(this.#bytes.subarray(0, end)))
      this.#bytes = this.#bytes.subarray(end)
    }
    this.#wake?.()
  }
}

/** The door on a port of loopback, over sessions on a disk. Telemetry is what `testTopics` says, durable when the test says so. */
export class Served {
  readonly gate = new TestGate()
  readonly limits: Partial<MqttLimits>
  readonly #dir = mkdtempSync(path.join(os.tmpdir(), 'kymo-conformance-'))
  readonly #wires: Wire[] = []
  #door: MqttDoor | undefined
  #close: () => Promise<void> = async () => undefined

  private constructor(limits: Partial<MqttLimits>) {
    this.limits = limits
  }

  static async start(limits: Partial<MqttLimits> = {}): Promise<Served> {
    const served = new Served(limits)
    await served.#open()
    return served
  }

  get port(): number {
    return this.#door!.port
  }

  /** How many clients are let in. */
  get connections(): number {
    return this.#door!.connections()
  }

  async line(): Promise<Wire> {
    const wire = await Wire.open(this.port)
    this.#wires.push(wire)
    return wire
  }

  /** A client that is let in; `present`: to a session that was there. */
  async client(clientId: string, o: ConnectOptions & { readonly present?: boolean } = {}): Promise<Wire> {
    const wire = await this.line()
    wire.send(connect({ clientId, ...o }))
    await wire.expect(`20 02 ${o.present === true ? '01' : '00'} 00`)
    return wire
  }

  /** The client vanishes without a DISCONNECT, and the server knows. */
  async drop(wire: Wire): Promise<void> {
    const before = this.connections
    await wire.hangUp()
    for (const until = performance.now() + patienceMs; this.connections >= before; await delay(1)) {
      assert.ok(performance.now() < until, 'the server has not noticed')
    }
  }

  /** Ends the server and starts another one on the same disk. */
  async restart(): Promise<void> {
    await this.#close()
    await this.#open()
  }

  async stop(): Promise<void> {
    await Promise.all(this.#wires.map((wire) => wire.hangUp()))
    await this.#close()
    rmSync(this.#dir, { recursive: true, force: true })
  }

  async #open(): Promise<void> {
    const log = await openEmbeddedLog({ dir: this.#dir, env, threads: false, segmentBytesMax: 1 << 20, reserveBytes: 0 })
    const store = await openSessionStore({ log, env })
    const door = await openMqttDoor({
      host: '127.0.0.1',
      port: 0,
      gate: this.gate,
      topics: testTopics,
      authorizer: testAuthorizer,
      env,
      metrics: new Metrics(),
      limits: { authDelayMs: 1, ...this.limits },
      store,
      sys: { version: '0', intervalMs: 60_000 },
    })
    this.#door = door
    this.#close = async () => {
      await door.close(1000)
      await store.close()
      await log.close()
    }
  }
}
