import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { enginesOf } from '../../src/core/config-engines.ts'
import { loadConfig } from '../../src/core/config-resolve.ts'
import { Assembly } from '../../src/roles/assembly.ts'
import { openForecasts } from '../../src/roles/forecasts-kept.ts'
import { hourUs, issue } from '../contract/forecast-store.ts'
import { testEnv } from '../devices/test-env.ts'

const key = { tenant: 'default', device: 'd', metric: 'v' }

async function house(t: TestContext, flags: Readonly<Record<string, unknown>> = {}) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-forecasts-kept-'))
  const config = loadConfig({ flags: { data_dir: dir, ...flags } })
  const env = testEnv()
  const assembly = new Assembly(config, env)
  const forecasts = await openForecasts(assembly, enginesOf(config))
  t.after(async () => {
    await assembly.stack.unwind(env)
    fs.rmSync(dir, { recursive: true })
  })
  const gauge = (name: string): number => {
    const cell = assembly.metrics.families.get(name)?.cells.get('')?.cell
    return cell !== undefined && 'value' in cell ? cell.value : Number.NaN
  }
  /** Time goes on until it holds. */
  const until = async (ms: number, holds: () => Promise<boolean> | boolean): Promise<void> => {
    for (const end = performance.now() + 30_000; !(await holds()); await delay(5)) {
      assert.ok(performance.now() < end, 'it never came to that')
      await env.clock.advance(ms)
    }
  }
  return { dir, env, forecasts: forecasts!, gauge, until }
}

test('how many predictions there are is told, and those beyond forecast.retention go', async (t) => {
  const { dir, env, forecasts, gauge, until } = await house(t, { 'forecast.retention': '2d' })
  await env.clock.advance(300_000)
  assert.deepEqual([gauge('kymo_predictions_rows'), gauge('kymo_predictions_bytes'), fs.readdirSync(dir)], [0, 0, []])
  const nowUs = env.clock.nowUs() - (env.clock.nowUs() % hourUs)
  await forecasts.write([issue(key, { issueUs: nowUs - 60 * hourUs }), issue(key, { issueUs: nowUs })], [])
  await forecasts.addModel({ key, kind: 'ridge', state: 'champion', createdUs: nowUs, card: {}, file: Uint8Array.of(1) })
  await until(10_000, () => gauge('kymo_predictions_rows') === 48)
  assert.ok(gauge('kymo_predictions_bytes') > 10_000)
  assert.equal(gauge('kymo_models_stored'), 1)
  await until(600_000, async () => (await forecasts.stats()).predictions < 48)
  const all = { key, fromUs: 0, toUs: nowUs + 100 * hourUs, limit: 100 }
  const [oldest] = await forecasts.predictions(all)
  assert.ok(
    oldest!.target_us >= env.clock.nowUs() - 50 * hourUs - 2 * hourUs && oldest!.issue_us === nowUs - 60 * hourUs,
    'no more than was due went',
  )
  await until(60_000, async () => gauge('kymo_predictions_rows') === (await forecasts.stats()).predictions)
})

test('who works on a device is heard before everything of it goes', async (t) => {
  const { forecasts } = await house(t)
  const nowUs = 1e15
  await forecasts.write([issue(key, { issueUs: nowUs })], [])
  forecasts.onErase(async (tenant, device) => {
    // What was under way.
    await delay(20)
    await forecasts.write([issue({ tenant, device, metric: 'v' }, { issueUs: nowUs + hourUs })], [])
  })
  await forecasts.erase('default', 'd')
  assert.equal((await forecasts.stats()).predictions, 0)
})

test('a process that answers no questions has none; a file of a newer version stops the start', async (t) => {
  const config = loadConfig({ flags: { roles: 'store', 'log.url': 'kafka://k', 'store.url': 'postgres://h/d', 'meta.url': 'postgres://h/d' } })
  assert.equal(await openForecasts(new Assembly(config, testEnv()), enginesOf(config)), undefined)
  const { dir, forecasts } = await house(t)
  await forecasts.write([issue(key)], [])
  await forecasts.close()
  const file = path.join(dir, 'forecasts.sqlite')
  const bytes = fs.readFileSync(file)
  bytes.writeInt32BE(2, 60)
  fs.writeFileSync(file, bytes)
  const again = loadConfig({ flags: { data_dir: dir } })
  await assert.rejects(openForecasts(new Assembly(again, testEnv()), enginesOf(again)), /has format 2; this version of Kymo knows format 1/)
})
