import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import { RawMqtt } from '../test/support/mqtt-client.ts'

interface Options {
  readonly port: number
  readonly name: string
  readonly random: () => number
}

/** Whoever was answered once must find its session again. */
function mustBePresent(client: RawMqtt, known: boolean, name: string): void {
  if (client.returnCode !== 0) throw new Error(`CONNACK says ${client.returnCode}`)
  assert.ok(client.sessionPresent || !known, `the session of ${name} was lost`)
}

interface Pending {
  readonly number: number
  readonly topic: string
  readonly payload: string
  readonly retain: boolean
  released: boolean
}

/** Publishes at QoS 1 or 2 under a session that stays, and sends again what was not acknowledged, as the standard says [MQTT-4.4.0-1]. */
export class LedgerPublisher {
  readonly name: string
  readonly qos: 1 | 2
  readonly retain: boolean
  readonly topic: string
  /** The number of the last message, and those that the server has taken over: PUBACK or PUBREC came. */
  sent = 0
  readonly acknowledged = new Set<number>()
  again = 0
  readonly #o: Options
  readonly #pending = new Map<number, Pending>()
  readonly #ended: Promise<void>
  #client: RawMqtt | undefined
  #known = false
  #packetId = 0
  #sending = true
  #running = true
  #broken = false

  constructor(o: Options & { readonly qos: 1 | 2; readonly retain?: boolean }) {
    this.#o = o
    this.name = o.name
    this.qos = o.qos
    this.retain = o.retain ?? false
    this.topic = `${this.retain ? 'state' : 'load'}/${o.name}`
    this.#ended = this.#loop()
    // Whoever waits for it is told.
    this.#ended.catch(() => (this.#broken = true))
  }

