import type { Env } from './env.ts'
import { asKymoError, type KymoError } from './errors.ts'
import type { Sink, Source } from './ports.ts'
import type { Delivery } from './record.ts'

export interface PumpOptions {
  readonly env: Env
  readonly name: string
  /** First and longest wait between tries while the sink is unavailable. */
  readonly backoffMs?: { readonly first: number; readonly max: number }
  /** A record that makes the sink fail with a bug is tried this often before the pump gives up on the process. */
  readonly bugTries?: number
  readonly onRetry?: (error: KymoError, attempt: number) => void
}

/**
 * The only loop that moves data: takes a delivery, waits until the sink made it durable, acknowledges. What happens on an
 * error is decided by its kind: `unavailable` and `overloaded` are retried for ever with backoff and full jitter;
 * `conflict` means that the span is stored already, so it is done; `corrupt`, and a `bug` that stays, end the pump with the
 * error, unacknowledged: the supervisor restarts what can be restarted. Returns when `signal` aborts or the source ends.
 */
export async function pump(source: Source, sink: Sink, signal: AbortSignal, options: PumpOptions): Promise<void> {
  for await (const delivery of source.open(signal)) {
    const failed = await deliver(delivery, sink, signal, options)
    if (failed === 'aborted') return
    if (failed !== undefined) throw failed
  }
}

async function deliver(delivery: Delivery, sink: Sink, signal: AbortSignal, options: PumpOptions): Promise<KymoError | 'aborted' | undefined> {
  const first = options.backoffMs?.first ?? 50
  const max = options.backoffMs?.max ?? 10_000
  let bugs = 0
  for (let attempt = 1; ; attempt++) {
    try {
      await sink.write(delivery.records, delivery.span, signal)
      delivery.ack()
      return undefined
    } catch (thrown) {
      const error = asKymoError(thrown)
      if (signal.aborted) {
        delivery.nack(error)
        return 'aborted'
      }
      if (error.kind === 'conflict' && delivery.span !== undefined) {
        delivery.ack()
        return undefined
      }
      const retry = error.kind === 'unavailable' || error.kind === 'overloaded' || (error.kind === 'bug' && ++bugs < (options.bugTries ?? 3))
      if (!retry) {
        delivery.nack(error)
        return error
      }
      options.onRetry?.(error, attempt)
      const ceiling = Math.min(max, first * 2 ** Math.min(attempt - 1, 20))
      await sleep(options.env, ceiling * (0.5 + options.env.random.next() / 2), signal)
      if (signal.aborted) {
        delivery.nack(error)
        return 'aborted'
      }
    }
  }
}

/** Waits, or returns early when aborted. */
export function sleep(env: Pick<Env, 'clock'>, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) {
      resolve()
      return
    }
    const done = (): void => {
      signal?.removeEventListener('abort', aborted)
      resolve()
    }
    const timer = env.clock.after(ms, done)
    const aborted = (): void => {
      timer.cancel()
      resolve()
    }
    signal?.addEventListener('abort', aborted, { once: true })
  })
}
