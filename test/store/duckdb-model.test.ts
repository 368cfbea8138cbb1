import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { Flag } from '../../src/core/batch.ts'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { aggregations, type RangeQuery } from '../../src/core/ports.ts'
import { openDuckdbStore, type DuckdbStore } from '../../src/store/duckdb/store.ts'
import { ModelStore } from '../support/model-store.ts'
import { sameAnswer, sameSeries } from '../support/same-answers.ts'
import { answer, signal, spanOf, type TestRow } from '../support/store-batches.ts'
import { StoreHead } from '../support/store-head.ts'
import { modelRuns } from '../support/effort.ts'

const s = 1e6
const t0 = 1_700_000_000_000_000

type Step =
  | { readonly do: 'feed'; readonly rows: readonly (readonly [device: number, how: number, amount: number])[]; readonly passUs: number }
  | { readonly do: 'reopen' | 'crash' | 'restart' | 'new log' | 'seal' }
  | {
      readonly do: 'ask'
      readonly from: number
      readonly length: number
      /** Seconds, or days of a zone. */
      readonly step: number | string
      readonly gaps: boolean
      readonly device: number
      readonly desc: boolean
      readonly limit: number
    }

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 10,
      arbitrary: fc.record({
        do: fc.constant('feed' as const),
        rows: fc.array(fc.tuple(fc.nat(3), fc.nat(19), fc.nat(1000)), { minLength: 1, maxLength: 40 }),
        passUs: fc.nat(400).map((x) => x * s),
      }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('reopen' as const, 'crash' as const, 'restart' as const, 'new log' as const) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('seal' as const) }) },
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant('ask' as const),
        from: fc.integer({ min: -9000, max: 20_000 }),
        length: fc.nat(20_000),
        step: fc.constantFrom<(number | string)[]>(0, 7, 60, 120, 3600, 5400, 7200, 'Europe/Berlin', 'Asia/Kolkata', 'America/St_Johns'),
        gaps: fc.boolean(),
        device: fc.nat(4),
        desc: fc.boolean(),
        limit: fc.constantFrom(3, 50, 100_000),
      }),
    },
  ),
  { minLength: 5, maxLength: 40 },
)

/** A store, the model beside it, and what heads them both. */
class Pair {
  store!: DuckdbStore
  dir: string
  readonly #root = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-pair-'))
  readonly #model = new ModelStore()
  #head = new StoreHead()
  readonly #times = [0, 0, 0, 0]
  #receivedUs = t0
  #log = 1
  #next = 0
  #lives = 0
  readonly #dense: number
  readonly #sketchedFromUs: number | undefined

