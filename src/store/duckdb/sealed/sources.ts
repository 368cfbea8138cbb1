import type { Between, RollupSources, RowSources } from '../source-types.ts'
import { integers, type Level } from '../sql.ts'
import type { Attached } from './attachments.ts'
import { fileOf, type Kind } from './format.ts'
import { runsIn, type Manifest, type RunFile } from './manifest.ts'
import { correctedOf, lateOf, rollupsOf, rowsOfFew, rowsOfMany, textsOf, type Place } from './scan.ts'

/** What a query reads of sealed files: one kind of them, over a range of times. */
export interface Need extends Between {
  readonly kind: Kind
}

export const kindOfLevel = { minute: '1m', hour: '1h' } as const satisfies Record<Level, Kind>
const always: Between = { fromUs: Number.NEGATIVE_INFINITY, toUs: Number.POSITIVE_INFINITY }

/** Up to this many series their rows are found by predicates, one scan for each; more are joined, one scan for each column of a shape. */
const fewMax = 32

/** Paths of the files that hold what is needed; to be attached before the query begins. */
export function filesFor(manifest: Manifest, needs: readonly Need[]): string[] {
  const names = needs.flatMap(({ kind, fromUs, toUs }) =>
    runsIn(manifest, kind, fromUs, toUs).map((run) => fileOf(run.partition, run.generation, kind)),
  )
  return [...new Set(names)]
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
      const { catalog, layout } = attached
      if (file.rows > 0) {
        const places = ids === undefined || ids.length > fewMax ? undefined : this.#places.get(catalog)
        const base =
          places === undefined
            ? rowsOfMany(catalog, layout, pick, between)
            : rowsOfFew(
                catalog,
                layout,
                Array.from(ids!).flatMap((id) => places.get(id) ?? []),
                between ?? { fromUs: file.fromUs, toUs: file.toUs + 1 },
              )
        if (base !== undefined) found.base.push(base)
      }
      if (file.above > 0) found.late.push(lateOf(catalog, pick, between))
      if (file.texts > 0) found.texts.push(textsOf(catalog, pick, between))
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

  #runs(kind: Kind, between: Between = always): { readonly file: RunFile; readonly attached: Attached }[] {
    return runsIn(this.#manifest, kind, between.fromUs, between.toUs).map((run) => {
      const name = fileOf(run.partition, run.generation, kind)
      const attached = this.#files.get(name)
      if (attached === undefined) throw new RangeError(`${name} is not attached`)
      return { file: run.files[kind]!, attached }
    })
  }
}

/** A list of constants is answered by zone maps; a longer one is joined. */
function pickOf(ids: ArrayLike<number> | undefined): string | undefined {
  if (ids === undefined) return undefined
  return ids.length <= fewMax ? `(${Array.prototype.join.call(ids, ',')})` : `(SELECT ${integers(ids, 'UINTEGER')})`
}
