import type { DuckDBConnection } from '@duckdb/node-api'
import path from 'node:path'
import { KymoError } from '../../../core/errors.ts'
import { limits } from '../../../core/limits.ts'
import { attachSealed, checkInfo, placesOf, rawLayout, type Place, type RawLayout } from './scan.ts'

/** A sealed file that a query reads: its name in statements, valid until the lease is released. */
export interface Attached {
  readonly catalog: string
  /** Of raw files. */
  readonly layout: RawLayout
  /** Places of a few series in a raw file, remembered for the next query. */
  places(ids: ArrayLike<number>): Promise<Place[]>
}

export interface Lease {
  /** By path from the store's folder, as they were asked for. */
  readonly files: ReadonlyMap<string, Attached>
  /** To be called once, when no statement reads the files any more. */
  release(): void
}

interface Entry {
  readonly name: string
  readonly attached: Attached
  refs: number
  retired: PromiseWithResolvers<void> | undefined
}

/** Places remembered for each file: 4,096 x about 100 B. */
const placesMax = 4096
/** Places that are looked up at once, of series with neighbouring ids. */
const placesBlock = 256

/**
 * Sealed files attached when a query needs them, to the instance of `connection`, which nobody else may use. At most `max` stay attached
 * while no query reads them, those used last. A file is detached only when no lease has it: a statement that is bound afterwards would not find
 * it. Take leases before BEGIN: a transaction sees the files that were attached when it first used them. Releasing a lease leaves statements
 * behind that nobody waits for, so `close` comes before the connection is closed.
 */
export class Attachments {
  readonly #connection: DuckDBConnection
  readonly #dir: string
  readonly #max: number
  /** In the order of their last use. */
  readonly #entries = new Map<string, Entry>()
  #turn: Promise<unknown> = Promise.resolve()
  #next = 1
  #closed = false

  constructor(connection: DuckDBConnection, dir: string, max: number = limits.sealedAttachedMax) {
    this.#connection = connection
    this.#dir = dir
    this.#max = max
  }

  get size(): number {
    return this.#entries.size
  }

  /** Attaches what is not attached. Throws `store_corrupt`, `store_format` or, once closed, `shutting_down`, and then holds none. */
  acquire(names: readonly string[]): Promise<Lease> {
    return this.#alone(async () => {
      const taken: Entry[] = []
      try {
        for (const name of names) {
          const entry = this.#entries.get(name) ?? (await this.#attach(name))
          this.#entries.delete(name)
          this.#entries.set(name, entry)
          entry.refs++
          taken.push(entry)
        }
        await this.#shrink()
      } catch (thrown) {
        for (const entry of taken) entry.refs--
        throw thrown
      }
      let held = true
      return {
        files: new Map(taken.map((entry) => [entry.name, entry.attached])),
        release: () => {
          if (!held) return
          held = false
          for (const entry of taken) entry.refs--
          // A file that cannot be detached stays in use, and the next who asks hears why.
          this.#alone(() => this.#shrink()).catch(() => undefined)
        },
      }
    })
  }

  /** Detaches files that are to be deleted, each as soon as no lease has it. No lease may be taken of them any more. */
  async retire(names: readonly string[]): Promise<void> {
    const waits = names.flatMap((name) => {
      const entry = this.#entries.get(name)
      if (entry === undefined) return []
      entry.retired = Promise.withResolvers()
      return [entry.retired.promise]
    })
    await Promise.all([this.#alone(() => this.#shrink()), ...waits])
  }

  /**
   * Resolves when no statement runs on the connection any more; from then on none does. The engine's binding does not count those under way:
   * a connection that is closed while one runs in the thread pool, and then its instance, are freed beneath it, and the process dies.
   */
  async close(): Promise<void> {
    this.#closed = true
    await this.#turn
  }

  async #attach(name: string): Promise<Entry> {
    const file = path.join(this.#dir, name)
    const catalog = `sealed_${this.#next++}`
    await attachSealed(this.#connection, catalog, file)
    try {
      const raw = name.endsWith('-raw.duckdb')
      if (!raw) await checkInfo(this.#connection, catalog, file)
      const layout = raw ? await rawLayout(this.#connection, catalog, file) : { shapes: [] }
      const entry: Entry = { name, attached: { catalog, layout, places: this.#placesOf(catalog) }, refs: 0, retired: undefined }
      this.#entries.set(name, entry)
      return entry
    } catch (thrown) {
      await this.#connection.run(`DETACH ${catalog}`)
      throw thrown
    }
  }

  #placesOf(catalog: string): (ids: ArrayLike<number>) => Promise<Place[]> {
    const known = new Map<number, Place | undefined>()
    return async (ids) => {
      const wanted = Array.from(ids)
      const unknown = wanted.filter((id) => !known.has(id))
      // What is known now: while others are looked up, another query may have it forgotten.
      const places = wanted.flatMap((id) => known.get(id) ?? [])
      if (unknown.length === 0) return places
      // Their neighbours as well: who looks at one device looks at the next.
      const blocks = new Set(unknown.map((id) => id - (id % placesBlock)))
      const first = Math.min(...blocks)
      const around = blocks.size === 1 ? Array.from({ length: placesBlock }, (_, i) => first + i) : unknown
      const found = new Map((await this.#alone(() => placesOf(this.#connection, catalog, around))).map((place) => [place.series, place]))
      if (known.size + around.length > placesMax) known.clear()
      for (const id of around) known.set(id, found.get(id))
      return [...places, ...unknown.flatMap((id) => found.get(id) ?? [])]
    }
  }

  /** Detaches what is retired, and of the rest the longest unused beyond the limit. */
  async #shrink(): Promise<void> {
    const unused = [...this.#entries.values()].filter((entry) => entry.refs === 0)
    for (const entry of [...unused.filter((one) => one.retired !== undefined), ...unused.filter((one) => one.retired === undefined)]) {
      if (entry.retired === undefined && this.#entries.size <= this.#max) break
      try {
        await this.#connection.run(`DETACH ${entry.attached.catalog}`)
      } catch (thrown) {
        entry.retired?.reject(thrown)
        throw thrown
      }
      this.#entries.delete(entry.name)
      entry.retired?.resolve()
    }
  }

  /** One statement at a time on the connection, and none once it is closed. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(() => {
      if (this.#closed) throw new KymoError('shutting_down')
      return work()
    })
    this.#turn = done.catch(() => undefined)
    return done
  }
}
