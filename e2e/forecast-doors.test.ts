import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { eventually, settled } from '../test/support/api.ts'
import { RunningServer, runKymo, type Ended } from '../test/support/server.ts'
import { dailySeries, hourUs, mondayUs } from '../test/support/synthetic-series.ts'

/* Forecasts as people and programs meet them: command line, API and the seeds' paths over a real server that trains. */

type Json = Readonly<Record<string, unknown>>

/** What has to be encoded in a path, and in a list. */
const device = 'hall/1, ä%2F'
const steps = 700
const later = 30
const { values } = dailySeries(steps + later, 5)

function messages(sensor: string, from: number, to: number): readonly Json[] {
  return Array.from({ length: to - from }, (_, i) => ({
    sensor_id: sensor,
    temperature: values[from + i],
    humidity: 50 + values[from + i]!,
    timestamp: (mondayUs + (from + i) * hourUs) / 1e6,
  }))
}

const at = (step: number): string => new Date((mondayUs + step * hourUs) / 1e3).toISOString()

void describe('forecasts over a real server', () => {
  let server: RunningServer

  async function call(
    method: string,
    path: string,
    body?: unknown,
  ): Promise<{ readonly status: number; readonly text: string; readonly json: Json }> {
    const response = await fetch(server.http + path, {
      method,
      headers: body === undefined ? {} : { 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    return { status: response.status, text, json: text.startsWith('{') ? (JSON.parse(text) as Json) : {} }
  }

  const series = `${encodeURIComponent(device)}/temperature`
  const kymo = (...args: readonly string[]): Promise<Ended> => runKymo(args, { env: { KYMO_URL: server.http }, timeoutMs: 120_000 })

  async function done(args: readonly string[]): Promise<Json> {
    const { code, output } = await kymo(...args, '--json')
    assert.equal(code, 0, output)
    return JSON.parse(output) as Json
  }

  before(async () => {
    server = await RunningServer.start({ args: ['--forecast-poll-s', '1'] })
    const sent = await call('POST', '/api/v1/telemetry', [...messages(device, 0, steps), ...messages('s0', 0, 400)])
    assert.equal(sent.status, 202, sent.text)
    await settled(server.http)
  })
  after(() => server.dispose())

  void it('untrained: seasonal naive, and why; nothing on schedule', async () => {
    const made = await done(['forecast', device, 'temperature', '--hours', '3'])
    assert.deepEqual([made['model'], made['fallback'], made['issued_at']], [{ kind: 'seasonal-naive', version: 0 }, 'untrained', at(steps - 1)])
    assert.equal((made['points'] as unknown[]).length, 3)
    const { code, output } = await kymo('models', 'list')
    assert.equal(code, 0)
    assert.match(output, /0 models/)
  })

  void it('kymo models backtest: what kinds would have been worth; nothing is kept', async () => {
    const result = await done(['models', 'backtest', device, 'temperature', '--kinds', 'ridge,holt-winters'])
    const names = (result['candidates'] as { name: string }[]).map(({ name }) => name)
    assert.ok(
      ['seasonal-naive', 'ridge', 'holt-winters'].every((name) => names.includes(name)),
      String(names),
    )
    assert.ok((result['forecasts'] as { mean: unknown[] }[])[0]!.mean.length === 24)
    assert.deepEqual((await call('GET', `/api/v1/models/${series}`)).json, { items: [], next_cursor: null })
  })

  void it('kymo models train: the job to its end, the model, its card and its file', async () => {
    const { code, output } = await kymo('models', 'train', device, 'temperature', '--kinds', 'ridge')
    assert.equal(code, 0, output)
    assert.match(output, /1 trained, 0 stay with seasonal naive, 0 refused[^]*1 {2}ridge +champion/)
    const model = (await call('GET', `/api/v1/models/${series}/1`)).json
    assert.deepEqual([model['kind'], model['state'], (model['card'] as Json)['steps']], ['ridge', 'champion', steps - 1])
    const file = await fetch(`${server.http}/api/v1/models/${series}/1/file`)
    const bytes = new Uint8Array(await file.arrayBuffer())
    assert.deepEqual([new TextDecoder().decode(bytes.subarray(0, 8)), bytes.length], ['KYMOMODL', Number(model['bytes'])])
    const shown = await kymo('models', 'show', device, 'temperature', '1')
    assert.match(shown.output, /steps +699\n[^]*ridge +[\d.]+ .*the best/)
    const jobs = (await call('GET', '/api/v1/jobs?kind=train')).json['items'] as Json[]
    assert.deepEqual([jobs.length, jobs[0]!['state'], (jobs[0]!['progress'] as Json)['share']], [1, 'done', 1])
  })

  void it('the model answers: intervals, other levels, what would have been said before, a kind that is asked for', async () => {
    const wide = await done(['forecast', device, 'temperature', '--level', '0.95'])
    const narrow = await done(['forecast', device, 'temperature', '--level', '0.5'])
    assert.deepEqual([wide['model'], wide['fallback']], [{ kind: 'ridge', version: 1 }, null])
    type Point = { readonly time: string; readonly mean: number; readonly lower: number; readonly upper: number }
    const [a, b] = [wide, narrow].map((one) => (one['points'] as Point[])[0]!)
    assert.ok(a!.lower < b!.lower && b!.lower < b!.mean && b!.upper < a!.upper)
    const before = await done(['forecast', device, 'temperature', '--at', at(600), '--model', 'seasonal-naive'])
    const [first] = before['points'] as Point[]
    assert.deepEqual([before['issued_at'], first?.time, first?.mean], [at(600), at(600), values[576]])
    const drawn = await kymo('forecast', device, 'temperature', '--hours', '6')
    assert.match(drawn.output, /ridge v1[^]*─●─/)
    const listed = await kymo('forecast')
    assert.match(listed.output, /hall\/1, ä%2F +temperature +ridge v1/)
  })

  void it('crossing: a probability with how such numbers have held, or that it is across already', async () => {
    const hot = (await call('GET', `/api/v1/forecasts/${series}/crossing?above=1000&within=6h`)).json
    assert.ok((hot['probability'] as number) < 0.05, JSON.stringify(hot))
    const across = (await call('GET', `/api/v1/forecasts/${series}/crossing?below=1000&within=6h`)).json
    assert.deepEqual([across['probability'], across['reason']], [null, 'across_already'])
  })

  void it('what comes later is held against what was predicted; pages lose nothing', async () => {
    assert.equal((await call('POST', '/api/v1/telemetry', messages(device, steps, steps + later))).status, 202)
    await eventually(async () => {
      const { json } = await call('GET', `/api/v1/forecasts?device=${encodeURIComponent(device)}`)
      return (json['items'] as Json[])[0]?.['issued_at'] === at(steps + later - 1) ? true : undefined
    })
    const { json: accuracy } = await call('GET', `/api/v1/forecasts/${series}/accuracy`)
    assert.ok((accuracy['n'] as number) > 24)
    assert.ok((accuracy['mae'] as number) < 2 && (accuracy['skill'] as number) <= 1, JSON.stringify(accuracy))
    const path = `/api/v1/forecasts/${series}/predictions?from=${at(steps)}&to=${at(steps + 20)}`
    const all = (await call('GET', `${path}&limit=10000`)).json['items'] as Json[]
    const measured = all.find(({ time }) => time === at(steps + 3))
    assert.ok(Math.abs((measured?.['actual'] as number) - values[steps + 3]!) < 1e-9)
    const paged: Json[] = []
    let cursor = ''
    do {
      const page = (await call('GET', `${path}&limit=37${cursor}`)).json
      paged.push(...(page['items'] as Json[]))
      cursor = page['next_cursor'] === null ? '' : `&cursor=${String(page['next_cursor'])}`
    } while (cursor !== '')
    assert.deepEqual(paged, all)
    const lead = (await call('GET', `${path}&lead=6h`)).json['items'] as Json[]
    // The first issue is that of the training, at step 699: six hours before the end of step 704.
    assert.deepEqual(
      lead.map(({ time }) => time),
      Array.from({ length: 16 }, (_, i) => at(steps + 4 + i)),
    )
    for (const one of lead) assert.ok(Date.parse(String(one['time'])) + 3_600_000 - Date.parse(String(one['issued_at'])) >= 6 * 3_600_000)
    const csv = (await call('GET', `${path}&newest&format=csv`)).text.trim().split('\r\n')
    assert.deepEqual([csv.length, csv[0]], [21, 'time,issued_at,version,mean,lower,upper,level,actual'])
  })

  void it('S0 and S4: an algorithm that is asked for answers when it is forced', async () => {
    const { json } = await call('POST', '/model/train', { sensor_id: 's0', algorithm: 'random_forest' })
    await eventually(async () => ((await call('GET', `/api/v1/jobs/${String(json['job_id'])}`)).json['state'] === 'done' ? true : undefined))
    const forced = (await call('POST', '/forecast?model=random_forest', { sensor_id: 's0', hours_ahead: 24 })).json
    assert.deepEqual([forced['model'], forced['model_version'], (forced['predictions'] as unknown[]).length], ['random-forest', 1, 24])
    const status = (await call('GET', '/model/status?sensor_id=s0')).json
    assert.deepEqual([status['is_trained'], status['algorithm'], status['training_samples']], [true, 'random-forest', 399])
    assert.ok((status['features'] as string[]).includes('lag_24h'))
    assert.ok(((status['metrics'] as Json)['r2'] as number) <= 1)
    const models = JSON.parse((await call('GET', '/models')).text) as Json[]
    assert.deepEqual(
      models.map(({ sensor_id: id, algorithm }) => [id, algorithm]),
      [
        [device, 'ridge'],
        ['s0', 'random-forest'],
      ],
    )
    const promoted = await kymo('models', 'promote', 's0', 'temperature', '1')
    assert.match(promoted.output, /random-forest v1 serves s0 temperature/)
  })

  void it('bad input: the field and the fix, never a 500', async () => {
    const one = { device, metric: 'temperature' }
    const rows: readonly (readonly [request: string, body: unknown, status: number, pointer?: string])[] = [
      [`GET /api/v1/forecasts/${series}?horizon=99h`, undefined, 400, '/horizon'],
      [`GET /api/v1/forecasts/${series}?horizon=1000000w`, undefined, 400, '/horizon'],
      [`GET /api/v1/forecasts/${series}/crossing?above=1&within=99h`, undefined, 400, '/within'],
      [`GET /api/v1/forecasts/${series}?model=lstm`, undefined, 404],
      [`GET /api/v1/forecasts/${series}?model=7`, undefined, 404],
      [`GET /api/v1/forecasts/${series}?at=1970-01-02`, undefined, 409],
      [`GET /api/v1/forecasts/${encodeURIComponent(device)}/pressure`, undefined, 404],
      ['GET /api/v1/forecasts/nobody/temperature', undefined, 404],
      ['GET /api/v1/forecasts/nobody/temperature/accuracy', undefined, 404],
      ['GET /api/v1/forecasts/nobody/temperature/predictions', undefined, 404],
      ['GET /api/v1/forecasts/nobody/temperature/crossing?above=1&within=1h', undefined, 404],
      ['GET /api/v1/models/nobody/temperature', undefined, 404],
      [`GET /api/v1/models/${series}/99`, undefined, 404],
      [`GET /api/v1/models/${series}/99/file`, undefined, 404],
      [`POST /api/v1/models/${series}/99/promote`, undefined, 404],
      ['POST /api/v1/models/train', { series: [one, { device: 'nobody', metric: 'temperature' }] }, 404],
      ['POST /api/v1/models/train', { series: [one], kinds: ['magic'] }, 400, '/kinds/0'],
      ['POST /api/v1/models/train', { series: [one], step: '7h' }, 400, '/step'],
      ['POST /api/v1/models/train', { series: [one], step: '1s' }, 400, '/step'],
      ['POST /api/v1/models/train', { series: [one], horizon: '1000w' }, 400, '/horizon'],
      ['POST /api/v1/models/backtest', { device: 'nobody', metric: 'temperature' }, 404],
      ['POST /api/v1/models/backtest', { ...one, kinds: ['ensemble'] }, 400, '/kinds/0'],
      ['POST /forecast', { sensor_id: device, hours_ahead: 8_000 }, 422, '/hours_ahead'],
      ['POST /predict', { sensor_id: device, horizon: 8_000 }, 422, '/horizon'],
      ['GET /predictions?sensor_id=nobody', undefined, 404],
    ]
    for (const [request, body, status, pointer] of rows) {
      const [method = '', path = ''] = request.split(/ (.*)/)
      const reply = await call(method, path, body)
      const found = (reply.json['errors'] as { pointer: string }[] | undefined)?.[0]?.pointer
      assert.deepEqual([reply.status, pointer === undefined ? undefined : found], [status, pointer], `${request}: ${reply.text}`)
    }
    const tooEarly = (await call('GET', `/api/v1/forecasts/${series}?at=1970-01-02`)).json
    assert.ok(((tooEarly['facts'] as Json)['missing'] as number) >= 1)
    assert.equal((await kymo('forecast', 'nobody', 'temperature')).code, 1)
  })
})
