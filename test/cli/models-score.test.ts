import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, describe, it } from 'node:test'
import { gzipSync } from 'node:zlib'
import { main } from '../../src/cli/main.ts'
import type { Terminal } from '../../src/cli/terminal.ts'
import { processTerminal } from '../../src/cli/terminal.ts'
import { dailySeries } from '../support/synthetic-series.ts'

const folder = mkdtempSync(path.join(os.tmpdir(), 'kymo-score-'))
after(() => rmSync(folder, { recursive: true }))

interface Report {
  readonly step_s: number
  readonly season: number
  readonly series: readonly {
    readonly sensor?: string
    readonly column: string
    readonly steps: number
    readonly missing: number
    readonly test: number
  }[]
  readonly horizons: readonly {
    readonly horizon: number
    readonly mse: number
    readonly coverage: Record<string, number>
    readonly columns: readonly {
      readonly model?: string
      readonly origins?: number
      readonly mse?: number
      readonly naive?: { mse: number }
      readonly refused?: string
    }[]
  }[]
}

const plain = processTerminal()

async function run(...args: string[]): Promise<{ readonly code: number; readonly report: Report; readonly error: string }> {
  const out: string[] = []
  const err: string[] = []
  const terminal: Terminal = { ...plain, errTty: false, out: (line) => void out.push(line), err: (line) => void err.push(line) }
  const code = await main(['models', 'score', ...args], terminal)
  return { code, report: JSON.parse(out.join('\n') || '{}') as Report, error: err.join('\n') }
}

function file(name: string, text: string): string {
  const at = path.join(folder, name)
  writeFileSync(at, name.endsWith('.gz') ? gzipSync(text) : text)
  return at
}

const stamp = (ms: number): string => new Date(ms).toISOString().slice(0, 19).replace('T', ' ')
const start = Date.UTC(2024, 0, 1)

void describe('kymo models score', () => {
  const values = dailySeries(700, 3).values
  const other = dailySeries(700, 4).values
  const rows = [...values].map(
    (v, i) => `${stamp(start + i * 3_600_000)},${i % 50 === 9 ? '' : v.toFixed(3)},${i % 70 === 3 ? '-200' : other[i]!.toFixed(3)}`,
  )
  const climate = file('climate.csv.gz', ['date,temperature,humidity', ...rows].join('\n'))

  void it('scores every column of a file with gaps by rolling origins', async () => {
    const { code, report } = await run('--data', climate, '--missing', '-200', '--horizons', '6,12', '--levels', '0.8,0.9', '--model', 'ridge')
    assert.equal(code, 0)
    assert.deepEqual([report.step_s, report.season], [3600, 24])
    assert.deepEqual(
      report.series.map(({ column, steps, missing }) => [column, steps, missing]),
      [
        ['temperature', 700, 14],
        ['humidity', 700, 10],
      ],
    )
    assert.deepEqual(
      report.horizons.map(({ horizon }) => horizon),
      [6, 12],
    )
    for (const { coverage, mse, columns } of report.horizons) {
      assert.ok(coverage['0.8']! > 0.6 && coverage['0.9']! > coverage['0.8']! && coverage['0.9']! <= 1)
      assert.ok(Math.abs(mse - (columns[0]!.mse! + columns[1]!.mse!) / 2) < 1e-12)
      assert.ok(columns.every((column) => column.model === 'ridge' && column.origins! > 100))
    }
  })

  void it('has the figures that seasonal naive has by hand', async () => {
    const { report } = await run('--data', climate, '--columns', 'temperature', '--horizons', '3', '--model', 'seasonal-naive', '--stride', '1')
    const from = 560
    let [sum, n] = [0, 0]
    for (let at = from; at + 3 <= 700; at++) {
      for (let h = 0; h < 3; h++) {
        const actual = (at + h) % 50 === 9 ? Number.NaN : Number(values[at + h]!.toFixed(3))
        const before = at + h - 24
        const past = before % 50 === 9 ? before - 24 : before
        const error = Number(values[past]!.toFixed(3)) - actual
        if (Number.isFinite(error)) [sum, n] = [sum + error ** 2, n + 1]
      }
    }
    assert.ok(Math.abs(report.horizons[0]!.columns[0]!.naive!.mse - sum / n) < 1e-9)
  })

  void it('reads sensors by a column, row numbers as time, semicolons and decimal commas', async () => {
    const long = ['a', 'b'].flatMap((sensor) => [...values.subarray(0, 300)].map((v, i) => `${sensor};${i};${v.toFixed(2).replace('.', ',')}`))
    const data = file('motes.csv', ['sensor;step_30min;temperature_c', ...long].join('\r\n'))
    const { code, report } = await run(
      '--data',
      data,
      '--time-column',
      'step_30min',
      '--time-format',
      'step:30m:2004-03-01T00:00Z',
      '--horizons',
      '4',
      '--json',
    )
    assert.equal(code, 0)
    assert.deepEqual([report.step_s, report.season], [1800, 48])
    assert.deepEqual(
      report.series.map(({ sensor, column, steps }) => [sensor, column, steps]),
      [
        ['a', 'temperature_c', 300],
        ['b', 'temperature_c', 300],
      ],
    )
    assert.deepEqual(report.horizons[0]!.columns[0]!.mse, report.horizons[0]!.columns[1]!.mse)
  })

  void it('splits by months of 30 days and scores OT alone by the ETT convention', async () => {
    const daily = [...dailySeries(620, 5).values].map((v, i) => `${stamp(start + i * 86_400_000)},1,${v.toFixed(4)}`)
    const data = file('daily.csv', ['date,HUFL,OT', ...daily].join('\n'))
    const { code, report } = await run('--data', data, '--convention', 'ett', '--horizons', '7')
    assert.equal(code, 0)
    assert.deepEqual(
      report.series.map(({ column, test }) => [column, test]),
      [['OT', 600]],
    )
    assert.equal(report.horizons[0]!.columns[0]!.origins, 600 - 480 - 7 + 1)
    const short = await run('--data', climate, '--convention', 'ett')
    assert.equal(short.code, 2)
    assert.match(short.error, /14400 steps .* has 700/)
  })

  void it('resamples, gives reasons in place of scores, and names what is wrong', async () => {
    const { report } = await run('--data', climate, '--columns', 'temperature', '--step', '6h', '--horizons', '4')
    assert.deepEqual([report.step_s, report.season, report.series[0]!.steps], [21_600, 4, 117])
    const tiny = file('tiny.csv', ['time,v', ...rows.slice(0, 20).map((row) => row.split(',').slice(0, 2).join(','))].join('\n'))
    const refused = await run('--data', tiny, '--horizons', '24')
    assert.equal(refused.report.horizons[0]!.columns[0]!.refused, 'too_little_data')
    for (const [args, text] of [
      [['--data', climate, '--columns', 'temprature'], /did you mean "temperature"/],
      [['--data', climate, '--model', 'oracle'], /auto, seasonal-naive/],
      [['--data', path.join(folder, 'none.csv')], /cannot be read/],
      [['--data', file('text.csv', 'time,a\n2024-01-01,x\n2024-01-02,y\n')], /no column .* holds numbers/],
      [['--data', file('broken.csv', 'time,a\n2024-01-01,1\nyesterday,2\n')], /line 3: "yesterday" is no time/],
    ] as const) {
      const { code, error } = await run(...args)
      assert.equal(code, 2, error)
      assert.match(error, text)
    }
  })
})
