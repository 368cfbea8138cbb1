import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { gzipSync } from 'node:zlib'
import mqtt from 'mqtt'
import { buckets, readings, settled } from '../test/support/api.ts'
import { RunningServer } from '../test/support/server.ts'
import { airQualityRows, expected, intelIsThere, intelRows, type Row, type SeriesFigures } from './expected/series.ts'

const hourMs = 3_600_000

/** Relative to the size of the numbers: both sides add up thousands of doubles in different orders. */
function close(actual: number, wanted: number, what: string): void {
  assert.ok(Math.abs(actual - wanted) <= 1e-9 * Math.max(1, Math.abs(wanted)), `${what}: ${actual} instead of ${wanted}`)
}

async function checkPoints(base: string, series: ReadonlyMap<string, SeriesFigures>): Promise<void> {
  for (const [key, figures] of series) {
    const [device, metric] = key.split('/') as [string, string]
    const stored = await readings(base, { device, metric })
    assert.equal(stored.length, figures.count, `count of ${key}`)
    const different = stored.filter((reading) => figures.points.get(reading.timeMs) !== reading.value)
    assert.deepEqual(different.slice(0, 3), [], `values of ${key}`)
    assert.equal(new Set(stored.map((reading) => reading.timeMs)).size, figures.count, `times of ${key}`)
  }
}

async function checkHours(base: string, device: string, series: ReadonlyMap<string, SeriesFigures>): Promise<void> {
  const aggregations = ['count', 'avg', 'min', 'max', 'first', 'last', 'sum']
  const hours = await buckets(base, { device, step: '1h', aggregations })
  const wanted = [...series].filter(([key]) => key.startsWith(`${device}/`))
  assert.equal(
    hours.length,
    wanted.reduce((sum, [, figures]) => sum + figures.hours.size, 0),
    `hours of ${device}`,
  )
  for (const bucket of hours) {
    const hour = series.get(`${bucket.device}/${bucket.metric}`)?.hours.get(bucket.timeMs)
    const what = `${bucket.device}/${bucket.metric} at ${new Date(bucket.timeMs).toISOString()}`
    assert.ok(hour !== undefined, what)
    assert.equal(bucket['count'], hour.count, `count of ${what}`)
    assert.equal(bucket['min'], hour.min, `min of ${what}`)
    assert.equal(bucket['max'], hour.max, `max of ${what}`)
    assert.equal(bucket['first'], hour.first[1], `first of ${what}`)
    assert.equal(bucket['last'], hour.last[1], `last of ${what}`)
    close(bucket['avg'] as number, hour.mean, `mean of ${what}`)
    close(bucket['sum'] as number, hour.mean * hour.count, `sum of ${what}`)
  }
}

/** One bucket over the whole series, at a width that no rollup has. */
async function checkWhole(base: string, device: string, series: ReadonlyMap<string, SeriesFigures>): Promise<void> {
  const days = await buckets(base, { device, step: '1d', aggregations: ['count', 'min', 'max', 'sum'] })
  for (const [key, figures] of series) {
    if (!key.startsWith(`${device}/`)) continue
    const own = days.filter((day) => `${day.device}/${day.metric}` === key)
    const total = (name: string): number => own.reduce((sum, day) => sum + (day[name] as number), 0)
    assert.equal(total('count'), figures.count, `count over the days of ${key}`)
    close(total('sum') / total('count'), figures.mean, `mean over the days of ${key}`)
    assert.equal(Math.min(...own.map((day) => day['min'] as number)), figures.min, `min of ${key}`)
    assert.equal(Math.max(...own.map((day) => day['max'] as number)), figures.max, `max of ${key}`)
  }
}

