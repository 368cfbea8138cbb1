import fs from 'node:fs'
import path from 'node:path'
import { KymoError } from '../../core/errors.ts'

/** Who holds a data directory: a process that started at `start` (clock ticks) after this boot of this machine. */
interface Holder {
  readonly pid: number
  readonly start: string
  readonly boot: string
}

const name = 'LOCK'
const held = new Set<string>()

/**
 * Takes `dir` for this process, or rejects with `already_open`. DuckDB's own file lock belongs to the process: opened twice
 * within one, from two threads even, rows are lost without a word. This one names process, start time and boot, so a lock left behind
 * by a dead process is known as such and taken over. Returns the way to give it back.
 */
export function lockDirectory(dir: string): () => void {
  fs.mkdirSync(dir, { recursive: true, mode: 0o750 })
  const file = path.join(fs.realpathSync(dir), name)
  if (held.has(file)) throw refused(file, process.pid)
  const me: Holder = { pid: process.pid, start: startOf(process.pid) ?? '', boot: bootId() }
  for (let tries = 0; ; tries++) {
    if (create(file, me)) break
    const holder = read(file)
    if (holder !== undefined && alive(holder)) throw refused(file, holder.pid)
    if (tries > 10) throw refused(file, holder?.pid ?? 0)
    setAside(file, holder)
  }
  held.add(file)
  return () => {
    if (held.delete(file)) fs.rmSync(file, { force: true })
  }
}

/** All of the lock's text appears at once: a link to a complete file either succeeds or finds another's lock. */
function create(file: string, me: Holder): boolean {
  const draft = `${file}.${me.pid}.${Math.random().toString(36).slice(2)}`
  fs.writeFileSync(draft, JSON.stringify(me))
  try {
    fs.linkSync(draft, file)
    return true
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw thrown
  } finally {
    fs.rmSync(draft, { force: true })
  }
}

/** Moves a dead process's lock away; when another was quicker and the lock is a living one by now, it goes back. */
function setAside(file: string, dead: Holder | undefined): void {
  const aside = `${file}.stale.${process.pid}`
  try {
    fs.renameSync(file, aside)
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return
    throw thrown
  }
  const moved = read(aside)
  if (moved !== undefined && moved.pid !== dead?.pid && alive(moved)) fs.linkSync(aside, file)
  fs.rmSync(aside, { force: true })
}

function read(file: string): Holder | undefined {
  try {
    const holder: unknown = JSON.parse(fs.readFileSync(file, 'utf8'))
    return isHolder(holder) ? holder : undefined
  } catch (thrown) {
    if (thrown instanceof SyntaxError || (thrown as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw thrown
  }
}

function isHolder(value: unknown): value is Holder {
  return typeof value === 'object' && value !== null && 'pid' in value && typeof value.pid === 'number' && 'start' in value && 'boot' in value
}

function alive(holder: Holder): boolean {
  if (holder.boot !== bootId()) return false
  const start = startOf(holder.pid)
  if (start !== undefined) return start === holder.start
  // No /proc: fall back to asking whether the process exists.
  try {
    process.kill(holder.pid, 0)
    return !fs.existsSync('/proc/self/stat')
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** Field 22 of /proc/<pid>/stat (proc(5)): a reused pid has another. A zombie holds nothing any more: it counts as gone. */
function startOf(pid: number): string | undefined {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19]
  } catch {
    return undefined // no such process, or no /proc on this system
  }
}

function bootId(): string {
  try {
    return fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    return '' // not Linux: pid and its existence must do
  }
}

function refused(file: string, pid: number): KymoError {
  return new KymoError('already_open', { detail: `${path.dirname(file)} is in use by process ${pid}.`, facts: { dir: path.dirname(file), pid } })
}
