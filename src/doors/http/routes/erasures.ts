import { KymoError } from '../../../core/errors.ts'
import { limits } from '../../../core/limits.ts'
import type { Erasure } from '../../../core/services.ts'
import { formatRfc3339 } from '../../../wire/time.ts'
import { principalOf } from '../access.ts'
import type { App } from '../app-types.ts'
import type { HttpContext } from '../options.ts'
import { decodeCursor, encodeCursor, questionOf } from '../reads/cursor.ts'
import { answer, cursor, idParams, listOf, noQuery } from '../schemas.ts'

const erasureParams = {
  type: 'object',
  required: ['id'],
  properties: { id: { type: 'string', pattern: '^[0-9a-f-]{36}$', description: 'The id of an erasure.' } },
} as const

const erasuresQuery = {
  type: 'object',
  additionalProperties: false,
  properties: { limit: { type: 'integer', minimum: 1, maximum: limits.erasuresListedMax }, cursor },
} as const

const time = { type: 'string', format: 'date-time' } as const
const erasureAnswer = {
  type: 'object',
  required: ['id', 'device', 'state', 'created_at', 'remains'],
  properties: {
    id: { type: 'string' },
    device: { type: 'string' },
    state: {
      enum: ['accepted', 'hidden', 'done'],
      description: 'hidden: nobody reads the data any more, and files that have it are written again; done: no file of the store has it.',
    },
    created_at: time,
    log_offset: { type: ['string', 'null'], description: 'What the device said before this place of the log is erased, what it says later is kept.' },
    hidden_at: { ...time, type: ['string', 'null'] },
    finished_at: { ...time, type: ['string', 'null'] },
    remains: {
      type: 'object',
      description: 'Where the data may still be, as of now.',
      required: ['log', 'dead_letters_until', 'snapshots'],
      properties: {
        log: {
          type: ['object', 'null'],
          description:
            'The log has records from before: it forgets its oldest segments when it has more than kept_bytes, and these at the latest then.',
          required: ['bytes', 'kept_bytes', 'until'],
          properties: {
            bytes: { type: 'integer' },
            kept_bytes: { type: ['integer', 'null'], description: 'null: bytes do not bound it (Kafka).' },
            until: { ...time, type: ['string', 'null'], description: 'null: by bytes alone (log.retention_age is empty).' },
          },
        },
        dead_letters_until: { ...time, type: ['string', 'null'], description: 'Messages that could not be used may be of this device, until then.' },
        snapshots: {
          type: 'array',
          description: 'Taken before it was done: backups that were copied from them have the data.',
          items: { type: 'object', required: ['id', 'created_at'], properties: { id: { type: 'string' }, created_at: time } },
        },
      },
    },
  },
} as const

function erasureJson(erasure: Erasure): Record<string, unknown> {
  const at = (us: number | undefined): string | null => (us === undefined ? null : formatRfc3339(us))
  const { log, dead_letters_until_us, snapshots } = erasure.remains
  return {
    id: erasure.id,
    device: erasure.device,
    state: erasure.state,
    created_at: at(erasure.created_us),
    log_offset: erasure.log_offset ?? null,
    hidden_at: at(erasure.hidden_us),
    finished_at: at(erasure.finished_us),
    remains: {
      log:
        log === undefined ? null : { bytes: log.bytes, kept_bytes: Number.isFinite(log.kept_bytes) ? log.kept_bytes : null, until: at(log.until_us) },
      dead_letters_until: at(dead_letters_until_us),
      snapshots: snapshots.map(({ id, created_us }) => ({ id, created_at: at(created_us) })),
    },
  }
}

export function erasureRoutes(app: App, context: HttpContext): void {
  const { erasures } = context

  app.delete(
    '/api/v1/devices/:id/data',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'eraseDevice',
        tags: ['devices'],
        summary: 'Erase a device: its readings, rollups, latest values, registration and attributes',
        description:
          'Accepted when it stands in the log: it is then carried out, however often the server restarts. What the device has sent before is erased, also from ' +
          'sealed files; what it sends later is stored as of a new device. Poll the answer for its state, and for what still has the data.',
        params: idParams,
        querystring: noQuery,
        response: { 202: answer('The erasure; Location leads to it.', erasureAnswer) },
      },
    },
    async (request, reply) => {
      const erasure = await erasures.request(principalOf(request).tenant, request.params.id)
      return reply.code(202).header('location', `/api/v1/erasures/${erasure.id}`).send(erasureJson(erasure))
    },
  )

  app.get(
    '/api/v1/erasures',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'listErasures',
        tags: ['devices'],
        summary: 'Erasures, newest first',
        querystring: erasuresQuery,
        response: { 200: answer('A page.', listOf(erasureAnswer)) },
      },
    },
    async (request) => {
      const { limit, cursor: from } = request.query
      const question = questionOf('erasures')
      const page = await erasures.list(principalOf(request).tenant, {
        limit: limit ?? limits.erasuresListedMax,
        ...(from === undefined ? {} : { after: String(decodeCursor(question, from)[0]) }),
      })
      return { items: page.items.map(erasureJson), next_cursor: page.next === undefined ? null : encodeCursor(question, [page.next]) }
    },
  )

  app.get(
    '/api/v1/erasures/:id',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'getErasure',
        tags: ['devices'],
        summary: 'An erasure: how far it is, and where the data may still be',
        params: erasureParams,
        querystring: noQuery,
        response: { 200: answer('The erasure.', erasureAnswer) },
      },
    },
    async (request) => {
      const erasure = await erasures.get(principalOf(request).tenant, request.params.id)
      if (erasure === undefined) throw new KymoError('not_found', { detail: `There is no erasure ${request.params.id}.` })
      return erasureJson(erasure)
    },
  )
}
