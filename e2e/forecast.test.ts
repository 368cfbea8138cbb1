import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { gunzipSync } from 'node:zlib'
import mqtt from 'mqtt'
import { SeededRandom } from '../src/core/seeded-random.ts'
import { eventually, settled } from '../test/support/api.ts'
import { RunningServer } from '../test/support/server.ts'
import { intelIsThere, intelRows } from './expected/series.ts'

/** Training gives way to the server (nice 10): where others keep all cores busy, what takes a second alone takes a minute. */
const patienceMs = 120_000
const minuteMs = 60_000
const hourMs = 60 * minuteMs

interface Reading {
  readonly device: string
  readonly timeMs: number
  readonly values: Readonly<Record<string, number>>
}

interface Prediction {
  readonly time: string
  readonly issued_at: string
  readonly version: number
  readonly mean: number
  readonly lower: number | null
  readonly upper: number | null
  readonly actual: number | null
}

interface Accuracy {
  readonly version: number
  readonly n: number
  readonly mae: number
  readonly rmse: number
  readonly bias: number
  readonly naive_mae: number
  readonly coverage: number
  readonly drift: { readonly since: string | null }
}

interface Job {
  readonly id: string
  readonly state: string
  readonly parameters: { readonly reason?: string }
  readonly progress: Readonly<Record<string, unknown>>
  readonly error: unknown
}

/** The product as anybody meets it: MQTT in, HTTP out. */
class Client {
  readonly #server: RunningServer
  readonly #mqtt: mqtt.MqttClient

  private constructor(server: RunningServer, client: mqtt.MqttClient) {
    this.#server = server
    this.#mqtt = client
  }

  static async to(server: RunningServer): Promise<Client> {
    return new Client(server, await mqtt.connectAsync(`mqtt://127.0.0.1:${server.mqttPort}`, { clientId: 'replay', protocolVersion: 4 }))
  }

