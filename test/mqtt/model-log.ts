import type { StreamLog } from '../../src/core/ports.ts'
import { MemoryLog } from '../support/memory-log.ts'

/** A log of one topic that is durable at once: what a session store needs of one, and nothing that would take time. */
export function instantLog(): StreamLog & { readonly records: MemoryLog['records'] } {
  const log = new MemoryLog()
  log.perDelivery = 1000
  return {
    records: log.records,
    write: (records) => {
      log.append(...records)
      return Promise.resolve()
    },
    close: () => Promise.resolve(),
    reader: (options) => log.reader(options),
    places: (topic) => Promise.resolve({ log: log.id, partitions: [{ partition: 0, earliest: 0n, end: log.end(topic) }], bytes: 0 }),
    lag: (topic, group) => Promise.resolve([{ partition: 0, earliest: 0n, committed: log.groups.get(group) ?? 0n, end: log.end(topic), bytes: 0 }]),
  }
}
