import { KymoError } from '../../../core/errors.ts'
import type { MessageContext } from '../../../core/gate.ts'
import { formatRfc3339 } from '../../../wire/time.ts'
import type { App, CompatErrors } from '../app-types.ts'
import { isPassingOutcome, jsonAnswer, nothingTaken, tallyOf } from '../ingest/answers.ts'
import type { Answer } from '../ingest/answers.ts'
import type { IdempotentAnswers } from '../ingest/idempotency.ts'
import { itemsOf, OneItem } from '../ingest/items.ts'
import { receive } from '../ingest/receive.ts'
import type { Received } from '../ingest/receive.ts'
import { keepUnread, submitItems } from '../ingest/submit.ts'
import type { Outcome } from '../ingest/submit.ts'
import type { HttpContext } from '../options.ts'
import { answer, ingestAnswer, noQuery } from '../schemas.ts'

const anyDocument = { description: 'A reading in any of the shapes that Kymo knows, an array of such, or NDJSON.' } as const
const headers = {
  type: 'object',
  properties: {
    'idempotency-key': { type: 'string', description: 'The same key with the same body counts once and is answered the same, for 24 h.' },
  },
} as const

function mixed(status: number, body: unknown, outcome: Outcome): Answer {
  return { ...jsonAnswer(status, body), passing: isPassingOutcome(outcome) }
}

/** Our own route: any shape; one object, an array, or NDJSON. */
async function takeTelemetry(context: HttpContext, received: Received): Promise<Answer> {
  const items = itemsOf(received.bytes, received.first, received.ndjson, context.limits.batchItemsMax)
  const outcome = await submitItems(context, received.message('any'), received.bytes, items)
  if (outcome.items > 0 && outcome.accepted === 0) return nothingTaken(outcome, received.requestId)
  const status = outcome.accepted === outcome.items ? 202 : 207
  return mixed(status, tallyOf(outcome), outcome)
}

function textOf(document: unknown, ...names: readonly string[]): string | undefined {
  if (typeof document !== 'object' || document === null) return undefined
  for (const name of names) {
    const value = (document as Readonly<Record<string, unknown>>)[name]
    if (typeof value === 'string') return value
  }
  return undefined
}

/** For what an answer repeats of its request. What cannot be parsed is the gate's to refuse, with its bytes. */
function parsed(received: Received): unknown {
  try {
    return JSON.parse(received.bytes.toString('utf8', received.first)) as unknown
  } catch {
    return undefined
  }
}

async function takeOne(context: HttpContext, received: Received, message: MessageContext): Promise<Outcome> {
  return submitItems(context, message, received.bytes, new OneItem(received.first, received.bytes.length))
}

/** S0: one object or an array. */
async function takeSensorData(context: HttpContext, received: Received): Promise<Answer> {
  const items = itemsOf(received.bytes, received.first, received.ndjson, context.limits.batchItemsMax)
  const outcome = await submitItems(context, received.message('sensor-data'), received.bytes, items)
  if (outcome.items > 0 && outcome.accepted === 0) return nothingTaken(outcome, received.requestId, sensorData)
  if (received.bytes[received.first] !== 0x5b && outcome.items === 1) {
    const document = parsed(received)
    const sensor = textOf(document, 'sensor_id', 'device_id', 'device')
    const timestamp = textOf(document, 'timestamp', 'time', 'ts') ?? formatRfc3339(outcome.timeUs ?? context.env.clock.nowUs())
    return jsonAnswer(200, { status: 'success', message: 'Sensor data stored', sensor_id: sensor, timestamp })
  }
  const complete = outcome.accepted === outcome.items
  const now = formatRfc3339(context.env.clock.nowUs())
  const text = complete ? `${outcome.items} readings stored` : `${outcome.accepted} of ${outcome.items} readings stored`
  const body = { status: complete ? 'success' : 'partial', message: text, timestamp: now, ...tallyOf(outcome, sensorData) }
  return mixed(complete ? 200 : 207, complete ? body : { ...body, error: text }, outcome)
}

/** S2 and S3 share a path: the body tells which of them is meant (INTERFACES: by body, never by header). */
async function takeIngest(context: HttpContext, received: Received): Promise<Answer> {
  const document = parsed(received)
  const isObject = typeof document === 'object' && document !== null && !Array.isArray(document)
  if (isObject && Object.hasOwn(document, 'metric')) {
    const outcome = await takeOne(context, received, received.message('data-point'))
    return outcome.accepted === 0 ? nothingTaken(outcome, received.requestId, dataPoint) : jsonAnswer(200, { message: 'Data ingested successfully' })
  }
  if (isObject && (Object.hasOwn(document, 'temperature_c') || Object.hasOwn(document, 'humidity'))) {
    const outcome = await takeOne(context, received, received.message('reading'))
    if (outcome.accepted === 0) return nothingTaken(outcome, received.requestId, reading)
    return jsonAnswer(200, { status: 'queued', device_id: textOf(document, 'device_id') })
  }
  const error =
    document === undefined
      ? new KymoError('body_not_json')
      : new KymoError('shape_unknown', {
          detail:
            'Send {"device_id","metric","value"} or {"device_id","temperature_c","humidity"}; ' +
            'arrays go to /ingest/batch, free-form JSON to /api/v1/telemetry.',
        })
  await keepUnread(context, received.message('any'), error, received.bytes, received.bytes.length)
  throw error
}

