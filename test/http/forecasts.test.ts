import assert from 'node:assert/strict'
import test from 'node:test'
import { KymoError } from '../../src/core/errors.ts'
import { fake, hour, issued, job, prediction } from './forecast-fake.ts'
import type { Fake } from './forecast-fake.ts'
import { serve } from './support.ts'

/* What the routes make of the service's answers, and what they hand to it; over the real service: e2e. */

test('a forecast: names as they are encoded, what is not known is null, what was asked reaches the service', async (t) => {
  const { forecasts, asked } = fake()
  const s = await serve(t, { forecasts })
  const { status, json } = await s.call('/api/v1/forecasts/hall%2F1/a%20b%25?horizon=6h&level=0.8&model=3&at=2026-01-02T00:00:00Z')
  assert.equal(status, 200)
  assert.deepEqual(json, {
    device: 'hall/1',
    metric: 'a b%',
    model: { kind: 'ridge', version: 3 },
    fallback: null,
    detail: null,
    issued_at: '2026-01-02T00:00:00.000Z',
    step_s: 3600,
    level: 0.9,
    points: [
      { time: '2026-01-02T00:00:00.000Z', mean: 20.5, lower: 19, upper: 22 },
      { time: '2026-01-02T01:00:00.000Z', mean: 21, lower: null, upper: null },
    ],
  })
  const o = { horizonUs: 6 * hour, level: 0.8, model: 3, atUs: issued }
  assert.deepEqual(asked, [['forecast', 'default', { device: 'hall/1', metric: 'a b%' }, o]])
  await s.call('/api/v1/forecasts/a/b?model=ridge')
  assert.deepEqual(asked[1]?.[3], { model: 'ridge' })
  assert.equal((await s.call('/api/v1/forecasts/%E0%A4%A/b')).status, 400)
})

test('lists are paged by what the service says', async (t) => {
  const { forecasts, asked } = fake()
  const s = await serve(t, { forecasts })
  const first = await s.call('/api/v1/forecasts?limit=1')
  const cursor = String(first.json['next_cursor'])
  const second = await s.call(`/api/v1/forecasts?limit=1&cursor=${cursor}`)
  assert.equal(second.json['next_cursor'], null)
  assert.deepEqual(asked.at(-1), ['latest', 'default', { limit: 1, after: 'page 2' }])
  assert.equal((await s.call(`/api/v1/forecasts?device=a&limit=1&cursor=${cursor}`)).status, 400)
})

test('predictions: JSON, NDJSON and CSV; relative times are those of the first page', async (t) => {
  const { forecasts, asked } = fake({
    predictions: async (_tenant, _series, { after }) =>
      after === undefined ? { items: [prediction(0, 20.25), prediction(1)], next: 'p2' } : { items: [] },
  })
  const s = await serve(t, { forecasts })
  const path = '/api/v1/forecasts/a/temperature/predictions'
  const first = await s.call(`${path}?from=-24h&lead=2h&version=1`)
  const row = { time: '2026-01-02T00:00:00.000Z', issued_at: '2026-01-02T00:00:00.000Z', version: 1, mean: 20, lower: null, upper: null, level: 0.9 }
  assert.deepEqual((first.json['items'] as unknown[])[0], { ...row, actual: 20.25 })
  assert.equal(first.headers.get('x-truncated'), 'true')
  const o = asked[0]?.[3] as { fromUs: number; toUs: number; newest: unknown; version: number; limit: number }
  assert.deepEqual([o.newest, o.version, o.limit], [{ leadUs: 2 * hour }, 1, 1000])
  const second = await s.call(`${path}?from=-24h&lead=2h&version=1&cursor=${String(first.json['next_cursor'])}`)
  assert.deepEqual(second.json, { items: [], next_cursor: null })
  assert.deepEqual(asked[1]?.[3], { ...o, after: 'p2' })
  const csv = await s.call(path, { headers: { accept: 'text/csv' } })
  assert.equal(csv.headers.get('content-type'), 'text/csv; charset=utf-8; header=present')
  assert.deepEqual(csv.text.split('\r\n').slice(0, 2), [
    'time,issued_at,version,mean,lower,upper,level,actual',
    '2026-01-02T00:00:00.000Z,2026-01-02T00:00:00.000Z,1,20,,,0.9,20.25',
  ])
  const lines = (await s.call(`${path}?format=ndjson&newest=true`)).text.trim().split('\n')
  assert.deepEqual(JSON.parse(lines[1]!), { ...row, time: '2026-01-02T01:00:00.000Z', mean: 21, actual: null })
  assert.deepEqual((asked.at(-1)![3] as { newest: unknown }).newest, {})
})

