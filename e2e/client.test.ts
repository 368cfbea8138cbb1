import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import type { AddressInfo } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import type { TestContext } from 'node:test'
import { createClient, KymoError } from '../src/client/index.ts'
import type { Client, LiveEvent, Row } from '../src/client/index.ts'
import { bundle } from '../test/client/bundle.ts'
import { eventually } from '../test/support/api.ts'
import { without } from '../test/support/programs.ts'
import { runKymo, RunningServer } from '../test/support/server.ts'

async function collected<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

async function refused(call: Promise<unknown>): Promise<KymoError> {
  const error: unknown = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  return error instanceof KymoError ? error : assert.fail(`no KymoError but ${String(error)}`)
}

const rowsOf = (client: Client, device: string): Promise<Row[]> => collected(client.rows({ device, limit: 7 }))

/** Waits until the store has `count` rows of the device. */
function stored(client: Client, device: string, count: number): Promise<Row[]> {
  return eventually(async () => {
    const rows = await rowsOf(client, device)
    return rows.length >= count ? rows : undefined
  })
}

/** Between client and server; `cut` ends all connections, as a network does. */
class Wire {
  readonly #sockets = new Set<net.Socket>()
  readonly #server: net.Server
  private constructor(server: net.Server) {
    this.#server = server
    server.on('connection', (near: net.Socket) => this.#sockets.add(near))
  }
  static async to(port: number): Promise<Wire> {
    const server = net.createServer((near) => {
      const far = net.connect(port, '127.0.0.1')
      near.pipe(far).pipe(near)
      near.on('error', () => far.destroy()).on('close', () => far.destroy())
      far.on('error', () => near.destroy()).on('close', () => near.destroy())
    })
    const wire = new Wire(server)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return wire
  }
  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }
  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
    this.#sockets.clear()
  }
  close(): void {
    this.cut()
    this.#server.close()
  }
}

/** Follows a live stream in the background. */
function follow(t: TestContext, client: Client, devices: readonly string[]): { readonly events: LiveEvent[]; values(): unknown[]; opens(): number } {
  const stop = new AbortController()
  const events: LiveEvent[] = []
  const done = (async () => {
    for await (const event of client.live({ devices, signal: stop.signal })) events.push(event)
  })()
  t.after(async () => {
    stop.abort()
    await done
  })
  return {
    events,
    values: () => events.flatMap((event) => (event.type === 'readings' ? event.readings.map(({ value }) => value) : [])),
    opens: () => events.filter(({ type }) => type === 'open').length,
  }
}

const until = (condition: () => boolean): Promise<true> => eventually(async () => (condition() ? true : undefined), 20_000)
const numbers = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i)

