import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { KymoError } from '../../src/core/errors.ts'
import type { Code } from '../../src/core/errors.ts'
import { Metrics } from '../../src/core/metrics.ts'
import type { MetaStore, MetaWrite } from '../../src/core/ports.ts'
import { SeriesTable } from '../../src/core/series-table.ts'
import { openDeviceRegistry } from '../../src/devices/registry.ts'
import type { DeviceRegistry } from '../../src/devices/registry.ts'
import { openSqliteMeta } from '../../src/store/meta/sqlite.ts'
import { settle, testEnv } from './test-env.ts'
import type { TestEnv } from './test-env.ts'

interface House {
  readonly env: TestEnv
  readonly meta: MetaStore
  readonly writes: MetaWrite[][]
  /** Set: writes fail with it. */
  failure: KymoError | undefined
  series: SeriesTable
  metrics: Metrics
  open(o?: { autoRegister?: boolean; perS?: number; burst?: number; shared?: boolean; seenElsewhere?: boolean }): Promise<DeviceRegistry>
}

async function house(): Promise<House> {
  const env = testEnv()
  const inner = await openSqliteMeta({ path: ':memory:', env, thread: false })
  const writes: MetaWrite[][] = []
  const made: House = {
    env,
    writes,
    failure: undefined,
    series: new SeriesTable(),
    metrics: new Metrics(),
    meta: {
      get: (...a) => inner.get(...a),
      list: (...a) => inner.list(...a),
      count: (...a) => inner.count(...a),
      close: () => inner.close(),
      async write(some) {
        if (made.failure !== undefined) throw made.failure
        writes.push([...some])
        return inner.write(some)
      },
    },
    open(o = {}) {
      made.series = new SeriesTable()
      made.metrics = new Metrics()
      return openDeviceRegistry({
        meta: made.meta,
        series: made.series,
        env,
        metrics: made.metrics,
        autoRegister: o.autoRegister ?? true,
        registrationsPerS: o.perS ?? 10,
        registrationBurst: o.burst ?? 100,
        shared: o.shared ?? false,
        seenElsewhere: o.seenElsewhere ?? false,
      })
    },
  }
  return made
}

async function rejectsWith(code: Code, work: Promise<unknown>): Promise<void> {
  await assert.rejects(work, (error: unknown) => error instanceof KymoError && error.code === code)
}

