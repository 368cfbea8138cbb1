import type { Clock, Timer } from '../../core/env.ts'
import { encodeText } from '../../wire/mqtt/text.ts'
import { matchesFilter } from './filter.ts'

/** What a broker tells of itself. Counts are since its start. */
export interface SysFigures {
  /** Of sessions: with a connection, without one, at once since the start, and ended by their expiry. */
  readonly clients: { readonly connected: number; readonly disconnected: number; readonly maximum: number }
  readonly subscriptions: number
  readonly sharedSubscriptions: number
  readonly retained: number
  /** Messages kept for sessions and as retained ones. */
  readonly stored: { readonly messages: number; readonly bytes: number } | undefined
  readonly publish: { readonly received: number; readonly sent: number; readonly dropped: number }
  readonly connections: number
}

export interface SysTopicsOptions {
  readonly version: string
  readonly figures: () => SysFigures
  /** Delivers to whoever subscribes; QoS 0. */
  readonly publish: (topic: string, payload: Uint8Array) => void
  readonly clock: Pick<Clock, 'after' | 'monotonicMs'>
  readonly intervalMs: number
}

const minutes = [1, 5, 15] as const

/** A moving average of a count's growth per minute, over some minutes; as Mosquitto and a load average of Unix have it. */
interface Load {
  readonly topic: string
  readonly minutes: number
  readonly count: (figures: SysFigures) => number
  before: number
  value: number
}

/**
 * The topics below `$SYS/broker` by which tools watch a broker, under Mosquitto's names and in its units. Values that have changed are published at
 * each interval; who subscribes gets all that match at once, as if they were retained.
 */
export class SysTopics {
  readonly #o: SysTopicsOptions
  readonly #startedMs: number
  readonly #loads: readonly Load[]
  readonly #told = new Map<string, string>()
  #averagedMs: number
  #timer: Timer

  constructor(o: SysTopicsOptions) {
    this.#o = o
    this.#startedMs = this.#averagedMs = o.clock.monotonicMs()
    const load = (name: string, count: Load['count']): Load[] =>
      minutes.map((of) => ({ topic: `load/${name}/${of}min`, minutes: of, count, before: 0, value: 0 }))
    this.#loads = [
      ...load('publish/received', ({ publish }) => publish.received),
      ...load('publish/sent', ({ publish }) => publish.sent),
      ...load('publish/dropped', ({ publish }) => publish.dropped),
      ...load('connections', ({ connections }) => connections),
    ]
    this.#timer = this.#later()
  }

  /** Topics that `filter` matches with their values now. */
  retained(filter: string): { readonly topic: string; readonly payload: Uint8Array }[] {
    if (!filter.startsWith('$SYS/')) return []
    return this.#values()
      .filter(([topic]) => matchesFilter(filter, topic))
      .map(([topic, text]) => ({ topic, payload: encodeText(text) }))
  }

  stop(): void {
    this.#timer.cancel()
  }

  #later(): Timer {
    return this.#o.clock.after(this.#o.intervalMs, () => {
      this.#timer = this.#later()
      this.#tick()
    })
  }

  #tick(): void {
    const figures = this.#o.figures()
    const nowMs = this.#o.clock.monotonicMs()
    const elapsedMinutes = (nowMs - this.#averagedMs) / 60_000
    this.#averagedMs = nowMs
    if (elapsedMinutes > 0) {
      for (const load of this.#loads) {
        const count = load.count(figures)
        const perMinute = (count - load.before) / elapsedMinutes
        load.before = count
        load.value = perMinute + Math.exp(-elapsedMinutes / load.minutes) * (load.value - perMinute)
      }
    }
    for (const [topic, text] of this.#values(figures)) {
      if (this.#told.get(topic) === text) continue
      this.#told.set(topic, text)
      this.#o.publish(topic, encodeText(text))
    }
  }

  #values(figures = this.#o.figures()): (readonly [string, string])[] {
    const { clients, publish, stored } = figures
    const uptimeS = Math.floor((this.#o.clock.monotonicMs() - this.#startedMs) / 1000)
    const values: (readonly [string, string | number])[] = [
      ['version', `kymo version ${this.#o.version}`],
      ['uptime', `${uptimeS} seconds`],
      ['clients/total', clients.connected + clients.disconnected],
      ['clients/connected', clients.connected],
      ['clients/active', clients.connected],
      ['clients/disconnected', clients.disconnected],
      ['clients/inactive', clients.disconnected],
      ['clients/maximum', clients.maximum],
      ['subscriptions/count', figures.subscriptions],
      ['shared_subscriptions/count', figures.sharedSubscriptions],
      ['retained messages/count', figures.retained],
      ['publish/messages/received', publish.received],
      ['publish/messages/sent', publish.sent],
      ['publish/messages/dropped', publish.dropped],
      ['messages/received', publish.received],
      ['messages/sent', publish.sent],
      ...(stored === undefined
        ? []
        : ([
            ['messages/stored', stored.messages],
            ['store/messages/count', stored.messages],
            ['store/messages/bytes', stored.bytes],
          ] as const)),
      ...this.#loads.map(({ topic, value }) => [topic, value.toFixed(2)] as const),
    ]
    return values.map(([topic, value]) => [`$SYS/broker/${topic}`, `${value}`] as const)
  }
}
