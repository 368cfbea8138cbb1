import { Flag } from '../core/batch.ts'
import type { Env } from '../core/env.ts'
import type { LiveEvent, LiveFeed } from '../core/services.ts'

export interface FirstMessage {
  readonly device: string
  readonly metric: string
  readonly value: number | boolean | string
  /** From the door to the store's commit. */
  readonly storedMs: number
}

/** Lines in all: a person watches the first ones. */
const announcedMax = 20
const waitingMax = 64

/**
 * Tells of the first reading of each device since the start, once the store has committed it, so that the person who sends
 * a first message sees it arrive.
 */
export function announceFirst(
  o: {
    readonly live: LiveFeed
    readonly committed: (listener: (commit: { readonly partition: number; readonly next: bigint }) => void) => () => void
    readonly env: Env
    readonly skip: (device: string) => boolean
  },
  listener: (message: FirstMessage) => void,
): () => void {
  const seen = new Set<string>()
  const waiting: { partition: number; offset: bigint; receivedUs: number; device: string; metric: string; value: number | boolean | string }[] = []
  let announced = 0
  const stored = new Map<number, bigint>()
  const settle = (): void => {
    while (waiting.length > 0 && waiting[0]!.offset < (stored.get(waiting[0]!.partition) ?? 0n)) {
      const { receivedUs, device, metric, value } = waiting.shift()!
      listener({ device, metric, value, storedMs: Math.max(0, (o.env.clock.nowUs() - receivedUs) / 1000) })
      if (++announced >= announcedMax) stop()
    }
  }
  const stopCommitted = o.committed(({ partition, next }) => {
    stored.set(partition, next)
    settle()
  })
  const stopLive = o.live.subscribe((event: LiveEvent) => {
    const { batch } = event
    for (let row = 0; row < batch.rows && waiting.length < waitingMax; row++) {
      const key = batch.keys[batch.series[row]!]
      if (key === undefined || seen.has(key.device)) continue
      seen.add(key.device)
      if (o.skip(key.device)) continue
      const flags = batch.flags?.[row] ?? 0
      const value =
        (flags & Flag.text) !== 0 ? (batch.text?.get(row) ?? '') : (flags & Flag.boolean) !== 0 ? batch.value[row] === 1 : batch.value[row]!
      const { partition = 0, offset = event.id } = event
      waiting.push({ partition, offset, receivedUs: event.receivedUs, device: key.device, metric: key.metric, value })
    }
    settle()
  })
  function stop(): void {
    stopLive()
    stopCommitted()
    waiting.length = 0
  }
  return stop
}
