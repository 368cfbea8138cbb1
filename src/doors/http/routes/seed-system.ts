import type { FastifyReply } from 'fastify'
import { asKymoError, KymoError } from '../../../core/errors.ts'
import { limits } from '../../../core/limits.ts'
import type { RangeQuery } from '../../../core/ports.ts'
import { formatRfc3339 } from '../../../wire/time.ts'
import { principalOf } from '../access.ts'
import type { App } from '../app-types.ts'
import type { HttpContext } from '../options.ts'
import { decodeCursor, encodeCursor, questionOf } from '../reads/cursor.ts'
import { takeDevices } from '../reads/device-pages.ts'
import { sendListing } from '../reads/listing.ts'
import { takeRows } from '../reads/rows.ts'
import { temperatures } from '../reads/sensor-models.ts'
import { numberIn, runStatement } from '../reads/statement.ts'
import { answer, noQuery } from '../schemas.ts'
import { sensorsAnswer, sensorsQuery, statsAnswer } from '../seed-schemas.ts'

/** All time in one bucket of whole hours, so that counting reads the hours' rollups; what lies behind it is in a second one. */
const allTimeUs = Math.floor(limits.timeUsMax / 3600e6) * 3600e6

/** How often each of some devices sent its temperature or its humidity, whichever is more. */
async function readingsOf(
  context: HttpContext,
  reply: FastifyReply,
  tenant: string,
  devices: readonly string[],
): Promise<ReadonlyMap<string, number>> {
  const most = new Map<string, number>()
  if (devices.length === 0) return most
  const metrics = [...temperatures, 'humidity']
  const query: RangeQuery = {
    match: { tenant, devices, metrics },
    fromUs: 0,
    toUs: limits.timeUsMax,
    stepUs: allTimeUs,
    aggregations: ['count'],
    order: 'asc',
    limit: 2 * devices.length * metrics.length,
  }
  const bySeries = new Map<string, number>()
  let page: {
    readonly keys: readonly { readonly device: string; readonly metric: string }[]
    readonly series: Uint32Array
    readonly count: Float64Array
  }
  await takeRows(context, reply, query, {
    async begin(next) {
      page = { keys: next.keys, series: next.series, count: next.columns['count'] ?? new Float64Array(next.rows) }
    },
    row(row) {
      const { device, metric } = page.keys[page.series[row]!]!
      const name = `${device}\u0000${metric}`
      const count = (bySeries.get(name) ?? 0) + page.count[row]!
      bySeries.set(name, count)
      most.set(device, Math.max(most.get(device) ?? 0, count))
    },
    full: () => false,
  })
  return most
}

interface Counts {
  readonly telemetry: number | null
  readonly aggregated: number | null
  readonly atUs: number
}

const temperatureList = temperatures.map((name) => `'${name}'`).join(', ')
const countsSql = `SELECT (SELECT sum(n) FROM readings_1h WHERE metric IN (${temperatureList})) AS telemetry,
  (SELECT count(*) FROM readings_1m WHERE metric IN (${temperatureList}, 'humidity')) AS aggregated`

/** Counting goes through the rollups of all time: it is done at most every few seconds, once for all who ask meanwhile. */
class StoredCounts {
  readonly #context: HttpContext
  readonly #byTenant = new Map<string, { readonly counts: Promise<Counts>; untilMs: number }>()

  constructor(context: HttpContext) {
    this.#context = context
  }

  of(tenant: string): Promise<Counts> {
    const { clock } = this.#context.env
    const known = this.#byTenant.get(tenant)
    if (known !== undefined && clock.monotonicMs() < known.untilMs) return known.counts
    const startedMs = clock.monotonicMs()
    const counting = { counts: this.#count(tenant), untilMs: Number.POSITIVE_INFINITY }
    this.#byTenant.set(tenant, counting)
    counting.counts.then(
      () => {
        const nowMs = clock.monotonicMs()
        counting.untilMs = nowMs + Math.max(limits.seedCountsMs, limits.seedCountsPerCount * (nowMs - startedMs))
      },
      () => this.#byTenant.delete(tenant),
    )
    return counting.counts
  }

  async #count(tenant: string): Promise<Counts> {
    const { env, limits: own } = this.#context
    const atUs = env.clock.nowUs()
    const abort = new AbortController()
    const timer = env.clock.after(own.queryDeadlineMs, () => abort.abort(new KymoError('query_deadline')))
    try {
      const [row] = await runStatement(this.#context, { tenant, sql: countsSql, parameters: [], limit: 1 }, abort.signal)
      return { telemetry: numberIn(row, 'telemetry') ?? 0, aggregated: numberIn(row, 'aggregated') ?? 0, atUs }
    } catch (thrown) {
      const { code } = asKymoError(thrown)
      // Kept like any other answer: trying again at once would cost the same.
      if (code === 'query_deadline' || code === 'query_too_large') return { telemetry: null, aggregated: null, atUs }
      throw thrown
    } finally {
      timer.cancel()
    }
  }
}

/** What the seeds ask of the system as a whole: S0's and S4's sensors, S3's statistics. */
export function seedSystemRoutes(app: App, context: HttpContext): void {
  const { devices, env } = context
  const counts = new StoredCounts(context)

  app.get(
    '/sensors',
    {
      config: { scope: 'read', compat: { failed: 'Failed to list sensors' } },
      schema: {
        operationId: 'sensors',
        tags: ['compatibility'],
        summary: 'All sensors with where they are, when they were heard and how often',
        querystring: sensorsQuery,
        response: { 200: answer('A page, ordered by id.', sensorsAnswer) },
      },
    },
    async (request, reply) => {
      const { tenant } = principalOf(request)
      const { limit = limits.seedSensorsMax, cursor } = request.query
      const question = questionOf('sensors')
      const after = cursor === undefined ? undefined : String(decodeCursor(question, cursor)[0])
      const { items, last } = await takeDevices(context, tenant, after, limit, () => true)
      const ids = items.map(({ id }) => id)
      const readings = await readingsOf(context, reply, tenant, ids)
      const listing = { items, cursor: last === undefined ? undefined : encodeCursor(question, [last]) }
      const toJson = ({ id, attributes, last_seen_us }: (typeof items)[number]): unknown => ({
        sensor_id: id,
        location: attributes['location'] ?? null,
        last_seen: last_seen_us === undefined ? null : formatRfc3339(last_seen_us),
        readings: readings.get(id) ?? 0,
      })
      return sendListing(context, request, reply, listing, toJson, { name: 'sensors', count: true })
    },
  )

  app.get(
    '/stats',
    {
      config: { scope: 'read', compat: { failed: 'Failed to read statistics' } },
      schema: {
        operationId: 'stats',
        tags: ['compatibility'],
        summary: 'How many devices and documents there are',
        description: 'Documents are counted at most every ten seconds; counted_at says when.',
        querystring: noQuery,
        response: { 200: answer('The counts.', statsAnswer) },
      },
    },
    async (request) => {
      const { tenant } = principalOf(request)
      const { telemetry, aggregated, atUs } = await counts.of(tenant)
      const { started_us } = await context.status()
      return {
        devices: devices.count(tenant),
        telemetry_count: telemetry,
        aggregated_count: aggregated,
        alerts_count: null,
        uptime_s: Math.max(0, (env.clock.nowUs() - started_us) / 1e6),
        counted_at: formatRfc3339(atUs),
      }
    },
  )
}
