import { Flag } from '../core/batch.ts'
import type { BatchBuilder } from '../core/batch-builder.ts'
import { KymoError } from '../core/errors.ts'
import type { LineShape, MessageContext } from '../core/gate.ts'
import { limits } from '../core/limits.ts'
import type { DeviceEntry, SeriesTable } from '../core/series-table.ts'
import { escapeStep } from './json/pointer.ts'
import { Heads } from './line/heads.ts'
import { LineLane } from './line/lane.ts'
import { LineNames, writtenKey } from './line/names.ts'
import { lineUnitUs, ValueKind } from './line/number.ts'
import { LineScanner } from './line/scan.ts'
import type { PayloadDecoder } from './payload/decoder.ts'
import type { Message, StagedMetric } from './payload/message.ts'
import { faultText, nameFault } from './payload/names.ts'
import { refusal, shown } from './payload/refusal.ts'

/** Tags that name the device, the first that a line has. */
export const defaultDeviceTags: readonly string[] = ['device_id', 'device', 'sensor_id', 'host']

export interface LineDecoderOptions {
  readonly series: SeriesTable
  /** Where a line goes that is to be refused: for the same reasons and in the same words as a message of JSON. */
  readonly payload: PayloadDecoder
  /** Default: `defaultDeviceTags`. */
  readonly deviceTags?: readonly string[]
  /** Default true. Without it every line is scanned, which must give the same rows: what tests compare. */
  readonly fastLane?: boolean
}

const kindNames = ['number', 'boolean', 'text', 'bigInteger'] as const

/**
 * Lines of line protocol to rows (docs/reference/line-protocol.md): device = one of the device tags, else measurement and tags; metric =
 * measurement.field, followed by the other tags. `payload` tells of the last line what it tells of a JSON message (`ownTime`, `rows`,
 * `attributeChanges`).
 *
 * A line takes one of three ways, each of which gives what the next one would: the fast lane, when nothing but numbers and plain text is new; the
 * general lane, which reads it into columns and looks its series up, or registers them; and, when something is to be refused, that of a JSON message.
 */
export class LineDecoder {
  /** Lines that took the fast lane. */
  fastLines = 0
  readonly #series: SeriesTable
  readonly #payload: PayloadDecoder
  readonly #deviceTags: readonly string[]
  readonly #heads: Heads
  readonly #scan = new LineScanner()
  readonly #lane: LineLane | undefined
  /** Series of the present line's fields, -1 where there is none yet; of those the name of the metric to be. */
  readonly #ids = new Int32Array(limits.valuesPerMessageMax)
  readonly #metrics: string[] = []
  readonly #names: LineNames
  /** Were they asked for, for the present line? */
  #named = false
  /** Its device where it is not known. */
  #device = ''

  constructor(o: LineDecoderOptions) {
    this.#series = o.series
    this.#payload = o.payload
    this.#deviceTags = o.deviceTags ?? defaultDeviceTags
    this.#names = new LineNames(this.#deviceTags.map(writtenKey), (name) => nameFault(name) === undefined)
    this.#heads = new Heads(o.series)
    if (o.fastLane ?? true) this.#lane = new LineLane(o.series, this.#heads)
  }

