import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { errorTable, KymoError } from '../../core/errors.ts'
import type { Code } from '../../core/errors.ts'
import type { Job } from '../../client/index.ts'
import type { Api } from '../api.ts'
import { Exit } from '../exit.ts'
import { printable } from '../format.ts'
import type { CommonOptions } from '../options.ts'
import { Progress } from '../progress.ts'
import type { Terminal } from '../terminal.ts'

const pollMs = 500

export function numberIn(record: Readonly<Record<string, unknown>>, name: string): number {
  const value = record[name]
  return typeof value === 'number' ? value : 0
}

function isCode(code: string): code is Code {
  return Object.hasOwn(errorTable, code)
}

/** As far as a job is, in percent, and what it is at. */
function show(progress: Progress, { state, progress: said }: Job): void {
  const total = numberIn(said, 'series_total')
  const at = [said['device'], said['metric']].filter((name) => typeof name === 'string').join(' ')
  const detail = state === 'waiting' ? 'waits for its turn' : `${total > 1 ? `${numberIn(said, 'series_done')} of ${total}  ` : ''}${at}`
  progress.update(Math.round(numberIn(said, 'share') * 100), printable(detail))
}

/**
 * Asks for a job until it has ended, with a bar on stderr. Undefined: somebody cancelled it (exit code 1), or Ctrl-C (130), and then the job goes on.
 * Throws what it failed with.
 */
export async function follow(api: Api, job: Job, options: CommonOptions, terminal: Terminal): Promise<Job | undefined> {
  const interrupted = terminal.interrupted()
  const progress = new Progress(terminal, { label: job.kind, total: 100, quiet: options.json === true })
  let now = job
  try {
    while (now.state === 'waiting' || now.state === 'running') {
      show(progress, now)
      await delay(pollMs, undefined, { signal: interrupted })
      now = await api.json<Job>(`/api/v1/jobs/${job.id}`)
    }
  } catch (thrown) {
    if (!interrupted.aborted) throw thrown
    progress.end()
    terminal.err(`  the ${job.kind} goes on as job ${job.id}`)
    terminal.err(`  look:  kymo models jobs ${job.id}      end it:  kymo models cancel ${job.id}`)
    process.exitCode = Exit.interrupted
    return undefined
  }
  progress.end()
  if (now.state === 'failed') {
    const { code, detail } = now.error ?? { code: 'bug', detail: 'The job says no reason.' }
    throw new KymoError(isCode(code) ? code : 'bug', { detail, facts: { job: now.id } })
  }
  if (now.state === 'cancelled') {
    terminal.err(`  job ${now.id} was cancelled; what it had trained stays`)
    process.exitCode = Exit.refused
    return undefined
  }
  return now
}
