import assert from 'node:assert/strict'
import test from 'node:test'
import { retentionOf } from '../../src/core/config.ts'
import { loadConfig } from '../../src/core/config-resolve.ts'
import { retentionStatus } from '../../src/roles/status.ts'

const sizes = {
  bytes: 0,
  series: 0,
  running: 0,
  waiting: 0,
  rawFromUs: 0,
  expiredBytes: { age: 1, size: 2, rules: 3 },
  rules: { series: [7, 8], dueFiles: 4 },
}
const told = { removed_bytes: sizes.expiredBytes, due_files: 4 }

test('retention as it is set, with what the store says of it', () => {
  const rules = [
    { metrics: ['debug.*'], raw: '36h', minutes: '26w' },
    { labels: { site: 'lab' }, minutes: '1y', hours: '2y' },
  ]
  const flags = { 'retention.raw': '90d', 'retention.store_mb': 5, 'retention.rules': JSON.stringify(rules) }
  const retention = retentionOf(loadConfig({ flags }))
  const shown = [
    { metrics: ['debug.*'], raw: '36h', minutes: '182d' },
    { labels: { site: 'lab' }, minutes: '1y', hours: '2y' },
  ]
  assert.deepEqual(retentionStatus(retention, { ...sizes, rawFromUs: 86_400e6 }), {
    raw: '90d',
    store_bytes_max: 5e6,
    raw_from_us: 86_400e6,
    ...told,
    rules: [
      { ...shown[0], series: 7 },
      { ...shown[1], series: 8 },
    ],
  })
  // The store has not taken them over: of which series it speaks is not known.
  assert.deepEqual(retentionStatus(retention, { ...sizes, rules: { series: [7], dueFiles: 4 } }).rules, shown)
  assert.deepEqual(retentionStatus(retentionOf(loadConfig()), sizes), { ...told, rules: [] })
})
