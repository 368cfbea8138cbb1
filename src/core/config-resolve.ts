import { aliasesIn, type Alias } from './config-aliases.ts'
import { configLeaves, retentionOf, type Config, type Leaf } from './config.ts'
import { doorErrors } from './config-doors.ts'
import { engineErrors } from './config-engines.ts'
import { forecastErrors } from './config-forecast.ts'
import { kafkaErrors } from './config-kafka.ts'
import { complaint, fromText, suggest } from './config-value.ts'
import { KymoError, type FieldError } from './errors.ts'

/** KYMO_ variables that are not settings: the CLI's own. */
const otherVariables = new Set([
  'KYMO_URL',
  'KYMO_TOKEN',
  'KYMO_CONFIG',
  'KYMO_COVERAGE',
  'KYMO_FAIL_ON_SKIP',
  'KYMO_SUPERVISED',
  'KYMO_CA',
  'KYMO_CLIENT_CERT',
  'KYMO_CLIENT_KEY',
])

/** What a configuration file gives, checked and with its places (`kymo.yaml:14:5`): core/config-file.ts. */
export interface FileSettings {
  readonly file: string
  readonly values: ReadonlyMap<string, { readonly value: unknown; readonly where: string }>
}

export interface ConfigSources {
  /** Dotted name to value; undefined: not given. */
  readonly flags?: Readonly<Record<string, unknown>>
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly file?: FileSettings
  /** Reads the file that KYMO_…_FILE names, for settings that are secret. */
  readonly readSecret?: (path: string) => string
}

export interface Origin {
  readonly from: 'default' | 'alias' | 'file' | 'environment' | 'flag'
  /** The flag, the variable (variables of others: separated by `, `), or the place in the file. */
  readonly where?: string
}

export interface Resolved {
  readonly config: Config
  /** Of each setting, by its dotted name. */
  readonly origins: ReadonlyMap<string, Origin>
  /** The seeds' variables that have no effect in this version. */
  readonly pending: readonly Alias[]
}

/**
 * Every setting and where it comes from: a flag wins over the environment, the environment over the file, the file over the seeds' variables
 * (core/config-aliases.ts), those over the default. Unknown KYMO_ variables fail with a suggestion (KYMO_TEST_* is reserved). Throws
 * config_invalid with all that is wrong.
 */
