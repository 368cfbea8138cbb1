import assert from 'node:assert/strict'
import net from 'node:net'
import { after, before, describe, test } from 'node:test'
import { connect, field, hex, packet, pingreq } from './client-packets.ts'
import { cases311 } from './packet-cases-3.ts'
import { cases5 } from './packet-cases-5.ts'
import type { PacketCase } from './packet-cases.ts'
import { topicAliasMax } from './packet-properties-5.ts'
import { Door5 } from './socket5.ts'

const atOnce = 100
const caseMs = 20_000

interface Seen {
  /** In hex, without CONNACK where that is none of the case's. */
  readonly packets: readonly string[]
  readonly closed: boolean
}

/** The whole packets of `bytes`, each in hex. */
function packetsOf(bytes: Buffer): string[] {
  const packets: string[] = []
  for (let at = 0; at + 1 < bytes.length;) {
    // No answer is longer than this: two bytes of length are enough.
    const long = bytes[at + 1]! >= 0x80
    if (long && at + 2 >= bytes.length) break
    const end = at + (long ? 3 + (bytes[at + 1]! & 0x7f) + (bytes[at + 2]! << 7) : 2 + bytes[at + 1]!)
    if (end > bytes.length) break
    packets.push(hex(bytes.subarray(at, end)))
    at = end
  }
  return packets
}

let clients = 0
function hello({ level, first }: PacketCase): Uint8Array {
  if (first) return new Uint8Array(0)
  const clientId = `h${++clients}`
  return level === 4 ? connect({ clientId }) : packet(0x10, field('MQTT'), [5, 2, 0, 0, 0], field(clientId))
}

/** Sends a case and a PINGREQ behind it, and listens until that is answered or the connection is closed. */
function play(port: number, one: PacketCase): Promise<Seen> {
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0)
    const socket = net.connect(port, '127.0.0.1')
    const finish = (closed: boolean): void => {
      socket.destroy()
      resolve({ packets: packetsOf(received).slice(one.first ? 0 : 1), closed })
    }
    socket.setTimeout(caseMs, () => {
      socket.destroy()
      reject(new Error(`${one.name}: neither answered nor closed`))
    })
    socket.on('connect', () => socket.write(Buffer.concat([hello(one), one.bytes, pingreq])))
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk])
      // What waits for something durable may come behind it.
      if (packetsOf(received).includes('d0 00')) finish(false)
    })
    socket.on('error', () => undefined)
    socket.on('close', () => finish(true))
  })
}

/** What is wrong with what was seen; undefined: nothing. */
function judge({ first, level, want, answer }: PacketCase, { packets, closed }: Seen): string | undefined {
  const said = `[${packets.join(' | ')}]${closed ? ', closed' : ''}`
  if (answer?.test(packets[0] ?? '') === false) return `${answer.source} was to come first: ${said}`
  if (want === 'stays') {
    if (closed) return `was to stay: ${said}`
    return first && !packets[0]!.startsWith(level === 4 ? '20 02 00 00' : '20') ? `was to be let in: ${said}` : undefined
  }
  if (!closed) return `was to be closed: ${said}`
  if (want === 'closes') return packets.length === (answer === undefined ? 0 : 1) ? undefined : `was to be closed without a word: ${said}`
  const [last = ''] = packets.slice(-1)
  const bytes = last.split(' ').map((byte) => Number.parseInt(byte, 16))
  const head = bytes[1]! >= 0x80 ? 3 : 2
  const code = first ? bytes[head + 1] : bytes[head]
  const right = bytes[0] === (first ? 0x20 : 0xe0) && code !== undefined && want.includes(code) && packets.length === 1
  return right ? undefined : `was to be closed with ${want.map((wanted) => wanted.toString(16)).join(' or ')}: ${said}`
}

/** Plays all, so many at a time; returns what went wrong. */
async function playAll(port: number, cases: Generator<PacketCase, void>): Promise<{ readonly played: number; readonly wrong: string[] }> {
  const wrong: string[] = []
  let played = 0
  const all = cases[Symbol.iterator]()
  const player = async (): Promise<void> => {
    for (let next = all.next(); next.done !== true; next = all.next()) {
      played++
      const one: PacketCase = next.value
      const fault = judge(one, await play(port, one))
      if (fault !== undefined) wrong.push(`${one.name}: ${fault}`)
    }
  }
  await Promise.all(Array.from({ length: atOnce }, player))
  return { played, wrong }
}

