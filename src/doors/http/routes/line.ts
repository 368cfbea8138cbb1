import type { FastifyReply, FastifyRequest } from 'fastify'
import { KymoError } from '../../../core/errors.ts'
import type { LineShape } from '../../../core/gate.ts'
import { LineSplitter } from '../../../wire/line/lines.ts'
import type { App } from '../app-types.ts'
import { readBody } from '../body.ts'
import type { IdempotentAnswers } from '../ingest/idempotency.ts'
import { influxErrorHandler, statementRefused, writeAnswer, type InfluxApi } from '../ingest/influx.ts'
import { receive } from '../ingest/receive.ts'
import { submitItems } from '../ingest/submit.ts'
import type { HttpContext } from '../options.ts'
import { answer } from '../schemas.ts'

const ignored = (what: string) => ({ type: 'string', maxLength: 256, description: `${what} Taken and without effect.` }) as const
const credentials = {
  u: ignored('v1: the user.'),
  p: { type: 'string', maxLength: 256, description: 'v1: the password, which is a token (where tokens are needed).' },
} as const
const database = ignored('v1: the database. There is one store; the token decides on the tenant.')

/** Names of units in both APIs (v1 says `n`, `u`, `µ` as well). */
const units = {
  ns: 'line-ns',
  n: 'line-ns',
  us: 'line-us',
  u: 'line-us',
  µ: 'line-us',
  ms: 'line-ms',
  s: 'line-s',
  m: 'line-m',
  h: 'line-h',
} as const satisfies Record<string, LineShape>
type Unit = keyof typeof units

const v1Query = {
  type: 'object',
  additionalProperties: false,
  properties: {
    db: database,
    rp: ignored('The retention policy; see retention.*.'),
    precision: { type: 'string', enum: Object.keys(units) as Unit[], description: 'Unit of the times in the body; ns when absent.' },
    consistency: {
      type: 'string',
      enum: ['any', 'one', 'quorum', 'all'],
      description: 'Taken and without effect: each line is durable before it is answered.',
    },
    ...credentials,
  },
} as const

const v2Query = {
  type: 'object',
  additionalProperties: false,
  properties: {
    org: ignored('The organization.'),
    orgID: ignored('The organization.'),
    bucket: ignored('The bucket. There is one store; the token decides on the tenant.'),
    precision: { type: 'string', enum: ['ns', 'us', 'ms', 's'], description: 'Unit of the times in the body; ns when absent.' },
  },
} as const

const lineBody = { description: 'InfluxDB line protocol: measurement[,tag=value…] field=value[,field=value…] [time], a line each.' } as const
const refusedBody = { type: 'object', properties: { code: { type: 'string' }, message: { type: 'string' }, error: { type: 'string' } } } as const
const statement = { type: 'string', maxLength: 1_024, description: 'CREATE DATABASE <name>; in a POST it may stand in the form instead.' } as const
const queryParameters = {
  type: 'object',
  additionalProperties: false,
  properties: {
    q: statement,
    db: database,
    rp: ignored('The retention policy.'),
    epoch: ignored('Of answers.'),
    pretty: ignored('Of answers.'),
    chunked: ignored('Of answers.'),
    precision: ignored('Of answers.'),
    ...credentials,
  },
} as const

/** A quoted name may hold anything; a bare one is a word. What follows WITH is about retention, which is a setting here. */
const createDatabase = /^\s*create\s+database\s+(?:"(?:[^"\\]|\\.)+"|[A-Za-z_]\w*)(?:\s+with\s[^;]*)?\s*;?\s*$/i

async function statementOf(context: HttpContext, request: FastifyRequest, inQuery: string | undefined): Promise<string | undefined> {
  if (inQuery !== undefined || request.method !== 'POST') return inQuery
  const body = await readBody(context, request.raw, context.limits.documentBytesMax)
  try {
    return new URLSearchParams(body.bytes.toString('utf8')).get('q') ?? undefined
  } finally {
    body.release()
  }
}

