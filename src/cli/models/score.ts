import path from 'node:path'
import process from 'node:process'
import type { Command } from 'commander'
import { InvalidArgumentError, Option } from 'commander'
import { strideFor } from '../../compute/forecast/backtest.ts'
import type { Forecaster } from '../../compute/forecast/model.ts'
import { forecasters } from '../../compute/forecast/registry.ts'
import { resample, usualStepUs } from '../../compute/forecast/resample.ts'
import type { ScoreOptions, SeriesScore } from '../../compute/forecast/score.ts'
import { scoreSeries } from '../../compute/forecast/score.ts'
import { holdoutOf } from '../../compute/forecast/select.ts'
import type { Refusal, Series } from '../../compute/forecast/series.ts'
import { measured, seasonOf } from '../../compute/forecast/series.ts'
import { limits } from '../../core/limits.ts'
import { collect, commaList, durationMs, examples, integerBetween, jsonOption, numberBetween, oneOf, parseTimeZone } from '../options.ts'
import type { Terminal } from '../terminal.ts'
import { figures, meanFigures } from './figures.ts'
import type { ScoredColumn } from './table.ts'
import { readColumns, usage } from './table.ts'

interface ScoreCommand {
  readonly data: string
  readonly convention: 'ett' | 'rolling'
  readonly columns?: readonly string[]
  readonly horizons?: readonly number[]
  readonly model: string
  readonly fit: 'all' | 'train'
  readonly levels: readonly number[]
  readonly step?: number
  readonly season?: number
  readonly testShare: number
  readonly stride?: number
  readonly measure: 'mae' | 'mse'
  readonly seed: number
  readonly timeColumn?: string
  readonly timeFormat?: string
  readonly timeZone: string
  readonly deviceColumn?: string
  readonly missing?: readonly string[]
  readonly delimiter?: string
  readonly decimalComma?: boolean
  readonly json?: boolean
}

/** Rows of a month as the ETT convention counts: 30 days. */
const monthDays = 30
const ettHorizons = [24, 96, 192, 336, 720]
/** Test origins of the rolling convention, unless `--stride` says otherwise. */
const originsMost = 2_000

const conventions = `
Conventions:
  ett      months are 30 days: 12 for training, 4 for validation, 4 for testing, the rest unused (of hourly rows
           8640, 2880, 2880). Errors are divided by the deviation of the training rows of their column. Forecasts
           are made at every test row from which the whole horizon fits in (stride 1); what they look at may reach
           back before the test rows. Without --columns: OT; --columns all for the multivariate table.
  rolling  the last fifth of the steps is for testing (--test-share), the fifth of the rest before it (more of a
           short file) decides on choices. Forecasts are made from rolling origins, at most 2,000 of them unless
           --stride is given. Errors are divided by the deviation of all steps before the test.

Nothing is chosen on test rows. "auto" trains every kind without the validation rows, keeps what beats seasonal
naive there by more than chance, averages what is about as good as the best, and trains that on training and
validation rows (--fit train: leaves it as it was trained). Intervals begin with the errors on the validation rows and learn as
errors mature.

Printed as JSON, by horizon: mse and mae in units of the deviation, mase (against seasonal naive within the rows
before the test), skill (1 - error / that of seasonal naive over the same targets), coverage of intervals by
level; means over the columns, and each column, with width of intervals and raw figures in units of the data.`

