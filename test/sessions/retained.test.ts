import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openEmbeddedLog } from '../../src/log/embedded/log.ts'
import { openSessionStore } from '../../src/store/sessions/store.ts'
import { messageOf } from '../contract/session-store.ts'
import { simEnv } from '../sim/clock.ts'

test('a filter that matches nothing of much is looked through in steps, each a page', async () => {
  const env = simEnv(1)
  const log = await openEmbeddedLog({ dir: '/data/log', env, threads: false, segmentBytesMax: 2 ** 20, reserveBytes: 0 })
  const store = await openSessionStore({ log, env })
  const topics = 10_000
  for (let i = 0; i < topics; i++) store.publish({ message: messageOf(`devices/${i}/state`, 'x'), recipients: [], retain: true })
  const pages = async (filter: string): Promise<number[]> => {
    const sizes: number[] = []
    for await (const page of store.retained('default', filter)) sizes.push(page.length)
    return sizes
  }
  const none = await pages('devices/+/other')
  assert.ok(none.length >= topics / 1000 && none.every((size) => size === 0), `${none.length} pages`)
  const all = await pages('devices/+/state')
  assert.equal(
    all.reduce((sum, size) => sum + size, 0),
    topics,
  )
  assert.ok(all.every((size) => size <= 100))
  assert.deepEqual(await pages('devices/7/state'), [1])
  await store.close()
  await log.close()
})
