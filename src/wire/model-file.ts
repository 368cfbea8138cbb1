import { Buffer } from 'node:buffer'
import { crc32 } from 'node:zlib'
import { KymoError } from '../core/errors.ts'
import { limits } from '../core/limits.ts'

/** What a model card may say: names to numbers, texts, lists and cards of their own. Plain JSON. */
export type CardValue = string | number | boolean | null | readonly CardValue[] | { readonly [name: string]: CardValue }

/** A file of a trained model, taken apart. Layout: docs/format/model.md. */
export interface ModelFile {
  /** As `Forecaster.kind`: 1 to 64 of a-z, 0-9 and hyphen. */
  readonly kind: string
  /** Where the model comes from: span of its data, seed, CPU, scores. For people and programs to read; no forecast depends on it. */
  readonly card: Readonly<Record<string, CardValue>>
  /** What the kind wrote of itself. */
  readonly body: Uint8Array
}

const magic = 'KYMOMODL'
const version = 1
/** Magic, version, length of kind, lengths of card and body. */
const headerBytes = 8 + 2 + 2 + 4 + 4
const kindPattern = /^[a-z0-9-]{1,64}$/

/** Throws record_too_large where kind, card or body are beyond their limits. */
export function encodeModelFile({ kind, card, body }: ModelFile): Uint8Array {
  const cardBytes = Buffer.from(JSON.stringify(card), 'utf8')
  if (!kindPattern.test(kind)) throw new KymoError('bug', { detail: `"${kind}" is no name of a kind of model` })
  if (cardBytes.length > limits.modelCardBytesMax || body.length > limits.modelBodyBytesMax) {
    throw new KymoError('record_too_large', {
      detail: `A model of ${body.length} bytes with a card of ${cardBytes.length}; at most ${limits.modelBodyBytesMax} and ${limits.modelCardBytesMax} are kept.`,
    })
  }
  const file = Buffer.alloc(headerBytes + kind.length + cardBytes.length + body.length + 4)
  file.write(magic, 0, 'latin1')
  file.writeUInt16LE(version, 8)
  file.writeUInt16LE(kind.length, 10)
  file.writeUInt32LE(cardBytes.length, 12)
  file.writeUInt32LE(body.length, 16)
  let at = headerBytes + file.write(kind, headerBytes, 'latin1')
  at += cardBytes.copy(file, at)
  file.set(body, at)
  at += body.length
  file.writeUInt32LE(crc32(file.subarray(0, at)), at)
  return file
}

/** Throws model_format (no such file, or of a newer version), model_corrupt (cut off or changed). The body is a view of `bytes`. */
export function decodeModelFile(bytes: Uint8Array): ModelFile {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (file.toString('latin1', 0, Math.min(8, file.length)) !== magic) {
    throw new KymoError('model_format', { detail: `This is no model of Kymo: it does not begin with ${magic}.`, facts: { bytes: file.length } })
  }
  if (file.length < headerBytes) throw corrupt(`it ends after ${file.length} bytes, within its header`)
  const found = file.readUInt16LE(8)
  if (found !== version) {
    throw new KymoError('model_format', {
      detail: `The model is in format ${found}, and this version of Kymo knows format ${version}. Train it again, or use the version that wrote it.`,
    })
  }
  const [kindLength, cardLength, bodyLength] = [file.readUInt16LE(10), file.readUInt32LE(12), file.readUInt32LE(16)]
  const end = headerBytes + kindLength + cardLength + bodyLength
  if (file.length !== end + 4) throw corrupt(`it should have ${end + 4} bytes and has ${file.length}`)
  if (file.readUInt32LE(end) !== crc32(file.subarray(0, end))) throw corrupt('its checksum does not fit its bytes')
  const kind = file.toString('latin1', headerBytes, headerBytes + kindLength)
  const cardAt = headerBytes + kindLength
  const card = cardOf(file.toString('utf8', cardAt, cardAt + cardLength))
  if (!kindPattern.test(kind) || card === undefined) throw corrupt('its kind or its card cannot be read')
  return { kind, card, body: file.subarray(cardAt + cardLength, end) }
}

function corrupt(what: string): KymoError {
  return new KymoError('model_corrupt', { detail: `The model's file is damaged: ${what}. Train the model again, or restore the file from a backup.` })
}

function cardOf(text: string): Readonly<Record<string, CardValue>> | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    // The checksum fits, so somebody wrote this on purpose; it is refused with the kind.
    return undefined
  }
  return isCard(value) ? value : undefined
}

function isCard(value: unknown): value is Readonly<Record<string, CardValue>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
