import type { Env } from '../core/env.ts'
import { Flag } from '../core/batch.ts'
import { asKymoError, KymoError } from '../core/errors.ts'
import { BatchBuilder } from '../core/batch-builder.ts'
import { isLineShape, type IngestGate, type MessageContext } from '../core/gate.ts'
import { limits } from '../core/limits.ts'
import type { Metrics } from '../core/metrics.ts'
import type { StreamLog } from '../core/ports.ts'
import { sleep } from '../core/pump.ts'
import { Topic, type LogRecord } from '../core/record.ts'
import type { SeriesTable } from '../core/series-table.ts'
import { encodeAttributes } from '../wire/attributes.ts'
import { encodeDeadLetter } from '../wire/dead-letter.ts'
import { LineDecoder } from '../wire/line-decoder.ts'
import type { PayloadDecoder } from '../wire/payload/decoder.ts'
import { IngestMetrics } from './ingest-metrics.ts'
import { hashName, OriginWindow } from './origins.ts'
import { writeParts } from './write-parts.ts'

export interface IngestOptions {
  readonly log: StreamLog
  readonly series: SeriesTable
  readonly decoder: PayloadDecoder
  /** Tags of line protocol that name the device, the first that a line has. */
  readonly lineDeviceTags?: readonly string[]
  readonly env: Env
  readonly metrics: Metrics
  /** Called once when the log can never take writes again (a failed fsync, damage): the process must stop. */
  readonly onFatal: (error: KymoError) => void
  /** Why nothing is to be written at the moment though the log would take it; asked before each write, and again until it is undefined. */
  readonly held?: () => KymoError | undefined
  readonly pendingBytesMax?: number
  /** Received time is written into the log at this interval, so that absence can be judged on replay. 0: never. */
  readonly tickMs?: number
  /** Runs `fn` after what is ready to be read has been read; setImmediate, unless a simulation replaces it. */
  readonly soon?: (fn: () => void) => void
}

/** Bytes that a pending row is counted as: series 4, time 8, value 8, flags 1. */
const rowBytes = 21
/** Above so many messages in one write, writes wait for company: at this rate a write (100 us of CPU) costs more than the linger. */
const busyMessages = 8

interface Waiter {
  readonly ticket: number
  readonly resolve: () => void
  readonly reject: (error: KymoError) => void
}

/**
 * The ingest role: what doors submit is decoded into the open batch at once; one write to the log is under way at a time, and
 * everything that arrives meanwhile goes into the next (group commit). A ticket is the number of the write that carries a
 * message. Memory is bounded by `ingestPendingBytesMax`: beyond it `submit` returns 0 and doors withhold.
 */
export class Ingest implements IngestGate {
  refusal: KymoError | undefined = undefined
  durable = 0
  takenUs = 0
  stalled: KymoError | undefined = undefined
  readonly metrics: IngestMetrics
  readonly #o: IngestOptions
  readonly #origins = new OriginWindow()
  readonly #lines: LineDecoder
  readonly #soon: (fn: () => void) => void
  readonly #pendingBytesMax: number
  readonly #listeners = new Set<(durable: number) => void>()
  readonly #waiters: Waiter[] = []
  readonly #clientSeeds = new Map<string, number>()
  #open: BatchBuilder
  /** Batches that are full and wait for the write under way. */
  #full: BatchBuilder[] = []
  #spare: BatchBuilder[] = []
  #opaque: LogRecord[] = []
  #opaqueBytes = 0
  #ticket = 1
  #messages = 0
  #lastWriteMessages = 0
  #firstUs = 0
  #lastArrivalUs = 0
  #pendingRows = 0
  #inFlightBytes = 0
  #flushing = false
  #scheduled = false
  #stopped: KymoError | undefined
  readonly #abort = new AbortController()
  #tick: { cancel(): void } | undefined
  #retryTimer: { cancel(): void } | undefined

  constructor(o: IngestOptions) {
    this.#o = o
    this.#pendingBytesMax = o.pendingBytesMax ?? limits.ingestPendingBytesMax
    this.#soon = o.soon ?? ((fn) => void setImmediate(fn))
    this.metrics = new IngestMetrics(o.metrics)
    const deviceTags = o.lineDeviceTags === undefined ? {} : { deviceTags: o.lineDeviceTags }
    this.#lines = new LineDecoder({ series: o.series, payload: o.decoder, ...deviceTags })
    this.#open = new BatchBuilder(o.series.keys)
    if ((o.tickMs ?? 10_000) > 0) this.#armTick(o.tickMs ?? 10_000)
  }

