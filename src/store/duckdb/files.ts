import type { DuckDBConnection } from '@duckdb/node-api'
import { Attachments } from './sealed/attachments.ts'
import type { Manifest } from './sealed/manifest.ts'
import { filesFor, SealedSources, unsketchedSpan, type Need } from './sealed/sources.ts'
import type { Between } from './source-types.ts'
import { Sources } from './sources.ts'

/** A hot file that is written no longer and not sealed yet, attached read-only. */
export interface FrozenFile {
  readonly hot: number
  readonly catalog: string
}

/** Which files hold the store's rows; replaced as a whole. */
export interface FileView {
  readonly manifest: Manifest
  readonly frozen: readonly FrozenFile[]
}

export interface SourcesLease {
  readonly sources: Sources
  /** Readings before it have gone by age or size, though their rollups may be there. */
  readonly rawFromUs: number
  /** To be called once, when no statement reads them any more. */
  release(): void
}

/**
 * The files of the store and who reads them. A file that the view has lost is still there for those who began before: `replace` resolves when
 * the last of them has ended.
 */
export class StoreFiles {
  readonly #attachments: Attachments
  readonly #unsketched: readonly number[]
  #view: FileView
  readonly #readers = new Set<{ readonly view: FileView; readonly ended: Promise<void> }>()

  /** `unsketched`: numbers of hot files that do not know the bins of all that was computed again. */
  constructor(connection: DuckDBConnection, dir: string, view: FileView, attachedMax?: number, unsketched: readonly number[] = []) {
    this.#unsketched = unsketched
    this.#attachments = new Attachments(connection, dir, attachedMax)
    this.#view = view
  }

  get view(): FileView {
    return this.#view
  }

  /**
   * Where the rows are that `needs` names, and those of the files that are not sealed. To be taken before BEGIN: a transaction sees the files that
   * were attached when it began. `ids`: the series that will be asked for, or more.
   */
  async lease(needs: readonly Need[], ids?: ArrayLike<number>): Promise<SourcesLease> {
    const view = this.#view
    const { promise, resolve } = Promise.withResolvers<void>()
    const reader = { view, ended: promise }
    this.#readers.add(reader)
    const end = (): void => {
      this.#readers.delete(reader)
      resolve()
    }
    try {
      const unsealed = this.#unsketched.some((hot) => hot > view.manifest.sealedTo)
      const unsketched = (between: Between): Between | undefined => (unsealed ? between : unsketchedSpan(view.manifest, between))
      const all = unsealed ? needs.map((need) => (need.kind === 'bins' && need.replaced === true ? { ...need, kind: 'raw' as const } : need)) : []
      const names = filesFor(view.manifest, [...needs, ...all])
      const catalogs = view.frozen.map((file) => file.catalog)
      const rawFromUs = view.manifest.expired?.raw ?? 0
      if (names.length === 0) return { sources: new Sources(catalogs, undefined, unsketched), rawFromUs, release: end }
      const attached = await this.#attachments.acquire(names)
      const release = (): void => {
        attached.release()
        end()
      }
      try {
        const sealed = await SealedSources.of(view.manifest, attached.files, ids)
        return { sources: new Sources(catalogs, sealed, unsketched), rawFromUs, release }
      } catch (thrown) {
        attached.release()
        throw thrown
      }
    } catch (thrown) {
      end()
      throw thrown
    }
  }

  /** From now on this is read. Resolves when nobody reads what was before; `gone` sealed files are detached then. */
  async replace(view: FileView, gone: readonly string[] = []): Promise<void> {
    this.#view = view
    await Promise.all([...this.#readers].filter((reader) => reader.view !== view).map((reader) => reader.ended))
    if (gone.length > 0) await this.#attachments.retire(gone)
  }

  /** Resolves when nothing runs on the connection any more. To be called before that is closed. */
  close(): Promise<void> {
    return this.#attachments.close()
  }
}
