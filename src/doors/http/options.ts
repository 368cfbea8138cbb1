import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { Env } from '../../core/env.ts'
import type { ForecastService } from '../../core/forecasts.ts'
import type { IngestGate } from '../../core/gate.ts'
import type { Metrics } from '../../core/metrics.ts'
import type { Store } from '../../core/ports.ts'
import type { SqlStore } from '../../core/sql.ts'
import type {
  DeadLetterService,
  DeviceService,
  ErasureService,
  JobService,
  LatestValues,
  LiveFeed,
  MqttService,
  SystemStatus,
  TokenService,
} from '../../core/services.ts'
import type { SnapshotService } from '../../core/snapshot.ts'
import { limits } from '../../core/limits.ts'
import type { AuthThrottle } from '../auth-throttle.ts'
import type { KeyedRate } from '../rate.ts'
import type { TlsListener } from '../tls/listener.ts'
import type { Reference } from './pages/reference.ts'

/** The limits of the door that a user or a test may change; the rest is core/limits.ts. */
export const httpLimits = {
  bodyBytesMax: limits.httpBodyBytesMax as number,
  documentBytesMax: limits.httpDocumentBytesMax as number,
  bodiesBytesMax: limits.httpBodiesBytesMax as number,
  batchItemsMax: limits.batchItemsMax as number,
  headerBytesMax: limits.httpHeaderBytesMax as number,
  headersTimeoutMs: limits.httpHeadersTimeoutMs as number,
  requestTimeoutMs: limits.httpRequestTimeoutMs as number,
  keepAliveMs: limits.httpKeepAliveMs as number,
  socketIdleMs: limits.httpSocketIdleMs as number,
  connectionsMax: limits.httpConnectionsMax as number,
  durableTimeoutMs: limits.httpDurableTimeoutMs as number,
  stalledLookMs: limits.httpStalledLookMs as number,
  sliceMs: limits.httpSliceMs as number,
  resultsMax: limits.httpResultsMax as number,
  idempotencyKeysMax: limits.idempotencyKeysMax as number,
  idempotencyBytesMax: limits.idempotencyBytesMax as number,
  idempotencyAgeMaxMs: limits.idempotencyAgeMaxMs as number,
  queryDeadlineMs: limits.queryDeadlineMs as number,
  answerBytesMax: limits.queryAnswerBytesMax as number,
  liveClientsMax: limits.liveClientsMax as number,
  liveQueueEventsMax: limits.liveQueueEventsMax as number,
  liveQueueBytesMax: limits.liveQueueBytesMax as number,
  liveLingerMs: limits.liveLingerMs as number,
  liveHeartbeatMs: limits.liveHeartbeatMs as number,
  liveRingBytesMax: limits.liveRingBytesMax as number,
  liveResumeMs: limits.liveResumeMs as number,
}
export type HttpLimits = typeof httpLimits

/**
 * Who may call. `loopback`: everyone who reaches the port under a local name (Host and Origin are checked). `token`: a Bearer
 * token with the scope of the route. `open`: everyone; the network protects the port.
 */
export type HttpAuth = 'loopback' | 'token' | 'open'

/** A protocol over WebSocket that another door speaks on these ports. */
export interface Upgrade {
  readonly path: string
  /** Does the handshake, or refuses it. `head`: bytes that came behind the request. */
  accept(request: IncomingMessage, socket: Socket, head: Buffer): void
}

/** Roles that a door has routes of. */
export interface Serves {
  /** Telemetry is taken. */
  readonly ingest: boolean
  /** Everything else: questions, devices, operation, the page. */
  readonly api: boolean
}

/** What the routes work on. */
export interface HttpServices {
  readonly gate: IngestGate
  readonly store: Pick<Store, 'query' | 'latest' | 'series'> & SqlStore
  readonly devices: DeviceService
  readonly tokens: TokenService
  readonly latest: LatestValues
  readonly live: LiveFeed
  readonly deadLetters: DeadLetterService
  readonly mqtt: MqttService
  readonly jobs: JobService
  readonly forecasts: ForecastService
  readonly erasures: ErasureService
  readonly snapshots: SnapshotService
  readonly status: () => Promise<SystemStatus>
  readonly metrics: Metrics
  readonly env: Env
}

export interface HttpDoorOptions extends HttpServices {
  readonly host: string
  /** 0: any free port. */
  readonly port: number
  /** Further ports with the same routes, opened when they are free (the seeds print 8000 to 8004). */
  readonly extraPorts?: readonly number[]
  readonly auth: HttpAuth
  readonly version: string
  /** Which routes there are, beside health and metrics; absent: all. */
  readonly serves?: Serves
  /** Told by `/api/v1/status`: the page names it in the lines to send with. Absent: this process has no MQTT door. */
  readonly mqttPort?: number
  /** The port that speaks TLS; `mqttPort` is the same where no other is open. */
  readonly mqttsPort?: number | undefined
  /** All ports then speak HTTPS and nothing else. */
  readonly tls?: TlsListener & { readonly hstsMaxAgeS: number }
  /** Good at `HttpDoor.innerUrl` and nowhere else needed: tokens of this server's own jobs. */
  readonly innerTokens?: Pick<TokenService, 'verify'>
  readonly upgrades?: readonly Upgrade[]
  /** Origins whose pages may call. */
  readonly cors?: ReadonlySet<string>
  /** Absent: no limit. */
  readonly requestRate?: KeyedRate
  /** Shared with other doors; absent: wrong tokens are answered at once. */
  readonly throttle?: AuthThrottle
  /** Where the built page is; where the build leaves it when absent. */
  readonly pageFolder?: string
  readonly limits?: Partial<HttpLimits>
}

export interface HttpDoor {
  readonly url: string
  /**
   * For processes of this server: the same routes on a loopback port of its own without TLS, which takes `innerTokens` only. A certificate is
   * for a name that they do not know, and one of a client they do not have. Without TLS it is `url`.
   */
  readonly innerUrl: string
  readonly port: number
  /** All ports that are open, the main one first. */
  readonly ports: readonly number[]
  /** `/readyz` answers 503 until this was called with true. */
  setReady(ready: boolean): void
  /** `/readyz` answers 503, new requests get 503 and `Connection: close`, live streams end; what is under way goes on. */
  stopAccepting(): void
  /** Waits up to `drainMs` for what is under way, then cuts connections. */
  close(drainMs: number): Promise<void>
}

/** What all routes share: services, effective limits, and the door's state. */
export interface HttpContext extends HttpServices {
  readonly auth: HttpAuth
  readonly host: string
  readonly version: string
  readonly serves?: Serves
  readonly mqttPort?: number
  readonly mqttsPort?: number | undefined
  readonly pageFolder?: string
  readonly cors?: ReadonlySet<string>
  readonly requestRate?: KeyedRate
  readonly throttle?: AuthThrottle
  readonly hstsMaxAgeS?: number
  /** Which requests came in at the inner port, and whose tokens count there. */
  readonly inner?: Pick<TokenService, 'verify'> & { has(message: IncomingMessage): boolean }
  readonly limits: HttpLimits
  /** Makes the reference; handed in, as it is made from these same routes. */
  readonly describe: (version: string) => Promise<Reference>
  readonly state: { ready: boolean; draining: boolean; bodyBytes: number }
}
