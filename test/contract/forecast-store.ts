import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import fc from 'fast-check'
import type { SeriesKey } from '../../src/core/batch.ts'
import { KymoError, type Code } from '../../src/core/errors.ts'
import type { ForecastStore, IssuedForecast, MonitorState, Prediction } from '../../src/core/forecast-store.ts'
import { limits } from '../../src/core/limits.ts'
import { fuzzRuns } from '../support/effort.ts'
import { ModelForecasts } from '../support/model-forecasts.ts'

/** What an adapter's test hands to the suite. */
export interface ForecastStoreSubject {
  readonly name: string
  /** A place of its own, without anything. */
  create(): Promise<{ readonly location: string; remove(): Promise<void> }>
  open(location: string): Promise<ForecastStore>
}

export const hourUs = 3600e6
export const startUs = Date.UTC(2026, 10, 30, 20) * 1000

export function issue(
  key: SeriesKey,
  o: Partial<Omit<IssuedForecast, 'key'>> & { readonly steps?: number; readonly from?: number } = {},
): IssuedForecast {
  const { steps = 24, from = 0, ...rest } = o
  const row = (offset: number): Float64Array => Float64Array.from({ length: steps }, (_, i) => from + i / 3 + offset)
  return { key, version: 1, issueUs: startUs, stepUs: hourUs, level: 0.9, mean: row(0), lower: row(-1.5), upper: row(1.5), ...rest }
}

async function rejectsWith(code: Code, work: Promise<unknown>): Promise<void> {
  await assert.rejects(work, (error: unknown) => error instanceof KymoError && error.code === code)
}

const all = { fromUs: 0, toUs: limits.timeUsMax, limit: 10_000 }

/** Pages of so many until the last one. */
async function paged(store: ForecastStore, query: Parameters<ForecastStore['predictions']>[0]): Promise<Prediction[]> {
  const found: Prediction[] = []
  for (;;) {
    const page = await store.predictions({ ...query, ...(found.length === 0 ? {} : { after: found.at(-1)! }) })
    assert.ok(page.length <= query.limit)
    found.push(...page)
    if (page.length < query.limit) return found
  }
}

/** Buffers of an adapter as the bytes that they are. */
const plain = (states: readonly MonitorState[]): unknown[] => states.map((state) => ({ ...state, bytes: [...state.bytes] }))

