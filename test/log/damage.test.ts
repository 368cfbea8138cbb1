import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, describe, test } from 'node:test'
import type { Disk, Env } from '../../src/core/env.ts'
import { nodeDisk, nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { KymoError } from '../../src/core/errors.ts'
import { openEmbeddedLog, type EmbeddedLog } from '../../src/log/embedded/log.ts'
import { repairLog } from '../../src/log/embedded/repair.ts'
import { verifyLog } from '../../src/log/embedded/verify.ts'
import { simEnv, SimRandom } from '../sim/clock.ts'
import { Ledger, readBack, topic } from './model.ts'
import { seedCount } from '../support/effort.ts'

const seeds = seedCount(120)
const dir = '/data/log'
const nowUs = 1_767_225_600_000_000

function open(env: Env, at = dir): Promise<EmbeddedLog> {
  return openEmbeddedLog({ dir: at, env, threads: false, segmentBytesMax: 4096, reserveBytes: 0 })
}

async function filled(env: Env, at: string, ledger: Ledger, writes: number): Promise<void> {
  const log = await open(env, at)
  for (let i = 0; i < writes; i++) assert.equal(await ledger.write(log), undefined)
  await log.close()
}

function files(disk: Disk, at: string, ending: string): string[] {
  return disk
    .list(`${at}/${topic}/0`)
    .filter((name) => name.endsWith(ending))
    .map((name) => `${at}/${topic}/0/${name}`)
}

/** After any damage: what can be read is right and what cannot is refused by name; after a repair the rest is there. */
async function survives(env: Env, at: string, ledger: Ledger): Promise<{ readonly lost: bigint; readonly refused: boolean }> {
  const all = ledger.kept
  const before = verifyLog(at, env.disk)
  const log = await open(env, at)
  const first = await readBack(log)
  assert.deepEqual(first.ids, all.slice(0, first.ids.length), 'what is read before the damage is right')
  const refused = first.error !== undefined
  if (refused) {
    assert.equal(first.error?.code, 'log_corrupt')
    const file = first.error.details.facts?.['file']
    assert.ok(typeof file === 'string' && file.startsWith(`${at}/${topic}/0/`) && typeof first.error.details.facts?.['position'] === 'number')
    assert.ok(first.error.message.includes(file))
  } else assert.equal(first.ids.length, all.length, 'nothing is left out silently')
  assert.equal(
    before.ok,
    !refused,
    `verify agrees: ${JSON.stringify(before.topics[0]?.damage, (_, v: unknown) => (typeof v === 'bigint' ? String(v) : v))}`,
  )
  await log.close()
  const repair = repairLog(at, env.disk, nowUs)
  const lost = repair.lost.reduce((sum, range) => sum + range.next - range.first, 0n)
  const report = verifyLog(at, env.disk)
  assert.ok(
    report.ok,
    JSON.stringify(report.topics[0]?.damage, (_, v: unknown) => (typeof v === 'bigint' ? String(v) : v)),
  )
  const mended = await open(env, at)
  const second = await readBack(mended)
  assert.equal(second.error, undefined)
  assert.equal(second.missing, lost, 'the gap covers what was lost')
  assert.equal(BigInt(second.ids.length) + lost, BigInt(all.length))
  const rest = new Set(second.ids)
  ledger.settle(second.ids)
  ledger.restart()
  for (let i = 0; i < 5; i++) assert.equal(await ledger.write(mended), undefined, 'it takes writes again')
  const third = await readBack(mended)
  ledger.check(third.ids)
  assert.ok(all.every((id) => rest.has(id) || !third.ids.includes(id)))
  await mended.close()
  const again = await open(env, at)
  ledger.check((await readBack(again)).ids)
  await again.close()
  return { lost, refused }
}

describe('damage in the log', () => {
  test(`${seeds} flipped bits are noticed, named and repaired`, async () => {
    let noticed = 0
    for (let seed = 1; seed <= seeds; seed++) {
      const env = simEnv(seed)
      const ledger = new Ledger(env.random)
      await filled(env, dir, ledger, 10 + env.random.below(30))
      const segments = files(env.disk, dir, '.seg')
      const file = segments[env.random.below(segments.length)]!
      for (let n = 0; n <= env.random.below(2); n++) env.disk.flip(file, env.random.below(env.disk.size(file)), env.random.below(8))
      try {
        if ((await survives(env, dir, ledger)).refused) noticed++
      } catch (cause) {
        throw new Error(`seed ${seed}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
      }
    }
    assert.ok(noticed > seeds * 0.9, `${noticed} of ${seeds}`)
  })

  test('so are bytes that are missing at the end of any segment', async () => {
    for (let seed = 1; seed <= Math.min(seeds, 100); seed++) {
      const env = simEnv(seed)
      const ledger = new Ledger(env.random)
      await filled(env, dir, ledger, 25)
      const segments = files(env.disk, dir, '.seg')
      const file = segments[env.random.below(segments.length)]!
      const content = env.disk.content(file)
      env.disk.replace(file, content.subarray(0, env.random.below(content.length)))
      try {
        const { refused, lost } = await survives(env, dir, ledger)
        assert.ok(refused && lost > 0n)
      } catch (cause) {
        throw new Error(`seed ${seed}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
      }
    }
  })

  test('so is a segment that is gone', async () => {
    for (const which of [1, 2, -1]) {
      const env = simEnv(which + 20)
      const ledger = new Ledger(env.random)
      await filled(env, dir, ledger, 30)
      env.disk.unlink(files(env.disk, dir, '.seg').at(which)!)
      const { refused, lost } = await survives(env, dir, ledger)
      assert.ok(refused && lost > 0n)
    }
  })

  test('a damaged or missing log.json loses nothing', async () => {
    for (const damage of ['flip', 'remove']) {
      const env = simEnv(1)
      const ledger = new Ledger(env.random)
      await filled(env, dir, ledger, 10)
      const log = await open(env)
      const { id } = log
      await log.close()
      if (damage === 'flip') env.disk.flip(`${dir}/log.json`, 1, 3)
      else env.disk.unlink(`${dir}/log.json`)
      const again = await open(env)
      assert.equal(again.id, id)
      ledger.check((await readBack(again)).ids)
      await again.close()
    }
  })

  test('a frame that a payload imitates is not taken for one', async () => {
    const env = simEnv(5)
    const ledger = new Ledger(env.random)
    const log = await openEmbeddedLog({ dir, env, threads: false, reserveBytes: 0 })
    for (let i = 0; i < 3; i++) await ledger.write(log)
    const [file] = files(env.disk, dir, '.seg')
    const segment = env.disk.content(file!)
    // A dead letter may hold what the sender likes: at worst frames of this very segment.
    const signal = new AbortController().signal
    await log.write([{ topic, kind: 'dead-letter', key: '', receivedUs: 1, body: segment }], undefined, signal)
    await log.write([{ topic, kind: 'tick', key: '', receivedUs: 1, body: Buffer.alloc(1) }], undefined, signal)
    await log.close()
    const end = env.disk.size(file!) - 48
    env.disk.flip(file!, segment.length + 40)
    const report = verifyLog(dir, env.disk)
    assert.deepEqual(
      report.topics[0]!.damage.map(({ from, to, first, next }) => [from, to, next - first]),
      [[segment.length, end, 1n]],
    )
  })

  test('damage in a topic stops that topic only, for writes as well', async () => {
    const env = simEnv(9)
    const ledger = new Ledger(env.random)
    await filled(env, dir, ledger, 10)
    const segment = files(env.disk, dir, '.seg').at(-1)!
    env.disk.flip(segment, 70)
    const log = await open(env)
    const record = { kind: 'tick', key: '', receivedUs: 1, body: Buffer.alloc(4) } as const
    const signal = new AbortController().signal
    await assert.rejects(
      log.write([{ ...record, topic }], undefined, signal),
      (thrown) =>
        thrown instanceof KymoError &&
        thrown.code === 'log_corrupt' &&
        thrown.details.facts?.['file'] === segment &&
        thrown.details.facts['position'] === 64,
    )
    await log.write([{ ...record, topic: 'dead-letters' }], undefined, signal)
    const before = env.disk.content(segment)
    await log.close()
    assert.deepEqual(env.disk.content(segment), before, 'nothing was removed')
  })

  test('a newer format is refused as such, not taken for damage', async () => {
    const env = simEnv(2)
    await filled(env, dir, new Ledger(env.random), 2)
    const text = env.disk.content(`${dir}/log.json`).toString().replace('"format":1', '"format":2')
    env.disk.replace(`${dir}/log.json`, Buffer.from(text))
    await assert.rejects(open(env), (thrown) => thrown instanceof KymoError && thrown.code === 'log_format')
  })

  test('repair wants the log closed', async () => {
    const env = simEnv(4)
    const log = await open(env)
    assert.throws(
      () => repairLog(dir, env.disk, nowUs),
      (thrown) => thrown instanceof KymoError && thrown.code === 'already_open',
    )
    await log.close()
    repairLog(dir, env.disk, nowUs)
  })
})

describe('damage on a real disk', () => {
  const root = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-damage-'))
  after(() => fs.rmSync(root, { recursive: true }))

  test('a flipped bit in an old segment is found, set aside and passed', async () => {
    const at = path.join(root, 'flip')
    const env = nodeEnv(silentLogger)
    const ledger = new Ledger(new SimRandom(1))
    await filled(env, at, ledger, 40)
    const segments = files(nodeDisk, at, '.seg')
    assert.ok(segments.length > 2)
    const bytes = fs.readFileSync(segments[1]!)
    // The last bytes of the first record: its columns, not its dictionary.
    bytes[64 + bytes.readUInt32LE(64 + 4) - 1]! ^= 4
    fs.writeFileSync(segments[1]!, bytes)
    const { lost } = await survives(env, at, ledger)
    assert.equal(lost, 1n)
    const [kept] = files(nodeDisk, at, '.damaged')
    assert.ok(kept !== undefined && bytes.includes(fs.readFileSync(kept)), 'the damaged bytes are kept as they were')
  })

  test('a torn end is cut, and what was acknowledged stays', async () => {
    const at = path.join(root, 'torn')
    const env = nodeEnv(silentLogger)
    const ledger = new Ledger(new SimRandom(2))
    await filled(env, at, ledger, 10)
    const segment = files(nodeDisk, at, '.seg').at(-1)!
    fs.appendFileSync(segment, Buffer.alloc(333, 1))
    assert.equal(verifyLog(at, nodeDisk).topics[0]!.unfinishedBytes, 333)
    const log = await open(env, at)
    ledger.check((await readBack(log)).ids)
    await log.close()
    assert.equal(fs.readFileSync(files(nodeDisk, at, '.torn')[0]!).length, 333)
  })
})
