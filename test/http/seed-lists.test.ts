import assert from 'node:assert/strict'
import { test } from 'node:test'
import { KymoError } from '../../src/core/errors.ts'
import type { SqlRows } from '../../src/core/sql.ts'
import { serve } from './support.ts'
import type { Reply, Served, TestReading } from './support.ts'

const t0 = 1_700_000_040_000_000
const minute = 60e6
const day = 86_400e6

type Item = Readonly<Record<string, unknown>>

function nextOf(reply: Reply): string | undefined {
  return /<([^>]+)>; rel="next"/.exec(reply.headers.get('link') ?? '')?.[1]
}

/** Every page of a list, by its Link headers; `items` finds the list in an answer. */
async function pages(s: Served, path: string, items: (json: unknown) => readonly Item[] = (json) => json as Item[]): Promise<Item[][]> {
  const out: Item[][] = []
  for (let at: string | undefined = path; at !== undefined;) {
    const reply = await s.call(at)
    assert.equal(reply.status, 200, `${at} ${reply.text}`)
    at = nextOf(reply)
    assert.equal(reply.headers.get('x-truncated'), at === undefined ? null : 'true')
    out.push([...items(reply.json)])
    assert.ok(out.length < 1_000)
  }
  return out
}

/** `n` times of two devices; the second leaves something out each time, and says what this list does not show. */
function street(n: number): TestReading[] {
  return Array.from({ length: n }, (_, i) => {
    const timeUs = t0 + i * 10e6
    return [
      { device: 'a', metric: 'temperature', timeUs, value: i },
      { device: 'a', metric: 'humidity', timeUs, value: 100 - i },
      { device: 'a', metric: 'lat', timeUs, value: 1.5 },
      { device: 'b', metric: i % 2 === 0 ? 'temperature' : 'humidity', timeUs, value: i },
      { device: 'b', metric: 'pressure', timeUs, value: 1013 },
    ]
  }).flat()
}

test('S3 documents: one for each device and time whatever the page, missing is null, newest first', async (t) => {
  const s = await serve(t)
  s.store.readings = street(25)
  for (const limit of [1, 2, 7, 49, 50, 1000]) {
    const got = await pages(s, `/telemetry?limit=${limit}`)
    const all = got.flat()
    assert.equal(all.length, 50, `limit ${limit}`)
    for (const page of got.slice(0, -1)) assert.equal(page.length, limit)
    assert.equal(new Set(all.map((one) => one['_id'])).size, 50)
    const times = all.map((one) => String(one['ts']))
    assert.deepEqual(times, times.toSorted().toReversed())
    const i = 24
    const { _id: id, ...b } = all[0]!
    assert.match(String(id), /^[0-9a-f]{24}$/)
    const ts = new Date((t0 + i * 10e6) / 1e3).toISOString()
    assert.deepEqual(b, { device_id: 'b', ts, temperature_c: 24, humidity: null, lat: null, lon: null })
    assert.deepEqual({ ...all[1], _id: 0 }, { _id: 0, device_id: 'a', ts, temperature_c: i, humidity: 100 - i, lat: 1.5, lon: null })
  }
  const oldest = await pages(s, '/devices/b/telemetry?order=asc&limit=10')
  assert.deepEqual(
    oldest.map((page) => page.length),
    [10, 10, 5],
  )
  assert.deepEqual([oldest[0]![0]!['temperature_c'], oldest[0]![1]!['humidity']], [0, 1])
  const some = await pages(s, '/telemetry?device_id=a&from=2023-11-14T22:14:10Z&to=2023-11-14T22:14:30Z')
  assert.deepEqual(
    some.flat().map((one) => one['temperature_c']),
    [2, 1],
  )
})

