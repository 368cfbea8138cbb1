import { Flag, type Batch } from '../core/batch.ts'
import type { KymoError } from '../core/errors.ts'
import { asKymoError } from '../core/errors.ts'
import { isLineShape, type IngestGate, type MessageContext } from '../core/gate.ts'
import { limits } from '../core/limits.ts'
import type { Metrics } from '../core/metrics.ts'
import { Topic } from '../core/record.ts'
import { encodeAttributes } from '../wire/attributes.ts'
import { encodeDeadLetter } from '../wire/dead-letter.ts'
import { LineDecoder } from '../wire/line-decoder.ts'
import type { PayloadDecoder } from '../wire/payload/decoder.ts'
import { GroupCommit, type GroupCommitOptions } from './ingest-commit.ts'
import { IngestMetrics } from './ingest-metrics.ts'
import { hashName, OriginWindow } from './origins.ts'

export interface IngestOptions extends Omit<GroupCommitOptions, 'metrics'> {
  readonly decoder: PayloadDecoder
  /** Tags of line protocol that name the device, the first that a line has. */
  readonly lineDeviceTags?: readonly string[]
  readonly metrics: Metrics
  /** Received time is written into the log at this interval, so that absence can be judged on replay. 0: never. */
  readonly tickMs?: number
}

/** Records of the log whose identities are known again after a start. */
const originRecords = 20_000

/**
 * The ingest role: what doors submit is decoded at once into the open batch of the next write to the log (`GroupCommit`). What cannot be used becomes
 * a dead letter in the same write, and what was taken before is recognised (`OriginWindow`).
 */
export class Ingest implements IngestGate {
  refusal: KymoError | undefined = undefined
  takenUs = 0
  readonly metrics: IngestMetrics
  readonly #o: IngestOptions
  readonly #commit: GroupCommit
  readonly #origins = new OriginWindow()
  readonly #lines: LineDecoder
  readonly #clientSeeds = new Map<string, number>()
  #lastArrivalUs = 0
  #tickedUs = Number.NEGATIVE_INFINITY
  #tick: { cancel(): void } | undefined

  constructor(o: IngestOptions) {
    this.#o = o
    this.metrics = new IngestMetrics(o.metrics)
    this.#commit = new GroupCommit({ ...o, metrics: this.metrics })
    const deviceTags = o.lineDeviceTags === undefined ? {} : { deviceTags: o.lineDeviceTags }
    this.#lines = new LineDecoder({ series: o.series, payload: o.decoder, ...deviceTags })
    if ((o.tickMs ?? 10_000) > 0) this.#armTick(o.tickMs ?? 10_000)
  }

  get durable(): number {
    return this.#commit.durable
  }

  get stalled(): KymoError | undefined {
    return this.#commit.stalled
  }

  get overloaded(): boolean {
    return this.#commit.overloaded
  }

  /** Messages that are not durable yet. */
  get pendingMessages(): number {
    return this.#commit.pendingMessages
  }

  onDurable(listener: (durable: number) => void): () => void {
    return this.#commit.onDurable(listener)
  }

  whenDurable(ticket: number, timeoutMs?: number): Promise<void> {
    return this.#commit.whenDurable(ticket, timeoutMs)
  }

  /** Takes nothing more, waits until everything taken is durable, and says how many messages that were. */
  stop(): Promise<{ readonly drained: number; readonly lost: number }> {
    this.#tick?.cancel()
    return this.#commit.stop()
  }

