import type { Logger } from '../core/env.ts'
import type { KymoError } from '../core/errors.ts'
import type { SystemStatus } from '../core/services.ts'

export type EngineName = 'log' | 'store' | 'metadata' | 'forecasts'

/** Which engines do not answer at the moment, as those who use them found: for `/readyz?verbose` and `/health`. A failure is logged once until it is over. */
export class EngineHealth {
  readonly #logger: Logger
  readonly #failing = new Map<EngineName, string>()

  constructor(logger: Logger) {
    this.#logger = logger
  }

  failed(engine: EngineName, error: KymoError): void {
    if (!this.#failing.has(engine)) this.#logger.warn(`The ${engine} does not answer; it is tried again: ${error.message}`, { code: error.code })
    this.#failing.set(engine, error.message)
  }

  works(engine: EngineName): void {
    if (this.#failing.delete(engine)) this.#logger.info(`The ${engine} answers again.`)
  }

  components(): SystemStatus['components'] {
    // Readings go on without forecasts.
    return [...this.#failing].map(([name, detail]) => ({ name, ok: false, detail, ...(name === 'forecasts' ? { optional: true } : {}) }))
  }
}
