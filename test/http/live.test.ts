import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import test from 'node:test'
import { RawClient } from './raw.ts'
import { serve } from './support.ts'
import type { Served } from './support.ts'

interface Event {
  readonly id?: string
  readonly event?: string
  readonly data: Record<string, unknown>
}

/** Longer than any event here takes: a stream that stays silent fails its test, and does not hold it. */
const silentMsMax = 10_000

/** Reads server-sent events as a browser would. */
class Stream {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>
  readonly abort: AbortController
  #text = ''
  constructor(response: Response, abort: AbortController) {
    this.#reader = response.body!.getReader() as ReadableStreamDefaultReader<Uint8Array>
    this.abort = abort
  }
  static async open(s: Served, query = '', headers: Readonly<Record<string, string>> = {}): Promise<Stream> {
    const abort = new AbortController()
    const response = await fetch(`${s.url}/api/v1/live${query}`, { headers, signal: abort.signal })
    assert.equal(response.headers.get('content-type'), 'text/event-stream; charset=utf-8')
    const stream = new Stream(response, abort)
    await stream.block()
    return stream
  }
  /** The next block of lines; undefined at the end. */
  async block(): Promise<string | undefined> {
    while (!this.#text.includes('\n\n')) {
      const { value, done } = await this.#read()
      if (done || value === undefined) return undefined
      this.#text += Buffer.from(value).toString()
    }
    const at = this.#text.indexOf('\n\n')
    const block = this.#text.slice(0, at)
    this.#text = this.#text.slice(at + 2)
    return block
  }
  async #read(): Promise<{ readonly value?: Uint8Array | undefined; readonly done: boolean }> {
    let timer: NodeJS.Timeout | undefined
    const silent = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => {
        this.abort.abort()
        reject(new assert.AssertionError({ message: `nothing came for ${silentMsMax} ms after ${JSON.stringify(this.#text)}` }))
      }, silentMsMax)
    })
    try {
      return await Promise.race([this.#reader.read(), silent])
    } finally {
      clearTimeout(timer)
    }
  }
  async event(): Promise<Event | undefined> {
    for (;;) {
      const block = await this.block()
      if (block === undefined) return undefined
      if (block.startsWith(':')) continue
      const fields = new Map(block.split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]))
      const [id, event] = [fields.get('id'), fields.get('event')]
      return {
        ...(id === undefined ? {} : { id }),
        ...(event === undefined ? {} : { event }),
        data: JSON.parse(fields.get('data') ?? '{}') as Record<string, unknown>,
      }
    }
  }
}

const reading = (device: string, metric: string, value: number): { device: string; metric: string; timeUs: number; value: number } => ({
  device,
  metric,
  timeUs: 1e15,
  value,
})

test('readings come as events with a growing id, filtered by device and metric', async (t) => {
  const s = await serve(t)
  const all = await Stream.open(s)
  const some = await Stream.open(s, '?device=a,c&metric=x')
  s.live.publish(1n, [reading('a', 'x', 1), reading('a', 'y', 2), reading('b', 'x', 3)])
  s.live.publish(2n, [reading('b', 'x', 4)])
  s.live.publish(3n, [reading('c', 'x', 5)])
  const time = new Date(1e12).toISOString()
  assert.deepEqual(await all.event(), {
    id: '1',
    event: 'readings',
    data: {
      readings: [
        { device: 'a', metric: 'x', time, value: 1 },
        { device: 'a', metric: 'y', time, value: 2 },
        { device: 'b', metric: 'x', time, value: 3 },
      ],
    },
  })
  assert.equal((await all.event())!.id, '2')
  assert.deepEqual(await some.event(), { id: '1', event: 'readings', data: { readings: [{ device: 'a', metric: 'x', time, value: 1 }] } })
  assert.deepEqual((await some.event())!.id, '3')
  for (const stream of [all, some]) stream.abort.abort()
})

test('a row is written once and a frame once, however many clients want them', async (t) => {
  const s = await serve(t)
  const queries = ['', '?device=a', '?device=a,b', '?metric=x', '?device=nobody']
  const streams = await Promise.all(queries.flatMap((query) => Array.from({ length: 5 }, () => Stream.open(s, query))))
  const stringify = t.mock.method(JSON, 'stringify')
  const from = t.mock.method(Buffer, 'from')
  s.live.publish(1n, [reading('a', 'x', 1), reading('a', 'y', 2), reading('b', 'x', 3)])
  const rows = stringify.mock.calls.filter(({ arguments: [value] }) => typeof value === 'object' && value !== null && 'device' in value)
  const frames = from.mock.calls.filter(({ arguments: [text] }) => typeof text === 'string' && text.startsWith('id: 1\n'))
  t.mock.restoreAll()
  assert.deepEqual([rows.length, frames.length], [3, 4])
  for (const [i, stream] of streams.entries()) {
    if (!queries[Math.floor(i / 5)]!.endsWith('nobody')) assert.equal((await stream.event())!.id, '1')
    stream.abort.abort()
  }
})

