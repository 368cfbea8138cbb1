import assert from 'node:assert/strict'
import test from 'node:test'
import { KymoError } from '../../src/core/errors.ts'
import type { Forecast, ForecastService } from '../../src/core/forecasts.ts'
import { fake, forecast, hour, issued, job, model, prediction } from './forecast-fake.ts'
import { serve } from './support.ts'
import type { Reply, TestReading } from './support.ts'

const at = (i: number): string => new Date((issued + i * hour) / 1e3).toISOString()
const pointerOf = ({ json }: Reply): unknown => (json['errors'] as { pointer: string }[] | undefined)?.[0]?.pointer

const readings: TestReading[] = [
  { device: 'sensor_001', metric: 'temperature', timeUs: issued, value: 20 },
  { device: 'sensor_001', metric: 'humidity', timeUs: issued, value: 50 },
  { device: 'sensor_002', metric: 'temperature_c', timeUs: issued, value: 20 },
  { device: 'sensor_003', metric: 'pressure', timeUs: issued, value: 1000 },
]

/** Only these series are there. */
function having(...names: readonly string[]): Partial<ForecastService> {
  return {
    forecast: async (_tenant, { device, metric }) => {
      if (!names.includes(`${device} ${metric}`)) throw new KymoError('series_not_found')
      return { ...forecast, device, metric, fallback: 'untrained', model: { kind: 'seasonal-naive', version: 0 } }
    },
  }
}

test('S0 POST /forecast: as printed, whichever name the temperature has', async (t) => {
  const { forecasts, asked } = fake(having('sensor_001 temperature', 'sensor_002 temperature_c'))
  const s = await serve(t, { forecasts })
  const { status, json } = await s.post('/forecast', { sensor_id: 'sensor_001', hours_ahead: 2 })
  assert.equal(status, 200)
  assert.deepEqual(json, {
    sensor_id: 'sensor_001',
    model: 'seasonal-naive',
    model_version: 0,
    generated_at: at(0),
    hours_ahead: 2,
    predictions: [
      { timestamp: at(0), temperature: 20.5, lower: 19, upper: 22 },
      { timestamp: at(1), temperature: 21, lower: null, upper: null },
    ],
  })
  assert.deepEqual(asked[0]?.[3], { horizonUs: 2 * hour })
  assert.equal((await s.post('/forecast?model=random_forest', { sensor_id: 'sensor_002' })).status, 200)
  assert.deepEqual(asked.at(-1), [
    'forecast',
    'default',
    { device: 'sensor_002', metric: 'temperature_c' },
    { horizonUs: 24 * hour, model: 'random-forest' },
  ])
  const nobody = await s.post('/forecast', { sensor_id: 'nobody', hours_ahead: 24 })
  assert.deepEqual([nobody.status, typeof nobody.json['error']], [404, 'string'])
})

