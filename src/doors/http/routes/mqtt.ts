import { KymoError } from '../../../core/errors.ts'
import { limits } from '../../../core/limits.ts'
import type { MqttClient, MqttSession, Page } from '../../../core/services.ts'
import { formatRfc3339 } from '../../../wire/time.ts'
import { principalOf } from '../access.ts'
import type { App } from '../app-types.ts'
import type { HttpContext } from '../options.ts'
import { decodeCursor, encodeCursor, questionOf } from '../reads/cursor.ts'
import { answer, cursor, listOf, noQuery } from '../schemas.ts'

const clientId = { type: 'string', minLength: 1, maxLength: limits.mqttClientIdBytesMax } as const
const count = { type: 'integer', minimum: 0 } as const
const time = { type: 'string', format: 'date-time' } as const
const qos = { type: 'integer', enum: [0, 1, 2] } as const

const clientParams = { type: 'object', required: ['client_id'], properties: { client_id: clientId } } as const

const pageQuery = {
  type: 'object',
  additionalProperties: false,
  properties: { limit: { type: 'integer', minimum: 1, maximum: limits.mqttListedMax }, cursor },
} as const

const subscriptionsQuery = {
  type: 'object',
  additionalProperties: false,
  properties: {
    client_id: { ...clientId, description: 'Only those of this client.' },
    filter: { type: 'string', minLength: 1, maxLength: limits.mqttTopicBytesMax, description: 'Only those of exactly this filter.' },
    ...pageQuery.properties,
  },
} as const

const disconnectQuery = {
  type: 'object',
  additionalProperties: false,
  properties: { session: { type: 'boolean', description: 'End the session as well: its subscriptions, and what waits for it.' } },
} as const

const clientAnswer = {
  title: 'MqttClient',
  type: 'object',
  required: [
    'client_id',
    'address',
    'transport',
    'protocol',
    'principal',
    'connected_at',
    'keep_alive_s',
    'subscriptions',
    'inflight',
    'queued',
    'unacknowledged',
    'messages_in',
    'messages_out',
    'bytes_in',
    'bytes_out',
  ],
  properties: {
    client_id: { type: 'string' },
    address: { type: 'string' },
    transport: { enum: ['tcp', 'tls', 'ws', 'wss'] },
    protocol: { enum: ['3.1', '3.1.1', '5'] },
    principal: { type: 'string', description: 'The id of its token, or how else it was let in.' },
    connected_at: time,
    keep_alive_s: { ...count, description: '0: it need not say anything.' },
    subscriptions: count,
    inflight: { ...count, description: 'Deliveries at QoS 1 and 2 that were sent and are not done with.' },
    queued: { ...count, description: 'Deliveries that wait behind them.' },
    unacknowledged: { ...count, description: 'Its own publishes that are not acknowledged yet.' },
    messages_in: count,
    messages_out: count,
    bytes_in: count,
    bytes_out: count,
  },
} as const

const sessionAnswer = {
  title: 'MqttSession',
  type: 'object',
  required: ['client_id', 'connected', 'expiry_s', 'detached_at', 'subscriptions', 'inflight', 'queued'],
  properties: {
    client_id: { type: 'string' },
    connected: { type: 'boolean' },
    expiry_s: { type: ['integer', 'null'], description: 'Session Expiry Interval; 0: it ends with its connection, null: never.' },
    detached_at: { ...time, type: ['string', 'null'], description: 'Since when nobody is connected to it.' },
    subscriptions: count,
    inflight: count,
    queued: count,
  },
} as const

const subscriptionAnswer = {
  title: 'MqttSubscription',
  type: 'object',
  required: ['client_id', 'filter', 'qos', 'no_local', 'retain_as_published', 'retain_handling', 'identifier', 'connected'],
  properties: {
    client_id: { type: 'string' },
    filter: { type: 'string', description: 'As the client wrote it, $share/group/ included.' },
    qos,
    no_local: { type: 'boolean' },
    retain_as_published: { type: 'boolean' },
    retain_handling: qos,
    identifier: { ...count, description: 'Subscription Identifier; 0: none.' },
    connected: { type: 'boolean' },
  },
} as const

const disconnectAnswer = {
  type: 'object',
  required: ['client_id', 'disconnected', 'session_ended'],
  properties: { client_id: { type: 'string' }, disconnected: { type: 'boolean' }, session_ended: { type: 'boolean' } },
} as const

