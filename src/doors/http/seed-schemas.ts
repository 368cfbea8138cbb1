import { limits } from '../../core/limits.ts'
import { cursor, moment, name } from './schemas.ts'

/* Schemas of the seeds' lists; as in schemas.ts. What the seeds leave open is bounded and paged like our own routes. */

const from = {
  ...moment,
  description: 'First moment: RFC 3339, epoch number (unit by size), `now`, or a time ago as `-24h`. Absent: from the beginning.',
} as const
const to = { ...moment, description: 'First moment that no longer belongs to it. Absent: no end.' } as const
const order = (usual: string) => ({ type: 'string', enum: ['asc', 'desc'], description: `By time; ${usual} when absent.` }) as const
export const limit = {
  type: 'integer',
  minimum: 1,
  maximum: limits.seedListRowsMax,
  description: `Items of a page; ${limits.seedListRowsDefault} when absent. When there are more, the headers X-Truncated, X-Next-Cursor and Link say so.`,
} as const
const hours = { type: 'integer', minimum: 1, maximum: 87_600, description: 'So many hours back from now; 24 when absent.' } as const

/** Absent parts of a message are null. */
const number = { type: ['number', 'null'] } as const
const count = { type: 'integer' } as const
const time = { type: 'string', format: 'date-time' } as const
const nextCursor = { type: ['string', 'null'] } as const
const text = { type: ['string', 'null'] } as const

function query<const T>(properties: T) {
  return { type: 'object', additionalProperties: false, properties } as const
}

function object<const T>(properties: T) {
  return { type: 'object', properties } as const
}

function array<const T>(items: T) {
  return { type: 'array', items } as const
}

export const telemetryQuery = query({ device_id: name, from, to, order: order('desc'), limit, cursor })
export const messagesQuery = query({ from, to, order: order('desc'), limit, cursor })
export const aggregatedQuery = query({ device_id: name, from, to, limit, cursor })
export const aggregatesQuery = query({ from, to, limit, cursor })
export const historicalQuery = query({
  sensor_id: name,
  hours: { ...hours, description: 'So many hours back from now; 24 when start and end are absent too. Not together with them.' },
  start: from,
  end: to,
  order: order('asc'),
  limit,
  cursor,
})
export const sensorsQuery = query({
  limit: { ...limit, maximum: limits.seedSensorsMax, description: `Sensors of a page; ${limits.seedSensorsMax} when absent.` },
  cursor,
})

const id = { type: 'string', description: '24 hexadecimal digits made of time and names: the same document has the same one.' } as const
export const telemetryDocument = object({ _id: id, device_id: name, ts: time, temperature_c: number, humidity: number, lat: number, lon: number })
export const aggregatedDocument = object({
  _id: id,
  device_id: name,
  sensor_type: { enum: ['temperature', 'humidity'] },
  count,
  sum: number,
  min: number,
  max: number,
  average: number,
  timestamp: { ...time, description: 'Start of the minute.' },
})
const sensorMessage = { sensor_id: name, timestamp: time, temperature: number, humidity: number, location: text } as const
export const telemetryAnswer = array(telemetryDocument)
export const aggregatedAnswer = array(aggregatedDocument)
export const sensorReadingsAnswer = array(object(sensorMessage))
export const historicalAnswer = object({ data: array(object(sensorMessage)), count, next_cursor: nextCursor })
export const sensorsAnswer = object({
  sensors: array(
    object({
      sensor_id: name,
      location: text,
      last_seen: { type: ['string', 'null'], format: 'date-time' },
      readings: { ...count, description: 'How often it sent its temperature or its humidity, whichever is more.' },
    }),
  ),
  count,
  next_cursor: nextCursor,
})
export const statsAnswer = object({
  devices: count,
  telemetry_count: { type: ['integer', 'null'], description: 'Stored temperatures. Null: too many to count in time.' },
  aggregated_count: { type: ['integer', 'null'], description: 'Documents of /aggregated. Null: too many to count in time.' },
  alerts_count: { type: ['integer', 'null'], description: 'Null: this version has no alerts.' },
  uptime_s: { type: 'number' },
  counted_at: { ...time, description: 'When the documents were counted.' },
})

export const latestQuery = query({ limit: { ...limit, description: 'Messages of a page; 10 when absent.' }, cursor })
export const hoursQuery = query({ hours })
export const summaryQuery = query({ hours, limit, cursor })
export const anomaliesQuery = query({
  threshold_stddev: {
    type: 'number',
    minimum: 0,
    maximum: 1_000,
    description: 'How many standard deviations from the mean of its device; 2 when absent.',
  },
  hours,
  limit,
  cursor,
})
export const lowBatteryQuery = query({ threshold: { type: 'number', description: 'Batteries below it; 20 when absent.' }, limit, cursor })
export const inactiveQuery = query({
  minutes: { type: 'integer', minimum: 1, maximum: 5_256_000, description: 'Silent for at least so long; 60 when absent.' },
  limit,
  cursor,
})

const statistics = object({ count, avg: number, min: number, max: number, stddev: number })
const window = { hours: count, from: time, to: time } as const

function page<const T, const W>(items: T, around: W) {
  return object({ ...around, items: array(object(items)), next_cursor: nextCursor })
}

export const latestAnswer = page({ time, temperature: number, humidity: number, battery: number, firmware: text }, { device_id: name })
export const statisticsAnswer = object({
  device_id: name,
  ...window,
  message_count: { ...count, description: 'Times at which it sent any of the three.' },
  temperature: statistics,
  humidity: statistics,
  battery: statistics,
})
export const summaryAnswer = page(
  {
    device_id: name,
    message_count: { ...count, description: 'Readings of the metric that it sent most often.' },
    last_seen: { ...time, description: 'Time of its last reading.' },
    avg_temperature: number,
    min_temperature: number,
    max_temperature: number,
    avg_humidity: number,
    avg_battery: number,
    min_battery: number,
  },
  window,
)
export const anomaliesAnswer = page(
  { device_id: name, time, temperature: { type: 'number' }, mean: { type: 'number' }, stddev: { type: 'number' }, z_score: { type: 'number' } },
  { threshold_stddev: { type: 'number' }, ...window },
)
export const lowBatteryAnswer = page({ device_id: name, time, battery: { type: 'number' } }, { threshold: { type: 'number' } })
export const inactiveAnswer = page(
  {
    device_id: name,
    last_seen: { type: ['string', 'null'], format: 'date-time', description: 'Null: it was registered and has never sent anything.' },
    minutes_inactive: { type: 'number' },
  },
  { minutes: count },
)
