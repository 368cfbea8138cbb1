import { Flag } from '../../core/batch.ts'
import type { BatchBuilder } from '../../core/batch-builder.ts'
import type { MessageContext } from '../../core/gate.ts'
import { limits } from '../../core/limits.ts'
import type { SeriesTable } from '../../core/series-table.ts'
import { FieldKind, FlatScanner } from '../json/flat.ts'
import { utf8Text } from '../json/text.ts'
import { epochDigitsToUs, epochToUs, rfc3339ToUs } from '../time.ts'
import { attributeIs, textIs, type KnownDevice, type KnownDevices } from './devices.ts'
import type { KeyTable } from './key-table.ts'
import { Layouts, type Layout } from './layout.ts'
import { DeviceMemo } from './memo.ts'

/**
 * The messages that come by the thousand: a flat object (or one with a flat `values`) of a device, series and attributes
 * that are all known, with nothing new or wrong in it. It changes nothing but the batch, allocates nothing unless a value is text,
 * and knows no errors: whatever it does not take, the general lane judges.
 */
export class FastLane {
  ownTime = false
  topicDeviceDiffered = false
  readonly #keys: KeyTable
  readonly #devices: KnownDevices
  readonly #series: SeriesTable
  readonly #scanner: FlatScanner
  readonly #layouts: Layouts
  readonly #memo: DeviceMemo

  constructor(keys: KeyTable, devices: KnownDevices, series: SeriesTable) {
    this.#keys = keys
    this.#devices = devices
    this.#series = series
    this.#scanner = new FlatScanner(keys.bytes)
    // The decoder's own names have the same entries in every generation of the key table.
    this.#scanner.containerKey = keys.own('values')
    this.#layouts = new Layouts(keys, this.#scanner)
    this.#memo = new DeviceMemo(keys, series)
  }

  /** True: taken, its rows are in `out`. False: nothing happened. */
  take(bytes: Uint8Array, start: number, end: number, context: MessageContext, receivedUs: number, oldestUs: number, out: BatchBuilder): boolean {
    if (!this.#scanner.scan(bytes, start, end)) return false
    const layout = this.#layouts.current()
    if (layout === undefined || (context.shape !== 'any' && !layout.shapes.has(context.shape))) return false
    const device = this.#device(bytes, layout, context)
    if (device < 0) return false
    const first = layout.plain ? this.#memo.firstSeries(device, layout, this.#memo.tuple(layout, bytes, this.#scanner.start, this.#scanner.end)) : -1
    let timeUs = receivedUs
    let flags: number = Flag.arrivalTime
    this.ownTime = layout.time >= 0
    if (this.ownTime) {
      timeUs = this.#timeUs(bytes, layout.time)
      if (Number.isNaN(timeUs)) return false
      flags = timeUs > receivedUs + limits.clockAheadMaxUs ? Flag.clockAhead : 0
    }
    if (timeUs < oldestUs) return false
    if (first < 0) return this.#compared(bytes, layout, device, timeUs, flags, out)
    const { metrics } = layout
    const { number } = this.#scanner
    for (let i = 0; i < metrics.length; i++) out.add(first + i, timeUs, number[metrics[i]!]! + 0, flags)
    return true
  }

  /** A message that is not like the device's last one. */
  #compared(bytes: Uint8Array, layout: Layout, device: number, timeUs: number, flags: number, out: BatchBuilder): boolean {
    const known = this.#devices.found
    let paired = -1
    if (layout.value >= 0 && (paired = this.#pairedMetric(bytes, layout)) < 0) return false
    const attributes = this.#sameAttributes(bytes, layout, known, paired)
    if (attributes < 0) return false
    if (layout.metrics.length === 0 && paired < 0) return attributes > 0
    if (!this.#rows(bytes, layout, paired, known, timeUs, flags, out)) return false
    if (layout.plain) this.#memo.learn(device, layout, known.series, bytes, this.#scanner.start, this.#scanner.end)
    return true
  }

  /** The index of the device that the message is of, or -1. */
  #device(bytes: Uint8Array, layout: Layout, context: MessageContext): number {
    const { start, end, kind } = this.#scanner
    const field = layout.device
    const { topicDevice } = context
    this.topicDeviceDiffered = false
    if (field >= 0 && kind[field] !== FieldKind.string && !this.#unsigned(bytes, field)) return -1
    if (topicDevice !== undefined) {
      if (field >= 0) this.topicDeviceDiffered = !textIs(topicDevice, bytes, start[field]!, end[field]!)
      this.#devices.byName(context.tenant, topicDevice)
    } else if (field < 0) return -1
    else this.#devices.byBytes(context.tenant, bytes, start[field]!, end[field]!)
    return this.#devices.index
  }

  /** Is the field an integer of digits only? As such it names the device that its digits name. */
  #unsigned(bytes: Uint8Array, field: number): boolean {
    const { start, end, kind } = this.#scanner
    if (kind[field] !== FieldKind.number && kind[field] !== FieldKind.longInteger) return false
    for (let at = start[field]!; at < end[field]!; at++) if (bytes[at]! < 0x30 || bytes[at]! > 0x39) return false
    return true
  }

  /** S2's data point: the metric that `metric` names. -1 when it is not known, or there already. */
  #pairedMetric(bytes: Uint8Array, layout: Layout): number {
    const { start, end } = this.#scanner
    const named = this.#keys.find(bytes, start[layout.metricName]!, end[layout.metricName]!)
    if (named < 0) return -1
    const metric = this.#keys.metric[named]!
    return layout.metricKeys.includes(metric) ? -1 : metric
  }

  /** How many attributes the message has; -1 when one of them is news. */
  #sameAttributes(bytes: Uint8Array, layout: Layout, known: KnownDevice, paired: number): number {
    const { start, end } = this.#scanner
    const { attributes, attributeNames, unit, metricKeys } = layout
    let present = 0
    for (let i = 0; i < attributes.length; i++) {
      const field = attributes[i]!
      if (start[field] === end[field]) continue
      if (!attributeIs(known.entry, attributeNames[i]!, bytes, start[field]!, end[field]!)) return -1
      present++
    }
    if (unit < 0 || start[unit] === end[unit]) return present
    let name = 'unit'
    if (paired >= 0 && metricKeys.length === 0) name = this.#keys.unit(paired)
    else if (paired < 0 && metricKeys.length === 1) name = this.#keys.unit(metricKeys[0]!)
    return attributeIs(known.entry, name, bytes, start[unit]!, end[unit]!) ? present + 1 : -1
  }

