import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { Socket } from 'node:net'
import { describe, test } from 'node:test'
import type { TestContext } from 'node:test'
import { AuthThrottle } from '../../src/doors/auth-throttle.ts'
import { KeyedRate } from '../../src/doors/rate.ts'
import { TestClock } from '../support/test-clock.ts'
import { serve } from './support.ts'

/** While the test runs, connections look as if they came from `address.is`: tests listen on loopback only, which is not counted. */
function comingFrom(t: TestContext, is: string | undefined): { is: string | undefined } {
  const address = { is }
  const accepted = (message: unknown): void => {
    const { socket } = message as { readonly socket: Socket }
    if (address.is !== undefined) Object.defineProperty(socket, 'remoteAddress', { value: address.is })
  }
  subscribe('net.server.socket', accepted)
  t.after(() => unsubscribe('net.server.socket', accepted))
  return address
}

/** Each over a connection of its own. */
const alone = { connection: 'close' }

test('a bucket lets a burst through, then the rate, and says when to come again', () => {
  const clock = new TestClock()
  const rate = new KeyedRate(clock, { perS: 10, burst: 5, keysMax: 100 })
  const taken = Array.from({ length: 6 }, () => rate.take('a'))
  assert.deepEqual(
    taken.map(({ allowed, remaining }) => [allowed, remaining]),
    [
      [true, 4],
      [true, 3],
      [true, 2],
      [true, 1],
      [true, 0],
      [false, 0],
    ],
  )
  assert.deepEqual([taken[5]!.retryAfterS, taken[5]!.resetS], [0.1, 0.5])
  assert.equal(rate.take('b').allowed, true, 'others have their own')
  clock.advance(99)
  assert.equal(rate.take('a').allowed, false)
  clock.advance(1)
  assert.equal(rate.take('a').allowed, true)
  assert.equal(rate.take('a').allowed, false)
  clock.advance(10_000)
  assert.equal(rate.take('a').remaining, 4)
})

test('over a long time no more than the rate passes, whatever the pace', () => {
  for (const stepMs of [1, 7, 33, 250]) {
    const clock = new TestClock()
    const rate = new KeyedRate(clock, { perS: 30, burst: 10, keysMax: 10 })
    let allowed = 0
    for (let ms = 0; ms < 20_000; ms += stepMs) {
      while (rate.take('a').allowed) allowed++
      clock.advance(stepMs)
    }
    // No pace catches more than burst and rate; one slower than the burst lasts wastes some.
    assert.ok(allowed <= 10 + 600 && allowed >= (stepMs > 33 ? 600 * 0.8 : 605), `${stepMs} ms: ${allowed}`)
  }
})

test('the table is bounded: the key unseen for longest is forgotten', () => {
  const clock = new TestClock()
  const rate = new KeyedRate(clock, { perS: 1, burst: 1, keysMax: 3 })
  for (const key of ['a', 'b', 'c']) rate.take(key)
  assert.equal(rate.take('a').allowed, false)
  rate.take('d')
  assert.equal(rate.keys, 3)
  assert.deepEqual([rate.take('a').allowed, rate.take('c').allowed], [false, false])
  assert.equal(rate.take('b').allowed, true)
})

test('loopback is not counted', async (t) => {
  const s = await serve(t, { requestRate: new KeyedRate(new TestClock(), { perS: 1, burst: 1, keysMax: 10 }) })
  for (let i = 0; i < 5; i++) {
    const reply = await s.call('/livez')
    assert.deepEqual([reply.status, reply.headers.get('ratelimit')], [200, null])
  }
})