  submit(context: MessageContext, bytes: Uint8Array, start: number, end: number): number {
    this.refusal = undefined
    if (this.overloaded) return 0
    const receivedUs = this.#arrivalUs()
    const out = this.#commit.open
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
        this.#commit.offerAgain()
        return 0
      }
      return this.#letter(context, refused, bytes.subarray(start, end), end - start, receivedUs)
    }
    if (!decoder.ownTime && out.rows > firstRow) {
      const known = this.#recognise(context, bytes, start, end, firstRow)
      if (known >= 0) {
        // Of a first copy from before a restart no write is under way that would settle its ticket.
        if (known > this.#commit.durable) this.#commit.due()
        return known
      }
    }
    this.takenUs = out.rows > firstRow ? out.timeUs[firstRow]! : arrivedUs
    if (decoder.attributeChanges.length > 0) this.#attributes(context, receivedUs)
    if (context.retained === true) out.mark(firstRow, Flag.retained)
    const rows = out.rows - firstRow
    this.metrics.readings.value += rows
    this.metrics.accepted(context.transport, end - start)
    return this.#commit.took(rows, receivedUs)
  }

  deadLetter(context: MessageContext, error: KymoError, bytes: Uint8Array, totalBytes: number): number {
    this.refusal = undefined
    if (this.overloaded) return 0
    return this.#letter(context, error, bytes, totalBytes, this.#o.env.clock.nowUs())
  }

  /**
   * Learns from the log's tail which messages without a time were taken before a restart. To be awaited before any door opens. Damage in
   * old records does not keep the server from starting: it is told, and what lies nearer to the end is read.
   */
  async rebuildOrigins(): Promise<void> {
    const { partitions } = await this.#o.log.places(Topic.telemetry)
    const records = BigInt(Math.ceil(originRecords / partitions.length))
    for (const { partition, earliest, end } of partitions)
      await this.#rebuildOrigins(partition, end - records > earliest ? end - records : earliest, end)
  }

  /** Those that another process let in. */
  heardOrigins({ count, hashHigh, hashLow }: NonNullable<Batch['origin']>): void {
    for (let i = 0; i < count; i++) {
      const [high, low] = [hashHigh[i]!, hashLow[i]!]
      // Of our own the ticket is known, and may still be under way.
      if (this.#origins.find(high, low) < 0) this.#origins.add(high, low, 0)
    }
  }

  /** Received time stands in the log as of then, be it by another process: one of them is enough. */
  heardTick(receivedUs: number): void {
    this.#tickedUs = receivedUs
  }

  async #rebuildOrigins(partition: number, from: bigint, end: bigint): Promise<void> {
    for (let offset = from; offset < end;) {
      try {
        await this.#readOrigins(partition, offset, end)
        return
      } catch (thrown) {
        const error = asKymoError(thrown)
        if (error.kind !== 'corrupt') throw error
        this.#o.env.logger.error(error.message, { code: error.code, id: error.id })
        offset = end - (end - offset) / 2n
      }
    }
  }

  async #readOrigins(partition: number, offset: bigint, end: bigint): Promise<void> {
    const stop = new AbortController()
    const source = this.#o.log.reader({ topic: Topic.telemetry, start: { offsets: new Map([[partition, offset]]) } })
    try {
      for await (const delivery of source.open(stop.signal)) {
        for (const record of delivery.records) {
          if (record.kind !== 'readings' || record.batch.origin === undefined) continue
          this.heardOrigins(record.batch.origin)
        }
        delivery.ack()
        if (delivery.span === undefined || delivery.span.next >= end) break
      }
    } finally {
      stop.abort()
      await source.close()
    }
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
        this.#commit.open.rollback(firstRow)
        // The first copy has told what the device said of itself.
        this.#o.decoder.attributeChanges.length = 0
        this.metrics.duplicate(context.transport)
        return Math.max(1, ticket)
      }
    }
    this.#commit.open.addOrigin(firstRow, origins.high, origins.low)
    origins.add(origins.high, origins.low, this.#commit.ticket)
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
      this.#commit.add({ topic: Topic.telemetry, kind: 'attributes', key: change.device, receivedUs, body })
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
    this.#commit.add({ topic: Topic.deadLetters, kind: 'dead-letter', key: '', receivedUs, body })
    this.metrics.rejected(context.transport, error.code)
    this.refusal = error
    return this.#commit.took(0, receivedUs)
  }

  #armTick(ms: number): void {
    this.#tick = this.#o.env.clock.after(ms, () => {
      this.#armTick(ms)
      if (this.overloaded || this.stalled !== undefined) return
      const receivedUs = this.#o.env.clock.nowUs()
      if (receivedUs - this.#tickedUs < ms * 900) return
      this.#commit.add({ topic: Topic.telemetry, kind: 'tick', key: '', receivedUs, body: new Uint8Array(0) })
      this.#commit.due()
    })
  }
}
