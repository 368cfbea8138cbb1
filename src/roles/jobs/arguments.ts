import path from 'node:path'
import type { JobKind } from '../../core/services.ts'

/** Kinds of jobs that are a command line of this program. */
export type CommandKind = 'import' | 'export'

export function isCommand(kind: JobKind): kind is CommandKind {
  return kind === 'import' || kind === 'export'
}

/** Flags of the command line that a parameter may become; a list is given once for each item. */
const flags: Readonly<Record<CommandKind, readonly string[]>> = {
  import: [
    'format',
    'time_column',
    'time_format',
    'time_zone',
    'device_column',
    'device',
    'device_prefix',
    'columns',
    'metric_column',
    'value_column',
    'missing',
    'delimiter',
    'decimal_comma',
    'header',
    'encoding',
  ],
  export: ['format', 'device', 'metric', 'from', 'to', 'wide'],
}

/** Names of the files in a job's folder. */
export const jobFiles = { rejects: 'rejects.ndjson', state: 'state.json' } as const

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}

export function resultName(kind: JobKind, parameters: Readonly<Record<string, unknown>>): string {
  if (kind === 'backtest') return 'result.json'
  const compression = parameters['compression']
  const packed = compression === 'gzip' ? '.gz' : compression === 'zstd' ? '.zst' : ''
  return `result.${textOf(parameters['format']) ?? 'csv'}${packed}`
}

/** The uploaded file's name: the device of a table that names none. Nothing but letters, digits, dots and dashes of it is kept. */
export function bodyName(parameters: Readonly<Record<string, unknown>>): string {
  const name = (textOf(parameters['name']) ?? '')
    .replaceAll(/[^\p{L}\p{N}._-]/gu, '_')
    .replace(/^\.+/, '')
    .slice(0, 60)
  return path.join('body', name === '' ? 'import' : name)
}

/** The command line that does a job's work. Values are joined to their flags, so that none is taken for a flag itself. */
export function commandOf(kind: CommandKind, dir: string, parameters: Readonly<Record<string, unknown>>, url: string): string[] {
  const args: string[] = []
  for (const name of flags[kind]) {
    const flag = `--${name.replaceAll('_', '-')}`
    const value = parameters[name]
    if (value === true) args.push(flag)
    else if (typeof value === 'string' || typeof value === 'number') args.push(`${flag}=${value}`)
    else if (Array.isArray(value)) for (const item of value) args.push(`${flag}=${String(item)}`)
  }
  if (kind === 'export') return ['export', '--json', `--url=${url}`, ...args, path.join(dir, resultName(kind, parameters))]
  const own = [`--state=${path.join(dir, jobFiles.state)}`, `--rejects=${path.join(dir, jobFiles.rejects)}`, '--resume', '--skip-invalid']
  return ['import', '--json', `--url=${url}`, ...own, ...args, path.join(dir, bodyName(parameters))]
}
