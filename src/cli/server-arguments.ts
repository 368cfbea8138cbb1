import { configLeaves } from '../core/config.ts'
import { suggest } from '../core/config-value.ts'
import { KymoError } from '../core/errors.ts'

/** What the supervisor hands to its server process, as JSON in its first argument. */
export interface ServerArguments {
  /** Dotted setting to value, as `loadConfig` takes them. */
  readonly flags: Readonly<Record<string, unknown>>
  /** What the command line had besides: flags of other settings, understood where the schema is loaded. */
  readonly rest: readonly string[]
  readonly json: boolean
  /** `--config`. */
  readonly config?: string
  /** `kymo start` stands in a terminal: a hangup means that it was closed. Elsewhere it asks for a reload. */
  readonly inTerminal: boolean
  /** How often the server has been started again. */
  readonly restarts: number
}

export function parseArguments(text: string | undefined): ServerArguments {
  const parsed: unknown = JSON.parse(text ?? '{}')
  if (typeof parsed !== 'object' || parsed === null) throw new KymoError('usage', { detail: 'this file is started by kymo start' })
  const given = parsed as Partial<ServerArguments>
  return {
    flags: given.flags ?? {},
    rest: given.rest ?? [],
    json: given.json ?? false,
    ...(given.config === undefined ? {} : { config: given.config }),
    inTerminal: given.inTerminal ?? false,
    restarts: given.restarts ?? 0,
  }
}

/** Settings that the command line gives beyond `start`'s own options: `--store-url x`, `--store-url=x`, `--devices-auto-register`. */
export function settingsOf(rest: readonly string[], command = 'kymo start'): Record<string, unknown> {
  const leaves = new Map(configLeaves().map((leaf) => [leaf.flag, leaf]))
  const flags: Record<string, unknown> = {}
  for (let i = 0; i < rest.length; i++) {
    const [name, inline] = splitOnce(rest[i] ?? '')
    const leaf = leaves.get(name)
    if (leaf === undefined) {
      const near = name.startsWith('--')
        ? suggest(name, [...leaves.keys(), '--data', '--host', '--demo', '--compat-ports', '--config', '--json'])
        : undefined
      const what = name.startsWith('-') ? `unknown option '${name}'` : `too many arguments: '${name}'`
      throw new KymoError('usage', { detail: near === undefined ? what : `${what}. Did you mean ${near}?`, facts: { command } })
    }
    if (inline !== undefined) flags[leaf.name] = inline
    else if (typeof leaf.schema.default === 'boolean' && (rest[i + 1] ?? '--').startsWith('-')) flags[leaf.name] = true
    else if (rest[i + 1] !== undefined) flags[leaf.name] = rest[++i]
    else throw new KymoError('usage', { detail: `option '${name} <value>' argument missing`, facts: { command } })
  }
  return flags
}

function splitOnce(argument: string): [string, string | undefined] {
  const at = argument.indexOf('=')
  return at === -1 ? [argument, undefined] : [argument.slice(0, at), argument.slice(at + 1)]
}
