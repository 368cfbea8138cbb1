import type { Principal, TokenService } from '../../core/services.ts'
import { namesOf } from './certificate-names.ts'
import type { CertificateIdentity } from './certificate-names.ts'
import type { ClientCertificate } from './connection.ts'

export interface ConnectRequest {
  readonly clientId: string
  /** The client sent no id: `clientId` was made for it, and the answer may name another. */
  readonly assigned: boolean
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

/**
 * `bad_credentials`: CONNACK 4, in MQTT 5 0x86. `not_authorized`: 5, 0x87. `client_id`: this client may not have that client id; 2, 0x85. `reason`
 * is told to a client of MQTT 5 and to the log; it must not say more than its asker may know.
 */
export type ConnectAnswer =
  | ({ readonly ok: true } & MqttPrincipal)
  | { readonly ok: false; readonly code: 'bad_credentials' | 'not_authorized' | 'client_id'; readonly reason?: string }

/**
 * Who may connect, and what a client may publish and subscribe to. Only `connect` may take its time; `publish` and `subscribe` are synchronous, cheap
 * and without side effects, and throw never.
 */
export interface MqttAuthorizer {
  /** A promise that rejects refuses the connection as "server unavailable"; one that takes longer than `mqtt.connect_timeout_s` as well. */
  connect(request: ConnectRequest): ConnectAnswer | Promise<ConnectAnswer>
  /**
   * Whether the client may publish to this topic name; `retain`: as a message that is retained. Asked once per connection and topic for each of both
   * and remembered as long as the connection; of the will's topic when the client connects and again when the will is published. An alias is
   * resolved before. Topics that begin with `$SYS/` or `$share/` are not asked about: nobody publishes there.
   */
  publish(principal: MqttPrincipal, topic: string, retain: boolean): boolean
  /**
   * Whether the client may subscribe to this filter: of `$share/group/filter` the filter alone, `$SYS/…` too. Asked of each filter in each SUBSCRIBE,
   * and of those of a session that is resumed.
   */
  subscribe(principal: MqttPrincipal, filter: string): boolean
  /**
   * The account for which the request shows a password that could be guessed: failures are slowed per account and address. Undefined (and without the
   * function): the credentials cannot be guessed, and are looked at whatever came before.
   */
  account?(request: ConnectRequest): string | undefined
}

export interface TokenAuthorizerOptions {
  readonly tokens: TokenService
  /** No credentials are asked for (loopback, KYMO_AUTH=open); a token that is presented must be valid all the same. */
  readonly open: boolean
  /** A certificate lets its owner in, under its own name only. Absent: certificates decide nothing here. */
  readonly identity?: CertificateIdentity | undefined
  readonly tenant?: string
}

const tokenPrefix = 'tk_'
const passwordDecoder = new TextDecoder()

/**
 * API tokens as MQTT credentials: in the password (the user name is then free), or in the user name, as ThingsBoard's devices
 * do. Publishing needs the scope `ingest`, subscribing `read`; `admin` has both. With `identity` a client that shows a certificate has the client id
 * that the certificate names, and needs no token; a token that it presents all the same decides what it may do.
 */
export function createTokenAuthorizer({ tokens, open, identity, tenant = 'default' }: TokenAuthorizerOptions): MqttAuthorizer {
  return {
    connect(request) {
      const { certificate } = request
      const named = identity === undefined || certificate === undefined ? undefined : nameOf(request, namesOf(certificate, identity))
      if (typeof named === 'object') return named
      const clientId = named ?? request.clientId
      const token = tokenOf(request)
      if (token !== undefined) {
        const principal = tokens.verify(token)
        return principal === undefined ? { ok: false, code: 'bad_credentials' } : admit(principal, clientId)
      }
      if (named !== undefined) return { ok: true, tenant, id: `certificate:${named}`, clientId, mayPublish: true, maySubscribe: true }
      if (open) return { ok: true, tenant, id: 'open', clientId, mayPublish: true, maySubscribe: true }
      return { ok: false, code: request.username === undefined ? 'not_authorized' : 'bad_credentials' }
    },
    publish: (principal) => principal.mayPublish,
    subscribe: (principal) => principal.maySubscribe,
    account: (request) => (open || tokenOf(request) !== undefined ? undefined : request.username),
  }
}

function tokenOf({ username, password }: ConnectRequest): string | undefined {
  const text = password === undefined ? undefined : passwordDecoder.decode(password)
  if (text?.startsWith(tokenPrefix) === true) return text
  return username?.startsWith(tokenPrefix) === true ? username : undefined
}

/** The client id that a certificate allows, or why it allows none. */
function nameOf({ clientId, assigned }: ConnectRequest, names: readonly string[]): string | ConnectAnswer {
  const [first] = names
  if (first === undefined) return { ok: false, code: 'not_authorized', reason: 'The certificate names nobody (mqtt.tls.identity).' }
  if (assigned) return first
  return names.includes(clientId) ? clientId : { ok: false, code: 'client_id', reason: 'The client id is not the name in the certificate.' }
}

function admit(principal: Principal, clientId: string): ConnectAnswer {
  const admin = principal.scopes.has('admin')
  const mayPublish = admin || principal.scopes.has('ingest')
  const maySubscribe = admin || principal.scopes.has('read')
  if (!mayPublish && !maySubscribe) return { ok: false, code: 'not_authorized' }
  return { ok: true, tenant: principal.tenant, id: principal.id, clientId, mayPublish, maySubscribe }
}
