import type pg from 'pg'
import { metricMatcher, type RetentionRule } from '../../core/retention-rules.ts'
import { columnOf, columnsMax, deviceOf, valueColumns } from './layout.ts'
import { dayBefore, goneLock } from './gone.ts'
import { instant, microseconds } from './sql.ts'

interface Named {
  readonly id: number
  readonly tenant: string
  readonly device: string
  readonly metric: string
  /** What was removed by a rule before; microseconds. */
  readonly cleared: string | null
}

/** Series that are looked at together, and rows of one statement: a lock of some milliseconds. */
const seriesAtOnce = 1_000
const rowsAtOnce = 10_000

/** Removes what rules name and no general age does; of each series by the first rule that matches it. Ages count in whole UTC days. */
export async function applyRules(client: pg.ClientBase, rules: readonly RetentionRule[], nowUs: number): Promise<void> {
  // Before it is said which devices have the labels, series would come under a rule further down.
  if (rules.length === 0 || rules.some(({ labels, devices }) => labels !== undefined && devices === undefined)) return
  const task = `rules ${JSON.stringify([rules, Math.floor(nowUs / 86_400e6)])}`
  const { rows: done } = await client.query<{ same: boolean }>(`SELECT md5($1) = task AS same FROM upkeep WHERE task = md5($1)`, [task])
  if (done[0]?.same === true) return
  const ruleOf = matcherOf(rules)
  let after = Number.MIN_SAFE_INTEGER
  for (;;) {
    const { rows } = await client.query<Named>(
      `SELECT id, tenant, device, metric, ${microseconds('cleared')} AS cleared FROM series WHERE id > $1 ORDER BY id LIMIT $2`,
      [Math.max(after, -(2 ** 31)), seriesAtOnce],
    )
    for (const [rule, series] of Map.groupBy(rows, (row) => ruleOf(row))) {
      if (rule === undefined) continue
      for (const [fromUs, some] of Map.groupBy(series, (row) => Number(row.cleared ?? 0))) await removeOf(client, rule, some, { fromUs, nowUs })
    }
    if (rows.length < seriesAtOnce) break
    after = rows.at(-1)!.id
  }
  // Of the same rules not again on this day.
  await client.query(`INSERT INTO upkeep VALUES (md5($1), now()) ON CONFLICT (task) DO NOTHING`, [task])
  await client.query(`DELETE FROM upkeep WHERE at < now() - interval '2 days' AND task <> 'analyze'`)
}

function matcherOf(rules: readonly RetentionRule[]): (series: Named) => RetentionRule | undefined {
  const prepared = rules.map((rule) => ({
    rule,
    metric: rule.metrics === undefined ? () => true : metricMatcher(rule.metrics),
    devices: rule.labels === undefined ? undefined : new Set((rule.devices ?? []).map(([tenant, device]) => `${tenant}\0${device}`)),
  }))
  return ({ tenant, device, metric }) =>
    prepared.find((one) => one.metric(metric) && (one.devices === undefined || one.devices.has(`${tenant}\0${device}`)))?.rule
}

/** `fromUs`: readings before it have gone already, and none came since. */
async function removeOf(
  client: pg.ClientBase,
  rule: RetentionRule,
  series: readonly Named[],
  { fromUs, nowUs }: { readonly fromUs: number; readonly nowUs: number },
): Promise<void> {
  const ids = series.map(({ id }) => id)
  const before = (ageUs: number | undefined): number | undefined => (ageUs === undefined ? undefined : dayBefore(nowUs, ageUs))
  const [raw, minutes, hours] = [before(rule.rawUs), before(rule.minutesUs), before(rule.hoursUs)]
  if (raw !== undefined && raw > fromUs) {
    await noteGone(client, ids, raw)
    await removeColumns(client, ids, fromUs, raw)
    await remove(client, 'samples', 'time', ids, raw)
    await client.query('UPDATE series SET cleared = $2 WHERE id = ANY($1)', [ids, instant(raw)])
  }
  if (minutes !== undefined) await remove(client, 'rollup_1m', 'bucket', ids, minutes)
  if (hours !== undefined) await remove(client, 'rollup_1h', 'bucket', ids, hours)
}

