import type { Timer } from '../../../core/env.ts'
import { limits } from '../../../core/limits.ts'
import type { SystemStatus } from '../../../core/services.ts'
import type { HttpContext } from '../options.ts'

/** One look; totals are since the start. Times are epoch milliseconds. */
export interface Look {
  readonly time: number
  readonly messages_total: number
  readonly readings_total: number
  readonly devices_active: number
  /** How long the oldest that the store has not read has waited; 0: it has read all. */
  readonly store_lag_ms: number
  readonly storage_bytes: number
  readonly dead_letters_waiting: number
}

function lookAt(status: SystemStatus, nowUs: number): Look {
  const waits = status.lag.filter(({ group, committed, end, oldestUs }) => group === 'store' && committed < end && oldestUs !== undefined)
  return {
    time: Math.floor(nowUs / 1e3),
    messages_total: status.messages_total,
    readings_total: status.readings_total,
    devices_active: status.devices_active,
    store_lag_ms: Math.max(0, ...waits.map(({ oldestUs }) => Math.round((nowUs - (oldestUs ?? nowUs)) / 1e3))),
    storage_bytes: status.storage.log_bytes + status.storage.store_bytes,
    dead_letters_waiting: status.dead_letters_waiting,
  }
}

/** The figures of the last minutes, so that who opens the page sees where they come from. Looked at every few seconds, whoever asks. */
export class StatusHistory {
  readonly #context: Pick<HttpContext, 'status' | 'env'>
  #looks: Look[] = []
  #timer: Timer | undefined
  #stopped = true

  constructor(context: Pick<HttpContext, 'status' | 'env'>) {
    this.#context = context
  }

  /** Oldest first. */
  get looks(): readonly Look[] {
    return this.#looks
  }

  start(): void {
    if (!this.#stopped) return
    this.#stopped = false
    void this.#look()
  }

  stop(): void {
    this.#stopped = true
    this.#timer?.cancel()
  }

  async #look(): Promise<void> {
    const { status, env } = this.#context
    try {
      const found = await status()
      this.#looks = [...this.#looks.slice(1 - limits.statusLooksMax), lookAt(found, env.clock.nowUs())]
    } catch (error) {
      // A gap in the figures; whoever asks for the status itself is told why.
      env.logger.debug('the status could not be looked at', { error: error instanceof Error ? error.message : String(error) })
    }
    if (!this.#stopped) this.#timer = env.clock.after(limits.statusLookMs, () => void this.#look())
  }
}
