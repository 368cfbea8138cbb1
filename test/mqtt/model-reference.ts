import assert from 'node:assert/strict'
import type { GotPublish } from './model-client.ts'
import { neverS } from './model-client.ts'
import type { ConnectOp, Qos, SubscribeOp } from './model-ops.ts'

import { fits, isWhat, lower, retainedDue, shareOf, toleranceMs } from './model-session.ts'
import type { Also, Due, How, Session, Shared, Will } from './model-session.ts'

/** MQTT's sessions as the standards tell them, with lists and nothing else. Where they leave a choice, every choice is accepted. */
export class Reference {
  readonly sessions = new Map<string, Session>()
  readonly retained = new Map<string, { readonly payload: string; readonly qos: Qos; readonly expiresMs: number }>()
  #shared: Shared[] = []
  /** Who got which. */
  readonly #given: { readonly session: Session; readonly got: GotPublish; shared: Shared }[] = []
  #blocks = 0
  nowMs: () => number

  constructor(nowMs: () => number) {
    this.nowMs = nowMs
  }

  /** Gives Session Present. */
  connect(client: string, o: ConnectOp, will: Will | undefined): boolean {
    const expiryS = o.five ? o.expiryS : o.clean ? 0 : neverS
    const before = this.sessions.get(client)
    if (before?.connected === true) this.leave(client, false, -1)
    let session = this.sessions.get(client)
    if (session !== undefined && o.clean) {
      this.#end(session)
      session = undefined
    }
    const present = session !== undefined
    if (session === undefined) {
      session = {
        client,
        stays: expiryS > 0 || before?.stays === true,
        expiryS,
        five: o.five,
        connected: true,
        receiveMaximum: 0,
        filters: new Map(),
        live: [],
        queue: [],
        retained: [],
        asked: new Map(),
        flights: [],
        inbound: new Map(),
        owed: [],
        will: undefined,
        leftMs: 0,
        hurried: false,
      }
      this.sessions.set(client, session)
    }
    const receiveMaximum = o.five && o.receiveMaximum > 0 ? o.receiveMaximum : 65_535
    Object.assign(session, { expiryS, five: o.five, connected: true, receiveMaximum, will })
    for (const flight of session.flights) Object.assign(flight, { again: true, released: false })
    return present
  }

  /** `expiryS` -1: as it was. `hurried`: the server has not had time for what came before. */
  leave(client: string, discardsWill: boolean, expiryS: number, hurried = false): void {
    const session = this.sessions.get(client)
    if (session?.connected !== true) return
    this.#gone(session, hurried)
    if (expiryS >= 0) session.expiryS = expiryS
    if (discardsWill) session.will = undefined
    this.#afterwards(session, 0)
  }

  /** All connections are gone without a word, with the process that had them. */
  restart(): void {
    const connected = [...this.sessions.values()].filter((session) => session.connected)
    for (const session of connected) this.#gone(session, false)
    for (const session of connected) if (!session.stays) this.#drop(session)
    const block = ++this.#blocks
    for (const session of connected) if (session.stays) this.#afterwards(session, block)
  }

