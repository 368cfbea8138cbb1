import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { limits } from '../../src/core/limits.ts'
import { openEmbeddedLog, type EmbeddedLog } from '../../src/log/embedded/log.ts'
import { verifyLog } from '../../src/log/embedded/verify.ts'
import { simEnv, type SimEnv } from '../sim/clock.ts'
import type { SimDisk } from '../sim/disk.ts'
import { Ledger, readBack, topic } from './model.ts'
import { seedCount } from '../support/effort.ts'

const seeds = seedCount(200)
const dir = '/data/log'

/** Segments are closed by their size, and after a second: an age that none of these lives reaches, in as many parts. */
function open(env: SimEnv): Promise<EmbeddedLog> {
  const topics = { [topic]: { retentionAgeUs: limits.logSegmentsPerAge * 1e6 } }
  return openEmbeddedLog({ dir, env, threads: false, segmentBytesMax: 4096, reserveBytes: 0, topics })
}

/** Power fails at random moments, also while the log is opened; some lives end with a clean close or with a failing disk instead. */
async function lives(seed: number): Promise<void> {
  let env = simEnv(seed)
  const { random } = env
  const ledger = new Ledger(random)
  const world = (disk: SimDisk): void => void (env = simEnv(seed, { disk }))
  let acknowledged = 0n
  for (let life = 0; life < 5; life++) {
    if (life > 0 && random.chance(0.2)) {
      env.disk.crashAt(1 + random.below(4))
      const early = await open(env).catch(() => undefined)
      await early?.close().catch(() => undefined)
      world(env.disk.crash())
    }
    const log = await open(env)
    const { ids, error, missing } = await readBack(log, { bytesMax: 1 + random.below(5000) })
    assert.equal(error, undefined)
    assert.equal(missing, 0n)
    ledger.check(ids)
    ledger.settle(ids)
    const committed = (await log.lag(topic, 'g'))[0]!.committed
    assert.ok(committed <= acknowledged, 'a group stands no further than it acknowledged')
    ledger.restart()
    if (random.chance(0.7)) env.disk.crashAt(1 + random.below(60))
    else if (random.chance(0.3)) env.disk.failSyncs(1)
    const writes = 1 + random.below(30)
    const answers: Promise<unknown>[] = []
    for (let i = 0; i < writes; i++) {
      const answer = ledger.write(log)
      if (random.chance(0.5)) answers.push(answer)
      else await answer
      if (random.chance(0.1)) await env.clock.advance(1000)
      if (random.chance(0.1) && !env.disk.dead) {
        const group = await readBack(log, { group: 'g', bytesMax: 1000 })
        if (group.error === undefined) acknowledged = (await log.lag(topic, 'g'))[0]!.committed
      }
    }
    await Promise.all(answers)
    if (random.chance(0.4)) await log.close().catch(() => undefined)
    world(env.disk.crash())
    await log.close().catch(() => undefined)
  }
  const log = await open(env)
  ledger.check((await readBack(log)).ids)
  await log.close()
  assert.equal(verifyLog(dir, env.disk).ok, true)
}

