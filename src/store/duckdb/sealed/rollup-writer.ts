import type { DuckDBConnection } from '@duckdb/node-api'
import { limits } from '../../../core/limits.ts'
import { boundedBins, lowAndHigh, onlyValue } from '../bins-sql.ts'
import { createRollup, decimals, stepOfKind, type RollupKind, type Tuning } from './format.ts'
import type { Written } from './raw-writer.ts'
import { latestCorrections, rollupNames, rowsOf } from './scan.ts'

/** The rollup rows of one partition and width, as statements. */
export interface RollupSource {
  /** `SELECT series, bucket, n, sum, m2, min, max, first, first_ts, last, last_ts`, each bucket once. */
  readonly rows: string
  /** The same columns and `gen`, and `bins` of hours: of several the highest `gen` counts, above every row; n = 0 says that the bucket has none. */
  readonly corrected: string
  /** Of hours. Absent: they are not known. */
  readonly bins?: BinSource
}

/** What sketches of hours are made from. */
export interface BinSource {
  /** Each `SELECT series, b, bin, n, low, high`: what the base rows of the run add to each bin. */
  readonly added: readonly string[]
  /**
   * The same of hours in a table `(series, b)`, from all of their readings, late ones in their places: for corrections that do not know their bins. Absent: not all
   * readings are there.
   */
  readonly again?: (hours: string) => string
}

export interface WrittenRollup {
  readonly written: Written
  /** The number of bins; undefined: they are not known. */
  readonly bins: number | undefined
}

const out = 'out'

/**
 * Fills the rollup file attached as `out`. With `fold` the corrections take the place of the rows and none remain.
 *
 * A series whose values are all decimals goes to `packed`, as integers: bounds, first and last by their distance from the minimum, the sum as
 * the nearest decimal and the rest to it, which is a small number of units in the last place of a double. The subtraction that gives the rest is exact, and
 * each row of the series is decoded here to prove it; where one differs the series goes to `plain`.
 */
export async function writeRollup(
  c: DuckDBConnection,
  kind: RollupKind,
  source: RollupSource,
  fold: boolean,
  tuning: Tuning,
): Promise<WrittenRollup> {
  const step = stepOfKind[kind]
  await c.run(createRollup(out, kind))
  await c.run(`CREATE OR REPLACE TEMP TABLE corrections AS ${latestCorrections(source.corrected)}`)
  const rows = fold
    ? `SELECT ${rollupNames} FROM (${source.rows}) ANTI JOIN corrections USING (series, bucket)
      UNION ALL SELECT ${rollupNames} FROM corrections WHERE n > 0`
    : source.rows
  const values = ['min', 'max', 'first', 'last']
  const exact = decimals.map((d) => `bool_and(${values.map((v) => `${v} = round(${v} * ${10 ** d}) / ${10 ** d}`).join(' AND ')}) AS d${d}`)
  const divides = (tick: number): string =>
    `bool_and((epoch_us(first_ts) - epoch_us(bucket)) % ${tick} = 0 AND (epoch_us(last_ts) - epoch_us(bucket)) % ${tick} = 0)`
  await c.run(`CREATE OR REPLACE TEMP TABLE scaled AS
    SELECT series, CASE ${decimals.map((d) => `WHEN d${d} THEN ${10 ** d}`).join(' ')} END::DOUBLE AS scale, CASE WHEN s THEN 1000000 WHEN ms THEN 1000 ELSE 1 END::BIGINT AS tick
    FROM (SELECT series, bool_and(${[...values, 'sum'].map((v) => `abs(${v}) < 1e11`).join(' AND ')}) AS fine,
      ${divides(1e6)} AS s, ${divides(1e3)} AS ms, ${exact.join(', ')} FROM (${rows}) GROUP BY series)
    WHERE fine AND (${decimals.map((d) => `d${d}`).join(' OR ')})`)
  // Three bits below the smallest rest: enough when the smallest is not the finest.
  await c.run(`CREATE OR REPLACE TEMP TABLE packings AS
    WITH r AS (SELECT s.series, s.scale, s.tick, x.sum, x.sum - round(x.sum * s.scale) / s.scale AS rest FROM (${rows}) x JOIN scaled s ON x.series = s.series),
    u AS (SELECT series, any_value(scale) AS scale, any_value(tick) AS tick, coalesce(pow(2, ceil(-log2(min(abs(rest)) FILTER (WHERE rest <> 0))) + 3), 1) AS ulps
      FROM r GROUP BY series)
    SELECT u.series, u.scale, u.tick, u.ulps, count(*) AS n FROM r JOIN u ON r.series = u.series GROUP BY ALL
    HAVING bool_and(isfinite(u.ulps) AND abs(r.rest * u.ulps) < 9e15 AND round(r.sum * u.scale) / u.scale + round(r.rest * u.ulps) / u.ulps = r.sum)`)
  const integer = (value: string): string => `CAST(round(${value} * p.scale) AS BIGINT)`
  const after = (column: string): string => `(epoch_us(x.${column}) - epoch_us(x.bucket)) // p.tick`
  const passes = await rowsOf(
    c,
    `SELECT min(series)::DOUBLE, max(series)::DOUBLE FROM (SELECT series, sum(n) OVER (ORDER BY series) - n AS before FROM packings)
      GROUP BY before // ${tuning.passReadings >> 1} ORDER BY 1`,
  )
  await c.run('BEGIN')
  for (const [lo, hi] of passes)
    await c.run(`INSERT INTO ${out}.packed
    SELECT x.series, epoch_us(x.bucket) // ${step} AS b, x.n, p.scale, p.ulps, p.tick, ${integer('x.min')}, ${integer('x.max')} - ${integer('x.min')},
      ${integer('x.first')} - ${integer('x.min')}, ${integer('x.last')} - ${integer('x.min')}, ${integer('x.sum')},
      CAST((x.sum - round(x.sum * p.scale) / p.scale) * p.ulps AS BIGINT), x.m2, ${after('first_ts')}, ${after('last_ts')}
    FROM (SELECT * FROM (${rows}) WHERE series BETWEEN ${Number(lo)} AND ${Number(hi)}) x JOIN packings p ON x.series = p.series ORDER BY x.series, b`)
  await c.run('COMMIT')
  await c.run(`INSERT INTO ${out}.plain SELECT ${rollupNames} FROM (${rows}) ANTI JOIN packings USING (series) ORDER BY series, bucket`)
  const sketches = kind === '1h' && source.bins !== undefined ? await writeBins(c, source.bins, fold) : undefined
  const more = kind === '1h' ? ', bins' : ''
  if (!fold) await c.run(`INSERT INTO ${out}.corrected SELECT ${rollupNames}, gen ${more} FROM corrections ORDER BY series, bucket`)
  const [totals] = await rowsOf(
    c,
    `WITH a AS (SELECT count(*) AS n, min(b) * ${step} AS lo, max(b) * ${step} AS hi FROM ${out}.packed
      ${sketches !== undefined ? `UNION ALL SELECT 0, min(b) * ${step}, max(b) * ${step} FROM ${out}.bins` : ''}
      UNION ALL SELECT count(*), epoch_us(min(bucket)), epoch_us(max(bucket)) FROM ${out}.plain),
    k AS (SELECT count(*) AS n, epoch_us(min(bucket)) AS lo, epoch_us(max(bucket)) AS hi FROM ${out}.corrected)
    SELECT (SELECT sum(n) FROM a)::DOUBLE, (SELECT n FROM k)::DOUBLE, coalesce(min(lo), 0)::DOUBLE, coalesce(max(hi), 0)::DOUBLE
    FROM (SELECT lo, hi FROM a UNION ALL SELECT lo, hi FROM k)`,
  )
  await c.run('DROP TABLE corrections; DROP TABLE scaled; DROP TABLE packings')
  const [count, above, fromUs, toUs] = (totals ?? []).map(Number)
  return { written: { rows: count!, above: above!, texts: 0, fromUs: fromUs!, toUs: toUs! }, bins: sketches }
}

