import { Flag } from '../../core/batch.ts'
import type { BatchBuilder } from '../../core/batch-builder.ts'
import { errorTable, KymoError } from '../../core/errors.ts'
import { isLineShape, type MessageContext } from '../../core/gate.ts'
import { limits } from '../../core/limits.ts'
import type { DeviceEntry, SeriesTable } from '../../core/series-table.ts'
import { parseDocument } from '../json/document.ts'
import { firstByte } from '../json/text.ts'
import { KnownDevices } from './devices.ts'
import { FastLane } from './fast-lane.ts'
import { interpret } from './interpret.ts'
import { KeyTable } from './key-table.ts'
import type { Message, StagedMetric } from './message.ts'
import { refusal, shown } from './refusal.ts'

/** A device said something of itself that differs from what it said before. */
export interface AttributeChange {
  readonly tenant: string
  readonly device: string
  /** `firmware`, `location`, `unit.<metric>`, `unit`, or a name from `attributes`. */
  readonly name: string
  readonly value: string
  /** Time of the message that said it, epoch microseconds. */
  readonly timeUs: number
}

export interface PayloadDecoderOptions {
  readonly series: SeriesTable
  /** Treat `temperature_c` and `temperature` as one metric. Default true. */
  readonly aliases?: boolean
  /** Default true. Without it every message takes the general lane, which must give the same rows: what tests compare. */
  readonly fastLane?: boolean
}

/** Containers count as values to the parser; metadata and attributes come on top of the metrics. */
const parsedValuesMax = 3 * limits.valuesPerMessageMax

/**
 * JSON messages to rows (docs/reference/payloads.md). A message is taken as a whole or not at all: one that is refused leaves no
 * row, no device, no series and no attribute behind. Messages like those before take the fast lane, which allocates nothing.
 */
export class PayloadDecoder {
  /** Appended by messages that were taken; the caller empties it. */
  readonly attributeChanges: AttributeChange[] = []
  /** Did the last message that was taken carry its time? If not, its rows have its arrival time and Flag.arrivalTime. */
  ownTime = false
  /** Rows of the last message; 0 when it was refused, or carried attributes only. */
  rows = 0
  /** Messages whose topic named another device than their payload; the topic won. */
  topicDeviceDiffered = 0
  /** Messages that took the fast lane. */
  fastMessages = 0
  /** Readings before it are refused as too old: what is so old is kept no longer. Epoch microseconds. */
  oldestUs = Number.NEGATIVE_INFINITY
  readonly #series: SeriesTable
  readonly #aliases: boolean
  readonly #keys: KeyTable
  readonly #devices = new KnownDevices()
  readonly #fast: FastLane | undefined

  constructor(o: PayloadDecoderOptions) {
    this.#series = o.series
    this.#aliases = o.aliases ?? true
    this.#keys = new KeyTable(this.#aliases)
    if (o.fastLane ?? true) this.#fast = new FastLane(this.#keys, this.#devices, this.#series)
  }

  /**
   * Appends the rows of the message in bytes[start, end) to `out`, or says why not. The bytes are not kept. `receivedUs`: epoch
   * microseconds. An error of kind `overloaded` (registration_rate) is no fault of the message: offer it again.
   */
  decode(bytes: Uint8Array, start: number, end: number, context: MessageContext, receivedUs: number, out: BatchBuilder): KymoError | undefined {
    const mark = out.rows
    this.rows = 0
    if (end - start > limits.messageBytesMax) return tooLarge()
    const fast = this.#fast
    if (fast !== undefined && fast.take(bytes, start, end, context, receivedUs, this.oldestUs, out)) {
      this.fastMessages++
      this.ownTime = fast.ownTime
      if (fast.topicDeviceDiffered) this.topicDeviceDiffered++
      this.rows = out.rows - mark
      return undefined
    }
    try {
      const message = this.#parse(bytes, start, end, context)
      const refused = this.take(message, context, receivedUs, out)
      if (refused === undefined) this.#learn(message, context)
      return refused
    } catch (thrown) {
      if (thrown instanceof KymoError) return thrown
      throw thrown
    }
  }

  /** As `decode`, for a message that was read from another format: admitted, and refused, as one of JSON is. */
  take(message: Message, context: MessageContext, receivedUs: number, out: BatchBuilder): KymoError | undefined {
    const mark = out.rows
    this.rows = 0
    try {
      this.#commit(message, context, receivedUs, out)
      this.rows = out.rows - mark
      return undefined
    } catch (thrown) {
      out.rollback(mark)
      if (thrown instanceof KymoError) return thrown
      throw thrown
    }
  }

  /** The device was erased, and is no longer in the series' table. */
  forget(tenant: string, device: string): void {
    this.#devices.forget(tenant, device)
  }

