/**
 * Every interface that the five documents name (docs/seeds.md says what they are), as rows: what is asked, and what must come of it. Rows that
 * belong to later work are `pending`: they must be refused until then, so that nobody finds half of a thing, and nobody forgets to move the row.
 */

/** The document: S0 Kinesis forecasting, S1 MQTT and TimescaleDB, S2 Go services, S3 Kafka and MongoDB, S4 predictor. */
export type Seed = 'S0' | 'S1' | 'S2' | 'S3' | 'S4' | 'Heroku'
/** What a pending row waits for. */
export type Later = 'alerts' | 'Kafka' | 'PostgreSQL' | 'AWS' | 'MongoDB' | 'monitoring'

/**
 * What an answer looks like. A word: of that type (`time` is RFC 3339, `null|number` either). `{ is }`: exactly that. A list: an array with at least
 * one item, all of that shape. An object: has at least these members.
 */
export type Shape = string | { readonly is: unknown } | readonly [Shape] | { readonly [member: string]: Shape }

/** Exactly that. */
export const is = (value: unknown): Shape => ({ is: value })

export interface MqttRow {
  readonly seed: Seed
  readonly topic: string
  readonly payload: string
  /** How it is read back; absent: it is routed only, and leaves no trace in the store. */
  readonly readBack?: { readonly path: string; readonly shape: Shape }
}

export const mqttRows: readonly MqttRow[] = [
  {
    seed: 'S1',
    topic: 'portfolio/telemetry',
    payload: `{
  "device_id": "test-device-001",
  "firmware": "1.0.0",
  "temperature": 25.5,
  "humidity": 60.0,
  "battery": 85.0,
  "timestamp": 1234567890
}`,
    readBack: {
      path: '/analytics/devices/test-device-001/latest',
      shape: { items: [is({ time: '2009-02-13T23:31:30.000Z', temperature: 25.5, humidity: 60, battery: 85, firmware: '1.0.0' })] },
    },
  },
  { seed: 'S1', topic: 'test', payload: 'hello' },
]

/** How a payload that a document prints is read, whatever door it comes through. */
export interface PayloadRow {
  readonly seed: Seed
  readonly payload: unknown
  readonly device: string
  /** `metric value unit time` of what is stored, sorted. */
  readonly stored: readonly string[]
  readonly attributes?: Readonly<Record<string, string>>
}

export const payloadRows: readonly PayloadRow[] = [
  {
    seed: 'S0',
    payload: { sensor_id: 'p0', temperature: 25.5, humidity: 60.0, location: 'Office_A', timestamp: '2024-05-01T10:00:00Z' },
    device: 'p0',
    stored: ['humidity 60 - 2024-05-01T10:00:00.000Z', 'temperature 25.5 - 2024-05-01T10:00:00.000Z'],
    attributes: { location: 'Office_A' },
  },
  {
    seed: 'S1',
    payload: { device_id: 'p1', firmware: '1.0.0', temperature: 25.5, humidity: 60.0, battery: 85.0, timestamp: 1234567890 },
    device: 'p1',
    stored: ['battery 85 - 2009-02-13T23:31:30.000Z', 'humidity 60 - 2009-02-13T23:31:30.000Z', 'temperature 25.5 - 2009-02-13T23:31:30.000Z'],
    attributes: { firmware: '1.0.0' },
  },
  {
    seed: 'S2',
    payload: { device_id: 'p2', timestamp: '2024-05-01T10:00:00+02:00', metric: 'pressure', value: 1013.25, unit: 'hPa', metadata: { line: 4 } },
    device: 'p2',
    stored: ['pressure 1013.25 hPa 2024-05-01T08:00:00.000Z'],
  },
  {
    seed: 'S3',
    payload: { device_id: 'p3', ts: '2024-05-01T10:00:00.5Z', temperature_c: -1.5, humidity: 50, lat: 52.5, lon: 13.4 },
    device: 'p3',
    stored: ['humidity 50', 'lat 52.5', 'lon 13.4', 'temperature -1.5'].map((text) => `${text} - 2024-05-01T10:00:00.500Z`),
  },
]

