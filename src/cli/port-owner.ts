import fs from 'node:fs'
import path from 'node:path'

/** Who listens on a TCP port, as `mosquitto (pid 812)`; undefined where the system does not tell (only Linux does, and of own processes). */
export function portOwner(port: number): string | undefined {
  if (process.platform !== 'linux') return undefined
  const inodes = new Set([...listeners('/proc/net/tcp', port), ...listeners('/proc/net/tcp6', port)])
  if (inodes.size === 0) return undefined
  for (const pid of fs.readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    for (const target of openFiles(pid)) {
      const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1]
      if (inode !== undefined && inodes.has(inode)) return `${processName(pid)} (pid ${pid})`
    }
  }
  return undefined
}

/** Inodes of sockets in state LISTEN (0A) on the port. Columns: proc(5), /proc/net/tcp. */
function listeners(file: string, port: number): string[] {
  const suffix = ':' + port.toString(16).toUpperCase().padStart(4, '0')
  const found: string[] = []
  for (const line of readOrEmpty(file).split('\n').slice(1)) {
    const columns = line.trim().split(/\s+/)
    if (columns[3] === '0A' && columns[1]?.endsWith(suffix) === true && columns[9] !== undefined) found.push(columns[9])
  }
  return found
}

function openFiles(pid: string): string[] {
  const dir = `/proc/${pid}/fd`
  try {
    return fs.readdirSync(dir).map((fd) => {
      try {
        return fs.readlinkSync(`${dir}/${fd}`)
      } catch {
        // Closed between the two calls.
        return ''
      }
    })
  } catch {
    // Another user's process, or gone.
    return []
  }
}

/** The program's file name: `comm` is that of a thread (Node's main thread calls itself MainThread). */
function processName(pid: string): string {
  try {
    return path.basename(fs.readlinkSync(`/proc/${pid}/exe`))
  } catch {
    // Not ours to look at.
    return readOrEmpty(`/proc/${pid}/comm`).trim() || 'a process'
  }
}

function readOrEmpty(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8')
  } catch {
    // Gone, or no /proc here: nothing can be said, which is what empty means.
    return ''
  }
}
