/** One file of a data directory, as a snapshot holds it. */
export interface SnapshotFile {
  /** From the data directory in its usual layout: `log/…`, `store/…`, `meta.sqlite`, `forecasts.sqlite`. */
  readonly path: string
  readonly bytes: number
  /** Its content never changes: a link to it is as good as a copy. */
  readonly immutable: boolean
  readonly sha256?: string
}

/** Versions of the formats that the files have; each part refuses what is newer than it knows. */
export interface DataFormats {
  readonly log: number
  readonly store: number
  readonly sealed: number
  readonly meta: number
  /** Absent: it has no forecasts. */
  readonly forecasts?: number
}

/** The files of a data directory as they were at one moment; the server goes on and they stay. Times are epoch microseconds. */
export interface Snapshot {
  readonly id: string
  /** When the ends of the log were read: every record that was acknowledged before is below them. */
  readonly created_us: number
  /** Of Kymo. */
  readonly version: string
  readonly formats: DataFormats
  readonly log: {
    readonly id: string
    /** Of the last restore: two logs of one id that were restored at different times have different continuations. */
    readonly lineage?: string
    /** Decimal text: the log's copy ends before this offset. The files may hold more. */
    readonly ends: Readonly<Record<string, string>>
  }
  /** Decimal text: the store holds the records of the topic `telemetry` below. Absent: none of this log. */
  readonly store_next?: string
  /** How long commits waited for it. */
  readonly stalled_ms: number
  readonly files: readonly SnapshotFile[]
}

/** Snapshots of the running server: `src/roles/snapshots.ts`. They are removed when nobody has asked for them for a while. */
export interface SnapshotService {
  /** `id`: a UUID of the caller's, so that one that was not answered for can be given back. Rejects with `already_exists`, `overloaded` (too many), `store_unavailable` (no gap between queries, or no hard links) or `disk_full`. */
  create(id?: string): Promise<Snapshot>
  /** Undefined: there is none. That it was asked for keeps it. */
  get(id: string): { readonly snapshot: Snapshot; readonly folder: string } | undefined
  /** Where one of its files lies. */
  file(id: string, name: string): { readonly path: string; readonly bytes: number } | undefined
  /** False: there was none. */
  remove(id: string): Promise<boolean>
}
