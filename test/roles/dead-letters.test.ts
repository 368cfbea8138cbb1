import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { KymoError } from '../../src/core/errors.ts'
import type { IngestGate, MessageContext } from '../../src/core/gate.ts'
import { Metrics } from '../../src/core/metrics.ts'
import type { DeadLetterService } from '../../src/core/services.ts'
import { startDeadLetters } from '../../src/roles/dead-letters.ts'
import { encodeDeadLetter } from '../../src/wire/dead-letter.ts'
import type { DeadLetterContent } from '../../src/wire/dead-letter.ts'
import { testEnv } from '../devices/test-env.ts'
import type { TestEnv } from '../devices/test-env.ts'
import { MemoryLog } from './live-memory-log.ts'

const topic = 'dead-letters'
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

function letter(o: Partial<DeadLetterContent> = {}): DeadLetterContent {
  const body = o.body ?? bytes('{"device":"d1"}')
  return {
    time_us: 1_000,
    code: 'values_missing',
    detail: 'The message carries no value.',
    errors: [{ pointer: '/values', detail: 'is missing' }],
    transport: 'mqtt',
    client: 'client-1',
    topic: 'devices/d1/telemetry',
    tenant: 'default',
    shape: 'any',
    topic_device: 'd1',
    bytes_total: body.length,
    truncated: false,
    body,
    ...o,
  }
}

/** A gate as the ingest role is one: durable at once; what `refuse` names becomes a dead letter again. */
class TestGate implements IngestGate {
  readonly takenUs = 0
  readonly log: MemoryLog
  readonly taken: { readonly context: MessageContext; readonly text: string }[] = []
  refuse: (text: string) => KymoError | undefined = () => undefined
  refusal: KymoError | undefined
  durable = 0
  overloaded = false
  stalled: KymoError | undefined
  stops: KymoError | undefined
  #writes: Promise<void>[] = []

