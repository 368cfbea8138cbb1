import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { openEmbeddedLog } from '../../src/log/embedded/log.ts'
import { repairLog } from '../../src/log/embedded/repair.ts'
import { openSessionStore, type SessionStoreOptions } from '../../src/store/sessions/store.ts'
import { attach, messageOf, retainedOf, subscriptionOf, textOf } from '../contract/session-store.ts'
import { settled, simEnv, type SimEnv } from '../sim/clock.ts'

const dir = '/data/log'

async function opened(env: SimEnv, o: Partial<SessionStoreOptions> = {}) {
  const log = await openEmbeddedLog({ dir, env, threads: false, segmentBytesMax: 4096, reserveBytes: 0, topics: { mqtt: { retentionBytes: 4096 } } })
  const store = await openSessionStore({ log, env, ...o })
  return { log, store }
}

const segments = (env: SimEnv): string[] => env.disk.list(`${dir}/mqtt/0`).filter((name) => name.endsWith('.seg'))

describe('the disk of sessions', () => {
  test('on a full disk tickets wait, and everything is there once there is space', async () => {
    const env = simEnv(1)
    const { log, store } = await opened(env, { limits: { pendingBytesMax: 20_000 } })
    const handle = await attach(store, 'one')
    await store.whenDurable(handle.ticket)
    env.disk.capacityBytes = Number.MAX_SAFE_INTEGER - env.disk.freeBytes() + 100
    const recipients = [{ session: handle.ref, qos: 1, retain: false }] as const
    let last = 0
    let offered = 0
    for (; offered < 100; offered++) {
      const ticket = store.publish({ message: messageOf('a', `${offered} ${'x'.repeat(500)}`), recipients })
      if (ticket === 0) break
      last = ticket
      await env.clock.advance(10)
    }
    assert.ok(offered > 10 && offered < 50, `${offered} were taken: bounded by bytes`)
    assert.equal(store.overloaded, true)
    assert.equal(store.stalled?.code, 'disk_full')
    assert.ok(store.durable < last)
    assert.equal(handle.subscribe([subscriptionOf('x')]), 0)
    assert.equal(handle.accept(1), 0)
    await assert.rejects(attach(store, 'two'), { code: 'overloaded' })
    let told = 0
    store.onDurable(() => told++)
    env.disk.capacityBytes = Number.MAX_SAFE_INTEGER
    await env.clock.advance(1000)
    assert.ok(told > 0)
    assert.ok(store.durable >= last)
    assert.equal(store.overloaded, false)
    assert.equal(store.stalled, undefined)
    const after = simEnv(2, { disk: env.disk.crash() })
    const again = await opened(after)
    const there = (await attach(again.store, 'one')).take(1000)
    assert.deepEqual(
      there.map(({ message }) => Number(textOf(message).split(' ')[0])),
      Array.from({ length: offered }, (_, i) => i),
    )
    await again.store.close()
    await store.close()
    await log.close().catch(() => undefined)
  })

  test('closing while the disk is full gives up what was not acknowledged', async () => {
    const env = simEnv(1)
    const { log, store } = await opened(env)
    const handle = await attach(store, 'one')
    await store.whenDurable(handle.ticket)
    env.disk.capacityBytes = 0
    const ticket = handle.subscribe([subscriptionOf('x')])
    const waiting = assert.rejects(store.whenDurable(ticket), { code: 'shutting_down' })
    await env.clock.advance(500)
    await store.close()
    await waiting
    handle.detach({ will: 'publish' })
    await log.close().catch(() => undefined)
  })

  test('a failing fsync is the end', async () => {
    const env = simEnv(1)
    const { log, store } = await opened(env)
    const handle = await attach(store, 'one')
    await store.whenDurable(handle.ticket)
    env.disk.failSyncs(1)
    const ticket = handle.subscribe([subscriptionOf('x')])
    await assert.rejects(store.whenDurable(ticket), { code: 'fsync_failed' })
    assert.equal(store.stalled?.code, 'fsync_failed')
    assert.throws(() => handle.subscribe([subscriptionOf('y')]), { code: 'fsync_failed' })
    assert.throws(() => store.publish({ message: messageOf('a', 'x'), recipients: [], retain: true }), { code: 'fsync_failed' })
    await assert.rejects(attach(store, 'two'), { code: 'fsync_failed' })
    const { operations } = env.disk
    await env.clock.advance(5000)
    assert.equal(env.disk.operations, operations)
    assert.ok(store.durable < ticket)
    await store.close()
    await log.close()
  })

  test('what is no longer needed goes, and a journal of any age opens', async () => {
    let env = simEnv(1)
    const { clock } = env
    let { log, store } = await opened(env, { rewriteBytes: 3000 })
    const kept = await attach(store, 'kept')
    kept.subscribe([subscriptionOf('x')])
    store.publish({ message: messageOf('a', 'waits'), recipients: [{ session: kept.ref, qos: 2, retain: false }], retain: true })
    let most = 0
    for (let i = 0; i < 400; i++) {
      const handle = await attach(store, `c${i % 3}`)
      store.publish({
        message: messageOf(`t/${i % 5}`, `${i} ${'.'.repeat(200)}`),
        recipients: [{ session: handle.ref, qos: 1, retain: false }],
        retain: true,
      })
      const [delivery] = handle.take(1)
      await store.whenDurable(handle.sending(delivery!, 1))
      handle.done(1)
      if (i % 10 === 0) await env.clock.advance(1000)
      most = Math.max(most, segments(env).length)
    }
    assert.ok(most < 12, `${most} segments`)
    assert.ok(Number.parseInt(segments(env)[0]!, 10) > 0, 'the first is gone')
    const disk = env.disk.crash()
    await store.close()
    await log.close().catch(() => undefined)
    env = { ...env, clock, disk }
    ;({ log, store } = await opened(env))
    const handle = await attach(store, 'kept')
    assert.deepEqual([handle.subscriptions.length, handle.take(9).map(({ message }) => textOf(message))], [1, ['waits']])
    assert.deepEqual(
      (await retainedOf(store, '#')).map((text) => text.split(' ')[0]),
      ['a=waits', 't/0=395', 't/1=396', 't/2=397', 't/3=398', 't/4=399'],
    )
    await store.close()
    await log.close()
  })

  test('a journal whose beginning is missing is refused and left alone', async () => {
    const env = simEnv(1)
    const first = await opened(env)
    const handle = await attach(first.store, 'one')
    for (let i = 0; i < 40; i++) await first.store.whenDurable(handle.subscribe([subscriptionOf('x'.repeat(200) + i)]))
    await first.store.close()
    await first.log.close()
    const [oldest] = segments(env)
    env.disk.unlink(`${dir}/mqtt/0/${oldest}`)
    env.disk.unlink(`${dir}/mqtt/0/groups`)
    const before = segments(env)
    const log = await openEmbeddedLog({ dir, env, threads: false, segmentBytesMax: 4096, reserveBytes: 0 })
    await assert.rejects(openSessionStore({ log, env }), (error: Error) => {
      assert.match(error.message, /log\/mqtt\/0.*what comes before it is missing/)
      return true
    })
    await log.close()
    assert.deepEqual(segments(env), before)
  })

  test('after a repair of the log what is left is there', async () => {
    for (const at of [1, 2, 3, 4, 5]) {
      const env = simEnv(at)
      const first = await opened(env)
      const handle = await attach(first.store, 'one')
      const recipients = [{ session: handle.ref, qos: 1, retain: false }] as const
      for (let i = 0; i < 4; i++) await first.store.whenDurable(first.store.publish({ message: messageOf('a', `m${i}`), recipients }))
      for (const delivery of handle.take(2)) await first.store.whenDurable(handle.sending(delivery, delivery.seq + 1))
      await first.store.whenDurable((await attach(first.store, 'two')).ticket)
      await first.store.close()
      await first.log.close()
      const file = `${dir}/mqtt/0/${segments(env)[0]}`
      const bytes = env.disk.content(file)
      let frame = 64
      for (let i = 0; i < at; i++) frame += Math.max(48, Math.ceil(bytes.readUInt32LE(frame + 4) / 8) * 8)
      bytes[frame + 40]! ^= 1
      env.disk.replace(file, bytes)
      const damaged = await openEmbeddedLog({ dir, env, threads: false, segmentBytesMax: 4096, reserveBytes: 0 })
      await assert.rejects(openSessionStore({ log: damaged, env }), { code: 'log_corrupt' })
      await damaged.close()
      repairLog(dir, env.disk, env.clock.nowUs())
      const again = await opened(env)
      const one = await attach(again.store, 'one')
      // Without the record that made it, nothing is known of the session.
      assert.equal(one.present, at > 1)
      const found = [...one.inflight.flatMap((each) => (each.state === 'sent' ? [each.delivery] : [])), ...one.take(9)]
      const texts = found.map(({ message }) => textOf(message)).toSorted()
      assert.deepEqual(texts, at === 1 ? [] : ['m0', 'm1', 'm2', 'm3'].filter((_, i) => i !== at - 2))
      assert.equal(one.inflight.length, at === 1 ? 0 : at > 3 ? 2 : 1)
      assert.equal((await attach(again.store, 'two')).present, true)
      await again.store.close()
      await again.log.close()
    }
  })

  test('a record that is none is refused with its topic, offset and byte', async () => {
    const bodies = [
      [Uint8Array.of(1, 4, 99), 'log_corrupt', /offset 2: session 99 is not known/],
      [Uint8Array.of(1, 77), 'log_corrupt', /offset 2: byte 1: a change of a kind that is not known/],
      [Uint8Array.of(9), 'log_format', /offset 2: .* format version 9/],
      [Uint8Array.of(), 'log_corrupt', /offset 2: byte 0/],
    ] as const
    for (const [body, code, text] of bodies) {
      const env = simEnv(1)
      const first = await opened(env)
      await first.store.whenDurable((await attach(first.store, 'one')).ticket)
      await first.store.close()
      await first.log.write([{ topic: 'mqtt', kind: 'sessions', key: '', receivedUs: 1, body }], undefined, new AbortController().signal)
      await assert.rejects(openSessionStore({ log: first.log, env }), (error: Error & { code: string }) => {
        assert.equal(error.code, code)
        assert.match(error.message, text)
        return true
      })
      await first.log.close()
    }
  })

  test('what nobody waits for is written all the same, and a close writes it at once', async () => {
    const env = simEnv(1)
    const { log, store } = await opened(env)
    const handle = await attach(store, 'one')
    const recipients = [{ session: handle.ref, qos: 1, retain: false }] as const
    for (let i = 0; i < 2; i++) await store.whenDurable(store.publish({ message: messageOf('a', 'x'), recipients }))
    const [first, second] = handle.take(2)
    handle.sending(first!, 1)
    const end = log.end('mqtt')
    await env.clock.advance(90)
    assert.equal(log.end('mqtt'), end)
    await env.clock.advance(20)
    assert.equal(log.end('mqtt'), end + 1n)
    handle.sending(second!, 2)
    await store.close()
    await settled()
    const again = await openSessionStore({ log, env })
    assert.equal((await attach(again, 'one')).inflight.length, 2)
    await again.close()
    await log.close()
  })
})
