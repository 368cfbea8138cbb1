import assert from 'node:assert/strict'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { test } from 'node:test'
import { readModel } from '../../src/compute/forecast/registry.ts'
import { KymoError } from '../../src/core/errors.ts'
import type { Forecast } from '../../src/core/forecasts.ts'
import { SeededRandom } from '../../src/core/seeded-random.ts'
import { dailySeries, hourUs, mondayUs, seriesOf } from '../support/synthetic-series.ts'
import { env, ForecastWorld, hourly, tenant } from './forecast-world.ts'
import { openTrainer } from '../../src/roles/forecast/trainer.ts'

const d1 = { device: 'd1', metric: 'm' }
const key = { tenant, ...d1 }
const patience = { timeout: 120_000 }

function isWhole({ points }: Forecast): boolean {
  return points.every(({ mean, lower = 0, upper = 0 }) => [mean, lower, upper].every(Number.isFinite))
}

function codeOf(code: string): (thrown: unknown) => boolean {
  return (thrown) => thrown instanceof KymoError && thrown.code === code
}

test('without a model seasonal naive answers, with intervals from its own past', patience, async (t) => {
  const world = await ForecastWorld.open(t)
  const { values } = dailySeries(500)
  await world.feed(values)
  const said = await world.role.service.forecast(tenant, d1, {})
  // The last reading's step has not ended.
  assert.deepEqual(
    [said.model, said.fallback, said.issued_us, said.points.length],
    [{ kind: 'seasonal-naive', version: 0 }, 'untrained', mondayUs + 499 * hourUs, 24],
  )
  assert.deepEqual(
    said.points.map(({ mean }) => mean),
    Array.from(values.subarray(475, 499)),
  )
  assert.ok(said.points.every(({ mean, lower = 99, upper = -99 }) => lower < mean && mean < upper))
  assert.deepEqual([await world.forecasts.stats().then(({ predictions }) => predictions), (await world.predictions()).length], [0, 0])
  const kept = await world.role.service.forecast(tenant, d1, { store: true, horizonUs: 3 * hourUs, level: 0.5 })
  assert.deepEqual([kept.points.length, kept.level, (await world.predictions()).length], [3, 0.5, 3])
  const then = await world.role.service.forecast(tenant, d1, { atUs: mondayUs + 300.5 * hourUs })
  assert.deepEqual([then.issued_us, then.points[0]?.mean], [mondayUs + 300 * hourUs, values[276]])
  const page = await world.role.service.latest(tenant, { limit: 10 })
  assert.deepEqual([page.items.length, page.items[0]?.points.length, page.items[0]?.fallback], [1, 3, 'untrained'])
})

