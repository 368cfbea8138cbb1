import type { FastifyReply, FastifyRequest } from 'fastify'
import type { MaturedPrediction, SeriesName } from '../../../core/forecasts.ts'
import { limits } from '../../../core/limits.ts'
import type { Page } from '../../../core/services.ts'
import { principalOf } from '../access.ts'
import type { App } from '../app-types.ts'
import {
  accuracyAnswer,
  crossingAnswer,
  crossingQuery,
  forecastAnswer,
  forecastQuery,
  forecastsQuery,
  predictionAnswer,
  predictionsQuery,
  seriesParams,
} from '../forecast-schemas.ts'
import type { HttpContext } from '../options.ts'
import { decodeCursor, encodeCursor, questionOf } from '../reads/cursor.ts'
import { withDeadline } from '../reads/deadline.ts'
import {
  accuracyJson,
  crossingJson,
  forecastJson,
  given,
  modelOf,
  nextCursor,
  pageAsked,
  predictionCsv,
  predictionJson,
  predictionsCsvHead,
  seriesOf,
  sideOf,
  spanOf,
} from '../reads/forecasts.ts'
import { markTruncated, parameterInvalid } from '../reads/range.ts'
import { renamed } from '../reads/sensor-models.ts'
import { parseMoment } from '../reads/time.ts'
import { Units } from '../reads/units.ts'
import { answer, listOf, noQuery } from '../schemas.ts'
import { Pieces, sendItems, sendPieces, Slices } from '../slices.ts'
import { formatOf } from './query.ts'

/** What the devices of some series say of their units. */
export async function unitsOf(context: HttpContext, tenant: string, series: Iterable<SeriesName>): Promise<Units> {
  const units = new Units(context, tenant)
  await units.load(series)
  return units
}

const rowsPerLook = 64

async function sendPredictions(
  context: HttpContext,
  request: FastifyRequest,
  reply: FastifyReply,
  page: Page<MaturedPrediction>,
  o: { readonly format: 'json' | 'ndjson' | 'csv'; readonly cursor: string | null },
): Promise<FastifyReply> {
  const { format, cursor } = o
  if (cursor !== null) markTruncated(request, reply, cursor)
  reply.header('vary', 'accept')
  if (format === 'json') return sendItems(context, reply, page.items, predictionJson, { next_cursor: cursor })
  const line = format === 'csv' ? predictionCsv : (item: MaturedPrediction) => `${JSON.stringify(predictionJson(item))}\n`
  const pieces = new Pieces()
  const slices = new Slices(context)
  if (format === 'csv') pieces.add(predictionsCsvHead)
  for (const [i, item] of page.items.entries()) {
    if (i % rowsPerLook === rowsPerLook - 1 && slices.over) await slices.pause()
    pieces.add(line(item))
  }
  const type = format === 'csv' ? 'text/csv; charset=utf-8; header=present' : 'application/x-ndjson; charset=utf-8'
  return sendPieces(context, reply, type, pieces.flush())
}