test('crossing: one side, and a reason where there is no number', async (t) => {
  const { forecasts, asked } = fake({
    crossing: async (_tenant, series, { threshold, side, withinUs }) => ({
      ...series,
      model: { kind: 'ridge', version: 3 },
      threshold,
      side,
      within_us: withinUs,
      issued_us: issued,
      reason: 'no_skill',
      detail: 'It knows none.',
      calibration: { n: 60, rate: 0, brier: 0, skill: Number.NaN, error: 0, bins: [{ n: 0, said: Number.NaN, came: Number.NaN }] },
    }),
  })
  const s = await serve(t, { forecasts })
  const { json } = await s.call('/api/v1/forecasts/a/temperature/crossing?below=-2.5&within=6h')
  assert.deepEqual(asked[0]?.[3], { threshold: -2.5, side: 'below', withinUs: 6 * hour })
  assert.deepEqual(
    [json['probability'], json['reason'], json['detail'], json['within_s'], json['calibration']],
    [null, 'no_skill', 'It knows none.', 21_600, { n: 60, rate: 0, brier: 0, skill: null, error: 0, bins: [{ n: 0, said: null, came: null }] }],
  )
})

test('models: list, versions, card, file, promotion', async (t) => {
  const { forecasts, asked } = fake()
  const s = await serve(t, { forecasts })
  const { json } = await s.call('/api/v1/models/a/temperature/2')
  assert.deepEqual(
    [json['version'], json['state'], json['created_at'], (json['accuracy'] as { drift: unknown }).drift],
    [2, 'champion', '2026-01-02T00:00:00.000Z', { statistic: 12, threshold: 10, since: '2026-01-02T01:00:00.000Z' }],
  )
  assert.deepEqual((await s.call('/api/v1/models')).json, { items: [json], next_cursor: null })
  assert.deepEqual((await s.call('/api/v1/models/a/temperature')).json, { items: [json], next_cursor: null })
  const missing = await s.call('/api/v1/models/a/temperature/7')
  assert.deepEqual([missing.status, missing.json['code']], [404, 'model_not_found'])
  const file = await s.call('/api/v1/models/a/temperature/2/file')
  assert.deepEqual([file.text, file.headers.get('content-type')], ['KYMO', 'application/octet-stream'])
  assert.equal((await s.post('/api/v1/models/a/temperature/2/promote', '')).status, 200)
  assert.deepEqual(asked.at(-1), ['promote', 'default', { device: 'a', metric: 'temperature' }, 2])
})

test('training and testing are jobs; both, and promoting, need admin', async (t) => {
  const { forecasts, asked } = fake()
  const s = await serve(t, { forecasts })
  const made = await s.post('/api/v1/models/train', { series: [{ device: 'a', metric: 'm' }], kinds: ['ridge'], step: '15m', horizon: '6h', seed: 7 })
  assert.deepEqual([made.status, made.headers.get('location'), made.json['kind']], [202, `/api/v1/jobs/${job.id}`, 'train'])
  assert.deepEqual(asked[0], [
    'train',
    'default',
    { series: [{ device: 'a', metric: 'm' }], kinds: ['ridge'], step_us: 900e6, horizon_us: 6 * hour, seed: 7 },
  ])
  assert.equal((await s.post('/api/v1/models/train', {})).status, 202)
  assert.deepEqual(asked[1], ['train', 'default', {}])
  assert.equal((await s.post('/api/v1/models/backtest', { device: 'a', metric: 'm' })).json['kind'], 'backtest')

  const guarded = await serve(t, { forecasts, auth: 'token' })
  const { token } = await guarded.tokens.create({ name: 'r', scopes: ['read', 'ingest'] })
  const headers = { authorization: `Bearer ${token}` }
  for (const path of ['/api/v1/models/train', '/api/v1/models/backtest', '/api/v1/models/a/m/1/promote', '/model/train', '/models/a/train']) {
    assert.equal((await guarded.post(path, {}, headers)).status, 403, path)
  }
  assert.equal((await guarded.call('/api/v1/models', { headers })).status, 200)
})

