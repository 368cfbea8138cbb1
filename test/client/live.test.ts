import assert from 'node:assert/strict'
import test from 'node:test'
import type { LiveEvent } from '../../src/client/index.ts'
import { KymoError } from '../../src/client/index.ts'
import { json, scripted } from './support.ts'
import type { Answer } from './support.ts'

/** A stream that gives these pieces and then ends, or, with `open`, goes on until it is cancelled. */
function stream(
  pieces: readonly (string | Uint8Array)[],
  o: { readonly open?: boolean; readonly fail?: boolean; readonly cancelled?: () => void } = {},
): Answer {
  return () => {
    const left = [...pieces]
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        const piece = left.shift()
        if (piece !== undefined) controller.enqueue(typeof piece === 'string' ? new TextEncoder().encode(piece) : piece)
        else if (o.fail === true) controller.error(new TypeError('terminated'))
        else if (o.open !== true) controller.close()
      },
      cancel: () => o.cancelled?.(),
    })
    return new Response(body, { headers: { 'content-type': 'text/event-stream' } })
  }
}

const reading = (value: number): string => `{"device":"a","metric":"t","time":"2026-01-01T00:00:00Z","value":${value}}`
const event = (id: number, ...values: number[]): string => `id: ${id}\nevent: readings\ndata: {"readings":[${values.map(reading).join(',')}]}\n\n`

/** Reads until `count` events were seen; what they are, in short. */
async function take(events: AsyncIterable<LiveEvent>, count: number): Promise<string[]> {
  const seen: string[] = []
  for await (const one of events) {
    seen.push(
      one.type === 'readings'
        ? `${one.id}: ${one.readings.map(({ value }) => String(value)).join(' ')}`
        : one.type === 'gap'
          ? `gap ${one.since ?? ''}${one.dropped ?? ''}`
          : one.type,
    )
    if (seen.length === count) break
  }
  return seen
}

test('events come out whole however the stream is cut, also within a character', async () => {
  const text = `retry: 2000\n\n: connected\n\n${event(1, 1, 2)}: heartbeat\n\nevent: other\ndata: {}\n\nid: 2\r\nevent: readings\r\ndata: {"readings":[{"device":"dév","metric":"t","time":"x","value":3}]}\r\n\r\n`
  const bytes = new TextEncoder().encode(text)
  for (const size of [1, 2, 3, 7, bytes.length]) {
    const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.slice(i * size, (i + 1) * size))
    const { client } = scripted([stream(pieces, { open: true })])
    const seen: LiveEvent[] = []
    for await (const one of client.live()) {
      seen.push(one)
      if (seen.length === 3) break
    }
    assert.deepEqual(
      seen.map((one) => one.type),
      ['open', 'readings', 'readings'],
    )
    assert.ok(seen[2]?.type === 'readings' && seen[2].readings[0]?.device === 'dév')
  }
})

test('what is asked for is told to the server, with the token, and as a stream', async () => {
  const { client, sent } = scripted([stream([event(1, 1)])], { token: 'tk_1' })
  await take(client.live({ devices: ['a', 'b,c'], metrics: ['t'], lastEventId: '7' }), 1)
  const { url, headers } = sent[0]!
  assert.equal(url.pathname, '/api/v1/live')
  assert.deepEqual(url.searchParams.getAll('device'), ['a', 'b\\,c'])
  assert.deepEqual(url.searchParams.getAll('metric'), ['t'])
  assert.equal(headers.get('authorization'), 'Bearer tk_1')
  assert.equal(headers.get('accept'), 'text/event-stream')
  assert.equal(headers.get('last-event-id'), '7')
})

test('after an end or a break it goes on behind the last event; what comes twice is told once', async () => {
  const { client, sent } = scripted([
    stream([event(5, 1), event(6, 2)]),
    stream([event(6, 2), event(9, 3)], { fail: true }),
    json({ code: 'shutting_down' }, { status: 503, headers: { 'retry-after': '0' } }),
    stream([event(10, 4)], { open: true }),
  ])
  assert.deepEqual(await take(client.live(), 7), ['open', '5: 1', '6: 2', 'open', '9: 3', 'open', '10: 4'])
  assert.deepEqual(
    sent.map(({ headers }) => headers.get('last-event-id')),
    [null, '6', '9', '9'],
  )
})

