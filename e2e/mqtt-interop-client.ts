import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import net from 'node:net'

/** What MQTT.js's codec takes and gives; the fields of a packet are those of the standard, in its spelling. */
export interface Packet {
  readonly cmd: string
  readonly messageId?: number
  readonly [field: string]: unknown
}
interface Codec {
  generate(packet: Packet, o: { readonly protocolVersion: number }): Uint8Array
  parser(o: { readonly protocolVersion: number }): {
    on(event: 'packet', heard: (packet: Packet) => void): void
    on(event: 'error', heard: (error: Error) => void): void
    parse(bytes: Uint8Array): number
  }
}
const required: unknown = createRequire(import.meta.resolve('mqtt'))('mqtt-packet')
assert.ok(isCodec(required))
const codec: Codec = required
function isCodec(what: unknown): what is Codec {
  return typeof what === 'object' && what !== null && 'generate' in what && 'parser' in what
}

export interface Properties {
  readonly [name: string]: unknown
}

export interface Message {
  /** As it stood in the packet: empty where an alias stands for it. */
  readonly topic: string
  readonly text: string
  readonly qos: number
  readonly retain: boolean
  readonly dup: boolean
  readonly properties: Properties
}

export interface ClientOptions {
  readonly version: 4 | 5
  readonly clientId: string
  readonly clean?: boolean
  readonly keepalive?: number
  readonly will?: {
    readonly topic: string
    readonly payload: string
    readonly qos: 0 | 1 | 2
    readonly retain?: boolean
    readonly properties?: Properties
  }
  readonly properties?: Properties
  readonly protocolId?: string
}

export interface PublishOptions {
  readonly qos?: 0 | 1 | 2
  readonly retain?: boolean
  readonly properties?: Properties
}

export interface SubscribeOptions {
  readonly qos?: 0 | 1 | 2
  readonly nl?: boolean
  readonly rap?: boolean
  readonly rh?: 0 | 1 | 2
}

const patienceMs = 15_000

/**
 * A client that shows every packet and answers as the standard says unless it is told not to: a test decides what a library would hide. It speaks with
 * the codec of MQTT.js, which is an outside reading of the standard.
 */
export class InteropClient {
  connack: Packet | undefined
  /** Messages of QoS 2 stand here once they are released. */
  readonly messages: Message[] = []
  /** Everything that came, in order. */
  readonly packets: Packet[] = []
  ended = false
  /** A PUBLISH is neither taken nor answered meanwhile. */
  paused = false
  readonly #version: number
  readonly #socket: net.Socket
  readonly #unreleased = new Map<number, Message>()
  #packetId = 0
  #wake: (() => void) | undefined

