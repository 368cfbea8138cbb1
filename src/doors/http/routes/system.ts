import { performance } from 'node:perf_hooks'
import type { HistogramCell } from '../../../core/metrics.ts'
import type { SystemStatus } from '../../../core/services.ts'
import { formatRfc3339 } from '../../../wire/time.ts'
import type { App } from '../app-types.ts'
import { metricsType, renderMetrics } from '../metrics-text.ts'
import type { HttpContext } from '../options.ts'
import type { StatusHistory } from '../reads/status-history.ts'
import { answer, noQuery } from '../schemas.ts'

const readyQuery = {
  type: 'object',
  additionalProperties: false,
  properties: { verbose: { type: 'boolean', description: 'Say how each part is.' } },
} as const

const text = (description: string): unknown => ({ description, content: { 'text/plain': { schema: { type: 'string' } } } })

const component = {
  type: 'object',
  required: ['name', 'ok'],
  properties: { name: { type: 'string' }, ok: { type: 'boolean' }, detail: { type: 'string' } },
} as const

const groupLag = {
  type: 'object',
  required: ['group', 'partition', 'earliest', 'committed', 'end', 'bytes', 'oldest'],
  properties: {
    group: { type: 'string', description: 'A consumer of the log.' },
    partition: { type: 'integer' },
    earliest: { type: 'string', description: 'Offsets are decimal text: they go beyond 2^53.' },
    committed: { type: 'string' },
    end: { type: 'string' },
    bytes: { type: 'integer', description: 'Of what it has not read.' },
    oldest: { type: ['string', 'null'], format: 'date-time', description: 'When the oldest of that came; null: there is none.' },
  },
} as const

const count = { type: 'integer' } as const

const ages = (absent: string) => {
  const one = { type: ['string', 'null'], description: absent } as const
  return { raw: one, minutes: one, hours: one }
}

const statusAnswer = {
  type: 'object',
  required: (
    'version time started_at ready draining components lag messages_total readings_total rejected_total devices devices_active ' +
    'dead_letters_waiting series mqtt_connections mqtt_port mqtts_port auth data_dir storage retention pid'
  ).split(' '),
  properties: {
    version: { type: 'string' },
    time: { type: 'string', format: 'date-time', description: 'Of the server.' },
    started_at: { type: 'string', format: 'date-time' },
    ready: { type: 'boolean' },
    draining: { type: 'boolean' },
    components: { type: 'array', items: component },
    lag: { type: 'array', items: groupLag },
    messages_total: { ...count, description: 'Since the start, as the other totals.' },
    readings_total: count,
    rejected_total: count,
    devices: count,
    devices_active: { ...count, description: 'That sent something in the last five minutes.' },
    dead_letters_waiting: { ...count, description: 'Neither replayed nor dismissed.' },
    series: count,
    mqtt_connections: count,
    mqtt_port: { type: ['integer', 'null'], description: 'Null: this process has no MQTT door.' },
    mqtts_port: { type: ['integer', 'null'], description: 'Speaks TLS; null: none does. The same as mqtt_port where only this one is open.' },
    auth: { enum: ['loopback', 'token', 'open'] },
    data_dir: { type: 'string' },
    storage: {
      type: 'object',
      required: ['log_bytes', 'store_bytes'],
      properties: { log_bytes: count, store_bytes: count, quota_bytes: { ...count, description: 'Absent: no quota.' } },
    },
    retention: {
      type: 'object',
      description: 'What the store keeps for how long, and what has gone.',
      required: ['raw', 'minutes', 'hours', 'store_bytes_max', 'raw_from', 'removed_bytes', 'due_files', 'rules'],
      properties: {
        ...ages('null: for ever.'),
        store_bytes_max: { type: ['integer', 'null'], description: 'Of sealed files; null: no limit.' },
        raw_from: { type: ['string', 'null'], format: 'date-time', description: 'Readings before it have gone; null: none have.' },
        removed_bytes: {
          type: 'object',
          description: 'That sealed files have lost since the start: by age and size as a whole, by rules where they were written again.',
          required: ['age', 'size', 'rules'],
          properties: { age: count, size: count, rules: count },
        },
        due_files: { ...count, description: 'Sealed files that are old enough for a rule, and not looked through yet.' },
        rules: {
          type: 'array',
          items: {
            type: 'object',
            required: ['labels', 'metrics', 'raw', 'minutes', 'hours', 'series'],
            properties: {
              labels: { type: ['object', 'null'], additionalProperties: { type: 'string' } },
              metrics: { type: ['array', 'null'], items: { type: 'string' } },
              ...ages('null: the general one.'),
              series: { type: ['integer', 'null'], description: 'How many it is for; null: not known yet.' },
            },
          },
        },
      },
    },
    pid: count,
  },
} as const

