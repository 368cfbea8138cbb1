import fastify from 'fastify'
import type { FastifyRequest, FastifySchemaCompiler, FastifyServerOptions } from 'fastify'
import type { IncomingMessage } from 'node:http'
import { KymoError } from '../../core/errors.ts'
import type { FieldError } from '../../core/errors.ts'
import { accessHook } from './access.ts'
import type { App } from './app-types.ts'
import { readBody } from './body.ts'
import { baseHeaders, varyByOrigin } from './headers.ts'
import { IdempotentAnswers } from './ingest/idempotency.ts'
import { LiveHub } from './live/hub.ts'
import type { HttpContext, Serves } from './options.ts'
import { StatusHistory } from './reads/status-history.ts'
import { sendProblem } from './problem.ts'
import { deadLetterRoutes } from './routes/dead-letters.ts'
import { deviceRoutes } from './routes/devices.ts'
import { erasureRoutes } from './routes/erasures.ts'
import { forecastRoutes } from './routes/forecasts.ts'
import { docsRoutes } from './routes/docs.ts'
import { jobRoutes } from './routes/jobs.ts'
import { lineRoutes } from './routes/line.ts'
import { liveRoutes } from './routes/live.ts'
import { modelRoutes } from './routes/models.ts'
import { mqttRoutes } from './routes/mqtt.ts'
import { pageRoutes } from './routes/page.ts'
import { queryRoutes } from './routes/query.ts'
import { seedAnalyticsRoutes } from './routes/seed-analytics.ts'
import { seedDeviceRoutes } from './routes/seed-devices.ts'
import { seedForecastRoutes } from './routes/seed-forecasts.ts'
import { seedPredictionRoutes } from './routes/seed-predictions.ts'
import { seedSystemRoutes } from './routes/seed-system.ts'
import { seedTelemetryRoutes } from './routes/seed-telemetry.ts'
import { seriesRoutes } from './routes/series.ts'
import { snapshotRoutes } from './routes/snapshots.ts'
import { sqlRoutes } from './routes/sql.ts'
import { measureRequests, statusHistoryRoute, systemRoutes } from './routes/system.ts'
import { telemetryRoutes } from './routes/telemetry.ts'
import { tokenRoutes } from './routes/tokens.ts'
import { checkSchema, coerceQuery } from './schema-check.ts'
import type { JsonSchema } from './schema-check.ts'

/** How long what is left of a refused body may keep coming before the connection is cut. */
const restOfBodyMs = 2_000

const partNames: Readonly<Record<string, string>> = { body: 'body', querystring: 'query', params: 'path', headers: 'header' }

const validatorCompiler: FastifySchemaCompiler<unknown> = ({ schema: given, httpPart }) => {
  const schema = given as JsonSchema
  // A body without a type is bytes that its handler reads: there is nothing to check yet.
  if (httpPart === 'headers' || (httpPart === 'body' && schema.type === undefined)) return () => true
  return (sent: unknown) => {
    const value = httpPart === 'querystring' ? coerceQuery(schema, sent as Record<string, string | string[]>) : sent
    const errors: FieldError[] = []
    checkSchema(schema, value, '', errors)
    if (errors.length === 0) return { value }
    const first = errors[0]!
    const where = first.pointer === '' ? `The ${partNames[httpPart ?? 'body']}` : `${first.pointer.slice(1)} (${partNames[httpPart ?? 'body']})`
    return { error: new KymoError('request_invalid', { detail: `${where} ${first.detail}.`, errors }) }
  }
}

type CompilersFactory = NonNullable<NonNullable<FastifyServerOptions['schemaController']>['compilersFactory']>

/**
 * In place of Ajv and fast-json-stringify, which take 100 ms to load and compile at every start. Fastify's type knows only Ajv's own
 * compiler here, its code calls any FastifySchemaCompiler.
 */
const compilersFactory = {
  buildValidator: () => validatorCompiler,
  buildSerializer: () => () => (data: unknown) => JSON.stringify(data),
} as unknown as CompilersFactory

const decoder = new TextDecoder('utf-8', { fatal: true })

/** JSON for the routes that take one document; telemetry routes read their bytes themselves. */
async function parseDocument(context: HttpContext, request: FastifyRequest, payload: IncomingMessage): Promise<unknown> {
  if (request.routeOptions.config.rawBody === true) return payload
  if (request.is404) return undefined
  const type = (request.headers['content-type'] ?? '').split(';', 1)[0]!.trim().toLowerCase()
  const body = await readBody(context, payload, context.limits.documentBytesMax)
  try {
    if (body.bytes.length === 0) return undefined
    if (
      type !== '' &&
      type !== 'application/json' &&
      type !== 'text/json' &&
      type !== 'text/plain' &&
      !type.endsWith('+json') &&
      type !== 'application/x-www-form-urlencoded'
    ) {
      throw new KymoError('media_type', { detail: `"${type.slice(0, 100)}" is not taken here; application/json is.` })
    }
    return JSON.parse(decoder.decode(body.bytes)) as unknown
  } catch (error) {
    if (error instanceof KymoError) throw error
    if (error instanceof SyntaxError) throw new KymoError('body_not_json', { detail: `The body is not valid JSON: ${error.message}.` })
    throw new KymoError('body_not_utf8')
  } finally {
    body.release()
  }
}

/** Which methods a path takes: asked only for paths without a route, so that a wrong method is 405 and not 404. */
class KnownPaths {
  readonly #paths = new Map<string, { readonly pattern: RegExp; readonly methods: Set<string> }>()

