import type { ClientCertificate } from './connection.ts'
import type { Principal, TokenService } from '../../core/services.ts'

export interface ConnectRequest {
  readonly clientId: string
  readonly username: string | undefined
  readonly password: Uint8Array | undefined
  readonly remoteAddress: string
  /** Of a client over TLS that has shown one which `mqtt.tls.ca_file` vouches for. */
  readonly certificate?: ClientCertificate | undefined
}

/** Who a connection is, once it is let in. */
export interface MqttPrincipal {
  readonly tenant: string
  /** Token id, or how else the client was let in; `MqttDoor.disconnect` takes it. */
  readonly id: string
  readonly clientId: string
  readonly mayPublish: boolean
  readonly maySubscribe: boolean
}

export type ConnectAnswer = ({ readonly ok: true } & MqttPrincipal) | { readonly ok: false; readonly code: 'bad_credentials' | 'not_authorized' }

/** Synchronous and cheap. The door asks `publish` once per connection and topic and remembers the answer. */
export interface MqttAuthorizer {
  connect(request: ConnectRequest): ConnectAnswer
  publish(principal: MqttPrincipal, topic: string): boolean
  subscribe(principal: MqttPrincipal, filter: string): boolean
}

export interface TokenAuthorizerOptions {
  readonly tokens: TokenService
  /** No credentials are asked for (loopback, KYMO_AUTH=open); a token that is presented must be valid all the same. */
  readonly open: boolean
  readonly tenant?: string
}

const tokenPrefix = 'tk_'
const passwordDecoder = new TextDecoder()

/**
 * API tokens as MQTT credentials: in the password (the user name is then free), or in the user name, as ThingsBoard's devices
 * do. Publishing needs the scope `ingest`, subscribing `read`; `admin` has both.
 */
export function createTokenAuthorizer({ tokens, open, tenant = 'default' }: TokenAuthorizerOptions): MqttAuthorizer {
  return {
    connect(request) {
      const password = request.password === undefined ? undefined : passwordDecoder.decode(request.password)
      const token =
        password?.startsWith(tokenPrefix) === true ? password : request.username?.startsWith(tokenPrefix) === true ? request.username : undefined
      if (token !== undefined) {
        const principal = tokens.verify(token)
        return principal === undefined ? { ok: false, code: 'bad_credentials' } : admit(principal, request.clientId)
      }
      if (open) return { ok: true, tenant, id: 'open', clientId: request.clientId, mayPublish: true, maySubscribe: true }
      return { ok: false, code: request.username === undefined ? 'not_authorized' : 'bad_credentials' }
    },
    publish: (principal) => principal.mayPublish,
    subscribe: (principal) => principal.maySubscribe,
  }
}

function admit(principal: Principal, clientId: string): ConnectAnswer {
  const admin = principal.scopes.has('admin')
  const mayPublish = admin || principal.scopes.has('ingest')
  const maySubscribe = admin || principal.scopes.has('read')
  if (!mayPublish && !maySubscribe) return { ok: false, code: 'not_authorized' }
  return { ok: true, tenant: principal.tenant, id: principal.id, clientId, mayPublish, maySubscribe }
}
