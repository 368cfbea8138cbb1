import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import process from 'node:process'
import { after, before, describe, test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { asKymoError } from '../../src/core/errors.ts'
import type { StreamLog } from '../../src/core/ports.ts'
import type { LogRecord } from '../../src/core/record.ts'
import { startStoreGroup } from '../../src/roles/store-group.ts'
import { readings, take } from '../contract/stream-log.ts'
import { ownBroker, sessionMs, testLog, testPrefix, until, type OwnBroker } from '../support/kafka.ts'
import { ModelStore } from '../support/model-store.ts'
import { answer, batchOf } from '../support/store-batches.ts'

const never = new AbortController().signal
const env = nodeEnv(silentLogger)
const startUs = 1_767_225_600_000_000

/** Devices a, b, … that send 0, 1, 2, …; a value counts once its write has resolved. What fails is sent again, as a door would. */
class Ledger {
  acknowledged = 0
  failures = 0
  readonly #log: StreamLog
  readonly #devices = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']
  readonly #stop = new AbortController()
  readonly #running: Promise<void>

  constructor(log: StreamLog) {
    this.#log = log
    this.#running = this.#run()
  }

  /** Rows that are acknowledged in the end. */
  async stop(): Promise<number> {
    this.#stop.abort()
    await this.#running
    return this.acknowledged * this.#devices.length
  }

  async #run(): Promise<void> {
    for (let value = 0; !this.#stop.signal.aborted; value++) {
      // Its time is made from the value: what comes twice has the same identity.
      const timeUs = startUs + value * 1000
      const records = this.#devices.map((device): LogRecord => {
        return { topic: 'telemetry', kind: 'readings', key: device, receivedUs: timeUs, batch: batchOf([{ device, timeUs, value }]) }
      })
      for (;;) {
        try {
          await this.#log.write(records, undefined, never)
          break
        } catch {
          this.failures++
          await wait(50)
        }
      }
      this.acknowledged++
      await wait(5)
    }
  }
}

async function rowsOf(store: ModelStore): Promise<number> {
  return (await answer(store, { limit: 1_000_000 })).length
}

if (process.env['KYMO_TEST_KAFKA_LIBS'] === undefined)
  describe('Kafka: faults', { skip: 'KYMO_TEST_KAFKA_LIBS is not set (npm run test:services)' }, () => undefined)