test('messages that have all that a list shows are as whole at the edge of a page', async (t) => {
  const s = await serve(t)
  const metrics = ['temperature', 'temperature_c', 'humidity', 'lat', 'lon', 'battery']
  s.store.readings = Array.from({ length: 6 }, (_, i) => metrics.map((metric) => ({ device: 'a', metric, timeUs: t0 + i * 1e6, value: i }))).flat()
  const whole = { device_id: 'a', temperature_c: 0, humidity: 0, lat: 0, lon: 0 }
  for (const limit of [1, 2, 3, 5, 6]) {
    const all = (await pages(s, `/telemetry?order=asc&limit=${limit}`)).flat()
    assert.deepEqual(
      all.map(({ _id, ts: _ts, ...rest }) => rest),
      Array.from({ length: 6 }, (_, i) => ({ ...whole, temperature_c: i, humidity: i, lat: i, lon: i })),
      `limit ${limit}`,
    )
    const latest = (await pages(s, `/analytics/devices/a/latest?limit=${limit}`, (json) => (json as { items: Item[] }).items)).flat()
    assert.deepEqual(
      latest.map((one) => [one['temperature'], one['humidity'], one['battery']]),
      [5, 4, 3, 2, 1, 0].map((i) => [i, i, i]),
    )
  }
})

test('a temperature is found under either name; what is no number is null', async (t) => {
  const s = await serve(t)
  s.store.readings = [
    { device: 'a', metric: 'temperature_c', timeUs: t0, value: 20.5 },
    { device: 'a', metric: 'humidity', timeUs: t0, value: 'wet' },
    { device: 'a', metric: 'lat', timeUs: t0, value: true },
  ]
  const [[document]] = (await pages(s, '/telemetry')) as [[Item]]
  assert.deepEqual([document['temperature_c'], document['humidity'], document['lat']], [20.5, null, null])
  const reading = (await pages(s, '/sensors/a/readings'))[0]![0]!
  assert.deepEqual([reading['sensor_id'], reading['temperature'], reading['humidity'], reading['location']], ['a', 20.5, null, null])
})

test('S3 aggregates: minutes newest first, found over gaps of any length, each once over all pages', async (t) => {
  const s = await serve(t)
  const now = Math.floor((Date.now() * 1e3) / minute) * minute
  // Ahead of now, now, an hour, a day, a month and two years ago: each piece of the search has something to find, and something to pass over.
  const starts = [now + 10 * minute, now, now - 60 * minute, now - 61 * minute, now - day, now - 31 * day, now - 731 * day]
  // From the first to the last microsecond of a minute: where one piece ends and the next begins, none is lost.
  s.store.readings = starts.flatMap((start) =>
    [0, 20e6, 40e6, minute - 1].flatMap((plus, k) => [
      { device: 'a', metric: 'temperature', timeUs: start + plus, value: 20 + k },
      { device: 'a', metric: 'humidity', timeUs: start + plus, value: 60 },
      { device: 'b', metric: 'temperature_c', timeUs: start + plus, value: 10 },
    ]),
  )
  for (const limit of [1, 3, 4, 20, 21, 100]) {
    const all = (await pages(s, `/aggregated?limit=${limit}`)).flat()
    assert.equal(all.length, 21, `limit ${limit}`)
    assert.deepEqual(
      all.filter((_, i) => i % 3 === 0).map((one) => one['timestamp']),
      starts.map((us) => new Date(us / 1e3).toISOString()),
    )
    assert.equal(new Set(all.map((one) => one['_id'])).size, 21)
    const expected = { device_id: 'a', sensor_type: 'temperature', count: 4, sum: 86, min: 20, max: 23, average: 21.5 }
    const temperatures = all.filter((one) => one['device_id'] === 'a' && one['sensor_type'] === 'temperature')
    assert.equal(temperatures.length, starts.length)
    for (const { _id, timestamp, ...rest } of temperatures) assert.deepEqual(rest, expected, String(timestamp))
    assert.equal(
      all.filter((one) => one['device_id'] === 'b').every((one) => one['sensor_type'] === 'temperature'),
      true,
    )
  }
  const own = (await pages(s, '/devices/a/aggregates?limit=5')).flat()
  assert.equal(own.length, 14)
  const since = (await pages(s, `/devices/b/aggregates?from=${(now - 61 * minute) / 1e6}&to=${now / 1e6}`)).flat()
  assert.equal(since.length, 2)
  // The newest page is found without reading everything.
  s.store.asked = []
  await s.call('/aggregated?limit=2')
  assert.ok(s.store.asked.every((q) => q.fromUs >= now - 2 * 3600e6))
})

