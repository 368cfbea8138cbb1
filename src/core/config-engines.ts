import path from 'node:path'
import type { Config } from './config.ts'
import { withoutPassword } from './config-value.ts'
import { KymoError, type FieldError } from './errors.ts'

/** What a process does. Roles meet in the log and the stores only. */
export const roleNames = ['ingest', 'store', 'api', 'forecast'] as const
export type RoleName = (typeof roleNames)[number]
/** Named by the plan of the whole; this version has them not. */
const laterRoles: readonly string[] = ['aggregate', 'alert', 'edge']
/** A process that has these may have the engines to itself. */
const ownEngines: readonly RoleName[] = ['ingest', 'store', 'api']

/** An engine in the data directory, or one that is reached by its address. */
export type LocalEngine = { readonly kind: 'local'; readonly path: string }
export type LogEngine = LocalEngine | { readonly kind: 'kafka'; readonly url: string }
export type TableEngine = LocalEngine | { readonly kind: 'postgres'; readonly url: string }

/** Which engine is behind each port. */
export interface EnginesChosen {
  readonly dataDir: string
  readonly log: LogEngine
  readonly store: TableEngine
  readonly meta: TableEngine
  /** Predictions and models. */
  readonly forecast: TableEngine
}

interface Choice {
  readonly setting: 'log.url' | 'store.url' | 'meta.url' | 'forecast.url'
  readonly local: string
  readonly folder: string
  readonly outside: RegExp
  /** For who is told what the setting takes. */
  readonly example: string
}

const logChoice: Choice = { setting: 'log.url', local: 'file', folder: 'log', outside: /^kafkas?:\/\//, example: 'kafka://host:9092' }
const tables = { outside: /^postgres(?:ql)?:\/\//, example: 'postgres://user@host:5432/database' }
const storeChoice: Choice = { setting: 'store.url', local: 'duckdb', folder: 'store', ...tables }
const metaChoice: Choice = { setting: 'meta.url', local: 'sqlite', folder: 'meta.sqlite', ...tables }
const forecastChoice: Choice = { setting: 'forecast.url', local: 'sqlite', folder: 'forecasts.sqlite', ...tables }

function refuse(pointer: string, detail: string): never {
  throw new KymoError('config_invalid', { detail: `${pointer}: ${detail}`, errors: [{ pointer, detail }] })
}

/** Undefined: it is reached by its address. */
function localPath(url: string, dataDir: string, { setting, local, folder, outside, example }: Choice): string | undefined {
  if (url === '') return path.join(dataDir, folder)
  if (url.startsWith(`${local}:`)) return path.resolve(url.slice(local.length + 1))
  if (outside.test(url)) return undefined
  return refuse(setting, `"${withoutPassword(url)}" is none that this version knows; it takes ${local}:<path> or ${example}`)
}

/** Which engine is behind each port. Throws config_invalid for an address that none of ours takes, and names the setting. */
export function enginesOf({ data_dir, log, store, meta, forecast }: Pick<Config, 'data_dir' | 'log' | 'store' | 'meta' | 'forecast'>): EnginesChosen {
  const dataDir = path.resolve(data_dir)
  const logPath = localPath(log.url, dataDir, logChoice)
  const table = (url: string, choice: Choice): TableEngine => {
    const local = localPath(url, dataDir, choice)
    return local === undefined ? { kind: 'postgres', url } : { kind: 'local', path: local }
  }
  return {
    dataDir,
    log: logPath === undefined ? { kind: 'kafka', url: log.url } : { kind: 'local', path: logPath },
    store: table(store.url, storeChoice),
    meta: table(meta.url, metaChoice),
    forecast: table(forecast.url, forecastChoice),
  }
}

export interface Places {
  readonly dataDir: string
  readonly logDir: string
  readonly storeDir: string
  readonly metaFile: string
  /** Absent: predictions and models are in a database. The file may not be there yet. */
  readonly forecastsFile?: string
}

/** Where the embedded parts live, for commands that work on their files. Refuses engines that are reached by an address. */
export function places(config: Config): Places {
  const { dataDir, log, store, meta, forecast } = enginesOf(config)
  const local = (name: string, engine: LogEngine | TableEngine): string => {
    if (engine.kind === 'local') return engine.path
    const detail = `is ${withoutPassword(engine.url)}, and this works on the files of the embedded one; use the means of that engine`
    throw new KymoError('config_invalid', { detail: `${name}: ${detail}`, errors: [{ pointer: name, detail }] })
  }
  return {
    dataDir,
    logDir: local('log.url', log),
    storeDir: local('store.url', store),
    metaFile: local('meta.url', meta),
    ...(forecast.kind === 'local' ? { forecastsFile: forecast.path } : {}),
  }
}

/** The roles of this process: all of them unless `roles` names some. Throws config_invalid for one that this version does not have. */
export function rolesOf({ roles }: Pick<Config, 'roles'>): ReadonlySet<RoleName> {
  const named = roles
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '')
  if (named.length === 0 || named.includes('all')) return new Set(roleNames)
  return new Set(
    named.map((name) => {
      const known = roleNames.find((one) => one === name)
      if (known !== undefined) return known
      const why = laterRoles.includes(name) ? 'does not exist in this version' : 'is no role'
      return refuse('roles', `"${name.slice(0, 100)}" ${why}; it takes all, or some of ${roleNames.join(', ')}`)
    }),
  )
}

/** Does this process have all roles that fill and serve the engines? Then they may be its own. */
export function hasAllRoles(config: Pick<Config, 'roles'>): boolean {
  const roles = rolesOf(config)
  return ownEngines.every((role) => roles.has(role))
}

/** What the settings of engines and roles must be together. Empty: nothing is wrong. Throws as `enginesOf` and `rolesOf` do. */
export function engineErrors(config: Config): FieldError[] {
  const { log, store, meta } = enginesOf(config)
  const errors: FieldError[] = []
  const wrong = (pointer: string, detail: string): void => void errors.push({ pointer, detail })
  if (!hasAllRoles(config)) {
    const apart = `roles is ${config.roles}: processes with roles apart meet in engines that all of them reach, and the embedded one has a single process`
    if (log.kind === 'local') wrong('log.url', `${apart}; set it to ${logChoice.example}`)
    if (store.kind === 'local') wrong('store.url', `${apart}; set it to ${storeChoice.example}`)
    if (meta.kind === 'local') wrong('meta.url', `${apart}; set it to ${metaChoice.example}`)
  } else if (log.kind !== 'local' && store.kind === 'local') {
    wrong(
      'store.url',
      `the embedded store reads the embedded log only; with log.url ${withoutPassword(config.log.url)} set it to ${storeChoice.example}`,
    )
  }
  const roles = rolesOf(config)
  if (roles.has('forecast') && !roles.has('api'))
    wrong('roles', `is ${config.roles}: forecast works in the process that answers for it; name api, too`)
  if (config.demo.devices > 0 && !roles.has('ingest')) wrong('demo.devices', 'needs the role ingest: they send to this process')
  if (config.storage.quota_mb > 0 && (log.kind !== 'local' || store.kind !== 'local'))
    wrong('storage.quota_mb', 'counts the embedded log and store; bound those that log.url and store.url name by their own means')
  return errors
}
