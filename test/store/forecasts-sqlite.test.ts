import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, describe, it } from 'node:test'
import type { SeriesKey } from '../../src/core/batch.ts'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { KymoError, type Code } from '../../src/core/errors.ts'
import type { IssuedForecast } from '../../src/core/forecast-store.ts'
import { limits } from '../../src/core/limits.ts'
import { openSqliteForecasts } from '../../src/store/forecasts/sqlite.ts'
import { forecastStoreContract, hourUs, issue, startUs } from '../contract/forecast-store.ts'
import { killCount } from '../support/effort.ts'
import { killsInFolders } from '../support/kills.ts'

const env = nodeEnv(silentLogger)
const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-forecasts-'))
after(() => fs.rmSync(dir, { recursive: true, force: true }))
let files = 0
const newFile = (): string => path.join(dir, `place-${++files}`, 'forecasts.sqlite')
const open = (file: string): ReturnType<typeof openSqliteForecasts> => openSqliteForecasts({ path: file, env })
const key: SeriesKey = { tenant: 'default', device: 'd', metric: 'temperature' }
const all = { fromUs: 0, toUs: limits.timeUsMax, limit: 100_000 }

const has = (code: Code) => (thrown: unknown) => thrown instanceof KymoError && thrown.code === code

forecastStoreContract({
  name: 'SQLite',
  create() {
    const location = newFile()
    return Promise.resolve({ location, remove: () => fs.promises.rm(path.dirname(location), { recursive: true }) })
  },
  open: (location) => Promise.resolve(open(location)),
})

