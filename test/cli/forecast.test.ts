import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import test, { after } from 'node:test'
import type { TestContext } from 'node:test'
import { main } from '../../src/cli/main.ts'
import type { Terminal } from '../../src/cli/terminal.ts'
import { processTerminal } from '../../src/cli/terminal.ts'
import { KymoError } from '../../src/core/errors.ts'
import type { Job, JobService } from '../../src/core/services.ts'
import type { Fake } from '../http/forecast-fake.ts'
import { fake, forecast, hour, issued, job, model } from '../http/forecast-fake.ts'
import { serve } from '../http/support.ts'

/* What the commands ask for and print, over a door with a service of fixed answers; over the real one: e2e. */

const folder = mkdtempSync(path.join(os.tmpdir(), 'kymo-forecast-cli-'))
after(() => rmSync(folder, { recursive: true }))

interface Ran {
  readonly code: number
  readonly out: string
  readonly err: string
}

const plain = processTerminal()

async function run(url: string, args: readonly string[], o: Partial<Terminal> = {}): Promise<Ran> {
  const out: string[] = []
  const err: string[] = []
  const terminal: Terminal = {
    ...plain,
    errTty: false,
    out: (line) => void out.push(line),
    write: async (text) => void out.push(text.trimEnd()),
    err: (line) => void err.push(line),
    ...o,
  }
  const code = await main([...args, '--url', url], terminal)
  process.exitCode = 0
  return { code, out: out.join('\n'), err: err.join('\n') }
}

/** A door over the fake, whose one job is in the state that `states` says next. */
async function door(t: TestContext, { forecasts }: Fake, states: readonly Partial<Job>[] = [], file?: string): Promise<string> {
  let asked = 0
  const jobs: JobService = {
    createImport: () => Promise.reject(new KymoError('not_found')),
    createExport: () => Promise.reject(new KymoError('not_found')),
    list: (_tenant, { kind }) => ({ items: kind === 'train' ? [{ ...job, ...states[0] }] : [] }),
    get: () => ({ ...job, ...states[Math.min(asked++, states.length - 1)] }),
    cancel: async () => ({ ...job, state: 'cancelled' }),
    file: () => (file === undefined ? undefined : { path: file, bytes: JSON.stringify(result).length }),
  }
  return (await serve(t, { forecasts, jobs })).url
}

const result = {
  name: 'ridge',
  skill: 0.25,
  steps: 720,
  missing: 3,
  level: 0.9,
  coverage: 0.891,
  issues: 40,
  candidates: [
    { name: 'seasonal-naive', mae: 1, rmse: 1.5, mase: 1, skill: 0 },
    { name: 'ridge', mae: 0.75, rmse: 1, mase: 0.75, skill: 0.25 },
    { name: 'lstm', refused: 'too_little_data', detail: 'It needs more.' },
  ],
}

test('kymo forecast: a table with the band, or what the API says', async (t) => {
  const f = fake()
  const url = await door(t, f)
  const ran = await run(url, ['forecast', 'hall/1', 'a b', '--hours', '2', '--level', '0.8', '--model', 'ridge'])
  assert.equal(ran.code, 0, ran.err)
  const lines = ran.out.split('\n')
  assert.match(lines[0]!, /a b of hall\/1 {3}ridge v3 · known until 2026-01-02T00:00:00.000Z · intervals of 90.0 %/)
  assert.match(lines[2]!, /2026-01-02T00:00:00.000Z +20.5 +19 +22 +─{15,}●─{15,}$/)
  assert.match(lines[3]!, /2026-01-02T01:00:00.000Z +21 +- +- +●$/)
  assert.deepEqual(f.asked[0]?.slice(2), [
    { device: 'hall/1', metric: 'a b' },
    { horizonUs: 2 * hour, level: 0.8, model: 'ridge' },
  ])
  const json = await run(url, ['forecast', 'a', 'm', '--json', '--horizon', '6h'])
  assert.equal((JSON.parse(json.out) as { step_s: number }).step_s, 3600)
})

