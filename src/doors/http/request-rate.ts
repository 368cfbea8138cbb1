import type { FastifyReply, FastifyRequest } from 'fastify'
import { KymoError } from '../../core/errors.ts'
import { isLoopbackAddress, peerOf } from '../address.ts'
import type { HttpContext } from './options.ts'

/**
 * Counts a request of its credential, or of its address when it has none, and says so in RateLimit and RateLimit-Policy
 * (draft-ietf-httpapi-ratelimit-headers-10). Throws rate_limited. Loopback is not counted: proxies, gateways and load tests of this machine
 * are many clients under one address.
 */
export function countRequest(context: HttpContext, request: FastifyRequest, reply: FastifyReply): void {
  const { requestRate, auth } = context
  if (requestRate === undefined) return
  const address = request.raw.socket.remoteAddress ?? ''
  if (isLoopbackAddress(address)) return
  const { principal } = request
  const own = auth === 'token' && principal !== undefined
  const answer = requestRate.take(own ? `token ${principal.tenant} ${principal.id}` : peerOf(address))
  const { perS, burst } = requestRate
  reply
    .header('ratelimit-policy', `"requests";q=${burst};w=${Math.max(1, Math.ceil(burst / perS))}`)
    .header('ratelimit', `"requests";r=${answer.remaining};t=${Math.ceil(answer.resetS)}`)
  if (answer.allowed) return
  context.metrics.counter('kymo_http_rate_limited_total', 'Requests refused because their credential or address sent too many.').value++
  throw new KymoError('rate_limited', {
    detail: `${own ? 'This token' : 'This address'} sends more than ${perS} requests a second (http.rate.requests_per_s, http.rate.burst).`,
    retryAfterS: answer.retryAfterS,
    facts: { setting: 'http.rate.requests_per_s', limit: perS },
  })
}
