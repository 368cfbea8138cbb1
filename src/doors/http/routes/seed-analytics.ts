import type { FastifyReply, FastifyRequest } from 'fastify'
import { limits } from '../../../core/limits.ts'
import { formatRfc3339 } from '../../../wire/time.ts'
import { principalOf } from '../access.ts'
import type { App } from '../app-types.ts'
import type { HttpContext } from '../options.ts'
import { decodeCursor, encodeCursor, questionOf } from '../reads/cursor.ts'
import { takeDevices } from '../reads/device-pages.ts'
import { latestPage, nameOf } from '../reads/latest.ts'
import { sendListing } from '../reads/listing.ts'
import type { Listing } from '../reads/listing.ts'
import type { Message } from '../reads/messages.ts'
import { askStatement, numberIn, textIn } from '../reads/statement.ts'
import type { StatementRow } from '../reads/statement.ts'
import { Units } from '../reads/units.ts'
import { answer, idParams } from '../schemas.ts'
import {
  anomaliesAnswer,
  anomaliesQuery,
  hoursQuery,
  inactiveAnswer,
  inactiveQuery,
  latestAnswer,
  latestQuery,
  lowBatteryAnswer,
  lowBatteryQuery,
  statisticsAnswer,
  summaryAnswer,
  summaryQuery,
} from '../seed-schemas.ts'
import { checkKnown, messagesOf } from './seed-telemetry.ts'

/** What S1's devices send, and its table has. */
const metrics = ['temperature', 'humidity', 'battery'] as const
const metricList = metrics.map((name) => `'${name}'`).join(', ')
const within = 'time >= $1::TIMESTAMP AND time < $2::TIMESTAMP'

/** The hours before a moment, and where a page of them goes on: the moment of the first page counts for those that follow. */
interface HoursPage {
  readonly hours: number
  readonly fromUs: number
  readonly toUs: number
  /** Fields of the cursor behind the moment. */
  readonly after: readonly (string | number | null)[] | undefined
  cursorAfter(...fields: readonly (string | number)[]): string
}

function hoursPage(context: HttpContext, name: string, hours: number, cursor: string | undefined, ...parts: readonly string[]): HoursPage {
  const question = questionOf('analytics', name, String(hours), ...parts)
  const [to, ...after] = cursor === undefined ? [context.env.clock.nowUs()] : decodeCursor(question, cursor)
  const toUs = Number(to)
  return {
    hours,
    fromUs: Math.max(0, toUs - hours * 3600e6),
    toUs,
    after: cursor === undefined ? undefined : after,
    cursorAfter: (...fields) => encodeCursor(question, [toUs, ...fields]),
  }
}

function windowJson({ hours, fromUs, toUs }: HoursPage): Readonly<Record<string, unknown>> {
  return { hours, from: formatRfc3339(fromUs), to: formatRfc3339(toUs) }
}

/** A page of a statement that was asked for one row more. */
function pageOf(rows: readonly StatementRow[], limit: number, cursorAfter: (last: StatementRow) => string): Listing<StatementRow> {
  const last = rows.length > limit ? rows[limit - 1] : undefined
  return { items: rows.slice(0, limit), cursor: last === undefined ? undefined : cursorAfter(last) }
}

const statisticsSql = `SELECT metric, count(value) AS n, avg(value) AS avg, min(value) AS min, max(value) AS max, stddev(value) AS stddev,
    count(DISTINCT time) AS messages
  FROM readings WHERE ${within} AND device = $3 AND metric IN (${metricList}) GROUP BY GROUPING SETS ((metric), ())`

/** One pass, without putting messages together: for a fleet that would be a hundred times the work. */
const summarySql = (more: string): string => `SELECT device, max(time) AS last_seen,
    greatest(${metrics.map((name) => `count(*) FILTER (WHERE metric = '${name}')`).join(', ')}) AS messages,
    avg(value) FILTER (WHERE metric = 'temperature') AS avg_temperature, min(value) FILTER (WHERE metric = 'temperature') AS min_temperature,
    max(value) FILTER (WHERE metric = 'temperature') AS max_temperature, avg(value) FILTER (WHERE metric = 'humidity') AS avg_humidity,
    avg(value) FILTER (WHERE metric = 'battery') AS avg_battery, min(value) FILTER (WHERE metric = 'battery') AS min_battery
  FROM readings WHERE ${within} AND metric IN (${metricList})${more} GROUP BY device ORDER BY device`

/** S1's own statement, with both sides within the hours. */
const anomaliesSql = (more: string): string => `WITH stats AS (
    SELECT device, avg(value) AS mean, stddev(value) AS stddev FROM readings WHERE metric = 'temperature' AND ${within} GROUP BY device)
  SELECT t.time AS time, t.device AS device, t.value AS temperature, s.mean AS mean, s.stddev AS stddev, abs(t.value - s.mean) / s.stddev AS z_score
  FROM readings t JOIN stats s ON t.device = s.device
  WHERE t.metric = 'temperature' AND t.time >= $1::TIMESTAMP AND t.time < $2::TIMESTAMP AND abs(t.value - s.mean) > $3 * s.stddev${more}
  ORDER BY t.time DESC, t.device`

