import type { LogFields } from '../../core/env.ts'
import type { PlainError } from '../../core/errors.ts'

/** Settings of one topic, all resolved. */
export interface TopicSettings {
  /** Keep at least this much of what all groups have read; without groups, at most this much. */
  readonly retentionBytes: number
  /** A record that all groups have read is gone at this age, and at the earliest a 32nd (`limits.logSegmentsPerAge`) before. */
  readonly retentionAgeUs?: number
  /** At this size writes are refused. */
  readonly quotaBytes: number
  readonly segmentBytesMax: number
}

export interface EngineSettings {
  readonly dir: string
  readonly reserveBytes: number
  readonly topics: Readonly<Record<string, TopicSettings>>
  /** For topics that `topics` does not name. */
  readonly otherTopics: TopicSettings
}

/** Frames of one topic, next to each other in the cycle's buffer and in the segment. */
export interface WriteOp {
  readonly topic: string
  /** The segment, and whether it is to be created first. */
  readonly base: bigint
  readonly create: boolean
  /** Where in the segment. */
  readonly position: number
  /** Where in the buffer. */
  readonly start: number
  end: number
  /** The offset after the last of these frames. */
  next: bigint
  lastReceivedUs: number
}

/** A topic as the engine has it on disk. */
export interface TopicState {
  readonly name: string
  readonly base: bigint
  /** Bytes of the last segment; 0: there is none yet. */
  readonly position: number
  readonly next: bigint
  readonly segments: readonly { readonly base: bigint; readonly bytes: number }[]
  readonly damage?: PlainError
}

export interface Note {
  readonly level: 'info' | 'warn' | 'error'
  readonly message: string
  readonly fields: LogFields
}

export type Job =
  | { readonly type: 'open'; readonly id: string }
  | { readonly type: 'commit'; readonly ops: readonly WriteOp[]; readonly buffer: SharedArrayBuffer }
  | { readonly type: 'housekeep' }
  | { readonly type: 'close' }

export interface Answer {
  /** Open only: the id of this log's life. */
  readonly id?: string
  /** State of topics that changed other than by the commit that was asked for. */
  readonly topics: readonly TopicState[]
  readonly notes: readonly Note[]
  /** Nothing of the job was kept. */
  readonly error?: PlainError
  /** The engine has stopped for good. */
  readonly fatal?: boolean
  /** Milliseconds that write and fsync took. */
  readonly writeMs?: number
  readonly syncMs?: number
}

/** How the writer reaches the engine: in the same thread, or through a worker. One job at a time. */
export interface Link {
  call(job: Job): Promise<Answer>
  /** Ends the thread. */
  end(): Promise<void>
}
