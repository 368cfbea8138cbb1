import assert from 'node:assert/strict'
import test from 'node:test'
import { Flag } from '../../src/core/batch.ts'
import { KymoError } from '../../src/core/errors.ts'
import { csvText } from '../../src/doors/http/reads/answer.ts'
import { formatRfc3339 } from '../../src/wire/time.ts'
import { RawClient } from './raw.ts'
import { serve } from './support.ts'
import type { Served, TestReading } from './support.ts'

const t0 = Date.UTC(2024, 0, 1) * 1e3
const at = (s: number): number => t0 + s * 1e6

const sample: readonly TestReading[] = [
  { device: 'a', metric: 'temperature', timeUs: at(0), value: 21.5, meta: '{"room":"x","n":[1]}' },
  { device: 'a', metric: 'door', timeUs: at(1), value: 'open', flags: Flag.arrivalTime },
  { device: 'a', metric: 'on', timeUs: at(2), value: true },
  { device: 'a', metric: 'count', timeUs: at(3), value: '9007199254740993', flags: Flag.bigInteger },
  { device: 'a', metric: 'temperature', timeUs: at(4) + 123, value: Number.NaN },
  { device: 'b', metric: 'temperature', timeUs: at(5), value: -0.5, flags: Flag.late | Flag.clockAhead },
]

async function withSample(t: Parameters<typeof serve>[0], o?: Parameters<typeof serve>[1]): Promise<Served> {
  const s = await serve(t, o)
  s.store.readings = [...sample]
  await s.devices.create('default', { id: 'a' })
  s.devices.byId.set('a', { ...s.devices.byId.get('a')!, attributes: { 'unit.temperature': '°C' } })
  return s
}

test('an answer is the same text however it is sliced, and gives way between its slices', async (t) => {
  const readings: TestReading[] = []
  for (let i = 0; i < 20_000; i++) {
    const value = i % 50 === 0 ? `text ${i}` : i / 7
    readings.push({
      device: `d${i % 3}`,
      metric: 'm',
      timeUs: at(i),
      value,
      flags: i % 9 === 0 ? Flag.late : 0,
      ...(i % 11 === 0 ? { meta: `{"n":${i}}` } : {}),
    })
  }
  // An answer that is never over its slice, and one that always is.
  const [whole, sliced] = [await serve(t, { limits: { sliceMs: 60_000 } }), await serve(t, { limits: { sliceMs: -1 } })]
  for (const s of [whole, sliced]) {
    s.store.readings = readings
    s.store.pageRows = 2_048
    for (let i = 0; i < 200; i++) await s.devices.create('default', { id: `d${i}` })
  }
  const paths = ['json', 'ndjson', 'csv'].map((format) => `/api/v1/query?limit=15000&format=${format}`)
  paths.push('/api/v1/query?limit=15000&step=2s&agg=min&agg=max', '/api/v1/devices?limit=200', '/devices', '/devices?fields=id')
  paths.push('/api/v1/latest', '/api/v1/series', '/devices/d1/metrics', '/devices/d1/aggregated?metric=m&aggregation=max&interval=1m')
  for (const path of paths) {
    const [one, other] = [await whole.call(path), await sliced.call(path)]
    assert.equal(one.status, 200, `${path}: ${one.text}`)
    assert.equal(other.text, one.text, path)
    assert.equal(other.headers.get('x-next-cursor'), one.headers.get('x-next-cursor'), path)
    assert.equal(one.text.length > 2, true, path)
  }
  let turns = 0
  const count = (): void => {
    turns++
    next = setImmediate(count)
  }
  const before = sliced.store.asked.length
  const answer = sliced.call(paths[0]!)
  while (sliced.store.asked.length === before) await new Promise((resolve) => setImmediate(resolve))
  let next = setImmediate(count)
  await answer
  clearImmediate(next)
  assert.ok(turns >= 15_000 / 64, `${turns} turns`)
})

