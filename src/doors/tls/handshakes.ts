import type { Clock } from '../../core/env.ts'
import { limits } from '../../core/limits.ts'
import type { Cell, Metrics } from '../../core/metrics.ts'

interface Waiting {
  readonly start: () => void
  readonly refuse: () => void
  readonly sinceMs: number
  gone: boolean
}

/** How often those who wait are let in. */
const turnMs = 20
/** What may begin at once, in seconds' worth: 20 handshakes in one turn of the event loop hold it for 30 ms, 200 for 300. */
const burstS = 0.1

/**
 * Lets TLS handshakes begin at a bounded rate, so that a storm of them leaves the event loop to those who are in. Each peer waits in a queue of
 * its own, and the queues take turns: who opens thousands of connections waits for himself.
 */
export class HandshakeGate {
  readonly #clock: Clock
  readonly #perS: number
  readonly #burst: number
  readonly #queues = new Map<string, Waiting[]>()
  readonly #waitingCell: Cell
  #waiting = 0
  #tokens: number
  #filledMs: number
  #turns = false

  constructor(clock: Clock, perS: number, metrics: Metrics) {
    this.#clock = clock
    this.#perS = perS
    this.#burst = Math.max(1, perS * burstS)
    this.#tokens = this.#burst
    this.#filledMs = clock.monotonicMs()
    this.#waitingCell = metrics.gauge('kymo_tls_handshakes_waiting', 'TLS connections whose handshake waits its turn.')
  }

  get waiting(): number {
    return this.#waiting
  }

  /** Calls `start` now or later, or `refuse` when too many wait or it has waited too long. Returns how to leave the queue. */
  enter(peer: string, start: () => void, refuse: () => void): () => void {
    this.#fill()
    if (this.#waiting === 0 && this.#tokens >= 1) {
      this.#tokens--
      start()
      return () => undefined
    }
    const mine = this.#queues.get(peer)
    // Fair in refusing, too: with the queue full, whoever has most in it has no more.
    if (this.#waiting >= limits.tlsWaitingMax || (mine !== undefined && mine.length * 2 >= limits.tlsWaitingMax)) {
      refuse()
      return () => undefined
    }
    const waiting: Waiting = { start, refuse, sinceMs: this.#clock.monotonicMs(), gone: false }
    if (mine === undefined) this.#queues.set(peer, [waiting])
    else mine.push(waiting)
    this.#count(1)
    this.#later()
    return () => {
      if (waiting.gone) return
      waiting.gone = true
      this.#count(-1)
    }
  }

  #count(by: number): void {
    this.#waiting += by
    this.#waitingCell.value = this.#waiting
  }

  #fill(): void {
    const nowMs = this.#clock.monotonicMs()
    this.#tokens = Math.min(this.#burst, this.#tokens + ((nowMs - this.#filledMs) * this.#perS) / 1e3)
    this.#filledMs = nowMs
  }

  #later(): void {
    if (this.#turns) return
    this.#turns = true
    this.#clock.after(turnMs, () => {
      this.#turns = false
      this.#turn()
      if (this.#queues.size > 0) this.#later()
    })
  }

  /** One of each peer, round and round, as far as the tokens go. */
  #turn(): void {
    this.#fill()
    const lateMs = this.#clock.monotonicMs() - limits.tlsHandshakeTimeoutMs
    for (const [peer, queue] of this.#queues) {
      while (queue[0] !== undefined && (queue[0].gone || queue[0].sinceMs <= lateMs)) {
        const one = queue.shift()!
        if (one.gone) continue
        this.#leave(one)
        one.refuse()
      }
      if (queue.length === 0) this.#queues.delete(peer)
    }
    for (;;) {
      const first = this.#queues.entries().next()
      if (first.done === true || this.#tokens < 1) return
      const [peer, queue] = first.value
      this.#queues.delete(peer)
      const one = queue.shift()
      // To the end of the round.
      if (queue.length > 0) this.#queues.set(peer, queue)
      if (one === undefined || one.gone) continue
      this.#tokens--
      this.#leave(one)
      one.start()
    }
  }

  #leave(one: Waiting): void {
    one.gone = true
    this.#count(-1)
  }
}