test('no client, no subscription, once nobody has come back', async (t) => {
  const s = await serve(t, { limits: { liveResumeMs: 5 } })
  assert.equal(s.live.listeners.size, 0)
  const [one, two] = [await Stream.open(s), await Stream.open(s)]
  assert.equal(s.live.listeners.size, 1)
  one.abort.abort()
  two.abort.abort()
  while (s.live.listeners.size > 0) await new Promise((resolve) => setImmediate(resolve))
})

test('clients beyond the limit are refused, and let in when one leaves', async (t) => {
  const s = await serve(t, { limits: { liveClientsMax: 1, liveResumeMs: 1 } })
  const one = await Stream.open(s)
  const two = await s.call('/api/v1/live')
  assert.deepEqual([two.status, two.json['code'], two.headers.get('retry-after')], [429, 'rate_limited', '5'])
  one.abort.abort()
  while (s.live.listeners.size > 0) await new Promise((resolve) => setImmediate(resolve))
  const three = await Stream.open(s)
  three.abort.abort()
})

test('an idle stream beats; a client that comes back is told of the gap', async (t) => {
  const s = await serve(t, { limits: { liveHeartbeatMs: 10 } })
  const stream = await Stream.open(s)
  assert.deepEqual([await stream.block(), await stream.block(), await stream.block()], [': connected', ': heartbeat', ': heartbeat'])
  stream.abort.abort()
  const again = await Stream.open(s, '', { 'last-event-id': '41' })
  assert.deepEqual(await again.event(), { event: 'gap', data: { since: '41' } })
  again.abort.abort()
})

test('a client that comes back in time gets what it missed, and no gap', async (t) => {
  const s = await serve(t)
  const all = await Stream.open(s)
  s.live.publish(10n, [reading('a', 'x', 1), reading('b', 'x', 2)])
  assert.equal((await all.event())!.id, '10')
  all.abort.abort()
  while (s.metrics.gauge('kymo_live_clients', '').value > 0) await new Promise((resolve) => setImmediate(resolve))
  s.live.publish(12n, [reading('b', 'x', 3)])
  s.live.publish(13n, [reading('a', 'x', 4), reading('a', 'note', 0)])
  const again = await Stream.open(s, '?device=a', { 'last-event-id': '10' })
  const missed = await again.event()
  assert.deepEqual([missed?.event, missed?.id], ['readings', '13'])
  assert.deepEqual(
    (missed!.data['readings'] as { value: number }[]).map(({ value }) => value),
    [4, 0],
  )
  s.live.publish(14n, [reading('a', 'x', 5)])
  assert.equal((await again.event())!.id, '14')
  again.abort.abort()
})

test('what the ring has dropped, and ids that were never given, are told as a gap', async (t) => {
  // Room for two events of one reading each.
  const s = await serve(t, { limits: { liveRingBytesMax: 1_100 } })
  const all = await Stream.open(s)
  for (const id of [5n, 6n, 7n, 8n]) s.live.publish(id, [reading('a', 'x', Number(id))])
  const ids = async (since: string, count: number): Promise<unknown[]> => {
    const stream = await Stream.open(s, '', { 'last-event-id': since })
    const seen: unknown[] = []
    for (let i = 0; i < count; i++) {
      const event = await stream.event()
      seen.push(event?.event === 'gap' ? event.data['since'] : event?.id)
    }
    stream.abort.abort()
    return seen
  }
  // 'since' of a gap comes first where something is missing.
  assert.deepEqual(await ids('5', 3), ['5', '7', '8'])
  assert.deepEqual(await ids('6', 2), ['7', '8'])
  assert.deepEqual(await ids('99', 1), ['99'])
  all.abort.abort()
})

test('a client that does not read loses the oldest, is told how many, and holds up nobody', async (t) => {
  const s = await serve(t, { limits: { liveQueueEventsMax: 5, liveLingerMs: 1 } })
  const slow = new RawClient(s.door.port)
  await slow.send('GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n')
  await slow.until(/connected/)
  slow.socket.pause()
  const quick = await Stream.open(s)
  const wide = Array.from({ length: 2_000 }, (_, i) => reading(`device-${i}`, 'x'.repeat(100), i))
  const dropped = s.metrics.counter('kymo_live_dropped_total', '')
  let id = 0n
  while (dropped.value < 20 && id < 2_000n) {
    s.live.publish(++id, wide)
    assert.equal((await quick.event())!.id, String(id))
  }
  assert.ok(dropped.value >= 20)
  slow.socket.resume()
  const text = await slow.until(/event: gap\ndata: \{"dropped":\d+\}/)
  assert.equal(Number(/"dropped":(\d+)/.exec(text)![1]), dropped.value)
  slow.end()
  quick.abort.abort()
})

test('draining ends the streams', async (t) => {
  const s = await serve(t)
  const stream = await Stream.open(s)
  s.live.publish(1n, [reading('a', 'x', 1)])
  s.door.stopAccepting()
  assert.equal((await stream.event())!.id, '1')
  assert.equal(await stream.event(), undefined)
})
