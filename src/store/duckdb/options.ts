import type { Retention } from '../../core/config.ts'
import type { Env } from '../../core/env.ts'
import type { KeepMinutes } from './series-state.ts'

export interface DuckdbOptions {
  readonly dir: string
  readonly env: Env
  /** Cap on the engine's memory for queries and buffers. */
  readonly memoryLimitMb?: number
  /** Of one statement. Half the cores, at most 4: on two cores a second one made commits 40 % dearer, as it spins for work. */
  readonly threads?: number
  /** Bytes of write-ahead log at which the file is checkpointed. */
  readonly checkpointBytes?: number
  /** Commits are refused with `disk_full` when the file system has less than this left. */
  readonly reserveBytes?: number
  /** The hot file is closed and sealed when it has so many bytes, or something in it and this age. */
  readonly sealBytes?: number
  readonly sealAfterMs?: number
  /** Absent: all is kept for ever. */
  readonly retention?: Retention
  /** For tests: the child that seals kills itself after this step. */
  readonly exitAfter?: () => string | undefined
  /** For tests: other thresholds than `keepMinutes`. */
  readonly keepMinutes?: KeepMinutes
  /** For tests: ranges from which quantiles are made of sketches, other than `sketchedFromUs`. */
  readonly sketchedFromUs?: number
  /** For tests: sealed files that stay open, other than `sealedAttachedMax`. */
  readonly attachedMax?: number
}

export interface StoreStats {
  /** Of all files: the hot one, those that wait to be sealed, and sealed ones. */
  readonly bytes: number
  readonly series: number
  /** Queries. */
  readonly running: number
  readonly waiting: number
  /** Readings before it have been removed by retention; microseconds, 0: none were. */
  readonly rawFromUs: number
  /** Bytes of sealed files that retention has removed since the start; by rules: that files have lost where they were written again. */
  readonly expiredBytes: Readonly<Record<'age' | 'size' | 'rules', number>>
  /** Series of each rule of retention, as of its last round; sealed files that are old enough for one and not looked through yet. */
  readonly rules: { readonly series: readonly number[]; readonly dueFiles: number }
}

export const defaultMemoryMb = 512
