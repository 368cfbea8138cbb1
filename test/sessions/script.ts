import { KymoError } from '../../src/core/errors.ts'
import { neverExpires, type DueWill, type SessionHandle, type SessionStore } from '../../src/core/session-store.ts'
import { messageOf, subscriptionOf, textOf } from '../contract/session-store.ts'
import type { SimRandom } from '../sim/random.ts'

const clients = ['a', 'b', 'c', 'd']
const topics = ['t', 't/x', 't/y', '$s/x']
const never = Number.POSITIVE_INFINITY

/** One step of a random script: plain data, so that it can be done again beside a model. */
export type Op =
  | {
      readonly type: 'attach'
      readonly client: string
      readonly clean: boolean
      readonly expiryS: number
      readonly willDelayS: number | undefined
      readonly n: number
    }
  | { readonly type: 'detach'; readonly client: string; readonly expiryS: number | undefined; readonly discard: boolean }
  | { readonly type: 'end'; readonly client: string }
  | { readonly type: 'subscribe' | 'unsubscribe'; readonly client: string; readonly filter: string; readonly options: number }
  | {
      readonly type: 'publish'
      readonly topic: string
      readonly n: number
      readonly to: number
      readonly retain: boolean
      readonly empty: boolean
      readonly expiresUs: number
      readonly from: string | undefined
      readonly packetId: number
    }
  | { readonly type: 'send' | 'received' | 'done' | 'accept' | 'release'; readonly client: string; readonly packetId: number }
  | { readonly type: 'will' }
  /** Everybody comes back, and what each has is read. */
  | { readonly type: 'look' }
  /** Time has come this far; nothing else. */
  | { readonly type: 'pass' }
  | { readonly type: 'crash' }

/** Times that no sum of the steps comes near: 20 s and 150 s, and a few of 0.3 s. */
export const passes = [300, 300, 20_000, 150_000] as const
const expiries = [0, 10, 110, neverExpires, neverExpires]
const delays = [undefined, undefined, 0, 5, 50]

export function randomOp(random: SimRandom, n: number, nowUs: number): Op {
  const pick = <T>(list: readonly T[]): T => list[random.below(list.length)]!
  const client = pick(clients)
  const packetId = 1 + random.below(4)
  const kind = random.below(100)
  if (kind < 12) return { type: 'attach', client, clean: random.chance(0.2), expiryS: pick(expiries), willDelayS: pick(delays), n }
  if (kind < 20) return { type: 'detach', client, expiryS: random.chance(0.2) ? pick(expiries) : undefined, discard: random.chance(0.3) }
  if (kind < 21) return { type: 'end', client }
  if (kind < 27) return { type: random.chance(0.7) ? 'subscribe' : 'unsubscribe', client, filter: pick(topics), options: random.below(256) }
  if (kind < 55) {
    const expiresUs = random.chance(0.2) ? nowUs + pick([7e6, 131e6]) : never
    const retain = random.chance(0.3)
    return {
      type: 'publish',
      topic: pick(topics),
      n,
      to: random.below(81),
      retain,
      empty: retain && random.chance(0.3),
      expiresUs,
      from: random.chance(0.2) ? client : undefined,
      packetId,
    }
  }
  if (kind < 97) return { type: pick(['send', 'send', 'send', 'received', 'done', 'accept', 'release'] as const), client, packetId }
  return random.chance(0.6) ? { type: 'will' } : { type: 'look' }
}

/** A store with those who are connected to it. */
export class World {
  readonly store: SessionStore
  readonly handles = new Map<string, SessionHandle>()
  readonly #dues: DueWill[] = []
  readonly #underWay = new Map<string, Set<number>>()