describe('forecasts file', () => {
  it('comes with the first write, and no thread before; only its owner and group may read it', async () => {
    const file = newFile()
    const before = process.getActiveResourcesInfo().filter((one) => one === 'MessagePort').length
    const store = open(file)
    await store.predictions({ key, ...all })
    await store.erase('default', 'd')
    await store.retire(key)
    assert.equal(await store.expire({ predictionsBeforeUs: startUs, versions: 1 }), 0)
    assert.deepEqual(await store.stats(), { predictions: 0, models: 0, bytes: 0 })
    assert.equal(fs.existsSync(path.dirname(file)), false)
    assert.equal(process.getActiveResourcesInfo().filter((one) => one === 'MessagePort').length, before)
    await Promise.all([store.write([issue(key)], []), store.write([issue({ ...key, device: 'e' })], []), store.stats()])
    for (const suffix of ['', '-wal', '-shm']) assert.equal(fs.statSync(file + suffix).mode & 0o007, 0)
    assert.equal((await store.stats()).predictions, 48)
    await store.close()
  })

  it('is refused when a newer version wrote it, when it is another program’s, and when it is damaged', async () => {
    const newer = newFile()
    const store = open(newer)
    await store.write([issue(key)], [])
    await store.close()
    const copy = path.join(path.dirname(newer), 'copy.sqlite')
    fs.copyFileSync(newer, copy)
    const db = new DatabaseSync(newer)
    db.exec('PRAGMA user_version = 2')
    db.close()
    assert.throws(() => open(newer), has('store_format'))
    const theirs = newFile()
    fs.mkdirSync(path.dirname(theirs))
    const other = new DatabaseSync(theirs)
    other.exec('CREATE TABLE theirs (a)')
    other.close()
    const bytes = fs.readFileSync(theirs)
    await assert.rejects(open(theirs).prepare(), has('forecasts_corrupt'))
    assert.deepEqual(fs.readFileSync(theirs), bytes)
    const noise = newFile()
    fs.mkdirSync(path.dirname(noise))
    fs.writeFileSync(noise, 'this is not a database, though it is long enough to be looked at as if it were one.'.repeat(20))
    assert.throws(() => open(noise), has('forecasts_corrupt'))
    // Its header is whole, and what it is about is not.
    const damaged = fs.readFileSync(copy)
    damaged.fill(0x55, 100)
    fs.writeFileSync(copy, damaged)
    await assert.rejects(open(copy).predictions({ key, ...all }), has('forecasts_corrupt'))
  })

  it('holds nothing of a device that was erased', async () => {
    const file = newFile()
    const store = open(file)
    const mark = Buffer.from('to-be-forgotten')
    const one = { ...key, device: 'to-be-forgotten' }
    const mean = Float64Array.from({ length: 24 }, () => 1234.5678)
    await store.write([issue(key), issue(one, { mean, lower: mean, upper: mean })], [{ key: one, version: 0, atUs: 1, bytes: mark }])
    await store.addModel({ key: one, kind: 'ridge', state: 'champion', createdUs: 1, card: { of: 'to-be-forgotten' }, file: mark })
    await store.erase('default', 'to-be-forgotten')
    for (const name of [file, `${file}-wal`]) {
      const bytes = fs.existsSync(name) ? fs.readFileSync(name) : Buffer.alloc(0)
      assert.equal(bytes.includes(mark), false, name)
      assert.equal(bytes.includes(Buffer.from(Float64Array.of(1234.5678).buffer)), false, name)
      assert.equal(bytes.includes(Buffer.from('to-be-forgotten', 'utf16le').swap16()), false, name)
    }
    assert.equal((await store.predictions({ key, ...all })).length, 24)
    await store.close()
  })

  it('pages through months of overlapping issues without holding more than some pages', async () => {
    const store = open(newFile())
    const issues = Array.from({ length: 300 }, (_, i): IssuedForecast => issue(key, { issueUs: startUs + i * hourUs, steps: 100, from: i }))
    await store.write(issues, [])
    let after: { target_us: number; issue_us: number; version: number } | undefined
    let count = 0
    for (;;) {
      const page = await store.predictions({ key, ...all, limit: 777, ...(after === undefined ? {} : { after }) })
      for (const one of page) {
        if (after !== undefined) assert.ok(one.target_us > after.target_us || (one.target_us === after.target_us && one.issue_us > after.issue_us))
        after = one
        count++
      }
      if (page.length < 777) break
    }
    assert.equal(count, 30_000)
    assert.equal((await store.predictions({ key, ...all, newest: {} })).length, 399)
    await store.close()
  })

  it('has what was acknowledged before its process was killed, and a transaction whole or not at all', async () => {
    const kills = killCount(3)
    await killsInFolders({ kills, perFolder: 3, name: 'kymo-forecasts-kill-' }, async ({ dir: folder, inFolder }) => {
      const file = path.join(folder, 'forecasts.sqlite')
      const child = spawn(process.execPath, [new URL('./forecasts-writer.ts', import.meta.url).pathname, file, String(inFolder)], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      let said = ''
      await new Promise<void>((resolve) => {
        child.stdout.on('data', (text: Buffer) => {
          said += text.toString()
          if (said.split('\n').length > 4 + inFolder && !child.killed) child.kill('SIGKILL')
        })
        child.on('exit', () => resolve())
      })
      const store = open(file)
      const durable = said.split('\n').filter((line) => line !== '' && said.includes(`${line}\n`))
      assert.ok(durable.length >= 3)
      for (const line of durable) {
        const [round = 0, n = 0] = line.split(' ').map(Number)
        for (const device of ['a', 'b']) {
          const found = await store.predictions({ key: { ...key, device }, ...all, issueUs: startUs + n * hourUs, version: round })
          assert.equal(found.length, 24, `${device} ${line}`)
        }
      }
      // One state for each issue, in the same transaction.
      const [a = [], b = []] = await Promise.all(
        ['a', 'b'].map(async (device) => {
          const found = await store.predictions({ key: { ...key, device }, ...all, version: inFolder })
          return [...new Set(found.map((one) => one.issue_us))]
        }),
      )
      assert.deepEqual(a, b)
      const state = (await store.states([{ ...key, device: 'a' }])).find(({ version }) => version === inFolder)
      assert.equal(state?.atUs, a.at(-1))
      const { predictions } = await store.stats()
      let counted = 0
      for (const device of ['a', 'b']) counted += (await store.predictions({ key: { ...key, device }, ...all })).length
      assert.equal(predictions, counted)
      await store.close()
    })
  })
})
