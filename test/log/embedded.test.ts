import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { describe, test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { KymoError, type Code } from '../../src/core/errors.ts'
import { limits } from '../../src/core/limits.ts'
import { Metrics } from '../../src/core/metrics.ts'
import { attachEmbeddedLog, openEmbeddedLog, type EmbeddedLog, type EmbeddedLogOptions } from '../../src/log/embedded/log.ts'
import { readings, rowsOf, take } from '../contract/stream-log.ts'
import { simEnv, type SimEnv } from '../sim/clock.ts'

const dir = '/data/log'
const signal = new AbortController().signal
const second = 1000

function open(env: SimEnv, o: Partial<EmbeddedLogOptions> = {}): Promise<EmbeddedLog> {
  return openEmbeddedLog({ dir, env, threads: false, segmentBytesMax: 4096, reserveBytes: 0, ...o })
}

async function write(log: EmbeddedLog, topic: string, count: number, from = 0): Promise<void> {
  for (let i = 0; i < count; i++) await log.write([readings(topic, 'a', [from + i])], undefined, signal)
}

function refusedWith(code: Code): (thrown: unknown) => boolean {
  return (thrown) => thrown instanceof KymoError && thrown.code === code
}

const values = (kept: Awaited<ReturnType<typeof take>>): number[] => kept.flatMap(({ rows }) => rows.map((row) => row.value))

describe('the embedded log', () => {
  test('is opened once in a process', async () => {
    const env = simEnv(1)
    const log = await open(env)
    await assert.rejects(open(env), refusedWith('already_open'))
    await log.close()
    await (await open(env)).close()
  })

  test('has one id for its life, which spans carry', async () => {
    const env = simEnv(1)
    const log = await open(env)
    const { id } = log
    await write(log, 't', 1)
    await take(log.reader({ topic: 't', start: 'earliest' }), 1, ({ span, ack }) => {
      assert.equal(span?.log, id)
      ack()
    })
    await log.close()
    const again = await open(env)
    assert.equal(again.id, id)
    assert.deepEqual([again.earliest('t'), again.end('t')], [0n, 1n])
    await again.close()
  })

  test('starts at an offset, and refuses one that it has never reached', async () => {
    const log = await open(simEnv(1))
    await write(log, 't', 200)
    const kept = await take(log.reader({ topic: 't', start: { offset: 123n } }), 3)
    assert.deepEqual(values(kept).slice(0, 3), [123, 124, 125])
    await assert.rejects(take(log.reader({ topic: 't', start: { offset: 201n } }), 1), refusedWith('log_corrupt'))
    await log.close()
  })

  test('gives a series one index for the life of a reader', async () => {
    const env = simEnv(1)
    let log = await open(env)
    const source = (): ReturnType<EmbeddedLog['reader']> => log.reader({ topic: 't', start: 'earliest', batch: { bytesMax: 1 } })
    for (let i = 0; i < 100; i++)
      await log.write([readings('t', `device-${i % 7}`, [i]), readings('t', `device-${(i + 3) % 7}`, [i])], undefined, signal)
    await log.close()
    log = await open(env)
    await log.write([readings('t', 'device-5', [1])], undefined, signal)
    const reader = source()
    const seen = new Map<string, number>()
    let keys: unknown
    for (const from of [0, 1]) {
      await take(reader, 201 - from * 50, (delivery) => {
        const [record] = delivery.records
        assert.ok(record?.kind === 'readings')
        keys ??= record.batch.keys
        assert.equal(record.batch.keys, keys)
        const { device } = rowsOf(record.batch)[0]!
        const index = record.batch.series[0]!
        assert.equal(seen.get(device) ?? index, index)
        seen.set(device, index)
        if (from === 1 || (delivery.span?.first ?? 0n) < 50n) delivery.ack()
      })
    }
    assert.equal(seen.size, 7)
    await log.close()
  })

  test('serves one consumer of a reader at a time', async () => {
    const log = await open(simEnv(1))
    const reader = log.reader({ topic: 't', start: 'earliest' })
    reader.open(signal)
    assert.throws(() => reader.open(signal), refusedWith('bug'))
    await log.close()
  })

  test('ends its readers when it is closed', async () => {
    const log = await open(simEnv(1))
    const waiting = log.reader({ topic: 't', start: 'earliest' }).open(signal)[Symbol.asyncIterator]().next()
    await log.close()
    assert.equal((await waiting).done, true)
    await assert.rejects(write(log, 't', 1), refusedWith('shutting_down'))
  })

  test('writes what waits before it closes', async () => {
    const env = simEnv(1)
    const log = await open(env)
    const pending = Array.from({ length: 20 }, (_, i) => write(log, 't', 1, i))
    await Promise.all([...pending, log.close()])
    const again = await open(env)
    assert.equal(again.end('t'), 20n)
    await again.close()
  })

  test('refuses a record that is too large, and nothing beside it', async () => {
    const log = await open(simEnv(1))
    const large = { topic: 't', kind: 'attributes', key: '', receivedUs: 1, body: Buffer.alloc(limits.logRecordBytesMax) } as const
    const answers = await Promise.allSettled([
      log.write([readings('t', 'a', [1])], undefined, signal),
      log.write([readings('t', 'a', [2]), large], undefined, signal),
      log.write([readings('t', 'a', [3])], undefined, signal),
    ])
    assert.deepEqual(
      answers.map(({ status }) => status),
      ['fulfilled', 'rejected', 'fulfilled'],
    )
    assert.deepEqual(values(await take(log.reader({ topic: 't', start: 'earliest' }), 2)), [1, 3])
    await log.close()
  })

  test('counts what it does', async () => {
    const metrics = new Metrics()
    const log = await open(simEnv(1), { metrics })
    await write(log, 'telemetry', 3)
    const family = metrics.families.get('kymo_log_bytes')
    family?.collect?.()
    const cells = [...(family?.cells.values() ?? [])].map(({ labels, cell }) => [labels[0], 'value' in cell ? cell.value : -1])
    assert.deepEqual(cells, [['telemetry', log.bytes('telemetry')]])
    const written = [...(metrics.families.get('kymo_log_written_bytes_total')?.cells.values() ?? [])][0]?.cell
    assert.ok(written !== undefined && 'value' in written && written.value === log.bytes('telemetry') - 64)
    await log.close()
  })
})

describe('groups of the embedded log', () => {
  test('are durable within a second, and at the close', async () => {
    for (const how of ['second', 'close']) {
      for (let seed = 1; seed < 20; seed++) {
        const env = simEnv(seed)
        const log = await open(env)
        await write(log, 't', 5)
        await take(log.reader({ topic: 't', group: 'g', start: 'committed', batch: { bytesMax: 1 } }), 3)
        if (how === 'second') await env.clock.advance(second)
        else await log.close()
        const after = simEnv(seed, { disk: env.disk.crash() })
        await log.close().catch(() => undefined)
        const again = await open(after)
        assert.equal((await again.lag('t', 'g'))[0]!.committed, 3n)
        await again.close()
      }
    }
  })

  test('that cannot be read start at the earliest, and nothing is deleted until one is back', async () => {
    const env = simEnv(1)
    const options = { topics: { t: { retentionBytes: 4096 } } }
    let log = await open(env, options)
    await write(log, 't', 10)
    await take(log.reader({ topic: 't', group: 'g', start: 'committed' }), 10)
    await log.close()
    env.disk.flip(`${dir}/t/0/groups`, 30)
    log = await open(env, options)
    await write(log, 't', 200)
    await env.clock.advance(2 * second)
    assert.equal(log.earliest('t'), 0n)
    await take(log.reader({ topic: 't', group: 'g', start: 'committed' }), 210)
    await env.clock.advance(2 * second)
    assert.ok(log.earliest('t') > 0n)
    await log.close()
  })

  test('may be read and acknowledged in another thread', async () => {
    const root = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-attach-'))
    const env = nodeEnv(silentLogger)
    try {
      let log = await openEmbeddedLog({ dir: root, env, threads: true, segmentBytesMax: 4096, reserveBytes: 0 })
      await write(log, 'telemetry', 100)
      const thread = new Worker(new URL('./attached-reader.ts', import.meta.url), { workerData: log.handle() })
      const got: number[] = []
      const reached = Promise.withResolvers<void>()
      const ended = Promise.withResolvers<void>()
      thread.on('error', (error) => {
        reached.reject(error)
        ended.reject(error)
      })
      thread.on('message', (message: number[] | 'ended') => {
        if (message === 'ended') return ended.resolve()
        got.push(...message)
        if (got.length === 300) reached.resolve()
      })
      // It has caught up or not: either way what comes now wakes it.
      await write(log, 'telemetry', 200, 100)
      await reached.promise
      assert.deepEqual(
        got,
        Array.from({ length: 300 }, (_, i) => i),
      )
      assert.equal((await log.lag('telemetry', 'store'))[0]!.committed, 300n)
      thread.postMessage('stop')
      await ended.promise
      await log.close()
      log = await openEmbeddedLog({ dir: root, env, threads: true })
      assert.equal((await log.lag('telemetry', 'store'))[0]!.committed, 300n)
      await log.close()
    } finally {
      fs.rmSync(root, { recursive: true })
    }
  })

  test('of attached readers end with the log', async () => {
    const env = simEnv(1)
    const log = await open(env)
    const attached = attachEmbeddedLog(structuredClone(log.handle()), env)
    await write(log, 't', 1)
    const iterator = attached.reader({ topic: 't', start: 'earliest' }).open(signal)[Symbol.asyncIterator]()
    const first = await iterator.next()
    assert.ok(first.done !== true && first.value.records.length === 1)
    assert.deepEqual([attached.earliest('t'), attached.end('t')], [0n, 1n])
    // The log's close tells attached readers through shared memory, which alone does not keep a process awake.
    const awake = setInterval(() => undefined, 1000)
    const waiting = iterator.next()
    await log.close()
    assert.equal((await waiting).done, true)
    clearInterval(awake)
    await attached.close()
  })
})

describe('retention of the embedded log', () => {
  test('goes by bytes where there is no group, by whole segments', async () => {
    const env = simEnv(1)
    const log = await open(env, { topics: { t: { retentionBytes: 16_384 } } })
    await write(log, 't', 1000)
    const before = log.bytes('t')
    await env.clock.advance(second)
    assert.ok(before > 50_000 && log.bytes('t') >= 16_384 - 4096 && log.bytes('t') < 16_384 + 4096, String(log.bytes('t')))
    const first = Number(log.earliest('t'))
    assert.equal(values(await take(log.reader({ topic: 't', start: 'earliest' }), 1))[0], first)
    await log.close()
  })

  test('waits for the slowest group, however much there is', async () => {
    const env = simEnv(1)
    const log = await open(env, { topics: { t: { retentionBytes: 8192 } } })
    const slow = log.reader({ topic: 't', group: 'slow', start: 'committed', batch: { bytesMax: 1 } })
    await write(log, 't', 500)
    await take(log.reader({ topic: 't', group: 'fast', start: 'committed' }), 500)
    await take(slow, 2)
    await env.clock.advance(second)
    assert.equal(log.earliest('t'), 0n)
    await take(slow, 300)
    await env.clock.advance(second)
    const earliest = log.earliest('t')
    assert.ok(earliest > 0n && earliest <= 302n)
    assert.equal(log.dropGroup('t', 'slow'), true)
    assert.equal(log.dropGroup('t', 'slow'), false)
    await env.clock.advance(second)
    assert.ok(log.earliest('t') > 302n)
    await log.close()
  })

  test('holds for a group that has not yet read since the restart', async () => {
    const env = simEnv(1)
    const options = { topics: { t: { retentionBytes: 8192 } } }
    let log = await open(env, options)
    await write(log, 't', 300)
    await take(log.reader({ topic: 't', group: 'g', start: 'committed', batch: { bytesMax: 1 } }), 10)
    await log.close()
    log = await open(env, options)
    await write(log, 't', 300)
    await env.clock.advance(second)
    assert.equal(log.earliest('t'), 0n)
    await log.close()
  })

  test('goes by age, for the segment in use as well', async () => {
    const env = simEnv(1)
    const hour = 3600 * 1e6
    const log = await open(env, { topics: { t: { retentionAgeUs: hour } } })
    const record = (): Parameters<EmbeddedLog['write']>[0] => [{ ...readings('t', 'a', [1]), receivedUs: env.clock.nowUs() }]
    for (let i = 0; i < 100; i++) await log.write(record(), undefined, signal)
    await env.clock.advance(second)
    assert.equal(log.earliest('t'), 0n)
    await env.clock.advance(hour / 1000)
    assert.deepEqual([log.earliest('t'), log.end('t')], [100n, 100n])
    assert.ok(log.bytes('t') < 100)
    await log.write(record(), undefined, signal)
    assert.equal((await take(log.reader({ topic: 't', start: 'earliest' }), 1)).length, 1)
    await log.close()
    const again = await open(env)
    assert.deepEqual([again.earliest('t'), again.end('t')], [100n, 101n])
    await again.close()
  })

  test('no record outlives the age, however little comes, and none goes much before', async () => {
    const env = simEnv(1)
    const minute = 60 * 1e6
    const hour = 60 * minute
    const part = hour / limits.logSegmentsPerAge
    let log = await open(env, { topics: { t: { retentionAgeUs: hour } } })
    const begun = env.clock.nowUs()
    const receivedUs = (offset: number): number => begun + offset * minute
    for (let i = 0; i < 200; i++) {
      assert.equal(env.clock.nowUs(), receivedUs(i))
      await log.write([{ ...readings('t', 'a', [i]), receivedUs: receivedUs(i) }], undefined, signal)
      await env.clock.advance(60 * second)
      const earliest = Number(log.earliest('t'))
      assert.ok(receivedUs(earliest) >= env.clock.nowUs() - hour - 1e6, `${earliest} is still there at ${i}`)
      assert.ok(earliest === 0 || receivedUs(earliest - 1) <= env.clock.nowUs() - hour + part + 1e6, `${earliest - 1} is gone at ${i}`)
      // Who starts again does not know when the first record of a segment came.
      if (i % 50 === 25) {
        await log.close()
        log = await open(env, { topics: { t: { retentionAgeUs: hour } } })
      }
    }
    await env.clock.advance(61 * 60 * second)
    assert.deepEqual([log.earliest('t'), log.end('t')], [200n, 200n])
    await log.close()
  })

  test('a first record after a long pause is not taken for old, and what a group has not read stays, however old', async () => {
    const env = simEnv(1)
    const hour = 3600 * 1e6
    const log = await open(env, { topics: { t: { retentionAgeUs: hour } } })
    const record = (): Parameters<EmbeddedLog['write']>[0] => [{ ...readings('t', 'a', [1]), receivedUs: env.clock.nowUs() }]
    await log.write(record(), undefined, signal)
    await env.clock.advance(3 * 3600 * second)
    assert.equal(log.earliest('t'), 1n)
    await log.write(record(), undefined, signal)
    await env.clock.advance(60 * second)
    assert.equal(log.earliest('t'), 1n)
    const reader = log.reader({ topic: 't', group: 'g', start: 'committed', batch: { bytesMax: 1 } })
    assert.equal((await take(reader, 1)).length, 1)
    await log.write(record(), undefined, signal)
    await env.clock.advance(2 * 3600 * second)
    assert.deepEqual([log.earliest('t'), log.end('t')], [2n, 3n])
    assert.equal((await take(reader, 1)).length, 1)
    await env.clock.advance(second)
    assert.equal(log.earliest('t'), 3n)
    await log.close()
  })

  test('takes nothing from under a reader: it goes on at what is kept, and its span covers what is not', async () => {
    const env = simEnv(1)
    const log = await open(env, { topics: { t: { retentionBytes: 8192 } } })
    await write(log, 't', 10)
    const reader = log.reader({ topic: 't', start: 'earliest', batch: { bytesMax: 1 } })
    await take(reader, 5)
    await write(log, 't', 500, 10)
    await env.clock.advance(second)
    const earliest = log.earliest('t')
    assert.ok(earliest > 5n)
    const kept = await take(reader, 1, ({ span, ack }) => {
      assert.deepEqual([span?.first, span?.next], [5n, earliest + 1n])
      ack()
    })
    assert.deepEqual(values(kept), [Number(earliest)])
    await log.close()
  })

  test('at the quota writes wait for the group, and nothing is deleted', async () => {
    const env = simEnv(1)
    const log = await open(env, { topics: { t: { quotaBytes: 20_000 } } })
    const reader = log.reader({ topic: 't', group: 'g', start: 'committed' })
    await assert.rejects(write(log, 't', 1000), refusedWith('log_quota'))
    await env.clock.advance(second)
    assert.equal(log.earliest('t'), 0n)
    await assert.rejects(write(log, 't', 1), refusedWith('log_quota'))
    await write(log, 'other', 1)
    const end = Number(log.end('t'))
    assert.equal((await take(reader, end)).length, end)
    await env.clock.advance(second)
    await write(log, 't', 1)
    await log.close()
  })
})
