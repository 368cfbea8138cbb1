import { KymoError, type Code } from '../../core/errors.ts'
import { boundedPointer, escapeStep } from '../json/pointer.ts'
import { isDecimal } from './number.ts'

const shownCharsMax = 40
const advice = 'Text stands in double quotes; integers may end in i or u.'

/** Why a line is not taken: the part of it is named. */
export function fault(code: Code, pointer: string, detail: string): KymoError {
  return new KymoError(code, { detail, errors: [{ pointer: boundedPointer(pointer), detail }] })
}

/** A name or value as part of a sentence: bounded, and with nothing in it that a terminal or a log line would obey. */
export function shown(text: string): string {
  const cut = text.length > shownCharsMax ? `${text.slice(0, shownCharsMax).toWellFormed()}…` : text
  return JSON.stringify(cut).replace(/[\u007f-\u009f\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/** What is wrong with a tag without a key, without an equals sign, without a value, or with a second equals sign. */
export function tagFault(key: string, hasSign: boolean, hasValue: boolean): KymoError {
  if (key === '') return fault('line_invalid', '/tags', 'A tag has no key: two commas, or a comma before the space.')
  const pointer = `/tags/${escapeStep(key)}`
  if (!hasSign) return fault('line_invalid', pointer, `The tag ${shown(key)} has no value.`)
  if (!hasValue) return fault('line_invalid', pointer, `The tag ${shown(key)} has an empty value. Leave the tag out.`)
  return fault('line_invalid', pointer, `The value of the tag ${shown(key)} has an equals sign that is not escaped (\\=).`)
}

/** Why the text, which stands without quotes, is no value of the field. */
export function valueFault(text: string, isTooLong: boolean, field: string): KymoError {
  const pointer = `/fields/${escapeStep(field)}`
  if (text === '') return fault('line_invalid', pointer, `The field ${shown(field)} has no value.`)
  if (isTooLong) return fault('line_invalid', pointer, `The value of the field ${shown(field)} is too long for a number. ${advice}`)
  if (/^[+-]?(?:nan|inf(?:inity)?)$/i.test(text)) return fault('value_not_finite', pointer, `${text} is no value; leave the field out.`)
  if (isDecimal(text)) return fault('value_not_finite', pointer, `${shown(text)} is beyond what a double can hold.`)
  return fault('line_invalid', pointer, `${shown(text)} is neither a number nor a boolean. ${advice}`)
}

/** Why the text is no time. */
export function timeFault(text: string): KymoError {
  return /^-?\d+$/.test(text)
    ? fault('time_invalid', '/timestamp', `${shown(text)} lies outside 1970 to 2255. Does the request's precision fit?`)
    : fault('line_invalid', '/timestamp', `${shown(text)} is no time: an integer of the request's precision is. Escape spaces in names (\\ ).`)
}
