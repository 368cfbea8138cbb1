import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { buckets, deadLetters, eventually, getJson, readings, settled } from '../test/support/api.ts'
import { RunningServer } from '../test/support/server.ts'

const archives = path.join(import.meta.dirname, '../test/data/versions')
const start = Date.UTC(2026, 10, 1)

/** What every archive holds (test/data/versions/NOTICE.md). */
async function check(base: string): Promise<void> {
  const pump = { device: 'pump-1', metric: 'temperature' }
  const temperatures = await readings(base, pump)
  assert.equal(temperatures.length, 721)
  for (const [k, reading] of temperatures.entries()) {
    assert.equal(reading.timeMs, start + k * 10_000)
    assert.equal(reading.value, k === 0 ? 99 : k === 720 ? 30 : 20 + (k % 60) / 10)
  }
  // Minutes, hours, and a width that is neither.
  for (const [step, seconds] of [
    ['1m', 60],
    ['1h', 3600],
    ['40s', 40],
  ] as const) {
    const found = await buckets(base, { ...pump, step, aggregations: ['count', 'sum', 'max'] })
    const wanted = new Map<number, number[]>()
    for (const { timeMs, value } of temperatures) {
      const bucket = timeMs - (timeMs % (seconds * 1000))
      wanted.set(bucket, [...(wanted.get(bucket) ?? []), value as number])
    }
    assert.equal(found.length, wanted.size, `buckets of ${step}`)
    for (const bucket of found) {
      const values = wanted.get(bucket.timeMs) ?? []
      assert.equal(bucket['count'], values.length)
      assert.equal(bucket['max'], Math.max(...values))
      const sum = values.reduce((a, b) => a + b, 0)
      assert.ok(Math.abs((bucket['sum'] as number) - sum) < 1e-9, `sum of ${bucket.timeMs}: ${String(bucket['sum'])} instead of ${sum}`)
    }
  }
  const energy = await readings(base, { device: 'meter-1', metric: 'energy' })
  assert.equal(energy.length, 121)
  assert.equal(energy.find((reading) => reading.timeMs === start + 90_000)?.value, 1000)
  const states = await readings(base, { device: 'door-1', metric: 'state' })
  assert.deepEqual(
    states.map((reading) => reading.value),
    Array.from({ length: 20 }, (_, k) => (k % 2 === 0 ? 'open' : 'shut')),
  )
  assert.equal((await deadLetters(base)).length, 1)
  const device = (await (await fetch(`${base}/api/v1/devices/pump-1`)).json()) as { readonly attributes?: Readonly<Record<string, unknown>> }
  assert.match(JSON.stringify(device), /1\.2\.3/)
}

/** What those have that knew forecasts: as it was, whatever is done to the rest. */
async function checkForecasts(base: string): Promise<void> {
  const series = 'pump-2/temperature'
  const models = (await getJson(new URL(`/api/v1/models/${series}`, base))) as { readonly items: readonly Record<string, unknown>[] }
  assert.deepEqual(
    models.items.map(({ version, kind, state }) => [version, kind, state]),
    [[1, 'ridge', 'champion']],
  )
  const target = '2026-10-31T06:00:00.000Z'
  const at = `/api/v1/forecasts/${series}/predictions?newest=true&limit=1&from=${target}`
  const { items } = (await getJson(new URL(at, base))) as { readonly items: readonly Record<string, unknown>[] }
  const [stored] = items
  assert.deepEqual([stored?.['time'], stored?.['issued_at'], stored?.['mean'], stored?.['actual']], [target, target, 25.078707114275936, 25])
  const accuracy = (await getJson(new URL(`/api/v1/forecasts/${series}/accuracy`, base))) as Readonly<Record<string, unknown>>
  assert.deepEqual([accuracy['version'], accuracy['n']], [1, 78])
  // The model still answers, in the same bits.
  const again = (await getJson(new URL(`/api/v1/forecasts/${series}?model=1&horizon=1h&at=${target}`, base))) as {
    readonly points: readonly { readonly mean: number }[]
  }
  assert.equal(again.points[0]?.mean, 25.078707114275936)
}

for (const archive of fs.readdirSync(archives).filter((name) => name.endsWith('.tar.gz'))) {
  void test(`${archive} opens, answers, takes more, and opens again`, { timeout: 60_000 }, async () => {
    const data = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-earlier-'))
    execFileSync('tar', ['xzf', path.join(archives, archive), '-C', data])
    const forecasts = archive.startsWith('forecasts-')
    // Its predictions are of 2026, however late this runs.
    let server = await RunningServer.start({ data, args: forecasts ? ['--forecast-retention', '36500d'] : [] })
    try {
      await settled(server.http)
      await check(server.http)
      if (forecasts) await checkForecasts(server.http)
      // Goes on where it was: the same again changes nothing, and what is new is there.
      const again = { device: 'meter-1', time: new Date(start).toISOString(), values: { energy: 0 } }
      const more = { device: 'meter-1', time: new Date(start + 86_400_000).toISOString(), values: { flow: 7 } }
      const sent = await fetch(`${server.http}/api/v1/telemetry`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify([again, more]),
      })
      assert.ok(sent.ok, await sent.text())
      await settled(server.http)
      await server.stop()
      server = await server.restart()
      await settled(server.http)
      await check(server.http)
      if (forecasts) await checkForecasts(server.http)
      const flow = await eventually(async () => (await readings(server.http, { device: 'meter-1', metric: 'flow' }))[0])
      assert.equal(flow.value, 7)
    } finally {
      await server.dispose()
      fs.rmSync(data, { recursive: true, force: true })
    }
  })
}