  #parse(bytes: Uint8Array, start: number, end: number, context: MessageContext): Message {
    if (firstByte(bytes, start, end) < 0) throw refusal('empty_body', '', errorTable.empty_body.text)
    const { root, duplicate } = parseDocument(bytes, start, end, { depthMax: limits.jsonDepthMax, valuesMax: parsedValuesMax }, this.#keys)
    if (duplicate !== undefined) throw refusal('duplicate_key', duplicate.pointer, `The key ${shown(duplicate.key)} stands twice in one object.`)
    return interpret(root, isLineShape(context.shape) ? 'any' : context.shape, this.#aliases, context.topicDevice)
  }

  /** Nothing before the first registration changes anything; nothing after it fails. */
  #commit(message: Message, context: MessageContext, receivedUs: number, out: BatchBuilder): void {
    const ownTime = !Number.isNaN(message.timeUs)
    const timeUs = ownTime ? message.timeUs : receivedUs
    if (timeUs < this.oldestUs && message.metrics.length > 0) throw tooOld(message.timePointer, timeUs, this.oldestUs)
    const entry = this.#admit(message, context)
    let flags = 0
    if (!ownTime) flags = Flag.arrivalTime
    else if (timeUs > receivedUs + limits.clockAheadMaxUs) flags = Flag.clockAhead
    const firstRow = out.rows
    for (const metric of message.metrics) this.#addRow(entry, metric, timeUs, flags, out)
    if (message.metadata !== '') out.addMeta(firstRow, message.metadata)
    for (const { name, value } of message.attributes) {
      if (entry.attributes.get(name) === value) continue
      this.#series.setAttribute(entry, name, value)
      this.attributeChanges.push({ tenant: entry.tenant, device: entry.id, name, value, timeUs })
    }
    this.ownTime = ownTime
    if (message.topicDeviceDiffered) this.topicDeviceDiffered++
  }

  /** The next message of JSON that is like this one may take the fast lane. */
  #learn(message: Message, context: MessageContext): void {
    const entry = this.#series.find(context.tenant, message.device)
    if (entry !== undefined) this.#devices.add(entry)
    for (const key of message.keys) this.#keys.learn(key)
  }

  #addRow(entry: DeviceEntry, metric: StagedMetric, timeUs: number, flags: number, out: BatchBuilder): void {
    const id = this.#series.series(entry, metric.name)
    switch (metric.kind) {
      case 'text':
        out.addText(id, timeUs, metric.text, flags | Flag.text)
        return
      case 'bigInteger':
        this.#series.numeric[id] = 1
        out.addText(id, timeUs, metric.text, flags | Flag.text | Flag.bigInteger)
        return
      case 'boolean':
        this.#series.numeric[id] = 1
        out.add(id, timeUs, metric.value, flags | Flag.boolean)
        return
      case 'number':
        this.#series.numeric[id] = 1
        out.add(id, timeUs, metric.value, flags)
    }
  }

  /** The device's entry, once it is sure that all of the message's series and attributes have a place. */
  #admit(message: Message, context: MessageContext): DeviceEntry {
    const known = this.#series.find(context.tenant, message.device)
    let fresh = 0
    let firstFresh = ''
    for (const metric of message.metrics) {
      const id = known?.series.get(metric.name)
      if (id === undefined) {
        if (fresh++ === 0) firstFresh = metric.pointer
      } else if (metric.kind === 'text' && this.#series.numeric[id] === 1) {
        throw refusal('metric_text_changed', metric.pointer, `${shown(metric.name)} has held numbers so far; ${shown(metric.text)} is text.`)
      }
    }
    if (fresh > 0 && (known?.series.size ?? 0) + fresh > limits.metricsPerDeviceMax) {
      throw refusal(
        'too_many_metrics',
        firstFresh,
        `The device would have more than ${limits.metricsPerDeviceMax} metrics. Ids used as JSON keys are the usual cause.`,
      )
    }
    if (fresh > 0 && this.#series.keys.length + fresh > limits.seriesMax) {
      throw refusal('too_many_metrics', firstFresh, `There would be more than ${limits.seriesMax} series in all.`)
    }
    this.#admitAttributes(message, known)
    if (known !== undefined) return known
    const entry = this.#series.device(context.tenant, message.device)
    if (typeof entry !== 'string') return entry
    throw refusal(entry, message.devicePointer, errorTable[entry].text, { device: message.device })
  }

  #admitAttributes(message: Message, known: DeviceEntry | undefined): void {
    let count = known?.attributes.size ?? 0
    for (const attribute of message.attributes) {
      if (known?.attributes.has(attribute.name) === true || ++count <= limits.attributesPerDeviceMax) continue
      throw refusal('too_many_attributes', attribute.pointer, `The device would have more than ${limits.attributesPerDeviceMax} attributes.`)
    }
  }
}

function tooLarge(): KymoError {
  return refusal('body_too_large', '', `The message is longer than ${limits.messageBytesMax} bytes.`)
}

function tooOld(pointer: string, timeUs: number, oldestUs: number): KymoError {
  const day = (us: number): string => `${new Date(us / 1000).toISOString().slice(0, 19)}Z`
  return refusal(
    'too_old',
    pointer,
    `The reading is of ${day(timeUs)}; readings before ${day(oldestUs)} are no longer kept (retention.raw, retention.store_mb).`,
  )
}
