import { execFile, spawnSync } from 'node:child_process'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** A reason to skip when a program is not installed; false when it is there. */
export function without(...programs: readonly string[]): string | false {
  const missing = programs.filter((program) => spawnSync('sh', ['-c', `command -v ${program}`]).status !== 0)
  return missing.length === 0 ? false : `${missing.join(', ')} not installed`
}

/** A line as a person would paste it into a shell. Rejects when it fails. */
export async function shell(line: string, o: { readonly timeoutMs?: number; readonly env?: NodeJS.ProcessEnv } = {}): Promise<string> {
  const { stdout } = await run('sh', ['-c', line], { timeout: o.timeoutMs ?? 20_000, maxBuffer: 1 << 24, env: o.env ?? process.env })
  return stdout
}
