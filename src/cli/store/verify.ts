import { createHash } from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { createLogger, nodeEnv } from '../../core/env/node-env.ts'
import { asKymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import { compareRollups, type Compared } from '../../store/duckdb/compare.ts'
import { inspectHot } from '../../store/duckdb/inspect.ts'
import { fileOf } from '../../store/duckdb/sealed/format.ts'
import { kindsOf, type Manifest, type Run } from '../../store/duckdb/sealed/manifest.ts'
import { writeFile } from '../backup/files.ts'
import { count } from '../format.ts'
import type { StoreFile, StoreSource } from './source.ts'

/** One file that is not as it was written. */
export interface Damage {
  /** From the store's folder. */
  readonly file: string
  readonly kind: 'missing' | 'size' | 'content' | 'unreadable' | 'rollup'
  readonly detail: string
  /** What cannot be read any more, and what can. */
  readonly lost: string
}

export interface StoreReport {
  readonly ok: boolean
  readonly from: 'server' | 'directory'
  readonly files: number
  readonly bytes: number
  /** Sealed files without a fault, and hot files that could be read to their end. */
  readonly whole: number
  /** Absent: rollups were not compared; `not_compared` says why. */
  readonly compared?: { readonly series: number; readonly buckets: number }
  readonly not_compared?: string
  readonly damage: readonly Damage[]
}

/** Reads everything that a store is made of, by its checksums, and compares rollups of a sample with the readings. Changes nothing, deletes nothing. */
export async function verifyStore(
  source: StoreSource,
  o: { readonly signal: AbortSignal; readonly onBytes?: (done: number) => void; readonly sample?: number },
): Promise<StoreReport> {
  const damage: Damage[] = []
  const about = new Map(
    source.manifest.runs.flatMap((run) => kindsOf(run).map((kind) => [fileOf(run.partition, run.generation, kind), lostWith(run, kind)])),
  )
  let done = 0
  for (const file of source.files) {
    o.signal.throwIfAborted()
    const found = file.expected === undefined ? await hotFault(source, file, o.signal) : await sealedFault(source, file, o.signal)
    if (found !== undefined) damage.push({ file: file.path, ...found, lost: about.get(file.path) ?? lostWithHot(source.manifest, file.path) })
    o.onBytes?.((done += file.bytes))
  }
  const compared = damage.length > 0 ? 'files are damaged' : await compare(source, o)
  if (typeof compared !== 'string') damage.push(...mismatchesOf(compared))
  return {
    ok: damage.length === 0,
    from: source.from,
    files: source.files.length,
    bytes: source.files.reduce((sum, file) => sum + file.bytes, 0),
    whole: source.files.length - new Set(damage.map(({ file }) => file)).size,
    ...(typeof compared === 'string' ? { not_compared: compared } : { compared: { series: compared.series, buckets: compared.buckets } }),
    damage,
  }
}

type Fault = Pick<Damage, 'kind' | 'detail'>

async function sealedFault(source: StoreSource, file: StoreFile, signal: AbortSignal): Promise<Fault | undefined> {
  const { expected } = file
  const local = source.local(file.path)
  const size = local === undefined ? file.bytes : fs.statSync(local, { throwIfNoEntry: false })?.size
  if (size === undefined) return { kind: 'missing', detail: 'is missing' }
  if (size !== expected?.bytes) return { kind: 'size', detail: `has ${size} bytes instead of ${expected?.bytes}` }
  const hash = createHash('sha256')
  try {
    for await (const chunk of await source.stream(file)) {
      signal.throwIfAborted()
      hash.update(chunk)
    }
  } catch (thrown) {
    signal.throwIfAborted()
    if (local === undefined) throw thrown // the server, or the network
    return { kind: 'unreadable', detail: `cannot be read: ${asKymoError(thrown).message}` }
  }
  return hash.digest('hex') === expected.sha256 ? undefined : { kind: 'content', detail: 'has other content than when it was sealed' }
}

/** It has no checksum of its own as it is still written: the engine checks that of each block that it reads. */
async function hotFault(source: StoreSource, file: StoreFile, signal: AbortSignal): Promise<Fault | undefined> {
  if (file.path.endsWith('.wal')) return undefined // read with the file that it belongs to
  const local = source.local(file.path)
  if (local !== undefined && !fs.existsSync(local)) return { kind: 'missing', detail: 'is missing' }
  const scratch = local === undefined ? fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-verify-')) : undefined
  try {
    const at = local ?? path.join(scratch ?? '', path.basename(file.path))
    if (local === undefined) await writeFile(await source.stream(file), at, { signal })
    try {
      await inspectHot(at, true)
      return undefined
    } catch (thrown) {
      return { kind: 'unreadable', detail: `cannot be read: ${asKymoError(thrown).message}` }
    }
  } finally {
    if (scratch !== undefined) fs.rmSync(scratch, { recursive: true, force: true })
  }
}

async function compare(source: StoreSource, o: { readonly signal: AbortSignal; readonly sample?: number }): Promise<Compared | string> {
  const series = o.sample ?? limits.verifySampleSeries
  if (series === 0) return 'it was not asked for'
  const dir = source.copy()
  if (dir === undefined) return source.from === 'server' ? 'the server is on another machine' : 'the file system has no hard links, or no room'
  const env = nodeEnv(createLogger({ level: 'error', format: 'text' }))
  const compared = await compareRollups({ dir, env, tenant: 'default', series, hours: limits.verifySampleHours, signal: o.signal })
  return compared.failed === undefined ? compared : `the copy could not be asked: ${compared.failed}`
}

function mismatchesOf({ mismatches }: Compared): Damage[] {
  return mismatches.map(({ device, metric, bucketUs, detail }) => ({
    file: `${device}/${metric}`,
    kind: 'rollup',
    detail: `the hour of ${new Date(bucketUs / 1000).toISOString()} has ${detail} of its readings`,
    lost: 'No reading: aggregates of this hour are wrong.',
  }))
}

function lostWith(run: Run, kind: 'raw' | '1m' | '1h'): string {
  const file = run.files[kind]
  const span = file === undefined || file.toUs === 0 ? run.partition : `${shown(file.fromUs)} to ${shown(file.toUs)}`
  const rows = count((file?.rows ?? 0) + (file?.above ?? 0))
  const whole =
    kind === 'raw' ? (run.files['1h'] === undefined ? '' : ' Their rollups are in files of their own.') : ' The readings are in a file of their own.'
  return kind === 'raw' ? `${rows} readings, ${span}.${whole}` : `${rows} rollups of ${kind === '1m' ? 'minutes' : 'hours'}, ${span}.${whole}`
}

function lostWithHot(manifest: Manifest, name: string): string {
  const number = Number(/^hot-(\d+)/.exec(name)?.[1] ?? 0)
  return manifest.frozen.some(({ hot }) => hot === number)
    ? 'Readings that wait to be sealed: those that came until this file was closed, and after the sealed ones.'
    : 'The newest readings, series and how far the log is stored. What the log still has of them can be read again.'
}

function shown(us: number): string {
  return new Date(us / 1000).toISOString().replace(/\.000Z$/, 'Z')
}
