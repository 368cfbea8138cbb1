import { KymoError } from '../../../core/errors.ts'
import { principalOf } from '../access.ts'
import type { App } from '../app-types.ts'
import type { LiveHub, LiveMatch } from '../live/hub.ts'
import type { HttpContext } from '../options.ts'
import { liveQuery } from '../schemas.ts'

export function liveRoutes(app: App, context: HttpContext, hub: LiveHub): void {
  app.get(
    '/api/v1/live',
    {
      config: { scope: 'read' },
      exposeHeadRoute: false,
      schema: {
        operationId: 'live',
        tags: ['readings'],
        summary: 'Readings as they come (server-sent events)',
        querystring: liveQuery,
        description:
          'Events `readings` with `{"readings":[{device, metric, time, value}]}` and an id that grows; `gap` with `{"dropped":n}` when the ' +
          'client was too slow (the oldest were dropped). Who comes back with Last-Event-ID gets what it missed; where that is no longer in memory, ' +
          'after a `gap` with `{"since":id}`: what lies between is in /api/v1/query. ' +
          'A comment every 15 s shows that the stream is alive.',
        response: { 200: { description: 'A stream.', content: { 'text/event-stream': { schema: { type: 'string' } } } } },
      },
    },
    (request, reply) => {
      if (hub.size >= context.limits.liveClientsMax)
        throw new KymoError('rate_limited', { detail: `There are ${hub.size} live clients already.`, retryAfterS: 5 })
      const { device, metric } = request.query
      const since = request.headers['last-event-id']
      const { tenant } = principalOf(request)
      const headers = reply.getHeaders()
      reply.hijack()
      const response = reply.raw
      response.writeHead(200, {
        ...Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== undefined)),
        'content-type': 'text/event-stream; charset=utf-8',
        'cache-control': 'no-store',
        'x-accel-buffering': 'no',
      })
      response.write('retry: 2000\n\n: connected\n\n')
      const match: LiveMatch = {
        tenant,
        ...(device === undefined ? {} : { devices: new Set(device) }),
        ...(metric === undefined ? {} : { metrics: new Set(metric) }),
      }
      hub.add(response, match, typeof since === 'string' && /^\d{1,20}$/.test(since) ? BigInt(since) : undefined)
    },
  )
}
