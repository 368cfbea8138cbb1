import type { Disk, DiskFile } from '../../core/env.ts'
import { KymoError, toPlainError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { Board } from './board.ts'
import { encodeSegmentHeader, frameSeed, sealFrames, segmentHeaderBytes, segmentName } from './format.ts'
import type { Note, TopicSettings, TopicState, WriteOp } from './protocol.ts'
import { damageError, recover, type Damage, type Segment } from './recovery.ts'
import { readTopicFile, writeTopicFile } from './topic-file.ts'

export interface TopicLogOptions {
  readonly name: string
  /** The partition's directory; exists. */
  readonly dir: string
  readonly logId: string
  readonly disk: Disk
  readonly settings: TopicSettings
  readonly board: Board
  readonly note: (note: Note) => void
}

/** The segments of one topic: appends to the last, deletes from the first, and knows what is durable. */
export class TopicLog {
  readonly name: string
  readonly #o: TopicLogOptions
  readonly #slot: number
  #segments: Segment[]
  #file: DiskFile | undefined
  #seed = 0
  /** Beyond the durable ones, until `sync`. */
  #next: bigint
  #lastReceivedUs: number
  #damage: Damage | undefined
  #durable: { segments: number; bytes: number; next: bigint; lastReceivedUs: number }
  #dirty = false
  #savedGroups = ''
  /** The groups file could not be read: nothing is deleted until a group has come back. */
  #groupsLost = false

  constructor(o: TopicLogOptions) {
    this.name = o.name
    this.#o = o
    this.#slot = o.board.topic(o.name)
    const known = readTopicFile(o.disk, o.dir, o.logId)
    if (known === 'damaged') {
      this.#groupsLost = true
      o.note({ level: 'warn', message: 'where groups stand could not be read; they start at the earliest record', fields: { topic: o.name } })
    }
    const file = known === 'damaged' ? undefined : known
    const recovered = recover(o.disk, o.dir, o.logId, file)
    if (recovered.tornBytes > 0) {
      o.note({ level: 'info', message: 'cut a torn end that was never acknowledged', fields: { topic: o.name, bytes: recovered.tornBytes } })
    }
    if (recovered.damage !== undefined) {
      o.note({ level: 'error', message: damageError(recovered.damage).message, fields: { topic: o.name } })
    }
    this.#segments = recovered.segments
    this.#next = recovered.next
    this.#lastReceivedUs = recovered.lastReceivedUs
    this.#damage = recovered.damage
    for (const { name, offset, base, at } of file?.groups ?? []) o.board.group(this.#slot, name, { offset, base, at })
    const last = this.#segments.at(-1)
    if (last !== undefined && this.#damage === undefined) this.#openLast()
    this.#durable = this.#position()
    this.#publish()
  }

  state(): TopicState {
    const last = this.#segments.at(-1)
    return {
      name: this.name,
      base: last?.base ?? this.#next,
      position: last?.bytes ?? 0,
      next: this.#next,
      segments: this.#segments.map(({ base, bytes }) => ({ base, bytes })),
      ...(this.#damage === undefined ? {} : { damage: toPlainError(damageError(this.#damage)) }),
    }
  }

  write(bytes: Buffer, op: WriteOp, nowUs: number): void {
    if (op.create) this.#create(op.base, nowUs)
    const last = this.#segments.at(-1)
    if (this.#file === undefined || last === undefined || last.base !== op.base || last.bytes !== op.position) {
      throw new KymoError('bug', { detail: `The log was asked to write at ${op.base}+${op.position}, and stands at ${last?.base}+${last?.bytes}.` })
    }
    sealFrames(bytes, op.start, op.end, this.#seed)
    this.#dirty = true
    this.#file.write(bytes.subarray(op.start, op.end), op.position)
    last.bytes = op.position + op.end - op.start
    this.#next = op.next
    this.#lastReceivedUs = op.lastReceivedUs
  }

  /** All that was written becomes durable and visible. */
  sync(): void {
    if (this.#dirty) this.#file?.sync()
    this.#dirty = false
    this.#durable = this.#position()
    this.#publish()
  }

  /** After a full disk: back to what was durable, so that no refused record can come back after a crash. */
  undo(): void {
    const { segments, bytes, next, lastReceivedUs } = this.#durable
    const created = this.#segments.splice(segments)
    if (created.length > 0) {
      this.#file?.close()
      this.#file = undefined
      for (const { base } of created) if (this.#o.disk.exists(this.#path(base))) this.#o.disk.unlink(this.#path(base))
      this.#o.disk.syncDir(this.#o.dir)
      if (this.#segments.length > 0) this.#openLast()
    }
    const last = this.#segments.at(-1)
    if (last !== undefined && this.#file !== undefined) {
      last.bytes = bytes
      this.#file.truncate(bytes)
      this.#file.sync()
    }
    this.#next = next
    this.#lastReceivedUs = lastReceivedUs
    this.#dirty = false
  }

  /** Deletes segments that retention no longer wants and every group has read. Returns whether anything changed. */
  retain(nowUs: number): boolean {
    const { retentionBytes, retentionAgeUs, quotaBytes } = this.#o.settings
    if (this.#damage !== undefined || this.#groupsLost) {
      if (this.#o.board.groups(this.#slot).length > 0) this.#groupsLost = false
      if (this.#damage !== undefined || this.#groupsLost) return false
    }
    const keepBytes = Math.min(retentionBytes, quotaBytes / 2)
    // Segments go as a whole, so each takes records for a part of the age only, and goes that much earlier: none of its records outlives the age.
    const partUs = (retentionAgeUs ?? Number.POSITIVE_INFINITY) / limits.logSegmentsPerAge
    const olderThanUs = retentionAgeUs === undefined ? Number.NEGATIVE_INFINITY : nowUs - retentionAgeUs + partUs
    const slowest = this.#slowestGroup()
    let changed = false
    const last = this.#segments.at(-1)
    // One from the future is of a clock that has been set back since.
    if (last !== undefined && last.bytes > segmentHeaderBytes && Math.abs(nowUs - last.createdUs) >= partUs) {
      this.#create(this.#next, nowUs)
      this.sync()
      changed = true
    }
    let bytes = this.#segments.reduce((sum, segment) => sum + segment.bytes, 0)
    let deleted = 0
    while (deleted < this.#segments.length - 1) {
      const oldest = this.#segments[deleted]!
      const after = this.#segments[deleted + 1]!
      if (slowest < after.base || (bytes - oldest.bytes < keepBytes && (oldest.lastUs ?? after.createdUs) >= olderThanUs)) break
      bytes -= oldest.bytes
      deleted++
    }
    if (deleted === 0) return changed
    const gone = this.#segments.splice(0, deleted)
    this.#durable = this.#position()
    // Readers look here when they find a file missing, so it is told before the files go.
    this.#publish()
    for (const { base } of gone) this.#o.disk.unlink(this.#path(base))
    this.#o.disk.syncDir(this.#o.dir)
    return true
  }

  saveGroups(): void {
    if (this.#damage !== undefined) return
    const { board, dir, disk, logId } = this.#o
    const groups = board.groups(this.#slot).map((g) => ({ name: board.groupName(g), ...board.position(g) }))
    const durable = { base: this.#segments.at(-1)?.base ?? this.#next, bytes: this.#durable.bytes, next: this.#durable.next }
    const content = `${durable.next} ${durable.base} ${durable.bytes} ${groups.map((g) => `${g.name} ${g.offset}`).join(' ')}`
    if (content === this.#savedGroups) return
    writeTopicFile(disk, dir, { log: logId, durable, groups })
    this.#savedGroups = content
  }

  close(): void {
    this.#file?.close()
    this.#file = undefined
  }

  /** Begins a segment; the one before is made durable to its end first, so that a later segment vouches for all earlier ones. */
  #create(base: bigint, nowUs: number): void {
    const { disk, dir, logId } = this.#o
    if (this.#dirty) this.#file?.sync()
    this.#dirty = false
    const previous = this.#segments.at(-1)
    const header = encodeSegmentHeader({
      logId,
      base,
      previousBase: previous?.base ?? 0n,
      previousBytes: previous?.bytes ?? 0,
      createdUs: nowUs,
    })
    if (previous !== undefined) previous.lastUs = this.#lastReceivedUs
    const segment: Segment = { base, bytes: segmentHeaderBytes, createdUs: nowUs }
    this.#segments.push(segment)
    const file = disk.open(this.#path(base), 'create')
    this.#file?.close()
    this.#file = file
    this.#seed = frameSeed(logId, base)
    this.#dirty = true
    disk.syncDir(dir)
    file.write(header, 0)
  }

  #openLast(): void {
    const { base } = this.#segments.at(-1)!
    this.#file = this.#o.disk.open(this.#path(base), 'write')
    this.#seed = frameSeed(this.#o.logId, base)
  }

  #slowestGroup(): bigint {
    const { board } = this.#o
    let slowest = 1n << 62n
    for (const group of board.groups(this.#slot)) {
      const { offset } = board.position(group)
      if (offset < slowest) slowest = offset
    }
    return slowest
  }

  #position(): { segments: number; bytes: number; next: bigint; lastReceivedUs: number } {
    return { segments: this.#segments.length, bytes: this.#segments.at(-1)?.bytes ?? 0, next: this.#next, lastReceivedUs: this.#lastReceivedUs }
  }

  #publish(): void {
    this.#o.board.publish(this.#slot, this.#segments[0]?.base ?? this.#next, this.#next)
  }

  #path(base: bigint): string {
    return `${this.#o.dir}/${segmentName(base)}`
  }
}
