import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import type { Config } from '../../core/config.ts'
import { limits } from '../../core/limits.ts'
import { bytes, count, milliseconds } from '../format.ts'
import { portOwner } from '../port-owner.ts'
import { fail, ok, warn, type Finding } from './finding.ts'

/** Beside the store: code, buffers and what is under way. */
const besideStoreBytes = 400e6
/** Files of log and store, and some. */
const otherFiles = 256
/** This version was made after it: a clock before it was never set. */
const clockAfterMs = Date.UTC(2026, 0, 1)
const clockSkewMaxMs = 2_000
const fsyncSamples = 20
const fsyncSlowMs = 20
/** No disk answers so fast: the file system does not write through. */
const fsyncUnlikelyMs = 0.02

export function checkNode(version: string): Finding {
  const major = Number(version.split('.')[0])
  if (major >= 24) return ok('node', `Node ${version}`)
  return fail('node', 'node_too_old', `Node ${version}`, 'Use npm start or npm run kymo, which bring Node 24 along, or install it.')
}

/** Magic numbers of statfs(2) that matter to durability. */
const fileSystems: Readonly<Record<number, readonly [name: string, risk: string | undefined]>> = {
  0xef53: ['ext4', undefined],
  0x58465342: ['xfs', undefined],
  0x9123683e: ['btrfs', undefined],
  0x2fc12fc1: ['zfs', undefined],
  0xf2f52010: ['f2fs', undefined],
  0x01021994: ['tmpfs', 'it lies in memory: everything is gone after a restart of the machine'],
  0x858458f6: ['ramfs', 'it lies in memory: everything is gone after a restart of the machine'],
  0x794c7630: ['overlayfs', 'it is the layer of a container: everything goes with the container'],
  0x6969: ['nfs', 'a network file system: locks and fsync depend on how it is mounted'],
  0xff534d42: ['cifs', 'a network file system: locks and fsync depend on how it is mounted'],
  0xfe534d42: ['smb2', 'a network file system: locks and fsync depend on how it is mounted'],
  0x65735546: ['fuse', 'what fsync means there depends on the program behind it'],
  0x01021997: ['9p', 'a shared folder of a virtual machine: locks and fsync depend on the host'],
}

/** The directory itself, or the one where it would be made. */
function nearest(dir: string): string {
  let at = dir
  while (!fs.existsSync(at) && path.dirname(at) !== at) at = path.dirname(at)
  return at
}

export function checkDataDir(dir: string, config: Config): Finding[] {
  const at = nearest(dir)
  const usable = 'Name another with --data DIR, or give it to this user: chown.'
  try {
    if (!fs.statSync(at).isDirectory()) return [fail('data directory', 'data_dir_unusable', `${at} is no directory`, usable)]
    fs.accessSync(at, fs.constants.W_OK | fs.constants.X_OK)
  } catch (error) {
    return [fail('data directory', 'data_dir_unusable', `${at} cannot be written: ${error instanceof Error ? error.message : String(error)}`, usable)]
  }
  const found = fs.statfsSync(at)
  const [name, risk] = fileSystems[found.type] ?? [`0x${found.type.toString(16)}`, undefined]
  const where = at === dir ? dir : `${dir} (will be made)`
  const findings = [
    risk === undefined
      ? ok('data directory', `${where}, writable, ${name}`)
      : warn('data directory', `${where} is on ${name}: ${risk}`, 'Use a local disk: --data DIR. In a container mount a volume there.'),
  ]
  const free = found.bavail * found.bsize
  const reserve = config.log.reserve_bytes
  const more = 'Free space, enlarge the file system, or keep less: retention.raw, retention.store_mb.'
  if (free < reserve)
    findings.push(fail('free space', 'disk_full', `${bytes(free)} are free, ${bytes(reserve)} are left alone (log.reserve_bytes)`, more))
  else if (free < 4 * reserve) findings.push(warn('free space', `${bytes(free)} are free; below ${bytes(reserve)} acknowledgements wait`, more))
  else findings.push(ok('free space', `${bytes(free)} free`))
  if (found.files > 0 && found.ffree < 1_000)
    findings.push(warn('free files', `the file system has room for ${count(found.ffree)} more files`, 'Remove files, or use another file system.'))
  findings.push(...checkSync(at))
  return findings
}

