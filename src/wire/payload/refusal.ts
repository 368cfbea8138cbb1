import { KymoError, type Code } from '../../core/errors.ts'
import { boundedPointer } from '../json/pointer.ts'

/** Why a message is not taken: the field is named, by an RFC 6901 pointer into the item. */
export function refusal(code: Code, pointer: string, detail: string, facts?: Readonly<Record<string, string | number | boolean>>): KymoError {
  return new KymoError(code, { detail, errors: [{ pointer: boundedPointer(pointer), detail }], ...(facts === undefined ? {} : { facts }) })
}

/** Two fields that mean the same and do not say the same. */
export function conflict(first: string, second: string, what: string): KymoError {
  const [one, other] = [boundedPointer(first, shownCharsMax), boundedPointer(second, shownCharsMax)]
  return refusal('alias_conflict', second, `${one} and ${other} both carry ${what}, and differ.`)
}

const shownCharsMax = 60

/** A name or value as part of a sentence: bounded, and with nothing in it that a terminal or a log line would obey. */
export function shown(text: string): string {
  const cut = text.length > shownCharsMax ? `${text.slice(0, shownCharsMax)}…` : text
  return JSON.stringify(cut.toWellFormed()).replace(/[\u007f-\u009f\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
}
