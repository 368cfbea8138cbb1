/**
 * Forecasts on ETTh1 by the published protocol, beside what others have published: `npm run bench:forecast`. Writes bench/FORECAST.md; with `--scores` without what the models cost. Nothing is
 * chosen on test rows; how choices are made stands in the report.
 */
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { readColumns } from '../src/cli/models/table.ts'
import type { Forecaster, Model } from '../src/compute/forecast/model.ts'
import { train } from '../src/compute/forecast/model.ts'
import { forecasterOf, forecasters } from '../src/compute/forecast/registry.ts'
import { resample } from '../src/compute/forecast/resample.ts'
import type { SeriesScore } from '../src/compute/forecast/score.ts'
import { scoreSeries } from '../src/compute/forecast/score.ts'
import type { Series } from '../src/compute/forecast/series.ts'
import { isRefusal, upTo } from '../src/compute/forecast/series.ts'
import { machine } from './machine.ts'

const root = path.resolve(import.meta.dirname, '..')
const hourUs = 3_600e6
const season = 24
const seed = 1
const [trainTo, testFrom, testTo] = [8_640, 11_520, 14_400] as const
const univariate = [24, 48, 96, 168, 192, 336, 720]
const multivariate = [96, 192, 336, 720]

/** MSE by horizon, as the papers print it (from the tables of Informer, S4, LTSF-Linear, PatchTST and MSDCN). */
const published: readonly (readonly [string, Readonly<Record<number, number>>])[] = [
  ['LSTM (LSTMa)', { 24: 0.114, 48: 0.193, 168: 0.236, 336: 0.58, 720: 0.683 }],
  ['Prophet', { 24: 0.115 }],
  ['ARIMA', { 24: 0.108 }],
  ['DeepAR', { 24: 0.107 }],
  ['Informer', { 24: 0.098, 48: 0.158, 96: 0.193, 168: 0.183, 192: 0.217, 336: 0.222, 720: 0.269 }],
  ['S4', { 24: 0.061, 48: 0.079, 168: 0.104, 336: 0.08, 720: 0.116 }],
  ['DLinear', { 96: 0.056, 192: 0.071, 336: 0.098, 720: 0.189 }],
  ['NLinear', { 96: 0.053, 192: 0.069, 336: 0.081, 720: 0.08 }],
  ['PatchTST/64', { 96: 0.059, 192: 0.074, 336: 0.076, 720: 0.087 }],
  ['MSDCN', { 96: 0.052, 192: 0.067, 336: 0.078, 720: 0.077 }],
]
const targets: Readonly<Record<number, number>> = { 24: 0.0258, 96: 0.053, 192: 0.07, 336: 0.0785, 720: 0.08 }
const patchMultivariate: Readonly<Record<number, number>> = { 96: 0.37, 192: 0.413, 336: 0.422, 720: 0.447 }

async function load(): Promise<ReadonlyMap<string, Series>> {
  const columns = await readColumns(path.join(root, 'test/data/ett/ETTh1.csv.gz'), {})
  return new Map(
    columns.map(({ column, readings }) => {
      const { startUs, values } = resample(readings, { stepUs: hourUs, place: 'interval' })
      return [column, { startUs, stepUs: hourUs, values, covariates: [], timeZone: 'UTC' }]
    }),
  )
}

function finish<T>(work: Generator<number, T, void>): T {
  for (;;) {
    const step = work.next()
    if (step.done === true) return step.value
  }
}

function score(series: Series, kinds: readonly Forecaster[], horizon: number, refit: boolean, levels: readonly number[] = []): SeriesScore {
  const split = { testFrom, testTo, validationFrom: trainTo, scaleTo: trainTo, stride: 1 }
  const found = finish(scoreSeries(series, { ...split, horizon, season, seed, kinds, measure: 'mse', refit, levels }))
  if (isRefusal(found)) throw new Error(found.detail)
  return found
}

interface Row {
  readonly name: string
  readonly byHorizon: ReadonlyMap<number, SeriesScore>
}

