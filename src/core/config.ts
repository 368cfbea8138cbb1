import { ageUs } from './duration.ts'
import { KymoError } from './errors.ts'
import { limits } from './limits.ts'
import { forecastSettings } from './config-forecast.ts'
import { kafkaSettings } from './config-kafka.ts'
import { pullSettings } from './config-pull.ts'
import { retainedSettings, sessionSettings } from './config-sessions.ts'
import { misfit, parseRules, type RetentionRule } from './retention-rules.ts'
import { age, choice, flag, rules, text, whole, type Branch, type Setting, type ValuesOf } from './setting.ts'

export const defaultTopics = 'portfolio/telemetry,devices/{device}/telemetry,telemetry,telemetry/{device},sensors/{device}/data'

/** Of a door that can speak TLS. */
function certificateSettings(effect: string) {
  return {
    cert_file: text({
      description: `Certificate in PEM, those between it and the root behind it: ${effect}. Looked at each minute and at a reload; new connections get a new one.`,
      default: '',
    }),
    key_file: text({ description: 'Its private key in PEM, without a passphrase.', default: '' }),
    ca_file: text({ description: 'Certificates in PEM that vouch for those of clients.', default: '' }),
    min_version: choice(['TLSv1.2', 'TLSv1.3'], { description: 'The oldest TLS that is spoken.', default: 'TLSv1.2' }),
  }
}

/**
 * One schema (docs/adr/0006). Names are mechanical: `store.url` = KYMO_STORE_URL = --store-url = `store:` `url:` in the file. A flag wins over the
 * environment, the environment over the file, the file over the default. The reference page (docs/reference/config.md) is generated from here.
 */
