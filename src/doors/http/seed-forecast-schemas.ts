import { limits } from '../../core/limits.ts'
import { cursor, moment, name } from './schemas.ts'
import { limit } from './seed-schemas.ts'

/* Schemas of S0's and S4's forecasts; as in schemas.ts. Bodies may carry more than is named, as theirs may. */

const algorithm = {
  type: 'string',
  minLength: 1,
  maxLength: 64,
  description: 'Trained whatever it is worth, as random_forest or lstm; it serves only if it wins. Absent: the best of all.',
} as const
const pageLimit = {
  ...limit,
  maximum: limits.forecastsListedMax,
  description: `Series of a page; ${limits.forecastsListedDefault} when absent.`,
} as const
const forced = {
  type: 'object',
  additionalProperties: false,
  properties: {
    model: {
      type: 'string',
      minLength: 1,
      maxLength: 64,
      description: 'Answers whatever it is worth: a kind, as random_forest, or a version. Absent: the model that serves, or seasonal naive.',
    },
  },
} as const

const hours = { type: 'integer', minimum: 1, maximum: 8_760, description: 'Hours ahead; 24 when absent.' } as const
export const forecastBody = {
  type: 'object',
  additionalProperties: true,
  required: ['sensor_id'],
  properties: { sensor_id: name, hours_ahead: hours },
} as const
export const forcedQuery = forced
export const modelTrainBody = { type: ['object', 'null'], additionalProperties: true, properties: { sensor_id: name, algorithm } } as const
export const sensorTrainBody = { type: ['object', 'null'], additionalProperties: true, properties: { algorithm } } as const
export const statusQuery = {
  type: 'object',
  additionalProperties: false,
  properties: { sensor_id: { ...name, description: 'Of this sensor. Absent: of the model that was trained last.' } },
} as const
export const predictBody = {
  type: 'object',
  additionalProperties: true,
  required: ['sensor_id'],
  properties: { sensor_id: name, horizon: hours },
} as const
export const predictionsOfQuery = {
  type: 'object',
  additionalProperties: false,
  required: ['sensor_id'],
  properties: {
    sensor_id: name,
    from: { ...moment, description: 'First target: RFC 3339, epoch number (unit by size), `now`, or a time ago. Absent: -24h.' },
    to: { ...moment, description: 'First target that no longer belongs to it. Absent: no end.' },
    limit,
    cursor,
  },
} as const
export const latestPredictionsQuery = {
  type: 'object',
  additionalProperties: false,
  properties: { sensor_id: { ...name, description: 'Only of this sensor.' }, limit: pageLimit, cursor },
} as const
export const seedModelsQuery = { type: 'object', additionalProperties: false, properties: { limit: pageLimit, cursor } } as const

const number = { type: ['number', 'null'] } as const
const text = { type: 'string' } as const
const time = { type: 'string', format: 'date-time' } as const
const optionalTime = { type: ['string', 'null'], format: 'date-time' } as const
const whole = { type: 'integer' } as const

export const seedForecastAnswer = {
  type: 'object',
  properties: {
    sensor_id: text,
    model: { ...text, description: 'The kind that answers: seasonal-naive of a sensor that nobody has trained.' },
    model_version: { ...whole, description: '0: seasonal naive.' },
    generated_at: { ...time, description: 'The end of what was known.' },
    hours_ahead: whole,
    predictions: {
      type: 'array',
      items: { type: 'object', properties: { timestamp: time, temperature: { type: 'number' }, lower: number, upper: number } },
    },
  },
} as const
export const trainingAnswer = { type: 'object', properties: { status: { enum: ['training'] }, job_id: text } } as const
export const statusAnswer = {
  type: 'object',
  properties: {
    is_trained: { type: 'boolean' },
    sensor_id: { type: ['string', 'null'], description: 'Whose model it is.' },
    algorithm: { type: ['string', 'null'] },
    last_trained: optionalTime,
    training_samples: { type: ['integer', 'null'] },
    metrics: {
      type: 'object',
      description: 'Of forecasts that have matured; before there are any, of the last part of the series, which the model had not seen.',
      properties: { mae: number, rmse: number, r2: number },
    },
    features: { type: 'array', items: text },
    job: { type: ['object', 'null'], description: 'The newest training.', properties: { id: text, state: text, progress: { type: 'object' } } },
  },
} as const

export const predictionDocument = {
  title: 'SensorPrediction',
  type: 'object',
  properties: {
    sensor_id: text,
    target_time: time,
    predicted_temperature: number,
    predicted_humidity: number,
    temperature_lower: number,
    temperature_upper: number,
    humidity_lower: number,
    humidity_upper: number,
    actual_temperature: number,
    actual_humidity: number,
    model_version: { ...whole, description: "Of temperature's model, or of humidity's where there is no temperature; 0: seasonal naive." },
    created_at: { ...time, description: 'The end of what was known.' },
  },
} as const
export const predictionDocuments = { type: 'array', items: predictionDocument } as const
export const predictAnswer = {
  type: 'object',
  properties: {
    sensor_id: text,
    horizon: whole,
    models: { type: 'object', properties: { temperature: { type: ['string', 'null'] }, humidity: { type: ['string', 'null'] } } },
    predictions: predictionDocuments,
  },
} as const

const performance = {
  version: { type: ['integer', 'null'] },
  algorithm: { type: ['string', 'null'] },
  trained_at: optionalTime,
  mae: { ...number, description: 'Of forecasts that have matured.' },
  rmse: number,
  drift: { type: 'boolean', description: 'Its errors have grown, and no retraining has answered yet.' },
} as const
const sensorModel = {
  title: 'SensorModel',
  type: 'object',
  properties: {
    sensor_id: text,
    metric: text,
    state: { enum: ['champion', 'challenger', 'retired'] },
    ...performance,
    training_samples: { type: ['integer', 'null'] },
    matured: { ...whole, description: 'Predictions that were held against what was measured.' },
    bias: number,
    skill: { ...number, description: '1 - mae / that of seasonal naive.' },
    coverage: number,
    drift_statistic: number,
    drift_threshold: number,
    drift_since: optionalTime,
  },
} as const
export const sensorModels = { type: 'array', items: sensorModel } as const
export const sensorModelsAnswer = {
  type: 'object',
  properties: { sensor_id: text, ...performance, models: { ...sensorModels, description: 'All versions, newest first, of each metric.' } },
} as const