/**
 * Writes the sketches of hours; with `fold` those of corrections in their place, and returns their number of bins. Undefined, and nothing is written, when a correction does not know its
 * bins, as it was made before there were any, and they cannot be had.
 */
async function writeBins(c: DuckDBConnection, { added, again }: BinSource, fold: boolean): Promise<number | undefined> {
  const step = stepOfKind['1h']
  await c.run(`CREATE OR REPLACE TEMP TABLE unknown AS SELECT series, epoch_us(bucket) // ${step} AS b FROM corrections WHERE n > 0 AND bins IS NULL`)
  const [unknown] = await rowsOf(c, 'SELECT count(*)::DOUBLE FROM unknown')
  const lacking = Number(unknown?.[0]) > 0
  if (lacking && (!fold || again === undefined)) return undefined
  const others = `ANTI JOIN (SELECT series, epoch_us(bucket) // ${step} AS b FROM corrections) k ON k.series = b.series AND k.b = b.b`
  const own = fold
    ? [
        ...added.map((bins) => `SELECT b.* FROM (${bins}) b ${others}`),
        `SELECT series, b, x.bin, x.n, ${lowAndHigh('x.v')} FROM (
          SELECT series, epoch_us(bucket) // ${step} AS b, unnest(bins) AS x FROM corrections WHERE n > 0 AND bins IS NOT NULL)`,
        ...(lacking && again !== undefined ? [again('unknown')] : []),
      ]
    : added
  // One by one, as side by side they would hold their memory together.
  await c.run('CREATE OR REPLACE TEMP TABLE parts (series UINTEGER, b BIGINT, bin INTEGER, n UBIGINT, low DOUBLE, high DOUBLE)')
  for (const bins of own) await c.run(`INSERT INTO parts ${bins}`)
  await c.run(`CREATE OR REPLACE TEMP TABLE sketches AS
    SELECT series, b, bin, sum(n)::UBIGINT AS n, min(low) AS low, max(high) AS high FROM parts GROUP BY series, b, bin`)
  await c.run('DROP TABLE parts; DROP TABLE unknown')
  const [wide] = await rowsOf(c, `SELECT count(*)::DOUBLE FROM (SELECT 1 FROM sketches GROUP BY series, b HAVING count(*) > ${limits.sketchBinsMax})`)
  const kept = Number(wide?.[0]) > 0 ? `(${boundedBins('sketches')})` : 'sketches'
  await c.run(`INSERT INTO ${out}.bins SELECT series, b, bin, n, ${onlyValue} FROM ${kept} ORDER BY series, b, bin`)
  await c.run('DROP TABLE sketches')
  return Number((await rowsOf(c, `SELECT count(*)::DOUBLE FROM ${out}.bins`))[0]?.[0])
}
