import type { Clock, Timer } from '../../core/env.ts'
import type { SessionMessage } from '../../core/session-store.ts'
import { Fifo } from './fifo.ts'
import { isShared } from './filter.ts'
import type { SubscriptionOptions } from './roster.ts'

/**
 * Whether a subscription gets the retained messages of its filter when it is made: as its Retain Handling says [MQTT-3.3.1-9] [MQTT-3.3.1-10]
 * [MQTT-3.3.1-11], and never when it is shared (MQTT 5, section 4.8.2). Those of 3.1.1 have Retain Handling 0.
 */
export function wantsRetained(filter: string, { retainHandling }: Pick<SubscriptionOptions, 'retainHandling'>, outcome: 'new' | 'replaced'): boolean {
  return !isShared(filter) && (retainHandling === 0 || (retainHandling === 1 && outcome === 'new'))
}

/** Who gets retained messages. */
export interface RetainedTarget {
  /** Whether one more can be taken now. False: `RetainedFeed.resume` is called when it can. */
  room(): boolean
  /** `message` is lent for the call. It goes out with RETAIN 1 [MQTT-3.3.1-8], at the lower of its own QoS and the granted one. */
  take(message: SessionMessage, options: SubscriptionOptions): void
  /** They could not be read. */
  failed(thrown: unknown): void
}

/** The retained messages that are due to one client, one subscription after the other. */
export interface RetainedFeed {
  /** Those of `filter` are due, from the beginning if they were already. */
  request(filter: string, options: SubscriptionOptions): void
  /** After UNSUBSCRIBE no more are sent [MQTT-3.10.4-2]. */
  cancel(filter: string): void
  /** There may be room again. */
  resume(): void
  close(): void
}

export interface RetainedFeedsOptions {
  /** Retained messages that a filter matches, in pages. */
  readonly source: (tenant: string, filter: string) => AsyncIterable<readonly SessionMessage[]>
  readonly clock: Pick<Clock, 'after'>
  /** Messages that are sent in one turn of the event loop, to all clients together. */
  readonly perTurn: number
}

/** Messages that one client gets before the next one has its turn. */
const perFeed = 32
/** Reading a page counts as so many messages: the store looks at a thousand levels at most. */
const pageCost = 64
/** Between turns, so that everything else gets its own. */
const turnMs = 1
/** A client without room is asked again so often, whatever it tells: what it lacked may be something that all clients share. */
const askAgainMs = 250

/**
 * Sends retained messages to those who have just subscribed: bounded in each turn of the event loop, clients taking turns, and no more to a client
 * than it has room for. Of what was not sent yet a page is held for each client, however many messages there are.
 */
export class RetainedFeeds {
  readonly o: RetainedFeedsOptions
  readonly #ready = new Fifo<Feed>()
  readonly #active = new Map<string, Set<Feed>>()
  #timerRuns = false

  constructor(o: RetainedFeedsOptions) {
    this.o = o
  }

  open(tenant: string, target: RetainedTarget): RetainedFeed {
    return new Feed(this, tenant, target)
  }

