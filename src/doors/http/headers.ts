import { isIP } from 'node:net'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { limits } from '../../core/limits.ts'
import type { App } from './app-types.ts'
import type { HttpContext } from './options.ts'

/** What is no page loads nothing and is framed by nobody; pages set their own. */
const nothing = "default-src 'none'; frame-ancestors 'none'"

/** Headers of ours that a page of another origin may read. */
const exposed =
  'content-disposition, etag, link, location, ratelimit, ratelimit-policy, retry-after, x-next-cursor, x-partial, x-relative-error, x-request-id, x-truncated, idempotent-replayed'
/** Those that it may send beside what is always allowed (Fetch Standard, "CORS-safelisted"). */
const allowed = 'authorization, content-encoding, content-type, idempotency-key, if-match, if-none-match, last-event-id, x-request-id'

/** Every answer's headers, before anything else is decided about the request. */
export function baseHeaders(context: HttpContext): (request: FastifyRequest, reply: FastifyReply) => void {
  const { hstsMaxAgeS = 0 } = context
  const hsts = `max-age=${hstsMaxAgeS}`
  return (request, reply) => {
    reply
      .header('x-request-id', request.id)
      .header('x-content-type-options', 'nosniff')
      .header('x-frame-options', 'DENY')
      .header('referrer-policy', 'no-referrer')
      .header('cross-origin-opener-policy', 'same-origin')
      .header('cross-origin-resource-policy', 'same-origin')
      .header('content-security-policy', nothing)
      .header('cache-control', 'no-store')
    // It would bind every other server of this machine's name, on any port: localhost is never named.
    if (hstsMaxAgeS > 0 && isName(request.headers.host)) reply.header('strict-transport-security', hsts)
  }
}

/** RFC 6797, section 8.1.1: an address cannot be bound to HTTPS. */
function isName(host: string | undefined): boolean {
  const name = host?.toLowerCase().replace(/:\d+$/, '') ?? ''
  return name !== '' && name !== 'localhost' && !name.endsWith('.localhost') && !name.startsWith('[') && isIP(name) === 0
}

/** Whether the settings let pages of this origin call. */
export function corsAllows(context: HttpContext, origin: string | undefined): boolean {
  return origin !== undefined && context.cors?.has(origin) === true
}

/**
 * CORS (Fetch Standard, section 3.3) for the origins of the settings, by name and never for credentials that the browser adds of itself: a page
 * sends its token in Authorization. True: this was a preflight, and is answered.
 */
export function corsHeaders(context: HttpContext, request: FastifyRequest, reply: FastifyReply): boolean {
  const { origin } = request.headers
  if (!corsAllows(context, origin)) return false
  reply.header('access-control-allow-origin', origin).header('cross-origin-resource-policy', 'cross-origin')
  if (request.method !== 'OPTIONS' || request.headers['access-control-request-method'] === undefined) {
    reply.header('access-control-expose-headers', exposed)
    return false
  }
  reply
    .header('access-control-allow-methods', 'GET, HEAD, POST, PUT, PATCH, DELETE')
    .header('access-control-allow-headers', allowed)
    .header('access-control-max-age', String(limits.corsMaxAgeS))
    .header('vary', 'origin, access-control-request-method, access-control-request-headers')
  reply.code(204).send()
  return true
}

/** An answer that depends on who asks must say so to caches, beside what its route says. */
export function varyByOrigin(app: App, context: HttpContext): void {
  if ((context.cors?.size ?? 0) === 0) return
  app.addHook('onSend', (_request, reply, _payload, done) => {
    const before = reply.getHeader('vary')
    if (typeof before !== 'string') reply.header('vary', 'origin')
    else if (!/\borigin\b/i.test(before)) reply.header('vary', `${before}, origin`)
    done()
  })
}
