import { is } from './seed-table.ts'
import type { Later, Seed, Shape } from './seed-table.ts'

/* HTTP rows of the table; see seed-table.ts. */

export interface HttpRow {
  readonly seed: Seed
  /** `POST /ingest`. `$name` stands for what an earlier row saved. */
  readonly request: string
  readonly body?: unknown
  readonly accept?: string
  /** Absent for pending rows. */
  readonly status?: number
  readonly shape?: Shape
  /** Text that the body has, where it is no JSON. */
  readonly text?: RegExp
  readonly header?: readonly [name: string, value: RegExp]
  readonly save?: { readonly member: string; readonly as: string }
  readonly pending?: Later
}

const error = { error: 'string', type: 'string', title: 'string', status: 'integer', detail: 'string', code: 'string' } as const
const device = {
  id: 'string',
  device_id: 'string',
  name: 'string',
  type: 'string',
  status: is('active'),
  tenant_id: 'string',
  metadata: {},
  created_at: 'time',
  updated_at: 'time',
  last_seen: 'time',
} as const
const telemetryDocument: Shape = {
  _id: 'string',
  device_id: 'string',
  ts: 'time',
  temperature_c: 'null|number',
  humidity: 'null|number',
  lat: 'null|number',
  lon: 'null|number',
}
const aggregatedDocument: Shape = {
  _id: 'string',
  device_id: 'string',
  sensor_type: 'string',
  count: 'integer',
  sum: 'number',
  min: 'number',
  max: 'number',
  average: 'number',
  timestamp: 'time',
}
const seedForecast: Shape = {
  sensor_id: is('sensor_002'),
  model: is('seasonal-naive'),
  generated_at: 'time',
  hours_ahead: is(24),
  predictions: [{ timestamp: 'time', temperature: 'number', lower: 'null|number', upper: 'null|number' }],
}
const training: Shape = { status: is('training'), job_id: 'string' }
const jobPlace = ['location', /^\/api\/v1\/jobs\/[0-9a-f-]{36}$/] as const
const predictionDocument: Shape = {
  sensor_id: is('sensor_002'),
  target_time: 'time',
  predicted_temperature: 'number',
  predicted_humidity: 'number',
  actual_temperature: 'null|number',
  actual_humidity: 'null|number',
  model_version: 'integer',
  created_at: 'time',
}
const metricsAnswer: Shape = { metrics: [{ time: 'time', value: 'number' }] }
const health: Shape = { status: is('healthy'), service: is('kymo'), version: 'string', timestamp: 'time' }
const prometheus = /^# TYPE kymo_ingest_messages_total counter$/m

