import { Buffer } from 'node:buffer'
import { Flag, type Batch } from '../core/batch.ts'
import type { DeadLetterContent } from './dead-letter.ts'
import { formatRfc3339 } from './time.ts'

/** A message of a topic whose consumers know nothing of Kymo. */
export interface Document {
  /** The device: what messages of one device keep their order by. Empty: none is known. */
  readonly key: string
  readonly value: Uint8Array
}

type Value = string | number | boolean | null

const encoder = new TextEncoder()

function valueOf({ value, flags, text }: Batch, row: number): Value {
  const bits = flags?.[row] ?? 0
  if ((bits & (Flag.text | Flag.bigInteger)) !== 0) return text?.get(row) ?? null
  const number = value[row]!
  return (bits & Flag.boolean) !== 0 ? number === 1 : Number.isFinite(number) ? number : null
}

/**
 * Readings as documents of telemetry systems that keep one for each device and time (docs/format/kafka-documents.md): `device_id`, `ts`, `temperature_c`
 * and `humidity` (null when the message had none), then the other metrics by their names. Rows of one message stand together, and become one document.
 */
export function* readingDocuments(batch: Batch): Generator<Document, void, void> {
  for (let row = 0; row < batch.rows;) {
    const { tenant, device } = batch.keys[batch.series[row]!]!
    const timeUs = batch.timeUs[row]!
    const document: Record<string, Value> = { device_id: device, ts: formatRfc3339(timeUs), temperature_c: null, humidity: null }
    if (tenant !== 'default') document['tenant_id'] = tenant
    for (; row < batch.rows && batch.timeUs[row] === timeUs; row++) {
      const key = batch.keys[batch.series[row]!]!
      if (key.device !== device || key.tenant !== tenant) break
      const name = key.metric === 'temperature' ? 'temperature_c' : key.metric
      // What tells whose it is and when is not for a metric to overwrite.
      document[name === 'device_id' || name === 'ts' || name === 'tenant_id' ? `${name}_metric` : name] = valueOf(batch, row)
    }
    yield { key: device, value: encoder.encode(JSON.stringify(document)) }
  }
}

/** A dead letter as a document: why, when, and what came, as text where it is text and else in base64. */
export function deadLetterDocument(letter: DeadLetterContent): Document {
  const document = {
    reason: letter.detail,
    code: letter.code,
    timestamp: formatRfc3339(letter.time_us),
    errors: letter.errors,
    transport: letter.transport,
    client: letter.client,
    topic: letter.topic,
    bytes_total: letter.bytes_total,
    truncated: letter.truncated,
    ...payloadOf(letter.body),
  }
  return { key: letter.topic_device ?? '', value: encoder.encode(JSON.stringify(document)) }
}

function payloadOf(body: Uint8Array): { readonly payload: string } | { readonly payload_base64: string } {
  try {
    return { payload: new TextDecoder('utf-8', { fatal: true }).decode(body) }
  } catch {
    return { payload_base64: Buffer.from(body).toString('base64') }
  }
}