else {
  void describe('Kafka: faults', { timeout: 300_000 }, () => {
    let broker: OwnBroker
    before(async () => {
      broker = await ownBroker()
    })
    after(() => broker?.close())

    /** A writer and a store role in a group while `fault` happens: what is acknowledged is stored, once. */
    async function survives(fault: (ledger: Ledger) => Promise<void>): Promise<void> {
      const prefix = testPrefix()
      const [writing, storing] = [testLog(broker.url, { prefix }), testLog(broker.url, { prefix })]
      const store = new ModelStore()
      const role = startStoreGroup({ log: storing, store, env })
      const ledger = new Ledger(writing)
      try {
        await until('it goes', async () => (await rowsOf(store)) > 100)
        await fault(ledger)
        const rows = await ledger.stop()
        await until('all of it is stored', async () => (await rowsOf(store)) >= rows)
        assert.equal(await rowsOf(store), rows, 'none twice')
      } finally {
        await ledger.stop()
        await role.stop()
        await storing.close()
        await writing.close()
      }
    }

    test('the broker is killed and comes back, while it is written and read', async () => {
      await survives(async (ledger) => {
        await broker.kill()
        const before = ledger.acknowledged
        await wait(1_000)
        assert.ok(ledger.acknowledged <= before + 1, 'nothing is acknowledged without it')
        await broker.start()
        await until('it goes on', () => ledger.acknowledged > before + 20)
      })
    })

    test('the network swallows what is sent, then resets', async () => {
      await survives(async (ledger) => {
        broker.proxy.cut()
        await wait(3_000)
        broker.proxy.reset()
        const before = ledger.acknowledged
        await wait(500)
        broker.proxy.mend()
        broker.proxy.reset()
        await until('it goes on', () => ledger.acknowledged > before + 20)
      })
    })

    test('so much that the cluster does not take is refused, and what was taken is written in the end', async () => {
      const log = testLog(broker.url)
      const big = (): LogRecord => ({ topic: 'letters', kind: 'dead-letter', key: 'k', receivedUs: startUs, body: Buffer.alloc(1_000_000, 1) })
      try {
        await log.write([big()], undefined, never)
        broker.proxy.cut()
        const taken = Array.from({ length: 25 }, () => log.write([big()], undefined, never))
        for (const one of taken) one.catch(() => undefined)
        await wait(200)
        await assert.rejects(log.write([big()], undefined, never), (thrown) => asKymoError(thrown).code === 'overloaded')
        broker.proxy.mend()
        await Promise.all(taken)
        assert.equal(
          (await log.places('letters')).partitions.reduce((sum, { end }) => sum + end, 0n),
          26n,
        )
      } finally {
        broker.proxy.mend()
        await log.close()
      }
    })

    test('a member that was away for longer than its session joins again', async () => {
      const prefix = testPrefix()
      const writing = testLog(broker.url, { prefix })
      const log = testLog(broker.url, { prefix })
      const abort = new AbortController()
      const seen: number[] = []
      const reading = (async () => {
        for await (const delivery of log.reader({ topic: 'telemetry', group: 'g', start: 'committed' }).open(abort.signal)) {
          for (const record of delivery.records) if (record.kind === 'readings') seen.push(...record.batch.value.subarray(0, record.batch.rows))
          delivery.ack()
        }
      })()
      try {
        await writing.write([readings('telemetry', 'a', [1])], undefined, never)
        await until('it reads', () => seen.includes(1))
        broker.proxy.cut()
        await wait(sessionMs + 2_000)
        broker.proxy.mend()
        await writing.write([readings('telemetry', 'b', [2])], undefined, never)
        await until('it reads again', () => seen.includes(2))
      } finally {
        abort.abort()
        await reading
        await log.close()
        await writing.close()
      }
    })

    test('a member is killed with a delivery in its hands: another has it once its session is over', async () => {
      const prefix = testPrefix()
      const log = testLog(broker.url, { prefix, partitions: 1 })
      const program = new URL('../support/kafka-member.ts', import.meta.url).pathname
      const child = spawn(process.execPath, [program, broker.url, prefix], { stdio: ['ignore', 'pipe', 'inherit'] })
      try {
        await log.write([readings('telemetry', 'a', [1]), readings('telemetry', 'a', [2])], undefined, never)
        let said = ''
        child.stdout.on('data', (bytes: Buffer) => (said += bytes.toString()))
        await until('it has acknowledged one and holds the other', () => said.includes('acknowledged 1') && said.includes('holds 2'))
        await until('that is written down', async () => (await log.lag('telemetry', 'g'))[0]?.committed === 1n)
        child.kill('SIGKILL')
        const kept = await take(log.reader({ topic: 'telemetry', group: 'g', start: 'committed' }), 1)
        assert.deepEqual(
          kept.flatMap(({ rows }) => rows.map(({ value }) => value)),
          [2],
        )
      } finally {
        child.kill('SIGKILL')
        await log.close()
      }
    })

    test('members come and go under load', async () => {
      const prefix = testPrefix()
      const store = new ModelStore()
      const writing = testLog(broker.url, { prefix })
      const members: { readonly log: StreamLog; readonly role: { stop(): Promise<void> } }[] = []
      const join = (): void => {
        const log = testLog(broker.url, { prefix })
        members.push({ log, role: startStoreGroup({ log, store, env }) })
      }
      const leave = async (at: number): Promise<void> => {
        const [member] = members.splice(at, 1)
        await member?.role.stop()
        await member?.log.close()
      }
      join()
      const ledger = new Ledger(writing)
      try {
        // j: one joins; a number: that one leaves.
        for (const step of 'jjj1j0j20jj0') {
          if (step === 'j') join()
          else await leave(Number(step))
          await wait(300)
        }
        const rows = await ledger.stop()
        await until('all of it is stored', async () => (await rowsOf(store)) >= rows)
        assert.equal(await rowsOf(store), rows, 'none twice')
      } finally {
        await ledger.stop()
        while (members.length > 0) await leave(0)
        await writing.close()
      }
    })

    test('a topic that was removed and made anew is another log, read from its beginning', async () => {
      const prefix = testPrefix()
      const log = testLog(broker.url, { prefix })
      const lives = new Set<string>()
      const abort = new AbortController()
      const reading = (async () => {
        for await (const delivery of log.reader({ topic: 'telemetry', start: 'earliest' }).open(abort.signal)) {
          lives.add(delivery.span!.log)
          delivery.ack()
        }
      })()
      const other = testLog(broker.url, { prefix })
      try {
        await log.write([readings('telemetry', 'a', [1])], undefined, never)
        await until('it reads', () => lives.size === 1)
        await removeTopic(broker.url, `${prefix}telemetry`)
        const written = (): Promise<boolean> =>
          other.write([readings('telemetry', 'a', [2])], undefined, never).then(
            () => true,
            () => false,
          )
        await until('it is made anew', written)
        await until('it reads the new one', () => lives.size === 2)
      } finally {
        abort.abort()
        await reading
        await other.close()
        await log.close()
      }
    })
  })
}

async function removeTopic(url: string, name: string): Promise<void> {
  const { Admin } = await import('@platformatic/kafka')
  const admin = new Admin({ clientId: 'test', bootstrapBrokers: [new URL(url).host] })
  await admin.deleteTopics({ topics: [name] })
  await admin.close()
}
