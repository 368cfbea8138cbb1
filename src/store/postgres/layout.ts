/**
 * Where a series' readings are. `id > 0`: rows of `samples`, one for each reading. `id < 0`: a column of `messages`, which has one row for each time
 * at which
 * a device spoke; then -id is 8 times the device's number plus the column, 1 to 7.
 */

/** Columns v1 to v7. */
export const columnsMax = 7
/** Metrics that have the same column in every device: `device_telemetry` shows them. The others take what is left, as they come. */
const declared = new Map([
  ['temperature', 1],
  ['humidity', 2],
  ['battery', 3],
])

export function wideId(device: number, column: number): number {
  return -(8 * device + column)
}

export const deviceOf = (id: number): number => -id >> 3
export const columnOf = (id: number): number => -id & 7

/**
 * The column of a device's new metric, or undefined when it has to be rows of its own. Bit n of `used`: column n is taken. Of `columns` it may have
 * one.
 */
export function freeColumn(metric: string, used: number, columns: number): number | undefined {
  const own = declared.get(metric)
  if (own !== undefined) return own > columns || (used >> own) & 1 ? undefined : own
  for (let column = declared.size + 1; column <= columns; column++) if (((used >> column) & 1) === 0) return column
  return undefined
}

/** As SQL, of a series' number. */
export const deviceSql = (id: string): string => `(-${id} >> 3)`
const columnSql = (id: string): string => `(-${id} & 7)`

/** Columns of a row of `messages` (`m`) as those of the reading of series `id`. */
export interface WideSql {
  readonly value: string
  readonly flags: string
  readonly text: string
  readonly meta: string
  /** Whether there is one. */
  readonly there: string
}

export function wideSql(id: string, m: string): WideSql {
  const column = columnSql(id)
  const value = `CASE ${column} ${all.map((n) => `WHEN ${n} THEN ${m}.v${n}`).join(' ')} END`
  const text = `${m}.extra[2 * ${column} - 1]`
  return {
    value,
    text,
    flags: `((coalesce(${m}.flags, 0) >> (8 * (${column} - 1))) & 255)::int2`,
    meta: `${m}.extra[2 * ${column}]`,
    there: `(${value} IS NOT NULL OR ${text} IS NOT NULL)`,
  }
}

const all = Array.from({ length: columnsMax }, (_, i) => i + 1)

/** v1 to vn. */
export function valueColumns(n: number): string {
  return all
    .slice(0, n)
    .map((one) => `v${one}`)
    .join(', ')
}

/** A bit of `Flag` in all of the columns. */
export function flagInAny(flag: number): string {
  return String(all.reduce((sum, n) => sum | (BigInt(flag) << BigInt(8 * (n - 1))), 0n))
}

/** Puts rows of the temporary table `incoming` into `messages`, the last of each identity, column by column: others of the same row stay. */
export function upsertMessages(): string {
  const of = (n: number, what: string): string => `max(${what}) FILTER (WHERE place = ${n})`
  const present = (n: number): string => `(excluded.v${n} IS NOT NULL OR excluded.extra[${2 * n - 1}] IS NOT NULL)`
  const texts = all.flatMap((n) => [of(n, 'text'), of(n, 'meta')]).join(', ')
  const merged = all
    .flatMap((n) => [2 * n - 1, 2 * n].map((i) => `CASE WHEN ${present(n)} THEN excluded.extra[${i}] ELSE messages.extra[${i}] END`))
    .join(', ')
  const mask = all.map((n) => `CASE WHEN ${present(n)} THEN ${String(255n << BigInt(8 * (n - 1)))} ELSE 0 END::int8`).join(' | ')
  return `INSERT INTO messages (time, device, ${valueColumns(columnsMax)}, flags, extra)
    SELECT time, device, ${all.map((n) => of(n, 'value')).join(', ')}, nullif(bit_or(flags::int8 << (8 * (place - 1))), 0),
      CASE WHEN bool_or(text IS NOT NULL OR meta IS NOT NULL) THEN ARRAY[${texts}] END
    FROM (SELECT DISTINCT ON (series, time) time, value, flags, text, meta, ${deviceSql('series')} AS device, ${columnSql('series')} AS place
      FROM incoming WHERE series < 0 ORDER BY series, time, seq DESC) x GROUP BY device, time
    ON CONFLICT (device, time) DO UPDATE SET
      ${all.map((n) => `v${n} = CASE WHEN ${present(n)} THEN excluded.v${n} ELSE messages.v${n} END`).join(', ')},
      flags = nullif((coalesce(messages.flags, 0) & ~(${mask})) | coalesce(excluded.flags, 0), 0),
      extra = CASE WHEN messages.extra IS NULL AND excluded.extra IS NULL THEN NULL ELSE ARRAY[${merged}] END`
}
