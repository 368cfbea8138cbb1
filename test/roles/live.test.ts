import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { emptyBatch, Flag } from '../../src/core/batch.ts'
import type { Batch, SeriesKey } from '../../src/core/batch.ts'
import { BatchBuilder } from '../../src/core/batch-builder.ts'
import { KymoError } from '../../src/core/errors.ts'
import { Metrics } from '../../src/core/metrics.ts'
import type { MetaStore, Store } from '../../src/core/ports.ts'
import type { LogRecord } from '../../src/core/record.ts'
import { SeriesTable } from '../../src/core/series-table.ts'
import type { LiveEvent } from '../../src/core/services.ts'
import { openDeviceRegistry } from '../../src/devices/registry.ts'
import { LatestTable } from '../../src/roles/live-latest.ts'
import { startLive } from '../../src/roles/live.ts'
import type { Live } from '../../src/roles/live.ts'
import { openSqliteMeta } from '../../src/store/meta/sqlite.ts'
import { encodeAttributes } from '../../src/wire/attributes.ts'
import { settle, testEnv } from '../devices/test-env.ts'
import { MemoryLog } from './live-memory-log.ts'
import { fuzzRuns } from '../support/effort.ts'

type Row = readonly [device: string, metric: string, timeUs: number, value: number | boolean | string, flags?: number]

function batchOf(rows: readonly Row[], tenant = 'default'): Batch {
  const keys: SeriesKey[] = []
  const builder = new BatchBuilder(keys, 1)
  for (const [device, metric, timeUs, value, flags = 0] of rows) {
    let series = keys.findIndex((key) => key.device === device && key.metric === metric)
    if (series < 0) series = keys.push({ tenant, device, metric }) - 1
    if (typeof value === 'string') builder.addText(series, timeUs, value, flags | Flag.text)
    else builder.add(series, timeUs, Number(value), typeof value === 'boolean' ? flags | Flag.boolean : flags)
  }
  return builder.view()
}

const readings = (rows: readonly Row[], receivedUs = 1, tenant = 'default'): LogRecord => ({
  topic: 'telemetry',
  kind: 'readings',
  key: '',
  receivedUs,
  batch: batchOf(rows, tenant),
})
const attributes = (device: string, changes: Record<string, string>, receivedUs = 1): LogRecord => ({
  topic: 'telemetry',
  kind: 'attributes',
  key: device,
  receivedUs,
  body: encodeAttributes({ tenant: 'default', device, changes }),
})

/** Rows as text, sorted, so that order does not matter. */
function shown(batch: Batch): string[] {
  return Array.from({ length: batch.rows }, (_, row) => {
    const key = batch.keys[batch.series[row]!]!
    const value = batch.text?.get(row) ?? String(batch.value[row])
    return `${key.tenant}/${key.device}/${key.metric} @${batch.timeUs[row]} = ${value} (${batch.flags?.[row] ?? 0})`
  }).sort()
}

interface Stored {
  readonly next: bigint
  readonly byTenant: Readonly<Record<string, Batch>>
}

async function house(o: { stored?: Stored; log?: MemoryLog; meta?: MetaStore } = {}) {
  const env = testEnv()
  const log = o.log ?? new MemoryLog()
  const meta = o.meta ?? (await openSqliteMeta({ path: ':memory:', env, thread: false }))
  const series = new SeriesTable()
  const metrics = new Metrics()
  const registry = await openDeviceRegistry({ meta, series, env, metrics, autoRegister: true, registrationsPerS: 10, registrationBurst: 10 })
  const store: Pick<Store, 'latest' | 'resume'> = {
    resume: async (name, topic, partition) => {
      assert.deepEqual([name, topic, partition], [log.id, 'telemetry', 0])
      return o.stored === undefined ? undefined : { next: o.stored.next, states: [] }
    },
    latest: async ({ tenant }) => o.stored?.byTenant[tenant] ?? emptyBatch,
  }
  const fatal: KymoError[] = []
  const start = (): Promise<Live> => startLive({ log, store, series, registry, env, metrics, onFatal: (error) => fatal.push(error) })
  return { env, log, meta, series, metrics, registry, store, start, fatal }
}

