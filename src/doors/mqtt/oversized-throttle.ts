import type { Clock } from '../../core/env.ts'
import { peerOf } from '../address.ts'
import type { MqttLimits } from './limits.ts'

/**
 * How many PUBLISHes over the packet limit are kept as dead letters: each costs its sender a connection and 4 KiB, and would push
 * older letters of others out. For each address a bucket of `oversizedBurst` that regains one each `oversizedIntervalMs`.
 */
export class OversizedThrottle {
  readonly #clock: Clock
  readonly #limits: MqttLimits
  /** When the address's bucket will be full again. Oldest use first. */
  readonly #fullAtMs = new Map<string, number>()

  constructor(clock: Clock, limits: MqttLimits) {
    this.#clock = clock
    this.#limits = limits
  }

  /** Whether one more of this address may be kept; it counts as kept. */
  admits(address: string): boolean {
    const { oversizedBurst, oversizedIntervalMs, oversizedAddressesMax } = this.#limits
    const peer = peerOf(address)
    const nowMs = this.#clock.monotonicMs()
    const fullAtMs = Math.max(nowMs, this.#fullAtMs.get(peer) ?? nowMs) + oversizedIntervalMs
    if (fullAtMs - nowMs > oversizedBurst * oversizedIntervalMs) return false
    this.#fullAtMs.delete(peer)
    this.#fullAtMs.set(peer, fullAtMs)
    for (const oldest of this.#fullAtMs.keys()) {
      if (this.#fullAtMs.size <= oversizedAddressesMax) break
      this.#fullAtMs.delete(oldest)
    }
    return true
  }
}
