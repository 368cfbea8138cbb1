const dayUs = 86_400e6

/** A number for PostgreSQL's advisory locks: commits have it shared while what is gone moves on, of which they must know. */
export const goneLock = 0x6b79_6d71

/** The start of the UTC day so long before now; undefined: nothing is as old. */
export function dayBefore(nowUs: number, ageUs: number): number | undefined {
  const at = nowUs - ageUs
  return Number.isFinite(at) && at > 0 ? at - (at % dayUs) : undefined
}
