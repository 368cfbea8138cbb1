import { aggregations } from '../../core/ports.ts'
import { limits } from '../../core/limits.ts'

/*
 * Pieces of the routes' schemas. They are plain JSON Schema, so that OpenAPI shows what is checked, and `as const`, so that TypeBox's
 * types give the handlers theirs.
 */

/** Names that devices bring: 256 bytes, so at most as many characters. */
export const name = { type: 'string', minLength: 1, maxLength: limits.nameBytesMax } as const

export const idParams = {
  type: 'object',
  required: ['id'],
  properties: { id: { ...name, description: 'The device id, percent-encoded where it has to be.' } },
} as const

export const letterParams = {
  type: 'object',
  required: ['id'],
  properties: { id: { type: 'string', pattern: '^\\d{1,20}$', description: 'The id of a dead letter, a decimal number.' } },
} as const

export const cursor = { type: 'string', minLength: 1, maxLength: 4096, description: 'The `next_cursor` of the page before; opaque.' } as const
const listLimit = {
  type: 'integer',
  minimum: 1,
  maximum: limits.listRowsMax,
  description: `Rows of a page; ${limits.listRowsDefault} when absent.`,
} as const
const deviceFilter = {
  type: 'array',
  maxItems: 1_000,
  items: name,
  description: 'Devices: repeat it, or separate by commas (`\\,` is a comma within a name). Absent: all.',
} as const
const metricFilter = {
  type: 'array',
  maxItems: 1_000,
  items: name,
  description: 'Metrics: repeat it, or separate by commas (those within {…} belong to a name). Absent: all.',
} as const
export const moment = { type: 'string', minLength: 1, maxLength: 64 } as const

export const noQuery = { type: 'object', additionalProperties: false, properties: {} } as const

export const listQuery = {
  type: 'object',
  additionalProperties: false,
  properties: { limit: listLimit, cursor, total: { type: 'boolean', description: 'Count all as well.' } },
} as const

export const devicesQuery = {
  ...listQuery,
  properties: {
    ...listQuery.properties,
    search: {
      type: 'string',
      minLength: 1,
      maxLength: limits.deviceSearchCharsMax,
      description: 'Only devices whose id or name contains this, whatever the case. `total` stays that of all.',
    },
  },
} as const

export const matchQuery = {
  type: 'object',
  additionalProperties: false,
  properties: { device: deviceFilter, metric: metricFilter, limit: listLimit, cursor },
} as const

export const liveQuery = {
  type: 'object',
  additionalProperties: false,
  properties: { device: deviceFilter, metric: metricFilter },
} as const

const queryLimit = {
  type: 'integer',
  minimum: 1,
  maximum: limits.queryRowsMax,
  description: `Rows at most; ${limits.queryRowsDefault} when absent. What is beyond is told by \`truncated\` and \`next_cursor\`.`,
} as const

export const rangeQuery = {
  type: 'object',
  additionalProperties: false,
  properties: {
    device: deviceFilter,
    metric: metricFilter,
    from: {
      ...moment,
      description: 'First moment: RFC 3339, epoch number (unit by size), `now`, or a time ago as `-24h`. Absent: from the beginning.',
    },
    to: { ...moment, description: 'First moment that no longer belongs to it, as `from`. Absent: no end.' },
    step: {
      type: 'string',
      pattern: '^(\\d{1,12}(us|ms|s|m|h|d|w)|1mo|1y|auto)$',
      description:
        'Buckets of this width, as 30s, 5m or 1h, aligned to the epoch (UTC); `1d`, `1w` (from Monday), `1mo` and `1y` are those of the calendar ' +
        'in the zone `tz`, where a day has 23 or 25 hours when the clock is changed. `auto`: the finest usual width with about ' +
        `${limits.autoStepBucketsMax} buckets at most between \`from\` (needed) and \`to\` (now, when absent); the answer names it. Absent: raw readings.`,
    },
    tz: {
      type: 'string',
      minLength: 1,
      maxLength: 64,
      description:
        'Time zone of the IANA database, as Europe/Berlin: of the steps 1d, 1w, 1mo and 1y, and of dates without a time in `from` and `to`. UTC ' +
        'when absent. Times in answers are UTC all the same.',
    },
    gaps: {
      type: 'string',
      enum: ['absent', 'null'],
      description:
        'With `step`: what becomes of buckets without readings. `absent` (the default): no row. `null`: a row for each bucket between `from` (needed) ' +
        'and `to` (now, when absent) and each series, with null (CSV: empty), and 0 for count.',
    },
    agg: {
      type: 'array',
      maxItems: aggregations.length,
      items: { type: 'string', enum: aggregations },
      description:
        'With `step`: what to compute of each bucket; avg when absent. median and p5 to p99 are within 1 % of the reading of that rank, and made ' +
        'from readings alone: null, or without a row, for buckets of which some have gone by age or size.',
    },
    order: { type: 'string', enum: ['asc', 'desc'], description: 'By time; asc when absent.' },
    limit: queryLimit,
    cursor,
    format: {
      type: 'string',
      enum: ['json', 'ndjson', 'csv'],
      description:
        '`json`: one document with an array per column (the default); `ndjson`: an object a line; `csv`: a table. Goes before the Accept header.',
    },
    time: {
      type: 'string',
      enum: ['ms', 'rfc3339'],
      description: 'How times are written: epoch milliseconds (default of JSON) or RFC 3339 (default of NDJSON and CSV).',
    },
  },
} as const