  constructor(store: SessionStore) {
    this.store = store
    store.onWill((due) => this.#dues.push(due))
  }

  /** Returns the ticket to wait for (0: there is none), and of a look what was seen. */
  async apply(op: Op): Promise<{ readonly ticket: number; readonly seen?: string }> {
    try {
      if (op.type === 'look') return { ticket: 0, seen: await this.#look() }
      return { ticket: await this.#do(op) }
    } catch (thrown) {
      // A connection that was lost meanwhile, in both worlds.
      if (thrown instanceof KymoError && thrown.code === 'session_taken') return { ticket: 0 }
      throw thrown
    }
  }

  async #do(op: Exclude<Op, { type: 'look' }>): Promise<number> {
    if (op.type === 'attach') {
      const will =
        op.willDelayS === undefined ? undefined : { message: messageOf('will', `will ${op.n}`), retain: op.n % 2 === 0, delayS: op.willDelayS }
      return await this.#attach(op.client, op.clean, op.expiryS, will)
    }
    if (op.type === 'end') {
      // Not waited for: a ticket of its own would have to be.
      void this.store.end('default', op.client).catch(() => undefined)
      return 0
    }
    if (op.type === 'publish') return await this.#publish(op)
    if (op.type === 'will') {
      // In which order they are told is the store's affair.
      this.#dues.sort((x, y) => (textOf(x.message) < textOf(y.message) ? -1 : 1))
      const due = this.#dues.shift()
      return due === undefined ? 0 : this.store.publish({ message: due.message, recipients: [], retain: due.retain, will: due })
    }
    if (op.type === 'pass' || op.type === 'crash') return 0
    const handle = this.handles.get(op.client)
    if (handle === undefined) return 0
    switch (op.type) {
      case 'detach':
        this.handles.delete(op.client)
        handle.detach({ will: op.discard ? 'discard' : 'publish', ...(op.expiryS === undefined ? {} : { expiryS: op.expiryS }) })
        return 0
      case 'subscribe':
        return handle.subscribe([subscriptionOf(op.filter, optionsOf(op.options)), subscriptionOf(`${op.filter}/+`)])
      case 'unsubscribe':
        return handle.unsubscribe([op.filter, 'other'])
      case 'accept':
        return handle.accept(op.packetId)
      case 'release':
        return handle.release(op.packetId)
      case 'received':
        return this.#underWay.get(op.client)?.has(op.packetId) === true ? handle.received(op.packetId) : 0
      case 'done':
        this.#underWay.get(op.client)?.delete(op.packetId)
        handle.done(op.packetId)
        return 0
      case 'send': {
        const underWay = this.#underWay.get(op.client)
        if (underWay === undefined || underWay.has(op.packetId)) return 0
        const [delivery] = handle.take(1)
        if (delivery === undefined) return 0
        underWay.add(op.packetId)
        return handle.sending(delivery, op.packetId)
      }
    }
  }

  async #attach(client: string, clean: boolean, expiryS: number, will?: Parameters<SessionStore['attach']>[2]['will']): Promise<number> {
    const handle = await this.store.attach('default', client, {
      clean,
      expiryS,
      onTaken: () => undefined,
      onQueued: () => undefined,
      ...(will === undefined ? {} : { will }),
    })
    this.handles.set(client, handle)
    this.#underWay.set(client, new Set(handle.inflight.map(({ packetId }) => packetId)))
    return handle.ticket
  }

  async #publish(op: Extract<Op, { type: 'publish' }>): Promise<number> {
    const recipients = []
    const from = op.from === undefined ? undefined : this.handles.get(op.from)
    let to = op.to
    const known = []
    for await (const { ref } of this.store.sessions()) known.push(ref)
    for (const client of clients) {
      const qos = to % 3
      to = Math.floor(to / 3)
      const session = known.find((ref) => ref.client === client)
      if (qos > 0 && session !== undefined)
        recipients.push({
          session,
          qos: qos === 1 ? (1 as const) : (2 as const),
          retain: op.n % 3 === 0,
          identifiers: op.n % 5 === 0 ? [op.n + 1, 7] : [],
        })
    }
    const message = messageOf(op.topic, op.empty ? '' : `m${op.n} ${'.'.repeat(op.n % 200)}`, {
      expiresUs: op.expiresUs,
      properties: Uint8Array.of(op.n & 255),
    })
    return this.store.publish({
      message,
      recipients,
      retain: op.retain,
      ...(from === undefined ? {} : { inbound: { session: from, packetId: op.packetId } }),
    })
  }

  async #look(): Promise<string> {
    const lines: string[] = []
    const sessions = []
    for await (const session of this.store.sessions()) sessions.push(session)
    for (const { ref, expiryS } of sessions.toSorted((x, y) => (x.ref.client < y.ref.client ? -1 : 1))) {
      await this.#attach(ref.client, false, expiryS)
      const handle = this.handles.get(ref.client)!
      const inflight = handle.inflight.map((one) => `${one.packetId} ${one.state} ${one.state === 'sent' ? shown(one.delivery) : ''}`)
      const waiting = handle.take(1000).map(shown)
      // What was taken and not sent is taken again by the next connection.
      await this.#attach(ref.client, false, expiryS)
      lines.push(
        JSON.stringify(
          [ref.client, expiryS, handle.subscriptions.map(described), handle.inbound.toSorted((x, y) => x - y), inflight, waiting],
          undefined,
          1,
        ),
      )
    }
    const retained: string[] = []
    for (const filter of ['#', '$s/#']) {
      for await (const page of this.store.retained('default', filter)) for (const one of page) retained.push(`${one.topic} ${textOf(one)}`)
    }
    lines.push(
      `retained ${retained.toSorted().join('; ')}`,
      `wills ${this.#dues
        .map((due) => `${textOf(due.message)} ${due.retain}`)
        .toSorted()
        .join('; ')}`,
    )
    return lines.join('\n')
  }
}

function shown({ qos, retain, identifiers, message }: Extract<SessionHandle['inflight'][number], { state: 'sent' }>['delivery']): string {
  return `${message.topic} ${textOf(message)} ${qos} ${retain} ${identifiers.join()} ${message.properties.join()} ${message.expiresUs}`
}

function optionsOf(bits: number): Partial<ReturnType<typeof subscriptionOf>> {
  const third = (value: number): 0 | 1 | 2 => (value === 0 ? 0 : value === 1 ? 1 : 2)
  return {
    qos: third(bits % 3),
    noLocal: (bits & 4) > 0,
    retainAsPublished: (bits & 8) > 0,
    retainHandling: third((bits >> 4) % 3),
    identifier: bits >> 6,
  }
}

function described({ filter, qos, noLocal, retainAsPublished, retainHandling, identifier }: ReturnType<typeof subscriptionOf>): string {
  return [filter, qos, noLocal, retainAsPublished, retainHandling, identifier].join(' ')
}
