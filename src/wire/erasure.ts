import { KymoError } from '../core/errors.ts'

/** The data of one device is to be forgotten: all that stands before this record in the log. */
export interface ErasureRequest {
  /** Of the erasure, by which it is asked for. */
  readonly id: string
  readonly tenant: string
  readonly device: string
}

const formatVersion = 1
const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true })

/** The body of an `erasure` record (docs/format/records.md): JSON `{"v":1,"id","tenant","device"}`. */
export function encodeErasure({ id, tenant, device }: ErasureRequest): Uint8Array {
  return encoder.encode(JSON.stringify({ v: formatVersion, id, tenant, device }))
}

/** Throws `log_format` when the bytes are not such a record: passing over it would keep what was to be erased. */
export function decodeErasure(bytes: Uint8Array): ErasureRequest {
  let parsed: unknown
  try {
    parsed = JSON.parse(decoder.decode(bytes))
  } catch (cause) {
    throw new KymoError('log_format', { detail: 'A record of an erasure cannot be read: it is not JSON.', cause })
  }
  const record: Readonly<Record<string, unknown>> = isObject(parsed) ? parsed : {}
  const { v, id, tenant, device } = record
  if (v !== formatVersion || typeof id !== 'string' || typeof tenant !== 'string' || typeof device !== 'string') {
    throw new KymoError('log_format', { detail: 'A record of an erasure cannot be read: a field is missing or of another version.' })
  }
  return { id, tenant, device }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
