import type { Prediction, PredictionQuery } from '../../core/forecast-store.ts'

/** Steps of one issue as a row of the file has them: targets follow one another from `issueUs` on. */
export interface IssueRow {
  readonly issueUs: number
  readonly version: number
  readonly stepUs: number
  readonly count: number
  /** Leading steps that retention has taken. */
  readonly gone: number
  readonly level: number
  /** One row of means, or three rows: NaN as a mean is a step that another row of the issue has. */
  readonly rows: Float64Array
}

/** The steps of a row that are there, with targets in [fromUs, toUs). */
export function* stepsOf(row: IssueRow, fromUs = 0, toUs = Number.POSITIVE_INFINITY): Generator<Prediction, void, void> {
  const { issueUs, version, stepUs, count, gone, level, rows } = row
  const first = Math.max(gone, Math.ceil((fromUs - issueUs) / stepUs))
  const ends = rows.length > count
  for (let i = first; i < count; i++) {
    const target = issueUs + i * stepUs
    if (target >= toUs) return
    const mean = rows[i] ?? Number.NaN
    if (mean !== mean) continue
    const [lower, upper] = ends ? [rows[count + i] ?? Number.NaN, rows[2 * count + i] ?? Number.NaN] : [Number.NaN, Number.NaN]
    yield { version, issue_us: issueUs, target_us: target, mean, lower, upper, level }
  }
}

export function inOrder(a: Prediction, b: Prediction): number {
  return a.target_us - b.target_us || a.issue_us - b.issue_us || a.version - b.version
}

/** Rows of a series with issues in [fromUs, toUs), and how many there are. */
export interface IssueSource {
  /** From an issue to the end of its last target at most. */
  readonly spanUs: number
  rows(fromUs: number, toUs: number): Iterable<IssueRow>
  count(fromUs: number, toUs: number): number
}

/**
 * A page of predictions in order. Targets are looked at in windows that are as long as the page is likely to take, so that what is held is some two
 * pages whatever the horizon is.
 */
export function pageOf(source: IssueSource, q: Omit<PredictionQuery, 'key'>): Prediction[] {
  const { limit, after, newest } = q
  const page: Prediction[] = []
  let fromUs = Math.max(q.fromUs, after === undefined ? q.fromUs : after.target_us)
  // Issues whose targets reach here: so many predictions a step there may be.
  const depth = Math.max(1, source.count(fromUs - source.spanUs, fromUs + 1))
  let steps = newest === undefined ? Math.max(1, Math.floor(limit / depth)) : limit
  let stepUs: number | undefined
  for (const row of source.rows(fromUs - source.spanUs, q.toUs)) {
    stepUs = row.stepUs
    // Nothing in between: the first window begins where there is something.
    fromUs = Math.max(fromUs, Math.min(row.issueUs, q.toUs))
    break
  }
  if (stepUs === undefined) return page
  while (fromUs < q.toUs && page.length < limit) {
    const toUs = Math.min(q.toUs, fromUs + steps * stepUs)
    const found = windowOf(source, q, fromUs, toUs)
    for (const one of found) page.push(one)
    if (found.length < limit) steps *= 2
    fromUs = toUs
  }
  return page.slice(0, limit)
}

function windowOf(source: IssueSource, q: Omit<PredictionQuery, 'key'>, fromUs: number, toUs: number): Prediction[] {
  const { version, issueUs, after, newest } = q
  const found: Prediction[] = []
  const last = new Map<number, Prediction>()
  const [firstIssue, endIssue] = issueUs === undefined ? [fromUs - source.spanUs, toUs] : [issueUs, issueUs + 1]
  // Issues come in their order: what lies before one that is just read is complete.
  let lookAt = 2 * q.limit
  for (const row of source.rows(firstIssue, endIssue)) {
    if (found.length + last.size >= lookAt) {
      const complete = [...found, ...last.values()].filter((one) => one.target_us < row.issueUs)
      if (complete.length >= q.limit) return complete.sort(inOrder)
      lookAt = 2 * (found.length + last.size)
    }
    if (version !== undefined && row.version !== version) continue
    for (const one of stepsOf(row, fromUs, toUs)) {
      if (newest === undefined) {
        if (isAfter(one, after)) found.push(one)
        continue
      }
      // One of each target: where a page ended, all of the target was told.
      if (after !== undefined && one.target_us <= after.target_us) continue
      if (one.issue_us + (newest.leadUs ?? Number.NEGATIVE_INFINITY) > one.target_us + row.stepUs) continue
      const known = last.get(one.target_us)
      if (known === undefined || inOrder(known, one) < 0) last.set(one.target_us, one)
    }
  }
  for (const one of last.values()) found.push(one)
  return found.sort(inOrder)
}

function isAfter(one: Prediction, after: PredictionQuery['after']): boolean {
  if (after === undefined) return true
  return (one.target_us - after.target_us || one.issue_us - after.issue_us || one.version - after.version) > 0
}
