import type { Backtest } from './backtest.ts'
import type { ResidualBands } from './conformal.ts'
import { IntervalTally, type IntervalScores } from './metrics.ts'

/** A forecast of a backtest whose targets mature one after the other. */
export interface Issue {
  readonly origin: number
  done: number
  readonly means: Float64Array
  readonly actuals: Float64Array
}

export function issueOf({ horizon, origins, means, actuals }: Backtest, k: number): Issue {
  const [from, to] = [k * horizon, (k + 1) * horizon]
  return { origin: origins[k]!, done: 0, means: means.subarray(from, to), actuals: actuals.subarray(from, to) }
}

/**
 * What was measured before step `now` is told, issue by issue: the order of a day's work, when a batch of actuals comes in. `timeOf`: by which time
 * an origin is known to the bands.
 */
export function mature(bands: ResidualBands, open: Issue[], now: number, timeOf: (origin: number) => number = (origin) => origin): void {
  for (const issue of open) {
    const { origin, means, actuals } = issue
    for (; issue.done < means.length && origin + issue.done < now; issue.done++) {
      bands.observe(timeOf(origin), issue.done + 1, actuals[issue.done]! - means[issue.done]!)
    }
  }
  while (open.length > 0 && open[0]!.done === open[0]!.means.length) open.shift()
}

/**
 * Teaches bands the errors of a backtest in the order in which they matured, and tells how its intervals of a level would have done: each made with
 * what was known when it was issued. `end`: all targets before this step are known.
 */
export function learnFrom(
  bands: ResidualBands,
  past: Backtest,
  o: { readonly level: number; readonly end: number; readonly timeOf: (origin: number) => number },
): IntervalScores {
  const tally = new IntervalTally(o.level)
  const open: Issue[] = []
  const [lower, upper] = [new Float64Array(past.horizon), new Float64Array(past.horizon)]
  for (let k = 0; k < past.origins.length; k++) {
    const issue = issueOf(past, k)
    mature(bands, open, issue.origin, o.timeOf)
    // An issue at which the model had no answer promised nothing.
    if (!Number.isFinite(issue.means[0]!)) continue
    bands.interval(issue.means, o.level, lower, upper)
    for (let h = 0; h < past.horizon; h++) if (lower[h] === lower[h]) tally.add(lower[h]!, upper[h]!, issue.actuals[h]!)
    bands.issue(o.timeOf(issue.origin))
    open.push(issue)
  }
  mature(bands, open, o.end, o.timeOf)
  return tally.scores()
}
