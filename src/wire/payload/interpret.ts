import { Buffer } from 'node:buffer'
import type { FieldError } from '../../core/errors.ts'
import { KymoError } from '../../core/errors.ts'
import type { DocumentShape } from '../../core/gate.ts'
import { limits } from '../../core/limits.ts'
import { compactText, type JsonNode, type JsonObject } from '../json/nodes.ts'
import { escapeStep } from '../json/pointer.ts'
import { epochDigitsToUs, epochToUs, parseRfc3339 } from '../time.ts'
import { AttributeStage, isBeyondDouble, MetricStage, type Message } from './message.ts'
import { faultText, nameFault, Role, roles, unitAttribute } from './names.ts'
import { conflict, refusal, shown } from './refusal.ts'

/** What the strict shapes require, and as what. A seed's route wants the seed's own names; free-form JSON has a route of its own. */
const required: Readonly<Record<DocumentShape, readonly (readonly [key: string, kind: 'string' | 'number'])[]>> = {
  any: [],
  'sensor-data': [
    ['sensor_id', 'string'],
    ['temperature', 'number'],
    ['humidity', 'number'],
  ],
  reading: [
    ['device_id', 'string'],
    ['temperature_c', 'number'],
    ['humidity', 'number'],
  ],
  'data-point': [
    ['device_id', 'string'],
    ['metric', 'string'],
    ['value', 'number'],
  ],
}

/** Reads one parsed message by its content. Throws the KymoError that names the first field that is wrong. */
export function interpret(root: JsonNode, shape: DocumentShape, aliases: boolean, topicDevice: string | undefined): Message {
  if (root.kind !== 'object') {
    throw refusal('shape_unknown', '', `A message is a JSON object; this is ${describe(root)}.`)
  }
  requireFields(root, shape)
  return new Interpreter(root, shape, aliases, topicDevice).message()
}

class Interpreter {
  readonly #root: JsonObject
  readonly #shape: DocumentShape
  readonly #topicDevice: string | undefined
  readonly #metrics: MetricStage
  readonly #attributes = new AttributeStage()
  #device: { readonly text: string; readonly pointer: string } | undefined
  #differed = false
  #time: { readonly us: number; readonly pointer: string } | undefined
  #unit: { readonly text: string; readonly pointer: string } | undefined
  #metadata: { readonly text: string; readonly pointer: string } | undefined

  constructor(root: JsonObject, shape: DocumentShape, aliases: boolean, topicDevice: string | undefined) {
    this.#root = root
    this.#shape = shape
    this.#topicDevice = topicDevice
    this.#metrics = new MetricStage(aliases)
  }

  message(): Message {
    const { keys, items } = this.#root
    const dataPoint = this.#dataPoint()
    for (let i = 0; i < keys.length; i++) {
      const node = items[i]!
      if (node.kind !== 'null') this.#member(keys[i]!, node, `/${escapeStep(keys[i]!)}`, dataPoint)
    }
    if (dataPoint) this.#addDataPoint()
    const device = this.#deviceId()
    this.#placeUnit()
    const metrics = [...this.#metrics.byName.values()]
    const attributes = [...this.#attributes.byName.values()]
    this.#requireValues(metrics.length, attributes.length)
    return {
      device,
      devicePointer: this.#device?.pointer ?? '',
      topicDeviceDiffered: this.#differed,
      timeUs: this.#time?.us ?? Number.NaN,
      timePointer: this.#time?.pointer ?? '',
      metrics,
      attributes,
      metadata: this.#metadata?.text ?? '',
      keys: this.#keys(),
    }
  }

  #member(key: string, node: JsonNode, pointer: string, dataPoint: boolean): void {
    const structured = node.kind === 'object' || node.kind === 'array'
    const role = roles.get(key)
    switch (role) {
      case Role.device:
        // A topic that carries the id leaves `device` free to be a group of metrics.
        if (structured && this.#topicDevice !== undefined) this.#metric(key, node, pointer)
        else this.#addDevice(node, pointer)
        return
      case Role.time:
        this.#addTime(node, pointer)
        return
      case Role.attribute:
        if (node.kind === 'string' || node.kind === 'number') this.#attributes.addNode(key, node, pointer)
        else if (structured) this.#metric(key, node, pointer)
        else throw refusal('value_invalid', pointer, `${key} must be text; it is ${node.kind}.`)
        return
      case Role.unit:
        this.#addUnit(node, pointer)
        return
      case Role.metadata:
        this.#addMetadata(node, pointer)
        return
      case Role.attributes:
        if (node.kind !== 'object') throw refusal('value_invalid', pointer, 'attributes must be an object.')
        for (let i = 0; i < node.keys.length; i++) this.#attributes.addNode(node.keys[i]!, node.items[i]!, `${pointer}/${escapeStep(node.keys[i]!)}`)
        return
      case Role.metricName:
      case Role.value:
        if (!dataPoint) this.#metric(key, node, pointer)
        return
      case Role.values:
        if (node.kind === 'object') this.#values(node, pointer)
        else this.#metric(key, node, pointer)
        return
      default:
        this.#metric(key, node, pointer)
    }
  }

  #metric(key: string, node: JsonNode, pointer: string): void {
    if (key === '') throw refusal('metric_invalid', pointer, 'A metric name must not be empty.')
    this.#metrics.add(key, node, pointer)
  }

  #values(node: JsonObject, pointer: string): void {
    for (let i = 0; i < node.keys.length; i++) {
      const item = node.items[i]!
      this.#metric(node.keys[i]!, item, `${pointer}/${escapeStep(node.keys[i]!)}`)
    }
  }

