import { limits } from '../core/limits.ts'
import type { IngestGate } from '../core/gate.ts'
import type { SessionStore } from '../core/session-store.ts'
import type { TokenService } from '../core/services.ts'
import { AuthThrottle } from '../doors/auth-throttle.ts'
import type { HttpAuth, HttpDoor, HttpDoorOptions } from '../doors/http/options.ts'
import { createTokenAuthorizer } from '../doors/mqtt/authorizer.ts'
import type { MqttDoor } from '../doors/mqtt/door.ts'
import type { Tokens } from '../devices/tokens.ts'
import { TelemetryTopics } from '../wire/topics.ts'
import type { Assembly } from './assembly.ts'
import { compatPorts } from './compat-ports.ts'
import { httpGuards, mqttUpgrades, mqttUrls, openTls, sameAuthorities } from './doors.ts'
import type { Jobs } from './jobs/jobs.ts'

/** Who may come in, for both doors. */
export interface Guards {
  readonly auth: HttpAuth
  readonly tokens: Tokens
  readonly throttle: AuthThrottle
  readonly tls: ReturnType<typeof openTls>
}

/** Certificates and the throttle of wrong tokens, which the doors share. */
export function openGuards({ config, env, metrics, closing }: Assembly, tokens: Tokens, auth: HttpAuth): Guards {
  const tls = closing(openTls(config, env, metrics), async (one) => one.stop())
  return { auth, tokens, tls, throttle: new AuthThrottle(env.clock, limits) }
}

/** The MQTT door: telemetry goes to `gate`, what outlives connections to `store`. */
export async function openMqtt(
  a: Assembly,
  { auth, tokens, throttle, tls }: Guards,
  gate: IngestGate,
  store: SessionStore,
  version: string,
): Promise<MqttDoor> {
  const { config, env, metrics } = a
  const { mqtt } = config
  const { identity } = mqtt.tls
  const { openMqttDoor } = await import('../doors/mqtt/door.ts')
  const door = await a.timed(
    'mqtt',
    (opened) => mqttUrls(config, opened).join(' · '),
    () =>
      openMqttDoor({
        host: mqtt.host,
        port: mqtt.port,
        gate,
        topics: new TelemetryTopics(mqtt.topics.split(',').map((t) => t.trim())),
        authorizer: createTokenAuthorizer({ tokens, open: auth !== 'token', ...(identity === 'off' ? {} : { identity }) }),
        env,
        metrics,
        throttle,
        store,
        plain: mqtt.plain,
        ...(mqtt.sys_interval_s === 0 ? {} : { sys: { version, intervalMs: mqtt.sys_interval_s * 1000 } }),
        webSocketCertificates: sameAuthorities(config),
        ...(tls.mqtt === undefined ? {} : { tls: { ...tls.mqtt, port: mqtt.tls.port } }),
        limits: {
          packetBytesMax: mqtt.packet_bytes_max,
          connectionsMax: mqtt.connections_max,
          connectionsPerAddressMax: mqtt.connections_per_address_max,
          connectsPerS: mqtt.connects_per_s,
          connectTimeoutMs: mqtt.connect_timeout_s * 1000,
          keepAliveSMax: mqtt.keepalive_max_s,
          receiveInflightMax: mqtt.client_inflight_max,
          subscriptionsPerClientMax: mqtt.client_subscriptions_max,
          sessionExpiryS: mqtt.sessions.expiry_s,
          sessionExpirySMax: mqtt.sessions.expiry_max_s,
          clientMessagesPerS: mqtt.client_messages_per_s,
          clientBytesPerS: mqtt.client_bytes_per_s,
        },
      }),
  )
  return a.closing(door, (one) => one.close(limits.drainTimeoutMs))
}

/** What the routes work on, and what of the other door they offer. */
export interface HttpParts extends Omit<
  HttpDoorOptions,
  'host' | 'port' | 'extraPorts' | 'auth' | 'tokens' | 'metrics' | 'env' | 'upgrades' | 'mqtt'
> {
  readonly mqtt: MqttDoor | undefined
  readonly noMqtt: HttpDoorOptions['mqtt']
  /** Their tokens are good at the door as long as they run; absent: this process runs none. */
  readonly innerJobs?: Jobs
}

/** The HTTP door, with the routes of this process's roles. */
export async function openHttp(
  a: Assembly,
  { auth, tokens, throttle, tls }: Guards,
  { mqtt, noMqtt, innerJobs, ...parts }: HttpParts,
): Promise<HttpDoor> {
  const { config, env, metrics } = a
  const { openHttpDoor } = await import('../doors/http/door.ts')
  const door = await a.timed(
    'http',
    (opened) => opened.url,
    () =>
      openHttpDoor({
        ...parts,
        host: config.http.host,
        port: config.http.port,
        extraPorts: config.http.compat_ports ? compatPorts(a.roles) : [],
        tokens: innerJobs === undefined ? tokens : withJobs(tokens, innerJobs),
        ...(innerJobs === undefined ? {} : { innerTokens: innerJobs }),
        mqtt: mqtt?.operator ?? noMqtt,
        ...(mqtt === undefined ? {} : { mqttPort: mqtt.port, mqttsPort: mqtt.tlsPort, upgrades: mqttUpgrades(config, mqtt) }),
        metrics,
        env,
        auth,
        throttle,
        ...httpGuards(config, env, tls.http),
        limits: { bodyBytesMax: config.http.body_bytes_max },
      }),
  )
  return a.closing(door, (one) => one.close(limits.drainTimeoutMs))
}

/** Tokens of running jobs are good at the HTTP door, beside those that were given out. */
function withJobs(tokens: TokenService, jobs: Pick<Jobs, 'verify'>): TokenService {
  return {
    create: (o) => tokens.create(o),
    list: () => tokens.list(),
    revoke: (id) => tokens.revoke(id),
    verify: (token) => jobs.verify(token) ?? tokens.verify(token),
    get any() {
      return tokens.any
    },
  }
}
