import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import { WebSocketServer, type RawData, type WebSocket } from 'ws'
import type { Clock, Timer } from '../../core/env.ts'
import { limits } from '../../core/limits.ts'
import type { Budget } from './budget.ts'
import type { ClientCertificate, Connection } from './connection.ts'
import type { MqttLimits } from './limits.ts'
import type { MqttSession } from './session.ts'
import { certificateOf, type Lingering } from './socket.ts'

/** [MQTT-6.0.0-3], and what clients of MQTT 3.1 called it. */
const subprotocols = ['mqtt', 'mqttv3.1'] as const
/** Close codes (RFC 6455, section 7.4.1). */
const Close = { normal: 1000, goingAway: 1001, unsupportedData: 1003, tryAgainLater: 1013 } as const
const opcodeAndLength = 14
const probeMs = 60_000

/** What the WebSocket connections of a door share. */
export interface WebSocketFacts {
  readonly clock: Clock
  readonly limits: MqttLimits
  readonly lingering: Lingering
  /** Bytes of messages that are not complete. */
  readonly partial: Budget
  /** Whether a client's certificate is worth as much here as at the MQTT door's own TLS port. */
  readonly certificates: boolean
  /** The door is closing: clients shall come back elsewhere or later. */
  closing: boolean
}

/** Undefined: there are too many connections. */
export type AcceptConnection = (connection: Connection) => MqttSession | undefined

/** Takes requests to change to MQTT over WebSocket (section 6); Host and Origin have been looked at. */
export function createUpgrade(facts: WebSocketFacts, accept: AcceptConnection): (request: IncomingMessage, socket: Socket, head: Buffer) => void {
  const { limits: bounds } = facts
  const options = {
    noServer: true,
    clientTracking: false,
    // Telemetry is small, and a deflate context costs each connection more than all else that it has.
    perMessageDeflate: false,
    maxPayload: Math.max(limits.mqttWebSocketMessageBytesMax, bounds.packetBytesMax + opcodeAndLength),
    autoPong: false,
    closeTimeout: bounds.lingerMs,
    handleProtocols: (offered: Set<string>) => subprotocols.find((one) => offered.has(one)) ?? false,
  }
  const server = new WebSocketServer(options)
  return (request, socket, head) => {
    const offered = request.headers['sec-websocket-protocol'] ?? ''
    if (!offered.split(',').some((one) => subprotocols.some((known) => known === one.trim()))) {
      refuse(socket, 'This path speaks MQTT: the client must offer the subprotocol mqtt (Sec-WebSocket-Protocol) [MQTT-6.0.0-3].')
      return
    }
    server.handleUpgrade(request, socket, head, (ws) => {
      socket.setNoDelay(true)
      socket.setKeepAlive(true, probeMs)
      const connection = new WebSocketConnection(ws, socket, facts)
      const session = accept(connection)
      if (session === undefined) connection.refuse()
      else connection.open(session)
    })
  }
}

function refuse(socket: Socket, text: string): void {
  const head = ['HTTP/1.1 400 Bad Request', 'content-type: text/plain', `content-length: ${Buffer.byteLength(text)}`, 'connection: close']
  socket.once('finish', () => socket.destroy())
  socket.end(`${head.join('\r\n')}\r\n\r\n${text}`)
}

/** MQTT over WebSocket as sessions see it: a stream of bytes, whatever messages and frames it came in [MQTT-6.0.0-2]. */
class WebSocketConnection implements Connection {
  readonly remoteAddress: string
  readonly certificate: ClientCertificate | undefined
  readonly transport: 'ws' | 'wss'
  readonly #ws: WebSocket
  readonly #socket: Socket
  readonly #facts: WebSocketFacts
  #session: MqttSession | undefined
  #linger: Timer | undefined
  /** Of the message that is coming, in the library's buffers. */
  #pending = 0
  #incomplete: Timer | undefined
  readonly #written = (): void => {
    if (this.#ws.bufferedAmount === 0) this.#session?.drained()
  }

