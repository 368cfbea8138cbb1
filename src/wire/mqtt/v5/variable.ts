export const unfinished = -1
export const tooLong = -2
export const wasteful = -3

/** Where the variable byte integer at `at` ends (section 1.5.5), or why it does not: it is unfinished, too long, or not its shortest form. */
export function variableEnd(bytes: Uint8Array, at: number, end: number): number {
  for (let i = 0; i < 4; i++) {
    if (at + i >= end) return unfinished
    const byte = bytes[at + i]!
    if (byte < 0x80) return byte === 0 && i > 0 ? wasteful : at + i + 1
  }
  return tooLong
}

/** The variable byte integer at `at`, which was found whole. */
export function variableAt(bytes: Uint8Array, at: number): number {
  let value = 0
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[at++]!
    value |= (byte & 0x7f) << shift
    if (byte < 0x80) return value
  }
}
