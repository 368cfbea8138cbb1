import type { DuckDBConnection } from '@duckdb/node-api'
import type { Clock } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import { abortError } from '../query-checks.ts'

/** An interrupt that comes before the engine has begun is lost. */
export const interruptAgainMs = 10

interface Waiting {
  readonly light: boolean
  readonly start: (connection: DuckDBConnection) => void
  readonly fail: (error: KymoError) => void
}

/**
 * Connections for queries: so many run, so many wait, the rest is refused. One is kept for light queries (few devices), so that a person who
 * looks at one device never waits behind reports over all of them. Can be held, so that a checkpoint finds no query running.
 */
export class QuerySlots {
  readonly #idle: DuckDBConnection[]
  readonly #all: readonly DuckDBConnection[]
  readonly #waiting: Waiting[] = []
  readonly #heavy = new Set<DuckDBConnection>()
  readonly #heavyMax: number
  /** Each of those who hold lets go for itself. */
  #holds = 0
  #closed = false
  readonly #whenIdle = new Set<() => void>()

  constructor(connections: readonly DuckDBConnection[]) {
    this.#all = connections
    this.#idle = [...connections]
    this.#heavyMax = Math.max(1, connections.length - 1)
  }

  get running(): number {
    return this.#all.length - this.#idle.length
  }

  get waiting(): number {
    return this.#waiting.length
  }

  acquire(signal: AbortSignal, light: boolean): Promise<DuckDBConnection> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(abortError(signal))
      if (this.#closed) return reject(new KymoError('shutting_down'))
      const connection = this.#holds > 0 || !this.#hasPlace(light) ? undefined : this.#take(light)
      if (connection !== undefined) return resolve(connection)
      if (this.#waiting.length >= limits.queryWaitingMax) {
        return reject(new KymoError('overloaded', { detail: `${limits.queryWaitingMax} queries are waiting already.`, retryAfterS: 1 }))
      }
      const aborted = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(entry), 1)
        reject(abortError(signal))
      }
      const entry: Waiting = {
        light,
        start: (free) => {
          signal.removeEventListener('abort', aborted)
          resolve(free)
        },
        fail: (error) => {
          signal.removeEventListener('abort', aborted)
          reject(error)
        },
      }
      signal.addEventListener('abort', aborted, { once: true })
      this.#waiting.push(entry)
    })
  }

  release(connection: DuckDBConnection): void {
    this.#heavy.delete(connection)
    this.#idle.push(connection)
    this.#next()
    if (this.running === 0) for (const hear of this.#whenIdle) hear()
  }

  /** Lets no query start until `letGo`, which is to be called once for each call. */
  hold(): void {
    this.#holds++
  }

  letGo(): void {
    this.#holds--
    this.#next()
  }

  /** Resolves with true once no query runs, with false when that takes longer than `ms`. */
  idle(clock: Clock, ms: number): Promise<boolean> {
    if (this.running === 0) return Promise.resolve(true)
    return new Promise((resolve) => {
      const hear = (): void => end(true)
      const timer = clock.after(ms, () => end(false))
      const end = (idle: boolean): void => {
        timer.cancel()
        this.#whenIdle.delete(hear)
        resolve(idle)
      }
      this.#whenIdle.add(hear)
    })
  }

  /** Refuses new queries, fails those that wait, interrupts those that run and resolves when they have ended. */
  async close(clock: Clock): Promise<void> {
    this.#closed = true
    for (const entry of this.#waiting.splice(0)) entry.fail(new KymoError('shutting_down'))
    do for (const connection of this.#all) if (!this.#idle.includes(connection)) connection.interrupt()
    while (!(await this.idle(clock, interruptAgainMs)))
    for (const connection of this.#all) connection.closeSync()
  }

  #hasPlace(light: boolean): boolean {
    return this.#idle.length > 0 && (light || this.#heavy.size < this.#heavyMax)
  }

  #take(light: boolean): DuckDBConnection | undefined {
    const connection = this.#idle.pop()
    if (connection !== undefined && !light) this.#heavy.add(connection)
    return connection
  }

  /** Whoever has waited longest and has a place. */
  #next(): void {
    while (this.#holds === 0) {
      const at = this.#waiting.findIndex((entry) => this.#hasPlace(entry.light))
      if (at < 0) return
      const [entry] = this.#waiting.splice(at, 1)
      entry!.start(this.#take(entry!.light)!)
    }
  }
}