/** Of one device: the newest messages, and statistics. */
function deviceAnalytics(app: App, context: HttpContext): void {
  app.get(
    '/analytics/devices/:id/latest',
    {
      config: { scope: 'read', compat: { failed: 'Failed to read latest readings' } },
      schema: {
        operationId: 'analyticsLatest',
        tags: ['compatibility'],
        summary: 'The newest messages of a device (S1: get_device_latest_readings)',
        params: idParams,
        querystring: latestQuery,
        response: { 200: answer('A page, newest first.', latestAnswer) },
      },
    },
    async (request, reply) => {
      const device = request.params.id
      const { limit = 10, cursor } = request.query
      const listing = await messagesOf(context, request, reply, { device, metrics, limit, cursor })
      const units = new Units(context, principalOf(request).tenant)
      await units.load([{ device }])
      const firmware = units.attribute(device, 'firmware') ?? null
      const toJson = ({ timeUs, values }: Message): unknown => ({
        time: formatRfc3339(timeUs),
        ...Object.fromEntries(metrics.map((name) => [name, values.get(name) ?? null])),
        firmware,
      })
      return sendListing(context, request, reply, listing, toJson, { name: 'items', before: { device_id: device } })
    },
  )

  app.get(
    '/analytics/devices/:id/statistics',
    {
      config: { scope: 'read', compat: { failed: 'Failed to compute statistics' } },
      schema: {
        operationId: 'analyticsStatistics',
        tags: ['compatibility'],
        summary: 'Count, mean, minimum, maximum and standard deviation of a device (S1: get_device_statistics)',
        params: idParams,
        querystring: hoursQuery,
        response: { 200: answer('Of the last hours.', statisticsAnswer) },
      },
    },
    async (request, reply) => {
      const { tenant } = principalOf(request)
      const device = request.params.id
      const page = hoursPage(context, 'statistics', request.query.hours ?? 24, undefined)
      const parameters = [formatRfc3339(page.fromUs), formatRfc3339(page.toUs), device]
      const rows = await askStatement(context, reply, { tenant, sql: statisticsSql, parameters, limit: metrics.length + 1 })
      const total = rows.find((row) => row['metric'] === null)
      const messages = numberIn(total, 'messages') ?? 0
      await checkKnown(context, tenant, device, messages === 0 ? [] : rows)
      const of = (name: string): Readonly<Record<string, number | null>> => {
        const row = rows.find((one) => one['metric'] === name)
        const part = (column: string): number | null => numberIn(row, column)
        return { count: part('n') ?? 0, avg: part('avg'), min: part('min'), max: part('max'), stddev: part('stddev') }
      }
      return { device_id: device, ...windowJson(page), message_count: messages, ...Object.fromEntries(metrics.map((name) => [name, of(name)])) }
    },
  )
}

/** Over all devices, by statements. */
function fleetAnalytics(app: App, context: HttpContext): void {
  const ask = (request: FastifyRequest, reply: FastifyReply, sql: string, parameters: readonly (string | number)[], limit: number) =>
    askStatement(context, reply, { tenant: principalOf(request).tenant, sql: `${sql} LIMIT ${limit + 1}`, parameters, limit: limit + 1 })

  app.get(
    '/analytics/summary',
    {
      config: { scope: 'read', compat: { failed: 'Failed to compute the summary' } },
      schema: {
        operationId: 'analyticsSummary',
        tags: ['compatibility'],
        summary: 'All devices that sent something in the last hours',
        querystring: summaryQuery,
        response: { 200: answer('A page, ordered by device.', summaryAnswer) },
      },
    },
    async (request, reply) => {
      const { hours = 24, limit = limits.seedListRowsDefault, cursor } = request.query
      const page = hoursPage(context, 'summary', hours, cursor)
      const after = page.after === undefined ? [] : [String(page.after[0])]
      const parameters = [formatRfc3339(page.fromUs), formatRfc3339(page.toUs), ...after]
      const rows = await ask(request, reply, summarySql(after.length === 0 ? '' : ' AND device > $3'), parameters, limit)
      const listing = pageOf(rows, limit, (last) => page.cursorAfter(textIn(last, 'device')))
      const toJson = ({ device, messages, ...rest }: StatementRow): unknown => ({ device_id: device, message_count: messages, ...rest })
      return sendListing(context, request, reply, listing, toJson, { name: 'items', before: windowJson(page) })
    },
  )

  app.get(
    '/analytics/anomalies',
    {
      config: { scope: 'read', compat: { failed: 'Failed to detect anomalies' } },
      schema: {
        operationId: 'analyticsAnomalies',
        tags: ['compatibility'],
        summary: 'Temperatures far from the mean of their device (S1: detect_temperature_anomalies)',
        description: 'By z-score: further than so many standard deviations from the mean of the same device in the same hours.',
        querystring: anomaliesQuery,
        response: { 200: answer('A page, newest first.', anomaliesAnswer) },
      },
    },
    async (request, reply) => {
      const { threshold_stddev = 2, hours = 24, limit = limits.seedListRowsDefault, cursor } = request.query
      const page = hoursPage(context, 'anomalies', hours, cursor, String(threshold_stddev))
      const after = page.after?.map(String) ?? []
      const parameters = [formatRfc3339(page.fromUs), formatRfc3339(page.toUs), threshold_stddev, ...after]
      const more = after.length === 0 ? '' : ' AND (t.time < $4::TIMESTAMP OR (t.time = $4::TIMESTAMP AND t.device > $5))'
      const rows = await ask(request, reply, anomaliesSql(more), parameters, limit)
      const listing = pageOf(rows, limit, (last) => page.cursorAfter(textIn(last, 'time'), textIn(last, 'device')))
      const toJson = ({ device, ...rest }: StatementRow): unknown => ({ device_id: device, ...rest })
      return sendListing(context, request, reply, listing, toJson, { name: 'items', before: { threshold_stddev, ...windowJson(page) } })
    },
  )
}

