import type { Budget } from './budget.ts'
import type { Connection } from './connection.ts'

/** Above this a part is written by itself rather than copied together with its neighbours. */
const copyBytesMax = 16 * 1024
/** With this much gathered the end of the turn is not waited for: the network may be ready to take it. */
const gatherBytesMax = 64 * 1024

/**
 * Puts parts together. Subscribers of one filter are sent the same ones in a turn: what was made for the first serves the others as well, until the end
 * of the turn.
 */
export class Joiner {
  #parts: readonly Uint8Array[] = []
  #joined: Uint8Array | undefined

  /** parts[from, to), which have `bytes` together. */
  join(parts: readonly Uint8Array[], from: number, to: number, bytes: number): Uint8Array {
    const whole = from === 0 && to === parts.length
    if (whole && this.#joined !== undefined && this.#same(parts)) return this.#joined
    const joined = Buffer.allocUnsafe(bytes)
    let at = 0
    for (let i = from; i < to; i++) {
      joined.set(parts[i]!, at)
      at += parts[i]!.length
    }
    if (whole) {
      this.#parts = parts
      this.#joined = joined
    }
    return joined
  }

  forget(): void {
    this.#parts = []
    this.#joined = undefined
  }

  #same(parts: readonly Uint8Array[]): boolean {
    if (parts.length !== this.#parts.length) return false
    for (let i = 0; i < parts.length; i++) if (parts[i] !== this.#parts[i]) return false
    return true
  }
}

/** Gathers what one connection sends within a turn of the event loop into few writes. */
export class PacketWriter {
  readonly #connection: Connection
  readonly #schedule: (writer: PacketWriter) => void
  readonly #budget: Budget
  readonly #joiner: Joiner
  #parts: Uint8Array[] = []
  #bytes = 0
  #scheduled = false
  #accounted = 0

  /** `schedule` has `turn` called before the turn of the event loop is over. Waiting bytes count against `budget`. */
  constructor(connection: Connection, schedule: (writer: PacketWriter) => void, budget: Budget, joiner: Joiner) {
    this.#connection = connection
    this.#schedule = schedule
    this.#budget = budget
    this.#joiner = joiner
  }

  /** Bytes that wait here or in the network's buffer. */
  get waitingBytes(): number {
    return this.#bytes + this.#connection.bufferedBytes
  }

  /** `bytes` must not change afterwards. */
  send(bytes: Uint8Array): void {
    this.#parts.push(bytes)
    this.#bytes += bytes.length
    if (this.#bytes >= gatherBytesMax) this.flush()
    if (this.#scheduled) return
    this.#scheduled = true
    this.#schedule(this)
  }

  /** Called by the scheduler. */
  turn(): void {
    this.#scheduled = false
    this.flush()
  }

  flush(): void {
    if (this.#bytes === 0) return
    const parts = this.#parts
    if (parts.length === 1) {
      this.#connection.write(parts[0]!)
      parts.length = 0
    } else {
      this.#parts = []
      this.#writeJoined(parts)
    }
    this.#bytes = 0
    this.account()
  }

  /** Brings the budget up to date with what waits in the network's buffer. */
  account(): void {
    const waiting = this.#connection.bufferedBytes
    if (waiting === this.#accounted) return
    this.#budget.used += waiting - this.#accounted
    this.#accounted = waiting
  }

  /** The connection is gone: nothing waits any more. */
  discard(): void {
    this.#parts = []
    this.#bytes = 0
    this.#budget.used -= this.#accounted
    this.#accounted = 0
  }

  #writeJoined(parts: readonly Uint8Array[]): void {
    let from = 0
    while (from < parts.length) {
      let to = from
      let bytes = 0
      while (to < parts.length && parts[to]!.length <= copyBytesMax) bytes += parts[to++]!.length
      if (to - from > 1) {
        this.#connection.write(this.#joiner.join(parts, from, to, bytes))
      } else if (to - from === 1) {
        this.#connection.write(parts[from]!)
      }
      if (to < parts.length) this.#connection.write(parts[to++]!)
      from = to
    }
  }
}
