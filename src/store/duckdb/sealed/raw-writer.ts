import type { DuckDBConnection } from '@duckdb/node-api'
import { createRaw, decimals, narrowShape, shapeColumnsMax, ticksUs, unscaled, type Tuning } from './format.ts'
import { latestOf, rowsOf } from './scan.ts'

/** The rows of one partition, as statements; `pick` restricts them to series of a table (what may stand after IN). */
export interface RawSource {
  /** Each `SELECT series, ts, v, flags`; together each identity once. */
  readonly base: (pick?: string) => readonly string[]
  /** `SELECT series, ts, v, flags, seq, text, meta`. */
  readonly late: string
  /** Of base rows: `SELECT series, ts, text, meta`. */
  readonly texts: string
  /** `SELECT series, device`: series of one device have one number, the same in every run. */
  readonly devices: string
}

export interface Written {
  readonly rows: number
  readonly above: number
  readonly texts: number
  readonly fromUs: number
  readonly toUs: number
}

const out = 'out'

/**
 * Fills the raw file attached as `out`. Late rows are deduplicated; with `fold` they take the place of the base rows they are meant for and none
 * remain. Memory is bounded by the number of series and by `passReadings`; what is larger is sorted on disk by the engine.
 */
export async function writeRaw(c: DuckDBConnection, source: RawSource, fold: boolean, tuning: Tuning): Promise<Written> {
  await c.run(createRaw(out))
  await c.run(`CREATE OR REPLACE TEMP TABLE latest AS ${latestOf(source.late)}`)
  const folded = fold && (await count(c, 'latest')) > 0
  const base = folded
    ? (pick?: string): string[] => [
        ...source.base(pick).map((rows) => `SELECT series, ts, v, flags FROM (${rows}) ANTI JOIN latest USING (series, ts)`),
        `SELECT series, ts, v, flags FROM latest ${pick === undefined ? '' : `WHERE series IN ${pick}`}`,
      ]
    : source.base
  await assignShapes(c, base(), source.devices, tuning)
  await writeShapes(c, base, tuning)
  const narrow = `(SELECT series FROM assigned WHERE shape = ${narrowShape})`
  const narrowSeries = await rowsOf(c, `SELECT count(*)::DOUBLE FROM ${narrow}`)
  if (Number(narrowSeries[0]?.[0]) > 0)
    await c.run(`INSERT INTO ${out}.narrow SELECT series, ts, v, flags FROM (${await staged(c, base(narrow))}) ORDER BY series, ts`)
  await c.run(`INSERT INTO ${out}.columns SELECT series, shape, device, grp, col, bits, phase, "rows", first, last FROM assigned ORDER BY series`)
  // Series that have only late rows are there too, with no rows, so that a later merge knows their device.
  await c.run(`INSERT INTO ${out}.columns SELECT l.series, ${narrowShape}, any_value(d.device), l.series, 0, 0, 0, 0, min(l.ts), max(l.ts)
    FROM latest l JOIN (${source.devices}) d ON l.series = d.series WHERE l.series NOT IN (SELECT series FROM assigned) GROUP BY l.series ORDER BY l.series`)
  const texts = folded
    ? `SELECT series, ts, text, meta FROM (${source.texts}) ANTI JOIN latest USING (series, ts)
      UNION ALL SELECT series, ts, text, meta FROM latest WHERE text IS NOT NULL OR meta IS NOT NULL`
    : source.texts
  await c.run(`INSERT INTO ${out}.texts SELECT series, ts, text, meta FROM (${texts}) ORDER BY series, ts`)
  if (!folded) await c.run(`INSERT INTO ${out}.late SELECT series, ts, v, flags, seq, text, meta FROM latest ORDER BY series, ts`)
  const [totals] = await rowsOf(
    c,
    `SELECT (SELECT coalesce(sum("rows"), 0)::DOUBLE FROM ${out}.columns), (SELECT count(*)::DOUBLE FROM ${out}.late), (SELECT count(*)::DOUBLE FROM ${out}.texts),
      coalesce(epoch_us(least((SELECT min(first) FROM ${out}.columns), (SELECT min(ts) FROM ${out}.late))), 0)::DOUBLE,
      coalesce(epoch_us(greatest((SELECT max(last) FROM ${out}.columns), (SELECT max(ts) FROM ${out}.late))), 0)::DOUBLE`,
  )
  await c.run('DROP TABLE latest')
  await c.run('DROP TABLE assigned')
  const [rows, above, textRows, fromUs, toUs] = (totals ?? []).map(Number)
  return { rows: rows!, above: above!, texts: textRows!, fromUs: fromUs!, toUs: toUs! }
}

/** The rows of all parts as one statement, each part having been run by itself: side by side they would hold their memory together. */
async function staged(c: DuckDBConnection, parts: readonly string[]): Promise<string> {
  if (parts.length === 1) return parts[0]!
  await c.run('CREATE OR REPLACE TEMP TABLE stage (series UINTEGER, ts TIMESTAMP, v DOUBLE, flags UTINYINT)')
  for (const part of parts) await c.run(`INSERT INTO stage ${part}`)
  return 'SELECT series, ts, v, flags FROM stage'
}

