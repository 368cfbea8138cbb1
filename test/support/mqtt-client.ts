import { once } from 'node:events'
import net from 'node:net'

/**
 * A small MQTT 3.1.1 client of the tests' own, over a raw socket: it shows what the wire said, resends with DUP=1 and the same
 * packet id under the same client id, and never hides a lost acknowledgement. It imports nothing of src/.
 */
export interface RawMqttOptions {
  readonly host?: string
  readonly port: number
  readonly clientId: string
  readonly username?: string
  readonly password?: string
  readonly cleanSession?: boolean
  readonly keepAliveS?: number
  /** From the first packet on: a session that is present has something to say right behind CONNACK. */
  readonly onPublish?: (message: ReceivedPublish) => void
  /** PUBREC, PUBREL and PUBCOMP, by their packet types. */
  readonly onExactly?: (type: number, packetId: number) => void
  /** PUBACK is for the test to send. */
  readonly acksLater?: boolean
}

export interface Publish {
  readonly topic: string
  readonly payload: Uint8Array | string
  readonly qos?: 0 | 1 | 2
  readonly packetId?: number
  readonly dup?: boolean
  readonly retain?: boolean
}

export interface ReceivedPublish {
  readonly topic: string
  readonly payload: Buffer
  readonly qos: number
  readonly packetId: number
  readonly dup: boolean
  readonly retain: boolean
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'utf8')
  const out = Buffer.allocUnsafe(bytes.length + 2)
  out.writeUInt16BE(bytes.length, 0)
  bytes.copy(out, 2)
  return out
}

/** Fixed header with the Remaining Length of [MQTT-2.2.3], then `parts`. */
export function packet(firstByte: number, ...parts: readonly Uint8Array[]): Buffer {
  let length = parts.reduce((sum, part) => sum + part.length, 0)
  const head = [firstByte]
  do {
    head.push((length % 128) | (length >= 128 ? 128 : 0))
    length = Math.floor(length / 128)
  } while (length > 0)
  return Buffer.concat([Buffer.from(head), ...parts])
}

export function encodePublish(message: Publish): Buffer {
  const qos = message.qos ?? 0
  const payload = typeof message.payload === 'string' ? Buffer.from(message.payload) : message.payload
  const id = Buffer.alloc(qos > 0 ? 2 : 0)
  if (qos > 0) id.writeUInt16BE(message.packetId ?? 0, 0)
  return packet(0x30 | (message.dup === true ? 8 : 0) | (qos << 1) | (message.retain === true ? 1 : 0), text(message.topic), id, payload)
}

export class RawMqtt {
  /** Return code of the CONNACK. */
  returnCode = -1
  sessionPresent = false
  closed = false
  onPuback: (packetId: number) => void = () => undefined
  onPublish: (message: ReceivedPublish) => void = () => undefined
  onClose: () => void = () => undefined
  readonly socket: net.Socket
  readonly #options: RawMqttOptions
  #rest: Buffer = Buffer.alloc(0)
  #waiting = new Map<number, (body: Buffer) => void>()

  private constructor(socket: net.Socket, options: RawMqttOptions) {
    this.socket = socket
    this.#options = options
    if (options.onPublish !== undefined) this.onPublish = options.onPublish
    socket.setNoDelay(true)
    socket.on('data', (chunk) => this.#read(chunk))
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      this.closed = true
      this.onClose()
    })
  }

  /** Resolves after the CONNACK, whatever it says; rejects when the connection ends before. */
  static async connect(options: RawMqttOptions): Promise<RawMqtt> {
    const socket = net.connect({ host: options.host ?? '127.0.0.1', port: options.port })
    await once(socket, 'connect')
    const client = new RawMqtt(socket, options)
    const flags = ((options.cleanSession ?? true) ? 2 : 0) | (options.username === undefined ? 0 : 0x80) | (options.password === undefined ? 0 : 0x40)
    const keepAlive = Buffer.alloc(2)
    keepAlive.writeUInt16BE(options.keepAliveS ?? 60, 0)
    const parts = [text('MQTT'), Buffer.from([4, flags]), keepAlive, text(options.clientId)]
    if (options.username !== undefined) parts.push(text(options.username))
    if (options.password !== undefined) parts.push(text(options.password))
    const answer = client.#next(2)
    socket.write(packet(0x10, ...parts))
    const body = await answer
    client.sessionPresent = (body[0]! & 1) === 1
    client.returnCode = body[1]!
    return client
  }

  /** The body of the next packet of this type (one waiter a type). */
  #next(type: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const gone = (): void => {
        this.#waiting.delete(type)
        reject(new Error('the connection was closed'))
      }
      if (this.closed || this.socket.destroyed) {
        gone()
        return
      }
      this.socket.once('close', gone)
      this.#waiting.set(type, (body) => {
        this.socket.off('close', gone)
        this.#waiting.delete(type)
        resolve(body)
      })
    })
  }

  #read(chunk: Buffer): void {
    let data = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    for (;;) {
      let length = 0
      let at = 1
      for (let shift = 0; at < data.length && at <= 4; at++, shift += 7) {
        length |= (data[at]! & 127) << shift
        if (data[at]! < 128) break
      }
      if (at >= data.length || data.length < at + 1 + length) break
      this.#take(data[0]!, data.subarray(at + 1, at + 1 + length))
      data = data.subarray(at + 1 + length)
    }
    this.#rest = data
  }

  #take(first: number, body: Buffer): void {
    const type = first >> 4
    if (type === 4) this.onPuback(body.readUInt16BE(0))
    else if (type === 3) {
      const end = 2 + body.readUInt16BE(0)
      const qos = (first >> 1) & 3
      const packetId = qos > 0 ? body.readUInt16BE(end) : 0
      const payload = Buffer.from(body.subarray(end + (qos > 0 ? 2 : 0)))
      if (qos === 1 && this.#options.acksLater !== true) this.socket.write(packet(0x40, body.subarray(end, end + 2)))
      this.onPublish({ topic: body.toString('utf8', 2, end), payload, qos, packetId, dup: (first & 8) !== 0, retain: (first & 1) !== 0 })
    } else if (type > 4 && type < 8) this.#options.onExactly?.(type, body.readUInt16BE(0))
    else this.#waiting.get(type)?.(Buffer.from(body))
  }

  publish(message: Publish): void {
    this.socket.write(encodePublish(message))
  }

  /** PUBACK, PUBREC, PUBREL or PUBCOMP, by its packet type. */
  ack(type: 4 | 5 | 6 | 7, packetId: number): void {
    this.socket.write(packet((type << 4) | (type === 6 ? 2 : 0), Buffer.from([packetId >> 8, packetId & 255])))
  }

  /** Gives the granted QoS, 0x80 for a refusal. */
  async subscribe(filter: string, qos: 0 | 1 | 2 = 0): Promise<number> {
    const answer = this.#next(9)
    this.socket.write(packet(0x82, Buffer.from([0, 1]), text(filter), Buffer.from([qos])))
    const body = await answer
    return body[2]!
  }

  async ping(): Promise<void> {
    const answer = this.#next(13)
    this.socket.write(packet(0xc0))
    await answer
  }

  /** DISCONNECT, then closes. */
  async end(): Promise<void> {
    if (this.closed) return
    // A server that is killed meanwhile resets the connection: that is an end too.
    const closed = new Promise((resolve) => this.socket.once('close', resolve))
    this.socket.end(packet(0xe0))
    this.socket.resume()
    await closed
  }

  destroy(): void {
    this.socket.destroy()
  }
}