export const configSchema = {
  data_dir: text({ description: 'Directory of everything that is kept. Created when absent.', default: './kymo-data' }),
  environment: choice(['development', 'production'], {
    description: 'production refuses open access without credentials, even on loopback.',
    default: 'development',
  }),
  auth: choice(['auto', 'token', 'open'], {
    description: 'auto: no credentials on loopback, tokens elsewhere. token: always. open: never; the network protects it.',
    default: 'auto',
  }),
  session_key: text({
    description: 'Key that signs sessions of the web page. production refuses to start without it.',
    default: '',
    secret: true,
  }),
  roles: text({
    description:
      'What this process does: all, or some of ingest, store, api, forecast, separated by commas. Roles apart need log.url, store.url and meta.url that ' +
      'all processes reach; forecast goes with api.',
    default: 'all',
  }),
  log: {
    url: text({
      description:
        'The durable log. file:<dir> is the embedded one; absent: <data_dir>/log. kafka://host:9092,host:9092 is that Kafka, kafkas:// with TLS.',
      default: '',
    }),
    level: choice(['debug', 'info', 'warn', 'error'], {
      description: 'What the program says of itself on stderr.',
      default: 'info',
      reload: true,
    }),
    format: choice(['auto', 'json', 'text'], {
      description: 'How it says it; auto: text on a terminal, JSON lines elsewhere.',
      default: 'auto',
    }),
    segment_bytes: whole({
      description: 'Size at which a segment of the log is closed.',
      default: limits.segmentBytesMax,
      minimum: 65536,
      unit: 'bytes',
    }),
    retention_bytes: whole({
      description: 'Consumed segments kept beyond what consumers still need.',
      default: limits.logRetentionBytesMin,
      minimum: 0,
      unit: 'bytes',
    }),
    retention_age: age({
      description:
        'A record that all consumers have read is gone at this age, however little comes; with more than retention_bytes it goes before. Empty: only then.',
      default: '30d',
    }),
    quota_bytes: whole({
      description: 'At this size acknowledgements wait until the consumers have caught up.',
      default: limits.logQuotaBytesMax,
      minimum: 1048576,
      unit: 'bytes',
    }),
    reserve_bytes: whole({
      description: 'Disk space that is left alone, so that closing and checkpointing work on a full disk.',
      default: limits.diskReserveBytes,
      minimum: 0,
      unit: 'bytes',
    }),
  },
  kafka: kafkaSettings,
  store: {
    url: text({
      description:
        'The time-series store. duckdb:<dir> is the embedded one; absent: <data_dir>/store. postgres://user:password@host:5432/database is that PostgreSQL.',
      default: '',
    }),
    memory_mb: whole({
      description:
        'Most memory that the embedded store uses for queries, appends and blocks of files that it has read. With less than 128 MB it would refuse ordinary queries.',
      default: 512,
      minimum: 128,
      unit: 'MB',
    }),
    commit_messages: whole({
      description:
        'The most messages that one commit waits for: at the rate of the last second, it comes no later than so many have arrived. It never waits ' +
        'longer than 100 ms, and takes what there is. 0: no such bound.',
      default: 0,
      minimum: 0,
      unit: 'messages',
    }),
    max_retries: whole({
      description:
        'How often a record that a store on PostgreSQL cannot take is tried again, before it becomes a dead letter. For a store that does not answer ' +
        'nothing does.',
      default: 3,
      minimum: 0,
      maximum: 100,
    }),
    seal_mb: whole({
      description: 'The file that is being written is closed, and sealed into compressed days, when it has so many.',
      default: limits.hotBytesMax / 2 ** 20,
      minimum: 1,
      unit: 'MB',
      reload: true,
    }),
    seal_minutes: whole({
      description: 'The same after so long, when anything was written.',
      default: limits.hotAgeMaxMs / 60_000,
      minimum: 1,
      unit: 'minutes',
      reload: true,
    }),
  },
  retention: {
    raw: age({ description: 'How long readings are kept at least: 36h, 90d, 26w, 5y. They go with their UTC day. Empty: for ever.', reload: true }),
    minutes: age({ description: 'The same for the rollups of 1 minute; not shorter than retention.raw.', reload: true }),
    hours: age({ description: 'The same for the rollups of 1 hour; not shorter than retention.minutes.', reload: true }),
    rules: rules({
      description:
        'Series whose data goes earlier: a list of {labels, metrics, raw, minutes, hours}; the first that matches counts, an age that it lacks is the ' +
        'general one. labels are members of a device’s metadata, metrics are names with *. In a variable or flag: as JSON.',
      reload: true,
    }),
    store_mb: whole({
      description: 'When sealed files have more, the oldest days of readings go, then of minutes; hours never, today never. 0: no limit.',
      default: 0,
      minimum: 0,
      unit: 'MB',
      reload: true,
    }),
  },
  storage: {
    quota_mb: whole({
      description: 'When log and store together have more, acknowledgements wait; nothing is deleted and reads go on. 0: the disk is the limit.',
      default: 0,
      minimum: 0,
      unit: 'MB',
      reload: true,
    }),
  },
  meta: {
    url: text({
      description:
        'Devices, tokens and other metadata. sqlite:<file> is the embedded one; absent: <data_dir>/meta.sqlite. postgres://… as store.url.',
      default: '',
    }),
  },
  forecast: forecastSettings,
  http: {
    host: text({ description: 'Address that the HTTP door binds. Beyond loopback, credentials are needed.', default: '127.0.0.1' }),
    port: whole({ description: 'Port of the HTTP door; 0: any free one.', default: 8080, minimum: 0, maximum: 65535 }),
    compat_ports: flag({ description: 'Also listen on 8000 to 8004, where free, with the same routes.', default: false }),
    body_bytes_max: whole({ description: 'Largest body, after decompression too.', default: limits.httpBodyBytesMax, minimum: 1024, unit: 'bytes' }),
    tls: {
      ...certificateSettings('http.port then speaks HTTPS and nothing else'),
      client_certificates: choice(['off', 'require'], {
        description: 'require: a client needs a certificate that http.tls.ca_file vouches for. Browsers then need one, too.',
        default: 'off',
      }),
      hsts_max_age_s: whole({
        description:
          'Browsers shall ask this host for HTTPS only, on all its ports, for so long (not sent for localhost and addresses). 0: not said.',
        default: limits.hstsMaxAgeS,
        minimum: 0,
        unit: 's',
      }),
    },
    cors: {
      origins: text({
        description: 'Origins whose pages may call the API, separated by commas, as https://app.example.com. Empty: none. A wildcard is refused.',
        default: '',
      }),
    },
    rate: {
      requests_per_s: whole({
        description: 'Requests a second of one credential, or of one address without; loopback is not counted. Beyond: 429. 0: no limit.',
        default: limits.httpRequestsPerS,
        minimum: 0,
      }),
      burst: whole({ description: 'Requests that may come at once.', default: limits.httpRequestsBurst, minimum: 1 }),
    },
  },
  mqtt: {
    host: text({ description: 'Address that the MQTT door binds. Beyond loopback, credentials are needed.', default: '127.0.0.1' }),
    port: whole({ description: 'Port of the MQTT door; 0: any free one.', default: 1883, minimum: 0, maximum: 65535 }),
    topics: text({
      description:
        'Topics that carry telemetry, separated by commas: filters with + and #, or templates with {device}. All other topics are routed only.',
      default: defaultTopics,
    }),
    packet_bytes_max: whole({ description: 'Largest MQTT packet.', default: limits.mqttPacketBytesMax, minimum: 256, unit: 'bytes' }),
    connections_max: whole({ description: 'Connections in all.', default: limits.mqttConnectionsMax, minimum: 1 }),
    connections_per_address_max: whole({
      description: 'Connections of one address (of IPv6 its first 64 bits).',
      default: limits.mqttConnectionsPerAddressMax,
      minimum: 1,
    }),
    connects_per_s: whole({
      description: `Connections a second that one address may open, ${limits.mqttConnectsBurst} at once; beyond, they are closed. Loopback is not counted. 0: no limit.`,
      default: limits.mqttConnectsPerS,
      minimum: 0,
    }),
    connect_timeout_s: whole({
      description: 'A connection that has not sent CONNECT by then, or was not let in, is closed.',
      default: limits.mqttConnectTimeoutMs / 1000,
      minimum: 1,
      unit: 's',
    }),
    keepalive_max_s: whole({
      description: 'The longest keep-alive of a client of MQTT 5; one that asks for a longer one, or none, is told this. 0: as it likes.',
      default: 0,
      minimum: 0,
      maximum: 65535,
      unit: 's',
    }),
    client_inflight_max: whole({
      description: 'Publishes of QoS 1 and 2 of one client that may wait for their acknowledgement: its Receive Maximum.',
      default: limits.mqttReceiveInflightMax,
      minimum: 1,
      maximum: 65535,
    }),
    client_subscriptions_max: whole({
      description: 'Subscriptions of one client.',
      default: limits.mqttSubscriptionsPerClientMax,
      minimum: 1,
    }),
    pull: pullSettings,
    sessions: sessionSettings,
    retained: retainedSettings,
    client_messages_per_s: whole({
      description: 'PUBLISHes a second that one client may send; beyond, it is read more slowly and nothing is lost. 0: no limit.',
      default: 0,
      minimum: 0,
    }),
    client_bytes_per_s: whole({ description: 'The same in bytes of topic and payload.', default: 0, minimum: 0, unit: 'bytes' }),
    sys_interval_s: whole({
      description: 'How often topics below $SYS/broker that have changed are published to those who subscribe to them. 0: there are none.',
      default: 10,
      minimum: 0,
      maximum: 86_400,
      unit: 's',
    }),
    plain: flag({ description: 'MQTT without TLS on mqtt.port. Off: mqtt.tls.port only.', default: true }),
    ws: flag({
      description:
        'MQTT over WebSocket at /mqtt of http.port. With mqtt.plain off only over HTTPS, and where mqtt.tls.client_certificates is require, only if ' +
        'http.tls asks for the same.',
      default: true,
    }),
    tls: {
      port: whole({
        description: 'Port of MQTT over TLS; 0: any free one. Open when there is a certificate.',
        default: 8883,
        minimum: 0,
        maximum: 65535,
      }),
      ...certificateSettings('mqtt.tls.port is then open'),
      client_certificates: choice(['off', 'request', 'require'], {
        description: 'require: a client needs a certificate that mqtt.tls.ca_file vouches for. request: one that it shows is checked.',
        default: 'off',
      }),
      identity: choice(['off', 'cn', 'san'], {
        description:
          'cn: who shows a certificate needs no token, and its client id must be the common name in it. san: one of its URIs, DNS names or e-mail addresses. ' +
          'off: a certificate opens the connection and says no more.',
        default: 'off',
      }),
    },
  },
  tls: {
    handshakes_per_s: whole({
      description: 'TLS handshakes a second that both doors begin; more wait their turn, each address in its own queue.',
      default: limits.tlsHandshakesPerS,
      minimum: 1,
    }),
  },
  devices: {
    auto_register: flag({
      description: 'An unknown device becomes known by sending. Off: its readings go to the dead letters.',
      default: true,
      reload: true,
    }),
    registrations_per_s: whole({
      description: 'New devices a second that may register themselves.',
      default: limits.registrationsPerS,
      minimum: 1,
      reload: true,
    }),
  },
  payload: {
    aliases: flag({ description: 'Treat temperature_c and temperature as one metric.', default: true }),
    line_device_tags: text({
      description: 'Tags of line protocol that name the device, separated by commas; the first that a line has. None there: measurement and tags do.',
      default: 'device_id,device,sensor_id,host',
    }),
  },
  demo: {
    devices: whole({ description: 'Simulated devices that start along; 0: none.', default: 0, minimum: 0, maximum: 10000 }),
    interval_ms: whole({ description: 'Time between two messages of a simulated device.', default: 1000, minimum: 10, unit: 'ms' }),
  },
}