describe('the client and a server', () => {
  let server: RunningServer
  let client: Client
  before(async () => {
    server = await RunningServer.start()
    client = createClient({ url: server.http })
  })
  after(() => server.dispose())

  it('sends, and reads back: rows over pages, columns, CSV, SQL, latest, series', async () => {
    const messages = numbers(0, 20).map((i) => ({ device_id: 'sent, with a comma', temperature: i, time: 1_700_000_000_000 + i * 1000 }))
    assert.deepEqual(await client.send(messages), { accepted: 20, rejected: 0 })
    const rows = await stored(client, 'sent\\, with a comma', 20)
    assert.deepEqual(
      rows.map(({ value }) => value),
      numbers(0, 20),
    )
    assert.equal(rows[3]!.time, 1_700_000_003_000)
    const [bucket] = await collected(client.rows({ device: ['sent, with a comma'], step: '1h', agg: ['min', 'max', 'count'] }))
    assert.deepEqual([bucket!['min'], bucket!['max'], bucket!['count']], [0, 19, 20])
    const answer = await client.readings.query({ device: ['sent, with a comma'], limit: 5 })
    assert.equal(answer.truncated, true)
    assert.equal(answer.columns['value']?.length, 5)
    const csv = await client.readings.query({ device: ['sent, with a comma'], limit: 2, format: 'csv' }, { as: 'text' })
    assert.equal(csv.trim().split('\n').length, 3)
    const sql = await client.readings.sql({ body: { sql: 'SELECT count(*) AS n FROM readings WHERE device = $1', params: ['sent, with a comma'] } })
    assert.deepEqual(sql.rows, [[20]])
    const latest = await client.readings.getDeviceLatest({ id: 'sent, with a comma' })
    assert.equal(latest.items?.[0]?.value, 19)
    const series = await collected(client.readings.allSeries({ limit: 1 }))
    assert.ok(series.some(({ device }) => device === 'sent, with a comma'))
  })

  it('keeps devices: creates, changes by ETag, lists over pages', async () => {
    for (const id of ['d-1', 'd-2', 'd-3']) await client.devices.create({ body: { id, name: id.toUpperCase() } })
    assert.equal((await refused(client.devices.create({ body: { id: 'd-1' } }))).status, 409)
    const listed = await collected(client.devices.all({ limit: 2 }))
    assert.deepEqual(
      listed.map(({ id }) => id).filter((id) => id.startsWith('d-')),
      ['d-1', 'd-2', 'd-3'],
    )
    let etag = ''
    const device = await client.devices.get({ id: 'd-1' }, { onResponse: ({ headers }) => (etag = headers.get('etag') ?? '') })
    assert.equal(device.name, 'D-1')
    const changed = await client.devices.update({ id: 'd-1', ifMatch: etag, body: { metadata: { room: 'cellar' } } })
    assert.deepEqual(changed.metadata, { room: 'cellar' })
    const stale = await refused(client.devices.update({ id: 'd-1', ifMatch: etag, body: { name: 'x' } }))
    assert.equal(stale.status, 412)
    const unknown = await refused(client.devices.get({ id: 'nobody' }))
    assert.equal(unknown.status, 404)
    assert.ok(unknown.requestId !== undefined && unknown.detail.length > 5)
    const wrong = await refused(client.devices.create({ body: { id: 'a b' } }))
    assert.equal(wrong.errors[0]?.pointer, '/id')
  })

  it('dead letters, jobs, snapshots, tokens, health', async () => {
    assert.equal((await refused(client.send({ device_id: 'dl', temperature: 'warm', time: 'never' }))).status, 422)
    const letters = await eventually(async () => {
      const found = await collected(client.deadLetters.all())
      return found.length > 0 ? found : undefined
    })
    assert.match((await client.deadLetters.get({ id: letters[0]!.id })).body ?? '', /never/)
    assert.equal(await client.deadLetters.dismiss({ id: letters[0]!.id }), undefined)
    const file = new Blob(['time,temperature\n2024-01-01T00:00:00Z,1\n2024-01-01T00:01:00Z,2\n'])
    const { id } = await client.jobs.createImport({ device: 'imported', format: 'csv', body: file })
    const job = await eventually(async () => {
      const now = await client.jobs.get({ id })
      return now.state === 'waiting' || now.state === 'running' ? undefined : now
    })
    assert.equal(job.state, 'done')
    assert.equal((await stored(client, 'imported', 2)).length, 2)
    const made = await client.jobs.createExport({ body: { format: 'csv', device: ['imported'] } })
    await eventually(async () => ((await client.jobs.get({ id: made.id })).state === 'done' ? true : undefined))
    assert.match(await client.jobs.downloadExport({ id: made.id }, { as: 'text' }), /imported/)
    const { snapshot } = await client.backup.createSnapshot({ body: {} })
    assert.ok(snapshot.files.length > 0)
    await client.backup.deleteSnapshot({ id: snapshot.id })
    const token = await client.tokens.create({ body: { name: 't', scopes: ['read'] } })
    assert.match(token.token, /^tk_/)
    await client.tokens.revoke({ id: token.id })
    assert.match(await client.system.livez(), /ok|alive|live/i)
    assert.equal(typeof (await client.system.status())['readings_total'], 'number')
  })

  it('a batcher tells each message its own fate', async () => {
    const batch = client.batcher({ maxItems: 10, maxDelayMs: 5 })
    const results = await Promise.allSettled(
      numbers(0, 25).map((i) =>
        batch.add(i === 3 || i === 17 ? { device_id: 'batched', v: i, time: 'never' } : { device_id: 'batched', v: i, time: 1_700_000_000_000 + i }),
      ),
    )
    assert.deepEqual(
      results.flatMap((result, i) => (result.status === 'rejected' ? [[i, (result.reason as KymoError).status]] : [])),
      [
        [3, 422],
        [17, 422],
      ],
    )
    const rows = await stored(client, 'batched', 23)
    assert.deepEqual(
      rows.map(({ value }) => value),
      numbers(0, 25).filter((i) => i !== 3 && i !== 17),
    )
  })

  it('live goes on where it was when connections are cut: nothing is lost, nothing comes twice', async (t) => {
    const wire = await Wire.to(server.httpPort)
    t.after(() => wire.close())
    const live = follow(t, createClient({ url: wire.url }), ['cut'])
    await until(() => live.opens() === 1)
    for (let round = 0; round < 5; round++) {
      // Some are told, then the line is cut in the middle of others.
      for (const v of numbers(round * 20, round * 20 + 10)) await client.send({ device_id: 'cut', v })
      await until(() => live.values().length >= round * 20 + 10)
      wire.cut()
      for (const v of numbers(round * 20 + 10, round * 20 + 20)) await client.send({ device_id: 'cut', v })
      await until(() => live.values().length >= round * 20 + 20)
    }
    assert.deepEqual(live.values(), numbers(0, 100))
    assert.equal(live.events.filter(({ type }) => type === 'gap').length, 0)
    assert.ok(live.opens() >= 6)
  })

  it('live over a restart says that there is a gap, and the store has what lies in it', async (t) => {
    const live = follow(t, client, ['restarted'])
    await until(() => live.opens() === 1)
    for (const v of numbers(0, 5)) await client.send({ device_id: 'restarted', v, time: 1_700_000_000_000 + v })
    await until(() => live.values().length === 5)
    const last = live.events.findLast(({ type }) => type === 'readings')
    await server.kill()
    server = await server.restart()
    for (const v of numbers(5, 10)) await client.send({ device_id: 'restarted', v, time: 1_700_000_000_000 + v })
    await until(() => live.opens() >= 2)
    await until(() => live.events.some(({ type }) => type === 'gap'))
    const gap = live.events.find(({ type }) => type === 'gap')
    assert.ok(gap?.type === 'gap' && last?.type === 'readings')
    assert.equal(gap.since, last.id)
    for (const v of numbers(10, 15)) await client.send({ device_id: 'restarted', v, time: 1_700_000_000_000 + v })
    await until(() => live.values().includes(14))
    const told = live.values()
    assert.equal(new Set(told).size, told.length, String(told))
    const rows = await stored(client, 'restarted', 15)
    assert.deepEqual(
      rows.map(({ value }) => value),
      numbers(0, 15),
    )
  })

  it('runs in a browser: sends, reads, follows', { skip: without('chromium') }, async (t) => {
    const { launch } = await import('puppeteer-core')
    const profile = mkdtempSync(path.join(os.tmpdir(), 'kymo-browser-'))
    const browser = await launch({ executablePath: '/usr/bin/chromium', userDataDir: profile, args: ['--no-sandbox', '--disable-gpu'] })
    t.after(async () => {
      await browser.close()
      rmSync(profile, { recursive: true, force: true })
    })
    const page = await browser.newPage()
    await page.setBypassCSP(true)
    await page.goto(`${server.http}/livez`)
    await page.addScriptTag({ content: await bundle(`export * from 'kymo/client'`, 'iife') })
    const program = `(async () => {
      const client = kymo.createClient({ url: location.origin })
      const told = []
      for await (const event of client.live({ devices: ['browser'] })) {
        if (event.type === 'open') await client.send([{ device_id: 'browser', v: 1 }, { device_id: 'browser', v: 2 }])
        if (event.type === 'readings') told.push(...event.readings.map(({ value }) => value))
        if (told.length === 2) break
      }
      const error = await client.devices.get({ id: 'nobody' }).catch((error) => error)
      return { told, code: error instanceof kymo.KymoError ? error.code : String(error) }
    })()`
    assert.deepEqual(await page.evaluate(program), { told: [1, 2], code: 'device_not_found' })
    assert.equal((await stored(client, 'browser', 2)).length, 2)
  })
})

it('with tokens: the stream too sends its Authorization, and a missing right is told', async (t) => {
  const data = mkdtempSync(path.join(os.tmpdir(), 'kymo-client-'))
  t.after(() => rmSync(data, { recursive: true, force: true }))
  const made = await runKymo(['tokens', 'create', '--name', 'reader', '--scopes', 'read', '--data', data, '--json'])
  const token = /tk_[A-Za-z0-9_-]{43}/.exec(made.output)?.[0] ?? assert.fail(made.output)
  const server = await RunningServer.start({ data, env: { KYMO_AUTH: 'token' } })
  t.after(() => server.dispose())
  const reader = createClient({ url: server.http, token })
  for await (const event of reader.live()) {
    assert.equal(event.type, 'open')
    break
  }
  assert.equal((await refused(reader.send({ device_id: 'a', v: 1 }))).code, 'forbidden')
  const stranger = createClient({ url: server.http })
  assert.equal((await refused(stranger.devices.list())).code, 'unauthenticated')
  await assert.rejects(collected(stranger.live()), (error) => error instanceof KymoError && error.code === 'unauthenticated')
})
