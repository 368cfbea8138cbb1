import fs from 'node:fs'
import { nodeDisk } from '../../core/env/node-env.ts'
import { KymoError } from '../../core/errors.ts'
import { Topic } from '../../core/record.ts'
import type { Snapshot, SnapshotFile } from '../../core/snapshot.ts'
import { segmentBase, walkSegment } from '../../log/embedded/snapshot.ts'
import { sha256Of } from './files.ts'

export interface Copy {
  readonly bytes: number
  readonly sha256: string
}

/** The log's segments of a snapshot, while they are copied: what they hold beyond its end is no part of it. */
export class Segments {
  readonly #snapshot: Snapshot
  readonly #storeNext: bigint | undefined
  #storedUs = 0

  constructor(snapshot: Snapshot) {
    this.#snapshot = snapshot
    const { store_next: next } = snapshot
    this.#storeNext = next === undefined ? undefined : BigInt(next)
  }

  /** When the last record that the store holds was received: its rows cannot be cut, so no earlier moment can be restored. Known when all are cut. */
  get fromUs(): number {
    if (this.#storeNext === undefined) return 0
    return this.#storedUs > 0 ? this.#storedUs : this.#snapshot.created_us
  }

  isOne(file: SnapshotFile): boolean {
    return file.path.endsWith('.seg')
  }

  /** Checks the records of a segment's copy, ends it where the snapshot ends, and looks how far in time the store is. Throws `log_corrupt`. */
  async cut(file: SnapshotFile, copy: string, found: Copy): Promise<Copy> {
    const { log } = this.#snapshot
    const [, topic = '', , name = ''] = file.path.split('/')
    const base = segmentBase(name)
    const end = BigInt(log.ends[topic] ?? '0')
    if (base === undefined) throw new KymoError('bug', { detail: `${file.path} is no segment.` })
    const stored = topic === Topic.telemetry ? (this.#storeNext ?? 0n) : 0n
    const walked = walkSegment(nodeDisk, copy, {
      logId: log.id,
      base,
      wanted: (offset, receivedUs) => {
        if (offset < end && offset < stored) this.#storedUs = Math.max(this.#storedUs, receivedUs)
        return offset < end
      },
    })
    if (walked.bytes === found.bytes) return found
    fs.truncateSync(copy, walked.bytes)
    const fd = fs.openSync(copy, 'r+')
    fs.fsyncSync(fd)
    fs.closeSync(fd)
    return { bytes: walked.bytes, sha256: await sha256Of(copy) }
  }
}
