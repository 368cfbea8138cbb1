import type { ServerResponse } from 'node:http'
import type { Batch, SeriesKey } from '../../../core/batch.ts'
import type { Timer } from '../../../core/env.ts'
import type { Cell } from '../../../core/metrics.ts'
import type { LiveEvent } from '../../../core/services.ts'
import type { HttpContext } from '../options.ts'
import { readingItem } from '../reads/readings.ts'
import { Slices } from '../slices.ts'
import { LiveRing } from './ring.ts'

/** What a client wants to see; absent sets mean all. */
export interface LiveMatch {
  readonly tenant: string
  readonly devices?: ReadonlySet<string>
  readonly metrics?: ReadonlySet<string>
}

/** Clients that want the same: each event is looked through and written once for all of them. */
class LiveGroup {
  readonly clients = new Set<LiveClient>()
  readonly #match: LiveMatch
  /** Per series of the table last seen: 0 not looked at, 1 wanted, 2 not wanted. */
  #wanted = new Uint8Array(0)
  #keys: readonly SeriesKey[] | undefined

  constructor(match: LiveMatch) {
    this.#match = match
  }

  /** The event as the clients get it; undefined: nothing in it is for them. `rows`: the text of those that were written before. */
  frame({ id, batch }: LiveEvent, rows: (string | undefined)[]): Buffer | undefined {
    let readings = ''
    for (let row = 0; row < batch.rows; row++) {
      if (!this.#wants(batch, row)) continue
      const text = (rows[row] ??= JSON.stringify(readingItem(batch, row, undefined)))
      readings += readings === '' ? text : `,${text}`
    }
    return readings === '' ? undefined : Buffer.from(`id: ${id}\nevent: readings\ndata: {"readings":[${readings}]}\n\n`)
  }

  #wants(batch: Batch, row: number): boolean {
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
}

class LiveClient {
  readonly response: ServerResponse
  readonly #limits: HttpContext['limits']
  readonly #droppedTotal: Cell
  #queue: Buffer[] = []
  #bytes = 0
  #dropped = 0
  #blocked = false

  constructor(response: ServerResponse, limits: HttpContext['limits'], droppedTotal: Cell) {
    this.response = response
    this.#limits = limits
    this.#droppedTotal = droppedTotal
    response.on('drain', () => {
      this.#blocked = false
      this.flush()
    })
  }

  /** The oldest gives way when the client is too slow: what is live is what is new. */
  push(frame: Buffer): void {
    this.#queue.push(frame)
    this.#bytes += frame.length
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
    const { response } = this
    const frames = this.#queue
    const gap = this.#dropped === 0 ? '' : `event: gap\ndata: {"dropped":${this.#dropped}}\n\n`
    this.#queue = []
    this.#bytes = 0
    this.#dropped = 0
    response.cork()
    if (gap !== '') response.write(gap)
    // Frames are shared with other clients: written as they are, none is copied for one of them.
    for (const frame of frames) this.#blocked = !response.write(frame)
    response.uncork()
  }

  beat(): void {
    if (!this.#blocked) this.#blocked = !this.response.write(': heartbeat\n\n')
  }
}

function groupName({ tenant, devices, metrics }: LiveMatch): string {
  const names = (set: ReadonlySet<string> | undefined): string[] | null => (set === undefined ? null : [...set].sort())
  return JSON.stringify([tenant, names(devices), names(metrics)])
}

/** To how many clients is written before the clock is looked at. */
const clientsPerLook = 8

/**
 * One subscription to the feed for all live clients. It ends `liveResumeMs` after the last one has left: until then the ring gathers what
 * they miss.
 */
export class LiveHub {
  readonly #context: HttpContext
  readonly #ring: LiveRing
  readonly #clients = new Set<LiveClient>()
  readonly #groups = new Map<string, LiveGroup>()
  readonly #count: Cell
  readonly #dropped: Cell
  #unsubscribe: (() => void) | undefined
  #flushTimer: Timer | undefined
  #beatTimer: Timer | undefined
  #leaveTimer: Timer | undefined