/** In the order in which they are sent: what a row reads, an earlier one or the payloads have sent. */
export const httpRows: readonly HttpRow[] = [
  // S0, port 8000
  { seed: 'S0', request: 'GET /', accept: 'application/json', status: 200, shape: { ...(health as object), docs: is('/docs') } },
  { seed: 'S0', request: 'GET /docs', accept: 'text/html', status: 200, text: /<html/i, header: ['content-type', /^text\/html/] },
  {
    seed: 'S0',
    request: 'POST /sensor-data',
    body: { sensor_id: 'sensor_001', temperature: 25.5, humidity: 60.0, location: 'Office_A' },
    status: 200,
    shape: { status: is('success'), message: 'string', sensor_id: is('sensor_001'), timestamp: 'time' },
  },
  {
    seed: 'S0',
    request: 'POST /sensor-data',
    body: [
      { sensor_id: 'sensor_002', temperature: 1, humidity: 40, timestamp: 1_234_567_890 },
      { sensor_id: 'sensor_002', temperature: 2, humidity: 41, timestamp: 1_234_567_950 },
    ],
    status: 200,
    shape: { status: is('success'), accepted: is(2) },
  },
  // One reading is too little; sensor_002 has sent for three days (hourlyMessages).
  {
    seed: 'S0',
    request: 'POST /forecast',
    body: { sensor_id: 'sensor_001', hours_ahead: 24 },
    status: 409,
    shape: { ...error, code: is('too_little_data'), facts: { missing: 'integer' } },
  },
  { seed: 'S0', request: 'POST /forecast', body: { sensor_id: 'sensor_002', hours_ahead: 24 }, status: 200, shape: seedForecast },
  { seed: 'S0', request: 'POST /forecast?model=seasonal_naive', body: { sensor_id: 'sensor_002' }, status: 200, shape: seedForecast },
  { seed: 'S0', request: 'POST /forecast', body: { sensor_id: 'nobody', hours_ahead: 24 }, status: 404, shape: error },
  { seed: 'S0', request: 'POST /forecast', body: { sensor_id: 'sensor_002', hours_ahead: -1 }, status: 422, shape: error },
  { seed: 'S0', request: 'POST /forecast?model=magic', body: { sensor_id: 'sensor_002' }, status: 404, shape: error },
  {
    seed: 'S0',
    request: 'GET /historical-data?sensor_id=sensor_001&hours=24',
    status: 200,
    shape: {
      data: [{ sensor_id: is('sensor_001'), timestamp: 'time', temperature: is(25.5), humidity: is(60), location: is('Office_A') }],
      count: is(1),
      next_cursor: is(null),
    },
  },
  {
    seed: 'S0',
    request: 'GET /historical-data?start=2009-01-01&end=2010-01-01&sensor_id=sensor_002&limit=1',
    status: 200,
    shape: { count: is(1), next_cursor: 'string' },
  },
  {
    seed: 'S0',
    request: 'GET /sensors',
    status: 200,
    shape: { sensors: [{ sensor_id: 'string', location: 'null|string', last_seen: 'null|time', readings: 'integer' }], count: 'integer' },
  },
  { seed: 'S0', request: 'POST /model/train', body: {}, status: 202, shape: training, header: jobPlace },
  {
    seed: 'S0',
    request: 'POST /model/train',
    body: { sensor_id: 'sensor_002', algorithm: 'random_forest' },
    status: 202,
    shape: training,
    header: jobPlace,
  },
  { seed: 'S0', request: 'POST /model/train', body: { sensor_id: 'sensor_002', algorithm: 'magic' }, status: 422, shape: error },
  {
    seed: 'S0',
    request: 'GET /model/status',
    status: 200,
    shape: {
      is_trained: 'boolean',
      algorithm: 'null|string',
      last_trained: 'null|time',
      training_samples: 'null|integer',
      metrics: { mae: 'null|number', rmse: 'null|number', r2: 'null|number' },
      features: 'array',
      job: { id: 'string', state: 'string' },
    },
  },

  // S1: the calls of its Python class
  {
    seed: 'S1',
    request: 'GET /analytics/devices/device-001/latest',
    status: 200,
    shape: {
      device_id: is('device-001'),
      items: [{ time: 'time', temperature: 'number', humidity: 'number', battery: 'number', firmware: is('1.0.0') }],
    },
  },
  {
    seed: 'S1',
    request: 'GET /analytics/devices/device-001/statistics?hours=24',
    status: 200,
    shape: {
      device_id: is('device-001'),
      hours: is(24),
      message_count: is(30),
      temperature: { count: is(30), avg: 'number', min: is(19), max: is(60), stddev: 'number' },
      humidity: { avg: is(60), stddev: is(0) },
      battery: { min: is(12) },
    },
  },
  {
    seed: 'S1',
    request: 'GET /analytics/anomalies?threshold_stddev=2.0',
    status: 200,
    shape: { items: [{ device_id: is('device-001'), time: 'time', temperature: is(60), mean: 'number', stddev: 'number', z_score: 'number' }] },
  },
  {
    seed: 'S1',
    request: 'GET /analytics/low-battery?threshold=20.0',
    status: 200,
    shape: { items: [{ device_id: is('device-001'), time: 'time', battery: is(12) }], next_cursor: is(null) },
  },
  { seed: 'S1', request: 'GET /analytics/inactive?minutes=30', status: 200, shape: { minutes: is(30), items: 'array' } },
  {
    seed: 'S1',
    request: 'GET /analytics/summary',
    status: 200,
    shape: {
      items: [{ device_id: 'string', message_count: 'integer', last_seen: 'time', avg_temperature: 'null|number', min_battery: 'null|number' }],
    },
  },

  // S2, port 8080
  {
    seed: 'S2',
    request: 'POST /devices',
    body: { name: 'Test Device', type: 'sensor', tenant_id: 'test-tenant' },
    status: 201,
    shape: { ...device, name: is('Test Device'), type: is('sensor'), tenant_id: is('test-tenant') },
    save: { member: 'id', as: 'device' },
  },
  { seed: 'S2', request: 'POST /devices', body: { name: 5 }, status: 400, shape: error },
  { seed: 'S2', request: 'GET /devices/$device', status: 200, shape: { ...device, id: 'string' } },
  { seed: 'S2', request: 'GET /devices/nobody', status: 404, shape: { ...error, error: is('Device not found') } },
  {
    seed: 'S2',
    request: 'PUT /devices/$device/status',
    body: { status: 'maintenance' },
    status: 200,
    shape: { message: is('Device status updated') },
  },
  { seed: 'S2', request: 'PUT /devices/$device/status', body: {}, status: 400, shape: error },
  {
    seed: 'S2',
    request: 'POST /ingest',
    body: { device_id: 'plant-1', timestamp: '2024-05-01T10:00:00Z', metric: 'pressure', value: 1013.25, unit: 'hPa', metadata: { line: 4 } },
    status: 200,
    shape: is({ message: 'Data ingested successfully' }),
  },
  { seed: 'S2', request: 'POST /ingest', body: { device_id: 'plant-1', metric: 'pressure', value: 'high' }, status: 400, shape: error },
  {
    seed: 'S2',
    request: 'POST /ingest/batch',
    body: [
      { device_id: 'plant-1', timestamp: '2024-05-01T10:01:00Z', metric: 'pressure', value: 1013.5, unit: 'hPa' },
      { device_id: 'plant-1', timestamp: '2024-05-01T10:06:00Z', metric: 'pressure', value: 1014, unit: 'hPa' },
    ],
    status: 200,
    shape: { message: is('Batch data ingested successfully'), accepted: is(2), rejected: is(0), results: is([]) },
  },
  {
    seed: 'S2',
    request: 'POST /ingest/batch',
    body: [
      { device_id: 'plant-1', timestamp: '2024-05-01T10:06:00Z', metric: 'pressure', value: 1014 },
      { metric: 'pressure', value: 1 },
    ],
    status: 207,
    shape: { message: 'string', error: 'string', accepted: is(1), rejected: is(1), results: [{ index: is(1), status: is(400), code: 'string' }] },
  },
  {
    seed: 'S2',
    request: 'GET /devices/plant-1/metrics?metric=pressure&startTime=2024-05-01T00:00:00Z&endTime=2024-05-02T00:00:00Z',
    status: 200,
    shape: metricsAnswer,
  },
  { seed: 'S2', request: 'GET /devices/plant-1/metrics?metric=pressure&startTime=soon', status: 400, shape: error },
  ...['avg', 'sum', 'min', 'max'].flatMap((aggregation) =>
    ['1m', '5m', '1h', '1d'].map((interval): HttpRow => ({
      seed: 'S2',
      request: `GET /devices/plant-1/aggregated?metric=pressure&aggregation=${aggregation}&interval=${interval}`,
      status: 200,
      shape: metricsAnswer,
    })),
  ),
  { seed: 'S2', request: 'GET /devices/plant-1/aggregated?metric=pressure&aggregation=median&interval=1m', status: 400, shape: error },
  {
    seed: 'S2',
    request: "GET /devices/plant-1/aggregated?metric=pressure&aggregation=avg&interval=1m'%20OR%201=1",
    status: 400,
    shape: error,
  },

  // S3, ingestion on port 8001
  {
    seed: 'S3',
    request: 'POST /ingest',
    body: { device_id: 'dev-1', temperature_c: 25.5, humidity: 60.0 },
    status: 200,
    shape: is({ status: 'queued', device_id: 'dev-1' }),
  },
  {
    seed: 'S3',
    request: 'POST /ingest',
    body: { device_id: 'dev-2', ts: '2024-05-01T10:00:00Z', temperature_c: 20, humidity: 50, lat: 52.5, lon: 13.4 },
    status: 200,
    shape: is({ status: 'queued', device_id: 'dev-2' }),
  },
  {
    seed: 'S3',
    request: 'POST /ingest',
    body: { device_id: 'test', temperature_c: 25, humidity: 50 },
    status: 200,
    shape: is({ status: 'queued', device_id: 'test' }),
  },
  { seed: 'S3', request: 'POST /ingest', body: { device_id: 'dev-1', temperature_c: 'warm', humidity: 60 }, status: 422, shape: error },
  { seed: 'S3', request: 'POST /ingest', body: { temperature_c: 25.5, humidity: 60 }, status: 422, shape: error },
  { seed: 'S3', request: 'POST /ingest', body: { device_id: 'dev-1', temperature: 1, temperature_c: 2, humidity: 60 }, status: 422, shape: error },
  { seed: 'S3', request: 'POST /ingest', body: { device_id: 'dev-1' }, status: 400, shape: error },
  { seed: 'S3', request: 'GET /health', status: 200, shape: health },
  { seed: 'S3', request: 'GET /metrics', status: 200, text: prometheus },
  // S3, dashboard on port 8002
  { seed: 'S3', request: 'GET /', status: 200, shape: health },
  { seed: 'S3', request: 'GET /telemetry', status: 200, shape: [telemetryDocument] },
  {
    seed: 'S3',
    request: 'GET /telemetry?limit=1',
    status: 200,
    shape: [telemetryDocument],
    header: ['link', /^<\/telemetry\?limit=1&cursor=[^>]+>; rel="next"$/],
  },
  { seed: 'S3', request: 'GET /telemetry?limit=1', status: 200, shape: [telemetryDocument], header: ['x-truncated', /^true$/] },
  { seed: 'S3', request: 'GET /telemetry?limit=0', status: 400, shape: error },
  { seed: 'S3', request: 'GET /aggregated', status: 200, shape: [aggregatedDocument] },
  { seed: 'S3', request: 'GET /aggregated?device_id=dev-1&limit=1', status: 200, shape: [aggregatedDocument] },
  { seed: 'S3', request: 'GET /alerts', pending: 'alerts' },
  { seed: 'S3', request: 'GET /alerts/recent', pending: 'alerts' },
  { seed: 'S3', request: 'GET /devices', status: 200, shape: [{ id: 'string', device_id: 'string', name: 'string', last_seen: 'time' }] },
  { seed: 'S3', request: 'GET /devices?fields=id', status: 200, shape: ['string'] },
  {
    seed: 'S3',
    request: 'GET /devices/dev-2/telemetry',
    status: 200,
    shape: [{ device_id: is('dev-2'), ts: is('2024-05-01T10:00:00.000Z'), temperature_c: is(20), humidity: is(50), lat: is(52.5), lon: is(13.4) }],
  },
  {
    seed: 'S3',
    request: 'GET /devices/dev-1/telemetry',
    status: 200,
    shape: [{ device_id: is('dev-1'), temperature_c: is(25.5), humidity: is(60), lat: is(null), lon: is(null) }],
  },
  { seed: 'S3', request: 'GET /devices/nobody/telemetry', status: 404, shape: error },
  { seed: 'S3', request: 'GET /devices/dev-1/aggregates', status: 200, shape: [aggregatedDocument] },
  {
    seed: 'S3',
    request: 'GET /stats',
    status: 200,
    shape: { devices: 'integer', telemetry_count: 'integer', aggregated_count: 'integer', alerts_count: is(null), uptime_s: 'number' },
  },

  // S4, port 8000
  { seed: 'S4', request: 'POST /predict', body: { sensor_id: 'sensor_001', horizon: 24 }, status: 409, shape: error },
  {
    seed: 'S4',
    request: 'POST /predict',
    body: { sensor_id: 'sensor_002', horizon: 24 },
    status: 200,
    shape: { sensor_id: is('sensor_002'), horizon: is(24), predictions: [predictionDocument] },
  },
  { seed: 'S4', request: 'POST /predict', body: { sensor_id: 'nobody' }, status: 404, shape: error },
  { seed: 'S4', request: 'GET /predictions?sensor_id=sensor_002', status: 200, shape: [predictionDocument] },
  { seed: 'S4', request: 'GET /predictions', status: 400, shape: error },
  { seed: 'S4', request: 'GET /predictions/latest', status: 200, shape: [predictionDocument] },
  { seed: 'S4', request: 'GET /sensors', status: 200, shape: { sensors: [{ sensor_id: 'string' }] } },
  {
    seed: 'S4',
    request: 'GET /sensors/sensor_001/readings',
    status: 200,
    shape: [{ sensor_id: is('sensor_001'), timestamp: 'time', temperature: 'number', humidity: 'number' }],
  },
  { seed: 'S4', request: 'GET /sensors/nobody/readings', status: 404, shape: error },
  { seed: 'S4', request: 'GET /models', status: 200, shape: 'array' },
  {
    seed: 'S4',
    request: 'GET /models/sensor_002',
    status: 200,
    shape: {
      sensor_id: is('sensor_002'),
      version: 'null|integer',
      trained_at: 'null|time',
      mae: 'null|number',
      rmse: 'null|number',
      drift: 'boolean',
      models: 'array',
    },
  },
  { seed: 'S4', request: 'GET /models/nobody', status: 404, shape: error },
  { seed: 'S4', request: 'POST /models/sensor_002/train', body: {}, status: 202, shape: training, header: jobPlace },
  { seed: 'S4', request: 'GET /health', status: 200, shape: health },
  { seed: 'S4', request: 'GET /', accept: 'text/html', status: 200, text: /<html/i, header: ['content-type', /^text\/html/] },
]