export function resolveConfig(o: ConfigSources = {}): Resolved {
  const leaves = configLeaves()
  const byName = new Map(leaves.map((leaf) => [leaf.name, leaf]))
  const byEnv = new Map(leaves.map((leaf) => [leaf.env, leaf]))
  const values = new Map<string, unknown>(leaves.map((leaf) => [leaf.name, leaf.schema.default]))
  const origins = new Map<string, Origin>(leaves.map((leaf) => [leaf.name, { from: 'default' }]))
  const errors: FieldError[] = []
  const set = (leaf: Leaf, value: unknown, origin: Origin): void => {
    const detail = complaint(leaf.schema, value)
    if (detail !== undefined) errors.push({ pointer: leaf.name, detail: `${detail} (${origin.where ?? origin.from})` })
    values.set(leaf.name, value)
    origins.set(leaf.name, origin)
  }
  const setText = (leaf: Leaf, raw: string, origin: Origin): void => {
    const read = fromText(leaf.schema, raw)
    if ('value' in read) set(leaf, read.value, origin)
    else {
      const said = leaf.schema.secret === true ? '' : `"${raw.slice(0, 100)}" `
      errors.push({ pointer: leaf.name, detail: `${said}${read.detail} (${origin.where ?? origin.from})` })
    }
  }
  const env = o.env ?? {}
  const { found, pending } = aliasesIn(env, (name) => byName.has(name))
  const taken = new Set([
    ...(o.file?.values.keys() ?? []),
    ...leaves.filter((leaf) => env[leaf.env] !== undefined || o.flags?.[leaf.name] !== undefined).map((leaf) => leaf.name),
  ])
  for (const { alias, setting, text } of found) {
    if (taken.has(setting)) continue
    // Two variables may make up one setting: both are its origin.
    const first = origins.get(setting)
    const where = first?.from === 'alias' ? `${first.where}, ${alias.variable}` : alias.variable
    setText(byName.get(setting)!, text, { from: 'alias', where })
  }
  for (const [name, { value, where }] of o.file?.values ?? []) set(byName.get(name)!, value, { from: 'file', where })
  for (const [name, raw] of Object.entries(env)) {
    if (raw === undefined || !name.startsWith('KYMO_') || name.startsWith('KYMO_TEST_') || otherVariables.has(name)) continue
    const leaf = byEnv.get(name)
    const secret = leaf === undefined && name.endsWith('_FILE') ? byEnv.get(name.slice(0, -'_FILE'.length)) : undefined
    if (leaf !== undefined) setText(leaf, raw, { from: 'environment', where: name })
    else if (secret?.schema.secret === true && o.readSecret !== undefined) {
      if (env[secret.env] !== undefined) errors.push({ pointer: secret.name, detail: `is given twice: ${secret.env} and ${name}` })
      else set(secret, o.readSecret(raw), { from: 'environment', where: name })
    } else {
      const near = suggest(name, [...byEnv.keys()])
      errors.push({ pointer: name, detail: `unknown setting ${name} in the environment${near === undefined ? '' : `; did you mean ${near}?`}` })
    }
  }
  for (const leaf of leaves) {
    const value = o.flags?.[leaf.name]
    if (value === undefined) continue
    const origin: Origin = { from: 'flag', where: leaf.flag }
    if (typeof value === 'string') setText(leaf, value, origin)
    else set(leaf, value, origin)
  }
  if (errors.length > 0) throw invalidConfig(errors)
  return { config: configOf(values), origins, pending }
}

/** `config_invalid` that names all that is wrong; the first in its message. */
export function invalidConfig(errors: readonly FieldError[]): KymoError {
  const [first, ...more] = errors
  const named = first === undefined || first.detail.includes(first.pointer) ? first?.detail : `${first.pointer}: ${first.detail}`
  return new KymoError('config_invalid', { detail: `${named}${more.length === 0 ? '' : ` (and ${more.length} more)`}`, errors })
}

function configOf(values: ReadonlyMap<string, unknown>): Config {
  const config: Record<string, unknown> = {}
  for (const [name, value] of values) {
    const parts = name.split('.')
    let at = config
    for (const part of parts.slice(0, -1)) at = (at[part] ??= {}) as Record<string, unknown>
    at[parts.at(-1)!] = value
  }
  return config as unknown as Config
}

/** The settings alone; see `resolveConfig`. */
export function loadConfig(o: ConfigSources = {}): Config {
  return resolveConfig(o).config
}

/** The value of a setting by its dotted name. */
export function valueOf(config: Config, name: string): unknown {
  let at: unknown = config
  for (const part of name.split('.')) at = typeof at === 'object' && at !== null ? Object.entries(at).find(([key]) => key === part)?.[1] : undefined
  return at
}

/** The configuration with other values in some places, by dotted name. */
export function changedConfig(config: Config, changes: ReadonlyMap<string, unknown>): Config {
  return configOf(new Map(configLeaves().map(({ name }) => [name, changes.has(name) ? changes.get(name) : valueOf(config, name)])))
}

/** What settings must be together for a server to start. Throws config_invalid. */
export function checkTogether(config: Config): void {
  retentionOf(config)
  const wrong = [...engineErrors(config), ...forecastErrors(config), ...kafkaErrors(config), ...doorErrors(config)]
  if (wrong.length > 0) throw invalidConfig(wrong)
  if (config.environment === 'production' && config.session_key === '')
    throw invalidConfig([
      {
        pointer: 'session_key',
        detail: 'production needs a key that signs sessions: set KYMO_SESSION_KEY (or SECRET_KEY), or session_key: {file: …} in the file',
      },
    ])
}
