import { Buffer } from 'node:buffer'
import type { FastifyRequest } from 'fastify'

/**
 * Where InfluxDB's v1 clients put their credentials beside `Authorization: Token`: the password of Basic authorization, or the query
 * parameter `p`. The user name (`u`) is not looked at: a token is enough. Undefined when there is none.
 */
export function influxToken(request: FastifyRequest): string | undefined {
  const { authorization } = request.headers
  if (authorization !== undefined) {
    const basic = /^basic +([A-Za-z0-9+/=_-]+)$/i.exec(authorization)?.[1]
    if (basic === undefined) return undefined
    const login = Buffer.from(basic, 'base64').toString('utf8')
    const colon = login.indexOf(':')
    return colon < 0 ? undefined : login.slice(colon + 1)
  }
  const password = (request.query as Readonly<Record<string, unknown>> | undefined)?.['p']
  return typeof password === 'string' ? password : undefined
}
