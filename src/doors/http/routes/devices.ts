import type { FastifyReply, FastifyRequest } from 'fastify'
import { v7 } from '../uuid7.ts'
import { KymoError } from '../../../core/errors.ts'
import { limits } from '../../../core/limits.ts'
import type { Device, Page, VersionedDevice } from '../../../core/services.ts'
import { formatRfc3339 } from '../../../wire/time.ts'
import { principalOf } from '../access.ts'
import type { App } from '../app-types.ts'
import type { HttpContext } from '../options.ts'
import { decodeCursor, encodeCursor, questionOf } from '../reads/cursor.ts'
import { answer, deviceAnswer, deviceCreate, devicePatch, devicesQuery, idParams, listOf, noQuery } from '../schemas.ts'
import { sendItems, Slices } from '../slices.ts'

/** A device as JSON: times as RFC 3339, the id under both names. */
export function deviceJson(device: Device): Record<string, unknown> {
  return {
    id: device.id,
    device_id: device.id,
    name: device.name,
    type: device.type,
    status: device.status,
    tenant_id: device.tenant_id,
    metadata: device.metadata,
    attributes: device.attributes,
    created_at: formatRfc3339(device.created_us),
    updated_at: formatRfc3339(device.updated_us),
    last_seen: device.last_seen_us === undefined ? null : formatRfc3339(device.last_seen_us),
    auto_registered: device.auto_registered,
  }
}

/** The version decides whether a change may be made; last_seen, which changes without one, only whether a copy is fresh. */
function etagOf(device: VersionedDevice): string {
  return `"${device.version}.${(device.last_seen_us ?? 0).toString(36)}"`
}

function versionsOf(header: string): number[] {
  return [...header.matchAll(/"(\d{1,15})(?:\.[0-9a-z]+)?"/g)].map((match) => Number(match[1]))
}

