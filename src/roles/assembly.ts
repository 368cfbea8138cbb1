import type { Config } from '../core/config.ts'
import { rolesOf, type RoleName } from '../core/config-engines.ts'
import type { Env } from '../core/env.ts'
import type { KymoError } from '../core/errors.ts'
import { Metrics } from '../core/metrics.ts'
import { SeriesTable } from '../core/series-table.ts'
import { EngineHealth } from './engine-health.ts'
import { Stack } from './stack.ts'

/** One part of the start, as the banner prints it. */
export interface StartedComponent {
  readonly name: string
  readonly detail: string
  readonly ms: number
}

/** What all parts of a process share while it is put together, and later. */
export class Assembly {
  readonly config: Config
  readonly env: Env
  readonly roles: ReadonlySet<RoleName>
  readonly startedUs: number
  readonly metrics = new Metrics()
  readonly series = new SeriesTable()
  readonly health: EngineHealth
  readonly stack = new Stack()
  readonly components: StartedComponent[] = []
  /** The configuration as it is now: what may change while the process runs is read through here whenever it is needed. */
  now: Config
  draining = false
  #fatal: KymoError | undefined
  readonly #listeners: ((error: KymoError) => void)[] = []

  constructor(config: Config, env: Env) {
    this.config = config
    this.env = env
    this.now = config
    this.roles = rolesOf(config)
    this.startedUs = env.clock.nowUs()
    this.health = new EngineHealth(env.logger)
  }

  /** Why the process must end; undefined: it need not. */
  get fatal(): KymoError | undefined {
    return this.#fatal
  }

  /** Bound: parts are handed it as it is. */
  readonly fail = (error: KymoError): void => {
    if (this.#fatal !== undefined) return
    this.#fatal = error
    for (const listener of this.#listeners) listener(error)
  }

  onFatal(listener: (error: KymoError) => void): void {
    this.#listeners.push(listener)
    if (this.#fatal !== undefined) listener(this.#fatal)
  }

  /** Makes a part, and keeps how long that took for the banner. */
  async timed<T>(name: string, detail: (made: T) => string, make: () => Promise<T>): Promise<T> {
    const from = this.env.clock.monotonicMs()
    const made = await make()
    this.components.push({ name, detail: detail(made), ms: Math.round(this.env.clock.monotonicMs() - from) })
    return made
  }

  /** What was opened is closed with the process, last first. Bound. */
  readonly closing = <T>(part: T, close: (part: T) => Promise<unknown>): T => {
    this.stack.push(() => close(part))
    return part
  }
}
