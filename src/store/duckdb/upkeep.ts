import fs from 'node:fs'
import path from 'node:path'
import type { Retention } from '../../core/config.ts'
import type { Env, Timer } from '../../core/env.ts'
import { asKymoError, KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { FileView, StoreFiles } from './files.ts'
import { expire, monthAfterUs, type Expiry } from './retention.ts'
import { isEmptyRun, type Job } from './sealed/jobs.ts'
import { removeFiles, syncFolder, writeManifest } from './sealed/manifest-file.ts'
import { filesOf, withMerged, withSealed, type Manifest, type Run } from './sealed/manifest.ts'
import { nextMerge } from './sealed/policy.ts'
import { runSealer } from './sealed/sealer.ts'

export interface UpkeepOptions {
  readonly dir: string
  readonly env: Env
  readonly files: StoreFiles
  /** Whether the hot file is large or old enough to be closed. */
  readonly rotationDue: () => boolean
  /** Begins the next hot file; false: queries left no gap. */
  readonly rotate: () => Promise<boolean>
  readonly retention: Retention
  /** Called before files of retention go: from then on nothing may be planned that needs them. */
  readonly expiring: (manifest: Manifest, expiries: readonly Expiry[]) => Promise<void>
  /** Detaches a hot file that is sealed. */
  readonly detach: (catalog: string) => Promise<void>
  /** For tests: the child kills itself after this step. */
  readonly exitAfter?: () => string | undefined
}

/** Looked at this often; after a failure later and later, up to the second number. */
const everyMs = 10_000
const afterFailureMs = 300_000

/**
 * What the store does for itself, one thing at a time: closes the hot file when it is due, has it sealed by a child process, and merges sealed
 * runs. Each step ends with a new manifest on disk, and files go only when nobody reads them any more; so it may be broken off anywhere.
 */
export class Upkeep {
  readonly #o: UpkeepOptions
  readonly #abort = new AbortController()
  #timer: Timer | undefined
  #running: Promise<void> = Promise.resolve()
  #failures = 0
  /** Whether it was told that retention.store_mb cannot be met. */
  #over = false

  constructor(o: UpkeepOptions) {
    this.#o = o
    this.#later(everyMs)
  }

  /** Does now what is due, and resolves when nothing is any more. For tests and for who closes; rejects with what went wrong. */
  run(): Promise<void> {
    const done = this.#running.then(() => this.#round())
    this.#running = done.catch(() => undefined)
    return done
  }

  /** Breaks off what is under way. */
  async close(): Promise<void> {
    this.#abort.abort()
    this.#timer?.cancel()
    await this.#running
  }

  #later(ms: number): void {
    this.#timer = this.#o.env.clock.after(ms, () => {
      void this.run()
        .then(() => (this.#failures = 0))
        .catch((thrown: unknown) => {
          if (this.#abort.signal.aborted) return
          this.#failures++
          const error = asKymoError(thrown)
          this.#o.env.logger.warn(`The store could not seal or merge: ${error.message}`, { code: error.code })
        })
        .finally(() => {
          if (!this.#abort.signal.aborted) this.#later(Math.min(afterFailureMs, everyMs * 2 ** Math.min(this.#failures, 10)))
        })
    })
  }

  async #round(): Promise<void> {
    const { files, env, rotationDue, rotate } = this.#o
    if (this.#abort.signal.aborted) return
    // First, and without a child: on a full disk nothing can be sealed until something has gone.
    await this.#expire()
    if (rotationDue()) await rotate()
    while (files.view.frozen.length > 0) await this.#seal()
    await this.#expire()
    const afterUs = monthAfterUs(this.#o.retention)
    for (
      let merge = nextMerge(files.view.manifest, env.clock.nowUs(), afterUs);
      merge !== undefined;
      merge = nextMerge(files.view.manifest, env.clock.nowUs(), afterUs)
    ) {
      this.#checkSpace()
      const generation = files.view.manifest.next
      const runs = await this.#child({ do: 'merge', dir: this.#o.dir, ...merge, generation, nowUs: env.clock.nowUs() })
      // The view of now: a snapshot may have closed a hot file meanwhile.
      const merged = withMerged(files.view.manifest, merge.inputs, runs[0]!)
      await this.#publish({ ...merged, runs: merged.runs.filter((run) => !isEmptyRun(run)) }, files.view.frozen)
    }
  }

  /** Retention. */
  async #expire(): Promise<void> {
    const { files, env, retention, expiring } = this.#o
    const { manifest, expiries, overBytes } = expire(files.view.manifest, retention, env.clock.nowUs())
    if (overBytes > 0 && !this.#over)
      env.logger.warn('The store has more than retention.store_mb, and what may go has gone.', { overBytes: Math.round(overBytes) })
    this.#over = overBytes > 0
    if (expiries.length === 0) return
    await expiring(manifest, expiries)
    // The view of now: a snapshot may have closed a hot file meanwhile. Runs change nowhere else.
    const { runs, expired } = manifest
    await this.#publish({ ...files.view.manifest, runs, ...(expired === undefined ? {} : { expired }) }, files.view.frozen)
    for (const { kind, reason, files: count, bytes, beforeUs } of expiries)
      env.logger.info(`retention has removed ${kind === 'raw' ? 'readings' : `rollups of ${kind}`}`, {
        reason,
        files: count,
        bytes,
        before: new Date(beforeUs / 1000).toISOString().slice(0, 10),
      })
  }

  async #seal(): Promise<void> {
    const { files, env, dir, detach } = this.#o
    this.#checkSpace()
    const { manifest, frozen } = files.view
    const [first] = frozen
    const existing = [...new Set(manifest.runs.map((run) => run.partition))]
    const runs = await this.#child({ do: 'seal', dir, hot: first!.hot, generation: manifest.next, nowUs: env.clock.nowUs(), existing })
    // The view of now: a snapshot may have closed another hot file meanwhile.
    await this.#publish(
      withSealed(
        files.view.manifest,
        first!.hot,
        runs.filter((run) => !isEmptyRun(run)),
      ),
      files.view.frozen.slice(1),
    )
    await detach(first!.catalog)
    for (const end of ['', '.wal']) fs.rmSync(path.join(dir, `hot-${first!.hot}.duckdb${end}`), { force: true })
    syncFolder(dir)
  }

  async #child(job: Job): Promise<readonly Run[]> {
    const exitAfter = this.#o.exitAfter?.()
    const { runs, peakBytes, cpuMs } = await runSealer(job, { signal: this.#abort.signal, ...(exitAfter === undefined ? {} : { exitAfter }) })
    this.#o.env.logger.debug(job.do === 'seal' ? `hot file ${job.hot} is sealed` : `runs of ${job.partition} are merged`, { peakBytes, cpuMs })
    return runs
  }

  /** Writes the manifest down, reads by it from now on, and deletes the files that it has lost once nobody reads them. */
  async #publish(manifest: Manifest, frozen: FileView['frozen']): Promise<void> {
    const { dir, files } = this.#o
    const kept = filesOf(manifest)
    const gone = [...filesOf(files.view.manifest).keys()].filter((name) => !kept.has(name))
    writeManifest(dir, manifest)
    await files.replace({ manifest, frozen }, gone)
    removeFiles(dir, gone)
  }

  /** What a child writes must not take the room that commits need. */
  #checkSpace(): void {
    const { dir, env } = this.#o
    const free = env.disk.freeBytes(dir)
    const wanted = 2 * limits.diskReserveBytes
    if (free < wanted) throw new KymoError('disk_full', { detail: `${dir} has ${free} bytes free; sealing waits for ${wanted}.`, retryAfterS: 60 })
  }
}
