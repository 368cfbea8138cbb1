import { spawn } from 'node:child_process'
import path from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { fromPlainError, KymoError, type PlainError } from '../../../core/errors.ts'
import { limits } from '../../../core/limits.ts'
import type { Job } from './jobs.ts'
import type { Run } from './manifest.ts'

/** What the child is given. */
export interface Asked {
  readonly job: Job
  readonly memoryMb: number
  /** For tests: the child kills itself after this step. */
  readonly exitAfter?: string
}

export type ChildTell =
  | { readonly type: 'done'; readonly runs: readonly Run[]; readonly peakBytes: number; readonly cpuMs: number }
  | { readonly type: 'failed'; readonly error: PlainError }

export interface SealerOptions {
  readonly signal: AbortSignal
  /** The engine's memory; what is larger is sorted on disk, in `tmp/seal` of the store's folder. */
  readonly memoryMb?: number
  readonly exitAfter?: string
}

export interface Sealed {
  /** Their files are on disk; they count once they are in the manifest (`withSealed`, `withMerged`). */
  readonly runs: readonly Run[]
  /** Of the child: its largest resident memory, and processor time. */
  readonly peakBytes: number
  readonly cpuMs: number
}

/**
 * Runs a job in a child process. Aborting kills it, which is always safe: what it wrote is in no manifest. Throws what the child says
 * (`disk_full`, `store_corrupt`, …), `store_unavailable` when it ended without a word, and the signal's reason.
 */
export async function runSealer(job: Job, o: SealerOptions): Promise<Sealed> {
  o.signal.throwIfAborted()
  const program = fileURLToPath(new URL(`./child${path.extname(import.meta.url)}`, import.meta.url))
  const child = spawn(process.execPath, [`--max-old-space-size=${limits.sealHeapMbMax}`, program], { stdio: ['pipe', 'pipe', 'pipe'] })
  const kill = (): void => void child.kill('SIGKILL')
  o.signal.addEventListener('abort', kill, { once: true })
  let told = ''
  let complaint = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (told += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (complaint = (complaint + text).slice(-2000)))
  child.stdin.on('error', () => undefined) // It ended before it read its job: the exit says so.
  const asked: Asked = { job, memoryMb: o.memoryMb ?? limits.sealMemoryMbMax, ...(o.exitAfter === undefined ? {} : { exitAfter: o.exitAfter }) }
  child.stdin.write(`${JSON.stringify(asked)}\n`)
  try {
    const ended = await new Promise<string>((resolve, reject) => {
      child.on('error', reject)
      child.on('close', (code, signal) => resolve(signal ?? `code ${code}`))
    })
    o.signal.throwIfAborted()
    const answer = told
      .trim()
      .split('\n')
      .map(parseTell)
      .findLast((one) => one !== undefined)
    if (answer?.type === 'failed') throw fromPlainError(answer.error)
    if (answer === undefined) {
      throw new KymoError('store_unavailable', { detail: `The process that seals ended (${ended}). ${complaint.trim()}`.trim() })
    }
    return { runs: answer.runs, peakBytes: answer.peakBytes, cpuMs: answer.cpuMs }
  } finally {
    o.signal.removeEventListener('abort', kill)
    child.stdin.destroy()
  }
}

/** Both ends are of one build and on one machine; a line that is no message is the engine's own output. */
function parseTell(line: string): ChildTell | undefined {
  if (!line.startsWith('{"type":')) return undefined
  return JSON.parse(line) as ChildTell
}

export function parseAsked(line: string): Asked {
  return JSON.parse(line) as Asked
}
