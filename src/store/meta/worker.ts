import { parentPort } from 'node:worker_threads'
import { KymoError, toPlainError } from '../../core/errors.ts'
import { SqliteDocuments } from './documents.ts'
import type { EngineMessage, EngineReply } from './engine.ts'

/** Entry of the metadata thread: one request, one reply, in order. */
let documents: SqliteDocuments | undefined

function serve(message: EngineMessage): unknown {
  if (message.op === 'open') {
    documents = new SqliteDocuments(message.path)
    return undefined
  }
  if (message.op === 'close') {
    documents?.close()
    documents = undefined
    return undefined
  }
  if (documents === undefined) throw new KymoError('store_unavailable', { detail: 'The metadata file is not open.' })
  switch (message.op) {
    case 'get':
      return documents.get(message.collection, message.tenant, message.id)
    case 'list':
      return documents.list(message.query)
    case 'count':
      return documents.count(message.collection, message.tenant)
    case 'apply':
      return documents.apply(message.calls)
    case 'revision':
      return documents.outsideRevision()
    default:
      throw new KymoError('bug', { detail: 'The metadata thread was asked for what it does not know.' })
  }
}

parentPort?.on('message', (message: EngineMessage) => {
  let reply: EngineReply
  try {
    reply = { call: message.call, value: serve(message) }
  } catch (thrown) {
    reply = { call: message.call, error: toPlainError(thrown) }
  }
  parentPort?.postMessage(reply)
  // Nothing more can be served: let the thread end by itself.
  if (message.op === 'close' || documents === undefined) parentPort?.close()
})