test('what is wrong with a series is said, and no NaN is served', patience, async (t) => {
  const world = await ForecastWorld.open(t)
  const { service } = world.role
  await assert.rejects(service.forecast(tenant, d1, {}), codeOf('series_not_found'))
  await world.feed([20], { device: 'one' })
  await assert.rejects(
    service.forecast(tenant, { device: 'one', metric: 'm' }, {}),
    (thrown) => thrown instanceof KymoError && thrown.code === 'too_little_data' && thrown.details.facts?.['missing'] === 1,
  )
  await world.fed.feed(
    [
      { device: 'words', timeUs: mondayUs, text: 'on' },
      { device: 'words', timeUs: mondayUs + 2 * hourUs, text: 'off' },
    ],
    mondayUs + 2 * hourUs,
  )
  await assert.rejects(service.forecast(tenant, { device: 'words', metric: 'm' }, {}), codeOf('too_little_data'))

  await world.feed(
    hourly(400, () => 5),
    { device: 'constant' },
  )
  await world.feed(
    hourly(400, (i) => (i === 390 ? 1e9 : 20 + Math.sin(i / 4))),
    { device: 'outlier' },
  )
  await world.feed(
    hourly(400, (i) => (i % 3 === 0 ? 20 + (i % 24) : Number.NaN)),
    { device: 'gaps' },
  )
  // Many readings in an hour, some of the same time.
  const often = Array.from({ length: 2_000 }, (_, i) => ({ device: 'often', timeUs: mondayUs + Math.floor(i / 2) * 720e6, value: i % 24 }))
  await world.fed.feed(often, often.at(-1)!.timeUs)
  for (const device of ['constant', 'outlier', 'gaps', 'often']) {
    const said = await service.forecast(tenant, { device, metric: 'm' }, {})
    assert.ok(isWhole(said), device)
    assert.ok(
      said.points.every(({ mean }) => Math.abs(mean) < 100),
      device,
    )
  }
  const job = await world.train({ series: ['constant', 'outlier', 'gaps', 'often', 'words', 'one'].map((device) => ({ device, metric: 'm' })) })
  assert.deepEqual([job.state, job.progress['series_done'], job.progress['series_total']], ['done', 6, 6])
  const { trained, kept_naive, refused, refusals } = job.progress
  assert.equal(Number(trained) + Number(kept_naive) + Number(refused), 6)
  assert.ok(
    Array.isArray(refusals) && refusals.every(({ reason, detail }) => typeof reason === 'string' && String(detail).length > 10),
    JSON.stringify(refusals),
  )
  for (const device of ['constant', 'outlier', 'gaps', 'often'])
    assert.ok(isWhole(await service.forecast(tenant, { device, metric: 'm' }, {})), device)
  // A sensor that has stopped: asked for the present, there is nothing to go by.
  const now = mondayUs + 4_000 * hourUs
  await assert.rejects(service.forecast(tenant, { device: 'gaps', metric: 'm' }, { atUs: now }), codeOf('too_little_data'))
  await assert.rejects(service.forecast(tenant, { device: 'gaps', metric: 'm' }, { model: 7 }), codeOf('model_not_found'))
  await assert.rejects(service.train(tenant, { kinds: ['oracle'] }), codeOf('request_invalid'))
  await assert.rejects(service.train(tenant, { series: [{ device: 'nobody', metric: 'm' }] }), codeOf('series_not_found'))
})

