import process from 'node:process'
import pg from 'pg'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import type { Store } from '../../src/core/ports.ts'
import { openPostgresStore, type PostgresStore, type PostgresStoreOptions } from '../../src/store/postgres/store.ts'
import { newSchema } from './postgres-stores.ts'

const url = process.env['KYMO_TEST_POSTGRES_URL']
const env = nodeEnv(silentLogger)

export interface PostgresPlace {
  readonly location: string
  /** A connection that finds the store's tables, as a person's would. */
  readonly client: pg.Client
  open(o?: Partial<PostgresStoreOptions>): Promise<PostgresStore>
  /** At the end, once all stores are closed. */
  after(task: () => Promise<void>): void
}

/** Runs a test over a schema of its own; stores that were opened are closed, and the schema goes. */
export async function usingPostgres(run: (place: PostgresPlace) => Promise<void>): Promise<void> {
  const { location, schema, remove } = newSchema(url ?? '')
  const client = new pg.Client({ connectionString: url, options: `-c search_path=${schema}` })
  await client.connect()
  const stores: Store[] = []
  const tasks: (() => Promise<void>)[] = []
  try {
    await run({
      location,
      client,
      open: async (o = {}) => {
        const store = await openPostgresStore({ url: location, env, ...o })
        stores.push(store)
        return store
      },
      after: (task) => void tasks.push(task),
    })
  } finally {
    await Promise.all([...stores.map((store) => store.close()), client.end()])
    await Promise.all(tasks.map((task) => task()))
    await remove()
  }
}

export async function count(client: pg.Client, table: string): Promise<number> {
  const { rows } = await client.query<{ n: string }>(`SELECT count(*) AS n FROM ${table}`)
  return Number(rows[0]?.n)
}

/** Waits for it, ten seconds at most. */
export async function until(holds: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await holds()); tries++) {
    if (tries > 1000) throw new Error('It never came to that.')
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
