type Variables = Readonly<Record<string, string | undefined>>

/** A variable of another project that means one of our settings, or says why it has no effect yet. */
export interface Alias {
  readonly variable: string
  /** Which document names it. */
  readonly seed: 'S1' | 'S2' | 'S3' | 'S4' | 'Heroku'
  /** What it does here, or will. */
  readonly effect: string
  /** Dotted name of the setting that it gives a value to; where this version has no such setting, it is pending. */
  readonly setting?: string
  /** Further settings that it gives the same value to. */
  readonly also?: readonly string[]
  /** The setting's value as text; undefined: it stays as it is. Absent: the variable's own text. */
  readonly value?: (env: Variables) => string | undefined
  /** It counts only beside this other variable. */
  readonly beside?: string
  /** Read by another command, with the effect that is stated. */
  readonly readBy?: string
}

const given = (text: string | undefined): text is string => text !== undefined && text !== ''

const pullUrl = (env: Variables): string | undefined => {
  const host = env['MQTT_BROKER']
  if (!given(host)) return undefined
  if (host.includes('://')) return host
  return `mqtt://${host.includes(':') && !host.startsWith('[') ? `[${host}]` : host}:${env['MQTT_PORT'] || '1883'}`
}

/** S1's database, which has both readings and metadata; its own defaults. */
const postgresUrl = (env: Variables): string | undefined => {
  const host = env['POSTGRES_HOST']
  if (!given(host)) return undefined
  const part = (name: string, fallback: string): string => encodeURIComponent(env[name] || fallback)
  const user = part('POSTGRES_USER', 'iot')
  const address = `${host.includes(':') && !host.startsWith('[') ? `[${host}]` : host}:${env['POSTGRES_PORT'] || '5432'}`
  return `postgres://${user}:${part('POSTGRES_PASSWORD', 'iot_password')}@${address}/${part('POSTGRES_DB', 'iot_analytics')}`
}

const kafkaUrl = (env: Variables): string | undefined => {
  const servers = env['KAFKA_BOOTSTRAP_SERVERS']
  if (!given(servers)) return undefined
  return servers.includes('://') ? servers : `kafka://${servers}`
}

const pull = 'with start, messages are pulled from that outside broker; with simulate, it is the target'
const postgres = 'store and metadata in that PostgreSQL database'
const kafka = 'the log is that Kafka'
const postgresSettings = { setting: 'store.url', also: ['meta.url'], value: postgresUrl }
const bounds = 'bounds of the built-in rules'

