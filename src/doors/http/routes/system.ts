import { performance } from 'node:perf_hooks'
import type { HistogramCell } from '../../../core/metrics.ts'
import type { SystemStatus } from '../../../core/services.ts'
import { formatRfc3339 } from '../../../wire/time.ts'
import type { App } from '../app-types.ts'
import { metricsType, renderMetrics } from '../metrics-text.ts'
import type { HttpContext } from '../options.ts'
import { homePage } from '../pages/home.ts'
import { pageHeaders } from '../pages/html.ts'
import { answer, noQuery } from '../schemas.ts'

const readyQuery = {
  type: 'object',
  additionalProperties: false,
  properties: { verbose: { type: 'boolean', description: 'Say how each part is.' } },
} as const

const text = (description: string): unknown => ({ description, content: { 'text/plain': { schema: { type: 'string' } } } })

/** Offsets are beyond what JSON numbers hold: decimal text. */
function statusJson(status: SystemStatus): Record<string, unknown> {
  const { started_us, lag, ...rest } = status
  return {
    ...rest,
    started_at: formatRfc3339(started_us),
    lag: lag.map(({ earliest, committed, end, oldestUs, ...facts }) => ({
      ...facts,
      earliest: String(earliest),
      committed: String(committed),
      end: String(end),
      oldest: oldestUs === undefined ? null : formatRfc3339(oldestUs),
    })),
  }
}

interface Readiness {
  readonly ok: boolean
  readonly components: SystemStatus['components']
}

/** A part that cannot even say how it is counts as not ready. */
async function readiness(context: HttpContext): Promise<Readiness> {
  const { gate, state, status } = context
  const own = [
    { name: 'http', ok: state.ready && !state.draining, ...(state.draining ? { detail: 'draining' } : state.ready ? {} : { detail: 'starting' }) },
    { name: 'ingest', ok: gate.stalled === undefined, ...(gate.stalled === undefined ? {} : { detail: gate.stalled.message }) },
  ]
  let parts: SystemStatus['components'] = []
  try {
    parts = (await status()).components.filter((part) => part.name !== 'http' && part.name !== 'ingest')
  } catch (error) {
    parts = [{ name: 'status', ok: false, detail: error instanceof Error ? error.message : String(error) }]
  }
  const components = [...own, ...parts]
  return { ok: components.every((part) => part.ok), components }
}

function healthRoutes(app: App, context: HttpContext): void {
  const { env, state, version } = context
  app.get(
    '/livez',
    {
      config: { scope: 'none', always: true },
      schema: { operationId: 'livez', tags: ['system'], summary: 'Is the process alive?', response: { 200: text('It is.') } },
    },
    (_request, reply) => reply.type('text/plain; charset=utf-8').send('ok\n'),
  )

  app.get(
    '/readyz',
    {
      config: { scope: 'none', always: true },
      schema: {
        operationId: 'readyz',
        tags: ['system'],
        summary: 'Are all doors open?',
        querystring: readyQuery,
        response: { 200: text('They are.'), 503: text('Starting, draining, or a part fails.') },
      },
    },
    async (request, reply) => {
      reply.type('text/plain; charset=utf-8')
      // Without details this asks nobody: it is called every second by whoever balances load.
      if (request.query.verbose !== true) {
        const ok = state.ready && !state.draining
        return reply.code(ok ? 200 : 503).send(ok ? 'ok\n' : state.draining ? 'draining\n' : 'starting\n')
      }
      const { ok, components } = await readiness(context)
      const lines = components.map((part) => `[${part.ok ? '+' : '-'}] ${part.name}${part.detail === undefined ? '' : `: ${part.detail}`}\n`)
      return reply.code(ok ? 200 : 503).send(`${lines.join('')}${ok ? 'ok' : 'not ready'}\n`)
    },
  )

  app.get(
    '/health',
    {
      config: { scope: 'none', always: true, compat: { failed: 'unhealthy' } },
      schema: {
        operationId: 'health',
        tags: ['compatibility'],
        summary: 'Health as the seeds ask for it',
        response: { 200: answer('Healthy.', { type: 'object' }), 503: answer('Not.', { type: 'object' }) },
      },
    },
    async (_request, reply) => {
      const { ok, components } = await readiness(context)
      const status = ok ? 'healthy' : state.draining ? 'draining' : state.ready ? 'unhealthy' : 'starting'
      return reply.code(ok ? 200 : 503).send({ status, service: 'kymo', version, timestamp: formatRfc3339(env.clock.nowUs()), components })
    },
  )
}

export function systemRoutes(app: App, context: HttpContext): void {
  const { env, metrics, version } = context
  healthRoutes(app, context)

  app.get(
    '/',
    {
      config: { scope: 'none' },
      schema: {
        operationId: 'root',
        tags: ['compatibility'],
        summary: 'A page for browsers, a health document for all others',
        response: { 200: answer('Healthy.', { type: 'object' }) },
      },
    },
    (request, reply) => {
      reply.header('vary', 'accept')
      if (request.headers.accept?.includes('text/html') === true) {
        const { localAddress, localPort } = request.raw.socket
        return pageHeaders(reply).send(homePage({ version, host: localAddress ?? '127.0.0.1', port: localPort ?? 8080, mqttPort: context.mqttPort }))
      }
      return reply.send({ status: 'healthy', service: 'kymo', version, docs: '/docs', timestamp: formatRfc3339(env.clock.nowUs()) })
    },
  )

  app.get(
    '/metrics',
    {
      config: { scope: 'read', always: true },
      schema: { operationId: 'metrics', tags: ['system'], summary: 'Prometheus metrics', response: { 200: text('Text format 0.0.4.') } },
    },
    (_request, reply) => reply.type(metricsType).send(renderMetrics(metrics)),
  )

  app.get(
    '/api/v1/status',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'status',
        tags: ['system'],
        summary: 'How the server is',
        querystring: noQuery,
        response: { 200: answer('All parts.', { type: 'object' }) },
      },
    },
    async () => statusJson(await context.status()),
  )
}

/** How long each route takes. The route's pattern, never the path: paths carry device ids. */
export function measureRequests(app: App, context: HttpContext): void {
  const { metrics, version } = context
  metrics.gauge('kymo_build_info', 'Always 1; the version is a label.', { version, node: process.version }).value = 1
  // Looked up by one short text: the registry's own lookup takes 3 us, this one 0.3. As bounded as routes x methods x statuses.
  const cells = new Map<string, HistogramCell>()
  app.addHook('onRequest', (request, _reply, done) => {
    request.startedMs = performance.now()
    done()
  })
  app.addHook('onResponse', (request, reply, done) => {
    const { method, startedMs } = request
    const route = request.routeOptions.url ?? 'unmatched'
    const name = `${method} ${route} ${reply.statusCode}`
    let cell = cells.get(name)
    if (cell === undefined) {
      const labels = { method, route, status: String(reply.statusCode) }
      cells.set(name, (cell = metrics.histogram('http_request_duration_seconds', 'Time from request to the end of its answer.', labels)))
    }
    cell.observe((performance.now() - startedMs) / 1e3)
    done()
  })
}