  #timeUs(bytes: Uint8Array, field: number): number {
    const { kind, number, start, end } = this.#scanner
    switch (kind[field]) {
      case FieldKind.number:
        return epochToUs(number[field]!)
      case FieldKind.string:
        return rfc3339ToUs(bytes, start[field]!, end[field]!)
      case FieldKind.longInteger:
        return epochDigitsToUs(bytes, start[field]!, end[field]!)
      default:
        return Number.NaN
    }
  }

  #rows(bytes: Uint8Array, layout: Layout, paired: number, known: KnownDevice, timeUs: number, flags: number, out: BatchBuilder): boolean {
    const { metrics, metricKeys } = layout
    const { kind, number } = this.#scanner
    const { numeric } = this.#series
    const mark = out.rows
    if (known.generation !== this.#keys.generation) {
      known.metric = []
      known.series = []
      known.generation = this.#keys.generation
    }
    const knownMetrics = known.metric
    const knownSeries = known.series
    for (let i = 0; i < metrics.length; i++) {
      const field = metrics[i]!
      // What nearly every row is, in place: a number of a series that holds numbers, where it was in the device's last message.
      if (knownMetrics[i] === metricKeys[i] && kind[field] === FieldKind.number) {
        const series = knownSeries[i]!
        if (numeric[series] === 1) {
          out.add(series, timeUs, number[field]! + 0, flags)
          continue
        }
      }
      if (this.#row(bytes, field, metricKeys[i]!, known, i, timeUs, flags, out)) continue
      out.rollback(mark)
      return false
    }
    if (paired < 0 || this.#row(bytes, layout.value, paired, known, metrics.length, timeUs, flags, out)) return true
    out.rollback(mark)
    return false
  }

  #row(bytes: Uint8Array, field: number, metric: number, known: KnownDevice, at: number, timeUs: number, flags: number, out: BatchBuilder): boolean {
    const { kind, number, start, end } = this.#scanner
    const series = known.metric[at] === metric ? known.series[at]! : this.#lookUp(known, at, metric)
    if (series < 0) return false
    const k = kind[field]!
    if (this.#series.numeric[series] === 1) {
      if (k === FieldKind.number) out.add(series, timeUs, number[field]! + 0, flags)
      else if ((k === FieldKind.true || k === FieldKind.false) && this.#keys.numberOnly[metric] === 0) {
        out.add(series, timeUs, k === FieldKind.true ? 1 : 0, flags | Flag.boolean)
      } else return false
      return true
    }
    if (k !== FieldKind.string || this.#keys.numberOnly[metric] === 1 || end[field]! - start[field]! > limits.textBytesMax) return false
    out.addText(series, timeUs, utf8Text(bytes, start[field]!, end[field]!), flags | Flag.text)
    return true
  }

  #lookUp(known: KnownDevice, at: number, metric: number): number {
    const series = known.entry.series.get(this.#keys.name[metric]!)
    if (series === undefined) return -1
    if (at <= known.metric.length) {
      known.metric[at] = metric
      known.series[at] = series
    }
    return series
  }
}