test('JSON columns: values as they were sent, NaN as null, units, flags, metadata', async (t) => {
  const s = await withSample(t)
  const reply = await s.call('/api/v1/query?order=asc')
  assert.deepEqual(reply.json, {
    from: null,
    to: null,
    order: 'asc',
    rows: 6,
    truncated: false,
    next_cursor: null,
    series: [
      { device: 'a', metric: 'temperature', unit: '°C' },
      { device: 'a', metric: 'door' },
      { device: 'a', metric: 'on' },
      { device: 'a', metric: 'count' },
      { device: 'b', metric: 'temperature' },
    ],
    columns: {
      time: [0, 1e3, 2e3, 3e3, 4000.123, 5e3].map((ms) => t0 / 1e3 + ms),
      series: [0, 1, 2, 3, 0, 4],
      value: [21.5, 'open', true, '9007199254740993', null, -0.5],
    },
    flags: { 1: ['arrival_time'], 3: ['big_integer'], 5: ['clock_ahead', 'late'] },
    metadata: { 0: { room: 'x', n: [1] } },
  })
  assert.equal(reply.headers.get('x-truncated'), null)
})

test('NDJSON and CSV, by Accept or format', async (t) => {
  const s = await withSample(t)
  const lines = (await s.call('/api/v1/query', { headers: { accept: 'application/x-ndjson' } })).text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown)
  assert.deepEqual(lines[0], {
    time: '2024-01-01T00:00:00.000Z',
    device: 'a',
    metric: 'temperature',
    unit: '°C',
    value: 21.5,
    metadata: { room: 'x', n: [1] },
  })
  assert.deepEqual(lines[4], { time: '2024-01-01T00:00:04.000123Z', device: 'a', metric: 'temperature', unit: '°C', value: null })
  assert.equal(lines.length, 6)
  const csv = await s.call('/api/v1/query?format=csv', { headers: { accept: 'application/json' } })
  assert.equal(csv.headers.get('content-type'), 'text/csv; charset=utf-8; header=present')
  assert.deepEqual(csv.text.split('\r\n'), [
    'time,device,metric,value,unit,flags,metadata',
    '2024-01-01T00:00:00.000Z,a,temperature,21.5,°C,,"{""room"":""x"",""n"":[1]}"',
    '2024-01-01T00:00:01.000Z,a,door,open,,arrival_time,',
    '2024-01-01T00:00:02.000Z,a,on,true,,,',
    '2024-01-01T00:00:03.000Z,a,count,9007199254740993,,big_integer,',
    '2024-01-01T00:00:04.000123Z,a,temperature,,°C,,',
    '2024-01-01T00:00:05.000Z,b,temperature,-0.5,,clock_ahead late,',
    '',
  ])
  assert.match((await s.call('/api/v1/query?format=csv&time=ms&limit=1')).text, /^1704067200000,a/m)
  assert.match((await s.call('/api/v1/query?time=rfc3339&limit=1')).text, /"time":\["2024-01-01T00:00:00.000Z"\]/)
})

test('CSV: quoting, and nothing that a spreadsheet would run', () => {
  assert.equal(csvText('a,b'), '"a,b"')
  assert.equal(csvText('say "x"\r\n'), '"say ""x""\r\n"')
  assert.equal(csvText('=HYPERLINK("http://x")'), '"\'=HYPERLINK(""http://x"")"')
  for (const first of ['+', '-', '@', '\t']) assert.equal(csvText(`${first}1`), `'${first}1`)
  assert.equal(csvText('plain'), 'plain')
})

