import path from 'node:path'
import type { Clock, Disk } from '../../core/env.ts'
import { KymoError, toPlainError } from '../../core/errors.ts'
import type { Board } from './board.ts'
import { listTopics, readLogId, writeLogId } from './log-id.ts'
import { isDiskFull } from './recovery.ts'
import type { Answer, EngineSettings, Job, Note, TopicState, WriteOp } from './protocol.ts'
import { TopicLog } from './topic-log.ts'

/** How much may be written, and how long, before free space is looked at again. */
const freeCheckBytes = 4 * 1024 * 1024
const freeCheckMs = 1000

export type EngineClock = Pick<Clock, 'nowUs' | 'monotonicMs'>

/**
 * All disk work of the log's writer, synchronous: it runs in the log's own thread, or in the caller's for simulations. A `commit`
 * writes what it is given and answers after one fdatasync for each file touched. A full disk undoes the commit; any other failure is the end.
 */
export class Engine {
  readonly #settings: EngineSettings
  readonly #disk: Disk
  readonly #clock: EngineClock
  readonly #board: Board
  readonly #topics = new Map<string, TopicLog>()
  #id = ''
  #fatal: KymoError | undefined
  #notes: Note[] = []
  #sinceFreeCheck = 0
  #freeCheckedMs = Number.NEGATIVE_INFINITY
  #low = false

  constructor(o: { readonly settings: EngineSettings; readonly disk: Disk; readonly clock: EngineClock; readonly board: Board }) {
    this.#settings = o.settings
    this.#disk = o.disk
    this.#clock = o.clock
    this.#board = o.board
  }

  run(job: Job): Answer {
    if (this.#fatal !== undefined) return { topics: [], notes: [], error: toPlainError(this.#fatal), fatal: true }
    try {
      return { ...this.#run(job), notes: this.#takeNotes() }
    } catch (thrown) {
      this.#fatal = thrown instanceof KymoError ? thrown : failed(thrown)
      return { topics: [], notes: this.#takeNotes(), error: toPlainError(this.#fatal), fatal: true }
    }
  }

  #run(job: Job): Omit<Answer, 'notes'> {
    switch (job.type) {
      case 'open':
        return this.#open(job.id)
      case 'commit':
        return this.#commit(Buffer.from(job.buffer), job.ops)
      case 'housekeep':
        return { topics: this.#housekeep() }
      case 'close':
        for (const topic of this.#topics.values()) {
          this.#saveGroups(topic)
          topic.close()
        }
        return { topics: [] }
    }
  }

  #open(newId: string): Omit<Answer, 'notes'> {
    const { dir } = this.#settings
    makeDir(this.#disk, dir)
    // Somebody else may have made these (a lock file, a user), and a process that was killed may have left them unsynced.
    this.#disk.syncDir(path.dirname(dir))
    this.#disk.syncDir(path.dirname(path.dirname(dir)))
    this.#id = readLogId(this.#disk, dir) ?? writeLogId(this.#disk, dir, newId, this.#clock.nowUs())
    for (const name of listTopics(this.#disk, dir)) this.#topic(name)
    this.#board.wake()
    return { id: this.#id, topics: [...this.#topics.values()].map((topic) => topic.state()) }
  }

  #topic(name: string): TopicLog {
    let topic = this.#topics.get(name)
    if (topic === undefined) {
      const dir = path.join(this.#settings.dir, name, '0')
      makeDir(this.#disk, dir)
      topic = new TopicLog({
        name,
        dir,
        logId: this.#id,
        disk: this.#disk,
        settings: this.#settings.topics[name] ?? this.#settings.otherTopics,
        board: this.#board,
        note: (note) => this.#notes.push(note),
      })
      this.#topics.set(name, topic)
    }
    return topic
  }

  #commit(bytes: Buffer, ops: readonly WriteOp[]): Omit<Answer, 'notes'> {
    const total = ops.reduce((sum, op) => sum + op.end - op.start, 0)
    if (this.#isLow(total)) return { topics: this.#states(ops), error: toPlainError(this.#full()) }
    const started = this.#clock.monotonicMs()
    const touched = new Set<TopicLog>()
    try {
      for (const op of ops) {
        const topic = this.#topic(op.topic)
        touched.add(topic)
        topic.write(bytes, op, this.#clock.nowUs())
      }
    } catch (thrown) {
      if (!isDiskFull(thrown)) throw thrown
      for (const topic of touched) topic.undo()
      this.#low = true
      return { topics: this.#states(ops), error: toPlainError(this.#full()) }
    }
    const written = this.#clock.monotonicMs()
    for (const topic of touched) topic.sync()
    this.#board.wake()
    return { topics: [], writeMs: written - started, syncMs: this.#clock.monotonicMs() - written }
  }

  #states(ops: readonly WriteOp[]): TopicState[] {
    const states: TopicState[] = []
    for (const name of new Set(ops.map((op) => op.topic))) {
      const topic = this.#topics.get(name)
      states.push(topic?.state() ?? { name, base: 0n, position: 0, next: 0n, segments: [] })
    }
    return states
  }

  /** Groups become durable, and segments that nobody needs go. */
  #housekeep(): TopicState[] {
    const changed: TopicState[] = []
    const nowUs = this.#clock.nowUs()
    for (const topic of this.#topics.values()) {
      this.#saveGroups(topic)
      try {
        if (topic.retain(nowUs)) changed.push(topic.state())
      } catch (thrown) {
        if (!isDiskFull(thrown)) throw thrown
        topic.undo()
        this.#notes.push({ level: 'warn', message: 'the disk is too full to begin a new segment', fields: { topic: topic.name } })
      }
    }
    if (changed.length > 0) this.#board.wake()
    return changed
  }

  #saveGroups(topic: TopicLog): void {
    try {
      topic.saveGroups()
    } catch (thrown) {
      if (!isDiskFull(thrown)) throw thrown
      this.#notes.push({ level: 'warn', message: 'the disk is too full to keep where groups stand', fields: { topic: topic.name } })
    }
  }

  #isLow(bytes: number): boolean {
    this.#sinceFreeCheck += bytes
    const nowMs = this.#clock.monotonicMs()
    if (this.#low || this.#sinceFreeCheck >= freeCheckBytes || nowMs - this.#freeCheckedMs >= freeCheckMs) {
      this.#low = this.#disk.freeBytes(this.#settings.dir) < this.#settings.reserveBytes + bytes
      this.#sinceFreeCheck = 0
      this.#freeCheckedMs = nowMs
    }
    return this.#low
  }

  #full(): KymoError {
    return new KymoError('disk_full', { retryAfterS: 1, facts: { dir: this.#settings.dir } })
  }

  #takeNotes(): Note[] {
    const notes = this.#notes
    this.#notes = []
    return notes
  }
}

/** Makes the directory and what is missing above it durable. */
export function makeDir(disk: Disk, dir: string): void {
  if (disk.exists(dir)) return
  const parent = path.dirname(dir)
  if (parent !== dir) makeDir(disk, parent)
  disk.mkdir(dir)
  disk.syncDir(parent)
}

function failed(thrown: unknown): KymoError {
  const why = thrown instanceof Error ? thrown.message : String(thrown)
  return new KymoError('fsync_failed', {
    detail: `The disk refused to make data durable (${why}). Kymo stops rather than acknowledge what may be lost.`,
    cause: thrown,
  })
}
