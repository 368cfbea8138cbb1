import fs from 'node:fs'
import path from 'node:path'
import type { Retention } from '../../core/config.ts'
import type { Env, Timer } from '../../core/env.ts'
import { asKymoError, KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { FileView, StoreFiles } from './files.ts'
import type { ErasedSeries } from './ledger.ts'
import { bytesOf, expire, monthAfterUs, type Expiry } from './retention.ts'
import { dropAll, droppedOf, type Drop } from './sealed/drop.ts'
import { isEmptyRun, type Job } from './sealed/jobs.ts'
import type { Kind } from './sealed/format.ts'
import { rangeOf } from './sealed/partition.ts'
import { removeFiles, syncFolder, writeManifest } from './sealed/manifest-file.ts'
import { filesOf, kindsOf, mayFold, nameOf, withMerged, withSealed, type Manifest, type Run } from './sealed/manifest.ts'
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
  /** Series that were erased, and of which files may have rows. */
  readonly erased: () => readonly ErasedSeries[]
  /** No file has these any more. */
  readonly purged: (ids: readonly number[]) => Promise<void>
  /** What goes by rules of retention now, and the version of the rules. */
  readonly thin: () => { readonly drops: readonly Drop[]; readonly version: number }
  /** Called before it goes: from then on nothing may be planned that needs it. */
  readonly thinning: (drops: readonly Drop[]) => Promise<void>
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
  /** Of each file of runs, for which rules (and what version of them) it was looked through: it holds nothing of theirs. */
  readonly #thinned = new Map<string, string>()
  /** Rules of retention: files that are due and not looked through yet; bytes that files have lost to them since the start. */
  readonly ruled = { dueFiles: 0, bytes: 0 }
  /** As they are for this round: what goes was told before. */
  #rules: ReturnType<UpkeepOptions['thin']> = { drops: [], version: 0 }

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
    this.#rules = this.#o.thin()
    if (this.#rules.drops.length > 0) await this.#o.thinning(this.#rules.drops)
    if (rotationDue()) await rotate()
    while (files.view.frozen.length > 0) await this.#seal()
    await this.#expire()
    await this.#purge()
    await this.#thin()
    const afterUs = monthAfterUs(this.#o.retention)
    for (
      let merge = nextMerge(files.view.manifest, env.clock.nowUs(), afterUs);
      merge !== undefined;
      merge = nextMerge(files.view.manifest, env.clock.nowUs(), afterUs)
    ) {
      this.#checkSpace()
      const generation = files.view.manifest.next
      const runs = await this.#child({ do: 'merge', dir: this.#o.dir, ...merge, generation, nowUs: env.clock.nowUs(), drop: this.#drops() })
      // The view of now: a snapshot may have closed a hot file meanwhile.
      const merged = withMerged(files.view.manifest, merge.inputs, runs[0]!)
      await this.#publish({ ...merged, runs: merged.runs.filter((run) => !isEmptyRun(run)) }, files.view.frozen)
    }
  }

  /**
   * Writes each run that has rows of erased series again, without them. Hot files that may have such rows are sealed by then, but when queries have left
   * no gap for closing the last one: then it waits for the next round. Broken off anywhere, it looks again for what is left.
   */
  async #purge(): Promise<void> {
    const { files, dir, erased, purged } = this.#o
    const ids = erased()
      .filter((one) => one.hot <= files.view.manifest.sealedTo)
      .map((one) => one.series)
    if (ids.length === 0) return
    const drop = [dropAll(ids)]
    for (const run of await this.#child({ do: 'find', dir, inputs: files.view.manifest.runs, drop })) await this.#rewrite(run, drop)
    await purged(ids)
  }

  /**
   * Rules of retention: a run that is old enough for one is looked through once, and written again if it has series of that rule. What was found is
   * remembered until the next start; series that came later are not in it.
   */
  async #thin(): Promise<void> {
    const { files, dir } = this.#o
    const { drops, version } = this.#rules
    const said = (run: Run, kind: Kind): string => {
      const { toUs } = rangeOf(run.partition)
      return `${version} ${drops.flatMap(({ beforeUs }, i) => (toUs <= (beforeUs[kind] ?? 0) ? [i] : [])).join(' ')}`
    }
    const name = (run: Run, kind: Kind): string => `${nameOf(run)}/${kind}`
    const { runs } = files.view.manifest
    const isDue = (run: Run, kind: Kind): boolean => droppedOf(drops, run.partition, kind).length > 0
    const looked = runs.filter((run) => kindsOf(run).some((kind) => isDue(run, kind) && this.#thinned.get(name(run, kind)) !== said(run, kind)))
    this.ruled.dueFiles = looked.length
    if (looked.length === 0) return
    const found = await this.#child({ do: 'find', dir, inputs: looked, drop: drops })
    this.ruled.dueFiles = found.length
    const holding = new Set(found.map(nameOf))
    const clean = looked.filter((run) => !holding.has(nameOf(run)))
    for (const run of found) {
      const written = await this.#rewrite(run, this.#drops())
      clean.push(written)
      this.ruled.dueFiles--
      this.ruled.bytes += bytesOf({ runs: [run] }) - bytesOf({ runs: [written] })
    }
    for (const run of clean) for (const kind of kindsOf(run)) this.#thinned.set(name(run, kind), said(run, kind))
    const kept = new Set(files.view.manifest.runs.flatMap((run) => kindsOf(run).map((kind) => name(run, kind))))
    for (const known of this.#thinned.keys()) if (!kept.has(known)) this.#thinned.delete(known)
    if (found.length > 0) this.#o.env.logger.info('retention has removed what its rules name', { runs: found.length })
  }

  /** A run again, without what is to be dropped. */
  async #rewrite(run: Run, drop: readonly Drop[]): Promise<Run> {
    const { files, dir, env } = this.#o
    this.#checkSpace()
    const { manifest } = files.view
    const fold = mayFold(manifest, run.partition, [run], run.covers)
    const job = {
      do: 'merge',
      dir,
      partition: run.partition,
      inputs: [run],
      generation: manifest.next,
      nowUs: env.clock.nowUs(),
      fold,
      drop,
    } as const
    const runs = await this.#child(job)
    // The view of now: a snapshot may have closed a hot file meanwhile.
    const merged = withMerged(files.view.manifest, [run], runs[0]!)
    await this.#publish({ ...merged, runs: merged.runs.filter((one) => !isEmptyRun(one)) }, files.view.frozen)
    return runs[0]!
  }

  /** What no file that is written now may have. */
  #drops(): Drop[] {
    return [dropAll(this.#o.erased().map((one) => one.series)), ...this.#rules.drops]
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
    const runs = await this.#child({
      do: 'seal',
      dir,
      hot: first!.hot,
      generation: manifest.next,
      nowUs: env.clock.nowUs(),
      existing,
      drop: this.#drops(),
    })
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
    this.#o.env.logger.debug(saidOf(job), { peakBytes, cpuMs, bytes: job.do === 'find' ? 0 : bytesOf({ runs }) })
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

function saidOf(job: Job): string {
  if (job.do === 'find') return 'runs were searched for what is to go'
  return job.do === 'seal' ? `hot file ${job.hot} is sealed` : `runs of ${job.partition} are merged`
}
