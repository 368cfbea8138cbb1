import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

/** Debian installs it where an ordinary user's PATH does not look. */
export function mosquittoPath(): string | undefined {
  const found = spawnSync('sh', ['-c', 'command -v mosquitto'], { encoding: 'utf8' }).stdout.trim()
  return found !== '' ? found : existsSync('/usr/sbin/mosquitto') ? '/usr/sbin/mosquitto' : undefined
}

export interface Mosquitto {
  readonly port: number
  readonly pid: number
  readonly version: string
  stop(): void
}

export async function freePort(): Promise<number> {
  const server = net.createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as net.AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** In memory, unbounded queues, no delay: its fastest way. */
export async function startMosquitto(file: string): Promise<Mosquitto> {
  const port = await freePort()
  const dir = mkdtempSync(path.join(os.tmpdir(), 'kymo-mosquitto-'))
  const config = path.join(dir, 'mosquitto.conf')
  const lines = [
    `listener ${port} 127.0.0.1`,
    'allow_anonymous true',
    'persistence false',
    'max_inflight_messages 0',
    'max_queued_messages 0',
    'set_tcp_nodelay true',
    'log_type error',
  ]
  writeFileSync(config, `${lines.join('\n')}\n`)
  const child: ChildProcess = spawn(file, ['-c', config], { stdio: 'ignore' })
  const version = /version (\S+)/.exec(spawnSync(file, ['-h'], { encoding: 'utf8' }).stdout)?.[1] ?? 'unknown'
  for (let tries = 0; tries < 100 && !(await accepts(port)); tries++) await delay(50)
  return {
    port,
    pid: child.pid!,
    version,
    stop() {
      child.kill('SIGTERM')
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}