const protocols = { 3: '3.1', 4: '3.1.1', 5: '5' } as const

function clientJson({ protocol_level, connected_us, ...client }: MqttClient): Record<string, unknown> {
  return { ...client, protocol: protocols[protocol_level], connected_at: formatRfc3339(connected_us) }
}

function sessionJson({ detached_us, expiry_s, ...session }: MqttSession): Record<string, unknown> {
  return {
    ...session,
    expiry_s: Number.isFinite(expiry_s) ? expiry_s : null,
    detached_at: detached_us === undefined ? null : formatRfc3339(detached_us),
  }
}

function pageJson<T>(question: string, { items, next }: Page<T>, toJson: (item: T) => unknown): Record<string, unknown> {
  return { items: items.map(toJson), next_cursor: next === undefined ? null : encodeCursor(question, [next]) }
}

function pageOf(question: string, query: { readonly limit?: number; readonly cursor?: string }): { readonly limit: number; readonly after?: string } {
  const { limit = limits.mqttListedMax, cursor: from } = query
  return { limit, ...(from === undefined ? {} : { after: String(decodeCursor(question, from)[0]) }) }
}

function noClient(id: string): KymoError {
  return new KymoError('not_found', { detail: `No MQTT client "${id.slice(0, 100)}" is connected.` })
}

export function mqttRoutes(app: App, { mqtt }: HttpContext): void {
  app.get(
    '/api/v1/mqtt/clients',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'listMqttClients',
        tags: ['mqtt'],
        summary: 'Connected MQTT clients, by client id',
        querystring: pageQuery,
        response: { 200: answer('A page.', listOf(clientAnswer)) },
      },
    },
    async (request) => {
      const question = questionOf('mqtt-clients')
      return pageJson(question, mqtt.clients(principalOf(request).tenant, pageOf(question, request.query)), clientJson)
    },
  )

  app.get(
    '/api/v1/mqtt/clients/:client_id',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'getMqttClient',
        tags: ['mqtt'],
        summary: 'One connected MQTT client',
        params: clientParams,
        querystring: noQuery,
        response: { 200: answer('The client.', clientAnswer) },
      },
    },
    async (request) => {
      const client = mqtt.client(principalOf(request).tenant, request.params.client_id)
      if (client === undefined) throw noClient(request.params.client_id)
      return clientJson(client)
    },
  )

  app.delete(
    '/api/v1/mqtt/clients/:client_id',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'disconnectMqttClient',
        tags: ['mqtt'],
        summary: 'Disconnect an MQTT client',
        description:
          'Its will is published. With session=true its session ends as well, also when it is not connected. It may connect again: to keep it out, revoke ' +
          'its token.',
        params: clientParams,
        querystring: disconnectQuery,
        response: { 200: answer('What ended.', disconnectAnswer) },
      },
    },
    async (request) => {
      const { client_id } = request.params
      const ended = await mqtt.disconnect(principalOf(request).tenant, client_id, { session: request.query.session === true })
      if (ended === undefined) throw noClient(client_id)
      return { client_id, ...ended }
    },
  )

  app.get(
    '/api/v1/mqtt/sessions',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'listMqttSessions',
        tags: ['mqtt'],
        summary: 'MQTT sessions, connected or kept, by client id',
        querystring: pageQuery,
        response: { 200: answer('A page.', listOf(sessionAnswer)) },
      },
    },
    async (request) => {
      const question = questionOf('mqtt-sessions')
      return pageJson(question, await mqtt.sessions(principalOf(request).tenant, pageOf(question, request.query)), sessionJson)
    },
  )

  app.get(
    '/api/v1/mqtt/subscriptions',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'listMqttSubscriptions',
        tags: ['mqtt'],
        summary: 'MQTT subscriptions, by client id and filter',
        querystring: subscriptionsQuery,
        response: { 200: answer('A page.', listOf(subscriptionAnswer)) },
      },
    },
    async (request) => {
      const { client_id, filter } = request.query
      const question = questionOf('mqtt-subscriptions', client_id, filter)
      const page = await mqtt.subscriptions(principalOf(request).tenant, {
        ...pageOf(question, request.query),
        ...(client_id === undefined ? {} : { clientId: client_id }),
        ...(filter === undefined ? {} : { filter }),
      })
      return pageJson(question, page, (item) => item)
    },
  )
}
