import type { ServerResponse } from 'node:http'
import type { Batch, SeriesKey } from '../../../core/batch.ts'
import type { Timer } from '../../../core/env.ts'
import type { Cell } from '../../../core/metrics.ts'
import type { LiveEvent } from '../../../core/services.ts'
import type { HttpContext } from '../options.ts'
import { readingItem } from '../reads/readings.ts'

/** What a client wants to see; absent sets mean all. */
export interface LiveMatch {
  readonly tenant: string
  readonly devices?: ReadonlySet<string>
  readonly metrics?: ReadonlySet<string>
}

export class LiveClient {
  readonly response: ServerResponse
  readonly #match: LiveMatch
  readonly #limits: HttpContext['limits']
  readonly #droppedTotal: Cell
  #queue: string[] = []
  #bytes = 0
  #dropped = 0
  #blocked = false
  /** Per series of the table last seen: 0 not looked at, 1 wanted, 2 not wanted. */
  #wanted = new Uint8Array(0)
  #keys: readonly SeriesKey[] | undefined

  constructor(response: ServerResponse, match: LiveMatch, limits: HttpContext['limits'], droppedTotal: Cell) {
    this.response = response
    this.#match = match
    this.#limits = limits
    this.#droppedTotal = droppedTotal
    response.on('drain', () => {
      this.#blocked = false
      this.flush()
    })
  }

  wants(batch: Batch, row: number): boolean {
    if (this.#keys !== batch.keys) {
      this.#keys = batch.keys
      this.#wanted = new Uint8Array(batch.keys.length)
    }
    const series = batch.series[row]!
    if (series >= this.#wanted.length) {
      // The table has grown since: keep what was found out.
      const grown = new Uint8Array(Math.max(batch.keys.length, series + 1))
      grown.set(this.#wanted)
      this.#wanted = grown
    }
    const known = this.#wanted[series]!
    if (known !== 0) return known === 1
    const key = batch.keys[series]!
    const { tenant, devices, metrics } = this.#match
    const wanted = key.tenant === tenant && (devices === undefined || devices.has(key.device)) && (metrics === undefined || metrics.has(key.metric))
    this.#wanted[series] = wanted ? 1 : 2
    return wanted
  }

  /** The oldest gives way when the client is too slow: what is live is what is new. */
  push(text: string): void {
    this.#queue.push(text)
    this.#bytes += text.length
    const { liveQueueEventsMax, liveQueueBytesMax } = this.#limits
    let drop = 0
    while (drop < this.#queue.length - 1 && (this.#queue.length - drop > liveQueueEventsMax || this.#bytes > liveQueueBytesMax)) {
      this.#bytes -= this.#queue[drop]!.length
      drop++
    }
    if (drop === 0) return
    this.#queue.splice(0, drop)
    this.#dropped += drop
    this.#droppedTotal.value += drop
  }

  flush(): void {
    if (this.#blocked || this.#queue.length === 0) return
    const gap = this.#dropped === 0 ? '' : `event: gap\ndata: {"dropped":${this.#dropped}}\n\n`
    const text = gap + this.#queue.join('')
    this.#queue = []
    this.#bytes = 0
    this.#dropped = 0
    this.#blocked = !this.response.write(text)
  }

  beat(): void {
    if (!this.#blocked) this.#blocked = !this.response.write(': heartbeat\n\n')
  }
}

/** One subscription to the feed for all live clients; none while there are none. */
export class LiveHub {
  readonly #context: HttpContext
  readonly #clients = new Set<LiveClient>()
  readonly #count: Cell
  readonly #dropped: Cell
  #unsubscribe: (() => void) | undefined
  #flushTimer: Timer | undefined
  #beatTimer: Timer | undefined

  constructor(context: HttpContext) {
    this.#context = context
    this.#count = context.metrics.gauge('kymo_live_clients', 'Clients of the live stream.')
    this.#dropped = context.metrics.counter('kymo_live_dropped_total', 'Events that slow live clients did not get.')
  }

  get size(): number {
    return this.#clients.size
  }

  add(response: ServerResponse, match: LiveMatch): void {
    const client = new LiveClient(response, match, this.#context.limits, this.#dropped)
    this.#clients.add(client)
    this.#count.value = this.#clients.size
    this.#unsubscribe ??= this.#context.live.subscribe((event) => this.#publish(event))
    if (this.#beatTimer === undefined) this.#beatLater()
    const gone = (): void => this.#remove(client)
    response.once('close', gone).once('error', gone)
  }

  /** Ends all streams; clients come back by themselves, to whoever answers then. */
  end(): void {
    for (const client of this.#clients) {
      client.flush()
      client.response.end()
      this.#remove(client)
    }
  }

  #remove(client: LiveClient): void {
    if (!this.#clients.delete(client)) return
    this.#count.value = this.#clients.size
    if (this.#clients.size > 0) return
    this.#unsubscribe?.()
    this.#unsubscribe = undefined
    this.#beatTimer?.cancel()
    this.#beatTimer = undefined
    this.#flushTimer?.cancel()
    this.#flushTimer = undefined
  }

  #publish({ id, batch }: LiveEvent): void {
    // Each row is written once, however many clients want it.
    const rows: (string | undefined)[] = []
    for (const client of this.#clients) {
      let readings = ''
      for (let row = 0; row < batch.rows; row++) {
        if (!client.wants(batch, row)) continue
        const text = (rows[row] ??= JSON.stringify(readingItem(batch, row, undefined)))
        readings += readings === '' ? text : `,${text}`
      }
      if (readings !== '') client.push(`id: ${id}\nevent: readings\ndata: {"readings":[${readings}]}\n\n`)
    }
    this.#flushTimer ??= this.#context.env.clock.after(this.#context.limits.liveLingerMs, () => {
      this.#flushTimer = undefined
      for (const client of this.#clients) client.flush()
    })
  }

  #beatLater(): void {
    this.#beatTimer = this.#context.env.clock.after(this.#context.limits.liveHeartbeatMs, () => {
      for (const client of this.#clients) client.beat()
      this.#beatLater()
    })
  }
}
