import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import process from 'node:process'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { nodeClock, nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { KymoError } from '../../src/core/errors.ts'
import { openSnapshots } from '../../src/roles/snapshots.ts'
import { copySnapshot } from '../../src/cli/backup/copy.ts'
import { planOf } from '../../src/cli/backup/plan.ts'
import { Repository } from '../../src/cli/backup/repository.ts'
import { restore } from '../../src/cli/backup/restore.ts'
import { openSource } from '../../src/cli/backup/source.ts'
import { processTerminal } from '../../src/cli/terminal.ts'
import { eventually, readings, settled } from '../support/api.ts'
import { cleanEnv, RunningServer, runKymo } from '../support/server.ts'

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-backup-'))
const data = path.join(dir, 'data')
const code = (expected: string) => (thrown: unknown) => thrown instanceof KymoError && thrown.code === expected

/** Every file below a folder with its content's checksum. */
function contents(folder: string): Record<string, string> {
  const files = fs.readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  return Object.fromEntries(
    files
      .map((entry) => path.join(entry.parentPath, entry.name))
      .filter((file) => !/kymo\.(guard|lock)/.test(file))
      .map((file) => [path.relative(folder, file), createHash('sha256').update(fs.readFileSync(file)).digest('hex')] as const)
      .toSorted(([a], [b]) => (a < b ? -1 : 1)),
  )
}

function filesBelow(folder: string): string[] {
  return Object.keys(contents(folder))
}

async function backUp(repo: string): Promise<{ readonly id: string; readonly new_bytes: number; readonly bytes: number }> {
  const { code: exit, output } = await runKymo(['backup', repo, '--data', data, '--json'])
  assert.equal(exit, 0, output)
  return JSON.parse(output) as { id: string; new_bytes: number; bytes: number }
}

describe('kymo backup of a stopped server', () => {
  before(async () => {
    const server = await RunningServer.start({ data })
    for (let v = 0; v < 20; v++) {
      const body = JSON.stringify({ device: 'd', values: { v } })
      const answer = await fetch(`${server.http}/api/v1/telemetry`, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
      assert.equal(answer.status, 202)
    }
    await settled(server.http)
    await server.kill()
  })
  after(() => fs.rmSync(dir, { recursive: true, force: true }))

  it('copies what a killed server left, changes nothing of it, and copies nothing twice', async () => {
    const repo = path.join(dir, 'incremental')
    const { 'meta.sqlite-shm': _, ...untouched } = contents(data)
    const first = await backUp(repo)
    assert.equal(first.new_bytes, first.bytes)
    const second = await backUp(repo)
    assert.equal(second.new_bytes, 0)
    const { 'meta.sqlite-shm': __, ...now } = contents(data)
    assert.deepEqual(now, untouched)
    assert.equal(Repository.open(repo).list().backups.length, 2)
    const removed = await runKymo(['backup', 'delete', repo, first.id, '--json'])
    assert.match(removed.output, /"freed_bytes":0/)
    assert.equal((await runKymo(['backup', 'verify', repo])).code, 0)
    const last = await runKymo(['backup', 'delete', repo, second.id, '--json'])
    assert.equal((JSON.parse(last.output) as { freed_bytes: number }).freed_bytes, second.bytes)
    assert.deepEqual(filesBelow(path.join(repo, 'objects')), [])
  })

  it('a damaged or missing object is named by verify and refused by restore', async () => {
    const repo = path.join(dir, 'damaged')
    const { id } = await backUp(repo)
    const repository = Repository.open(repo)
    const hot = repository.read(id).files.find((file) => /hot-\d+\.duckdb$/.test(file.path))!
    const object = repository.object(hot.sha256)
    const bytes = fs.readFileSync(object)
    bytes[bytes.length >> 1]! ^= 1
    fs.writeFileSync(object, bytes)
    for (const what of ['has other content', 'is missing']) {
      const { code: exit, output } = await runKymo(['backup', 'verify', repo])
      assert.equal(exit, 5)
      assert.match(output, new RegExp(`${hot.path}.*${what}`))
      const target = path.join(dir, 'from-damaged')
      const refused = await runKymo(['restore', repo, '--data', target])
      assert.equal(refused.code, 5)
      assert.match(refused.output, /KYMO-E215/)
      assert.equal(fs.existsSync(target), false)
      fs.rmSync(object, { force: true })
    }
    const file = path.join(repo, 'backups', `${id}.json`)
    fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace('"from_us":', '"from_us":1'))
    assert.throws(() => planOf(repository, {}), code('backup_damaged'))
  })

  it('a backup of a newer format is refused, as is one with parts of a newer format', async () => {
    const repo = path.join(dir, 'newer')
    const { id } = await backUp(repo)
    const repository = Repository.open(repo)
    const plan = planOf(repository, {})
    const o = { repository, target: path.join(dir, 'from-newer'), signal: new AbortController().signal }
    for (const part of ['store', 'forecasts']) {
      const backup = { ...plan.backup, formats: { ...plan.backup.formats, [part]: 99 } }
      await assert.rejects(restore({ ...o, plan: { ...plan, backup } }), code('backup_format'))
    }
    const file = path.join(repo, 'backups', `${id}.json`)
    fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace('"format":1', '"format":3'))
    assert.throws(() => repository.read(id), code('backup_format'))
    fs.writeFileSync(path.join(repo, 'kymo-backup.json'), '{"format":3}')
    const { code: exit, output } = await runKymo(['restore', repo, '--data', o.target])
    assert.equal(exit, 5)
    assert.match(output, /KYMO-E216/)
    assert.equal(fs.existsSync(o.target), false)
  })

  it('broken off at any file, a backup is known as unfinished, hurts no other, and the next one clears it away', async () => {
    const repo = path.join(dir, 'broken')
    const { bytes } = await backUp(repo)
    const { 'meta.sqlite-shm': _, ...untouched } = contents(data)
    const repository = Repository.open(repo)
    for (const share of [0, 0.3, 0.9]) {
      const source = await openSource({ data, scratch: path.join(repo, 'tmp-test'), terminal: processTerminal() })
      // Made to differ, so that something is copied.
      fs.rmSync(path.join(repo, 'objects'), { recursive: true })
      fs.mkdirSync(path.join(repo, 'objects'))
      const abort = new AbortController()
      const copying = copySnapshot({
        source,
        repository,
        signal: abort.signal,
        onProgress: (done) => {
          if (done >= share * bytes) abort.abort(new KymoError('shutting_down'))
        },
      })
      // Nothing is tidied up: as when the process is killed there.
      await assert.rejects(copying, code('shutting_down'))
      await source.close()
      const { unfinished, backups } = repository.list()
      assert.equal(unfinished.length > 0, true)
      assert.equal(backups.length >= 1, true)
      const listed = await runKymo(['backup', 'list', repo])
      assert.match(listed.output, /not finished/)
      await backUp(repo)
      assert.deepEqual(repository.list().unfinished, [])
      assert.deepEqual(
        fs.readdirSync(repo).filter((name) => name.startsWith('tmp-')),
        [],
      )
      assert.equal((await runKymo(['backup', 'verify', repo])).code, 0)
    }
    const { 'meta.sqlite-shm': __, ...now } = contents(data)
    assert.deepEqual(now, untouched)
  })

  it('broken off, a restore leaves no data directory, and the next one does it', async () => {
    const repo = path.join(dir, 'to-restore')
    const { bytes } = await backUp(repo)
    const repository = Repository.open(repo)
    const plan = planOf(repository, {})
    const target = path.join(dir, 'restored')
    for (const share of [0, 0.3, 0.6]) {
      const abort = new AbortController()
      const onProgress = (done: number): void => {
        if (done >= share * bytes) abort.abort(new KymoError('shutting_down'))
      }
      await assert.rejects(restore({ repository, plan, target, signal: abort.signal, onProgress }), code('shutting_down'))
      assert.equal(fs.existsSync(target), false)
      assert.equal(fs.existsSync(`${target}.restoring`), true)
    }
    await restore({ repository, plan, target, signal: new AbortController().signal })
    assert.equal(fs.existsSync(`${target}.restoring`), false)
    assert.deepEqual(
      filesBelow(target).filter((name) => !name.endsWith('restored.json')),
      plan.files.map((file) => file.path).toSorted((a, b) => (a < b ? -1 : 1)),
    )
    await assert.rejects(restore({ repository, plan, target, signal: new AbortController().signal }), code('restore_refused'))
  })

  it('does not write into a directory of something else, nor find backups there', async () => {
    const other = path.join(dir, 'other')
    fs.mkdirSync(other)
    fs.writeFileSync(path.join(other, 'diary.txt'), 'x')
    assert.equal((await runKymo(['backup', other, '--data', data])).code, 2)
    assert.equal((await runKymo(['backup', 'list', other])).code, 1)
    assert.equal((await runKymo(['backup', path.join(dir, 'x'), '--data', path.join(dir, 'nowhere')])).code, 1)
    assert.deepEqual(fs.readdirSync(other), ['diary.txt'])
  })
})