async function count(c: DuckDBConnection, table: string): Promise<number> {
  return Number((await rowsOf(c, `SELECT count(*)::DOUBLE FROM ${table}`))[0]?.[0])
}

/**
 * Decides where each series stands, from one aggregation over the rows. Nothing here can lose a row: any series may share rows with any other,
 * since a row of a shape is of one group, tick and flags and a column without a reading there is NULL. So a wrong guess costs only density:
 * - series of a device with equal numbers, bounds and hashes of (time, flags) have the same times and stand together;
 * - sets of series whose smallest hash of a time agrees share most times (the chance of agreement is the share of common times): a series that lacks
 *   some rows joins its device's fullest set, if it has at least three quarters of its rows.
 */
async function assignShapes(c: DuckDBConnection, base: readonly string[], devices: string, tuning: Tuning): Promise<void> {
  // Values beyond 10^11 (whose fourth decimal would not be exact) stay doubles, and so do NaN and infinities, which are larger than all numbers.
  // The sign of a zero is not kept: the engine's own sorting and run lengths do not keep it either.
  // Each of these is had of the parts' own, so that the parts are read one by one.
  const signs: (readonly [name: string, first: string, again: string])[] = [
    ['"rows"', 'count(*)', 'sum("rows")::BIGINT'],
    ['first', 'min(ts)', 'min(first)'],
    ['last', 'max(ts)', 'max(last)'],
    ['whole', 'bit_xor(hash(us, flags & 248))', 'bit_xor(whole)'],
    ['least', 'min(hash(us))', 'min(least)'],
    ['bits_all', 'bit_and(flags) & 7', 'bit_and(bits_all)'],
    ['bits_any', 'bit_or(flags) & 7', 'bit_or(bits_any)'],
    ['plain', 'bool_and(abs(v) < 1e11)', 'bool_and(plain)'],
    ...decimals.map((d) => [`d${d}`, `bool_and(v = round(v * ${10 ** d}) / ${10 ** d})`, `bool_and(d${d})`] as const),
    ...ticksUs
      .slice(1)
      .flatMap((tick) => [
        [`lo${tick}`, `min(us % ${tick})`, `min(lo${tick})`] as const,
        [`hi${tick}`, `max(us % ${tick})`, `max(hi${tick})`] as const,
      ]),
  ]
  for (const [i, part] of base.entries())
    await c.run(`${i === 0 ? 'CREATE OR REPLACE TEMP TABLE parts AS' : 'INSERT INTO parts'}
      SELECT series, ${signs.map(([name, first]) => `${first} AS ${name}`).join(', ')}
      FROM (SELECT series, ts, epoch_us(ts) AS us, v, flags FROM (${part})) GROUP BY series`)
  await c.run(
    `CREATE OR REPLACE TEMP TABLE signs AS SELECT series, ${signs.map(([name, , again]) => `${again} AS ${name}`).join(', ')} FROM parts GROUP BY series`,
  )
  await c.run('DROP TABLE parts')
  const scale = `CASE WHEN NOT plain THEN ${unscaled} ${decimals.map((d) => `WHEN d${d} THEN ${d}`).join(' ')} ELSE ${unscaled} END::UTINYINT`
  const largest = ticksUs.toReversed()
  const tick = `CASE ${largest.map((t) => (t === 1 ? 'ELSE 1' : `WHEN lo${t} = hi${t} THEN ${t}`)).join(' ')} END::BIGINT`
  const phase = `CASE ${largest.map((t) => (t === 1 ? 'ELSE 0' : `WHEN lo${t} = hi${t} THEN lo${t}`)).join(' ')} END::BIGINT`
  await c.run(`CREATE OR REPLACE TEMP TABLE sets AS
    WITH s AS (SELECT s.*, d.device, ${scale} AS scale, ${tick} AS tick, ${phase} AS phase FROM signs s JOIN (${devices}) d ON s.series = d.series),
    e AS (SELECT *, min(series) OVER (PARTITION BY device, "rows", first, last, whole, CASE WHEN bits_all = bits_any THEN -1 ELSE series::BIGINT END) AS lead FROM s),
    h AS (SELECT *, arg_max(lead, ("rows", -lead::BIGINT)) FILTER (WHERE bits_all = bits_any) OVER w AS host, max("rows") FILTER (WHERE bits_all = bits_any) OVER w AS most
      FROM e WINDOW w AS (PARTITION BY device, least)),
    j AS (SELECT *, CASE WHEN bits_all = bits_any AND "rows" * 4 >= most * 3 THEN host ELSE lead END AS joined FROM h),
    n AS (SELECT *, row_number() OVER (PARTITION BY joined ORDER BY scale, series) - 1 AS place FROM j)
    SELECT series, device, "rows", first, last, bits_all AS bits, scale, tick, phase, (place % ${shapeColumnsMax})::UTINYINT AS col,
      min(series) OVER (PARTITION BY joined, place // ${shapeColumnsMax}) AS grp FROM n`)
  await c.run('DROP TABLE signs')
  // The members of a group have one clock: the finest of their ticks, if their phases agree on it.
  await c.run(`CREATE OR REPLACE TEMP TABLE grps AS
    WITH t AS (SELECT grp, min(tick) AS tick FROM sets GROUP BY grp)
    SELECT s.grp, CASE WHEN min(s.phase % t.tick) = max(s.phase % t.tick) THEN any_value(t.tick) ELSE 1 END AS tick,
      CASE WHEN min(s.phase % t.tick) = max(s.phase % t.tick) THEN min(s.phase % t.tick) ELSE 0 END AS phase,
      list(s.scale ORDER BY s.col) AS scales, repeat([max(s.scale)], count(*)) AS even, sum(s."rows") AS readings
    FROM sets s JOIN t ON s.grp = t.grp GROUP BY s.grp`)
  // Small shapes try to stand with others that have the same scale in every column; what is still small is narrow.
  const large = `HAVING sum(readings) >= ${tuning.shapeReadingsMin} ORDER BY sum(readings) DESC, tick, scales`
  await c.run(`CREATE OR REPLACE TEMP TABLE shaped AS
    WITH a AS (SELECT tick, scales FROM grps GROUP BY tick, scales ${large} LIMIT ${tuning.shapesMax >> 1}),
    g AS (SELECT grps.* REPLACE (CASE WHEN a.tick IS NULL THEN even ELSE grps.scales END AS scales)
      FROM grps LEFT JOIN a ON grps.tick = a.tick AND grps.scales = a.scales),
    b AS (SELECT tick, scales, row_number() OVER (ORDER BY sum(readings) DESC, tick, scales) - 1 AS shape FROM g GROUP BY tick, scales ${large} LIMIT ${tuning.shapesMax})
    SELECT g.grp, g.tick, g.phase, g.scales, coalesce(b.shape, ${narrowShape})::UINTEGER AS shape
    FROM g LEFT JOIN b ON g.tick = b.tick AND g.scales = b.scales`)
  await c.run(`INSERT INTO ${out}.shapes SELECT DISTINCT shape, tick, scales FROM shaped WHERE shape <> ${narrowShape} ORDER BY shape`)
  await c.run(`CREATE OR REPLACE TEMP TABLE assigned AS
    SELECT s.series, g.shape, s.device, s.grp, s.col, CASE WHEN g.shape = ${narrowShape} THEN 0 ELSE s.bits END::UTINYINT AS bits,
      g.phase, s."rows"::UBIGINT AS "rows", s.first, s.last, g.tick
    FROM sets s JOIN shaped g ON s.grp = g.grp`)
  await c.run('DROP TABLE sets; DROP TABLE grps; DROP TABLE shaped')
}

