import assert from 'node:assert/strict'
import os from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import mqtt from 'mqtt'
import { deadLetters, settled } from '../test/support/api.ts'
import { shell, without } from '../test/support/programs.ts'
import { cleanEnv, RunningServer, runKymo } from '../test/support/server.ts'
import { httpRows, type HttpRow } from './seed-http-rows.ts'
import { commandRows, hourlyMessages, metricRows, mqttRows, payloadRows, recentMessages, sqlRows, variableRows, type Shape } from './seed-table.ts'

function typeOf(value: unknown): string {
  if (value === null) return 'null'
  return Array.isArray(value) ? 'array' : typeof value
}

function isOfType(type: string, value: unknown): boolean {
  if (type === 'time') return typeof value === 'string' && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/.test(value) && !Number.isNaN(Date.parse(value))
  if (type === 'integer') return Number.isInteger(value)
  return typeOf(value) === type
}

/** Throws where `value` is not of that shape. */
function checkShape(shape: Shape, value: unknown, at: string): void {
  if (typeof shape === 'string') {
    assert.ok(
      shape.split('|').some((type) => isOfType(type, value)),
      `${at} must be ${shape}, is ${JSON.stringify(value)}`,
    )
  } else if (isList(shape)) {
    assert.ok(Array.isArray(value) && value.length > 0, `${at} must be a list with something in it, is ${JSON.stringify(value)}`)
    value.forEach((item, i) => checkShape(shape[0], item, `${at}/${i}`))
  } else if (isExactly(shape)) assert.deepEqual(value, shape.is, at)
  else {
    assert.ok(typeof value === 'object' && value !== null && !Array.isArray(value), `${at} must be an object, is ${JSON.stringify(value)}`)
    for (const [member, part] of Object.entries(shape)) {
      assert.ok(Object.hasOwn(value, member), `${at}/${member} is missing in ${JSON.stringify(value)}`)
      checkShape(part, (value as Readonly<Record<string, unknown>>)[member], `${at}/${member}`)
    }
  }
}

function isList(shape: Exclude<Shape, string>): shape is readonly [Shape] {
  return Array.isArray(shape)
}

function isExactly(shape: Exclude<Shape, string | readonly [Shape]>): shape is { readonly is: unknown } {
  return Object.hasOwn(shape, 'is')
}

