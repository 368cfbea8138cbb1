/**
 * Load generator for MQTT QoS 1, run as a process of its own so that its CPU is not the server's:
 *
 *   node bench/mqtt-load.ts '{"port":1883,"connections":32,"burst":16,"window":16,"messages":1000000,"devices":1000}'
 *   node bench/mqtt-load.ts '{"port":1883,"connections":32,"burst":4,"rate":20000,"seconds":20,"devices":1000}'
 *
 * `burst` PUBLISH packets go out in one write. Closed loop: a connection has at most `window` unacknowledged. Open loop: `rate`
 * messages a second in all, whatever the answers do (bounded by the 65,535 packet ids of a connection). Prints one JSON line.
 */
import { once } from 'node:events'
import net from 'node:net'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { distribution } from './process.ts'

export interface MqttLoad {
  readonly port: number
  readonly connections: number
  readonly burst: number
  readonly window?: number
  readonly messages?: number
  readonly rate?: number
  readonly seconds?: number
  readonly devices: number
  /** Number of the first device: generators beside each other have devices of their own. */
  readonly firstDevice?: number
  readonly topic?: string
}

export interface MqttLoadResult {
  readonly messages: number
  readonly seconds: number
  readonly payloadBytes: number
  readonly ackMs: { readonly p50: number; readonly p99: number; readonly max: number }
  readonly clientCpuUs: number
  /** Messages that were not acknowledged when the run ended. */
  readonly unacknowledged: number
}

const sample = '{"device_id":"bench-000000","firmware":"1.0.0","temperature":25.53,"humidity":60.12,"battery":85.01,"timestamp":1700000000123}'

/** One connection: a buffer of `burst` packets whose changing digits are written in place. */
class Connection {
  readonly socket = new net.Socket()
  inFlight = 0
  sent = 0
  acked = 0
  readonly latencies: number[] = []
  onAcks: () => void = () => undefined
  readonly #load: MqttLoad
  readonly #index: number
  readonly #baseMs: number
  readonly #sentAt = new Float64Array(65_536)
  readonly #burst: Buffer
  readonly #packetBytes: number
  readonly #at: { readonly id: number; readonly device: number; readonly temperature: number; readonly humidity: number; readonly time: number }
  #nextId = 1
  #restBytes = 0
  readonly #rest = Buffer.alloc(4)

