import assert from 'node:assert/strict'
import process from 'node:process'
import { describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { faults, httpSender, mqttSender, seeded, type Sender } from '../../e2e/ledger.ts'
import { buckets, eventually, readings, status, type Status } from '../support/api.ts'
import { chaosSeconds } from '../support/effort.ts'
import { ownBroker, testPrefix, type OwnBroker } from '../support/kafka.ts'
import { newSchema } from '../support/postgres-stores.ts'
import { RunningServer } from '../support/server.ts'

const database = process.env['KYMO_TEST_POSTGRES_URL']
const libs = process.env['KYMO_TEST_KAFKA_LIBS']
const seed = Number(process.env['KYMO_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const seconds = chaosSeconds(25)
/** Each is killed often enough in a long run, and in a short one some of them are. */
const roles = ['ingest', 'ingest', 'store', 'store', 'api'] as const

/** Processes of a deployment with roles apart, which are killed and come back on the same ports. */
class Deployment {
  readonly #env: Readonly<Record<string, string>>
  readonly #processes: RunningServer[] = []

  constructor(broker: OwnBroker, schema: string) {
    this.#env = {
      KYMO_LOG_URL: broker.url,
      KYMO_STORE_URL: schema,
      KYMO_META_URL: schema,
      KYMO_KAFKA_PREFIX: testPrefix(),
      KYMO_KAFKA_PARTITIONS: '4',
    }
  }

  async start(): Promise<void> {
    const start = (role: string): Promise<RunningServer> =>
      RunningServer.start({ args: ['--roles', role], env: this.#env, httpOnly: role !== 'ingest', readyWithinMs: 90_000 })
    this.#processes.push(...(await Promise.all(roles.map(start))))
  }

  at(process: number): RunningServer {
    return this.#processes[process]!
  }

  /** One of the processes with this role. */
  any(role: (typeof roles)[number], random: () => number): RunningServer {
    const such = this.#processes.filter((_, i) => roles[i] === role)
    return such[Math.floor(random() * such.length)]!
  }

  async kill(process: number, pauseMs: number): Promise<void> {
    await this.at(process).kill()
    await delay(pauseMs)
    this.#processes[process] = await this.at(process).restart({ readyWithinMs: 90_000 })
  }

  async dispose(): Promise<void> {
    for (const one of this.#processes) await one.dispose()
  }
}

/** What the store says of minutes, and what its readings make of them. */
async function minutesOf(base: string, device: string): Promise<{ readonly stored: unknown[]; readonly made: unknown[] }> {
  const aggregations = ['count', 'sum', 'min', 'max', 'first', 'last'] as const
  const ask = { device, metric: 'seq', from: '2020-01-01T00:00:00Z' }
  const stored = await buckets(base, { ...ask, step: '1m', aggregations })
  const byMinute = Map.groupBy(await readings(base, ask), ({ timeMs }) => Math.floor(timeMs / 60_000) * 60_000)
  const made = [...byMinute].map(([timeMs, rows]) => {
    const values = rows.toSorted((a, b) => a.timeMs - b.timeMs).map(({ value }) => Number(value))
    const [min, max] = [Math.min(...values), Math.max(...values)]
    return {
      device,
      metric: 'seq',
      timeMs,
      count: values.length,
      sum: values.reduce((a, b) => a + b, 0),
      min,
      max,
      first: values[0],
      last: values.at(-1),
    }
  })
  return { stored, made }
}

/** Waits until every consumer has what the log has now: ticks go on, so that its end is never reached for long. */
async function caughtUp(base: string, withinMs: number): Promise<void> {
  const untilMs = performance.now() + withinMs
  /** A broker that was just killed leaves the lag unknown for a while: such an answer says nothing about ends. */
  const known = async (): Promise<Status['lag']> => {
    const answer = await status(base)
    assert.ok(answer.lag.length > 0, `the lag is not known: ${JSON.stringify(answer)}`)
    return answer.lag
  }
  const of = ({ group, partition }: Status['lag'][number]): string => `${group} ${partition}`
  const ends = new Map((await eventually(known, withinMs)).map((one) => [of(one), Number(one.end)]))
  const all = async (): Promise<true> => {
    const lag = await known()
    const committed = new Map(lag.map((one) => [of(one), Number(one.committed)]))
    const behind = [...ends].filter(([consumer, end]) => (committed.get(consumer) ?? 0) < end)
    assert.deepEqual(behind, [], `not caught up: ${JSON.stringify(lag)}`)
    return true
  }
  await eventually(all, untilMs - performance.now())
}

if (database === undefined || libs === undefined) {
  describe('roles as processes', { skip: 'KYMO_TEST_POSTGRES_URL and KYMO_TEST_KAFKA_LIBS are not set (npm run test:services)' }, () => undefined)
} else {
  void describe('roles as processes, over Kafka and PostgreSQL', { timeout: 240_000 + seconds * 3_000 }, () => {
    void it(`keep each acknowledged reading once while roles and broker are killed for ${seconds} s`, async (t) => {
      t.diagnostic(`seed ${seed} (KYMO_TEST_SEED)`)
      let sinceMs = performance.now()
      const took = (what: string): void => {
        t.diagnostic(`${what}: ${((performance.now() - sinceMs) / 1000).toFixed(1)} s`)
        sinceMs = performance.now()
      }
      const random = seeded(seed)
      const schema = newSchema(database)
      const broker = await ownBroker()
      const deployment = new Deployment(broker, schema.location)
      const senders: Sender[] = []
      try {
        await deployment.start()
        took('start')
        const [first, second] = [deployment.at(0), deployment.at(1)]
        for (const [i, { mqttPort, httpPort }] of [first, second].entries()) {
          // With a time of its own a reading is itself wherever it comes in; without one its client goes back to the door that it knows.
          const somewhere = (port: 'mqttPort' | 'httpPort') => (): number => (random() < 0.5 ? first : second)[port]
          senders.push(mqttSender({ port: somewhere('mqttPort'), device: `mqtt-timed-${i}`, ownTime: true, random: seeded(seed + 10 + i) }))
          senders.push(mqttSender({ port: () => mqttPort, device: `mqtt-untimed-${i}`, ownTime: false, random: seeded(seed + 20 + i) }))
          const run = String(seed)
          senders.push(httpSender({ port: somewhere('httpPort'), device: `http-timed-${i}`, ownTime: true, random: seeded(seed + 30 + i), run }))
          senders.push(httpSender({ port: () => httpPort, device: `http-key-${i}`, ownTime: false, random: seeded(seed + 40 + i), run }))
        }
        const killed: string[] = []
        /** What was killed comes back beside the others, which are killed meanwhile. */
        const back = new Map<number, Promise<void>>()
        let bag: number[] = []
        for (const until = performance.now() + seconds * 1000; performance.now() < until;) {
          await delay(500 + random() * 2_500)
          // Each has its turn, in ever another order.
          if (bag.length === 0) bag = Array.from({ length: roles.length + 1 }, (_, i) => i)
          const [victim = 0] = bag.splice(Math.floor(random() * bag.length), 1)
          await back.get(victim)
          killed.push(roles[victim] ?? 'broker')
          back.set(victim, victim < roles.length ? deployment.kill(victim, random() * 500) : broker.kill().then(() => broker.start()))
        }
        took('kills')
        await Promise.all(back.values())
        took('all back')
        t.diagnostic(`killed: ${killed.join(', ')}`)
        await delay(500)
        await Promise.all(senders.map((sender) => sender.finish(60_000)))
        took('all acknowledged')
        const base = deployment.any('api', random).http
        await caughtUp(base, 90_000)
        took('all stored')
        const wrong: string[] = []
        for (const { ledger } of senders) {
          const stored = await readings(base, { device: ledger.device, metric: 'seq', from: '2020-01-01T00:00:00Z' })
          wrong.push(...faults(ledger, stored))
          t.diagnostic(`${ledger.how}: ${ledger.acknowledged.size} acknowledged, ${ledger.redelivered} sent again, ${stored.length} stored`)
          assert.ok(ledger.acknowledged.size > 10, `${ledger.device} hardly sent anything`)
          const minutes = await minutesOf(base, ledger.device)
          assert.deepEqual(minutes.stored, minutes.made, `minutes of ${ledger.device}, seed ${seed}`)
        }
        assert.equal(wrong.join('\n'), '', `seed ${seed}`)
      } finally {
        for (const sender of senders) sender.stop()
        await deployment.dispose()
        await broker.close()
        await schema.remove()
      }
    })
  })
}
