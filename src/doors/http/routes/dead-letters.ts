import { KymoError } from '../../../core/errors.ts'
import { limits } from '../../../core/limits.ts'
import type { DeadLetter } from '../../../core/services.ts'
import { formatRfc3339 } from '../../../wire/time.ts'
import { principalOf } from '../access.ts'
import type { App } from '../app-types.ts'
import type { HttpContext } from '../options.ts'
import { decodeCursor, encodeCursor, questionOf } from '../reads/cursor.ts'
import { answer, letterParams, listOf, noQuery } from '../schemas.ts'

const label = { type: 'string', minLength: 1, maxLength: 256 } as const

const lettersQuery = {
  type: 'object',
  additionalProperties: false,
  properties: {
    code: { ...label, description: 'Only those refused with this code, as value_invalid.' },
    client: { ...label, description: 'Only those of this MQTT client id or HTTP peer.' },
    status: { type: 'string', enum: ['waiting', 'replayed', 'dismissed'] },
    limit: { type: 'integer', minimum: 1, maximum: limits.deadLetterPageMax },
    cursor: { type: 'string', minLength: 1, maxLength: 4096 },
  },
} as const

const chosenBody = {
  type: 'object',
  additionalProperties: false,
  properties: {
    ids: {
      type: 'array',
      minItems: 1,
      maxItems: limits.deadLetterResultsMax,
      items: { type: 'string', pattern: '^\\d{1,20}$', description: 'must be the id of a dead letter' },
    },
    all: { type: 'boolean', description: 'All that wait.' },
  },
} as const

const letterAnswer = {
  type: 'object',
  required: ['id', 'time', 'code', 'detail', 'errors', 'transport', 'client', 'topic', 'tenant', 'shape', 'bytes_total', 'truncated', 'status'],
  properties: {
    id: { type: 'string' },
    time: { type: 'string', format: 'date-time' },
    code: { type: 'string' },
    detail: { type: 'string' },
    errors: { type: 'array', items: { type: 'object', properties: { pointer: { type: 'string' }, detail: { type: 'string' } } } },
    transport: { type: 'string' },
    client: { type: 'string' },
    topic: { type: 'string' },
    tenant: { type: 'string' },
    shape: { type: 'string' },
    topic_device: { type: 'string' },
    content_type: { type: 'string' },
    retained: { type: 'boolean', description: 'An outside broker delivered it with RETAIN=1.' },
    bytes_total: { type: 'integer' },
    truncated: { type: 'boolean' },
    status: { enum: ['waiting', 'replayed', 'dismissed'] },
  },
} as const

const wholeLetter = {
  ...letterAnswer,
  required: [...letterAnswer.required, 'body', 'body_encoding'],
  properties: {
    ...letterAnswer.properties,
    body: { type: 'string', description: 'The original bytes.' },
    body_encoding: { enum: ['utf8', 'base64'] },
  },
} as const

const resultList = {
  type: 'array',
  items: {
    type: 'object',
    required: ['id', 'ok'],
    properties: { id: { type: 'string' }, ok: { type: 'boolean' }, code: { type: 'string' }, detail: { type: 'string' } },
  },
} as const

const replayAnswer = {
  type: 'object',
  required: ['replayed', 'failed', 'results'],
  properties: { replayed: { type: 'integer' }, failed: { type: 'integer' }, results: resultList },
} as const

