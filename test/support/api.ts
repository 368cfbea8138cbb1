import { setTimeout as delay } from 'node:timers/promises'

/** Reading the product's answers as any client would: over HTTP, page by page. It imports nothing of src/. */
export interface Reading {
  readonly device: string
  readonly metric: string
  /** Epoch milliseconds; microseconds are the decimals. */
  readonly timeMs: number
  readonly value: number | string | boolean | null
}

interface ColumnsAnswer {
  readonly next_cursor: string | null
  readonly series: readonly { readonly device: string; readonly metric: string }[]
  readonly columns: Readonly<Record<string, readonly unknown[]>>
}

export interface QueryOptions {
  readonly device?: string
  readonly metric?: string
  readonly from?: string | number
  readonly to?: string | number
  readonly limit?: number
}

export async function getJson(url: URL | string): Promise<unknown> {
  const answer = await fetch(url, { headers: { accept: 'application/json' } })
  const text = await answer.text()
  if (answer.status !== 200) throw new Error(`GET ${String(url)} answered ${answer.status}: ${text.slice(0, 500)}`)
  return JSON.parse(text)
}

async function* pages(base: string, parameters: Readonly<Record<string, string | number | undefined>>): AsyncGenerator<ColumnsAnswer> {
  let cursor: string | null = null
  do {
    const url = new URL('/api/v1/query', base)
    for (const [name, value] of Object.entries(parameters)) if (value !== undefined) url.searchParams.set(name, String(value))
    url.searchParams.set('time', 'ms')
    if (cursor !== null) url.searchParams.set('cursor', cursor)
    const page = (await getJson(url)) as ColumnsAnswer
    yield page
    cursor = page.next_cursor
  } while (cursor !== null)
}

/** Every reading that fits, over as many pages as it takes. */
export async function readings(base: string, o: QueryOptions): Promise<Reading[]> {
  const out: Reading[] = []
  const all = { device: o.device, metric: o.metric, from: o.from, to: o.to, limit: o.limit ?? 50_000 }
  for await (const page of pages(base, all)) {
    const { time, series, value } = page.columns
    for (let i = 0; i < time!.length; i++) {
      const key = page.series[series![i] as number]!
      out.push({ device: key.device, metric: key.metric, timeMs: time![i] as number, value: value![i] as Reading['value'] })
    }
  }
  return out
}

export interface Bucket {
  readonly device: string
  readonly metric: string
  readonly timeMs: number
  readonly [aggregation: string]: number | string
}

/** Every bucket that fits; `aggregations` become fields. */
export async function buckets(
  base: string,
  o: QueryOptions & { readonly step: string; readonly aggregations: readonly string[] },
): Promise<Bucket[]> {
  const out: Bucket[] = []
  const all = { device: o.device, metric: o.metric, from: o.from, to: o.to, step: o.step, agg: o.aggregations.join(','), limit: o.limit ?? 50_000 }
  for await (const page of pages(base, all)) {
    const { time, series } = page.columns
    for (let i = 0; i < time!.length; i++) {
      const key = page.series[series![i] as number]!
      const values = o.aggregations.map((name) => [name, page.columns[name]![i] as number] as const)
      out.push({ device: key.device, metric: key.metric, timeMs: time![i] as number, ...Object.fromEntries(values) })
    }
  }
  return out
}

export interface Status {
  readonly messages_total: number
  readonly readings_total: number
  readonly rejected_total: number
  readonly devices: number
  readonly lag: readonly {
    readonly group: string
    readonly partition: number
    readonly committed: number | string
    readonly end: number | string
    readonly bytes: number
  }[]
}

export async function status(base: string): Promise<Status> {
  return (await getJson(new URL('/api/v1/status', base))) as Status
}

/** Waits until every consumer has what the log has: from then on all that was acknowledged is queryable. */
export async function settled(base: string, withinMs = 30_000): Promise<void> {
  const until = performance.now() + withinMs
  for (;;) {
    const { lag } = await status(base)
    if (lag.length > 0 && lag.every((group) => Number(group.committed) >= Number(group.end))) return
    if (performance.now() > until) throw new Error(`the store did not catch up: ${JSON.stringify(lag)}`)
    await delay(20)
  }
}

/** Tries until `attempt` gives something; the last error otherwise. */
export async function eventually<T>(attempt: () => Promise<T | undefined>, withinMs = 15_000): Promise<T> {
  const until = performance.now() + withinMs
  let last: unknown = new Error('it did not happen in time')
  for (;;) {
    try {
      const result = await attempt()
      if (result !== undefined) return result
    } catch (error) {
      last = error
    }
    if (performance.now() > until) throw last
    await delay(20)
  }
}

export interface DeadLetterSummary {
  readonly id: string
  readonly code: string
  readonly client: string
  readonly topic: string
}

/** Newest first. */
export async function deadLetters(base: string, limit = 100): Promise<DeadLetterSummary[]> {
  const url = new URL('/api/v1/dead-letters', base)
  url.searchParams.set('limit', String(limit))
  return ((await getJson(url)) as { items: DeadLetterSummary[] }).items
}

export interface WholeDeadLetter extends DeadLetterSummary {
  readonly bytes_total: number
  readonly truncated: boolean
  readonly body: string
  readonly body_encoding: 'utf8' | 'base64'
}

export async function deadLetter(base: string, id: string): Promise<WholeDeadLetter> {
  return (await getJson(new URL(`/api/v1/dead-letters/${id}`, base))) as WholeDeadLetter
}
