import { KymoError } from '../../../core/errors.ts'
import { limits } from '../../../core/limits.ts'
import type { SeriesInfo, SeriesMatch } from '../../../core/ports.ts'
import { formatRfc3339 } from '../../../wire/time.ts'
import { principalOf } from '../access.ts'
import type { App } from '../app-types.ts'
import type { HttpContext } from '../options.ts'
import { decodeCursor, encodeCursor, questionOf } from '../reads/cursor.ts'
import { withDeadline } from '../reads/deadline.ts'
import { latestOf, latestPage, nameOf } from '../reads/latest.ts'
import { Units } from '../reads/units.ts'
import { answer, idParams, listOf, matchQuery, noQuery, readingAnswer } from '../schemas.ts'
import { sendItems } from '../slices.ts'

function matchOf(tenant: string, devices: readonly string[] | undefined, metrics: readonly string[] | undefined): SeriesMatch {
  return { tenant, ...(devices === undefined ? {} : { devices }), ...(metrics === undefined ? {} : { metrics }) }
}

const seriesAnswer = {
  type: 'object',
  required: ['device', 'metric', 'first', 'last'],
  properties: {
    device: { type: 'string' },
    metric: { type: 'string' },
    unit: { type: 'string' },
    first: { type: 'string', format: 'date-time' },
    last: { type: 'string', format: 'date-time' },
  },
} as const

export function seriesRoutes(app: App, context: HttpContext): void {
  const { devices, store } = context

  app.get(
    '/api/v1/series',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'listSeries',
        tags: ['readings'],
        summary: 'Which device measures what, and since when',
        querystring: matchQuery,
        response: { 200: answer('A page, ordered by device and metric.', listOf(seriesAnswer)) },
      },
    },
    async (request, reply) => {
      const { tenant } = principalOf(request)
      const { device, metric, cursor } = request.query
      const limit = request.query.limit ?? limits.listRowsDefault
      const question = questionOf('series', device, metric)
      const after = cursor === undefined ? undefined : nameOf(decodeCursor(question, cursor))
      // One more than the page holds says whether there is a next one.
      const wanted = { limit: limit + 1, ...(after === undefined ? {} : { after }) }
      const found = await withDeadline(context, reply, (signal) => store.series(matchOf(tenant, device, metric), signal, wanted))
      const page = found.slice(0, limit)
      const units = new Units(context, tenant)
      await units.load(page.map((info) => info.key))
      const last = page[page.length - 1]
      const toJson = ({ key, firstUs, lastUs }: SeriesInfo): Record<string, unknown> => {
        const unit = units.of(key)
        return {
          device: key.device,
          metric: key.metric,
          ...(unit === undefined ? {} : { unit }),
          first: formatRfc3339(firstUs),
          last: formatRfc3339(lastUs),
        }
      }
      return sendItems(context, reply, page, toJson, {
        next_cursor: found.length > limit && last !== undefined ? encodeCursor(question, [last.key.device, last.key.metric]) : null,
      })
    },
  )

  app.get(
    '/api/v1/latest',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'listLatest',
        tags: ['readings'],
        summary: 'The last reading of each series',
        querystring: matchQuery,
        response: { 200: answer('A page, ordered by device and metric.', listOf(readingAnswer)) },
      },
    },
    async (request, reply) => {
      const { tenant } = principalOf(request)
      const { device, metric, cursor } = request.query
      const question = questionOf('latest', device, metric)
      const after = cursor === undefined ? undefined : nameOf(decodeCursor(question, cursor))
      const { items, last } = await latestPage(context, matchOf(tenant, device, metric), after, request.query.limit ?? limits.listRowsDefault)
      return sendItems(context, reply, items, (item) => item, {
        next_cursor: last === undefined ? null : encodeCursor(question, [last.device, last.metric]),
      })
    },
  )

  app.get(
    '/api/v1/devices/:id/latest',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'getDeviceLatest',
        tags: ['readings'],
        summary: 'The last reading of each metric of a device',
        params: idParams,
        querystring: noQuery,
        response: {
          200: answer('All its metrics.', {
            type: 'object',
            properties: { device: { type: 'string' }, items: { type: 'array', items: readingAnswer } },
          }),
        },
      },
    },
    async (request) => {
      const { tenant } = principalOf(request)
      const { id } = request.params
      const items = await latestOf(context, { tenant, devices: [id] })
      if (items.length === 0 && (await devices.get(tenant, id)) === undefined) throw new KymoError('device_not_found')
      return { device: id, items }
    },
  )
}
