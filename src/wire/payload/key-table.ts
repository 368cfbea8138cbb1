import { Buffer } from 'node:buffer'
import { limits } from '../../core/limits.ts'
import { ByteTable, hashBytes } from '../json/byte-table.ts'
import type { KnownKeys } from '../json/document.ts'
import { aliases, nameFault, numberMetrics, Role, roles, unitAttribute } from './names.ts'

/**
 * Keys of accepted messages, by their bytes, with what the decoder needs to know of each as columns. Only keys of accepted
 * messages enter, so that refused ones cannot fill it; when it is full it forgets everything (`generation` grows) and learns anew.
 */
export class KeyTable implements KnownKeys {
  readonly bytes = new ByteTable({ entriesMax: limits.payloadKeysMax, bytesMax: limits.payloadKeyBytesMax })
  readonly name: string[] = []
  readonly role = new Uint8Array(limits.payloadKeysMax)
  /** The entry of the metric that this key names: its own, or that of which it is an alias. */
  readonly metric = new Int32Array(limits.payloadKeysMax)
  readonly numberOnly = new Uint8Array(limits.payloadKeysMax)
  generation = 0
  readonly #unit: (string | undefined)[] = []
  /** What `learn` was asked for in this generation, placed or not. */
  readonly #learnt = new Set<string>()
  readonly #aliases: boolean

  constructor(useAliases: boolean) {
    this.#aliases = useAliases
    this.#learnOwn()
  }

  find(bytes: Uint8Array, start: number, end: number): number {
    return this.bytes.find(bytes, start, end, hashBytes(bytes, start, end))
  }

  keyOf(bytes: Uint8Array, start: number, end: number): string | undefined {
    const entry = end - start > limits.nameBytesMax ? -1 : this.find(bytes, start, end)
    return entry < 0 ? undefined : this.name[entry]
  }

  /** The entry of one of the decoder's own names (those with a role, aliases, number metrics). */
  own(name: string): number {
    return this.name.indexOf(name)
  }

  /** The attribute that holds the unit of the metric `entry`. */
  unit(entry: number): string {
    return (this.#unit[entry] ??= unitAttribute(this.name[entry]!))
  }

  learn(name: string): void {
    if (this.#learnt.has(name)) return
    // A name that needs an escape in JSON is never met as plain bytes; an invalid one is never accepted.
    if (name.includes('"') || name.includes('\\') || nameFault(name) !== undefined) return
    const bytes = Buffer.from(name)
    const hash = hashBytes(bytes, 0, bytes.length)
    if (!this.#add(name, bytes, hash) && (this.bytes.isFull(bytes.length) || this.#learnt.size >= limits.payloadKeysMax)) {
      this.bytes.clear()
      this.name.length = 0
      this.#unit.length = 0
      this.#learnt.clear()
      this.generation++
      this.#learnOwn()
      this.#add(name, bytes, hash)
    }
    this.#learnt.add(name)
  }

  #learnOwn(): void {
    // Canonical names before their aliases.
    for (const name of new Set([...aliases.values(), ...numberMetrics, ...roles.keys()])) {
      const bytes = Buffer.from(name)
      this.#add(name, bytes, hashBytes(bytes, 0, bytes.length))
      this.#learnt.add(name)
    }
  }

  #add(name: string, bytes: Uint8Array, hash: number): boolean {
    const entry = this.bytes.add(bytes, 0, bytes.length, hash)
    if (entry < 0) return false
    this.name[entry] = name
    this.role[entry] = roles.get(name) ?? Role.metric
    const canonical = this.#aliases ? aliases.get(name) : undefined
    this.metric[entry] = canonical === undefined ? entry : this.name.indexOf(canonical)
    this.numberOnly[entry] = numberMetrics.has(name) ? 1 : 0
    return true
  }
}