function cpuMs(work: () => void): number {
  const before = process.cpuUsage()
  work()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1e3
}

interface Cost {
  readonly kind: string
  readonly trainMs: number
  readonly forecastUs: number
  readonly bytes: number
}

/** Of a sensor with 8,640 points and 24 steps ahead; the least of some runs, as other work on the machine only adds. */
function costOf(kind: Forecaster, series: Series): Cost {
  const known = upTo(series, trainTo)
  let model: Model | undefined
  const trainMs = least(5, () => {
    const fitted = train(kind.fit(known, { horizon: 24, season, seed }))
    if (fitted === undefined || isRefusal(fitted)) throw new Error(kind.kind)
    model = fitted
  })
  const out = new Float64Array(24)
  const issues = 2_000
  const forecastMs = least(5, () => {
    for (let k = 0; k < issues; k++) model!.predict(upTo(series, trainTo + k, trainTo + k - model!.context), out)
  })
  return { kind: kind.kind, trainMs, forecastUs: (forecastMs * 1e3) / issues, bytes: model!.body().length }
}

function least(runs: number, work: () => void): number {
  return Math.min(...Array.from({ length: runs }, () => cpuMs(work)))
}

const text = (value: number | undefined): string => (value === undefined ? '' : value < 0.1 ? value.toFixed(4) : value.toFixed(3))
const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  return [line(head), line(head.map((_, i) => (i === 0 ? '---' : '---:'))), ...rows.map(line)]
}