/** What InfluxDB's clients, Telegraf first of all, ask of a server (docs/reference/line-protocol.md). */
export function lineRoutes(app: App, context: HttpContext, answers: IdempotentAnswers): void {
  const { limits, version } = context

  const write = (request: FastifyRequest, reply: FastifyReply, api: InfluxApi, unit: Unit): Promise<FastifyReply> => {
    const shape = units[unit]
    return receive(
      context,
      answers,
      request,
      reply,
      limits.bodyBytesMax,
      async (received) => {
        const { bytes, first } = received
        const lines = new LineSplitter(bytes, first, bytes.length, limits.batchItemsMax)
        const outcome = await submitItems(context, { ...received.message(shape), line: 0 }, bytes, lines)
        if (outcome.items === 0) throw new KymoError('empty_body', { detail: 'The body has no lines, only comments.' })
        return writeAnswer(api, outcome, reply)
      },
      shape,
    )
  }

  const responses = {
    204: { description: 'All lines are durable.' },
    400: answer('Some lines were refused ("partial write: …"); the others are stored.', refusedBody),
  }
  const writing = {
    tags: ['compatibility'],
    consumes: ['text/plain'],
    body: lineBody,
    response: responses,
    description:
      'Optionally packed (gzip). Device = tag device_id, device, sensor_id or host; metric = measurement.field, followed by the other tags. ' +
      'Credentials: Authorization Token or Bearer.',
  }

  app.post(
    '/api/v2/write',
    {
      config: { scope: 'ingest', rawBody: true },
      errorHandler: influxErrorHandler('v2', context.env.logger),
      schema: { operationId: 'influxWriteV2', summary: 'Write line protocol, as InfluxDB 2 takes it', querystring: v2Query, ...writing },
    },
    (request, reply) => write(request, reply, 'v2', request.query.precision ?? 'ns'),
  )

  app.post(
    '/write',
    {
      config: { scope: 'ingest', rawBody: true, influx: true },
      errorHandler: influxErrorHandler('v1', context.env.logger),
      schema: { operationId: 'influxWriteV1', summary: 'Write line protocol, as InfluxDB 1 takes it', querystring: v1Query, ...writing },
    },
    (request, reply) => write(request, reply, 'v1', request.query.precision ?? 'ns'),
  )

  const asked = async (request: FastifyRequest<{ Querystring: { q?: string } }>, reply: FastifyReply): Promise<FastifyReply> => {
    const text = await statementOf(context, request, request.query.q)
    if (text === undefined)
      throw new KymoError('request_invalid', { detail: 'missing required parameter "q"', errors: [{ pointer: '/q', detail: 'is required' }] })
    if (text.length > statement.maxLength || !createDatabase.test(text)) throw statementRefused(text)
    return reply.type('application/json; charset=utf-8').send('{"results":[{"statement_id":0}]}\n')
  }
  const asking = {
    tags: ['compatibility'],
    description: 'Only CREATE DATABASE, which Telegraf sends at its start. Nothing is created: there is one store.',
    querystring: queryParameters,
    response: { 200: answer('As if it were created.', { type: 'object', properties: { results: { type: 'array', items: { type: 'object' } } } }) },
  }
  const askingConfig = { scope: 'ingest', rawBody: true, influx: true } as const
  const errorHandler = influxErrorHandler('v1', context.env.logger)
  app.get(
    '/query',
    {
      config: askingConfig,
      errorHandler,
      schema: { operationId: 'influxQuery', summary: 'Answer CREATE DATABASE, as InfluxDB 1 does', ...asking },
    },
    asked,
  )
  app.post(
    '/query',
    {
      config: askingConfig,
      errorHandler,
      schema: {
        operationId: 'influxQueryForm',
        summary: 'Answer CREATE DATABASE, as InfluxDB 1 does',
        consumes: ['application/x-www-form-urlencoded'],
        body: { description: 'A form with `q`.' },
        ...asking,
      },
    },
    asked,
  )

  app.get(
    '/ping',
    {
      config: { scope: 'none' },
      schema: {
        operationId: 'influxPing',
        tags: ['compatibility'],
        summary: 'Is a server of InfluxDB’s write API here?',
        querystring: {
          type: 'object',
          additionalProperties: false,
          properties: {
            verbose: { type: 'string', description: 'true: 200 with the version as JSON.' },
            wait_for_leader: ignored('A time.'),
            ...credentials,
          },
        } as const,
        response: { 204: { description: 'Yes; the version is in X-Influxdb-Version.' }, 200: answer('With verbose.', { type: 'object' }) },
      },
    },
    (request, reply) => {
      // The part before the dash is the API that is spoken; clients compare it.
      const spoken = `1.8-kymo-${version}`
      reply.header('x-influxdb-version', spoken).header('x-influxdb-build', 'Kymo')
      const verbose = request.query.verbose
      if (verbose !== undefined && verbose !== 'false' && verbose !== '0') return reply.send({ version: spoken })
      return reply.code(204).send()
    },
  )
}
