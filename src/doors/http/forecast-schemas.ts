import { limits } from '../../core/limits.ts'
import { cursor, moment, name } from './schemas.ts'

/* Schemas of forecasts and their models; as in schemas.ts. */

const duration = { type: 'string', pattern: '^\\d{1,12}(us|ms|s|m|h|d|w)$' } as const
const horizon = {
  ...duration,
  description: 'How far ahead, as 6h, 24h or 7d; what the settings or the model are for when absent, which is also the most.',
} as const
const level = {
  type: 'number',
  minimum: 0.01,
  maximum: 0.999,
  description: 'Share of what is to come that the interval must hold, as 0.9; that of the settings when absent.',
} as const
const listed = {
  type: 'integer',
  minimum: 1,
  maximum: limits.forecastsListedMax,
  description: `Items of a page; ${limits.forecastsListedDefault} when absent.`,
} as const
const kind = {
  type: 'string',
  minLength: 1,
  maxLength: 64,
  description: 'As seasonal-naive, holt-winters, ridge, random-forest, gradient-boosting or lstm.',
} as const
const kinds = { type: 'array', minItems: 1, maxItems: 16, items: kind } as const

const series = { device: { ...name, description: 'The device id, percent-encoded where it has to be.' }, metric: name } as const
export const seriesParams = { type: 'object', required: ['device', 'metric'], properties: series } as const
export const versionParams = {
  type: 'object',
  required: ['device', 'metric', 'version'],
  properties: { ...series, version: { type: 'string', pattern: '^\\d{1,9}$', description: 'A version of the model, a whole number.' } },
} as const

export const forecastsQuery = {
  type: 'object',
  additionalProperties: false,
  properties: { device: { ...name, description: 'Only of this device. Absent: of all.' }, limit: listed, cursor },
} as const

export const forecastQuery = {
  type: 'object',
  additionalProperties: false,
  properties: {
    at: { ...moment, description: 'As it would have been said then: RFC 3339, epoch number, or a time ago as -24h. Absent: from all that is known.' },
    horizon,
    level,
    model: {
      type: 'string',
      minLength: 1,
      maxLength: 64,
      description:
        'A kind (as ridge) or a version (as 3) that answers whatever it is worth; 0 and seasonal-naive are always there. Absent: the one that serves.',
    },
  },
} as const

const threshold = { type: 'number', minimum: -1e300, maximum: 1e300 } as const
export const crossingQuery = {
  type: 'object',
  additionalProperties: false,
  properties: {
    above: { ...threshold, description: 'Will it rise above this? A value equal to it does not count. This or `below`.' },
    below: { ...threshold, description: 'Will it fall below this? This or `above`.' },
    within: { ...duration, description: 'At some step of so long from the end of what is known, as 6h; at most the horizon. Needed.' },
  },
} as const

export const predictionsQuery = {
  type: 'object',
  additionalProperties: false,
  properties: {
    from: { ...moment, description: 'First target: RFC 3339, epoch number, `now`, or a time ago as -24h. Absent: from the beginning.' },
    to: { ...moment, description: 'First target that no longer belongs to it. Absent: no end.' },
    version: {
      type: 'integer',
      minimum: 0,
      maximum: 999_999_999,
      description: 'Only of this version of the model; 0: seasonal naive, which nobody trained.',
    },
    newest: { type: 'boolean', description: 'Of each target only what was said last.' },
    lead: { ...duration, description: 'Of each target what was said last at least so long before the end of its step, as 6h.' },
    limit: {
      type: 'integer',
      minimum: 1,
      maximum: limits.predictionsListedMax,
      description: `Rows of a page; ${limits.queryRowsDefault} when absent.`,
    },
    cursor,
    format: {
      type: 'string',
      enum: ['json', 'ndjson', 'csv'],
      description: '`json`: a page as a document (the default); `ndjson`: an object a line; `csv`: a table. Goes before the Accept header.',
    },
  },
} as const

const stepBody = { ...duration, description: 'Width of a step, as 15m or 1h; that of the settings when absent.' } as const
const horizonBody = { ...duration, description: 'How far ahead the model is to forecast, as 24h; that of the settings when absent.' } as const
const seed = {
  type: 'integer',
  minimum: 0,
  maximum: 4_294_967_295,
  description: 'Draws all that is chance: the same seed and data, the same model. 1 when absent.',
} as const

export const trainBody = {
  type: 'object',
  additionalProperties: false,
  properties: {
    series: {
      type: 'array',
      minItems: 1,
      maxItems: limits.trainSeriesMax,
      items: { type: 'object', additionalProperties: false, required: ['device', 'metric'], properties: { device: name, metric: name } },
      description: 'What to train. Absent: all that the settings have forecast (forecast.metrics), and all that have a model.',
    },
    kinds: {
      ...kinds,
      description:
        'Kinds to choose from; those of the settings when absent. Exactly one is trained whatever it is worth, and serves only if it wins.',
    },
    step: stepBody,
    horizon: horizonBody,
    seed,
  },
} as const

export const backtestBody = {
  type: 'object',
  additionalProperties: false,
  required: ['device', 'metric'],
  properties: { device: name, metric: name, kinds, step: stepBody, horizon: horizonBody, seed },
} as const

const time = { type: 'string', format: 'date-time' } as const
const optionalTime = { type: ['string', 'null'], format: 'date-time' } as const
const number = { type: 'number' } as const
const optional = { type: ['number', 'null'] } as const
const named = { device: { type: 'string' }, metric: { type: 'string' }, unit: { type: 'string' } } as const
const servedBy = {
  type: 'object',
  required: ['kind', 'version'],
  properties: { kind: { type: 'string' }, version: { type: 'integer', description: '0: seasonal naive, which nobody trained.' } },
} as const
const detail = { type: ['string', 'null'], description: 'In words.' } as const