test('hostile names come back whole in every format', async (t) => {
  const s = await serve(t)
  const device = '=cmd|"\',\n</script>\u2028{}'
  s.store.readings = [{ device, metric: '__proto__', timeUs: at(0), value: '=1+1' }]
  const columns = (await s.call('/api/v1/query')).json
  assert.deepEqual(
    [(columns['series'] as unknown[])[0], (columns['columns'] as { value: unknown }).value],
    [{ device, ['__proto__']: undefined, metric: '__proto__' } as unknown, ['=1+1']].map((x) => JSON.parse(JSON.stringify(x)) as unknown),
  )
  const line = JSON.parse((await s.call('/api/v1/query?format=ndjson')).text) as Record<string, unknown>
  assert.deepEqual([line['device'], line['metric'], line['value']], [device, '__proto__', '=1+1'])
  assert.match((await s.call('/api/v1/query?format=csv')).text, /,"'=cmd\|""',\n<\/script>\u2028\{\}",__proto__,'=1\+1,/)
})

test('ranges: half-open, in any notation; refused ones name the parameter', async (t) => {
  const s = await withSample(t)
  const ask = async (query: string): Promise<[number, number]> => {
    const reply = await s.call(`/api/v1/query?${query}`)
    assert.equal(reply.status, 200, query + reply.text)
    const { fromUs, toUs } = s.store.asked.at(-1)!
    return [fromUs, toUs]
  }
  for (const from of [
    '2024-01-01T00:00:01Z',
    '2024-01-01T01:00:01%2B01:00',
    '2024-01-01T01:00:01+01:00',
    '1704067201',
    '1704067201000',
    '1704067201000000',
    '1704067201000000000',
    '1704067201.0',
  ]) {
    assert.equal((await ask(`from=${from}&to=2024-01-01T00:00:05Z`))[0], at(1), from)
  }
  assert.equal((await s.call('/api/v1/query?from=2024-01-01T00:00:01Z&to=2024-01-01T00:00:05Z')).json['rows'], 4)
  assert.equal((await ask('from=2024-01-01'))[0], t0)
  const now = s.env.clock.nowUs()
  const [from, to] = await ask('from=-24h&to=now')
  assert.ok(Math.abs(to - now) < 5e6 && to - from === 86_400e6)
  for (const query of [
    'from=yesterday',
    'from=2024-02-30',
    'from=2300-01-01',
    'to=-5',
    'from=now&to=-1h',
    'step=5',
    'step=0s',
    'agg=avg',
    'step=1m&agg=mode',
    'step=2mo',
    'step=1d&tz=Europe/Atlantis',
    'step=2d&tz=Europe/Berlin',
    'gaps=null&from=-1h',
    'step=1m&gaps=null',
    'step=1m&gaps=zero',
    'order=up',
    'limit=100001',
    'format=xml',
    'cursor=abc',
  ]) {
    const reply = await s.call(`/api/v1/query?${query}`)
    assert.equal(reply.status, 400, query)
    assert.ok((reply.json['errors'] as { pointer: string }[])[0]!.pointer.length > 1, query)
  }
})

test('device and metric: repeated, or by commas; braces and \\, keep theirs', async (t) => {
  const s = await withSample(t)
  const ask = async (query: string): Promise<unknown> => (await s.call(`/api/v1/query?${query}`), s.store.asked.at(-1)!.match)
  assert.deepEqual(await ask('device=a,b&metric=x&metric=y'), { tenant: 'default', devices: ['a', 'b'], metrics: ['x', 'y'] })
  assert.deepEqual(await ask('metric=cpu{core=1,host=h},mem&device=a\\,b'), {
    tenant: 'default',
    devices: ['a,b'],
    metrics: ['cpu{core=1,host=h}', 'mem'],
  })
})

test('buckets: one column for each aggregate, avg when none is named', async (t) => {
  const s = await serve(t)
  s.store.readings = [1, 2, 3, 4].map((value, i) => ({ device: 'a', metric: 'm', timeUs: at(i * 30), value }))
  const reply = await s.call('/api/v1/query?step=1m&agg=avg,max&agg=stddev')
  assert.deepEqual(reply.json['columns'], { time: [t0 / 1e3, t0 / 1e3 + 60_000], series: [0, 0], avg: [1.5, 3.5], max: [2, 4], stddev: [null, null] })
  assert.deepEqual([reply.json['step'], s.store.asked[0]!.stepUs], ['1m', 60e6])
  assert.equal(
    (await s.call('/api/v1/query?step=1m&format=csv')).text,
    'time,device,metric,avg,unit\r\n2024-01-01T00:00:00.000Z,a,m,1.5,\r\n2024-01-01T00:01:00.000Z,a,m,3.5,\r\n',
  )
  assert.deepEqual(JSON.parse((await s.call('/api/v1/query?step=1m&limit=1&format=ndjson')).text), {
    time: '2024-01-01T00:00:00.000Z',
    device: 'a',
    metric: 'm',
    avg: 1.5,
  })
})

test('step=auto is the finest usual width that a plot has room for; the answer names it', async (t) => {
  const s = await serve(t)
  const ask = async (query: string): Promise<unknown[]> => {
    const { json } = await s.call(`/api/v1/query?step=auto&agg=avg&${query}`)
    const { stepUs, calendar } = s.store.asked.at(-1) ?? {}
    return [json['step'], stepUs ?? calendar?.unit]
  }
  assert.deepEqual(await ask('from=-15m'), ['2s', 2e6])
  assert.deepEqual(await ask('from=-1h&to=now'), ['5s', 5e6])
  assert.deepEqual(await ask('from=-24h'), ['2m', 120e6])
  assert.deepEqual(await ask('from=-7d'), ['15m', 900e6])
  assert.deepEqual(await ask('from=-30d'), ['1h', 3600e6])
  assert.deepEqual(await ask('from=-730d'), ['1w', 'week'])
  assert.deepEqual(await ask('from=1970-01-01'), ['1mo', 'month'])
  assert.deepEqual(await ask('from=2026-11-21T12:00:00Z&to=2026-11-21T12:00:00.5Z'), ['1ms', 1e3])
  // Without an end it is that of now: readings ahead of time are no reason for a coarser step.
  assert.ok(s.store.asked.at(-1)!.toUs < 9e15)
  const refused = await s.call('/api/v1/query?step=auto')
  assert.deepEqual([refused.status, (refused.json['errors'] as { pointer: string }[])[0]?.pointer], [400, '/step'])
})

test('calendar steps, dates of a zone and gaps become what the store is asked', async (t) => {
  const s = await serve(t)
  const ask = async (query: string) => {
    const reply = await s.call(`/api/v1/query?${query}`)
    assert.equal(reply.status, 200, query + reply.text)
    const { stepUs, calendar, gaps, fromUs, toUs } = s.store.asked.at(-1)!
    return { stepUs, calendar, gaps, from: formatRfc3339(fromUs), to: toUs, tz: reply.json['tz'] }
  }
  const berlin = await ask('from=2026-10-25&to=2026-10-26&step=1d&tz=Europe/Berlin&agg=p95,count')
  assert.deepEqual(berlin, {
    stepUs: undefined,
    calendar: { unit: 'day', timeZone: 'Europe/Berlin' },
    gaps: undefined,
    from: '2026-10-24T22:00:00.000Z',
    to: Date.parse('2026-10-25T23:00:00Z') * 1e3,
    tz: 'Europe/Berlin',
  })
  const of = async (query: string) => {
    const { stepUs, calendar } = await ask(query)
    return calendar === undefined ? stepUs : `${calendar.unit} ${calendar.timeZone}`
  }
  assert.deepEqual(
    [
      await of('step=1d'),
      await of('step=24h&tz=Asia/Kolkata'),
      await of('step=2d'),
      await of('step=1w'),
      await of('step=1mo'),
      await of('step=1y&tz=Asia/Tokyo'),
    ],
    [86_400e6, 86_400e6, 2 * 86_400e6, 'week UTC', 'month UTC', 'year Asia/Tokyo'],
  )
  const before = s.env.clock.nowUs()
  const gaps = await ask('step=1h&gaps=null&from=2026-01-01')
  assert.deepEqual([gaps.gaps, gaps.from, gaps.to >= before && gaps.to <= s.env.clock.nowUs()], ['null', '2026-01-01T00:00:00.000Z', true])
  assert.equal((await ask('step=1h&gaps=absent')).gaps, undefined)
})

test('what a bucket without readings has is null, or an empty cell', async (t) => {
  const s = await serve(t)
  s.store.readings = [{ device: 'a', metric: 'm', timeUs: t0, value: 1 }]
  // Of what the store gives out, p95 and stddev are NaN here.
  assert.match((await s.call('/api/v1/query?step=1m&agg=count,p95&format=csv')).text, /^2024-01-01T00:00:00.000Z,a,m,1,,\r$/m)
  assert.match((await s.call('/api/v1/query?step=1m&agg=count,p95&format=ndjson')).text, /"count":1,"p95":null\}/)
  assert.match((await s.call('/api/v1/query?step=1m&agg=count,p95')).text, /"p95":\[null\]/)
})