  /** Sends nothing new, and resolves when everything is acknowledged. */
  async finish(withinMs: number): Promise<void> {
    this.#sending = false
    const until = performance.now() + withinMs
    while (!this.#broken && this.#pending.size > 0 && performance.now() < until) await delay(5)
    await this.stop()
    assert.equal(this.#pending.size, 0, `${this.name}: messages were never acknowledged`)
  }

  async stop(): Promise<void> {
    this.#running = false
    await this.#ended
  }

  async #loop(): Promise<void> {
    const { random } = this.#o
    while (this.#running) {
      if (this.#client === undefined || this.#client.closed) await this.#connect()
      else {
        if (this.#sending) for (let i = Math.ceil(random() * 3); i > 0 && this.#pending.size < 16; i--) this.#next()
        await delay(5 + random() * 25)
      }
    }
    this.#client?.destroy()
  }

  async #connect(): Promise<void> {
    const { port, name, random } = this.#o
    const client = await RawMqtt.connect({ port, clientId: name, cleanSession: false, onExactly: (type, id) => this.#exactly(type, id) }).catch(
      () => undefined,
    )
    if (client === undefined) {
      await delay(10 + random() * 40)
      return
    }
    mustBePresent(client, this.#known, name)
    this.#known = true
    this.#client = client
    client.onPuback = (id) => this.#done(id)
    for (const [packetId, { topic, payload, retain, released }] of this.#pending) {
      this.again++
      if (released) client.ack(6, packetId)
      else client.publish({ topic, payload, retain, qos: this.qos, packetId, dup: true })
    }
  }

  #next(): void {
    do this.#packetId = this.#packetId === 65_535 ? 1 : this.#packetId + 1
    while (this.#pending.has(this.#packetId))
    const number = ++this.sent
    const one = { number, topic: this.topic, payload: `${this.name} ${number}`, retain: this.retain, released: false }
    this.#pending.set(this.#packetId, one)
    this.#client!.publish({ ...one, qos: this.qos, packetId: this.#packetId })
  }

  #exactly(type: number, packetId: number): void {
    const one = this.#pending.get(packetId)
    if (type === 7) this.#pending.delete(packetId)
    if (type !== 5) return
    if (one !== undefined) {
      one.released = true
      this.acknowledged.add(one.number)
    }
    this.#client!.ack(6, packetId)
  }

  #done(packetId: number): void {
    const one = this.#pending.get(packetId)
    if (one !== undefined) this.acknowledged.add(one.number)
    this.#pending.delete(packetId)
  }
}

/**
 * Subscribes to `load/#`, or what it is given, under a session that stays, and comes and goes. Acknowledges late, and what it had not acknowledged when it went it gets
 * again; of QoS 2 it remembers the packet ids, as a receiver has to (section 4.3.3).
 */
export class LedgerSubscriber {
  readonly name: string
  readonly qos: 1 | 2
  /** What came, in order: those of QoS 1 may be there more than once. */
  readonly got: { readonly payload: string; readonly qos: number }[] = []
  connections = 0
  readonly #o: Options
  readonly #ended: Promise<void>
  readonly #filter: string
  readonly #exactlyOnce = new Set<number>()
  #client: RawMqtt | undefined
  #acks: (readonly [type: 4 | 5 | 7, packetId: number])[] = []
  #known = false
  #stays = false
  #running = true
  #broken = false
  #lastMs = 0

  constructor(o: Options & { readonly qos: 1 | 2; readonly filter?: string }) {
    this.#o = o
    this.name = o.name
    this.qos = o.qos
    this.#filter = o.filter ?? 'load/#'
    this.#ended = this.#loop()
    // Whoever waits for it is told.
    this.#ended.catch(() => (this.#broken = true))
  }

  /** Whether it has its session, with its subscription. */
  get known(): boolean {
    return this.#known
  }

  /** Stays, and resolves when nothing has come for a while. */
  async finish(quietMs: number): Promise<void> {
    this.#stays = true
    this.#lastMs = performance.now()
    while (!this.#broken && (performance.now() - this.#lastMs < quietMs || this.#client?.closed !== false)) await delay(20)
    await this.stop()
  }

  async stop(): Promise<void> {
    this.#running = false
    await this.#ended
  }

  async #loop(): Promise<void> {
    const { random } = this.#o
    while (this.#running) {
      await this.#connect()
      const until = performance.now() + 100 + random() * 1_200
      while (this.#running && this.#client?.closed === false && (this.#stays || performance.now() < until)) {
        await delay(2 + random() * 10)
        for (const [type, packetId] of this.#acks.splice(0)) this.#client.ack(type, packetId)
      }
      this.#acks = []
      if (random() < 0.5) this.#client?.destroy()
      else await this.#client?.end()
      if (!this.#stays) await delay(random() * 900)
    }
  }

  async #connect(): Promise<void> {
    const { port, name, random } = this.#o
    try {
      const client = await RawMqtt.connect({
        port,
        clientId: name,
        cleanSession: false,
        acksLater: true,
        onPublish: (message) => this.#take(message.qos, message.packetId, message.payload.toString()),
        onExactly: (type, packetId) => {
          if (type !== 6) return
          this.#exactlyOnce.delete(packetId)
          this.#acks.push([7, packetId])
        },
      })
      this.#client = client
      this.connections++
      mustBePresent(client, this.#known, name)
      if (!this.#known) assert.equal(await client.subscribe(this.#filter, this.qos), this.qos)
      this.#known = true
    } catch (thrown) {
      if (thrown instanceof assert.AssertionError) throw thrown
      await delay(10 + random() * 40)
    }
  }

  #take(qos: number, packetId: number, payload: string): void {
    this.#lastMs = performance.now()
    if (qos === 1) this.#acks.push([4, packetId])
    else if (qos === 2) {
      this.#acks.push([5, packetId])
      if (this.#exactlyOnce.has(packetId)) return
      this.#exactlyOnce.add(packetId)
    }
    this.got.push({ payload, qos })
  }

  /** What is wrong with what came of one publisher; empty: nothing. */
  faults({ name, acknowledged, sent, qos }: LedgerPublisher): string[] {
    const numbers = this.got.filter(({ payload }) => payload.startsWith(`${name} `)).map(({ payload }) => Number(payload.split(' ')[1]))
    const seen = new Set(numbers)
    const lost = [...acknowledged].filter((number) => !seen.has(number))
    const invented = [...seen].filter((number) => !(number >= 1 && number <= sent))
    const first = [...seen]
    const late = first.filter((number, i) => i > 0 && number < first[i - 1]!)
    const doubled = qos === 2 && this.qos === 2 ? repeated(numbers) : []
    const all = { lost, invented, 'out of order': late, doubled }
    return Object.entries(all)
      .filter(([, list]) => list.length > 0)
      .map(([what, list]) => `${this.name} of ${name}: ${list.length} ${what}, first ${list.slice(0, 5).join(', ')}`)
  }
}

function repeated(numbers: readonly number[]): number[] {
  const seen = new Set<number>()
  return numbers.filter((number) => seen.size === seen.add(number).size)
}
