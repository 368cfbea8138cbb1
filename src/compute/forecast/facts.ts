import { KymoError } from '../../core/errors.ts'

/** Of a model's file: numbers and texts by name. */
export function readFacts(text: string): Readonly<Record<string, number | string>> {
  const value: unknown = JSON.parse(text)
  if (typeof value !== 'object' || value === null) throw new Error('facts are no object')
  return Object.fromEntries(Object.entries(value).filter((e): e is [string, number | string] => typeof e[1] === 'number' || typeof e[1] === 'string'))
}

/** Refuses names that a kind does not know. */
export function checkTuning(kind: string, tuning: Readonly<Record<string, number>>, known: readonly string[]): void {
  for (const name of Object.keys(tuning)) {
    if (!known.includes(name)) throw new KymoError('usage', { detail: `${kind} has no tuning "${name}"; it has ${known.join(', ')}` })
  }
}
