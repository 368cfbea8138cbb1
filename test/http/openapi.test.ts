import assert from 'node:assert/strict'
import test from 'node:test'
import { openApiDocument } from '../../src/doors/http/openapi.ts'
import { serve } from './support.ts'

interface Node {
  readonly [key: string]: unknown
}

function* walk(node: unknown, path: string): Generator<{ path: string; node: Node }> {
  if (typeof node !== 'object' || node === null) return
  if (!Array.isArray(node)) yield { path, node: node as Node }
  for (const [key, value] of Object.entries(node)) yield* walk(value, `${path}/${key}`)
}

const types = new Set(['object', 'array', 'string', 'integer', 'number', 'boolean', 'null'])

test('the document is OpenAPI 3.1 in structure', async () => {
  const document = await openApiDocument('9.9.9')
  assert.match(document.openapi, /^3\.1\.\d+$/)
  assert.equal(document.info.version, '9.9.9')
  const ids = new Set<string>()
  const tags = new Set((document['tags'] as { name: string }[]).map((tag) => tag.name))
  for (const [path, methods] of Object.entries(document.paths)) {
    assert.match(path, /^\/[^:]*$/, path)
    for (const [method, operation] of Object.entries(methods)) {
      const at = `${method} ${path}`
      assert.match(method, /^(get|put|post|delete|patch)$/, at)
      assert.ok(operation.operationId !== undefined && !ids.has(operation.operationId), at)
      ids.add(operation.operationId)
      assert.ok((operation.summary ?? '').length > 5, at)
      assert.ok(
        operation.tags!.every((tag) => tags.has(tag)),
        at,
      )
      const inPath = [...path.matchAll(/\{([^}]+)\}/g)].map((m) => m[1])
      const declared = (operation.parameters ?? []).filter((p) => p.in === 'path')
      assert.deepEqual(
        declared.map((p) => p.name),
        inPath,
        at,
      )
      assert.ok(
        declared.every((p) => p.required === true),
        at,
      )
      assert.equal(operation.requestBody === undefined, method === 'get' || method === 'delete' || /\}\/(replay|promote)$/.test(path), at)
      assert.ok(
        Object.keys(operation.responses).some((status) => /^2\d\d$/.test(status)),
        at,
      )
      for (const [status, response] of Object.entries(operation.responses)) {
        assert.match(status, /^([1-5]\d\d|default)$/, at)
        if (status === 'default') assert.deepEqual(response, { $ref: '#/components/responses/problem' })
        else assert.equal(typeof response.description, 'string', at)
      }
    }
  }
})

test('every schema uses types that exist, and every reference resolves', async () => {
  const document = await openApiDocument()
  for (const { path, node } of walk(document, '')) {
    if (typeof node['$ref'] === 'string') {
      let target: unknown = document
      for (const step of node['$ref'].slice(2).split('/')) target = (target as Node)[step]
      assert.notEqual(target, undefined, path)
    }
    if (/\/(schema|items|properties\/[^/]+)$/.test(path) && node['type'] !== undefined) {
      for (const type of [node['type']].flat() as string[]) assert.ok(types.has(type), `${path}: ${type}`)
      assert.equal(node['nullable'], undefined, `${path}: 3.0 only`)
    }
  }
})