describe('the log on a disk that keeps no more than it promised', () => {
  test(`${seeds} histories of crashes lose nothing that was acknowledged`, async () => {
    for (let seed = 1; seed <= seeds; seed++) {
      try {
        await lives(seed)
      } catch (cause) {
        throw new Error(`seed ${seed}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
      }
    }
  })

  test('a failing fsync is the end: nothing is acknowledged, nothing is tried again', async () => {
    const env = simEnv(7)
    const ledger = new Ledger(env.random)
    const log = await open(env)
    assert.equal(await ledger.write(log), undefined)
    const told: string[] = []
    log.onFatal((error) => told.push(error.code))
    env.disk.failSyncs(1)
    const pending = await Promise.all([ledger.write(log), ledger.write(log)])
    assert.deepEqual(
      pending.map((error) => error?.code),
      ['fsync_failed', 'fsync_failed'],
    )
    assert.deepEqual(told, ['fsync_failed'])
    const operations = env.disk.operations
    assert.equal((await ledger.write(log))?.code, 'fsync_failed')
    await env.clock.advance(5000)
    assert.equal(env.disk.operations, operations, 'the disk is left alone')
    assert.deepEqual((await readBack(log)).ids, ledger.kept, 'reads go on')
    await log.close()
    const after = simEnv(8, { disk: env.disk.crash() })
    const reopened = await open(after)
    ledger.check((await readBack(reopened)).ids)
    await reopened.close()
  })

  test('a full disk refuses, keeps nothing of what it refused, and goes on when there is space again', async () => {
    for (let seed = 1; seed <= 100; seed++) {
      const env = simEnv(seed)
      const ledger = new Ledger(env.random)
      const log = await open(env)
      for (let i = 0; i < 1 + env.random.below(20); i++) assert.equal(await ledger.write(log), undefined)
      const used = Number.MAX_SAFE_INTEGER - env.disk.freeBytes()
      env.disk.capacityBytes = used + env.random.below(5000)
      let full = 0
      for (let i = 0; i < 40 && (full === 0 || seed % 4 !== 0); i++) {
        const error = await ledger.write(log)
        if (error === undefined) continue
        assert.equal(error.code, 'disk_full')
        full++
      }
      assert.ok(full > 0)
      ledger.check((await readBack(log)).ids)
      if (seed % 2 === 0) {
        const after = simEnv(seed, { disk: env.disk.crash() })
        after.disk.capacityBytes = Number.MAX_SAFE_INTEGER
        const reopened = await open(after)
        ledger.check((await readBack(reopened)).ids)
        await reopened.close()
        continue
      }
      env.disk.capacityBytes = Number.MAX_SAFE_INTEGER
      ledger.restart()
      for (let i = 0; i < 10; i++) assert.equal(await ledger.write(log), undefined)
      ledger.check((await readBack(log)).ids)
      await log.close()
      assert.equal(verifyLog(dir, env.disk).ok, true)
    }
  })

  test('space is kept in reserve', async () => {
    const env = simEnv(3, { capacityBytes: 100_000 })
    const ledger = new Ledger(env.random)
    const log = await openEmbeddedLog({ dir, env, threads: false, segmentBytesMax: 4096, reserveBytes: 90_000 })
    let refused = false
    for (let i = 0; i < 100 && !refused; i++) {
      refused = (await ledger.write(log))?.code === 'disk_full'
      await env.clock.advance(1000)
    }
    assert.ok(refused)
    assert.ok(env.disk.freeBytes() > 80_000)
    env.disk.capacityBytes = 200_000
    assert.equal(await ledger.write(log), undefined)
    ledger.check((await readBack(log)).ids)
    await log.close()
  })

  test('a torn end is cut off and kept beside, of such files the newest three', async () => {
    let env = simEnv(11)
    const ledger = new Ledger(env.random)
    for (let life = 0; life < 6; life++) {
      const log = await open(env)
      ledger.check((await readBack(log)).ids)
      await ledger.write(log)
      await log.close()
      const file = `${dir}/${topic}/0/${env.disk.list(`${dir}/${topic}/0`).findLast((name) => name.endsWith('.seg'))!}`
      const good = env.disk.content(file)
      env.disk.replace(file, Buffer.concat([good, Buffer.alloc(100 + life, 0xee)]))
      env = simEnv(11 + life, { disk: env.disk })
      const again = await open(env)
      assert.deepEqual(env.disk.content(file), good)
      await again.close()
    }
    const torn = env.disk.list(`${dir}/${topic}/0`).filter((name) => name.endsWith('.torn'))
    assert.equal(torn.length, 3)
    assert.equal(env.disk.size(`${dir}/${topic}/0/${torn[2]!}`), 105)
  })
})
