import { KymoError } from '../../../core/errors.ts'
import type { SeriesName, TrainRequest } from '../../../core/forecasts.ts'
import { principalOf } from '../access.ts'
import type { App } from '../app-types.ts'
import { backtestBody, forecastsQuery, modelAnswer, seriesParams, trainBody, versionParams } from '../forecast-schemas.ts'
import type { HttpContext } from '../options.ts'
import { questionOf } from '../reads/cursor.ts'
import { withDeadline } from '../reads/deadline.ts'
import { given, modelJson, nextCursor, pageAsked, seriesOf, spanOf } from '../reads/forecasts.ts'
import { answer, listOf, noQuery } from '../schemas.ts'
import { sendItems } from '../slices.ts'
import { unitsOf } from './forecasts.ts'
import { accepted, jobAnswer } from './jobs.ts'

function noVersion({ device, metric }: SeriesName, version: number): KymoError {
  return new KymoError('model_not_found', {
    detail: `There is no version ${version} of a model of ${metric} of ${device}. GET /api/v1/models/{device}/{metric} lists those there are.`,
  })
}

/** What train and backtest have in common: a name in the body is that of the refusal. */
function chosen(body: {
  readonly kinds?: readonly string[]
  readonly step?: string
  readonly horizon?: string
  readonly seed?: number
}): Pick<TrainRequest, 'kinds' | 'step_us' | 'horizon_us' | 'seed'> {
  const { kinds, step, horizon, seed } = body
  return given({ kinds, seed, step_us: spanOf('step', step), horizon_us: spanOf('horizon', horizon) })
}

/** Models as they are. */
function modelReads(app: App, context: HttpContext): void {
  const { forecasts } = context

  app.get(
    '/api/v1/models',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'listModels',
        tags: ['models'],
        summary: 'The model of each series that has one',
        description: 'The champion, which serves; where there is none, the newest version.',
        querystring: forecastsQuery,
        response: { 200: answer('A page, ordered by device and metric.', listOf(modelAnswer)) },
      },
    },
    async (request, reply) => {
      const { tenant } = principalOf(request)
      const { device } = request.query
      const question = questionOf('models', device)
      const asked = { ...given({ device }), ...pageAsked(question, request.query) }
      const page = await withDeadline(context, reply, () => forecasts.models(tenant, asked))
      const units = await unitsOf(context, tenant, page.items)
      return sendItems(context, reply, page.items, (item) => modelJson(item, units), { next_cursor: nextCursor(question, page) })
    },
  )

  app.get(
    '/api/v1/models/:device/:metric',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'listModelVersions',
        tags: ['models'],
        summary: 'All versions of the model of a series, newest first',
        params: seriesParams,
        querystring: noQuery,
        response: { 200: answer('All of them; none: nobody has trained one.', listOf(modelAnswer)) },
      },
    },
    async (request, reply) => {
      const { tenant } = principalOf(request)
      const versions = await withDeadline(context, reply, () => forecasts.versions(tenant, seriesOf(request.params)))
      const units = await unitsOf(context, tenant, versions)
      return sendItems(context, reply, versions, (item) => modelJson(item, units), { next_cursor: null })
    },
  )

  app.get(
    '/api/v1/models/:device/:metric/:version',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'getModelVersion',
        tags: ['models'],
        summary: 'One version with its card',
        params: versionParams,
        querystring: noQuery,
        response: { 200: answer('The version.', modelAnswer) },
      },
    },
    async (request, reply) => {
      const { tenant } = principalOf(request)
      const version = Number(request.params.version)
      const versions = await withDeadline(context, reply, () => forecasts.versions(tenant, seriesOf(request.params)))
      const found = versions.find((one) => one.version === version)
      if (found === undefined) throw noVersion(request.params, version)
      return modelJson(found, await unitsOf(context, tenant, [found]))
    },
  )

  app.get(
    '/api/v1/models/:device/:metric/:version/file',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'getModelFile',
        tags: ['models'],
        summary: 'The file of a version (docs/format/model.md)',
        params: versionParams,
        querystring: noQuery,
        response: { 200: { description: 'Its bytes.', content: { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } } } },
      },
    },
    async (request, reply) => {
      const { tenant } = principalOf(request)
      const version = Number(request.params.version)
      const file = await withDeadline(context, reply, () => forecasts.file(tenant, seriesOf(request.params), version))
      reply.type('application/octet-stream').header('content-disposition', `attachment; filename="kymo-model-${version}.kymo"`)
      return reply.send(Buffer.from(file.buffer, file.byteOffset, file.byteLength))
    },
  )
}

/** Training, testing and choosing. */
function modelWrites(app: App, context: HttpContext): void {
  const { forecasts } = context

  app.post(
    '/api/v1/models/train',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'trainModels',
        tags: ['models'],
        summary: 'Train models, as a job',
        description:
          'Each kind is trained without the last part of its series and judged on that; the best one serves from then on, if it beats seasonal naive and ' +
          'the champion by more than chance. The progress is in the job: series_total, series_done, trained, kept_naive, refused.',
        querystring: noQuery,
        body: trainBody,
        response: { 202: answer('The job; Location leads to it.', jobAnswer) },
      },
    },
    async (request, reply) => {
      const { series } = request.body
      return accepted(reply, await forecasts.train(principalOf(request).tenant, { ...given({ series }), ...chosen(request.body) }))
    },
  )

  app.post(
    '/api/v1/models/backtest',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'backtestModels',
        tags: ['models'],
        summary: 'Test kinds of models on the past of a series, as a job',
        description: 'Nothing is kept but the result: a JSON file of the job with candidates, scores, coverage, and the forecasts of the best one.',
        querystring: noQuery,
        body: backtestBody,
        response: { 202: answer('The job; Location leads to it.', jobAnswer) },
      },
    },
    async (request, reply) => {
      const { device, metric } = request.body
      return accepted(reply, await forecasts.backtest(principalOf(request).tenant, { device, metric, ...chosen(request.body) }))
    },
  )

  app.post(
    '/api/v1/models/:device/:metric/:version/promote',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'promoteModel',
        tags: ['models'],
        summary: 'Let a version serve, whatever it is worth',
        description: 'The one before is retired.',
        params: versionParams,
        querystring: noQuery,
        response: { 200: answer('The version, which is the champion now.', modelAnswer) },
      },
    },
    async (request) => {
      const { tenant } = principalOf(request)
      const model = await forecasts.promote(tenant, seriesOf(request.params), Number(request.params.version))
      return modelJson(model, await unitsOf(context, tenant, [model]))
    },
  )
}

export function modelRoutes(app: App, context: HttpContext): void {
  modelReads(app, context)
  modelWrites(app, context)
}
