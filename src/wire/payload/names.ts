import { Buffer } from 'node:buffer'
import { limits } from '../../core/limits.ts'

/** What a key of the message's own object means. Keys of nested objects are always metrics. */
export const Role = {
  metric: 0,
  device: 1,
  time: 2,
  /** A string that describes the device: `firmware`, `location`. */
  attribute: 3,
  /** A unit for the message's metric, or an object metric → unit. */
  unit: 4,
  metadata: 5,
  attributes: 6,
  /** S2's data point: the metric's name … */
  metricName: 7,
  /** … and its value. Without the other each is an ordinary metric. */
  value: 8,
  /** The canonical shape's object of metrics. */
  values: 9,
} as const

export const deviceKeys = ['device', 'device_id', 'deviceId', 'sensor_id', 'sensorId'] as const
export const timeKeys = ['time', 'timestamp', 'ts'] as const
export const attributeKeys = ['firmware', 'location'] as const

export const roles: ReadonlyMap<string, number> = new Map([
  ...deviceKeys.map((key): [string, number] => [key, Role.device]),
  ...timeKeys.map((key): [string, number] => [key, Role.time]),
  ...attributeKeys.map((key): [string, number] => [key, Role.attribute]),
  ['unit', Role.unit],
  ['units', Role.unit],
  ['metadata', Role.metadata],
  ['attributes', Role.attributes],
  ['metric', Role.metricName],
  ['value', Role.value],
  ['values', Role.values],
])

/** Another name of a metric to its canonical one. */
export const aliases: ReadonlyMap<string, string> = new Map([['temperature_c', 'temperature']])

/** Metrics that are numbers by their meaning, from their first message on: text and booleans are refused. */
export const numberMetrics: ReadonlySet<string> = new Set(['temperature', 'temperature_c', 'humidity', 'battery', 'lat', 'lon'])

/** The attribute that holds a metric's unit. */
export function unitAttribute(metric: string): string {
  return `unit.${metric}`
}

export type NameFault = 'empty' | 'too long' | 'control character' | 'lone surrogate'

/** Device ids and metric names: 1 to 256 bytes of UTF-8 without control characters (C0, DEL, C1) or lone surrogates. */
export function nameFault(name: string): NameFault | undefined {
  const { length } = name
  if (length === 0) return 'empty'
  if (length > limits.nameBytesMax) return 'too long'
  // Printable ASCII, which most names are: a byte is a character.
  let at = 0
  for (let unit; at < length && (unit = name.charCodeAt(at)) >= 0x20 && unit < 0x7f; at++);
  if (at === length) return undefined
  if (Buffer.byteLength(name) > limits.nameBytesMax) return 'too long'
  for (let i = at; i < length; i++) {
    const unit = name.charCodeAt(i)
    if (unit < 0x20 || (unit >= 0x7f && unit <= 0x9f)) return 'control character'
  }
  return name.isWellFormed() ? undefined : 'lone surrogate'
}

const faultTexts: Readonly<Record<NameFault, string>> = {
  empty: 'it is empty',
  'too long': `it is longer than ${limits.nameBytesMax} bytes`,
  'control character': 'it has a control character',
  'lone surrogate': 'it has half of a surrogate pair, which UTF-8 cannot hold',
}

export function faultText(fault: NameFault): string {
  return faultTexts[fault]
}
