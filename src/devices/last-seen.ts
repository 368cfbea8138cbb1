import type { MetaStore, MetaWrite } from '../core/ports.ts'
import type { DeviceState } from './document.ts'

const collection = 'last-seen'
/** Part of the stored form: a device's block follows from its name, so that it is the same at every start. */
const blocks = 256
/** Devices of one write: as JSON in about 3 ms. */
const devicesPerWrite = 16_384
const pageRows = 32

/**
 * When each device was last heard, by its dense number. Kept apart from the device documents: it changes with every message, and
 * must neither move a document's version (If-Match) nor rewrite 200,000 documents every few seconds. Stored as 256 documents,
 * which share the devices by a hash of their names.
 */
export class LastSeen {
  #timeUs = new Float64Array(1024)
  #block = new Uint8Array(1024)
  readonly #changed = new Uint8Array(blocks)
  /** Numbers of the devices of each block. */
  readonly #members: number[][] = Array.from({ length: blocks }, () => [])

  /** Epoch microseconds of received time; 0 when nothing was ever heard. */
  at(index: number): number {
    return this.#timeUs[index] ?? 0
  }

  /** To be called for each device, in the order of their numbers, before `set`. */
  add(device: Pick<DeviceState, 'index' | 'tenant' | 'id'>): void {
    const { index } = device
    if (index >= this.#timeUs.length) this.#grow()
    const block = blockOf(device.tenant, device.id)
    this.#block[index] = block
    this.#members[block]!.push(index)
  }

  /** The log's order decides, not the greater time: a clock that was set back must not freeze the device. */
  set(index: number, timeUs: number): void {
    this.#timeUs[index] = timeUs
    this.#changed[this.#block[index]!] = 1
  }

  /** The device was erased: with the next `flush` nothing tells of it. */
  remove(index: number): void {
    const block = this.#block[index]!
    this.#members[block] = this.#members[block]!.filter((member) => member !== index)
    this.#timeUs[index] = 0
    this.#changed[block] = 1
  }

  /** How many of the first `devices` were heard at or after `sinceUs`. */
  countSince(devices: number, sinceUs: number): number {
    const timeUs = this.#timeUs
    let count = 0
    for (let i = 0; i < devices; i++) if (timeUs[i]! >= sinceUs) count++
    return count
  }

  async load(meta: MetaStore, find: (tenant: string, device: string) => DeviceState | undefined): Promise<void> {
    for (let after: string | undefined; ;) {
      const rows = await meta.list(collection, '', { limit: pageRows, ...(after === undefined ? {} : { after }) })
      for (const { doc } of rows) this.#loadBlock(doc['seen'], find)
      after = rows.at(-1)?.doc.id
      if (rows.length < pageRows) return
    }
  }

  /** Writes the blocks that changed. What could not be written is tried again by the next call. */
  async flush(meta: MetaStore, devices: readonly DeviceState[]): Promise<void> {
    for (let block = 0; block < blocks;) {
      const some: number[] = []
      let count = 0
      for (; block < blocks && count < devicesPerWrite; block++) {
        if (this.#changed[block] !== 1) continue
        some.push(block)
        count += this.#members[block]!.length
      }
      if (some.length === 0) return
      const writes = some.map((changed) => this.#blockWrite(changed, devices))
      for (const changed of some) this.#changed[changed] = 0
      try {
        await meta.write(writes)
      } catch (thrown) {
        for (const changed of some) this.#changed[changed] = 1
        throw thrown
      }
    }
  }

  #blockWrite(block: number, devices: readonly DeviceState[]): MetaWrite {
    const seen: (string | number)[] = []
    for (const index of this.#members[block]!) {
      const device = devices[index]!
      if (this.#timeUs[index] !== 0) seen.push(device.tenant, device.id, this.#timeUs[index]!)
    }
    return { op: 'put', collection, tenant: '', doc: { id: String(block), seen } }
  }

  #loadBlock(seen: unknown, find: (tenant: string, device: string) => DeviceState | undefined): void {
    if (!Array.isArray(seen)) return
    for (let i = 0; i + 2 < seen.length; i += 3) {
      const [tenant, device, timeUs] = [seen[i] as unknown, seen[i + 1] as unknown, seen[i + 2] as unknown]
      if (typeof tenant !== 'string' || typeof device !== 'string' || typeof timeUs !== 'number') continue
      const state = find(tenant, device)
      if (state !== undefined) this.#timeUs[state.index] = timeUs
    }
  }

  #grow(): void {
    const timeUs = new Float64Array(this.#timeUs.length * 2)
    timeUs.set(this.#timeUs)
    this.#timeUs = timeUs
    const block = new Uint8Array(timeUs.length)
    block.set(this.#block)
    this.#block = block
  }
}

/** FNV-1a over the UTF-16 units of tenant, NUL and id, folded to a byte. */
function blockOf(tenant: string, id: string): number {
  const name = `${tenant}\u0000${id}`
  let hash = 0x811c9dc5
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193)
  return (hash ^ (hash >>> 8) ^ (hash >>> 16) ^ (hash >>> 24)) & 0xff
}