test('what is trained is forecast step by step, as its model and what was known say, and errors are what they are', patience, async (t) => {
  const world = await ForecastWorld.open(t, { timeZone: 'Europe/Berlin' })
  const { service } = world.role
  const { values } = dailySeries(1_500)
  await world.feed(values.subarray(0, 1_200))
  const job = await world.train()
  assert.deepEqual([job.state, job.progress['trained'], job.progress['share']], ['done', 1, 1])
  const [model] = await service.versions(tenant, d1)
  assert.deepEqual([model?.kind, model?.state, model?.card['to_us'], model?.card['steps']], ['ridge', 'champion', mondayUs + 1_199 * hourUs, 1_199])
  assert.equal((await service.latest(tenant, { limit: 5 })).items[0]?.issued_us, mondayUs + 1_199 * hourUs)
  await world.feed(values.subarray(1_200), { from: 1_200 })
  await world.role.look()
  // Independently: the file's own model over the values that were fed.
  const ridge = readModel(await service.file(tenant, d1, 1)).model
  const stored = await world.predictions()
  assert.equal(stored.length, 301 * 24)
  let [n, absolute, squared, sum, naive, within, recent, recentNaive] = [0, 0, 0, 0, 0, 0, 0, 0]
  const means = new Float64Array(24)
  for (let at = 1_199; at <= 1_499; at++) {
    assert.equal(ridge.predict(seriesOf(values.subarray(0, at), { timeZone: 'Europe/Berlin' }), means), undefined)
    const own = stored.filter(({ issue_us: issue }) => issue === mondayUs + at * hourUs)
    assert.deepEqual(
      own.map(({ mean }) => mean),
      Array.from(means),
      `issue ${at}`,
    )
    for (const [h, { mean, lower, upper, target_us: target }] of own.entries()) {
      assert.equal(target, mondayUs + (at + h) * hourUs)
      if (at + h > 1_498) continue
      const actual = values[at + h]!
      n++
      absolute += Math.abs(mean - actual)
      squared += (mean - actual) ** 2
      sum += mean - actual
      const doing = Math.abs(values[at + h - 24]! - actual)
      naive += doing
      if (actual >= lower && actual <= upper) within++
      recent += Math.abs(mean - actual)
      recentNaive += doing
    }
  }
  const found = await service.accuracy(tenant, d1)
  const wanted = {
    mae: absolute / n,
    rmse: Math.sqrt(squared / n),
    bias: sum / n,
    naive_mae: naive / n,
    skill: 1 - recent / recentNaive,
    coverage: within / n,
  }
  assert.equal(found.n, n)
  for (const name of ['mae', 'rmse', 'bias', 'naive_mae', 'skill'] as const)
    assert.ok(Math.abs((found[name] ?? 0) - wanted[name]) < 1e-9, `${name} ${found[name]} ${wanted[name]}`)
  assert.ok(Math.abs((found.coverage ?? 0) - wanted.coverage) < 1e-3 && wanted.coverage > 0.8, `${found.coverage} ${wanted.coverage}`)
  // Joined with what was measured, page by page.
  const joined: number[] = []
  for (let after: string | undefined; ;) {
    const page = await service.predictions(tenant, d1, {
      fromUs: mondayUs + 1_490 * hourUs,
      toUs: mondayUs + 1_505 * hourUs,
      newest: {},
      limit: 4,
      ...(after === undefined ? {} : { after }),
    })
    joined.push(...page.items.map(({ actual }) => actual ?? Number.NaN))
    after = page.next
    if (after === undefined) break
  }
  assert.deepEqual(joined, [...values.subarray(1_490, 1_499), ...Array.from({ length: 6 }, () => Number.NaN)])
  const crossing = await service.crossing(tenant, d1, { threshold: 21, side: 'above', withinUs: 12 * hourUs })
  assert.ok(crossing.reason === 'across_already' || (crossing.probability ?? -1) > 0, JSON.stringify(crossing))
  const never = await service.crossing(tenant, d1, { threshold: 200, side: 'above', withinUs: 12 * hourUs })
  assert.ok((never.probability ?? 1) < 0.01 && never.calibration?.rate === 0, JSON.stringify(never))

  // The same work again changes nothing; nor does a start in between.
  await world.again()
  await world.role.look()
  assert.deepEqual(await world.predictions(), stored)
  assert.deepEqual(await world.role.service.accuracy(tenant, d1), found)
})

test('a write that fails is made again, and what comes of it is the same', patience, async (t) => {
  const { values } = dailySeries(900, 5)
  const lived = async (fails: boolean): Promise<readonly unknown[]> => {
    const world = await ForecastWorld.open(t)
    await world.feed(values.subarray(0, 600))
    await world.train()
    await world.feed(values.subarray(600), { from: 600 })
    if (fails) {
      let writes = 0
      await world.again((store) => ({
        ...store,
        write: (...a) => (++writes % 2 === 1 ? Promise.reject(new KymoError('disk_full')) : store.write(...a)),
      }))
      let failures = 0
      for (let i = 0; i < 20; i++) await world.role.look().catch(() => failures++)
      assert.ok(failures > 1 && writes > 3, `${failures} of ${writes}`)
    } else await world.role.look()
    return [await world.predictions(), await world.forecasts.states([key])]
  }
  assert.deepEqual(await lived(true), await lived(false))
})