test('answers with percentiles say how exact those are, and when readings of a bucket have gone', async (t) => {
  const s = await serve(t)
  s.store.readings = [{ device: 'a', metric: 'm', timeUs: t0, value: 1 }]
  const asked = async (query: string): Promise<unknown[]> => {
    const { json, headers } = await s.call(`/api/v1/query?step=1h&${query}`)
    return [json['exact'], json['relative_error'], json['partial'], headers.get('x-relative-error'), headers.get('x-partial')]
  }
  assert.deepEqual(await asked('agg=count,max'), [undefined, undefined, undefined, null, null])
  assert.deepEqual(await asked('agg=count,p95'), [false, 0.01, undefined, '0.01', null])
  const query = s.store.query.bind(s.store)
  t.mock.method(s.store, 'query', async function* (...rest: Parameters<typeof query>) {
    for await (const page of query(...rest)) yield { ...page, partial: true }
  })
  assert.deepEqual(await asked('agg=count,p95'), [false, 0.01, true, '0.01', 'true'])
  assert.equal((await s.call('/api/v1/query?step=1h&agg=p95&format=csv')).headers.get('x-partial'), 'true')
})

test('a cursor belongs to its zone and to its gaps', async (t) => {
  const s = await serve(t)
  s.store.readings = [1, 2, 3].map((value) => ({ device: 'a', metric: 'm', timeUs: at(value * 60), value }))
  const query = 'step=1m&limit=1&from=2024-01-01&tz=Europe/Berlin&gaps=null'
  const cursor = String((await s.call(`/api/v1/query?${query}`)).json['next_cursor'])
  assert.equal((await s.call(`/api/v1/query?${query}&cursor=${cursor}`)).status, 200)
  for (const other of [query.replace('Berlin', 'Paris'), query.replace('&gaps=null', '')])
    assert.equal((await s.call(`/api/v1/query?${other}&cursor=${cursor}`)).status, 400, other)
})

