import { KymoError } from '../../core/errors.ts'

/** How a Kafka cluster is reached: what `log.url` says, with what `kafka.*` adds. */
export interface KafkaAddress {
  readonly brokers: readonly { readonly host: string; readonly port: number }[]
  /** Speak TLS; what PEM there is in place of what Node brings along. */
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string }
  readonly sasl?: KafkaSasl
}

export interface KafkaSasl {
  readonly mechanism: SaslMechanism
  readonly username?: string
  readonly password?: string
  /** Of OAUTHBEARER; a function is asked at each authentication. */
  readonly token?: string | (() => Promise<string>)
}

const saslMechanisms = ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512', 'OAUTHBEARER'] as const
export type SaslMechanism = (typeof saslMechanisms)[number]

/** What is set beside the URL; empty: nothing. */
export interface KafkaCredentials {
  /** Where it stands, for messages: `kafka`. */
  readonly from: string
  readonly sasl: string
  readonly username: string
  readonly password: string
  readonly token?: string | (() => Promise<string>)
}

const defaultPort = 9092
const known = ['sasl', 'tls', 'token']

/** `setting`: which one the address is of. */
function refusal(setting: string, detail: string): KymoError {
  return new KymoError('config_invalid', { detail: `${setting}: ${detail}`, errors: [{ pointer: `/${setting.replaceAll('.', '/')}`, detail }] })
}

/**
 * `kafka://one:9092,two:9092`, with TLS `kafkas://…` or `?tls=true`, `kafka://user:password@host?sasl=scram-sha-512`,
 * `kafkas://host?sasl=oauthbearer&token=…`. `beside` fills what the URL leaves out. Throws `config_invalid` and names what is wrong, never a secret.
 */
export function parseKafkaUrl(url: string, setting = 'log.url', beside?: KafkaCredentials): KafkaAddress {
  const refuse = (detail: string): never => {
    throw refusal(setting, detail)
  }
  const match = /^(?<scheme>kafkas?):\/\/(?:(?<credentials>[^@/]*)@)?(?<hosts>[^/?]+)\/?(?:\?(?<query>.*))?$/.exec(url)
  if (match?.groups === undefined) return refuse('no address of Kafka; for example kafka://one:9092,two:9092')
  const { scheme, credentials, hosts = '', query = '' } = match.groups
  const brokers = hosts.split(',').map((text) => brokerOf(text) ?? refuse(`"${text}" is no host:port; for example kafka://one:9092,two:9092`))
  const asked = new URLSearchParams(query)
  for (const name of asked.keys()) if (!known.includes(name)) refuse(`"${name}" is not known; ${known.join(', ')} are`)
  const wanted = asked.get('tls') ?? String(scheme === 'kafkas')
  if (wanted !== 'true' && wanted !== 'false') refuse('tls must be true or false')
  if (wanted === 'false' && scheme === 'kafkas') refuse('kafkas:// is TLS, and tls=false forbids it')
  const address = wanted === 'true' ? { brokers, tls: {} } : { brokers }
  const [username = '', password = ''] = (credentials ?? '')
    .split(':')
    .map((text) => decoded(text) ?? refuse('user and password must be percent-encoded'))
  const sasl = saslOf(
    {
      name: asked.get('sasl') ?? '',
      username: username || (beside?.username ?? ''),
      password: password || (beside?.password ?? ''),
      token: asked.get('token') ?? beside?.token,
      fallback: beside?.sasl ?? '',
      places: beside === undefined ? 'user:password@' : `user:password@, or ${beside.from}.username and ${beside.from}.password`,
    },
    refuse,
  )
  return sasl === undefined ? address : { ...address, sasl }
}

interface Asked {
  readonly name: string
  readonly fallback: string
  readonly username: string
  readonly password: string
  readonly token: KafkaSasl['token'] | undefined
  readonly places: string
}

function saslOf({ name, fallback, username, password, token, places }: Asked, refuse: (detail: string) => never): KafkaSasl | undefined {
  const named = (name || fallback || (username === '' ? '' : 'plain')).toUpperCase()
  if (named === '') return undefined
  const mechanism = saslMechanisms.find((one) => one === named)
  if (mechanism === undefined) return refuse(`sasl must be one of ${saslMechanisms.join(', ').toLowerCase()}`)
  if (mechanism === 'OAUTHBEARER') return token === undefined || token === '' ? refuse('sasl=oauthbearer needs a token') : { mechanism, token }
  if (username === '' || password === '') return refuse(`sasl=${mechanism.toLowerCase()} needs ${places}`)
  return { mechanism, username, password }
}

function brokerOf(text: string): { readonly host: string; readonly port: number } | undefined {
  const match = /^(?:\[(?<six>[^\]]+)\]|(?<host>[^:]+))(?::(?<port>\d+))?$/.exec(text)
  const host = match?.groups?.['six'] ?? match?.groups?.['host']
  const port = Number(match?.groups?.['port'] ?? defaultPort)
  return host === undefined || port < 1 || port > 65_535 ? undefined : { host, port }
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}