export interface SqlRow {
  readonly seed: Seed
  /** As it is printed. */
  readonly sql: string
  readonly columns?: readonly string[]
  readonly pending?: Later
}

export const sqlRows: readonly SqlRow[] = [
  {
    seed: 'S1',
    sql: `SELECT * FROM device_telemetry ORDER BY time DESC LIMIT 10;`,
    columns: ['time', 'device_id', 'temperature', 'humidity', 'battery', 'firmware'],
  },
  {
    seed: 'S1',
    sql: `SELECT device_id, COUNT(*), AVG(temperature), AVG(battery)
FROM device_telemetry
WHERE time > NOW() - INTERVAL '1 hour'
GROUP BY device_id;`,
    columns: ['device_id', 'count_star()', 'avg(temperature)', 'avg(battery)'],
  },
  {
    seed: 'S1',
    sql: `-- Temperature trends (5-minute buckets)
SELECT
    time_bucket('5 minutes', time) AS bucket,
    device_id,
    AVG(temperature) as avg_temp,
    MAX(temperature) as max_temp,
    MIN(temperature) as min_temp
FROM device_telemetry
WHERE time > NOW() - INTERVAL '24 hours'
GROUP BY bucket, device_id
ORDER BY bucket DESC;`,
    columns: ['bucket', 'device_id', 'avg_temp', 'max_temp', 'min_temp'],
  },
  {
    seed: 'S1',
    sql: `-- Device health summary
SELECT
    device_id,
    MAX(time) as last_seen,
    COUNT(*) as message_count,
    AVG(battery) as avg_battery,
    MIN(battery) as min_battery
FROM device_telemetry
WHERE time > NOW() - INTERVAL '1 hour'
GROUP BY device_id
ORDER BY min_battery ASC;`,
    columns: ['device_id', 'last_seen', 'message_count', 'avg_battery', 'min_battery'],
  },
  {
    seed: 'S1',
    sql: `-- Anomaly detection
WITH stats AS (
    SELECT
        device_id,
        AVG(temperature) as mean,
        STDDEV(temperature) as stddev
    FROM device_telemetry
    WHERE time > NOW() - INTERVAL '24 hours'
    GROUP BY device_id
)
SELECT t.*, s.mean, s.stddev,
       ABS(t.temperature - s.mean) / s.stddev as z_score
FROM device_telemetry t
JOIN stats s ON t.device_id = s.device_id
WHERE ABS(t.temperature - s.mean) > 2 * s.stddev
ORDER BY time DESC;`,
    columns: ['time', 'device_id', 'temperature', 'humidity', 'battery', 'firmware', 'mean', 'stddev', 'z_score'],
  },
  { seed: 'S1', sql: `SELECT * FROM timescaledb_information.hypertables;`, pending: 'PostgreSQL' },
]

export interface VariableRow {
  readonly seed: Seed
  readonly env: Readonly<Record<string, string>>
  /** Without which they count for nothing; it has a row of its own. */
  readonly beside?: Readonly<Record<string, string>>
  /** Dotted name and what it must be. Absent: the variable is pending, and the program must say that it has no effect. */
  readonly setting?: readonly [name: string, value: string | number]
  readonly pending?: Later
}

