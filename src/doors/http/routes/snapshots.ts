import fs from 'node:fs'
import { KymoError } from '../../../core/errors.ts'
import { limits } from '../../../core/limits.ts'
import type { App } from '../app-types.ts'
import type { HttpContext } from '../options.ts'
import { answer, noQuery } from '../schemas.ts'

const params = {
  type: 'object',
  required: ['id'],
  properties: { id: { type: 'string', pattern: '^[0-9a-f-]{36}$', description: 'The id of a snapshot.' } },
} as const

const fileQuery = {
  type: 'object',
  additionalProperties: false,
  required: ['path'],
  properties: { path: { type: 'string', minLength: 1, maxLength: 1024, description: '`path` of one of `snapshot.files`.' } },
} as const

const snapshotBody = {
  type: 'object',
  additionalProperties: false,
  properties: {
    id: {
      type: 'string',
      pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$',
      description: 'A new UUID, so that it can be given back when no answer comes. Absent: made by the server.',
    },
  },
} as const

const snapshotAnswer = {
  type: 'object',
  required: ['snapshot', 'folder'],
  properties: {
    folder: { type: 'string', description: "Where its files lie on the server's machine." },
    snapshot: {
      type: 'object',
      required: ['id', 'created_us', 'version', 'formats', 'log', 'stalled_ms', 'files'],
      properties: {
        id: { type: 'string' },
        created_us: { type: 'integer', description: 'Every record that was acknowledged before is in it. Epoch microseconds.' },
        version: { type: 'string' },
        formats: { type: 'object', additionalProperties: { type: 'integer' } },
        log: {
          type: 'object',
          properties: {
            id: { type: 'string' },
            ends: {
              type: 'object',
              description: 'The log ends before these offsets; its files may hold more.',
              additionalProperties: { type: 'string' },
            },
          },
        },
        store_next: { type: 'string', description: 'The store holds the records of `telemetry` below this offset.' },
        stalled_ms: { type: 'number', description: 'How long commits waited for it.' },
        files: {
          type: 'array',
          items: {
            type: 'object',
            required: ['path', 'bytes', 'immutable'],
            properties: {
              path: { type: 'string', description: 'In a data directory.' },
              bytes: { type: 'integer' },
              immutable: { type: 'boolean', description: 'Its content never changes.' },
              sha256: { type: 'string' },
            },
          },
        },
      },
    },
  },
} as const

function unknown(id: string): KymoError {
  return new KymoError('not_found', {
    detail: `There is no snapshot ${id}; one that nobody asks for is removed after ${limits.snapshotLeaseMs / 60_000} minutes.`,
  })
}

/** What `kymo backup` copies from: all of the data directory as it was at one moment. */
export function snapshotRoutes(app: App, context: HttpContext): void {
  const { snapshots } = context

  app.post(
    '/api/v1/snapshots',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'createSnapshot',
        tags: ['backup'],
        summary: 'Hold all data as they are now, to be copied',
        description:
          'Files that never change are linked, so this takes no space and little time. `kymo backup` copies from it and gives it back; docs/format/backup.md tells how.',
        querystring: noQuery,
        body: snapshotBody,
        response: { 201: answer('The snapshot; Location leads to it.', snapshotAnswer) },
      },
    },
    async (request, reply) => {
      const { id } = await snapshots.create(request.body.id)
      const made = snapshots.get(id)
      if (made === undefined) throw unknown(id)
      return reply.code(201).header('location', `/api/v1/snapshots/${id}`).send(made)
    },
  )

  app.get(
    '/api/v1/snapshots/:id',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'getSnapshot',
        tags: ['backup'],
        summary: 'A snapshot; asking keeps it',
        params,
        querystring: noQuery,
        response: { 200: answer('The snapshot.', snapshotAnswer) },
      },
    },
    (request, reply) => {
      const found = snapshots.get(request.params.id)
      if (found === undefined) throw unknown(request.params.id)
      return reply.send(found)
    },
  )

  app.get(
    '/api/v1/snapshots/:id/file',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'getSnapshotFile',
        tags: ['backup'],
        summary: 'One file of a snapshot',
        params,
        querystring: fileQuery,
        response: { 200: { description: 'Its bytes.', content: { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } } } },
      },
    },
    (request, reply) => {
      const { id } = request.params
      const file = snapshots.file(id, request.query.path)
      if (file === undefined) {
        if (snapshots.get(id) === undefined) throw unknown(id)
        throw new KymoError('not_found', { detail: `The snapshot has no file ${request.query.path}.` })
      }
      reply.type('application/octet-stream').header('content-length', file.bytes)
      if (file.bytes === 0) return reply.send(Buffer.alloc(0))
      // A segment that is being written grows: what the snapshot says of it is sent.
      const stream = fs.createReadStream(file.path, { end: file.bytes - 1 })
      const keeping = setInterval(() => void snapshots.get(id), limits.snapshotLeaseMs / 4).unref()
      stream.once('close', () => clearInterval(keeping))
      return reply.send(stream)
    },
  )

  app.delete(
    '/api/v1/snapshots/:id',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'deleteSnapshot',
        tags: ['backup'],
        summary: 'Give a snapshot back',
        params,
        querystring: noQuery,
        response: { 204: { description: 'It is gone.' } },
      },
    },
    async (request, reply) => {
      if (!(await snapshots.remove(request.params.id))) throw unknown(request.params.id)
      return reply.code(204).send()
    },
  )
}