describe('device registry: by API', () => {
  it('searches ids and names, whatever the case, and goes on from where it was', async () => {
    const h = await house()
    const registry = await h.open()
    for (const [id, name] of [
      ['a-1', 'Boiler'],
      ['b-2', 'fan'],
      ['BOIL-3', 'x'],
      ['d-4', 'the boiler of the cellar'],
      ['e-5', ''],
    ] as const)
      await registry.create('default', { id, name })
    await registry.create('other', { id: 'boil-9' })
    const search = async (text: string, o: { after?: string; limit: number }): Promise<unknown> => {
      const page = await registry.list('default', { ...o, search: text })
      return [page.items.map(({ id }) => id), page.next]
    }
    assert.deepEqual(await search('boil', { limit: 10 }), [['BOIL-3', 'a-1', 'd-4'], undefined])
    assert.deepEqual(await search('boil', { limit: 2 }), [['BOIL-3', 'a-1'], 'a-1'])
    assert.deepEqual(await search('BOIL', { limit: 2, after: 'a-1' }), [['d-4'], undefined])
    assert.deepEqual(await search('%', { limit: 2 }), [[], undefined])
    assert.equal(registry.active, 0)
    registry.seen('default', 'b-2', h.env.clock.us)
    assert.equal(registry.active, 1)
    await registry.close()
  })
  it('creates, gives back, updates by version, and has it all after a restart', async () => {
    const h = await house()
    const registry = await h.open()
    const made = await registry.create('default', { id: 'd1', name: 'Boiler', type: 'sensor', tenant_id: 'their-tenant', metadata: { floor: 3 } })
    assert.deepEqual(made, {
      id: 'd1',
      name: 'Boiler',
      type: 'sensor',
      status: 'active',
      tenant_id: 'their-tenant',
      metadata: { floor: 3 },
      attributes: {},
      created_us: h.env.clock.us,
      updated_us: h.env.clock.us,
      auto_registered: false,
      version: 1,
    })
    assert.ok(h.series.find('default', 'd1') !== undefined, 'the doors know it before its first reading')
    await rejectsWith('already_exists', registry.create('default', { id: 'd1' }))
    h.env.clock.us += 5
    const updated = await registry.update('default', 'd1', { status: 'maintenance' }, 1)
    assert.equal(updated.status, 'maintenance')
    assert.equal(updated.name, 'Boiler')
    assert.equal(updated.version, 2)
    assert.equal(updated.updated_us, made.updated_us + 5)
    await rejectsWith('version_conflict', registry.update('default', 'd1', { name: 'x' }, 1))
    await rejectsWith('device_not_found', registry.update('default', 'd2', { name: 'x' }))
    await registry.close()
    const again = await h.open()
    assert.deepEqual(await again.get('default', 'd1'), updated)
    assert.ok(h.series.find('default', 'd1') !== undefined)
  })

  it('lets one of many creators win', async () => {
    const h = await house()
    const registry = await h.open()
    const results = await Promise.allSettled(Array.from({ length: 10 }, () => registry.create('t', { id: 'same' })))
    assert.equal(results.filter((r) => r.status === 'fulfilled').length, 1)
    assert.equal(registry.count('t'), 1)
    assert.deepEqual(registry.tenants().toSorted(), ['default', 't'])
  })

  it('takes over a document that somebody else wrote meanwhile', async () => {
    const h = await house()
    const registry = await h.open()
    await registry.create('default', { id: 'd1', name: 'one' })
    const row = await h.meta.get('devices', 'default', 'd1')
    assert.ok(row !== undefined)
    await h.meta.write([{ op: 'put', collection: 'devices', tenant: 'default', doc: { ...row.doc, type: 'theirs' } }])
    const updated = await registry.update('default', 'd1', { name: 'two' })
    assert.equal(updated.name, 'two')
    assert.equal(updated.type, 'theirs')
    assert.equal(updated.version, 3)
    await h.meta.write([{ op: 'put', collection: 'devices', tenant: 'default', doc: { ...row.doc, type: 'again' } }])
    await rejectsWith('version_conflict', registry.update('default', 'd1', { name: 'three' }, 3))
    assert.equal((await registry.get('default', 'd1'))?.type, 'again')
  })

  it('lists by id, page by page, tenants apart, with what came in between', async () => {
    const h = await house()
    const registry = await h.open()
    for (const id of ['c', 'a', 'e']) registry.learn({ tenant: 'default', device: id, receivedUs: 1 })
    registry.learn({ tenant: 'other', device: 'b', receivedUs: 1 })
    const first = await registry.list('default', { limit: 2 })
    assert.deepEqual([first.items.map((d) => d.id), first.next], [['a', 'c'], 'c'])
    registry.learn({ tenant: 'default', device: 'd', receivedUs: 1 })
    const second = await registry.list('default', { limit: 2, after: 'c' })
    assert.deepEqual([second.items.map((d) => d.id), second.next], [['d', 'e'], undefined])
    assert.deepEqual(
      (await registry.list('other', { limit: 5 })).items.map((d) => d.id),
      ['b'],
    )
    assert.deepEqual((await registry.list('nobody', { limit: 5 })).items, [])
    assert.equal(registry.count('default'), 4)
  })
})