describe('live: at the start', () => {
  it('has what the store has and what the log has beyond it, once, and knows every series', async () => {
    const log = new MemoryLog()
    await log.write([
      readings([['d1', 'temperature', 100, 1]]),
      readings([['d1', 'temperature', 200, 2]]),
      readings([
        ['d1', 'temperature', 300, 3],
        ['d2', 'mode', 300, 'auto'],
        ['d2', 'open', 300, true],
      ]),
      readings([['d3', 'temperature', 50, 9]], 1, 'acme'),
    ])
    const stored = {
      next: 2n,
      byTenant: {
        default: batchOf([
          ['d1', 'temperature', 200, 2],
          ['d0', 'text', 10, 'kept'],
          ['d0', 'pressure', 10, 5],
        ]),
      },
    }
    const h = await house({ log, stored })
    const live = await h.start()
    assert.deepEqual(shown(live.latest({ tenant: 'default' })), [
      'default/d0/pressure @10 = 5 (0)',
      'default/d0/text @10 = kept (2)',
      'default/d1/temperature @300 = 3 (0)',
      'default/d2/mode @300 = auto (2)',
      'default/d2/open @300 = 1 (1)',
    ])
    assert.deepEqual(shown(live.latest({ tenant: 'acme' })), ['acme/d3/temperature @50 = 9 (0)'])
    assert.deepEqual(shown(live.latest({ tenant: 'nobody' })), [])
    assert.deepEqual(shown(live.latest({ tenant: 'default', devices: ['d2', 'd9'], metrics: ['mode'] })), ['default/d2/mode @300 = auto (2)'])
    assert.deepEqual(shown(live.latest({ tenant: 'default', metrics: ['temperature'] })), ['default/d1/temperature @300 = 3 (0)'])
    assert.deepEqual(live.metrics('default', 'd2'), ['mode', 'open'])
    assert.deepEqual(live.metrics('default', 'd9'), [])
    const numeric = (device: string, metric: string): number | undefined =>
      h.series.numeric[h.series.find('default', device)?.series.get(metric) ?? -1]
    assert.equal(numeric('d1', 'temperature'), 1)
    assert.equal(numeric('d2', 'mode'), 0)
    assert.equal(numeric('d0', 'text'), 0)
    assert.equal(numeric('d0', 'pressure'), 1)
    await live.stop()
  })

  it('reads every tenant of the registry from the store, and all of the log when the store is new', async () => {
    const log = new MemoryLog()
    await log.write([readings([['d3', 'temperature', 50, 9]], 1, 'acme'), readings([['d1', 'temperature', 60, 1]])])
    const first = await house({ log })
    const live = await first.start()
    assert.equal(live.latest({ tenant: 'acme' }).rows, 1)
    assert.equal(live.latest({ tenant: 'default' }).rows, 1)
    await live.stop()
    await first.registry.close()
    const stored = { next: 2n, byTenant: { acme: batchOf([['d3', 'temperature', 50, 9]], 'acme') } }
    const second = await house({ log, meta: first.meta, stored })
    const again = await second.start()
    assert.deepEqual(shown(again.latest({ tenant: 'acme' })), ['acme/d3/temperature @50 = 9 (0)'])
    await again.stop()
  })

  it('asks the store for a tenant that the registry knows from the log only', async () => {
    const log = new MemoryLog()
    await log.write(Array.from({ length: 10 }, () => readings([['d3', 'temperature', 50, 9]], 1, 'acme')))
    const h = await house({ log, stored: { next: 10n, byTenant: { acme: batchOf([['d3', 'temperature', 50, 9]], 'acme') } } })
    const live = await h.start()
    assert.deepEqual(shown(live.latest({ tenant: 'acme' })), ['acme/d3/temperature @50 = 9 (0)'])
    await live.stop()
  })

  it('registers what a crash took from the registry: devices and attributes after its last acknowledgement', async () => {
    const log = new MemoryLog()
    await log.write([readings([['d1', 'temperature', 100, 1]], 77), attributes('d1', { firmware: '1' }, 78), attributes('d1', { firmware: '2' }, 79)])
    const h = await house({ log, stored: { next: 3n, byTenant: {} } })
    const live = await h.start()
    const device = await h.registry.get('default', 'd1')
    assert.equal(device?.created_us, 77)
    assert.equal(device?.last_seen_us, 79)
    assert.deepEqual(device?.attributes, { firmware: '2' })
    assert.equal(h.series.find('default', 'd1')?.attributes.get('firmware'), '2')
    assert.equal(log.committed.get('registry'), 3n)
    assert.ok((await h.meta.get('devices', 'default', 'd1')) !== undefined)
    await live.stop()
  })

  it('registers devices that only the store knows', async () => {
    const h = await house({ stored: { next: 0n, byTenant: { default: batchOf([['old', 'temperature', 5, 1]]) } } })
    const live = await h.start()
    assert.equal((await h.registry.get('default', 'old'))?.auto_registered, true)
    assert.ok((await h.meta.get('devices', 'default', 'old')) !== undefined)
    await live.stop()
  })

  it('fails to start when its registry reader fails while the store is asked', async () => {
    const h = await house()
    h.store.latest = async () => {
      await h.log.write([{ topic: 'telemetry', kind: 'attributes', key: '', receivedUs: 1, body: new TextEncoder().encode('not json') }])
      await settle()
      return emptyBatch
    }
    await assert.rejects(h.start(), (error: unknown) => error instanceof KymoError && error.code === 'log_format')
  })

  it('fails to start, and leaves nothing running, when the store does not answer', async () => {
    const h = await house()
    h.store.latest = async () => Promise.reject(new KymoError('store_unavailable'))
    await assert.rejects(h.start(), (error: unknown) => error instanceof KymoError && error.code === 'store_unavailable')
  })
})