describe('what a client may send, and what comes of what it may not, over sockets', () => {
  let door: Door5
  before(async () => {
    door = await Door5.open({ topicAliasMax })
  })
  after(() => door.close())

  /** `_shown`: the statements that these cases show. */
  const plays = async (cases: Generator<PacketCase, void>, least: number, ..._shown: readonly string[]): Promise<void> => {
    const { played, wrong } = await playAll(door.door.port, cases)
    assert.deepEqual(wrong, [])
    assert.ok(played >= least, `${played}`)
  }

  test('MQTT 5: every property in every packet', () =>
    plays(
      cases5.properties(),
      2500,
      'MQTT-1.5.5-1',
      'MQTT-1.5.7-1',
      'MQTT-2.2.2-1',
      'MQTT-3.3.2-8',
      'MQTT-3.3.2-9',
      'MQTT-3.3.2-13',
      'MQTT-3.3.2-14',
      'MQTT-3.3.2-19',
      'MQTT-3.2.2-17',
      'MQTT-3.3.4-6',
      'MQTT-4.12.0-1',
    ))

  test('MQTT 5: every reason code', () =>
    plays(
      cases5.reasonCodes(),
      2800,
      'MQTT-3.4.2-1',
      'MQTT-3.5.2-1',
      'MQTT-3.6.2-1',
      'MQTT-3.7.2-1',
      'MQTT-3.14.2-1',
      'MQTT-3.15.2-1',
      'MQTT-4.12.0-7',
      'MQTT-4.12.1-1',
    ))

  test('MQTT 5: every first byte, and lengths of five bytes', () =>
    plays(
      cases5.fixedHeaders(),
      700,
      'MQTT-1.5.5-1',
      'MQTT-2.1.3-1',
      'MQTT-3.1.0-1',
      'MQTT-3.3.1-2',
      'MQTT-3.3.1-4',
      'MQTT-3.6.1-1',
      'MQTT-3.8.1-1',
      'MQTT-3.10.1-1',
      'MQTT-3.14.1-1',
      'MQTT-3.15.1-1',
    ))

  test('MQTT 5: packets cut short, and with a byte behind their end [MQTT-4.13.1-1]', () => plays(cases5.lengths(), 90))

  test('MQTT 5: flags and fields of CONNECT', () =>
    plays(
      cases5.connects(),
      350,
      'MQTT-3.1.0-2',
      'MQTT-3.1.2-1',
      'MQTT-3.1.2-2',
      'MQTT-3.1.2-3',
      'MQTT-3.1.2-9',
      'MQTT-3.1.2-11',
      'MQTT-3.1.2-12',
      'MQTT-3.1.2-13',
      'MQTT-3.1.2-16',
      'MQTT-3.1.2-17',
      'MQTT-3.1.2-18',
      'MQTT-3.1.2-19',
      'MQTT-3.1.3-1',
      'MQTT-3.1.3-3',
      'MQTT-3.1.3-4',
      'MQTT-3.1.3-11',
      'MQTT-3.1.3-12',
      'MQTT-3.1.4-1',
      'MQTT-1.5.4-1',
      'MQTT-1.5.4-2',
      'MQTT-3.2.2-12',
    ))

  test('MQTT 5: topics, filters and subscription options', () =>
    plays(
      cases5.topics(),
      750,
      'MQTT-1.5.4-1',
      'MQTT-1.5.4-2',
      'MQTT-2.2.1-3',
      'MQTT-3.3.2-1',
      'MQTT-3.3.2-2',
      'MQTT-3.8.3-1',
      'MQTT-3.8.3-2',
      'MQTT-3.8.3-4',
      'MQTT-3.8.3-5',
      'MQTT-3.10.3-1',
      'MQTT-3.10.3-2',
      'MQTT-4.7.0-1',
      'MQTT-4.7.1-1',
      'MQTT-4.7.1-2',
      'MQTT-4.7.3-1',
      'MQTT-4.7.3-2',
      'MQTT-4.8.2-1',
      'MQTT-4.8.2-2',
    ))

  test('MQTT 5: what the fields of a packet say together, and what comes again', () =>
    plays(cases5.wholes(), 120, 'MQTT-3.3.1-2', 'MQTT-4.3.3-10', 'MQTT-4.12.0-1', 'MQTT-4.7.3-1'))

  test('MQTT 3.1.1, and 3.1: the same, closed without a word', () => plays(cases311(), 1050))
})
