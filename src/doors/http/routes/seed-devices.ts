import type { FastifyReply, FastifyRequest } from 'fastify'
import { limits } from '../../../core/limits.ts'
import type { Device } from '../../../core/services.ts'
import { formatRfc3339 } from '../../../wire/time.ts'
import { principalOf } from '../access.ts'
import type { App } from '../app-types.ts'
import { jsonType } from '../ingest/answers.ts'
import type { HttpContext } from '../options.ts'
import { decodeCursor, encodeCursor, questionOf } from '../reads/cursor.ts'
import { markTruncated, rangeOf } from '../reads/range.ts'
import type { Asked } from '../reads/range.ts'
import { valueOf } from '../reads/readings.ts'
import type { ReadingColumns } from '../reads/readings.ts'
import { takeRows } from '../reads/rows.ts'
import {
  answer,
  deviceAnswer,
  idParams,
  noQuery,
  seedAggregatedQuery,
  seedDeviceCreate,
  seedDevicesQuery,
  seedMetricsQuery,
  statusBody,
} from '../schemas.ts'
import { addArray, Pieces, sendPieces } from '../slices.ts'
import { deviceJson, deviceOf, metadataOf } from './devices.ts'

/** S2 knows no device that was never seen: its clients parse `last_seen` as a time. */
function seedDevice(device: Device): Record<string, unknown> {
  return { ...deviceJson(device), last_seen: formatRfc3339(device.last_seen_us ?? device.created_us) }
}

const metricsAnswer = {
  type: 'object',
  properties: {
    metrics: {
      type: 'array',
      items: { type: 'object', properties: { time: { type: 'string', format: 'date-time' }, value: {}, metric: { type: 'string' } } },
    },
    truncated: { type: 'boolean' },
    next_cursor: { type: ['string', 'null'] },
  },
} as const

/** The bytes of a row of text are counted; others are about 60. */
async function sendMetrics(context: HttpContext, request: FastifyRequest, reply: FastifyReply, asked: Asked): Promise<FastifyReply> {
  const range = rangeOf(principalOf(request).tenant, asked, context.env.clock.nowUs())
  const column = asked.aggregations?.[0] ?? 'value'
  const named = asked.metrics === undefined
  const pieces = new Pieces()
  pieces.add('{"metrics":[')
  let bytes = 0
  let page: ReadingColumns | undefined
  const end = await takeRows(context, reply, range.query, {
    async begin(next) {
      page = { ...next, value: next.columns[column] ?? new Float64Array(next.rows).fill(Number.NaN) }
    },
    row(row) {
      const from = page!
      const value = valueOf(from, row)
      const item = { time: formatRfc3339(from.timeUs[row]!), value }
      pieces.add((bytes === 0 ? '' : ',') + JSON.stringify(named ? { ...item, metric: from.keys[from.series[row]!]!.metric } : item))
      bytes += 60 + (typeof value === 'string' ? value.length : 0)
    },
    full: () => bytes >= context.limits.answerBytesMax,
  })
  const cursor = end.after === undefined ? undefined : range.cursorAfter(end.after)
  if (cursor !== undefined) markTruncated(request, reply, cursor)
  pieces.add(cursor === undefined ? ']}' : `],"truncated":true,"next_cursor":${JSON.stringify(cursor)}}`)
  return sendPieces(context, reply, jsonType, pieces.flush())
}

/** Go's encoder writes a nil map as null. */
function isGiven<T>(value: T | null | undefined): value is T {
  return value !== undefined && value !== null
}

function deviceWrites(app: App, context: HttpContext): void {
  const { devices, env } = context

  app.post(
    '/devices',
    {
      config: { scope: 'admin', compat: { failed: 'Failed to register device', invalidStatus: 400 } },
      schema: {
        operationId: 'registerDevice',
        tags: ['compatibility'],
        summary: 'Register a device; the server makes its id',
        querystring: noQuery,
        body: seedDeviceCreate,
        response: { 201: answer('Registered.', deviceAnswer) },
      },
    },
    async (request, reply) => {
      const { name, type, tenant_id, metadata } = request.body
      const device = await devices.create(principalOf(request).tenant, {
        id: env.random.uuid(),
        ...(isGiven(name) ? { name } : {}),
        ...(isGiven(type) ? { type } : {}),
        ...(isGiven(tenant_id) ? { tenant_id } : {}),
        ...(isGiven(metadata) ? { metadata: metadataOf(metadata) } : {}),
      })
      return reply.code(201).header('location', `/devices/${device.id}`).send(seedDevice(device))
    },
  )

  app.put(
    '/devices/:id/status',
    {
      config: { scope: 'admin', compat: { failed: 'Failed to update device status', invalidStatus: 400 } },
      schema: {
        operationId: 'updateDeviceStatus',
        tags: ['compatibility'],
        summary: 'Set the status of a device; it counts as seen',
        params: idParams,
        querystring: noQuery,
        body: statusBody,
        response: { 200: answer('Set.', { type: 'object', properties: { message: { type: 'string' } } }) },
      },
    },
    async (request) => {
      const { tenant } = principalOf(request)
      const { id } = request.params
      await devices.update(tenant, id, { status: request.body.status })
      devices.seen(tenant, id, env.clock.nowUs())
      return { message: 'Device status updated' }
    },
  )
}