  get overloaded(): boolean {
    return this.#stopped !== undefined || this.#pendingBytes() >= this.#pendingBytesMax
  }

  submit(context: MessageContext, bytes: Uint8Array, start: number, end: number): number {
    this.refusal = undefined
    if (this.overloaded) return 0
    const receivedUs = this.#arrivalUs()
    if (this.#messages === 0) this.#firstUs = receivedUs
    const out = this.#open
    const firstRow = out.rows
    const decoder = this.#o.decoder
    const { shape } = context
    const arrivedUs = context.arrivedUs ?? receivedUs
    const refused = isLineShape(shape)
      ? this.#lines.decode(bytes, start, end, shape, context, arrivedUs, out)
      : decoder.decode(bytes, start, end, context, arrivedUs, out)
    if (refused !== undefined) {
      // Overload is no fault of the message: the sender offers it again, and nothing is kept of it.
      if (refused.kind === 'overloaded') {
        this.refusal = refused
        this.#offerAgain()
        return 0
      }
      return this.#letter(context, refused, bytes.subarray(start, end), end - start, receivedUs)
    }
    if (!decoder.ownTime && out.rows > firstRow) {
      const known = this.#recognise(context, bytes, start, end, firstRow)
      if (known >= 0) {
        // Of a first copy from before a restart no write is under way that would settle its ticket.
        if (known > this.durable) this.#schedule()
        return known
      }
    }
    this.takenUs = out.rows > firstRow ? out.timeUs[firstRow]! : arrivedUs
    if (decoder.attributeChanges.length > 0) this.#attributes(context, receivedUs)
    if (context.retained === true) out.mark(firstRow, Flag.retained)
    this.#messages++
    this.#pendingRows += out.rows - firstRow
    this.metrics.readings.value += out.rows - firstRow
    this.metrics.accepted(context.transport, end - start)
    if (out.rows >= limits.recordRowsMax) {
      this.#full.push(out)
      this.#open = this.#spare.pop() ?? new BatchBuilder(this.#o.series.keys)
    }
    this.#schedule()
    return this.#ticket
  }

  deadLetter(context: MessageContext, error: KymoError, bytes: Uint8Array, totalBytes: number): number {
    this.refusal = undefined
    if (this.overloaded) return 0
    return this.#letter(context, error, bytes, totalBytes, this.#o.env.clock.nowUs())
  }

  onDurable(listener: (durable: number) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  whenDurable(ticket: number, timeoutMs?: number): Promise<void> {
    if (ticket <= this.durable) return Promise.resolve()
    if (this.#stopped !== undefined) return Promise.reject(this.#stopped)
    return new Promise((resolve, reject) => {
      const timer =
        timeoutMs === undefined
          ? undefined
          : this.#o.env.clock.after(timeoutMs, () => {
              const at = this.#waiters.indexOf(waiter)
              if (at >= 0) this.#waiters.splice(at, 1)
              reject(this.stalled ?? new KymoError('log_unavailable', { detail: `Not durable after ${timeoutMs} ms.`, retryAfterS: 1 }))
            })
      const waiter: Waiter = {
        ticket,
        resolve: () => (timer?.cancel(), resolve()),
        reject: (error) => (timer?.cancel(), reject(error)),
      }
      this.#waiters.push(waiter)
    })
  }

  /** Messages that are not durable yet. */
  get pendingMessages(): number {
    return this.#messages + (this.#flushing ? this.#lastWriteMessages : 0)
  }

  /**
   * Learns from the log's tail which messages without a time were taken before a restart. To be awaited before any door opens. Damage in
   * old records does not keep the server from starting: it is told, and what lies nearer to the end is read.
   */
  async rebuildOrigins(end: bigint, earliest: bigint): Promise<void> {
    const records = 20_000n
    let offset = end - records > earliest ? end - records : earliest
    while (offset < end) {
      try {
        await this.#readOrigins(offset, end)
        return
      } catch (thrown) {
        const error = asKymoError(thrown)
        if (error.kind !== 'corrupt') throw error
        this.#o.env.logger.error(error.message, { code: error.code, id: error.id })
        offset = end - (end - offset) / 2n
      }
    }
  }

  async #readOrigins(offset: bigint, end: bigint): Promise<void> {
    const stop = new AbortController()
    const source = this.#o.log.reader({ topic: Topic.telemetry, start: { offset } })
    try {
      for await (const delivery of source.open(stop.signal)) {
        for (const record of delivery.records) {
          if (record.kind !== 'readings' || record.batch.origin === undefined) continue
          const origin = record.batch.origin
          for (let i = 0; i < origin.count; i++) this.#origins.add(origin.hashHigh[i]!, origin.hashLow[i]!, 0)
        }
        delivery.ack()
        if (delivery.span === undefined || delivery.span.next >= end) break
      }
    } finally {
      stop.abort()
      await source.close()
    }
  }