  #gone(session: Session, hurried: boolean): void {
    session.connected = false
    session.leftMs = this.nowMs()
    session.live = []
    session.owed.length = 0
    session.hurried ||= hurried
    // Of those of QoS 0, and of those that were not read yet, nothing is kept.
    session.retained = session.retained.filter(({ qos }) => qos > 0)
    if (hurried) for (const one of session.retained) one.optional = true
  }

  #afterwards(session: Session, block: number): void {
    if (session.expiryS === 0) this.#end(session, block)
    else if (session.will?.delayS === 0) this.#publishWill(session, block)
  }

  /** When something will happen by itself. */
  deadlines(): number[] {
    const all: number[] = []
    for (const { connected, leftMs, expiryS, will, queue, retained } of this.sessions.values()) {
      for (const { expiresMs } of [...queue, ...retained]) all.push(expiresMs)
      if (connected) continue
      if (expiryS !== neverS) all.push(leftMs + expiryS * 1000)
      if (will !== undefined) all.push(leftMs + Math.min(will.delayS, expiryS) * 1000)
    }
    for (const { expiresMs } of this.retained.values()) all.push(expiresMs)
    for (const { due } of this.#shared) all.push(due.expiresMs)
    return all.filter((ms) => ms !== Number.POSITIVE_INFINITY)
  }

  /** Time has passed. */
  passed(): void {
    const block = ++this.#blocks
    const away = [...this.sessions.values()].filter(({ connected }) => !connected)
    const due = (session: Session, seconds: number): boolean => session.leftMs + seconds * 1000 <= this.nowMs()
    // Who ends at about the same time may have got a will before; nobody will see.
    for (const session of away)
      if (session.will !== undefined && due(session, Math.min(session.will.delayS, session.expiryS))) this.#publishWill(session, block)
    for (const session of away) if (session.expiryS !== neverS && due(session, session.expiryS)) this.#end(session)
    for (const [topic, { expiresMs }] of this.retained) if (expiresMs <= this.nowMs()) this.retained.delete(topic)
  }

  subscribe(session: Session, op: SubscribeOp): void {
    const kept = session.five ? op : { ...op, noLocal: false, retainAsPublished: false, retainHandling: 0 as const, identifier: 0 }
    const isNew = !session.filters.has(op.filter)
    session.filters.set(op.filter, kept)
    if (shareOf(op.filter) !== undefined || kept.retainHandling === 2 || (kept.retainHandling === 1 && !isNew)) return
    for (const one of session.retained) if (one.filter === op.filter) one.optional = true
    session.asked.set(op.filter, kept)
    for (const [topic, message] of this.retained) if (fits(op.filter, topic)) session.retained.push(retainedDue(kept, topic, message, false))
  }

  /** Whether there was such a subscription. */
  unsubscribe(session: Session, filter: string): boolean {
    for (const one of session.retained) if (one.filter === filter) one.optional = true
    return session.filters.delete(filter)
  }

  publish(
    message: { topic: string; payload: string; qos: Qos; retain: boolean; expiresMs: number },
    publisher: Session | undefined,
    block = 0,
  ): void {
    const { topic, payload, qos, expiresMs } = message
    const groups = new Map<string, Map<Session, SubscribeOp>>()
    const told = new Set<Session>()
    const own = new Map<Session, SubscribeOp[]>()
    if (message.retain) this.#retain(message)
    for (const session of this.sessions.values()) {
      const mine: SubscribeOp[] = []
      for (const [filter, o] of session.filters) {
        const share = shareOf(filter)
        if (share === undefined) {
          if (fits(filter, topic) && !(o.noLocal && session === publisher)) mine.push(o)
        } else if (fits(share.filter, topic)) {
          const members = groups.get(share.name) ?? new Map<Session, SubscribeOp>()
          groups.set(share.name, members.set(session, o))
        }
      }
      if (mine.length > 0) own.set(session, mine)
    }
    // Of all that the store keeps for it, a session that stays gets the message once.
    const also = (session: Session, but?: string): readonly Also[] =>
      [...groups].flatMap(([name, members]) => {
        const possible = candidates(members, qos)
        const [, o] = possible.find(([one]) => one === session) ?? []
        const how = o === undefined ? undefined : howOf(message, o)
        if (how === undefined || how.qos === 0 || !session.stays || name === but) return []
        return [{ ...how, name, sure: possible.length === 1 }]
      })
    for (const [session, mine] of own) {
      const granted = mine.reduce<Qos>((most, o) => (o.qos > most ? o.qos : most), 0)
      const retain = message.retain && mine.some((o) => o.retainAsPublished)
      const identifiers = mine
        .map((o) => o.identifier)
        .filter((id) => id !== 0)
        .toSorted((a, b) => a - b)
      const due: Due = {
        topic,
        payload,
        qos: lower(qos, granted),
        retain,
        identifiers,
        ...(lower(qos, granted) === 0 ? {} : { also: also(session) }),
        expiresMs,
        block,
        filter: '',
        optional: false,
      }
      if (due.qos > 0) {
        session.queue.push(due)
        if (session.stays) told.add(session)
      } else if (session.connected) session.live.push(due)
    }
    // The server may, and need not, send further copies to a client with several subscriptions that match (section 3.3.4).
    const others = (session: Session, name: string): boolean =>
      session.stays && (told.has(session) || [...groups].some(([other, members]) => other !== name && members.has(session)))
    for (const [name, members] of groups) {
      const due: Due = { topic, payload, qos, retain: message.retain, identifiers: [], expiresMs, block, filter: '', optional: false }
      this.#share({ name, due, members, loose: false, optional: [...members.keys()].some((session) => others(session, name)), also })
    }
  }

  /** What came to a client; throws when it should not have. */
  got(session: Session, got: GotPublish): void {
    const { packetId, qos } = got
    if (qos === 0) return void this.#take(session, session.live, got)
    const again = session.flights.find((flight) => flight.again)
    const flight = session.flights.find((one) => one.packetId === packetId)
    if (flight !== undefined) {
      assert.ok(got.dup && flight === again && flight.state === 'sent', `packet id ${packetId} is in use, or out of order`)
      assert.equal(got.payload, flight.due.payload, 'another message has come with the packet id')
      flight.again = false
    } else {
      assert.equal(got.dup && !session.hurried, false, 'DUP on what was not sent before')
      assert.equal(again, undefined, 'what was under way has not come before')
      const { due, shared } = this.#take(session, session.queue, got)
      session.flights.push({ packetId, qos, due, shared, state: 'sent', released: false, again: false })
    }
    const under = session.flights.filter((one) => !one.again).length
    assert.ok(under <= session.receiveMaximum, `${under} under way, ${session.receiveMaximum} allowed [MQTT-3.3.4-9]`)
  }

  /** PUBREL came. */
  released(session: Session, packetId: number): void {
    const flight = session.flights.find((one) => one.packetId === packetId)
    assert.ok(flight?.state === 'received', `PUBREL ${packetId} for what is not received`)
    const first = session.flights.find((one) => one.again)
    if (flight.again) assert.equal(flight, first, 'PUBREL out of order')
    flight.again = false
    flight.released = true
  }

  /** The server has had all the time that it needs. */
  settled(): void {
    for (const session of this.sessions.values()) {
      if (!session.connected) continue
      assert.deepEqual(session.owed, [], `${session.client} was not answered`)
      assert.deepEqual(session.live, [], `${session.client} did not get all of QoS 0`)
      const open = session.flights.filter((one) => !one.again).length < session.receiveMaximum
      if (!open) continue
      const again = session.flights.filter((flight) => flight.again)
      assert.deepEqual(again, [], `${session.client} did not get again what was under way`)
      session.queue = session.queue.filter((due) => !this.#expired(due))
      assert.deepEqual(session.queue, [], `${session.client} did not get what waited`)
      session.retained = session.retained.filter((due) => !this.#expired(due))
      session.asked.clear()
      session.hurried = false
      assert.deepEqual(
        session.retained.filter((due) => !due.optional),
        [],
        `${session.client} did not get what is retained`,
      )
    }
    const open = this.#shared.filter(({ due, optional, holders }) => due.qos === 0 && !optional && [...holders.keys()].some((one) => one.connected))
    assert.deepEqual(
      open.map(({ name, due }) => [name, due]),
      [],
      'nobody got a shared message of QoS 0',
    )
    this.#shared = this.#shared.filter(({ due }) => due.qos > 0)
  }

  /** Everybody has been here and has acknowledged all. */
  finished(): void {
    const open = this.#shared.filter(({ optional, due }) => !optional && due.expiresMs === Number.POSITIVE_INFINITY)
    assert.deepEqual(
      open.map(({ name, due }) => [name, due]),
      [],
      'nobody got a shared message',
    )
  }

  #expired({ expiresMs }: Due): boolean {
    return expiresMs <= this.nowMs()
  }

  /** Finds what came among what is due. */
  #take(session: Session, list: Due[], got: GotPublish): { readonly due: Due; readonly shared: Shared | undefined } {
    const is = (due: Due): boolean => isWhat(due, session, got, this.nowMs())
    let due: Due | undefined
    let shared: Shared | undefined
    const at = list.findIndex(is)
    const inTurn = list.slice(0, Math.max(0, at)).every((one) => this.#expired(one) || (one.block !== 0 && one.block === list[at]?.block))
    if (at >= 0 && inTurn) due = list.splice(at, 1)[0]
    const early = (optional: boolean): Due | undefined => {
      const found = session.retained.findIndex((one) => is(one) && one.optional === optional)
      return found < 0 ? undefined : session.retained.splice(found, 1)[0]
    }
    due ??= early(false)
    if (due === undefined) {
      shared = this.#takeShared(session, got)
      due = shared?.due ?? early(true)
    }
    assert.ok(
      due !== undefined,
      `${session.client} got ${JSON.stringify(got)}; due: ${JSON.stringify(list)}, retained ${JSON.stringify(session.retained)}`,
    )
    const leftMs = due.expiresMs - this.nowMs()
    if (session.five && leftMs === Number.POSITIVE_INFINITY) assert.equal(got.expiryS, -1)
    else if (session.five) {
      assert.ok(
        Math.abs(got.expiryS * 1000 - Math.max(0, leftMs)) <= 1000 + toleranceMs,
        `${got.payload} expires in ${leftMs} ms, not ${got.expiryS} s [MQTT-3.3.2-6]`,
      )
    }
    return { due, shared }
  }

  /** Which of the shared messages it was. One that a client got may have been for another of its groups. */
  #takeShared(session: Session, got: GotPublish): Shared | undefined {
    const mayBe = (one: Shared, session: Session, got: GotPublish): boolean => {
      const how = one.holders.get(session)
      if (how === undefined) return false
      const { retain, identifiers } = got
      // Qos as it came, when it is not more than was granted.
      const loose = { ...one.due, qos: ([0, 1, 2] as const).find((qos) => qos === got.qos && qos <= how.qos) ?? how.qos, retain, identifiers }
      if (one.loose) return isWhat(loose, session, got, this.nowMs())
      return isWhat({ ...one.due, ...how }, session, got, this.nowMs())
    }
    const open = (session: Session, got: GotPublish): Shared | undefined =>
      this.#shared.filter((one) => mayBe(one, session, got)).toSorted((a, b) => a.holders.size - b.holders.size)[0]
    let mine = open(session, got)
    if (mine === undefined) {
      for (const given of this.#given) {
        const instead = mayBe(given.shared, session, got) ? open(given.session, given.got) : undefined
        if (instead === undefined) continue
        mine = given.shared
        given.shared = instead
        this.#shared = this.#shared.filter((one) => one !== instead)
        break
      }
    }
    if (mine === undefined) return undefined
    this.#shared = this.#shared.filter((one) => one !== mine)
    this.#given.push({ session, got, shared: mine })
    return mine
  }

  #retain({ topic, payload, qos, expiresMs }: { topic: string; payload: string; qos: Qos; expiresMs: number }): void {
    if (payload === '') this.retained.delete(topic)
    else this.retained.set(topic, { payload, qos, expiresMs })
    for (const { retained, asked } of this.sessions.values()) {
      for (const one of retained) if (one.topic === topic) one.optional = true
      // Whoever reads late may find the new one.
      for (const o of asked.values())
        if (payload !== '' && fits(o.filter, topic)) retained.push(retainedDue(o, topic, { payload, qos, expiresMs }, true))
    }
  }

  #share(o: {
    name: string
    due: Due
    members: ReadonlyMap<Session, SubscribeOp>
    loose: boolean
    optional: boolean
    also?: (session: Session, but: string) => readonly Also[]
  }): void {
    const { name, due, loose, optional } = o
    const possible = candidates(o.members, due.qos)
    if (possible.length === 0) return
    const holders: Shared['holders'] = new Map()
    for (const [session, options] of possible) {
      const how = howOf(due, options)
      holders.set(session, how.qos === 0 ? how : { ...how, also: o.also?.(session, name) ?? [] })
    }
    this.#shared.push({ name, due, holders, loose, optional })
  }

  /** Its session is gone, without its will. */
  #drop(session: Session): void {
    this.sessions.delete(session.client)
    const mine = this.#shared.filter(({ holders }) => holders.delete(session))
    for (const one of mine) one.optional = true
    this.#shared = this.#shared.filter(({ holders }) => holders.size > 0)
    // Another member may get what it has not acknowledged.
    for (const { name, due } of [...mine, ...session.flights.flatMap(({ shared }) => shared ?? [])]) {
      const members = new Map<Session, SubscribeOp>()
      for (const other of this.sessions.values()) {
        const o = other.filters.get(name)
        if (o !== undefined) members.set(other, o)
      }
      this.#share({ name, due, members, loose: true, optional: true })
    }
  }

  #end(session: Session, block = 0): void {
    this.#drop(session)
    if (session.will !== undefined) this.#publishWill(session, block)
  }

  #publishWill(session: Session, block: number): void {
    const { payload, qos, retain } = session.will!
    session.will = undefined
    this.publish({ topic: `will/${session.client}`, payload, qos, retain, expiresMs: Number.POSITIVE_INFINITY }, undefined, block)
  }
}

/** Who of a group may get a message: who is connected, else, of what is kept, who is not. */
function candidates(members: ReadonlyMap<Session, SubscribeOp>, qos: Qos): (readonly [Session, SubscribeOp])[] {
  const there = [...members].filter(([session]) => session.connected)
  return there.length > 0 ? there : [...members].filter(([, o]) => qos > 0 && o.qos > 0)
}

function howOf(message: { readonly qos: Qos; readonly retain: boolean }, { qos, retainAsPublished, identifier }: SubscribeOp): How {
  return { qos: lower(message.qos, qos), retain: message.retain && retainAsPublished, identifiers: identifier === 0 ? [] : [identifier] }
}