describe('device registry: by the log', () => {
  it('learns devices and attributes, durable when told so, and tells the doors at the next start', async () => {
    const h = await house()
    const registry = await h.open()
    registry.learn({ tenant: 'default', device: 'd1', receivedUs: 100 })
    registry.learn({ tenant: 'default', device: 'd1', receivedUs: 200, changes: { firmware: '1.0', __proto__x: 'y', 'unit.temperature': '°C' } })
    await registry.stored()
    const device = await registry.get('default', 'd1')
    assert.deepEqual(
      { ...device },
      {
        id: 'd1',
        name: 'd1',
        type: '',
        status: 'active',
        tenant_id: 'default',
        metadata: {},
        attributes: { firmware: '1.0', __proto__x: 'y', 'unit.temperature': '°C' },
        created_us: 100,
        updated_us: 200,
        auto_registered: true,
        version: 1,
      },
    )
    const before = h.writes.length
    registry.learn({ tenant: 'default', device: 'd1', receivedUs: 300, changes: { firmware: '1.0' } })
    await registry.stored()
    assert.equal(h.writes.length, before, 'what is known already is not written again')
    await h.open()
    const entry = h.series.find('default', 'd1')
    assert.deepEqual(
      [...(entry?.attributes ?? [])],
      [
        ['firmware', '1.0'],
        ['__proto__x', 'y'],
        ['unit.temperature', '°C'],
      ],
    )
  })

  it('writes many devices in few calls', async () => {
    const h = await house()
    const registry = await h.open()
    for (let n = 0; n < 2_500; n++) registry.learn({ tenant: 'default', device: `d${n}`, receivedUs: n })
    await registry.stored()
    assert.deepEqual(
      h.writes.map((some) => some.length),
      [1001, 1000, 500],
    )
    const again = await h.open()
    assert.equal(again.count('default'), 2_500)
    assert.equal(h.series.deviceCount, 2_500)
  })

  it('keeps what it learned while the meta store is away', async () => {
    const h = await house()
    const registry = await h.open()
    h.failure = new KymoError('store_unavailable')
    registry.learn({ tenant: 'default', device: 'd1', receivedUs: 1 })
    await rejectsWith('store_unavailable', registry.stored())
    registry.learn({ tenant: 'default', device: 'd1', receivedUs: 2, changes: { location: 'roof' } })
    await rejectsWith('store_unavailable', registry.stored())
    h.failure = undefined
    await registry.stored()
    assert.deepEqual((await (await h.open()).get('default', 'd1'))?.attributes, { location: 'roof' })
  })

  it('loses nothing when a device speaks while an API call changes it', async () => {
    const h = await house()
    const registry = await h.open()
    registry.learn({ tenant: 'default', device: 'd1', receivedUs: 1, changes: { firmware: '1' } })
    const work: Promise<unknown>[] = []
    for (let n = 0; n < 20; n++) {
      registry.learn({ tenant: 'default', device: 'd1', receivedUs: n, changes: { firmware: String(n), [`a${n}`]: 'x' } })
      work.push(registry.stored(), registry.update('default', 'd1', { metadata: { n } }))
      if (n % 3 === 0) await Promise.allSettled(work.splice(0))
    }
    const results = await Promise.allSettled(work)
    assert.deepEqual(
      results.filter((r) => r.status === 'rejected'),
      [],
    )
    await registry.stored()
    const device = await (await h.open()).get('default', 'd1')
    assert.equal(device?.attributes['firmware'], '19')
    assert.equal(Object.keys(device?.attributes ?? {}).length, 21)
    assert.equal(typeof device?.metadata['n'], 'number')
  })

  it('writes what a device said while its document was on the way', async () => {
    const h = await house()
    const registry = await h.open()
    registry.learn({ tenant: 'default', device: 'd1', receivedUs: 1, changes: { firmware: '1' } })
    const first = registry.stored()
    registry.learn({ tenant: 'default', device: 'd1', receivedUs: 2, changes: { firmware: '2' } })
    await first
    await registry.stored()
    assert.equal((await (await h.open()).get('default', 'd1'))?.attributes['firmware'], '2')
  })

  it('adds to a document that somebody else wrote meanwhile', async () => {
    const h = await house()
    const registry = await h.open()
    await registry.create('default', { id: 'd1', name: 'one' })
    const row = await h.meta.get('devices', 'default', 'd1')
    assert.ok(row !== undefined)
    await h.meta.write([{ op: 'put', collection: 'devices', tenant: 'default', doc: { ...row.doc, name: 'theirs', attributes: { site: 'roof' } } }])
    registry.learn({ tenant: 'default', device: 'd1', receivedUs: 2, changes: { firmware: '2' } })
    await registry.stored()
    const device = await (await h.open()).get('default', 'd1')
    assert.equal(device?.name, 'theirs')
    assert.deepEqual(device?.attributes, { site: 'roof', firmware: '2' })
    assert.equal(device?.version, 3)
  })

  it('bounds what a device may say of itself, and says so once', async () => {
    const h = await house()
    const registry = await h.open()
    const changes = Object.fromEntries(Array.from({ length: 1_100 }, (_, n) => [`a${n}`, 'x']))
    registry.learn({ tenant: 'default', device: 'd1', receivedUs: 1, changes })
    registry.learn({ tenant: 'default', device: 'd1', receivedUs: 1, changes: { long: 'x'.repeat(2_000), short: 'y' } })
    assert.deepEqual((await registry.get('default', 'd1'))?.attributes, { short: 'y' })
    assert.equal(h.env.logged.filter((line) => line.includes('beyond the limit')).length, 1)
  })
})

