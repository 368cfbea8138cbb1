import path from 'node:path'
import { ageUs } from './duration.ts'
import { KymoError, type FieldError } from './errors.ts'
import { limits } from './limits.ts'

/**
 * One schema (docs/adr/0006). Names are mechanical: `store.url` = KYMO_STORE_URL = --store-url. A flag wins over the environment, the
 * environment over the default. The reference page (docs/reference/config.md) is generated from here.
 */
type About = { readonly description: string; readonly unit?: string; readonly secret?: boolean }
interface TextSetting extends About {
  readonly type: 'string'
  readonly default: string
}
/** How long something is kept: `90d`; empty: for ever. */
interface AgeSetting extends TextSetting {
  readonly format: 'age'
}
interface ChoiceSetting<C extends string> extends About {
  readonly type: 'string'
  readonly enum: readonly C[]
  readonly default: C
}
interface FlagSetting extends About {
  readonly type: 'boolean'
  readonly default: boolean
}
interface WholeSetting extends About {
  readonly type: 'integer'
  readonly default: number
  readonly minimum?: number
  readonly maximum?: number
}
/** A leaf is JSON Schema with a unit; a schema library would cost a fifth of a second at each start (docs/adr/0006). */
export type Setting = TextSetting | AgeSetting | ChoiceSetting<string> | FlagSetting | WholeSetting
interface Branch {
  readonly [name: string]: Setting | Branch
}
type ValueOf<S> =
  S extends ChoiceSetting<infer C> ? C : S extends { readonly type: 'boolean' } ? boolean : S extends { readonly type: 'integer' } ? number : string
type ValuesOf<B> = { readonly [K in keyof B]: B[K] extends { readonly type: string; readonly description: string } ? ValueOf<B[K]> : ValuesOf<B[K]> }

const text = (o: Omit<TextSetting, 'type'>): TextSetting => ({ type: 'string', ...o })
const age = (o: About): AgeSetting => ({ type: 'string', format: 'age', default: '', ...o })
const choice = <C extends string>(values: readonly C[], o: About & { readonly default: NoInfer<C> }): ChoiceSetting<C> => ({
  type: 'string',
  enum: values,
  ...o,
})
const flag = (o: Omit<FlagSetting, 'type'>): FlagSetting => ({ type: 'boolean', ...o })
const whole = (o: Omit<WholeSetting, 'type'>): WholeSetting => ({ type: 'integer', ...o })