export const variableRows: readonly VariableRow[] = [
  { seed: 'S1', env: { MQTT_BROKER: 'broker' }, setting: ['mqtt.pull.url', 'mqtt://broker:1883'] },
  { seed: 'S1', env: { MQTT_BROKER: 'broker', MQTT_PORT: '1884' }, setting: ['mqtt.pull.url', 'mqtt://broker:1884'] },
  { seed: 'S1', env: { MQTT_BROKER: 'broker', MQTT_TOPIC: 'portfolio/telemetry' }, setting: ['mqtt.pull.topics', 'portfolio/telemetry'] },
  { seed: 'S1', env: { POSTGRES_HOST: 'localhost' }, setting: ['store.url', 'postgres://…@localhost:5432/iot_analytics'] },
  ...[{ POSTGRES_PORT: '5432' }, { POSTGRES_DB: 'iot_analytics' }, { POSTGRES_USER: 'iot' }, { POSTGRES_PASSWORD: 'iot_password' }].map(
    (env): VariableRow => ({
      seed: 'S1',
      env: { ...env, POSTGRES_HOST: 'localhost' },
      setting: ['meta.url', 'postgres://…@localhost:5432/iot_analytics'],
    }),
  ),
  { seed: 'S1', env: { BATCH_SIZE: '200' }, setting: ['store.commit_messages', 200] },
  { seed: 'S2', env: { DYNAMODB_TABLE: 'devices' }, pending: 'AWS' },
  { seed: 'S2', env: { AWS_REGION: 'us-west-2', DYNAMODB_TABLE: 'devices' }, pending: 'AWS' },
  { seed: 'S3', env: { KAFKA_BOOTSTRAP_SERVERS: 'kafka:9092' }, setting: ['log.url', 'kafka://kafka:9092'] },
  { seed: 'S3', env: { TELEMETRY_TOPIC: 'telemetry.raw', KAFKA_BOOTSTRAP_SERVERS: 'kafka:9092' }, setting: ['kafka.pull.topics', 'telemetry.raw'] },
  { seed: 'S3', env: { DLQ_TOPIC: 'telemetry.dlq', KAFKA_BOOTSTRAP_SERVERS: 'kafka:9092' }, setting: ['kafka.dead_letters.topic', 'telemetry.dlq'] },
  { seed: 'S3', env: { MAX_RETRIES: '4' }, beside: { KAFKA_BOOTSTRAP_SERVERS: 'kafka:9092' }, setting: ['store.max_retries', 4] },
  { seed: 'S3', env: { MONGO_URL: 'mongodb://mongo:27017' }, pending: 'MongoDB' },
  { seed: 'S3', env: { MONGO_DB: 'iotdb', MONGO_URL: 'mongodb://mongo:27017' }, pending: 'MongoDB' },
  { seed: 'S3', env: { TEMP_MIN_THRESHOLD: '-10' }, pending: 'alerts' },
  { seed: 'S3', env: { TEMP_MAX_THRESHOLD: '50' }, pending: 'alerts' },
  { seed: 'S3', env: { HUMIDITY_MIN_THRESHOLD: '0' }, pending: 'alerts' },
  { seed: 'S3', env: { HUMIDITY_MAX_THRESHOLD: '100' }, pending: 'alerts' },
  { seed: 'S4', env: { DATABASE_URL: 'postgres://follower/db' }, pending: 'PostgreSQL' },
  { seed: 'S4', env: { HEROKU_POSTGRESQL_PURPLE_URL: 'postgres://predictions/db' }, setting: ['forecast.url', 'postgres://predictions/db'] },
  { seed: 'S4', env: { ENVIRONMENT: 'production', SECRET_KEY: 'k' }, setting: ['environment', 'production'] },
  { seed: 'S4', env: { SECRET_KEY: 'k' }, setting: ['session_key', '(secret)'] },
  { seed: 'Heroku', env: { PORT: '5000' }, setting: ['http.port', 5000] },
]

export interface CommandRow {
  readonly seed: Seed
  /** After `kymo`. `$http` and `$mqtt` are the ports of the running server. */
  readonly line: string
  readonly env?: Readonly<Record<string, string>>
  readonly code: number
  readonly output: RegExp
}

