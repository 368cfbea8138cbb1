import { serveCalls } from '../sqlite/call-server.ts'
import { SqliteDocuments } from './documents.ts'
import type { EngineRequest } from './engine.ts'

/** Entry of the metadata thread. */
serveCalls<EngineRequest, SqliteDocuments>({
  noun: 'metadata file',
  open: ({ path }) => new SqliteDocuments(path),
  serve(documents, request) {
    switch (request.op) {
      case 'get':
        return { value: documents.get(request.collection, request.tenant, request.id) }
      case 'list':
        return { value: documents.list(request.query) }
      case 'count':
        return { value: documents.count(request.collection, request.tenant) }
      case 'apply':
        return { value: documents.apply(request.calls) }
      case 'revision':
        return { value: documents.outsideRevision() }
    }
  },
})
