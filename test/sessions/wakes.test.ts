import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Env } from '../../src/core/env.ts'
import { limits } from '../../src/core/limits.ts'
import type { SessionHandle } from '../../src/core/session-store.ts'
import { openSessionStore } from '../../src/store/sessions/store.ts'
import { attach, messageOf, textOf } from '../contract/session-store.ts'
import { quiet } from '../mqtt/harness.ts'
import { instantLog } from '../mqtt/model-log.ts'
import { TestClock } from '../support/test-clock.ts'

const perTurn = limits.mqttSessionWakesPerTurn

test('of a message for many sessions a turn tells so many, and each of them once; one that throws keeps nobody from it', async () => {
  const clock = new TestClock()
  const env: Env = { clock, random: { next: () => 0.5, uuid: () => 'uuid' }, logger: quiet, disk: undefined as never }
  const store = await openSessionStore({ log: instantLog(), env })
  const told: number[] = []
  const handles: SessionHandle[] = []
  for (let i = 0; i < perTurn * 2 + 10; i++) {
    const onQueued = (): void => {
      told.push(i)
      if (i === perTurn) throw new Error('it fails')
    }
    handles.push(await attach(store, `c${i}`, { onQueued }))
  }
  for (const handle of handles) assert.equal(handle.take(1).length, 0)
  const publish = (text: string, to: readonly SessionHandle[]): number =>
    store.publish({ message: messageOf('t', text), recipients: to.map(({ ref }) => ({ session: ref, qos: 1, retain: false })) })
  publish('1', handles)
  assert.equal(told.length, perTurn)
  // Another message meanwhile: of those who wait to be told it is one more that they find; who is gone is not told.
  publish('2', handles.slice(-2))
  assert.deepEqual(told.slice(perTurn), [handles.length - 2, handles.length - 1], 'a few are told at once')
  handles[perTurn + 1]!.detach({ will: 'discard' })
  clock.advance(1)
  assert.equal(told.length, perTurn * 2 + 1)
  clock.advance(1)
  const all = told.toSorted((a, b) => a - b)
  assert.deepEqual(
    all,
    handles.map((_, i) => i).filter((i) => i !== perTurn + 1),
  )
  assert.deepEqual(
    handles
      .at(-1)!
      .take(5)
      .map(({ message }) => textOf(message)),
    ['1', '2'],
  )
  publish('3', handles.slice(0, perTurn).concat(handles.slice(-1)))
  await store.close()
  clock.advance(1)
  assert.equal(told.length, all.length + 1, 'of nothing more when it is closed')
})
