import { randomBytes } from 'node:crypto'
import path from 'node:path'
import type { Env, Timer } from '../../core/env.ts'
import { asKymoError, KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { MetaStore } from '../../core/ports.ts'
import type { Job, JobFile, JobKind, JobService, JobState, Page, Principal } from '../../core/services.ts'
import { bodyName, commandOf, isCommand, jobFiles, resultName, type CommandKind } from './arguments.ts'
import { jobId, jobOf, type StoredJob } from './stored.ts'
import type { InnerRunner, OnEvent, Running } from './runner.ts'
import { failedAtOnce, runCommand } from './runner.ts'
import { Spool } from './spool.ts'

const savedEveryMs = 5_000
const watchEveryMs = 1_000
const sweepEveryMs = 3_600_000
/** A job that brought its process down so often is not begun again. */
const attemptsMax = 5

export interface JobsOptions {
  readonly meta: MetaStore
  readonly env: Env
  /** For the files of jobs. */
  readonly dir: string
  /** Disk space that the log keeps free. */
  readonly reserveBytes: number
  /** The script that runs a command line of this program. */
  readonly script: string
  readonly spoolBytesMax?: number
  /** Of the metadata: of those that several processes share, each has the jobs of its own data directory. */
  readonly collection?: string
  /** Why imports and exports are refused; absent: they are not. */
  readonly noCommands?: KymoError
}

/** Jobs that a role of this process does. */
export type InnerKind = Exclude<JobKind, CommandKind>
export type InnerRunners = Readonly<Record<InnerKind, InnerRunner>>

export interface Jobs extends JobService {
  /** Rejects as `createExport` does. */
  createInner(tenant: string, kind: InnerKind, parameters: Readonly<Record<string, unknown>>): Promise<Job>
  /** Runs what waits; `url` is this server's. Before, jobs are taken and wait. `runners` absent: this process does not have their role. */
  begin(url: string, runners?: InnerRunners): void
  /** Whom a running job acts for: its token is known to nobody else and lives as long as it runs. */
  verify(token: string): Principal | undefined
  /** Ends what runs; it goes on after the next start. */
  stop(): Promise<void>
}

/** Opens the jobs of a data directory. What ran when the server ended goes on: imports where they were, exports from their beginning. */
export async function openJobs(o: JobsOptions): Promise<Jobs> {
  const jobs = new MetaJobs(o)
  await jobs.load()
  return jobs
}

interface Active {
  readonly running: Running
  /** Of a command line. */
  readonly token?: string
  /** Whose work a role does. */
  readonly inner: boolean
  why?: 'cancelled' | 'stopped' | KymoError
  /** Resolves when its end is kept. */
  kept?: Promise<void>
}

class MetaJobs implements Jobs {
  readonly #o: JobsOptions
  readonly #spool: Spool
  /** By id, which sorts by time of creation. */
  readonly #jobs = new Map<string, StoredJob>()
  readonly #active = new Map<string, Active>()
  readonly #principals = new Map<string, Principal>()
  readonly #ends = new Set<Promise<void>>()
  #uploads = 0
  #url: string | undefined
  #runners: InnerRunners | undefined
  #watch: Timer | undefined
  #sweep: Timer | undefined
  #stopped = false

  readonly #collection: string

  constructor(o: JobsOptions) {
    this.#o = o
    this.#collection = o.collection ?? 'jobs'
    this.#spool = new Spool({ dir: o.dir, disk: o.env.disk, reserveBytes: o.reserveBytes, bytesMax: o.spoolBytesMax ?? limits.jobSpoolBytesMax })
  }

  async load(): Promise<void> {
    for (let after: string | undefined; ;) {
      const rows = await this.#o.meta.list(this.#collection, '', { limit: limits.jobsKeptMax, ...(after === undefined ? {} : { after }) })
      for (const { doc } of rows) {
        const stored = jobOf(doc)
        if (stored !== undefined) this.#jobs.set(stored.job.id, stored)
      }
      after = rows.at(-1)?.doc.id
      if (after === undefined || rows.length < limits.jobsKeptMax) break
    }
    // Each is replaced at most in its place.
    for (const { tenant, job } of this.#jobs.values()) {
      this.#missing(tenant, job)
      const waits = job.state === 'waiting' || job.state === 'running'
      if (waits && job.kind === 'import' && this.#spool.sizeOf(job.id, bodyName(job.parameters)) === undefined) {
        const error = {
          code: 'job_file_gone',
          detail: 'Its upload is not there, as after a restore: backups do not hold files of jobs. Send it again.',
        }
        await this.#put({ tenant, job: { ...job, state: 'failed', finished_us: this.#o.env.clock.nowUs(), error } })
        continue
      }
      if (job.state !== 'running') continue
      const tooOften = job.attempts >= attemptsMax
      await this.#put({
        tenant,
        job: tooOften
          ? { ...job, state: 'failed', error: { code: 'bug', detail: `It was begun ${job.attempts} times and brought to no end.` } }
          : { ...job, state: 'waiting' },
      })
    }
    await this.#spool.sweep((id) => this.#jobs.has(id))
    await this.#forget()
    this.#sweepLater()
  }

  /** Takes note of files that a job says it has and that are not there. */
  #missing(tenant: string, job: Job): void {
    const name: Record<JobFile, string> = { result: resultName(job.kind, job.parameters), rejects: jobFiles.rejects }
    const gone = (['result', 'rejects'] as const).filter(
      (file) => job.files[file] !== undefined && this.#spool.sizeOf(job.id, name[file]) === undefined,
    )
    if (gone.length > 0) this.#jobs.set(job.id, { tenant, job: { ...job, gone } })
  }

  begin(url: string, runners?: InnerRunners): void {
    this.#runners = runners
    this.#url = url.replace('//0.0.0.0:', '//127.0.0.1:').replace('//[::]:', '//[::1]:')
    this.#next()
  }

  verify(token: string): Principal | undefined {
    return this.#principals.get(token)
  }

  async createImport(tenant: string, parameters: Readonly<Record<string, unknown>>, body: AsyncIterable<Uint8Array>): Promise<Job> {
    if (this.#o.noCommands !== undefined) throw this.#o.noCommands
    this.#room()
    const id = jobId(this.#o.env)
    this.#uploads++
    try {
      const bytes = await this.#spool.take(id, bodyName(parameters), body)
      if (bytes === 0) throw new KymoError('empty_body')
      return await this.#add(tenant, id, 'import', parameters)
    } catch (thrown) {
      await this.#spool.remove(id)
      throw thrown
    } finally {
      this.#uploads--
    }
  }

  async createExport(tenant: string, parameters: Readonly<Record<string, unknown>>): Promise<Job> {
    if (this.#o.noCommands !== undefined) throw this.#o.noCommands
    return this.#create(tenant, 'export', parameters)
  }

  createInner(tenant: string, kind: InnerKind, parameters: Readonly<Record<string, unknown>>): Promise<Job> {
    return this.#create(tenant, kind, parameters)
  }

  async #create(tenant: string, kind: JobKind, parameters: Readonly<Record<string, unknown>>): Promise<Job> {
    this.#room()
    const full = await this.#spool.full()
    if (full !== undefined) throw full
    return this.#add(tenant, jobId(this.#o.env), kind, parameters)
  }

  list(tenant: string, o: { readonly after?: string; readonly limit: number; readonly kind?: JobKind; readonly state?: JobState }): Page<Job> {
    const items: Job[] = []
    for (const id of [...this.#jobs.keys()].sort().reverse()) {
      const stored = this.#jobs.get(id)
      if (stored === undefined || stored.tenant !== tenant || (o.after !== undefined && id >= o.after)) continue
      if ((o.kind !== undefined && stored.job.kind !== o.kind) || (o.state !== undefined && stored.job.state !== o.state)) continue
      if (items.length === o.limit) return { items, next: items.at(-1)!.id }
      items.push(stored.job)
    }
    return { items }
  }

  get(tenant: string, id: string): Job | undefined {
    const stored = this.#jobs.get(id)
    return stored?.tenant === tenant ? stored.job : undefined
  }

  async cancel(tenant: string, id: string): Promise<Job | undefined> {
    const job = this.get(tenant, id)
    if (job === undefined) return undefined
    const active = this.#active.get(id)
    if (active !== undefined) {
      active.why ??= 'cancelled'
      active.running.stop()
      await active.kept
    } else if (job.state === 'waiting') {
      await this.#put({ tenant, job: { ...job, state: 'cancelled', finished_us: this.#o.env.clock.nowUs() } })
      await this.#spool.remove(id)
    } else {
      await this.#remove(id)
      return job
    }
    return this.get(tenant, id)
  }

  file(tenant: string, id: string, file: JobFile): { readonly path: string; readonly bytes: number } | undefined {
    const job = this.get(tenant, id)
    if (job?.files[file] === undefined) return undefined
    const name = file === 'rejects' ? jobFiles.rejects : resultName(job.kind, job.parameters)
    const bytes = this.#spool.sizeOf(id, name)
    return bytes === undefined ? undefined : { path: path.join(this.#spool.folder(id), name), bytes }
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#watch?.cancel()
    this.#sweep?.cancel()
    for (const active of this.#active.values()) {
      active.why ??= 'stopped'
      active.running.stop()
    }
    await Promise.all(this.#ends)
  }

  #room(): void {
    if (this.#stopped) throw new KymoError('shutting_down')
    const waiting = [...this.#jobs.values()].filter(({ job }) => job.state === 'waiting').length
    if (waiting + this.#uploads >= limits.jobsWaitingMax) {
      throw new KymoError('overloaded', { detail: `${waiting} jobs wait already, which is the limit.`, retryAfterS: 30 })
    }
  }

  async #add(tenant: string, id: string, kind: JobKind, parameters: Readonly<Record<string, unknown>>): Promise<Job> {
    const job: Job = { id, kind, state: 'waiting', parameters, created_us: this.#o.env.clock.nowUs(), attempts: 0, progress: {}, files: {} }
    await this.#put({ tenant, job })
    this.#next()
    return this.get(tenant, id) ?? job
  }

  async #put(stored: StoredJob): Promise<void> {
    const { job, tenant } = stored
    this.#jobs.set(job.id, stored)
    await this.#o.meta.write([{ op: 'put', collection: this.#collection, tenant: '', doc: { ...job, tenant } }])
  }

  async #remove(id: string): Promise<void> {
    this.#jobs.delete(id)
    await this.#o.meta.write([{ op: 'delete', collection: this.#collection, tenant: '', id }])
    await this.#spool.remove(id)
  }

  /** Begins what waits, oldest first, as long as there is room. */
  #next(): void {
    if (this.#url === undefined || this.#stopped) return
    for (const id of [...this.#jobs.keys()].sort()) {
      const stored = this.#jobs.get(id)
      if (stored?.job.state !== 'waiting' || this.#active.has(id)) continue
      const inner = !isCommand(stored.job.kind)
      const alike = [...this.#active.values()].filter((one) => one.inner === inner).length
      // What roles do goes one after the other, and holds up no import.
      if (alike < (inner ? 1 : limits.jobsRunningMax)) this.#run(stored, this.#url)
    }
  }

  #run({ tenant, job }: StoredJob, url: string): void {
    const { env } = this.#o
    const started: StoredJob = { tenant, job: { ...job, state: 'running', attempts: job.attempts + 1, started_us: env.clock.nowUs() } }
    this.#jobs.set(job.id, started)
    const active = this.#start({ tenant, job }, url, this.#hears(tenant, job.id))
    this.#active.set(job.id, active)
    this.#watchSpool()
    const end: Promise<void> = this.#finish(started, active)
      .catch((thrown: unknown) => env.logger.error('the end of a job was not kept', { job: job.id, error: asKymoError(thrown).message }))
      .finally(() => {
        this.#ends.delete(end)
        this.#next()
      })
    active.kept = end
    this.#ends.add(end)
  }

  #start({ tenant, job }: StoredJob, url: string, onEvent: OnEvent): Active {
    const { id, kind, parameters } = job
    if (!isCommand(kind)) {
      const detail = 'The process that has the data of this job was started without the role forecast.'
      const running = this.#runners?.[kind]({ id, tenant, parameters, dir: this.#spool.make(id) }, onEvent) ?? failedAtOnce('other_role', detail)
      return { running, inner: true }
    }
    const token = `job_${randomBytes(32).toString('base64url')}`
    this.#principals.set(token, { tenant, id: `job:${id}`, scopes: new Set(kind === 'import' ? ['ingest'] : ['read']) })
    const args = commandOf(kind, this.#spool.make(id), parameters, url)
    return { running: runCommand({ script: this.#o.script, args, token, onEvent }), token, inner: false }
  }

  /** Takes what a job tells into its progress, and keeps it now and then. */
  #hears(tenant: string, id: string): OnEvent {
    const { env } = this.#o
    let savedMs = env.clock.monotonicMs()
    return ({ event: _, file: __, ...progress }) => {
      const now = this.#jobs.get(id)
      if (now === undefined) return
      const next: StoredJob = { tenant, job: { ...now.job, progress: { ...now.job.progress, ...progress } } }
      this.#jobs.set(id, next)
      if (env.clock.monotonicMs() - savedMs < savedEveryMs) return
      savedMs = env.clock.monotonicMs()
      this.#put(next).catch((thrown: unknown) => env.logger.warn('progress of a job was not kept', { job: id, error: asKymoError(thrown).message }))
    }
  }

  async #finish({ tenant, job: { id, kind, parameters } }: StoredJob, active: Active): Promise<void> {
    const { env } = this.#o
    const started = this.#jobs.get(id)!
    try {
      // Its state is durable before anything is done: a restart finds it running.
      await this.#put(started)
    } catch (thrown) {
      active.why = asKymoError(thrown)
      active.running.kill()
    }
    const { code, signal, last, error } = await active.running.ended
    this.#active.delete(id)
    if (active.token !== undefined) this.#principals.delete(active.token)
    const now = this.#jobs.get(id)?.job ?? started.job
    if (active.why === 'stopped' && last?.['event'] !== 'done') return
    const ended = { ...now, finished_us: env.clock.nowUs() }
    const done = last?.['event'] === 'done' && error === undefined
    let job: Job
    if (done) {
      const result = this.#spool.sizeOf(id, resultName(kind, parameters))
      const rejects = kind === 'import' ? this.#spool.sizeOf(id, jobFiles.rejects) : undefined
      job = {
        ...ended,
        state: 'done',
        files: { ...(result === undefined ? {} : { result }), ...(rejects === undefined || rejects === 0 ? {} : { rejects }) },
      }
    } else if (active.why === 'cancelled') job = { ...ended, state: 'cancelled' }
    else if (active.why instanceof KymoError) job = { ...ended, state: 'failed', error: { code: active.why.code, detail: active.why.message } }
    else if (error !== undefined) {
      // Where the files of jobs lie is no business of who asks.
      job = { ...ended, state: 'failed', error: { ...error, detail: error.detail.replaceAll(`${this.#spool.folder(id)}${path.sep}`, '') } }
    } else job = { ...ended, state: 'failed', error: { code: 'bug', detail: `Its process ended with ${signal ?? `exit code ${code}`}.` } }
    if (kind === 'import') await this.#spool.remove(path.join(id, 'body'))
    if (job.state !== 'done') await this.#spool.remove(id)
    await this.#put({ tenant, job })
    await this.#forget()
  }

  /** While jobs run: what they write must not fill the disk that the log needs. */
  #watchSpool(): void {
    this.#watch?.cancel()
    if (this.#active.size === 0 || this.#stopped) return
    this.#watch = this.#o.env.clock.after(watchEveryMs, () => {
      this.#checkSpool()
        .catch((thrown: unknown) => this.#o.env.logger.warn('the files of jobs were not measured', { error: asKymoError(thrown).message }))
        .finally(() => this.#watchSpool())
    })
  }

  async #checkSpool(): Promise<void> {
    const full = await this.#spool.full()
    if (full === undefined) return
    for (const [id, active] of this.#active) {
      const kind = this.#jobs.get(id)?.job.kind
      if (kind !== 'export' && kind !== 'backtest') continue
      active.why ??= full
      active.running.stop()
    }
  }

  #sweepLater(): void {
    this.#sweep = this.#o.env.clock.after(sweepEveryMs, () => {
      this.#forget().catch((thrown: unknown) => this.#o.env.logger.warn('old jobs were not removed', { error: asKymoError(thrown).message }))
      this.#sweepLater()
    })
  }

  /** Jobs that ended long ago, and the oldest of too many. */
  async #forget(): Promise<void> {
    const ended = [...this.#jobs.values()]
      .filter(({ job }) => job.state !== 'waiting' && job.state !== 'running')
      .sort((a, b) => (a.job.id < b.job.id ? -1 : 1))
    const oldest = this.#o.env.clock.nowUs() - limits.jobAgeMaxUs
    const tooMany = Math.max(0, this.#jobs.size - limits.jobsKeptMax)
    for (const [i, { job }] of ended.entries()) if (i < tooMany || (job.finished_us ?? job.created_us) < oldest) await this.#remove(job.id)
  }
}
