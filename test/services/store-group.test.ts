import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import process from 'node:process'
import { describe, it } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import type { Store, StreamLog } from '../../src/core/ports.ts'
import type { LogRecord } from '../../src/core/record.ts'
import { openKafkaLog } from '../../src/log/kafka/log.ts'
import { parseKafkaUrl } from '../../src/log/kafka/options.ts'
import { startStoreGroup } from '../../src/roles/store-group.ts'
import type { StoreRole } from '../../src/roles/store.ts'
import { ModelStore } from '../support/model-store.ts'
import { answer, batchOf } from '../support/store-batches.ts'

const url = process.env['KYMO_TEST_KAFKA_URL']
const never = new AbortController().signal
const t0 = 1_767_225_600_000_000
const devices = 12

function readings(from: number, to: number): LogRecord {
  const rows = Array.from({ length: (to - from) * devices }, (_, i) => {
    const second = from + Math.floor(i / devices)
    return { device: `d${i % devices}`, timeUs: t0 + second * 1e6, value: second }
  })
  return { topic: 'telemetry', kind: 'readings', key: '', receivedUs: t0 + to * 1e6, batch: batchOf(rows) }
}

async function until(what: string, met: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 60_000; Date.now() < end; await wait(50)) if (await met()) return
  assert.fail(`${what}: it never came to pass`)
}

if (url === undefined) describe('the store role in a group', { skip: 'KYMO_TEST_KAFKA_URL is not set (npm run test:services)' }, () => undefined)
else {
  void describe('the store role in a group', { timeout: 180_000 }, () => {
    const env = nodeEnv(silentLogger)
    const open = (prefix: string): StreamLog => openKafkaLog({ env, address: parseKafkaUrl(url), prefix, partitions: 4, replication: 1 })

    void it('stores each reading once while members come, go and lose their answers', async () => {
      const prefix = `kymo-test-${randomUUID().slice(0, 8)}.`
      const store = new ModelStore()
      let commits = 0
      // Each seventh answer is lost, each eleventh commit refused.
      const flaky: Store = {
        commit: async (c, stop) => {
          commits++
          if (commits % 11 === 0) throw new Error('the connection was refused')
          await store.commit(c, stop)
          if (commits % 7 === 0) throw new Error('the answer was lost')
        },
        resume: (l, t, p) => store.resume(l, t, p),
        query: (q, a) => store.query(q, a),
        latest: (m) => store.latest(m),
        series: (m, a, page) => store.series(m, a, page),
        close: () => store.close(),
      }
      const writer = open(prefix)
      const members: { role: StoreRole; log: StreamLog }[] = []
      const join = (): void => {
        const log = open(prefix)
        members.push({ log, role: startStoreGroup({ log, store: flaky, env }) })
      }
      const leave = async (): Promise<void> => {
        const member = members.shift()
        await member?.role.stop()
        await member?.log.close()
      }
      join()
      const seconds = 400
      for (let second = 0; second < seconds; second += 10) {
        await writer.write([readings(second, second + 10)], undefined, never)
        // What a door could not tell was durable comes again.
        if (second % 30 === 0) await writer.write([readings(second, second + 5)], undefined, never)
        if (second === 100 || second === 250) join()
        if (second === 200 || second === 320) await leave()
      }
      const count = async (): Promise<number> => (await answer(store, { limit: 1_000_000 })).length
      await until('all of it is stored', async () => (await count()) >= seconds * devices)
      assert.equal(await count(), seconds * devices, 'none twice')
      const buckets = await answer(store, { stepUs: 60e6, aggregations: ['count', 'sum'], limit: 100_000 })
      for (const row of buckets) {
        const first = Math.round((Number(row.timeUs) - t0) / 1e6)
        const values = Array.from({ length: Math.min(60, seconds - first) }, (_, i) => first + i)
        assert.deepEqual([row['count'], row['sum']], [values.length, values.reduce((sum, value) => sum + value, 0)])
      }
      while (members.length > 0) await leave()
      await writer.close()
    })
  })
}