test('a child that dies fails its job and nothing else; a job that is cancelled ends its child', patience, async (t) => {
  const trainer = openTrainer(env)
  t.after(() => trainer.stop())
  const { values } = dailySeries(4_000)
  const task = {
    type: 'train',
    startUs: mondayUs,
    stepUs: hourUs,
    values,
    timeZone: 'UTC',
    horizon: 24,
    season: 24,
    seed: 1,
    level: 0.9,
    alone: false,
    starts: [0],
    about: {},
  } as const
  const dear = { ...task, kinds: ['lstm', 'random-forest'] }
  const signal = new AbortController().signal
  const dying = trainer.run(dear, { signal, onProgress: () => process.kill(trainer.pid!, 'SIGKILL') })
  await assert.rejects(dying, /process that trains ended with SIGKILL/)
  const cancel = new AbortController()
  let pid: number | undefined
  const cancelled = trainer.run(dear, {
    signal: cancel.signal,
    onProgress: () => {
      pid = trainer.pid
      cancel.abort(new Error('enough'))
    },
  })
  await assert.rejects(cancelled, /enough/)
  for (let i = 0; i < 500 && isAlive(pid!); i++) await delay(10)
  assert.equal(isAlive(pid!), false)
  const done = await trainer.run({ ...task, kinds: ['ridge'] }, { signal, onProgress: () => undefined })
  assert.equal(done.outcome, 'model')
  // Memory has a cap: what needs more dies alone, and is told so.
  const small = openTrainer(env, 8)
  t.after(() => small.stop())
  await assert.rejects(small.run(dear, { signal, onProgress: () => undefined }), /process that trains ended with .*needed more than 8 MB/)
})

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

test('a job goes on after a restart with the series that are not done', patience, async (t) => {
  const world = await ForecastWorld.open(t)
  const devices = ['a', 'b', 'c', 'd', 'e']
  for (const [i, device] of devices.entries()) await world.feed(dailySeries(700, i + 1).values, { device })
  const series = devices.map((device) => ({ device, metric: 'm' }))
  const { id } = await world.role.service.train(tenant, { series })
  const doneNow = (): number => Number(world.jobs.get(tenant, id)?.progress['series_done'] ?? 0)
  for (let i = 0; i < 3_000 && doneNow() < 2; i++) await delay(5)
  assert.ok(doneNow() >= 2)
  await world.again()
  const job = await world.ended(id)
  assert.deepEqual([job.state, job.attempts, job.progress['series_done'], job.progress['trained']], ['done', 2, 5, 5])
  for (const one of series) assert.equal((await world.role.service.versions(tenant, one)).length, 1, one.device)
  assert.equal(world.role.service.latestTraining(tenant)?.id, id)
  assert.equal(world.role.service.latestTraining(tenant, { device: 'nobody', metric: 'm' }), undefined)
})

test('a kind that is asked for is a challenger unless it wins, and can be promoted', patience, async (t) => {
  const world = await ForecastWorld.open(t)
  const { service } = world.role
  await world.feed(dailySeries(1_500).values)
  await world.train()
  await world.train({ series: [d1], kinds: ['seasonal-naive'] })
  const states = async (): Promise<(readonly [string, string])[]> =>
    (await service.versions(tenant, d1)).map(({ kind, state }) => [kind, state] as const)
  assert.deepEqual(await states(), [
    ['seasonal-naive', 'challenger'],
    ['ridge', 'champion'],
  ])
  assert.equal((await service.forecast(tenant, d1, {})).model.version, 1)
  assert.equal((await service.forecast(tenant, d1, { model: 2 })).model.kind, 'seasonal-naive')
  assert.equal((await service.forecast(tenant, d1, { model: 'ridge' })).model.version, 1)
  await assert.rejects(service.promote(tenant, d1, 3), codeOf('model_not_found'))
  await service.promote(tenant, d1, 2)
  assert.deepEqual(await states(), [
    ['seasonal-naive', 'champion'],
    ['ridge', 'retired'],
  ])
  await world.role.look()
  assert.equal((await service.latest(tenant, { limit: 1 })).items[0]?.model.version, 2)
  const job = await world.ended((await service.backtest(tenant, { ...d1, kinds: ['ridge', 'holt-winters'] })).id)
  assert.deepEqual([job.state, (job.files.result ?? 0) > 1_000], ['done', true])
})