test('S0 historical data: 24 hours unless it says otherwise, wrapped and counted, with the location of the sensor', async (t) => {
  const s = await serve(t)
  const now = Date.now() * 1e3
  s.store.readings = [-30, -20, -1].map((h) => ({ device: 's1', metric: 'temperature', timeUs: now + h * 3600e6, value: h }))
  s.devices.byId.set('s1', { ...(await s.devices.create('default', { id: 's1' })), attributes: { location: 'Office_A' } })
  const data = (json: unknown): readonly Item[] => (json as { data: Item[] }).data
  const plain = await s.call('/historical-data')
  assert.deepEqual([plain.json['count'], plain.json['next_cursor']], [2, null])
  assert.deepEqual(
    data(plain.json).map(({ temperature, location }) => [temperature, location]),
    [
      [-20, 'Office_A'],
      [-1, 'Office_A'],
    ],
  )
  assert.equal((await s.call('/historical-data?hours=48')).json['count'], 3)
  assert.equal((await s.call('/historical-data?start=-25h&end=-10h')).json['count'], 1)
  assert.equal((await s.call('/historical-data?end=-10h')).json['count'], 2)
  const paged = await pages(s, '/historical-data?hours=48&limit=1', data)
  assert.deepEqual(
    paged.map((page) => page[0]!['temperature']),
    [-30, -20, -1],
  )
  const both = await s.call('/historical-data?hours=1&start=-1h')
  assert.deepEqual([both.status, both.json['errors']], [400, [{ pointer: '/hours', detail: 'must not stand beside start or end' }]])
})

test('S0 and S4 sensors: where, when, how often', async (t) => {
  const s = await serve(t)
  s.store.readings = street(10)
  for (const id of ['a', 'b', 'c']) await s.devices.create('default', { id })
  s.devices.seen('default', 'b', t0)
  s.devices.byId.set('a', { ...s.devices.byId.get('a')!, attributes: { location: 'x' } })
  const { json } = await s.call('/sensors')
  assert.deepEqual(json, {
    sensors: [
      { sensor_id: 'a', location: 'x', last_seen: null, readings: 10 },
      { sensor_id: 'b', location: null, last_seen: new Date(t0 / 1e3).toISOString(), readings: 5 },
      { sensor_id: 'c', location: null, last_seen: null, readings: 0 },
    ],
    count: 3,
    next_cursor: null,
  })
  const paged = await pages(s, '/sensors?limit=2', (one) => (one as { sensors: Item[] }).sensors)
  assert.deepEqual(
    paged.map((page) => page.map((one) => one['sensor_id'])),
    [['a', 'b'], ['c']],
  )
})

const counted = (telemetry: number, aggregated: number): SqlRows => ({
  columns: [
    { name: 'telemetry', type: 'HUGEINT' },
    { name: 'aggregated', type: 'BIGINT' },
  ],
  rows: 1,
  values: [[telemetry], [aggregated]],
})

test('S3 statistics: counted once for all who ask within seconds; null when counting takes too long; a failure is not kept', async (t) => {
  const s = await serve(t)
  s.store.sqlAnswer = counted(7, 9)
  await s.devices.create('default', { id: 'a' })
  const many = await Promise.all([1, 2, 3].map(() => s.call('/stats')))
  for (const { json } of many) {
    assert.deepEqual([json['devices'], json['telemetry_count'], json['aggregated_count'], json['alerts_count']], [1, 7, 9, null])
    assert.equal(typeof json['uptime_s'], 'number')
  }
  assert.equal(s.store.sqlAsked.length, 1)

  const late = await serve(t)
  late.store.sql = () => Promise.reject(new KymoError('query_deadline'))
  assert.deepEqual([(await late.call('/stats')).json['telemetry_count'], (await late.call('/stats')).status], [null, 200])

  const down = await serve(t)
  const { sql } = down.store
  down.store.sql = () => Promise.reject(new KymoError('store_unavailable'))
  const failed = await down.call('/stats')
  assert.deepEqual([failed.status, failed.json['error']], [503, 'Failed to read statistics'])
  down.store.sql = sql.bind(down.store)
  down.store.sqlAnswer = counted(1, 2)
  assert.equal((await down.call('/stats')).json['telemetry_count'], 1)
})

const anomaly = (n: number): SqlRows => ({
  columns: ['time', 'device', 'temperature', 'mean', 'stddev', 'z_score'].map((name) => ({ name, type: 'X' })),
  rows: n,
  values: [
    Array.from({ length: n }, (_, i) => new Date((t0 - i * minute) / 1e3).toISOString()),
    Array.from({ length: n }, () => 'a'),
    Array.from({ length: n }, () => 50),
    Array.from({ length: n }, () => 20),
    Array.from({ length: n }, () => 5),
    Array.from({ length: n }, () => 6),
  ],
})