export function declareScore(command: Command, terminal: Terminal): void {
  command
    .description('train and test models on a CSV file of past readings, and print the scores as JSON; needs no server')
    .helpOption('-h, --help', 'show help')
    .requiredOption('--data <file>', 'CSV with a header line, plain, .gz or .zst; - reads standard input')
    .addOption(
      new Option('--convention <name>', 'how rows are split and errors are scaled; see below').choices(['ett', 'rolling']).default('rolling'),
    )
    .option('--columns <list>', 'columns to forecast, or all (otherwise OT of the ETT convention, else all that hold numbers)', commaList)
    .option('--horizons <list>', 'steps ahead, such as 24,96,192 (otherwise those of the convention: 24,96,192,336,720; or one season)', horizonList)
    .addOption(new Option('--model <kind>', `auto, or one of ${forecasters.map((one) => one.kind).join(', ')}`).default('auto'))
    .option(
      '--fit <rows>',
      'all: the model that is tested has seen training and validation rows; train: training rows only',
      oneOf(['all', 'train'] as const),
      'all',
    )
    .option('--levels <list>', 'levels of intervals', levelList, [0.9])
    .option('--step <duration>', 'resample to this step, such as 1h (otherwise the usual one of the file)', stepUs)
    .option('--season <steps>', 'steps after which the series is like itself (otherwise a day)', integerBetween(1, limits.forecastSeasonMax))
    .option('--test-share <share>', 'rolling: this part at the end is for testing', numberBetween(0.02, 0.5), 0.2)
    .option('--stride <steps>', 'from one origin to the next', integerBetween(1, 100_000))
    .option('--measure <name>', 'what choices look at: mse or mae', oneOf(['mse', 'mae'] as const), 'mse')
    .option('--seed <n>', 'of models with chance in them', integerBetween(0, 4_294_967_295), 1)
    .option('--time-column <name>', 'column with the time; date,clock joins two (otherwise found by its name)')
    .option('--time-format <format>', 'as kymo import has it (otherwise found); step:30m:2004-03-01T00:00Z for row numbers')
    .option('--time-zone <zone>', 'of times that carry no offset, and of hours and weekdays that models see', parseTimeZone, 'UTC')
    .option('--device-column <name>', 'column that tells sensors apart: each is a series of its own (otherwise found by its name)')
    .option('--missing <value>', 'a cell that means "no value", such as -200; may be given again', collect)
    .option('--delimiter <char>', 'between cells (otherwise found from the header)')
    .option('--decimal-comma', 'numbers are written 21,5 (otherwise found from the first rows)')
  jsonOption(command, 'on one line')
  examples(command, [
    ['kymo models score --data ETTh1.csv.gz --convention ett', 'oil temperature by the published protocol, five horizons'],
    ['kymo models score --data ETTm1.csv --convention ett --columns all --horizons 96,192 --model ridge', 'all seven columns, one kind of model'],
    [
      'kymo models score --data AirQualityUCI_hourly.csv.gz --missing -200 --columns T,RH --horizons 24 --time-zone Europe/Rome',
      'two columns with gaps',
    ],
    [
      'kymo models score --data intel_lab_30min.csv --time-column step_30min --time-format step:30m:2004-03-01T00:00Z --columns temperature_c --horizons 12',
      'forty sensors in one file, row numbers as time',
    ],
    ['kymo models score --data machine_temperature.csv --step 1h --horizons 6,24 --levels 0.8,0.95', 'five-minute readings with gaps as hours'],
  ])
  command.addHelpText('after', conventions)
  command.action((options: ScoreCommand) => score(options, terminal))
}

function horizonList(text: string): number[] {
  const list = text.split(',').map((part) => Number(part.trim()))
  if (list.length > 32 || !list.every((h) => Number.isInteger(h) && h >= 1 && h <= limits.forecastHorizonMax)) {
    throw new InvalidArgumentError(`Whole numbers of steps from 1 to ${limits.forecastHorizonMax} are expected, separated by commas.`)
  }
  return list
}

function levelList(text: string): number[] {
  const list = text.split(',').map((part) => Number(part.trim()))
  if (list.length > 16 || !list.every((level) => level > 0 && level < 1))
    throw new InvalidArgumentError('Numbers between 0 and 1 are expected, such as 0.8,0.95.')
  return list
}

function stepUs(text: string): number {
  const ms = durationMs(text)
  if (ms === undefined || !(ms > 0)) throw new InvalidArgumentError('A duration with a unit is expected: 30s, 15m, 1h.')
  return ms * 1e3
}

