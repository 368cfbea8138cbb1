import net from 'node:net'
import tls from 'node:tls'
import { KymoError } from '../../core/errors.ts'
import { trust, trustHint } from '../trust.ts'
import { addressText, parseBrokerAddress, type BrokerAddress } from '../../wire/mqtt/address.ts'
import { ClientFramer, connackText, disconnect, encodeConnect, pingreq } from '../../wire/mqtt/client.ts'
import { encodePublish } from '../../wire/mqtt/encode.ts'
import type { ClientSink } from '../../wire/mqtt/packets.ts'
import { PacketType } from '../../wire/mqtt/packets.ts'

export interface PublisherOptions {
  /** `mqtt://user:password@host:port`, `mqtts://…`, or `host:port`. */
  readonly url: string
  readonly clientId: string
  readonly username?: string
  readonly password?: string
  readonly keepAliveS?: number
  /** QoS 1 messages that may wait for their acknowledgement. */
  readonly inflightMax?: number
  /** Called once per QoS 1 message, with the token that it was published under. */
  readonly onAck?: (token: number) => void
  /** A connection that was open is lost; it is tried again until `end`. */
  readonly onLost?: (reason: string, retryInMs: number) => void
  readonly onConnected?: () => void
  /** Uniform in [0, 1), for the jitter of the backoff. */
  readonly random?: () => number
  readonly backoffMs?: { readonly first: number; readonly max: number }
}

interface Waiting {
  readonly token: number
  readonly packet: Uint8Array
}

/** Packet ids are 16 bits without 0; one is kept free so that a new id is always found. */
const packetIdMax = 65_535
/** Written in one go once gathered; the rest of a turn of the event loop is gathered anyway. */
const gatherBytes = 64 * 1024
/** Bytes that may wait in the socket: beyond, `publish` takes nothing more. */
const socketBytesMax = 4 * 1024 * 1024
const connectTimeoutMs = 10_000
/** A publisher is only ever sent packets of four bytes. */
const answerBytesMax = 64

/**
 * An MQTT 3.1.1 client that only publishes: light enough for a thousand in one process, quick enough to load a server.
 * Packets of one turn of the event loop leave in one write. After a lost connection it connects again with backoff and
 * publishes what was not acknowledged anew (Clean Session: the new session knows nothing of the old packet ids).
 */
export class MqttPublisher {
  readonly #o: PublisherOptions
  readonly #target: BrokerAddress
  readonly #inflightMax: number
  readonly #waiting = new Map<number, Waiting>()
  readonly #topics = new Map<string, Buffer>()
  #socket: net.Socket | undefined
  #connected = false
  #ended = false
  #attempt = 0
  #nextId = 1
  #gathered: Uint8Array[] = []
  #gatheredBytes = 0
  #scheduled = false
  #retryTimer: NodeJS.Timeout | undefined
  #pingTimer: NodeJS.Timeout | undefined
  #pongDue = false
  #idle: (() => void)[] = []

  constructor(options: PublisherOptions) {
    this.#o = options
    this.#target = parseBrokerAddress(options.url)
    this.#inflightMax = Math.min(options.inflightMax ?? 1_000, packetIdMax - 1)
  }

  get connected(): boolean {
    return this.#connected
  }

  /** QoS 1 messages without their acknowledgement. */
  get inflight(): number {
    return this.#waiting.size
  }