export type Config = ValuesOf<typeof configSchema>

export interface Leaf {
  /** Dotted path, as in a file: `http.port`. */
  readonly name: string
  readonly env: string
  readonly flag: string
  readonly schema: Setting
}

function isSetting(node: Setting | Branch): node is Setting {
  return typeof node['type'] === 'string'
}

/** All settings, in the schema's order. */
export function configLeaves(): readonly Leaf[] {
  const leaves: Leaf[] = []
  const walk = (branch: Branch, prefix: string): void => {
    for (const [key, child] of Object.entries(branch)) {
      const name = prefix === '' ? key : `${prefix}.${key}`
      if (isSetting(child)) {
        const words = name.replaceAll('.', '_')
        leaves.push({ name, env: `KYMO_${words.toUpperCase()}`, flag: `--${words.replaceAll('_', '-')}`, schema: child })
      } else walk(child, name)
    }
  }
  const root: Branch = configSchema
  walk(root, '')
  return leaves
}

/** Microseconds that each is kept; Infinity: for ever. `storeBytes` of sealed files; Infinity: as many as there are. */
export interface Retention {
  readonly rawUs: number
  readonly minutesUs: number
  readonly hoursUs: number
  readonly storeBytes: number
  /** Absent: none. */
  readonly rules?: readonly RetentionRule[]
}

