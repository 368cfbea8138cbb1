import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { eventually, settled } from '../support/api.ts'
import { RunningServer, runKymo } from '../support/server.ts'

interface Job {
  readonly id: string
  readonly kind: string
  readonly state: string
  readonly attempts: number
  readonly progress: Readonly<Record<string, unknown>>
  readonly error: { readonly code: string; readonly detail: string } | null
  readonly files: Readonly<Record<string, { readonly href: string; readonly bytes: number }>>
}

async function start(t: TestContext, o: Parameters<typeof RunningServer.start>[0] = {}): Promise<RunningServer> {
  const server = await RunningServer.start(o)
  t.after(() => server.dispose())
  return server
}

/** Jobs give way to the server (nice 10): where others keep all cores busy, what takes a second alone takes a minute. */
const patienceMs = 240_000

class Client {
  readonly #base: string
  readonly #headers: Readonly<Record<string, string>>

  constructor(base: string, token?: string) {
    this.#base = base
    this.#headers = token === undefined ? {} : { authorization: `Bearer ${token}` }
  }

  async call(method: string, where: string, body?: string | Buffer): Promise<Response> {
    const json = where === '/api/v1/exports' ? { 'content-type': 'application/json' } : {}
    return fetch(new URL(where, this.#base), {
      method,
      headers: { ...this.#headers, ...json },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : new Uint8Array(body) }),
    })
  }

  async create(where: string, body: string | Buffer): Promise<Job> {
    const answer = await this.call('POST', where, body)
    const text = await answer.text()
    assert.equal(answer.status, 202, text)
    const job = JSON.parse(text) as Job
    assert.equal(answer.headers.get('location'), `/api/v1/jobs/${job.id}`)
    return job
  }

  async job(id: string): Promise<Job> {
    return (await (await this.call('GET', `/api/v1/jobs/${id}`)).json()) as Job
  }

  ended(id: string): Promise<Job> {
    return eventually(async () => {
      const job = await this.job(id)
      return job.state === 'waiting' || job.state === 'running' ? undefined : job
    }, patienceMs)
  }
}

function csv(rows: number): string {
  const lines = ['time,a,b']
  for (let i = 0; i < rows; i++) lines.push(`${new Date(Date.UTC(2026, 0, 1) + i * 1_000).toISOString()},${i},${i % 10}`)
  return lines.join('\n') + '\n'
}

test('an upload becomes an import, an export becomes a file, and both are forgotten when asked', async (t) => {
  const server = await start(t)
  const client = new Client(server.http)
  const created = await client.create('/api/v1/imports?name=meter-7.csv', csv(1_000) + 'bad,1,1\n')
  assert.equal(created.kind, 'import')
  const imported = await client.ended(created.id)
  assert.equal(imported.state, 'done', JSON.stringify(imported))
  assert.deepEqual([imported.progress['rows'], imported.progress['readings'], imported.progress['rejected']], [1_001, 2_000, 1])
  const rejects = await (await client.call('GET', imported.files['rejects']!.href)).text()
  assert.match(rejects, /^\{"line":1002,"reason":/)

  await settled(server.http)
  const exported = await client.ended((await client.create('/api/v1/exports', JSON.stringify({ format: 'csv', wide: true, device: ['meter-7'] }))).id)
  assert.equal(exported.state, 'done', JSON.stringify(exported))
  const file = await client.call('GET', exported.files['download']!.href)
  assert.equal(file.headers.get('content-type'), 'text/csv; charset=utf-8; header=present')
  const lines = (await file.text()).split('\r\n')
  assert.deepEqual([lines[0], lines[2], lines.length], ['time,device,a,b', '2026-01-01T00:00:01.000Z,meter-7,1,1', 1_002])
  const parquet = await client.ended((await client.create('/api/v1/exports', JSON.stringify({ format: 'parquet' }))).id)
  const bytes = Buffer.from(await (await client.call('GET', parquet.files['download']!.href)).arrayBuffer())
  assert.deepEqual([bytes.toString('latin1', 0, 4), bytes.length], ['PAR1', parquet.files['download']!.bytes])

  const listed = (await (await client.call('GET', '/api/v1/jobs?limit=2')).json()) as { items: Job[]; next_cursor: string }
  assert.deepEqual(
    listed.items.map(({ id }) => id),
    [parquet.id, exported.id],
  )
  const rest = (await (await client.call('GET', `/api/v1/jobs?limit=2&cursor=${listed.next_cursor}`)).json()) as { items: Job[] }
  assert.deepEqual(
    rest.items.map(({ id }) => id),
    [created.id],
  )
  assert.equal((await client.call('DELETE', `/api/v1/jobs/${exported.id}`)).status, 200)
  assert.equal((await client.call('GET', `/api/v1/jobs/${exported.id}`)).status, 404)
  assert.ok(!fs.existsSync(path.join(server.data, 'jobs', exported.id)))
})

test('what cannot work says why: in the job, in the words of the API; or at once', async (t) => {
  const server = await start(t)
  const client = new Client(server.http)
  const failed = await client.ended((await client.create('/api/v1/imports', 'time,a\n03/04/2026,1\n')).id)
  assert.equal(failed.state, 'failed')
  assert.match(failed.error?.detail ?? '', /reads as DD\/MM\/YYYY and as MM\/DD\/YYYY; say which with time_format/)
  const broken = await client.ended((await client.create('/api/v1/imports', 'PAR1 and nothing else')).id)
  assert.equal(broken.state, 'failed')
  assert.doesNotMatch(broken.error?.detail ?? '', /\/jobs\//, 'no paths of the server')
  const refuse = async (where: string, body: string, status: number): Promise<void> =>
    assert.equal((await client.call('POST', where, body)).status, status)
  await refuse('/api/v1/imports', '', 400)
  await refuse('/api/v1/imports?formt=csv', 'x', 400)
  await refuse('/api/v1/exports', '{"format":"parquet","compression":"gzip"}', 400)
  await refuse('/api/v1/exports', '{"format":"xml"}', 400)
  assert.equal((await client.call('GET', `/api/v1/jobs/${failed.id}/download`)).status, 404)
})

test('a job outlives its server: killed in the middle, it goes on at the next start; one that is cancelled does not', async (t) => {
  const server = await start(t)
  const client = new Client(server.http)
  const rows = 150_000
  const { id } = await client.create('/api/v1/imports?name=big.csv', csv(rows))
  const state = path.join(server.data, 'jobs', id, 'state.json')
  await eventually(async () => ((await client.job(id)).state === 'running' && fs.existsSync(state) ? true : undefined), patienceMs)
  await server.kill()
  const again = await server.restart()
  t.after(() => again.dispose())
  const after = new Client(again.http)
  const job = await after.ended(id)
  assert.equal(job.state, 'done', JSON.stringify(job))
  assert.equal(job.attempts, 2)
  assert.deepEqual([job.progress['rows'], job.progress['readings']], [rows, 2 * rows])
  assert.ok(!fs.existsSync(path.join(again.data, 'jobs', id, 'body')), 'the upload is not kept')
  await settled(again.http)
  const count = await runKymo(['export', '--metric', 'a', '--url', again.http, '--json', path.join(again.data, 'a.csv')])
  assert.equal((JSON.parse(count.output.trim().split('\n').at(-1)!) as { rows: number }).rows, rows)

  const other = await after.create('/api/v1/imports?device=other', csv(rows))
  await eventually(async () => ((await after.job(other.id)).state === 'running' ? true : undefined), patienceMs)
  const cancelled = (await (await after.call('DELETE', `/api/v1/jobs/${other.id}`)).json()) as Job
  assert.equal(cancelled.state, 'cancelled')
  assert.ok(!fs.existsSync(path.join(again.data, 'jobs', other.id)))
})

test('with tokens: a job may do what its creator may, and its own token is no use to others', async (t) => {
  const data = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-jobs-'))
  t.after(() => fs.rmSync(data, { recursive: true, force: true }))
  const tokenOf = async (scope: string): Promise<string> => {
    const made = await runKymo(['tokens', 'create', '--name', scope, '--scopes', scope, '--data', data, '--json'])
    return /tk_[A-Za-z0-9_-]{43}/.exec(made.output)?.[0] ?? assert.fail(made.output)
  }
  const ingest = await tokenOf('ingest')
  const read = await tokenOf('read')
  const server = await start(t, { data, env: { KYMO_AUTH: 'token' } })
  const writer = new Client(server.http, ingest)
  const reader = new Client(server.http, read)
  const { id } = await writer.create('/api/v1/imports?name=m.csv', csv(100))
  const imported = await reader.ended(id)
  assert.equal(imported.state, 'done', JSON.stringify(imported))
  assert.equal((await reader.call('POST', '/api/v1/imports', csv(1))).status, 403)
  assert.equal((await writer.call('POST', '/api/v1/exports', '{}')).status, 403)
  assert.equal((await reader.call('DELETE', `/api/v1/jobs/${id}`)).status, 403)
  const exported = await reader.ended((await reader.create('/api/v1/exports', '{"format":"ndjson","compression":"zstd"}')).id)
  assert.equal(exported.state, 'done', JSON.stringify(exported))
  assert.equal((await new Client(server.http).call('GET', '/api/v1/jobs')).status, 401)
  assert.equal((await new Client(server.http, 'job_guess').call('GET', '/api/v1/jobs')).status, 401)
})

test('after a restore jobs say what became of them: results are gone (410), an import without its upload has failed', async (t) => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-jobs-restored-'))
  t.after(() => fs.rmSync(dir, { recursive: true, force: true }))
  const server = await start(t, { data: path.join(dir, 'data') })
  const client = new Client(server.http)
  const imported = await client.create('/api/v1/imports?device=d', `${csv(50)}not-a-time,1,2\n`)
  const { files } = await client.ended(imported.id)
  assert.ok(files['rejects'] !== undefined)
  await settled(server.http)
  const exported = await client.create('/api/v1/exports', '{}')
  assert.equal((await client.ended(exported.id)).state, 'done')
  // Killed in the middle: the backup knows of it, and not what was uploaded.
  const unfinished = await client.create('/api/v1/imports?device=e', csv(300_000))
  await server.kill()
  const archive = path.join(dir, 'backup.tar')
  assert.equal((await runKymo(['backup', '-o', archive, '--data', server.data])).code, 0)
  assert.equal((await runKymo(['restore', archive, '--data', path.join(dir, 'restored')])).code, 0)
  const restored = await start(t, { data: path.join(dir, 'restored') })
  const again = new Client(restored.http)
  for (const [id, file] of [
    [imported.id, 'rejects'],
    [exported.id, 'download'],
  ] as const) {
    const job = await again.job(id)
    assert.deepEqual([job.state, job.files], ['done', {}])
    const answer = await again.call('GET', `/api/v1/jobs/${id}/${file}`)
    assert.equal(answer.status, 410)
    assert.equal(((await answer.json()) as { code: string }).code, 'job_file_gone')
    // What there never was is another thing.
    assert.equal((await again.call('GET', `/api/v1/jobs/${id}/${file === 'rejects' ? 'download' : 'rejects'}`)).status, 404)
  }
  const failed = await again.job(unfinished.id)
  assert.deepEqual([failed.state, failed.error?.code], ['failed', 'job_file_gone'])
})
