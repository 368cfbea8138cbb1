import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { writeArchive } from '../../src/cli/backup/archive.ts'
import { restoreArchive } from '../../src/cli/backup/restore.ts'
import { openSource } from '../../src/cli/backup/source.ts'
import { processTerminal } from '../../src/cli/terminal.ts'
import { KymoError } from '../../src/core/errors.ts'
import { padding, tarEnd, tarHeader } from '../../src/wire/tar/write.ts'
import { readings, settled } from '../support/api.ts'
import { RunningServer, runKymo } from '../support/server.ts'

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-archive-'))
const data = path.join(dir, 'data')
const signal = new AbortController().signal
const code =
  (expected: string, text = /./) =>
  (thrown: unknown) =>
    thrown instanceof KymoError && thrown.code === expected && text.test(thrown.message)

async function send(server: RunningServer, from: number, to: number): Promise<void> {
  for (let v = from; v < to; v++) {
    const body = JSON.stringify({ device: 'd', values: { v } })
    const answer = await fetch(`${server.http}/api/v1/telemetry`, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
    assert.equal(answer.status, 202)
  }
  await settled(server.http)
}

async function kymo(...args: string[]): Promise<Record<string, unknown>> {
  const { code: exit, output } = await runKymo([...args, '--json'])
  assert.equal(exit, 0, output)
  return JSON.parse(output) as Record<string, unknown>
}

async function valuesOf(restored: string): Promise<unknown[]> {
  const server = await RunningServer.start({ data: restored })
  try {
    await settled(server.http)
    return (await readings(server.http, { device: 'd' })).map(({ value }) => value).sort((a, b) => Number(a) - Number(b))
  } finally {
    await server.dispose()
  }
}

const upTo = (n: number): number[] => Array.from({ length: n }, (_, v) => v)

describe('kymo backup -o', () => {
  let server: RunningServer
  before(async () => {
    server = await RunningServer.start({ data })
    await send(server, 0, 20)
  })
  after(async () => {
    await server.dispose()
    fs.rmSync(dir, { recursive: true, force: true })
  })

  it('writes one archive beside a running server, however it is packed; a restored one has all', async () => {
    for (const [name, from] of [
      ['a.tar', ['--data', data]],
      ['a.tar.gz', ['--url', server.http]],
      ['a.tar.zst', ['--data', data]],
    ] as const) {
      const file = path.join(dir, name)
      const made = await kymo('backup', '-o', file, ...from)
      assert.deepEqual([made['source'], made['file'], made['file_bytes']], ['server', file, fs.statSync(file).size])
      assert.deepEqual(await kymo('backup', 'verify', file), { ok: true, backups: 1, files: made['files'], bytes: made['bytes'], damage: [] })
      await kymo('restore', file, '--data', path.join(dir, `from-${name}`))
      assert.deepEqual(await valuesOf(path.join(dir, `from-${name}`)), upTo(20), name)
    }
    assert.deepEqual(
      fs.readdirSync(dir).filter((name) => /partial|scratch|meta/.test(name)),
      [],
    )
    assert.equal(fs.existsSync(path.join(data, 'snapshots')), false)
  })

  it('is what the system’s tar unpacks, file by file as the description says', () => {
    const into = path.join(dir, 'unpacked')
    fs.mkdirSync(into)
    execFileSync('tar', ['-xf', path.join(dir, 'a.tar'), '-C', into])
    const described = JSON.parse(fs.readFileSync(path.join(into, 'kymo-backup.json'), 'utf8')) as {
      files: { path: string; bytes: number; sha256: string }[]
    }
    assert.ok(described.files.length > 4)
    for (const { path: name, bytes, sha256 } of described.files) {
      const content = fs.readFileSync(path.join(into, name))
      assert.deepEqual([content.length, createHash('sha256').update(content).digest('hex')], [bytes, sha256], name)
    }
    assert.deepEqual(
      execFileSync('tar', ['-tf', path.join(dir, 'a.tar')])
        .toString()
        .trim()
        .split('\n')
        .at(-1),
      'kymo-backup.json',
    )
  })

  it('of a stopped server, to a moment within it, and with names that say nothing or are taken refused', async () => {
    await server.stop()
    const file = path.join(dir, 'stopped.tar')
    const made = await kymo('backup', '-o', file, '--data', data)
    assert.equal(made['source'], 'directory')
    const to = String(made['restorable_to'])
    await kymo('restore', file, '--data', path.join(dir, 'to-its-end'), '--until', to)
    assert.deepEqual(await valuesOf(path.join(dir, 'to-its-end')), upTo(20))
    const early = await runKymo(['restore', file, '--data', path.join(dir, 'early'), '--until', '2020-01-01T00:00:00Z'])
    assert.equal(early.code, 5)
    assert.match(early.output, /KYMO-E217/)
    assert.equal(fs.existsSync(path.join(dir, 'early')), false)
    const size = fs.statSync(file).size
    assert.equal((await runKymo(['backup', '-o', file, '--data', data])).code, 2)
    assert.equal(fs.statSync(file).size, size)
    assert.equal((await runKymo(['backup', '-o', path.join(dir, 'x.zip'), '--data', data])).code, 2)
    assert.equal((await runKymo(['backup', path.join(dir, 'repo'), '-o', path.join(dir, 'y.tar'), '--data', data])).code, 2)
    assert.match((await runKymo(['restore', file, '--data', path.join(dir, 'to-its-end')])).output, /is not empty/)
  })

  it('broken off it leaves no archive', async () => {
    const file = path.join(dir, 'broken.tar')
    for (const share of [0.01, 0.5, 0.99]) {
      const source = await openSource({ data, scratch: path.join(dir, 'scratch-meta'), terminal: processTerminal() })
      const total = source.snapshot.files.reduce((sum, one) => sum + one.bytes, 0)
      const abort = new AbortController()
      const onProgress = (n: number): void => {
        if (n >= share * total) abort.abort(new KymoError('shutting_down'))
      }
      await assert.rejects(writeArchive({ source, file, signal: abort.signal, onProgress }), code('shutting_down'))
      await source.close()
      assert.deepEqual(
        fs.readdirSync(dir).filter((name) => name.startsWith('broken')),
        [],
      )
    }
  })

  it('cut off or damaged anywhere, it is refused by verify and restore, and no data directory is made', async () => {
    const whole = fs.readFileSync(path.join(dir, 'stopped.tar'))
    const file = path.join(dir, 'damaged.tar')
    const target = path.join(dir, 'from-damaged')
    const refused = async (bytes: Buffer, name = file): Promise<void> => {
      fs.writeFileSync(name, bytes)
      await assert.rejects(restoreArchive({ file: name, target, signal }), code('backup_damaged'))
      assert.equal(fs.existsSync(target), false)
    }
    for (const share of [0.1, 0.5, 0.9]) {
      await refused(whole.subarray(0, Math.floor(whole.length * share)))
      const flipped = Buffer.from(whole)
      flipped[Math.floor(whole.length * share)]! ^= 1
      await refused(flipped)
    }
    // Complete as an archive, and without its end.
    const description = whole.lastIndexOf('kymo-backup.json')
    await refused(Buffer.concat([whole.subarray(0, description), tarEnd()]))
    const { code: exit, output } = await runKymo(['backup', 'verify', file])
    assert.equal(exit, 5)
    assert.match(output, /KYMO-E215/)
    for (const name of ['a.tar.gz', 'a.tar.zst']) {
      const packed = fs.readFileSync(path.join(dir, name))
      await refused(packed.subarray(0, packed.length >> 1), path.join(dir, `cut-${name}`))
      packed[packed.length >> 1]! ^= 0xff
      await refused(packed, path.join(dir, `cut-${name}`))
    }
  })

  it('a file that would be written outside the data directory is refused before anything of it is written', async () => {
    const outside = path.join(dir, 'evil')
    const names = [
      '../evil',
      'store/../../evil',
      'log/../../../evil',
      outside,
      'store/./x',
      'store//x',
      'evil',
      'store',
      'kymo.lock',
      'store\\..\\evil',
      'meta.sqlite/x',
    ]
    for (const name of names) {
      const file = path.join(dir, 'evil.tar')
      fs.writeFileSync(file, Buffer.concat([tarHeader({ path: name, bytes: 4, mtime: 1 }), Buffer.from('evil'), padding(4), tarEnd()]))
      await assert.rejects(
        restoreArchive({ file, target: path.join(dir, 'from-evil'), signal }),
        code('backup_damaged', /no place in a data directory/),
        name,
      )
      assert.equal(fs.existsSync(outside), false)
      assert.deepEqual(
        fs.readdirSync(path.join(dir, 'from-evil.restoring')).filter((one) => !one.startsWith('kymo.')),
        [],
      )
    }
  })
})