describe('live: as the log grows', () => {
  it('feeds listeners every durable batch in order, drops the one that throws, and keeps the others', async () => {
    const h = await house()
    const live = await h.start()
    const heard: string[] = []
    let broken = 0
    live.subscribe(() => {
      broken++
      throw new Error('listener broke')
    })
    const stop = live.subscribe((event: LiveEvent) => heard.push(`${event.id} ${event.receivedUs} ${shown(event.batch).join()}`))
    await h.log.write([
      readings([['d1', 'temperature', 100, 1]], 5),
      attributes('d1', { location: 'roof' }),
      readings([['d1', 'temperature', 200, 2]], 6),
    ])
    await settle()
    await h.log.write([readings([['d1', 'temperature', 300, 3]], 7)])
    await settle()
    assert.deepEqual(heard, [
      '0 5 default/d1/temperature @100 = 1 (0)',
      '2 6 default/d1/temperature @200 = 2 (0)',
      '3 7 default/d1/temperature @300 = 3 (0)',
    ])
    assert.equal(broken, 1)
    const dropped = [...(h.metrics.families.get('kymo_live_listeners_dropped_total')?.cells.values() ?? [])][0]?.cell
    assert.ok(dropped !== undefined && 'value' in dropped && dropped.value === 1)
    stop()
    await h.log.write([readings([['d1', 'temperature', 400, 4]])])
    await settle()
    assert.equal(heard.length, 3)
    assert.deepEqual(shown(live.latest({ tenant: 'default' })), ['default/d1/temperature @400 = 4 (0)'])
    await live.stop()
  })

  it('goes on while the meta store is away, and the registry catches up when it is back', async () => {
    const env = testEnv()
    const inner = await openSqliteMeta({ path: ':memory:', env, thread: false })
    let away = false
    const meta: MetaStore = {
      get: (...a) => inner.get(...a),
      list: (...a) => inner.list(...a),
      count: (...a) => inner.count(...a),
      close: () => inner.close(),
      write: (...a) => (away ? Promise.reject(new KymoError('store_unavailable')) : inner.write(...a)),
    }
    const h = await house({ meta })
    const live = await h.start()
    away = true
    for (let n = 0; n < 8; n++) await h.log.write([readings([[`d${n}`, 'temperature', 100, n]])])
    await settle()
    assert.equal(live.latest({ tenant: 'default' }).rows, 8)
    assert.equal(h.log.committed.get('registry') ?? 0n, 0n, 'not acknowledged before it is durable')
    away = false
    for (let n = 0; n < 5; n++) await h.env.clock.advance(10_000)
    assert.equal(h.log.committed.get('registry'), 8n)
    assert.equal(await inner.count('devices', 'default'), 8)
    assert.deepEqual(h.fatal, [])
    await live.stop()
  })

  it('does not take the doors’ word back: attributes that the log brings later change the registry only', async () => {
    const h = await house()
    const live = await h.start()
    await h.log.write([attributes('d1', { firmware: 'a' })])
    await settle()
    h.series.setAttribute(h.series.register('default', 'd1'), 'firmware', 'b')
    await h.log.write([attributes('d1', { firmware: 'a2' })])
    await settle()
    assert.equal(h.series.find('default', 'd1')?.attributes.get('firmware'), 'b')
    assert.equal((await h.registry.get('default', 'd1'))?.attributes['firmware'], 'a2')
    await live.stop()
  })

  it('does not count retained messages as a sign of life', async () => {
    const h = await house()
    const live = await h.start()
    await h.log.write([readings([['d1', 'temperature', 100, 1, Flag.retained]], 5)])
    await settle()
    assert.equal((await h.registry.get('default', 'd1'))?.last_seen_us, undefined)
    await h.log.write([readings([['d1', 'temperature', 200, 1]], 9)])
    await settle()
    assert.equal((await h.registry.get('default', 'd1'))?.last_seen_us, 9)
    await live.stop()
  })

  it('tells once that it cannot go on when the log cannot be read', async () => {
    const h = await house()
    const live = await h.start()
    await h.log.write([{ topic: 'telemetry', kind: 'attributes', key: '', receivedUs: 1, body: new TextEncoder().encode('not json') }])
    await settle()
    assert.deepEqual(
      h.fatal.map((error) => error.code),
      ['log_format'],
    )
    await live.stop()
  })
})

