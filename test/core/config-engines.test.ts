import assert from 'node:assert/strict'
import test from 'node:test'
import { enginesOf, places, rolesOf } from '../../src/core/config-engines.ts'
import { forecastOptionsOf, trainableKinds } from '../../src/core/config-forecast.ts'
import { forecasters } from '../../src/compute/forecast/registry.ts'
import { checkTogether, loadConfig } from '../../src/core/config-resolve.ts'
import { asKymoError } from '../../src/core/errors.ts'
import { compatPorts } from '../../src/roles/compat-ports.ts'

const kafka = { 'log.url': 'kafka://k:9092' }
const tables = { 'store.url': 'postgres://u:geheim@h/d', 'meta.url': 'postgresql://h/d' }

/** Settings that an error names, with what it says of the first; empty: it is fine. */
function refused(flags: Record<string, unknown>): readonly [pointers: string, text: string] {
  try {
    checkTogether(loadConfig({ flags }))
    return ['', '']
  } catch (thrown) {
    const { code, message, details } = asKymoError(thrown)
    assert.equal(code, 'config_invalid')
    assert.ok(!message.includes('geheim'), message)
    return [(details.errors ?? []).map(({ pointer }) => pointer).join(), message]
  }
}

test('addresses choose engines by their scheme; others are refused with what the setting takes', () => {
  const own = enginesOf(loadConfig({ flags: { data_dir: '/d', 'meta.url': 'sqlite:/m' } }))
  assert.deepEqual(own, {
    dataDir: '/d',
    log: { kind: 'local', path: '/d/log' },
    store: { kind: 'local', path: '/d/store' },
    meta: { kind: 'local', path: '/m' },
    forecast: { kind: 'local', path: '/d/forecasts.sqlite' },
  })
  const { log, store, meta } = enginesOf(loadConfig({ flags: { ...kafka, ...tables } }))
  assert.deepEqual([log.kind, store.kind, meta.kind], ['kafka', 'postgres', 'postgres'])
  for (const [name, url] of [
    ['log.url', 'nats://h'],
    ['log.url', 'postgres://h/d'],
    ['store.url', 'kafka://h'],
    ['meta.url', 'mysql://u:geheim@h'],
  ] as const) {
    const [pointer, text] = refused({ [name]: url })
    assert.equal(pointer, name)
    assert.match(text, /it takes \w+:<path> or \w+:\/\//)
  }
})

test('engines that do not go together are refused by name', () => {
  assert.equal(refused({ ...kafka, ...tables })[0], '')
  assert.equal(refused(tables)[0], '', 'the embedded log goes with PostgreSQL')
  assert.equal(refused({ ...kafka, 'store.url': tables['store.url'] })[0], '', 'metadata may be embedded in one process')
  assert.match(refused(kafka)[1], /^store\.url: the embedded store reads the embedded log only/)
  assert.equal(refused({ ...tables, 'storage.quota_mb': 10 })[0], 'storage.quota_mb')
})

test('roles apart need engines that all processes reach', () => {
  assert.deepEqual([...rolesOf(loadConfig())], ['ingest', 'store', 'api', 'forecast'])
  assert.deepEqual([...rolesOf(loadConfig({ flags: { roles: ' api, ingest' } }))], ['api', 'ingest'])
  assert.equal(refused({ roles: 'ingest', ...kafka, ...tables })[0], '')
  assert.equal(refused({ roles: 'ingest,store,api' })[0], '', 'all of them by name')
  const [pointers, text] = refused({ roles: 'ingest' })
  assert.equal(pointers, 'log.url,store.url,meta.url')
  assert.match(text, /^log\.url: roles is ingest: .*; set it to kafka:\/\/host:9092 \(and 2 more\)$/)
  assert.equal(refused({ roles: 'store', ...kafka, 'store.url': tables['store.url'] })[0], 'meta.url')
  assert.match(refused({ roles: 'ingest,alert' })[1], /"alert" does not exist in this version; it takes all, or some of ingest, store, api, forecast/)
  assert.match(refused({ roles: 'web' })[1], /"web" is no role/)
  assert.equal(refused({ roles: 'api', 'demo.devices': 1, ...kafka, ...tables })[0], 'demo.devices')
})

test('forecasts: their address, their role, and what their settings must be together', () => {
  const chosen = (flags: Record<string, unknown>) => enginesOf(loadConfig({ flags })).forecast
  assert.deepEqual(chosen({ data_dir: '/d', 'forecast.url': 'sqlite:/f' }), { kind: 'local', path: '/f' })
  assert.deepEqual(chosen({ 'forecast.url': 'postgres://h/d' }), { kind: 'postgres', url: 'postgres://h/d' })
  assert.equal(refused({ 'forecast.url': 'duckdb:/x' })[0], 'forecast.url')
  assert.match(
    refused({ roles: 'ingest,forecast', ...kafka, ...tables })[1],
    /^roles: is ingest,forecast: forecast works in the process that answers for it/,
  )
  assert.equal(refused({ roles: 'api,forecast', ...kafka, ...tables })[0], '')
  for (const [flags, pointer] of [
    [{ 'forecast.step': '7h' }, 'forecast.step,forecast.horizon'],
    [{ 'forecast.step': '30m', 'forecast.horizon': '45m' }, 'forecast.horizon'],
    [{ 'forecast.step': '1m', 'forecast.horizon': '2d' }, 'forecast.horizon,forecast.history'],
    [{ 'forecast.time_zone': 'Europe/Nowhere' }, 'forecast.time_zone'],
    [{ 'forecast.kinds': 'ridge, prophet' }, 'forecast.kinds'],
  ] as const)
    assert.equal(refused(flags)[0], pointer)
  for (const flags of [{ 'forecast.step': '13h' }, { 'forecast.step': 'hourly' }, { 'forecast.level': 1 }, { 'forecast.retrain': '10m' }])
    assert.throws(
      () => loadConfig({ flags }),
      (thrown: unknown) => asKymoError(thrown).code === 'config_invalid',
    )
  const options = forecastOptionsOf(
    loadConfig({
      env: { KYMO_FORECAST_LEVEL: '0.8', KYMO_FORECAST_METRICS: 'temp*, humidity' },
      flags: { 'forecast.retrain': '0', 'forecast.retention': '' },
    }),
  )
  assert.deepEqual(
    [options.level, options.retrainUs, options.retentionUs, options.stepUs, options.horizonUs],
    [0.8, Infinity, Infinity, 3600e6, 86_400e6],
  )
  assert.deepEqual(['temperature', 'humidity', 'battery'].map(options.follows), [true, true, false])
  assert.equal(forecastOptionsOf(loadConfig()).anyMetric, false)
  assert.deepEqual(
    [...trainableKinds],
    forecasters.map(({ kind }) => kind).filter((kind) => kind !== 'seasonal-naive'),
  )
})

test('commands that work on files say that an engine elsewhere has none', () => {
  assert.throws(
    () => places(loadConfig({ flags: { 'store.url': 'postgres://u:geheim@h/d' } })),
    (thrown: unknown) => asKymoError(thrown).message.startsWith('store.url: is postgres://…@h/d, and this works on the files of the embedded one'),
  )
})

test('ports of the seeds: all of them for all roles, else those of the service that a role is', () => {
  assert.deepEqual(compatPorts(new Set(['ingest', 'store', 'api'])), [8000, 8001, 8002, 8003, 8004])
  assert.deepEqual(compatPorts(new Set(['ingest'])), [8001])
  assert.deepEqual(compatPorts(new Set(['api', 'store'])), [8000, 8002, 8003])
})
