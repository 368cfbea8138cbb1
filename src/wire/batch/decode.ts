import type { Batch, OriginColumns, SeriesKey } from '../../core/batch.ts'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import { ByteTable, hashBytes } from '../json/byte-table.ts'
import { align8, batchHeaderBytes, batchVersion, dictionaryCrc, entryHeaderBytes, Form, Section, sectionsKnown } from './layout.ts'

const absent = 0xffff_ffff
/** Names of self-contained records that are known by their bytes. Beyond it a name is made a string each time it comes. */
const spelled = { entriesMax: 262_144, bytesMax: 16 * 2 ** 20 }

/**
 * The series of one reader. `keys` only grows for as long as the reader lives, and one series keeps one index across segments and
 * across restarts of the writer: a consumer may cache what it knows by index.
 */
export class ReaderKeys {
  readonly keys: SeriesKey[] = []
  /** Index of each series by metric, by tenant and device with NUL between (names hold no control characters). */
  readonly #index = new Map<string, Map<string, number>>()
  #lastTenant = ''
  #lastDevice = ''
  #lastMetrics: Map<string, number> | undefined
  /** Id in the stream to index in `keys`, `absent` when the stream has not said. */
  #idToIndex = new Uint32Array(1024).fill(absent)

  /** Entries of self-contained dictionaries by their bytes, each with its index: such a record names its series anew, and they are mostly the same. */
  #spelled: ByteTable | undefined
  #spelledIndex = new Uint32Array(1024)
  #generation = -1
  #entries = 0

  /** A new stream: its ids are yet to be told. */
  restart(): void {
    this.#idToIndex.fill(absent)
    this.#generation = -1
  }

  /** The stream's dictionary begins. */
  begin(generation: number): void {
    this.#idToIndex.fill(absent)
    this.#generation = generation
    this.#entries = 0
  }

