/** As PostgreSQL reads and prints it; epoch microseconds from 1970 on. */
export function instant(us: number): string {
  // Ends of partitions may lie beyond the last time that is exact; they are whole days.
  if (!Number.isInteger(us) || us < 0) throw new RangeError(`${us} is not a time in microseconds`)
  const ms = Math.floor(us / 1000)
  return `${new Date(ms).toISOString().slice(0, -1)}${String(us - ms * 1000).padStart(3, '0')}+00`
}

/** Epoch microseconds of a timestamptz, exact. */
export function microseconds(column: string): string {
  return `(extract(epoch FROM ${column}) * 1000000)::int8`
}