test('pages by cursor give each row once, in both orders and all formats, with equal times', async (t) => {
  const s = await serve(t)
  s.store.readings = Array.from({ length: 53 }, (_, i) => ({ device: `d${i % 5}`, metric: `m${i % 3}`, timeUs: at(Math.floor(i / 9)), value: i }))
  const expected = [...s.store.readings].map((r) => r.value).sort()
  for (const order of ['asc', 'desc']) {
    for (const format of ['json', 'csv']) {
      const values: number[] = []
      let path: string | null = `/api/v1/query?order=${order}&limit=10&format=${format}`
      let pages = 0
      while (path !== null) {
        const reply = await s.call(path)
        pages++
        if (format === 'json') values.push(...(reply.json['columns'] as { value: number[] }).value)
        else
          values.push(
            ...reply.text
              .trim()
              .split('\r\n')
              .slice(1)
              .map((line) => Number(line.split(',')[3])),
          )
        const link = /<([^>]+)>; rel="next"/.exec(reply.headers.get('link') ?? '')
        assert.equal(reply.headers.get('x-truncated'), link === null ? null : 'true')
        if (format === 'json')
          assert.deepEqual([reply.json['truncated'], reply.json['next_cursor']], [link !== null, reply.headers.get('x-next-cursor')])
        path = link?.[1] ?? null
      }
      assert.deepEqual([pages, values.sort()], [6, expected], `${order} ${format}`)
    }
  }
})

test('exactly as many rows as the limit are not truncated', async (t) => {
  const s = await withSample(t)
  assert.deepEqual(
    [(await s.call('/api/v1/query?limit=6')).json['truncated'], (await s.call('/api/v1/query?limit=5')).json['truncated']],
    [false, true],
  )
  s.store.readings = Array.from({ length: 15 }, (_, i) => ({ device: 'a', metric: 'm', timeUs: at(i), value: i }))
  for (let limit = 1; limit <= 15; limit++) {
    const { json } = await s.call(`/api/v1/query?limit=${limit}`)
    assert.deepEqual([json['rows'], json['truncated']], [limit, limit < 15])
  }
})

test('a cursor fixes relative times, and serves no other question', async (t) => {
  const s = await withSample(t)
  const first = await s.call('/api/v1/query?limit=2&from=-1000w&to=now')
  const cursor = String(first.json['next_cursor'])
  const { fromUs, toUs } = s.store.asked.at(-1)!
  assert.equal((await s.call(`/api/v1/query?limit=2&from=-1000w&to=now&cursor=${cursor}`)).status, 200)
  assert.deepEqual([s.store.asked.at(-1)!.fromUs, s.store.asked.at(-1)!.toUs], [fromUs, toUs])
  for (const query of ['', 'from=-1000w', 'from=-1000w&to=now&order=desc', 'from=-1000w&to=now&device=a', 'from=-1000w&to=now&step=1m']) {
    const reply = await s.call(`/api/v1/query?${query}&cursor=${cursor}`)
    assert.deepEqual([reply.status, (reply.json['errors'] as { pointer: string }[])[0]!.pointer], [400, '/cursor'], query)
  }
  for (let i = 0; i < cursor.length; i += 7) {
    const changed = cursor.slice(0, i) + (cursor[i] === 'A' ? 'B' : 'A') + cursor.slice(i + 1)
    assert.equal((await s.call(`/api/v1/query?limit=2&from=-1000w&to=now&cursor=${changed}`)).status, 400, `at ${i}`)
  }
})

