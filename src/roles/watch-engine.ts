import type { Env, Timer } from '../core/env.ts'
import { asKymoError } from '../core/errors.ts'
import type { EngineHealth, EngineName } from './engine-health.ts'

/** How often an engine elsewhere is asked how it is. */
const everyMs = 10_000

/** Asks an engine how it is, again and again, and tells of the outcome. Returns the way to stop. */
export function watchEngine(
  name: EngineName,
  { env, health }: { readonly env: Env; readonly health: EngineHealth },
  look: () => Promise<void>,
): () => void {
  let timer: Timer | undefined
  let stopped = false
  const again = (): void => {
    timer = env.clock.after(everyMs, () => {
      look()
        .then(
          () => health.works(name),
          (thrown: unknown) => {
            if (!stopped) health.failed(name, asKymoError(thrown))
          },
        )
        .finally(() => {
          if (!stopped) again()
        })
    })
  }
  again()
  return () => {
    stopped = true
    timer?.cancel()
  }
}
