import { batcher } from './batcher.ts'
import type { Batcher, BatcherOptions, Message } from './batcher.ts'
import { live } from './live.ts'
import type { LiveEvent, LiveOptions } from './live.ts'
import { operations } from './operations.ts'
import { rowsOf } from './rows.ts'
import type { Row } from './rows.ts'
import type { TelemetryAnswer, Operations, QueryAnswer, QueryRequest } from './schema.ts'
import { itemsName, operationOf, transport } from './transport.ts'
import type { Options, Send, Values } from './transport.ts'
import type { CallOptions, ClientOptions, Page } from './types.ts'

/** Every operation of the OpenAPI document by its tag, and what is made of several. */
export interface Client extends Operations {
  /** Resolves when all of it is durable, or tells what was refused. Sent with an Idempotency-Key, so that it may be repeated. */
  send(messages: Message | readonly Message[], options?: CallOptions & { readonly idempotencyKey?: string }): Promise<TelemetryAnswer>
  /** The rows of a query over all its pages; `limit` is that of a page. */
  rows(request?: Omit<QueryRequest, 'cursor' | 'format'>, options?: CallOptions): AsyncGenerator<Row, void, undefined>
  /** Readings as they become durable; goes on by itself when the connection ends. */
  live(options?: LiveOptions): AsyncGenerator<LiveEvent, void, undefined>
  /** Gathers messages into requests. */
  batcher(options?: BatcherOptions): Batcher
}

type Table = Readonly<Record<string, Readonly<Record<string, string>>>>
type Caller = (values?: Values, options?: Options) => unknown

/** Fetches page after page, each when it is asked for. */
async function* itemsOf(page: Caller, values: Values, options: Options): AsyncGenerator<unknown, void, undefined> {
  let cursor: string | undefined
  do {
    const { items, next_cursor: next } = (await page({ ...values, cursor }, options)) as Page<unknown>
    yield* items
    cursor = next ?? undefined
  } while (cursor !== undefined)
}

function groupsOf(send: Send, table: Table): Record<string, Record<string, Caller>> {
  const groups: Record<string, Record<string, Caller>> = {}
  for (const [group, lines] of Object.entries(table)) {
    const calls: Record<string, Caller> = (groups[group] = {})
    for (const [name, line] of Object.entries(lines)) {
      const operation = operationOf(line)
      const pages = operation.answer === 'pages'
      const call: Caller = (values = {}, options) => send(pages ? { ...operation, answer: 'json' } : operation, values, options)
      calls[name] = call
      if (pages) calls[itemsName(name)] = (values = {}, options = {}) => itemsOf(call, values, options)
    }
  }
  return groups
}

/** A client of one server. It holds no connection: there is nothing to close. */
export function createClient(options: ClientOptions): Client {
  const send = transport(options)
  const retries = options.retries ?? 3
  const groups = groupsOf(send, operations) as unknown as Operations
  const { telemetry, readings } = groups

  async function* rows(request: Omit<QueryRequest, 'cursor' | 'format'> = {}, o?: CallOptions): AsyncGenerator<Row, void, undefined> {
    let cursor: string | undefined
    do {
      const answer: QueryAnswer = await readings.query({ ...request, cursor }, o)
      yield* rowsOf(answer)
      cursor = answer.next_cursor ?? undefined
    } while (cursor !== undefined)
  }

  return {
    ...groups,
    send: (body, { idempotencyKey, ...o } = {}) => telemetry.send({ body, idempotencyKey }, o),
    rows,
    live: (o = {}) => live(send, operationOf(operations.readings.live), o, retries),
    batcher: (o = {}) => batcher((body, idempotencyKey, signal) => telemetry.send({ body, idempotencyKey }, { signal }), o, retries),
  }
}
