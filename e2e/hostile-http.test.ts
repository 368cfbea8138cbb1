/**
 * Hostile clients of the HTTP door, one after the other, while a bystander sends a small reading every 20 ms over a connection of its own. Nothing
 * that is sent may be answered 5xx, take the server down, hold the bystander up or lose what it was acknowledged.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { errorTable } from '../src/core/errors.ts'
import { eventually, readings, settled } from '../test/support/api.ts'
import { RunningServer } from '../test/support/server.ts'
import type { BystanderInput, BystanderResult } from './hostile-bystander.ts'
import { hostileCases, type HostileCase } from './hostile-cases.ts'
import { request, talk, type Answer } from './hostile-wire.ts'

/** The longest that the bystander may wait, beyond what the machine took by itself for a timer, a write and a sync at the same time. */
const answerMsMax = 500
const quietMs = 2_000
/** Connections that say nothing: the server takes 10,000. */
const idleConnections = 1_000
/**
 * Caches and pools that a battery fills may stay, what each case leaves behind must not. Of 14 batteries one after the other the first left 250 MB,
 * all together 400 and no more: most of it heap that V8 keeps for the 100,000 dead letters of one body.
 */
const rssGrowthMbMax = 512
const descriptorsMax = 32

interface ProblemDocument {
  readonly code?: unknown
  readonly id?: unknown
  readonly status?: unknown
  readonly title?: unknown
  readonly detail?: unknown
  readonly errors?: unknown
}

let server: RunningServer
let bystander: Worker
let startRssMb: number
let startDescriptors: number
let firstMs: number
const left: net.Socket[] = []

const rssMb = (): number => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${server.serverPid}/status`, 'utf8'))?.[1]) / 1024
const descriptors = (): number => readdirSync(`/proc/${server.serverPid}/fd`).length

function known(code: unknown): code is keyof typeof errorTable {
  return typeof code === 'string' && Object.hasOwn(errorTable, code)
}

/** RFC 9457, with a code of the table, and a detail that says what is wrong where. `influx`: the form that clients of line protocol read. */
function checkProblem(answer: Answer, names: RegExp | undefined, influx = false): void {
  const told = `${answer.status} ${answer.body.slice(0, 300)}`
  if (influx) {
    const { kymo_code: own, results } = JSON.parse(answer.body) as {
      readonly kymo_code?: unknown
      readonly results?: readonly { readonly code?: unknown }[]
    }
    assert.ok(known(own ?? results?.[0]?.code), told)
    return
  }
  assert.match(answer.headers.get('content-type') ?? '', /^application\/problem\+json/, told)
  const problem = JSON.parse(answer.body) as ProblemDocument
  assert.ok(known(problem.code), told)
  assert.equal(problem.id, errorTable[problem.code].id, told)
  assert.equal(problem.title, errorTable[problem.code].text, told)
  assert.equal(problem.status, answer.status, told)
  assert.ok(typeof problem.detail === 'string' && problem.detail !== '', told)
  if (names !== undefined) assert.match(JSON.stringify([problem.detail, problem.errors]), names)
}

async function check(row: HostileCase): Promise<void> {
  const answers = row.answersMax === undefined ? row.answers : row.answersMax + 1
  const {
    answers: got,
    closed,
    rest,
  } = await talk(server.httpPort, {
    send: row.send(),
    ...(answers === undefined ? {} : { answers }),
    ...(row.end === undefined ? {} : { end: row.end }),
  })
  const told = `${got.map(({ status }) => status).join(', ')} ${rest.toString('latin1', 0, 200)}`
  if (got.length === 0) assert.ok(closed && row.allowed.includes('close'), `no answer: ${told}`)
  for (const answer of got) {
    assert.ok(row.allowed.includes(answer.status), `${told} ${answer.body.slice(0, 500)}`)
    assert.doesNotMatch(answer.body, /root:.*:0:0:/)
    if (answer.status >= 400) checkProblem(answer, row.names, row.influx)
  }
  if (row.answersMax !== undefined) assert.ok(got.length <= row.answersMax, told)
  if (row.answers !== undefined && !row.allowed.includes('close') && row.answersMax === undefined) assert.equal(got.length, row.answers, told)
}

interface Operation {
  readonly parameters?: readonly { readonly name: string; readonly in: string }[]
}

/** GET of every route that the description names; live streams have no end and are tried by themselves. */
function reads(): readonly { readonly path: string; readonly parameters: readonly { readonly name: string; readonly in: string }[] }[] {
  const file = path.join(import.meta.dirname, '../docs/reference/openapi.json')
  const { paths } = JSON.parse(readFileSync(file, 'utf8')) as { readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>> }
  return Object.entries(paths).flatMap(([route, { get }]) =>
    get === undefined || route === '/api/v1/live' ? [] : [{ path: route, parameters: get.parameters ?? [] }],
  )
}

const injections: Readonly<Record<string, string>> = {
  SQL: `' OR 1=1; DROP TABLE readings; --`,
  CSV: `=cmd|' /C calc'!A0,"x"`,
  HTML: '<script>alert(1)</script>',
  CRLF: 'a\r\nSet-Cookie: hostile=1\r\n\r\n<script>alert(1)</script>',
}