test('S0 and S4: bad bodies are 422 and name the field', async (t) => {
  const { forecasts } = fake({
    forecast: () => Promise.reject(new KymoError('request_invalid', { errors: [{ pointer: '/horizon', detail: 'must be at most 24h' }] })),
    train: () => Promise.reject(new KymoError('request_invalid', { errors: [{ pointer: '/kinds/0', detail: 'is none' }] })),
  })
  const s = await serve(t, { forecasts })
  s.store.readings = readings
  const rows: readonly (readonly [path: string, body: unknown, pointer: string])[] = [
    ['/forecast', {}, '/sensor_id'],
    ['/forecast', { sensor_id: 7 }, '/sensor_id'],
    ['/forecast', { sensor_id: '' }, '/sensor_id'],
    ['/forecast', { sensor_id: 'a', hours_ahead: -1 }, '/hours_ahead'],
    ['/forecast', { sensor_id: 'a', hours_ahead: 0 }, '/hours_ahead'],
    ['/forecast', { sensor_id: 'a', hours_ahead: 1.5 }, '/hours_ahead'],
    ['/forecast', { sensor_id: 'a', hours_ahead: '24' }, '/hours_ahead'],
    ['/forecast', { sensor_id: 'a', hours_ahead: 1e9 }, '/hours_ahead'],
    ['/forecast', { sensor_id: 'a', hours_ahead: 100 }, '/hours_ahead'],
    ['/forecast', [], ''],
    ['/predict', { sensor_id: 'a', horizon: -1 }, '/horizon'],
    ['/predict', { sensor_id: 'a', horizon: 'long' }, '/horizon'],
    ['/predict', { sensor_id: 'a', horizon: 100 }, '/horizon'],
    ['/predict', {}, '/sensor_id'],
    ['/model/train', { sensor_id: 7 }, '/sensor_id'],
    ['/model/train', { sensor_id: 'sensor_001', algorithm: 'magic' }, '/algorithm'],
    ['/model/train', [], ''],
    ['/models/sensor_001/train', { algorithm: 3 }, '/algorithm'],
    ['/models/sensor_001/train', { algorithm: 'magic' }, '/algorithm'],
  ]
  for (const [path, body, pointer] of rows) {
    const reply = await s.post(path, body)
    assert.deepEqual([reply.status, pointerOf(reply), typeof reply.json['error']], [422, pointer, 'string'], `${path} ${JSON.stringify(body)}`)
  }
  for (const [path, pointer] of [
    ['/predictions', '/sensor_id'],
    ['/predictions?sensor_id=a&from=x', '/from'],
    ['/predictions?sensor_id=a&from=now&to=-1h', '/to'],
    ['/predictions?sensor_id=a&limit=0', '/limit'],
    ['/predictions/latest?limit=-1', '/limit'],
    ['/models?limit=201', '/limit'],
    ['/model/status?sensor=a', '/sensor'],
  ] as const) {
    const reply = await s.call(path)
    assert.deepEqual([reply.status, pointerOf(reply)], [400, pointer], path)
  }
})

test('S0 POST /model/train: {} or no body are all temperatures; one sensor, one algorithm; 404 without any', async (t) => {
  const { forecasts, asked } = fake()
  const s = await serve(t, { forecasts })
  assert.deepEqual([(await s.post('/model/train', {})).status], [404])
  s.store.readings = readings
  const all = [
    { device: 'sensor_001', metric: 'temperature' },
    { device: 'sensor_002', metric: 'temperature_c' },
  ]
  const bare = await s.call('/model/train', { method: 'POST' })
  assert.deepEqual([bare.status, bare.headers.get('location'), bare.json], [202, `/api/v1/jobs/${job.id}`, { status: 'training', job_id: job.id }])
  await s.post('/model/train', {})
  await s.post('/model/train', { sensor_id: 'sensor_002', algorithm: 'RandomForestRegressor' })
  assert.deepEqual(asked, [
    ['train', 'default', { series: all }],
    ['train', 'default', { series: all }],
    ['train', 'default', { series: [all[1]], kinds: ['random-forest'] }],
  ])
  assert.equal((await s.post('/model/train', { sensor_id: 'sensor_003' })).status, 404)
})

test('S0 GET /model/status: of a sensor, or of what was trained last', async (t) => {
  const late = { ...model, device: 'b', version: 1, kind: 'lstm', created_us: issued + hour }
  const { accuracy: _, ...fresh } = late
  const { forecasts, asked } = fake({
    models: async (_tenant, { after }) =>
      after === undefined ? { items: [model, { ...late, metric: 'pressure', created_us: issued * 2 }], next: 'p' } : { items: [fresh] },
    latestTraining: () => job,
  })
  const s = await serve(t, { forecasts })
  const newest = await s.call('/model/status')
  assert.deepEqual(newest.json, {
    is_trained: true,
    sensor_id: 'b',
    algorithm: 'lstm',
    last_trained: at(1),
    training_samples: 720,
    metrics: { mae: 0.4, rmse: 0.5, r2: 0.9 },
    features: ['last_48_values', 'hour_sin', 'hour_cos'],
    job: { id: job.id, state: 'waiting', progress: { series_total: 1, share: 0 } },
  })
  const one = await s.call('/model/status?sensor_id=a')
  assert.deepEqual([one.json['algorithm'], one.json['metrics']], ['ridge', { mae: 0.5, rmse: 0.7, r2: 0.9 }])
  assert.deepEqual(asked.at(-1), ['latestTraining', 'default', { device: 'a', metric: 'temperature' }])
  const forest = fake({ models: async () => ({ items: [{ ...model, kind: 'random-forest' }] }) })
  const { json } = await (await serve(t, { forecasts: forest.forecasts })).call('/model/status')
  for (const name of ['hour', 'hour_sin', 'weekday_cos', 'month', 'day_of_year', 'lag_1h', 'lag_24h', 'rolling_mean_24h', 'rolling_std_3h'])
    assert.ok((json['features'] as string[]).includes(name), name)
  const none = await serve(t)
  assert.deepEqual((await none.call('/model/status')).json, {
    is_trained: false,
    sensor_id: null,
    algorithm: null,
    last_trained: null,
    training_samples: null,
    metrics: { mae: null, rmse: null, r2: null },
    features: [],
    job: null,
  })
})