const page = { limit: queryLimit, cursor } as const

export const seedMetricsQuery = {
  type: 'object',
  additionalProperties: false,
  properties: {
    metric: { ...name, description: 'Absent: all metrics; each row then names its own.' },
    startTime: { ...moment, description: 'First moment, RFC 3339 or epoch.' },
    endTime: { ...moment, description: 'First moment that no longer belongs to it.' },
    ...page,
  },
} as const

export const seedAggregatedQuery = {
  type: 'object',
  additionalProperties: false,
  required: ['metric', 'aggregation', 'interval'],
  properties: {
    metric: name,
    aggregation: { type: 'string', enum: ['avg', 'sum', 'min', 'max'] },
    interval: { type: 'string', enum: ['1m', '5m', '1h', '1d'] },
    startTime: moment,
    endTime: moment,
    ...page,
  },
} as const

export const seedDevicesQuery = {
  type: 'object',
  additionalProperties: false,
  properties: { limit: listLimit, cursor, fields: { type: 'string', enum: ['id'], description: '`id`: the bare ids.' } },
} as const

const metadata = { type: 'object', maxProperties: 1_000, additionalProperties: true, description: 'Free members; kept and given back.' } as const
const label = { type: 'string', maxLength: 256 } as const
const optionalLabel = { type: ['string', 'null'], maxLength: 256 } as const

export const deviceCreate = {
  type: 'object',
  additionalProperties: false,
  properties: {
    id: { type: 'string', pattern: '^[A-Za-z0-9._:-]{1,128}$', description: 'Letters, digits and . _ : - up to 128; a UUIDv7 when absent.' },
    name: label,
    type: label,
    tenant_id: label,
    metadata,
  },
} as const

/** S2's body; the id is always made by the server. */
export const seedDeviceCreate = {
  type: 'object',
  additionalProperties: true,
  properties: { name: optionalLabel, type: optionalLabel, tenant_id: optionalLabel, metadata: { ...metadata, type: ['object', 'null'] } },
} as const

export const devicePatch = {
  type: 'object',
  additionalProperties: false,
  properties: { name: label, type: label, status: label, metadata: { ...metadata, description: 'Merged (RFC 7396): null removes a member.' } },
} as const

export const statusBody = {
  type: 'object',
  required: ['status'],
  additionalProperties: true,
  properties: { status: { type: 'string', minLength: 1, maxLength: 256 } },
} as const

const timestamp = { type: 'string', format: 'date-time' } as const

export const deviceAnswer = {
  type: 'object',
  required: ['id', 'device_id', 'name', 'type', 'status', 'tenant_id', 'metadata', 'attributes', 'created_at', 'updated_at', 'last_seen'],
  properties: {
    id: name,
    device_id: name,
    name: label,
    type: label,
    status: label,
    tenant_id: label,
    metadata,
    attributes: {
      type: 'object',
      additionalProperties: { type: 'string' },
      description: 'What the device says of itself: firmware, location, unit.<metric>.',
    },
    created_at: timestamp,
    updated_at: timestamp,
    last_seen: { type: ['string', 'null'], format: 'date-time' },
    auto_registered: { type: 'boolean' },
  },
} as const

export const readingAnswer = {
  title: 'Reading',
  type: 'object',
  required: ['device', 'metric', 'time', 'value'],
  properties: {
    device: name,
    metric: name,
    time: timestamp,
    value: { type: ['number', 'boolean', 'string', 'null'] },
    unit: { type: 'string' },
    flags: { type: 'array', items: { enum: ['big_integer', 'retained', 'clock_ahead', 'late', 'arrival_time'] } },
  },
} as const

/** A page of a list. */
export function listOf<const T>(items: T) {
  return {
    type: 'object',
    required: ['items', 'next_cursor'],
    properties: { items: { type: 'array', items }, next_cursor: { type: ['string', 'null'] }, total: { type: 'integer' } },
  } as const
}

/** One kind of answer, as OpenAPI wants it. */
export function answer<const T>(description: string, schema: T, type = 'application/json') {
  return { description, content: { [type]: { schema } } }
}

export const ingestAnswer = {
  title: 'TelemetryAnswer',
  type: 'object',
  required: ['accepted', 'rejected'],
  properties: {
    accepted: { type: 'integer' },
    rejected: { type: 'integer' },
    results: {
      type: 'array',
      description: `Only what was refused, by its index in the body; at most ${limits.httpResultsMax}, \`results_omitted\` counts the others.`,
      items: {
        type: 'object',
        required: ['index', 'status', 'code', 'detail'],
        properties: {
          index: { type: 'integer' },
          status: { type: 'integer' },
          code: { type: 'string' },
          detail: { type: 'string' },
          errors: { type: 'array', items: { type: 'object', properties: { pointer: { type: 'string' }, detail: { type: 'string' } } } },
        },
      },
    },
    results_omitted: { type: 'integer' },
  },
} as const
