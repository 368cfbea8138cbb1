import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, describe, it } from 'node:test'
import { retentionOf, type Retention } from '../../src/core/config.ts'
import { loadConfig } from '../../src/core/config-resolve.ts'
import { readConfigFile } from '../../src/core/config-file.ts'
import { KymoError } from '../../src/core/errors.ts'
import { metricMatcher, parseRules } from '../../src/core/retention-rules.ts'
import { keepAll } from '../../src/store/duckdb/retention.ts'
import { KeptStore } from '../support/kept-store.ts'
import { answer, type TestRow } from '../support/store-batches.ts'

const day = 86_400e6
const hour = 3600e6
const t0 = Date.UTC(2026, 7, 1) * 1000
const root = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-rules-'))
const stores: KeptStore[] = []
after(async () => {
  for (const kept of stores) await kept.store.close()
  fs.rmSync(root, { recursive: true, force: true })
})

void describe('Rules of retention', () => {
  void it('are refused with the rule that is wrong', () => {
    const of = (rules: unknown, more: Record<string, string> = {}): Retention =>
      retentionOf(loadConfig({ env: { KYMO_RETENTION_RULES: JSON.stringify(rules), ...more } }))
    assert.deepEqual(
      of([
        { metrics: ['debug.*'], raw: '30d' },
        { labels: { site: 'lab', floor: 2 }, raw: '7d', minutes: '30d' },
      ]),
      {
        ...keepAll,
        rules: [
          { metrics: ['debug.*'], rawUs: 30 * day },
          { labels: { site: 'lab', floor: '2' }, rawUs: 7 * day, minutesUs: 30 * day },
        ],
      },
    )
    const wrong: readonly (readonly [unknown, RegExp, Record<string, string>?])[] = [
      [{}, /list of rules/],
      [[{ raw: '30d' }], /rule 1 has neither labels nor metrics/],
      [[{ metrics: ['a'], raw: '30d' }, { metrics: ['b'] }], /rule 2 has no age/],
      [[{ metrics: ['a'], raw: '2h' }], /rule 1 has raw of less than 24h/],
      [[{ metrics: ['a'], rww: '30d' }], /unknown member rww/],
      [[{ metrics: [], raw: '30d' }], /no list of names/],
      [[{ labels: { site: null }, raw: '30d' }], /label whose value/],
      [[{ metrics: ['a'], raw: '30d', minutes: '7d' }], /minutes shorter than raw/],
      [[{ metrics: ['a'], raw: '30d' }], /rule 1 keeps raw longer than retention.raw/, { KYMO_RETENTION_RAW: '7d' }],
      [[{ metrics: ['a'], minutes: '7d' }], /minutes shorter than raw/],
    ]
    for (const [rules, says, more] of wrong)
      assert.throws(
        () => of(rules, more),
        (error: unknown) => error instanceof KymoError && error.code === 'config_invalid' && says.test(error.message),
        JSON.stringify(rules),
      )
  })

  void it('are a list in the file', async () => {
    const read = async (text: string) => readConfigFile(text, 'kymo.yaml', () => '')
    const { settings, errors } = await read(
      `retention:\n  rules:\n    - metrics: ['debug.*', battery]\n      raw: 30d\n    - labels: {site: lab}\n      raw: 7d\n`,
    )
    assert.deepEqual(errors, [])
    const found = parseRules(String(settings.values.get('retention.rules')?.value))
    assert.deepEqual(found, [
      { metrics: ['debug.*', 'battery'], rawUs: 30 * day },
      { labels: { site: 'lab' }, rawUs: 7 * day },
    ])
    assert.match(
      (await read(`retention:\n  rules:\n    - &a {metrics: [x], raw: 30d}\n    - *a\n`)).errors.map((e) => e.detail).join(),
      /alias|anchor/,
    )
  })

  void it('match names with stars', () => {
    const fits = metricMatcher(['debug.*', 'a*b*c', 'temperature'])
    for (const name of ['debug.', 'debug.x.y', 'abc', 'axxbxbxc', 'temperature']) assert.ok(fits(name), name)
    for (const name of ['debug', 'xdebug.y', 'abcd', 'ab', 'temperature2', '']) assert.ok(!fits(name), name)
    assert.ok(!metricMatcher(['*a*a*a*a*a*a*a*a*b'])('a'.repeat(256)))
  })

  void it('take what they name, by its kind and age, from the runs that have it, once', { timeout: 120_000 }, async () => {
    let rules: Retention['rules'] = [
      { labels: { site: 'lab' }, rawUs: 10 * day },
      { metrics: ['debug.*'], rawUs: 2 * day, minutesUs: 5 * day },
    ]
    const retention: Retention = {
      ...keepAll,
      get rules() {
        return rules ?? []
      },
    }
    const kept = new KeptStore(fs.mkdtempSync(path.join(root, 's-')), t0, { retention })
    stores.push(kept)
    await kept.open()
    const rowsOf = (from: number, device: string, metric: string): TestRow[] =>
      Array.from({ length: 720 }, (_, i) => ({ device, metric, timeUs: from + i * 5e6, value: i % 7 }))
    const feedDay = async (n: number): Promise<void> => {
      const from = t0 + n * day + 6 * hour
      kept.nowUs = from + hour
      const lab = n === 0 ? [] : rowsOf(from, 'lab-1', 'debug.heap')
      await kept.feed([...rowsOf(from, 'd1', 'debug.heap'), ...rowsOf(from, 'd1', 'temperature'), ...lab])
      kept.nowUs = from + 12 * hour
      await kept.feed([])
      await kept.store.seal()
    }
    const raw = async (n: number, device: string, metric: string): Promise<number> =>
      (
        await answer(kept.store, {
          match: { tenant: 'default', devices: [device], metrics: [metric] },
          fromUs: t0 + n * day,
          toUs: t0 + (n + 1) * day,
        })
      ).length
    const counted = async (n: number, device: string, metric: string, stepUs: number): Promise<number> => {
      const query = {
        match: { tenant: 'default', devices: [device], metrics: [metric] },
        fromUs: t0 + n * day,
        toUs: t0 + (n + 1) * day,
        stepUs,
        aggregations: ['count', 'p50'] as const,
      }
      return (await answer(kept.store, query)).reduce((sum, row) => sum + Number(row['count']), 0)
    }
    await feedDay(0)
    await feedDay(1)
    await feedDay(2)
    await feedDay(3)
    // Nobody has said yet which devices are in the lab: lab-1 must not come under the second rule.
    assert.equal(await raw(1, 'lab-1', 'debug.heap'), 720)
    assert.equal(await raw(0, 'd1', 'debug.heap'), 720)
    rules = rules.map((rule) => (rule.labels === undefined ? rule : { ...rule, devices: [['default', 'lab-1']] }))
    const before = kept.files()
    kept.exit = '2026-08-01:raw:durable'
    await assert.rejects(kept.store.seal())
    assert.deepEqual(kept.store.stats().rules, { series: [1, 1], dueFiles: 1 }, 'what is due is told until it is done')
    assert.equal(kept.store.stats().expiredBytes.rules, 0)
    kept.exit = undefined
    await kept.store.seal()
    assert.deepEqual(kept.store.stats().rules, { series: [1, 1], dueFiles: 0 })
    assert.ok(kept.store.stats().expiredBytes.rules > 0)
    assert.deepEqual(await Promise.all([0, 1, 2, 3].map((n) => raw(n, 'd1', 'debug.heap'))), [0, 720, 720, 720])
    assert.deepEqual(await Promise.all([0, 1].map((n) => raw(n, 'd1', 'temperature'))), [720, 720])
    assert.equal(await counted(0, 'd1', 'debug.heap', 60e6), 720, 'minutes are kept longer')
    assert.equal(await counted(0, 'd1', 'debug.heap', hour), 720)
    const changed = before.filter((name) => !kept.files().includes(name))
    assert.deepEqual([...new Set(changed.map((name) => name.split('/')[0]))], ['2026-08-01'])
    kept.checkFolder('thinned')
    const after = kept.files()
    await kept.store.seal()
    assert.deepEqual(kept.files(), after, 'once')
    // A straggler: the hour was made of all its readings and stays so, after a restart too; the row goes with the next sealing.
    await kept.feed([{ device: 'd1', metric: 'debug.heap', timeUs: t0 + 6 * hour + 1, value: 9 }])
    assert.equal(await counted(0, 'd1', 'debug.heap', hour), 720)
    await kept.reopen()
    await kept.feed([{ device: 'd1', metric: 'debug.heap', timeUs: t0 + 6 * hour + 2, value: 9 }])
    assert.equal(await counted(0, 'd1', 'debug.heap', hour), 720)
    assert.equal(await raw(0, 'd1', 'debug.heap'), 2)
    await kept.store.seal()
    assert.equal(await raw(0, 'd1', 'debug.heap'), 0)
    await feedDay(6)
    assert.equal(await counted(0, 'd1', 'debug.heap', 60e6), 0, 'minutes have gone')
    assert.equal(await counted(0, 'd1', 'debug.heap', hour), 720)
    assert.equal(await counted(0, 'd1', 'temperature', 60e6), 720)
    assert.deepEqual(await Promise.all([1, 2, 3].map((n) => raw(n, 'lab-1', 'debug.heap'))), [720, 720, 720])
    await kept.reopen()
    assert.equal(await counted(0, 'd1', 'debug.heap', 60e6), 0)
    assert.equal(await counted(0, 'd1', 'debug.heap', hour), 720)
    await feedDay(12)
    assert.deepEqual(await Promise.all([1, 2, 3].map((n) => raw(n, 'lab-1', 'debug.heap'))), [0, 720, 720])
  })
})
