import { ForecastMonitor } from '../../compute/forecast/monitor.ts'
import type { ForecastService } from '../../core/forecasts.ts'
import type { InnerJob, OnEvent } from '../jobs/runner.ts'
import type { Jobs } from '../jobs/jobs.ts'
import { followed, lookAt, type FollowedNow, type Watched, type Wish } from './follow.ts'
import { nameOf } from './history.ts'
import { openForecastService } from './service.ts'
import type { Trainer } from './trainer.ts'
import { backtestOnce, trainAll, type Outcome } from './training.ts'
import { forgetDevice, openWorld, type World } from './world.ts'

/** All of the role that computes. Loaded when there is something to be forecast: until then it costs no memory. */
export interface Parts {
  readonly service: Omit<ForecastService, 'latestTraining'>
  look(tenants: readonly string[], known: ReadonlyMap<string, Watched>, signal: AbortSignal): Promise<FollowedNow>
  /** A job was made of these wishes: they are not wished again at once. */
  tried(wishes: readonly Wish[]): Promise<void>
  train(job: InnerJob, signal: AbortSignal, onEvent: OnEvent): Promise<Readonly<Record<string, unknown>>>
  backtest(job: InnerJob, signal: AbortSignal, onEvent: OnEvent): Promise<Readonly<Record<string, unknown>>>
  forget(tenant: string, device: string): Promise<void>
}

export function openParts(
  o: Pick<World, 'store' | 'forecasts' | 'options' | 'env'> & {
    readonly jobs: Pick<Jobs, 'createInner'>
    readonly trainer: Trainer
    readonly onOutcome: (outcome: Outcome) => void
  },
): Parts {
  const world = openWorld(o)
  const { trainer, onOutcome } = o
  return {
    service: openForecastService(world, o.jobs),
    look: async (tenants, known, signal) => lookAt(world, await followed(world, tenants), known, signal),
    tried: (wishes) => world.turn.run(() => tried(world, wishes)),
    train: (job, signal, onEvent) => trainAll({ world, trainer, onOutcome }, job, signal, onEvent),
    backtest: (job, signal, onEvent) => backtestOnce({ world, trainer }, job, signal, onEvent),
    forget: (tenant, device) => forgetDevice(world, tenant, device),
  }
}

async function tried({ forecasts }: World, wishes: readonly Wish[]): Promise<void> {
  const states = await forecasts.states(wishes.map(({ key }) => key))
  const wanted = new Set(wishes.map(({ key, version }) => `${version} ${nameOf(key)}`))
  const next = states
    .filter(({ key, version }) => wanted.has(`${version} ${nameOf(key)}`))
    .map((state) => {
      const monitor = ForecastMonitor.restore(state.bytes)
      monitor.tried()
      return { ...state, bytes: monitor.snapshot() }
    })
  if (next.length > 0) await forecasts.write([], next)
}
