import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { nodeEnv, silentLogger } from '../src/core/env/node-env.ts'
import { neverExpires, type SessionHandle, type SessionRecipient } from '../src/core/session-store.ts'
import { openEmbeddedLog } from '../src/log/embedded/log.ts'
import { openSessionStore } from '../src/store/sessions/store.ts'

/**
 * MQTT sessions on the embedded log: memory of an idle session, CPU and disk of messages that are queued for 1 and for 1,000 sessions, and how long
 * the journal takes to be read back. `node --expose-gc bench/sessions.ts [messages]`.
 */
const messages = Number(process.argv[2] ?? 20_000)
const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-bench-sessions-'))
const env = nodeEnv(silentLogger)
const log = await openEmbeddedLog({ dir, env, threads: true })
const limits = { queueMessagesMax: 1e9, queueBytesMax: 1e12, totalBytesMax: 1e12 }
let store = await openSessionStore({ log, env, limits })
const say = (text: string): void => void process.stdout.write(`${text}\n`)

function memory(): number {
  globalThis.gc?.()
  globalThis.gc?.()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

const filter = (i: number) =>
  ({ filter: `plant/line-${i}/+`, qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 0, identifier: 0 }) as const

async function attach(client: string): Promise<SessionHandle> {
  return await store.attach('default', client, { clean: false, expiryS: neverExpires, onTaken: () => undefined, onQueued: () => undefined })
}

async function sessions(count: number): Promise<void> {
  const before = memory()
  let last = 0
  for (let i = 0; i < count; i++) {
    const handle = await attach(`device-${i}`)
    last = handle.subscribe([filter(i)])
    handle.detach({ will: 'publish' })
    if (i % 1000 === 999) await store.whenDurable(last)
  }
  await new Promise((resolve) => setTimeout(resolve, 300))
  await store.whenDurable(last)
  say(
    `idle session with one subscription: ${Math.round((memory() - before) / count)} B of memory, ${Math.round(log.bytes('mqtt') / count)} B of journal`,
  )
}

async function queued(recipients: readonly SessionRecipient[], count: number): Promise<void> {
  const payload = Buffer.alloc(100, 'x')
  const memoryBefore = memory()
  const diskBefore = log.bytes('mqtt')
  const before = process.cpuUsage()
  const thread = process.threadCpuUsage()
  const start = performance.now()
  let ticket = 0
  for (let i = 0; i < count; i++) {
    const message = {
      tenant: 'default',
      topic: 'plant/line-1/temperature',
      qos: 1,
      payload,
      properties: new Uint8Array(0),
      expiresUs: Number.POSITIVE_INFINITY,
    } as const
    ticket = store.publish({ message, recipients })
    // A chunk of a socket at a time.
    if (i % 16 === 15) await new Promise(setImmediate)
    if (store.overloaded) await store.whenDurable(ticket)
  }
  await store.whenDurable(ticket)
  const ms = performance.now() - start
  const { user, system } = process.cpuUsage(before)
  const main = process.threadCpuUsage(thread)
  const bytes = log.bytes('mqtt') - diskBefore
  const per = (us: number): string => (us / count).toFixed(2)
  say(
    `100 B for ${recipients.length}: ${per(user + system)} us of CPU a message (main thread ${per(main.user + main.system)}), ${per(bytes)} B of disk, ` +
      `${Math.round((memory() - memoryBefore) / count)} B of memory; ${Math.round((count / ms) * 1000)} messages a second`,
  )
}

await sessions(20_000)
const handles: SessionRecipient[] = []
for (let i = 0; i < 1000; i++) handles.push({ session: (await attach(`queue-${i}`)).ref, qos: 1, retain: false })
await queued(handles.slice(0, 1), messages)
await queued(handles.slice(0, 1), messages)
await queued(handles, Math.ceil(messages / 100))
await store.close()
const start = performance.now()
store = await openSessionStore({ log, env, limits })
const { sessions: count, deliveries } = store.figures()
say(`read back: ${count} sessions and ${deliveries} deliveries in ${Math.round(performance.now() - start)} ms`)
await store.close()
await log.close()
fs.rmSync(dir, { recursive: true })