test('S1 anomalies: what is asked goes in as parameters, and a next page looks at the same hours', async (t) => {
  const s = await serve(t)
  s.store.sqlAnswer = anomaly(3)
  const first = await s.call('/analytics/anomalies?threshold_stddev=2.5&hours=6&limit=2')
  assert.equal((first.json['items'] as Item[]).length, 2)
  assert.deepEqual((first.json['items'] as Item[])[0], {
    device_id: 'a',
    time: new Date(t0 / 1e3).toISOString(),
    temperature: 50,
    mean: 20,
    stddev: 5,
    z_score: 6,
  })
  const [asked] = s.store.sqlAsked
  assert.equal(asked!.parameters[2], 2.5)
  assert.equal(Date.parse(String(asked!.parameters[1])) - Date.parse(String(asked!.parameters[0])), 6 * 3600e3)
  assert.match(asked!.sql, /LIMIT 3$/)
  const second = await s.call(nextOf(first)!)
  assert.equal(second.status, 200)
  const again = s.store.sqlAsked[1]!
  assert.deepEqual(again.parameters.slice(0, 3), asked!.parameters)
  assert.deepEqual(again.parameters.slice(3), [new Date((t0 - minute) / 1e3).toISOString(), 'a'])
  assert.deepEqual([second.json['from'], second.json['to']], [first.json['from'], first.json['to']])
  const other = await s.call(nextOf(first)!.replace('threshold_stddev=2.5', 'threshold_stddev=3'))
  assert.deepEqual([other.status, other.json['code']], [400, 'request_invalid'])
})

test('S1 device routes: a name is never part of the statement', async (t) => {
  const s = await serve(t)
  const id = "x'; DROP TABLE readings; --"
  await s.devices.create('default', { id })
  const reply = await s.call(`/analytics/devices/${encodeURIComponent(id)}/statistics?hours=2`)
  assert.equal(reply.status, 200)
  const [asked] = s.store.sqlAsked
  assert.ok(!asked!.sql.includes('DROP'))
  assert.equal(asked!.parameters[2], id)
  const nothing = { count: 0, avg: null, min: null, max: null, stddev: null }
  assert.deepEqual(
    [reply.json['device_id'], reply.json['message_count'], reply.json['temperature'], reply.json['battery']],
    [id, 0, nothing, nothing],
  )
})

test('S1 watch lists: low by the last battery, silent by the last time it was heard, paged', async (t) => {
  const s = await serve(t)
  const nowUs = Date.now() * 1e3
  const ids = ['a', 'b', 'c', 'd', 'e']
  for (const id of ids) await s.devices.create('default', { id })
  s.store.readings = ids.flatMap((device, i) => [
    { device, metric: 'battery', timeUs: t0, value: 5 },
    { device, metric: 'battery', timeUs: t0 + 1e6, value: i * 10 },
    { device, metric: 'temperature', timeUs: t0 + 2e6, value: 1 },
  ])
  s.devices.seen('default', 'a', nowUs - 3600e6)
  s.devices.seen('default', 'b', nowUs - 20 * minute)
  s.devices.seen('default', 'c', nowUs)
  const items = (json: unknown): readonly Item[] => (json as { items: Item[] }).items
  const low = await pages(s, '/analytics/low-battery?threshold=30&limit=2', items)
  assert.deepEqual(
    low.map((page) => page.map((one) => [one['device_id'], one['battery']])),
    [
      [
        ['a', 0],
        ['b', 10],
      ],
      [['c', 20]],
    ],
  )
  assert.equal(items((await s.call('/analytics/low-battery')).json).length, 2)
  // Those that never sent anything were registered in 2023.
  const silent = await pages(s, '/analytics/inactive?minutes=20&limit=3', items)
  assert.deepEqual(
    silent.map((page) => page.map((one) => one['device_id'])),
    [['a', 'b', 'd'], ['e']],
  )
  assert.deepEqual([silent[0]![0]!['minutes_inactive'], silent[0]![2]!['last_seen']], [60, null])
})