/** How long data is kept. Throws config_invalid when rollups would go before what they stand for. */
export function retentionOf({ retention }: Pick<Config, 'retention'>): Retention {
  const us = (text: string): number => (text === '' ? Number.POSITIVE_INFINITY : (ageUs(text) ?? Number.POSITIVE_INFINITY))
  const [rawUs, minutesUs, hoursUs] = [us(retention.raw), us(retention.minutes), us(retention.hours)]
  const shorter = (name: string, than: string): KymoError =>
    new KymoError('config_invalid', {
      detail: `${name} is shorter than ${than}: rollups must be kept as long as what they stand for. Set ${than} to the same or less.`,
      errors: [{ pointer: name, detail: `must not be shorter than ${than}` }],
    })
  if (minutesUs < rawUs) throw shorter('retention.minutes', 'retention.raw')
  if (hoursUs < minutesUs) throw shorter('retention.hours', 'retention.minutes')
  const found = parseRules(retention.rules)
  const wrong = 'detail' in found ? found.detail : misfit(found, { rawUs, minutesUs, hoursUs })
  if (wrong !== undefined)
    throw new KymoError('config_invalid', { detail: `retention.rules: ${wrong}.`, errors: [{ pointer: 'retention.rules', detail: wrong }] })
  const shorten = 'detail' in found || found.length === 0 ? {} : { rules: found }
  return { ...shorten, rawUs, minutesUs, hoursUs, storeBytes: retention.store_mb === 0 ? Number.POSITIVE_INFINITY : retention.store_mb * 1e6 }
}

/** What the log keeps of what all consumers have read: at least so many bytes, nothing beyond an age. */
export interface LogRetention {
  readonly retentionBytes: number
  /** Absent: for ever. */
  readonly retentionAgeUs?: number
}

export function logRetentionOf({ log }: Pick<Config, 'log'>): LogRetention {
  const retentionAgeUs = ageUs(log.retention_age)
  return { retentionBytes: log.retention_bytes, ...(retentionAgeUs === undefined ? {} : { retentionAgeUs }) }
}
