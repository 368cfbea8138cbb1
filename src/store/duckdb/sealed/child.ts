/**
 * Seals or merges in a process of its own: its memory and its aborts stay out of the server. The job is one line of JSON on stdin; on stdout
 * come lines of JSON (`ChildTell`), the last of which says `done` or `failed`. When stdin ends, the asker is gone and so is this.
 */
import { DuckDBInstance } from '@duckdb/node-api'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import readline from 'node:readline'
import { toPlainError } from '../../../core/errors.ts'
import { engineError } from '../database.ts'
import { runJob } from './jobs.ts'
import { parseAsked, type Asked, type ChildTell } from './sealer.ts'

function tell(message: ChildTell): Promise<void> {
  return new Promise((resolve) => void process.stdout.write(`${JSON.stringify(message)}\n`, () => resolve()))
}

async function work(asked: Asked): Promise<ChildTell> {
  const { job, memoryMb, exitAfter } = asked
  const spill = path.join(job.dir, 'tmp', 'seal')
  fs.rmSync(spill, { recursive: true, force: true })
  fs.mkdirSync(spill, { recursive: true, mode: 0o750 })
  const instance = await DuckDBInstance.create(':memory:', {
    threads: '1',
    memory_limit: `${memoryMb}MB`,
    autoinstall_known_extensions: 'false',
    autoload_known_extensions: 'false',
    allow_community_extensions: 'false',
    temp_directory: spill,
    preserve_insertion_order: 'true',
    checkpoint_threshold: '1TB',
  })
  try {
    const connection = await instance.connect()
    await connection.run(`SET GLOBAL TimeZone = 'UTC'`).catch(() => undefined)
    const runs = await runJob(connection, job, (name) => {
      // As kill -9 at this very step.
      if (name === exitAfter) process.kill(process.pid, 'SIGKILL')
    })
    connection.closeSync()
    const usage = process.resourceUsage()
    return { type: 'done', runs, peakBytes: usage.maxRSS * 1024, cpuMs: Math.round((usage.userCPUTime + usage.systemCPUTime) / 1000) }
  } catch (thrown) {
    return { type: 'failed', error: toPlainError(engineError(thrown)) }
  } finally {
    instance.closeSync()
    fs.rmSync(spill, { recursive: true, force: true })
  }
}

try {
  os.setPriority(os.constants.priority.PRIORITY_BELOW_NORMAL)
} catch {
  // Not allowed here: it then competes as an equal.
}

let asked = false
readline
  .createInterface({ input: process.stdin })
  .on('line', (line) => {
    if (asked) return
    asked = true
    void work(parseAsked(line))
      .catch((thrown: unknown): ChildTell => ({ type: 'failed', error: toPlainError(thrown) }))
      .then(tell)
      .then(() => process.exit(0))
  })
  .on('close', () => process.exit(1))
