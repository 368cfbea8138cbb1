import assert from 'node:assert/strict'
import { test } from 'node:test'
import { limits } from '../../src/core/limits.ts'
import { AuthThrottle } from '../../src/doors/auth-throttle.ts'
import { TestClock } from '../support/test-clock.ts'

const bounds = { authDelayMs: 1_000, authPendingMax: 100, authPendingPerAddressMax: 16 }

/** How long each of so many failures in a row waits. */
function delays(throttle: AuthThrottle, clock: TestClock, count: number, address = '10.0.0.1', account = 'ada'): number[] {
  return Array.from({ length: count }, () => {
    let answered = false
    throttle.failed(address, () => (answered = true), account)
    let ms = 0
    while (!answered) {
      clock.advance(500)
      ms += 500
    }
    return ms
  })
}

test('each failure of one account from one address waits twice as long, up to a bound; a success, or a quarter of an hour, forgets them', () => {
  const clock = new TestClock()
  const throttle = new AuthThrottle(clock, bounds)
  assert.deepEqual(delays(throttle, clock, 6), [1_000, 2_000, 4_000, 8_000, 8_000, 8_000])
  assert.deepEqual(delays(throttle, clock, 1, '10.0.0.2'), [1_000], 'from elsewhere it begins anew')
  assert.deepEqual(delays(throttle, clock, 1, '10.0.0.1', 'bob'), [1_000], 'and so it does for others')
  throttle.succeeded('10.0.0.1', 'ada')
  assert.deepEqual(delays(throttle, clock, 2), [1_000, 2_000])
  clock.advance(limits.authForgetMs)
  assert.deepEqual(delays(throttle, clock, 1), [1_000])
  assert.equal(throttle.remembered, 1, 'what is old goes when something is added')
})

test('while a failure waits, no other password for the account is looked at from there, and every other is', () => {
  const clock = new TestClock()
  const throttle = new AuthThrottle(clock, bounds)
  throttle.failed('10.0.0.1', () => undefined, 'ada')
  const admitted = (): boolean[] => [
    throttle.admits('10.0.0.1', 'ada'),
    throttle.admits('10.0.0.2', 'ada'),
    throttle.admits('10.0.0.1', 'bob'),
    throttle.admits('10.0.0.1'),
  ]
  assert.deepEqual(admitted(), [false, true, true, true])
  clock.advance(1_000)
  assert.deepEqual(admitted(), [true, true, true, true])
  // One that takes its time to be looked at counts as well.
  const looked = throttle.looking('10.0.0.1', 'ada')
  assert.equal(throttle.admits('10.0.0.1', 'ada'), false)
  looked()
  assert.equal(throttle.admits('10.0.0.1', 'ada'), true)
})

test('what is remembered is bounded, whatever names are tried', () => {
  const clock = new TestClock()
  const throttle = new AuthThrottle(clock, { ...bounds, authPendingMax: Infinity, authPendingPerAddressMax: Infinity })
  for (let n = 0; n < limits.authAccountsMax + 500; n++) throttle.failed('10.0.0.1', () => undefined, `user-${n}`)
  assert.equal(throttle.remembered, limits.authAccountsMax)
  clock.advance(1_000)
  assert.equal(throttle.admits('10.0.0.1', 'user-0'), true)
})