test('bad input: each refusal names the field', async (t) => {
  const { forecasts } = fake()
  const s = await serve(t, { forecasts })
  const series = '/api/v1/forecasts/a/m'
  const queries: readonly (readonly [path: string, pointer: string])[] = [
    [`${series}?horizon=0h`, '/horizon'],
    [`${series}?horizon=-1h`, '/horizon'],
    [`${series}?horizon=1.5h`, '/horizon'],
    [`${series}?horizon=999999999999w`, '/horizon'],
    [`${series}?horizon=NaN`, '/horizon'],
    [`${series}?horizon=`, '/horizon'],
    [`${series}?level=0`, '/level'],
    [`${series}?level=1`, '/level'],
    [`${series}?level=NaN`, '/level'],
    [`${series}?level=-0.9`, '/level'],
    [`${series}?level=0.9&level=0.8`, '/level'],
    [`${series}?at=yesterday`, '/at'],
    [`${series}?model=`, '/model'],
    [`${series}?model=${'x'.repeat(65)}`, '/model'],
    [`${series}?hours=24`, '/hours'],
    [`${series}/crossing?within=6h`, '/above'],
    [`${series}/crossing?above=1&below=2&within=6h`, '/above'],
    [`${series}/crossing?above=1`, '/within'],
    [`${series}/crossing?above=NaN&within=6h`, '/above'],
    [`${series}/crossing?above=Infinity&within=6h`, '/above'],
    [`${series}/crossing?above=1&within=0s`, '/within'],
    [`${series}/crossing?above=1&within=-6h`, '/within'],
    [`${series}/predictions?from=now&to=-1h`, '/to'],
    [`${series}/predictions?lead=soon`, '/lead'],
    [`${series}/predictions?version=-1`, '/version'],
    [`${series}/predictions?version=1.5`, '/version'],
    [`${series}/predictions?limit=0`, '/limit'],
    [`${series}/predictions?limit=10001`, '/limit'],
    [`${series}/predictions?cursor=x`, '/cursor'],
    [`${series}/predictions?newest=maybe`, '/newest'],
    [`${series}/predictions?format=xml`, '/format'],
    [`${series}/accuracy?level=0.9`, '/level'],
    ['/api/v1/forecasts?limit=201', '/limit'],
    ['/api/v1/models?limit=-1', '/limit'],
    ['/api/v1/models/a/m/latest', '/version'],
    ['/api/v1/models/a/m/-1/file', '/version'],
    ['/api/v1/models/a/m/1.0', '/version'],
    ['/api/v1/jobs?kind=forecast', '/kind'],
  ]
  for (const [path, pointer] of queries) {
    const { status, json } = await s.call(path)
    assert.deepEqual([status, (json['errors'] as { pointer: string }[] | undefined)?.[0]?.pointer], [400, pointer], path)
  }
  const one = { device: 'a', metric: 'm' }
  const bodies: readonly (readonly [path: string, body: unknown, pointer: string])[] = [
    ['/api/v1/models/train', [], ''],
    ['/api/v1/models/train', { series: [] }, '/series'],
    ['/api/v1/models/train', { series: 'a/m' }, '/series'],
    ['/api/v1/models/train', { series: [{ device: 'a' }] }, '/series/0/metric'],
    ['/api/v1/models/train', { series: [{ ...one, model: 1 }] }, '/series/0/model'],
    ['/api/v1/models/train', { series: Array.from({ length: 1001 }, () => one) }, '/series'],
    ['/api/v1/models/train', { kinds: 'ridge' }, '/kinds'],
    ['/api/v1/models/train', { kinds: [''] }, '/kinds/0'],
    ['/api/v1/models/train', { step: 3600 }, '/step'],
    ['/api/v1/models/train', { step: '0h' }, '/step'],
    ['/api/v1/models/train', { horizon: '-1d' }, '/horizon'],
    ['/api/v1/models/train', { seed: -1 }, '/seed'],
    ['/api/v1/models/train', { seed: 4_294_967_296 }, '/seed'],
    ['/api/v1/models/train', { kind: ['ridge'] }, '/kind'],
    ['/api/v1/models/backtest', {}, '/device'],
    ['/api/v1/models/backtest', { device: 'a', metric: '' }, '/metric'],
  ]
  for (const [path, body, pointer] of bodies) {
    const { status, json } = await s.post(path, body)
    assert.deepEqual([status, (json['errors'] as { pointer: string }[] | undefined)?.[0]?.pointer], [400, pointer], `${path} ${JSON.stringify(body)}`)
  }
})

test('what the service refuses keeps its status and facts', async (t) => {
  const refusing = (code: 'too_little_data' | 'series_not_found' | 'model_not_found'): Fake =>
    fake({ forecast: () => Promise.reject(new KymoError(code, { detail: 'It is so.', facts: { missing: 17 } })) })
  for (const [code, status] of [
    ['too_little_data', 409],
    ['series_not_found', 404],
    ['model_not_found', 404],
  ] as const) {
    const s = await serve(t, { forecasts: refusing(code).forecasts })
    const answer = await s.call('/api/v1/forecasts/a/b')
    assert.deepEqual([answer.status, answer.json['code'], (answer.json['facts'] as { missing: number }).missing], [status, code, 17])
  }
})
