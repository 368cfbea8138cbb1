import { changedConfig, checkTogether, valueOf, type Origin } from '../core/config-resolve.ts'
import { configLeaves, type Config } from '../core/config.ts'
import { shown } from '../core/config-value.ts'
import type { Logger } from '../core/env.ts'
import { asKymoError } from '../core/errors.ts'
import type { CertificateReload } from '../doors/tls/certificates.ts'
import type { Settings } from './settings.ts'

/** A setting that differs from what runs; values as they may be shown. */
export interface Change {
  readonly setting: string
  readonly from: string
  readonly to: string
}

/** What a reload did: told in the log, and kept in `kymo.lock` for `kymo config reload`. */
export interface ReloadResult {
  /** RFC 3339, of its end. */
  readonly at: string
  /** In effect now. */
  readonly applied: readonly Change[]
  /** As they were; why. */
  readonly refused: readonly (Change & { readonly reason: string })[]
  /** The doors' certificates, read again; absent: none speaks TLS. */
  readonly certificates?: readonly CertificateReload[]
  /** Nothing was changed, because the new configuration is not valid or could not be taken over. */
  readonly error?: { readonly code: string; readonly detail: string }
}

export interface Reloader {
  readonly config: Config
  readonly origins: ReadonlyMap<string, Origin>
  /** Reads the configuration anew; one after the other. Never rejects: what is wrong is in the result. */
  reload(): Promise<ReloadResult>
}

const needsRestart = 'needs a restart'

/**
 * Takes over what may change while the server runs, and refuses the rest. The new configuration is checked as a whole first, together with what stays
 * as it is; a setting is then in effect everywhere or nowhere.
 */
export function createReloader(o: {
  readonly running: Settings
  readonly load: () => Promise<Settings>
  /** Makes it so; when it rejects, all is as before. */
  readonly apply: (config: Config) => Promise<void>
  /** What is read again whatever the settings say. */
  readonly certificates: () => readonly CertificateReload[]
  readonly logger: Logger
  readonly now: () => Date
  readonly done: (result: ReloadResult) => void
}): Reloader {
  let { config, origins } = o.running
  let turn: Promise<unknown> = Promise.resolve()

  const once = async (): Promise<ReloadResult> => {
    const applied: Change[] = []
    const refused: (Change & { readonly reason: string })[] = []
    try {
      const next = await o.load()
      const live = new Map<string, unknown>()
      for (const { name, schema } of configLeaves()) {
        const [before, after] = [valueOf(config, name), valueOf(next.config, name)]
        if (before === after) continue
        const change = { setting: name, from: shown(schema, before), to: shown(schema, after) }
        if (schema.reload === true) {
          live.set(name, after)
          applied.push(change)
        } else refused.push({ ...change, reason: needsRestart })
      }
      const merged = changedConfig(config, live)
      checkTogether(merged)
      if (live.size > 0) await o.apply(merged)
      config = merged
      origins = new Map(
        [...next.origins].map(([name, origin]) => [name, refused.some((r) => r.setting === name) ? (origins.get(name) ?? origin) : origin]),
      )
      return { at: o.now().toISOString(), applied, refused }
    } catch (thrown) {
      const { code, message } = asKymoError(thrown)
      return { at: o.now().toISOString(), applied: [], refused: [], error: { code, detail: message } }
    }
  }

  const withCertificates = async (): Promise<ReloadResult> => {
    const result = await once()
    const certificates = o.certificates()
    return certificates.length === 0 ? result : { ...result, certificates }
  }

  const tell = (result: ReloadResult): void => {
    if (result.error !== undefined) o.logger.error(`The configuration was not reloaded; nothing has changed: ${result.error.detail}`)
    for (const { setting, from, to } of result.applied) o.logger.warn(`${setting} is now ${to || '(empty)'}`, { setting, from, to })
    for (const { setting, from, to, reason } of result.refused)
      o.logger.warn(`${setting} stays ${from || '(empty)'}: ${to || '(empty)'} ${reason}`, { setting, from, to, reason })
    if (result.error === undefined && result.applied.length + result.refused.length === 0)
      o.logger.info('The configuration was reloaded; it is the same')
  }

  return {
    get config() {
      return config
    },
    get origins() {
      return origins
    },
    reload() {
      const mine = turn.then(withCertificates).then((result) => {
        tell(result)
        o.done(result)
        return result
      })
      turn = mine.catch(() => undefined)
      return mine
    },
  }
}
