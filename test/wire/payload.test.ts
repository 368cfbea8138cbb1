import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { describe, it } from 'node:test'
import { Flag, type Batch } from '../../src/core/batch.ts'
import { BatchBuilder } from '../../src/core/batch-builder.ts'
import type { KymoError } from '../../src/core/errors.ts'
import type { MessageContext } from '../../src/core/gate.ts'
import { limits } from '../../src/core/limits.ts'
import { SeriesTable, type Admission } from '../../src/core/series-table.ts'
import { PayloadDecoder, type PayloadDecoderOptions } from '../../src/wire/payload/decoder.ts'
import { JsonNoise } from './json-fuzz.ts'

const receivedUs = 1_790_000_000_000_000

class Bench {
  readonly series: SeriesTable
  readonly decoder: PayloadDecoder
  readonly out: BatchBuilder

  constructor(o: Omit<PayloadDecoderOptions, 'series'> = {}, admit?: Admission) {
    this.series = new SeriesTable(admit)
    this.decoder = new PayloadDecoder({ series: this.series, ...o })
    this.out = new BatchBuilder(this.series.keys, 4)
  }

  send(message: unknown, context: Partial<MessageContext> = {}): KymoError | undefined {
    const text = typeof message === 'string' ? message : JSON.stringify(message)
    // Amid other bytes, as in a read buffer.
    const bytes = Buffer.concat([Buffer.from('99}'), Buffer.from(text), Buffer.from('99}')])
    const whole = { transport: 'mqtt', tenant: 'default', client: 'c', topic: 't', shape: 'any', packetId: 0, dup: false, ...context } as const
    return this.decoder.decode(bytes, 3, bytes.length - 3, whole, receivedUs, this.out)
  }

  /** Sends it twice, so that the second takes the fast lane when it may, and gives the rows of both as text. */
  twice(message: unknown, context?: Partial<MessageContext>): string[] {
    const rows = [0, 1].map(() => {
      this.out.reset()
      const error = this.send(message, context)
      assert.equal(error, undefined, error?.message)
      assert.equal(this.decoder.rows, this.out.rows)
      return shown(this.out.view())
    })
    assert.deepStrictEqual(rows[1], rows[0], 'both lanes give the same')
    return rows[0]!
  }
}

/** Rows as `device metric=value @time flags`. */
function shown(batch: Batch): string[] {
  return Array.from({ length: batch.rows }, (_, i) => {
    const { tenant, device, metric } = batch.keys[batch.series[i]!]!
    const time = batch.timeUs[i] === receivedUs ? '' : ` @${batch.timeUs[i]}`
    const flags = batch.flags?.[i] ?? 0
    const meta = batch.meta?.get(i)
    return `${tenant === 'default' ? '' : `${tenant}/`}${device} ${metric}=${batch.text?.get(i) ?? batch.value[i]}${time}${flags === 0 ? '' : ` f${flags}`}${meta === undefined ? '' : ` ${meta}`}`
  })
}

const arrival = `f${Flag.arrivalTime}`