test('an answer beyond its bytes is cut, and says where it goes on', async (t) => {
  const s = await serve(t, { limits: { answerBytesMax: 100_000 } })
  s.store.pageRows = 500
  s.store.readings = Array.from({ length: 500 }, (_, i) => ({ device: 'a', metric: 'm', timeUs: at(i), value: 'x'.repeat(1000) }))
  let rows = 0
  let path: string | null = '/api/v1/query?limit=1000'
  while (path !== null) {
    const reply = await s.call(path)
    assert.ok(reply.text.length < 250_000)
    rows += reply.json['rows'] as number
    path = reply.json['next_cursor'] === null ? null : `/api/v1/query?limit=1000&cursor=${String(reply.json['next_cursor'])}`
  }
  assert.equal(rows, 500)
})

test('a query beyond its deadline is 503 and interrupted, even when the store does not listen', async (t) => {
  const s = await withSample(t, { limits: { queryDeadlineMs: 30 } })
  s.store.slow = () => new Promise(() => undefined)
  const reply = await s.call('/api/v1/query')
  assert.deepEqual([reply.status, reply.json['code'], s.store.aborted], [503, 'query_deadline', 1])
})

test('a client that leaves interrupts its query', async (t) => {
  const s = await withSample(t)
  let aborted = (): void => undefined
  const interrupted = new Promise<void>((resolve) => (aborted = resolve))
  s.store.slow = (signal) => new Promise((_, reject) => signal.addEventListener('abort', () => (aborted(), reject(new KymoError('query_deadline')))))
  const client = new RawClient(s.door.port)
  await client.send('GET /api/v1/query HTTP/1.1\r\nHost: localhost\r\n\r\n')
  while (s.store.asked.length === 0) await new Promise((resolve) => setImmediate(resolve))
  client.end()
  await interrupted
})

test('series and latest: by (device, metric), paged, with units', async (t) => {
  const s = await withSample(t)
  await s.devices.create('default', { id: 'b' })
  const all = await s.call('/api/v1/series')
  assert.deepEqual(all.json['items'], [
    { device: 'a', metric: 'count', first: '2024-01-01T00:00:03.000Z', last: '2024-01-01T00:00:03.000Z' },
    { device: 'a', metric: 'door', first: '2024-01-01T00:00:01.000Z', last: '2024-01-01T00:00:01.000Z' },
    { device: 'a', metric: 'on', first: '2024-01-01T00:00:02.000Z', last: '2024-01-01T00:00:02.000Z' },
    { device: 'a', metric: 'temperature', unit: '°C', first: '2024-01-01T00:00:00.000Z', last: '2024-01-01T00:00:04.000123Z' },
    { device: 'b', metric: 'temperature', first: '2024-01-01T00:00:05.000Z', last: '2024-01-01T00:00:05.000Z' },
  ])
  for (const path of ['/api/v1/series', '/api/v1/latest', '/api/v1/latest?device=b,a', '/api/v1/latest?metric=temperature,door,on,count']) {
    const names: string[] = []
    let cursor: string | null = ''
    while (cursor !== null) {
      const reply = await s.call(`${path}${path.includes('?') ? '&' : '?'}limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`)
      assert.equal(reply.status, 200, reply.text)
      names.push(...(reply.json['items'] as { device: string; metric: string }[]).map((i) => `${i.device} ${i.metric}`))
      cursor = reply.json['next_cursor'] as string | null
    }
    assert.deepEqual(names, ['a count', 'a door', 'a on', 'a temperature', 'b temperature'], path)
  }
  const one = await s.call('/api/v1/devices/b/latest')
  assert.deepEqual(one.json, {
    device: 'b',
    items: [{ device: 'b', metric: 'temperature', time: '2024-01-01T00:00:05.000Z', value: -0.5, flags: ['clock_ahead', 'late'] }],
  })
  assert.equal((await s.call('/api/v1/devices/none/latest')).status, 404)
})

test('device ids with slashes and other scripts are reachable percent-encoded', async (t) => {
  const s = await serve(t)
  for (const id of ['living room/lamp', 'пол', 'a%2Fb', 'x'.repeat(256)]) {
    await s.devices.create('default', { id })
    assert.equal((await s.call(`/api/v1/devices/${encodeURIComponent(id)}`)).json['id'], id)
    assert.equal((await s.call(`/devices/${encodeURIComponent(id)}`)).json['device_id'], id)
  }
})
