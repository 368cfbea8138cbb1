import type { BacktestRequest, SeriesName, TrainRequest } from '../../core/forecasts.ts'
import { limits } from '../../core/limits.ts'
import type { Job, JobService } from '../../core/services.ts'
import type { TrainReason } from './follow.ts'

/** What a job was asked for, as its parameters keep it. */
export interface TrainParameters extends TrainRequest {
  /** Why it trains; absent: somebody asked. */
  readonly reason?: TrainReason
}

type Bag = Readonly<Record<string, unknown>>

function isName(value: unknown): value is SeriesName {
  return (
    typeof value === 'object' &&
    value !== null &&
    'device' in value &&
    typeof value.device === 'string' &&
    'metric' in value &&
    typeof value.metric === 'string'
  )
}

function isText(value: unknown): value is string {
  return typeof value === 'string'
}

function isReason(value: unknown): value is TrainReason {
  return value === 'drift' || value === 'age' || value === 'new'
}

function shared({ kinds, step_us, horizon_us, seed }: Bag): Pick<TrainRequest, 'kinds' | 'step_us' | 'horizon_us' | 'seed'> {
  return {
    ...(Array.isArray(kinds) ? { kinds: kinds.filter(isText) } : {}),
    ...(typeof step_us === 'number' ? { step_us } : {}),
    ...(typeof horizon_us === 'number' ? { horizon_us } : {}),
    ...(typeof seed === 'number' ? { seed } : {}),
  }
}

export function trainParameters(bag: Bag): TrainParameters {
  const { series, reason } = bag
  return {
    ...shared(bag),
    ...(Array.isArray(series) ? { series: series.filter(isName).map(({ device, metric }) => ({ device, metric })) } : {}),
    ...(isReason(reason) ? { reason } : {}),
  }
}

/** Undefined: it names no series. */
export function backtestParameters(bag: Bag): BacktestRequest | undefined {
  return isName(bag) ? { ...shared(bag), device: bag.device, metric: bag.metric } : undefined
}

/** Of one series: the newest job that names it, or that was for all. */
export function latestTraining(jobs: Pick<JobService, 'list'>, tenant: string, series: SeriesName | undefined): Job | undefined {
  for (let after: string | undefined; ;) {
    const page = jobs.list(tenant, { kind: 'train', limit: limits.jobsListedDefault, ...(after === undefined ? {} : { after }) })
    for (const job of page.items) {
      const named = trainParameters(job.parameters).series
      if (series === undefined || named === undefined || named.some(({ device, metric }) => device === series.device && metric === series.metric))
        return job
    }
    after = page.next
    if (after === undefined) return undefined
  }
}
