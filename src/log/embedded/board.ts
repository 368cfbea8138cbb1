import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'

const nameBytesMax = 64
const topicNumbers = 2
const groupNumbers = 3
const encoder = new TextEncoder()

// Words: lock, version, topics, groups, closed, then the topic index of each group.
const lockWord = 0
const versionWord = 1
const topicsWord = 2
const groupsWord = 3
const closedWord = 4
const groupTopicWord = 8
const words = groupTopicWord + limits.logGroupsMax + (limits.logGroupsMax % 2)
const numbersAt = words * 4
const numbers = limits.logTopicsMax * topicNumbers + limits.logGroupsMax * groupNumbers
const namesAt = numbersAt + numbers * 8
const boardBytes = namesAt + (limits.logTopicsMax + limits.logGroupsMax) * nameBytesMax

/** Where a group stands: the next offset it will read, and where that record's frame starts. */
export interface GroupPosition {
  readonly offset: bigint
  readonly base: bigint
  /** 0: not known. */
  readonly at: number
}

/**
 * What the threads of one process know of a log, in shared memory: how far each topic is durable and how far each group has
 * come. The writer thread publishes ends; readers of any thread wait for the version to change and publish acknowledgements. Topics and
 * groups are added under a lock and never removed, so an index stays good for the log's life.
 */
export class Board {
  readonly shared: SharedArrayBuffer
  readonly #words: Int32Array<SharedArrayBuffer>
  readonly #numbers: BigInt64Array<SharedArrayBuffer>
  readonly #names: Uint8Array<SharedArrayBuffer>

  constructor(shared = new SharedArrayBuffer(boardBytes)) {
    this.shared = shared
    this.#words = new Int32Array(shared, 0, words)
    this.#numbers = new BigInt64Array(shared, numbersAt, numbers)
    this.#names = new Uint8Array(shared, namesAt)
  }

  /** The topic's index; adds it when it is new. */
  topic(name: string): number {
    return this.#locked(() => {
      const bytes = nameBytes(name)
      const count = this.#words[topicsWord]!
      for (let t = 0; t < count; t++) if (this.#hasName(t, bytes)) return t
      if (count === limits.logTopicsMax) throw new KymoError('bug', { detail: `The log has ${count} topics, which is its limit.` })
      this.#names.set(bytes, count * nameBytesMax)
      Atomics.store(this.#words, topicsWord, count + 1)
      return count
    })
  }

  end(topic: number): bigint {
    return Atomics.load(this.#numbers, topic * topicNumbers)
  }

  earliest(topic: number): bigint {
    return Atomics.load(this.#numbers, topic * topicNumbers + 1)
  }

  /** Publishes how far a topic is durable and what it still has. `wake` tells the readers. */
  publish(topic: number, earliest: bigint, end: bigint): void {
    Atomics.store(this.#numbers, topic * topicNumbers + 1, earliest)
    Atomics.store(this.#numbers, topic * topicNumbers, end)
  }

  /** The group's index, and whether it is new. A new one starts at `start`. */
  group(topic: number, name: string, start: GroupPosition): { readonly group: number; readonly isNew: boolean } {
    return this.#locked(() => {
      const bytes = nameBytes(name)
      const count = this.#words[groupsWord]!
      for (let g = 0; g < count; g++) {
        if (Math.abs(this.#words[groupTopicWord + g]!) === topic + 1 && this.#hasName(limits.logTopicsMax + g, bytes)) {
          const isNew = this.#words[groupTopicWord + g]! < 0
          if (isNew) this.#start(g, topic, start)
          return { group: g, isNew }
        }
      }
      if (count === limits.logGroupsMax) throw new KymoError('bug', { detail: `The log has ${count} groups, which is its limit.` })
      this.#names.set(bytes, (limits.logTopicsMax + count) * nameBytesMax)
      this.#start(count, topic, start)
      Atomics.store(this.#words, groupsWord, count + 1)
      return { group: count, isNew: true }
    })
  }

  findGroup(topic: number, name: string): number | undefined {
    const bytes = nameBytes(name)
    for (const g of this.groups(topic)) if (this.#hasName(limits.logTopicsMax + g, bytes)) return g
    return undefined
  }

  /** The group no longer counts; retention does not wait for it. */
  dropGroup(group: number): void {
    const topic = this.#words[groupTopicWord + group]!
    if (topic > 0) Atomics.store(this.#words, groupTopicWord + group, -topic)
  }

  groups(topic: number): number[] {
    const found: number[] = []
    const count = Atomics.load(this.#words, groupsWord)
    for (let g = 0; g < count; g++) if (Atomics.load(this.#words, groupTopicWord + g) === topic + 1) found.push(g)
    return found
  }

  groupName(group: number): string {
    const from = (limits.logTopicsMax + group) * nameBytesMax
    const bytes = Buffer.from(this.#names.slice(from, from + nameBytesMax))
    const end = bytes.indexOf(0)
    return bytes.toString('utf8', 0, end === -1 ? nameBytesMax : end)
  }

  position(group: number): GroupPosition {
    const at = limits.logTopicsMax * topicNumbers + group * groupNumbers
    return {
      offset: Atomics.load(this.#numbers, at),
      base: Atomics.load(this.#numbers, at + 1),
      at: Number(Atomics.load(this.#numbers, at + 2)),
    }
  }

  /** An acknowledgement: three stores to memory. The writer thread makes it durable within about a second. */
  commit(group: number, position: GroupPosition): void {
    const at = limits.logTopicsMax * topicNumbers + group * groupNumbers
    Atomics.store(this.#numbers, at + 1, position.base)
    Atomics.store(this.#numbers, at + 2, BigInt(position.at))
    Atomics.store(this.#numbers, at, position.offset)
  }

  wake(): void {
    Atomics.add(this.#words, versionWord, 1)
    Atomics.notify(this.#words, versionWord)
  }

  get version(): number {
    return Atomics.load(this.#words, versionWord)
  }

  /** Resolves once the version is no longer `seen`. Holds no thread open. */
  async changed(seen: number): Promise<void> {
    await Atomics.waitAsync(this.#words, versionWord, seen).value
  }

  get closed(): boolean {
    return Atomics.load(this.#words, closedWord) === 1
  }

  close(): void {
    Atomics.store(this.#words, closedWord, 1)
    this.wake()
  }

  #start(group: number, topic: number, start: GroupPosition): void {
    this.commit(group, start)
    Atomics.store(this.#words, groupTopicWord + group, topic + 1)
  }

  #hasName(index: number, bytes: Uint8Array): boolean {
    const from = index * nameBytesMax
    for (let i = 0; i < nameBytesMax; i++) if (this.#names[from + i] !== (bytes[i] ?? 0)) return false
    return true
  }

  /** Held for a few microseconds, when a topic or group first appears: spinning is cheaper than any way of waiting. */
  #locked<T>(fn: () => T): T {
    while (Atomics.compareExchange(this.#words, lockWord, 0, 1) !== 0);
    try {
      return fn()
    } finally {
      Atomics.store(this.#words, lockWord, 0)
    }
  }
}

function nameBytes(name: string): Uint8Array {
  const bytes = encoder.encode(name)
  if (!/^[a-z0-9][a-z0-9._-]*$/i.test(name) || bytes.length > nameBytesMax) {
    throw new KymoError('bug', {
      detail: `"${name}" cannot name a topic or a group: letters, digits, dot, dash and underscore, at most ${nameBytesMax}.`,
    })
  }
  return bytes
}