describe('snapshots of a running server', () => {
  const own = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-backup-'))
  let server: RunningServer
  before(async () => {
    server = await RunningServer.start({ data: path.join(own, 'data') })
    for (let v = 0; v < 20; v++) {
      const body = JSON.stringify({ device: 'd', values: { v } })
      await fetch(`${server.http}/api/v1/telemetry`, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
    }
  })
  after(async () => {
    await server.dispose()
    fs.rmSync(own, { recursive: true, force: true })
  })
  const folder = (): string => path.join(server.data, 'snapshots')
  const post = (): Promise<Response> =>
    fetch(`${server.http}/api/v1/snapshots`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' })

  it('are copied over HTTP where their files cannot be reached', async () => {
    const repository = Repository.make(path.join(own, 'over-http'))
    const source = await openSource({ url: server.http, scratch: path.join(own, 'unused'), terminal: processTerminal() })
    const signal = new AbortController().signal
    const { backup, linkedBytes } = await copySnapshot({ source: { ...source, local: () => undefined }, repository, signal })
    assert.equal(linkedBytes, 0)
    for (const file of backup.files) assert.equal(await repository.check(file), undefined, file.path)
    await source.close()
    assert.equal(fs.existsSync(folder()), false)
    await restore({ repository, plan: planOf(repository, {}), target: path.join(own, 'restored'), signal })
    const restored = await RunningServer.start({ data: path.join(own, 'restored') })
    await settled(restored.http)
    assert.equal((await readings(restored.http, { device: 'd' })).length, 20)
    await restored.stop()
  })

  it('are few, give out nothing but their files, and a killed server leaves none', async () => {
    const made = [await post(), await post()]
    assert.deepEqual(
      made.map((answer) => answer.status),
      [201, 201],
    )
    const refused = await post()
    assert.equal(refused.status, 429)
    const location = made[0]!.headers.get('location')!
    const get = async (query: string): Promise<number> => (await fetch(`${server.http}${location}/file?path=${encodeURIComponent(query)}`)).status
    assert.equal(await get('meta.sqlite'), 200)
    for (const bad of ['../../kymo.lock', '/etc/passwd', 'snapshot.json', 'store/LOCK']) assert.equal(await get(bad), 404, bad)
    assert.equal((await fetch(`${server.http}${location}`, { method: 'DELETE' })).status, 204)
    assert.equal((await fetch(`${server.http}${location}`, { method: 'DELETE' })).status, 404)
    assert.equal((await fetch(`${server.http}${location}`)).status, 404)
    assert.equal(fs.readdirSync(folder()).length, 1)
    await server.kill()
    assert.equal(fs.readdirSync(folder()).length, 1)
    server = await server.restart()
    assert.equal(fs.existsSync(folder()), false)
  })

  it('killed at any time, kymo backup leaves the server as it was, and the next one succeeds', async () => {
    const repo = path.join(own, 'killed')
    fs.mkdirSync(path.join(repo, 'objects'), { recursive: true })
    const first = await runKymo(['backup', repo, '--data', server.data])
    assert.equal(first.code, 0, first.output)
    fs.rmSync(repo, { recursive: true })
    for (const ms of [300, 350, 400, 450, 500, 550, 600]) {
      const child = spawn(process.execPath, ['src/cli/bin.js', 'backup', repo, '--data', server.data], { env: cleanEnv(), stdio: 'ignore' })
      setTimeout(() => child.kill('SIGKILL'), ms)
      await once(child, 'close')
      if (!fs.existsSync(path.join(repo, 'kymo-backup.json'))) continue
      const { unreadable } = Repository.open(repo).list()
      assert.deepEqual(unreadable, [])
      // The next backup, which knows of it, gives it back: there are never two. There may be none: killed before it had one, or with the last one just given back.
      const left = fs.globSync('*', { cwd: folder() })
      assert.ok(left.length <= 1, `left: ${left.join(', ')}`)
    }
    const { code: exit, output } = await runKymo(['backup', repo, '--data', server.data, '--json'])
    assert.equal(exit, 0, output)
    assert.equal((await runKymo(['backup', 'verify', repo])).code, 0)
    const { unfinished } = Repository.open(repo).list()
    assert.deepEqual(unfinished, [])
    assert.equal((await readings(server.http, { device: 'd' })).length, 20)
  })

  it('are removed when nobody asks for them', async () => {
    const timers: (() => void)[] = []
    const clock = {
      ...nodeClock,
      after: (_ms: number, fn: () => void) => (timers.push(fn), { cancel: () => void timers.splice(timers.indexOf(fn), 1) }),
    }
    const into = path.join(own, 'leased')
    fs.mkdirSync(path.join(own, 'log'))
    const snapshots = openSnapshots({
      dir: into,
      logDir: path.join(own, 'log'),
      metaFile: path.join(server.data, 'meta.sqlite'),
      log: { id: 'x', end: () => 0n },
      store: { snapshot: () => Promise.resolve({ formats: { store: 1, sealed: 1 }, spans: [], files: [], stalledMs: 0 }) },
      env: { ...nodeEnv(silentLogger), clock },
      version: '0',
    })
    const { id } = await snapshots.create()
    assert.ok(snapshots.get(id))
    assert.equal(timers.length, 1, 'each question begins the time anew')
    timers[0]!()
    await eventually(() => Promise.resolve(fs.existsSync(into) ? undefined : true))
    assert.equal(snapshots.get(id), undefined)
  })
})