export function forecastRoutes(app: App, context: HttpContext): void {
  const { env, forecasts } = context

  app.get(
    '/api/v1/forecasts',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'listForecasts',
        tags: ['forecasts'],
        summary: 'The latest forecast of each series that is forecast on schedule',
        querystring: forecastsQuery,
        response: { 200: answer('A page, ordered by device and metric.', listOf(forecastAnswer)) },
      },
    },
    async (request, reply) => {
      const { tenant } = principalOf(request)
      const { device } = request.query
      const question = questionOf('forecasts', device)
      const asked = { ...given({ device }), ...pageAsked(question, request.query) }
      const page = await withDeadline(context, reply, () => forecasts.latest(tenant, asked))
      const units = await unitsOf(context, tenant, page.items)
      return sendItems(context, reply, page.items, (item) => forecastJson(item, units), { next_cursor: nextCursor(question, page) })
    },
  )

  app.get(
    '/api/v1/forecasts/:device/:metric',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'getForecast',
        tags: ['forecasts'],
        summary: 'What a series is going to be, with intervals',
        description:
          'From all that is known, or from what was known `at` a moment. Where no model serves, seasonal naive answers and `fallback` says why. 409 ' +
          '`too_little_data`: not even that can; `facts.missing` says how many steps more are needed.',
        params: seriesParams,
        querystring: forecastQuery,
        response: { 200: answer('The forecast, step by step.', forecastAnswer) },
      },
    },
    async (request, reply) => {
      const { tenant } = principalOf(request)
      const { at, horizon, level, model } = request.query
      const o = given({
        atUs: at === undefined ? undefined : parseMoment('at', at, env.clock.nowUs()),
        horizonUs: spanOf('horizon', horizon),
        level,
        model: modelOf(model),
      })
      const forecast = await withDeadline(context, reply, () => forecasts.forecast(tenant, seriesOf(request.params), o))
      return forecastJson(forecast, await unitsOf(context, tenant, [forecast]))
    },
  )

  app.get(
    '/api/v1/forecasts/:device/:metric/crossing',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'getForecastCrossing',
        tags: ['forecasts'],
        summary: 'The probability that a series crosses a threshold',
        description:
          'As above=50&within=6h. Made of the paths that past forecasts erred by, and told with how such probabilities have held. A model that is no ' +
          'better than seasonal naive gives no number.',
        params: seriesParams,
        querystring: crossingQuery,
        response: { 200: answer('The probability, or why there is none.', crossingAnswer) },
      },
    },
    async (request, reply) => {
      const { tenant } = principalOf(request)
      const withinUs = spanOf('within', request.query.within)
      if (withinUs === undefined) throw parameterInvalid('within', 'is needed: how far ahead, as within=6h')
      const question = { ...sideOf(request.query), withinUs }
      const crossing = await renamed({ '/horizon': '/within' }, () =>
        withDeadline(context, reply, () => forecasts.crossing(tenant, seriesOf(request.params), question)),
      )
      return crossingJson(crossing, await unitsOf(context, tenant, [crossing]))
    },
  )

  app.get(
    '/api/v1/forecasts/:device/:metric/accuracy',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'getForecastAccuracy',
        tags: ['forecasts'],
        summary: 'How well forecasts of a series have done, and whether its model drifts',
        params: seriesParams,
        querystring: noQuery,
        response: { 200: answer('Of the version that serves, over what has matured.', accuracyAnswer) },
      },
    },
    async (request, reply) => {
      const { tenant } = principalOf(request)
      const accuracy = await withDeadline(context, reply, () => forecasts.accuracy(tenant, seriesOf(request.params)))
      return accuracyJson(accuracy, await unitsOf(context, tenant, [accuracy]))
    },
  )

  app.get(
    '/api/v1/forecasts/:device/:metric/predictions',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'listPredictions',
        tags: ['forecasts'],
        summary: 'What was forecast of a series, beside what was measured',
        description:
          'Every prediction that was issued on schedule, ordered by target, issue and version; `newest` and `lead` leave one for each target. NDJSON and ' +
          'CSV tell in the headers X-Truncated, X-Next-Cursor and Link that there is more.',
        params: seriesParams,
        querystring: predictionsQuery,
        response: {
          200: {
            description: 'A page (JSON), objects (NDJSON) or a table (CSV).',
            content: {
              'application/json': { schema: listOf(predictionAnswer) },
              'application/x-ndjson': { schema: { type: 'string' } },
              'text/csv': { schema: { type: 'string' } },
            },
          },
        },
      },
    },
    async (request, reply) => {
      const { tenant } = principalOf(request)
      const { device, metric } = request.params
      const { from, to, version, newest, lead, limit = limits.queryRowsDefault, cursor, format } = request.query
      const question = questionOf('predictions', device, metric, from, to, String(version), String(newest), lead)
      const leadUs = spanOf('lead', lead)
      // Relative times are fixed by the first page: the cursor carries them.
      const fixed = cursor === undefined ? undefined : decodeCursor(question, cursor)
      const nowUs = env.clock.nowUs()
      const moment = (name: 'from' | 'to', text: string | undefined, open: number): number =>
        text === undefined ? open : parseMoment(name, text, nowUs)
      const fromUs = fixed === undefined ? moment('from', from, 0) : Number(fixed[0])
      const toUs = fixed === undefined ? moment('to', to, limits.timeUsMax) : Number(fixed[1])
      if (fromUs > toUs) throw parameterInvalid('to', 'must not lie before from')
      const asked = {
        fromUs,
        toUs,
        limit,
        ...given({
          version,
          newest: newest === true || leadUs !== undefined ? given({ leadUs }) : undefined,
          after: fixed === undefined ? undefined : String(fixed[2]),
        }),
      }
      const page = await withDeadline(context, reply, () => forecasts.predictions(tenant, { device, metric }, asked))
      const next = page.next === undefined ? null : encodeCursor(question, [fromUs, toUs, page.next])
      return sendPredictions(context, request, reply, page, { format: formatOf(format, request.headers.accept), cursor: next })
    },
  )
}