  add(url: string, method: string | readonly string[]): void {
    let known = this.#paths.get(url)
    if (known === undefined) {
      const pattern = new RegExp(`^${url.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&').replaceAll(/:[A-Za-z_]+/g, '[^/]+')}/?$`)
      this.#paths.set(url, (known = { pattern, methods: new Set() }))
    }
    for (const m of typeof method === 'string' ? [method] : method) known.methods.add(m)
  }

  allow(path: string): string | undefined {
    const methods = new Set<string>()
    for (const known of this.#paths.values()) if (known.pattern.test(path)) for (const method of known.methods) methods.add(method)
    return methods.size === 0 ? undefined : [...methods.add('OPTIONS')].sort().join(', ')
  }
}

function addHooks(app: App, context: HttpContext): void {
  const access = accessHook(context)
  const base = baseHeaders(context)
  app.decorateRequest('principal', undefined)
  app.decorateRequest('startedMs', 0)
  measureRequests(app, context)
  app.addHook('onRequest', (request, reply, done) => {
    base(request, reply)
    access(request, reply, done)
  })
  varyByOrigin(app, context)
  app.addHook('onSend', (_request, reply, _payload, done) => {
    if (context.state.draining) reply.header('connection', 'close')
    done()
  })
  app.addHook('onResponse', (request, _reply, done) => {
    // A body that was refused before its end: let the client finish and read its answer, but not for ever.
    const message = request.raw
    if (!message.complete && !message.destroyed) {
      message.resume()
      const timer = context.env.clock.after(restOfBodyMs, () => {
        if (!message.complete) message.socket.destroy()
      })
      message.once('close', () => timer.cancel())
    }
    done()
  })
}

/** Whom to ask for what this process has no routes for. */
function missingRoutes(serves: Serves | undefined): string | undefined {
  if (serves === undefined || serves.api) return undefined
  return serves.ingest ? 'it takes telemetry; one with the role api answers questions' : 'ask one with the role ingest or api'
}

function addFallbacks(app: App, context: HttpContext, paths: KnownPaths): void {
  app.setErrorHandler((error, request, reply) => sendProblem(request, reply, error, context.env.logger))
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?', 1)[0]!
    const missing = missingRoutes(context.serves)
    if (missing !== undefined) throw new KymoError('other_role', { detail: `There is nothing at ${path.slice(0, 200)} of this process: ${missing}.` })
    const allow = context.auth === 'token' && request.principal === undefined ? undefined : paths.allow(path)
    if (allow === undefined) throw new KymoError('not_found', { detail: `There is nothing at ${path.slice(0, 200)}. See /docs.` })
    if (request.method === 'OPTIONS') return reply.code(204).header('allow', allow).send()
    throw new KymoError('method_not_allowed', { detail: `${path.slice(0, 200)} takes ${allow}.`, facts: { allow } })
  })
}

export interface BuiltApp {
  readonly app: App
  readonly hub: LiveHub
  readonly history: StatusHistory
  readonly answers: IdempotentAnswers
}

/** The router with all routes. `before` runs ahead of the first route (the generator of OpenAPI listens to them). */
export async function buildApp(context: HttpContext, before?: (app: App) => Promise<void>): Promise<BuiltApp> {
  const boot = context.env.random.uuid().slice(0, 8)
  let requests = 0
  const app: App = fastify({
    logger: false,
    routerOptions: { maxParamLength: 1_024, ignoreTrailingSlash: true },
    bodyLimit: context.limits.bodyBytesMax,
    schemaController: { compilersFactory },
    genReqId: (message) => {
      const given = message.headers['x-request-id']
      return typeof given === 'string' && /^[\w.:-]{1,64}$/.test(given) ? given : `${boot}-${(++requests).toString(36)}`
    },
    frameworkErrors: (error, request, reply) => sendProblem(request, reply, error, context.env.logger),
  })
  await before?.(app)
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (request: FastifyRequest, payload: IncomingMessage) => parseDocument(context, request, payload))
  const paths = new KnownPaths()
  app.addHook('onRoute', (route) => paths.add(route.url, route.method))
  addHooks(app, context)
  addFallbacks(app, context, paths)
  const hub = new LiveHub(context)
  const history = new StatusHistory(context)
  const answers = new IdempotentAnswers(context)
  const { ingest, api } = context.serves ?? { ingest: true, api: true }
  if (ingest) {
    telemetryRoutes(app, context, answers)
    lineRoutes(app, context, answers)
  }
  if (api) apiRoutes(app, context, hub, history)
  systemRoutes(app, context)
  return { app, hub, history, answers }
}

function apiRoutes(app: App, context: HttpContext, hub: LiveHub, history: StatusHistory): void {
  queryRoutes(app, context)
  sqlRoutes(app, context)
  seriesRoutes(app, context)
  liveRoutes(app, context, hub)
  forecastRoutes(app, context)
  modelRoutes(app, context)
  deviceRoutes(app, context)
  erasureRoutes(app, context)
  seedDeviceRoutes(app, context)
  seedTelemetryRoutes(app, context)
  seedSystemRoutes(app, context)
  seedAnalyticsRoutes(app, context)
  seedForecastRoutes(app, context)
  seedPredictionRoutes(app, context)
  deadLetterRoutes(app, context)
  jobRoutes(app, context)
  mqttRoutes(app, context)
  snapshotRoutes(app, context)
  tokenRoutes(app, context)
  statusHistoryRoute(app, history)
  docsRoutes(app, context)
  pageRoutes(app, context)
}
