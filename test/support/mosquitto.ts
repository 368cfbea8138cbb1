import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'

/** Debian installs it where an ordinary user's PATH does not look. */
export const mosquittoFile: string | undefined = ['/usr/sbin/mosquitto', '/usr/local/sbin/mosquitto', '/usr/bin/mosquitto'].find((file) =>
  existsSync(file),
)

const running = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

export interface MosquittoOptions {
  /** Further lines of its configuration. */
  readonly lines?: readonly string[]
  /** Files beside the configuration, by name; `DIR` in `lines` is their directory. */
  readonly files?: Readonly<Record<string, string>>
  /** In place of `allow_anonymous true`: user name to password. */
  readonly users?: Readonly<Record<string, string>>
}

/** A real broker on a free port of loopback, with its state on disk: `stop` and `start` keep sessions and messages. */
export class Mosquitto {
  readonly port: number
  readonly dir: string
  #child: ChildProcess | undefined

  private constructor(port: number, dir: string) {
    this.port = port
    this.dir = dir
  }

  /** Prepared, not started. */
  static async create(o: MosquittoOptions = {}): Promise<Mosquitto> {
    const dir = mkdtempSync(path.join(os.tmpdir(), 'kymo-mosquitto-'))
    const broker = new Mosquitto(await freePort(), dir)
    for (const [name, text] of Object.entries(o.files ?? {})) writeFileSync(path.join(dir, name), text)
    const access = ['allow_anonymous true']
    if (o.users !== undefined) {
      const file = path.join(dir, 'users')
      writeFileSync(
        file,
        Object.entries(o.users)
          .map(([user, password]) => `${user}:${password}\n`)
          .join(''),
        { mode: 0o600 },
      )
      spawnSync('mosquitto_passwd', ['-U', file])
      access.splice(0, 1, 'allow_anonymous false', `password_file ${file}`)
    }
    const lines = [
      `listener ${broker.port} 127.0.0.1`,
      ...(o.lines ?? []),
      ...access,
      'persistence true',
      `persistence_location ${dir}/`,
      'autosave_interval 1800',
      'max_queued_messages 0',
      `log_dest file ${dir}/log`,
      `user ${os.userInfo().username}`,
    ]
    writeFileSync(path.join(dir, 'conf'), `${lines.map((line) => line.replaceAll('DIR', dir)).join('\n')}\n`)
    return broker
  }

  static async start(o: MosquittoOptions = {}): Promise<Mosquitto> {
    const broker = await Mosquitto.create(o)
    await broker.start()
    return broker
  }

  get url(): string {
    return `mqtt://127.0.0.1:${this.port}`
  }

  /** What it has logged. */
  get log(): string {
    return existsSync(path.join(this.dir, 'log')) ? readFileSync(path.join(this.dir, 'log'), 'utf8') : ''
  }

  async start(): Promise<void> {
    if (mosquittoFile === undefined) throw new Error('there is no mosquitto here')
    const child = spawn(mosquittoFile, ['-c', path.join(this.dir, 'conf')], { stdio: 'ignore' })
    this.#child = child
    running.add(child)
    for (let tries = 0; !(await accepts(this.port)); tries++) {
      if (tries > 200 || child.exitCode !== null) throw new Error(`mosquitto did not start: ${this.log}`)
      await delay(20)
    }
  }

  /** SIGTERM: it saves its state. */
  async stop(): Promise<void> {
    const child = this.#child
    this.#child = undefined
    if (child === undefined) return
    running.delete(child)
    const ended = once(child, 'exit')
    child.kill('SIGTERM')
    await ended
  }

  async dispose(): Promise<void> {
    await this.stop()
    rmSync(this.dir, { recursive: true, force: true })
  }
}

export async function freePort(): Promise<number> {
  const server = net.createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
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
