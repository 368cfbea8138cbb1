/**
 * Publishers and subscribers of MQTT 3.1.1 in a process of their own, so that their CPU is not the broker's:
 *
 *   node bench/mqtt-flow.ts '{"port":1883,"publishers":32,"subscribers":32,"topics":32,"qos":1,"burst":16,"messages":100000}'
 *
 * Publisher i publishes to topic i modulo `topics`, subscriber j subscribes to j modulo `topics`. `burst` packets go out in one write; at QoS 1 the next
 * burst follows once all of it are acknowledged, and none is sent while more than `waiting` deliveries a subscriber have not come. Prints `ready` when
 * all are connected, begins at a line of input, and prints one line of JSON.
 */
import { once } from 'node:events'
import net from 'node:net'
import process from 'node:process'

export interface MqttFlow {
  readonly port: number
  readonly publishers: number
  readonly subscribers: number
  readonly topics: number
  /** Of publications and subscriptions. */
  readonly qos: 0 | 1
  readonly burst: number
  readonly messages: number
  readonly payloadBytes?: number
  readonly waiting?: number
  /** Subscribers ask for sessions that outlive their connection. */
  readonly stays?: boolean
  /** In place of bench/flow/…. */
  readonly prefix?: string
}

export interface MqttFlowResult {
  readonly messages: number
  readonly deliveries: number
  /** Deliveries that did not come. */
  readonly lost: number
  readonly seconds: number
  readonly clientCpuUs: number
}

/** Calls `packet` with the place of each whole packet of a stream: its first byte, and where its body begins and ends. */
function reader(packet: (bytes: Buffer, first: number, start: number, end: number) => void): (chunk: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0)
  return (chunk) => {
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    let at = 0
    for (;;) {
      let length = 0
      let header = at + 1
      let complete = false
      for (let shift = 0; header < bytes.length && shift < 28; shift += 7) {
        const byte = bytes[header++]!
        length |= (byte & 127) << shift
        if (byte < 128) {
          complete = true
          break
        }
      }
      if (!complete || header + length > bytes.length) break
      packet(bytes, bytes[at]!, header, header + length)
      at = header + length
    }
    rest = at === bytes.length ? Buffer.alloc(0) : Buffer.from(bytes.subarray(at))
  }
}

function text(value: string): Buffer {
  const bytes = Buffer.alloc(2 + value.length)
  bytes.writeUInt16BE(value.length)
  bytes.write(value, 2, 'latin1')
  return bytes
}

function packet(first: number, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts)
  const head = [first]
  let left = body.length
  do {
    head.push((left % 128) | (left >= 128 ? 128 : 0))
    left = Math.floor(left / 128)
  } while (left > 0)
  return Buffer.concat([Buffer.from(head), body])
}

/** A client that is let in. */
export async function connect(port: number, clientId: string, clean = true): Promise<net.Socket> {
  const socket = net.connect({ port, host: '127.0.0.1', noDelay: true })
  await once(socket, 'connect')
  socket.write(packet(0x10, Buffer.from(`\0\x04MQTT\x04${clean ? '\x02' : '\0'}\0\0`, 'latin1'), text(clientId)))
  const [answer] = (await once(socket, 'data')) as [Buffer]
  if (answer[0] !== 0x20 || answer[3] !== 0) throw new Error(`CONNACK says ${answer.toString('hex')}`)
  return socket
}

async function subscriber(flow: MqttFlow, index: number, received: (count: number) => void): Promise<net.Socket> {
  const socket = await connect(flow.port, `flow-s-${process.pid}-${index}`, flow.stays !== true)
  socket.write(packet(0x82, Buffer.from([0, 1]), text(topicOf(flow, index)), Buffer.from([flow.qos])))
  await once(socket, 'data')
  let acks = Buffer.allocUnsafe(4096)
  let used = 0
  let count = 0
  const read = reader((bytes, first, start) => {
    if (first >> 4 !== 3) return
    count++
    if ((first & 6) !== 2) return
    if (used + 4 > acks.length) acks = Buffer.concat([acks, Buffer.allocUnsafe(acks.length)])
    const id = start + 2 + bytes.readUInt16BE(start)
    acks[used++] = 0x40
    acks[used++] = 2
    acks[used++] = bytes[id]!
    acks[used++] = bytes[id + 1]!
  })
  socket.on('data', (chunk: Buffer) => {
    read(chunk)
    if (used > 0) socket.write(Buffer.from(acks.subarray(0, used)))
    used = 0
    received(count)
    count = 0
  })
  return socket
}

