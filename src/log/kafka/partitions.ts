/**
 * MurmurHash2, 32 bits, with the seed of Kafka's own clients (Appleby, 2008): whoever writes a device's messages with Kafka's default partitioner
 * puts them where Kymo does.
 */
function murmur2(bytes: Uint8Array): number {
  const m = 0x5bd1e995
  let h = 0x9747b28c ^ bytes.length
  let at = 0
  for (; at + 4 <= bytes.length; at += 4) {
    let k = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)
    k = Math.imul(k, m)
    k ^= k >>> 24
    h = Math.imul(h, m) ^ Math.imul(k, m)
  }
  const left = bytes.length - at
  if (left > 2) h ^= bytes[at + 2]! << 16
  if (left > 1) h ^= bytes[at + 1]! << 8
  if (left > 0) h = Math.imul(h ^ bytes[at]!, m)
  h ^= h >>> 13
  h = Math.imul(h, m)
  return h ^ (h >>> 15)
}

const encoder = new TextEncoder()

/** The partition of a key: one device's records keep their order. */
export function partitionOf(key: string, partitions: number): number {
  return partitions === 1 ? 0 : (murmur2(encoder.encode(key)) & 0x7fff_ffff) % partitions
}
