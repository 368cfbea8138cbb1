import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { after, before, describe, it } from 'node:test'
import { DuckDBInstance } from '@duckdb/node-api'
import { main } from '../../src/cli/main.ts'
import type { StoreReport } from '../../src/cli/store/verify.ts'
import { keepMinutes } from '../../src/store/duckdb/series-state.ts'
import { FedStore, noDevices } from '../support/fed-store.ts'
import { RunningServer } from '../support/server.ts'
import { recordedTerminal } from './fixtures/terminal.ts'

const startUs = Date.UTC(2026, 9, 1) * 1000
const fed = new FedStore(keepMinutes, noDevices)
const sealed = (kind: string): string => fs.globSync(`sealed/*/*-${kind}.duckdb`, { cwd: path.join(fed.root, 'store') })[0]!

async function verify(...args: string[]): Promise<StoreReport & { readonly code: number }> {
  const terminal = recordedTerminal()
  process.exitCode = undefined
  const code = await main(['store', 'verify', '--json', ...args], terminal)
  process.exitCode = undefined
  const text = terminal.stdout.join('\n')
  assert.notEqual(text, '', terminal.stderr.join('\n'))
  return { ...(JSON.parse(text) as StoreReport), code }
}

function contents(): Record<string, string> {
  const files = fs.globSync('store/**/*', { cwd: fed.root }).filter((name) => fs.statSync(path.join(fed.root, name)).isFile())
  return Object.fromEntries(
    files.sort().map((name) => [
      name,
      createHash('sha256')
        .update(fs.readFileSync(path.join(fed.root, name)))
        .digest('hex'),
    ]),
  )
}

/** Does `work` with one file of the store changed; afterwards it is as it was. */
async function changed(name: string, change: (file: string) => void | Promise<void>, work: () => Promise<void>): Promise<void> {
  const file = path.join(fed.root, 'store', name)
  const whole = fs.readFileSync(file)
  await change(file)
  const before = contents()
  try {
    await work()
    assert.deepEqual(contents(), before, 'nothing was repaired, moved or deleted')
  } finally {
    fs.writeFileSync(file, whole)
  }
}

function flipped(file: string): void {
  const bytes = fs.readFileSync(file)
  bytes[bytes.length >> 1]! ^= 1
  fs.writeFileSync(file, bytes)
}