  /** Is this reader's dictionary the one that a record builds on? If so, the record's own entries are counted. */
  follow(generation: number, before: number, entries: number): boolean {
    if (generation !== this.#generation || before !== this.#entries) return false
    this.#entries += entries
    return true
  }

  get mapping(): Uint32Array {
    return this.#idToIndex
  }

  /** The same for an entry whose lengths and names are bytes[start, end), when they have come before. False: they have not. */
  defineKnown(id: number, bytes: Uint8Array, start: number, end: number): boolean {
    const entry = this.#spelled?.find(bytes, start, end, hashBytes(bytes, start, end)) ?? -1
    if (entry < 0) return false
    this.#reserve(id)
    this.#idToIndex[id] = this.#spelledIndex[entry]!
    return true
  }

  /** Takes note of an entry that `define` was given last, so that it is known the next time. */
  remember(id: number, bytes: Uint8Array, start: number, end: number): void {
    this.#spelled ??= new ByteTable(spelled)
    const entry = this.#spelled.add(bytes, start, end, hashBytes(bytes, start, end))
    if (entry < 0) return
    if (entry === this.#spelledIndex.length) {
      const grown = new Uint32Array(2 * entry)
      grown.set(this.#spelledIndex)
      this.#spelledIndex = grown
    }
    this.#spelledIndex[entry] = this.#idToIndex[id]!
  }

  /** The stream says that `id` is this series. */
  define(id: number, tenant: string, device: string, metric: string): void {
    this.#reserve(id)
    this.#idToIndex[id] = this.intern(tenant, device, metric)
  }

  #reserve(id: number): void {
    if (id >= limits.seriesMax) throw corrupt(`series id ${id} is beyond the limit`)
    if (id >= this.#idToIndex.length) {
      const grown = new Uint32Array(Math.min(limits.seriesMax, Math.max(id + 1, this.#idToIndex.length * 2))).fill(absent)
      grown.set(this.#idToIndex)
      this.#idToIndex = grown
    }
  }

  intern(tenant: string, device: string, metric: string): number {
    const metrics = this.#metricsOf(tenant, device)
    const known = metrics.get(metric)
    if (known !== undefined) return known
    const index = this.keys.length
    this.keys.push({ tenant, device, metric })
    metrics.set(metric, index)
    return index
  }

  /** By device, as a dictionary names a device's series in a row; and as one map of two million series takes 100 ms to grow. */
  #metricsOf(tenant: string, device: string): Map<string, number> {
    if (this.#lastMetrics !== undefined && device === this.#lastDevice && tenant === this.#lastTenant) return this.#lastMetrics
    const name = `${tenant}\u0000${device}`
    let metrics = this.#index.get(name)
    if (metrics === undefined) this.#index.set(name, (metrics = new Map<string, number>()))
    this.#lastTenant = tenant
    this.#lastDevice = device
    this.#lastMetrics = metrics
    return metrics
  }
}

/**
 * Reads a batch of either form. Columns are views on `bytes` when those start at a multiple of 8 of their ArrayBuffer, else on
 * a copy; the series column is rewritten in place from the stream's ids to `reader`'s indexes, so `bytes` must belong to
 * the caller and be decoded once. Throws `log_corrupt` when a length, an id or a row does not fit, `log_format` for a newer version.
 */
export function decodeBatch(bytes: Uint8Array, reader: ReaderKeys): Batch {
  // A Buffer's slice would be a view.
  const body = bytes.byteOffset % 8 === 0 ? bytes : new Uint8Array(bytes)
  const view = header(body)
  const dictionaryEnd = batchHeaderBytes + view.entryBytes
  readDictionary(body, view, reader)
  const { rows } = view
  const timeAt = align8(dictionaryEnd)
  const seriesAt = timeAt + rows * 16
  let at = align8(seriesAt + rows * 4)
  if (at > body.length) throw corrupt(`${rows} rows do not fit into ${body.length} bytes`)
  const timeUs = new Float64Array(body.buffer, body.byteOffset + timeAt, rows)
  const series = new Uint32Array(body.buffer, body.byteOffset + seriesAt, rows)
  translate(series, reader)
  if (view.form === Form.selfContained) checkTimes(timeUs)
  let flags: Uint8Array | undefined
  if ((view.sections & Section.flags) !== 0) {
    flags = body.subarray(at, at + rows)
    at += align8(rows)
    if (at > body.length) throw corrupt('the flags do not fit')
  }
  let text: Map<number, string> | undefined
  if ((view.sections & Section.text) !== 0) {
    text = new Map()
    at = readStrings(body, at, view.texts, rows, text)
  }
  let meta: Map<number, string> | undefined
  if ((view.sections & Section.meta) !== 0) {
    meta = new Map()
    at = readStrings(body, at, view.metas, rows, meta)
  }
  let origin: OriginColumns | undefined
  if ((view.sections & Section.origin) !== 0) {
    origin = readOrigins(body, at, view.origins, rows)
    at += align8(view.origins * 12)
  }
  if (at !== body.length) throw corrupt(`the batch is ${at} bytes long, its record ${body.length}`)
  return {
    rows,
    keys: reader.keys,
    series,
    timeUs,
    value: new Float64Array(body.buffer, body.byteOffset + timeAt + rows * 8, rows),
    ...(flags === undefined ? {} : { flags }),
    ...(text === undefined ? {} : { text }),
    ...(meta === undefined ? {} : { meta }),
    ...(origin === undefined ? {} : { origin }),
  }
}

/** Takes only what the record says of series: for a reader that resumes behind it. */
export function decodeDictionary(bytes: Uint8Array, reader: ReaderKeys): void {
  readDictionary(bytes, header(bytes), reader)
}

/**
 * Dictionaries of the stream's form in bytes that are damaged elsewhere, as records without rows: what later records need of
 * them. Each is vouched for by its own checksum.
 */
export function salvageDictionaries(bytes: Uint8Array, seed: number): Uint8Array[] {
  const found: Uint8Array[] = []
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  for (let at = 0; at + batchHeaderBytes <= bytes.length; at += 8) {
    const entryBytes = view.getUint32(at + 12, true)
    if (bytes[at] !== batchVersion || bytes[at + 1] !== Form.dictionary || view.getUint32(at + 8, true) === 0) continue
    if (entryBytes > bytes.length - at - batchHeaderBytes || dictionaryCrc(bytes, at, entryBytes, seed) !== view.getUint32(at + 36, true)) continue
    const record = new Uint8Array(align8(batchHeaderBytes + entryBytes))
    record.set(bytes.subarray(at, at + batchHeaderBytes + entryBytes))
    const own = new DataView(record.buffer)
    own.setUint16(2, own.getUint16(2, true) & Section.restart, true)
    for (const count of [4, 16, 20, 24]) own.setUint32(count, 0, true)
    own.setUint32(36, dictionaryCrc(record, 0, entryBytes, seed), true)
    found.push(record)
    at += align8(entryBytes)
  }
  return found
}

/** Bytes of the record without rows that starts at `at`, of those that `salvageDictionaries` gives. */
export function salvagedBytes(bytes: Uint8Array, at: number): number {
  const length = align8(batchHeaderBytes + new DataView(bytes.buffer, bytes.byteOffset + at, batchHeaderBytes).getUint32(12, true))
  if (at + length > bytes.length) throw corrupt('a saved dictionary does not fit')
  return length
}

interface Header {
  readonly form: number
  readonly sections: number
  readonly rows: number
  readonly entries: number
  readonly entryBytes: number
  readonly texts: number
  readonly metas: number
  readonly origins: number
  readonly before: number
  readonly generation: number
}

function header(body: Uint8Array): Header {
  if (body.length < batchHeaderBytes) throw corrupt(`a batch of ${body.length} bytes has no header`)
  if (body[0] !== batchVersion)
    throw new KymoError('log_format', { detail: `A batch has format version ${body[0]}; this Kymo knows ${batchVersion}.` })
  const view = new DataView(body.buffer, body.byteOffset, batchHeaderBytes)
  const h: Header = {
    form: body[1]!,
    sections: view.getUint16(2, true),
    rows: view.getUint32(4, true),
    entries: view.getUint32(8, true),
    entryBytes: view.getUint32(12, true),
    texts: view.getUint32(16, true),
    metas: view.getUint32(20, true),
    origins: view.getUint32(24, true),
    before: view.getUint32(28, true),
    generation: view.getUint32(32, true),
  }
  if (h.form !== Form.dictionary && h.form !== Form.selfContained) throw corrupt(`batch form ${h.form} is not known`)
  if ((h.sections & ~sectionsKnown) !== 0) throw corrupt(`batch sections ${h.sections} are not known`)
  if (h.entryBytes > body.length - batchHeaderBytes) throw corrupt('the dictionary is longer than the record')
  if (h.rows > body.length / 20) throw corrupt(`${h.rows} rows do not fit into ${body.length} bytes`)
  if (h.texts > h.rows || h.metas > h.rows || h.origins > h.rows) throw corrupt('more texts, metas or origins than rows')
  return h
}

function readDictionary(body: Uint8Array, h: Header, reader: ReaderKeys): void {
  if ((h.sections & Section.restart) !== 0) reader.begin(h.generation)
  if (!reader.follow(h.generation, h.before, h.entries)) throw corrupt('entries of the dictionary that it needs are missing')
  if (h.entries === 0) {
    if (h.entryBytes !== 0) throw corrupt('a dictionary without entries has bytes')
    return
  }
  const text = Buffer.from(body.buffer, body.byteOffset, body.length)
  const end = batchHeaderBytes + h.entryBytes
  let at = batchHeaderBytes
  for (let i = 0; i < h.entries; i++) {
    if (at + entryHeaderBytes > end) throw corrupt('the dictionary ends within an entry')
    const id = text.readUInt32LE(at)
    const device = at + entryHeaderBytes + text.readUInt16LE(at + 4)
    const metric = device + text.readUInt16LE(at + 6)
    const next = metric + text.readUInt16LE(at + 8)
    if (next > end) throw corrupt('the dictionary ends within an entry')
    const again = h.form === Form.selfContained
    // Behind the id: the lengths, and the names themselves.
    if (!again || !reader.defineKnown(id, text, at + 4, next)) {
      reader.define(
        id,
        text.toString('utf8', at + entryHeaderBytes, device),
        text.toString('utf8', device, metric),
        text.toString('utf8', metric, next),
      )
      if (again) reader.remember(id, text, at + 4, next)
    }
    at = next
  }
  if (at !== end) throw corrupt('the dictionary is longer than its entries')
}

function translate(series: Uint32Array, reader: ReaderKeys): void {
  const mapping = reader.mapping
  const rows = series.length
  const known = mapping.length
  for (let row = 0; row < rows; row++) {
    const id = series[row]!
    if (id >= known) throw unnamed(row, id)
    const index = mapping[id]!
    if (index === absent) throw unnamed(row, id)
    series[row] = index
  }
}

function unnamed(row: number, id: number): KymoError {
  return corrupt(`row ${row} belongs to series ${id}, which the log has not named`)
}

/** Outside logs may be written by other programs; past here times are whole microseconds within bounds. */
function checkTimes(timeUs: Float64Array): void {
  for (let row = 0; row < timeUs.length; row++) {
    const time = timeUs[row]!
    if (!(time >= 0 && time <= limits.timeUsMax) || Math.floor(time) !== time) throw corrupt(`row ${row} has time ${time}`)
  }
}

function readStrings(body: Uint8Array, at: number, count: number, rows: number, out: Map<number, string>): number {
  let textAt = at + count * 8
  if (textAt > body.length) throw corrupt('the texts do not fit')
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.length)
  for (let i = 0; i < count; i++) {
    const row = bytes.readUInt32LE(at + i * 4)
    const end = textAt + bytes.readUInt32LE(at + count * 4 + i * 4)
    if (row >= rows || end > body.length) throw corrupt('a text lies outside its record')
    out.set(row, bytes.toString('utf8', textAt, end))
    textAt = end
  }
  const end = align8(textAt)
  if (end > body.length) throw corrupt('the texts do not fit')
  return end
}

function readOrigins(body: Uint8Array, at: number, count: number, rows: number): OriginColumns {
  if (at + align8(count * 12) > body.length) throw corrupt('the origins do not fit')
  const columns = new Uint32Array(body.buffer, body.byteOffset + at, count * 3)
  for (let i = 0; i < count; i++) {
    if (columns[i]! >= rows || (i > 0 && columns[i]! <= columns[i - 1]!)) throw corrupt('origins are out of order')
  }
  return { count, firstRow: columns.subarray(0, count), hashHigh: columns.subarray(count, count * 2), hashLow: columns.subarray(count * 2) }
}

function corrupt(why: string): KymoError {
  return new KymoError('log_corrupt', { detail: `A record of the log cannot be read: ${why}.` })
}