const lookAnswer = {
  type: 'object',
  required: ['time', 'messages_total', 'readings_total', 'devices_active', 'store_lag_ms', 'storage_bytes', 'dead_letters_waiting'],
  properties: {
    time: { ...count, description: 'Epoch milliseconds.' },
    messages_total: count,
    readings_total: count,
    devices_active: count,
    store_lag_ms: { ...count, description: 'How long the oldest that the store has not read has waited.' },
    storage_bytes: count,
    dead_letters_waiting: count,
  },
} as const

function retentionJson({ raw_from_us, store_bytes_max, rules, ...rest }: SystemStatus['retention']): Record<string, unknown> {
  const none = { raw: null, minutes: null, hours: null }
  return {
    ...none,
    ...rest,
    store_bytes_max: store_bytes_max ?? null,
    raw_from: raw_from_us === undefined ? null : formatRfc3339(raw_from_us),
    rules: rules.map((rule) => ({ labels: null, metrics: null, ...none, series: null, ...rule })),
  }
}

/** Offsets are beyond what JSON numbers hold: decimal text. */
function statusJson(status: SystemStatus): Record<string, unknown> {
  const { started_us, lag, retention, ...rest } = status
  return {
    ...rest,
    started_at: formatRfc3339(started_us),
    retention: retentionJson(retention),
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
  const own: SystemStatus['components'] = [
    { name: 'http', ok: state.ready && !state.draining, ...(state.draining ? { detail: 'draining' } : state.ready ? {} : { detail: 'starting' }) },
    ...(context.serves?.ingest === false
      ? []
      : [{ name: 'ingest', ok: gate.stalled === undefined, ...(gate.stalled === undefined ? {} : { detail: gate.stalled.message }) }]),
  ]
  let parts: SystemStatus['components'] = []
  try {
    parts = (await status()).components.filter((part) => part.name !== 'http' && part.name !== 'ingest')
  } catch (error) {
    parts = [{ name: 'status', ok: false, detail: error instanceof Error ? error.message : String(error) }]
  }
  const components = [...own, ...parts]
  return { ok: components.every((part) => part.ok || part.optional === true), components }
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
      const lines = components.map(
        (part) => `[${part.ok ? '+' : part.optional === true ? '!' : '-'}] ${part.name}${part.detail === undefined ? '' : `: ${part.detail}`}\n`,
      )
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
  const { metrics } = context
  healthRoutes(app, context)

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
        response: { 200: answer('All parts.', statusAnswer) },
      },
    },
    async () => ({
      ...statusJson(await context.status()),
      time: formatRfc3339(context.env.clock.nowUs()),
      mqtt_port: context.mqttPort ?? null,
      mqtts_port: context.mqttsPort ?? null,
      auth: context.auth,
    }),
  )
}

export function statusHistoryRoute(app: App, history: StatusHistory): void {
  app.get(
    '/api/v1/status/history',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'statusHistory',
        tags: ['system'],
        summary: 'Figures of the last five minutes',
        description: 'Kept in memory, one look every five seconds; rates follow from the totals of two looks.',
        querystring: noQuery,
        response: {
          200: answer('Oldest first.', { type: 'object', required: ['items'], properties: { items: { type: 'array', items: lookAnswer } } }),
        },
      },
    },
    () => Promise.resolve({ items: history.looks }),
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
