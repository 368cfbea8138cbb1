import type { Batch, SeriesKey } from '../../core/batch.ts'
import { KymoError } from '../../core/errors.ts'
import { align8, batchHeaderBytes, batchVersion, dictionaryCrc, entryHeaderBytes, entryNameBytesMax, Form, Section } from './layout.ts'

/** Which series of one process a stream (a segment of the log) has been told of already. */
export class WriterDictionary {
  /** Whose ids these are. Another `keys` array starts the dictionary over. */
  keys: readonly SeriesKey[] | undefined
  /** 1: the entry is in the stream. */
  seen = new Uint8Array(1024)
  /** The next record must say that the dictionary starts over. */
  fresh = true
  /** Entries in the stream since then. */
  entries = 0
  generation: number
  seed = 0

  /** `generation`: any number, better another one for each process. */
  constructor(generation = 0) {
    this.generation = generation >>> 0
  }

  /** A new stream, or one of which the last records were not kept. `seed` starts the checksums of its dictionaries. */
  restart(seed = this.seed): void {
    this.seen.fill(0)
    this.fresh = true
    this.entries = 0
    this.generation = (this.generation + 0x9e37_79b1) >>> 0
    this.seed = seed
  }

  adopt(keys: readonly SeriesKey[]): void {
    if (this.keys !== keys) {
      this.keys = keys
      this.restart()
    }
    if (this.seen.length < keys.length) {
      const seen = new Uint8Array(Math.max(keys.length, this.seen.length * 2))
      seen.set(this.seen)
      this.seen = seen
    }
  }
}

/**
 * Writes batches as bytes, in two steps: `measure` finds the series that the stream does not know and an upper bound of the
 * size, `write` fills it in. One encoder serves many streams, one batch at a time. When `write` does not follow a `measure`, or what
 * was written is not kept, the dictionary must be restarted.
 */
export class BatchEncoder {
  #unknown = new Uint32Array(256)
  #unknowns = 0
  #sections = 0
  #before = 0
  #generation = 0
  #seed = 0
  #local = new Uint32Array(0)
  /** Self-contained form: `#stamp[id] === #round` when `#local[id]` is of this batch. */
  #stamp = new Uint32Array(0)
  #round = 0

  /** At most so many bytes will `write` use. */
  measure(batch: Batch, dictionary: WriterDictionary): number {
    dictionary.adopt(batch.keys)
    this.#unknowns = 0
    this.#sections = sectionsOf(batch)
    if (dictionary.fresh) this.#sections |= Section.restart
    if (!allSeen(batch.series, batch.rows, dictionary.seen)) this.#collect(batch, dictionary.seen)
    dictionary.fresh = false
    this.#before = dictionary.entries
    this.#generation = dictionary.generation
    this.#seed = dictionary.seed
    dictionary.entries += this.#unknowns
    return this.#bound(batch)
  }

