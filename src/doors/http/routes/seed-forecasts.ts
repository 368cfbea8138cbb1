import type { FastifyReply } from 'fastify'
import { KymoError } from '../../../core/errors.ts'
import type { ForecastModel, SeriesName } from '../../../core/forecasts.ts'
import { limits } from '../../../core/limits.ts'
import type { Job } from '../../../core/services.ts'
import { formatRfc3339 } from '../../../wire/time.ts'
import { principalOf } from '../access.ts'
import type { App } from '../app-types.ts'
import type { HttpContext } from '../options.ts'
import { withDeadline } from '../reads/deadline.ts'
import { modelOf } from '../reads/forecasts.ts'
import { algorithmOf, featuresOf, firstOf, renamed, temperatures, trainingOf } from '../reads/sensor-models.ts'
import { answer, noQuery } from '../schemas.ts'
import { forcedQuery, forecastBody, modelTrainBody, seedForecastAnswer, statusAnswer, statusQuery, trainingAnswer } from '../seed-forecast-schemas.ts'

const hourUs = 3600e6

/** Series of these metrics, of one sensor or all. Throws 404 where there are none, and where there are more than one request may name. */
async function seriesToTrain(
  context: HttpContext,
  reply: FastifyReply,
  o: { readonly tenant: string; readonly sensor: string | undefined; readonly metrics: readonly string[] },
): Promise<readonly SeriesName[]> {
  const { tenant, sensor, metrics } = o
  const most = limits.trainSeriesMax
  const match = { tenant, metrics, ...(sensor === undefined ? {} : { devices: [sensor] }) }
  const found = await withDeadline(context, reply, (signal) => context.store.series(match, signal, { limit: most + 1 }))
  if (found.length === 0) {
    const who = sensor === undefined ? 'No sensor' : `The sensor "${sensor.slice(0, 100)}" is not known, or`
    throw new KymoError('series_not_found', { detail: `${who} has sent ${sensor === undefined ? 'a' : 'no'} ${metrics[0] ?? 'value'} yet.` })
  }
  if (found.length > most) {
    const detail = `is needed: there are more than ${most} sensors. To train all of them, name their metric in forecast.metrics`
    throw new KymoError('request_invalid', { detail: 'Too many sensors to train at once.', errors: [{ pointer: '/sensor_id', detail }] })
  }
  return found.map(({ key: { device, metric } }) => ({ device, metric }))
}

/** Begins a training as the seeds ask for it; answers 202 with the job. */
export async function train(
  context: HttpContext,
  reply: FastifyReply,
  o: { readonly tenant: string; readonly sensor: string | undefined; readonly metrics: readonly string[]; readonly algorithm: string | undefined },
): Promise<FastifyReply> {
  const series = await seriesToTrain(context, reply, o)
  const kinds = o.algorithm === undefined ? {} : { kinds: [algorithmOf(o.algorithm)] }
  const job = await renamed({ '/kinds': '/algorithm', '/kinds/0': '/algorithm' }, () => context.forecasts.train(o.tenant, { series, ...kinds }))
  const sensor = o.sensor === undefined ? {} : { sensor_id: o.sensor }
  return reply
    .code(202)
    .header('location', `/api/v1/jobs/${job.id}`)
    .send({ status: 'training', ...sensor, job_id: job.id })
}

/** As many models are looked through to find the one that was trained last. */
const lookedMax = 5_000

/** The temperature model of a sensor that serves (or its newest), or of all the one that was trained last. */
async function modelOfStatus(context: HttpContext, tenant: string, sensor: string | undefined): Promise<ForecastModel | undefined> {
  const { forecasts } = context
  if (sensor !== undefined) {
    const versions = await firstOf(temperatures, (metric) => forecasts.versions(tenant, { device: sensor, metric }))
    return versions.find(({ state }) => state === 'champion') ?? versions[0]
  }
  let newest: ForecastModel | undefined
  let after: string | undefined
  for (let looked = 0; looked < lookedMax; looked += limits.forecastsListedMax) {
    const page = await forecasts.models(tenant, { limit: limits.forecastsListedMax, ...(after === undefined ? {} : { after }) })
    for (const model of page.items) {
      if (!temperatures.some((name) => name === model.metric)) continue
      if (newest === undefined || model.created_us > newest.created_us) newest = model
    }
    if (page.next === undefined) break
    after = page.next
  }
  return newest
}