  /** Takes nothing more, waits until everything taken is durable, and says how many messages that were. */
  async stop(): Promise<{ readonly drained: number; readonly lost: number }> {
    const waiting = this.pendingMessages
    this.#tick?.cancel()
    this.#retryTimer?.cancel()
    const last = this.#ticket
    const nothing = this.#messages === 0 && this.#opaque.length === 0
    const done = nothing && !this.#flushing ? Promise.resolve() : this.whenDurable(nothing ? last - 1 : last, limits.drainTimeoutMs)
    this.#stopped ??= new KymoError('shutting_down')
    let lost = 0
    try {
      await done
    } catch {
      // What is not durable was not acknowledged either: its senders still hold it.
      lost = this.pendingMessages
    }
    this.#abort.abort()
    return { drained: waiting - lost, lost }
  }

  /**
   * Arrival times never repeat: two messages of one device without a time of their own, read in the same microsecond, are two
   * readings. A clock that was set back by more than a moment is followed.
   */
  #arrivalUs(): number {
    const now = this.#o.env.clock.nowUs()
    const next = now > this.#lastArrivalUs || now < this.#lastArrivalUs - 1e6 ? now : this.#lastArrivalUs + 1
    this.#lastArrivalUs = next
    return next
  }

  #pendingBytes(): number {
    return this.#pendingRows * rowBytes + this.#opaqueBytes + this.#inFlightBytes
  }

  /** The ticket of the first copy when this message is a redelivery (its rows are taken back), else -1 and it is remembered. */
  #recognise(context: MessageContext, bytes: Uint8Array, start: number, end: number, firstRow: number): number {
    let seedB: number
    if (context.idempotencyKey !== undefined) seedB = (context.item ?? 0) | 0
    else if (context.packetId > 0) seedB = context.packetId | ((context.item ?? 0) << 16)
    else return -1
    const origins = this.#origins
    origins.hash(this.#seed(context.idempotencyKey ?? context.identity ?? context.client), seedB, bytes, start, end)
    if (context.dup || context.idempotencyKey !== undefined) {
      const ticket = origins.find(origins.high, origins.low)
      if (ticket >= 0) {
        this.#open.rollback(firstRow)
        // The first copy has told what the device said of itself.
        this.#o.decoder.attributeChanges.length = 0
        this.metrics.duplicate(context.transport)
        return Math.max(1, ticket)
      }
    }
    this.#open.addOrigin(firstRow, origins.high, origins.low)
    origins.add(origins.high, origins.low, this.#ticket)
    return -1
  }

  #seed(name: string): number {
    let seed = this.#clientSeeds.get(name)
    if (seed === undefined) {
      // Bounded: it is only a cache.
      if (this.#clientSeeds.size >= 65_536) this.#clientSeeds.clear()
      this.#clientSeeds.set(name, (seed = hashName(name)))
    }
    return seed
  }

  #attributes(context: MessageContext, receivedUs: number): void {
    for (const change of this.#o.decoder.attributeChanges) {
      const body = encodeAttributes({
        tenant: change.tenant,
        device: change.device,
        changes: { [change.name]: change.value },
        ...(context.retained === true ? { retained: true } : {}),
      })
      this.#opaque.push({ topic: Topic.telemetry, kind: 'attributes', key: change.device, receivedUs, body })
      this.#opaqueBytes += body.length
    }
    this.#o.decoder.attributeChanges.length = 0
  }

  #letter(context: MessageContext, error: KymoError, bytes: Uint8Array, totalBytes: number, receivedUs: number): number {
    const kept = error.code === 'body_too_large' ? limits.deadLetterTooLargeBytes : limits.deadLetterBodyBytesMax
    const body = encodeDeadLetter({
      time_us: context.arrivedUs ?? receivedUs,
      code: error.code,
      detail: error.message,
      errors: error.details.errors ?? [],
      transport: context.transport,
      client: context.client,
      topic: context.topic,
      tenant: context.tenant,
      shape: context.shape,
      ...(context.topicDevice === undefined ? {} : { topic_device: context.topicDevice }),
      ...(context.retained === true ? { retained: true } : {}),
      ...(context.contentType === undefined ? {} : { content_type: context.contentType }),
      bytes_total: totalBytes,
      truncated: totalBytes > Math.min(bytes.length, kept),
      body: bytes.subarray(0, kept),
    })
    this.#opaque.push({ topic: Topic.deadLetters, kind: 'dead-letter', key: '', receivedUs, body })
    this.#opaqueBytes += body.length
    this.#messages++
    this.metrics.rejected(context.transport, error.code)
    this.refusal = error
    this.#schedule()
    return this.#ticket
  }

  /** Doors that hold something back are called, even when no write does so. */
  #offerAgain(): void {
    if (this.#retryTimer !== undefined) return
    this.#retryTimer = this.#o.env.clock.after(50, () => {
      this.#retryTimer = undefined
      for (const listener of this.#listeners) listener(this.durable)
    })
  }

  #armTick(ms: number): void {
    this.#tick = this.#o.env.clock.after(ms, () => {
      this.#armTick(ms)
      if (this.overloaded || this.stalled !== undefined) return
      this.#opaque.push({ topic: Topic.telemetry, kind: 'tick', key: '', receivedUs: this.#o.env.clock.nowUs(), body: new Uint8Array(0) })
      this.#schedule()
    })
  }

  #schedule(): void {
    if (this.#scheduled || this.#flushing) return
    this.#scheduled = true
    const run = (): void => {
      this.#scheduled = false
      if (!this.#flushing) void this.#flush()
    }
    if (this.#lastWriteMessages > busyMessages) this.#o.env.clock.after(limits.ingestLingerMs, run)
    else this.#soon(run)
  }

  async #flush(): Promise<void> {
    this.#flushing = true
    const { env } = this.#o
    const batches = this.#full
    if (this.#open.rows > 0) {
      batches.push(this.#open)
      this.#open = this.#spare.pop() ?? new BatchBuilder(this.#o.series.keys)
    }
    const records: LogRecord[] = this.#opaque
    const firstUs = this.#firstUs
    const receivedUs = env.clock.nowUs()
    for (const builder of batches) records.push({ topic: Topic.telemetry, kind: 'readings', key: '', receivedUs, batch: builder.view() })
    this.#full = []
    this.#opaque = []
    this.#inFlightBytes = this.#pendingRows * rowBytes + this.#opaqueBytes
    this.#opaqueBytes = 0
    this.#pendingRows = 0
    this.#lastWriteMessages = this.#messages
    this.#messages = 0
    const ticket = this.#ticket++
    let written = true
    for (const part of writeParts(records)) written &&= await this.#write(part)
    this.#inFlightBytes = 0
    this.#flushing = false
    if (!written) return
    for (const builder of batches) {
      builder.reset()
      if (this.#spare.length < 4) this.#spare.push(builder)
    }
    if (this.#lastWriteMessages > 0) this.metrics.duration.observe((env.clock.nowUs() - firstUs) / 1e6)
    this.#settled(ticket)
    this.metrics.depth.value = this.#pendingRows
    if (this.#messages > 0 || this.#opaque.length > 0) this.#schedule()
    else this.#lastWriteMessages = 0
  }

  /** Tries until it is durable. False: it never will be. */
  async #write(records: readonly LogRecord[]): Promise<boolean> {
    for (let attempt = 0; ; attempt++) {
      try {
        const held = this.#o.held?.()
        if (held !== undefined) throw held
        await this.#o.log.write(records, undefined, this.#abort.signal)
        if (this.stalled !== undefined) this.#o.env.logger.info('the log takes writes again')
        this.stalled = undefined
        return true
      } catch (thrown) {
        const error = asKymoError(thrown)
        if (error.kind !== 'unavailable' || this.#abort.signal.aborted) {
          this.#fail(error)
          return false
        }
        if (this.stalled?.code !== error.code) this.#o.env.logger.error(error.message, { code: error.code, id: error.id })
        this.stalled = new KymoError(error.code, { ...error.details, detail: error.message, retryAfterS: 2 })
        this.metrics.retries.value++
        await sleep(this.#o.env, Math.min(2_000, 20 * 2 ** Math.min(attempt, 10)), this.#abort.signal)
      }
    }
  }

  #settled(ticket: number): void {
    this.durable = ticket
    const waiting = this.#waiters
    let kept = 0
    for (const waiter of waiting) {
      if (waiter.ticket <= ticket) waiter.resolve()
      else waiting[kept++] = waiter
    }
    waiting.length = kept
    for (const listener of this.#listeners) listener(ticket)
  }

  #fail(error: KymoError): void {
    const first = this.#stopped === undefined
    this.#stopped = error
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error)
    if (first) this.#o.onFatal(error)
  }
}
