import assert from 'node:assert/strict'
import test from 'node:test'
import type { StatusAnswer } from '../../src/client/index.ts'
import { History, lagMsOf } from '../../src/page/history.ts'

const startedMs = Date.UTC(2026, 10, 21, 12)

function status(o: Partial<StatusAnswer> = {}): StatusAnswer {
  return {
    version: '1',
    time: new Date(startedMs).toISOString(),
    started_at: new Date(startedMs).toISOString(),
    ready: true,
    draining: false,
    components: [],
    lag: [],
    messages_total: 0,
    readings_total: 0,
    rejected_total: 0,
    devices: 3,
    devices_active: 2,
    dead_letters_waiting: 1,
    series: 4,
    mqtt_connections: 0,
    mqtt_port: 1883,
    mqtts_port: null,
    auth: 'loopback',
    data_dir: 'd',
    storage: { log_bytes: 10, store_bytes: 20 },
    retention: {
      raw: null,
      minutes: null,
      hours: null,
      store_bytes_max: null,
      raw_from: null,
      removed_bytes: { age: 0, size: 0, rules: 0 },
      due_files: 0,
      rules: [],
    },
    pid: 1,
    ...o,
  }
}

test('rates follow from the totals of two looks, those that the server kept first', () => {
  const history = new History()
  const kept = { readings_total: 0, devices_active: 1, store_lag_ms: 7, storage_bytes: 5, dead_letters_waiting: 0 }
  history.begin([
    { ...kept, time: startedMs, messages_total: 100 },
    { ...kept, time: startedMs + 5_000, messages_total: 150, readings_total: 500 },
  ])
  history.add(status({ messages_total: 170, readings_total: 500 }), startedMs + 7_000)
  assert.deepEqual(
    history.looks.map(({ messagesPerS, readingsPerS }) => [messagesPerS, readingsPerS]),
    [
      [null, null],
      [10, 100],
      [10, 0],
    ],
  )
  assert.deepEqual(history.looks.at(-1), {
    atMs: startedMs + 7_000,
    messagesPerS: 10,
    readingsPerS: 0,
    active: 2,
    lagMs: 0,
    storageBytes: 30,
    deadLetters: 1,
  })
})

test('a server that began anew has no rate for a look, and no negative one', () => {
  const history = new History()
  history.add(status({ messages_total: 1_000, readings_total: 1_000 }), startedMs)
  history.add(status({ messages_total: 5, readings_total: 5 }), startedMs + 2_000)
  history.add(status({ messages_total: 9, readings_total: 15 }), startedMs + 4_000)
  assert.deepEqual(
    history.looks.map(({ readingsPerS }) => readingsPerS),
    [null, null, 5],
  )
})

test('two looks at once are one, and only the last minutes are kept', () => {
  const history = new History()
  for (let i = 0; i < 400; i++) {
    history.add(status({ messages_total: i }), startedMs + i * 2_000)
    history.add(status({ messages_total: i + 1 }), startedMs + i * 2_000 + 100)
  }
  assert.equal(history.looks.length, 151)
  assert.equal(history.looks.at(-1)?.messagesPerS, 0.5)
})

test('the lag of the store is the age of the oldest that it has not read', () => {
  const group = { group: 'store', partition: 0, earliest: '0', committed: '5', end: '9', bytes: 1, oldest: new Date(startedMs).toISOString() }
  assert.equal(
    lagMsOf(status({ lag: [group, { ...group, group: 'registry', oldest: new Date(startedMs - 9e6).toISOString() }] }), startedMs + 250),
    250,
  )
  assert.equal(lagMsOf(status({ lag: [{ ...group, committed: '9' }] }), startedMs + 250), 0)
  assert.equal(lagMsOf(status({ lag: [{ ...group, oldest: null }] }), startedMs + 250), 0)
})
