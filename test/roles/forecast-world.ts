import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { TestContext } from 'node:test'
import type { ForecastOptions } from '../../src/core/config-forecast.ts'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import type { ForecastStore, Prediction } from '../../src/core/forecast-store.ts'
import type { TrainRequest } from '../../src/core/forecasts.ts'
import { Metrics } from '../../src/core/metrics.ts'
import type { Job } from '../../src/core/services.ts'
import { openForecastRole, type ForecastRole } from '../../src/roles/forecast/role.ts'
import { openJobs, type Jobs } from '../../src/roles/jobs/jobs.ts'
import { openSqliteForecasts } from '../../src/store/forecasts/sqlite.ts'
import { openSqliteMeta } from '../../src/store/meta/sqlite.ts'
import { FedStore, noDevices } from '../support/fed-store.ts'
import { hourUs, mondayUs } from '../support/synthetic-series.ts'

export const tenant = 'default'
export const env = nodeEnv(silentLogger)

export const usual: ForecastOptions = {
  stepUs: hourUs,
  horizonUs: 24 * hourUs,
  level: 0.9,
  timeZone: 'UTC',
  kinds: ['ridge'],
  historyUs: 365 * 24 * hourUs,
  retrainUs: Number.POSITIVE_INFINITY,
  retentionUs: Number.POSITIVE_INFINITY,
  // Looks are the test's own.
  pollMs: 3_600_000,
  anyMetric: false,
  follows: () => false,
}

type Hear = (tenant: string, device: string) => Promise<void>

/** The role over a real store, real metadata and a real store of forecasts, all in one folder, so that it can be left and come back to. */
export class ForecastWorld {
  readonly fed = new FedStore({ dense: 6, sparse: 2, minutes: 60 }, noDevices)
  forecasts!: ForecastStore
  jobs!: Jobs
  role!: ForecastRole
  options: ForecastOptions
  readonly #erased: Hear[] = []
  #closers: (() => Promise<unknown>)[] = []

  constructor(options: Partial<ForecastOptions> = {}) {
    this.options = { ...usual, ...options }
  }

  static async open(t: TestContext, options: Partial<ForecastOptions> = {}): Promise<ForecastWorld> {
    const world = new ForecastWorld(options)
    await world.fed.open()
    await world.begin()
    t.after(async () => {
      await world.leave()
      await world.fed.end()
    })
    return world
  }

  /** `wrap`: what stands between the role and the store of forecasts. */
  async begin(wrap: (store: ForecastStore) => ForecastStore = (store) => store): Promise<void> {
    const { root } = this.fed
    const forecasts = openSqliteForecasts({ path: path.join(root, 'forecasts.sqlite'), env })
    const meta = await openSqliteMeta({ path: path.join(root, 'meta.sqlite'), env, thread: false })
    const jobs = await openJobs({ meta, env, dir: path.join(root, 'jobs'), reserveBytes: 0, script: 'none' })
    this.forecasts = wrap(forecasts)
    this.jobs = jobs
    const kept = { ...this.forecasts, onErase: (hear: Hear) => void this.#erased.push(hear) }
    const { store } = this.fed
    this.role = openForecastRole({ store, forecasts: kept, jobs, options: this.options, env, metrics: new Metrics(), tenants: () => [tenant] })
    this.#closers = [() => jobs.stop(), () => this.role.stop(), () => forecasts.close(), () => meta.close()]
    jobs.begin('http://127.0.0.1:1', this.role.runners)
  }

  /** As the server does when it is stopped. */
  async leave(): Promise<void> {
    for (const close of this.#closers.splice(0)) await close()
  }

  async again(wrap?: Parameters<ForecastWorld['begin']>[0]): Promise<void> {
    await this.leave()
    await this.begin(wrap)
  }

  /** Values at each step from `from` on; NaN is none. Each of them at some minutes past the hour. */
  async feed(values: ArrayLike<number>, o: { readonly device?: string; readonly metric?: string; readonly from?: number } = {}): Promise<void> {
    const { device = 'd1', metric = 'm', from = 0 } = o
    const rows = Array.from(values, (value, i) => ({ device, metric, timeUs: mondayUs + (from + i) * hourUs + 7 * 60e6, value })).filter(
      ({ value }) => !Number.isNaN(value),
    )
    for (let i = 0; i < rows.length; i += 2_000) {
      const some = rows.slice(i, i + 2_000)
      await this.fed.feed(some, some.at(-1)!.timeUs)
    }
  }

  /** Through the job, to its end. */
  async train(request: TrainRequest = { series: [{ device: 'd1', metric: 'm' }] }): Promise<Job> {
    return this.ended((await this.role.service.train(tenant, request)).id)
  }

  async ended(id: string): Promise<Job> {
    for (let i = 0; i < 6_000; i++) {
      const job = this.jobs.get(tenant, id)
      if (job === undefined) throw new Error('the job is gone')
      if (job.state !== 'waiting' && job.state !== 'running') return job
      await delay(10)
    }
    throw new Error('the job did not end')
  }

  /** All that is stored of a series, in order. */
  async predictions(device = 'd1', metric = 'm'): Promise<readonly Prediction[]> {
    return this.forecasts.predictions({ key: { tenant, device, metric }, fromUs: 0, toUs: 4e15, limit: 100_000 })
  }

  erase(device: string): Promise<unknown> {
    return Promise.all(this.#erased.map((hear) => hear(tenant, device)))
  }
}

/** The wave of `dailySeries`, and what it does later. */
export function hourly(steps: number, at: (i: number) => number): Float64Array {
  return Float64Array.from({ length: steps }, (_, i) => at(i))
}
