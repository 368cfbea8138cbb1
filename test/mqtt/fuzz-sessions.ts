import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { setImmediate as turn } from 'node:timers/promises'
import type { Env, Logger } from '../../src/core/env.ts'
import type { SessionStore } from '../../src/core/session-store.ts'
import { openSessionStore } from '../../src/store/sessions/store.ts'
import type { SimRandom } from '../sim/random.ts'
import { TestClock } from '../support/test-clock.ts'
import * as four from './client-packets.ts'
import type { Line } from './harness.ts'
import { quiet, World } from './harness.ts'
import { instantLog } from './model-log.ts'

/** A session of the corpus: packets that a client sends. */
export interface CorpusSession {
  readonly name: string
  readonly packets: readonly Uint8Array[]
}

/** The sessions of test/data/mqtt-corpus: a packet a line, in hex; `#` begins a comment. */
export function corpusSessions(dir = path.join(import.meta.dirname, '../data/mqtt-corpus')): CorpusSession[] {
  return fs
    .readdirSync(dir)
    .toSorted()
    .map((name) => {
      const lines = fs.readFileSync(path.join(dir, name), 'utf8').split('\n')
      return { name, packets: lines.filter((line) => /^[0-9a-f]/.test(line)).map((line) => Uint8Array.from(Buffer.from(line.trim(), 'hex'))) }
    })
}

/** Bytes at which decoders go wrong. */
const edges = [0, 1, 2, 0x7f, 0x80, 0xc0, 0xf8, 0xfe, 0xff]
const copiesMax = 40

function changedPacket(packet: Uint8Array, random: SimRandom): Uint8Array {
  const bytes = [...packet]
  for (let n = 1 + random.below(3); n > 0; n--) {
    const at = random.below(Math.max(1, bytes.length))
    const kind = random.below(6)
    if (kind === 0) bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8))
    else if (kind === 1) bytes[at] = edges[random.below(edges.length)]!
    else if (kind === 2) bytes.splice(at, 1 + random.below(4))
    else if (kind === 3) bytes.splice(at, 0, ...Array.from({ length: 1 + random.below(4) }, () => random.below(256)))
    else if (kind === 4) bytes.length = at
    // Fixed headers and what stands behind them decide most.
    else bytes[random.below(Math.min(4, bytes.length || 1))] = random.below(256)
  }
  // Half of them keep a Remaining Length that is right, so that what is inside is read.
  if (random.chance(0.5) && bytes.length > 2 && bytes.length < 130) bytes[1] = bytes.length - 2
  return Uint8Array.from(bytes)
}

/** A session of the corpus, changed: packets left out, repeated, moved, taken from others, cut, and their bytes changed. */
export function mutated(all: readonly CorpusSession[], random: SimRandom): Uint8Array[] {
  const any = (): CorpusSession => all[random.below(all.length)]!
  let packets = [...any().packets]
  for (let n = random.below(5); n > 0; n--) {
    const at = random.below(packets.length + 1)
    const kind = random.below(8)
    const one = packets[at]
    if (kind === 0) packets.splice(at, 1)
    else if (kind === 1 && one !== undefined) packets.splice(at, 0, ...Array.from({ length: random.chance(0.05) ? copiesMax : 1 }, () => one))
    else if (kind === 2 && one !== undefined) {
      packets.splice(at, 1)
      packets.splice(random.below(packets.length + 1), 0, one)
    } else if (kind === 3) {
      const other = any().packets
      packets.splice(at, 0, other[random.below(other.length)]!)
    } else if (kind === 4) packets = [...packets.slice(0, at), ...any().packets.slice(1 + random.below(3))]
    else if (one !== undefined) packets[at] = changedPacket(one, random)
  }
  return packets
}

/** Packets as the network brings them: whole, several at once, in pieces. */
export function* chunks(packets: readonly Uint8Array[], random: SimRandom): Generator<Uint8Array, void, undefined> {
  const style = random.below(3)
  if (style === 0) yield* packets
  else {
    const all = Buffer.concat(packets)
    for (let at = 0; at < all.length;) {
      const length = style === 1 ? 1 + random.below(16) : 1 + random.below(400)
      yield Uint8Array.from(all.subarray(at, at + length))
      at += length
    }
  }
}

/** More than this, of CPU, and the session hangs. */
const stepMsMax = 5_000
const atOnce = 6

/**
 * A broker with its session store that is fed one session after the other, several at a time, while a client that behaves listens and is answered.
 * `rest` ends what is there and asserts that nothing is left of it.
 */
