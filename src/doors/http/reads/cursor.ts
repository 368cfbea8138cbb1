import { createHash } from 'node:crypto'
import { KymoError } from '../../../core/errors.ts'

type Field = string | number | null

function digest(text: string): string {
  return createHash('sha256').update('kymo cursor 1\n').update(text).digest('base64url').slice(0, 11)
}

/** What must be the same on the next page: the parameters of the question, without limit, cursor and format. */
export function questionOf(...parts: readonly (string | readonly string[] | undefined)[]): string {
  return digest(JSON.stringify(parts))
}

/**
 * Where a page ended, as opaque base64url. It names the question that it belongs to, and carries a checksum, so that a cursor that was
 * changed or used elsewhere is refused rather than answered with the wrong rows. (It is no secret: the tenant comes from the credential.)
 */
export function encodeCursor(question: string, fields: readonly Field[]): string {
  const text = JSON.stringify([question, ...fields])
  return Buffer.from(digest(text) + text).toString('base64url')
}

function invalid(detail: string): KymoError {
  return new KymoError('request_invalid', { detail: 'The cursor is not valid here.', errors: [{ pointer: '/cursor', detail }] })
}

/** The fields given to `encodeCursor`. Throws `request_invalid` for a cursor that was changed or belongs to another question. */
export function decodeCursor(question: string, cursor: string): readonly Field[] {
  const bytes = Buffer.from(cursor, 'base64url').toString()
  const text = bytes.slice(11)
  if (text === '' || digest(text) !== bytes.slice(0, 11)) throw invalid('was not given out by this server, or was changed')
  const [asked, ...fields] = JSON.parse(text) as Field[]
  if (asked !== question) throw invalid('belongs to a request with other parameters; repeat the parameters of the first page')
  return fields
}
