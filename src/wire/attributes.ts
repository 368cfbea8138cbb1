import { KymoError } from '../core/errors.ts'

/** What a device said of itself that differs from what it said before. */
export interface AttributeChanges {
  readonly tenant: string
  readonly device: string
  /** Attribute name (`firmware`, `location`, `unit.<metric>`) to its new value. */
  readonly changes: Readonly<Record<string, string>>
  /** It came with a retained message: the device was not heard at this moment. */
  readonly retained?: true
}

const formatVersion = 1
const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true })

/** The body of an `attributes` record (docs/format/meta.md): JSON `{"v":1,"tenant","device","changes":{name:value}}`, and `"retained":true`. */
export function encodeAttributes(attributes: AttributeChanges): Uint8Array {
  const { tenant, device, changes, retained } = attributes
  return encoder.encode(JSON.stringify({ v: formatVersion, tenant, device, changes, retained }))
}

/** Throws `log_format` when the bytes are not such a record. Own properties only: a name may be `__proto__`. */
export function decodeAttributes(bytes: Uint8Array): AttributeChanges {
  let parsed: unknown
  try {
    parsed = JSON.parse(decoder.decode(bytes))
  } catch (cause) {
    throw new KymoError('log_format', { detail: 'A record of attributes cannot be read: it is not JSON.', cause })
  }
  const record = isObject(parsed) ? parsed : {}
  const { tenant, device, changes } = record
  if (record['v'] !== formatVersion || typeof tenant !== 'string' || typeof device !== 'string' || !isObject(changes)) {
    throw new KymoError('log_format', { detail: 'A record of attributes cannot be read: a field is missing or of another version.' })
  }
  const strings: [string, string][] = []
  for (const [name, value] of Object.entries(changes)) if (typeof value === 'string') strings.push([name, value])
  return { tenant, device, changes: Object.fromEntries(strings), ...(record['retained'] === true ? { retained: true } : {}) }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
