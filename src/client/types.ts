/** The answer of a list: one page of it. */
export interface Page<T> {
  readonly items: readonly T[]
  /** What to give as `cursor` for the next page; null when this is the last. */
  readonly next_cursor: string | null
  /** How many there are in all, when that was asked for. */
  readonly total?: number
}

/** A body that is sent as it is; anything else is written as JSON. */
export type RawBody = string | Uint8Array<ArrayBuffer> | ArrayBuffer | Blob | URLSearchParams

export interface CallOptions {
  /** Ends the call, also between two attempts; it then rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined
  /** For one attempt; the client's own when absent. */
  readonly timeoutMs?: number | undefined
  /** Attempts after the first; the client's own when absent. */
  readonly retries?: number | undefined
  /** Further headers of the request. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** Sees the response before its body is read: for ETag, Location, X-Request-Id. */
  readonly onResponse?: ((response: Response) => void) | undefined
}

/** What an answer is read as: `text` for CSV and NDJSON, `response` for the response itself, whose body is not yet read. */
type As<T extends 'text' | 'response'> = CallOptions & { readonly as: T }

/** An operation that can be called without parameters. */
export interface OptionalCall<Request, Answer> {
  (request: Request | undefined, options: As<'text'>): Promise<string>
  (request: Request | undefined, options: As<'response'>): Promise<Response>
  (request?: Request, options?: CallOptions): Promise<Answer>
}

export interface Call<Request, Answer> {
  (request: Request, options: As<'text'>): Promise<string>
  (request: Request, options: As<'response'>): Promise<Response>
  (request: Request, options?: CallOptions): Promise<Answer>
}

/** All items of a list, page by page, fetched as they are asked for. */
export type Items<Request, Item> = (request?: Omit<Request, 'cursor'>, options?: CallOptions) => AsyncGenerator<Item, void, undefined>

export interface ClientOptions {
  /** Where the server is, as http://127.0.0.1:8080; a path in it is kept in front of every route. */
  readonly url: string | URL
  /** An API key (`tk_…`); none is needed on loopback. */
  readonly token?: string | undefined
  /** In place of the global fetch. */
  readonly fetch?: ((url: string, init: RequestInit) => Promise<Response>) | undefined
  /** For one attempt, in ms; 60,000 when absent. Of a `response` and of a live stream only until its head is there. */
  readonly timeoutMs?: number | undefined
  /** Attempts after the first, where a call may be repeated; 3 when absent. */
  readonly retries?: number | undefined
  /** Further headers of every request. */
  readonly headers?: Readonly<Record<string, string>> | undefined
}