  /** The first connection. Rejects with server_unreachable or unauthenticated; later ones are made in the background. */
  connect(): Promise<void> {
    return new Promise((resolve, reject) => this.#open(resolve, reject))
  }

  /** Keeps trying until it is connected, or ended. */
  connectInBackground(): void {
    this.#open(undefined, undefined)
  }

  /**
   * Takes the message, or says false: no connection, or too much is under way. QoS 1 is taken without a connection too, as
   * long as `inflightMax` allows, and leaves with the next one.
   */
  publish(topic: string, payload: Uint8Array, qos: 0 | 1, token = 0): boolean {
    if (this.#ended) return false
    const busy = (this.#socket?.writableLength ?? 0) + this.#gatheredBytes > socketBytesMax
    if (qos === 0) {
      if (!this.#connected || busy) return false
      this.#gather(encodePublish(this.#topicBytes(topic), payload, 0, payload.length, 0).bytes)
      return true
    }
    if (this.#waiting.size >= this.#inflightMax || busy) return false
    const id = this.#freeId()
    const { bytes: packet, idAt } = encodePublish(this.#topicBytes(topic), payload, 0, payload.length, 1)
    packet[idAt] = id >> 8
    packet[idAt + 1] = id & 0xff
    this.#waiting.set(id, { token, packet })
    if (this.#connected) this.#gather(packet)
    return true
  }

  /** Waits for outstanding acknowledgements, at most `timeoutMs`, then disconnects. Gives how many are still missing. */
  async end(timeoutMs: number): Promise<number> {
    if (this.#waiting.size > 0 && timeoutMs > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, timeoutMs)
        this.#idle.push(() => {
          clearTimeout(timer)
          resolve()
        })
      })
    }
    this.#ended = true
    clearTimeout(this.#retryTimer)
    clearInterval(this.#pingTimer)
    const socket = this.#socket
    if (socket !== undefined) {
      if (this.#connected) {
        this.#gather(disconnect)
        this.#flush()
      }
      await new Promise<void>((resolve) => {
        socket.once('close', () => resolve())
        socket.end()
        setTimeout(() => socket.destroy(), 500).unref()
      })
    }
    return this.#waiting.size
  }

  #open(resolve: (() => void) | undefined, reject: ((error: KymoError) => void) | undefined): void {
    const { host, port, secure } = this.#target
    const socket = secure ? tls.connect({ host, port, servername: net.isIP(host) === 0 ? host : '', ...trust() }) : net.connect({ host, port })
    this.#socket = socket
    socket.setNoDelay(true)
    let failure: KymoError | undefined
    const fail = (error: KymoError): void => {
      failure ??= error
      socket.destroy()
    }
    const timer = setTimeout(() => fail(unreachable(this.#target, 'no answer within 10 s')), connectTimeoutMs)
    const unexpected = (): void => fail(unreachable(this.#target, 'it sends what a client that only publishes is not sent'))
    const sink: ClientSink = {
      connack: (_, code) => {
        clearTimeout(timer)
        if (code !== 0)
          fail(
            code === 4 || code === 5
              ? new KymoError('unauthenticated', { detail: `${this.#name}: ${connackText(code)}` })
              : unreachable(this.#target, connackText(code)),
          )
        else {
          this.#onConnected()
          resolve?.()
        }
      },
      acknowledged: (type, id) => {
        if (type === PacketType.puback) this.#onPuback(id)
        else unexpected()
      },
      pingresp: () => {
        this.#pongDue = false
      },
      publish: unexpected,
      oversized: unexpected,
      suback: unexpected,
      unsuback: unexpected,
    }
    const framer = new ClientFramer(sink, answerBytesMax)
    socket.on('data', (chunk: Buffer) => {
      const wrong = framer.push(chunk, 0, chunk.length)
      if (wrong !== undefined) fail(unreachable(this.#target, `what it sends is no MQTT (${wrong.text})`))
    })
    socket.on('error', (error: NodeJS.ErrnoException) =>
      fail(
        unreachable(this.#target, error.code === undefined || error.message.includes(error.code) ? error.message : error.code, trustHint(error.code)),
      ),
    )
    socket.on('close', () => {
      clearTimeout(timer)
      const wasConnected = this.#connected
      this.#onClosed()
      if (this.#ended) return
      const error = failure ?? unreachable(this.#target, 'it closed the connection')
      if (reject !== undefined && !wasConnected) reject(error)
      else this.#retry(error)
    })
    const username = this.#o.username ?? this.#target.username
    const password = this.#o.password ?? this.#target.password
    socket.once(secure ? 'secureConnect' : 'connect', () =>
      socket.write(
        encodeConnect({
          clientId: this.#o.clientId,
          clean: true,
          keepAliveS: this.#o.keepAliveS ?? 30,
          ...(username === undefined ? {} : { username }),
          ...(password === undefined ? {} : { password }),
        }),
      ),
    )
  }

  get #name(): string {
    return addressText(this.#target)
  }

  #onConnected(): void {
    this.#connected = true
    this.#attempt = 0
    this.#pongDue = false
    this.#o.onConnected?.()
    for (const { packet } of this.#waiting.values()) this.#gather(packet)
    this.#pingTimer = setInterval(
      () => {
        // A server that is gone without a word is found out by its silence.
        if (this.#pongDue) this.#socket?.destroy()
        this.#pongDue = true
        this.#gather(pingreq)
      },
      ((this.#o.keepAliveS ?? 30) * 1_000) / 2,
    )
    this.#pingTimer.unref()
  }

  #onClosed(): void {
    this.#connected = false
    this.#socket = undefined
    this.#gathered = []
    this.#gatheredBytes = 0
    clearInterval(this.#pingTimer)
  }

  #retry(error: KymoError): void {
    const { first, max } = this.#o.backoffMs ?? { first: 100, max: 10_000 }
    const ceiling = Math.min(max, first * 2 ** Math.min(this.#attempt++, 16))
    const inMs = ceiling * (0.5 + (this.#o.random ?? Math.random)() / 2)
    this.#o.onLost?.(error.message, inMs)
    this.#retryTimer = setTimeout(() => this.#open(undefined, undefined), inMs)
  }

  #onPuback(id: number): void {
    const waiting = this.#waiting.get(id)
    if (waiting === undefined) return
    this.#waiting.delete(id)
    this.#o.onAck?.(waiting.token)
    if (this.#waiting.size === 0) for (const done of this.#idle.splice(0)) done()
  }

  #freeId(): number {
    while (this.#waiting.has(this.#nextId)) this.#nextId = (this.#nextId % packetIdMax) + 1
    const id = this.#nextId
    this.#nextId = (id % packetIdMax) + 1
    return id
  }

  #topicBytes(topic: string): Buffer {
    let bytes = this.#topics.get(topic)
    if (bytes === undefined) {
      bytes = Buffer.from(topic)
      if (this.#topics.size < 10_000) this.#topics.set(topic, bytes)
    }
    return bytes
  }

  #gather(packet: Uint8Array): void {
    this.#gathered.push(packet)
    this.#gatheredBytes += packet.length
    if (this.#gatheredBytes >= gatherBytes) this.#flush()
    else if (!this.#scheduled) {
      this.#scheduled = true
      setImmediate(() => {
        this.#scheduled = false
        this.#flush()
      })
    }
  }

  #flush(): void {
    if (this.#gathered.length === 0 || this.#socket === undefined) return
    const packets = this.#gathered
    this.#gathered = []
    this.#socket.write(packets.length === 1 && packets[0] !== undefined ? packets[0] : Buffer.concat(packets, this.#gatheredBytes))
    this.#gatheredBytes = 0
  }
}

function unreachable(target: BrokerAddress, why: string, fix = 'Start one:  kymo start      or name another'): KymoError {
  return new KymoError('server_unreachable', {
    detail: `no MQTT server answers at ${target.host}:${target.port}: ${why}`,
    facts: { fix },
  })
}
