/**
 * Trains in a process of its own: its memory and its aborts stay outside the server, and its work waits for the server's. One task at a time comes over
 * the channel; when that is gone, so is this.
 */
import os from 'node:os'
import process from 'node:process'
import { toPlainError } from '../../core/errors.ts'
import { runTask } from './training-task.ts'
import { isAsked, type Told } from './trainer.ts'

/** Below what a server does for its devices: nice(2). */
const niceness = 10
/** Between two words of progress. */
const tellEveryMs = 250

function tell(message: Told): void {
  process.send?.(message)
}

function work(message: unknown): void {
  if (!isAsked(message)) return
  const { id, task } = message
  try {
    let told = performance.now()
    const running = runTask(task)
    for (;;) {
      const step = running.next()
      if (step.done === true) {
        tell({ type: 'done', id, result: step.value })
        return
      }
      if (performance.now() - told < tellEveryMs) continue
      told = performance.now()
      tell({ type: 'progress', id, share: step.value })
    }
  } catch (thrown) {
    tell({ type: 'failed', id, error: toPlainError(thrown) })
  }
}

try {
  os.setPriority(niceness)
} catch {
  // Not allowed here: it then competes as an equal.
}

process.on('message', work)
process.on('disconnect', () => process.exit(0))