const document = {
  sensor_id: 'sensor_001',
  predicted_temperature: null,
  predicted_humidity: null,
  temperature_lower: null,
  temperature_upper: null,
  humidity_lower: null,
  humidity_upper: null,
  actual_temperature: null,
  actual_humidity: null,
}

test('S4 POST /predict: both metrics in one document a target, stored', async (t) => {
  const { forecasts, asked } = fake(having('sensor_001 temperature', 'sensor_001 humidity', 'dry temperature_c'))
  const s = await serve(t, { forecasts })
  const { json } = await s.post('/predict', { sensor_id: 'sensor_001', horizon: 2 })
  assert.deepEqual(json, {
    sensor_id: 'sensor_001',
    horizon: 2,
    models: { temperature: 'seasonal-naive', humidity: 'seasonal-naive' },
    predictions: [
      {
        ...document,
        target_time: at(0),
        predicted_temperature: 20.5,
        temperature_lower: 19,
        temperature_upper: 22,
        predicted_humidity: 20.5,
        humidity_lower: 19,
        humidity_upper: 22,
        model_version: 0,
        created_at: at(0),
      },
      { ...document, target_time: at(1), predicted_temperature: 21, predicted_humidity: 21, model_version: 0, created_at: at(0) },
    ],
  })
  assert.ok(asked.every(([, , , o]) => (o as { store?: boolean }).store === true))
  const dry = await s.post('/predict', { sensor_id: 'dry' })
  assert.deepEqual(dry.json['models'] as unknown, { temperature: 'seasonal-naive', humidity: null })
  assert.equal((await s.post('/predict', { sensor_id: 'nobody' })).status, 404)
})

test('S4 POST /predict: too little of both is 409, of one is null', async (t) => {
  const refuse = (code: 'too_little_data' | 'bug'): Partial<ForecastService> => ({
    forecast: async (_tenant, { device, metric }) => {
      if (metric === 'humidity' && device === 'half') return { ...forecast, device, metric }
      throw new KymoError(code, { facts: { missing: 5 } })
    },
  })
  const s = await serve(t, { forecasts: fake(refuse('too_little_data')).forecasts })
  assert.equal((await s.post('/predict', { sensor_id: 'a' })).status, 409)
  assert.deepEqual((await s.post('/predict', { sensor_id: 'half' })).json['models'], { temperature: null, humidity: 'ridge' })
  const broken = await serve(t, { forecasts: fake(refuse('bug')).forecasts })
  assert.equal((await broken.post('/predict', { sensor_id: 'half' })).status, 500)
})

test('S4 GET /predictions: joined by target, page after page none lost and none twice', async (t) => {
  // Temperature has targets 0 to 9, humidity 0, 2, 4 …, 18; pages of the service hold at most three.
  const targets: Readonly<Record<string, readonly number[]>> = {
    temperature: Array.from({ length: 10 }, (_, i) => i),
    humidity: Array.from({ length: 10 }, (_, i) => 2 * i),
  }
  const { forecasts } = fake({
    predictions: async (_tenant, { metric }, { fromUs, limit }) => {
      const all = targets[metric]
      if (all === undefined) throw new KymoError('series_not_found')
      const rest = all.filter((i) => issued + i * hour >= fromUs)
      const items = rest.slice(0, Math.min(limit, 3)).map((i) => prediction(i, i))
      return { items, ...(rest.length > items.length ? { next: 'more' } : {}) }
    },
  })
  const s = await serve(t, { forecasts })
  const seen: unknown[][] = []
  let cursor: string | null = ''
  for (let pages = 0; cursor !== null && pages < 100; pages++) {
    const reply: Reply = await s.call(`/predictions?sensor_id=a&from=2026-01-01&limit=4${cursor === '' ? '' : `&cursor=${cursor}`}`)
    assert.equal(reply.status, 200, reply.text)
    for (const item of reply.json as unknown as Record<string, unknown>[])
      seen.push([item['target_time'], item['predicted_temperature'], item['actual_humidity'], item['predicted_humidity']])
    cursor = reply.headers.get('x-next-cursor')
  }
  const expected = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18].map((i) => [
    at(i),
    i < 10 ? 20 + i : null,
    i % 2 === 0 ? i : null,
    i % 2 === 0 ? 20 + i : null,
  ])
  assert.deepEqual(seen, expected)
})

