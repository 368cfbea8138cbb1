import { integers } from '../sql.ts'
import type { Attached } from './attachments.ts'
import { fileOf, type Kind, type RollupKind } from './format.ts'
import { runsIn, type Manifest, type Run } from './manifest.ts'
import { correctedOf, lateOf, rollupsOf, rowsOfFew, rowsOfMany, textsOf, type Between } from './scan.ts'

/** What sealed files have of a query: statements to be put together with those of the hot files. */
export interface SealedRows {
  /** Each `SELECT series, ts, v, flags`; identities may be those of late rows, which count above them. */
  readonly base: readonly string[]
  /** Each `SELECT series, ts, v, flags, seq, text, meta`: of several of one identity the highest seq counts. */
  readonly late: readonly string[]
  /** Each `SELECT series, ts, text, meta`, of base rows. */
  readonly texts: readonly string[]
}

export interface SealedRollups {
  /** Each `SELECT series, bucket, n, …` (`rollupNames`). */
  readonly rows: readonly string[]
  /** Each the same and `gen`. */
  readonly corrected: readonly string[]
}

/** Up to this many series their rows are found by predicates, one scan for each; more are joined, one scan for each column of a shape. */
export const fewMax = 32

/** Paths of the files that a query needs, to be attached before it begins. */
export function filesFor(manifest: Manifest, kind: Kind, between: Between): string[] {
  return runsIn(manifest, kind, between.fromUs, between.toUs).map((run) => fileOf(run.partition, run.generation, kind))
}

/**
 * Statements for rows of [fromUs, toUs) of these series. `files` are those of `filesFor` of the same manifest. The manifest's counts and bounds
 * leave out what cannot have any.
 */
export async function sealedRows(
  manifest: Manifest,
  files: ReadonlyMap<string, Attached>,
  ids: ArrayLike<number>,
  between: Between,
): Promise<SealedRows> {
  const found = { base: [] as string[], late: [] as string[], texts: [] as string[] }
  if (ids.length === 0) return found
  const pick = pickOf(ids)
  for (const { run, attached } of attachedRuns(manifest, files, 'raw', between)) {
    const { catalog, layout } = attached
    const file = run.files.raw!
    if (file.rows > 0) {
      const base = ids.length <= fewMax ? rowsOfFew(catalog, layout, await attached.places(ids), between) : rowsOfMany(catalog, layout, pick, between)
      if (base !== undefined) found.base.push(base)
    }
    if (file.above > 0) found.late.push(lateOf(catalog, pick, between))
    if (file.texts > 0) found.texts.push(textsOf(catalog, pick, between))
  }
  return found
}

/** Statements for the rollup rows of these series whose buckets begin within [fromUs, toUs). */
export function sealedRollups(
  manifest: Manifest,
  files: ReadonlyMap<string, Attached>,
  kind: RollupKind,
  ids: ArrayLike<number>,
  between: Between,
): SealedRollups {
  const found = { rows: [] as string[], corrected: [] as string[] }
  if (ids.length === 0) return found
  const pick = pickOf(ids)
  for (const { run, attached } of attachedRuns(manifest, files, kind, between)) {
    const file = run.files[kind]!
    if (file.rows > 0) found.rows.push(rollupsOf(attached.catalog, kind, pick, between))
    if (file.above > 0) found.corrected.push(correctedOf(attached.catalog, pick, between))
  }
  return found
}

function attachedRuns(
  manifest: Manifest,
  files: ReadonlyMap<string, Attached>,
  kind: Kind,
  between: Between,
): { readonly run: Run; readonly attached: Attached }[] {
  return runsIn(manifest, kind, between.fromUs, between.toUs).map((run) => {
    const name = fileOf(run.partition, run.generation, kind)
    const attached = files.get(name)
    if (attached === undefined) throw new RangeError(`${name} is not attached`)
    return { run, attached }
  })
}

/** A list of constants is answered by zone maps; a longer one is joined. */
function pickOf(ids: ArrayLike<number>): string {
  return ids.length <= fewMax ? `(${Array.prototype.join.call(ids, ',')})` : `(SELECT ${integers(ids, 'UINTEGER')})`
}
