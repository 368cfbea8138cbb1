import { KymoError } from '../../../core/errors.ts'
import type { ForecastModel } from '../../../core/forecasts.ts'
import { limits } from '../../../core/limits.ts'
import { principalOf } from '../access.ts'
import type { App } from '../app-types.ts'
import type { HttpContext } from '../options.ts'
import { questionOf } from '../reads/cursor.ts'
import { withDeadline } from '../reads/deadline.ts'
import { nextCursor, pageAsked } from '../reads/forecasts.ts'
import { sendListing } from '../reads/listing.ts'
import { latestOfSensors, predictedNow, predictionsOf } from '../reads/sensor-predictions.ts'
import { firstOf, sensorModelJson, temperatures } from '../reads/sensor-models.ts'
import { answer, idParams, noQuery } from '../schemas.ts'
import {
  latestPredictionsQuery,
  predictAnswer,
  predictBody,
  predictionDocuments,
  predictionsOfQuery,
  seedModelsQuery,
  sensorModels,
  sensorModelsAnswer,
  sensorTrainBody,
  trainingAnswer,
} from '../seed-forecast-schemas.ts'
import { train } from './seed-forecasts.ts'

const metrics = [...temperatures, 'humidity'] as const

/** All versions of a sensor's models, newest first of each metric. 404 where nobody knows the sensor. */
async function modelsOf(context: HttpContext, tenant: string, device: string): Promise<ForecastModel[]> {
  const found: ForecastModel[] = []
  let known = false
  for (const names of [temperatures, ['humidity']]) {
    try {
      found.push(...(await firstOf(names, (metric) => context.forecasts.versions(tenant, { device, metric }))))
      known = true
    } catch (thrown) {
      if (!(thrown instanceof KymoError) || thrown.code !== 'series_not_found') throw thrown
    }
  }
  if (!known && (await context.devices.get(tenant, device)) === undefined) throw new KymoError('device_not_found')
  return found
}

/** S4: predictions that are stored. */
function predictions(app: App, context: HttpContext): void {
  app.post(
    '/predict',
    {
      config: { scope: 'read', compat: { failed: 'Failed to predict', invalidStatus: 422 } },
      schema: {
        operationId: 'predict',
        tags: ['compatibility'],
        summary: 'Predict temperature and humidity of a sensor, and store that',
        description: 'A prediction of the same model, moment and target is stored once. What the sensor does not measure is null.',
        querystring: noQuery,
        body: predictBody,
        response: { 200: answer('Step by step.', predictAnswer) },
      },
    },
    async (request, reply) => {
      const { tenant } = principalOf(request)
      const { sensor_id: sensor, horizon = 24 } = request.body
      const { models, items } = await withDeadline(context, reply, () => predictedNow(context, tenant, sensor, horizon))
      return { sensor_id: sensor, horizon, models, predictions: items }
    },
  )

  app.get(
    '/predictions',
    {
      config: { scope: 'read', compat: { failed: 'Failed to list predictions' } },
      schema: {
        operationId: 'predictions',
        tags: ['compatibility'],
        summary: 'What was predicted of a sensor, beside what was measured',
        description: 'Of each target what was predicted last; temperature and humidity in one document.',
        querystring: predictionsOfQuery,
        response: { 200: answer('A bare array, by target.', predictionDocuments) },
      },
    },
    async (request, reply) => {
      const { tenant } = principalOf(request)
      const listing = await withDeadline(context, reply, () => predictionsOf(context, tenant, request.query))
      return sendListing(context, request, reply, listing, (item) => item)
    },
  )

  app.get(
    '/predictions/latest',
    {
      config: { scope: 'read', compat: { failed: 'Failed to list predictions' } },
      schema: {
        operationId: 'latestPredictions',
        tags: ['compatibility'],
        summary: 'The newest predictions of every sensor',
        querystring: latestPredictionsQuery,
        response: { 200: answer('A bare array, by sensor and target.', predictionDocuments) },
      },
    },
    async (request, reply) => {
      const { tenant } = principalOf(request)
      const listing = await withDeadline(context, reply, () => latestOfSensors(context, tenant, request.query))
      return sendListing(context, request, reply, listing, (item) => item)
    },
  )
}

/** S4: models of sensors. */
function models(app: App, context: HttpContext): void {
  app.get(
    '/models',
    {
      config: { scope: 'read', compat: { failed: 'Failed to list models' } },
      schema: {
        operationId: 'models',
        tags: ['compatibility'],
        summary: 'The models of all sensors, with error and drift',
        querystring: seedModelsQuery,
        response: { 200: answer('A bare array, by sensor and metric.', sensorModels) },
      },
    },
    async (request, reply) => {
      const { tenant } = principalOf(request)
      const question = questionOf('seed-models')
      const page = await withDeadline(context, reply, () => context.forecasts.models(tenant, pageAsked(question, request.query)))
      const items = page.items.filter(({ metric }) => metrics.some((name) => name === metric))
      return sendListing(context, request, reply, { items, cursor: nextCursor(question, page) ?? undefined }, sensorModelJson)
    },
  )

  app.get(
    '/models/:id',
    {
      config: { scope: 'read', compat: { failed: 'Failed to read models' } },
      schema: {
        operationId: 'sensorModels',
        tags: ['compatibility'],
        summary: 'The models of a sensor: version, when it was trained, error and drift',
        params: idParams,
        querystring: noQuery,
        response: { 200: answer('The model that serves, and all versions.', sensorModelsAnswer) },
      },
    },
    async (request, reply) => {
      const { tenant } = principalOf(request)
      const { id } = request.params
      const found = await withDeadline(context, reply, () => modelsOf(context, tenant, id))
      const serving = found.find(({ state }) => state === 'champion') ?? found[0]
      const { version, algorithm, trained_at, mae, rmse, drift } = serving === undefined ? {} : sensorModelJson(serving)
      return {
        sensor_id: id,
        version: version ?? null,
        algorithm: algorithm ?? null,
        trained_at: trained_at ?? null,
        mae: mae ?? null,
        rmse: rmse ?? null,
        drift: drift ?? false,
        models: found.slice(0, limits.seedListRowsMax).map(sensorModelJson),
      }
    },
  )

  app.post(
    '/models/:id/train',
    {
      config: { scope: 'admin', compat: { failed: 'Failed to train', invalidStatus: 422 } },
      schema: {
        operationId: 'trainSensor',
        tags: ['compatibility'],
        summary: 'Train the temperature and humidity models of a sensor',
        params: idParams,
        querystring: noQuery,
        body: sensorTrainBody,
        response: { 202: answer('It has begun; Location leads to the job.', trainingAnswer) },
      },
    },
    async (request, reply) => {
      const { algorithm } = request.body ?? {}
      return train(context, reply, { tenant: principalOf(request).tenant, sensor: request.params.id, metrics, algorithm })
    },
  )
}

export function seedPredictionRoutes(app: App, context: HttpContext): void {
  predictions(app, context)
  models(app, context)
}
