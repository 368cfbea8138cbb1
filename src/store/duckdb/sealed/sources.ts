import { binOf } from '../bins-sql.ts'
import type { Between, RollupSources, RowSources, SketchSources } from '../source-types.ts'
import { bucketOf, integers, stepOf, type Level } from '../sql.ts'
import type { Attached } from './attachments.ts'
import { fileOf, narrowShape, type Kind } from './format.ts'
import { runsIn, type Manifest, type Run, type RunFile } from './manifest.ts'
import { rangeOf } from './partition.ts'
import {
  binsOf,
  correctedBinsOf,
  correctedOf,
  groupsOfFew,
  lateOf,
  narrowOfFew,
  rollupsOf,
  rowsOfFew,
  rowsOfMany,
  rowsWithin,
  textsOf,
  type GroupScan,
  type Place,
} from './scan.ts'

/** What a query reads of sealed files: one kind of them, over a range of times. */
export interface Need extends Between {
  /** `bins`: what sketches of hours are made of, that is hours, and readings of runs that are not sketched. */
  readonly kind: Kind | 'bins'
  /** Of `bins`: hours may have been computed again; where a run is not sketched they are made from all readings. */
  readonly replaced?: boolean
}

export const kindOfLevel = { minute: '1m', hour: '1h' } as const satisfies Record<Level, Kind>
const always: Between = { fromUs: Number.NEGATIVE_INFINITY, toUs: Number.POSITIVE_INFINITY }

/** Up to this many series their rows are found by predicates, one scan for each; more are joined, one scan for each column of a shape. */
export const fewMax = 32

/** Paths of the files that hold what is needed; to be attached before the query begins. */
export function filesFor(manifest: Manifest, needs: readonly Need[]): string[] {
  const of = (kind: Kind, { fromUs, toUs }: Between, which: (run: Run) => boolean = () => true): string[] =>
    runsIn(manifest, kind, fromUs, toUs)
      .filter(which)
      .map((run) => fileOf(run.partition, run.generation, kind))
  const names = needs.flatMap((need) => {
    if (need.kind !== 'bins') return of(need.kind, need)
    const span = need.replaced === true ? unsketchedSpan(manifest, need) : undefined
    return [
      ...of('1h', need, (run) => run.sketched === true),
      ...of('raw', need, (run) => run.sketched !== true),
      ...(span === undefined ? [] : of('raw', span)),
    ]
  })
  return [...new Set(names)]
}

/** The shortest range of whole days within `between` outside of which all runs are sketched; undefined: all are. */
export function unsketchedSpan(manifest: Manifest, between: Between): Between | undefined {
  const { fromUs, toUs } = between
  const runs = new Set((['raw', '1h'] as const).flatMap((kind) => runsIn(manifest, kind, fromUs, toUs)).filter((run) => run.sketched !== true))
  if (runs.size === 0) return undefined
  const ranges = [...runs].map((run) => rangeOf(run.partition))
  return {
    fromUs: Math.max(
      fromUs,
      ranges.reduce((least, range) => Math.min(least, range.fromUs), toUs),
    ),
    toUs: Math.min(
      toUs,
      ranges.reduce((most, range) => Math.max(most, range.toUs), fromUs),
    ),
  }
}

/** Statements over attached files. What was not asked for with `filesFor` cannot be read. */
export class SealedSources {
  readonly #manifest: Manifest
  readonly #files: ReadonlyMap<string, Attached>
  /** By catalog and series; only of few series. */
  readonly #places: ReadonlyMap<string, ReadonlyMap<number, Place>>

  private constructor(manifest: Manifest, files: ReadonlyMap<string, Attached>, places: ReadonlyMap<string, ReadonlyMap<number, Place>>) {
    this.#manifest = manifest
    this.#files = files
    this.#places = places
  }

  /** `ids`: the series that statements will be asked for, or more. Absent: any. */
  static async of(manifest: Manifest, files: ReadonlyMap<string, Attached>, ids?: ArrayLike<number>): Promise<SealedSources> {
    const places = new Map<string, ReadonlyMap<number, Place>>()
    if (ids !== undefined && ids.length <= fewMax) {
      for (const [name, attached] of files) {
        if (!name.endsWith('-raw.duckdb')) continue
        places.set(attached.catalog, new Map((await attached.places(ids)).map((place) => [place.series, place])))
      }
    }
    return new SealedSources(manifest, files, places)
  }