/** RFC 9110 13.1.1, compared by version; undefined: `*`, whatever version it is. */
function expectedVersion(ifMatch: string | undefined, current: VersionedDevice): number | undefined {
  if (ifMatch === undefined) throw new KymoError('precondition_required')
  if (ifMatch.trim() === '*') return undefined
  // A weak tag never matches here (13.1.1: strong comparison).
  if (!versionsOf(ifMatch.replaceAll(/W\/"[^"]*"/g, '')).includes(current.version)) throw new KymoError('version_conflict')
  return current.version
}

/** RFC 9110 13.1.2: weak comparison of whole tags. */
function isFresh(ifNoneMatch: string | undefined, etag: string): boolean {
  if (ifNoneMatch === undefined) return false
  return ifNoneMatch.trim() === '*' || ifNoneMatch.split(',').some((tag) => tag.trim().replace(/^W\//, '') === etag)
}

const forbiddenKeys = new Set(['__proto__', 'constructor', 'prototype'])

/** RFC 7396. Keys that could reach an object's prototype are refused, whoever merges later. */
export function mergePatch(target: unknown, patch: unknown, depth = 0): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch
  if (depth > limits.jsonDepthMax) throw new KymoError('too_deep')
  const from = typeof target === 'object' && target !== null && !Array.isArray(target) ? (target as Record<string, unknown>) : {}
  const merged = new Map(Object.entries(from))
  for (const [key, value] of Object.entries(patch)) {
    if (forbiddenKeys.has(key))
      throw new KymoError('request_invalid', { errors: [{ pointer: `/metadata/${key}`, detail: 'is a name that cannot be used' }] })
    if (value === null) merged.delete(key)
    else merged.set(key, mergePatch(merged.get(key), value, depth + 1))
  }
  return Object.fromEntries(merged)
}

export function metadataOf(metadata: unknown): Readonly<Record<string, unknown>> {
  const merged = mergePatch({}, metadata) as Readonly<Record<string, unknown>>
  if (JSON.stringify(merged).length > limits.textBytesMax) {
    throw new KymoError('request_invalid', { errors: [{ pointer: '/metadata', detail: `must be at most ${limits.textBytesMax} bytes as JSON` }] })
  }
  return merged
}

export async function deviceOf(context: HttpContext, request: FastifyRequest, id: string): Promise<VersionedDevice> {
  const device = await context.devices.get(principalOf(request).tenant, id)
  if (device === undefined) throw new KymoError('device_not_found')
  return device
}

function sendDevice(reply: FastifyReply, device: VersionedDevice): FastifyReply {
  return reply.header('etag', etagOf(device)).header('cache-control', 'no-cache').send(deviceJson(device))
}

export function deviceRoutes(app: App, context: HttpContext): void {
  const { devices, env } = context

  /** A full page of what is found, some devices at a time. */
  const found = async (tenant: string, search: string, after: string | undefined, limit: number): Promise<Page<VersionedDevice>> => {
    const items: VersionedDevice[] = []
    const slices = new Slices(context)
    for (let from = after; ;) {
      const { items: some, next } = await devices.list(tenant, {
        limit: limit - items.length,
        search,
        ...(from === undefined ? {} : { after: from }),
      })
      items.push(...some)
      if (next === undefined) return { items }
      if (items.length >= limit) return { items, next }
      from = next
      await slices.pause()
    }
  }

  app.get(
    '/api/v1/devices',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'listDevices',
        tags: ['devices'],
        summary: 'Devices, ordered by id',
        querystring: devicesQuery,
        response: { 200: answer('A page.', listOf(deviceAnswer)) },
      },
    },
    async (request, reply) => {
      const { tenant } = principalOf(request)
      const { cursor, total, search } = request.query
      const limit = request.query.limit ?? limits.listRowsDefault
      const question = search === undefined ? questionOf('devices') : questionOf('devices', search)
      const after = cursor === undefined ? undefined : String(decodeCursor(question, cursor)[0])
      const page =
        search === undefined
          ? await devices.list(tenant, { limit, ...(after === undefined ? {} : { after }) })
          : await found(tenant, search, after, limit)
      return sendItems(context, reply, page.items, deviceJson, {
        next_cursor: page.next === undefined ? null : encodeCursor(question, [page.next]),
        ...(total === true ? { total: devices.count(tenant) } : {}),
      })
    },
  )

  app.post(
    '/api/v1/devices',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'createDevice',
        tags: ['devices'],
        summary: 'Register a device',
        querystring: noQuery,
        body: deviceCreate,
        response: { 201: answer('Registered.', deviceAnswer) },
      },
    },
    async (request, reply) => {
      const { tenant } = principalOf(request)
      const { id, metadata, ...rest } = request.body
      const device = await devices.create(tenant, {
        id: id ?? v7(env),
        ...rest,
        ...(metadata === undefined ? {} : { metadata: metadataOf(metadata) }),
      })
      return sendDevice(reply.code(201).header('location', `/api/v1/devices/${encodeURIComponent(device.id)}`), device)
    },
  )

  app.get(
    '/api/v1/devices/:id',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'getDevice',
        tags: ['devices'],
        summary: 'One device',
        params: idParams,
        querystring: noQuery,
        response: {
          200: answer('The device; its ETag serves If-Match and If-None-Match.', deviceAnswer),
          304: { description: 'It is as If-None-Match says.' },
        },
      },
    },
    async (request, reply) => {
      const device = await deviceOf(context, request, request.params.id)
      if (isFresh(request.headers['if-none-match'], etagOf(device))) return reply.code(304).header('etag', etagOf(device)).send()
      return sendDevice(reply, device)
    },
  )

  app.patch(
    '/api/v1/devices/:id',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'updateDevice',
        tags: ['devices'],
        summary: 'Change a device (merge patch, RFC 7396)',
        consumes: ['application/merge-patch+json', 'application/json'],
        description: 'Needs If-Match: the ETag of a GET, or *. 428 without it, 412 when the device has changed since.',
        params: idParams,
        querystring: noQuery,
        body: devicePatch,
        headers: { type: 'object', properties: { 'if-match': { type: 'string' } } },
        response: { 200: answer('The device as it is now.', deviceAnswer) },
      },
    },
    async (request, reply) => {
      const { tenant } = principalOf(request)
      const current = await deviceOf(context, request, request.params.id)
      const expect = expectedVersion(request.headers['if-match'], current)
      const { metadata, ...rest } = request.body
      const patch = { ...rest, ...(metadata === undefined ? {} : { metadata: metadataOf(mergePatch(current.metadata, metadata)) }) }
      // Merged metadata is right only on the version that it was merged with.
      return sendDevice(reply, await devices.update(tenant, current.id, patch, expect ?? (metadata === undefined ? undefined : current.version)))
    },
  )
}
