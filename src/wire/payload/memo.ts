import type { SeriesTable } from '../../core/series-table.ts'
import type { KeyTable } from './key-table.ts'
import type { Layout } from './layout.ts'

const tuplesMax = 8

/**
 * What the fast lane remembers of each device's last message, in arrays by the device's index: a device speaks once among thousands of others, and
 * every object that has to be fetched for it from memory costs as much as reading the message.
 */
export class DeviceMemo {
  readonly #keys: KeyTable
  readonly #series: SeriesTable
  /** The layout's id, the series of its first metric (the others follow it), its attributes, and the version of them that was compared. */
  #layout = new Int32Array(0)
  #first = new Int32Array(0)
  #attributes = new Int32Array(0)
  #version = new Uint32Array(0)
  /** Layouts speak of entries of the key table, which forgets them all when it is full. */
  #generation = -1
  #lastTuple = 0

  constructor(keys: KeyTable, series: SeriesTable) {
    this.#keys = keys
    this.#series = series
  }

  /** The attributes in a message of this layout as one number: 0 when it has none, -1 when they were not met lately. */
  tuple(layout: Layout, bytes: Uint8Array, start: Int32Array, end: Int32Array): number {
    const { attributes, tuples } = layout
    if (attributes.length === 0) return 0
    for (const { id, values } of tuples) {
      let i = 0
      while (i < values.length && same(values[i]!, bytes, start[attributes[i]!]!, end[attributes[i]!]!)) i++
      if (i === values.length) return id
    }
    return -1
  }

  /** The series of the first metric when the device's last message was of this layout, with these attributes, and nothing has changed; else -1. */
  firstSeries(device: number, layout: Layout, tuple: number): number {
    if (this.#generation !== this.#keys.generation || this.#layout[device] !== layout.id || this.#attributes[device] !== tuple) return -1
    return this.#version[device] === this.#series.attributesVersion[device] ? this.#first[device]! : -1
  }

  /** After a message was taken by comparing everything. `series`: of its metrics, in their order. */
  learn(device: number, layout: Layout, series: readonly number[], bytes: Uint8Array, start: Int32Array, end: Int32Array): void {
    const count = layout.metrics.length
    const first = series[0]
    if (first === undefined || series.length < count) return
    for (let i = 0; i < count; i++) if (series[i] !== first + i || this.#series.numeric[first + i] !== 1) return
    if (this.#generation !== this.#keys.generation) {
      this.#layout.fill(-1)
      this.#generation = this.#keys.generation
    }
    if (device >= this.#layout.length) this.#grow(device + 1)
    let tuple = this.tuple(layout, bytes, start, end)
    if (tuple < 0) {
      tuple = ++this.#lastTuple
      const values = layout.attributes.map((field) => new Uint8Array(bytes.subarray(start[field], end[field])))
      if (layout.tuples.length === tuplesMax) layout.tuples.pop()
      layout.tuples.unshift({ id: tuple, values })
    }
    this.#layout[device] = layout.id
    this.#first[device] = first
    this.#attributes[device] = tuple
    this.#version[device] = this.#series.attributesVersion[device]!
  }

  #grow(size: number): void {
    const length = Math.max(256, size, this.#layout.length * 2)
    const layout = new Int32Array(length).fill(-1)
    layout.set(this.#layout)
    this.#layout = layout
    this.#first = grown(new Int32Array(length), this.#first)
    this.#attributes = grown(new Int32Array(length), this.#attributes)
    this.#version = grown(new Uint32Array(length), this.#version)
  }
}

function same(value: Uint8Array, bytes: Uint8Array, start: number, end: number): boolean {
  if (value.length !== end - start) return false
  for (let i = 0; i < value.length; i++) if (value[i] !== bytes[start + i]) return false
  return true
}

function grown<A extends Int32Array | Uint32Array>(to: A, from: A): A {
  to.set(from)
  return to
}