  rows(ids?: ArrayLike<number>, between?: Between): RowSources {
    const found = { base: [] as string[], late: [] as string[], texts: [] as string[] }
    const pick = pickOf(ids)
    for (const { file, attached } of this.#runs('raw', between)) {
      const { catalog } = attached
      const base = baseOf(file, attached, this.#places.get(catalog), ids, between)
      if (base !== undefined) found.base.push(base)
      if (file.above > 0) found.late.push(lateOf(catalog, pick, between))
      if (file.texts > 0) found.texts.push(textsOf(catalog, pick, between))
    }
    return found
  }

  /** Base rows of at most `fewMax` series as they lie, and about how many; what `rows` says as statements of one kind. */
  few(
    ids: ArrayLike<number>,
    between: Between,
  ): { readonly narrow: readonly string[]; readonly groups: readonly GroupScan[]; readonly count: number } {
    const found = { narrow: [] as string[], groups: [] as GroupScan[], count: 0 }
    for (const { attached } of this.#runs('raw', between)) {
      const { catalog, layout } = attached
      const known = this.#places.get(catalog)
      const places = Array.from(ids)
        .flatMap((id) => known?.get(id) ?? [])
        .filter((place) => rowsWithin(place, between) > 0)
      for (const place of places) found.count += rowsWithin(place, between)
      const narrow = places.filter((place) => place.shape === narrowShape)
      if (narrow.length > 0) found.narrow.push(narrowOfFew(catalog, narrow, between))
      found.groups.push(
        ...groupsOfFew(
          catalog,
          layout,
          places.filter((place) => place.shape !== narrowShape),
          between,
        ),
      )
    }
    return found
  }

  rollups(level: Level, ids?: ArrayLike<number>, between?: Between): RollupSources {
    const kind = kindOfLevel[level]
    const found = { rows: [] as string[], corrected: [] as string[] }
    const pick = pickOf(ids)
    for (const { file, attached } of this.#runs(kind, between)) {
      if (file.rows > 0) found.rows.push(rollupsOf(attached.catalog, kind, pick, between))
      if (file.above > 0) found.corrected.push(correctedOf(attached.catalog, pick, between))
    }
    return found
  }

  /** Hours that begin within `between`, which ends at whole hours; of runs that are not sketched, what their base rows add. */
  bins(ids: ArrayLike<number>, between: Between): SketchSources {
    const pick = pickOf(ids)
    const sketched = this.#runs('1h', between, (run) => run.sketched === true).map(({ file, attached }) => ({ file, catalog: attached.catalog }))
    const rows = this.#runs('raw', between, (run) => run.sketched !== true).flatMap(
      ({ file, attached }) => baseOf(file, attached, this.#places.get(attached.catalog), ids, between) ?? [],
    )
    return {
      base: [...sketched.map(({ catalog }) => binsOf(catalog, pick, between)), ...rows.map(binsOfRows)],
      corrected: sketched.flatMap(({ file, catalog }) => (file.above > 0 ? [correctedBinsOf(catalog, pick, between)] : [])),
    }
  }

  #runs(kind: Kind, between: Between = always, which: (run: Run) => boolean = () => true): { readonly file: RunFile; readonly attached: Attached }[] {
    const runs = runsIn(this.#manifest, kind, between.fromUs, between.toUs).filter(which)
    return runs.map((run) => {
      const name = fileOf(run.partition, run.generation, kind)
      const attached = this.#files.get(name)
      if (attached === undefined) throw new RangeError(`${name} is not attached`)
      return { file: run.files[kind]!, attached }
    })
  }
}

/** What rows add to the bins of their hours: `SELECT series, bucket, bin, n, low, high`, one for each row. */
export function binsOfRows(rows: string): string {
  return `SELECT series, make_timestamp(${bucketOf(stepOf.hour)}) AS bucket, ${binOf('v')} AS bin, 1::UBIGINT AS n, v AS low, v AS high
    FROM (${rows}) WHERE NOT isnan(v)`
}

/** The base rows of a run. */
function baseOf(
  file: RunFile,
  { catalog, layout }: Attached,
  places: ReadonlyMap<number, Place> | undefined,
  ids: ArrayLike<number> | undefined,
  between: Between | undefined,
): string | undefined {
  if (file.rows === 0) return undefined
  if (ids === undefined || ids.length > fewMax || places === undefined) return rowsOfMany(catalog, layout, pickOf(ids), between)
  return rowsOfFew(
    catalog,
    layout,
    Array.from(ids).flatMap((id) => places.get(id) ?? []),
    between ?? { fromUs: file.fromUs, toUs: file.toUs + 1 },
  )
}

/** A list of constants is answered by zone maps; a longer one is joined. */
function pickOf(ids: ArrayLike<number> | undefined): string | undefined {
  if (ids === undefined) return undefined
  return ids.length <= fewMax ? `(${Array.prototype.join.call(ids, ',')})` : `(SELECT ${integers(ids, 'UINTEGER')})`
}
