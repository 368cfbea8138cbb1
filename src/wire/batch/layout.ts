import { endianness } from 'node:os'
import { crc32 } from 'node:zlib'
import { KymoError } from '../../core/errors.ts'

/**
 * A batch as bytes (docs/format/records.md, "readings"). All numbers are little-endian; every section starts at a multiple
 * of 8 from the start, so that columns can be read in place.
 *
 *     0  u8   version (1)
 *     1  u8   form: 1 dictionary of the stream, 2 self-contained
 *     2  u16  sections: bits of `Section`
 *     4  u32  rows
 *     8  u32  dictionary entries
 *    12  u32  dictionary bytes
 *    16  u32  texts
 *    20  u32  metas
 *    24  u32  origins
 *    28  u32  entries that the stream has named before this record, since its dictionary began
 *    32  u32  generation: chosen anew whenever a dictionary begins; with the entries it tells a reader that it has missed none
 *    36  u32  when there are dictionary entries: CRC-32 of bytes [0, 36) and the dictionary, begun with the stream's seed
 *    40       dictionary: entries of u32 id, u16 tenant bytes, u16 device bytes, u16 metric bytes, the three in UTF-8
 *             f64[rows] time, f64[rows] value, u32[rows] series
 *             u8[rows] flags                                                     when Section.flags
 *             u32[texts] row, u32[texts] bytes, the texts in UTF-8               when Section.text
 *             u32[metas] row, u32[metas] bytes, the metas in UTF-8               when Section.meta
 *             u32[origins] first row, u32[origins] hash high, u32[origins] low   when Section.origin
 */
export const batchVersion = 1
export const batchHeaderBytes = 40
export const Form = { dictionary: 1, selfContained: 2 } as const
export const Section = {
  flags: 1,
  text: 2,
  meta: 4,
  origin: 8,
  /** The dictionary starts over here: ids of earlier records mean nothing to this and later ones. */
  restart: 16,
} as const
export const sectionsKnown = Section.flags | Section.text | Section.meta | Section.origin | Section.restart
/** Bytes of a dictionary entry before its strings. */
export const entryHeaderBytes = 10
/** What a name's length field can hold; the doors stop at limits.nameBytesMax. */
export const entryNameBytesMax = 0xffff

/** The dictionary's own checksum: it is worth saving when the columns behind it are damaged. */
export function dictionaryCrc(bytes: Uint8Array, at: number, entryBytes: number, seed: number): number {
  const header = crc32(bytes.subarray(at, at + batchHeaderBytes - 4), seed)
  return crc32(bytes.subarray(at + batchHeaderBytes, at + batchHeaderBytes + entryBytes), header)
}

export function align8(n: number): number {
  return (n + 7) & ~7
}

if (endianness() !== 'LE') {
  throw new KymoError('bug', { detail: 'Kymo reads and writes columns in place, which needs a little-endian machine.' })
}