describe('over the network', () => {
  test('an address that sends too many is told 429, when to come again, and which setting it is', async (t) => {
    const clock = new TestClock()
    const address = comingFrom(t, '203.0.113.7')
    const s = await serve(t, { auth: 'open', requestRate: new KeyedRate(clock, { perS: 2, burst: 3, keysMax: 10 }) })
    const call = (path: string): ReturnType<typeof s.call> => s.call(path, { headers: alone })
    const first = await call('/api/v1/devices')
    assert.deepEqual(
      [first.status, first.headers.get('ratelimit-policy'), first.headers.get('ratelimit')],
      [200, '"requests";q=3;w=2', '"requests";r=2;t=1'],
    )
    // What does not exist, and what is refused, counts as well.
    assert.deepEqual([(await call('/nope')).status, (await call('/api/v1/devices?limit=0')).status], [404, 400])
    const refused = await call('/livez')
    assert.deepEqual([refused.status, refused.headers.get('retry-after'), refused.headers.get('ratelimit')], [429, '1', '"requests";r=0;t=2'])
    assert.equal(refused.json['code'], 'rate_limited')
    assert.match(
      String(refused.json['detail']),
      /^This address sends more than 2 requests a second \(http\.rate\.requests_per_s, http\.rate\.burst\)\.$/,
    )
    clock.advance(500)
    assert.equal((await call('/livez')).status, 200)
    assert.equal((await call('/livez')).status, 429)
    assert.equal(s.metrics.counter('kymo_http_rate_limited_total', '').value, 2)
    // Others, and loopback, go on meanwhile.
    for (const other of ['203.0.113.8', undefined]) {
      address.is = other
      assert.equal((await call('/livez')).status, 200)
    }
  })

  test('with tokens each token has its own, and who has none counts by address', async (t) => {
    comingFrom(t, '203.0.113.7')
    const s = await serve(t, { auth: 'token', requestRate: new KeyedRate(new TestClock(), { perS: 1, burst: 2, keysMax: 10 }) })
    const token = async (): Promise<Record<string, string>> => ({
      authorization: `Bearer ${(await s.tokens.create({ name: 'x', scopes: ['read'] })).token}`,
    })
    const status = async (headers: Record<string, string>): Promise<number> => {
      return (await s.call('/api/v1/devices', { headers: { ...headers, ...alone } })).status
    }
    const [one, two] = [await token(), await token()]
    const statuses = async (headers: Record<string, string>): Promise<number[]> => [
      await status(headers),
      await status(headers),
      await status(headers),
    ]
    assert.deepEqual(await statuses(one), [200, 200, 429])
    assert.deepEqual(await statuses({}), [401, 401, 429])
    assert.deepEqual(await statuses(two), [200, 200, 429])
  })
})

async function waiting(clock: TestClock, answers: number): Promise<void> {
  for (let turns = 0; clock.timers < answers; turns++) {
    assert.ok(turns < 10_000, 'nobody waits')
    await new Promise((resolve) => setImmediate(resolve))
  }
}

test('wrong tokens are answered late, many at a time with 429, and a right one never waits', async (t) => {
  const clock = new TestClock()
  const throttle = new AuthThrottle(clock, { authDelayMs: 1_000, authPendingMax: 10, authPendingPerAddressMax: 2 })
  const s = await serve(t, { auth: 'token', throttle })
  const right = { authorization: `Bearer ${(await s.tokens.create({ name: 'x', scopes: ['read'] })).token}` }
  const call = (headers: Record<string, string>): ReturnType<typeof s.call> => s.call('/api/v1/devices', { headers })
  const wrong = { authorization: 'Bearer tk_wrong' }
  const late = [call(wrong), call(wrong)]
  // They are in: the next is refused at once.
  let refused = await call({})
  assert.equal(refused.status, 401, 'none at all is no guess')
  await waiting(clock, 2)
  refused = await call(wrong)
  assert.deepEqual([refused.status, refused.json['code'], refused.headers.get('retry-after')], [429, 'rate_limited', '1'])
  assert.equal((await call(right)).status, 200)
  clock.advance(1_000)
  assert.deepEqual(
    (await Promise.all(late)).map(({ status }) => status),
    [401, 401],
  )
  // One delay later there is room again.
  const again = call(wrong)
  await waiting(clock, 1)
  clock.advance(1_000)
  assert.equal((await again).status, 401)
})
