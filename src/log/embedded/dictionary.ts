import { KymoError } from '../../core/errors.ts'
import { decodeDictionary, salvagedBytes, type ReaderKeys } from '../../wire/batch/decode.ts'
import { frameBodyAt, gapKind, gapSavedAt, kindNumber } from './format.ts'

const readings = kindNumber('readings')

/** Takes what a valid frame says of series, readings or gap, without its rows. Throws `log_corrupt` when entries before it are missing. */
export function followDictionary(bytes: Buffer, at: number, length: number, keys: ReaderKeys): void {
  const kind = bytes[at + 28]
  if (kind === readings) {
    const bodyAt = frameBodyAt(bytes, at, length)
    if (bodyAt !== undefined) decodeDictionary(bytes.subarray(bodyAt, at + length), keys)
  } else if (kind === gapKind) {
    followSaved(bytes.subarray(at + gapSavedAt, at + length), keys)
  }
}

function followSaved(saved: Buffer, keys: ReaderKeys): void {
  try {
    for (let from = 0; from < saved.length;) {
      const size = salvagedBytes(saved, from)
      decodeDictionary(saved.subarray(from, from + size), keys)
      from += size
    }
  } catch (thrown) {
    if (!(thrown instanceof KymoError) || thrown.code !== 'log_corrupt') throw thrown
    // What was saved builds on something that was not. Records behind the gap that need it will say so.
    keys.restart()
  }
}