describe('shapes', () => {
  it('S1: portfolio/telemetry', () => {
    const bench = new Bench()
    const message = '{"device_id":"test-device-001","firmware":"1.0.0","temperature":25.5,"humidity":60.0,"battery":85.0,"timestamp":1234567890}'
    assert.deepStrictEqual(bench.twice(message), [
      'test-device-001 temperature=25.5 @1234567890000000',
      'test-device-001 humidity=60 @1234567890000000',
      'test-device-001 battery=85 @1234567890000000',
    ])
    assert.equal(bench.decoder.fastMessages, 1, 'the second takes the fast lane')
    assert.equal(bench.decoder.ownTime, true)
    assert.deepStrictEqual(bench.decoder.attributeChanges, [
      { tenant: 'default', device: 'test-device-001', name: 'firmware', value: '1.0.0', timeUs: 1234567890000000 },
    ])
  })

  it('S0: sensor-data', () => {
    const bench = new Bench()
    const message = { sensor_id: 'sensor_001', temperature: 25.5, humidity: 60, location: 'Office_A' }
    assert.deepStrictEqual(bench.twice(message, { shape: 'sensor-data' }), [
      `sensor_001 temperature=25.5 ${arrival}`,
      `sensor_001 humidity=60 ${arrival}`,
    ])
    assert.equal(bench.decoder.fastMessages, 1)
    assert.equal(bench.decoder.ownTime, false)
    assert.equal(bench.series.find('default', 'sensor_001')?.attributes.get('location'), 'Office_A')
    assert.deepStrictEqual(
      bench.twice({ ...message, timestamp: '2026-02-01T12:00:00Z' }, { shape: 'sensor-data' })[0],
      'sensor_001 temperature=25.5 @1769947200000000',
    )
  })

  it('S3: a reading, also through every telemetry topic', () => {
    const message = { device_id: 'dev-1', ts: '2026-02-01T12:00:00+01:00', temperature_c: 21, humidity: 40, lat: 52.5, lon: 13.4 }
    const rows = ['temperature=21', 'humidity=40', 'lat=52.5', 'lon=13.4'].map((row) => `dev-1 ${row} @1769943600000000`)
    for (const shape of ['reading', 'any'] as const) {
      const bench = new Bench()
      assert.deepStrictEqual(bench.twice(message, { shape }), rows)
      assert.equal(bench.decoder.fastMessages, 1)
    }
  })

  it('S2: a data point with unit and metadata', () => {
    const bench = new Bench()
    const message = {
      device_id: 'd',
      timestamp: '2026-02-01T12:00:00.5Z',
      metric: 'pressure',
      value: 1013.25,
      unit: 'hPa',
      metadata: { floor: 3, 'a"b': [1.5, null] },
    }
    assert.deepStrictEqual(bench.twice(message, { shape: 'data-point' }), ['d pressure=1013.25 @1769947200500000 {"floor":3,"a\\"b":[1.5,null]}'])
    assert.deepStrictEqual([...bench.series.find('default', 'd')!.attributes], [['unit.pressure', 'hPa']])
    assert.equal(bench.decoder.fastMessages, 0, 'metadata is not flat')
    const plain = { device_id: 'd', timestamp: 1700000000, metric: 'pressure', value: 1, unit: 'hPa' }
    assert.deepStrictEqual(bench.twice(plain, { shape: 'any' }), ['d pressure=1 @1700000000000000'])
    assert.equal(bench.decoder.fastMessages, 2)
    assert.equal(bench.decoder.attributeChanges.length, 1)
  })

  it('S2: the name decides the series, and the alias holds', () => {
    const bench = new Bench()
    assert.deepStrictEqual(bench.twice({ device_id: 'd', metric: 'temperature_c', value: 20, unit: '°C' }), [`d temperature=20 ${arrival}`])
    assert.deepStrictEqual(bench.twice({ device_id: 'd', metric: 'humidity', value: 40, unit: '%' }), [`d humidity=40 ${arrival}`])
    assert.equal(bench.decoder.fastMessages, 2)
    assert.equal(bench.send({ device_id: 'd', metric: 'temperature', value: 20, temperature_c: 21 })?.code, 'alias_conflict')
    assert.equal(bench.send({ device_id: 'd', metric: 'humidity', value: null })?.code, 'values_missing')
    assert.equal(bench.send({ device_id: 'd', metric: 'humidity', value: '40' })?.code, 'value_invalid')
  })

  it('canonical: values, units, attributes', () => {
    const bench = new Bench()
    const message = { device: 'd', time: 1700000000123, values: { a: 1.5, ok: true, name: 'x', time: 5, device: 6 } }
    assert.deepStrictEqual(
      bench.twice(message),
      ['a=1.5', 'ok=1', 'name=x', 'time=5', 'device=6'].map((row, i) => `d ${row} @1700000000123000${['', ' f1', ' f2', '', ''][i]}`),
    )
    assert.equal(bench.decoder.fastMessages, 1)
    assert.equal(
      bench.send({ device: 'd', values: { a: 1 }, units: { a: 'V', temperature_c: 'C' }, attributes: { model: 'X', rev: 3, cal: { ok: true } } }),
      undefined,
    )
    assert.deepStrictEqual(
      [...bench.series.find('default', 'd')!.attributes],
      [
        ['unit.a', 'V'],
        ['unit.temperature', 'C'],
        ['model', 'X'],
        ['rev', '3'],
        ['cal.ok', 'true'],
      ],
    )
  })

  it('nested objects are joined by a dot', () => {
    const bench = new Bench()
    assert.deepStrictEqual(bench.twice({ device_id: 'd', DS18B20: { Temperature: 20.6, Id: 'x' }, wifi: { rssi: -60 }, g: [1, 2] }), [
      `d DS18B20.Temperature=20.6 ${arrival}`,
      `d DS18B20.Id=x f${Flag.arrivalTime | Flag.text}`,
      `d wifi.rssi=-60 ${arrival}`,
      `d g.0=1 ${arrival}`,
      `d g.1=2 ${arrival}`,
    ])
  })

  it('without aliases temperature_c is a metric of its own', () => {
    const bench = new Bench({ aliases: false })
    assert.deepStrictEqual(bench.twice({ device_id: 'd', temperature: 1, temperature_c: 2 }), [
      `d temperature=1 ${arrival}`,
      `d temperature_c=2 ${arrival}`,
    ])
  })

  it('value and metric alone are metrics', () => {
    const bench = new Bench()
    assert.deepStrictEqual(bench.twice({ device_id: 'd', value: 5 }), [`d value=5 ${arrival}`])
    assert.equal(bench.decoder.fastMessages, 1)
    assert.deepStrictEqual(bench.twice({ device_id: 'd', metric: 'imperial' }), [`d metric=imperial f${Flag.arrivalTime | Flag.text}`])
  })

  it('the strict shapes name every field that is wrong', () => {
    const bench = new Bench()
    const error = bench.send({ temperature_c: '1' }, { shape: 'reading' })
    assert.equal(error?.code, 'field_missing')
    assert.deepStrictEqual(
      error.details.errors?.map((e) => e.pointer),
      ['/device_id', '/temperature_c', '/humidity'],
    )
    assert.equal(bench.send({ device_id: 'd', temperature: 1, humidity: 2 }, { shape: 'reading' })?.details.errors?.[0]?.pointer, '/temperature_c')
    assert.equal(bench.send({ device_id: 'd', metric: '', value: 2 }, { shape: 'data-point' })?.code, 'value_invalid')
    assert.equal(
      bench.send({ device_id: 'd', metric: 'a', value: 2, metadata: 'x' }, { shape: 'data-point' })?.details.errors?.[0]?.pointer,
      '/metadata',
    )
    assert.equal(bench.series.deviceCount, 0)
    // The fast lane must not forget what the shape requires.
    assert.equal(bench.send({ device_id: 'd', humidity: 2 }), undefined)
    assert.equal(bench.send({ device_id: 'd', humidity: 2 }, { shape: 'reading' })?.code, 'field_missing')
    assert.equal(bench.send({ device_id: 'd', temperature_c: 1, humidity: 2 }, { shape: 'reading' }), undefined)
    assert.equal(bench.send({ device_id: 'd', temperature_c: null, humidity: 2 }, { shape: 'reading' })?.code, 'field_missing')
    assert.equal(bench.send({ device_id: 'd', values: { temperature_c: 1, humidity: 2 } }, { shape: 'reading' })?.code, 'field_missing')
  })
})