const series = await load()
const oil = series.get('OT')!
const rows: Row[] = []
const run = (name: string, kinds: readonly Forecaster[], refit: boolean, levels: readonly number[] = []): void => {
  rows.push({ name, byHorizon: new Map(univariate.map((horizon) => [horizon, score(oil, kinds, horizon, refit, levels)])) })
  process.stderr.write(`${name}: ${univariate.map((h) => rows.at(-1)!.byHorizon.get(h)!.mse.toFixed(4)).join(' ')}\n`)
}
for (const kind of forecasters) run(kind.kind, [kind], true)
run('**auto**', forecasters, true, [0.9])
run('auto, training rows only', forecasters, false)
const many = new Map(
  multivariate.map((horizon) => {
    const scores = [...series.values()].map((one) => score(one, forecasters, horizon, true))
    const mean = (pick: (s: SeriesScore) => number): number => scores.reduce((sum, s) => sum + pick(s), 0) / scores.length
    process.stderr.write(`multivariate ${horizon}: ${mean((s) => s.mse).toFixed(4)}\n`)
    return [horizon, { mse: mean((s) => s.mse), mae: mean((s) => s.mae) }]
  }),
)
/** Scores are the same on any machine, busy or not; costs want one to themselves. */
const costs = process.argv.includes('--scores') ? [] : forecasters.map((kind) => costOf(forecasterOf(kind.kind)!, oil))
const auto = rows.find(({ name }) => name === '**auto**')!
const own = (pick: (s: SeriesScore) => string): string[] => univariate.map((h) => pick(auto.byHorizon.get(h)!))
const met = (h: number): string => {
  const target = targets[h]
  if (target === undefined) return ''
  const mse = auto.byHorizon.get(h)!.mse
  return `≤ ${target}: ${mse <= target ? 'met' : `missed by ${((100 * mse) / target - 100).toFixed(1)} %`}`
}
const { cpu, cores, node, commit, date } = machine(root)
const report = [
  '# Forecasts, measured',
  '',
  'Made by `npm run bench:forecast` (bench/forecast.ts). ETTh1 (Zhou et al. 2021, Informer): hourly, rows 0 to 8,639 for training, to 11,519 for validation, to 14,399 for testing.',
  'Scaled by mean and deviation of the training rows; forecasts from every test row (stride 1) from which the horizon fits in.',
  '',
  `${date} · commit ${commit} · ${cpu}, ${cores} cores · Node ${node} · seed ${seed}`,
  '',
  '## Oil temperature alone: MSE by hours ahead',
  '',
  ...table(
    ['', ...univariate.map(String)],
    [
      ...published.map(([name, values]) => [name, ...univariate.map((h) => text(values[h]))]),
      ...rows.map(({ name, byHorizon }) => [name, ...univariate.map((h) => text(byHorizon.get(h)!.mse))]),
      ['target', ...univariate.map(met)],
    ],
  ),
  '',
  'Of **auto**, by hours ahead:',
  '',
  ...table(
    ['', ...univariate.map(String)],
    [
      ['chosen', ...own((s) => s.name)],
      ['MAE', ...own((s) => text(s.mae))],
      ['MASE', ...own((s) => s.scores.mase.toFixed(3))],
      ['skill against seasonal naive (MSE)', ...own((s) => s.skillMse.toFixed(3))],
      ['coverage of 90 % intervals', ...own((s) => `${(100 * s.intervals[0]!.coverage).toFixed(1)} %`)],
      ['their mean width, °C', ...own((s) => s.intervals[0]!.width.toFixed(2))],
      ['test targets', ...own((s) => s.scores.n.toLocaleString('en'))],
    ],
  ),
  '',
  '## All seven columns, each by itself: mean MSE (MAE)',
  '',
  ...table(
    ['', ...multivariate.map(String)],
    [
      ['PatchTST/64', ...multivariate.map((h) => text(patchMultivariate[h]))],
      ['**auto**', ...multivariate.map((h) => `${text(many.get(h)!.mse)} (${text(many.get(h)!.mae)})`)],
    ],
  ),
  '',
  '## Cost: a sensor of 8,640 hours, 24 hours ahead',
  '',
  costs.length === 0 ? 'Not measured in this run (`--scores`).' : 'CPU of the process, the least of five runs. A forecast makes all 24 steps.',
  '',
  ...(costs.length === 0
    ? []
    : table(
        ['', 'training', 'a forecast', 'file'],
        costs.map(({ kind, trainMs, forecastUs, bytes }) => [
          kind,
          `${trainMs.toFixed(0)} ms`,
          `${forecastUs.toFixed(1)} µs`,
          `${bytes.toLocaleString('en')} B`,
        ]),
      )),
  '',
  '## How choices were made',
  '',
  '- What a model chooses for itself it chooses on the rows that it is given: window, penalty, level and waves of the ridge by three parts of them, each forecast with what the other two teach; the constants of the smoothing by',
  '  their error one step ahead.',
  '- Between kinds, and whether their average is better, the validation rows decide: each kind is trained on the training rows and forecasts the validation rows. What loses to seasonal naive there is out.',
  '- The chosen kinds are then trained on training and validation rows together, as one would in use. The published models have learned from the training rows alone and used the validation rows to stop early: "training rows only" is the like comparison.',
  '- The form of the ridge (waves of the day up to seven days ahead, old inputs held back more, three parts in place of the last quarter, two windows averaged) and the rate of the intervals were chosen by errors on rows 0 to 11,519 of',
  '  ETTh1 and on other series (docs/adr/0023-forecasting.md). Test errors were seen on the way: of a grid of plain ridges at the very beginning; of a ridge that chose by the last quarter alone (24 h: .0267, 96: .0537, 336: .0785,',
  '  720: .0798); of one that chose by three parts (24 h: .0273, 96: .0551, 336: .0857, 720: .1022). The better of the two on test rows was not taken for being so; what they showed led to asking 22 other series again about waves and windows.',
  '  That averaged ridge was seen on them once before this table, the LSTM once (with and without the validation rows), forest and boosting in three runs (one averaged with others); nothing was changed for it.',
  '- Intervals begin with the errors on the validation rows and learn from each test error when it matures. Errors of neighbouring origins overlap, so 2,161 origins are far fewer independent ones at long horizons.',
]
writeFileSync(path.join(root, 'bench/FORECAST.md'), `${report.join('\n')}\n`)
