import { KymoError } from '../../../core/errors.ts'
import { checkSealedFormat, fileOf, kinds, sealedFormat, type Kind } from './format.ts'
import { contains, overlaps, rangeOf, type Partition } from './partition.ts'

/** One file of a run. Times are those of its rows (of rollups: of bucket starts), in microseconds; both 0 when it has none. */
export interface RunFile {
  readonly bytes: number
  readonly sha256: string
  /** Base rows: readings, or rollup rows that are no corrections. */
  readonly rows: number
  /** Rows that count above those of this run and of others: in `late`, or in `corrected`. */
  readonly above: number
  readonly texts: number
  readonly fromUs: number
  readonly toUs: number
}

/** What one sealing or merge wrote for one partition. */
export interface Run {
  readonly partition: Partition
  /** Unique within the manifest, and part of the files' names. */
  readonly generation: number
  /** Numbers of the hot files whose rows are in it, ascending. */
  readonly covers: readonly number[]
  readonly files: Readonly<Partial<Record<Kind, RunFile>>>
  /** Its file of hours has the bins of all its base rows, and of its corrections. Absent: it was written before there were sketches. */
  readonly sketched?: true
}

/** A hot file that is no longer written and not sealed yet. */
export interface Frozen {
  /** Its number: `hot-<n>.duckdb`. */
  readonly hot: number
}

export interface Manifest {
  readonly format: typeof sealedFormat
  /** The generation of the next run; it never goes back. */
  readonly next: number
  /** Hot files up to this number are sealed. */
  readonly sealedTo: number
  readonly runs: readonly Run[]
  /** Oldest first; they are sealed in this order. */
  readonly frozen: readonly Frozen[]
  /** Retention has removed files of this kind that end before; microseconds. What is older is not complete, so nothing is computed from it. */
  readonly expired?: Readonly<Partial<Record<Kind, number>>>
}

export const emptyManifest: Manifest = { format: sealedFormat, next: 1, sealedTo: 0, runs: [], frozen: [] }

/** A rotation: the hot file `hot` is written no longer. */
export function withFrozen(manifest: Manifest, hot: number): Manifest {
  const before = manifest.frozen.at(-1)?.hot ?? manifest.sealedTo
  if (before >= hot) throw new KymoError('bug', { detail: `Hot file ${hot} was frozen after ${before}.` })
  return { ...manifest, frozen: [...manifest.frozen, { hot }] }
}

/** The hot file was sealed into these runs (of one generation, `manifest.next`); it may be deleted once this is on disk. */
export function withSealed(manifest: Manifest, hot: number, runs: readonly Run[]): Manifest {
  if (manifest.frozen[0]?.hot !== hot) throw new KymoError('bug', { detail: `Hot file ${hot} is not the oldest that waits to be sealed.` })
  return { ...manifest, next: manifest.next + 1, sealedTo: hot, runs: inOrder([...manifest.runs, ...runs]), frozen: manifest.frozen.slice(1) }
}

/** These generations were merged into `run` (of generation `manifest.next`); their files may be deleted once this is on disk. */
export function withMerged(manifest: Manifest, inputs: readonly Run[], run: Run): Manifest {
  const gone = new Set(inputs.map(nameOf))
  const kept = manifest.runs.filter((one) => !gone.has(nameOf(one)))
  if (kept.length !== manifest.runs.length - inputs.length) throw new KymoError('bug', { detail: 'A merged run is not in the manifest.' })
  return { ...manifest, next: manifest.next + 1, runs: inOrder([...kept, run]) }
}

/** Without the files that `drop` names; a run without files is no more. Their files may be deleted once this is on disk. */
export function withoutFiles(manifest: Manifest, drop: (run: Run, kind: Kind) => boolean): Manifest {
  const runs = manifest.runs
    .map((run) => ({ ...run, files: Object.fromEntries(kindsOf(run).flatMap((kind) => (drop(run, kind) ? [] : [[kind, run.files[kind]]]))) }))
    .filter((run) => Object.keys(run.files).length > 0)
  return { ...manifest, runs }
}

/** Retention by age: whether all that this file can hold is before `beforeUs`. */
export function endsBefore(run: Run, beforeUs: number): boolean {
  return rangeOf(run.partition).toUs <= beforeUs
}

export function nameOf(run: Run): string {
  return `${run.partition}/${run.generation}`
}