describe('device registry: last seen', () => {
  it('shows it at once, writes it every few seconds in few documents, and on close', async () => {
    const h = await house()
    const registry = await h.open()
    for (let n = 0; n < 300; n++) registry.learn({ tenant: 'default', device: `d${n}`, receivedUs: 1 })
    await registry.stored()
    h.writes.length = 0
    const version = (await registry.get('default', 'd7'))?.version
    for (let n = 0; n < 300; n++) registry.seen('default', `d${n}`, 1_000 + n)
    registry.seen('default', 'nobody', 5)
    assert.equal((await registry.get('default', 'd7'))?.last_seen_us, 1_007)
    assert.equal((await registry.get('default', 'd7'))?.version, version, 'a message must not fail somebody’s If-Match')
    assert.equal(h.writes.length, 0)
    await h.env.clock.advance(5_000)
    assert.equal(h.writes.length, 1)
    const [blocks] = h.writes
    assert.ok(blocks !== undefined && blocks.length > 100 && blocks.length <= 256, `${blocks?.length} documents`)
    await h.env.clock.advance(5_000)
    assert.equal(h.writes.length, 1, 'nothing changed, nothing is written')
    registry.seenAt(registry.indexOf('default', 'd7'), 9_999)
    await registry.close()
    assert.equal(h.env.clock.timers, 0)
    const again = await h.open()
    assert.equal((await again.get('default', 'd7'))?.last_seen_us, 9_999)
    assert.equal((await again.get('default', 'd299'))?.last_seen_us, 1_299)
  })

  it('is the same after a start that numbers the devices differently, also for those that stay silent', async () => {
    const h = await house()
    const registry = await h.open()
    const ids = Array.from({ length: 1_500 }, (_, n) => `z${9_999 - n}`)
    for (const device of ids) registry.learn({ tenant: 'default', device, receivedUs: 1 })
    await registry.stored()
    ids.forEach((device, n) => registry.seen('default', device, 100 + n))
    await registry.close()
    const second = await h.open()
    assert.notEqual(second.indexOf('default', 'z9999'), registry.indexOf('default', 'z9999'))
    ids.forEach((device, n) => n % 7 === 0 && second.seen('default', device, 5_000 + n))
    await second.close()
    const third = await h.open()
    for (const [n, id] of ids.entries()) assert.equal((await third.get('default', id))?.last_seen_us, n % 7 === 0 ? 5_000 + n : 100 + n)
  })

  it('tries again when it could not be written', async () => {
    const h = await house()
    const registry = await h.open()
    registry.learn({ tenant: 'default', device: 'd1', receivedUs: 1 })
    await registry.stored()
    registry.seen('default', 'd1', 77)
    h.failure = new KymoError('store_unavailable')
    await h.env.clock.advance(5_000)
    h.failure = undefined
    await h.env.clock.advance(5_000)
    assert.equal((await (await h.open()).get('default', 'd1'))?.last_seen_us, 77)
  })

  it('counts active and silent devices', async () => {
    const h = await house()
    const registry = await h.open()
    for (const id of ['a', 'b', 'c']) registry.learn({ tenant: 'default', device: id, receivedUs: 1 })
    registry.seen('default', 'a', h.env.clock.us - 1e6)
    registry.seen('default', 'b', h.env.clock.us - 600e6)
    const family = h.metrics.families.get('kymo_devices')
    family?.collect?.()
    const values = [...(family?.cells.values() ?? [])].map(({ labels, cell }) => [labels[0], 'value' in cell ? cell.value : undefined])
    assert.deepEqual(values, [
      ['active', 1],
      ['silent', 2],
    ])
    await settle()
  })
})

