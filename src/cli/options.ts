import type { Command } from 'commander'
import { InvalidArgumentError, Option } from 'commander'
import { trustOptions } from './trust.ts'

const unitMs: Readonly<Record<string, number>> = { us: 1e-3, ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 }

/** Milliseconds of `30s`, `5m`, `1h30m`, `250ms`; a bare number is seconds. Undefined when it is none of them. */
export function durationMs(text: string): number | undefined {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1_000
  if (!/^(\d+(\.\d+)?(us|ms|s|m|h|d|w))+$/.test(text)) return undefined
  let sum = 0
  for (const part of text.matchAll(/(\d+(?:\.\d+)?)(us|ms|s|m|h|d|w)/g)) sum += Number(part[1]) * (unitMs[part[2] ?? ''] ?? 0)
  return sum
}

export function parseDuration(text: string): number {
  const ms = durationMs(text)
  if (ms === undefined) throw new InvalidArgumentError('A duration is a number of seconds, or one with a unit: 30s, 5m, 1h, 250ms.')
  return ms
}

export function integerBetween(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^[+-]?\d+$/.test(text) ? Number(text) : Number.NaN
    if (!(value >= min && value <= max)) throw new InvalidArgumentError(`A whole number from ${min} to ${max} is expected.`)
    return value
  }
}

export function numberBetween(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = text.trim() === '' ? Number.NaN : Number(text)
    if (!(value >= min && value <= max)) throw new InvalidArgumentError(`A number from ${min} to ${max} is expected.`)
    return value
  }
}

export function oneOf<T extends string>(choices: readonly T[]): (text: string) => T {
  return (text) => {
    const found = choices.find((choice) => choice === text)
    if (found === undefined) throw new InvalidArgumentError(`Allowed: ${choices.join(', ')}.`)
    return found
  }
}

/** `a,b,c`, and the option given again adds to it. */
export function commaList(text: string, before: readonly string[] | undefined): string[] {
  const parts = text.split(',').map((part) => part.trim())
  return [...(before ?? []), ...parts.filter((part) => part !== '')]
}

export function collect(text: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), text]
}

export interface CommonOptions {
  readonly url: string
  readonly token?: string
  readonly json?: boolean
}

export function jsonOption(command: Command, text = 'print JSON: one document, or one line each (NDJSON) for streams'): Command {
  return command.option('--json', text)
}

/** `--url`, `--token`, `--json`, and whom to trust: for every command that talks to a server. */
export function serverOptions(command: Command): Command {
  command.addOption(new Option('--url <url>', 'the server').env('KYMO_URL').default('http://127.0.0.1:8080'))
  command.addOption(new Option('--token <token>', 'an API token, where the server asks for one').env('KYMO_TOKEN'))
  trustOptions(command)
  return jsonOption(command)
}

export function timeZoneOption(command: Command): Command {
  return command.option('--time-zone <zone>', 'show times in this zone, such as Europe/Berlin (otherwise UTC)', parseTimeZone)
}

export function parseTimeZone(text: string): string {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: text }).resolvedOptions().timeZone
  } catch (error) {
    throw new InvalidArgumentError(`Not a time zone of the IANA database. ${error instanceof Error ? error.message : ''}`.trim())
  }
}

/** Examples below the options of a command's help. */
export function examples(command: Command, lines: readonly (readonly [string, string])[]): Command {
  const body = lines.map(([line, what]) => `  $ ${line}\n      ${what}`).join('\n')
  return command.addHelpText('after', `\nExamples:\n${body}`)
}
