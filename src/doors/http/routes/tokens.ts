import { KymoError } from '../../../core/errors.ts'
import type { TokenInfo } from '../../../core/services.ts'
import { formatRfc3339 } from '../../../wire/time.ts'
import type { App } from '../app-types.ts'
import type { HttpContext } from '../options.ts'
import { answer, listOf, noQuery } from '../schemas.ts'

const scope = { type: 'string', enum: ['ingest', 'read', 'admin'] } as const

const tokenCreate = {
  type: 'object',
  additionalProperties: false,
  required: ['name', 'scopes'],
  properties: {
    name: { type: 'string', minLength: 1, maxLength: 128 },
    scopes: { type: 'array', minItems: 1, maxItems: 3, items: scope },
  },
} as const

const tokenParams = { type: 'object', required: ['id'], properties: { id: { type: 'string', minLength: 1, maxLength: 128 } } } as const

const tokenAnswer = {
  type: 'object',
  required: ['id', 'name', 'scopes', 'created_at', 'revoked_at'],
  properties: {
    id: { type: 'string' },
    name: { type: 'string' },
    scopes: { type: 'array', items: scope },
    created_at: { type: 'string', format: 'date-time' },
    revoked_at: { type: ['string', 'null'], format: 'date-time' },
  },
} as const

function tokenJson(info: TokenInfo): Record<string, unknown> {
  return {
    id: info.id,
    name: info.name,
    scopes: info.scopes,
    created_at: formatRfc3339(info.created_us),
    revoked_at: info.revoked_us === undefined ? null : formatRfc3339(info.revoked_us),
  }
}

export function tokenRoutes(app: App, context: HttpContext): void {
  const { tokens } = context

  app.get(
    '/api/v1/tokens',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'listTokens',
        tags: ['tokens'],
        summary: 'API tokens, never their secrets',
        querystring: noQuery,
        response: { 200: answer('All of them.', listOf(tokenAnswer)) },
      },
    },
    async () => ({ items: (await tokens.list()).map(tokenJson), next_cursor: null }),
  )

  app.post(
    '/api/v1/tokens',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'createToken',
        tags: ['tokens'],
        summary: 'Make a token',
        querystring: noQuery,
        body: tokenCreate,
        response: {
          201: answer('The token is shown here and never again.', {
            ...tokenAnswer,
            required: ['token', ...tokenAnswer.required],
            properties: { token: { type: 'string' }, ...tokenAnswer.properties },
          }),
        },
      },
    },
    async (request, reply) => {
      const { name, scopes } = request.body
      const { token, info } = await tokens.create({ name, scopes: [...new Set(scopes)] })
      return reply
        .code(201)
        .header('location', `/api/v1/tokens/${encodeURIComponent(info.id)}`)
        .send({ token, ...tokenJson(info) })
    },
  )

  app.delete(
    '/api/v1/tokens/:id',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'revokeToken',
        tags: ['tokens'],
        summary: 'Revoke a token',
        params: tokenParams,
        querystring: noQuery,
        response: { 204: { description: 'It opens nothing any more.' } },
      },
    },
    async (request, reply) => {
      if (!(await tokens.revoke(request.params.id))) throw new KymoError('not_found', { detail: 'There is no such token.' })
      return reply.code(204).send()
    },
  )
}
