import type { Clock, Timer } from '../../core/env.ts'
import { limits } from '../../core/limits.ts'
import type { Session } from './session.ts'

const turnMs = 1

/**
 * Connections are told that there is something for their sessions: what they are given then, is sent at once. Those of one publication are told in turns
 * of the event loop when they are many.
 */
export class Wakes {
  readonly #clock: Pick<Clock, 'after'>
  readonly #failed: (thrown: unknown) => void
  readonly #waiting = new Set<Session>()
  #timer: Timer | undefined

  /** `failed`: of one that threw when it was told later. */
  constructor(clock: Pick<Clock, 'after'>, failed: (thrown: unknown) => void) {
    this.#clock = clock
    this.#failed = failed
  }

  /** Tells the sessions' connections, if they want to know. */
  tell(sessions: readonly Session[]): void {
    let left = limits.mqttSessionWakesPerTurn
    for (const session of sessions) {
      if (session.owner?.hungry !== true) continue
      if (left-- > 0) wake(session)
      else this.#waiting.add(session)
    }
    if (this.#waiting.size > 0) this.#later()
  }

  close(): void {
    this.#timer?.cancel()
    this.#waiting.clear()
  }

  #later(): void {
    this.#timer ??= this.#clock.after(turnMs, () => {
      this.#timer = undefined
      this.#turn()
    })
  }

  #turn(): void {
    let left = limits.mqttSessionWakesPerTurn
    for (const session of this.#waiting) {
      if (left-- === 0) break
      this.#waiting.delete(session)
      try {
        if (session.owner?.hungry === true) wake(session)
      } catch (thrown) {
        this.#failed(thrown)
      }
    }
    if (this.#waiting.size > 0) this.#later()
  }
}

function wake({ owner }: Session): void {
  if (owner === undefined) return
  owner.hungry = false
  owner.queued()
}