async function statusJson(model: ForecastModel | undefined, job: Job | undefined): Promise<Record<string, unknown>> {
  const training = model === undefined ? undefined : trainingOf(model)
  const { mae, rmse } = model?.accuracy ?? {}
  return {
    is_trained: model !== undefined,
    sensor_id: model?.device ?? null,
    algorithm: model?.kind ?? null,
    last_trained: model === undefined ? null : formatRfc3339(model.created_us),
    training_samples: training?.samples ?? null,
    metrics: { mae: mae ?? training?.scores.mae ?? null, rmse: rmse ?? training?.scores.rmse ?? null, r2: training?.scores.r2 ?? null },
    features: model === undefined ? [] : await featuresOf(model),
    job: job === undefined ? null : { id: job.id, state: job.state, progress: job.progress },
  }
}

/** S0: forecasts of temperature. */
export function seedForecastRoutes(app: App, context: HttpContext): void {
  const { forecasts } = context

  app.post(
    '/forecast',
    {
      config: { scope: 'read', compat: { failed: 'Failed to forecast', invalidStatus: 422 } },
      schema: {
        operationId: 'forecast',
        tags: ['compatibility'],
        summary: 'The temperature of a sensor in the hours to come',
        description:
          'A sensor that nobody has trained is answered for with seasonal naive, which `model` says. 409: there is too little data even for that.',
        querystring: forcedQuery,
        body: forecastBody,
        response: { 200: answer('Step by step.', seedForecastAnswer) },
      },
    },
    async (request, reply) => {
      const { tenant } = principalOf(request)
      const { sensor_id: sensor, hours_ahead: hours = 24 } = request.body
      const { model } = request.query
      const o = { horizonUs: hours * hourUs, ...(model === undefined ? {} : { model: modelOf(algorithmOf(model))! }) }
      const made = await renamed({ '/horizon': '/hours_ahead' }, () =>
        withDeadline(context, reply, () => firstOf(temperatures, (metric) => forecasts.forecast(tenant, { device: sensor, metric }, o))),
      )
      return {
        sensor_id: sensor,
        model: made.model.kind,
        model_version: made.model.version,
        generated_at: formatRfc3339(made.issued_us),
        hours_ahead: hours,
        predictions: made.points.map(({ time_us: us, mean, lower = null, upper = null }) => ({
          timestamp: formatRfc3339(us),
          temperature: mean,
          lower,
          upper,
        })),
      }
    },
  )

  app.post(
    '/model/train',
    {
      config: { scope: 'admin', compat: { failed: 'Failed to train', invalidStatus: 422 } },
      schema: {
        operationId: 'startTraining',
        tags: ['compatibility'],
        summary: 'Train the temperature models of all sensors, or of one',
        querystring: noQuery,
        body: modelTrainBody,
        response: { 202: answer('It has begun; Location leads to the job.', trainingAnswer) },
      },
    },
    async (request, reply) => {
      const { sensor_id: sensor, algorithm } = request.body ?? {}
      return train(context, reply, { tenant: principalOf(request).tenant, sensor, metrics: temperatures, algorithm })
    },
  )

  app.get(
    '/model/status',
    {
      config: { scope: 'read', compat: { failed: 'Failed to read the model' } },
      schema: {
        operationId: 'modelStatus',
        tags: ['compatibility'],
        summary: 'Whether there is a model, since when, and how good it is',
        querystring: statusQuery,
        response: { 200: answer('Of the temperature model.', statusAnswer) },
      },
    },
    async (request, reply) => {
      const { tenant } = principalOf(request)
      const sensor = request.query.sensor_id
      const model = await withDeadline(context, reply, () => modelOfStatus(context, tenant, sensor))
      const series = sensor === undefined ? undefined : { device: sensor, metric: model?.metric ?? temperatures[0] }
      return statusJson(model, forecasts.latestTraining(tenant, series))
    },
  )
}
