import type { FastifyReply, FastifyRequest } from 'fastify'
import { KymoError } from '../../../core/errors.ts'
import type { LineShape, MessageContext, Shape } from '../../../core/gate.ts'
import { principalOf } from '../access.ts'
import { BodyRefused, readBody } from '../body.ts'
import type { Body } from '../body.ts'
import type { HttpContext } from '../options.ts'
import { Slices } from '../slices.ts'
import type { Answer } from './answers.ts'
import { problemAnswer } from './answers.ts'
import { checkKey } from './idempotency.ts'
import type { IdempotentAnswers } from './idempotency.ts'
import { keepUnread } from './submit.ts'

/** A telemetry request whose body has arrived. */
export interface Received {
  readonly requestId: string
  readonly bytes: Buffer
  /** Position of the first byte that is not white space or a byte order mark; bytes.length when there is none. */
  readonly first: number
  readonly ndjson: boolean
  message(shape: Shape): MessageContext
}

const largeBytes = 512 * 1024

const ndjsonTypes = new Set(['application/x-ndjson', 'application/ndjson', 'application/jsonl', 'application/jsonlines', 'application/json-seq'])
/** What curl -d and simple clients say when they were told nothing better. */
const vagueTypes = new Set(['', 'text/plain', 'application/x-www-form-urlencoded', 'application/octet-stream'])

function mediaType(request: FastifyRequest): string {
  return (request.headers['content-type'] ?? '').split(';', 1)[0]!.trim().toLowerCase()
}

function isJsonType(type: string): boolean {
  return type === 'application/json' || type === 'text/json' || type.endsWith('+json')
}

/** Says nothing, and the body looks like JSON; of plain text the decoder says what is wrong with it. */
function isVague(type: string, first: number): boolean {
  return vagueTypes.has(type) && (first === 0x7b || first === 0x5b || type === 'text/plain' || type === '')
}

function firstByte(bytes: Buffer): number {
  let at = bytes.length >= 3 && bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0
  while (at < bytes.length && (bytes[at] === 0x20 || bytes[at] === 0x0a || bytes[at] === 0x0d || bytes[at] === 0x09)) at++
  return at
}

export function send(reply: FastifyReply, answer: Answer): FastifyReply {
  if (answer.retryAfter !== undefined) reply.header('retry-after', answer.retryAfter)
  return reply.code(answer.status).type(answer.type).send(answer.body)
}

/**
 * The way of every telemetry route: refuse at once while the log does not take writes, read the body, keep what cannot be read in the
 * dead letters, answer repeated requests with the same Idempotency-Key, and leave the rest to `work`. With `lines` the body is line
 * protocol, whatever its Content-Type says.
 */
export async function receive(
  context: HttpContext,
  answers: IdempotentAnswers,
  request: FastifyRequest,
  reply: FastifyReply,
  bytesMax: number,
  work: (received: Received) => Promise<Answer>,
  lines?: LineShape,
): Promise<FastifyReply> {
  const { gate } = context
  const compat = request.routeOptions.config.compat
  const principal = principalOf(request)
  const path = request.routeOptions.url ?? ''
  if (gate.stalled !== undefined) throw gate.stalled
  const key = checkKey(request.headers['idempotency-key'])
  const type = mediaType(request)
  const contentType = request.headers['content-type']
  const message = (shape: Shape): MessageContext => ({
    transport: 'http',
    tenant: principal.tenant,
    client: context.auth === 'token' ? principal.id : (request.raw.socket.remoteAddress ?? ''),
    topic: path,
    shape,
    packetId: 0,
    dup: false,
    item: 0,
    ...(key === undefined ? {} : { idempotencyKey: key }),
    ...(contentType === undefined ? {} : { contentType }),
  })

  const refuse = async (error: BodyRefused): Promise<never> => {
    await keepUnread(context, message(lines ?? 'any'), error, error.kept, error.totalBytes)
    throw error
  }

  const body = await readBody(context, request.raw, bytesMax).catch((error: unknown) => {
    if (error instanceof BodyRefused) return refuse(error)
    throw error
  })
  const answerBody = async ({ bytes }: Body): Promise<{ readonly answer: Answer; readonly replayed: boolean }> => {
    // To put a large body together took its slice.
    if (bytes.length > largeBytes) await new Slices(context).pause()
    const first = firstByte(bytes)
    if (first === bytes.length) throw new KymoError('empty_body')
    const ndjson = ndjsonTypes.has(type)
    if (lines === undefined && !ndjson && !isJsonType(type) && !isVague(type, bytes[first]!)) {
      const detail = `"${type.slice(0, 100)}" is not taken here; application/json and application/x-ndjson are.`
      return refuse(new BodyRefused('media_type', detail, bytes, bytes.length))
    }
    const received: Received = { requestId: request.id, bytes, first, ndjson, message }
    if (key === undefined) return { answer: await work(received), replayed: false }
    return answers.answer(`${principal.tenant}\u0000${principal.id}\u0000${path}`, key, bytes, () =>
      work(received).catch((error: unknown) => {
        // A refusal of the body as a whole is as final as one of its items, and is given again for the same key.
        if (error instanceof KymoError && error.kind === 'invalid') return problemAnswer(error, request.id, compat)
        throw error
      }),
    )
  }
  const { answer, replayed } = await answerBody(body).finally(() => body.release())
  if (replayed) reply.header('idempotent-replayed', 'true')
  return send(reply, answer)
}
