import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  appendFileSync,
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { after, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { eventually, readings, settled } from '../test/support/api.ts'
import { RawMqtt } from '../test/support/mqtt-client.ts'
import { runKymo, RunningServer } from '../test/support/server.ts'

/** Readings 1…n of device d; resolves with the status and body of the answer. */
async function post(base: string, first: number, count: number, o: { readonly timeoutMs?: number } = {}): Promise<{ status: number; text: string }> {
  const items = Array.from({ length: count }, (_, i) => ({
    device: 'd',
    time: 1_700_000_000 + first + i,
    values: { seq: first + i, note: 'x'.repeat(40) },
  }))
  const answer = await fetch(`${base}/api/v1/telemetry`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(items),
    signal: AbortSignal.timeout(o.timeoutMs ?? 60_000),
  })
  return { status: answer.status, text: await answer.text() }
}

async function send(base: string, first: number, count: number): Promise<void> {
  const answer = await post(base, first, count)
  assert.equal(answer.status, 202, answer.text)
}

async function stored(base: string): Promise<unknown[]> {
  await settled(base)
  return (await readings(base, { device: 'd', metric: 'seq' })).map((reading) => reading.value)
}

const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1)

/** Segment files of the telemetry topic, oldest first. */
function segments(data: string): string[] {
  const dir = path.join(data, 'log/telemetry/0')
  return readdirSync(dir)
    .filter((name) => name.endsWith('.seg'))
    .toSorted()
    .map((name) => path.join(dir, name))
}

describe('after a crash in the middle of a write', () => {
  let server: RunningServer
  before(async () => {
    server = await RunningServer.start()
  })
  after(async () => server.dispose())

  const tails: readonly (readonly [string, (file: string) => Buffer])[] = [
    ['bytes that are nothing', () => Buffer.from(Array.from({ length: 1_000 }, (_, i) => (i * 37) % 251))],
    ['zeros, as a file system leaves them', () => Buffer.alloc(8_192)],
    [
      'half of a record',
      (file) => {
        const all = Buffer.alloc(64 + 200)
        const fd = openSync(file, 'r')
        readSync(fd, all, 0, all.length, 0)
        closeSync(fd)
        return all.subarray(64, 64 + 100)
      },
    ],
  ]
  let sent = 0
  for (const [what, tail] of tails) {
    it(`starts with ${what} at the end of the log, and has every acknowledged reading`, async () => {
      await send(server.http, sent + 1, 50)
      sent += 50
      await server.kill()
      const last = segments(server.data).at(-1)!
      appendFileSync(last, tail(last))
      server = await server.restart()
      assert.deepEqual(await stored(server.http), upTo(sent))
      await send(server.http, sent + 1, 1)
      sent += 1
      assert.deepEqual(await stored(server.http), upTo(sent))
    })
  }
})

describe('a flipped bit in an old segment', () => {
  let server: RunningServer
  let damaged = ''
  let size = 0
  const at = 20_000

  before(async () => {
    server = await RunningServer.start({ args: ['--log-segment-bytes', '65536'] })
    for (let i = 0; i < 20; i++) await send(server.http, i * 200 + 1, 200)
    assert.equal((await stored(server.http)).length, 4_000)
    await server.stop()
    const files = segments(server.data)
    assert.ok(files.length >= 3, `${files.length} segments`)
    damaged = files[0]!
    size = statSync(damaged).size
    const fd = openSync(damaged, 'r+')
    const byte = Buffer.alloc(1)
    readSync(fd, byte, 0, 1, at)
    byte[0]! ^= 0x10
    writeSync(fd, byte, 0, 1, at)
    closeSync(fd)
  })
  after(async () => server.dispose())

  it('is named by kymo log verify, with file and offset; exit 5, and the bytes stay', async () => {
    const ended = await runKymo(['log', 'verify', '--data', server.data])
    assert.equal(ended.code, 5, ended.output)
    assert.ok(ended.output.includes(path.basename(damaged)), ended.output)
    const [, from, to] = /bytes (\d+) to (\d+)/.exec(ended.output) ?? []
    assert.ok(Number(from) <= at && at < Number(to), ended.output)
    assert.equal(statSync(damaged).size, size)
  })
  it('does not keep the server from starting, which names it: what was stored is there, and new readings are taken', async () => {
    server = await server.restart()
    assert.ok(server.output.includes(path.basename(damaged)) && /byte \d+/.test(server.output), server.output)
    assert.equal((await stored(server.http)).length, 4_000)
    await send(server.http, 4_001, 10)
    assert.equal((await stored(server.http)).length, 4_010)
    await server.stop()
  })
  it('is set aside by kymo log repair; then verify finds nothing', async () => {
    const repaired = await runKymo(['log', 'repair', '--data', server.data])
    assert.equal(repaired.code, 0, repaired.output)
    assert.ok(
      readdirSync(path.dirname(damaged)).some((name) => name.endsWith('.damaged')),
      readdirSync(path.dirname(damaged)).join(' '),
    )
    const verified = await runKymo(['log', 'verify', '--data', server.data])
    assert.equal(verified.code, 0, verified.output)
    server = await server.restart()
    assert.equal((await stored(server.http)).length, 4_010)
    await server.stop()
  })
})

