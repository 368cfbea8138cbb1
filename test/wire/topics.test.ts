import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { defaultTopics } from '../../src/core/config.ts'
import { KymoError } from '../../src/core/errors.ts'
import { defaultTelemetryTopics, TelemetryTopics } from '../../src/wire/topics.ts'

describe('the default topics', () => {
  const topics = new TelemetryTopics(defaultTelemetryTopics)

  it('are those of the configuration', () => {
    assert.equal(defaultTelemetryTopics.join(','), defaultTopics)
  })

  it('take S1 and name devices', () => {
    assert.deepStrictEqual(topics.match('portfolio/telemetry'), { telemetry: true })
    assert.deepStrictEqual(topics.match('telemetry'), { telemetry: true })
    assert.deepStrictEqual(topics.match('telemetry/dev-1'), { telemetry: true, device: 'dev-1' })
    assert.deepStrictEqual(topics.match('devices/größe 🌡️/telemetry'), { telemetry: true, device: 'größe 🌡️' })
    assert.deepStrictEqual(topics.match('sensors/__proto__/data'), { telemetry: true, device: '__proto__' })
  })

  it('leave everything else alone', () => {
    for (const topic of [
      'test',
      '',
      '/',
      'Telemetry',
      'telemetry/a/b',
      'devices/a/b/telemetry',
      'devices/a/telemetry/x',
      'devices/telemetry',
      '/telemetry',
      'portfolio/telemetry/',
      '$SYS/broker',
    ]) {
      assert.deepStrictEqual(topics.match(topic), { telemetry: false }, topic)
    }
  })

  it('refuse what is no device id', () => {
    for (const device of ['', 'x'.repeat(257), 'a\u0007b', '☃'.repeat(86)]) {
      const match = topics.match(`devices/${device}/telemetry`)
      assert.equal(match.telemetry, true)
      assert.equal(match.device, undefined)
      assert.match(match.refused ?? '', /device id is not valid/)
    }
    assert.match(topics.match('telemetry/').refused ?? '', /empty/)
    assert.equal(topics.match(`devices/${'x'.repeat(256)}/telemetry`).device?.length, 256)
  })

  it('answer the same again', () => {
    assert.strictEqual(topics.match('telemetry/dev-1'), topics.match('telemetry/dev-1'))
    for (let i = 0; i < 40_000; i++) assert.equal(topics.match(`telemetry/d${i}`).device, `d${i}`)
    assert.equal(topics.match('telemetry/d0').device, 'd0')
  })
})

describe('templates', () => {
  const match = (template: string | readonly string[], topic: string) =>
    new TelemetryTopics(typeof template === 'string' ? [template] : template).match(topic)

  it('know + and # as MQTT does', () => {
    assert.equal(match('a/+/c', 'a/b/c').telemetry, true)
    assert.equal(match('a/+/c', 'a//c').telemetry, true)
    assert.equal(match('a/+/c', 'a/c').telemetry, false)
    assert.equal(match('a/#', 'a').telemetry, true)
    assert.equal(match('a/#', 'a/b/c').telemetry, true)
    assert.equal(match('a/#', 'ab').telemetry, false)
    assert.equal(match('#', 'x/y').telemetry, true)
    assert.equal(match('+', '$SYS').telemetry, false)
    assert.equal(match('#', '$SYS/x').telemetry, false)
    assert.equal(match('{device}/x', '$SYS/x').telemetry, false)
    assert.equal(match('$mine/{device}', '$mine/d').device, 'd')
  })

  it('take a device of several levels at the end', () => {
    assert.equal(match('zigbee2mqtt/{device...}', 'zigbee2mqtt/kitchen/lamp').device, 'kitchen/lamp')
    assert.equal(match('zigbee2mqtt/{device...}', 'zigbee2mqtt/lamp').device, 'lamp')
    assert.equal(match('zigbee2mqtt/{device...}', 'zigbee2mqtt').telemetry, false)
    assert.match(match('zigbee2mqtt/{device...}', 'zigbee2mqtt/').refused ?? '', /empty/)
    assert.deepStrictEqual(match('{device}/#', 'd/x/y'), { telemetry: true, device: 'd' })
  })

  it('the first that fits decides', () => {
    assert.equal(match(['a/+', 'a/{device}'], 'a/d').device, undefined)
    assert.equal(match(['a/{device}', 'a/+'], 'a/d').device, 'd')
    assert.equal(match([], 'a').telemetry, false)
  })

  it('that are none throw config_invalid and say why', () => {
    for (const [template, why] of [
      ['', /empty/],
      ['a/#/b', /last level/],
      ['a/b#', /whole levels/],
      ['a/+b', /whole levels/],
      ['{device}/{device}', /twice/],
      ['{device...}/x', /last level/],
      ['a/{id}', /braces/],
      ['a/x{device}', /braces/],
      ['a\0b', /characters/],
      ['x'.repeat(5000), /longer/],
      ['/'.repeat(200), /levels/],
    ] as const) {
      assert.throws(
        () => new TelemetryTopics([template]),
        (error) => error instanceof KymoError && error.code === 'config_invalid' && why.test(error.message),
        template,
      )
    }
    assert.throws(() => new TelemetryTopics(Array.from({ length: 1001 }, (_, i) => `t${i}`)), /More than 1000/)
  })
})
