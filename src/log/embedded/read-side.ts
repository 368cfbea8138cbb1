import type { Clock, Disk } from '../../core/env.ts'
import type { Board } from './board.ts'

/** What a reader needs of the log, in whichever thread it lives. */
export interface ReadSide {
  readonly dir: string
  readonly id: string
  readonly board: Board
  readonly disk: Disk
  readonly clock: Clock
  /** Calls `listener` when something became durable, was deleted, or the log was closed. */
  onChange(listener: () => void): () => void
}
