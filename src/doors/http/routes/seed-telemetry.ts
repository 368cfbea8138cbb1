import type { FastifyReply, FastifyRequest } from 'fastify'
import { hash } from 'node:crypto'
import { KymoError } from '../../../core/errors.ts'
import { limits } from '../../../core/limits.ts'
import { formatRfc3339 } from '../../../wire/time.ts'
import { principalOf } from '../access.ts'
import type { App } from '../app-types.ts'
import type { HttpContext } from '../options.ts'
import { sendListing } from '../reads/listing.ts'
import type { Listing, Wrapping } from '../reads/listing.ts'
import { takeBins, takeMessages } from '../reads/messages.ts'
import type { Bin, Message } from '../reads/messages.ts'
import { rangeOf } from '../reads/range.ts'
import { temperatures } from '../reads/sensor-models.ts'
import { Units } from '../reads/units.ts'
import { answer, idParams } from '../schemas.ts'
import {
  aggregatedAnswer,
  aggregatedQuery,
  aggregatesQuery,
  historicalAnswer,
  historicalQuery,
  messagesQuery,
  sensorReadingsAnswer,
  telemetryAnswer,
  telemetryQuery,
} from '../seed-schemas.ts'

interface AskedList {
  readonly device?: string | undefined
  readonly metrics: readonly string[]
  readonly from?: string | undefined
  readonly to?: string | undefined
  readonly order?: 'asc' | 'desc' | undefined
  readonly limit?: number | undefined
  readonly cursor?: string | undefined
  /** What this route calls `from` and `to`, for its refusals. */
  readonly names?: { readonly from: string; readonly to: string }
}

/** An empty list of a device that nobody knows is 404: a name that was mistyped must not look like a silent device. */
export async function checkKnown(context: HttpContext, tenant: string, device: string | undefined, items: readonly unknown[]): Promise<void> {
  if (device !== undefined && items.length === 0 && (await context.devices.get(tenant, device)) === undefined) throw new KymoError('device_not_found')
}

/** A page of messages of one device or all, as the query of the request says. */
export async function messagesOf(context: HttpContext, request: FastifyRequest, reply: FastifyReply, asked: AskedList): Promise<Listing<Message>> {
  const { tenant } = principalOf(request)
  const { device, order = 'desc', limit = limits.seedListRowsDefault } = asked
  const range = rangeOf(tenant, { ...asked, devices: device === undefined ? undefined : [device], order, limit }, context.env.clock.nowUs())
  const listing = await takeMessages(context, reply, range)
  await checkKnown(context, tenant, device, listing.items)
  return listing
}

/** Stable, and ordered by time as MongoDB's own: four bytes of seconds, eight of a hash. */
function documentId(timeUs: number, ...names: readonly string[]): string {
  const seconds = (Math.floor(timeUs / 1e6) >>> 0).toString(16).padStart(8, '0')
  return seconds + hash('sha256', JSON.stringify([timeUs, ...names]), 'hex').slice(0, 16)
}

function temperatureOf({ values }: Message): number | null {
  return values.get('temperature') ?? values.get('temperature_c') ?? null
}

function telemetryJson(message: Message): unknown {
  const { device, timeUs, values } = message
  return {
    _id: documentId(timeUs, device),
    device_id: device,
    ts: formatRfc3339(timeUs),
    temperature_c: temperatureOf(message),
    humidity: values.get('humidity') ?? null,
    lat: values.get('lat') ?? null,
    lon: values.get('lon') ?? null,
  }
}

const binAggregations = ['count', 'sum', 'min', 'max', 'avg'] as const

function aggregatedJson({ device, metric, timeUs, values }: Bin): unknown {
  const [count, sum, min, max, average] = values
  const sensorType = metric === 'humidity' ? metric : 'temperature'
  return {
    _id: documentId(timeUs, device, metric),
    device_id: device,
    sensor_type: sensorType,
    count,
    sum,
    min,
    max,
    average,
    timestamp: formatRfc3339(timeUs),
  }
}