export class FuzzedBroker {
  readonly #clock = new TestClock()
  readonly #errors: string[] = []
  readonly #open: { line: Line; chunks: Iterator<Uint8Array, void> }[] = []
  #world!: World
  #store!: SessionStore
  #bystander!: Line
  #timers = 0
  #steps = 0
  /** The longest that a step took, of CPU. */
  longestMs = 0

  static async create(): Promise<FuzzedBroker> {
    const fuzzed = new FuzzedBroker()
    const logger: Logger = {
      ...quiet,
      error: (message, o) => void fuzzed.#errors.push(`${message} ${JSON.stringify(o)}`),
      child: () => logger,
    }
    let numbers = 0
    const env: Env = {
      clock: fuzzed.#clock,
      random: { next: () => 0.5, uuid: () => `uuid-${++numbers}` },
      logger,
      disk: undefined as never,
    }
    fuzzed.#store = await openSessionStore({ log: instantLog(), env, rewriteBytes: 100_000 })
    fuzzed.#world = new World({}, { env, store: fuzzed.#store })
    await fuzzed.#world.broker.restore()
    fuzzed.#bystander = fuzzed.#world.line('10.9.9.9')
    fuzzed.#bystander.send(four.connect({ clientId: 'bystander-0f3a', username: 'by:stander' }), four.subscribe(1, ['by', 0]))
    fuzzed.#bystander.packets()
    fuzzed.#timers = fuzzed.#clock.timers
    return fuzzed
  }

  /** Feeds a session, and others that are open meanwhile. */
  async session(packets: readonly Uint8Array[], random: SimRandom): Promise<void> {
    this.#open.push({ line: this.#world.line(`10.0.${random.below(4)}.${random.below(250)}`), chunks: chunks(packets, random) })
    while (this.#open.length >= atOnce) await this.#step(random)
  }

  async #step(random: SimRandom): Promise<void> {
    const before = process.threadCpuUsage()
    const one = this.#open[random.below(this.#open.length)]!
    const next = one.chunks.next()
    // What it has not read while it was told to wait, the network would keep: here it comes at once.
    if (next.done !== true && !one.line.ended) one.line.send(next.value)
    one.line.take()
    if (next.done === true || one.line.ended) {
      this.#open.splice(this.#open.indexOf(one), 1)
      one.line.hangUp()
    }
    if (++this.#steps % 8 === 0) {
      this.#world.gate.sync()
      this.#clock.advance(random.chance(0.02) ? 20_000 : 1)
      await turn()
    }
    if (this.#steps % 64 === 0) this.#ping()
    const { user, system } = process.threadCpuUsage(before)
    const tookMs = (user + system) / 1000
    this.longestMs = Math.max(this.longestMs, tookMs)
    assert.ok(tookMs < stepMsMax, `a step took ${Math.round(tookMs)} ms of CPU`)
    assert.deepEqual(this.#errors, [])
  }

  #ping(): void {
    this.#bystander.packets()
    this.#bystander.send(four.publish('by', 'x'), four.pingreq)
    this.#bystander.expect(four.hex(four.publish('by', 'x')), 'd0 00')
  }

  /** Everybody leaves. */
  async rest(random: SimRandom): Promise<void> {
    while (this.#open.length > 0) await this.#step(random)
    for (let round = 0; round < 5; round++) await this.#settle()
    for await (const { ref } of this.#store.sessions()) void this.#store.end(ref.tenant, ref.client)
    for (let round = 0; round < 5; round++) await this.#settle()
    this.#ping()
    const { broker, gate } = this.#world
    const { sessions, attached, deliveries, wills } = this.#store.figures()
    assert.deepEqual({ sessions, attached, deliveries, wills }, { sessions: 0, attached: 0, deliveries: 0, wills: 0 })
    assert.deepEqual([broker.connections, broker.held.used, broker.partial.used, broker.sending.used], [1, 0, 0, 0])
    const sizes = ['default', 'a', 'by'].map((tenant) => broker.subscriptions(tenant).size)
    assert.deepEqual(sizes, [0, 0, 1])
    assert.equal(broker.retained.size, 0)
    assert.equal(gate.durable, gate.last)
    assert.ok(this.#clock.timers <= this.#timers, `${this.#clock.timers} timers run, ${this.#timers} at the start`)
    assert.deepEqual(this.#errors, [])
    for (const list of [gate.taken, gate.items, gate.deadLetters]) list.length = 0
  }

  async #settle(): Promise<void> {
    for (let i = 0; i < 4; i++) {
      await turn()
      this.#world.gate.sync()
      this.#clock.advance(300)
      this.#world.turn()
    }
  }
}