const seedRange = { from: 'startTime', to: 'endTime' } as const

export function seedDeviceRoutes(app: App, context: HttpContext): void {
  const { devices } = context
  deviceWrites(app, context)

  app.get(
    '/devices',
    {
      config: { scope: 'read', compat: { failed: 'Failed to list devices' } },
      schema: {
        operationId: 'devices',
        tags: ['compatibility'],
        summary: 'All devices as a bare array',
        querystring: seedDevicesQuery,
        description: 'When there are more than `limit`, the headers X-Truncated, X-Next-Cursor and Link say so.',
        response: { 200: answer('Devices, or with fields=id their ids.', { type: 'array', items: {} }) },
      },
    },
    async (request, reply) => {
      const { limit, cursor, fields } = request.query
      const question = questionOf('seed devices')
      const after = cursor === undefined ? undefined : String(decodeCursor(question, cursor)[0])
      const page = await devices.list(principalOf(request).tenant, { limit: limit ?? limits.listRowsMax, ...(after === undefined ? {} : { after }) })
      if (page.next !== undefined) markTruncated(request, reply, encodeCursor(question, [page.next]))
      const pieces = new Pieces()
      await addArray(context, pieces, page.items, fields === 'id' ? (device) => device.id : seedDevice)
      return sendPieces(context, reply, jsonType, pieces.flush())
    },
  )

  app.get(
    '/devices/:id',
    {
      config: { scope: 'read', compat: { failed: 'Failed to get device' } },
      schema: {
        operationId: 'device',
        tags: ['compatibility'],
        summary: 'One device',
        params: idParams,
        querystring: noQuery,
        response: { 200: answer('The device.', deviceAnswer) },
      },
    },
    async (request, reply) => reply.send(seedDevice(await deviceOf(context, request, request.params.id))),
  )

  app.get(
    '/devices/:id/metrics',
    {
      config: { scope: 'read', compat: { failed: 'Failed to query metrics', invalidStatus: 400 } },
      schema: {
        operationId: 'deviceMetrics',
        tags: ['compatibility'],
        summary: 'Readings of a device',
        params: idParams,
        querystring: seedMetricsQuery,
        response: { 200: answer('Readings by time.', metricsAnswer) },
      },
    },
    (request, reply) => {
      const { metric, startTime, endTime, limit, cursor } = request.query
      return sendMetrics(context, request, reply, {
        devices: [request.params.id],
        metrics: metric === undefined ? undefined : [metric],
        from: startTime,
        to: endTime,
        order: 'asc',
        names: seedRange,
        limit: limit ?? limits.listRowsMax,
        cursor,
      })
    },
  )

  app.get(
    '/devices/:id/aggregated',
    {
      config: { scope: 'read', compat: { failed: 'Failed to query aggregated metrics', invalidStatus: 400 } },
      schema: {
        operationId: 'deviceAggregated',
        tags: ['compatibility'],
        summary: 'Aggregates of a device; time is the start of the bin',
        params: idParams,
        querystring: seedAggregatedQuery,
        response: { 200: answer('Bins by time.', metricsAnswer) },
      },
    },
    (request, reply) => {
      const { metric, aggregation, interval, startTime, endTime, limit, cursor } = request.query
      return sendMetrics(context, request, reply, {
        devices: [request.params.id],
        metrics: [metric],
        from: startTime,
        to: endTime,
        step: interval,
        aggregations: [aggregation],
        order: 'asc',
        names: seedRange,
        limit: limit ?? limits.listRowsMax,
        cursor,
      })
    },
  )
}
