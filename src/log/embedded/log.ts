import path from 'node:path'
import type { Env } from '../../core/env.ts'
import type { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { Metrics } from '../../core/metrics.ts'
import type { PartitionLag, ReaderOptions, Source, StreamLog, TopicPlaces } from '../../core/ports.ts'
import { Topic, type LogRecord, type Span } from '../../core/record.ts'
import { Board } from './board.ts'
import { claimDir } from './claim.ts'
import { Engine } from './engine.ts'
import { frameHeaderBytes, segmentHeaderBytes, segmentName } from './format.ts'
import { directLink, WorkerLink } from './links.ts'
import { LogMetrics } from './metrics.ts'
import type { EngineSettings, Link, TopicSettings } from './protocol.ts'
import type { ReadSide } from './read-side.ts'
import { LogReader } from './reader.ts'
import { readBytes } from './scan.ts'
import { LogWriter } from './writer.ts'

export interface TopicOptions {
  /** Without groups: keep at most this much. With groups: keep this much of what all have read. */
  readonly retentionBytes?: number
  /** A record that all groups have read is gone at this age; absent: it depends on bytes alone. */
  readonly retentionAgeUs?: number
  /** At this size writes are refused with `log_quota`. */
  readonly quotaBytes?: number
}

export interface EmbeddedLogOptions {
  readonly dir: string
  readonly env: Env
  /** The disk work in a worker thread. Needs the machine's own disk. */
  readonly threads: boolean
  readonly metrics?: Metrics
  readonly segmentBytesMax?: number
  /** Writes are refused with `disk_full` when the file system has less than this left. */
  readonly reserveBytes?: number
  readonly topics?: Readonly<Record<string, TopicOptions>>
}

/** Another thread of this process attaches with it. Can be cloned. */
export interface LogHandle {
  readonly dir: string
  readonly id: string
  readonly board: SharedArrayBuffer
}

/** Readers in another thread than the log's own. */
export interface AttachedLog {
  readonly id: string
  reader(options: ReaderOptions): Source
  end(topic: string): bigint
  earliest(topic: string): bigint
  close(): Promise<void>
}

/** The log in files of its own, with one partition a topic (docs/format/log.md). One process opens a directory once. */
export interface EmbeddedLog extends StreamLog {
  /** The id of this log's life, as in `Span.log`. */
  readonly id: string
  handle(): LogHandle
  /** The log has stopped for good (a failed fsync, a lost thread): nothing is acknowledged any more, the process should end. */
  onFatal(listener: (error: KymoError) => void): () => void
  /** Bytes that a topic has on disk. */
  bytes(topic: string): number
  /** The offset after the last durable record. */
  end(topic: string): bigint
  /** The first offset that is still kept. */
  earliest(topic: string): bigint
  /** Forgets a group, so that retention no longer waits for it. Returns whether there was one. */
  dropGroup(topic: string, group: string): boolean
}

/**
 * Opens or creates the log in `dir`, and mends what a crash left. Rejects with `already_open` when this process has it open,
 * `log_format` for a newer format; damage in the middle of a topic is no reason to reject: that topic refuses writes.
 */
export async function openEmbeddedLog(o: EmbeddedLogOptions): Promise<EmbeddedLog> {
  const dir = path.resolve(o.dir)
  const release = claimDir(o.env.disk, dir)
  try {
    const log = new OpenLog(dir, o, release)
    await log.open()
    return log
  } catch (thrown) {
    release()
    throw thrown
  }
}

/** Readers of a log that another thread of this process has open. */
export function attachEmbeddedLog(handle: LogHandle, env: Env): AttachedLog {
  const board = new Board(handle.board)
  const listeners = new Set<() => void>()
  let waiting = false
  const watch = async (): Promise<void> => {
    waiting = true
    while (listeners.size > 0) {
      // The version is read before the listeners look: what comes after their look ends the wait at once.
      const seen = board.version
      await Promise.resolve()
      for (const listener of listeners) listener()
      if (board.closed) break
      if (listeners.size > 0) await board.changed(seen)
    }
    waiting = false
  }
  const side: ReadSide = {
    dir: handle.dir,
    id: handle.id,
    board,
    disk: env.disk,
    clock: env.clock,
    onChange(listener) {
      listeners.add(listener)
      if (!waiting) void watch()
      return () => void listeners.delete(listener)
    },
  }
  const readers = new Set<LogReader>()
  return {
    id: handle.id,
    reader(options) {
      const reader = new LogReader(side, options)
      readers.add(reader)
      return reader
    },
    end: (topic) => board.end(board.topic(topic)),
    earliest: (topic) => board.earliest(board.topic(topic)),
    close: async () => void (await Promise.all([...readers].map((reader) => reader.close()))),
  }
}

class OpenLog implements EmbeddedLog {
  id = ''
  readonly #o: EmbeddedLogOptions
  readonly #dir: string
  readonly #board = new Board()
  readonly #writer: LogWriter
  readonly #side: ReadSide
  readonly #listeners = new Set<() => void>()
  readonly #fatalListeners = new Set<(error: KymoError) => void>()
  readonly #release: () => void
  #fatal: KymoError | undefined
  #closing: Promise<void> | undefined

  constructor(dir: string, o: EmbeddedLogOptions, release: () => void) {
    this.#o = o
    this.#dir = dir
    this.#release = release
    const settings = settingsOf(dir, o)
    const metrics = new LogMetrics(o.metrics)
    this.#writer = new LogWriter({
      link: this.#link(settings),
      env: o.env,
      settings,
      metrics,
      wake: () => this.#wake(),
      fatal: (error) => this.#failed(error),
    })
    metrics.topics(() => [...this.#writer.topics.values()].map((topic) => [topic.name, topic.bytes] as const))
    this.#side = {
      dir,
      id: '',
      board: this.#board,
      disk: o.env.disk,
      clock: o.env.clock,
      onChange: (listener) => {
        this.#listeners.add(listener)
        return () => void this.#listeners.delete(listener)
      },
    }
  }

  async open(): Promise<void> {
    try {
      this.id = await this.#writer.open(this.#o.env.random.uuid())
    } catch (thrown) {
      // Why it did not open matters more than that its thread, too, may have ended badly.
      await this.#writer.close().catch((error: unknown) => this.#o.env.logger.debug('closing a log that did not open', { reason: String(error) }))
      throw thrown
    }
  }

  write(records: readonly LogRecord[], _span: Span | undefined, signal: AbortSignal): Promise<void> {
    return this.#writer.write(records, signal)
  }

  reader(options: ReaderOptions): Source {
    return new LogReader({ ...this.#side, id: this.id }, options)
  }

  async lag(topic: string, group: string): Promise<readonly PartitionLag[]> {
    const slot = this.#board.topic(topic)
    const earliest = this.#board.earliest(slot)
    const end = this.#board.end(slot)
    const found = this.#board.findGroup(slot, group)
    const position = found === undefined ? { offset: earliest, base: 0n, at: 0 } : this.#board.position(found)
    const committed = position.offset < earliest ? earliest : position.offset
    const behind = this.#behind(topic, committed, position.base, position.at)
    const oldestUs = committed < end ? this.#receivedUs(topic, behind.base, behind.at) : undefined
    return await Promise.resolve([
      { partition: 0, earliest, committed, end, bytes: committed < end ? behind.bytes : 0, ...(oldestUs === undefined ? {} : { oldestUs }) },
    ])
  }

  async places(topic: string): Promise<TopicPlaces> {
    const partitions = [{ partition: 0, earliest: this.earliest(topic), end: this.end(topic) }]
    return await Promise.resolve({ log: this.id, partitions, bytes: this.bytes(topic) })
  }

  handle(): LogHandle {
    return { dir: this.#dir, id: this.id, board: this.#board.shared }
  }

  onFatal(listener: (error: KymoError) => void): () => void {
    if (this.#fatal !== undefined) listener(this.#fatal)
    this.#fatalListeners.add(listener)
    return () => void this.#fatalListeners.delete(listener)
  }

  bytes(topic: string): number {
    return this.#writer.topics.get(topic)?.bytes ?? 0
  }

  end(topic: string): bigint {
    return this.#board.end(this.#board.topic(topic))
  }

  earliest(topic: string): bigint {
    return this.#board.earliest(this.#board.topic(topic))
  }

  dropGroup(topic: string, group: string): boolean {
    const found = this.#board.findGroup(this.#board.topic(topic), group)
    if (found !== undefined) this.#board.dropGroup(found)
    return found !== undefined
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    try {
      await this.#writer.close()
    } finally {
      this.#board.close()
      this.#wake()
      this.#release()
    }
  }

  #link(settings: EngineSettings): Link {
    if (this.#o.threads) return new WorkerLink({ settings, board: this.#board.shared }, (error) => this.#writer.fail(error))
    return directLink(new Engine({ settings, disk: this.#o.env.disk, clock: this.#o.env.clock, board: this.#board }))
  }

  #wake(): void {
    for (const listener of this.#listeners) listener()
  }

  #failed(error: KymoError): void {
    this.#fatal = error
    this.#o.env.logger.error(error.message, { code: error.code })
    for (const listener of this.#fatalListeners) listener(error)
  }

  /** Bytes after a group's position, and where its next record starts when that is known. */
  #behind(topic: string, committed: bigint, base: bigint, at: number): { bytes: number; base: bigint; at: number } {
    const segments = this.#writer.topics.get(topic)?.segments ?? []
    let bytes = 0
    let here = { base: 0n, at: 0 }
    for (let i = 0; i < segments.length; i++) {
      const segment = segments[i]!
      const end = segments[i + 1]?.base
      if (end !== undefined && end <= committed) continue
      const from = segment.base === base && at > 0 ? at : segmentHeaderBytes
      if (here.at === 0 && (segment.base === base || segment.base === committed)) here = { base: segment.base, at: from }
      bytes += segment.bytes - (segment.base <= committed ? from : 0)
    }
    return { bytes: Math.max(0, bytes), ...here }
  }

  #receivedUs(topic: string, base: bigint, at: number): number | undefined {
    if (at === 0) return undefined
    try {
      const file = this.#o.env.disk.open(`${this.#dir}/${topic}/0/${segmentName(base)}`, 'read')
      try {
        const header = readBytes(file, at, frameHeaderBytes)
        return header.length === frameHeaderBytes ? header.readDoubleLE(16) : undefined
      } finally {
        file.close()
      }
    } catch (thrown) {
      this.#o.env.logger.debug('the age of a lag could not be read', { topic, reason: thrown instanceof Error ? thrown.message : String(thrown) })
      return undefined
    }
  }
}

function settingsOf(dir: string, o: EmbeddedLogOptions): EngineSettings {
  const topics: Record<string, TopicSettings> = {}
  const names = new Set([Topic.telemetry, Topic.deadLetters, ...Object.keys(o.topics ?? {})])
  for (const name of names) topics[name] = topicSettings(o, defaultsOf(name), o.topics?.[name])
  return { dir, reserveBytes: o.reserveBytes ?? limits.diskReserveBytes, topics, otherTopics: topicSettings(o, defaultsOf(''), undefined) }
}

function defaultsOf(topic: string): TopicOptions {
  return topic === Topic.deadLetters
    ? { retentionBytes: limits.deadLetterBytesMax, retentionAgeUs: limits.deadLetterAgeMaxUs }
    : { retentionBytes: limits.logRetentionBytesMin }
}

function topicSettings(o: EmbeddedLogOptions, defaults: TopicOptions, own: TopicOptions | undefined): TopicSettings {
  const retentionBytes = own?.retentionBytes ?? defaults.retentionBytes ?? limits.logRetentionBytesMin
  const retentionAgeUs = own?.retentionAgeUs ?? defaults.retentionAgeUs
  const quotaBytes = own?.quotaBytes ?? limits.logQuotaBytesMax
  // Retention goes by whole segments: with four of them in what is kept, it is never more than a quarter off.
  const segmentBytesMax = Math.max(4096, Math.min(o.segmentBytesMax ?? limits.segmentBytesMax, retentionBytes / 4, quotaBytes / 4))
  return { retentionBytes, quotaBytes, segmentBytesMax, ...(retentionAgeUs === undefined ? {} : { retentionAgeUs }) }
}