describe('kymo store verify', () => {
  before(async () => {
    await fed.open()
    for (let hour = 0; hour < 6; hour++) {
      const rows = Array.from({ length: 720 }, (_, i) => ({ device: `d${i % 3}`, timeUs: startUs + hour * 3600e6 + i * 5e6, value: i / 10 }))
      await fed.feed(rows, startUs + (hour + 1) * 3600e6)
      if (hour === 3) await fed.store.seal()
    }
    await fed.store.close()
  })
  after(() => fs.rmSync(fed.root, { recursive: true, force: true }))

  it('of a stopped server: reads all of it, compares rollups with readings, and changes nothing', async () => {
    const before = contents()
    const report = await verify('--data', fed.root)
    assert.deepEqual(report.damage, [])
    assert.equal(report.code, 0)
    assert.equal(report.from, 'directory')
    assert.ok(report.compared !== undefined && report.compared.series === 3 && report.compared.buckets >= 15, JSON.stringify(report))
    assert.ok(report.files >= 3)
    assert.deepEqual(contents(), before)
    assert.equal(fs.existsSync(path.join(fed.root, 'snapshots')), false)
    assert.equal((await verify('--data', fed.root, '--sample', '0')).not_compared, 'it was not asked for')
  })

  it('names a sealed file that is damaged, short or missing, and what is lost with it', async () => {
    const raw = sealed('raw')
    await changed(raw, flipped, async () => {
      const report = await verify('--data', fed.root)
      assert.equal(report.code, 5)
      assert.equal(report.whole, report.files - 1)
      const [one] = report.damage
      assert.deepEqual([report.damage.length, one?.file, one?.kind], [1, raw, 'content'])
      assert.match(one?.lost ?? '', /^2,880 readings, 2026-10-01T00:00:00Z to .* Their rollups are in files of their own\.$/)
      assert.equal(report.not_compared, 'files are damaged')
      const terminal = recordedTerminal()
      assert.equal(await main(['store', 'verify', '--data', fed.root], terminal), 5)
      process.exitCode = undefined
      assert.match(terminal.stdout.join('\n'), new RegExp(`✗ ${raw} has other content.*\\n.*lost: 2,880 readings`))
    })
    await changed(
      sealed('1h'),
      (file) => fs.truncateSync(file, 4096),
      async () => {
        const [one] = (await verify('--data', fed.root)).damage
        assert.equal(one?.kind, 'size')
        assert.match(one.lost, /rollups of hours, .* The readings are in a file of their own\.$/)
      },
    )
    await changed(
      raw,
      (file) => fs.rmSync(file),
      async () => {
        assert.deepEqual(
          (await verify('--data', fed.root)).damage.map(({ file, kind }) => [file, kind]),
          [[raw, 'missing']],
        )
      },
    )
  })

  it('a hot file that the engine cannot read to its end, and a rollup that its readings do not bear out', async () => {
    const hot = fs.globSync('hot-*.duckdb', { cwd: path.join(fed.root, 'store') })[0]!
    await changed(
      hot,
      (file) => {
        const bytes = fs.readFileSync(file)
        // Blocks follow three headers of 4 KiB.
        for (let at = 3 * 4096 + 100; at < bytes.length; at += 4096) bytes[at]! ^= 0xff
        fs.writeFileSync(file, bytes)
      },
      async () => {
        const report = await verify('--data', fed.root)
        assert.equal(report.code, 5)
        assert.deepEqual(
          report.damage.map(({ file, kind }) => [file, kind]),
          [[hot, 'unreadable']],
        )
        assert.match(report.damage[0]!.lost, /newest readings/)
      },
    )
    await changed(
      hot,
      async (file) => {
        const instance = await DuckDBInstance.create(':memory:')
        const connection = await instance.connect()
        await connection.run(`ATTACH '${file}' AS hot`)
        const { rowsChanged } = await connection.run('UPDATE hot.rollup_1h SET n = n + 1')
        assert.ok(rowsChanged > 0)
        await connection.run('CHECKPOINT hot')
        instance.closeSync()
      },
      async () => {
        const report = await verify('--data', fed.root)
        assert.equal(report.code, 5)
        assert.ok(report.damage.length > 0 && report.damage.every(({ kind }) => kind === 'rollup'))
        assert.match(report.damage[0]!.detail, /^the hour of 2026-10-01T0\d:00:00.000Z has count 241 instead of 240 of its readings$/)
      },
    )
  })

  it('beside a running server, which goes on: by its directory and by its address, and a missing file is named', async () => {
    const server = await RunningServer.start({ data: fed.root })
    try {
      for (const args of [
        ['--data', fed.root],
        ['--url', server.http],
      ]) {
        const report = await verify(...args)
        assert.deepEqual([report.code, report.from, report.damage], [0, 'server', []])
        assert.ok(report.compared !== undefined && report.compared.buckets >= 15)
      }
      const raw = path.join(fed.root, 'store', sealed('raw'))
      const whole = fs.readFileSync(raw)
      flipped(raw)
      const report = await verify('--data', fed.root)
      assert.deepEqual([report.code, report.damage.map(({ file, kind }) => `${file} ${kind}`)], [5, [`${sealed('raw')} content`]])
      fs.writeFileSync(raw, whole)
      fs.renameSync(raw, `${raw}.aside`)
      const terminal = recordedTerminal()
      assert.equal(await main(['store', 'verify', '--url', server.http], terminal), 5)
      assert.match(terminal.stderr.join('\n'), /KYMO-E221/)
      assert.equal(await main(['store', 'verify', '--data', fed.root], terminal), 5)
      assert.match(terminal.stderr.join('\n'), /raw\.duckdb is missing/)
      fs.renameSync(`${raw}.aside`, raw)
      assert.equal((await verify('--url', server.http)).code, 0)
      assert.equal(fs.existsSync(path.join(fed.root, 'snapshots')), false)
    } finally {
      await server.dispose()
    }
  })
})
