import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { Repository } from '../../src/cli/backup/repository.ts'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { limits } from '../../src/core/limits.ts'
import { openSqliteForecasts } from '../../src/store/forecasts/sqlite.ts'
import { hourUs, issue, startUs } from '../contract/forecast-store.ts'
import { RunningServer, runKymo } from '../support/server.ts'

const env = nodeEnv(silentLogger)
const key = { tenant: 'default', device: 'd', metric: 'v' }

describe('forecasts in backups', () => {
  const root = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-backup-forecasts-'))
  let server: RunningServer
  before(async () => {
    server = await RunningServer.start({ data: path.join(root, 'data') })
    const body = JSON.stringify({ device: 'd', values: { v: 1 } })
    await fetch(`${server.http}/api/v1/telemetry`, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
  })
  after(async () => {
    await server.dispose()
    fs.rmSync(root, { recursive: true, force: true })
  })
  const file = (data = server.data): string => path.join(data, 'forecasts.sqlite')
  const backup = async (...args: readonly string[]): Promise<void> => {
    const { code, output } = await runKymo(['backup', ...args, '--data', server.data])
    assert.equal(code, 0, output)
  }
  const formatIn = (dir: string): readonly number[] =>
    Repository.open(dir)
      .list()
      .backups.map(({ format }) => format)
  const counted = async (data: string): Promise<number> => {
    const store = openSqliteForecasts({ path: file(data), env })
    const found = await store.predictions({ key, fromUs: 0, toUs: limits.timeUsMax, limit: 100_000 })
    assert.equal((await store.stats()).predictions, found.length)
    await store.close()
    return found.length
  }

  it('a data directory that never forecast has no such file, its backup is one that earlier versions read, and restores', async () => {
    const repo = path.join(root, 'without')
    await backup(repo)
    assert.equal(fs.existsSync(file()), false)
    assert.deepEqual(formatIn(repo), [1])
    const target = path.join(root, 'restored-without')
    assert.equal((await runKymo(['restore', repo, '--data', target])).code, 0)
    assert.equal(fs.existsSync(file(target)), false)
    assert.ok(fs.existsSync(path.join(target, 'meta.sqlite')))
  })

  it('are of one moment while somebody writes, and come back: from a directory, from an archive, and of a server that is stopped', async () => {
    const store = openSqliteForecasts({ path: file(), env })
    await store.addModel({ key, kind: 'ridge', state: 'champion', createdUs: startUs, card: {}, file: Uint8Array.of(1, 2, 3) })
    let writing = true
    let issues = 0
    const writer = (async () => {
      for (; writing; issues++) await store.write([issue(key, { issueUs: startUs + issues * hourUs })], [])
    })()
    const repo = path.join(root, 'with')
    await backup(repo)
    await backup('-o', path.join(root, 'with.tar.gz'))
    writing = false
    await writer
    await store.close()
    await server.stop()
    await backup(repo)
    assert.deepEqual(formatIn(repo), [2, 2])
    const made: number[] = []
    const { backups } = Repository.open(repo).list()
    for (const [n, args] of [[repo, '--backup', backups[0]!.id], [path.join(root, 'with.tar.gz')], [repo]].entries()) {
      const target = path.join(root, `restored-${n}`)
      const { code, output } = await runKymo(['restore', ...args, '--data', target])
      assert.equal(code, 0, output)
      made.push(await counted(target))
    }
    assert.ok(made[0]! > 0 && made[0]! <= made[1]! && made.every((n) => n % 24 === 0), made.join())
    assert.equal(made[2], issues * 24)
    const restored = openSqliteForecasts({ path: file(path.join(root, 'restored-2')), env })
    assert.deepEqual([...((await restored.file(key, 1)) ?? [])], [1, 2, 3])
    await restored.close()
  })
})
