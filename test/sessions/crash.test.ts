import assert from 'node:assert/strict'
import process from 'node:process'
import { describe, test } from 'node:test'
import type { QueuePolicy } from '../../src/core/session-store.ts'
import { openEmbeddedLog, type EmbeddedLog } from '../../src/log/embedded/log.ts'
import { openSessionStore } from '../../src/store/sessions/store.ts'
import { simEnv, type SimEnv } from '../sim/clock.ts'
import { seedCount } from '../support/effort.ts'
import { ModelSessions } from '../support/model-sessions.ts'
import { passes, randomOp, World, type Op } from './script.ts'

const seeds = seedCount(150)
const firstSeed = Number(process.env['KYMO_TEST_FIRST_SEED'] ?? 1)
const dir = '/data/log'

interface Step {
  readonly op: Op
  readonly atUs: number
}

interface Options {
  readonly limits: { readonly queueMessagesMax: number }
  readonly whenFull: QueuePolicy
}

/** The model after a history. */
async function replayed(history: readonly Step[], o: Options): Promise<{ readonly world: World; at(us: number): void }> {
  let nowUs = 0
  const model = new ModelSessions(() => nowUs, o.limits, o.whenFull)
  let world = new World(model)
  for (const { op, atUs } of history) {
    nowUs = atUs
    model.tick()
    if (op.type === 'crash') {
      model.restart()
      world = new World(model)
    } else await world.apply(op)
  }
  return { world, at: (us) => void (nowUs = us) }
}

/**
 * What the store has after a crash is what a model has after all that was durable and some first part of what came later: nothing acknowledged
 * is lost, nothing is made up, no step is there without those before it.
 */
async function lives(seed: number): Promise<void> {
  let env: SimEnv = simEnv(seed)
  const { random, clock, logger } = env
  // Which expired messages are gone already is the store's affair; it would show in what a full queue takes.
  const bounded = random.chance(0.3)
  const o: Options = { limits: { queueMessagesMax: bounded ? 5 : 1000 }, whenFull: random.chance(0.5) ? 'drop_newest' : 'drop_oldest' }
  const rewriteBytes = [1, 1500, 1e9][random.below(3)]!
  const openLog = (): Promise<EmbeddedLog> =>
    openEmbeddedLog({ dir, env, threads: false, segmentBytesMax: 4096, reserveBytes: 0, topics: { mqtt: { retentionBytes: 4096 } } })
  const history: Step[] = []
  let acknowledged = 0
  let n = 0
  for (let life = 0; life < 4; life++) {
    if (life > 0 && random.chance(0.2)) {
      // Nobody is connected yet: what an opening writes changes nothing of what is found later.
      env.disk.crashAt(1 + random.below(8))
      const early = await openLog().catch(() => undefined)
      const opened = early === undefined ? undefined : await openSessionStore({ log: early, env, ...o, rewriteBytes }).catch(() => undefined)
      await clock.advance(0)
      const disk = env.disk.crash()
      await opened?.close()
      await early?.close().catch(() => undefined)
      env = { clock, random, logger, disk }
    }
    const log = await openLog()
    const store = await openSessionStore({ log, env, ...o, rewriteBytes })
    const world = new World(store)
    const nowUs = clock.nowUs()
    if (life > 0) {
      const seen = (await world.apply({ type: 'look' })).seen
      const tries: (string | undefined)[] = []
      let kept = history.length
      for (; kept >= acknowledged; kept--) {
        const model = await replayed([...history.slice(0, kept), { op: { type: 'crash' }, atUs: nowUs }], o)
        tries.push((await model.world.apply({ type: 'look' })).seen)
        if (tries.at(-1) === seen) break
      }
      if (kept < acknowledged)
        assert.equal(seen, tries.at(-1), `life ${life}: no state from step ${acknowledged} to ${history.length} is what was found`)
      history.splice(kept, history.length, { op: { type: 'crash' }, atUs: nowUs }, { op: { type: 'look' }, atUs: nowUs })
      await store.whenDurable(store.publish({ message: { ...blank }, recipients: [], retain: true }))
      acknowledged = history.length
    }
    if (random.chance(0.6)) env.disk.crashAt(1 + random.below(120))
    else if (random.chance(0.2)) env.disk.failSyncs(1)
    const tickets: { readonly step: number; readonly ticket: number }[] = []
    const steps = 5 + random.below(60)
    for (let i = 0; i < steps && store.stalled === undefined; i++) {
      if (random.chance(0.1)) {
        await clock.advance(passes[random.below(passes.length)]!)
        history.push({ op: { type: 'pass' }, atUs: clock.nowUs() })
      }
      let op = randomOp(random, n++, clock.nowUs())
      if (bounded && op.type === 'publish') op = { ...op, expiresUs: Number.POSITIVE_INFINITY }
      const step = { op, atUs: clock.nowUs() }
      history.push(step)
      try {
        const { ticket } = await world.apply(op)
        if (ticket > 0) tickets.push({ step: history.length, ticket })
      } catch (thrown) {
        if (store.stalled === undefined) throw thrown
      }
      if (random.chance(0.3)) await clock.advance(0)
    }
    if (random.chance(0.3)) await clock.advance(300)
    if (random.chance(0.2)) {
      await store.close().catch(() => undefined)
      await log.close().catch(() => undefined)
    }
    acknowledged = Math.max(acknowledged, ...tickets.filter(({ ticket }) => ticket <= store.durable).map(({ step }) => step))
    const disk = env.disk.crash()
    await store.close()
    await log.close().catch(() => undefined)
    env = { clock, random, logger, disk }
  }
}

const blank = { tenant: 'other', topic: 't', qos: 0, payload: Uint8Array.of(1), properties: new Uint8Array(0), expiresUs: 1e18 } as const

describe('sessions on a disk that keeps no more than it promised', () => {
  test(`${seeds} histories of crashes lose nothing that was acknowledged`, async () => {
    for (let seed = firstSeed; seed < firstSeed + seeds; seed++) {
      try {
        await lives(seed)
      } catch (cause) {
        const why = cause instanceof Error ? cause.message : String(cause)
        throw new Error(`seed ${seed} (alone: KYMO_TEST_FIRST_SEED=${seed} KYMO_TEST_SEEDS=1): ${why}`, { cause })
      }
    }
  })
})
