import type { FastifyReply, FastifyRequest } from 'fastify'
import { jsonType } from '../ingest/answers.ts'
import type { HttpContext } from '../options.ts'
import { markTruncated } from './range.ts'
import { addArray, Pieces, sendPieces } from '../slices.ts'

/** A page of a list, whatever it was made from. */
export interface Listing<T> {
  readonly items: readonly T[]
  /** Of the page after it; undefined: this was the last one. */
  readonly cursor: string | undefined
}

/** Members of the answer around the list: `name` holds it. */
export interface Wrapping {
  readonly name: string
  /** Members before the list. */
  readonly before?: Readonly<Record<string, unknown>>
  /** S0 counts what a page has. */
  readonly count?: true
}

/**
 * Answers a page in the form of its seed: a bare array, or an object that also carries `next_cursor`. Either way a page that is not the last
 * says so in the headers X-Truncated, X-Next-Cursor and Link (RFC 8288).
 */
export async function sendListing<T>(
  context: HttpContext,
  request: FastifyRequest,
  reply: FastifyReply,
  { items, cursor }: Listing<T>,
  toJson: (item: T) => unknown,
  wrapping?: Wrapping,
): Promise<FastifyReply> {
  if (cursor !== undefined) markTruncated(request, reply, cursor)
  const pieces = new Pieces()
  if (wrapping === undefined) await addArray(context, pieces, items, toJson)
  else {
    const before = JSON.stringify(wrapping.before ?? {}).slice(0, -1)
    pieces.add(`${before}${before === '{' ? '' : ','}${JSON.stringify(wrapping.name)}:`)
    await addArray(context, pieces, items, toJson)
    const after = { ...(wrapping.count === true ? { count: items.length } : {}), next_cursor: cursor ?? null }
    pieces.add(`,${JSON.stringify(after).slice(1)}`)
  }
  return sendPieces(context, reply, jsonType, pieces.flush())
}