describe('device registry: admission', () => {
  it('refuses unknown devices when automatic registration is off', async () => {
    const h = await house()
    const registry = await h.open({ autoRegister: false })
    await registry.create('default', { id: 'known' })
    h.series.admission = registry.admission
    assert.equal(h.series.device('default', 'stranger'), 'device_unknown')
    assert.notEqual(typeof h.series.device('default', 'known'), 'string')
    assert.equal(h.series.device('other', 'known'), 'device_unknown')
  })

  it('lets a burst in, then so many a second', async () => {
    const h = await house()
    const registry = await h.open({ perS: 10, burst: 3 })
    h.series.admission = registry.admission
    const register = (n: number): string => {
      const entry = h.series.device('default', `d${n}`)
      return typeof entry === 'string' ? entry : 'in'
    }
    assert.deepEqual([1, 2, 3, 4, 5].map(register), ['in', 'in', 'in', 'registration_rate', 'registration_rate'])
    assert.equal(register(1), 'in', 'who is in stays in')
    await h.env.clock.advance(100)
    assert.deepEqual([6, 7].map(register), ['in', 'registration_rate'])
    await h.env.clock.advance(60_000)
    assert.deepEqual([8, 9, 10, 11].map(register), ['in', 'in', 'in', 'registration_rate'])
  })
})

describe('device registry: of several processes', () => {
  const heard = { tenant: 'default', device: 'd', receivedUs: 5, changes: { firmware: '1.0' } }

  it('stores what its own group gave it, also when it has heard of it before; what it only heard of it does not', async () => {
    const h = await house()
    const registry = await h.open({ shared: true })
    registry.hear(heard)
    await registry.stored()
    assert.deepEqual(h.writes, [])
    registry.learn(heard)
    await registry.stored()
    assert.deepEqual((await h.meta.get('devices', 'default', 'd'))?.doc['attributes'], { firmware: '1.0' })
    registry.hear({ ...heard, changes: { firmware: '2.0' } })
    registry.learn({ ...heard, changes: { firmware: '2.0' } })
    await registry.stored()
    assert.deepEqual((await h.meta.get('devices', 'default', 'd'))?.doc['attributes'], { firmware: '2.0' })
  })

  it('tells what another one wrote, and both write the same device', async () => {
    const h = await house()
    const [one, other] = [await h.open({ shared: true }), await h.open({ shared: true, seenElsewhere: true })]
    await one.create('default', { id: 'made', name: 'first' })
    assert.equal((await other.get('default', 'made'))?.name, 'first')
    await one.update('default', 'made', { name: 'second' })
    await other.update('default', 'made', { type: 'boiler' })
    for (const registry of [one, other]) {
      const { items } = await registry.list('default', { limit: 10 })
      assert.deepEqual(
        items.map(({ id, name, type }) => [id, name, type]),
        [['made', 'second', 'boiler']],
      )
    }
    one.learn(heard)
    other.learn({ ...heard, changes: { location: 'cellar' } })
    await Promise.all([one.stored(), other.stored()])
    assert.deepEqual((await h.meta.get('devices', 'default', 'd'))?.doc['attributes'], { firmware: '1.0', location: 'cellar' })
  })

  it('forgets what was erased, whoever hears of it first, and its document goes with the group', async () => {
    const h = await house()
    const registry = await h.open({ shared: true })
    registry.learn(heard)
    await registry.stored()
    registry.unhear('default', 'd')
    await registry.stored()
    assert.ok(await h.meta.get('devices', 'default', 'd'), 'that is for the group')
    registry.forget('default', 'd')
    await registry.stored()
    assert.equal(await h.meta.get('devices', 'default', 'd'), undefined)
    assert.equal(await registry.get('default', 'd'), undefined)
  })
})
