import assert from 'node:assert/strict'
import test from 'node:test'
import type { Batcher, KymoError } from '../../src/client/index.ts'
import { json, scripted } from './support.ts'
import type { Sent } from './support.ts'

const message = (v: number): { device_id: string; v: number } => ({ device_id: 'a', v })
const itemsOf = ({ body }: Sent): number[] => (JSON.parse(body!) as { v: number }[]).map(({ v }) => v)
const taken = ({ body }: Sent): Response => json({ accepted: (JSON.parse(body!) as unknown[]).length, rejected: 0 }, { status: 202 })

function addAll(batch: Batcher, count: number, from = 0): Promise<PromiseSettledResult<void>[]> {
  return Promise.allSettled(Array.from({ length: count }, (_, i) => batch.add(message(from + i))))
}
const outcomes = (results: readonly PromiseSettledResult<void>[]): string[] =>
  results.map((one) => (one.status === 'fulfilled' ? 'ok' : (one.reason as KymoError).code))

test('gathers by number and by time, in order, one request under way at a time', async () => {
  let underWay = 0
  const { client, sent } = scripted([
    async (request) => {
      assert.equal(++underWay, 1)
      await new Promise<void>((resolve) => setTimeout(resolve, 5))
      underWay--
      return taken(request)
    },
  ])
  const batch = client.batcher({ maxItems: 3, maxDelayMs: 10 })
  assert.deepEqual(
    outcomes(await addAll(batch, 7)),
    Array.from({ length: 7 }, () => 'ok'),
  )
  assert.deepEqual(sent.map(itemsOf), [[0, 1, 2], [3, 4, 5], [6]])
  assert.equal(new Set(sent.map(({ headers }) => headers.get('idempotency-key'))).size, 3)
  assert.equal(batch.size, 0)
})

test('what was refused of a batch rejects its own promise only', async () => {
  const { client } = scripted([
    json(
      {
        accepted: 2,
        rejected: 1,
        results: [{ index: 1, status: 422, code: 'value_invalid', detail: 'no', errors: [{ pointer: '/v', detail: 'bad' }] }],
      },
      { status: 207 },
    ),
  ])
  const batch = client.batcher()
  const all = addAll(batch, 3)
  await batch.flush()
  const results = await all
  assert.deepEqual(outcomes(results), ['ok', 'value_invalid', 'ok'])
  assert.deepEqual(((results[1] as PromiseRejectedResult).reason as KymoError).errors, [{ pointer: '/v', detail: 'bad' }])
})

test('a batch of which nothing was taken tells each; a failed request tells all', async () => {
  const none = scripted([
    json(
      {
        code: 'value_invalid',
        detail: 'None',
        results: [
          { index: 0, status: 422, code: 'value_invalid', detail: 'a' },
          { index: 1, status: 400, code: 'shape_unknown', detail: 'b' },
        ],
      },
      { status: 422 },
    ),
  ])
  const batch = none.client.batcher({ maxDelayMs: 0 })
  assert.deepEqual(outcomes(await addAll(batch, 2)), ['value_invalid', 'shape_unknown'])
  const denied = scripted([json({ code: 'unauthenticated', detail: 'no' }, { status: 401 })])
  assert.deepEqual(outcomes(await addAll(denied.client.batcher({ maxDelayMs: 0 }), 2)), ['unauthenticated', 'unauthenticated'])
})

test('what found no room is sent again with its neighbours under the same key', async () => {
  const { client, sent } = scripted([
    json({ accepted: 1, rejected: 1, results: [{ index: 1, status: 429, code: 'overloaded', detail: 'full' }] }, { status: 207 }),
    taken,
  ])
  assert.deepEqual(outcomes(await addAll(client.batcher({ maxDelayMs: 0 }), 2)), ['ok', 'ok'])
  assert.equal(sent.length, 2)
  assert.equal(sent[0]!.body, sent[1]!.body)
  assert.equal(sent[0]!.headers.get('idempotency-key'), sent[1]!.headers.get('idempotency-key'))
  const full = scripted(
    [json({ accepted: 1, rejected: 1, results: [{ index: 1, status: 503, code: 'disk_full', detail: 'full' }] }, { status: 207 })],
    { retries: 1 },
  )
  assert.deepEqual(outcomes(await addAll(full.client.batcher({ maxDelayMs: 0 }), 2)), ['ok', 'disk_full'])
  assert.equal(full.sent.length, 2)
})

test('bounded: by number waiting, by bytes of a request; closed means closed', async () => {
  const { client, sent } = scripted([taken])
  const small = client.batcher({ maxQueued: 2, maxDelayMs: 1 })
  assert.deepEqual(outcomes(await addAll(small, 3)), ['ok', 'ok', 'batcher_full'])
  assert.deepEqual(outcomes(await addAll(small, 1)), ['ok'])
  sent.length = 0
  const large = client.batcher({ maxDelayMs: 1 })
  const text = 'x'.repeat(600_000)
  await Promise.all([1, 2, 3].map((v) => large.add({ ...message(v), text })))
  assert.deepEqual(sent.map(itemsOf), [[1], [2], [3]])
  const closing = client.batcher({ maxDelayMs: 60_000 })
  const last = closing.add(message(1))
  await closing.close()
  await last
  assert.deepEqual(outcomes(await addAll(closing, 1)), ['batcher_closed'])
})

test('flush settles what was added before it, also with a request under way; what cannot be written rejects alone', async () => {
  const { client, sent } = scripted([
    async (request) => {
      await new Promise<void>((resolve) => setTimeout(resolve, 10))
      return taken(request)
    },
  ])
  const batch = client.batcher({ maxItems: 2, maxDelayMs: 60_000 })
  const all = addAll(batch, 5)
  await batch.flush()
  assert.equal(batch.size, 0)
  assert.deepEqual(outcomes(await all), ['ok', 'ok', 'ok', 'ok', 'ok'])
  assert.deepEqual(sent.map(itemsOf), [[0, 1], [2, 3], [4]])
  const circular: Record<string, unknown> = {}
  circular['self'] = circular
  await assert.rejects(batch.add(circular), TypeError)
  assert.equal(batch.size, 0)
  await batch.flush()
})

test('a signal ends what waits with its reason', async () => {
  const stop = new AbortController()
  const { client, sent } = scripted([taken])
  const batch = client.batcher({ maxDelayMs: 60_000, signal: stop.signal })
  const reason = new Error('enough')
  const waiting = batch.add(message(1))
  stop.abort(reason)
  await assert.rejects(waiting, reason)
  await assert.rejects(batch.add(message(2)), reason)
  assert.equal(sent.length, 0)
})