test('all routes of this door are in it, and only those that exist', async (t) => {
  const s = await serve(t)
  const { paths } = await openApiDocument()
  const listed = Object.entries(paths)
    .flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`))
    .sort()
  assert.deepEqual(listed, [
    'DELETE /api/v1/dead-letters/{id}',
    'DELETE /api/v1/devices/{id}/data',
    'DELETE /api/v1/jobs/{id}',
    'DELETE /api/v1/mqtt/clients/{client_id}',
    'DELETE /api/v1/snapshots/{id}',
    'DELETE /api/v1/tokens/{id}',
    'GET /',
    'GET /aggregated',
    'GET /analytics/anomalies',
    'GET /analytics/devices/{id}/latest',
    'GET /analytics/devices/{id}/statistics',
    'GET /analytics/inactive',
    'GET /analytics/low-battery',
    'GET /analytics/summary',
    'GET /api/v1/dead-letters',
    'GET /api/v1/dead-letters/{id}',
    'GET /api/v1/devices',
    'GET /api/v1/devices/{id}',
    'GET /api/v1/devices/{id}/latest',
    'GET /api/v1/erasures',
    'GET /api/v1/erasures/{id}',
    'GET /api/v1/forecasts',
    'GET /api/v1/forecasts/{device}/{metric}',
    'GET /api/v1/forecasts/{device}/{metric}/accuracy',
    'GET /api/v1/forecasts/{device}/{metric}/crossing',
    'GET /api/v1/forecasts/{device}/{metric}/predictions',
    'GET /api/v1/jobs',
    'GET /api/v1/jobs/{id}',
    'GET /api/v1/jobs/{id}/download',
    'GET /api/v1/jobs/{id}/rejects',
    'GET /api/v1/latest',
    'GET /api/v1/live',
    'GET /api/v1/models',
    'GET /api/v1/models/{device}/{metric}',
    'GET /api/v1/models/{device}/{metric}/{version}',
    'GET /api/v1/models/{device}/{metric}/{version}/file',
    'GET /api/v1/mqtt/clients',
    'GET /api/v1/mqtt/clients/{client_id}',
    'GET /api/v1/mqtt/sessions',
    'GET /api/v1/mqtt/subscriptions',
    'GET /api/v1/query',
    'GET /api/v1/series',
    'GET /api/v1/snapshots/{id}',
    'GET /api/v1/snapshots/{id}/file',
    'GET /api/v1/status',
    'GET /api/v1/status/history',
    'GET /api/v1/tokens',
    'GET /devices',
    'GET /devices/{id}',
    'GET /devices/{id}/aggregated',
    'GET /devices/{id}/aggregates',
    'GET /devices/{id}/metrics',
    'GET /devices/{id}/telemetry',
    'GET /health',
    'GET /historical-data',
    'GET /livez',
    'GET /metrics',
    'GET /model/status',
    'GET /models',
    'GET /models/{id}',
    'GET /ping',
    'GET /predictions',
    'GET /predictions/latest',
    'GET /query',
    'GET /readyz',
    'GET /sensors',
    'GET /sensors/{id}/readings',
    'GET /stats',
    'GET /telemetry',
    'PATCH /api/v1/devices/{id}',
    'POST /api/v1/dead-letters/dismiss',
    'POST /api/v1/dead-letters/replay',
    'POST /api/v1/dead-letters/{id}/replay',
    'POST /api/v1/devices',
    'POST /api/v1/exports',
    'POST /api/v1/imports',
    'POST /api/v1/models/backtest',
    'POST /api/v1/models/train',
    'POST /api/v1/models/{device}/{metric}/{version}/promote',
    'POST /api/v1/snapshots',
    'POST /api/v1/sql',
    'POST /api/v1/telemetry',
    'POST /api/v1/tokens',
    'POST /api/v2/write',
    'POST /devices',
    'POST /forecast',
    'POST /ingest',
    'POST /ingest/batch',
    'POST /model/train',
    'POST /models/{id}/train',
    'POST /predict',
    'POST /query',
    'POST /sensor-data',
    'POST /write',
    'PUT /devices/{id}/status',
  ])
  for (const [path, methods] of Object.entries(paths)) {
    const allow = (await s.call(path.replaceAll(/\{[^}]+\}/g, '1'), { method: 'OPTIONS' })).headers.get('allow') ?? ''
    for (const method of Object.keys(methods)) assert.ok(allow.includes(method.toUpperCase()), `${method} ${path}: ${allow}`)
  }
})

test('the same twice is the same; served as /openapi.json and as a page without scripts', async (t) => {
  assert.deepEqual(await openApiDocument(), await openApiDocument())
  const s = await serve(t)
  assert.deepEqual((await s.call('/openapi.json')).json, await openApiDocument('1.2.3'))
  const page = await s.call('/docs')
  assert.match(page.text, /<code>\/api\/v1\/query<\/code>/)
  assert.match(page.text, /id="error-value_invalid"/)
  assert.doesNotMatch(page.text, /<script|src=|undefined|\[object/)
})