/** Over all devices, by what is known of each in memory. */
function watchLists(app: App, context: HttpContext): void {
  app.get(
    '/analytics/low-battery',
    {
      config: { scope: 'read', compat: { failed: 'Failed to list low batteries' } },
      schema: {
        operationId: 'analyticsLowBattery',
        tags: ['compatibility'],
        summary: 'Devices whose last battery reading is low (S1: detect_low_battery_devices)',
        querystring: lowBatteryQuery,
        response: { 200: answer('A page, ordered by device.', lowBatteryAnswer) },
      },
    },
    async (request, reply) => {
      const { threshold = 20, limit = limits.seedListRowsDefault, cursor } = request.query
      const question = questionOf('low battery', String(threshold))
      const after = cursor === undefined ? undefined : nameOf(decodeCursor(question, cursor))
      const match = { tenant: principalOf(request).tenant, metrics: ['battery'] }
      const isLow = ({ value }: { readonly value: unknown }): boolean => typeof value === 'number' && value < threshold
      const { items, last } = await latestPage(context, match, after, limit, isLow)
      const listing = { items, cursor: last === undefined ? undefined : encodeCursor(question, [last.device, last.metric]) }
      const toJson = ({ device, time, value }: (typeof items)[number]): unknown => ({ device_id: device, time, battery: value })
      return sendListing(context, request, reply, listing, toJson, { name: 'items', before: { threshold } })
    },
  )

  app.get(
    '/analytics/inactive',
    {
      config: { scope: 'read', compat: { failed: 'Failed to list inactive devices' } },
      schema: {
        operationId: 'analyticsInactive',
        tags: ['compatibility'],
        summary: 'Devices that have been silent',
        querystring: inactiveQuery,
        response: { 200: answer('A page, ordered by device.', inactiveAnswer) },
      },
    },
    async (request, reply) => {
      const { minutes = 60, limit = limits.seedListRowsDefault, cursor } = request.query
      const question = questionOf('inactive', String(minutes))
      const [at, after] = cursor === undefined ? [context.env.clock.nowUs()] : decodeCursor(question, cursor)
      const nowUs = Number(at)
      const heardUs = (device: { readonly last_seen_us?: number; readonly created_us: number }): number => device.last_seen_us ?? device.created_us
      const { tenant } = principalOf(request)
      const isSilent = (device: Parameters<typeof heardUs>[0]): boolean => nowUs - heardUs(device) >= minutes * 60e6
      const { items, last } = await takeDevices(context, tenant, after === undefined ? undefined : String(after), limit, isSilent)
      const listing = { items, cursor: last === undefined ? undefined : encodeCursor(question, [nowUs, last]) }
      const toJson = (device: (typeof items)[number]): unknown => ({
        device_id: device.id,
        last_seen: device.last_seen_us === undefined ? null : formatRfc3339(device.last_seen_us),
        minutes_inactive: Math.floor((nowUs - heardUs(device)) / 60e6),
      })
      return sendListing(context, request, reply, listing, toJson, { name: 'items', before: { minutes } })
    },
  )
}

/** S1's analytics, which are methods of a Python class there: docs/seeds.md. */
export function seedAnalyticsRoutes(app: App, context: HttpContext): void {
  deviceAnalytics(app, context)
  fleetAnalytics(app, context)
  watchLists(app, context)
}
