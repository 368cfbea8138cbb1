import swagger from '@fastify/swagger'
import { silentLogger, nodeClock, nodeDisk, nodeRandom } from '../../core/env/node-env.ts'
import { emptyBatch } from '../../core/batch.ts'
import { KymoError } from '../../core/errors.ts'
import { Metrics } from '../../core/metrics.ts'
import { buildApp } from './app.ts'
import { httpLimits } from './options.ts'
import type { HttpContext } from './options.ts'
import type { OpenApiDocument, Operation } from './pages/docs.ts'

const description =
  'Send readings, read them back, watch them live. Times go in as RFC 3339, epoch numbers (unit by size), now or -24h, and come out in UTC. ' +
  'Lists answer {"items","next_cursor"}; nothing is cut without saying so. Errors are problem documents (RFC 9457) with a code. ' +
  'Bound to loopback no credentials are needed; elsewhere send Authorization: Bearer tk_….'

const problem = {
  type: 'object',
  required: ['type', 'title', 'status', 'detail', 'code', 'id', 'request_id'],
  properties: {
    type: { type: 'string' },
    title: { type: 'string' },
    status: { type: 'integer' },
    detail: { type: 'string' },
    code: { type: 'string', description: 'See the table of errors in /docs.' },
    id: { type: 'string', description: 'KYMO-Ennn' },
    request_id: { type: 'string' },
    errors: { type: 'array', items: { type: 'object', properties: { pointer: { type: 'string' }, detail: { type: 'string' } } } },
    facts: { type: 'object' },
    error: { type: 'string', description: 'On the routes of the seeds: what they call the error.' },
  },
} as const

const tags = [
  { name: 'telemetry', description: 'Sending readings' },
  { name: 'readings', description: 'Reading them back' },
  { name: 'forecasts', description: 'What series are going to be' },
  { name: 'models', description: 'What forecasts are made with' },
  { name: 'devices', description: 'The registry' },
  { name: 'dead letters', description: 'What could not be used' },
  { name: 'jobs', description: 'History in and out' },
  { name: 'backup', description: 'What kymo backup copies from' },
  { name: 'mqtt', description: 'Clients of the broker' },
  { name: 'tokens', description: 'Access' },
  { name: 'system', description: 'Health and figures' },
  { name: 'compatibility', description: 'Paths and shapes of existing clients' },
]

/** Routes are only described here, never called. */
function describedOnly(version: string): HttpContext {
  const never = (): never => {
    throw new KymoError('bug', { detail: 'a route of the description was called' })
  }
  return {
    gate: {
      submit: never,
      refusal: undefined,
      takenUs: 0,
      deadLetter: never,
      durable: 0,
      overloaded: false,
      stalled: undefined,
      onDurable: never,
      whenDurable: never,
    },
    store: { query: never, latest: never, sql: never, series: never },
    devices: { create: never, get: never, list: never, count: never, update: never, seen: never },
    tokens: { create: never, list: never, revoke: never, verify: never, any: false },
    latest: { latest: () => emptyBatch, metrics: never },
    live: { subscribe: never },
    deadLetters: { list: never, get: never, replay: never, dismiss: never },
    snapshots: { create: never, get: never, file: never, remove: never },
    erasures: { request: never, list: never, get: never },
    mqtt: { clients: never, client: never, sessions: never, subscriptions: never, disconnect: never },
    jobs: { createImport: never, createExport: never, list: never, get: never, cancel: never, file: never },
    forecasts: {
      forecast: never,
      crossing: never,
      predictions: never,
      latest: never,
      models: never,
      versions: never,
      promote: never,
      accuracy: never,
      file: never,
      train: never,
      backtest: never,
      latestTraining: never,
    },
    status: never,
    metrics: new Metrics(),
    env: { clock: nodeClock, random: nodeRandom, disk: nodeDisk, logger: silentLogger },
    auth: 'loopback',
    host: '127.0.0.1',
    version,
    describe: never,
    limits: httpLimits,
    state: { ready: false, draining: false, bodyBytes: 0 },
  }
}

/** The OpenAPI 3.1 document of all routes, from their schemas, without listening. */
export async function openApiDocument(version = '0.1.0'): Promise<OpenApiDocument> {
  const { app } = await buildApp(describedOnly(version), async (building) => {
    await building.register(swagger, {
      openapi: {
        openapi: '3.1.0',
        info: { title: 'Kymo', version, description, license: { name: 'MIT', identifier: 'MIT' } as { name: string } },
        tags,
        security: [{ token: [] }, {}],
        components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
      },
    })
  })
  await app.ready()
  const document = app.swagger() as unknown as OpenApiDocument
  await app.close()
  return complete(document)
}

/** Every operation may answer with a problem: said once, in one place. */
function complete(document: OpenApiDocument): OpenApiDocument {
  const paths = Object.fromEntries(
    Object.entries(document.paths).map(([path, methods]) => [
      path,
      Object.fromEntries(
        Object.entries(methods).map(([method, operation]): [string, Operation] => [
          method,
          { ...operation, responses: { ...operation.responses, default: { $ref: '#/components/responses/problem' } } as Operation['responses'] },
        ]),
      ),
    ]),
  )
  return {
    ...document,
    paths,
    components: {
      ...document.components,
      schemas: { ...document.components.schemas, problem },
      responses: {
        problem: { description: 'An error.', content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/problem' } } } },
      },
    },
  }
}
