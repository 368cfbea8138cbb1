import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { describe, it } from 'node:test'
import { Flag } from '../../src/core/batch.ts'
import { limits } from '../../src/core/limits.ts'
import { fuzzCases } from '../support/effort.ts'
import { Bench, context, receivedUs } from './line-bench.ts'
import { goodLine, LineNoise, referenceParse, withOtherValues } from './line-fuzz.ts'

type Row = ReturnType<Bench['rows']>[number]

/** What lines mean, by texts and maps alone, with nothing remembered of how they were written. */
class Reference {
  /** By tenant and device: its metrics, and whether they have held a number. */
  readonly devices = new Map<string, Map<string, boolean>>()

  take(bytes: Uint8Array, tenant: string, oldestUs: number): Row[] | undefined {
    const line = referenceParse(bytes)
    if (line === undefined) return undefined
    const key = ['device_id', 'device', 'sensor_id', 'host'].find((name) => line.tags.some(([tag]) => tag === name))
    const quoted = (text: string): string => text.replaceAll(/[\\,={}]/g, '\\$&')
    const others = line.tags.filter(([tag]) => tag !== key).map(([tag, value]) => [tag, `${quoted(tag)}=${quoted(value)}`] as const)
    const sorted = others.toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, text]) => text)
    const suffix = sorted.length === 0 ? '' : `{${sorted.join(',')}}`
    const device = key === undefined ? line.measurement + suffix : line.tags.find(([tag]) => tag === key)![1]
    const metrics = line.fields.map(({ name }) => `${line.measurement}.${name}${key === undefined ? '' : suffix}`)
    if ([device, ...metrics].some((name) => Buffer.byteLength(name) > 256 || /\p{Cc}/u.test(name))) return undefined
    const own = !Number.isNaN(line.timeUs)
    const timeUs = own ? line.timeUs : receivedUs
    if (timeUs < oldestUs) return undefined
    const known = this.devices.get(`${tenant}\n${device}`) ?? new Map<string, boolean>()
    if (line.fields.some(({ kind }, i) => kind === 'text' && known.get(metrics[i]!) === true)) return undefined
    if (new Set([...known.keys(), ...metrics]).size > limits.metricsPerDeviceMax) return undefined
    this.devices.set(`${tenant}\n${device}`, known)
    const ahead = timeUs > receivedUs + limits.clockAheadMaxUs ? Flag.clockAhead : 0
    const kinds: Readonly<Record<string, number>> = { text: Flag.text, boolean: Flag.boolean, bigInteger: Flag.text | Flag.bigInteger, number: 0 }
    return line.fields.map(({ kind, value, text }, i) => {
      known.set(metrics[i]!, known.get(metrics[i]!) === true || kind !== 'text')
      const flags = (own ? ahead : Flag.arrivalTime) | kinds[kind]!
      return { device, metric: metrics[i]!, timeUs, value: Number.isNaN(value) ? text : value, flags }
    })
  }
}

describe('the lanes of line protocol', () => {
  it('give the same rows or the same refusal, line by line, and what the reference says', () => {
    const noise = new LineNoise(11)
    const { random } = noise
    const [fast, general, reference] = [new Bench(), new Bench({ fastLane: false }), new Reference()]
    const lines = Array.from({ length: 200 }, () => goodLine(noise))
    let all = 0
    let taken = 0
    for (const i of fuzzCases(20_000)) {
      all++
      // Now and then a sender starts to send another line, and what was kept runs out.
      if (i % 50 === 0) lines[random.below(lines.length)] = goodLine(noise)
      const line = random.pick(lines)
      const bytes = random.below(3) === 0 ? noise.mutated(line) : Buffer.from(withOtherValues(line, noise))
      const at = context(random.pick(['default', 'default', 'other']), random.below(2) === 0 ? i : undefined)
      const oldestUs = i % 1_000 < 900 ? Number.NEGATIVE_INFINITY : 1_700_000_000_000_000
      const wanted = reference.take(bytes, at.tenant, oldestUs)
      const shown = JSON.stringify(bytes.toString('latin1'))
      const said = [fast, general].map((bench) => {
        bench.payload.oldestUs = oldestUs
        const error = bench.take(bytes, 'line-ns', at)
        const rows = bench.rows()
        assert.deepStrictEqual(error === undefined ? rows : undefined, wanted, `${shown} ${error?.message}`)
        if (error !== undefined) assert.equal(rows.length, 0, shown)
        assert.equal(bench.payload.rows, rows.length, shown)
        for (const [row, id] of bench.out.series.subarray(0, rows.length).entries()) {
          const { device, metric } = rows[row]!
          assert.equal(bench.series.find(at.tenant, device)?.series.get(metric), id, `${shown}: the series as it is now`)
        }
        const own = error === undefined ? bench.payload.ownTime : undefined
        const series = Array.from(bench.out.series.subarray(0, rows.length))
        bench.out.reset()
        return { code: error?.code, message: error?.message, errors: error?.details.errors, own, series }
      })
      assert.deepStrictEqual(said[0], said[1], shown)
      assert.equal(fast.series.keys.length, general.series.keys.length, shown)
      if (wanted !== undefined && ++taken % 500 === 0) {
        const { device } = wanted[0]!
        for (const bench of [fast, general]) bench.series.forget(at.tenant, device)
        reference.devices.delete(`${at.tenant}\n${device}`)
      }
    }
    assert.deepStrictEqual(fast.series.keys, general.series.keys)
    assert.ok(fast.lines.fastLines > all / 20, `${fast.lines.fastLines} of ${all} took the fast lane`)
    assert.ok(taken > all / 4 && taken < (all * 9) / 10, `${taken} of ${all} were good`)
  })

  it('give the same where names are known by more beginnings than are remembered', () => {
    const [fast, general] = [new Bench(), new Bench({ fastLane: false })]
    const many = 300
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < many; i++) {
        // 60 fields of each line fill the table of field keys, which is then forgotten in the midst of lines that come again.
        const fields = Array.from({ length: 60 }, (_, k) => `f${i}_${k}=${round + k}`).join(',')
        const line = `m,host=h${i},t=${round % 2} ${fields} ${1_700_000_000 + round}000000000`
        assert.equal(fast.take(line), undefined)
        assert.equal(general.take(line), undefined)
      }
      assert.deepStrictEqual(fast.rows(), general.rows())
      assert.equal(fast.rows().length, many * 60)
      for (const bench of [fast, general]) bench.out.reset()
    }
  })

  it('know nothing of a device that was erased', () => {
    for (const fastLane of [true, false]) {
      const bench = new Bench({ fastLane })
      for (const host of ['a', 'b', 'a', 'b']) assert.equal(bench.take(`m,host=${host} f=1 1000`), undefined)
      assert.deepStrictEqual(bench.series.forget('default', 'a'), [0])
      assert.equal(bench.take('m,host=a f="on" 1000'), undefined)
      assert.equal(bench.take('m,host=b f="on" 1000')?.code, 'metric_text_changed')
      assert.deepStrictEqual(bench.series.forget('default', 'b'), [1])
      for (const host of ['b', 'a', 'b']) assert.equal(bench.take(`m,host=${host} f=1 1000`), undefined)
      assert.deepStrictEqual(Array.from(bench.out.view().series), [0, 1, 0, 1, 2, 3, 2, 3])
    }
  })
})
