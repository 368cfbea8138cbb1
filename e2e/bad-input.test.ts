import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { badInput, routePaths, type BadInput, type Route } from '../test/bad-input/table.ts'
import { deadLetter, deadLetters, eventually, readings, settled, type DeadLetterSummary, type Reading } from '../test/support/api.ts'
import { RawMqtt } from '../test/support/mqtt-client.ts'
import { RunningServer } from '../test/support/server.ts'

interface Problem {
  readonly code?: string
  readonly errors?: readonly { readonly pointer: string }[]
  readonly results?: readonly { readonly index: number; readonly status: number; readonly code?: string }[]
}

interface Outcome {
  /** Absent: MQTT, acknowledged. */
  readonly status?: number
  readonly problem: Problem
}

let server: RunningServer
let client: RawMqtt
let packetId = 0

async function post(route: Exclude<Route, 'mqtt'>, body: string | Uint8Array, headers: Readonly<Record<string, string>>): Promise<Outcome> {
  const path = routePaths[route].replace('POST ', '')
  const bytes = typeof body === 'string' ? body : new Uint8Array(body)
  const answer = await fetch(`${server.http}${path}`, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: bytes })
  const text = await answer.text()
  return { status: answer.status, problem: text === '' ? {} : (JSON.parse(text) as Problem) }
}

async function publish(topic: string, payload: string | Uint8Array): Promise<Outcome> {
  const id = (packetId = (packetId % 65_535) + 1)
  const acknowledged = new Promise<void>((resolve, reject) => {
    client.onPuback = (acked) => {
      if (acked === id) resolve()
    }
    client.onClose = () => reject(new Error('the connection was closed'))
  })
  client.publish({ topic, payload, qos: 1, packetId: id })
  await acknowledged
  return { problem: {} }
}

async function send(row: BadInput, route: Route, device: string, body: string | Uint8Array): Promise<Outcome> {
  if (route === 'mqtt') return publish(row.topic?.(device) ?? 'portfolio/telemetry', body)
  return post(route, body, row.headers ?? {})
}

/** Letters that came since the one that was the newest; waits until as many are there as there should be. */
async function newLetters(newest: string | undefined, count: number): Promise<DeadLetterSummary[]> {
  const fresh = async (): Promise<DeadLetterSummary[]> => {
    const all = await deadLetters(server.http, 100)
    const end = all.findIndex((letter) => letter.id === newest)
    return end === -1 ? all : all.slice(0, end)
  }
  if (count > 0) return eventually(async () => ((await fresh()).length >= count ? fresh() : undefined))
  return fresh()
}

function wantedStatus(row: BadInput, route: Route): number {
  if (route === 'line') return row.status
  return row.status === 202 && route !== 'telemetry' ? 200 : row.status
}

function checkValues(row: BadInput, fresh: readonly Reading[]): void {
  for (const wanted of row.values ?? []) {
    const { metric, timeUs } = wanted
    const value = wanted.text ?? wanted.value
    const found = fresh.some(
      (reading) =>
        reading.metric === metric &&
        (value === undefined || reading.value === value || Number(reading.value) === value) &&
        (timeUs === undefined || Math.round(reading.timeMs * 1e3) === timeUs),
    )
    assert.ok(found, `${metric} = ${String(value)} is not among ${JSON.stringify(fresh.slice(0, 5))}`)
  }
}

async function check(row: BadInput, route: Route, device: string): Promise<void> {
  const storedAs = row.storedAs?.(device) ?? device
  for (const earlier of row.before?.(device) ?? []) {
    const { status } = await send(row, route, device, earlier)
    assert.ok(status === undefined || status < 300, `the message before answered ${status}`)
  }
  await settled(server.http)
  const known = await readings(server.http, { device: storedAs })
  const newest = (await deadLetters(server.http, 1))[0]?.id
  const body = row.body(device)

  const { status, problem } = await send(row, route, device, body)
  if (status !== undefined) {
    assert.equal(status, wantedStatus(row, route), JSON.stringify(problem).slice(0, 500))
    if (row.results !== undefined) {
      const refused = (problem.results ?? []).filter((result) => result.code !== undefined).map(({ index, code }) => ({ index, code }))
      assert.deepEqual(refused, row.results)
    } else if (route === 'line') {
      assert.equal(problem.results?.[0]?.code, row.code)
    } else if (row.code !== undefined) {
      assert.equal(problem.code, row.code)
      if (row.pointer !== undefined)
        assert.ok(
          (problem.errors ?? []).some((error) => error.pointer === row.pointer),
          `${row.pointer} is not named in ${JSON.stringify(problem.errors)}`,
        )
    }
  }

  const letters = await newLetters(newest, row.deadLetters)
  assert.equal(letters.length, row.deadLetters, JSON.stringify(letters))
  if (row.deadLetters === 1 && row.code !== undefined && row.results === undefined && row.code !== 'values_missing') {
    assert.equal(letters[0]!.code, row.code)
    await checkBytes(letters[0]!, row, typeof body === 'string' ? Buffer.from(body) : Buffer.from(body))
  }
  await settled(server.http)
  const now = await readings(server.http, { device: storedAs })
  assert.equal(now.length - known.length, row.stored, JSON.stringify(now.slice(0, 5)))
  checkValues(row, now.slice(0))
}

/** The original bytes are kept, or their beginning. */
async function checkBytes(letter: DeadLetterSummary, row: BadInput, sent: Buffer): Promise<void> {
  const kept = await deadLetter(server.http, letter.id)
  const bytes = Buffer.from(kept.body, kept.body_encoding)
  assert.ok(bytes.length > 0)
  if (row.code === 'body_too_large') assert.ok(kept.truncated && kept.bytes_total > bytes.length)
  else assert.equal(kept.bytes_total, sent.length)
  if (row.headers?.['content-encoding'] === undefined)
    assert.ok(bytes.equals(sent.subarray(0, bytes.length)), 'the bytes are the ones that were sent')
  if (!kept.truncated) assert.equal(bytes.length, sent.length)
}

describe('bad input, from the table', () => {
  before(async () => {
    server = await RunningServer.start({ env: { KYMO_RETENTION_RAW: '50y', KYMO_RETENTION_MINUTES: '50y' } })
    client = await RawMqtt.connect({ port: server.mqttPort, clientId: 'bad-input' })
  })
  after(async () => {
    client.onClose = () => undefined
    await client.end()
    await server.dispose()
  })

  it('has cases for every route', () => {
    assert.ok(badInput.length > 80)
    for (const route of Object.keys(routePaths))
      assert.ok(
        badInput.some((row) => row.routes.includes(route as Route)),
        route,
      )
  })
  badInput.forEach((row, index) => {
    for (const route of row.routes) it(`${row.name} (${route})`, async () => check(row, route, `bad-${index}-${route}`))
  })
  it('is still the same server, and still takes what is right', async () => {
    assert.equal(server.currentServerPid(), server.serverPid)
    await publish('portfolio/telemetry', '{"device_id":"fine","temperature":21.5}')
    await settled(server.http)
    assert.deepEqual(
      (await readings(server.http, { device: 'fine' })).map((reading) => reading.value),
      [21.5],
    )
  })
})
