import fs from 'node:fs'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { KymoError } from '../../../core/errors.ts'
import { limits } from '../../../core/limits.ts'
import type { Job, JobFile } from '../../../core/services.ts'
import { formatRfc3339 } from '../../../wire/time.ts'
import { principalOf } from '../access.ts'
import type { App } from '../app-types.ts'
import type { HttpContext } from '../options.ts'
import { decodeCursor, encodeCursor, questionOf } from '../reads/cursor.ts'
import { answer, listOf, noQuery } from '../schemas.ts'

const name = { type: 'string', minLength: 1, maxLength: limits.nameBytesMax } as const
const names = { type: 'array', minItems: 1, maxItems: 1_000, items: name } as const
const formats = ['csv', 'ndjson', 'parquet'] as const
const kinds = ['import', 'export', 'train', 'backtest'] as const
const moment = { type: 'string', minLength: 1, maxLength: 64 } as const
const jobParams = {
  type: 'object',
  required: ['id'],
  properties: { id: { type: 'string', pattern: '^[0-9a-f-]{36}$', description: 'The id of a job.' } },
} as const

const importQuery = {
  type: 'object',
  additionalProperties: false,
  properties: {
    format: { type: 'string', enum: formats, description: 'Absent: found from the file.' },
    name: { type: 'string', minLength: 1, maxLength: 200, description: 'Name of the file: the device of a table that names none.' },
    time_column: { ...name, description: 'Column with the time; `date,clock` joins two. Absent: found by its name.' },
    time_format: {
      type: 'string',
      minLength: 1,
      maxLength: 64,
      description: 'auto; s, ms, us, ns; or a pattern as DD/MM/YYYY HH:mm:ss. Absent: found.',
    },
    time_zone: { type: 'string', minLength: 1, maxLength: 64, description: 'Of times without an offset, as Europe/Berlin; UTC when absent.' },
    device_column: { ...name, description: 'Column with the device id. Absent: found by its name.' },
    device: { ...name, description: 'One device for all rows.' },
    device_prefix: { ...name, description: 'Put before the device id.' },
    columns: { ...names, description: 'A column for each metric: which; `column=metric` renames. Absent: all.' },
    metric_column: { ...name, description: "A row for each value: the column with the metric's name." },
    value_column: { ...name, description: 'A row for each value: the column with the value.' },
    missing: { ...names, description: 'Cells that mean "no value", as -200.' },
    delimiter: { type: 'string', minLength: 1, maxLength: 3, description: 'Between CSV cells; `tab` for a tabulator. Absent: found.' },
    decimal_comma: { type: 'boolean', description: 'Numbers are written 21,5.' },
    header: { ...names, description: 'Names of the columns of a CSV file without a header line.' },
    encoding: { type: 'string', minLength: 1, maxLength: 40, description: 'utf-8, utf-16le, windows-1252 … Absent: found.' },
  },
} as const

const exportBody = {
  type: 'object',
  additionalProperties: false,
  properties: {
    format: { type: 'string', enum: formats, description: 'csv when absent.' },
    compression: { type: 'string', enum: ['gzip', 'zstd'], description: 'Of CSV and NDJSON; Parquet is compressed within.' },
    device: { ...names, description: 'Absent: all.' },
    metric: { ...names, description: 'Absent: all.' },
    from: { ...moment, description: 'RFC 3339, epoch number, `now`, or a time ago as -24h. Absent: from the beginning.' },
    to: { ...moment, description: 'First moment that no longer belongs to it. Absent: no end.' },
    wide: { type: 'boolean', description: 'CSV and Parquet: a row for each device and time, a column for each metric.' },
  },
} as const

const jobsQuery = {
  type: 'object',
  additionalProperties: false,
  properties: {
    kind: { type: 'string', enum: kinds },
    state: { type: 'string', enum: ['waiting', 'running', 'done', 'failed', 'cancelled'] },
    limit: { type: 'integer', minimum: 1, maximum: limits.jobsKeptMax },
    cursor: { type: 'string', minLength: 1, maxLength: 4096 },
  },
} as const