export const forecastAnswer = {
  title: 'Forecast',
  type: 'object',
  required: ['device', 'metric', 'model', 'fallback', 'detail', 'issued_at', 'step_s', 'level', 'points'],
  properties: {
    ...named,
    model: servedBy,
    fallback: {
      enum: ['untrained', 'skill_lost', 'refused', null],
      description: 'Why seasonal naive answers: nobody trained a model, the one there is has lost its skill, or it refused this history.',
    },
    detail,
    issued_at: { ...time, description: 'The end of what was known.' },
    step_s: { type: 'number', description: 'Width of a step in seconds.' },
    level: number,
    points: {
      type: 'array',
      items: {
        title: 'ForecastPoint',
        type: 'object',
        required: ['time', 'mean', 'lower', 'upper'],
        properties: {
          time: { ...time, description: 'Start of the step.' },
          mean: { type: 'number', description: 'Expected mean of the step.' },
          lower: { ...optional, description: 'Null: too few errors are known for an interval.' },
          upper: optional,
        },
      },
    },
  },
} as const

export const crossingAnswer = {
  title: 'CrossingForecast',
  type: 'object',
  required: ['device', 'metric', 'model', 'threshold', 'side', 'within_s', 'issued_at', 'probability', 'reason', 'detail', 'calibration'],
  properties: {
    ...named,
    model: servedBy,
    threshold: number,
    side: { enum: ['above', 'below'] },
    within_s: number,
    issued_at: time,
    probability: { ...optional, description: 'Null: there is no number to be given, and `reason` says why.' },
    reason: { enum: ['no_skill', 'too_little_data', 'across_already', null] },
    detail,
    calibration: {
      type: ['object', 'null'],
      description: 'How such probabilities have held over past issues. Null: nothing is known.',
      required: ['n', 'rate', 'brier', 'skill', 'error', 'bins'],
      properties: {
        n: { type: 'integer', description: 'Issues that were answered and have an outcome.' },
        rate: { type: 'number', description: 'Share of them in which it crossed.' },
        brier: { type: 'number', description: 'Mean squared difference of probability and outcome.' },
        skill: { ...optional, description: '1 - Brier / that of always saying `rate`. Null: it never or always crossed.' },
        error: { ...optional, description: 'Mean difference of said and came over the bins.' },
        bins: {
          type: 'array',
          items: { type: 'object', required: ['n', 'said', 'came'], properties: { n: { type: 'integer' }, said: optional, came: optional } },
        },
      },
    },
  },
} as const

export const accuracyAnswer = {
  title: 'ForecastAccuracy',
  type: 'object',
  required: ['device', 'metric', 'version', 'n', 'mae', 'rmse', 'bias', 'naive_mae', 'skill', 'level', 'coverage', 'drift'],
  properties: {
    ...named,
    version: { type: 'integer' },
    n: { type: 'integer', description: 'Predictions whose step has ended and was measured.' },
    mae: { ...optional, description: 'Mean absolute error, in the unit of the metric. Null here and below: nothing has matured.' },
    rmse: { ...optional, description: 'Root of the mean squared error.' },
    bias: { ...optional, description: 'Mean of prediction minus measured.' },
    naive_mae: { ...optional, description: 'That of seasonal naive, issued at the same moments for the same targets.' },
    skill: { ...optional, description: '1 - mae / naive_mae: above 0 is better than doing nothing.' },
    level: { type: 'number', description: 'What intervals promise;' },
    coverage: { ...optional, description: 'and the share of measured values that they held.' },
    drift: {
      type: 'object',
      required: ['statistic', 'threshold', 'since'],
      properties: {
        statistic: { type: 'number', description: 'Page-Hinkley on scaled absolute errors; an alarm at `threshold`.' },
        threshold: number,
        since: { ...optionalTime, description: 'Of an alarm that no retraining has answered yet. Null: no drift.' },
      },
    },
  },
} as const

export const predictionAnswer = {
  title: 'Prediction',
  type: 'object',
  required: ['time', 'issued_at', 'version', 'mean', 'lower', 'upper', 'level', 'actual'],
  properties: {
    time: { ...time, description: 'Start of the step that it is of.' },
    issued_at: { ...time, description: 'The end of what was known.' },
    version: { type: 'integer' },
    mean: number,
    lower: optional,
    upper: optional,
    level: number,
    actual: { ...optional, description: 'Mean of what was measured in the step. Null: the step has not ended, or nothing was measured.' },
  },
} as const

export const modelAnswer = {
  title: 'ForecastModel',
  type: 'object',
  required: ['device', 'metric', 'version', 'kind', 'state', 'created_at', 'bytes', 'card', 'accuracy'],
  properties: {
    ...named,
    version: { type: 'integer' },
    kind: { type: 'string' },
    state: { enum: ['champion', 'challenger', 'retired'], description: 'The champion serves; a challenger was trained and did not win.' },
    created_at: time,
    bytes: { type: 'integer', description: 'Of its file.' },
    card: { type: 'object', additionalProperties: true, description: 'Data span, seed, CPU, candidates and their scores: docs/format/model.md.' },
    accuracy: { anyOf: [accuracyAnswer, { type: 'null' }], description: 'Null: it has issued nothing yet.' },
  },
} as const
