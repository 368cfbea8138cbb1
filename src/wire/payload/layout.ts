import type { Shape } from '../../core/gate.ts'
import { FieldKind, type FlatScanner } from '../json/flat.ts'
import type { KeyTable } from './key-table.ts'
import { Role } from './names.ts'

/** Which field of a scanned message is what. Messages of one sort of device share it. Fields are indices, -1: there is none. */
export interface Layout {
  /** Of its own; a layout that is made again has another. */
  readonly id: number
  /** Key, kind and inner of each field, packed. */
  readonly signature: readonly number[]
  readonly device: number
  readonly time: number
  readonly unit: number
  /** S2's data point: the field with the metric's name, and the one with its value, which is not in `metrics` then. */
  readonly metricName: number
  readonly value: number
  /** Fields with values, and the entry of each one's metric in the key table. */
  readonly metrics: readonly number[]
  readonly metricKeys: readonly number[]
  /** Fields such as `firmware`, and the attribute that each is. */
  readonly attributes: readonly number[]
  readonly attributeNames: readonly string[]
  /** The strict shapes whose required fields are all there, each of its kind. */
  readonly shapes: ReadonlySet<Shape>
  /** Nothing but numbers as metrics, and no unit: what memo.ts remembers. */
  readonly plain: boolean
  /** Values of the attributes that were met lately, the newest first. */
  readonly tuples: { readonly id: number; readonly values: readonly Uint8Array[] }[]
}

let lastId = 0

const slots = 64

/**
 * The layouts of recent messages: bounded, the newer takes the place of the older. Undefined where a message is not simple (something
 * stands twice, or a field has a kind that its role does not take). A layout outlives the key table's generations: only the
 * decoder's own names have a role, and their entries stay.
 */
export class Layouts {
  readonly #keys: KeyTable
  readonly #scanner: FlatScanner
  readonly #recent: (Layout | undefined)[] = Array.from({ length: slots }, () => undefined)
  #last: Layout | undefined

  constructor(keys: KeyTable, scanner: FlatScanner) {
    this.#keys = keys
    this.#scanner = scanner
  }

  /** The layout of what the scanner holds. */
  current(): Layout | undefined {
    const last = this.#last
    if (last !== undefined && this.#fits(last)) return last
    const { key, kind, count } = this.#scanner
    let hash = count
    for (let i = 0; i < count; i++) hash = Math.imul(hash, 31) + key[i]! * 8 + kind[i]!
    const slot = (hash ^ (hash >>> 16)) & (slots - 1)
    const kept = this.#recent[slot]
    if (kept !== undefined && this.#fits(kept)) return (this.#last = kept)
    const made = new LayoutBuilder(this.#keys, this.#scanner).build()
    if (made !== undefined) this.#recent[slot] = this.#last = made
    return made
  }

  #fits(layout: Layout): boolean {
    const { key, kind, inner, count } = this.#scanner
    const { signature } = layout
    if (signature.length !== count) return false
    for (let i = 0; i < count; i++) if (signature[i] !== ((key[i]! << 4) | (kind[i]! << 1) | inner[i]!)) return false
    return true
  }
}

class LayoutBuilder {
  readonly #keys: KeyTable
  readonly #scanner: FlatScanner
  #device = -1
  #time = -1
  #unit = -1
  #metricName = -1
  #value = -1
  readonly #metrics: number[] = []
  readonly #metricKeys: number[] = []
  readonly #attributes: number[] = []
  readonly #attributeNames: string[] = []
  readonly #seen = new Set<number>()

  constructor(keys: KeyTable, scanner: FlatScanner) {
    this.#keys = keys
    this.#scanner = scanner
  }

  build(): Layout | undefined {
    const { key, kind, inner, count } = this.#scanner
    const own = new Map<number, number>()
    const signature: number[] = []
    for (let i = 0; i < count; i++) {
      const k = key[i]!
      signature.push((k << 4) | (kind[i]! << 1) | inner[i]!)
      if (inner[i] === 0) {
        if (own.has(k)) return undefined
        own.set(k, kind[i]!)
      }
      if (!this.#place(i, inner[i] === 0 ? this.#keys.role[k]! : Role.metric)) return undefined
    }
    // `value` alone is a metric like others; `metric` alone is not simple.
    if (this.#metricName < 0 && this.#value >= 0) {
      if (!this.#metric(this.#value)) return undefined
      this.#value = -1
    }
    if (this.#metricName >= 0 && this.#value < 0) return undefined
    const plain = this.#unit < 0 && this.#value < 0 && this.#metrics.length > 0 && this.#metrics.every((field) => kind[field] === FieldKind.number)
    return {
      id: ++lastId,
      plain,
      tuples: [],
      signature,
      device: this.#device,
      time: this.#time,
      unit: this.#unit,
      metricName: this.#metricName,
      value: this.#value,
      metrics: this.#metrics,
      metricKeys: this.#metricKeys,
      attributes: this.#attributes,
      attributeNames: this.#attributeNames,
      shapes: this.#shapes(own),
    }
  }

  /** False: not simple. */
  #place(field: number, role: number): boolean {
    const kind = this.#scanner.kind[field]!
    if (role === Role.metric) return this.#metric(field)
    if (kind === FieldKind.null) return true
    switch (role) {
      case Role.device:
        if (this.#device >= 0) return false
        this.#device = field
        return true
      case Role.time:
        if (this.#time >= 0) return false
        this.#time = field
        return true
      case Role.attribute:
        this.#attributes.push(field)
        this.#attributeNames.push(this.#keys.name[this.#scanner.key[field]!]!)
        return kind === FieldKind.string
      case Role.unit:
        if (this.#unit >= 0) return false
        this.#unit = field
        return kind === FieldKind.string
      case Role.metricName:
        this.#metricName = field
        return kind === FieldKind.string
      case Role.value:
        this.#value = field
        return true
      default:
        return role === Role.values && kind === FieldKind.container
    }
  }

  #metric(field: number): boolean {
    const metric = this.#keys.metric[this.#scanner.key[field]!]!
    if (this.#seen.has(metric)) return false
    this.#seen.add(metric)
    if (this.#scanner.kind[field] === FieldKind.null) return true
    // `value` is placed last, but stands where it stood.
    let at = this.#metrics.length
    while (at > 0 && this.#metrics[at - 1]! > field) at--
    this.#metrics.splice(at, 0, field)
    this.#metricKeys.splice(at, 0, metric)
    return true
  }

  #shapes(own: ReadonlyMap<number, number>): ReadonlySet<Shape> {
    const has = (name: string, kind: number): boolean => own.get(this.#keys.own(name)) === kind
    const string = FieldKind.string
    const number = FieldKind.number
    const shapes = new Set<Shape>(['any'])
    if (has('sensor_id', string) && has('temperature', number) && has('humidity', number)) shapes.add('sensor-data')
    if (has('device_id', string) && has('temperature_c', number) && has('humidity', number)) shapes.add('reading')
    if (has('device_id', string) && has('metric', string) && has('value', number)) shapes.add('data-point')
    return shapes
  }
}
