import type { Timer } from '../../core/env.ts'
import type { Framer } from '../../wire/mqtt/framer.ts'
import type { Violation } from '../../wire/mqtt/packets.ts'
import { ReasonCode } from '../../wire/mqtt/v5/reason.ts'
import { ClientRate } from '../rate.ts'
import type { Connection } from './connection.ts'
import type { CloseReason } from './counters.ts'
import type { MqttHost } from './host.ts'
import { progressBytesMin } from './watch.ts'
import type { PacketWriter } from './writer.ts'

/** Why a session reads nothing for the moment. */
export const Hold = { inflight: 1, writes: 2, drain: 4, rate: 8, store: 16, admission: 32, effort: 64, routing: 128 } as const

/** What a client may leave unread of our answers, in write buffers' sizes, before it is not read either. */
const unreadAnswersFactor = 4

/** `authorizing`, `attaching`: it is asked who the client is, and for its session. `refusing`: the answer is "no" and waits for its time. */
export type SessionState = 'new' | 'authorizing' | 'refusing' | 'attaching' | 'open' | 'ended'

/** What the reading side asks of its session. */
export interface ReadingControl {
  readonly state: SessionState
  /** The stream is wrong; `bytes` are those in which it was seen. */
  wrong(violation: Violation, bytes: Uint8Array | undefined, start: number): void
  end(reason: CloseReason, detail: string, reasonCode?: number): void
  /** Something threw that must not: the session is over. */
  failed(thrown: unknown): void
  /** Much waits for the client. */
  congested(): void
  /** Reading goes on after it was held. */
  released(): void
}

/** When a client is read, and how much of what it sent is kept meanwhile. */
export class Reading {
  /** PUBLISHes that came. */
  publishes = 0
  readonly #host: MqttHost
  readonly #connection: Connection
  readonly #framer: Framer
  readonly #writer: PacketWriter
  readonly #control: ReadingControl
  #holds = 0
  #partialBytes = 0
  /** Where clients are limited. */
  #rate: ClientRate | undefined
  #rateTimer: Timer | undefined
  #oversizedTimer: Timer | undefined
  /** Units of work in the turn that is named. */
  #effort = 0
  #effortTurn = -1

  constructor(host: MqttHost, connection: Connection, framer: Framer, writer: PacketWriter, control: ReadingControl) {
    this.#host = host
    this.#connection = connection
    this.#framer = framer
    this.#writer = writer
    this.#control = control
  }

  get held(): boolean {
    return this.#holds !== 0
  }

  /** The client is let in: from now on it may send no faster than the limits say. */
  limit(): void {
    const { clock, limits } = this.#host
    const { clientMessagesPerS: messagesPerS, clientBytesPerS: bytesPerS, rateWakeMs: wakeMs } = limits
    if (messagesPerS > 0 || bytesPerS > 0) this.#rate = new ClientRate(clock, { messagesPerS, bytesPerS, wakeMs })
  }

  /** Frames what came, or without bytes what was kept; what goes wrong in it ends this connection and no other. */
  read(bytes?: Uint8Array, start = 0, end = 0): void {
    // What others did before is none of this client's work.
    this.#host.effort.spent()
    try {
      const wrong = bytes === undefined ? this.#framer.resume() : this.#framer.push(bytes, start, end)
      if (wrong !== undefined) this.#control.wrong(wrong, bytes, start)
    } catch (thrown) {
      this.#control.failed(thrown)
    }
    if (this.#control.state === 'ended') return
    if (this.#framer.overLimit) this.#endSoon()
    const pending = this.#framer.pendingBytes
    if (pending !== this.#partialBytes) {
      this.#host.partial.used += pending - this.#partialBytes
      const grew = pending > this.#partialBytes
      this.#partialBytes = pending
      if (grew && pending > progressBytesMin && this.#host.partial.exceeded) this.#control.end('limit', 'Too much is waiting in incomplete packets.')
    }
    if (this.#writer.waitingBytes > this.#host.limits.socketBufferBytesMax * unreadAnswersFactor) {
      this.#control.congested()
      this.hold(Hold.writes)
    }
  }

  /** Of a packet that is too long anyway its beginning is waited for, and not as long as for one that is not. */
  #endSoon(): void {
    this.#oversizedTimer ??= this.#host.clock.after(this.#host.limits.lingerMs, () =>
      this.#control.end('limit', 'A packet is longer than the limit.', ReasonCode.packetTooLarge),
    )
  }

  hold(reason: number): void {
    if (this.#control.state === 'ended') return
    if (this.#holds === 0) {
      this.#framer.stop()
      this.#connection.pause()
    }
    this.#holds |= reason
  }

  release(reason: number): void {
    if (this.#control.state === 'ended' || (this.#holds & reason) === 0) return
    this.#holds &= ~reason
    if (this.#holds !== 0) return
    this.#control.released()
    this.read()
    if (this.#holds === 0 && this.#control.state === 'open') this.#connection.resume()
  }

  /** A publish came. A client that sends faster than it may is read later: TCP holds it back, nothing is lost. */
  took(bytes: number): void {
    this.publishes++
    this.worked()
    if (this.#rate === undefined) return
    const ms = this.#rate.took(bytes)
    if (ms === 0 || this.#rateTimer !== undefined || this.#control.state === 'ended') return
    this.#host.counters.slowed.value++
    this.hold(Hold.rate)
    this.#rateTimer = this.#host.clock.after(ms, () => {
      this.#rateTimer = undefined
      this.release(Hold.rate)
    })
  }

  /** What was read last has made the broker work: whoever lets it work much is read later. */
  worked(): void {
    const { effort } = this.#host
    const units = effort.spent()
    if (units === 0) return
    if (this.#effortTurn !== effort.turn) this.#effort = 0
    this.#effortTurn = effort.turn
    this.#effort += units
    if ((this.#holds & Hold.effort) === 0 && effort.holds(this, this.#effort)) this.hold(Hold.effort)
  }

  proceed(): void {
    this.release(Hold.effort)
  }

  /** Nothing more is read; what came of a publish over the limit is kept. */
  finish(): void {
    this.#rateTimer?.cancel()
    this.#oversizedTimer?.cancel()
    try {
      this.#framer.finish()
    } catch (thrown) {
      this.#host.logger.error('mqtt session failed', { error: String(thrown) })
    }
    this.#framer.stop()
    this.#host.partial.used -= this.#partialBytes
    this.#partialBytes = 0
  }
}