describe('Intel Lab motes through MQTT, QoS 1', { skip: intelIsThere ? false : '../shared/data/intel is not there' }, () => {
  let server: RunningServer
  const rows = intelIsThere ? intelRows() : []
  const figures = intelIsThere ? expected(rows) : new Map<string, SeriesFigures>()
  before(async () => {
    server = await RunningServer.start()
  })
  after(async () => server.dispose())

  it('takes 9,600 messages of 40 motes, every one acknowledged', async () => {
    assert.equal(rows.length, 9_600)
    const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${server.mqttPort}`, { clientId: 'intel-lab', protocolVersion: 4 })
    const send = (row: Row): Promise<unknown> =>
      client.publishAsync(`devices/${row.device}/telemetry`, JSON.stringify({ time: new Date(row.timeMs).toISOString(), values: row.values }), {
        qos: 1,
      })
    for (let i = 0; i < rows.length; i += 500) await Promise.all(rows.slice(i, i + 500).map(send))
    await client.endAsync()
    await settled(server.http)
  })
  it('gives back every value, once', async () => {
    assert.equal(figures.size, 80)
    await checkPoints(server.http, figures)
  })
  it('agrees with the figures per hour and over the whole', async () => {
    for (const device of ['mote-1', 'mote-23', rows.at(-1)!.device]) {
      await checkHours(server.http, device, figures)
      await checkWhole(server.http, device, figures)
    }
  })
  it('counts the same when all is sent again, also with another order of messages', async () => {
    const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${server.mqttPort}`, { clientId: 'intel-again', protocolVersion: 4 })
    const again = rows.filter((row) => row.device === 'mote-1').toReversed()
    await Promise.all(
      again.map((row) =>
        client.publishAsync('portfolio/telemetry', JSON.stringify({ device_id: row.device, timestamp: row.timeMs, ...row.values }), { qos: 1 }),
      ),
    )
    await client.endAsync()
    await settled(server.http)
    const one = new Map([...figures].filter(([key]) => key.startsWith('mote-1/')))
    await checkPoints(server.http, one)
    await checkHours(server.http, 'mote-1', one)
  })
})

describe('UCI air quality through HTTP', () => {
  let server: RunningServer
  const rows = airQualityRows()
  const figures = expected(rows)
  const present = rows.filter((row) => Object.keys(row.values).length > 0)
  const document = (row: Row): object => ({ device: row.device, time: new Date(row.timeMs).toISOString(), values: row.values })

  const post = async (body: Uint8Array | string, headers: Readonly<Record<string, string>>): Promise<void> => {
    const answer = await fetch(`${server.http}/api/v1/telemetry`, { method: 'POST', headers, body })
    assert.equal(answer.status, 202, await answer.text())
  }

  before(async () => {
    server = await RunningServer.start()
  })
  after(async () => server.dispose())

  it('takes a third each as NDJSON, as an array and as gzip', async () => {
    assert.equal(rows.length, 9_357)
    const third = Math.ceil(present.length / 3)
    const lines = present.slice(0, third).map((row) => JSON.stringify(document(row)))
    await post(`${lines.join('\n')}\n`, { 'content-type': 'application/x-ndjson' })
    await post(JSON.stringify(present.slice(third, 2 * third).map(document)), { 'content-type': 'application/json' })
    const last = Buffer.from(JSON.stringify(present.slice(2 * third).map(document)))
    await post(new Uint8Array(gzipSync(last)), { 'content-type': 'application/json', 'content-encoding': 'gzip' })
    await settled(server.http)
  })
  it('gives back every value that is not missing, once', async () => {
    assert.equal(figures.size, 13)
    await checkPoints(server.http, figures)
  })
  it('agrees with the figures per hour and over the whole', async () => {
    await checkHours(server.http, 'roadside', figures)
    await checkWhole(server.http, 'roadside', figures)
  })
  it('answers a part of it: one metric, half open in time', async () => {
    const [from, to] = [Date.UTC(2004, 3, 1), Date.UTC(2004, 3, 2)]
    const part = await readings(server.http, { device: 'roadside', metric: 'T', from, to })
    const wanted = [...figures.get('roadside/T')!.points].filter(([time]) => time >= from && time < to)
    assert.deepEqual(
      part.map((reading) => [reading.timeMs, reading.value]),
      wanted,
    )
    assert.ok(part.every((reading) => reading.timeMs % hourMs === 0))
  })
  it('is the same after a restart', async () => {
    const ended = await server.stop()
    assert.equal(ended.code, 0, ended.output)
    server = await server.restart()
    await checkPoints(server.http, figures)
  })
})
