import type { BatchBuilder } from '../core/batch-builder.ts'
import { KymoError } from '../core/errors.ts'
import type { LineShape, MessageContext } from '../core/gate.ts'
import type { SeriesTable } from '../core/series-table.ts'
import { LineLane } from './line/lane.ts'
import { lineUnitUs } from './line/number.ts'
import { parseLine, type LineField, type ParsedLine } from './line/parse.ts'
import { escapeStep } from './json/pointer.ts'
import type { PayloadDecoder } from './payload/decoder.ts'
import type { Message, StagedMetric } from './payload/message.ts'
import { faultText, nameFault } from './payload/names.ts'
import { refusal, shown } from './payload/refusal.ts'

/** Tags that name the device, the first that a line has. */
export const defaultDeviceTags: readonly string[] = ['device_id', 'device', 'sensor_id', 'host']

export interface LineDecoderOptions {
  readonly series: SeriesTable
  /** Where a line's message goes: device, series and limits are admitted as those of JSON are. */
  readonly payload: PayloadDecoder
  /** Default: `defaultDeviceTags`. */
  readonly deviceTags?: readonly string[]
  /** Default true. Without it every line is parsed, which must give the same rows: what tests compare. */
  readonly fastLane?: boolean
}

/**
 * Lines of line protocol to rows (docs/reference/line-protocol.md): device = one of the device tags, else measurement and tags; metric =
 * measurement.field, followed by the other tags. `payload` tells of the last line what it tells of a JSON message (`ownTime`, `rows`,
 * `attributeChanges`).
 */
export class LineDecoder {
  /** Lines that took the fast lane. */
  fastLines = 0
  readonly #series: SeriesTable
  readonly #payload: PayloadDecoder
  readonly #deviceTags: readonly string[]
  readonly #lane: LineLane | undefined

  constructor(o: LineDecoderOptions) {
    this.#series = o.series
    this.#payload = o.payload
    this.#deviceTags = o.deviceTags ?? defaultDeviceTags
    if (o.fastLane ?? true) this.#lane = new LineLane(o.series)
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
    const unitUs = lineUnitUs[shape]
    const mark = out.rows
    if (this.#lane?.take(bytes, start, end, context.tenant, unitUs, receivedUs, payload.oldestUs, out) === true) {
      this.fastLines++
      payload.ownTime = this.#lane.ownTime
      payload.rows = out.rows - mark
      return undefined
    }
    try {
      const line = parseLine(bytes, start, end, unitUs)
      const message = this.#message(line)
      const refused = payload.take(message, context, receivedUs, out)
      if (refused !== undefined) return numbered(refused, context)
      this.#learn(bytes, line, message, context.tenant)
      return undefined
    } catch (thrown) {
      if (thrown instanceof KymoError) return numbered(thrown, context)
      throw thrown
    }
  }

  #message(line: ParsedLine): Message {
    const key = this.#deviceTags.find((name) => line.tags.some(([tag]) => tag === name))
    const others = line.tags
      .filter(([tag]) => tag !== key)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([tag, value]) => `${escaped(tag)}=${escaped(value)}`)
    const suffix = others.length === 0 ? '' : `{${others.join(',')}}`
    const device = key === undefined ? line.measurement + suffix : line.tags.find(([tag]) => tag === key)![1]
    const pointer = key === undefined ? '/measurement' : `/tags/${escapeStep(key)}`
    const fault = nameFault(device)
    if (fault !== undefined) {
      const none = key === undefined ? ` No tag names it (${this.#deviceTags.join(', ')}), so measurement and tags do.` : ''
      throw refusal('device_invalid', pointer, `The device id ${shown(device)} is not valid: ${faultText(fault)}.${none}`)
    }
    const tail = key === undefined ? '' : suffix
    return {
      device,
      devicePointer: pointer,
      topicDeviceDiffered: false,
      timeUs: line.timeUs,
      timePointer: Number.isNaN(line.timeUs) ? '' : '/timestamp',
      metrics: metricsOf(line, tail),
      attributes: [],
      metadata: '',
      keys: [],
    }
  }

  #learn(bytes: Uint8Array, line: ParsedLine, message: Message, tenant: string): void {
    const lane = this.#lane
    const device = lane === undefined ? undefined : this.#series.find(tenant, message.device)
    if (lane === undefined || device === undefined) return
    const series = message.metrics.map(({ name }) => device.series.get(name))
    if (series.every((id) => id !== undefined)) lane.learn(bytes, line, tenant, series)
  }
}

function metricsOf(line: ParsedLine, tail: string): StagedMetric[] {
  return line.fields.map((field: LineField) => {
    const name = `${line.measurement}.${field.name}${tail}`
    const pointer = `/fields/${escapeStep(field.name)}`
    const fault = nameFault(name)
    if (fault !== undefined) {
      const fix = fault === 'too long' ? ' Leave tags out (Telegraf: tagexclude), or name the device by one (payload.line_device_tags).' : ''
      throw refusal('metric_invalid', pointer, `The metric name ${shown(name)} is not valid: ${faultText(fault)}.${fix}`)
    }
    return { name, kind: field.kind, value: field.value, text: field.text, pointer }
  })
}

/** So that two different sets of tags never have the same name. */
function escaped(text: string): string {
  return text.replace(/[\\,={}]/g, '\\$&')
}

function numbered(error: KymoError, context: MessageContext): KymoError {
  if (context.line === undefined || error.kind === 'overloaded') return error
  return new KymoError(error.code, { ...error.details, detail: `Line ${context.line}: ${error.message}` })
}
