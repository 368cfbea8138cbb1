import type { IncomingMessage } from 'node:http'
import { promisify } from 'node:util'
import zlib from 'node:zlib'
import { KymoError } from '../../core/errors.ts'
import type { Code } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { HttpContext } from './options.ts'

/** A body that cannot be used, with what was kept of it for the dead letters. */
export class BodyRefused extends KymoError {
  readonly kept: Buffer
  /** As far as known: what Content-Length said, or what had arrived. */
  readonly totalBytes: number
  constructor(code: Code, detail: string, kept: Buffer, totalBytes: number) {
    super(code, { detail })
    this.kept = kept
    this.totalBytes = totalBytes
  }
}

/** All of a body, unpacked. Call `release` once it is no longer needed: it counts against the limit of all bodies under way. */
export interface Body {
  readonly bytes: Buffer
  release(): void
}

const empty = Buffer.alloc(0)

type Unpack = (bytes: Buffer, o: { maxOutputLength: number }) => Promise<Buffer>
const inflate = promisify(zlib.inflate) as Unpack
const inflateRaw = promisify(zlib.inflateRaw) as Unpack
const gunzip = promisify(zlib.gunzip) as Unpack
const codings: Readonly<Record<string, Unpack>> = {
  gzip: gunzip,
  'x-gzip': gunzip,
  // RFC 9110 8.4.1.2: zlib format; some clients send the bare deflate stream all the same.
  deflate: (bytes, o) => (isZlib(bytes) ? inflate(bytes, o) : inflateRaw(bytes, o)),
  br: promisify(zlib.brotliDecompress) as Unpack,
  zstd: promisify(zlib.zstdDecompress) as Unpack,
}

/** RFC 1950 2.2: method 8, and the two bytes are a multiple of 31. */
function isZlib(bytes: Buffer): boolean {
  return bytes.length >= 2 && (bytes[0]! & 0x0f) === 8 && bytes.readUInt16BE(0) % 31 === 0
}

/**
 * Reads at most `bytesMax` of the body, before and after unpacking (a bomb is cut off at the limit). Throws BodyRefused
 * (`body_too_large`, `body_encoding`, `media_type` for an unknown coding), or `overloaded` when too much is under way already.
 */
export async function readBody(context: HttpContext, message: IncomingMessage, bytesMax: number): Promise<Body> {
  const { state, limits: httpLimits } = context
  let reserved = 0
  const release = (): void => {
    state.bodyBytes -= reserved
    reserved = 0
  }
  const reserve = (bytes: number): void => {
    reserved += bytes
    state.bodyBytes += bytes
    if (state.bodyBytes > httpLimits.bodiesBytesMax) {
      throw new KymoError('overloaded', { detail: 'Too many large bodies are under way; try again.', retryAfterS: 1 })
    }
  }
  try {
    const packed = await collect(message, bytesMax, reserve)
    const coding = (message.headers['content-encoding'] ?? 'identity').trim().toLowerCase()
    if (coding === 'identity' || coding === '') return { bytes: packed, release }
    const unpack = Object.hasOwn(codings, coding) ? codings[coding] : undefined
    if (unpack === undefined) {
      throw new BodyRefused(
        'media_type',
        `The content encoding "${coding.slice(0, 50)}" is not supported; gzip, deflate, br and zstd are.`,
        packed,
        packed.length,
      )
    }
    const bytes = await unpackWithin(unpack, packed, coding, bytesMax)
    reserve(bytes.length)
    return { bytes, release }
  } catch (error) {
    release()
    throw error
  }
}

async function unpackWithin(unpack: Unpack, packed: Buffer, coding: string, bytesMax: number): Promise<Buffer> {
  if (packed.length === 0) return empty
  try {
    return await unpack(packed, { maxOutputLength: bytesMax })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') {
      const kept = packed.subarray(0, limits.deadLetterTooLargeBytes)
      throw new BodyRefused('body_too_large', `Unpacked, the body is larger than ${bytesMax} bytes.`, kept, packed.length)
    }
    const why = error instanceof Error ? error.message : String(error)
    throw new BodyRefused('body_encoding', `The body says ${coding} and cannot be unpacked: ${why}.`, packed, packed.length)
  }
}

function collect(message: IncomingMessage, bytesMax: number, reserve: (bytes: number) => void): Promise<Buffer> {
  const declared = Number(message.headers['content-length'] ?? Number.NaN)
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let length = 0
    const stop = (): void => {
      message.off('data', onData).off('end', onEnd).off('error', onGone).off('close', onGone)
      message.pause()
    }
    const onData = (chunk: Buffer): void => {
      chunks.push(chunk)
      length += chunk.length
      // What exceeds the limit is not kept beyond the first 4 KiB, so enough has arrived as soon as these have.
      const tooLarge = length > bytesMax || (declared > bytesMax && length >= limits.deadLetterTooLargeBytes)
      try {
        if (tooLarge) {
          const kept = Buffer.concat(chunks, Math.min(length, limits.deadLetterTooLargeBytes))
          throw new BodyRefused('body_too_large', `The body is larger than ${bytesMax} bytes.`, kept, declared > length ? declared : length)
        }
        reserve(chunk.length)
      } catch (error) {
        stop()
        reject(error as Error)
      }
    }
    const onEnd = (): void => {
      stop()
      resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, length))
    }
    const onGone = (): void => {
      stop()
      reject(new KymoError('request_invalid', { detail: 'The connection closed before the body was complete.' }))
    }
    message.on('data', onData).on('end', onEnd).on('error', onGone).on('close', onGone)
  })
}