  measureSelfContained(batch: Batch): number {
    if (this.#stamp.length < batch.keys.length) {
      this.#stamp = new Uint32Array(Math.max(1024, batch.keys.length * 2))
      this.#local = new Uint32Array(this.#stamp.length)
      this.#round = 0
    }
    if (++this.#round === 0x1_0000_0000) {
      this.#stamp.fill(0)
      this.#round = 1
    }
    this.#unknowns = 0
    this.#before = 0
    this.#generation = 0
    this.#seed = 0
    this.#sections = sectionsOf(batch) | Section.restart
    for (let row = 0; row < batch.rows; row++) {
      const id = batch.series[row]!
      if (this.#stamp[id] === this.#round) continue
      if (id >= batch.keys.length) throw unknownSeries(id)
      this.#stamp[id] = this.#round
      this.#local[id] = this.#unknowns
      this.#note(id)
    }
    return this.#bound(batch)
  }

  /** Writes what `measure` measured at `at`, a multiple of 8 from the start of the ArrayBuffer. Returns where it ends. */
  write(batch: Batch, target: Buffer, at: number): number {
    return this.#write(batch, target, at, Form.dictionary)
  }

  writeSelfContained(batch: Batch, target: Buffer, at: number): number {
    return this.#write(batch, target, at, Form.selfContained)
  }

  #write(batch: Batch, target: Buffer, at: number, form: number): number {
    const rows = batch.rows
    const dictionaryAt = at + batchHeaderBytes
    const dictionaryEnd = this.#writeDictionary(batch.keys, target, dictionaryAt, form)
    writeHeader(batch, target, at, form, this.#sections, this.#unknowns, dictionaryEnd - dictionaryAt)
    target.writeUInt32LE(this.#before, at + 28)
    target.writeUInt32LE(this.#generation, at + 32)
    target.writeUInt32LE(this.#unknowns === 0 ? 0 : dictionaryCrc(target, at, dictionaryEnd - dictionaryAt, this.#seed), at + 36)
    let end = pad(target, dictionaryEnd)
    new Float64Array(target.buffer, target.byteOffset + end, rows).set(exactly(batch.timeUs, rows))
    end += rows * 8
    new Float64Array(target.buffer, target.byteOffset + end, rows).set(exactly(batch.value, rows))
    end += rows * 8
    const series = new Uint32Array(target.buffer, target.byteOffset + end, rows)
    if (form === Form.dictionary) series.set(exactly(batch.series, rows))
    else for (let row = 0; row < rows; row++) series[row] = this.#local[batch.series[row]!]!
    end = pad(target, end + rows * 4)
    if (batch.flags !== undefined) {
      target.set(exactly(batch.flags, rows), end)
      end = pad(target, end + rows)
    }
    if (batch.text !== undefined) end = writeStrings(batch.text, rows, target, end)
    if (batch.meta !== undefined) end = writeStrings(batch.meta, rows, target, end)
    if (batch.origin !== undefined) {
      const { count, firstRow, hashHigh, hashLow } = batch.origin
      const columns = new Uint32Array(target.buffer, target.byteOffset + end, count * 3)
      columns.set(exactly(firstRow, count), 0)
      columns.set(exactly(hashHigh, count), count)
      columns.set(exactly(hashLow, count), count * 2)
      end = pad(target, end + count * 12)
    }
    return end
  }

  #collect(batch: Batch, seen: Uint8Array): void {
    for (let row = 0; row < batch.rows; row++) {
      const id = batch.series[row]!
      if (seen[id] === 1) continue
      if (id >= batch.keys.length) throw unknownSeries(id)
      seen[id] = 1
      this.#note(id)
    }
  }

  #writeDictionary(keys: readonly SeriesKey[], target: Buffer, at: number, form: number): number {
    let end = at
    for (let i = 0; i < this.#unknowns; i++) {
      const id = this.#unknown[i]!
      const { tenant, device, metric } = keys[id]!
      const tenantBytes = target.write(tenant, end + entryHeaderBytes)
      const deviceBytes = target.write(device, end + entryHeaderBytes + tenantBytes)
      const metricBytes = target.write(metric, end + entryHeaderBytes + tenantBytes + deviceBytes)
      target.writeUInt32LE(form === Form.dictionary ? id : i, end)
      target.writeUInt16LE(tenantBytes, end + 4)
      target.writeUInt16LE(deviceBytes, end + 6)
      target.writeUInt16LE(metricBytes, end + 8)
      end += entryHeaderBytes + tenantBytes + deviceBytes + metricBytes
    }
    return end
  }

  #note(id: number): void {
    if (this.#unknowns === this.#unknown.length) {
      const grown = new Uint32Array(this.#unknowns * 2)
      grown.set(this.#unknown)
      this.#unknown = grown
    }
    this.#unknown[this.#unknowns++] = id
  }

  #bound(batch: Batch): number {
    let bytes = batchHeaderBytes + batch.rows * 21 + 40
    for (let i = 0; i < this.#unknowns; i++) {
      const { tenant, device, metric } = batch.keys[this.#unknown[i]!]!
      // UTF-8 takes at most three bytes for each UTF-16 unit.
      const longest = Math.max(tenant.length, device.length, metric.length) * 3
      if (longest > entryNameBytesMax) throw new KymoError('bug', { detail: 'A series has a name that is too long for the log.' })
      bytes += entryHeaderBytes + (tenant.length + device.length + metric.length) * 3
    }
    if (batch.text !== undefined) bytes += stringsBound(batch.text)
    if (batch.meta !== undefined) bytes += stringsBound(batch.meta)
    if (batch.origin !== undefined) bytes += batch.origin.count * 12 + 8
    return align8(bytes)
  }
}

/** One batch as bytes that explain themselves: the form for logs that other programs read. */
export function encodeBatch(batch: Batch, encoder: BatchEncoder = new BatchEncoder()): Uint8Array {
  const target = Buffer.from(new ArrayBuffer(encoder.measureSelfContained(batch)))
  return target.subarray(0, encoder.writeSelfContained(batch, target, 0))
}

/** The usual case, without a branch per row. An id beyond the table reads as undefined, which counts as not seen. */
function allSeen(series: Uint32Array, rows: number, seen: Uint8Array): boolean {
  let all = 1
  for (let row = 0; row < rows; row++) all &= seen[series[row]!]!
  return all === 1
}

function sectionsOf(batch: Batch): number {
  return (
    (batch.flags === undefined ? 0 : Section.flags) |
    (batch.text === undefined ? 0 : Section.text) |
    (batch.meta === undefined ? 0 : Section.meta) |
    (batch.origin === undefined ? 0 : Section.origin)
  )
}

function writeHeader(batch: Batch, target: Buffer, at: number, form: number, sections: number, entries: number, entryBytes: number): void {
  target[at] = batchVersion
  target[at + 1] = form
  target.writeUInt16LE(sections, at + 2)
  target.writeUInt32LE(batch.rows, at + 4)
  target.writeUInt32LE(entries, at + 8)
  target.writeUInt32LE(entryBytes, at + 12)
  target.writeUInt32LE(batch.text?.size ?? 0, at + 16)
  target.writeUInt32LE(batch.meta?.size ?? 0, at + 20)
  target.writeUInt32LE(batch.origin?.count ?? 0, at + 24)
}

function writeStrings(strings: ReadonlyMap<number, string>, rows: number, target: Buffer, at: number): number {
  let slot = at
  const lengths = strings.size * 4
  let end = at + strings.size * 8
  for (const [row, text] of strings) {
    if (row >= rows) throw new KymoError('bug', { detail: `A text belongs to row ${row} of a batch of ${rows}.` })
    const bytes = target.write(text, end)
    target.writeUInt32LE(row, slot)
    target.writeUInt32LE(bytes, slot + lengths)
    slot += 4
    end += bytes
  }
  return pad(target, end)
}

function stringsBound(strings: ReadonlyMap<number, string>): number {
  let bytes = 8
  for (const text of strings.values()) bytes += 8 + text.length * 3
  return bytes
}

/** The buffer is used again and again: what lies between sections must not carry an earlier record to the disk. */
function pad(target: Buffer, end: number): number {
  const padded = align8(end)
  for (let i = end; i < padded; i++) target[i] = 0
  return padded
}

function exactly<T extends Uint8Array | Uint32Array | Float64Array>(column: T, rows: number): T {
  return column.length === rows ? column : (column.subarray(0, rows) as T)
}

function unknownSeries(id: number): KymoError {
  return new KymoError('bug', { detail: `A batch refers to series ${id}, which its keys do not have.` })
}