/** Routes of line protocol. */
const influxPaths: ReadonlySet<string> = new Set(['/query', '/write', '/api/v2/write', '/ping'])

const unicode: readonly string[] = [
  'Gerät-Ö-17',
  '传感器',
  'سلامة',
  '🌡️👩‍🔬',
  'e\u0301 and é',
  '\u202egnp.exe',
  'a\u200bb',
  '%2e%2e%2f',
  'a/b?c#d&e=f',
  ' spaces ',
  `"quoted", 'x'`,
  injections['SQL']!,
  injections['CSV']!,
  injections['HTML']!,
  'ü'.repeat(128),
]

/** In a list of devices a comma that belongs to a name has a backslash before it. */
const named = (id: string): string => id.replaceAll(',', String.raw`\,`)

async function phase(name: string): Promise<void> {
  bystander.postMessage(name)
  await delay(0)
}

describe('hostile HTTP beside a bystander', () => {
  before(async () => {
    server = await RunningServer.start()
    firstMs = Date.now() - 60_000
    const workerData: BystanderInput = { port: server.httpPort, file: path.join(server.data, 'bystander.tmp'), firstMs }
    bystander = new Worker(new URL('hostile-bystander.ts', import.meta.url), { workerData })
    // The first requests compile what answers them.
    await delay(quietMs / 2)
    await phase('quiet')
    await delay(quietMs)
    startRssMb = rssMb()
    startDescriptors = descriptors()
    await phase('hostile')
  })
  after(async () => {
    for (const socket of left) socket.destroy()
    await bystander?.terminate()
    await server?.dispose()
  })

  it('leaves connections that say nothing, or only the beginning, to wait', async () => {
    for (let i = 0; i < idleConnections; i++) left.push(net.connect(server.httpPort, '127.0.0.1').on('error', () => undefined))
    await eventually(async () => (left.every((socket) => !socket.connecting) ? true : undefined))
    assert.ok(
      left.every((socket) => !socket.destroyed),
      'some were refused',
    )
    for (const socket of left.slice(0, 100)) socket.write('POST /api/v1/telemetry HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Le')
    for (const socket of left.slice(100, 200))
      socket.write('POST /api/v1/telemetry HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n[')
  })

  /** Begun here, so that the ten seconds of the limit pass beside the other cases. */
  let slow: Promise<unknown> | undefined
  it('takes headers that come byte by byte, for a while', () => {
    const drip = async function* (): AsyncGenerator<string> {
      yield 'GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: '
      for (;;) {
        yield 'a'
        await delay(100)
      }
    }
    slow = talk(server.httpPort, { send: drip(), withinMs: 45_000 }).then(
      ({ answers }) => answers[0],
      (error: unknown) => error,
    )
  })

  for (const row of hostileCases) it(row.name, () => check(row))

  for (const [kind, text] of Object.entries(injections)) {
    it(`${kind} in every parameter of every read`, async () => {
      let sent = 0
      for (const { path: route, parameters } of reads()) {
        for (const { name, in: where } of parameters) {
          const filled = route.replaceAll(/\{(\w+)\}/g, (_all, id: string) => encodeURIComponent(where === 'path' && id === name ? text : 'hostile'))
          const target = where === 'query' ? `${filled}?${encodeURIComponent(name)}=${encodeURIComponent(text)}` : filled
          const headers = where === 'header' ? { [name]: text.replaceAll(/[\r\n]/g, ' ') } : {}
          const [answer] = (await talk(server.httpPort, { send: request('GET', target, { headers }) })).answers
          sent++
          assert.ok(answer !== undefined && answer.status < 500, `${target}: ${answer?.status} ${answer?.body.slice(0, 300)}`)
          assert.equal(answer.headers.get('set-cookie'), undefined, target)
          if (answer.status >= 400) checkProblem(answer, undefined, influxPaths.has(route))
          if (/html/.test(answer.headers.get('content-type') ?? '')) assert.doesNotMatch(answer.body, /<script>alert\(1\)/, target)
          assert.equal(answer.headers.get('x-content-type-options'), 'nosniff', target)
        }
      }
      assert.ok(sent > 80, `only ${sent} parameters`)
    })
  }

  it('gives ids of every script back as they were', async () => {
    for (const id of unicode) {
      const body = JSON.stringify({ device_id: id, x: 1 })
      const [answer] = (await talk(server.httpPort, { send: request('POST', '/api/v1/telemetry', { body }) })).answers
      assert.equal(answer?.status, 202, `${id}: ${answer?.body}`)
    }
    for (const id of unicode) {
      // The bystander goes on, so that there is always something that the store does not have yet.
      const found = await eventually(async () => {
        const all = await readings(server.http, { device: named(id) })
        if (all.length === 0) throw new Error(`${id} has no reading`)
        return all
      })
      assert.deepEqual(
        found.map(({ device, value }) => ({ device, value })),
        [{ device: id, value: 1 }],
        id,
      )
      await eventually(async () => {
        const one = await fetch(`${server.http}/api/v1/devices/${encodeURIComponent(id)}`)
        const text = await one.text()
        if (one.status !== 200) throw new Error(`${id}: ${one.status} ${text}`)
        return true
      })
    }
    const quoted = injections['CSV']!
    const csv = await (await fetch(`${server.http}/api/v1/query?format=csv&device=${encodeURIComponent(named(quoted))}`)).text()
    // An apostrophe before what a spreadsheet would take for a formula.
    assert.ok(csv.includes(`"'${quoted.replaceAll('"', '""')}"`), csv)
  })
  for (const [name, id] of [
    ['control characters', '"a\\u0000b"'],
    ['CRLF', '"a\\r\\nSet-Cookie: x"'],
    ['half a surrogate pair', '"\\ud800"'],
    ['257 bytes', `"${'x'.repeat(257)}"`],
  ] as const)
    it(`refuses an id of ${name}`, () =>
      check({ name, allowed: [400, 422], names: /device/, send: () => request('POST', '/api/v1/telemetry', { body: `{"device_id":${id},"x":1}` }) }))

  it('ends the headers that came byte by byte', async () => {
    const answer = (await slow) as Answer | undefined
    if (answer instanceof Error) throw answer
    if (answer !== undefined) {
      assert.equal(answer.status, 408)
      checkProblem(answer, undefined)
    }
  })

  it('was the same server all the time, and has let go of what it held', async () => {
    assert.equal(server.currentServerPid(), server.serverPid)
    assert.doesNotMatch(server.output, /request failed|KYMO-E9/)
    for (const socket of left.splice(0)) socket.destroy()
    const open = await eventually(async () => (descriptors() <= startDescriptors + descriptorsMax ? descriptors() : undefined))
    const now = await eventually(async () => (rssMb() <= startRssMb + rssGrowthMbMax ? rssMb() : undefined))
    process.stdout.write(
      `server: RSS ${startRssMb.toFixed(0)} MB before, ${now.toFixed(0)} MB after; descriptors ${startDescriptors} before, ${open} after\n`,
    )
  })

  it('held the bystander up for no longer than it may, and has every reading that was acknowledged, once', async () => {
    bystander.postMessage('end')
    const [result] = (await once(bystander, 'message')) as [BystanderResult]
    for (const { name, answers, p50Ms, p99Ms, maxMs, machineMs } of result.phases)
      process.stdout.write(
        `bystander, ${name}: ${answers} answers, p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms, longest ${maxMs.toFixed(1)} ms (machine alone ${machineMs.toFixed(1)} ms)\n`,
      )
    assert.deepEqual(result.refused, [])
    assert.equal(result.connections, 1)
    const hostile = result.phases.find(({ name }) => name === 'hostile')!
    assert.ok(hostile.answers > 100)
    const bound = answerMsMax + hostile.machineMs
    assert.ok(hostile.maxMs <= bound, `an answer took ${hostile.maxMs.toFixed(1)} ms; ${bound.toFixed(1)} ms are allowed`)
    await settled(server.http)
    const stored = await readings(server.http, { device: 'bystander', metric: 'n', from: firstMs })
    assert.deepEqual(
      stored.map(({ value }) => Number(value)).toSorted((a, b) => a - b),
      result.acknowledged,
    )
  })
})