describe('latest values', () => {
  it('equal a naive model, whatever comes in whatever order', () => {
    const row = fc.tuple(
      fc.constantFrom('a', 'b', 'c'),
      fc.constantFrom('x', 'y'),
      fc.integer({ min: 0, max: 6 }),
      fc.oneof(fc.integer(), fc.boolean(), fc.constantFrom('on', 'off')),
      fc.constantFrom(0, 0, 0, Flag.clockAhead, Flag.retained, Flag.late),
    )
    fc.assert(
      fc.property(fc.array(fc.array(row, { maxLength: 6 }), { maxLength: 8 }), (batches) => {
        const table = new LatestTable(new SeriesTable())
        const model = new Map<string, Row>()
        for (const rows of batches) {
          table.push(batchOf(rows), false)
          for (const one of rows) {
            const [device, metric, timeUs, , flags] = one
            const known = model.get(`${device}/${metric}`)
            const ahead = (flags & Flag.clockAhead) !== 0
            const knownAhead = ((known?.[4] ?? 0) & Flag.clockAhead) !== 0
            const wins = known === undefined || (ahead === knownAhead ? timeUs >= known[2] : knownAhead)
            if (wins) model.set(`${device}/${metric}`, one)
          }
        }
        assert.deepEqual(shown(table.latest({ tenant: 'default' })), shown(batchOf([...model.values()])))
      }),
      fuzzRuns(300),
    )
  })
})
