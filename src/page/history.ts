import type { Client, StatusAnswer } from '../client/index.ts'

type KeptLook = Awaited<ReturnType<Client['system']['statusHistory']>>['items'][number]

/** One look at the server; rates are of the time since the look before. */
export interface Look {
  readonly atMs: number
  readonly messagesPerS: number | null
  readonly readingsPerS: number | null
  readonly active: number
  readonly lagMs: number
  readonly storageBytes: number
  readonly deadLetters: number
}

/** Five minutes of one look every two seconds. */
const looksMax = 151

/** How long what the store has not read yet has waited; 0 when it has read all. */
export function lagMsOf(status: StatusAnswer, nowMs: number): number {
  const behind = status.lag.filter(({ group, oldest, committed, end }) => group === 'store' && oldest !== null && committed !== end)
  return Math.max(0, ...behind.map(({ oldest }) => nowMs - Date.parse(oldest ?? '')))
}

interface Counted {
  readonly atMs: number
  readonly messages: number
  readonly readings: number
}

/** Figures of the last minutes: what the server has kept of them, then what is seen while the page is open. */
export class History {
  #looks: readonly Look[] = []
  #last: Counted | undefined

  get looks(): readonly Look[] {
    return this.#looks
  }

  /** What was before the page; to be told before anything is added. */
  begin(kept: readonly KeptLook[]): void {
    for (const look of kept) {
      this.#take(
        { atMs: look.time, messages: look.messages_total, readings: look.readings_total },
        { active: look.devices_active, lagMs: look.store_lag_ms, storageBytes: look.storage_bytes, deadLetters: look.dead_letters_waiting },
      )
    }
  }

  /** `atMs`: by the server's clock. */
  add(status: StatusAnswer, atMs: number): void {
    this.#take(
      { atMs, messages: status.messages_total, readings: status.readings_total },
      {
        active: status.devices_active,
        lagMs: lagMsOf(status, atMs),
        storageBytes: status.storage.log_bytes + status.storage.store_bytes,
        deadLetters: status.dead_letters_waiting,
      },
    )
  }

  #take(counted: Counted, figures: Omit<Look, 'atMs' | 'messagesPerS' | 'readingsPerS'>): void {
    const before = this.#last
    const seconds = before === undefined ? 0 : (counted.atMs - before.atMs) / 1000
    // Too near for a rate: the next one tells more.
    if (before !== undefined && seconds < 0.5) return
    // A server that was started anew counts from 0.
    const anew = before === undefined || counted.messages < before.messages
    const rate = (now: number, then: number): number | null => (anew ? null : (now - then) / seconds)
    const look: Look = {
      atMs: counted.atMs,
      messagesPerS: rate(counted.messages, before?.messages ?? 0),
      readingsPerS: rate(counted.readings, before?.readings ?? 0),
      ...figures,
    }
    this.#last = counted
    this.#looks = [...this.#looks.slice(1 - looksMax), look]
  }
}