export const defaultTopics = 'portfolio/telemetry,devices/{device}/telemetry,telemetry,telemetry/{device},sensors/{device}/data'

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
  log: {
    url: text({ description: 'The durable log. file:<dir> is the embedded one; absent: <data_dir>/log.', default: '' }),
    level: choice(['debug', 'info', 'warn', 'error'], {
      description: 'What the program says of itself on stderr.',
      default: 'info',
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
  store: {
    url: text({ description: 'The time-series store. duckdb:<dir> is the embedded one; absent: <data_dir>/store.', default: '' }),
    memory_mb: whole({ description: 'Most memory that the embedded store uses for queries and appends.', default: 512, minimum: 64, unit: 'MB' }),
  },
  retention: {
    raw: age({ description: 'How long readings are kept at least: 36h, 90d, 26w, 5y. They go with their UTC day. Empty: for ever.' }),
    minutes: age({ description: 'The same for the rollups of 1 minute; not shorter than retention.raw.' }),
    hours: age({ description: 'The same for the rollups of 1 hour; not shorter than retention.minutes.' }),
    store_mb: whole({
      description: 'When sealed files have more, the oldest days of readings go, then of minutes; hours never, today never. 0: no limit.',
      default: 0,
      minimum: 0,
      unit: 'MB',
    }),
  },
  storage: {
    quota_mb: whole({
      description: 'When log and store together have more, acknowledgements wait; nothing is deleted and reads go on. 0: the disk is the limit.',
      default: 0,
      minimum: 0,
      unit: 'MB',
    }),
  },
  meta: {
    url: text({ description: 'Devices, tokens and other metadata. sqlite:<file> is the embedded one; absent: <data_dir>/meta.sqlite.', default: '' }),
  },
  http: {
    host: text({ description: 'Address that the HTTP door binds. Beyond loopback, credentials are needed.', default: '127.0.0.1' }),
    port: whole({ description: 'Port of the HTTP door; 0: any free one.', default: 8080, minimum: 0, maximum: 65535 }),
    compat_ports: flag({ description: 'Also listen on 8000 to 8004, where free, with the same routes.', default: false }),
    body_bytes_max: whole({ description: 'Largest body, after decompression too.', default: limits.httpBodyBytesMax, minimum: 1024, unit: 'bytes' }),
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
  },
  devices: {
    auto_register: flag({ description: 'An unknown device becomes known by sending. Off: its readings go to the dead letters.', default: true }),
    registrations_per_s: whole({ description: 'New devices a second that may register themselves.', default: limits.registrationsPerS, minimum: 1 }),
  },
  payload: {
    aliases: flag({ description: 'Treat temperature_c and temperature as one metric.', default: true }),
  },
  demo: {
    devices: whole({ description: 'Simulated devices that start along; 0: none.', default: 0, minimum: 0, maximum: 10000 }),
    interval_ms: whole({ description: 'Time between two messages of a simulated device.', default: 1000, minimum: 10, unit: 'ms' }),
  },
}

export type Config = ValuesOf<typeof configSchema>

interface Leaf {
  /** Dotted path, as in a file: `http.port`. */
  readonly name: string
  readonly env: string
  readonly flag: string
  readonly schema: Setting
}

function isSetting(node: Setting | Branch): node is Setting {
  return typeof node['type'] === 'string'
}

const shortestAgeUs = 86_400e6

/** What is wrong with a value; undefined when nothing is. */
function complaint(setting: Setting, value: unknown): string | undefined {
  if (setting.type === 'boolean') return typeof value === 'boolean' ? undefined : 'must be true or false'
  if (setting.type === 'integer') {
    if (typeof value !== 'number' || !Number.isSafeInteger(value)) return 'must be a whole number'
    if (setting.minimum !== undefined && value < setting.minimum) return `must be >= ${setting.minimum}`
    return setting.maximum !== undefined && value > setting.maximum ? `must be <= ${setting.maximum}` : undefined
  }
  if (typeof value !== 'string') return 'must be text'
  if ('format' in setting) {
    if (value === '') return undefined
    const us = ageUs(value)
    if (us === undefined) return 'must be a number of hours, days, weeks or years, as 36h, 90d, 26w or 5y; empty: for ever'
    return us < shortestAgeUs ? 'must be 24h or more: days are kept or go as a whole' : undefined
  }
  if (!('enum' in setting) || setting.enum.includes(value)) return undefined
  const near = suggest(value, setting.enum)
  return `must be one of ${setting.enum.join(', ')}${near === undefined ? '' : `; did you mean ${near}?`}`
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

/** KYMO_ variables that are not settings: the CLI's own. */
const otherVariables = new Set(['KYMO_URL', 'KYMO_TOKEN', 'KYMO_COVERAGE', 'KYMO_FAIL_ON_SKIP', 'KYMO_SUPERVISED'])

function fromText(leaf: Leaf, raw: string, where: string): unknown {
  if (leaf.schema.type === 'integer') {
    if (/^-?\d+$/.test(raw.trim())) return Number(raw)
    throw new KymoError('config_invalid', {
      detail: `${where}: "${raw}" is not a whole number`,
      errors: [{ pointer: leaf.name, detail: 'must be a whole number' }],
    })
  }
  if (leaf.schema.type === 'boolean') {
    if (/^(1|true|yes|on)$/i.test(raw)) return true
    if (/^(0|false|no|off)$/i.test(raw)) return false
    throw new KymoError('config_invalid', {
      detail: `${where}: "${raw}" is neither true nor false`,
      errors: [{ pointer: leaf.name, detail: 'must be true or false' }],
    })
  }
  return raw
}

function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) next[j] = Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1))
    row = next
  }
  return row[b.length]!
}

