import type { IngestGate } from '../../src/core/gate.ts'

/** A gate for sockets: what was submitted in a turn of the event loop is durable at its end. */
export function createFastGate(onMessage?: (topic: string, text: string) => void): IngestGate & { readonly submitted: () => number } {
  let ticket = 0
  let durable = 0
  let scheduled = false
  const listeners = new Set<(durable: number) => void>()
  const sync = (): void => {
    scheduled = false
    durable = ticket
    for (const listener of listeners) listener(durable)
  }
  const next = (): number => {
    if (!scheduled) {
      scheduled = true
      setImmediate(sync)
    }
    return ++ticket
  }
  return {
    submit(context, bytes, start, end) {
      onMessage?.(context.topic, new TextDecoder().decode(bytes.subarray(start, end)))
      return next()
    },
    deadLetter: next,
    refusal: undefined,
    takenUs: 0,
    overloaded: false,
    stalled: undefined,
    get durable() {
      return durable
    },
    onDurable(listener) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    whenDurable: () => Promise.resolve(),
    submitted: () => ticket,
  }
}