  /**
   * Appends the rows of the line in bytes[start, end) to `out`, or says why not, as PayloadDecoder.decode does. `shape` tells the unit of its
   * time. The refusal begins with the line's number where the context has it.
   */
  decode(
    bytes: Uint8Array,
    start: number,
    end: number,
    shape: LineShape,
    context: MessageContext,
    receivedUs: number,
    out: BatchBuilder,
  ): KymoError | undefined {
    const payload = this.#payload
    const scan = this.#scan
    const lane = this.#lane
    const unitUs = lineUnitUs[shape]
    const mark = out.rows
    payload.rows = 0
    if (!scan.begin(bytes, start, end, this.#heads.seed(context.tenant))) return numbered(scan.fault!, context)
    const head = this.#heads.find(bytes, scan, context.tenant)
    if (head >= 0 && lane?.take(bytes, scan.keyEnd, scan.last, head, unitUs, receivedUs, payload.oldestUs, out) === true) {
      this.fastLines++
      payload.ownTime = lane.ownTime
      payload.rows = out.rows - mark
      return undefined
    }
    if (!((head >= 0 || scan.tags(bytes)) && scan.fields(bytes, unitUs))) return numbered(scan.fault!, context)
    this.#named = false
    const known = head < 0 ? this.#findDevice(bytes, context.tenant) : this.#heads.device[head]!
    const fresh = this.#find(bytes, head, known)
    const device = fresh === 0 ? known : fresh > 0 ? this.#register(known, fresh, context.tenant, receivedUs) : undefined
    if (device === undefined || !this.#rows(receivedUs, bytes, out)) return this.#refuse(bytes, known, context, receivedUs, out)
    payload.rows = out.rows - mark
    // Fields were looked for by name that the beginning does not have yet.
    if (this.#named) this.#heads.learn(bytes, scan, head, device, this.#ids)
    return undefined
  }

  #findDevice(bytes: Uint8Array, tenant: string): DeviceEntry | undefined {
    this.#device = this.#read(bytes).device(bytes, this.#scan)
    return this.#series.find(tenant, this.#device)
  }

  /** Looks the fields' series up: how many are not there yet, or -1: text is meant for one that holds numbers, or one cannot be named as it is. */
  #find(bytes: Uint8Array, head: number, device: DeviceEntry | undefined): number {
    const heads = this.#heads
    const scan = this.#scan
    const ids = this.#ids
    const { numeric } = this.#series
    const { kind, fieldCount } = scan
    let fresh = 0
    let isRefused = false
    let next = 0
    for (let i = 0; i < fieldCount; i++) {
      const index = head < 0 ? -1 : heads.indexOf(bytes, scan, i, head, next)
      let id: number
      if (index >= 0) {
        next = index + 1
        id = heads.series[heads.first[head]! + index]!
      } else {
        const names = this.#read(bytes)
        const name = names.metric(bytes, scan, i)
        id = device?.series.get(name) ?? -1
        if (id < 0 && !names.isGood) isRefused = true
        this.#metrics[i] = name
      }
      ids[i] = id
      if (id < 0) fresh++
      else if (kind[i] === ValueKind.text && numeric[id] === 1) isRefused = true
    }
    return isRefused ? -1 : fresh
  }

  /** Rows for series that are known. False: the line is too old. */
  #rows(receivedUs: number, bytes: Uint8Array, out: BatchBuilder): boolean {
    const scan = this.#scan
    const ids = this.#ids
    const { numeric } = this.#series
    const { kind, value, fieldCount } = scan
    const ownTime = !Number.isNaN(scan.timeUs)
    const timeUs = ownTime ? scan.timeUs : receivedUs
    if (timeUs < this.#payload.oldestUs) return false
    let flags = 0
    if (!ownTime) flags = Flag.arrivalTime
    else if (timeUs > receivedUs + limits.clockAheadMaxUs) flags = Flag.clockAhead
    for (let i = 0; i < fieldCount; i++) {
      const id = ids[i]!
      const k = kind[i]!
      if (k !== ValueKind.text) numeric[id] = 1
      if (k === ValueKind.number) out.add(id, timeUs, value[i]!, flags)
      else if (k === ValueKind.boolean) out.add(id, timeUs, value[i]!, flags | Flag.boolean)
      else out.addText(id, timeUs, scan.text(bytes, i), flags | (k === ValueKind.text ? Flag.text : Flag.text | Flag.bigInteger))
    }
    this.#payload.ownTime = ownTime
    return true
  }

  /** Gives the line's new series their numbers, and its device if need be; undefined: something is to be refused, and nothing happened. */
  #register(known: DeviceEntry | undefined, fresh: number, tenant: string, receivedUs: number): DeviceEntry | undefined {
    const scan = this.#scan
    const ids = this.#ids
    const series = this.#series
    if ((Number.isNaN(scan.timeUs) ? receivedUs : scan.timeUs) < this.#payload.oldestUs) return undefined
    if ((known?.series.size ?? 0) + fresh > limits.metricsPerDeviceMax || series.keys.length + fresh > limits.seriesMax) return undefined
    let device = known
    if (device === undefined) {
      const entry = nameFault(this.#device) === undefined ? series.admitted(tenant, this.#device) : undefined
      if (entry === undefined || typeof entry === 'string') return undefined
      device = entry
    }
    for (let i = 0; i < scan.fieldCount; i++) if (ids[i]! < 0) ids[i] = series.add(device, this.#metrics[i]!)
    return device
  }

  /** Why a scanned line is not taken: it is put as a message of JSON is, and refused as one. */
  #refuse(bytes: Uint8Array, known: DeviceEntry | undefined, context: MessageContext, receivedUs: number, out: BatchBuilder): KymoError | undefined {
    try {
      const refused = this.#payload.take(this.#message(bytes, known), context, receivedUs, out)
      return refused === undefined ? undefined : numbered(refused, context)
    } catch (thrown) {
      if (thrown instanceof KymoError) return numbered(thrown, context)
      throw thrown
    }
  }

  /** The line's names. Tags of a known beginning are good; they are read only for this. */
  #read(bytes: Uint8Array): LineNames {
    if (!this.#named) {
      this.#named = true
      if (this.#scan.tagCount < 0) this.#scan.tags(bytes)
      this.#names.read(bytes, this.#scan)
    }
    return this.#names
  }

  #message(bytes: Uint8Array, known: DeviceEntry | undefined): Message {
    const scan = this.#scan
    const device = known?.id ?? this.#device
    const deviceTag = this.#named ? this.#names.deviceTag : -1
    const tag = deviceTag < 0 ? undefined : this.#deviceTags[deviceTag]
    const pointer = tag === undefined ? '/measurement' : `/tags/${escapeStep(tag)}`
    const fault = known === undefined ? nameFault(device) : undefined
    if (fault !== undefined) {
      const none = tag === undefined ? ` No tag names it (${this.#deviceTags.join(', ')}), so measurement and tags do.` : ''
      throw refusal('device_invalid', pointer, `The device id ${shown(device)} is not valid: ${faultText(fault)}.${none}`)
    }
    const metrics: StagedMetric[] = []
    for (let i = 0; i < scan.fieldCount; i++) {
      const id = this.#ids[i]!
      const fieldPointer = `/fields/${escapeStep(this.#heads.fieldName(bytes, scan, i))}`
      const name = id < 0 ? this.#metrics[i]! : this.#series.keys[id]!.metric
      if (id < 0) checkMetric(name, fieldPointer)
      metrics.push({ name, kind: kindNames[scan.kind[i]!]!, value: scan.value[i]!, text: scan.text(bytes, i), pointer: fieldPointer })
    }
    return {
      device,
      devicePointer: pointer,
      topicDeviceDiffered: false,
      timeUs: scan.timeUs,
      timePointer: Number.isNaN(scan.timeUs) ? '' : '/timestamp',
      metrics,
      attributes: [],
      metadata: '',
      keys: [],
    }
  }
}

function checkMetric(name: string, pointer: string): void {
  const fault = nameFault(name)
  if (fault === undefined) return
  const fix = fault === 'too long' ? ' Leave tags out (Telegraf: tagexclude), or name the device by one (payload.line_device_tags).' : ''
  throw refusal('metric_invalid', pointer, `The metric name ${shown(name)} is not valid: ${faultText(fault)}.${fix}`)
}

function numbered(error: KymoError, context: MessageContext): KymoError {
  if (context.line === undefined || error.kind === 'overloaded') return error
  return new KymoError(error.code, { ...error.details, detail: `Line ${context.line}: ${error.message}` })
}
