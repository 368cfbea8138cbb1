import fc from 'fast-check'
import { Flag } from '../../src/core/batch.ts'
import { aggregations, statistics, type RangeQuery, type Store } from '../../src/core/ports.ts'
import { ModelStore } from './model-store.ts'
import { sameAnswer, sameSeries } from './same-answers.ts'
import { answer, signal, spanOf, type TestRow } from './store-batches.ts'
import { StoreHead } from './store-head.ts'

const s = 1e6
const t0 = 1_700_000_000_000_000

export type Step =
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

export const steps: fc.Arbitrary<Step[]> = fc.array(
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

/** How the store of a pair begins, goes on and ends. */
export interface PairSubject {
  open(): Promise<Store>
  /** `crash`: without having been closed. */
  again(store: Store, how: 'reopen' | 'crash'): Promise<Store>
  seal(store: Store): Promise<void>
  remove(store: Store): Promise<void>
}

/** A store, the model beside it, and what heads them both. */
export class Pair {
  readonly #subject: PairSubject
  #store: Store
  readonly #model = new ModelStore()
  #head = new StoreHead()
  readonly #times = [0, 0, 0, 0]
  #receivedUs = t0
  #log = 1
  #next = 0

  private constructor(subject: PairSubject, store: Store) {
    this.#subject = subject
    this.#store = store
  }

  static async open(subject: PairSubject): Promise<Pair> {
    return new Pair(subject, await subject.open())
  }

  /** All of the steps, and a look at everything; the store is gone afterwards. */
  async run(list: readonly Step[]): Promise<void> {
    try {
      for (const step of list) await this.#take(step)
      for (const step of [0, 60, 3600, 'Europe/Berlin', 'Asia/Kolkata'])
        await this.#take({ do: 'ask', from: -9000, length: 90_000, step, gaps: step === 3600, device: 4, desc: false, limit: 100_000 })
    } finally {
      await this.#subject.remove(this.#store)
    }
  }

  async #take(step: Step): Promise<void> {
    if (step.do === 'feed') await this.#feed(step)
    else if (step.do === 'ask') await this.#ask(step)
    else if (step.do === 'restart') this.#restart()
    else if (step.do === 'new log') await this.#newLog()
    else if (step.do === 'seal') await this.#subject.seal(this.#store)
    else this.#store = await this.#subject.again(this.#store, step.do)
  }

  async #feed(step: Step & { readonly do: 'feed' }): Promise<void> {
    this.#receivedUs += step.passUs
    const rows = step.rows.map(([device, how, amount]) => this.#row(device, how, amount))
    const tables = this.#head.push(rows, this.#receivedUs)
    const span = spanOf(this.#next, ++this.#next, `log-${this.#log}`)
    await this.#store.commit({ tables, span }, signal)
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
    const latest = await this.#store.latest({ tenant: '', everyTenant: true }, signal)
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
    // Without quantiles too: an adapter may make those of rows, and all others with them.
    if (query.aggregations !== undefined) await this.#compare({ ...query, aggregations: statistics })
    await this.#compare(query)
    await sameSeries(this.#store, this.#model, JSON.stringify(query))
  }

  async #compare(query: RangeQuery): Promise<void> {
    const found = await answer(this.#store, query)
    sameAnswer(found, await answer(this.#model, query), JSON.stringify(query))
    if (found.length === query.limit)
      sameAnswer(
        await answer(this.#store, { ...query, after: found.at(-1)! }),
        await answer(this.#model, { ...query, after: found.at(-1)! }),
        `after of ${JSON.stringify(query)}`,
      )
  }
}
