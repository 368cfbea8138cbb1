import type { FastifyReply, FastifyRequest } from 'fastify'
import { KymoError } from '../../../core/errors.ts'
import { formatRfc3339 } from '../../../wire/time.ts'
import type { App } from '../app-types.ts'
import type { HttpContext } from '../options.ts'
import { builtPage, encodingOf, pageFolder } from '../pages/built.ts'
import type { PageFile } from '../pages/built.ts'
import { pageHeaders } from '../pages/html.ts'
import { missingPage } from '../pages/missing.ts'
import { answer } from '../schemas.ts'

/** All comes from here: no inline script or style, no frame, no form that leaves, and text never becomes markup. */
const contentSecurityPolicy = [
  "default-src 'self'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "object-src 'none'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ')

function sendFile(request: FastifyRequest, reply: FastifyReply, file: PageFile): FastifyReply {
  const encoding = encodingOf(file, request.headers['accept-encoding'])
  // Another encoding is another representation: its tag differs (RFC 9110, 8.8.3.3).
  const etag = `"${file.etag}${encoding === 'identity' ? '' : `-${encoding}`}"`
  reply.header('vary', 'accept, accept-encoding').header('etag', etag)
  const known = request.headers['if-none-match']
  if (known?.split(',').some((tag) => tag.trim().replace(/^W\//, '') === etag) === true) return reply.code(304).send()
  if (encoding !== 'identity') reply.header('content-encoding', encoding)
  return reply.type(file.type).send(file.bodies[encoding] ?? file.bodies.identity)
}

/** The page says nothing about the data, and asks for a token where one is needed: it is open to all. */
export function pageRoutes(app: App, context: HttpContext): void {
  const { env, version } = context
  const built = builtPage(context.pageFolder ?? pageFolder)

  app.get(
    '/',
    {
      config: { scope: 'none' },
      schema: {
        operationId: 'root',
        tags: ['compatibility'],
        summary: 'A page for browsers, a health document for all others',
        response: {
          200: answer('Healthy.', { type: 'object' }),
          503: answer('To browsers, where the page is not built.', { type: 'string' }, 'text/html'),
        },
      },
    },
    async (request, reply) => {
      if (request.headers.accept?.includes('text/html') !== true) {
        reply.header('vary', 'accept')
        return reply.send({ status: 'healthy', service: 'kymo', version, docs: '/docs', timestamp: formatRfc3339(env.clock.nowUs()) })
      }
      const page = await built()
      if (page === undefined) return pageHeaders(reply.code(503).header('vary', 'accept')).send(missingPage())
      reply.header('content-security-policy', contentSecurityPolicy).header('cache-control', 'no-cache')
      return sendFile(request, reply, page.index)
    },
  )

  app.get<{ Params: { name: string } }>('/page/:name', { config: { scope: 'none' }, schema: { hide: true } }, async (request, reply) => {
    const file = (await built())?.assets.get(request.params.name)
    if (file === undefined) throw new KymoError('not_found', { detail: 'There is no such file of the page; load the page again.' })
    // The name carries a hash of what is in it.
    return sendFile(request, reply.header('cache-control', 'public, max-age=31536000, immutable'), file)
  })
}
