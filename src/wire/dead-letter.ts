import { KymoError } from '../core/errors.ts'
import { limits } from '../core/limits.ts'
import type { DeadLetter } from '../core/services.ts'

/** What is written of a dead letter: all but its id and status, which its place in the log and later marks give. */
export type DeadLetterContent = Omit<DeadLetter, 'id' | 'status'>

/** A later word on a dead letter. */
export interface DeadLetterMark {
  /** The letter's offset, as decimal text. */
  readonly letter: string
  readonly status: 'replayed' | 'dismissed'
}

const formatVersion = 1
const headerStart = 5
const detailCharsMax = 1_024
const pointerCharsMax = 512
const fieldErrorsMax = 50
const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true })

/**
 * The body of a `dead-letter` record (docs/format/dead-letter.md): a version byte, the length of a JSON header, the header,
 * and the original bytes as they came. Of more than `limits.deadLetterBodyBytesMax` bytes the first are kept and `truncated`
 * is set; detail and field errors are bounded too, so that a hostile message cannot make its letter grow.
 */
export function encodeDeadLetter(letter: DeadLetterContent): Uint8Array {
  const kept = Math.min(letter.body.length, limits.deadLetterBodyBytesMax)
  const header = encoder.encode(
    JSON.stringify({
      time_us: letter.time_us,
      code: letter.code,
      detail: clip(letter.detail, detailCharsMax),
      errors: letter.errors
        .slice(0, fieldErrorsMax)
        .map((e) => ({ pointer: clip(e.pointer, pointerCharsMax), detail: clip(e.detail, detailCharsMax) })),
      transport: letter.transport,
      client: clip(letter.client, pointerCharsMax),
      topic: letter.topic,
      tenant: letter.tenant,
      shape: letter.shape,
      topic_device: letter.topic_device,
      retained: letter.retained,
      content_type: letter.content_type === undefined ? undefined : clip(letter.content_type, pointerCharsMax),
      bytes_total: letter.bytes_total,
      truncated: letter.truncated || kept < letter.body.length,
    }),
  )
  const bytes = new Uint8Array(headerStart + header.length + kept)
  bytes[0] = formatVersion
  new DataView(bytes.buffer).setUint32(1, header.length, true)
  bytes.set(header, headerStart)
  bytes.set(kept === letter.body.length ? letter.body : letter.body.subarray(0, kept), headerStart + header.length)
  return bytes
}

/** The body is a view on `bytes`: copy to keep. Throws `log_format` when the bytes are not such a record. */
export function decodeDeadLetter(bytes: Uint8Array): DeadLetterContent {
  if (bytes.length < headerStart || bytes[0] !== formatVersion) throw unreadable('its first byte is not a known version')
  const length = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(1, true)
  if (length > bytes.length - headerStart) throw unreadable('its header is longer than the record')
  const header = parseObject(bytes.subarray(headerStart, headerStart + length))
  const topicDevice = header['topic_device']
  const contentType = header['content_type']
  return {
    time_us: number(header, 'time_us'),
    code: text(header, 'code'),
    detail: text(header, 'detail'),
    errors: fieldErrors(header['errors']),
    transport: text(header, 'transport'),
    client: text(header, 'client'),
    topic: text(header, 'topic'),
    tenant: text(header, 'tenant'),
    shape: text(header, 'shape'),
    ...(typeof topicDevice === 'string' ? { topic_device: topicDevice } : {}),
    ...(typeof contentType === 'string' ? { content_type: contentType } : {}),
    ...(header['retained'] === true ? { retained: true } : {}),
    bytes_total: number(header, 'bytes_total'),
    truncated: header['truncated'] === true,
    body: bytes.subarray(headerStart + length),
  }
}

/** The body of a `dead-letter-mark` record: JSON. */
export function encodeDeadLetterMark(mark: DeadLetterMark): Uint8Array {
  return encoder.encode(JSON.stringify({ v: formatVersion, letter: mark.letter, status: mark.status }))
}

/** Throws `log_format` when the bytes are not such a record. */
export function decodeDeadLetterMark(bytes: Uint8Array): DeadLetterMark {
  const mark = parseObject(bytes)
  const letter = text(mark, 'letter')
  const status = mark['status']
  if (mark['v'] !== formatVersion || !/^\d{1,20}$/.test(letter)) throw unreadable('it is not a mark of a known version')
  if (status !== 'replayed' && status !== 'dismissed') throw unreadable('its status is not known')
  return { letter, status }
}

/** Shortened to `max` UTF-16 units, never in the middle of a character. */
function clip(value: string, max: number): string {
  return value.length <= max
    ? value
    : value
        .slice(0, max)
        .toWellFormed()
        .replace(/\uFFFD$/, '') + '…'
}

function unreadable(why: string): KymoError {
  return new KymoError('log_format', { detail: `A record of the dead letters cannot be read: ${why}.` })
}

function parseObject(bytes: Uint8Array): Readonly<Record<string, unknown>> {
  let parsed: unknown
  try {
    parsed = JSON.parse(decoder.decode(bytes))
  } catch (cause) {
    throw new KymoError('log_format', { detail: 'A record of the dead letters cannot be read: its header is not JSON.', cause })
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) throw unreadable('its header is not an object')
  return parsed as Record<string, unknown>
}

function text(header: Readonly<Record<string, unknown>>, name: string): string {
  const value = header[name]
  if (typeof value !== 'string') throw unreadable(`${name} is not text`)
  return value
}

function number(header: Readonly<Record<string, unknown>>, name: string): number {
  const value = header[name]
  if (typeof value !== 'number') throw unreadable(`${name} is not a number`)
  return value
}

function fieldErrors(value: unknown): DeadLetter['errors'] {
  if (!Array.isArray(value)) throw unreadable('errors is not a list')
  return value.map((item: unknown) => {
    if (typeof item !== 'object' || item === null) throw unreadable('an error is not an object')
    const fields = item as Record<string, unknown>
    return { pointer: text(fields, 'pointer'), detail: text(fields, 'detail') }
  })
}