  constructor(ws: WebSocket, socket: Socket, facts: WebSocketFacts) {
    this.#ws = ws
    this.#socket = socket
    this.#facts = facts
    this.remoteAddress = socket.remoteAddress ?? ''
    this.transport = socket instanceof TLSSocket ? 'wss' : 'ws'
    this.certificate = facts.certificates && socket instanceof TLSSocket ? certificateOf(socket) : undefined
    ws.binaryType = 'nodebuffer'
    // Before the library's own listener, which hands out the messages that the bytes complete.
    socket.prependListener('data', (chunk: Buffer) => this.#came(chunk.length))
    ws.on('message', (data, binary) => this.#message(data, binary))
    ws.on('ping', (data) => {
      // Who does not read gets no more: an answer to the latest one would do (RFC 6455, section 5.5.3).
      if (ws.bufferedAmount < facts.limits.socketBufferBytesMax) ws.pong(data)
    })
    // The library answers what is no WebSocket with the close code for it.
    ws.on('error', () => this.#lost())
    ws.on('close', () => {
      this.#lost()
      this.#settle(0)
      if (this.#linger === undefined) return
      this.#linger.cancel()
      facts.lingering.count--
    })
  }

  get bufferedBytes(): number {
    return this.#ws.bufferedAmount
  }

  get bytesRead(): number {
    return this.#socket.bytesRead
  }

  get bytesWritten(): number {
    return this.#socket.bytesWritten
  }

  open(session: MqttSession): void {
    this.#session = session
  }

  /** There are too many connections. */
  refuse(): void {
    this.#end(Close.tryAgainLater, 'There are too many connections.')
  }

  write(bytes: Uint8Array): void {
    if (this.#ws.readyState === this.#ws.OPEN) this.#ws.send(bytes, { binary: true }, this.#written)
  }

  pause(): void {
    this.#ws.pause()
  }

  resume(): void {
    this.#ws.resume()
  }

  close(): void {
    this.#session = undefined
    if (this.#facts.closing) this.#end(Close.goingAway, 'The server is shutting down.')
    else this.#end(Close.normal, '')
  }

  #message(data: RawData, binary: boolean): void {
    this.#settle(0)
    if (!binary) {
      this.#lost()
      this.#end(Close.unsupportedData, 'MQTT packets are binary [MQTT-6.0.0-1].')
    } else if (Buffer.isBuffer(data)) this.#session?.receive(data, 0, data.length)
  }

  /** Bytes that no session sees until their message is complete: of them there may be so many in all, and they may take so long. */
  #came(bytes: number): void {
    if (this.#session === undefined) return
    this.#settle(this.#pending + bytes)
    if (this.#facts.partial.exceeded && this.#pending > limits.mqttWebSocketFairBytes) {
      this.#lost()
      this.#end(Close.tryAgainLater, 'Too much is waiting in incomplete messages.')
      return
    }
    this.#incomplete ??= this.#facts.clock.after(this.#facts.limits.packetTimeoutMs, () => {
      this.#lost()
      this.#end(Close.normal, 'A message stayed incomplete.')
    })
  }

  #settle(pending: number): void {
    this.#facts.partial.used += pending - this.#pending
    this.#pending = pending
    if (pending > 0) return
    this.#incomplete?.cancel()
    this.#incomplete = undefined
  }

  /** As for a socket that closed: the will is published. */
  #lost(): void {
    const session = this.#session
    this.#session = undefined
    session?.closed()
    this.#awaitClose()
  }

  #end(code: number, reason: string): void {
    // The answer of the peer, and its close, are to be read.
    this.#ws.resume()
    this.#ws.close(code, reason)
    this.#awaitClose()
  }

  #awaitClose(): void {
    const { lingering, clock } = this.#facts
    if (this.#linger !== undefined || this.#ws.readyState === this.#ws.CLOSED) return
    if (lingering.count >= lingering.max) {
      this.#ws.terminate()
      return
    }
    lingering.count++
    this.#linger = clock.after(lingering.ms, () => this.#ws.terminate())
  }
}
