import { Flag } from '../core/batch.ts'
import type { Batch } from '../core/batch.ts'
import type { SeriesMatch } from '../core/ports.ts'
import type { SeriesTable } from '../core/series-table.ts'
import type { LatestValues } from '../core/services.ts'
import { KeyNumbers } from './live-keys.ts'

/**
 * The newest reading of every series, as columns by series id: 17 bytes a series. Newest is the greatest event time, among equal
 * times the one that arrived last; a reading whose clock is ahead stands only where there is no other.
 */
export class LatestTable implements LatestValues {
  readonly #series: SeriesTable
  /** NaN: no reading. */
  #timeUs = new Float64Array(1024).fill(Number.NaN)
  #value = new Float64Array(1024)
  #flags = new Uint8Array(1024)
  readonly #text = new Map<number, string>()
  /** By reader; the store's answer at start is a reader of its own. */
  readonly #numbers: KeyNumbers

  constructor(series: SeriesTable) {
    this.#series = series
    this.#numbers = new KeyNumbers((key) => {
      const id = series.series(series.register(key.tenant, key.device), key.metric)
      if (id >= this.#timeUs.length) this.#grow(id + 1)
      return id
    })
  }

  /**
   * Takes a batch in. `markNumeric`: the rows are older than this process, whose doors do not know yet which series hold numbers.
   */
  push(batch: Batch, markNumeric: boolean): void {
    const numbers = this.#numbers.of(batch)
    if (batch.flags === undefined) this.#pushPlain(batch, numbers)
    else this.#pushFlagged(batch, batch.flags, numbers)
    if (markNumeric) this.#markNumeric(batch, numbers)
  }

  /** The device was erased: it has no latest values, and its series no place in the table. */
  forget(tenant: string, device: string): void {
    for (const id of this.#series.forget(tenant, device)) {
      if (id >= this.#timeUs.length) continue
      this.#timeUs[id] = Number.NaN
      this.#value[id] = 0
      this.#flags[id] = 0
      this.#text.delete(id)
    }
    this.#numbers.forget(tenant, device)
  }

  latest(match: SeriesMatch): Batch {
    const ids = this.#matching(match)
    const rows = ids.length
    const batch = {
      rows,
      keys: this.#series.keys,
      series: Uint32Array.from(ids),
      timeUs: new Float64Array(rows),
      value: new Float64Array(rows),
      flags: new Uint8Array(rows),
      text: new Map<number, string>(),
    }
    for (let row = 0; row < rows; row++) {
      const id = ids[row]!
      batch.timeUs[row] = this.#timeUs[id]!
      batch.value[row] = this.#value[id]!
      batch.flags[row] = this.#flags[id]!
      if ((this.#flags[id]! & Flag.text) !== 0) batch.text.set(row, this.#text.get(id) ?? '')
    }
    return batch
  }

  metrics(tenant: string, device: string): readonly string[] {
    const entry = this.#series.find(tenant, device)
    if (entry === undefined) return []
    return [...entry.series]
      .filter(([, id]) => this.#has(id))
      .map(([metric]) => metric)
      .sort()
  }

  #pushPlain(batch: Batch, numbers: Int32Array): void {
    const { rows, series, timeUs, value } = batch
    const times = this.#timeUs
    const values = this.#value
    const flags = this.#flags
    for (let row = 0; row < rows; row++) {
      const id = numbers[series[row]!]!
      // A row of a series beyond the table's limit has no number.
      if (id < 0) continue
      const time = timeUs[row]!
      if (time < times[id]! && (flags[id]! & Flag.clockAhead) === 0) continue
      times[id] = time
      values[id] = value[row]!
      if (flags[id] !== 0) this.#unflag(id)
    }
  }

  #pushFlagged(batch: Batch, rowFlags: Uint8Array, numbers: Int32Array): void {
    const { rows, series, timeUs, value, text } = batch
    const times = this.#timeUs
    for (let row = 0; row < rows; row++) {
      const id = numbers[series[row]!]!
      if (id < 0) continue
      const flags = rowFlags[row]!
      const time = timeUs[row]!
      const known = times[id]!
      if (known === known) {
        const ahead = (flags & Flag.clockAhead) !== 0
        const knownAhead = (this.#flags[id]! & Flag.clockAhead) !== 0
        if (ahead === knownAhead ? time < known : ahead) continue
      }
      times[id] = time
      this.#value[id] = value[row]!
      if ((this.#flags[id]! & Flag.text) !== 0) this.#text.delete(id)
      this.#flags[id] = flags
      if ((flags & Flag.text) !== 0) this.#text.set(id, text?.get(row) ?? '')
    }
  }

  #markNumeric(batch: Batch, numbers: Int32Array): void {
    const { rows, series, flags } = batch
    for (let row = 0; row < rows; row++) {
      const id = numbers[series[row]!]!
      if (id >= 0 && (flags === undefined || (flags[row]! & (Flag.text | Flag.boolean)) === 0)) this.#series.numeric[id] = 1
    }
  }

  #unflag(id: number): void {
    if ((this.#flags[id]! & Flag.text) !== 0) this.#text.delete(id)
    this.#flags[id] = 0
  }

  #has(id: number): boolean {
    const time = this.#timeUs[id]
    return time !== undefined && !Number.isNaN(time)
  }

  #matching(match: SeriesMatch): number[] {
    const { tenant } = match
    const ids: number[] = []
    const metrics = match.metrics === undefined ? undefined : new Set(match.metrics)
    if (match.devices !== undefined) {
      for (const device of new Set(match.devices)) {
        const entry = this.#series.find(tenant, device)
        if (entry === undefined) continue
        for (const [metric, id] of entry.series) if ((metrics === undefined || metrics.has(metric)) && this.#has(id)) ids.push(id)
      }
      return ids
    }
    const { keys } = this.#series
    for (let id = 0; id < keys.length; id++) {
      const key = keys[id]!
      if (key.tenant === tenant && (metrics === undefined || metrics.has(key.metric)) && this.#has(id)) ids.push(id)
    }
    return ids
  }

  #grow(length: number): void {
    const capacity = Math.max(length, this.#timeUs.length * 2)
    const timeUs = new Float64Array(capacity).fill(Number.NaN)
    timeUs.set(this.#timeUs)
    this.#timeUs = timeUs
    const value = new Float64Array(capacity)
    value.set(this.#value)
    this.#value = value
    const flags = new Uint8Array(capacity)
    flags.set(this.#flags)
    this.#flags = flags
  }
}