const dismissAnswer = {
  type: 'object',
  required: ['dismissed', 'failed', 'results'],
  properties: { dismissed: { type: 'integer' }, failed: { type: 'integer' }, results: resultList },
} as const

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function bodyJson(bytes: Uint8Array): { body: string; body_encoding: 'utf8' | 'base64' } {
  try {
    return { body: decoder.decode(bytes), body_encoding: 'utf8' }
  } catch {
    return { body: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64'), body_encoding: 'base64' }
  }
}

function letterJson({ time_us, body: _, ...letter }: DeadLetter): Record<string, unknown> {
  return { ...letter, time: formatRfc3339(time_us) }
}

export function deadLetterRoutes(app: App, context: HttpContext): void {
  const { deadLetters } = context

  app.get(
    '/api/v1/dead-letters',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'listDeadLetters',
        tags: ['dead letters'],
        summary: 'What could not be used, newest first',
        querystring: lettersQuery,
        response: { 200: answer('A page, without bodies.', listOf(letterAnswer)) },
      },
    },
    async (request) => {
      const { tenant } = principalOf(request)
      const { code, client, status, limit, cursor } = request.query
      const question = questionOf('dead-letters', code, client, status)
      const after = cursor === undefined ? undefined : String(decodeCursor(question, cursor)[0])
      const page = await deadLetters.list(tenant, {
        limit: limit ?? limits.deadLetterPageMax,
        ...(after === undefined ? {} : { after }),
        ...(code === undefined ? {} : { code }),
        ...(client === undefined ? {} : { client }),
        ...(status === undefined ? {} : { status }),
      })
      return { items: page.items.map(letterJson), next_cursor: page.next === undefined ? null : encodeCursor(question, [page.next]) }
    },
  )

  app.get(
    '/api/v1/dead-letters/:id',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'getDeadLetter',
        tags: ['dead letters'],
        summary: 'One dead letter with its original bytes',
        params: letterParams,
        querystring: noQuery,
        response: { 200: answer('The body as text when it is UTF-8, else as base64.', wholeLetter) },
      },
    },
    async (request) => {
      const letter = await deadLetters.get(principalOf(request).tenant, request.params.id)
      if (letter === undefined) throw noLetter(request.params.id)
      return { ...letterJson(letter), ...bodyJson(letter.body) }
    },
  )

  app.post(
    '/api/v1/dead-letters/:id/replay',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'replayDeadLetter',
        tags: ['dead letters'],
        summary: 'Offer a dead letter again, after a fix',
        params: letterParams,
        querystring: noQuery,
        response: { 200: answer('What became of it; one that fails again is a new dead letter.', replayAnswer) },
      },
    },
    async (request) => {
      const { tenant } = principalOf(request)
      const { id } = request.params
      if ((await deadLetters.get(tenant, id)) === undefined) throw noLetter(id)
      return deadLetters.replay(tenant, [id])
    },
  )

  app.post(
    '/api/v1/dead-letters/replay',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'replayDeadLetters',
        tags: ['dead letters'],
        summary: 'Offer many dead letters again',
        querystring: noQuery,
        body: chosenBody,
        response: { 200: answer('What became of them.', replayAnswer) },
      },
    },
    async (request) => {
      return deadLetters.replay(principalOf(request).tenant, chosen(request.body))
    },
  )

  app.delete(
    '/api/v1/dead-letters/:id',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'dismissDeadLetter',
        tags: ['dead letters'],
        summary: 'Settle a dead letter that nobody needs',
        description:
          'It no longer waits, and can no longer be replayed; it can be read until it is old. Dismissed again it is as before. One that was replayed ' +
          'is refused (409).',
        params: letterParams,
        querystring: noQuery,
        response: { 204: { description: 'It is dismissed, durably.' } },
      },
    },
    async (request, reply) => {
      const { tenant } = principalOf(request)
      const { id } = request.params
      const letter = await deadLetters.get(tenant, id)
      if (letter === undefined) throw noLetter(id)
      if (letter.status === 'replayed') throw new KymoError('dead_letter_settled')
      const failed = (await deadLetters.dismiss(tenant, [id])).results.find(({ ok }) => !ok)
      if (failed !== undefined) throw new KymoError(failed.code ?? 'log_unavailable', failed.detail === undefined ? {} : { detail: failed.detail })
      return reply.code(204).send()
    },
  )

  app.post(
    '/api/v1/dead-letters/dismiss',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'dismissDeadLetters',
        tags: ['dead letters'],
        summary: 'Settle many dead letters that nobody needs',
        querystring: noQuery,
        body: chosenBody,
        response: { 200: answer('What became of them.', dismissAnswer) },
      },
    },
    async (request) => deadLetters.dismiss(principalOf(request).tenant, chosen(request.body)),
  )
}

/** Throws `request_invalid` unless the body says either which or all. */
function chosen({ ids, all }: { readonly ids?: readonly string[]; readonly all?: boolean }): readonly string[] | 'all' {
  if ((ids === undefined) === (all !== true)) throw new KymoError('request_invalid', { detail: 'Send either {"ids":[…]} or {"all":true}.' })
  return ids ?? 'all'
}

function noLetter(id: string): KymoError {
  return new KymoError('not_found', { detail: `There is no dead letter ${id}; old ones are dropped.` })
}