  constructor(context: HttpContext) {
    this.#context = context
    this.#ring = new LiveRing(context.limits.liveRingBytesMax)
    this.#count = context.metrics.gauge('kymo_live_clients', 'Clients of the live stream.')
    this.#dropped = context.metrics.counter('kymo_live_dropped_total', 'Events that slow live clients did not get.')
  }

  get size(): number {
    return this.#clients.size
  }

  /** `since`: the last id that the client has; it gets what came after it, after a `gap` where the ring no longer has all of that. */
  add(response: ServerResponse, match: LiveMatch, since?: bigint): void {
    const client = new LiveClient(response, this.#context.limits, this.#dropped)
    const name = groupName(match)
    const group = this.#groups.get(name) ?? new LiveGroup(match)
    this.#leaveTimer?.cancel()
    this.#leaveTimer = undefined
    if (since !== undefined) {
      const { complete, events } = this.#ring.after(since)
      if (!complete) response.write(`event: gap\ndata: {"since":"${since}"}\n\n`)
      for (const event of events) {
        const frame = group.frame(event, [])
        if (frame !== undefined) client.push(frame)
      }
      client.flush()
    }
    this.#groups.set(name, group)
    group.clients.add(client)
    this.#clients.add(client)
    this.#count.value = this.#clients.size
    this.#unsubscribe ??= this.#context.live.subscribe((event) => this.#publish(event))
    if (this.#beatTimer === undefined) this.#beatLater()
    const gone = (): void => {
      group.clients.delete(client)
      if (group.clients.size === 0 && this.#groups.get(name) === group) this.#groups.delete(name)
      this.#remove(client)
    }
    response.once('close', gone).once('error', gone)
  }

  /** Ends all streams; clients come back by themselves, to whoever answers then. */
  end(): void {
    for (const client of this.#clients) {
      client.flush()
      client.response.end()
      this.#remove(client)
    }
    this.#leave()
  }

  /** Nobody is there, and nobody comes back. */
  #leave(): void {
    this.#leaveTimer?.cancel()
    this.#leaveTimer = undefined
    this.#unsubscribe?.()
    this.#unsubscribe = undefined
    this.#ring.clear()
  }

  #remove(client: LiveClient): void {
    if (!this.#clients.delete(client)) return
    this.#count.value = this.#clients.size
    if (this.#clients.size > 0) return
    this.#leaveTimer ??= this.#context.env.clock.after(this.#context.limits.liveResumeMs, () => this.#leave())
    this.#beatTimer?.cancel()
    this.#beatTimer = undefined
    this.#flushTimer?.cancel()
    this.#flushTimer = undefined
  }

  #publish(event: LiveEvent): void {
    // What is kept for those who come back may be of the device: they are told of a gap instead.
    if (event.erased !== undefined) return this.#ring.clear()
    this.#ring.add(event)
    if (this.#clients.size === 0) return
    // Each row is written once, however many clients want it.
    const rows: (string | undefined)[] = []
    for (const group of this.#groups.values()) {
      const frame = group.frame(event, rows)
      if (frame !== undefined) for (const client of group.clients) client.push(frame)
    }
    this.#flushTimer ??= this.#context.env.clock.after(this.#context.limits.liveLingerMs, () => {
      this.#flushTimer = undefined
      void this.#flush()
    })
  }

  /** In slices: writing to a socket takes 20 us, and longer the more there is. */
  async #flush(): Promise<void> {
    const slices = new Slices(this.#context)
    let count = 0
    for (const client of this.#clients) {
      client.flush()
      if (++count % clientsPerLook === 0 && slices.over) await slices.pause()
    }
  }

  #beatLater(): void {
    this.#beatTimer = this.#context.env.clock.after(this.#context.limits.liveHeartbeatMs, () => {
      for (const client of this.#clients) client.beat()
      this.#beatLater()
    })
  }
}