describe('damage in front of what the store has not read yet', () => {
  it('is told with file and offset, and nothing is removed', async () => {
    const server = await RunningServer.start({ args: ['--log-segment-bytes', '65536'] })
    try {
      for (let i = 0; i < 10; i++) await send(server.http, i * 200 + 1, 200)
      await settled(server.http)
      await server.stop()
      // The store is taken away: at the next start it has to read the log from its beginning.
      rmSync(path.join(server.data, 'store'), { recursive: true })
      const file = segments(server.data)[0]!
      const fd = openSync(file, 'r+')
      writeSync(fd, Buffer.from([0xff, 0xff, 0xff, 0xff]), 0, 4, 20_000)
      closeSync(fd)
      let output = ''
      try {
        const again = await server.restart({ readyWithinMs: 10_000 })
        await eventually(async () => (again.output.includes(path.basename(file)) ? true : undefined))
        output = again.output
      } catch (error) {
        output = String(error)
      }
      assert.ok(output.includes(path.basename(file)), output)
      assert.match(output, /log_corrupt|KYMO-E201|damaged/)
      assert.match(output, /byte \d+|position/)
    } finally {
      await server.dispose()
    }
  })
})

const megabytes = 192

/** What mount says against it; undefined when it is done. Mounting needs root: a plain user is told by name. */
function mountTmpfs(dir: string): string | undefined {
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', dir], { encoding: 'utf8' })
  return mounted.status === 0 ? undefined : `no tmpfs can be mounted: ${(mounted.stderr ?? String(mounted.error)).trim()}`
}

/** Tried and undone at once: nothing stays mounted when the tests below are not run. */
function whyNoTmpfs(): string | undefined {
  if (process.platform !== 'linux') return 'mounts a tmpfs, which is Linux'
  const dir = mkdtempSync(path.join(os.tmpdir(), 'kymo-full-'))
  const reason = mountTmpfs(dir)
  if (reason === undefined) spawnSync('umount', [dir])
  rmSync(dir, { recursive: true, force: true })
  return reason
}

describe('a full disk', { skip: whyNoTmpfs() ?? false }, () => {
  const dir = path.join(os.tmpdir(), `kymo-full-disk-${process.pid}`)
  const filler = path.join(dir, 'filler')
  let server: RunningServer
  let client: RawMqtt
  const acknowledged = new Set<number>()

  before(async () => {
    mkdirSync(dir)
    assert.equal(mountTmpfs(dir), undefined)
    server = await RunningServer.start({ data: path.join(dir, 'data') })
    client = await RawMqtt.connect({ port: server.mqttPort, clientId: 'full', keepAliveS: 0 })
    client.onPuback = (id) => acknowledged.add(id)
  })
  after(async () => {
    client.destroy()
    await server.dispose()
    spawnSync('umount', [dir])
    rmSync(dir, { recursive: true, force: true })
  })

  it('withholds acknowledgements with a clear error, and answers reads', async () => {
    await send(server.http, 1, 100)
    assert.equal((await stored(server.http)).length, 100)
    const fd = openSync(filler, 'w')
    // What can still be had is less than the reserve of the log; the last bytes stay with the disk, as in life.
    const block = Buffer.alloc(1 << 20)
    try {
      for (;;) writeSync(fd, block)
    } catch (error) {
      assert.ok(error instanceof Error && 'code' in error && error.code === 'ENOSPC')
    }
    ftruncateSync(fd, statSync(filler).size - (1 << 20))
    closeSync(fd)
    const refused = await eventually(async () => {
      const asked = performance.now()
      const answer = await post(server.http, 101, 100)
      return answer.status === 202 ? undefined : { ...answer, tookMs: performance.now() - asked }
    }, 60_000)
    // Also of readings that were under way to the log already.
    assert.ok(refused.tookMs < 5_000, `answered after ${refused.tookMs} ms`)
    assert.equal(refused.status, 503, refused.text)
    assert.equal((JSON.parse(refused.text) as { code: string }).code, 'disk_full', refused.text)
    client.publish({
      topic: 'portfolio/telemetry',
      qos: 1,
      packetId: 7,
      payload: JSON.stringify({ device_id: 'd', seq: 5_000, timestamp: 1_700_005_000 }),
    })
    await delay(500)
    assert.equal(acknowledged.has(7), false)
    await client.ping()
    const seen = (await readings(server.http, { device: 'd', metric: 'seq', to: 1_700_000_101 })).map((reading) => reading.value)
    assert.deepEqual(seen, upTo(100))
  })
  it('takes writes again when there is space, without a restart', async () => {
    const pid = server.currentServerPid()
    rmSync(filler)
    await eventually(async () => ((await post(server.http, 101, 100)).status === 202 ? true : undefined), 30_000)
    await eventually(async () => (acknowledged.has(7) ? true : undefined), 30_000)
    assert.deepEqual(await stored(server.http), [...upTo(200), 5_000])
    assert.equal(server.currentServerPid(), pid)
  })
  it('has everything once after a restart', async () => {
    await server.stop()
    server = await server.restart()
    assert.deepEqual(await stored(server.http), [...upTo(200), 5_000])
  })
})
