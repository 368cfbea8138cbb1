import type { Batch } from '../../../core/batch.ts'
import { KymoError } from '../../../core/errors.ts'
import { limits } from '../../../core/limits.ts'
import type { SeriesInfo, SeriesMatch } from '../../../core/ports.ts'
import { formatRfc3339 } from '../../../wire/time.ts'
import { principalOf } from '../access.ts'
import type { App } from '../app-types.ts'
import type { HttpContext } from '../options.ts'
import { decodeCursor, encodeCursor, questionOf } from '../reads/cursor.ts'
import { withDeadline } from '../reads/deadline.ts'
import { readingItem } from '../reads/readings.ts'
import type { ReadingItem } from '../reads/readings.ts'
import { Units } from '../reads/units.ts'
import { answer, idParams, listOf, matchQuery, noQuery, readingAnswer } from '../schemas.ts'
import { sendItems, Slices } from '../slices.ts'

interface Name {
  readonly device: string
  readonly metric: string
}

function byName(a: Name, b: Name): number {
  if (a.device !== b.device) return a.device < b.device ? -1 : 1
  return a.metric === b.metric ? 0 : a.metric < b.metric ? -1 : 1
}

function matchOf(tenant: string, devices: readonly string[] | undefined, metrics: readonly string[] | undefined): SeriesMatch {
  return { tenant, ...(devices === undefined ? {} : { devices }), ...(metrics === undefined ? {} : { metrics }) }
}

/** The latest readings of some devices as rows in the order of (device, metric). */
async function latestOf(context: HttpContext, match: SeriesMatch): Promise<ReadingItem[]> {
  const batch: Batch = context.latest.latest(match)
  const rows = Array.from({ length: batch.rows }, (_, row) => row)
  const units = new Units(context, match.tenant)
  await units.load(rows.map((row) => batch.keys[batch.series[row]!]!))
  return rows.map((row) => readingItem(batch, row, units.of(batch.keys[batch.series[row]!]!))).sort(byName)
}

interface LatestPage {
  readonly items: ReadingItem[]
  /** Where it ended; undefined: at the end. */
  readonly last?: Name
}

/** Devices asked for at once: fewer where they have many metrics, so that a step is some hundred rows. */
const devicesPerStepMax = 256
const rowsPerStep = 1_024

/** Goes through the devices in the order of their ids, some at a time and in slices, so that no fleet is ever sorted as a whole. */
async function latestPage(context: HttpContext, match: SeriesMatch, after: Name | undefined, limit: number): Promise<LatestPage> {
  const { tenant, devices } = match
  const items: ReadingItem[] = []
  const slices = new Slices(context)
  let step = 16
  const take = async (ids: readonly string[]): Promise<boolean> => {
    if (slices.over) await slices.pause()
    const found = await latestOf(context, { ...match, devices: ids })
    step = found.length > rowsPerStep ? Math.max(1, step >> 1) : Math.min(devicesPerStepMax, step * 2)
    for (const item of found) {
      if (after !== undefined && byName(item, after) <= 0) continue
      if (items.length === limit) return false
      items.push(item)
    }
    return true
  }
  const cut = (): LatestPage => ({ items, last: items[items.length - 1]! })
  if (devices !== undefined) {
    const ids = [...new Set(devices)].sort().filter((id) => after === undefined || id >= after.device)
    let i = 0
    while (i < ids.length) if (!(await take(ids.slice(i, (i += step))))) return cut()
    return { items }
  }
  if (after !== undefined && !(await take([after.device]))) return cut()
  let from = after?.device
  for (;;) {
    const page = await context.devices.list(tenant, { limit: step, ...(from === undefined ? {} : { after: from }) })
    if (page.items.length > 0 && !(await take(page.items.map((device) => device.id)))) return cut()
    if (page.next === undefined) return { items }
    from = page.next
  }
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

function nameOf(fields: readonly (string | number | null)[]): Name {
  return { device: String(fields[0]), metric: String(fields[1]) }
}