export const jobAnswer = {
  title: 'Job',
  type: 'object',
  required: ['id', 'kind', 'state', 'parameters', 'created_at', 'started_at', 'finished_at', 'attempts', 'progress', 'error', 'files'],
  properties: {
    id: { type: 'string' },
    kind: { enum: kinds },
    state: { enum: ['waiting', 'running', 'done', 'failed', 'cancelled'] },
    parameters: { type: 'object' },
    created_at: { type: 'string', format: 'date-time' },
    started_at: { type: ['string', 'null'], format: 'date-time' },
    finished_at: { type: ['string', 'null'], format: 'date-time' },
    attempts: { type: 'integer', description: 'How often it was begun: more than once when the server was restarted meanwhile.' },
    progress: {
      type: 'object',
      description:
        'rows, readings, rejected, rows_per_s, eta_s …; of models series_total, series_done, trained, kept_naive, refused, share (0 to 1).',
    },
    error: { type: ['object', 'null'], required: ['code', 'detail'], properties: { code: { type: 'string' }, detail: { type: 'string' } } },
    files: {
      type: 'object',
      description: 'What can be fetched: `download` (the export, or the result of a backtest), `rejects` (rows of an import that were not taken).',
      additionalProperties: { type: 'object', required: ['href', 'bytes'], properties: { href: { type: 'string' }, bytes: { type: 'integer' } } },
    },
  },
} as const

const paths: Readonly<Record<JobFile, string>> = { result: 'download', rejects: 'rejects' }

function jobJson(job: Job): Record<string, unknown> {
  const time = (us: number | undefined): string | null => (us === undefined ? null : formatRfc3339(us))
  const { created_us: created, started_us: started, finished_us: finished, error, files, gone = [], ...rest } = job
  const fetchable = (['result', 'rejects'] as const).flatMap((file) => {
    const bytes = files[file]
    return bytes === undefined || gone.includes(file) ? [] : [[paths[file], { href: `/api/v1/jobs/${job.id}/${paths[file]}`, bytes }] as const]
  })
  return {
    ...rest,
    created_at: time(created),
    started_at: time(started),
    finished_at: time(finished),
    error: error ?? null,
    files: Object.fromEntries(fetchable),
  }
}

function unknownJob(id: string): KymoError {
  return new KymoError('not_found', { detail: `There is no job ${id}; those that ended are forgotten after ${limits.jobAgeMaxUs / 86_400e6} days.` })
}

/** Answered as the job resource, which tells the progress. */
export function accepted(reply: FastifyReply, job: Job): FastifyReply {
  return reply.code(202).header('location', `/api/v1/jobs/${job.id}`).send(jobJson(job))
}

const types: Readonly<Record<string, string>> = {
  csv: 'text/csv; charset=utf-8; header=present',
  ndjson: 'application/x-ndjson; charset=utf-8',
  parquet: 'application/vnd.apache.parquet',
  json: 'application/json; charset=utf-8',
}

function sendFile(context: HttpContext, request: FastifyRequest, reply: FastifyReply, id: string, file: JobFile): FastifyReply {
  const { tenant } = principalOf(request)
  const job = context.jobs.get(tenant, id)
  if (job === undefined) throw unknownJob(id)
  const found = context.jobs.file(tenant, id, file)
  if (found === undefined && job.files[file] !== undefined)
    throw new KymoError('job_file_gone', { detail: `The ${paths[file]} of this job is not there any more, as after a restore. Have it made again.` })
  if (found === undefined) throw new KymoError('not_found', { detail: `The job has no ${paths[file]}: it is a ${job.kind}, and ${job.state}.` })
  const asked = job.parameters['format']
  const format = file === 'rejects' ? 'ndjson' : job.kind === 'backtest' ? 'json' : typeof asked === 'string' ? asked : 'csv'
  const compression = file === 'rejects' ? undefined : job.parameters['compression']
  const suffix = compression === 'gzip' ? '.gz' : compression === 'zstd' ? '.zst' : ''
  const type = suffix === '' ? (types[format] ?? 'application/octet-stream') : suffix === '.gz' ? 'application/gzip' : 'application/zstd'
  reply.type(type).header('content-length', found.bytes)
  reply.header('content-disposition', `attachment; filename="kymo-${file === 'rejects' ? 'rejects' : job.kind}-${id}.${format}${suffix}"`)
  return reply.send(fs.createReadStream(found.path))
}

