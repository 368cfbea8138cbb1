import process from 'node:process'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { openEmbeddedLog } from '../../src/log/embedded/log.ts'
import { openSessionStore } from '../../src/store/sessions/store.ts'
import { attach, messageOf, subscriptionOf } from '../contract/session-store.ts'

/**
 * Publishes to sessions without end, from the number given on, and prints each number once it is durable. kill.test.ts starts it, and kills it. The
 * journal is written anew all the while, and segments are small, so that a kill meets all of it.
 */
const env = nodeEnv(silentLogger)
const log = await openEmbeddedLog({
  dir: process.argv[2]!,
  env,
  threads: true,
  segmentBytesMax: 65_536,
  topics: { mqtt: { retentionBytes: 65_536 } },
})
const limits = { queueMessagesMax: 1e9, queueBytesMax: 1e9 }
const store = await openSessionStore({ log, env, limits, rewriteBytes: 100_000 })
const names = ['even', 'odd', 'all', 'busy']
const [even, odd, all, busy] = await Promise.all(names.map((name) => attach(store, name)))
for (const handle of [even!, odd!, all!]) handle.subscribe([subscriptionOf(handle.ref.client)])
for (let n = Number(process.argv[3]); ; n++) {
  const recipients = [n % 2 === 0 ? even! : odd!, all!, busy!].map((handle) => ({ session: handle.ref, qos: 2 as const, retain: false }))
  const packetId = 1 + (n % 60_000)
  const ticket = store.publish({
    message: messageOf(`t/${n % 10}`, `${n} ${'.'.repeat(n % 300)}`),
    recipients,
    retain: true,
    inbound: { session: all!, packetId },
  })
  all!.release(packetId - 1)
  for (const delivery of busy!.take(10)) {
    busy!.sending(delivery, packetId)
    busy!.received(packetId)
    busy!.done(packetId)
  }
  await store.whenDurable(ticket)
  process.stdout.write(`${n}\n`)
}