test('what is being trained when its device is erased is not kept', patience, async (t) => {
  const world = await ForecastWorld.open(t)
  await world.feed(dailySeries(6_000).values)
  const { id } = await world.role.service.train(tenant, { series: [d1], kinds: ['ridge', 'holt-winters'] })
  for (let i = 0; i < 3_000 && world.jobs.get(tenant, id)?.progress['share'] === undefined; i++) await delay(5)
  await world.erase('d1')
  const job = await world.ended(id)
  assert.deepEqual([job.state, job.progress['refused'], (await world.forecasts.versions(key)).length], ['done', 1, 0])
})

test('metrics that settings name are followed and trained by themselves', patience, async (t) => {
  const world = await ForecastWorld.open(t, { anyMetric: true, follows: (metric) => metric === 'm', retrainUs: 10_000 * hourUs })
  await world.feed(dailySeries(1_000).values)
  await world.feed(dailySeries(1_000).values, { metric: 'other' })
  await world.role.look()
  const [job] = world.jobs.list(tenant, { kind: 'train', limit: 5 }).items
  assert.deepEqual(job?.parameters, { series: [d1], reason: 'new' })
  assert.equal((await world.ended(job.id)).state, 'done')
  await world.role.look()
  assert.equal(world.jobs.list(tenant, { kind: 'train', limit: 5 }).items.length, 1)
  assert.equal((await world.role.service.models(tenant, { limit: 5 })).items.length, 1)
})

test('drift is found, answered by training, and errors are as they were before', patience, async (t) => {
  const random = new SeededRandom(9)
  // The day turns round at step 1,200: what the model has learned of hours is wrong from there on.
  const values = hourly(2_100, (i) => 20 + 5 * Math.sin((2 * Math.PI * i) / (i < 1_200 ? 24 : 17)) + 0.5 * random.normal())
  const world = await ForecastWorld.open(t, { retrainUs: 300 * hourUs })
  const { service } = world.role
  await world.feed(values.subarray(0, 1_100))
  await world.train()
  let alarmed: number | undefined
  let changed: number | undefined
  for (let at = 1_100; at < values.length; at += 25) {
    await world.feed(values.subarray(at, at + 25), { from: at })
    await world.role.look()
    for (const { id } of world.jobs.list(tenant, { kind: 'train', limit: 50 }).items) await world.ended(id)
    const { drift, version } = await service.accuracy(tenant, d1)
    if (version === 1 && drift.since_us !== undefined) alarmed ??= (drift.since_us - mondayUs) / hourUs
    if (version !== 1) changed ??= at
  }
  assert.ok(alarmed !== undefined && alarmed >= 1_200 && alarmed <= 1_250, `found at ${alarmed}`)
  assert.ok(changed !== undefined && changed > alarmed && changed <= 1_600, `another model at ${changed}`)
  const reasons = world.jobs.list(tenant, { kind: 'train', limit: 50 }).items.map(({ parameters }) => parameters['reason'])
  assert.ok(reasons.includes('drift') && reasons.length <= 10, reasons.join())
  const stored = await world.predictions()
  const errorBetween = (from: number, to: number): number => {
    const off = stored.flatMap(({ target_us: target, mean }) => {
      const i = (target - mondayUs) / hourUs
      return i >= from && i < to ? [Math.abs(mean - values[i]!)] : []
    })
    return off.reduce((a, b) => a + b, 0) / off.length
  }
  const [before, meanwhile, after] = [errorBetween(1_130, 1_190), errorBetween(1_210, 1_260), errorBetween(1_900, 2_090)]
  assert.ok(meanwhile > 4 * before && after < 1.5 * before, `${before} ${meanwhile} ${after}, ${reasons.join()}`)
})