export function jobRoutes(app: App, context: HttpContext): void {
  const { jobs } = context

  app.post(
    '/api/v1/imports',
    {
      config: { scope: 'ingest', rawBody: true },
      schema: {
        operationId: 'createImport',
        tags: ['jobs'],
        summary: 'Import a CSV, NDJSON or Parquet file',
        description:
          'The body is the file, plain or packed (gzip, zstd); it is on disk when 202 is answered, and the job survives a restart. The upload has to arrive ' +
          'within 60 s; for larger files use `kymo import`, which needs no upload. What cannot be taken is in `rejects` of the job.',
        querystring: importQuery,
        body: { description: 'The bytes of the file.' },
        consumes: ['application/octet-stream'],
        response: { 202: answer('The job; Location leads to it.', jobAnswer) },
      },
    },
    async (request, reply) => accepted(reply, await jobs.createImport(principalOf(request).tenant, { ...request.query }, request.raw)),
  )

  app.post(
    '/api/v1/exports',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'createExport',
        tags: ['jobs'],
        summary: 'Export readings to a CSV, NDJSON or Parquet file',
        querystring: noQuery,
        body: exportBody,
        response: { 202: answer('The job; Location leads to it.', jobAnswer) },
      },
    },
    async (request, reply) => {
      const { format, compression, wide } = request.body
      if (format === 'parquet' && compression !== undefined) {
        throw new KymoError('request_invalid', { errors: [{ pointer: '/compression', detail: 'Parquet is compressed within: leave it away' }] })
      }
      if (format === 'ndjson' && wide === true) {
        throw new KymoError('request_invalid', { errors: [{ pointer: '/wide', detail: 'is for CSV and Parquet' }] })
      }
      return accepted(reply, await jobs.createExport(principalOf(request).tenant, { ...request.body }))
    },
  )

  app.get(
    '/api/v1/jobs',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'listJobs',
        tags: ['jobs'],
        summary: 'Imports, exports, trainings and backtests, newest first',
        querystring: jobsQuery,
        response: { 200: answer('A page.', listOf(jobAnswer)) },
      },
    },
    async (request) => {
      const { kind, state, limit, cursor } = request.query
      const question = questionOf('jobs', kind, state)
      const page = jobs.list(principalOf(request).tenant, {
        limit: limit ?? limits.jobsListedDefault,
        ...(cursor === undefined ? {} : { after: String(decodeCursor(question, cursor)[0]) }),
        ...(kind === undefined ? {} : { kind }),
        ...(state === undefined ? {} : { state }),
      })
      return { items: page.items.map(jobJson), next_cursor: page.next === undefined ? null : encodeCursor(question, [page.next]) }
    },
  )

  app.get(
    '/api/v1/jobs/:id',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'getJob',
        tags: ['jobs'],
        summary: 'A job with its progress',
        params: jobParams,
        querystring: noQuery,
        response: { 200: answer('The job.', jobAnswer) },
      },
    },
    async (request) => {
      const job = jobs.get(principalOf(request).tenant, request.params.id)
      if (job === undefined) throw unknownJob(request.params.id)
      return jobJson(job)
    },
  )

  app.delete(
    '/api/v1/jobs/:id',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'cancelJob',
        tags: ['jobs'],
        summary: 'Cancel a job; one that has ended is forgotten with its files',
        description: 'What an import has sent stays, and so does what was trained. An import needs the scope ingest, a training or a backtest admin.',
        params: jobParams,
        querystring: noQuery,
        response: { 200: answer('The job as it is now, or was.', jobAnswer) },
      },
    },
    async (request) => {
      const { tenant, scopes } = principalOf(request)
      const { id } = request.params
      const kind = jobs.get(tenant, id)?.kind
      const needed = kind === 'import' ? 'ingest' : kind === 'train' || kind === 'backtest' ? 'admin' : 'read'
      if (!scopes.has(needed) && !scopes.has('admin')) {
        throw new KymoError('forbidden', { detail: `Cancelling this ${kind ?? 'job'} needs a token with the scope ${needed}.` })
      }
      const job = await jobs.cancel(tenant, id)
      if (job === undefined) throw unknownJob(id)
      return jobJson(job)
    },
  )

  for (const file of ['result', 'rejects'] as const) {
    app.get(
      `/api/v1/jobs/:id/${paths[file]}`,
      {
        config: { scope: 'read' },
        schema: {
          operationId: file === 'result' ? 'downloadExport' : 'getRejects',
          tags: ['jobs'],
          summary:
            file === 'result'
              ? 'The file of an export, or the result of a backtest (JSON)'
              : 'Rows of an import that were not taken: line, reason, row (NDJSON)',
          params: jobParams,
          querystring: noQuery,
          response: { 200: { description: 'The file.', content: { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } } } },
        },
      },
      async (request, reply) => sendFile(context, request, reply, request.params.id, file),
    )
  }
}