function topicOf({ topics, prefix = 'bench/flow' }: MqttFlow, index: number): string {
  return `${prefix}/${index % topics}`
}

interface Publisher {
  readonly socket: net.Socket
  send(): void
}

async function publisher(flow: MqttFlow, index: number, free: (one: Publisher) => void): Promise<Publisher> {
  const { burst, qos, payloadBytes = 100 } = flow
  const socket = await connect(flow.port, `flow-p-${process.pid}-${index}`)
  const topic = text(topicOf(flow, index))
  const one = packet(0x30 | (qos << 1), topic, Buffer.alloc(qos * 2), Buffer.alloc(payloadBytes, 'x'))
  const idAt = one.length - payloadBytes - 2
  const all = Buffer.concat(Array.from({ length: burst }, () => one))
  let id = 0
  let open = 0
  const made: Publisher = {
    socket,
    send() {
      const bytes = qos === 0 ? all : Buffer.from(all)
      for (let i = 0; qos > 0 && i < burst; i++) {
        id = id === 65_535 ? 1 : id + 1
        bytes.writeUInt16BE(id, i * one.length + idAt)
      }
      open = burst
      // At QoS 0 the network's pace is the publisher's.
      if (qos > 0) socket.write(bytes)
      else socket.write(bytes, () => free(made))
    },
  }
  const read = reader((_, first) => {
    if (first >> 4 === 4 && --open === 0) free(made)
  })
  socket.on('data', read)
  return made
}

async function run(flow: MqttFlow): Promise<void> {
  const { burst, publishers, subscribers, topics } = flow
  const fan = Array.from(
    { length: topics },
    (_, topic) => Array.from({ length: subscribers }, (_, j) => j).filter((j) => j % topics === topic).length,
  )
  const waitingMax = Math.max(1, subscribers) * (flow.waiting ?? 400)
  let left = Math.ceil(flow.messages / burst)
  let sent = 0
  let due = 0
  let received = 0
  let running = 0
  let progressMs = performance.now()
  let done: () => void = () => undefined
  const ended = new Promise<void>((resolve) => (done = resolve))
  const held: (readonly [Publisher, number])[] = []
  const go = (one: Publisher, index: number): void => {
    const expected = fan[index % topics]! * burst
    if (left === 0) return
    if (due - received + expected > waitingMax && due > received) return void held.push([one, index])
    left--
    running++
    sent += burst
    due += expected
    one.send()
  }
  const look = (): void => {
    if (left === 0 && running === 0 && received >= due) done()
  }
  const sockets: net.Socket[] = []
  for (let j = 0; j < subscribers; j++) {
    const socket = await subscriber(flow, j, (count) => {
      received += count
      progressMs = performance.now()
      for (let n = held.length; n > 0; n--) go(...held.shift()!)
      look()
    })
    sockets.push(socket)
  }
  const all: Publisher[] = []
  for (let i = 0; i < publishers; i++) {
    const one = await publisher(flow, i, (free) => {
      running--
      progressMs = performance.now()
      go(free, i)
      look()
    })
    all.push(one)
  }
  process.stdout.write('ready\n')
  await once(process.stdin, 'data')
  const cpu = process.cpuUsage()
  const began = performance.now()
  progressMs = began
  // What the broker has dropped does not come any more.
  const stalled = setInterval(() => performance.now() - progressMs > 5_000 && done(), 500)
  for (const [i, one] of all.entries()) go(one, i)
  await ended
  clearInterval(stalled)
  const seconds = (performance.now() - began) / 1000
  const { user, system } = process.cpuUsage(cpu)
  const result: MqttFlowResult = { messages: sent, deliveries: received, lost: due - received, seconds, clientCpuUs: user + system }
  process.stdout.write(`${JSON.stringify(result)}\n`)
  for (const socket of [...sockets, ...all.map((one) => one.socket)]) socket.destroy()
  process.stdin.destroy()
}

if (import.meta.main) await run(JSON.parse(process.argv[2] ?? '{}') as MqttFlow)