  /** `dense`: readings that make a minute worth keeping; the generator makes few, so that keeping begins and ends often. `sketched`: quantiles of any range are made of sketches. */
  constructor(dense: number, sketched: boolean) {
    this.#sketchedFromUs = sketched ? 1 : undefined
    this.#dense = dense
    this.dir = path.join(this.#root, 'store-0')
  }

  async open(): Promise<void> {
    this.store = await openDuckdbStore({
      dir: this.dir,
      env: nodeEnv(silentLogger),
      memoryLimitMb: 128,
      checkpointBytes: 20_000,
      sealBytes: 0,
      ...(this.#sketchedFromUs === undefined ? {} : { sketchedFromUs: this.#sketchedFromUs }),
      keepMinutes: { dense: this.#dense, sparse: 1, minutes: 2 },
    })
  }

  async take(step: Step): Promise<void> {
    if (step.do === 'feed') await this.#feed(step)
    else if (step.do === 'ask') await this.#ask(step)
    else if (step.do === 'restart') this.#restart()
    else if (step.do === 'new log') await this.#newLog()
    else if (step.do === 'seal') await this.store.seal()
    else {
      // As kill -9 leaves them: the files as they are between two commits.
      const dir = path.join(this.#root, `store-${++this.#lives}`)
      if (step.do === 'crash') fs.cpSync(this.dir, dir, { recursive: true, filter: (file) => !file.endsWith('LOCK') })
      await this.store.close()
      if (step.do === 'crash') this.dir = dir
      await this.open()
    }
  }

  async end(): Promise<void> {
    await this.store.close()
    fs.rmSync(this.#root, { recursive: true, force: true })
  }

  async #feed(step: Step & { readonly do: 'feed' }): Promise<void> {
    this.#receivedUs += step.passUs
    const rows = step.rows.map(([device, how, amount]) => this.#row(device, how, amount))
    const tables = this.#head.push(rows, this.#receivedUs)
    const span = spanOf(this.#next, ++this.#next, `log-${this.#log}`)
    await this.store.commit({ tables, span }, signal)
    await this.#model.commit({ tables, span }, signal)
  }

  /** Mostly a little later than the device's last; sometimes the same again, corrected, reordered, late, ahead of its time, or text. */
  #row(device: number, how: number, amount: number): TestRow {
    const last = this.#times[device]!
    const value = amount / 8
    const at = (timeUs: number, more: Partial<TestRow> = {}): TestRow => ({ device: `d${device}`, timeUs: t0 + timeUs, value, ...more })
    if (how === 0) return at(last)
    if (how === 1) return at(Math.max(0, last - amount * 0.1 * s))
    if (how === 2) return at(Math.max(0, last - amount * 9 * s), { meta: `{"n":${amount}}` })
    if (how === 3) return at(this.#receivedUs - t0 + 301 * s + amount * 3 * s)
    if (how === 4) return { device: `d${device}`, metric: 'text', timeUs: t0 + last, text: `words ${amount % 3}` }
    const step = how < 8 ? amount * 4 * s : how < 12 ? amount * 0.2 * s : amount * 0.01 * s
    // Nobody is so far ahead that all is: received time follows.
    if (t0 + last + step > this.#receivedUs + 299 * s) this.#receivedUs = t0 + last + step - 299 * s
    this.#times[device] = last + step
    return at(last + step)
  }

  #restart(): void {
    this.#head.restore(this.#head.states(0n))
  }

  async #newLog(): Promise<void> {
    this.#log++
    this.#next = 0
    this.#head = new StoreHead()
    const latest = await this.store.latest({ tenant: '', everyTenant: true }, signal)
    for (let i = 0; i < latest.rows; i++)
      if (((latest.flags?.[i] ?? 0) & Flag.clockAhead) === 0) this.#head.seed(latest.keys[latest.series[i]!]!, latest.timeUs[i]!)
  }

  async #ask(step: Step & { readonly do: 'ask' }): Promise<void> {
    const query: RangeQuery = {
      match: { tenant: 'default', ...(step.device === 4 ? {} : { devices: [`d${step.device}`] }) },
      fromUs: t0 + step.from * s,
      toUs: t0 + (step.from + step.length) * s,
      order: step.desc ? 'desc' : 'asc',
      limit: step.limit,
      ...(typeof step.step === 'string' ? { calendar: { unit: 'day', timeZone: step.step }, aggregations } : {}),
      ...(typeof step.step === 'string' || step.step === 0 ? {} : { stepUs: step.step * s, aggregations }),
      ...(step.gaps && step.step !== 0 && step.step !== 7 ? { gaps: 'null' } : {}),
    }
    const found = await answer(this.store, query)
    sameAnswer(found, await answer(this.#model, query), JSON.stringify(query))
    if (found.length === step.limit)
      sameAnswer(
        await answer(this.store, { ...query, after: found.at(-1)! }),
        await answer(this.#model, { ...query, after: found.at(-1)! }),
        `after of ${JSON.stringify(query)}`,
      )
    await sameSeries(this.store, this.#model, JSON.stringify(query))
  }
}

test('whatever is committed and asked, the DuckDB store answers as the model does', async () => {
  await fc.assert(
    fc.asyncProperty(steps, fc.integer({ min: 1, max: 3 }), fc.boolean(), async (list, dense, sketched) => {
      const pair = new Pair(dense, sketched)
      await pair.open()
      try {
        for (const step of list) await pair.take(step)
        for (const step of [0, 60, 3600, 'Europe/Berlin', 'Asia/Kolkata'])
          await pair.take({ do: 'ask', from: -9000, length: 90_000, step, gaps: step === 3600, device: 4, desc: false, limit: 100_000 })
      } finally {
        await pair.end()
      }
    }),
    modelRuns(8),
  )
})
