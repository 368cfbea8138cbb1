/** RFC 6901: `~` and `/` of a member's name are escaped. */
export function pointerOf(path: readonly (string | number)[]): string {
  let pointer = ''
  for (const step of path) pointer += '/' + (typeof step === 'number' ? step : escapeStep(step))
  return pointer
}

export function escapeStep(step: string): string {
  // A pointer ends before that (boundedPointer): no key of a megabyte is escaped for it.
  const short = step.length > pointerCharsMax ? step.slice(0, pointerCharsMax + 1) : step
  return short.includes('~') || short.includes('/') ? short.replaceAll('~', '~0').replaceAll('/', '~1') : short
}

const pointerCharsMax = 512

/** A key may be a megabyte; what names it in an error may not. */
export function boundedPointer(pointer: string, charsMax = pointerCharsMax): string {
  return pointer.length > charsMax ? `${pointer.slice(0, charsMax)}…` : pointer
}