describe('devices', () => {
  it('the topic wins over the payload, and differences are counted in both lanes', () => {
    const bench = new Bench()
    for (let i = 0; i < 3; i++) assert.equal(bench.send({ device_id: 'b', x: 1 }, { topicDevice: 'a' }), undefined)
    assert.equal(bench.decoder.topicDeviceDiffered, 3)
    assert.equal(bench.send({ device_id: 'a', x: 1 }, { topicDevice: 'a' }), undefined)
    assert.equal(bench.send({ x: 1 }, { topicDevice: 'a' }), undefined)
    assert.equal(bench.decoder.topicDeviceDiffered, 3)
    assert.ok(bench.decoder.fastMessages >= 3)
    assert.equal(bench.series.find('default', 'b'), undefined)
    for (let i = 0; i < 2; i++) assert.equal(bench.send({ device_id: 'größe', x: 1 }, { topicDevice: 'größe' }), undefined)
    assert.equal(bench.decoder.topicDeviceDiffered, 3, 'equal beyond ASCII too')
  })

  it('tenants are apart', () => {
    const bench = new Bench()
    assert.deepStrictEqual(bench.twice({ device_id: 'd', x: 1 }, { tenant: 'one' }), [`one/d x=1 ${arrival}`])
    assert.deepStrictEqual(bench.twice({ device_id: 'd', x: 1 }, { tenant: 'two' }), [`two/d x=1 ${arrival}`])
    assert.deepStrictEqual(bench.twice({ device_id: 'd', x: 1 }, { tenant: 'one' }), [`one/d x=1 ${arrival}`])
    assert.equal(bench.series.deviceCount, 2)
  })

  it('an integer id is its digits, in both lanes, and never what only looks like them', () => {
    const bench = new Bench()
    for (const id of ['42', '356938035643809123456']) assert.deepStrictEqual(bench.twice(`{"device_id":${id},"x":1}`), [`${id} x=1 ${arrival}`])
    assert.deepStrictEqual(bench.twice({ device_id: '42', x: 1 }), [`42 x=1 ${arrival}`])
    assert.equal(bench.decoder.fastMessages, 4)
    assert.equal(bench.send({ device_id: '-1', x: 1 }), undefined)
    assert.equal(bench.send({ device_id: '1e3', x: 1 }), undefined)
    assert.equal(bench.send('{"device_id":-1,"x":1}')?.code, 'device_invalid')
    assert.equal(bench.send('{"device_id":1e3,"x":1}')?.code, 'device_invalid')
    assert.equal(bench.send('{"device_id":42.0,"x":1}')?.code, 'device_invalid')
  })

  it('says why an unknown device may not register, and leaves nothing behind', () => {
    let answer: ReturnType<Admission> = 'device_unknown'
    const bench = new Bench({}, () => answer)
    const error = bench.send({ device_id: 'new', x: 1, firmware: '1' })
    assert.equal(error?.code, 'device_unknown')
    assert.equal(error.details.errors?.[0]?.pointer, '/device_id')
    answer = 'registration_rate'
    assert.equal(bench.send({ device_id: 'new', x: 1 })?.kind, 'overloaded')
    assert.equal(bench.series.deviceCount + bench.series.keys.length + bench.out.rows + bench.decoder.attributeChanges.length, 0)
    answer = undefined
    assert.equal(bench.send({ device_id: 'new', x: 1 }), undefined)
  })
})

