import pg from 'pg'
import { asKymoError, KymoError } from '../../core/errors.ts'

export interface PostgresOptions {
  /** `postgres://user:password@host:port/database?schema=kymo&sslmode=verify-full`; of `schema`, default `kymo`, all tables are. */
  readonly url: string
  readonly connectionsMax: number
}

export interface Postgres {
  readonly pool: pg.Pool
  readonly schema: string
  /** Runs `work` in a transaction; what it throws rolls back. A deadlock or a lost serialisation is tried again. */
  transaction<T>(work: (client: pg.PoolClient) => Promise<T>): Promise<T>
  /** A statement on a connection that is made for it: when all others may be busy. */
  aside(text: string, values: readonly unknown[]): Promise<void>
  close(): Promise<void>
}

const schemaName = /^[a-z_][a-z0-9_]{0,62}$/
const connectTimeoutMs = 5_000
/** Serialisation failure and deadlock (PostgreSQL, appendix A): the same transaction, tried again, may succeed. */
const retryable = new Set(['40001', '40P01'])
const triesMax = 10

/** Connects when it is first used. Throws `config_invalid` for an address that cannot be one. */
export function openPostgres({ url, connectionsMax }: PostgresOptions): Postgres {
  const { connectionString, schema } = addressOf(url)
  const pool = new pg.Pool({
    connectionString,
    max: connectionsMax,
    connectionTimeoutMillis: connectTimeoutMs,
    application_name: 'kymo',
    options: `-c search_path=${schema} -c timezone=UTC`,
    keepAlive: true,
  })
  // Of a connection that is idle; whoever uses one is told by its query.
  pool.on('error', () => undefined)
  // Of one in use: its statement fails too, and unheard the event would end the process.
  pool.on('connect', (client) => client.on('error', () => undefined))
  const transaction = async <T>(work: (client: pg.PoolClient) => Promise<T>): Promise<T> => {
    for (let tries = 1; ; tries++) {
      try {
        return await once(pool, work)
      } catch (thrown) {
        if (tries >= triesMax || !retryable.has(sqlState(thrown))) throw postgresError(thrown)
      }
    }
  }
  const aside = async (text: string, values: readonly unknown[]): Promise<void> => {
    const client = new pg.Client({ connectionString, connectionTimeoutMillis: connectTimeoutMs, application_name: 'kymo' })
    client.on('error', () => undefined)
    try {
      await client.connect()
      await client.query(text, [...values])
    } finally {
      await client.end()
    }
  }
  return { pool, schema, transaction, aside, close: () => pool.end() }
}

async function once<T>(pool: pg.Pool, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect()
  let broken = false
  try {
    await client.query('BEGIN')
    const result = await work(client)
    await client.query('COMMIT')
    return result
  } catch (thrown) {
    await client.query('ROLLBACK').catch(() => (broken = true))
    throw thrown
  } finally {
    client.release(broken)
  }
}

function addressOf(url: string): { readonly connectionString: string; readonly schema: string } {
  try {
    const parsed = new URL(url)
    const schema = parsed.searchParams.get('schema') ?? 'kymo'
    if (!/^postgres(?:ql)?:$/.test(parsed.protocol)) throw new Error(`"${parsed.protocol}" is no scheme of PostgreSQL`)
    if (!schemaName.test(schema)) throw new Error('schema must be lower case letters, digits and _')
    parsed.searchParams.delete('schema')
    return { connectionString: parsed.toString(), schema }
  } catch (thrown) {
    // Never the address itself: it may hold a password.
    const detail = `An address of PostgreSQL is postgres://user@host:5432/database: ${asKymoError(thrown).message}.`
    throw new KymoError('config_invalid', { detail })
  }
}

function sqlState(thrown: unknown): string {
  return thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : ''
}

/** Classes of SQLSTATE that say something of the server and nothing of the statement (PostgreSQL, appendix A). */
const away = /^(?:08|53|57P|58|25006|3D000|28)/

/** What the driver throws: `store_unavailable` where trying again can help, a bug of ours otherwise. */
export function postgresError(thrown: unknown): KymoError {
  if (thrown instanceof KymoError) return thrown
  // Of ours, and not the driver's: waiting would not help.
  if (thrown instanceof TypeError || thrown instanceof RangeError || thrown instanceof ReferenceError) return asKymoError(thrown)
  const state = sqlState(thrown)
  const { message } = asKymoError(thrown)
  const statement = /^[0-9A-Z]{5}$/.test(state) && !away.test(state) && !retryable.has(state)
  if (statement) return new KymoError('bug', { detail: `PostgreSQL refuses a statement (${state}): ${message}`, cause: thrown })
  return new KymoError('store_unavailable', { detail: `PostgreSQL: ${message}`, retryAfterS: 1, cause: thrown })
}
