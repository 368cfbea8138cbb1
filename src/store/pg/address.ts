import fs from 'node:fs'
import type { ConnectionOptions } from 'node:tls'
import type { ClientConfig } from 'pg'
import { asKymoError, KymoError } from '../../core/errors.ts'

/** Where a database is, and how to get in. */
export interface PostgresAddress {
  readonly schema: string
  readonly hosts: readonly HostAddress[]
  /** Only a server that takes writes will do: not a standby. */
  readonly readWrite: boolean
  /** The same for programs of PostgreSQL's own, as environment: no password stands in a list of processes. */
  readonly environment: Readonly<Record<string, string>>
}

export interface HostAddress {
  readonly host: string
  readonly port: number
  /** What node-postgres takes. Files of certificates are read at each call: whoever exchanges them restarts nothing. */
  config(): ClientConfig
}

const schemaName = /^[a-z_][a-z0-9_]{0,62}$/
const form = 'postgres://user@host:5432/database'
const shape = /^(postgres(?:ql)?:)\/\/(?:([^@/?]*)@)?([^/?@]*)(\/[^?]*)?(?:\?(.*))?$/
/** Names of libpq, as people know them (PostgreSQL, "Parameter Key Words"); `schema` is ours. */
const known = ['schema', 'sslmode', 'sslrootcert', 'sslcert', 'sslkey', 'target_session_attrs', 'application_name'] as const
type Known = (typeof known)[number]
const modes = ['disable', 'require', 'verify-ca', 'verify-full'] as const

/**
 * `postgres://user:password@host:5432,other:5432/database?schema=kymo&sslmode=verify-full&sslrootcert=/etc/kymo/ca.pem`. Throws `config_invalid` for
 * an address
 * that cannot be one, and for files that cannot be read; never with the address itself, which may hold a password.
 */
export function parseAddress(url: string): PostgresAddress {
  try {
    return parsed(url)
  } catch (thrown) {
    throw new KymoError('config_invalid', { detail: `An address of PostgreSQL is ${form}: ${asKymoError(thrown).message}.` })
  }
}

function parsed(url: string): PostgresAddress {
  const match = shape.exec(url)
  if (match === null) throw new Error('the scheme is postgres:// or postgresql://')
  const [, , credentials = '', authority = '', path = '', query = ''] = match
  const parameters = parametersOf(query)
  const schema = parameters.get('schema') ?? 'kymo'
  if (!schemaName.test(schema)) throw new Error('schema must be lower case letters, digits and _')
  const attributes = parameters.get('target_session_attrs')
  if (attributes !== undefined && attributes !== 'read-write' && attributes !== 'any') throw new Error('target_session_attrs is read-write or any')
  const ssl = tlsOf(parameters)
  // Files that are missing are told at the start, and not by each connection.
  ssl()
  const [user, password] = userOf(credentials)
  const database = decodeURIComponent(path.slice(1))
  const hosts = authority.split(',').map((one): HostAddress => {
    const { host, port } = hostOf(one)
    const config = (): ClientConfig => ({
      host,
      port,
      ssl: ssl(),
      application_name: parameters.get('application_name') ?? 'kymo',
      ...(user === undefined ? {} : { user }),
      ...(password === undefined ? {} : { password }),
      ...(database === '' ? {} : { database }),
    })
    return { host, port, config }
  })
  const readWrite = attributes === undefined ? hosts.length > 1 : attributes === 'read-write'
  const said = {
    PGHOST: hosts.map(({ host }) => host).join(','),
    PGPORT: hosts.map(({ port }) => port).join(','),
    PGUSER: user,
    PGPASSWORD: password,
    PGDATABASE: database === '' ? undefined : database,
    PGSSLMODE: modeOf(parameters),
    PGSSLROOTCERT: parameters.get('sslrootcert'),
    PGSSLCERT: parameters.get('sslcert'),
    PGSSLKEY: parameters.get('sslkey'),
    PGTARGETSESSIONATTRS: readWrite ? 'read-write' : undefined,
  }
  const environment: Record<string, string> = {}
  for (const [name, value] of Object.entries(said)) if (value !== undefined) environment[name] = value
  return { schema, hosts, readWrite, environment }
}

function parametersOf(query: string): ReadonlyMap<Known, string> {
  const found = new Map<Known, string>()
  for (const [name, value] of new URLSearchParams(query)) {
    const one = known.find((it) => it === name)
    if (one === undefined) throw new Error(`it has an unknown parameter ${name}; there are ${known.join(', ')}`)
    found.set(one, value)
  }
  return found
}

function userOf(credentials: string): readonly [string | undefined, string | undefined] {
  if (credentials === '') return [undefined, undefined]
  const colon = credentials.indexOf(':')
  if (colon < 0) return [decodeURIComponent(credentials), undefined]
  return [decodeURIComponent(credentials.slice(0, colon)), decodeURIComponent(credentials.slice(colon + 1))]
}

function hostOf(text: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*))(?::(\d+))?$/.exec(text)
  if (match === null) throw new Error('a host is name:port or [::1]:port; several are parted by commas')
  const port = Number(match[3] ?? 5432)
  if (port < 1 || port > 65_535) throw new Error('a port is 1 to 65535')
  const host = match[1] ?? decodeURIComponent(match[2] ?? '')
  return { host: host === '' ? 'localhost' : host, port }
}

function modeOf(parameters: ReadonlyMap<Known, string>): (typeof modes)[number] {
  const given = parameters.get('sslmode') ?? (parameters.has('sslrootcert') ? 'verify-full' : 'disable')
  const mode = modes.find((one) => one === given)
  if (mode === undefined) throw new Error(`sslmode is ${modes.join(', ')}`)
  return mode
}

/** As libpq has it, but that `prefer` and `allow`, which may or may not protect, are refused. */
function tlsOf(parameters: ReadonlyMap<Known, string>): () => ConnectionOptions | false {
  const rootCert = parameters.get('sslrootcert')
  const mode = modeOf(parameters)
  if (mode === 'disable') return () => false
  const file = (name: Known): Buffer | undefined => {
    const path = parameters.get(name)
    return path === undefined ? undefined : fs.readFileSync(path)
  }
  return () => {
    const ca = rootCert === 'system' ? undefined : file('sslrootcert')
    const [cert, key] = [file('sslcert'), file('sslkey')]
    return {
      ...(ca === undefined ? {} : { ca }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
      // `require` with a root certificate means verify-ca, as in libpq.
      rejectUnauthorized: mode !== 'require' || rootCert !== undefined,
      ...(mode === 'verify-full' ? {} : { checkServerIdentity: () => undefined }),
    }
  }
}