  /** S2's shape by content: a name in `metric` and something in `value`. */
  #dataPoint(): boolean {
    return this.#shape === 'data-point' || (memberOf(this.#root, 'metric')?.kind === 'string' && memberOf(this.#root, 'value') !== undefined)
  }

  #addDataPoint(): void {
    const name = memberOf(this.#root, 'metric')
    const value = memberOf(this.#root, 'value')
    if (name?.kind !== 'string' || value === undefined) return
    const fault = nameFault(name.text)
    if (fault !== undefined) throw refusal('metric_invalid', '/metric', `The metric name ${shown(name.text)} is not valid: ${faultText(fault)}.`)
    this.#metric(name.text, value, '/value')
  }

  #addDevice(node: JsonNode, pointer: string): void {
    let text: string
    if (node.kind === 'string') text = node.text
    // Ids such as IMEIs arrive as integers; taken digit by digit they stay exact.
    else if (node.kind === 'number' && node.integer && !node.source.startsWith('-')) text = node.source
    else throw refusal('device_invalid', pointer, `A device id is text or an unsigned integer; this is ${describe(node)}.`)
    if (this.#topicDevice !== undefined) {
      if (text !== this.#topicDevice) this.#differed = true
      this.#device ??= { text, pointer }
      return
    }
    const fault = nameFault(text)
    if (fault !== undefined) throw refusal('device_invalid', pointer, `The device id ${shown(text)} is not valid: ${faultText(fault)}.`)
    if (this.#device !== undefined && this.#device.text !== text) {
      throw conflict(this.#device.pointer, pointer, 'the device id')
    }
    this.#device ??= { text, pointer }
  }

  #deviceId(): string {
    const topicDevice = this.#topicDevice
    if (topicDevice === undefined) {
      if (this.#device === undefined)
        throw refusal('device_missing', '/device', 'No device id: give device, device_id or sensor_id, or a topic that carries it.')
      return this.#device.text
    }
    const fault = nameFault(topicDevice)
    if (fault !== undefined) throw refusal('device_invalid', '', `The topic's device id ${shown(topicDevice)} is not valid: ${faultText(fault)}.`)
    return topicDevice
  }

  #addTime(node: JsonNode, pointer: string): void {
    if (node.kind === 'string' && node.text === goZeroTime) return
    const us = timeOf(node)
    if (Number.isNaN(us)) {
      throw refusal('time_invalid', pointer, `${describe(node)} is no time: RFC 3339 text, or an epoch number without quotes, between 1970 and 2255.`)
    }
    if (this.#time !== undefined && this.#time.us !== us) {
      throw conflict(this.#time.pointer, pointer, 'the time')
    }
    this.#time ??= { us, pointer }
  }

  #addUnit(node: JsonNode, pointer: string): void {
    if (node.kind === 'string') {
      if (this.#unit !== undefined && this.#unit.text !== node.text) {
        throw conflict(this.#unit.pointer, pointer, 'the unit')
      }
      this.#unit ??= { text: node.text, pointer }
      return
    }
    if (node.kind !== 'object') throw refusal('value_invalid', pointer, `A unit is text, or an object of metric and unit; this is ${describe(node)}.`)
    for (let i = 0; i < node.keys.length; i++) {
      const key = node.keys[i]!
      const unit = node.items[i]!
      const at = `${pointer}/${escapeStep(key)}`
      if (unit.kind === 'null') continue
      if (unit.kind !== 'string') throw refusal('value_invalid', at, `A unit is text; this is ${describe(unit)}.`)
      this.#attributes.add(unitAttribute(this.#metrics.canonical(key)), unit.text, at)
    }
  }

  /** A single unit belongs to the message's only metric; beside several metrics it stays an attribute of its own name. */
  #placeUnit(): void {
    if (this.#unit === undefined) return
    const [only, second] = this.#metrics.byName.keys()
    const name = only !== undefined && second === undefined ? unitAttribute(only) : 'unit'
    this.#attributes.add(name, this.#unit.text, this.#unit.pointer)
  }

  #addMetadata(node: JsonNode, pointer: string): void {
    if (this.#shape === 'data-point' && node.kind !== 'object') {
      throw refusal('value_invalid', pointer, `metadata must be an object; this is ${describe(node)}.`)
    }
    if ((node.kind === 'object' || node.kind === 'array') && node.items.length === 0) return
    const text = compactText(node)
    if (Buffer.byteLength(text) > limits.metadataBytesMax) {
      throw refusal('value_invalid', pointer, `The metadata is longer than ${limits.metadataBytesMax} bytes.`)
    }
    this.#metadata = { text, pointer }
  }

  #requireValues(metrics: number, attributes: number): void {
    if (metrics > 0) return
    if (this.#metadata !== undefined) {
      throw refusal('values_missing', this.#metadata.pointer, 'Metadata belongs to values, and the message carries none.')
    }
    if (attributes === 0)
      throw refusal('values_missing', '', 'The message carries no value: every field is null, empty, or names the device or the time.')
  }

  #keys(): string[] {
    const values = memberOf(this.#root, 'values')
    const metric = memberOf(this.#root, 'metric')
    const keys = this.#metrics.nestedKeys
    keys.push(...this.#root.keys)
    if (values?.kind === 'object') keys.push(...values.keys)
    if (metric?.kind === 'string') keys.push(metric.text)
    return keys
  }
}

function requireFields(root: JsonObject, shape: DocumentShape): void {
  const errors: FieldError[] = []
  let missing = false
  for (const [key, kind] of required[shape]) {
    const node = memberOf(root, key)
    if (node === undefined || node.kind === 'null') {
      missing = true
      errors.push({ pointer: `/${key}`, detail: `${key} is required (${kind}).` })
    } else if (node.kind !== kind) {
      errors.push({ pointer: `/${key}`, detail: `${key} must be a ${kind}; this is ${describe(node)}.` })
    } else if (node.kind === 'string' && node.text === '' && key === 'metric') {
      errors.push({ pointer: `/${key}`, detail: `${key} must not be empty.` })
    }
  }
  const first = errors[0]
  if (first !== undefined) throw new KymoError(missing ? 'field_missing' : 'value_invalid', { detail: errors.map((e) => e.detail).join(' '), errors })
  const location = memberOf(root, 'location')
  if (shape === 'sensor-data' && location !== undefined && location.kind !== 'string' && location.kind !== 'null') {
    throw refusal('value_invalid', '/location', `location must be a string; this is ${describe(location)}.`)
  }
}

function memberOf(node: JsonObject, key: string): JsonNode | undefined {
  const at = node.keys.indexOf(key)
  return at < 0 ? undefined : node.items[at]
}

/** What a Go program sends for a time that it did not set. */
const goZeroTime = '0001-01-01T00:00:00Z'

function timeOf(node: JsonNode): number {
  if (node.kind === 'string') return parseRfc3339(node.text) ?? Number.NaN
  if (node.kind !== 'number') return Number.NaN
  if (!node.integer || !isBeyondDouble(node.source)) return epochToUs(node.value)
  const digits = Buffer.from(node.source)
  return epochDigitsToUs(digits, 0, digits.length)
}

function describe(node: JsonNode): string {
  switch (node.kind) {
    case 'object':
      return 'an object'
    case 'array':
      return 'an array'
    case 'string':
      return `the text ${shown(node.text)}`
    case 'number':
      return `the number ${shown(node.source).slice(1, -1)}`
    default:
      return node.kind
  }
}
