import pg from 'pg'
import { asKymoError, KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import { parseAddress, type HostAddress } from './address.ts'

export interface PostgresOptions {
  /** As `parseAddress` takes it; of `schema`, default `kymo`, all tables are. Of several hosts that one is found and followed which takes writes. */
  readonly url: string
  readonly connectionsMax: number
}

export interface Postgres {
  readonly pool: pg.Pool
  readonly schema: string
  /** A connection, to be released. Hosts are tried in turn. */
  connect(): Promise<pg.PoolClient>
  /** One statement on any connection. */
  query<R extends pg.QueryResultRow>(text: string, values?: readonly unknown[]): Promise<pg.QueryResult<R>>
  /** Runs `work` in a transaction; what it throws rolls back. A deadlock or a lost serialisation is tried again. `patient`: it may take any time. */
  transaction<T>(work: (client: pg.PoolClient) => Promise<T>, patient?: 'patient'): Promise<T>
  /** A statement on a connection that is made for it, to the server of `beside`: when all others may be busy. */
  aside(beside: pg.ClientBase, text: string, values: readonly unknown[]): Promise<void>
  close(): Promise<void>
}

const connectTimeoutMs = 5_000
/** From here on the system asks whether a silent server is still there. */
const keepAliveMs = 10_000
/** Serialisation failure and deadlock (PostgreSQL, appendix A): the same transaction, tried again, may succeed. */
const retryable = new Set(['40001', '40P01'])
const triesMax = 10

/** Connects when it is first used. Throws `config_invalid` for an address that cannot be one. */
export function openPostgres({ url, connectionsMax }: PostgresOptions): Postgres {
  const { schema, hosts, readWrite } = parseAddress(url)
  const common = {
    connectionTimeoutMillis: connectTimeoutMs,
    options: `-c search_path=${schema} -c timezone=UTC`,
    keepAlive: true,
    keepAliveInitialDelayMillis: keepAliveMs,
  }
  // The host that was found last to take writes.
  let at = 0
  const hostOf = new WeakMap<pg.ClientBase, HostAddress>()
  class Client extends pg.Client {
    constructor() {
      const host = hosts[at]!
      super({ ...common, ...host.config() })
      hostOf.set(this, host)
    }
  }
  const pool = new pg.Pool({
    ...common,
    max: connectionsMax,
    Client,
    verify: (client, done) => {
      if (readWrite) mustTakeWrites(client).then(() => done(), done)
      else done()
    },
  })
  // Of a connection that is idle; whoever uses one is told by its query.
  pool.on('error', () => undefined)
  // Of one in use: its statement fails too, and unheard the event would end the process.
  pool.on('connect', (client) => client.on('error', () => undefined))
  const connect = async (): Promise<pg.PoolClient> => {
    for (let left = hosts.length; ; left--) {
      const tried = at
      try {
        return await pool.connect()
      } catch (thrown) {
        // All connections are busy: that says nothing of the host.
        if (hosts.length === 1 || isBusy(thrown)) throw thrown
        if (at === tried) at = (tried + 1) % hosts.length
        if (left <= 1) throw thrown
      }
    }
  }
  const query = async <R extends pg.QueryResultRow>(text: string, values: readonly unknown[] = []): Promise<pg.QueryResult<R>> => {
    const client = await connect()
    return released(client, inTime(client.query<R>(text, [...values])))
  }
  const transaction = async <T>(work: (client: pg.PoolClient) => Promise<T>, patient?: 'patient'): Promise<T> => {
    for (let tries = 1; ; tries++) {
      try {
        const client = await connect()
        const running = once(client, work)
        return await released(client, patient === undefined ? inTime(running) : running)
      } catch (thrown) {
        if (tries >= triesMax || !retryable.has(sqlState(thrown))) throw postgresError(thrown)
      }
    }
  }
  const aside = async (beside: pg.ClientBase, text: string, values: readonly unknown[]): Promise<void> => {
    const client = new pg.Client({ ...common, ...(hostOf.get(beside) ?? hosts[at]!).config() })
    client.on('error', () => undefined)
    try {
      await client.connect()
      await client.query(text, [...values])
    } finally {
      await client.end()
    }
  }
  return { pool, schema, connect, query, transaction, aside, close: () => pool.end() }
}

/** A standby answers queries, and refuses what is written only then. */
async function mustTakeWrites(client: pg.ClientBase): Promise<void> {
  const { rows } = await client.query<{ transaction_read_only: string }>('SHOW transaction_read_only')
  if (rows[0]?.transaction_read_only === 'on')
    throw new KymoError('store_unavailable', { detail: 'PostgreSQL: the server takes no writes.', retryAfterS: 1 })
}

/** What pg-pool says when nobody has given a connection back in time. */
const isBusy = (thrown: unknown): boolean => thrown instanceof Error && thrown.message === 'timeout exceeded when trying to connect'

/** A server that went away without a word is not waited for: its connection is closed then, which ends what it was doing. */
async function inTime<T>(running: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const silent = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () =>
        reject(
          new KymoError('store_unavailable', { detail: `PostgreSQL has not answered for ${limits.postgresAnswerMs / 1000} s.`, retryAfterS: 1 }),
        ),
      limits.postgresAnswerMs,
    )
  })
  try {
    return await Promise.race([running, silent])
  } finally {
    clearTimeout(timer)
  }
}

/** A connection whose statement failed is used again when the server said so; else it goes. */
async function released<T>(client: pg.PoolClient, running: Promise<T>): Promise<T> {
  let broken = true
  try {
    const result = await running
    broken = false
    return result
  } catch (thrown) {
    broken = !/^[0-9A-Z]{5}$/.test(sqlState(thrown)) && !(thrown instanceof KymoError && thrown.code !== 'store_unavailable')
    throw thrown
  } finally {
    client.release(broken)
  }
}

async function once<T>(client: pg.PoolClient, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  try {
    await client.query('BEGIN')
    const result = await work(client)
    await client.query('COMMIT')
    return result
  } catch (thrown) {
    // Where that fails too, nobody knows what state the connection is in.
    await client.query('ROLLBACK').catch((failed: unknown) => {
      throw new KymoError('store_unavailable', { detail: `PostgreSQL: ${asKymoError(failed).message}`, retryAfterS: 1, cause: thrown })
    })
    throw thrown
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
