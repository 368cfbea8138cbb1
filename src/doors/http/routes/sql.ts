import type { FastifyReply, FastifyRequest } from 'fastify'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { KymoError } from '../../../core/errors.ts'
import { limits } from '../../../core/limits.ts'
import type { SqlDevices, SqlRows, SqlValue } from '../../../core/sql.ts'
import { principalOf } from '../access.ts'
import type { App } from '../app-types.ts'
import type { HttpContext } from '../options.ts'
import type { Format } from '../reads/answer.ts'
import { csvText } from '../reads/answer.ts'
import { withDeadline } from '../reads/deadline.ts'
import { Pieces, sendPieces, Slices } from '../slices.ts'
import { formatOf } from './query.ts'

const sqlBody = {
  type: 'object',
  additionalProperties: false,
  required: ['sql'],
  properties: {
    sql: { type: 'string', minLength: 1, description: `One SELECT statement of at most ${limits.sqlTextBytesMax} bytes.` },
    params: {
      type: 'array',
      maxItems: limits.sqlParametersMax,
      items: { type: ['string', 'number', 'boolean', 'null'] },
      description: 'Values of `$1`, `$2`, … or of each `?`. Numbers are DOUBLE, texts VARCHAR.',
    },
    limit: {
      type: 'integer',
      minimum: 1,
      maximum: limits.queryRowsMax,
      description: `Rows of the answer; ${limits.queryRowsDefault} when absent. With more, \`truncated\` is true.`,
    },
    format: { type: 'string', enum: ['json', 'ndjson', 'csv'], description: 'Otherwise by the Accept header, otherwise JSON.' },
  },
} as const

const sqlAnswer = {
  type: 'object',
  required: ['columns', 'rows', 'row_count', 'truncated'],
  properties: {
    columns: {
      type: 'array',
      items: { type: 'object', required: ['name', 'type'], properties: { name: { type: 'string' }, type: { type: 'string' } } },
    },
    rows: {
      type: 'array',
      items: { type: 'array' },
      description: 'Cells in the order of the columns. Times are RFC 3339, integers beyond 2^53 text.',
    },
    row_count: { type: 'integer' },
    truncated: { type: 'boolean' },
    truncated_by: { enum: ['rows', 'bytes'], description: `The limit of rows, or of ${limits.queryAnswerBytesMax} bytes.` },
  },
} as const

const devicesPage = 1_000

/** All devices of the tenant, as columns; others have their turn after each thousand. */
async function devicesOf(context: HttpContext, tenant: string, signal: AbortSignal): Promise<SqlDevices> {
  const device: string[] = []
  const name: string[] = []
  const type: string[] = []
  const status: string[] = []
  const firmware: (string | null)[] = []
  const location: (string | null)[] = []
  const attributes: string[] = []
  const createdUs: number[] = []
  const lastSeenUs: (number | null)[] = []
  let after: string | undefined
  do {
    const page = await context.devices.list(tenant, { limit: devicesPage, ...(after === undefined ? {} : { after }) })
    for (const one of page.items) {
      device.push(one.id)
      name.push(one.name)
      type.push(one.type)
      status.push(one.status)
      firmware.push(one.attributes['firmware'] ?? null)
      location.push(one.attributes['location'] ?? null)
      attributes.push(JSON.stringify(one.attributes))
      createdUs.push(one.created_us)
      lastSeenUs.push(one.last_seen_us ?? null)
    }
    after = page.next
    if (after !== undefined) await nextTurn()
    signal.throwIfAborted()
  } while (after !== undefined)
  return { device, name, type, status, firmware, location, attributes, createdUs, lastSeenUs }
}

function csvCell(value: SqlValue): string {
  if (value === null) return ''
  if (typeof value === 'string') return csvText(value)
  return typeof value === 'object' ? csvText(JSON.stringify(value)) : String(value)
}

/** Rows as text, a slice at a time. */
async function addRows(
  context: HttpContext,
  pieces: Pieces,
  rows: SqlRows,
  line: (cells: readonly SqlValue[], row: number) => string,
): Promise<void> {
  const slices = new Slices(context)
  for (let row = 0; row < rows.rows; row++) {
    if (row % 32 === 31 && slices.over) await slices.pause()
    pieces.add(
      line(
        rows.values.map((column) => column[row] ?? null),
        row,
      ),
    )
  }
}

async function send(context: HttpContext, reply: FastifyReply, rows: SqlRows, format: Format): Promise<FastifyReply> {
  const pieces = new Pieces()
  reply.header('vary', 'accept')
  if (rows.truncated !== undefined) reply.header('x-truncated', 'true')
  if (format === 'csv') {
    pieces.add(`${rows.columns.map(({ name }) => csvText(name)).join(',')}\r\n`)
    await addRows(context, pieces, rows, (cells) => `${cells.map(csvCell).join(',')}\r\n`)
    return sendPieces(context, reply, 'text/csv; charset=utf-8; header=present', pieces.flush())
  }
  if (format === 'ndjson') {
    const names = rows.columns.map(({ name }) => `${JSON.stringify(name)}:`)
    await addRows(context, pieces, rows, (cells) => `{${cells.map((cell, c) => names[c]! + JSON.stringify(cell)).join(',')}}\n`)
    return sendPieces(context, reply, 'application/x-ndjson; charset=utf-8', pieces.flush())
  }
  pieces.add(`{"columns":${JSON.stringify(rows.columns)},"rows":[`)
  await addRows(context, pieces, rows, (cells, row) => (row === 0 ? '' : ',') + JSON.stringify(cells))
  const end = {
    row_count: rows.rows,
    truncated: rows.truncated !== undefined,
    ...(rows.truncated === undefined ? {} : { truncated_by: rows.truncated }),
  }
  pieces.add(`],${JSON.stringify(end).slice(1)}\n`)
  return sendPieces(context, reply, 'application/json; charset=utf-8', pieces.flush())
}

export function sqlRoutes(app: App, context: HttpContext): void {
  app.post(
    '/api/v1/sql',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'sql',
        tags: ['readings'],
        summary: 'One SELECT statement over the views readings, readings_1m, readings_1h, device_telemetry and devices',
        description:
          'Read-only, over the data of the caller alone. `sql_invalid` says line and column of what is wrong; `sql_refused` names what is not ' +
          'allowed. The reference is docs/reference/sql.md. NDJSON and CSV say in the header X-Truncated that there are more rows than the limit.',
        body: sqlBody,
        response: {
          200: {
            description: 'Columns and rows (JSON), objects (NDJSON) or a table (CSV).',
            content: {
              'application/json': { schema: sqlAnswer },
              'application/x-ndjson': { schema: { type: 'string' } },
              'text/csv': { schema: { type: 'string' } },
            },
          },
        },
      },
    },
    async (
      request: FastifyRequest<{ Body: { sql: string; params?: (string | number | boolean | null)[]; limit?: number; format?: Format } }>,
      reply,
    ) => {
      const { sql, params = [], limit = limits.queryRowsDefault, format } = request.body
      const { tenant } = principalOf(request)
      const nowUs = context.env.clock.nowUs()
      const query = { tenant, sql, parameters: params, limit, nowUs }
      const rows = await withDeadline(context, reply, async (signal) => {
        const first = await context.store.sql(query, signal)
        if (first !== 'needs devices') return first
        const second = await context.store.sql({ ...query, devices: await devicesOf(context, tenant, signal) }, signal)
        if (second === 'needs devices') throw new KymoError('bug', { detail: 'The store asks for devices again.' })
        return second
      })
      return send(context, reply, rows, formatOf(format, request.headers.accept))
    },
  )
}