describe('all or nothing', () => {
  it('a refused message leaves no device, series, attribute, numeric mark or row', () => {
    const bench = new Bench()
    assert.equal(bench.send({ device_id: 'd', a: 1, state: 'on', firmware: '1' }), undefined)
    bench.decoder.attributeChanges.length = 0
    const rows = bench.out.rows
    for (const message of [
      '{"device_id":"new","a":1,"b":1e999}',
      '{"device_id":"d","b":1,"a":"text"}',
      '{"device_id":"d","firmware":"2","a":1,"time":-1}',
      '{"device_id":"d","state":5,"c":1,"temperature":"x"}',
      '{"device_id":"d","a":1,"b":2,"b":3}',
      `{"device_id":"d","firmware":"3","a":1,"metadata":"${'x'.repeat(5000)}"}`,
    ]) {
      assert.ok(bench.send(message) !== undefined, message)
      assert.equal(bench.decoder.rows, 0)
    }
    assert.equal(bench.out.rows, rows)
    assert.equal(bench.series.deviceCount, 1)
    assert.deepStrictEqual(
      bench.series.keys.map((key) => key.metric),
      ['a', 'state'],
    )
    assert.deepStrictEqual([bench.series.numeric[0], bench.series.numeric[1]], [1, 0])
    assert.deepStrictEqual([...bench.series.find('default', 'd')!.attributes], [['firmware', '1']])
    assert.equal(bench.decoder.attributeChanges.length, 0)
  })

  it('the fast lane takes back its rows when a later value is not for it', () => {
    const bench = new Bench()
    const message = (x: unknown): unknown => ({ device_id: 'd', a: 1, b: 'text', c: x })
    assert.equal(bench.send(message(1)), undefined)
    assert.equal(bench.send(message(2)), undefined)
    assert.equal(bench.decoder.fastMessages, 1)
    const rows = bench.out.rows
    assert.equal(bench.send(message('text'))?.code, 'metric_text_changed')
    assert.equal(bench.out.rows, rows)
    assert.equal(bench.out.view().text?.size, 2)
  })
})

describe('time', () => {
  it('flags a clock that is ahead in both lanes, and keeps its time', () => {
    const bench = new Bench()
    const ahead = receivedUs + limits.clockAheadMaxUs
    assert.deepStrictEqual(bench.twice({ device_id: 'd', x: 1, ts: ahead }), [`d x=1 @${ahead}`])
    assert.deepStrictEqual(bench.twice({ device_id: 'd', x: 1, ts: ahead + 1 }), [`d x=1 @${ahead + 1} f${Flag.clockAhead}`])
  })

  it('reads nanoseconds to the microsecond in both lanes', () => {
    const bench = new Bench()
    assert.deepStrictEqual(bench.twice('{"device_id":"d","x":1,"time":1700000000123456789}'), ['d x=1 @1700000000123456'])
    assert.equal(bench.decoder.fastMessages, 1)
    assert.equal(bench.send('{"device_id":"d","x":1,"time":99999999999999999999}')?.code, 'time_invalid')
  })

  it('takes the same time twice, and null as absent', () => {
    const bench = new Bench()
    assert.deepStrictEqual(bench.twice('{"device_id":"d","x":1,"time":1700000000,"ts":"2023-11-14T22:13:20Z"}'), ['d x=1 @1700000000000000'])
    assert.deepStrictEqual(bench.twice('{"device_id":"d","x":1,"time":null}'), [`d x=1 ${arrival}`])
    assert.equal(bench.decoder.fastMessages, 2)
    assert.deepStrictEqual(bench.twice('{"device_id":"d","x":1,"timestamp":"0001-01-01T00:00:00Z"}'), [`d x=1 ${arrival}`], 'as Go sends none')
    assert.equal(bench.send('{"device_id":"d","x":1,"timestamp":"0001-01-01T00:00:01Z"}')?.code, 'time_invalid')
  })
})