/** S2: an array. The seed drops bad items silently; here each is told. */
async function takeBatch(context: HttpContext, received: Received): Promise<Answer> {
  if (received.bytes[received.first] !== 0x5b && !received.ndjson) {
    const error = new KymoError('shape_unknown', { detail: 'The body must be an array of {"device_id","metric","value"}.' })
    await keepUnread(context, received.message('any'), error, received.bytes, received.bytes.length)
    throw error
  }
  const items = itemsOf(received.bytes, received.first, received.ndjson, context.limits.batchItemsMax)
  const outcome = await submitItems(context, received.message('data-point'), received.bytes, items)
  const tally = { results: [], ...tallyOf(outcome, batch) }
  if (tally.rejected === 0) return jsonAnswer(200, { message: 'Batch data ingested successfully', ...tally })
  const text = `${tally.accepted} of ${outcome.items} items ingested`
  return mixed(207, { message: text, error: `${tally.rejected} of ${outcome.items} items were refused; results says why`, ...tally }, outcome)
}

const sensorData = { failed: 'Failed to ingest data' } as const
const reading = sensorData
const dataPoint = { failed: 'Failed to ingest data', invalidStatus: 400 } as const
const batch = { failed: 'Failed to ingest batch data', invalidStatus: 400 } as const

interface Route {
  /** Its own members of the schema; what all routes share is added. */
  readonly schema: Readonly<Record<string, unknown>>
  readonly compat?: CompatErrors
  readonly bytesMax: number
  readonly take: (context: HttpContext, received: Received) => Promise<Answer>
}

export function telemetryRoutes(app: App, context: HttpContext, answers: IdempotentAnswers): void {
  const { limits } = context
  const json = ['application/json']

  const add = (path: string, { schema, compat, bytesMax, take }: Route): void => {
    app.post(
      path,
      {
        config: { scope: 'ingest', rawBody: true, ...(compat === undefined ? {} : { compat }) },
        schema: { headers, querystring: noQuery, body: anyDocument, ...schema },
      },
      (request, reply) => receive(context, answers, request, reply, bytesMax, (received) => take(context, received)),
    )
  }

  add('/api/v1/telemetry', {
    schema: {
      operationId: 'sendTelemetry',
      tags: ['telemetry'],
      summary: 'Send readings',
      description:
        'One message, an array, or NDJSON; optionally packed (gzip, deflate, br, zstd). Answered once all of it is durable. What is refused is ' +
        'kept in the dead letters. A single message that is refused answers with its own status.',
      consumes: ['application/json', 'application/x-ndjson'],
      response: {
        202: answer('All were taken.', ingestAnswer),
        207: answer('Some were taken.', ingestAnswer),
        422: answer('None was taken.', ingestAnswer, 'application/problem+json'),
      },
    },
    bytesMax: limits.bodyBytesMax,
    take: takeTelemetry,
  })

  const stored = { status: { type: 'string' }, message: { type: 'string' }, sensor_id: { type: 'string' }, timestamp: { type: 'string' } }
  add('/sensor-data', {
    schema: {
      operationId: 'sensorData',
      tags: ['compatibility'],
      summary: 'Send {"sensor_id","temperature","humidity","location"}, or an array of such',
      consumes: json,
      response: { 200: answer('Stored.', { type: 'object', properties: stored }), 207: answer('Some were stored.', ingestAnswer) },
    },
    compat: sensorData,
    bytesMax: limits.bodyBytesMax,
    take: takeSensorData,
  })

  const queued = { message: { type: 'string' }, status: { type: 'string' }, device_id: { type: 'string' } }
  add('/ingest', {
    schema: {
      operationId: 'ingest',
      tags: ['compatibility'],
      summary: 'Send {"device_id","metric","value"} or {"device_id","temperature_c","humidity"}',
      consumes: json,
      response: { 200: answer('Stored.', { type: 'object', properties: queued }) },
    },
    compat: dataPoint,
    bytesMax: limits.documentBytesMax,
    take: takeIngest,
  })

  add('/ingest/batch', {
    schema: {
      operationId: 'ingestBatch',
      tags: ['compatibility'],
      summary: 'Send an array of {"device_id","metric","value"}',
      consumes: json,
      response: { 200: answer('All were stored.', ingestAnswer), 207: answer('Some were refused.', ingestAnswer) },
    },
    compat: batch,
    bytesMax: limits.bodyBytesMax,
    take: takeBatch,
  })
}