test('S4 GET /predictions/latest: no sensor is cut in two, none comes twice', async (t) => {
  const all: Forecast[] = ['a', 'b', 'c'].flatMap((device) =>
    ['humidity', 'pressure', 'temperature'].map((metric) => ({ ...forecast, device, metric })),
  )
  const { forecasts } = fake({
    latest: async (_tenant, { device, after, limit }) => {
      const from = after === undefined ? 0 : Number(after)
      const rest = all.filter((one, i) => i >= from && (device === undefined || one.device === device))
      return { items: rest.slice(0, limit), ...(rest.length > limit ? { next: String(from + limit) } : {}) }
    },
  })
  const s = await serve(t, { forecasts })
  for (const limit of [1, 2, 4, 5, 100]) {
    const seen: unknown[] = []
    let cursor: string | null = ''
    for (let pages = 0; cursor !== null && pages < 100; pages++) {
      const reply: Reply = await s.call(`/predictions/latest?limit=${limit}${cursor === '' ? '' : `&cursor=${cursor}`}`)
      for (const item of reply.json as unknown as Record<string, unknown>[])
        seen.push([item['sensor_id'], item['predicted_temperature'], item['predicted_humidity']])
      cursor = reply.headers.get('x-next-cursor')
    }
    const rows = ['a', 'b', 'c'].flatMap((id) => [20.5, 21].map((mean) => [id, mean, mean]))
    assert.deepEqual(seen, rows, `limit ${limit}`)
  }
})

test('S4 GET /models and /models/{id}: version, time, errors, drift', async (t) => {
  const { forecasts } = fake({
    versions: async (_tenant, { metric }) => {
      if (metric !== 'temperature') throw new KymoError('series_not_found')
      return [{ ...model, version: 3, state: 'challenger', kind: 'random-forest' }, model]
    },
    models: async () => ({ items: [model, { ...model, metric: 'pressure' }] }),
  })
  const s = await serve(t, { forecasts })
  const item = {
    sensor_id: 'a',
    metric: 'temperature',
    version: 2,
    algorithm: 'ridge',
    state: 'champion',
    trained_at: at(0),
    training_samples: 720,
    matured: 24,
    mae: 0.5,
    rmse: 0.7,
    bias: -0.1,
    skill: 0.5,
    coverage: 0.875,
    drift: true,
    drift_statistic: 12,
    drift_threshold: 10,
    drift_since: at(1),
  }
  assert.deepEqual((await s.call('/models')).json, [item])
  assert.deepEqual((await s.call('/models/a')).json, {
    sensor_id: 'a',
    version: 2,
    algorithm: 'ridge',
    trained_at: at(0),
    mae: 0.5,
    rmse: 0.7,
    drift: true,
    models: [{ ...item, version: 3, state: 'challenger', algorithm: 'random-forest' }, item],
  })
  const none = await serve(t)
  assert.equal((await none.call('/models/nobody')).status, 404)
  await none.devices.create('default', { id: 'new' })
  assert.deepEqual((await none.call('/models/new')).json['models'], [])
})

test('S4 POST /models/{id}/train: temperature and humidity of the sensor', async (t) => {
  const { forecasts, asked } = fake()
  const s = await serve(t, { forecasts })
  s.store.readings = readings
  const made = await s.post('/models/sensor_001/train', {})
  assert.deepEqual([made.status, made.json], [202, { status: 'training', sensor_id: 'sensor_001', job_id: job.id }])
  assert.deepEqual((asked[0]![2] as { series: { metric: string }[] }).series.map(({ metric }) => metric).sort(), ['humidity', 'temperature'])
  await s.post('/models/sensor_001/train', { algorithm: 'LSTM' })
  assert.deepEqual((asked[1]![2] as { kinds: string[] }).kinds, ['lstm'])
  assert.equal((await s.post('/models/nobody/train', {})).status, 404)
})