describe('bounds', () => {
  it('attributes of a device', () => {
    const bench = new Bench()
    const send = (from: number, count: number): KymoError | undefined =>
      bench.send({ device_id: 'd', x: 1, attributes: Object.fromEntries(Array.from({ length: count }, (_, i) => [`a${from + i}`, 'v'])) })
    assert.equal(send(0, 1000), undefined)
    assert.equal(send(1000, 100)?.code, 'too_many_attributes')
    assert.equal(bench.series.find('default', 'd')?.attributes.size, 1000)
    assert.equal(send(500, 100), undefined, 'known ones need no room')
    assert.equal(bench.send({ device_id: 'd', firmware: 'f'.repeat(limits.attributeBytesMax + 1) })?.details.errors?.[0]?.pointer, '/firmware')
  })

  it('keys that are known by their bytes: it forgets, and goes on right', () => {
    const bench = new Bench()
    const metrics = 500
    const devices = Math.ceil(limits.payloadKeysMax / metrics) + 2
    for (let d = 0; d < devices; d++) {
      const message = `{"device_id":"d${d}",${Array.from({ length: metrics }, (_, i) => `"m${d}-${i}":${i}`).join(',')}}`
      assert.equal(bench.send(message), undefined)
      bench.out.reset()
    }
    for (let d = 0; d < devices; d++) {
      bench.out.reset()
      assert.deepStrictEqual(bench.twice(`{"device_id":"d${d}","m${d}-7":1,"temperature_c":3}`), [
        `d${d} m${d}-7=1 ${arrival}`,
        `d${d} temperature=3 ${arrival}`,
      ])
    }
    assert.ok(bench.decoder.fastMessages >= devices)
  })

  it('a key that takes the place of a forgotten one does not take its series', () => {
    const bench = new Bench()
    // The first key that is not the decoder's own; known to each of these devices by its place in the table.
    for (let i = 16_000; i < 16_900; i++) bench.twice({ device_id: `d${i}`, first: 1 })
    for (let from = 0; from < 16_000; from += 500) {
      const values = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`k${from + i}`, 1]))
      assert.equal(bench.send({ device: `filler-${from}`, values }), undefined)
    }
    // Somewhere here the table is full, and the key that finds it so becomes the first of the new one.
    for (let i = 16_000; i < 16_900; i++) {
      const rows = bench.twice({ device_id: `d${i}`, [`k${i}`]: 1 })
      assert.deepStrictEqual(rows, [`d${i} k${i}=1 ${arrival}`])
    }
  })

  it('errors stay small however long the names', () => {
    const bench = new Bench()
    const long = 'k'.repeat(500_000)
    for (const message of [
      `{"device_id":"d","${long}":1}`,
      `{"device_id":"${long}","x":1}`,
      `{"device_id":"d","${long}":{"a":NaN}}`,
      `{"device_id":"d","x":1,"time":"${long}"}`,
      `{"device_id":"d","values":{"${long}":"${long}"}}`,
    ]) {
      const error = bench.send(message)
      assert.ok(error !== undefined)
      assert.ok(JSON.stringify({ m: error.message, d: error.details }).length < 4_000)
    }
  })
})

