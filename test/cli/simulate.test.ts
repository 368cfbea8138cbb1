import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { FaultKind } from '../../src/cli/simulate/faults.ts'
import { faultKinds } from '../../src/cli/simulate/faults.ts'
import { Fleet } from '../../src/cli/simulate/fleet.ts'
import type { Sample } from '../../src/cli/simulate/model.ts'
import { payloadOf, SimulatedDevice } from '../../src/cli/simulate/model.ts'
import { SeededRandom } from '../../src/core/seeded-random.ts'
import { fuzzRuns } from '../support/effort.ts'

const startMs = Date.UTC(2026, 10, 20)
const minute = 60_000
const day = 86_400_000

function series(
  seed: number,
  index: number,
  n: number,
  stepMs: number,
  faults: readonly FaultKind[] = [],
  faultsPerHour = 6,
): (Sample | undefined)[] {
  const device = new SimulatedDevice({ seed, index, deviceId: 'd', faults, faultsPerHour })
  return Array.from({ length: n }, (_, i) => device.sample(startMs + i * stepMs))
}

function correlation(a: readonly number[], b: readonly number[]): number {
  const mean = (x: readonly number[]): number => x.reduce((s, v) => s + v, 0) / x.length
  const [ma, mb] = [mean(a), mean(b)]
  let [ab, aa, bb] = [0, 0, 0]
  for (let i = 0; i < a.length; i++) {
    ab += (a[i]! - ma) * (b[i]! - mb)
    aa += (a[i]! - ma) ** 2
    bb += (b[i]! - mb) ** 2
  }
  return ab / Math.sqrt(aa * bb)
}

test('the same seed gives the same readings, another seed or device gives others', () => {
  assert.deepEqual(series(7, 3, 200, minute, faultKinds, 60), series(7, 3, 200, minute, faultKinds, 60))
  assert.notDeepEqual(series(7, 3, 20, minute), series(8, 3, 20, minute))
  assert.notDeepEqual(series(7, 3, 20, minute), series(7, 4, 20, minute))
})

test('the first readings of seed 1 are what they were: a recorded run can be made again', () => {
  const [first, second] = series(1, 0, 2, 5_000)
  assert.deepEqual(
    [first, second].map((s) => [s?.temperature, s?.humidity, s?.battery, s?.firmware]),
    [
      [18.68, 46.2, 95.8, '1.1.2'],
      [18.64, 46.6, 95.8, '1.1.2'],
    ],
  )
})

test('readings stay within what a sensor of this kind says, whatever the seed', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 48 }), fc.integer({ min: 0, max: 5_000 }), (seed, index) => {
      for (const sample of series(seed, index, 100, 37 * minute)) {
        assert.ok(sample !== undefined && sample.temperature > -30 && sample.temperature < 55, `temperature ${sample?.temperature}`)
        assert.ok(sample.humidity >= 5 && sample.humidity <= 100, `humidity ${sample.humidity}`)
        assert.ok(sample.battery > 0 && sample.battery <= 100, `battery ${sample.battery}`)
      }
    }),
    fuzzRuns(60),
  )
})

test('a daily cycle: afternoons are warmer than early mornings; humidity goes the other way', () => {
  let warmer = 0
  const correlations: number[] = []
  for (let index = 0; index < 20; index++) {
    const samples = series(11, index, 7 * 48, 30 * minute) as Sample[]
    const at = (hour: number): number => {
      const of = samples.filter((s) => new Date(s.timeMs).getUTCHours() === hour)
      return of.reduce((sum, s) => sum + s.temperature, 0) / of.length
    }
    if (at(17) > at(5) + 0.5) warmer++
    correlations.push(
      correlation(
        samples.map((s) => s.temperature),
        samples.map((s) => s.humidity),
      ),
    )
  }
  assert.ok(warmer >= 18, `${warmer} of 20 devices`)
  assert.ok(
    correlations.every((r) => r < -0.15) && correlations.filter((r) => r < -0.5).length >= 10,
    correlations.map((r) => r.toFixed(2)).join(' '),
  )
})

