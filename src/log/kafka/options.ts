import { KymoError } from '../../core/errors.ts'

/** How a Kafka cluster is reached, as `log.url` says it. */
export interface KafkaAddress {
  readonly brokers: readonly { readonly host: string; readonly port: number }[]
  readonly tls: boolean
  readonly sasl?: { readonly mechanism: SaslMechanism; readonly username?: string; readonly password?: string; readonly token?: string }
}

const saslMechanisms = ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512', 'OAUTHBEARER'] as const
type SaslMechanism = (typeof saslMechanisms)[number]

const defaultPort = 9092
const known = new Set(['sasl', 'token'])

function refuse(detail: string): never {
  throw new KymoError('config_invalid', { detail: `log.url: ${detail}`, errors: [{ pointer: '/log/url', detail }] })
}

function brokerOf(text: string): { host: string; port: number } {
  const match = /^(?:\[(?<six>[^\]]+)\]|(?<host>[^:]+))(?::(?<port>\d+))?$/.exec(text)
  const host = match?.groups?.['six'] ?? match?.groups?.['host']
  const port = Number(match?.groups?.['port'] ?? defaultPort)
  if (host === undefined || port < 1 || port > 65_535) return refuse(`"${text}" is no host:port; for example kafka://one:9092,two:9092`)
  return { host, port }
}

/**
 * `kafka://one:9092,two:9092`, `kafkas://…` with TLS, `kafka://user:password@host?sasl=scram-sha-512`, `kafkas://host?sasl=oauthbearer&token=…`.
 * Throws `config_invalid` and names what is wrong, never the password.
 */
export function parseKafkaUrl(url: string): KafkaAddress {
  const match = /^(?<scheme>kafkas?):\/\/(?:(?<credentials>[^@/]*)@)?(?<hosts>[^/?]+)\/?(?:\?(?<query>.*))?$/.exec(url)
  if (match?.groups === undefined) return refuse('no address of Kafka; for example kafka://one:9092,two:9092')
  const { scheme, credentials, hosts = '', query = '' } = match.groups
  const brokers = hosts.split(',').map(brokerOf)
  const asked = new URLSearchParams(query)
  for (const name of asked.keys()) if (!known.has(name)) refuse(`"${name}" is not known; sasl and token are`)
  const tls = scheme === 'kafkas'
  const [username, password] = (credentials ?? '').split(':').map(decodeURIComponent)
  const named = asked.get('sasl')?.toUpperCase() ?? (username === undefined || username === '' ? undefined : 'PLAIN')
  if (named === undefined) return { brokers, tls }
  const mechanism = saslMechanisms.find((one) => one === named)
  if (mechanism === undefined) return refuse(`sasl must be one of ${saslMechanisms.join(', ').toLowerCase()}`)
  if (mechanism === 'OAUTHBEARER') {
    const token = asked.get('token')
    return token === null ? refuse('sasl=oauthbearer needs token') : { brokers, tls, sasl: { mechanism, token } }
  }
  if (username === undefined || username === '' || password === undefined) return refuse(`sasl=${mechanism.toLowerCase()} needs user:password@`)
  return { brokers, tls, sasl: { mechanism, username, password } }
}