export function forecastStoreContract(subject: ForecastStoreSubject): void {
  describe(`ForecastStore contract: ${subject.name}`, () => {
    let location = ''
    let removeLocation = async (): Promise<void> => undefined
    let store: ForecastStore
    before(async () => {
      const created = await subject.create()
      location = created.location
      removeLocation = () => created.remove()
      store = await subject.open(location)
    })
    after(async () => {
      await store.close()
      await removeLocation()
    })
    /** A tenant of its own for each test, so that tests do not see each other. */
    let tenants = 0
    const series = (device = 'd', metric = 'temperature'): SeriesKey => ({ tenant: `t${tenants}`, device, metric })
    const next = (device?: string): SeriesKey => (tenants++, series(device))
    const model = (key: SeriesKey, state: 'champion' | 'challenger', file = [1, 2, 3]) =>
      ({
        key,
        kind: 'ridge',
        state,
        createdUs: startUs,
        card: { kind: 'ridge', skill: 0.4, 'ключ\u0000': ['…'] },
        file: Uint8Array.from(file),
      }) as const

    it('answers that there is nothing where nothing was written', async () => {
      const key = next()
      assert.deepEqual(await store.predictions({ key, ...all }), [])
      assert.deepEqual(await store.latest([key]), [])
      assert.deepEqual(await store.states([key]), [])
      assert.deepEqual(await store.versions(key), [])
      assert.deepEqual(await store.models(key.tenant, { limit: 10 }), { items: [] })
      assert.equal(await store.file(key, 1), undefined)
      await store.erase(key.tenant, key.device)
      await store.retire(key)
      await rejectsWith('model_not_found', store.promote(key, 1))
    })

    it('gives back predictions to the bit, across the turn of a month, and keeps NaN for an interval that is not known', async () => {
      const key = next()
      const mean = Float64Array.of(0.1 + 0.2, 0, 5e-324, 1.7976931348623157e308, -1e-300)
      const one = issue(key, { mean, lower: mean.map(() => Number.NaN), upper: mean.map(() => Number.NaN), version: 0, level: 0.1 + 0.2 })
      const two = issue(key, { issueUs: startUs + 1, stepUs: 1, from: 1e6, steps: 3 })
      await store.write([one, two], [])
      const found = await store.predictions({ key, ...all })
      assert.equal(found.length, 8)
      const of = found.filter((p) => p.version === 0)
      for (const [i, p] of of.entries()) {
        assert.equal(p.mean, mean[i])
        assert.deepEqual([p.issue_us, p.target_us, p.level], [startUs, startUs + i * hourUs, 0.1 + 0.2])
        assert.ok(Number.isNaN(p.lower) && Number.isNaN(p.upper))
      }
      const [, second] = found.filter((p) => p.version === 1)
      assert.deepEqual(second, {
        version: 1,
        issue_us: startUs + 1,
        target_us: startUs + 2,
        mean: two.mean[1],
        lower: two.lower[1],
        upper: two.upper[1],
        level: 0.9,
      })
    })

    it('never overwrites a prediction, adds what an issue said no word of before, and replaces states', async () => {
      const key = next()
      const state = (atUs: number, byte: number): MonitorState => ({ key, version: 1, atUs, bytes: Uint8Array.of(byte, 0, 255) })
      const before = await store.stats()
      await store.write([issue(key, { steps: 3 }), issue(key, { steps: 2, from: 50 })], [state(1, 1)])
      await store.write([issue(key, { steps: 5, from: 100, level: 0.8 })], [state(2, 2), { ...state(7, 3), version: 0 }])
      await store.write([issue(key, { steps: 5, from: 900 }), issue(key, { stepUs: hourUs / 2, steps: 4, from: 500 })], [])
      const found = await store.predictions({ key, ...all })
      assert.deepEqual(
        found.map((p) => [(p.target_us - startUs) / hourUs, Math.floor(p.mean), p.level]),
        [
          [0, 0, 0.9],
          [0.5, 500, 0.9],
          [1, 0, 0.9],
          [1.5, 501, 0.9],
          [2, 0, 0.9],
          [3, 101, 0.8],
          [4, 101, 0.8],
        ],
      )
      assert.deepEqual(plain(await store.states([key, series('nobody')])), plain([{ ...state(7, 3), version: 0 }, state(2, 2)]))
      assert.equal((await store.stats()).predictions - before.predictions, 7)
    })

    it('tells the newest issue of each series, and of each target the newest that was early enough', async () => {
      const key = next()
      const other = series('other')
      const hours = [0, 1, 2, 3]
      await store.write([...hours.map((h) => issue(key, { issueUs: startUs + h * hourUs, from: 100 * h, steps: 6 })), issue(other, { steps: 2 })], [])
      await store.write([issue(key, { issueUs: startUs + 3 * hourUs, version: 0, from: 900, steps: 2 })], [])
      const latest = await store.latest([other, series('nobody'), key])
      assert.deepEqual(
        latest.map((one) => [one.key.device, one.predictions.map((p) => `${(p.target_us - startUs) / hourUs}v${p.version}`).join(' ')]),
        [
          ['other', '0v1 1v1'],
          ['d', '3v0 3v1 4v0 4v1 5v1 6v1 7v1 8v1'],
        ],
      )
      const newest = async (leadUs?: number): Promise<string> =>
        (await store.predictions({ key, ...all, newest: leadUs === undefined ? {} : { leadUs } }))
          .map((p) => `${(p.target_us - startUs) / hourUs}:${(p.issue_us - startUs) / hourUs}v${p.version}`)
          .join(' ')
      assert.equal(await newest(), '0:0v1 1:1v1 2:2v1 3:3v1 4:3v1 5:3v1 6:3v1 7:3v1 8:3v1')
      assert.equal(await newest(3 * hourUs), '2:0v1 3:1v1 4:2v1 5:3v1 6:3v1 7:3v1 8:3v1')
    })

    it('numbers models of a series, has one champion, and lists the champion or the newest', async () => {
      const key = next('a')
      const first = await store.addModel(model(key, 'champion'))
      assert.deepEqual(first, { key, version: 1, kind: 'ridge', state: 'champion', created_us: startUs, card: model(key, 'champion').card, bytes: 3 })
      assert.equal((await store.addModel(model(key, 'challenger', []))).version, 2)
      await store.addModel(model(key, 'champion', [9]))
      const states = async (): Promise<string> => (await store.versions(key)).map((one) => `${one.version} ${one.state}`).join(', ')
      assert.equal(await states(), '3 champion, 2 challenger, 1 retired')
      assert.deepEqual({ ...(await store.promote(key, 2)), card: 0 }, { ...first, version: 2, bytes: 0, card: 0 })
      assert.equal((await store.promote(key, 2)).state, 'champion')
      assert.equal(await states(), '3 retired, 2 champion, 1 retired')
      await rejectsWith('model_not_found', store.promote(key, 4))
      assert.equal(await states(), '3 retired, 2 champion, 1 retired')
      assert.deepEqual([...((await store.file(key, 3)) ?? [])], [9])
      assert.deepEqual([...((await store.file(key, 2)) ?? [1])], [])
      await store.addModel(model(series('a', 'humidity'), 'challenger'))
      for (const device of ['\u{1f600}', '\ufffd', 'b']) await store.addModel(model(series(device), 'champion'))
      await store.write([issue(series('no-model'))], [])
      const shown: string[] = []
      for (let after: string | undefined; ;) {
        const page = await store.models(key.tenant, { limit: 2, ...(after === undefined ? {} : { after }) })
        shown.push(...page.items.map((one) => `${one.key.device} ${one.key.metric} ${one.version}`))
        after = page.next
        if (after === undefined) break
      }
      // UTF-16: the halves of a pair come before U+FFFD.
      assert.deepEqual(shown, ['a humidity 1', 'a temperature 2', 'b temperature 1', '\u{1f600} temperature 1', '\ufffd temperature 1'])
      assert.equal((await store.models(key.tenant, { limit: 9, device: 'a' })).items.length, 2)
      await store.retire(key)
      assert.equal(await states(), '3 retired, 2 retired, 1 retired')
      assert.equal((await store.models(key.tenant, { limit: 1, device: 'a' })).items[0]?.key.metric, 'humidity')
    })

    it('forgets a device and nothing else', async () => {
      const key = next()
      const [metric, neighbour] = [series('d', 'humidity'), series('d2')]
      for (const one of [key, metric, neighbour]) {
        await store.write([issue(one)], [{ key: one, version: 1, atUs: 1, bytes: Uint8Array.of(1) }])
        await store.addModel(model(one, 'champion'))
      }
      const before = await store.stats()
      await store.erase(key.tenant, 'd')
      await store.erase(key.tenant, 'd')
      for (const one of [key, metric]) {
        assert.deepEqual(await store.predictions({ key: one, ...all }), [])
        assert.deepEqual([await store.states([one]), await store.latest([one]), await store.versions(one)], [[], [], []])
        assert.equal(await store.file(one, 1), undefined)
      }
      assert.equal((await store.predictions({ key: neighbour, ...all })).length, 24)
      assert.equal((await store.versions(neighbour)).length, 1)
      const now = await store.stats()
      assert.deepEqual([before.predictions - now.predictions, before.models - now.models], [48, 2])
      // A device of that name begins anew.
      assert.equal((await store.addModel(model(key, 'champion'))).version, 1)
      await store.write([issue(key, { steps: 1 })], [])
      assert.equal((await store.predictions({ key, ...all })).length, 1)
    })

    it('refuses what cannot be kept, and keeps nothing of it', async () => {
      const key = next()
      const nan = Float64Array.of(1, Number.NaN)
      for (const one of [
        issue(key, { mean: nan, lower: nan, upper: nan }),
        issue(key, { level: 1 }),
        issue(key, { stepUs: 0 }),
        issue(key, { issueUs: -1 }),
        issue(key, { issueUs: 0.5 }),
        issue(key, { lower: nan }),
        issue(key, { version: -1 }),
        issue({ ...key, device: 'a\u0000b' }),
        issue({ ...key, device: '\ud800' }),
        issue(key, { steps: limits.forecastHorizonMax + 1 }),
      ])
        await rejectsWith('request_invalid', store.write([issue(key), one], []))
      await rejectsWith('request_invalid', store.predictions({ key, ...all, limit: 0 }))
      assert.deepEqual(await store.predictions({ key, ...all }), [])
      assert.deepEqual(await store.predictions({ key: { ...key, device: 'a\u0000b' }, ...all }), [])
    })

    it('has everything when it is opened again', async () => {
      const key = next()
      await store.write([issue(key)], [{ key, version: 1, atUs: 5, bytes: Uint8Array.of(7) }])
      await store.addModel(model(key, 'champion'))
      const read = async (): Promise<unknown> => [
        await store.predictions({ key, ...all }),
        plain(await store.states([key])),
        await store.versions(key),
        [...((await store.file(key, 1)) ?? [])],
        (({ predictions, models }) => ({ predictions, models }))(await store.stats()),
      ]
      const before = await read()
      await store.close()
      await rejectsWith('shutting_down', store.stats())
      store = await subject.open(location)
      assert.deepEqual(await read(), before)
      assert.ok((await store.stats()).bytes > 0)
    })

    it('answers as a model of it does, whatever was written, erased and expired', async () => {
      // Expiry is of all tenants.
      await store.expire({ predictionsBeforeUs: limits.timeUsMax, versions: 0 })
      const base = await store.stats()
      const devices = ['a', 'b']
      const pick = fc.record({ device: fc.constantFrom(...devices), metric: fc.constantFrom('m', 'n') })
      const at = fc.integer({ min: 0, max: 12 })
      const stepUs = fc.constantFrom(hourUs, hourUs / 2)
      const forecast = fc.record({ of: pick, version: fc.integer({ min: 0, max: 2 }), at, stepUs, steps: fc.integer({ min: 0, max: 8 }), from: at })
      const action = fc.oneof(
        { weight: 6, arbitrary: fc.record({ op: fc.constant('write' as const), forecasts: fc.array(forecast, { maxLength: 5 }) }) },
        { weight: 2, arbitrary: fc.record({ op: fc.constant('model' as const), of: pick, champion: fc.boolean() }) },
        { weight: 1, arbitrary: fc.record({ op: fc.constant('promote' as const), of: pick, version: fc.integer({ min: 1, max: 3 }) }) },
        { weight: 1, arbitrary: fc.record({ op: fc.constant('expire' as const), at, versions: fc.integer({ min: 0, max: 2 }) }) },
        { weight: 1, arbitrary: fc.record({ op: fc.constant('erase' as const), device: fc.constantFrom(...devices) }) },
      )
      const question = fc.record({
        of: pick,
        from: at,
        hours: fc.integer({ min: 0, max: 20 }),
        limit: fc.integer({ min: 1, max: 12 }),
        version: fc.option(fc.integer({ min: 0, max: 2 }), { nil: undefined }),
        issueAt: fc.option(at, { nil: undefined }),
        newest: fc.option(fc.record({ lead: fc.option(fc.integer({ min: 0, max: 5 }), { nil: undefined }) }), { nil: undefined }),
      })
      type ActionOf = typeof action extends fc.Arbitrary<infer T> ? T : never
      type QuestionOf = typeof question extends fc.Arbitrary<infer T> ? T : never
      const run = async (tenant: string, actions: readonly ActionOf[], questions: readonly QuestionOf[]): Promise<void> => {
        const same = new ModelForecasts()
        const keyOf = (of: { device: string; metric: string }): SeriesKey => ({ tenant, ...of })
        for (const [n, one] of actions.entries()) {
          if (one.op === 'write') {
            const forecasts = one.forecasts.map((f) => issue(keyOf(f.of), { ...f, issueUs: startUs + f.at * hourUs, from: 10 * n + f.from }))
            const states = one.forecasts.map((f) => ({ key: keyOf(f.of), version: f.version, atUs: n, bytes: Uint8Array.of(n) }))
            await store.write(forecasts, states)
            same.write(forecasts, states)
          } else if (one.op === 'model') {
            const added = { ...model(keyOf(one.of), one.champion ? 'champion' : 'challenger'), file: Uint8Array.of(n) }
            assert.deepEqual(await store.addModel(added), same.addModel(added))
          } else if (one.op === 'promote') {
            const promoted = await store.promote(keyOf(one.of), one.version).catch(() => undefined)
            assert.deepEqual(promoted, same.promote(keyOf(one.of), one.version))
          } else if (one.op === 'erase') {
            await store.erase(tenant, one.device)
            same.erase(tenant, one.device)
          } else {
            const expiry = { predictionsBeforeUs: startUs + one.at * hourUs, versions: one.versions }
            assert.equal(await store.expire(expiry), same.expire(expiry))
          }
        }
        const keys = devices.flatMap((device) => ['m', 'n'].map((metric) => keyOf({ device, metric })))
        assert.deepEqual(await store.latest(keys), same.latest(keys))
        assert.deepEqual(plain(await store.states(keys)), plain(same.states(keys)))
        assert.deepEqual((await store.models(tenant, { limit: 100 })).items, same.models(tenant))
        for (const key of keys) {
          assert.deepEqual(await store.versions(key), same.versions(key))
          for (const { version } of same.versions(key)) assert.deepEqual((await store.file(key, version))?.[0], same.file(key, version)?.[0])
        }
        for (const { of, from, hours, limit, version, issueAt, newest } of questions) {
          const query = {
            key: keyOf(of),
            fromUs: startUs + from * hourUs,
            toUs: startUs + (from + hours) * hourUs,
            limit,
            ...(version === undefined ? {} : { version }),
            ...(issueAt === undefined ? {} : { issueUs: startUs + issueAt * hourUs }),
            ...(newest === undefined ? {} : { newest: newest.lead === undefined ? {} : { leadUs: newest.lead * hourUs } }),
          }
          assert.deepEqual(await store.predictions(query), same.predictions(query))
          assert.deepEqual(await paged(store, query), same.predictions({ ...query, limit: 10_000 }))
        }
        const stats = await store.stats()
        assert.deepEqual({ predictions: stats.predictions, models: stats.models - base.models }, same.count())
      }
      await fc.assert(
        fc.asyncProperty(fc.array(action, { maxLength: 25 }), fc.array(question, { minLength: 3, maxLength: 6 }), async (actions, questions) => {
          const { tenant } = next()
          try {
            await run(tenant, actions, questions)
          } finally {
            for (const device of devices) await store.erase(tenant, device)
          }
        }),
        fuzzRuns(60),
      )
    })
  })
}