test('gaps are told: the server’s own, and one where nothing had been heard before the break', async () => {
  const { client, sent } = scripted([
    stream([': connected\n\n']),
    stream([event(900, 1), 'event: gap\ndata: {"dropped":3}\n\n', event(904, 2)]),
    // Behind a gap the ids may begin anew.
    stream(['event: gap\ndata: {"since":"904"}\n\n', event(2, 3), event(2, 3), event(3, 4)], { open: true }),
  ])
  assert.deepEqual(await take(client.live(), 10), ['open', 'gap ', 'open', '900: 1', 'gap 3', '904: 2', 'open', 'gap 904', '2: 3', '3: 4'])
  assert.deepEqual(
    sent.map(({ headers }) => headers.get('last-event-id')),
    [null, null, '904'],
  )
})

test('what will not pass ends it: 401 at once, an absent server after as many attempts as any call', async () => {
  const denied = scripted([json({ code: 'unauthenticated', detail: 'no' }, { status: 401 })])
  await assert.rejects(take(denied.client.live(), 1), (error) => error instanceof KymoError && error.code === 'unauthenticated')
  const absent = scripted(
    [
      () => {
        throw new TypeError('fetch failed')
      },
    ],
    { retries: 1 },
  )
  await assert.rejects(take(absent.client.live(), 1), (error) => error instanceof KymoError && error.code === 'server_unreachable')
  assert.equal(absent.sent.length, 2)
})

test('a signal ends the loop quietly, whatever it waits for; leaving the loop closes the stream', async () => {
  const stop = new AbortController()
  const hanging = scripted([
    (_, signal) =>
      new Response(
        new ReadableStream<Uint8Array>({
          start(controller) {
            controller.enqueue(new TextEncoder().encode(event(1, 1)))
            signal.addEventListener('abort', () => controller.error(signal.reason), { once: true })
          },
        }),
      ),
  ])
  const seen: string[] = []
  for await (const one of hanging.client.live({ signal: stop.signal })) {
    seen.push(one.type)
    if (one.type === 'readings') setTimeout(() => stop.abort(), 5)
  }
  assert.deepEqual(seen, ['open', 'readings'])
  const busy = scripted([json({}, { status: 503, headers: { 'retry-after': '30' } })])
  assert.deepEqual(await take(busy.client.live({ signal: AbortSignal.timeout(20) }), 1), [])
  let cancelled = 0
  const open = scripted([stream([event(1, 1)], { open: true, cancelled: () => cancelled++ })])
  await take(open.client.live(), 2)
  assert.equal(cancelled, 1)
  let aborted = false
  const left = scripted([
    (_, signal) => {
      signal.addEventListener('abort', () => (aborted = true), { once: true })
      return new Response(new ReadableStream<Uint8Array>())
    },
  ])
  await take(left.client.live(), 1)
  assert.ok(aborted)
})

test('a server that is silent for longer than three heartbeats has gone', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { client, sent } = scripted([stream([event(1, 1)], { open: true }), stream([event(2, 2)], { open: true })])
  const events = client.live()
  const next = async (): Promise<string> => ((await events.next()).value as LiveEvent).type
  assert.equal(await next(), 'open')
  assert.equal(await next(), 'readings')
  const waiting = next()
  for (let i = 0; i < 100 && sent.length < 2; i++) {
    t.mock.timers.tick(1_000)
    await new Promise<void>((resolve) => setImmediate(resolve))
    if (i < 40) assert.equal(sent.length, 1)
  }
  assert.equal(await waiting, 'open')
  await events.return(undefined)
})

test('a signal that outlives many connections keeps nothing of them', async () => {
  const stop = new AbortController()
  let listeners = 0
  const { signal } = stop
  const add = signal.addEventListener.bind(signal)
  const remove = signal.removeEventListener.bind(signal)
  signal.addEventListener = (...args: Parameters<typeof add>) => (listeners++, add(...args))
  signal.removeEventListener = (...args: Parameters<typeof remove>) => (listeners--, remove(...args))
  const { client } = scripted([
    stream([event(1, 1)]),
    json({}, { status: 503, headers: { 'retry-after': '0' } }),
    stream([event(2, 2)], { open: true }),
  ])
  await take(client.live({ signal }), 4)
  assert.equal(listeners, 0)
})
