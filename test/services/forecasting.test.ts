import assert from 'node:assert/strict'
import process from 'node:process'
import { test } from 'node:test'
import { eventually, settled } from '../support/api.ts'
import { newSchema } from '../support/postgres-stores.ts'
import { RunningServer } from '../support/server.ts'
import { dailySeries, hourUs, mondayUs } from '../support/synthetic-series.ts'

const database = process.env['KYMO_TEST_POSTGRES_URL']

/** Training gives way to the server: on busy cores it takes its time. */
const patienceMs = 120_000

test(
  'readings, metadata, predictions and models on PostgreSQL: trained, issued, matured, and all of it there after a restart',
  { timeout: 300_000, skip: database === undefined ? 'KYMO_TEST_POSTGRES_URL is not set (npm run test:services)' : false },
  async () => {
    const { location, remove } = newSchema(database ?? '')
    const env = {
      KYMO_STORE_URL: location,
      KYMO_META_URL: location,
      KYMO_FORECAST_URL: location,
      KYMO_FORECAST_POLL_S: '1',
      KYMO_FORECAST_KINDS: 'ridge',
    }
    let server = await RunningServer.start({ env })
    const ask = async (method: string, where: string, body?: unknown): Promise<{ status: number; json: Record<string, unknown> }> => {
      const sent = body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }
      const answer = await fetch(new URL(where, server.http), { method, ...sent })
      return { status: answer.status, json: (await answer.json()) as Record<string, unknown> }
    }
    const send = async (values: Float64Array, from: number): Promise<void> => {
      const items = Array.from(values, (value, i) => ({
        device: 'd',
        time: new Date((mondayUs + (from + i) * hourUs) / 1e3).toISOString(),
        values: { m: value },
      }))
      assert.equal((await ask('POST', '/api/v1/telemetry', items)).status, 202)
      await settled(server.http)
    }
    const accuracy = (): ReturnType<typeof ask> => ask('GET', '/api/v1/forecasts/d/m/accuracy')
    try {
      const { values } = dailySeries(800, 3)
      await send(values.subarray(0, 700), 0)
      const { json: job } = await ask('POST', '/api/v1/models/train', { series: [{ device: 'd', metric: 'm' }] })
      const ended = await eventually(async () => {
        const { json } = await ask('GET', `/api/v1/jobs/${String(job['id'])}`)
        return json['finished_at'] === null ? undefined : json
      }, patienceMs)
      assert.deepEqual([ended['state'], (ended['progress'] as Record<string, unknown>)['trained']], ['done', 1])
      await send(values.subarray(700), 700)
      // 100 hours after the first issue have ended.
      const wanted = 100 * 24 - (24 * 23) / 2
      const found = await eventually(async () => ((await accuracy()).json['n'] === wanted ? (await accuracy()).json : undefined), patienceMs)
      assert.ok((found['mae'] as number) > 0 && (found['coverage'] as number) > 0.75, JSON.stringify(found))
      const refused = await ask('POST', '/api/v1/exports', {})
      assert.deepEqual([refused.status, refused.json['code']], [501, 'not_offered'])
      await server.stop()
      server = await server.restart()
      assert.deepEqual((await accuracy()).json, found)
      const { json: jobs } = await ask('GET', '/api/v1/jobs?kind=train')
      assert.deepEqual(
        (jobs['items'] as { id: string }[]).map(({ id }) => id),
        [job['id']],
      )
    } finally {
      await server.dispose()
      await remove()
    }
  },
)