  constructor(log: MemoryLog) {
    this.log = log
  }
  submit(context: MessageContext, given: Uint8Array, start: number, end: number): number {
    this.refusal = undefined
    if (this.overloaded) return 0
    const body = given.slice(start, end)
    const text = new TextDecoder().decode(body)
    this.refusal = this.refuse(text)
    if (this.refusal === undefined) this.taken.push({ context, text })
    else this.#writes.push(append(this.log, letter({ body, code: this.refusal.code, client: context.client })).then(() => undefined))
    return ++this.durable
  }
  deadLetter(): number {
    throw new Error('not used by a replay')
  }
  onDurable(): () => void {
    return () => undefined
  }
  async whenDurable(): Promise<void> {
    await Promise.all(this.#writes)
    if (this.stops !== undefined) throw this.stops
  }
}

async function append(log: MemoryLog, content: DeadLetterContent): Promise<string> {
  await log.write([{ topic, kind: 'dead-letter', key: '', receivedUs: content.time_us, body: encodeDeadLetter(content) }])
  return String(log.end(topic) - 1n)
}

interface House {
  readonly log: MemoryLog
  readonly gate: TestGate
  readonly env: TestEnv
  readonly metrics: Metrics
  start(): Promise<DeadLetterService & { stop(): Promise<void> }>
}

function house(): House {
  const log = new MemoryLog()
  const env = testEnv()
  const gate = new TestGate(log)
  const metrics = new Metrics()
  return { log, gate, env, metrics, start: () => startDeadLetters({ log, gate, env, metrics }) }
}

const ids = (page: { readonly items: readonly { readonly id: string }[] }): string[] => page.items.map((item) => item.id)

describe('dead letters: list and get', () => {
  it('gives all fields and the original bytes back', async () => {
    const h = house()
    const body = Uint8Array.from([0, 255, 0xc3, 0x28, 10])
    const content = letter({ body, content_type: 'application/json' })
    const id = await append(h.log, content)
    const letters = await h.start()
    assert.deepEqual(await letters.get('default', id), { ...content, id, status: 'waiting' })
    assert.equal(await letters.get('other', id), undefined, 'tenants do not see each other’s')
    for (const wrong of ['7', '-1', 'x', '', '1e3', '99999999999999999999']) assert.equal(await letters.get('default', wrong), undefined)
    await letters.stop()
  })

  it('lists newest first, by page and by filter, across a restart', async () => {
    const h = house()
    const all: string[] = []
    for (let n = 0; n < 10; n++) {
      const code = n % 2 === 0 ? 'values_missing' : 'time_invalid'
      all.push(await append(h.log, letter({ code, client: `c${n % 3}`, body: bytes(`body ${n}`) })))
    }
    await append(h.log, letter({ tenant: 'acme' }))
    const letters = await h.start()
    const newest = all.toReversed()
    const first = await letters.list('default', { limit: 4 })
    assert.deepEqual(ids(first), newest.slice(0, 4))
    assert.equal(new TextDecoder().decode(first.items[0]?.body), 'body 9')
    assert.ok(first.next !== undefined)
    const second = await letters.list('default', { limit: 4, after: first.next })
    assert.deepEqual(ids(second), newest.slice(4, 8))
    const third = await letters.list('default', { limit: 4, after: second.next ?? '' })
    assert.deepEqual([ids(third), third.next], [newest.slice(8), undefined])
    assert.deepEqual(
      ids(await letters.list('default', { limit: 50, code: 'time_invalid' })),
      newest.filter((id) => Number(id) % 2 === 1),
    )
    assert.deepEqual(
      ids(await letters.list('default', { limit: 50, code: 'time_invalid', client: 'c0' })),
      newest.filter((id) => Number(id) % 2 === 1 && Number(id) % 3 === 0),
    )
    assert.deepEqual(ids(await letters.list('acme', { limit: 50 })), ['10'])
    assert.deepEqual(ids(await letters.list('default', { limit: 50, status: 'replayed' })), [])
    await letters.stop()
  })

  it('sees new letters as they come, and forgets those that the log dropped', async () => {
    const h = house()
    await append(h.log, letter())
    const letters = await h.start()
    for (let n = 0; n < 5; n++) await append(h.log, letter())
    await new Promise((resolve) => setImmediate(resolve))
    assert.equal((await letters.list('default', { limit: 50 })).items.length, 6)
    h.log.topic(topic).earliest = 4
    assert.deepEqual(ids(await letters.list('default', { limit: 50 })), ['5', '4'])
    assert.equal(await letters.get('default', '3'), undefined)
    const oldest = await letters.list('default', { limit: 1, after: '5' })
    assert.deepEqual([ids(oldest), oldest.next], [['4'], undefined])
    const forgotten = h.metrics.counter('kymo_dlq_forgotten_total', '')
    const look = async (): Promise<number> => {
      for (const { collect } of h.metrics.families.values()) collect?.()
      await new Promise((resolve) => setImmediate(resolve))
      for (const { collect } of h.metrics.families.values()) collect?.()
      return forgotten.value
    }
    assert.equal(await look(), 4)
    await letters.dismiss('default', ['4'])
    h.log.topic(topic).earliest = 6
    assert.equal(await look(), 5, 'a letter that was dismissed is missed by nobody')
    await letters.stop()
  })

  it('reads letters that lie far apart', async () => {
    const h = house()
    for (let n = 0; n < 300; n++) await append(h.log, letter({ client: n % 100 === 7 ? 'rare' : 'common', body: bytes(String(n)) }))
    h.log.deliveryMax = 50
    const letters = await h.start()
    const page = await letters.list('default', { limit: 10, client: 'rare' })
    assert.deepEqual(
      page.items.map((item) => [item.id, new TextDecoder().decode(item.body)]),
      [
        ['207', '207'],
        ['107', '107'],
        ['7', '7'],
      ],
    )
    await letters.stop()
  })

  it('leaves out what it cannot read, and keeps the rest', async () => {
    const h = house()
    await append(h.log, letter())
    await h.log.write([{ topic, kind: 'dead-letter', key: '', receivedUs: 1, body: Uint8Array.from([9, 9, 9]) }])
    await append(h.log, letter())
    const letters = await h.start()
    assert.deepEqual(ids(await letters.list('default', { limit: 50 })), ['2', '0'])
    assert.equal(h.env.logged.length, 1)
    await letters.stop()
  })
})

describe('dead letters: replay', () => {
  it('offers the original bytes in their context, and remembers it', async () => {
    const h = house()
    const id = await append(
      h.log,
      letter({ transport: 'http', topic: '/ingest', shape: 'data-point', content_type: 'application/json', tenant: 'acme', body: bytes('{"x":1}') }),
    )
    const letters = await h.start()
    assert.deepEqual(await letters.replay('acme', [id]), { replayed: 1, failed: 0, results: [{ id, ok: true }] })
    assert.deepEqual(h.gate.taken, [
      {
        text: '{"x":1}',
        context: {
          transport: 'http',
          tenant: 'acme',
          client: 'client-1',
          topic: '/ingest',
          shape: 'data-point',
          topicDevice: 'd1',
          contentType: 'application/json',
          packetId: 0,
          dup: false,
          arrivedUs: 1_000,
        },
      },
    ])
    assert.equal((await letters.get('acme', id))?.status, 'replayed')
    const second = await letters.replay('acme', [id])
    assert.deepEqual([second.replayed, second.failed, second.results[0]?.code], [0, 1, 'dead_letter_settled'])
    await letters.stop()
    const again = await h.start()
    assert.equal((await again.get('acme', id))?.status, 'replayed', 'also after a restart')
    assert.deepEqual(await again.replay('acme', 'all'), { replayed: 0, failed: 0, results: [] })
    assert.equal(h.gate.taken.length, 1)
    await again.stop()
  })

  it('makes a new letter of one that fails again, and settles the old one', async () => {
    const h = house()
    const bad = await append(h.log, letter({ body: bytes('bad') }))
    const good = await append(h.log, letter({ body: bytes('good') }))
    h.gate.refuse = (text) => (text === 'bad' ? new KymoError('body_not_json', { detail: 'Still bad.' }) : undefined)
    const letters = await h.start()
    const result = await letters.replay('default', 'all')
    assert.deepEqual(result, {
      replayed: 1,
      failed: 1,
      results: [
        { id: bad, ok: false, code: 'body_not_json', detail: 'Still bad.' },
        { id: good, ok: true },
      ],
    })
    const waiting = await letters.list('default', { limit: 10, status: 'waiting' })
    assert.deepEqual(
      waiting.items.map((item) => [item.id, item.code]),
      [['2', 'body_not_json']],
    )
    assert.deepEqual(ids(await letters.list('default', { limit: 10, status: 'replayed' })), [good, bad])
    await letters.stop()
  })

  it('replays all that wait of one tenant, oldest first, in bounded steps', async () => {
    const h = house()
    for (let n = 0; n < 150; n++) await append(h.log, letter({ body: bytes(String(n)), tenant: n === 20 ? 'acme' : 'default' }))
    h.log.deliveryMax = 40
    const letters = await h.start()
    const result = await letters.replay('default', 'all')
    assert.deepEqual([result.replayed, result.failed], [149, 0])
    assert.deepEqual(
      h.gate.taken.map(({ text }) => Number(text)),
      Array.from({ length: 150 }, (_, n) => n).filter((n) => n !== 20),
    )
    assert.equal((await letters.get('acme', '20'))?.status, 'waiting')
    await letters.stop()
  })

  it('says clearly what cannot be replayed', async () => {
    const h = house()
    const cut = await append(h.log, letter({ truncated: true, bytes_total: 10_000_000 }))
    const letters = await h.start()
    const { replayed, failed, results } = await letters.replay('default', [cut, '77', 'nonsense'])
    assert.deepEqual([replayed, failed], [0, 3])
    assert.deepEqual(Object.fromEntries(results.map(({ id, code }) => [id, code])), {
      0: 'dead_letter_truncated',
      77: 'not_found',
      nonsense: 'not_found',
    })
    assert.equal((await letters.get('default', cut))?.status, 'waiting')
    await letters.stop()
  })

  it('leaves letters waiting when the gate takes nothing, or nothing became durable', async () => {
    const h = house()
    const [one, two] = [await append(h.log, letter()), await append(h.log, letter())]
    const letters = await h.start()
    h.gate.overloaded = true
    const running = letters.replay('default', 'all')
    for (let n = 0; n < 400; n++) await h.env.clock.advance(100)
    const refused = await running
    assert.deepEqual(
      refused.results.map(({ id, code }) => [id, code]),
      [
        [one, 'overloaded'],
        [two, 'overloaded'],
      ],
    )
    h.gate.overloaded = false
    h.gate.stops = new KymoError('log_unavailable')
    assert.deepEqual((await letters.replay('default', [one])).results[0]?.code, 'log_unavailable')
    h.gate.stops = undefined
    h.log.failWrites = new KymoError('disk_full')
    assert.deepEqual((await letters.replay('default', [one])).results[0]?.code, 'disk_full')
    h.log.failWrites = undefined
    assert.equal((await letters.list('default', { limit: 5, status: 'waiting' })).items.length, 2)
    assert.equal((await letters.replay('default', 'all')).replayed, 2)
    await letters.stop()
  })

  it('goes on once an overloaded gate takes again', async () => {
    const h = house()
    const id = await append(h.log, letter())
    const letters = await h.start()
    h.gate.overloaded = true
    const running = letters.replay('default', [id])
    for (let n = 0; n < 10; n++) await h.env.clock.advance(100)
    h.gate.overloaded = false
    for (let n = 0; n < 3; n++) await h.env.clock.advance(100)
    assert.deepEqual(await running, { replayed: 1, failed: 0, results: [{ id, ok: true }] })
    await letters.stop()
  })
})

describe('dead letters: replay of arrays', () => {
  it('offers each message alone, and tells times that were not there apart', async () => {
    const h = house()
    const id = await append(h.log, letter({ body: bytes(' [{"x":1},bad,{"x":1}]'), code: 'topic_invalid' }))
    h.gate.refuse = (text) => (text === 'bad' ? new KymoError('body_not_json', { detail: 'Still bad.' }) : undefined)
    const letters = await h.start()
    const result = await letters.replay('default', [id])
    assert.deepEqual(result, { replayed: 0, failed: 1, results: [{ id, ok: false, code: 'body_not_json', detail: 'Still bad.' }] })
    assert.deepEqual(
      h.gate.taken.map(({ text, context }) => [text, context.arrivedUs]),
      [
        ['{"x":1}', 1_000],
        ['{"x":1}', 1_002],
      ],
    )
    const waiting = await letters.list('default', { limit: 10, status: 'waiting' })
    assert.deepEqual(
      waiting.items.map((item) => [Buffer.from(item.body).toString(), item.code]),
      [['bad', 'body_not_json']],
    )
    const empty = await append(h.log, letter({ body: bytes('[]') }))
    assert.deepEqual((await letters.replay('default', [empty])).results, [{ id: empty, ok: true }])
    await letters.stop()
  })
})

describe('dead letters: dismiss', () => {
  it('settles letters for good, also after a restart, and keeps them readable', async () => {
    const h = house()
    const [one, two, three] = [await append(h.log, letter()), await append(h.log, letter()), await append(h.log, letter())]
    const letters = await h.start()
    await letters.replay('default', [three])
    const { dismissed, failed, results } = await letters.dismiss('default', [one, '77', three, one])
    assert.deepEqual([dismissed, failed], [1, 2])
    assert.deepEqual(Object.fromEntries(results.map(({ id, ok, code }) => [id, code ?? ok])), {
      [one]: true,
      77: 'not_found',
      [three]: 'dead_letter_settled',
    })
    assert.deepEqual((await letters.dismiss('default', [one])).results, [{ id: one, ok: true }], 'a second time is no failure')
    await letters.stop()
    const again = await h.start()
    assert.deepEqual(
      (await again.list('default', { limit: 10 })).items.map(({ id, status }) => [id, status]),
      [
        [three, 'replayed'],
        [two, 'waiting'],
        [one, 'dismissed'],
      ],
    )
    assert.equal(Buffer.from((await again.get('default', one))!.body).toString(), '{"device":"d1"}')
    assert.equal((await again.replay('default', [one])).results[0]?.code, 'dead_letter_settled')
    assert.equal(h.gate.taken.length, 1, 'what was dismissed is not replayed')
    await again.stop()
  })

  it('dismisses all that wait of one tenant', async () => {
    const h = house()
    for (let n = 0; n < 2_500; n++) await append(h.log, letter({ tenant: n === 20 ? 'acme' : 'default' }))
    const letters = await h.start()
    const { dismissed, failed } = await letters.dismiss('default', 'all')
    assert.deepEqual([dismissed, failed], [2_499, 0])
    assert.deepEqual(ids(await letters.list('acme', { limit: 10, status: 'waiting' })), ['20'])
    assert.equal((await letters.dismiss('default', ['20'])).results[0]?.code, 'not_found', 'another tenant has none of that id')
    await letters.stop()
  })

  it('leaves a letter waiting when the mark could not be written', async () => {
    const h = house()
    const id = await append(h.log, letter())
    const letters = await h.start()
    h.log.failWrites = new KymoError('disk_full')
    assert.deepEqual(
      (await letters.dismiss('default', [id])).results.map(({ ok, code }) => [ok, code]),
      [[false, 'disk_full']],
    )
    h.log.failWrites = undefined
    assert.equal((await letters.get('default', id))?.status, 'waiting')
    await letters.stop()
  })
})