  /**
   * The retained message of a topic was replaced or removed. Whoever still waits for the one before has subscribed and gets the new one as any other
   * message: what is old must not come behind it.
   */
  changed(tenant: string, topic: string): void {
    for (const feed of this.#active.get(tenant) ?? []) feed.forget(topic)
  }

  /** Clients to which retained messages are due. */
  get size(): number {
    let size = 0
    for (const feeds of this.#active.values()) size += feeds.size
    return size
  }

  // --- what feeds ask ---

  activate(feed: Feed): void {
    const feeds = this.#active.get(feed.tenant)
    if (feeds === undefined) this.#active.set(feed.tenant, new Set([feed]))
    else feeds.add(feed)
  }

  deactivate(feed: Feed): void {
    const feeds = this.#active.get(feed.tenant)
    if (feeds?.delete(feed) === true && feeds.size === 0) this.#active.delete(feed.tenant)
  }

  enqueue(feed: Feed): void {
    this.#ready.push(feed)
    this.#schedule()
  }

  #schedule(): void {
    if (this.#timerRuns) return
    this.#timerRuns = true
    this.o.clock.after(turnMs, () => {
      this.#turn()
      // Not before: a timer that is due when the turn is over would run in this same turn of the event loop, and no socket would be read.
      this.#timerRuns = false
      if (this.#ready.length > 0) this.#schedule()
    })
  }

  #turn(): void {
    let left = this.o.perTurn
    while (left > 0) {
      const feed = this.#ready.shift()
      if (feed === undefined) return
      left -= feed.send(Math.min(left, perFeed))
    }
  }
}

/** What is being sent: its pages, and what of the last one is left. */
interface Reading {
  readonly filter: string
  readonly options: SubscriptionOptions
  readonly pages: AsyncIterator<readonly SessionMessage[]>
  page: (SessionMessage | undefined)[]
  at: number
}

class Feed implements RetainedFeed {
  readonly tenant: string
  readonly #feeds: RetainedFeeds
  readonly #target: RetainedTarget
  readonly #due = new Map<string, SubscriptionOptions>()
  #reading: Reading | undefined
  /** `queued`: it has its turn soon. `waiting`: for a page, or for room. */
  #state: 'idle' | 'queued' | 'waiting' = 'idle'
  /** There was no room. */
  #askAgain: Timer | undefined
  #closed = false

  constructor(feeds: RetainedFeeds, tenant: string, target: RetainedTarget) {
    this.#feeds = feeds
    this.tenant = tenant
    this.#target = target
  }

  request(filter: string, options: SubscriptionOptions): void {
    if (this.#closed) return
    this.cancel(filter)
    this.#due.set(filter, options)
    if (this.#state === 'idle') this.#next()
  }

  cancel(filter: string): void {
    this.#due.delete(filter)
    if (this.#reading?.filter === filter) this.#abandon()
  }

  resume(): void {
    if (this.#askAgain === undefined) return
    this.#unblock()
    this.#queue()
  }

  close(): void {
    this.#closed = true
    this.#due.clear()
    this.#abandon()
  }

  forget(topic: string): void {
    const reading = this.#reading
    if (reading === undefined) return
    for (let i = reading.at; i < reading.page.length; i++) if (reading.page[i]?.topic === topic) reading.page[i] = undefined
  }

  /** Its turn: sends so many at most; returns how many messages' time it took. */
  send(max: number): number {
    this.#state = 'waiting'
    const reading = this.#reading
    if (reading === undefined) {
      this.#next()
      return pageCost
    }
    let sent = 0
    while (reading.at < reading.page.length) {
      const message = reading.page[reading.at]
      if (message !== undefined) {
        if (sent === max) {
          this.#queue()
          return sent
        }
        if (!this.#target.room()) {
          this.#askAgain = this.#feeds.o.clock.after(askAgainMs, () => this.resume())
          return sent + 1
        }
        this.#target.take(message, reading.options)
        sent++
        // The client may have ended over it, or its subscription.
        if (this.#reading !== reading) return sent + 1
      }
      reading.at++
    }
    void this.#read(reading)
    return sent + pageCost
  }

  #unblock(): void {
    this.#askAgain?.cancel()
    this.#askAgain = undefined
  }

  #queue(): void {
    this.#state = 'queued'
    this.#feeds.enqueue(this)
  }

  #abandon(): void {
    const reading = this.#reading
    if (reading === undefined) return
    this.#reading = undefined
    this.#unblock()
    void reading.pages.return?.()
    // In the queue it will find what is next at its turn.
    if (this.#state === 'waiting') this.#next()
  }

  #next(): void {
    for (const [filter, options] of this.#due) {
      this.#due.delete(filter)
      const pages = this.#feeds.o.source(this.tenant, filter)[Symbol.asyncIterator]()
      const reading: Reading = { filter, options, pages, page: [], at: 0 }
      this.#reading = reading
      this.#state = 'waiting'
      this.#feeds.activate(this)
      void this.#read(reading)
      return
    }
    this.#state = 'idle'
    this.#feeds.deactivate(this)
  }

  async #read(reading: Reading): Promise<void> {
    try {
      const next: IteratorResult<readonly SessionMessage[], unknown> = await reading.pages.next()
      if (this.#reading !== reading) return
      if (next.done === true) {
        this.#reading = undefined
        this.#next()
        return
      }
      reading.page = [...next.value]
      reading.at = 0
      this.#queue()
    } catch (thrown) {
      if (this.#reading !== reading) return
      this.#reading = undefined
      this.#next()
      this.#target.failed(thrown)
    }
  }
}