export function kindsOf(run: Run): Kind[] {
  return kinds.filter((kind) => run.files[kind] !== undefined)
}

/** Runs that may have rows of [fromUs, toUs) in files of this kind, oldest partition first, then by generation. */
export function runsIn(manifest: Manifest, kind: Kind, fromUs: number, toUs: number): Run[] {
  return manifest.runs.filter((run) => {
    const file = run.files[kind]
    return file !== undefined && file.fromUs < toUs && file.toUs >= fromUs
  })
}

/**
 * Whether a run made of `covers` in `partition` may put its late rows in the place of its base rows. It may when nothing outside
 * that overlaps the partition is older than its newest part: otherwise a late row might be meant for a base row that stands there.
 */
export function mayFold(manifest: Manifest, partition: Partition, inputs: readonly Run[], covers: readonly number[]): boolean {
  const range = rangeOf(partition)
  const inside = new Set(inputs.map(nameOf))
  const newest = Math.max(...covers)
  return manifest.runs.every((run) => inside.has(nameOf(run)) || !overlaps(rangeOf(run.partition), range) || run.covers[0]! > newest)
}

/** The runs whose partition lies within this one. */
export function runsOf(manifest: Manifest, partition: Partition): Run[] {
  const range = rangeOf(partition)
  return manifest.runs.filter((run) => contains(range, rangeOf(run.partition)))
}

/** Paths from the store's folder. */
export function filesOf(manifest: Manifest): Map<string, RunFile> {
  return new Map(manifest.runs.flatMap((run) => kindsOf(run).map((kind) => [fileOf(run.partition, run.generation, kind), run.files[kind]!] as const)))
}

function inOrder(runs: readonly Run[]): Run[] {
  return runs.toSorted((a, b) => (a.partition < b.partition ? -1 : a.partition > b.partition ? 1 : a.generation - b.generation))
}

/** Reads the text of a manifest. Throws `store_format` for a newer one and `store_corrupt` for what is none; `file` is for the message. */
export function parseManifest(text: string, file: string): Manifest {
  const corrupt = (what: string): KymoError =>
    new KymoError('store_corrupt', {
      detail: `${file}: ${what} Restore it from a backup; without it the sealed files are not used.`,
      facts: { file },
    })
  let document: unknown
  try {
    document = JSON.parse(text)
  } catch {
    throw corrupt('this is not JSON.')
  }
  if (!isRecord(document)) throw corrupt('this is no manifest.')
  if (typeof document['format'] === 'number') checkSealedFormat(document['format'], file)
  const { next, sealedTo, runs, frozen, expired } = document
  if (document['format'] !== sealedFormat || !isCount(next) || !isCount(sealedTo) || !Array.isArray(runs) || !Array.isArray(frozen))
    throw corrupt('a field is missing.')
  for (const run of runs) if (!isRun(run)) throw corrupt(`a run is not understood: ${JSON.stringify(run).slice(0, 200)}.`)
  for (const one of frozen) if (!isRecord(one) || !isCount(one['hot'])) throw corrupt('a frozen file is not understood.')
  if (expired !== undefined && !isExpired(expired)) throw corrupt('what has expired is not understood.')
  return {
    format: sealedFormat,
    next,
    sealedTo,
    runs: runs.filter(isRun),
    frozen: frozen.map((one: { hot: number }) => ({ hot: one.hot })),
    ...(expired === undefined ? {} : { expired }),
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

function isExpired(value: unknown): value is Partial<Record<Kind, number>> {
  return isRecord(value) && Object.entries(value).every(([kind, us]) => kinds.some((one) => one === kind) && isCount(us))
}

function isRunFile(value: unknown): value is RunFile {
  if (!isRecord(value) || typeof value['sha256'] !== 'string') return false
  return ['bytes', 'rows', 'above', 'texts', 'fromUs', 'toUs'].every((key) => isCount(value[key]))
}

export function isRun(value: unknown): value is Run {
  if (!isRecord(value) || !isCount(value['generation']) || typeof value['partition'] !== 'string') return false
  const { covers, files, sketched } = value
  if (sketched !== undefined && sketched !== true) return false
  if (!Array.isArray(covers) || covers.length === 0 || !covers.every(isCount) || !isRecord(files)) return false
  try {
    rangeOf(value['partition'])
  } catch {
    return false
  }
  return Object.entries(files).every(([kind, file]) => kinds.some((one) => one === kind) && isRunFile(file))
}
