import { encodePublish, packet } from '../support/mqtt-client.ts'
import type { Connection } from '../../src/doors/mqtt/connection.ts'
import type { MqttSession } from '../../src/doors/mqtt/session.ts'
import type { SimRandom } from './clock.ts'

/** One message, from the moment it is made until it is acknowledged. */
export interface SimMessage {
  readonly id: number
  readonly kind: 'timed' | 'untimed' | 'bad'
  readonly topic: string
  readonly payload: string
  readonly device: string
  /** Unique over the whole world: how a reading is found again. */
  readonly value: number
  /** Epoch microseconds; undefined for messages without a time. */
  readonly timeUs: number | undefined
  packetId: number
  sent: boolean
}

/**
 * An MQTT 3.1.1 client in the simulated network: keeps every QoS 1 message until its PUBACK, sends it again with DUP=1 after a
 * reconnect under the same packet id [MQTT-4.4.0-1].
 */
export class SimClient {
  readonly id: string
  readonly pending = new Map<number, SimMessage>()
  readonly #random: SimRandom
  readonly #onAck: (message: SimMessage) => void
  #session: MqttSession | undefined
  #received: Uint8Array = new Uint8Array(0)
  #connected = false
  #paused = false
  #outgoing: Uint8Array[] = []
  #packetId = 0

  constructor(id: string, random: SimRandom, onAck: (message: SimMessage) => void) {
    this.id = id
    this.#random = random
    this.#onAck = onAck
  }

  get online(): boolean {
    return this.#session !== undefined
  }

  connect(accept: (connection: Connection) => MqttSession | undefined): void {
    const mine: { session?: MqttSession } = {}
    const current = (): boolean => mine.session !== undefined && this.#session === mine.session
    const connection: Connection = {
      remoteAddress: '127.0.0.1',
      transport: 'tcp',
      bytesRead: 0,
      bytesWritten: 0,
      bufferedBytes: 0,
      write: (bytes) => {
        if (current()) this.#take(bytes)
      },
      pause: () => {
        if (current()) this.#paused = true
      },
      resume: () => {
        if (current()) this.#paused = false
      },
      close: () => {
        if (current()) this.#lost()
      },
    }
    const session = accept(connection)
    if (session === undefined) return
    mine.session = session
    this.#session = session
    this.#connected = false
    this.#paused = false
    this.#received = new Uint8Array(0)
    this.#outgoing = []
    const name = Buffer.from(this.id)
    const variable = Buffer.from([0, 4, 0x4d, 0x51, 0x54, 0x54, 4, 2, 0, 0, 0, name.length])
    this.#queue(packet(0x10, variable, name))
  }

  publish(message: SimMessage): void {
    do this.#packetId = (this.#packetId % 65_535) + 1
    while (this.pending.has(this.#packetId))
    message.packetId = this.#packetId
    this.pending.set(message.packetId, message)
    if (this.#connected) this.#send(message)
  }

  /** A client that loses patience sends again without being asked to; allowed in 3.1.1 only after a reconnect, and seen in the field. */
  repeat(): void {
    if (!this.#connected) return
    for (const message of this.pending.values()) if (message.sent) this.#send(message)
  }

  /** Lets the network carry what was sent, cut into pieces of any size. */
  carry(): void {
    const session = this.#session
    while (session !== undefined && this.#session === session && !this.#paused && this.#outgoing.length > 0) {
      const bytes = this.#outgoing.shift()!
      const cut = bytes.length > 1 && this.#random.chance(0.3) ? 1 + this.#random.below(bytes.length - 1) : bytes.length
      if (cut < bytes.length) this.#outgoing.unshift(bytes.subarray(cut))
      session.receive(bytes.slice(0, cut), 0, cut)
    }
  }

  /** The network fails; what was on its way is lost. */
  drop(): void {
    const session = this.#session
    this.#lost()
    session?.closed()
  }

  #lost(): void {
    this.#session = undefined
    this.#connected = false
    this.#outgoing = []
  }

  #queue(bytes: Uint8Array): void {
    this.#outgoing.push(bytes)
  }

  #send(message: SimMessage): void {
    this.#queue(encodePublish({ topic: message.topic, payload: message.payload, qos: 1, packetId: message.packetId, dup: message.sent }))
    message.sent = true
  }

  #take(bytes: Uint8Array): void {
    const all = Buffer.concat([this.#received, bytes])
    let at = 0
    while (at + 2 <= all.length && at + 2 + all[at + 1]! <= all.length) {
      const type = all[at]! >> 4
      const body = all.subarray(at + 2, at + 2 + all[at + 1]!)
      at += 2 + body.length
      if (type === 2) {
        this.#connected = true
        for (const message of this.pending.values()) this.#send(message)
      } else if (type === 4) {
        const id = body.readUInt16BE(0)
        const message = this.pending.get(id)
        if (message !== undefined) {
          this.pending.delete(id)
          this.#onAck(message)
        }
      }
    }
    this.#received = all.subarray(at)
  }
}