  private constructor(socket: net.Socket, version: number) {
    this.#socket = socket
    this.#version = version
    socket.setNoDelay(true)
    const parser = codec.parser({ protocolVersion: version })
    parser.on('packet', (packet) => this.#took(packet))
    parser.on('error', (error) => socket.destroy(error))
    socket.on('data', (chunk) => parser.parse(chunk))
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.ended = true
      this.#wake?.()
    })
  }

  /** Resolves with the CONNACK, or the end of the connection. */
  static async open(port: number, o: ClientOptions): Promise<InteropClient> {
    return InteropClient.withBytes(port, o.version, connectBytes(o))
  }

  /** As `open`, with a CONNECT that the codec would not write. */
  static async withBytes(port: number, version: 4 | 5, connect: Uint8Array): Promise<InteropClient> {
    const socket = net.connect(port, '127.0.0.1')
    await once(socket, 'connect')
    const client = new InteropClient(socket, version)
    client.sendBytes(connect)
    await client.until(() => client.connack !== undefined || client.ended)
    return client
  }

  /** As `open`, of a client that is let in. `present`: to a session that was there. */
  static async in(port: number, o: ClientOptions, present = false): Promise<InteropClient> {
    const client = await InteropClient.open(port, o)
    assert.equal(client.code, 0)
    assert.equal(client.connack?.['sessionPresent'], present)
    return client
  }

  connect(o: ClientOptions): void {
    this.sendBytes(connectBytes(o))
  }

  /** Of the CONNACK. */
  get code(): unknown {
    return this.#version === 5 ? this.connack?.['reasonCode'] : this.connack?.['returnCode']
  }

  get connackProperties(): Properties {
    return propertiesOf(this.connack)
  }

  /** Reason codes of the DISCONNECTs that came. */
  get disconnects(): unknown[] {
    return this.packets.filter(({ cmd }) => cmd === 'disconnect').map((packet) => packet['reasonCode'])
  }

  send(packet: Packet): void {
    this.sendBytes(codec.generate(packet, { protocolVersion: this.#version }))
  }

  sendBytes(bytes: Uint8Array): void {
    this.#socket.write(bytes)
  }

  /** Gives the packet id; nobody waits for an answer. */
  publishOnly(topic: string, payload: string, { qos = 0, retain = false, properties }: PublishOptions = {}): number {
    const messageId = qos === 0 ? 0 : ++this.#packetId
    this.send({ cmd: 'publish', topic, payload, qos, dup: false, retain, properties, ...(qos === 0 ? {} : { messageId }) })
    return messageId
  }

  /** Resolves when the exchange is done; at QoS 0, when an answer to a PINGREQ has come. */
  async publish(topic: string, payload: string, o: PublishOptions = {}): Promise<void> {
    const id = this.publishOnly(topic, payload, o)
    if (id === 0) await this.settled()
    else await this.until(() => this.#answer(o.qos === 1 ? 'puback' : 'pubcomp', id) !== undefined)
  }

  /** The codes that were granted. */
  async subscribe(
    filters: string | readonly string[],
    o: SubscribeOptions | readonly SubscribeOptions[] = {},
    properties?: Properties,
  ): Promise<unknown> {
    const messageId = ++this.#packetId
    const all = [filters].flat()
    const subscriptions = all.map((topic, i) => ({ topic, qos: 2, ...('length' in o ? o[i] : o) }))
    this.send({ cmd: 'subscribe', messageId, subscriptions, properties })
    await this.until(() => this.#answer('suback', messageId) !== undefined)
    return this.#answer('suback', messageId)?.['granted']
  }

  async unsubscribe(...unsubscriptions: readonly string[]): Promise<void> {
    const messageId = ++this.#packetId
    this.send({ cmd: 'unsubscribe', messageId, unsubscriptions })
    await this.until(() => this.#answer('unsuback', messageId) !== undefined)
  }

  /** All that the server had to say until now has come. */
  async settled(): Promise<void> {
    const pongs = (): number => this.packets.filter(({ cmd }) => cmd === 'pingresp').length
    const before = pongs()
    this.send({ cmd: 'pingreq' })
    await this.until(() => pongs() > before)
  }

  async count(messages: number): Promise<void> {
    await this.until(() => this.messages.length >= messages)
    await this.settled()
    assert.equal(this.messages.length, messages)
  }

  async disconnect(properties?: Properties): Promise<void> {
    this.send({ cmd: 'disconnect', reasonCode: 0, properties })
    await this.until(() => this.ended)
  }

  /** Without a word. */
  async terminate(): Promise<void> {
    this.#socket.destroy()
    await this.until(() => this.ended)
  }

  async until(done: () => boolean, withinMs = patienceMs): Promise<void> {
    let late = false
    const timer = setTimeout(() => {
      late = true
      this.#wake?.()
    }, withinMs)
    while (!done() && !late) await new Promise<void>((resolve) => (this.#wake = resolve))
    clearTimeout(timer)
    assert.ok(done(), `waited in vain; ended: ${this.ended}, there came ${JSON.stringify(this.packets.map(({ cmd }) => cmd))}`)
  }

  #answer(cmd: string, messageId: number): Packet | undefined {
    return this.packets.findLast((packet) => packet.cmd === cmd && packet.messageId === messageId)
  }

  #took(packet: Packet): void {
    this.packets.push(packet)
    const { cmd, messageId } = packet
    if (cmd === 'connack') this.connack = packet
    else if (cmd === 'publish' && !this.paused) this.#message(packet)
    else if (cmd === 'pubrec') this.send({ cmd: 'pubrel', messageId: messageId ?? 0, reasonCode: 0 })
    else if (cmd === 'pubrel') {
      const message = this.#unreleased.get(messageId ?? 0)
      if (message !== undefined) this.messages.push(message)
      this.#unreleased.delete(messageId ?? 0)
      this.send({ cmd: 'pubcomp', messageId: messageId ?? 0, reasonCode: 0 })
    }
    this.#wake?.()
  }

  #message(packet: Packet): void {
    const { topic, payload, qos, retain, dup, messageId = 0 } = packet
    const text = Buffer.isBuffer(payload) ? payload.toString() : String(payload)
    const message = { topic: String(topic), text, qos: Number(qos), retain: retain === true, dup: dup === true, properties: propertiesOf(packet) }
    if (qos === 2) this.#unreleased.set(messageId, message)
    else this.messages.push(message)
    if (qos === 1) this.send({ cmd: 'puback', messageId, reasonCode: 0 })
    else if (qos === 2) this.send({ cmd: 'pubrec', messageId, reasonCode: 0 })
  }
}

function connectBytes(o: ClientOptions): Uint8Array {
  const { version: protocolVersion, clientId, clean = true, keepalive = 0, will, properties, protocolId = 'MQTT' } = o
  const packet = { cmd: 'connect', protocolId, protocolVersion, clientId, clean, keepalive, will, properties }
  return codec.generate(packet, { protocolVersion })
}

function propertiesOf(packet: Packet | undefined): Properties {
  const properties = packet?.['properties']
  return typeof properties === 'object' && properties !== null ? { ...properties } : {}
}