/** Pivots the groups of each shape, so many at a time that their readings fit in memory, in the order in which they are to lie. */
async function writeShapes(c: DuckDBConnection, base: (pick: string) => readonly string[], tuning: Tuning): Promise<void> {
  const shapes = await rowsOf(c, `SELECT shape, tick::DOUBLE, scales FROM ${out}.shapes ORDER BY shape`)
  for (const [shape, tick, list] of shapes) {
    const scales = Array.isArray(list) ? list.map(Number) : []
    const columns = scales.map((scale, i) => `c${i} ${scale === unscaled ? 'DOUBLE' : 'BIGINT'}`)
    await c.run(`CREATE TABLE ${out}.s${Number(shape)} (grp UINTEGER NOT NULL, t BIGINT NOT NULL, flags UTINYINT NOT NULL, ${columns.join(', ')})`)
    const values = scales.map((scale, i) => {
      const value = `max(v) FILTER (WHERE col = ${i})`
      return scale === unscaled ? value : `CAST(round(${value} * ${10 ** scale}) AS BIGINT)`
    })
    const passes = await rowsOf(
      c,
      `SELECT min(grp)::DOUBLE, max(grp)::DOUBLE FROM (SELECT grp, sum(sum("rows")) OVER (ORDER BY grp) - sum("rows") AS before
        FROM assigned WHERE shape = ${Number(shape)} GROUP BY grp) GROUP BY before // ${tuning.passReadings} ORDER BY 1`,
    )
    // One transaction, in which passes follow each other without a gap; each by itself would end in a row group that is not full.
    await c.run('BEGIN')
    for (const [lo, hi] of passes) {
      await c.run(`CREATE OR REPLACE TEMP TABLE pass AS SELECT series, grp, col, bits, phase FROM assigned
        WHERE shape = ${Number(shape)} AND grp BETWEEN ${Number(lo)} AND ${Number(hi)}`)
      await c.run(`INSERT INTO ${out}.s${Number(shape)}
        SELECT grp, t, flags, ${values.join(', ')} FROM (
          SELECT p.grp, p.col, (epoch_us(b.ts) - p.phase) // ${Number(tick)} AS t, (b.flags & ~p.bits)::UTINYINT AS flags, b.v
          FROM (${await staged(c, base('(SELECT series FROM pass)'))}) b JOIN pass p ON b.series = p.series)
        GROUP BY grp, t, flags ORDER BY grp, t, flags`)
    }
    await c.run('COMMIT')
    await c.run('DROP TABLE IF EXISTS pass')
  }
}