void describe('what the seeds name, row by row', () => {
  let server: RunningServer
  const saved = new Map<string, string>()

  async function call(request: string, body?: unknown, accept = 'application/json'): Promise<Response> {
    const [method = '', target = ''] = request.split(/ (.*)/)
    const url = `${server.http}${target.replaceAll(/\$(\w+)/g, (_, name: string) => saved.get(name) ?? assert.fail(`no row saved ${name}`))}`
    return fetch(url, {
      method,
      headers: { accept, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
  }

  async function checkRow(row: HttpRow): Promise<void> {
    const response = await call(row.request, row.body, row.accept)
    const text = await response.text()
    if (row.pending !== undefined) {
      assert.ok(response.status >= 300, `${row.request} waits for ${row.pending}, and answers ${response.status}: give the row its status and shape`)
      return
    }
    assert.equal(response.status, row.status, text)
    if (row.header !== undefined) assert.match(response.headers.get(row.header[0]) ?? '', row.header[1])
    if (row.text !== undefined) assert.match(text, row.text)
    if (row.shape === undefined) return
    const json: unknown = JSON.parse(text)
    checkShape(row.shape, json, row.request)
    if (row.save !== undefined) saved.set(row.save.as, String((json as Readonly<Record<string, unknown>>)[row.save.member]))
  }

  before(async () => {
    server = await RunningServer.start()
    const sent = await call('POST /api/v1/telemetry', [...recentMessages(Date.now()), ...hourlyMessages(Date.now())])
    assert.equal(sent.status, 202, await sent.text())
    await settled(server.http)
  })
  after(() => server.dispose())

  for (const row of mqttRows) {
    void it(`${row.seed} mosquitto_pub -t ${row.topic}: acknowledged, shown to mosquitto_sub, ${row.readBack === undefined ? 'routed only' : 'stored'}`, async () => {
      const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${server.mqttPort}`, { protocolVersion: 4 })
      try {
        const heard = new Promise<string>((resolve) => client.once('message', (_topic, payload) => resolve(payload.toString())))
        await client.subscribeAsync(row.topic, { qos: 1 })
        await client.publishAsync(row.topic, row.payload, { qos: 1 })
        assert.equal(await heard, row.payload)
      } finally {
        await client.endAsync()
      }
      await settled(server.http)
      assert.deepEqual(await deadLetters(server.http), [])
      if (row.readBack === undefined) return
      const { path: target, shape } = row.readBack
      checkShape(shape, await (await call(`GET ${target}`)).json(), target)
    })
  }

  for (const row of payloadRows) {
    void it(`${row.seed} payload: ${JSON.stringify(row.payload)}`, async () => {
      const sent = await call('POST /api/v1/telemetry', row.payload)
      assert.equal(sent.status, 202, await sent.text())
      await settled(server.http)
      const { items } = (await (await call(`GET /api/v1/devices/${row.device}/latest`)).json()) as {
        items: { metric: string; value: unknown; unit?: string; time: string }[]
      }
      assert.deepEqual(
        items.map(({ metric, value, unit, time }) => `${metric} ${String(value)} ${unit ?? '-'} ${time}`),
        row.stored,
      )
      if (row.attributes === undefined) return
      const device = (await (await call(`GET /devices/${row.device}`)).json()) as { attributes: unknown }
      assert.deepEqual(device.attributes, row.attributes)
    })
  }

  for (const row of httpRows) {
    void it(`${row.seed} ${row.request}${row.pending === undefined ? ` ${row.status}` : ` waits for ${row.pending}`}`, async () => {
      if (row.request.startsWith('GET ') && row.pending === undefined) await settled(server.http)
      await checkRow(row)
    })
  }

  for (const row of sqlRows) {
    void it(`${row.seed} ${row.sql.split('\n')[0]}${row.pending === undefined ? '' : ` waits for ${row.pending}`}`, async () => {
      const response = await call('POST /api/v1/sql', { sql: row.sql })
      const text = await response.text()
      if (row.pending !== undefined) {
        assert.ok(response.status >= 300, `it waits for ${row.pending}, and answers ${response.status}`)
        return
      }
      assert.equal(response.status, 200, text)
      const { columns, rows } = JSON.parse(text) as { columns: { name: string }[]; rows: unknown[][] }
      assert.deepEqual(
        columns.map(({ name }) => name),
        row.columns,
      )
      assert.ok(
        rows.some((cells) => cells.includes('device-001')),
        text.slice(0, 500),
      )
    })
  }

  for (const row of metricRows) {
    void it(`${row.seed} "${row.words}" is ${row.metric}${row.pending === undefined ? '' : `, which waits for ${row.pending}`}`, async () => {
      const there = (await (await call('GET /metrics')).text()).includes(`# TYPE ${row.metric} `)
      assert.equal(there, row.pending === undefined)
    })
  }

  const filled = (text: string): string =>
    text
      .replaceAll('$http', String(server.httpPort))
      .replaceAll('$mqtt', String(server.mqttPort))
      .replaceAll('$nowhere', path.join(os.tmpdir(), 'kymo-seed-nowhere'))

  for (const row of commandRows) {
    void it(`${row.seed} kymo ${row.line}${row.env === undefined ? '' : ` with ${JSON.stringify(row.env)}`}`, async () => {
      const env = Object.fromEntries(Object.entries(row.env ?? {}).map(([name, value]) => [name, filled(value)]))
      const { code, output } = await runKymo(filled(row.line).split(' '), { env })
      assert.equal(code, row.code, output)
      assert.match(output, row.output)
    })
  }
})

void describe('scripts of the seeds', { skip: without('npm') }, () => {
  void it('S0 simulate-sensors.sh, setup-environment.sh', async () => {
    const server = await RunningServer.start()
    try {
      const sent = await shell(`scripts/simulate-sensors.sh --port ${server.mqttPort} --duration 3s --json`, { env: cleanEnv() })
      assert.match(sent, /"acknowledged":[1-9]/)
      const looked = await shell(`scripts/setup-environment.sh --data ${server.data}`, { env: cleanEnv(), timeoutMs: 60_000 })
      assert.match(looked, /0 to mend\n[^]*Next: npm start/)
    } finally {
      await server.dispose()
    }
  })
})

void describe('variables of the seeds', () => {
  for (const row of variableRows) {
    const names = Object.keys(row.env)
    void it(`${row.seed} ${names.join(', ')}: ${row.setting === undefined ? `waits for ${row.pending}` : row.setting.join(' = ')}`, async () => {
      const env = { ...row.beside, ...row.env }
      const { code, output } = await runKymo(['config', 'show', '--json'], { env })
      assert.equal(code, 0, output)
      const text = await runKymo(['config', 'show'], { env })
      const shown = JSON.parse(output.slice(output.indexOf('{'))) as { items: { name: string; value: unknown; from: string; where?: string }[] }
      const fromVariables = shown.items.filter(
        ({ from, where = '' }) => from !== 'default' && !where.split(', ').some((name) => name in (row.beside ?? {})),
      )
      if (row.setting === undefined) {
        assert.deepEqual(fromVariables, [], `${names.join()} waits for ${row.pending}, and sets something: give the row its setting`)
        for (const name of names) assert.match(text.output, new RegExp(`! ${name} is set but has no effect in this version`))
        return
      }
      const [name, value] = row.setting
      const item = fromVariables.find((one) => one.name === name)
      assert.deepEqual([item?.value, item?.from], [value, 'alias'])
      assert.doesNotMatch(text.output, /no effect/)
    })
  }
})
