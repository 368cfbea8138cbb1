import { KymoError } from '../../core/errors.ts'

/** Where a broker is. */
export interface BrokerAddress {
  readonly host: string
  readonly port: number
  readonly secure: boolean
  readonly username?: string
  readonly password?: string
}

/** `mqtt://user:password@host:port`, `mqtts://…` (also tcp, ssl, tls), or `host:port`. Throws `usage`, without the text's password. */
export function parseBrokerAddress(text: string): BrokerAddress {
  const url = URL.parse(text.includes('://') ? text : `mqtt://${text}`)
  const secure = url?.protocol === 'mqtts:' || url?.protocol === 'ssl:' || url?.protocol === 'tls:'
  const user = decoded(url?.username)
  const password = decoded(url?.password)
  const known = secure || url?.protocol === 'mqtt:' || url?.protocol === 'tcp:'
  if (url === null || url.hostname === '' || !known || user === undefined || password === undefined) {
    throw new KymoError('usage', { detail: `"${text.replace(/\/\/.*@/s, '//…@')}" is not an MQTT address: mqtt://host:port is expected` })
  }
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? (secure ? 8883 : 1883) : Number(url.port),
    secure,
    ...(user === '' ? {} : { username: user }),
    ...(password === '' ? {} : { password }),
  }
}

/** The address without user name and password: for logs, dead letters and messages. */
export function addressText({ host, port, secure }: BrokerAddress): string {
  return `${secure ? 'mqtts' : 'mqtt'}://${host.includes(':') ? `[${host}]` : host}:${port}`
}

/** Undefined: a percent sign that begins no escape. */
function decoded(part = ''): string | undefined {
  try {
    return decodeURIComponent(part)
  } catch {
    return undefined
  }
}
