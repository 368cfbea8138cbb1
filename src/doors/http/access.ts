import type { FastifyReply, FastifyRequest } from 'fastify'
import type { IncomingMessage } from 'node:http'
import { KymoError } from '../../core/errors.ts'
import type { Principal } from '../../core/services.ts'
import { corsAllows, corsHeaders } from './headers.ts'
import { influxToken } from './influx-token.ts'
import type { HttpContext } from './options.ts'
import { countRequest } from './request-rate.ts'

const localHosts = new Set(['localhost', '127.0.0.1', '[::1]'])

function hostName(host: string): string {
  return host.toLowerCase().replace(/:\d+$/, '')
}

/**
 * A page of any site may send requests to 127.0.0.1, and by DNS rebinding even read the answers under its own name. So without
 * credentials the Host must be a local name, and an Origin must be the server itself.
 */
export function checkHost(host: string | undefined, bound: string): void {
  if (host === undefined) throw new KymoError('host_denied', { detail: 'The request has no Host header.' })
  const name = hostName(host)
  if (!localHosts.has(name) && name !== bound.toLowerCase() && name !== `[${bound.toLowerCase()}]`) {
    throw new KymoError('host_denied', {
      detail: `The Host "${host.slice(0, 100)}" is not a name of this machine. Call it by the address that it printed.`,
    })
  }
}

/** RFC 9112 3.2: exactly one Host. Of several Node shows the first, and a proxy before it may have looked at the last. */
export function checkOneHost({ httpVersionMajor, httpVersionMinor, rawHeaders }: IncomingMessage): void {
  let hosts = 0
  for (let i = 0; i < rawHeaders.length; i += 2) if (rawHeaders[i]!.length === 4 && rawHeaders[i]!.toLowerCase() === 'host') hosts++
  if (hosts === 1 || (hosts === 0 && httpVersionMajor === 1 && httpVersionMinor === 0)) return
  throw new KymoError('request_invalid', { detail: `The request has ${hosts} Host headers; send one.` })
}

export function checkOrigin(origin: string | undefined, host: string | undefined): void {
  if (origin === undefined) return
  // "null" and what is no URL: another site in any case.
  const page = URL.parse(origin)
  // The same port is written or left out, as the client likes.
  const self = page === null || host === undefined ? undefined : URL.parse(`${page.protocol}//${host}`)?.host
  if (page === null || page.host === '' || (page.host !== self && page.host !== host?.toLowerCase())) {
    throw new KymoError('host_denied', { detail: `Pages of "${origin.slice(0, 100)}" may not call this server.` })
  }
}

const wrongToken = 'The token is not known, or was revoked.'

const everything: Principal['scopes'] = new Set(['ingest', 'read', 'admin'] as const)

/** Decides on each request before anything of its body is read. */
export function accessHook(context: HttpContext): (request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void) => void {
  const { auth, state, tokens } = context
  const anyone: Principal = { tenant: 'default', id: auth === 'open' ? 'open' : 'loopback', scopes: everything }
  const failures = context.metrics.counter('kymo_auth_failures_total', 'Requests and connections refused for their credentials.', {
    transport: 'http',
  })

  /** Clients say the same Host again and again. */
  let goodHost: string | undefined

  /** Throws what the request is refused for. */
  const authorise = (request: FastifyRequest): void => {
    const { host, origin, authorization } = request.headers
    const config = request.routeOptions.config
    const sent = authorization === undefined ? undefined : /^(?:bearer|token) +(\S+)$/i.exec(authorization)?.[1]
    if (context.inner?.has(request.raw) === true) return admit(request, sent, sent === undefined ? undefined : context.inner.verify(sent))
    if (auth === 'loopback' && (host === undefined || host !== goodHost)) {
      checkHost(host, context.host)
      goodHost = host
    }
    if (auth !== 'token') {
      if (!corsAllows(context, origin)) checkOrigin(origin, host)
      request.principal = anyone
      return
    }
    if (config.scope === 'none') return
    const token = sent ?? (config.influx === true ? influxToken(request) : undefined)
    admit(request, token, token === undefined ? undefined : tokens.verify(token))
  }

  const admit = (request: FastifyRequest, token: string | undefined, principal: Principal | undefined): void => {
    if (principal === undefined) {
      failures.value++
      if (token !== undefined) throw new KymoError('unauthenticated', { detail: wrongToken })
      throw new KymoError('unauthenticated', { detail: 'Send a token: Authorization: Bearer tk_…' })
    }
    const needed = request.routeOptions.config.scope ?? 'admin'
    if (needed !== 'none' && !principal.scopes.has(needed) && !principal.scopes.has('admin')) {
      failures.value++
      throw new KymoError('forbidden', { detail: `This needs a token with the scope ${needed}.` })
    }
    request.principal = principal
  }

  /** A wrong token is answered late, and while many wait, of one address or in all, at once with 429. A right one is never held up. */
  const refuse = (request: FastifyRequest, error: Error, done: (error: Error) => void): void => {
    const { throttle } = context
    if (throttle === undefined || !(error instanceof KymoError) || error.code !== 'unauthenticated' || error.message !== wrongToken)
      return done(error)
    const address = request.raw.socket.remoteAddress ?? ''
    if (throttle.admits(address)) throttle.failed(address, () => done(error))
    else done(new KymoError('rate_limited', { detail: 'Too many tokens from this address are not valid.', retryAfterS: 1 }))
  }

  return (request, reply, done) => {
    try {
      checkOneHost(request.raw)
      const url = request.routeOptions.url
      if (context.cors !== undefined) {
        // A preflight has no credentials; what rebinds DNS asks as well.
        if (auth === 'loopback') checkHost(request.headers.host, context.host)
        if (corsHeaders(context, request, reply)) return
      }
      try {
        // A path that does not exist says so only to those who may know what exists.
        if (url !== undefined || auth !== 'token') authorise(request)
      } finally {
        countRequest(context, request, reply)
      }
      if (state.draining && request.routeOptions.config.always !== true) throw new KymoError('shutting_down')
      done()
    } catch (error) {
      refuse(request, error instanceof Error ? error : new Error(String(error)), done)
    }
  }
}

/** The caller; only routes that the hook let through ask. */
export function principalOf(request: FastifyRequest): Principal {
  const principal = request.principal
  if (principal === undefined) throw new KymoError('unauthenticated')
  return principal
}