/** The seeds' variables with their stated effects. Flags, KYMO_ variables and the file win over them. */
export const aliases: readonly Alias[] = [
  { variable: 'MQTT_BROKER', seed: 'S1', effect: pull, setting: 'mqtt.pull.url', value: pullUrl },
  { variable: 'MQTT_PORT', seed: 'S1', effect: pull, setting: 'mqtt.pull.url', value: pullUrl, beside: 'MQTT_BROKER' },
  { variable: 'MQTT_TOPIC', seed: 'S1', effect: pull, setting: 'mqtt.pull.topics', beside: 'MQTT_BROKER' },
  { variable: 'POSTGRES_HOST', seed: 'S1', effect: postgres, ...postgresSettings },
  { variable: 'POSTGRES_PORT', seed: 'S1', effect: postgres, ...postgresSettings, beside: 'POSTGRES_HOST' },
  { variable: 'POSTGRES_DB', seed: 'S1', effect: postgres, ...postgresSettings, beside: 'POSTGRES_HOST' },
  { variable: 'POSTGRES_USER', seed: 'S1', effect: postgres, ...postgresSettings, beside: 'POSTGRES_HOST' },
  { variable: 'POSTGRES_PASSWORD', seed: 'S1', effect: postgres, ...postgresSettings, beside: 'POSTGRES_HOST' },
  { variable: 'DEVICE_COUNT', seed: 'S1', effect: 'how many devices kymo simulate has', readBy: 'simulate' },
  { variable: 'INTERVAL', seed: 'S1', effect: 'seconds between two messages of a device of kymo simulate', readBy: 'simulate' },
  { variable: 'BATCH_SIZE', seed: 'S1', effect: 'the most messages that one commit of the store waits for', setting: 'store.commit_messages' },
  { variable: 'AWS_REGION', seed: 'S2', effect: 'region of the AWS adapters', beside: 'DYNAMODB_TABLE' },
  { variable: 'DYNAMODB_TABLE', seed: 'S2', effect: 'table of the device mirror' },
  { variable: 'KAFKA_BOOTSTRAP_SERVERS', seed: 'S3', effect: kafka, setting: 'log.url', value: kafkaUrl },
  {
    variable: 'TELEMETRY_TOPIC',
    seed: 'S3',
    effect: 'its JSON documents are taken',
    setting: 'kafka.pull.topics',
    beside: 'KAFKA_BOOTSTRAP_SERVERS',
  },
  {
    variable: 'DLQ_TOPIC',
    seed: 'S3',
    effect: 'dead letters are written there',
    setting: 'kafka.dead_letters.topic',
    beside: 'KAFKA_BOOTSTRAP_SERVERS',
  },
  {
    variable: 'MAX_RETRIES',
    seed: 'S3',
    effect: 'how often a record that cannot be used is tried again, before it becomes a dead letter',
    setting: 'store.max_retries',
    beside: 'KAFKA_BOOTSTRAP_SERVERS',
  },
  { variable: 'MONGO_URL', seed: 'S3', effect: 'readings are copied into that MongoDB' },
  { variable: 'MONGO_DB', seed: 'S3', effect: 'readings are copied into that MongoDB', beside: 'MONGO_URL' },
  { variable: 'TEMP_MIN_THRESHOLD', seed: 'S3', effect: bounds },
  { variable: 'TEMP_MAX_THRESHOLD', seed: 'S3', effect: bounds },
  { variable: 'HUMIDITY_MIN_THRESHOLD', seed: 'S3', effect: bounds },
  { variable: 'HUMIDITY_MAX_THRESHOLD', seed: 'S3', effect: bounds },
  { variable: 'DATABASE_URL', seed: 'S4', effect: 'readings are pulled from that follower database, read-only' },
  { variable: 'HEROKU_POSTGRESQL_PURPLE_URL', seed: 'S4', effect: 'predictions are stored there', setting: 'forecast.url' },
  {
    variable: 'ENVIRONMENT',
    seed: 'S4',
    effect: 'production refuses open access and wants SECRET_KEY: exit 3 when it is missing',
    setting: 'environment',
  },
  { variable: 'SECRET_KEY', seed: 'S4', effect: 'the key that signs sessions; production refuses to start without it', setting: 'session_key' },
  { variable: 'PORT', seed: 'Heroku', effect: 'the HTTP port', setting: 'http.port' },
]

export interface FoundAlias {
  readonly alias: Alias
  readonly setting: string
  readonly text: string
}

/** Aliases that are set and count: those with a setting of ours, and those whose feature this version does not have. */
export function aliasesIn(
  env: Variables,
  known: (setting: string) => boolean,
): { readonly found: readonly FoundAlias[]; readonly pending: readonly Alias[] } {
  const found: FoundAlias[] = []
  const pending: Alias[] = []
  for (const alias of aliases) {
    const { variable, setting, also = [], beside, readBy } = alias
    if (!given(env[variable]) || readBy !== undefined || (beside !== undefined && !given(env[beside]))) continue
    if (setting === undefined || !known(setting)) {
      pending.push(alias)
      continue
    }
    const text = alias.value === undefined ? env[variable] : alias.value(env)
    if (text !== undefined) for (const one of [setting, ...also]) found.push({ alias, setting: one, text })
  }
  return { found, pending }
}
