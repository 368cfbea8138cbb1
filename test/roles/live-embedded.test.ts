import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { emptyBatch, Flag } from '../../src/core/batch.ts'
import { BatchBuilder } from '../../src/core/batch-builder.ts'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import type { IngestGate } from '../../src/core/gate.ts'
import { Metrics } from '../../src/core/metrics.ts'
import type { LogRecord } from '../../src/core/record.ts'
import { SeriesTable } from '../../src/core/series-table.ts'
import { openDeviceRegistry } from '../../src/devices/registry.ts'
import { openEmbeddedLog } from '../../src/log/embedded/log.ts'
import { startDeadLetters } from '../../src/roles/dead-letters.ts'
import { startLive } from '../../src/roles/live.ts'
import { openSqliteMeta } from '../../src/store/meta/sqlite.ts'
import { encodeAttributes } from '../../src/wire/attributes.ts'
import { encodeDeadLetter } from '../../src/wire/dead-letter.ts'

const dir = mkdtempSync(join(tmpdir(), 'kymo-live-'))
after(() => rmSync(dir, { recursive: true, force: true }))
const env = nodeEnv(silentLogger)
const signal = new AbortController().signal

async function house() {
  const log = await openEmbeddedLog({ dir: join(dir, 'log'), env, threads: false })
  const meta = await openSqliteMeta({ path: join(dir, 'meta.sqlite'), env, thread: false })
  const series = new SeriesTable()
  const metrics = new Metrics()
  const registry = await openDeviceRegistry({ meta, series, env, metrics, autoRegister: true, registrationsPerS: 1e6, registrationBurst: 1e6 })
  // A store that has committed nothing yet: everything comes from the log.
  const store = { resume: async () => undefined, latest: async () => emptyBatch }
  const live = await startLive({ log, store, series, registry, env, metrics })
  const record = (rows: readonly (readonly [device: string, metric: string, timeUs: number, value: number | string])[]): LogRecord => {
    const builder = new BatchBuilder(series.keys, 4)
    for (const [device, metric, timeUs, value] of rows) {
      const id = series.series(series.register('default', device), metric)
      if (typeof value === 'string') builder.addText(id, timeUs, value, Flag.text)
      else builder.add(id, timeUs, value, 0)
    }
    return { topic: 'telemetry', kind: 'readings', key: '', receivedUs: env.clock.nowUs(), batch: builder.view() }
  }
  const close = async (): Promise<void> => {
    await live.stop()
    await registry.close()
    await meta.close()
    await log.close()
  }
  return { log, meta, series, registry, live, record, close }
}

describe('live over the embedded log', () => {
  it('hears what is written, and has it all again after a restart', async () => {
    const h = await house()
    const heard: bigint[] = []
    const all = new Promise<void>((resolve) => {
      h.live.subscribe((event) => {
        heard.push(event.id)
        if (event.id === 3n) resolve()
      })
    })
    await h.log.write([h.record([['d1', 'temperature', 100, 1]]), h.record([['d2', 'mode', 100, 'auto']])], undefined, signal)
    const body = encodeAttributes({ tenant: 'default', device: 'd1', changes: { firmware: '7' } })
    await h.log.write(
      [{ topic: 'telemetry', kind: 'attributes', key: 'd1', receivedUs: 1, body }, h.record([['d1', 'temperature', 200, 2]])],
      undefined,
      signal,
    )
    await all
    assert.deepEqual(heard, [0n, 1n, 3n])
    const latest = h.live.latest({ tenant: 'default', devices: ['d1'] })
    assert.deepEqual([latest.rows, latest.timeUs[0], latest.value[0]], [1, 200, 2])
    await h.close()

    const again = await house()
    const both = again.live.latest({ tenant: 'default' })
    assert.equal(both.rows, 2)
    assert.deepEqual([...(both.text ?? new Map()).values()], ['auto'])
    assert.deepEqual(
      (await again.registry.list('default', { limit: 9 })).items.map((d) => [d.id, d.attributes]),
      [
        ['d1', { firmware: '7' }],
        ['d2', {}],
      ],
    )
    assert.equal(again.series.find('default', 'd1')?.attributes.get('firmware'), '7')
    const [lag] = await again.log.lag('telemetry', 'registry')
    assert.equal(lag?.committed, 4n)
    await again.close()
  })

  it('lists and replays dead letters of the embedded log, and remembers it after a restart', async () => {
    const write = async (log: Awaited<ReturnType<typeof house>>['log'], n: number): Promise<void> => {
      const body = encodeDeadLetter({
        time_us: n,
        code: 'values_missing',
        detail: '',
        errors: [],
        transport: 'mqtt',
        client: 'c',
        topic: 't',
        tenant: 'default',
        shape: 'any',
        bytes_total: 2,
        truncated: false,
        body: new TextEncoder().encode(String(n)),
      })
      await log.write([{ topic: 'dead-letters', kind: 'dead-letter', key: '', receivedUs: n, body }], undefined, signal)
    }
    const taken: string[] = []
    const gate: IngestGate = {
      takenUs: 0,
      submit: (_, bytes, start, end) => taken.push(new TextDecoder().decode(bytes.subarray(start, end))),
      refusal: undefined,
      deadLetter: () => 0,
      durable: 0,
      overloaded: false,
      stalled: undefined,
      onDurable: () => () => undefined,
      whenDurable: async () => undefined,
    }
    const h = await house()
    for (let n = 0; n < 10; n++) await write(h.log, n)
    const letters = await startDeadLetters({ log: h.log, gate, env, metrics: new Metrics() })
    const page = await letters.list('default', { limit: 3 })
    assert.deepEqual(
      page.items.map((item) => [item.id, new TextDecoder().decode(item.body)]),
      [
        ['9', '9'],
        ['8', '8'],
        ['7', '7'],
      ],
    )
    assert.equal((await letters.replay('default', ['2', '8'])).replayed, 2)
    assert.deepEqual(taken, ['2', '8'])
    await letters.stop()
    await h.close()
    const again = await house()
    const after = await startDeadLetters({ log: again.log, gate, env, metrics: new Metrics() })
    assert.deepEqual(
      (await after.list('default', { limit: 20, status: 'replayed' })).items.map((item) => item.id),
      ['8', '2'],
    )
    assert.equal((await after.replay('default', 'all')).replayed, 8)
    await after.stop()
    await again.close()
  })
})