test('kymo forecast: says why no trained model answers; control characters steer nothing', async (t) => {
  const f = fake({
    forecast: async () => ({ ...forecast, metric: 'a\u001b[2J', model: { kind: 'seasonal-naive', version: 0 }, fallback: 'untrained' }),
  })
  const ran = await run(await door(t, f), ['forecast', 'a', 'm'])
  assert.match(ran.err, /nobody has trained a model: kymo models train/)
  assert.match(ran.out, /seasonal-naive · known until/)
  assert.doesNotMatch(ran.out + ran.err, /\u001b\[2J/)
})

test('kymo forecast without a metric: the latest of each series, to the limit', async (t) => {
  const f = fake()
  const url = await door(t, f)
  const ran = await run(url, ['forecast', '--limit', '1'])
  assert.match(
    ran.out,
    /device +metric +model +known until +next +least +most +unit\nhall\/1 +temperature +ridge v3 +2026-01-02T00:00:00.000Z +20.5 +20.5 +21$/,
  )
  assert.match(ran.err, /1 series; there are more: --limit/)
  assert.equal((await run(url, ['forecast', '--json'])).out.split('\n').length, 1)
})

test('kymo forecast --above: the probability with how such numbers held, or why there is none', async (t) => {
  const answer = { model: { kind: 'ridge', version: 3 }, threshold: 50, side: 'above', within_us: 6 * hour, issued_us: issued } as const
  const calibration = { n: 100, rate: 0.2, brier: 0.1, skill: 0.3, error: 0.04, bins: [] }
  const some = await door(t, fake({ crossing: async (_t, series) => ({ ...series, ...answer, probability: 0.125, calibration }) }))
  const ran = await run(some, ['forecast', 'a', 'm', '--above', '50', '--within', '6h'])
  assert.match(
    ran.out,
    /^12.5 % {3}m of a rises above 50 within 6h\n.*ridge v3[^]*of 100 past answers 20.0 % crossed; said and came were 4.0 % apart/,
  )
  const none = await door(
    t,
    fake({ crossing: async (_t, series) => ({ ...series, ...answer, side: 'below', reason: 'no_skill', detail: 'It knows none.' }) }),
  )
  assert.match(
    (await run(none, ['forecast', 'a', 'm', '--below', '-5', '--within', '6h'])).out,
    /^no number {3}m of a falls below 50[^]*It knows none\.$/,
  )
})

test('usage: each refusal says what is wrong, exit code 2', async (t) => {
  const url = await door(t, fake())
  const rows: readonly (readonly [args: string, says: RegExp])[] = [
    ['forecast a m --above 1 --below 2 --within 1h', /one threshold at a time/],
    ['forecast a m --above 1', /--within is needed/],
    ['forecast a m --within 6h', /needs --above or --below/],
    ['forecast a --above 1 --within 1h', /need DEVICE METRIC/],
    ['forecast a m --above NaN --within 1h', /above/],
    ['forecast a m --hours 0', /hours/],
    ['forecast a m --hours -1', /hours/],
    ['forecast a m --hours 1 --horizon 1h', /one of them/],
    ['forecast a m --horizon soon', /length of time/],
    ['forecast a m --level 1', /level/],
    ['forecast a m x', /too many arguments/],
    ['models train', /DEVICE METRIC, or --all/],
    ['models train a', /DEVICE METRIC, or --all/],
    ['models train a m --all', /one of them/],
    ['models train a m --step 0h', /length of time/],
    ['models train a m --seed -1', /seed/],
    ['models promote a m one', /version/],
    ['models show a m 0', /version/],
    ['models show a', /metric/],
    ['models backtest a', /metric/],
  ]
  for (const [args, says] of rows) {
    const ran = await run(url, args.split(' '))
    assert.equal(ran.code, 2, `${args}: ${ran.out}`)
    assert.match(ran.err, says, args)
  }
})

test('what the server refuses: exit code 1 with its reason; nobody there: 6', async (t) => {
  const f = fake({ forecast: () => Promise.reject(new KymoError('too_little_data', { detail: '5 steps more are needed.', facts: { missing: 5 } })) })
  const ran = await run(await door(t, f), ['forecast', 'a', 'm', '--json'])
  assert.equal(ran.code, 1)
  assert.match(ran.err, /"code":"too_little_data"/)
  assert.equal((await run('http://127.0.0.1:1', ['models', 'list'])).code, 6)
})

test('kymo models train: follows the job, and tells what became of it', async (t) => {
  const f = fake()
  const ended = { series_total: 1, series_done: 1, trained: 1, kept_naive: 0, refused: 0, share: 1 }
  const states = [
    { state: 'running', progress: { share: 0.5, series_total: 1 } },
    { state: 'done', progress: ended },
  ] as const
  const shown: string[] = []
  const watched = { errTty: true, status: (line: string) => void shown.push(line) }
  const ran = await run(await door(t, f, states), ['models', 'train', 'a', 'temperature', '--kinds', 'ridge,lstm', '--step', '15m'], watched)
  assert.equal(ran.code, 0, ran.err)
  assert.match(shown.join('\n'), /train {2}█{12}░{12} {2}50 %/)
  assert.match(ran.out, /1 trained, 0 stay with seasonal naive, 0 refused\n[^]*ridge +champion/)
  assert.deepEqual(f.asked[0], ['train', 'default', { series: [{ device: 'a', metric: 'temperature' }], kinds: ['ridge', 'lstm'], step_us: 900e6 }])

  const refused = await door(t, f, [{ state: 'done', progress: { ...ended, trained: 0, refused: 1 } }])
  assert.equal((await run(refused, ['models', 'train', '--all', '--json'])).code, 1)
  assert.deepEqual(f.asked.at(-1), ['train', 'default', {}])
  const failed = await run(await door(t, f, [{ state: 'failed', error: { code: 'disk_full', detail: 'No space.' } }]), ['models', 'train', '--all'])
  assert.deepEqual([failed.code, /No space\./.test(failed.err)], [5, true])
  const cancelled = await run(await door(t, f, [{ state: 'cancelled' }]), ['models', 'train', '--all'])
  assert.deepEqual([cancelled.code, /was cancelled/.test(cancelled.err)], [1, true])
})

test('kymo models train: Ctrl-C leaves the job running and says how to end it; --no-wait does not follow', async (t) => {
  const f = fake()
  const url = await door(t, f, [{ state: 'running' }])
  const abort = new AbortController()
  const running = run(url, ['models', 'train', '--all'], { interrupted: () => abort.signal })
  setTimeout(() => abort.abort(), 20)
  const ran = await running
  assert.equal(ran.code, 130)
  assert.match(ran.err, new RegExp(`goes on as job ${job.id}[^]*kymo models cancel ${job.id}`))
  assert.match((await run(url, ['models', 'train', '--all', '--no-wait'])).out, new RegExp(job.id))
  assert.match((await run(url, ['models', 'cancel', job.id])).out, /cancelled/)
  assert.match((await run(url, ['models', 'jobs'])).out, new RegExp(`${job.id} +train +running`))
  assert.equal((JSON.parse((await run(url, ['models', 'jobs', job.id, '--json'])).out) as Job).id, job.id)
})

test('kymo models list, show, promote', async (t) => {
  const f = fake()
  const url = await door(t, f)
  const listed = await run(url, ['models', 'list'])
  assert.match(listed.out, /^device +metric +version +kind +state +trained +matured +MAE +skill +held +drift\na +temperature +2 +ridge +champion/)
  assert.match(listed.out, /24 +0.5 +50.0 % +87.5 % +since 2026-01-02T01:00:00.000Z$/)
  assert.equal((JSON.parse((await run(url, ['models', 'list', 'a', '--json'])).out) as { version: number }).version, 2)
  assert.match((await run(url, ['models', 'show', 'a', 'temperature'])).out, /version +kind/)
  assert.match(
    (await run(url, ['models', 'show', 'a', 'temperature', '2'])).out,
    /file +1.0 kB\n[^]*\n\n +kind +MAE[^]*ridge +0.4 +0.5 +- +- +the best$/,
  )
  assert.equal((await run(url, ['models', 'show', 'a', 'temperature', '9'])).code, 1)
  assert.match((await run(url, ['models', 'promote', 'a', 'temperature', '2'])).out, /ridge v2 serves a temperature/)
  assert.deepEqual(f.asked.at(-1), ['promote', 'default', { device: 'a', metric: 'temperature' }, 2])
  const empty = await run(await door(t, fake({ models: async () => ({ items: [] }), versions: async () => [] })), ['models', 'list'])
  assert.match(empty.err, /0 models\n.*kymo models train/)
  assert.equal(model.kind, 'ridge')
})

test('kymo models backtest: the kinds as a table, or the whole result', async (t) => {
  const file = path.join(folder, 'result.json')
  writeFileSync(file, JSON.stringify(result))
  const done = [{ kind: 'backtest', state: 'done', files: { result: 400 } }] as const
  const url = await door(t, fake(), done, file)
  const ran = await run(url, ['models', 'backtest', 'a', 'temperature'])
  assert.equal(ran.code, 0, ran.err)
  assert.match(
    ran.out,
    /720 steps, 3 missing; 40 forecasts[^]*ridge +0.75 +1 +0.75 +25.0 % +the best\n +lstm +- +- +- +- +It needs more\.\n +intervals of 90.0 % held 89.1 %/,
  )
  assert.deepEqual(JSON.parse((await run(url, ['models', 'backtest', 'a', 'temperature', '--json'])).out), result)
})