async function score(o: ScoreCommand, terminal: Terminal): Promise<void> {
  const kinds = o.model === 'auto' ? forecasters : forecasters.filter((one) => one.kind === o.model)
  if (kinds.length === 0) throw usage(`--model "${o.model}" is not known: auto, ${forecasters.map((one) => one.kind).join(', ')}`)
  const { columns: wanted, ...rest } = o
  const all = wanted?.length === 1 && wanted[0]?.toLowerCase() === 'all'
  const found = await readColumns(o.data, { ...rest, ...(wanted === undefined || all ? {} : { columns: wanted }) })
  const picked =
    wanted === undefined && o.convention === 'ett' && found.some(({ column }) => column === 'OT')
      ? found.filter(({ column }) => column === 'OT')
      : found
  const series = picked.map((one) => ({ ...one, series: seriesOf(one, o) }))
  const first = series[0]!.series
  const season = o.season ?? seasonOf(first.stepUs)
  const horizons = o.horizons ?? (o.convention === 'ett' ? ettHorizons : [season > 1 ? Math.min(season, limits.forecastHorizonMax) : 24])
  const cpu = process.cpuUsage()
  const results = horizons.map((horizon) => {
    const parts = series.map((one) => {
      if (terminal.errTty) terminal.status(`${one.sensor ?? ''} ${one.column}, ${horizon} steps ahead`)
      return figures(one, { levels: o.levels, result: scored(one.series, { horizon, season, kinds, o }) })
    })
    return { horizon, ...meanFigures(parts), columns: parts }
  })
  if (terminal.errTty) terminal.status('')
  const used = process.cpuUsage(cpu)
  const report = {
    file: path.basename(o.data),
    convention: o.convention,
    model: o.model,
    fit: o.fit,
    step_s: first.stepUs / 1e6,
    season,
    time_zone: o.timeZone,
    seed: o.seed,
    series: series.map(({ sensor, column, series: { values } }) => ({
      ...(sensor === undefined ? {} : { sensor }),
      column,
      steps: values.length,
      missing: values.length - measured(values),
      ...splitOf(values.length, first.stepUs, o),
    })),
    horizons: results,
    cpu_s: (used.user + used.system) / 1e6,
  }
  terminal.out(JSON.stringify(report, undefined, o.json === true ? undefined : 2))
}

function seriesOf({ readings, column }: ScoredColumn, o: ScoreCommand): Series {
  const step = o.step ?? usualStepUs(readings.timesUs)
  if (Number.isNaN(step)) throw usage(`column ${column}: fewer than two times`)
  // Without resampling, readings are taken to lie on a grid that begins with the first, give or take half a step.
  const grid =
    o.step === undefined
      ? { stepUs: step, startUs: readings.timesUs.reduce((least, us) => Math.min(least, us)), place: 'nearest' as const }
      : { stepUs: step, place: 'interval' as const }
  const { startUs, values } = resample(readings, grid)
  return { startUs, stepUs: step, values, covariates: [], timeZone: o.timeZone }
}

interface Split {
  readonly train: number
  readonly validation: number
  readonly test: number
}

/** Where each part ends. */
function splitOf(steps: number, step: number, o: ScoreCommand): Split {
  if (o.convention === 'ett') {
    const month = Math.round((monthDays * 86_400e6) / step)
    return { train: 12 * month, validation: 16 * month, test: 20 * month }
  }
  const test = steps - Math.floor(steps * o.testShare)
  return { train: test - Math.floor(test * 0.2), validation: test, test: steps }
}

interface Asked {
  readonly horizon: number
  readonly season: number
  readonly kinds: readonly Forecaster[]
  readonly o: ScoreCommand
}

function scored(series: Series, { horizon, season, kinds, o }: Asked): SeriesScore | Refusal {
  const { train, validation, test } = splitOf(series.values.length, series.stepUs, o)
  if (o.convention === 'ett' && series.values.length < test) {
    throw usage(
      `the ETT convention needs ${test} steps of ${series.stepUs / 1e6} s (20 months of 30 days), and the file has ${series.values.length}; see --convention rolling`,
    )
  }
  const window = { horizon, from: validation, to: test }
  // A validation part that is shorter than horizon or season decides little: a short series gives it more of its training rows.
  const validationFrom = o.convention === 'ett' ? train : Math.min(train, validation - holdoutOf(validation, season, horizon))
  const options: ScoreOptions = {
    horizon,
    season,
    seed: o.seed,
    kinds,
    measure: o.measure,
    testFrom: validation,
    testTo: test,
    validationFrom: Math.max(0, validationFrom),
    refit: o.fit === 'all',
    scaleTo: o.convention === 'ett' ? train : validation,
    stride: o.stride ?? (o.convention === 'ett' ? 1 : strideFor(window, originsMost)),
    levels: o.levels,
  }
  const work = scoreSeries(series, options)
  for (;;) {
    const step = work.next()
    if (step.done === true) return step.value
  }
}