  constructor(load: MqttLoad, index: number, baseMs: number) {
    this.#load = load
    this.#index = index
    this.#baseMs = baseMs
    const topic = load.topic ?? 'portfolio/telemetry'
    const body = 2 + topic.length + 2 + sample.length
    const head = body < 128 ? [0x32, body] : [0x32, (body % 128) | 128, body >> 7]
    this.#packetBytes = head.length + body
    const one = Buffer.alloc(this.#packetBytes)
    Buffer.from(head).copy(one)
    one.writeUInt16BE(topic.length, head.length)
    one.write(topic, head.length + 2, 'latin1')
    const id = head.length + 2 + topic.length
    one.write(sample, id + 2, 'latin1')
    const at = (word: string, skip: number): number => id + 2 + sample.indexOf(word) + skip
    this.#at = { id, device: at('bench-', 6), temperature: at('25.53', 3), humidity: at('60.12', 3), time: at('1700000000123', 0) }
    this.#burst = Buffer.concat(Array.from({ length: load.burst }, () => one))
  }

  async open(): Promise<void> {
    this.socket.connect(this.#load.port, '127.0.0.1')
    this.socket.setNoDelay(true)
    await once(this.socket, 'connect')
    const clientId = `bench-${process.pid}-${this.#index}`
    const body = Buffer.from(`\0\x04MQTT\x04\x02\0\0\0${String.fromCharCode(clientId.length)}${clientId}`, 'latin1')
    this.socket.write(Buffer.concat([Buffer.from([0x10, body.length]), body]))
    const [answer] = (await once(this.socket, 'data')) as [Buffer]
    if (answer[0] !== 0x20 || answer[3] !== 0) throw new Error(`CONNACK says ${answer.toString('hex')}`)
    this.socket.on('data', (chunk: Buffer) => this.#read(chunk))
  }

  #read(chunk: Buffer): void {
    const now = performance.now()
    let at = 0
    // A PUBACK is four bytes; nothing else is expected.
    if (this.#restBytes > 0) {
      at = Math.min(4 - this.#restBytes, chunk.length)
      chunk.copy(this.#rest, this.#restBytes, 0, at)
      this.#restBytes += at
      if (this.#restBytes < 4) return
      this.#restBytes = 0
      this.#ack(this.#rest, 0, now)
    }
    for (; at + 4 <= chunk.length; at += 4) this.#ack(chunk, at, now)
    if (at < chunk.length) this.#restBytes = chunk.copy(this.#rest, 0, at)
    this.onAcks()
  }

  #ack(bytes: Buffer, at: number, now: number): void {
    if (bytes[at] !== 0x40) throw new Error(`an unexpected packet: ${bytes.subarray(at, at + 4).toString('hex')}`)
    const sentAt = this.#sentAt[bytes.readUInt16BE(at + 2)]!
    // Every eighth is enough for the distribution.
    if ((this.acked & 7) === 0) this.latencies.push(now - sentAt)
    this.acked++
    this.inFlight--
  }

  /** Writes up to one burst; gives how many went out. */
  send(most: number): number {
    const count = Math.min(most, this.#load.burst, 60_000 - this.inFlight)
    if (count <= 0) return 0
    const now = performance.now()
    // A copy: the socket may still hold the bytes when the next burst is made.
    const out = Buffer.from(this.#burst.subarray(0, count * this.#packetBytes))
    const { firstDevice = 0 } = this.#load
    const perConnection = Math.max(1, Math.floor(this.#load.devices / this.#load.connections))
    for (let i = 0; i < count; i++) {
      const start = i * this.#packetBytes
      const id = this.#nextId
      this.#nextId = id === 65_535 ? 1 : id + 1
      this.#sentAt[id] = now
      out.writeUInt16BE(id, start + this.#at.id)
      const n = this.sent++
      digits(out, start + this.#at.device, 6, firstDevice + this.#index * perConnection + (n % perConnection))
      digits(out, start + this.#at.temperature, 2, (n * 7) % 100)
      digits(out, start + this.#at.humidity, 2, (n * 13) % 100)
      digits(out, start + this.#at.time, 13, this.#baseMs + Math.floor(n / perConnection))
    }
    this.inFlight += count
    this.socket.write(out)
    return count
  }
}

function digits(bytes: Buffer, at: number, width: number, value: number): void {
  let rest = value
  for (let i = width - 1; i >= 0; i--) {
    bytes[at + i] = 48 + (rest % 10)
    rest = Math.floor(rest / 10)
  }
}

async function closedLoop(connections: readonly Connection[], load: MqttLoad): Promise<void> {
  const window = load.window ?? load.burst
  let left = load.messages ?? 100_000
  let open = left
  await new Promise<void>((resolve) => {
    for (const connection of connections) {
      const fill = (): void => {
        // Only whole bursts, so that the packets a read stay what was asked for.
        while (left > 0 && connection.inFlight + load.burst <= window) {
          const sent = connection.send(left)
          left -= sent
          if (sent === 0) break
        }
      }
      let before = 0
      connection.onAcks = () => {
        open -= connection.acked - before
        before = connection.acked
        fill()
        if (open <= 0) resolve()
      }
      fill()
    }
  })
}

async function openLoop(connections: readonly Connection[], load: MqttLoad): Promise<void> {
  const rate = load.rate ?? 1000
  const until = (load.seconds ?? 10) * 1000
  const began = performance.now()
  let sent = 0
  let turn = 0
  for (;;) {
    const elapsed = performance.now() - began
    if (elapsed >= until) break
    const due = Math.floor((elapsed / 1000) * rate)
    let full = 0
    while (sent + load.burst <= due && full < connections.length) {
      const done = connections[turn++ % connections.length]!.send(load.burst)
      sent += done
      full = done === 0 ? full + 1 : 0
    }
    await delay(2)
  }
  const total = (): number => connections.reduce((sum, connection) => sum + connection.acked, 0)
  for (let waited = 0; total() < sent && waited < 10_000; waited += 20) await delay(20)
}

async function main(load: MqttLoad): Promise<void> {
  const baseMs = Date.now()
  const connections = Array.from({ length: load.connections }, (_, i) => new Connection(load, i, baseMs))
  for (const connection of connections) await connection.open()
  const cpu = process.cpuUsage()
  const began = performance.now()
  await (load.rate === undefined ? closedLoop(connections, load) : openLoop(connections, load))
  const seconds = (performance.now() - began) / 1000
  const used = process.cpuUsage(cpu)
  const acked = connections.reduce((sum, connection) => sum + connection.acked, 0)
  const result: MqttLoadResult = {
    messages: acked,
    seconds,
    payloadBytes: sample.length,
    ackMs: distribution(connections.flatMap((connection) => connection.latencies)),
    clientCpuUs: used.user + used.system,
    unacknowledged: connections.reduce((sum, connection) => sum + connection.inFlight, 0),
  }
  process.stdout.write(`${JSON.stringify(result)}\n`)
  for (const connection of connections) connection.socket.destroy()
}

if (import.meta.main) await main(JSON.parse(process.argv[2] ?? '{}') as MqttLoad)
