import { isUtf8 } from 'node:buffer'

/** Index of the first byte of the first sequence that RFC 3629 does not allow. Bisection: all looks together read the bytes twice at most. */
export function invalidUtf8At(bytes: Uint8Array): number {
  let good = 0
  let bad = bytes.length
  while (bad - good > 4) {
    const half = (good + bad) >> 1
    let middle = half
    // Cut before a sequence, not inside one; where none begins within four bytes something is wrong before.
    while (middle > half - 4 && middle > good && (bytes[middle]! & 0xc0) === 0x80) middle--
    if (middle > good && isUtf8(bytes.subarray(good, middle))) good = middle
    else bad = half
  }
  for (let size = 1; good + size <= bytes.length && size <= 4;) {
    if (!isUtf8(bytes.subarray(good, good + size))) size++
    else {
      good += size
      size = 1
    }
  }
  return good
}
