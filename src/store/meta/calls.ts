import type { PlainError } from '../../core/errors.ts'

/** A write as it crosses to the thread that owns the file: the document is JSON text already. */
export interface EncodedWrite {
  readonly collection: string
  readonly tenant: string
  readonly id: string
  /** Absent: delete. */
  readonly body?: string
  readonly expect?: number
}

export interface StoredText {
  readonly id: string
  readonly body: string
  readonly version: number
}

export interface ListQuery {
  readonly collection: string
  readonly tenant: string
  readonly after?: string
  readonly limit: number
  readonly where?: Readonly<Record<string, string | number | boolean>>
}

/** `more`: the answer was cut at `metaAnswerBytesMax`; go on after its last id. */
export interface ListAnswer {
  readonly rows: readonly StoredText[]
  readonly more: boolean
}

/** What became of one call: the version of each of its puts, in order, or why nothing of it was written. */
export type CallOutcome = { readonly versions: readonly number[] } | { readonly error: PlainError }