  async send(rows: readonly Reading[]): Promise<void> {
    const one = ({ device, timeMs, values }: Reading): Promise<unknown> =>
      this.#mqtt.publishAsync(`devices/${device}/telemetry`, JSON.stringify({ time: new Date(timeMs).toISOString(), values }), { qos: 1 })
    for (let i = 0; i < rows.length; i += 500) await Promise.all(rows.slice(i, i + 500).map(one))
    await settled(this.#server.http)
  }

  async get<T>(where: string): Promise<T> {
    const answer = await fetch(new URL(where, this.#server.http))
    const text = await answer.text()
    assert.equal(answer.status, 200, `${where}: ${text.slice(0, 500)}`)
    return JSON.parse(text) as T
  }

  async train(body: object): Promise<Job> {
    const headers = { 'content-type': 'application/json' }
    const answer = await fetch(new URL('/api/v1/models/train', this.#server.http), { method: 'POST', headers, body: JSON.stringify(body) })
    assert.equal(answer.status, 202, await answer.clone().text())
    const { id } = (await answer.json()) as Job
    await this.#quiet()
    const job = await this.get<Job>(`/api/v1/jobs/${id}`)
    assert.deepEqual([job.state, job.error], ['done', null])
    return job
  }

  jobs(): Promise<readonly Job[]> {
    return this.get<{ items: Job[] }>('/api/v1/jobs?kind=train&limit=100').then(({ items }) => items)
  }

  async #quiet(): Promise<void> {
    await eventually(
      async () => ((await this.jobs()).every(({ state }) => state !== 'waiting' && state !== 'running') ? true : undefined),
      patienceMs,
    )
  }

  /** Until the forecast of this moment is stored, and what it gave rise to is trained. */
  async forecastAt(device: string, metric: string, timeMs: number): Promise<void> {
    const wanted = new Date(timeMs).toISOString()
    await eventually(async () => {
      const { items } = await this.get<{ items: { metric: string; issued_at: string }[] }>(`/api/v1/forecasts?device=${device}`)
      return items.some((one) => one.metric === metric && one.issued_at === wanted) ? true : undefined
    }, patienceMs)
    await this.#quiet()
  }

  async predictions(device: string, metric: string, fromMs: number, toMs: number): Promise<Prediction[]> {
    const found: Prediction[] = []
    const range = `from=${new Date(fromMs).toISOString()}&to=${new Date(toMs).toISOString()}&limit=5000`
    for (let cursor: string | null = ''; cursor !== null;) {
      const page: { items: Prediction[]; next_cursor: string | null } = await this.get(
        `/api/v1/forecasts/${device}/${metric}/predictions?${range}${cursor === '' ? '' : `&cursor=${cursor}`}`,
      )
      found.push(...page.items)
      cursor = page.next_cursor
    }
    return found
  }

  accuracy(device: string, metric: string): Promise<Accuracy> {
    return this.get(`/api/v1/forecasts/${device}/${metric}/accuracy`)
  }

  end(): Promise<void> {
    return this.#mqtt.endAsync()
  }
}

/** What the errors are, from stored predictions and the file's own values; of the version that the accuracy is of. */
function check(
  found: Accuracy,
  stored: readonly Prediction[],
  o: { readonly actual: (ms: number) => number | undefined; readonly seasonMs: number; readonly endMs: number },
): number {
  let [n, absolute, squared, sum, naive, intervals, within] = [0, 0, 0, 0, 0, 0, 0]
  for (const { time, issued_at: issued, version, mean, lower, upper, actual: joined } of stored) {
    const timeMs = Date.parse(time)
    const actual = o.actual(timeMs)
    assert.ok(Number.isFinite(mean) && (lower === null || upper === null || lower <= upper), time)
    if (timeMs >= o.endMs) assert.equal(joined, null, `${time} has not ended`)
    else assert.ok(joined !== null && actual !== undefined && Math.abs(joined - actual) < 1e-6, `${time}: ${joined} for ${actual}`)
    if (version !== found.version || actual === undefined || timeMs >= o.endMs) continue
    n++
    absolute += Math.abs(mean - actual)
    squared += (mean - actual) ** 2
    sum += mean - actual
    let back = timeMs - o.seasonMs
    while (back >= Date.parse(issued)) back -= o.seasonMs
    naive += Math.abs(o.actual(back)! - actual)
    if (lower === null || upper === null) continue
    intervals++
    if (actual >= lower && actual <= upper) within++
  }
  assert.equal(found.n, n)
  const wanted = { mae: absolute / n, rmse: Math.sqrt(squared / n), bias: sum / n, naive_mae: naive / n }
  for (const name of ['mae', 'rmse', 'bias', 'naive_mae'] as const)
    assert.ok(Math.abs(found[name] - wanted[name]) <= 1e-6 * Math.max(1, wanted[name]), `${name}: ${found[name]} for ${wanted[name]}`)
  assert.ok(Math.abs(found.coverage - within / intervals) < 0.002, `coverage: ${found.coverage} for ${within / intervals}`)
  return n
}

const settings = ['--forecast-poll-s', '1', '--forecast-kinds', 'ridge']

describe('forecasts of replayed data', () => {
  let server: RunningServer
  let client: Client
  before(async () => {
    server = await RunningServer.start({ args: [...settings, '--forecast-retrain', '30d'] })
    client = await Client.to(server)
  })
  after(async () => {
    await client.end()
    await server.dispose()
  })

  it('ETTh1: trained, forecast step by step, matured; stored errors are those of the file', async () => {
    const file = path.join(import.meta.dirname, '../test/data/ett/ETTh1.csv.gz')
    const lines = gunzipSync(readFileSync(file)).toString('utf8').trim().split('\n').slice(1, 3_301)
    const rows = lines.map((line): Reading => {
      const cells = line.split(',')
      return {
        device: 'transformer',
        timeMs: Date.parse(`${cells[0]!.replace(' ', 'T')}Z`),
        values: { oil: Number(cells[7]), load: Number(cells[1]) },
      }
    })
    await client.send(rows.slice(0, 3_000))
    const series = ['oil', 'load'].map((metric) => ({ device: 'transformer', metric }))
    const { progress } = await client.train({ series })
    assert.deepEqual([progress['trained'], progress['series_done']], [2, 2])
    await client.send(rows.slice(3_000))
    const endMs = rows.at(-1)!.timeMs
    for (const { device, metric } of series) {
      await client.forecastAt(device, metric, endMs)
      const values = new Map(rows.map(({ timeMs, values: of }) => [timeMs, of[metric]!]))
      const fromMs = rows[2_999]!.timeMs
      const stored = await client.predictions(device, metric, fromMs, endMs + 48 * hourMs)
      assert.equal(stored.length, 301 * 24)
      const found = await client.accuracy(device, metric)
      // 300 hours have ended after the first issue, 24 issues say something of each but the first ones.
      const n = check(found, stored, { actual: (ms) => values.get(ms), seasonMs: 24 * hourMs, endMs })
      assert.equal(n, 300 * 24 - (24 * 23) / 2)
      assert.ok(found.coverage > 0.8, `${found.coverage}`)
    }
    const page = await client.get<{ items: { metric: string; accuracy: Accuracy | null }[] }>('/api/v1/models?device=transformer')
    assert.deepEqual(
      page.items.map(({ metric, accuracy }) => [metric, accuracy?.n]),
      [
        ['load', 6_924],
        ['oil', 6_924],
      ],
    )
  })

  it('Intel Lab: forty motes, half hours', { skip: intelIsThere ? false : '../shared/data/intel is not there' }, async () => {
    const rows = intelRows()
    const times = [...new Set(rows.map(({ timeMs }) => timeMs))].sort((a, b) => a - b)
    const cut = times[200]!
    await client.send(rows.filter(({ timeMs }) => timeMs < cut))
    const motes = [...new Set(rows.map(({ device }) => device))]
    const series = motes.map((device) => ({ device, metric: 'temperature' }))
    const { progress } = await client.train({ series, step: '30m', horizon: '3h' })
    assert.equal(progress['series_done'], 40)
    const trained = Number(progress['trained'])
    assert.ok(trained + Number(progress['kept_naive']) === 40 && trained > 0, JSON.stringify(progress))
    await client.send(rows.filter(({ timeMs }) => timeMs >= cut))
    const endMs = times.at(-1)!
    const { items } = await client.get<{ items: { device: string }[] }>('/api/v1/models?limit=200')
    const own = items.filter(({ device }) => device.startsWith('mote-'))
    assert.equal(own.length, trained)
    for (const { device } of own) {
      await client.forecastAt(device, 'temperature', endMs)
      const values = new Map(rows.flatMap((row) => (row.device === device ? [[row.timeMs, row.values['temperature']!] as const] : [])))
      const stored = await client.predictions(device, 'temperature', cut - hourMs, endMs + 24 * hourMs)
      check(await client.accuracy(device, 'temperature'), stored, { actual: (ms) => values.get(ms), seasonMs: 24 * hourMs, endMs })
    }
  })

  it('a change is found within 50 steps, answered by training, and errors are small again', async () => {
    const random = new SeededRandom(4)
    const [start, change, end] = [Date.UTC(2025, 0, 6), 1_200, 2_000]
    const values = Array.from({ length: end }, (_, i) => 60 + 5 * Math.sin((2 * Math.PI * i) / (i < change ? 24 : 17)) + 0.5 * random.normal())
    const rows = values.map((value, i): Reading => ({ device: 'press', timeMs: start + i * hourMs, values: { heat: value } }))
    const trainedTo = 1_100
    await client.send(rows.slice(0, trainedTo))
    await client.train({ series: [{ device: 'press', metric: 'heat' }] })
    for (let at = trainedTo; at < end; at += 100) {
      await client.send(rows.slice(at, at + 100))
      await client.forecastAt('press', 'heat', start + (at + 99) * hourMs)
    }
    const { items } = await client.get<{ items: { version: number; card: { reason: string; drift_since_us?: number; to_us: number } }[] }>(
      '/api/v1/models/press/heat',
    )
    const answer = items.findLast(({ card }) => card.reason === 'drift')
    const found = ((answer?.card.drift_since_us ?? Number.NaN) / 1e3 - start) / hourMs
    assert.ok(found > change && found <= change + 50, `found at ${found}`)
    assert.ok((await client.jobs()).some(({ parameters }) => parameters.reason === 'drift'))
    const stored = await client.predictions('press', 'heat', start, start + end * hourMs)
    const errorOf = (from: number, to: number): number => {
      const off = stored.flatMap(({ time, mean }) => {
        const i = (Date.parse(time) - start) / hourMs
        return i >= from && i < to ? [Math.abs(mean - values[i]!)] : []
      })
      return off.reduce((a, b) => a + b, 0) / off.length
    }
    const [usual, changed, recovered] = [errorOf(1_125, 1_195), errorOf(1_205, 1_255), errorOf(1_850, 1_990)]
    assert.ok(changed > 4 * usual && recovered < 1.5 * usual, `${usual}, ${changed}, ${recovered}`)
  })
})