/** As `note` of retention: behind all commits that may still compute buckets from these rows; their owners read it again. */
async function noteGone(client: pg.ClientBase, ids: readonly number[], beforeUs: number): Promise<void> {
  await client.query('BEGIN')
  try {
    await client.query('SELECT pg_advisory_xact_lock($1)', [goneLock])
    const { rows } = await client.query<{ owner: number }>(
      'UPDATE series SET gone = $2 WHERE id = ANY($1) AND (gone IS NULL OR gone < $2) RETURNING owner',
      [ids, instant(beforeUs)],
    )
    await client.query('UPDATE span SET revoked = revoked + 1 WHERE id = ANY($1)', [[...new Set(rows.map(({ owner }) => owner))]])
    await client.query('COMMIT')
  } catch (thrown) {
    await client.query('ROLLBACK')
    throw thrown
  }
}

async function remove(client: pg.ClientBase, table: string, time: string, ids: readonly number[], beforeUs: number): Promise<void> {
  for (let deleted = rowsAtOnce; deleted === rowsAtOnce;) {
    const result = await client.query(
      `DELETE FROM ${table} r USING (SELECT series, ${time} AS at FROM ${table} WHERE series = ANY($1) AND ${time} < $2 LIMIT ${rowsAtOnce}) x
        WHERE r.series = x.series AND r.${time} = x.at AND r.${time} < $2`,
      [ids, instant(beforeUs)],
    )
    deleted = result.rowCount ?? 0
  }
}

/** Empties columns of messages; a row that has nothing left goes. */
async function removeColumns(client: pg.ClientBase, ids: readonly number[], fromUs: number, beforeUs: number): Promise<void> {
  const devices = Map.groupBy(
    ids.filter((id) => id < 0),
    (id) => deviceOf(id),
  )
  const sets = Map.groupBy(devices, ([, of]) =>
    of
      .map((id) => columnOf(id))
      .toSorted((a, b) => a - b)
      .join(','),
  )
  for (const [names, members] of sets) {
    const columns = names.split(',').map(Number)
    const there = columns.map((n) => `v${n} IS NOT NULL OR extra[${2 * n - 1}] IS NOT NULL`).join(' OR ')
    const mask = columns.reduce((sum, n) => sum | (255n << BigInt(8 * (n - 1))), 0n)
    const texts = Array.from({ length: 2 * columnsMax }, (_, i) => (columns.includes((i >> 1) + 1) ? 'NULL' : `extra[${i + 1}]`)).join(', ')
    const some = `SELECT device, time AS at FROM messages WHERE device = ANY($1) AND time < $2 AND time >= $3 AND (${there}) LIMIT ${rowsAtOnce}`
    const values = [members.map(([device]) => device), instant(beforeUs), instant(fromUs)]
    for (let changed = rowsAtOnce; changed === rowsAtOnce;) {
      const result = await client.query(
        `UPDATE messages r SET ${columns.map((n) => `v${n} = NULL`).join(', ')}, flags = nullif(flags & ~${mask}::int8, 0),
          extra = CASE WHEN extra IS NULL THEN NULL ELSE nullif(ARRAY[${texts}], array_fill(NULL::text, ARRAY[${2 * columnsMax}])) END
          FROM (${some}) x WHERE r.device = x.device AND r.time = x.at AND r.time < $2`,
        values,
      )
      changed = result.rowCount ?? 0
    }
    const empty = `num_nonnulls(${valueColumns(columnsMax)}, extra) = 0`
    for (let deleted = rowsAtOnce; deleted === rowsAtOnce;) {
      const result = await client.query(
        `DELETE FROM messages r USING (SELECT device, time AS at FROM messages WHERE device = ANY($1) AND time < $2 AND time >= $3 AND ${empty} LIMIT ${rowsAtOnce}) x
          WHERE r.device = x.device AND r.time = x.at AND r.time < $2`,
        values,
      )
      deleted = result.rowCount ?? 0
    }
  }
}
