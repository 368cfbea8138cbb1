import { Buffer } from 'node:buffer'
import { limits } from '../../core/limits.ts'
import { conflict, refusal, shown } from './refusal.ts'
import { aliases, faultText, nameFault, numberMetrics } from './names.ts'
import type { JsonNode, JsonNumber } from '../json/nodes.ts'
import { escapeStep } from '../json/pointer.ts'

export interface StagedMetric {
  readonly name: string
  readonly kind: 'number' | 'boolean' | 'text' | 'bigInteger'
  /** Booleans as 0 and 1; NaN for text. */
  readonly value: number
  readonly text: string
  readonly pointer: string
}

export interface StagedAttribute {
  readonly name: string
  readonly value: string
  readonly pointer: string
}

/** A message that is good by itself; whether its device and series may exist is not asked yet. */
export interface Message {
  readonly device: string
  /** Where the payload names the device; '' when only the topic does. */
  readonly devicePointer: string
  readonly topicDeviceDiffered: boolean
  /** Epoch microseconds; NaN when the message has no time. */
  readonly timeUs: number
  /** Where its time stands; '' when it has none. */
  readonly timePointer: string
  readonly metrics: readonly StagedMetric[]
  readonly attributes: readonly StagedAttribute[]
  /** Compact JSON text; '' when there is none. */
  readonly metadata: string
  /** Keys of the message and of its nested metrics: what the next message of the kind will have too. */
  readonly keys: readonly string[]
}

/** Collects a message's metrics: flattens, checks each value, and finds two that mean the same. */
export class MetricStage {
  readonly byName = new Map<string, StagedMetric>()
  readonly nestedKeys: string[] = []
  readonly #aliases: boolean

  constructor(useAliases: boolean) {
    this.#aliases = useAliases
  }

  canonical(name: string): string {
    return (this.#aliases ? aliases.get(name) : undefined) ?? name
  }

  /** Nested keys and array positions are joined by `.`; null is the same as absent. */
  add(name: string, node: JsonNode, pointer: string): void {
    switch (node.kind) {
      case 'null':
        return
      case 'object':
        for (let i = 0; i < node.keys.length; i++) {
          const key = node.keys[i]!
          if (key === '') throw refusal('metric_invalid', `${pointer}/`, 'A metric name must not have an empty part.')
          this.nestedKeys.push(key)
          this.add(`${name}.${key}`, node.items[i]!, `${pointer}/${escapeStep(key)}`)
        }
        return
      case 'array':
        if (node.items.length > limits.arrayItemsMax) {
          throw refusal(
            'value_invalid',
            pointer,
            `An array of ${node.items.length} items: up to ${limits.arrayItemsMax} become metrics (${shown(`${name}.0`)} …), longer ones are refused.`,
          )
        }
        for (let i = 0; i < node.items.length; i++) this.add(`${name}.${i}`, node.items[i]!, `${pointer}/${i}`)
        return
      case 'string':
        this.#text(name, node.text, pointer)
        return
      case 'number':
        this.#number(name, node, pointer)
        return
      default:
        if (numberMetrics.has(name)) throw refusal('value_invalid', pointer, `${name} must be a number; it is ${node.kind}.`)
        this.#put({ name, kind: 'boolean', value: node.kind === 'true' ? 1 : 0, text: '', pointer })
    }
  }

  #number(name: string, node: JsonNumber, pointer: string): void {
    if (!Number.isFinite(node.value)) {
      throw refusal('value_not_finite', pointer, `${shown(node.source)} is beyond what a double can hold.`)
    }
    if (node.integer && isBeyondDouble(node.source)) {
      if (node.source.length > limits.textBytesMax) throw textTooLong(pointer)
      this.#put({ name, kind: 'bigInteger', value: Number.NaN, text: node.source, pointer })
      // Adding 0 turns -0 into 0.
    } else this.#put({ name, kind: 'number', value: node.value + 0, text: '', pointer })
  }

  #text(name: string, text: string, pointer: string): void {
    if (numberMetrics.has(name)) {
      throw refusal('value_invalid', pointer, `${name} must be a number; ${shown(text)} is text. Send it without quotes.`)
    }
    checkText(text, limits.textBytesMax, pointer)
    this.#put({ name, kind: 'text', value: Number.NaN, text, pointer })
  }

  #put(metric: StagedMetric): void {
    const name = this.canonical(metric.name)
    const fault = nameFault(name)
    if (fault !== undefined) throw refusal('metric_invalid', metric.pointer, `The metric name ${shown(name)} is not valid: ${faultText(fault)}.`)
    const other = this.byName.get(name)
    if (other !== undefined) {
      if (other.kind === metric.kind && Object.is(other.value, metric.value) && other.text === metric.text) return
      throw conflict(other.pointer, metric.pointer, `the metric ${shown(name)}`)
    }
    if (this.byName.size >= limits.valuesPerMessageMax) {
      throw refusal('too_many_fields', metric.pointer, `More than ${limits.valuesPerMessageMax} values in one message.`)
    }
    this.byName.set(name, name === metric.name ? metric : { ...metric, name })
  }
}

/** What a device says of itself in one message. */
export class AttributeStage {
  readonly byName = new Map<string, StagedAttribute>()

  /** Empty text is the same as absent. */
  add(name: string, value: string, pointer: string): void {
    if (value === '') return
    const fault = nameFault(name)
    if (fault !== undefined) throw refusal('metric_invalid', pointer, `The attribute name ${shown(name)} is not valid: ${faultText(fault)}.`)
    checkText(value, limits.attributeBytesMax, pointer)
    const other = this.byName.get(name)
    if (other !== undefined && other.value !== value) {
      throw conflict(other.pointer, pointer, `the attribute ${shown(name)}`)
    }
    this.byName.set(name, { name, value, pointer })
  }

  /** Strings as they are, numbers as written, booleans as `true` and `false`; objects joined by `.`. */
  addNode(name: string, node: JsonNode, pointer: string): void {
    switch (node.kind) {
      case 'null':
        return
      case 'string':
        this.add(name, node.text, pointer)
        return
      case 'number':
        this.add(name, node.source, pointer)
        return
      case 'object':
        for (let i = 0; i < node.keys.length; i++) {
          const key = node.keys[i]!
          this.addNode(`${name}.${key}`, node.items[i]!, `${pointer}/${escapeStep(key)}`)
        }
        return
      case 'array':
        throw refusal('value_invalid', pointer, 'An attribute is text, a number or a boolean; this is an array.')
      default:
        this.add(name, node.kind, pointer)
    }
  }
}

/** Is this integer beyond +-2^53, where doubles no longer hold every integer? */
export function isBeyondDouble(source: string): boolean {
  const digits = source.startsWith('-') ? source.slice(1) : source
  // Digits compare as text when they are equally many; JSON allows no leading zero.
  return digits.length > 16 || (digits.length === 16 && digits > '9007199254740992')
}

function checkText(text: string, bytesMax: number, pointer: string): void {
  if (text.length > bytesMax || Buffer.byteLength(text) > bytesMax) {
    throw refusal('value_invalid', pointer, `The text is longer than ${bytesMax} bytes.`)
  }
  if (!text.isWellFormed()) throw refusal('value_invalid', pointer, 'The text has half of a surrogate pair, which UTF-8 cannot hold.')
  if (text.includes('\0')) throw refusal('value_invalid', pointer, 'The text has the character U+0000, which stores do not keep.')
}

function textTooLong(pointer: string): Error {
  return refusal('value_invalid', pointer, `The number has more than ${limits.textBytesMax} digits.`)
}
