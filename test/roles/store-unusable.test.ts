import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import test, { type TestContext } from 'node:test'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { KymoError } from '../../src/core/errors.ts'
import type { Store } from '../../src/core/ports.ts'
import { Topic, type LogRecord } from '../../src/core/record.ts'
import { startStoreGroup } from '../../src/roles/store-group.ts'
import { decodeDeadLetter } from '../../src/wire/dead-letter.ts'
import { take } from '../contract/stream-log.ts'
import { ModelStore } from '../support/model-store.ts'
import { answer, batchOf } from '../support/store-batches.ts'
import { openEmbeddedLog, type EmbeddedLog } from '../../src/log/embedded/log.ts'

const t0 = 1_767_225_600_000_000
const env = nodeEnv(silentLogger)

function reading(device: string, second: number, receivedS = second): LogRecord {
  const batch = batchOf([{ device, timeUs: t0 + second * 1e6, value: second }])
  return { topic: Topic.telemetry, kind: 'readings', key: '', receivedUs: t0 + receivedS * 1e6, batch }
}

async function openLog(t: TestContext): Promise<EmbeddedLog> {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-unusable-'))
  const log = await openEmbeddedLog({ dir, env, threads: false })
  t.after(async () => {
    await log.close()
    fs.rmSync(dir, { recursive: true })
  })
  return log
}

const never = new AbortController().signal

async function until(met: () => Promise<boolean> | boolean): Promise<void> {
  for (const end = Date.now() + 20_000; Date.now() < end; await delay(10)) if (await met()) return
  assert.fail('it never came to pass')
}

/** A store that refuses what a device says, as a database would refuse a statement. */
class Picky extends ModelStore {
  refuses = 'odd'
  away = 0
  readonly refused: number[] = []

  override async commit(...[c, signal]: Parameters<Store['commit']>): Promise<void> {
    if (this.away-- > 0) throw new KymoError('store_unavailable')
    const rows = [...c.tables.readings, ...c.tables.late].flatMap((batch) =>
      Array.from({ length: batch.rows }, (_, i) => batch.keys[batch.series[i]!]!.device),
    )
    if (rows.includes(this.refuses)) {
      this.refused.push(rows.length)
      throw new KymoError('bug', { detail: 'PostgreSQL refuses a statement (22P05)' })
    }
    await super.commit(c, signal)
  }
}

test('a record that the store cannot take is tried again, then set aside as a dead letter; all others are stored once', async (t) => {
  const [log, store] = [await openLog(t), new Picky()]
  store.away = 5 // An engine that is away is waited for, however often.
  await log.write(
    Array.from({ length: 40 }, (_, i) => reading(i === 17 ? 'odd' : `d${i % 3}`, i)),
    undefined,
    never,
  )
  const role = startStoreGroup({ log, store, env, retries: 1 })
  t.after(() => role.stop())
  const stored = async (): Promise<number> => (await answer(store, { limit: 1000 })).length
  await until(async () => (await stored()) === 39)
  assert.equal(log.end(Topic.deadLetters), 1n)
  const [letter] = await take(log.reader({ topic: Topic.deadLetters, start: 'earliest' }), 1)
  const { code, shape, tenant, body } = decodeDeadLetter(letter!.body)
  assert.deepEqual([code, shape, tenant], ['bug', 'any', 'default'])
  assert.deepEqual(JSON.parse(new TextDecoder().decode(body)), [{ device: 'odd', time: '2026-01-01T00:00:17.000Z', values: { m: 17 } }])
  assert.deepEqual(store.refused.slice(-2), [1, 1], 'alone, and once more')
  // The operators have not seen it: after a mend the same reading is none that is known already.
  store.refuses = ''
  await log.write([reading('odd', 17, 50), reading('d1', 41)], undefined, never)
  await until(async () => (await stored()) === 41)
  await role.stop()
  assert.equal(log.end(Topic.deadLetters), 1n)
})

test('a store that refuses everything ends the role, and nothing is set aside', async (t) => {
  const [log, store] = [await openLog(t), new Picky()]
  store.commit = () => Promise.reject(new KymoError('bug', { detail: 'of ours' }))
  await log.write([reading('d1', 1)], undefined, never)
  const role = startStoreGroup({ log, store, env, retries: 0 })
  await assert.rejects(role.done, /of ours/)
})
