import { Flag, type Batch } from '../core/batch.ts'
import type { KymoError } from '../core/errors.ts'
import { limits } from '../core/limits.ts'
import { Topic, type OpaqueRecord } from '../core/record.ts'
import { encodeDeadLetter } from '../wire/dead-letter.ts'
import { formatRfc3339 } from '../wire/time.ts'

/** Of a letter's body: what a document may add to it at most is far below the rest. */
const bodyBytes = limits.deadLetterBodyBytesMax / 2

const encoder = new TextEncoder()

/**
 * Readings that the store cannot take, as dead letters of `shape: 'any'`: documents with device, time and values, which a replay offers again. As many
 * letters as their bytes need; each has one tenant.
 */
export function lettersOf(batch: Batch, error: KymoError, receivedUs: number): OpaqueRecord[] {
  const letters: OpaqueRecord[] = []
  for (const [tenant, documents] of documentsOf(batch)) {
    for (let from = 0; from < documents.length;) {
      let bytes = 0
      let to = from
      while (to < documents.length && (to === from || bytes + documents[to]!.length < bodyBytes)) bytes += documents[to++]!.length
      letters.push(letterOf(tenant, `[${documents.slice(from, to).join(',')}]`, error, receivedUs))
      from = to
    }
  }
  return letters
}

function letterOf(tenant: string, text: string, error: KymoError, receivedUs: number): OpaqueRecord {
  const bytes = encoder.encode(text)
  const body = encodeDeadLetter({
    time_us: receivedUs,
    code: error.code,
    detail: error.message,
    errors: error.details.errors ?? [],
    transport: 'log',
    client: '',
    topic: '',
    tenant,
    shape: 'any',
    content_type: 'application/json',
    bytes_total: bytes.length,
    truncated: false,
    body: bytes,
  })
  return { topic: Topic.deadLetters, kind: 'dead-letter', key: '', receivedUs, body }
}

/** A JSON document for each device and time, by tenant. */
function documentsOf(batch: Batch): Map<string, string[]> {
  const { rows, keys, series, timeUs } = batch
  const byTenant = new Map<string, string[]>()
  for (let row = 0; row < rows;) {
    const { tenant, device } = keys[series[row]!]!
    const at = timeUs[row]!
    const values: [string, unknown][] = []
    for (; row < rows && timeUs[row] === at; row++) {
      const key = keys[series[row]!]!
      if (key.device !== device || key.tenant !== tenant) break
      values.push([key.metric, valueOf(batch, row)])
    }
    const documents = byTenant.get(tenant) ?? []
    documents.push(JSON.stringify({ device, time: formatRfc3339(at), values: Object.fromEntries(values) }))
    byTenant.set(tenant, documents)
  }
  return byTenant
}

function valueOf({ flags, text, value }: Batch, row: number): unknown {
  const flag = flags?.[row] ?? 0
  if ((flag & Flag.text) !== 0) return text?.get(row) ?? ''
  return (flag & Flag.boolean) === 0 ? value[row] : value[row] === 1
}