/** S3's dashboard: documents of telemetry_raw and aggregated_data. */
function dashboardLists(app: App, context: HttpContext): void {
  const telemetry = async (request: FastifyRequest, reply: FastifyReply, asked: Omit<AskedList, 'metrics'>): Promise<FastifyReply> => {
    const listing = await messagesOf(context, request, reply, { ...asked, metrics: [...temperatures, 'humidity', 'lat', 'lon'] })
    return sendListing(context, request, reply, listing, telemetryJson)
  }
  const aggregated = async (request: FastifyRequest, reply: FastifyReply, asked: Omit<AskedList, 'metrics' | 'order'>): Promise<FastifyReply> => {
    const { tenant } = principalOf(request)
    const { device, from, to, limit = limits.seedListRowsDefault, cursor } = asked
    const nowUs = context.env.clock.nowUs()
    const buckets = { step: '1m', aggregations: binAggregations, order: 'desc' } as const
    const devices = device === undefined ? undefined : [device]
    const range = rangeOf(tenant, { devices, metrics: [...temperatures, 'humidity'], from, to, limit, cursor, ...buckets }, nowUs)
    const listing = await takeBins(context, reply, range, nowUs)
    await checkKnown(context, tenant, device, listing.items)
    return sendListing(context, request, reply, listing, aggregatedJson)
  }

  app.get(
    '/telemetry',
    {
      config: { scope: 'read', compat: { failed: 'Failed to list telemetry' } },
      schema: {
        operationId: 'telemetryDocuments',
        tags: ['compatibility'],
        summary: 'Telemetry of all devices as documents, newest first',
        description: 'One for each device and time at which it sent any of the four values; what it did not send is null.',
        querystring: telemetryQuery,
        response: { 200: answer('A bare array.', telemetryAnswer) },
      },
    },
    (request, reply) => telemetry(request, reply, { ...request.query, device: request.query.device_id }),
  )

  app.get(
    '/devices/:id/telemetry',
    {
      config: { scope: 'read', compat: { failed: 'Failed to list telemetry' } },
      schema: {
        operationId: 'deviceTelemetryDocuments',
        tags: ['compatibility'],
        summary: 'Telemetry of a device as documents, newest first',
        params: idParams,
        querystring: messagesQuery,
        response: { 200: answer('A bare array.', telemetryAnswer) },
      },
    },
    (request, reply) => telemetry(request, reply, { ...request.query, device: request.params.id }),
  )

  app.get(
    '/aggregated',
    {
      config: { scope: 'read', compat: { failed: 'Failed to list aggregates' } },
      schema: {
        operationId: 'aggregatedDocuments',
        tags: ['compatibility'],
        summary: 'Temperature and humidity by the minute as documents, newest first',
        description: 'The minute that is still open is there as well, with what it has so far.',
        querystring: aggregatedQuery,
        response: { 200: answer('A bare array.', aggregatedAnswer) },
      },
    },
    (request, reply) => aggregated(request, reply, { ...request.query, device: request.query.device_id }),
  )

  app.get(
    '/devices/:id/aggregates',
    {
      config: { scope: 'read', compat: { failed: 'Failed to list aggregates' } },
      schema: {
        operationId: 'deviceAggregatedDocuments',
        tags: ['compatibility'],
        summary: 'Temperature and humidity of a device by the minute as documents, newest first',
        params: idParams,
        querystring: aggregatesQuery,
        response: { 200: answer('A bare array.', aggregatedAnswer) },
      },
    },
    (request, reply) => aggregated(request, reply, { ...request.query, device: request.params.id }),
  )
}

/** S0 and S4: temperature and humidity of sensors. */
function sensorLists(app: App, context: HttpContext): void {
  const sensor = async (
    request: FastifyRequest,
    reply: FastifyReply,
    asked: Omit<AskedList, 'metrics'>,
    wrapping?: Wrapping,
  ): Promise<FastifyReply> => {
    const listing = await messagesOf(context, request, reply, { ...asked, metrics: [...temperatures, 'humidity'] })
    const units = new Units(context, principalOf(request).tenant)
    await units.load(listing.items)
    const toJson = (message: Message): unknown => ({
      sensor_id: message.device,
      timestamp: formatRfc3339(message.timeUs),
      temperature: temperatureOf(message),
      humidity: message.values.get('humidity') ?? null,
      location: units.attribute(message.device, 'location') ?? null,
    })
    return sendListing(context, request, reply, listing, toJson, wrapping)
  }

  app.get(
    '/historical-data',
    {
      config: { scope: 'read', compat: { failed: 'Failed to read historical data' } },
      schema: {
        operationId: 'historicalData',
        tags: ['compatibility'],
        summary: 'Temperature and humidity of a time, oldest first',
        querystring: historicalQuery,
        response: { 200: answer('A page.', historicalAnswer) },
      },
    },
    (request, reply) => {
      const { sensor_id, hours, start, end, order = 'asc', limit, cursor } = request.query
      if (hours !== undefined && (start !== undefined || end !== undefined)) {
        throw new KymoError('request_invalid', {
          detail: 'hours counts back from now.',
          errors: [{ pointer: '/hours', detail: 'must not stand beside start or end' }],
        })
      }
      const from = start === undefined && end === undefined ? `-${hours ?? 24}h` : start
      const names = { from: 'start', to: 'end' }
      return sensor(request, reply, { device: sensor_id, from, to: end, order, limit, cursor, names }, { name: 'data', count: true })
    },
  )

  app.get(
    '/sensors/:id/readings',
    {
      config: { scope: 'read', compat: { failed: 'Failed to read sensor readings' } },
      schema: {
        operationId: 'sensorReadings',
        tags: ['compatibility'],
        summary: 'Temperature and humidity of a sensor, newest first',
        params: idParams,
        querystring: messagesQuery,
        response: { 200: answer('A bare array.', sensorReadingsAnswer) },
      },
    },
    (request, reply) => sensor(request, reply, { ...request.query, device: request.params.id }),
  )
}

export function seedTelemetryRoutes(app: App, context: HttpContext): void {
  dashboardLists(app, context)
  sensorLists(app, context)
}