/** A simulation begins at the next whole second. What differs from the printed line is only the port, and how long it runs. */
export const commandRows: readonly CommandRow[] = [
  {
    seed: 'S1',
    line: 'simulate --device-count 5 --interval 2 --broker localhost --topic portfolio/telemetry --port $mqtt --duration 3s --prefix sim-a- --json',
    code: 0,
    output: /"acknowledged":[1-9]/,
  },
  {
    seed: 'S1',
    line: 'simulate --duration 3s --prefix sim-b- --json',
    env: { MQTT_BROKER: 'localhost', MQTT_PORT: '$mqtt', MQTT_TOPIC: 'portfolio/telemetry', DEVICE_COUNT: '3', INTERVAL: '0.2' },
    code: 0,
    output: /"sent":[234]\d,/,
  },
  { seed: 'S1', line: 'simulate --device-count none', code: 2, output: /device-count/ },
  {
    seed: 'S1',
    line: 'analytics --url http://localhost:$http',
    code: 0,
    output: /All devices, last 24 h[^]*device-001[^]*Temperature anomalies[^]*device-001[^]*Low batteries[^]*device-001/,
  },
  { seed: 'S1', line: 'analytics device-001 --hours 24 --url http://localhost:$http --json', code: 0, output: /"device_id":"device-001","hours":24/ },
  {
    seed: 'S3',
    line: 'load --devices 10 --rps 1.0 --base-url http://localhost:$http --duration 2s --url http://localhost:$http --assert lost==0,errors==0 --json',
    code: 0,
    output: /"sent":20,/,
  },
  {
    seed: 'S3',
    line: 'load --devices 10 --rps 2.0 --base-url http://localhost:$http --duration 2s --url http://localhost:$http --json',
    code: 0,
    output: /"sent":40,/,
  },
  { seed: 'S4', line: 'start --data $nowhere', env: { ENVIRONMENT: 'production' }, code: 3, output: /production needs a key .*SECRET_KEY/ },
]

/** The documents give no names of metrics, only words. */
export interface MetricRow {
  readonly seed: Seed
  readonly words: string
  readonly metric: string
  readonly pending?: Later
}

export const metricRows: readonly MetricRow[] = [
  { seed: 'S1', words: 'message processing rate', metric: 'kymo_ingest_messages_total' },
  { seed: 'S1', words: 'database write latency', metric: 'kymo_store_write_duration_seconds' },
  { seed: 'S1', words: 'active device count', metric: 'kymo_devices' },
  { seed: 'S1', words: 'error rates, failures', metric: 'kymo_ingest_rejected_total' },
  { seed: 'S3', words: 'ingestion counters', metric: 'kymo_ingest_readings_total' },
  { seed: 'S3', words: 'processing duration', metric: 'kymo_ingest_duration_seconds' },
  { seed: 'S3', words: 'DLQ counters', metric: 'kymo_dlq_messages_total' },
  { seed: 'S3', words: 'retry attempts', metric: 'kymo_store_write_errors_total' },
  { seed: 'S3', words: 'API requests', metric: 'http_request_duration_seconds' },
  { seed: 'S3', words: 'aggregation metrics', metric: 'kymo_aggregates_written_total', pending: 'monitoring' },
  { seed: 'S3', words: 'alert processing', metric: 'kymo_rules_evaluations_total', pending: 'alerts' },
  { seed: 'S4', words: 'prediction accuracy', metric: 'kymo_model_error' },
  { seed: 'S4', words: 'drift', metric: 'kymo_model_drift' },
  { seed: 'S4', words: 'replica lag', metric: 'kymo_replica_lag_seconds', pending: 'PostgreSQL' },
]

/** What S1's queries and analytics have to find: half an hour of a device with one wild temperature and an empty battery. */
export function recentMessages(nowMs: number): readonly Readonly<Record<string, unknown>>[] {
  return Array.from({ length: 30 }, (_, i) => ({
    device_id: 'device-001',
    firmware: '1.0.0',
    temperature: i === 10 ? 60 : 19 + (i % 3),
    humidity: 60,
    battery: 12,
    timestamp: Math.floor(nowMs / 1000) - (30 - i) * 60,
  }))
}

/** What S0 and S4 forecast from: three days of hours of a sensor, warm by day, up to this hour. */
export function hourlyMessages(nowMs: number): readonly Readonly<Record<string, unknown>>[] {
  const hourMs = 3_600_000
  const lastMs = Math.floor(nowMs / hourMs) * hourMs
  return Array.from({ length: 73 }, (_, i) => {
    const ms = lastMs - (72 - i) * hourMs
    const turn = (2 * Math.PI * (ms % (24 * hourMs))) / (24 * hourMs)
    return { sensor_id: 'sensor_002', temperature: 20 - 5 * Math.cos(turn) + (i % 3) / 10, humidity: 50 + 10 * Math.cos(turn), timestamp: ms / 1000 }
  })
}