/** The nearest known word, when it is near enough to be meant. */
export function suggest(word: string, known: readonly string[]): string | undefined {
  let best: string | undefined
  let bestDistance = Math.max(2, Math.floor(word.length / 4)) + 1
  for (const candidate of known) {
    const d = distance(word, candidate)
    if (d < bestDistance) {
      best = candidate
      bestDistance = d
    }
  }
  return best
}

/**
 * Settings from flags (dotted name to value, undefined = not given) over the environment over the defaults. Unknown
 * KYMO_ variables fail with a suggestion (KYMO_TEST_* is reserved). Throws config_invalid.
 */
export function loadConfig(
  o: { readonly flags?: Readonly<Record<string, unknown>>; readonly env?: Readonly<Record<string, string | undefined>> } = {},
): Config {
  const leaves = configLeaves()
  const byEnv = new Map(leaves.map((leaf) => [leaf.env, leaf]))
  const config: Record<string, unknown> = {}
  const errors: FieldError[] = []
  const set = (leaf: Leaf, value: unknown): void => {
    const parts = leaf.name.split('.')
    let at = config
    for (const part of parts.slice(0, -1)) at = (at[part] ??= {}) as Record<string, unknown>
    at[parts.at(-1)!] = value
    const detail = complaint(leaf.schema, value)
    if (detail !== undefined) errors.push({ pointer: leaf.name, detail })
  }
  for (const leaf of leaves) set(leaf, leaf.schema.default)
  const env = o.env ?? {}
  for (const [name, raw] of Object.entries(env)) {
    if (raw === undefined || !name.startsWith('KYMO_') || name.startsWith('KYMO_TEST_') || otherVariables.has(name)) continue
    const leaf = byEnv.get(name)
    if (leaf === undefined) {
      const near = suggest(name, [...byEnv.keys()])
      throw new KymoError('config_invalid', {
        detail: `unknown setting ${name} in the environment${near === undefined ? '' : `; did you mean ${near}?`}`,
      })
    }
    set(leaf, fromText(leaf, raw, name))
  }
  for (const leaf of leaves) {
    const given = o.flags?.[leaf.name]
    if (given === undefined) continue
    set(leaf, typeof given === 'string' ? fromText(leaf, given, leaf.flag) : given)
  }
  const first = errors[0]
  if (first !== undefined) throw new KymoError('config_invalid', { detail: `${first.pointer}: ${first.detail}`, errors })
  return config as unknown as Config
}

/** Microseconds that each is kept; Infinity: for ever. `storeBytes` of sealed files; Infinity: as many as there are. */
export interface Retention {
  readonly rawUs: number
  readonly minutesUs: number
  readonly hoursUs: number
  readonly storeBytes: number
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
  return { rawUs, minutesUs, hoursUs, storeBytes: retention.store_mb === 0 ? Number.POSITIVE_INFINITY : retention.store_mb * 1e6 }
}

export interface Places {
  readonly dataDir: string
  readonly logDir: string
  readonly storeDir: string
  readonly metaFile: string
}

/** Where the embedded parts live. Refuses URLs of engines that this version does not have. */
export function places(config: Config): Places {
  const dataDir = path.resolve(config.data_dir)
  const local = (url: string, scheme: string, name: string, fallback: string): string => {
    if (url === '') return path.join(dataDir, fallback)
    if (url.startsWith(`${scheme}:`)) return path.resolve(url.slice(scheme.length + 1))
    throw new KymoError('config_invalid', {
      detail: `${name}: "${url.replace(/\/\/[^@/]*@/, '//…@')}" is not supported by this version; it takes ${scheme}:<path>`,
      errors: [{ pointer: name, detail: 'unsupported engine' }],
    })
  }
  return {
    dataDir,
    logDir: local(config.log.url, 'file', 'log.url', 'log'),
    storeDir: local(config.store.url, 'duckdb', 'store.url', 'store'),
    metaFile: local(config.meta.url, 'sqlite', 'meta.url', 'meta.sqlite'),
  }
}