describe('both lanes', () => {
  it('give the same rows, errors and attributes for 20,000 messages', () => {
    const noise = new JsonNoise(7)
    const one = new Bench()
    const other = new Bench({ fastLane: false })
    const scalar = (): string => noise.pick([() => noise.number(), () => '"on"', () => 'true', () => 'null', () => '1.5', () => '20', () => '7'])()
    const keys = [
      'temperature',
      'temperature_c',
      'humidity',
      'a',
      'b',
      'state',
      'value',
      'metric',
      'time',
      'ts',
      'firmware',
      'location',
      'unit',
      'values',
      'é',
      '__proto__',
    ]
    const member = (): string => {
      const key = noise.pick(keys)
      if (key === 'time' || key === 'ts')
        return `"${key}":${noise.pick(['1700000000', '1700000000.25', '"2026-02-01T12:00:00Z"', '"2026-02-01 12:00:00.123+02"', '1700000000123456789', '"x"', 'null'])}`
      if (key === 'firmware' || key === 'location' || key === 'unit') return `"${key}":${noise.pick(['"1.0"', '"1.1"', '""', '"é"', 'null', '5'])}`
      if (key === 'metric') return `"metric":${noise.pick(['"a"', '"temperature_c"', '"state"', '5'])}`
      if (key === 'values') return `"values":${noise.pick([`{"a":${scalar()}}`, `{"b":${scalar()},"time":${scalar()}}`, '{}', scalar()])}`
      return `"${key}":${scalar()}`
    }
    for (let i = 0; i < 20_000; i++) {
      const id = noise.pick(['"device_id":"d1"', '"device":"d2"', '"sensor_id":"é"', '"device_id":7', '"x":1', '"device_id":"d1","sensor_id":"d1"'])
      const text = `{${id},${Array.from({ length: 1 + noise.below(4) }, member).join(',')}}`
      const shape = noise.pick(['any', 'any', 'any', 'reading', 'data-point', 'sensor-data'] as const)
      const context = { shape, ...(noise.below(5) === 0 ? { topicDevice: 'd1' } : {}) }
      const [a, b] = [one.send(text, context), other.send(text, context)]
      assert.deepStrictEqual([a?.code, a?.message, a?.details.errors], [b?.code, b?.message, b?.details.errors], text)
      assert.deepStrictEqual(shown(one.out.view()), shown(other.out.view()), text)
      assert.deepStrictEqual(one.decoder.attributeChanges, other.decoder.attributeChanges, text)
      assert.equal(one.decoder.topicDeviceDiffered, other.decoder.topicDeviceDiffered, text)
      if (a === undefined) assert.equal(one.decoder.ownTime, other.decoder.ownTime, text)
      for (const bench of [one, other]) {
        bench.out.reset()
        bench.decoder.attributeChanges.length = 0
      }
    }
    assert.equal(other.decoder.fastMessages, 0)
    assert.ok(one.decoder.fastMessages > 1_000, `${one.decoder.fastMessages} took the fast lane`)
  })

  it('give the same where messages resemble the device’s last one in all but one thing', () => {
    const noise = new JsonNoise(11)
    const one = new Bench()
    const other = new Bench({ fastLane: false })
    const layouts = [
      (v: () => string) => `"a":${v()},"b":${v()},"firmware":${noise.pick(['"1"', '"1"', '"1"', '"2"'])}`,
      (v: () => string) => `"b":${v()},"a":${v()},"firmware":"1","location":${noise.pick(['"x"', '"x"', '"y"', '""'])}`,
      (v: () => string) => `"a":${v()},"c":${v()},"b":${v()}`,
      (v: () => string) => `"a":${v()},"firmware":"1"`,
    ]
    for (let i = 0; i < 20_000; i++) {
      const value = (): string => (noise.below(200) === 0 ? noise.pick(['true', '"t"', 'null', '1e400']) : String(noise.below(1000)))
      const device = `d${noise.below(6)}`
      const text = `{"device_id":"${device}",${noise.pick(layouts)(value)}}`
      const context = noise.below(10) === 0 ? { topicDevice: `d${noise.below(6)}` } : {}
      const [a, b] = [one.send(text, context), other.send(text, context)]
      assert.deepStrictEqual([a?.code, a?.message], [b?.code, b?.message], text)
      assert.deepStrictEqual(shown(one.out.view()), shown(other.out.view()), text)
      assert.deepStrictEqual(one.decoder.attributeChanges, other.decoder.attributeChanges, text)
      for (const bench of [one, other]) {
        bench.out.reset()
        bench.decoder.attributeChanges.length = 0
        // As what the registry learns elsewhere.
        const entry = bench.series.find('default', device)
        if (i % 50 === 0 && entry !== undefined) bench.series.setAttribute(entry, 'firmware', '2')
      }
    }
    assert.ok(one.decoder.fastMessages > 10_000, `${one.decoder.fastMessages} took the fast lane`)
  })
})
