import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { MetaWrite } from '../../core/ports.ts'
import type { EncodedWrite } from './calls.ts'

const idBytesMax = 512
// eslint-disable-next-line no-control-regex -- control characters are what it looks for
const control = /[\u0000-\u001f\u007f]/
const collectionName = /^[a-z][a-z0-9-]{0,63}$/

/** Writes as they are stored, with their size. Throws request_invalid for what no adapter could hold, or that is too large. */
export function encodeWrites(writes: readonly MetaWrite[]): { readonly encoded: readonly EncodedWrite[]; readonly bytes: number } {
  if (writes.length > limits.metaWritesPerCallMax) throw invalid(`A call may hold ${limits.metaWritesPerCallMax} writes, not ${writes.length}.`)
  let bytes = 0
  const encoded = writes.map((write): EncodedWrite => {
    const id = write.op === 'put' ? write.doc.id : write.id
    const { collection, tenant, expect } = write
    checkKey(collection, tenant, id)
    if (expect !== undefined && !(Number.isSafeInteger(expect) && expect >= 0)) throw invalid('An expected version is 0 or a positive integer.')
    const expected = expect === undefined ? {} : { expect }
    if (write.op === 'delete') return { collection, tenant, id, ...expected }
    const body = JSON.stringify(write.doc)
    const size = Buffer.byteLength(body)
    if (size > limits.metaDocumentBytesMax) throw invalid(`The document has ${size} bytes; the limit is ${limits.metaDocumentBytesMax}.`)
    bytes += size
    return { collection, tenant, id, body, ...expected }
  })
  if (bytes > limits.metaCallBytesMax) throw invalid(`A call may write ${limits.metaCallBytesMax} bytes, not ${bytes}.`)
  return { encoded, bytes }
}

export function checkList(o: { readonly limit: number }): void {
  if (!Number.isInteger(o.limit) || o.limit < 1 || o.limit > limits.metaListRowsMax) {
    throw invalid(`A list holds 1 to ${limits.metaListRowsMax} documents.`)
  }
}

function checkKey(collection: string, tenant: string, id: string): void {
  if (!collectionName.test(collection)) throw invalid('A collection is named by lower case letters, digits and hyphens.')
  if (!storable(tenant)) throw invalid('A tenant is at most 512 bytes of UTF-8 without control characters.')
  if (id === '' || !storable(id)) throw invalid('The id of a document is 1 to 512 bytes of UTF-8 without control characters.')
}

function storable(name: string): boolean {
  return name.isWellFormed() && !control.test(name) && Buffer.byteLength(name) <= idBytesMax
}

function invalid(detail: string): KymoError {
  return new KymoError('request_invalid', { detail })
}

/** What a write is told whose expectation is not met; `found`: the version that is there, 0: none. */
export function unexpected(write: EncodedWrite, found: number): KymoError {
  const facts = { collection: write.collection, id: write.id, version: found }
  if (write.expect === 0) return new KymoError('already_exists', { facts })
  return new KymoError('version_conflict', { facts })
}
