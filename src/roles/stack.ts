import type { Env } from '../core/env.ts'
import { asKymoError } from '../core/errors.ts'

/** What is started is stopped in the opposite order, also when a later part does not start. */
export class Stack {
  readonly #closers: (() => Promise<unknown>)[] = []
  push(close: () => Promise<unknown>): void {
    this.#closers.push(close)
  }
  async unwind(env: Env): Promise<void> {
    for (const close of this.#closers.splice(0).reverse()) {
      try {
        await close()
      } catch (thrown) {
        env.logger.error('a part did not close cleanly', { error: asKymoError(thrown).message })
      }
    }
  }
}
