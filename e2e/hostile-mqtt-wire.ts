/** An MQTT client that says what no library would, and packets for it. Written from the standards, not from our codec. */
import { Buffer } from 'node:buffer'
import { once } from 'node:events'
import net from 'node:net'
import { connect, field, packet, pingreq } from '../test/mqtt/client-packets.ts'

export type Level = 3 | 5

export interface Packet {
  /** First byte: type and flags. */
  readonly first: number
  readonly body: Buffer
}

/** Variable Byte Integer (MQTT 5, section 1.5.5). */
export function vbi(value: number): number[] {
  const bytes: number[] = []
  let rest = value
  do {
    bytes.push((rest % 128) + (rest >= 128 ? 128 : 0))
    rest = Math.floor(rest / 128)
  } while (rest > 0)
  return bytes
}

/** Properties of a packet of MQTT 5, with their length. */
export function properties(...parts: readonly (Uint8Array | readonly number[])[]): Uint8Array {
  const bytes = Buffer.concat(parts.map((part) => Uint8Array.from(part)))
  return Buffer.concat([Uint8Array.from(vbi(bytes.length)), bytes])
}

export function userProperty(name: string, value: string): Uint8Array {
  return Buffer.concat([Uint8Array.of(0x26), field(name), field(value)])
}

export const none = properties()

export function connect5(clientId: string | Uint8Array, o: { readonly clean?: boolean; readonly properties?: Uint8Array } = {}): Uint8Array {
  return packet(0x10, field('MQTT'), [5, (o.clean ?? true) ? 2 : 0, 0, 60], o.properties ?? none, field(clientId))
}

export function publish5(
  topic: string,
  payload: string | Uint8Array,
  o: { qos?: number; id?: number; retain?: boolean; properties?: Uint8Array } = {},
): Uint8Array {
  const { qos = 0, id = 1, retain = false } = o
  return packet(0x30 + qos * 2 + (retain ? 1 : 0), field(topic), qos > 0 ? [id >> 8, id & 255] : [], o.properties ?? none, Buffer.from(payload))
}

export function subscribe5(id: number, ...filters: readonly (readonly [string, number])[]): Uint8Array {
  return packet(0x82, [id >> 8, id & 255], none, ...filters.flatMap(([filter, options]) => [field(filter), [options]]))
}

export function unsubscribe5(id: number, ...filters: readonly string[]): Uint8Array {
  return packet(0xa2, [id >> 8, id & 255], none, ...filters.map((filter) => field(filter)))
}

export class Hostile {
  readonly socket: net.Socket
  closed = false
  /** What came, unless `counts` was set: then only how many of each type. */
  readonly packets: Packet[] = []
  readonly counts = new Map<number, number>()
  /** Keeps no packets. */
  counting = false
  #chunks: Buffer[] = []
  #length = 0
  /** Bytes without which the next packet is not whole. */
  #need = 2
  #wake: (() => void)[] = []

  constructor(port: number) {
    this.socket = net.connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true })
    this.socket.on('data', (bytes) => this.#take(bytes))
    const gone = (): void => {
      this.closed = true
      this.socket.destroy()
      this.#woken()
    }
    // A reset is an end like any other here.
    this.socket.on('end', gone).on('close', gone).on('error', gone)
    this.socket.on('drain', () => this.#woken())
  }

  static async open(port: number): Promise<Hostile> {
    const client = new Hostile(port)
    if (client.socket.connecting) await Promise.race([once(client.socket, 'connect'), once(client.socket, 'close')])
    return client
  }

  /** One that was let in. */
  static async greeted(port: number, level: Level, clientId: string): Promise<Hostile> {
    const client = await Hostile.open(port)
    client.send(level === 5 ? connect5(clientId) : connect({ clientId }))
    const answer = await client.next(0x20)
    if (answer === undefined || answer.body[1] !== 0) throw new Error(`${clientId} was not let in: ${answer?.body.toString('hex') ?? 'closed'}`)
    return client
  }

  send(...parts: readonly Uint8Array[]): boolean {
    return this.closed || this.socket.write(parts.length === 1 ? parts[0]! : Buffer.concat(parts))
  }

  /** Sends, and waits while the network takes no more. */
  async push(bytes: Uint8Array): Promise<void> {
    if (!this.send(bytes)) await this.until(() => !this.socket.writableNeedDrain)
  }

  /** True: so it is; false: the connection has ended before. Rejects after a while. */
  async until(done: () => boolean, withinMs = 20_000): Promise<boolean> {
    const until = performance.now() + withinMs
    while (!done()) {
      if (this.closed) return false
      const left = until - performance.now()
      if (left <= 0) throw new Error(`not within ${withinMs} ms: ${done.toString()}; ${JSON.stringify([...this.counts])}`)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left)
        this.#wake.push(() => {
          clearTimeout(timer)
          resolve()
        })
      })
    }
    return true
  }

  count(first: number): number {
    return this.counts.get(first) ?? 0
  }

  /** The first packet that came of this type; undefined: the connection has ended before. */
  async next(first: number): Promise<Packet | undefined> {
    const found = (): Packet | undefined => this.packets.find((one) => one.first === first)
    await this.until(() => found() !== undefined)
    return found()
  }

  /** Whether the server still answers: true, or the connection's end. */
  async alive(): Promise<boolean> {
    const before = this.count(0xd0)
    this.send(pingreq)
    return this.until(() => this.count(0xd0) > before)
  }

  /** The reason code of DISCONNECT (or of a CONNACK that refuses) once the connection has ended; undefined: none was sent. */
  async reason(): Promise<number | undefined> {
    await this.until(() => this.closed)
    const last = this.packets.findLast(({ first }) => first === 0xe0 || first === 0x20)
    if (last === undefined) return undefined
    return last.first === 0xe0 ? (last.body[0] ?? 0) : last.body[1]
  }

  destroy(): void {
    this.socket.destroy()
  }

  #take(chunk: Buffer): void {
    this.#chunks.push(chunk)
    this.#length += chunk.length
    if (this.#length < this.#need) return
    let bytes = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks)
    this.#need = 2
    for (;;) {
      let length = 0
      let at = 1
      for (let shift = 0; at < bytes.length && at <= 4; at++, shift += 7) {
        length |= (bytes[at]! & 127) << shift
        if (bytes[at]! < 128) break
      }
      if (at >= bytes.length) break
      if (bytes.length < at + 1 + length) {
        this.#need = at + 1 + length
        break
      }
      const first = bytes[0]!
      this.counts.set(first, this.count(first) + 1)
      if (!this.counting) this.packets.push({ first, body: Buffer.from(bytes.subarray(at + 1, at + 1 + length)) })
      bytes = bytes.subarray(at + 1 + length)
    }
    this.#chunks = bytes.length === 0 ? [] : [bytes]
    this.#length = bytes.length
    this.#woken()
  }

  #woken(): void {
    for (const wake of this.#wake.splice(0)) wake()
  }
}

/** So many at a time. */
export async function inParallel<T>(items: Iterable<T>, most: number, run: (item: T) => Promise<void>): Promise<void> {
  const iterator = items[Symbol.iterator]()
  const lane = async (): Promise<void> => {
    for (let next = iterator.next(); next.done !== true; next = iterator.next()) await run(next.value)
  }
  await Promise.all(Array.from({ length: most }, lane))
}
