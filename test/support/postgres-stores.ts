import { randomUUID } from 'node:crypto'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import type { Store } from '../../src/core/ports.ts'
import { openPostgres } from '../../src/store/pg/client.ts'
import { openPostgresStore } from '../../src/store/postgres/store.ts'
import type { StoreSubject } from '../contract/store/shared.ts'

/** A database's address with a schema of its own, and what removes that. */
export function newSchema(url: string): { readonly location: string; readonly schema: string; remove(): Promise<void> } {
  const location = new URL(url)
  const schema = `kymo_test_${randomUUID().slice(0, 8)}`
  location.searchParams.set('schema', schema)
  const remove = async (): Promise<void> => {
    const db = openPostgres({ url, connectionsMax: 1 })
    await db.pool.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`)
    await db.close()
  }
  return { location: location.toString(), schema, remove }
}

export function postgresStores(url: string, columns?: number): StoreSubject {
  const places = new WeakMap<Store, ReturnType<typeof newSchema>>()
  const open = async (place: ReturnType<typeof newSchema>): Promise<Store> => {
    const store = await openPostgresStore({ url: place.location, env: nodeEnv(silentLogger), ...(columns === undefined ? {} : { columns }) })
    places.set(store, place)
    return store
  }
  return {
    open: () => open(newSchema(url)),
    reopen: async (store) => {
      await store.close()
      return open(places.get(store)!)
    },
    remove: async (store) => {
      await store.close()
      await places.get(store)?.remove()
    },
  }
}