test('batteries drain, and are replaced when they are nearly empty', () => {
  const samples = series(5, 2, 300, day) as Sample[]
  const steps = samples.slice(1).map((s, i) => s.battery - samples[i]!.battery)
  assert.ok(steps.filter((step) => step > 50).length >= 1, 'no replacement in 300 days')
  assert.ok(steps.every((step) => step < 0 || step > 50))
})

test('faults: the weather underneath stays the same; each kind does what its name says', () => {
  const clean = series(3, 1, 3_000, 10_000) as Sample[]
  const spiked = series(3, 1, 3_000, 10_000, ['spike'], 20) as Sample[]
  const off = spiked.filter((s, i) => s.temperature !== clean[i]!.temperature)
  assert.ok(off.length >= 50 && off.length <= 400, `${off.length} spikes in 8.3 h at 20 an hour`)
  spiked.forEach((s, i) => {
    const d = Math.abs(s.temperature - clean[i]!.temperature)
    assert.ok(d === 0 || (d > 14.9 && d < 45.1))
    assert.equal(s.humidity, clean[i]!.humidity)
  })

  const silent = series(3, 1, 3_000, 10_000, ['dropout'], 6)
  assert.ok(silent.some((s) => s === undefined))
  silent.forEach((s, i) => s !== undefined && assert.equal(s.temperature, clean[i]!.temperature))

  const stuck = series(3, 1, 3_000, 10_000, ['stuck'], 6) as Sample[]
  let longest = 0
  for (let i = 1, run = 1; i < stuck.length; i++) {
    run = stuck[i]!.temperature === stuck[i - 1]!.temperature && stuck[i]!.humidity === stuck[i - 1]!.humidity ? run + 1 : 1
    longest = Math.max(longest, run)
  }
  assert.ok(longest >= 6, `longest run ${longest}`)

  const drifting = series(3, 1, 3_000, 10_000, ['drift'], 6) as Sample[]
  const far = Math.max(...drifting.map((s, i) => Math.abs(s.temperature - clean[i]!.temperature)))
  assert.ok(far > 0.3 && far < 7, `drifted by ${far}`)
})

test('uniform and normal numbers are what they claim', () => {
  const random = new SeededRandom(42, 1)
  const n = 50_000
  let [sum, squares, uniform] = [0, 0, 0]
  for (let i = 0; i < n; i++) {
    const x = random.normal()
    sum += x
    squares += x * x
    uniform += random.next()
  }
  assert.ok(Math.abs(sum / n) < 0.02 && Math.abs(squares / n - 1) < 0.03 && Math.abs(uniform / n - 0.5) < 0.01)
})

test('a fleet sends on its schedule: every device once an interval, with times that are never the same twice', () => {
  const sent = new Map<string, number[]>()
  const fleet = new Fleet(
    {
      devices: 7,
      intervalMs: 1_000,
      seed: 1,
      faults: [],
      faultsPerHour: 1,
      prefix: 'device-',
      send(_, deviceId, payload) {
        const { timestamp } = JSON.parse(payload.toString()) as { timestamp: number }
        sent.set(deviceId, [...(sent.get(deviceId) ?? []), timestamp])
        return true
      },
    },
    startMs,
  )
  for (let ms = 0; ms < 10_000; ms += 20) fleet.tick(startMs + ms)
  assert.deepEqual([...sent.keys()].toSorted(), ['device-001', 'device-002', 'device-003', 'device-004', 'device-005', 'device-006', 'device-007'])
  for (const [device, times] of sent) {
    assert.equal(times.length, 10, device)
    assert.equal(new Set(times).size, 10)
    assert.ok(times.every(Number.isInteger))
  }
  // The machine slept for a minute: one message a device, not sixty.
  const before = fleet.sent
  fleet.tick(startMs + 70_000)
  assert.equal(fleet.sent - before, 7)
})

test("S1's payload, with whole seconds or fractions", () => {
  const sample: Sample = { deviceId: 'test-device-001', firmware: '1.0.0', temperature: 25.5, humidity: 60, battery: 85, timeMs: 1_234_567_890_500 }
  assert.equal(
    payloadOf(sample, true),
    '{"device_id":"test-device-001","firmware":"1.0.0","temperature":25.5,"humidity":60,"battery":85,"timestamp":1234567890}',
  )
  assert.equal((JSON.parse(payloadOf(sample, false)) as { timestamp: number }).timestamp, 1_234_567_890.5)
})
