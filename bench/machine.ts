import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'

export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly memoryGb: number
  readonly system: string
  readonly node: string
  readonly commit: string
  readonly kymo: string
  readonly date: string
  /** The file system of the data directory, as the kernel names it. */
  readonly disk: string
}

function tryRun(command: string, args: readonly string[]): string | undefined {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  } catch {
    // The tool is not there, or this is no git checkout: the report says so.
    return undefined
  }
}

export function machine(dataDir: string): Machine {
  const root = path.resolve(import.meta.dirname, '..')
  const release = /^PRETTY_NAME="(.*)"$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? os.type()
  const dirty = tryRun('git', ['-C', root, 'status', '--porcelain']) === '' ? '' : ' with changes'
  const commit = tryRun('git', ['-C', root, 'rev-parse', '--short', 'HEAD'])
  const version = (JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { version: string }).version
  return {
    cpu: os.cpus()[0]?.model ?? 'unknown',
    cores: os.availableParallelism(),
    memoryGb: Math.round(os.totalmem() / 2 ** 30),
    system: `${release}, Linux ${os.release()}`,
    node: process.version,
    commit: commit === undefined ? 'none' : `${commit}${dirty}`,
    kymo: version,
    date: new Date().toISOString().slice(0, 10),
    disk: tryRun('stat', ['-f', '-c', '%T', dataDir]) ?? 'unknown',
  }
}
