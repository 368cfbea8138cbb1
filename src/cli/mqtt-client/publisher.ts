import net from 'node:net'
import tls from 'node:tls'
import { KymoError } from '../../core/errors.ts'
import { connackText, connectPacket, disconnect, PacketReader, pingRequest, publishPacket } from './packets.ts'

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
  readonly packet: Buffer
}

/** Packet ids are 16 bits without 0; one is kept free so that a new id is always found. */
const packetIdMax = 65_535
/** Written in one go once gathered; the rest of a turn of the event loop is gathered anyway. */
const gatherBytes = 64 * 1024
/** Bytes that may wait in the socket: beyond, `publish` takes nothing more. */
const socketBytesMax = 4 * 1024 * 1024
const connectTimeoutMs = 10_000

/**
 * An MQTT 3.1.1 client that only publishes: light enough for a thousand in one process, quick enough to load a server.
 * Packets of one turn of the event loop leave in one write. After a lost connection it connects again with backoff and
 * publishes what was not acknowledged anew (Clean Session: the new session knows nothing of the old packet ids).
 */
export class MqttPublisher {
  readonly #o: PublisherOptions
  readonly #target: Target
  readonly #inflightMax: number
  readonly #waiting = new Map<number, Waiting>()
  readonly #topics = new Map<string, Buffer>()
  #socket: net.Socket | undefined
  #connected = false
  #ended = false
  #attempt = 0
  #nextId = 1
  #gathered: Buffer[] = []
  #gatheredBytes = 0
  #scheduled = false
  #retryTimer: NodeJS.Timeout | undefined
  #pingTimer: NodeJS.Timeout | undefined
  #pongDue = false
  #idle: (() => void)[] = []

  constructor(options: PublisherOptions) {
    this.#o = options
    this.#target = parseTarget(options.url)
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
      this.#gather(publishPacket(this.#topicBytes(topic), payload, 0))
      return true
    }
    if (this.#waiting.size >= this.#inflightMax || busy) return false
    const id = this.#freeId()
    const packet = publishPacket(this.#topicBytes(topic), payload, id)
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
        this.#gather(Buffer.from(disconnect))
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
    const socket = secure ? tls.connect({ host, port, servername: net.isIP(host) === 0 ? host : '' }) : net.connect({ host, port })
    this.#socket = socket
    socket.setNoDelay(true)
    let failure: KymoError | undefined
    const fail = (error: KymoError): void => {
      failure ??= error
      socket.destroy()
    }
    const timer = setTimeout(() => fail(unreachable(this.#target, 'no answer within 10 s')), connectTimeoutMs)
    const reader = new PacketReader({
      onConnack: (code) => {
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
      onPuback: (id) => this.#onPuback(id),
      onPong: () => {
        this.#pongDue = false
      },
      onError: (reason) => fail(unreachable(this.#target, reason)),
    })
    socket.on('data', (chunk: Buffer) => reader.push(chunk))
    socket.on('error', (error: NodeJS.ErrnoException) =>
      fail(unreachable(this.#target, error.code === undefined || error.message.includes(error.code) ? error.message : error.code)),
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
        connectPacket({
          clientId: this.#o.clientId,
          keepAliveS: this.#o.keepAliveS ?? 30,
          ...(username === undefined ? {} : { username }),
          ...(password === undefined ? {} : { password }),
        }),
      ),
    )
  }

  get #name(): string {
    return `${this.#target.secure ? 'mqtts' : 'mqtt'}://${this.#target.host}:${this.#target.port}`
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
        this.#gather(Buffer.from(pingRequest))
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

  #gather(packet: Buffer): void {
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

export interface Target {
  readonly host: string
  readonly port: number
  readonly secure: boolean
  readonly username?: string
  readonly password?: string
}

/** Throws `usage` for what is not an MQTT address. */
export function parseTarget(text: string): Target {
  const url = URL.parse(text.includes('://') ? text : `mqtt://${text}`)
  const secure = url?.protocol === 'mqtts:' || url?.protocol === 'ssl:' || url?.protocol === 'tls:'
  if (url === null || url.hostname === '' || (!secure && url.protocol !== 'mqtt:' && url.protocol !== 'tcp:')) {
    throw new KymoError('usage', { detail: `"${text}" is not an MQTT address: mqtt://host:port is expected` })
  }
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? (secure ? 8883 : 1883) : Number(url.port),
    secure,
    ...(url.username === '' ? {} : { username: decodeURIComponent(url.username) }),
    ...(url.password === '' ? {} : { password: decodeURIComponent(url.password) }),
  }
}

function unreachable(target: Target, why: string): KymoError {
  return new KymoError('server_unreachable', {
    detail: `no MQTT server answers at ${target.host}:${target.port}: ${why}`,
    facts: { fix: 'Start one:  kymo start      or name another' },
  })
}