/** Writes and syncs for real, in a file of its own, and removes it. Its time stamp shows a file system whose clock is another. */
function checkSync(dir: string): Finding[] {
  const file = path.join(dir, `.kymo-doctor-${process.pid}`)
  const took: number[] = []
  let skewMs: number
  try {
    const fd = fs.openSync(file, 'wx', 0o600)
    try {
      const block = Buffer.alloc(4096, 1)
      for (let i = 0; i < fsyncSamples; i++) {
        const from = performance.now()
        fs.writeSync(fd, block, 0, block.length, i * block.length)
        fs.fdatasyncSync(fd)
        took.push(performance.now() - from)
      }
      skewMs = fs.fstatSync(fd).mtimeMs - Date.now()
    } finally {
      fs.closeSync(fd)
      fs.unlinkSync(file)
    }
  } catch (error) {
    const detail = `data cannot be made durable in ${dir}: ${error instanceof Error ? error.message : String(error)}`
    return [fail('fsync', 'fsync_failed', detail, 'Look at the disk and at the log of the kernel (dmesg).')]
  }
  took.sort((a, b) => a - b)
  const median = took[took.length >> 1]!
  const text = `median ${milliseconds(median)}, longest ${milliseconds(took.at(-1)!)} of ${fsyncSamples}`
  const findings = [
    median > fsyncSlowMs
      ? warn('fsync', `slow: ${text}; each acknowledgement waits for one`, 'Use an SSD, or a disk that is not shared.')
      : median < fsyncUnlikelyMs
        ? warn(
            'fsync',
            `${text}: too fast to be a disk`,
            'A file system that does not write through loses what was acknowledged at a power failure. Use another.',
          )
        : ok('fsync', text),
  ]
  if (Math.abs(skewMs) > clockSkewMaxMs)
    findings.push(warn('clock', `the clock of the file system is ${milliseconds(Math.abs(skewMs))} off`, 'Set both by NTP.'))
  return findings
}

export function checkClock(nowMs: number): Finding {
  if (nowMs < clockAfterMs)
    return warn('clock', `says ${new Date(nowMs).toISOString()}, which is before this version was made`, 'Set it by NTP: timedatectl set-ntp true.')
  return ok('clock', new Date(nowMs).toISOString())
}

export function checkMemory(config: Config): Finding {
  const constrained = process.constrainedMemory()
  const total = constrained > 0 && constrained < os.totalmem() ? constrained : os.totalmem()
  const needed = config.store.memory_mb * 1e6 + besideStoreBytes
  const text = `${bytes(total)}${total < os.totalmem() ? ' (limit of the container)' : ''}, ${bytes(process.availableMemory())} available`
  if (total >= needed) return ok('memory', text)
  return warn('memory', `${text}; ${bytes(needed)} may be used`, `Lower store.memory_mb (${config.store.memory_mb}), or give it more.`)
}

/** `openFilesMax`: the soft limit; undefined where the system does not tell. */
export function checkOpenFiles(config: Config, openFilesMax: number | undefined): Finding {
  const check = 'open files'
  if (openFilesMax === undefined) return ok(check, 'the limit is not known here')
  const needed = config.mqtt.connections_max + limits.httpConnectionsMax + otherFiles
  if (openFilesMax >= needed) return ok(check, `${count(openFilesMax)} allowed`)
  return warn(
    check,
    `${count(openFilesMax)} allowed; ${count(needed)} may be needed (mqtt.connections_max is ${count(config.mqtt.connections_max)})`,
    `ulimit -n ${needed} before the start, LimitNOFILE=${needed} in a systemd unit, or a lower mqtt.connections_max.`,
  )
}

export function softOpenFiles(): number | undefined {
  try {
    const text = /^Max open files\s+(\d+|unlimited)/m.exec(fs.readFileSync('/proc/self/limits', 'utf8'))?.[1]
    return text === undefined ? undefined : text === 'unlimited' ? Number.POSITIVE_INFINITY : Number(text)
  } catch {
    // No /proc here: nothing is known, which is what undefined says.
    return undefined
  }
}

/** Whether a door could be opened. `ours`: the port that the running server of this directory has. */
export async function checkPort(
  name: 'http' | 'mqtt' | 'mqtt-tls',
  { host, port }: { readonly host: string; readonly port: number },
  ours: number | undefined,
): Promise<Finding> {
  const check = `${name} port`
  if (ours !== undefined) return ok(check, `${ours} is open (this server)`)
  if (port === 0) return ok(check, 'any free one')
  const error = await bindError(host, port)
  if (error === undefined) return ok(check, `${host}:${port} is free`)
  if (error.code === 'EADDRINUSE') {
    const owner = portOwner(port)
    const fix = `Use another: kymo start --${name}-port ${port + 1}, or any free one: --${name}-port 0`
    return fail(check, 'port_in_use', `${host}:${port} is in use${owner === undefined ? '' : ` by ${owner}`}`, fix)
  }
  if (error.code === 'EADDRNOTAVAIL' || error.code === 'ENOTFOUND')
    return fail(
      check,
      'config_invalid',
      `this machine has no address ${host}`,
      `Set ${name === 'http' ? 'http' : 'mqtt'}.host to one that it has, or 0.0.0.0 for all.`,
    )
  if (error.code === 'EACCES')
    return fail(
      check,
      'port_in_use',
      `${host}:${port} may not be opened by this user`,
      'Use a port from 1024 on, or let the service manager open it.',
    )
  return fail(check, 'port_in_use', `${host}:${port} cannot be opened: ${error.message}`, 'Choose another host or port.')
}

function bindError(host: string, port: number): Promise<NodeJS.ErrnoException | undefined> {
  return new Promise((resolve) => {
    const probe = net.createServer()
    probe.once('error', (error) => resolve(error))
    probe.listen({ host, port, exclusive: true }, () => probe.close(() => resolve(undefined)))
  })
}
