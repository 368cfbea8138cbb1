import fs from 'node:fs'
import path from 'node:path'
import { invalidConfig, resolveConfig, type FileSettings, type Resolved } from '../core/config-resolve.ts'
import type { Config } from '../core/config.ts'
import { KymoError, type FieldError } from '../core/errors.ts'
import { limits } from '../core/limits.ts'

export interface SettingsSources {
  readonly env: Readonly<Record<string, string | undefined>>
  /** Dotted name to value; undefined: not given. */
  readonly flags?: Readonly<Record<string, unknown>>
  /** `--config`. */
  readonly configFile?: string | undefined
  readonly cwd?: string
}

export interface Settings extends Resolved {
  /** The file that was read, as it was named; undefined: there is none. */
  readonly file: string | undefined
}

/** In the working directory; taken when it is there. */
const usualFile = 'kymo.yaml'

/** Which file counts: `--config`, else KYMO_CONFIG, else ./kymo.yaml when it is there. */
export function configFileOf(o: SettingsSources): string | undefined {
  const named = o.configFile ?? (o.env['KYMO_CONFIG'] === '' ? undefined : o.env['KYMO_CONFIG'])
  if (named !== undefined) return named
  return fs.existsSync(path.resolve(o.cwd ?? '', usualFile)) ? usualFile : undefined
}

/** All settings and their origins. Throws config_invalid, which names every error in the file with its line and column. */
export async function loadSettings(o: SettingsSources): Promise<Settings> {
  const name = configFileOf(o)
  const file = name === undefined ? undefined : await readFile(name, o)
  const resolved = resolveConfig({
    env: o.env,
    readSecret,
    ...(o.flags === undefined ? {} : { flags: o.flags }),
    ...(file === undefined ? {} : { file }),
  })
  return { ...resolved, file: name }
}

/** For commands that work on a data directory: `--data`, and what the environment and the file say. */
export async function configFor(o: { readonly data?: string | undefined; readonly env: SettingsSources['env'] }): Promise<Config> {
  return (await loadSettings({ env: o.env, flags: { data_dir: o.data } })).config
}

async function readFile(name: string, o: SettingsSources): Promise<FileSettings> {
  const { settings, errors } = await checkFile(name, o.cwd)
  if (errors.length > 0) throw fileInvalid(name, errors)
  return settings
}

/** The file's settings and all that is wrong with it. Throws config_invalid when it cannot be read. */
export async function checkFile(name: string, cwd = ''): Promise<{ readonly settings: FileSettings; readonly errors: readonly FieldError[] }> {
  const text = readBounded(path.resolve(cwd, name), name, limits.configFileBytesMax)
  const { readConfigFile } = await import('../core/config-file.ts')
  return readConfigFile(text, name, readSecret)
}

export function fileInvalid(name: string, errors: readonly FieldError[]): KymoError {
  const lines = errors.map(({ pointer, detail }) => `${pointer}  ${detail}`)
  if (errors.length > 1) lines.unshift(`${errors.length} errors in ${name}`)
  return new KymoError('config_invalid', { detail: lines.join('\n'), errors })
}

function readSecret(file: string): string {
  const text = readBounded(path.resolve(file), file, limits.secretFileBytesMax).trim()
  if (text === '') throw invalidConfig([{ pointer: file, detail: 'the file of a secret is empty' }])
  return text
}

function readBounded(file: string, name: string, bytesMax: number): string {
  try {
    const stat = fs.statSync(file)
    if (!stat.isFile()) throw new Error('it is no file')
    if (stat.size > bytesMax) throw new Error(`it is larger than ${bytesMax} bytes`)
    return new TextDecoder('utf-8', { fatal: true }).decode(fs.readFileSync(file))
  } catch (cause) {
    const why = cause instanceof TypeError ? 'it is not UTF-8' : cause instanceof Error ? cause.message : String(cause)
    throw new KymoError('config_invalid', { detail: `${name} cannot be read: ${why}`, errors: [{ pointer: name, detail: 'cannot be read' }], cause })
  }
}
