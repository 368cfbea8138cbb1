import type { FastifyReply } from 'fastify'
import { Readable } from 'node:stream'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { HttpContext } from './options.ts'

/** Cuts work on the event loop into slices of `limits.sliceMs`: whoever runs long asks `over` every few items, and then pauses. */
export class Slices {
  readonly #context: Pick<HttpContext, 'env' | 'limits'>
  #endMs = 0

  constructor(context: Pick<HttpContext, 'env' | 'limits'>) {
    this.#context = context
    this.restart()
  }

  /** Looking at the clock costs 40 ns: not for each of many small items. */
  get over(): boolean {
    return this.#context.env.clock.monotonicMs() > this.#endMs
  }

  /** After a wait: others had their turn. */
  restart(): void {
    this.#endMs = this.#context.env.clock.monotonicMs() + this.#context.limits.sliceMs
  }

  /** Everything else that is ready runs first. */
  async pause(): Promise<void> {
    await nextTurn()
    this.restart()
  }
}

/** Text gathered into pieces of 64 KiB of UTF-8, so that nothing large is ever joined or encoded at once. */
export class Pieces {
  readonly done: Buffer[] = []
  #open = ''
  /** Characters so far. */
  size = 0

  add(text: string): void {
    this.#open += text
    this.size += text.length
    if (this.#open.length > 65_536) this.flush()
  }

  flush(): readonly Buffer[] {
    if (this.#open !== '') this.done.push(Buffer.from(this.#open))
    this.#open = ''
    return this.done
  }
}

/** Few pieces go out in one write; many as fast as the client takes them, and in slices where it takes them at once. */
export function sendPieces(context: HttpContext, reply: FastifyReply, contentType: string, pieces: readonly Buffer[]): FastifyReply {
  reply.type(contentType)
  if (pieces.length <= 4) return reply.send(Buffer.concat(pieces))
  return reply.send(Readable.from(paced(new Slices(context), pieces), { objectMode: false }))
}

async function* paced(slices: Slices, pieces: readonly Buffer[]): AsyncGenerator<Buffer, void, void> {
  for (const piece of pieces) {
    if (slices.over) await slices.pause()
    yield piece
  }
}

const itemsPerLook = 32
/** To have made so many items has taken a slice already. */
const manyItems = 2_048

/** The JSON text of `[...items]` into `pieces`, a slice at a time. */
export async function addArray<T>(context: HttpContext, pieces: Pieces, items: readonly T[], toJson: (item: T) => unknown): Promise<void> {
  const slices = new Slices(context)
  if (items.length > manyItems) await slices.pause()
  pieces.add('[')
  for (let i = 0; i < items.length; i++) {
    if (i % itemsPerLook === itemsPerLook - 1 && slices.over) await slices.pause()
    pieces.add((i === 0 ? '' : ',') + JSON.stringify(toJson(items[i]!)))
  }
  pieces.add(']')
}

/** Answers `{"items": [...], ...rest}` without holding the event loop, however many items there are. */
export async function sendItems<T>(
  context: HttpContext,
  reply: FastifyReply,
  items: readonly T[],
  toJson: (item: T) => unknown,
  rest: Readonly<Record<string, unknown>>,
): Promise<FastifyReply> {
  const pieces = new Pieces()
  pieces.add('{"items":')
  await addArray(context, pieces, items, toJson)
  pieces.add(`,${JSON.stringify(rest).slice(1)}`)
  return sendPieces(context, reply, 'application/json; charset=utf-8', pieces.flush())
}
