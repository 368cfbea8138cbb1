import type { Code } from './errors.ts'
import type { Batch } from './batch.ts'
import type { PartitionLag, SeriesMatch } from './ports.ts'
import type { RetentionRule } from './retention-rules.ts'

/** A registered device as the API gives it out. Times are epoch microseconds inside, RFC 3339 at the doors. */
export interface Device {
  readonly id: string
  readonly name: string
  readonly type: string
  /** `active` when it registered itself; free text otherwise (S2). */
  readonly status: string
  /** Kept and echoed as S2's bodies give it; the tenant itself comes from the credential. */
  readonly tenant_id: string
  readonly metadata: Readonly<Record<string, unknown>>
  /** What the device says of itself: firmware, location, and units as `unit.<metric>`. */
  readonly attributes: Readonly<Record<string, string>>
  readonly created_us: number
  readonly updated_us: number
  /** Undefined until it has sent something. */
  readonly last_seen_us?: number
  /** True when nobody created it by hand. */
  readonly auto_registered: boolean
}

export interface Page<T> {
  readonly items: readonly T[]
  /** Pass it back as `after`. Absent: this was the last page. */
  readonly next?: string
}

/** The device registry: `src/devices/`. */
export interface DeviceService {
  /** Rejects with already_exists. */
  create(
    tenant: string,
    device: {
      readonly id: string
      readonly name?: string
      readonly type?: string
      readonly tenant_id?: string
      readonly metadata?: Readonly<Record<string, unknown>>
    },
  ): Promise<VersionedDevice>
  get(tenant: string, id: string): Promise<VersionedDevice | undefined>
  /**
   * By id. `search`: only those whose id or name contains it, whatever the case; a call then looks at `limits.deviceSearchStep` devices,
   * so that a page may be short or empty and yet have a next one.
   */
  list(tenant: string, o: { readonly after?: string; readonly limit: number; readonly search?: string }): Promise<Page<VersionedDevice>>
  count(tenant: string): number
  /** Rejects with device_not_found or version_conflict. */
  update(
    tenant: string,
    id: string,
    patch: Partial<Pick<Device, 'name' | 'type' | 'status' | 'metadata'>>,
    expectVersion?: number,
  ): Promise<VersionedDevice>
  /** The device was heard, in received time; kept in memory, written every few seconds and on close. Unknown devices: nothing. */
  seen(tenant: string, id: string, receivedUs: number): void
}
export type VersionedDevice = Device & { readonly version: number }

export type Scope = 'ingest' | 'read' | 'admin'
export interface Principal {
  readonly tenant: string
  /** Token id, or `loopback`. */
  readonly id: string
  readonly scopes: ReadonlySet<Scope>
}

export interface TokenInfo {
  readonly id: string
  readonly name: string
  readonly scopes: readonly Scope[]
  readonly created_us: number
  readonly revoked_us?: number
}

/** API keys `tk_…`: shown once, stored hashed. */
export interface TokenService {
  create(o: { readonly name: string; readonly scopes: readonly Scope[] }): Promise<{ readonly token: string; readonly info: TokenInfo }>
  list(): Promise<readonly TokenInfo[]>
  revoke(id: string): Promise<boolean>
  /** Synchronous and cheap: called per request and per CONNECT. */
  verify(token: string): Principal | undefined
  /** Are there any that are not revoked? */
  readonly any: boolean
}

/** Latest readings in memory, rebuilt from the store at start, then fed by the log. */
export interface LatestValues {
  latest(match: SeriesMatch): Batch
  /** Names of a device's metrics, sorted. */
  metrics(tenant: string, device: string): readonly string[]
}

/** One reading on its way to a live client. */
export interface LiveEvent {
  /** Grows from event to event. */
  readonly id: bigint
  /** Where it stands in the log; absent: at `id` of the only partition. */
  readonly partition?: number
  readonly offset?: bigint
  readonly batch: Batch
  readonly receivedUs: number
  /** What this device said before is to be forgotten; the batch is empty. */
  readonly erased?: { readonly tenant: string; readonly device: string }
}

export interface LiveFeed {
  /** Called for every record that became durable, in order; must return at once. Returns the way to stop. */
  subscribe(listener: (event: LiveEvent) => void): () => void
}

export interface DeadLetter {
  /** The offset in its topic, as decimal text. */
  readonly id: string
  readonly time_us: number
  readonly code: string
  readonly detail: string
  readonly errors: readonly { readonly pointer: string; readonly detail: string }[]
  readonly transport: string
  readonly client: string
  readonly topic: string
  readonly tenant: string
  readonly shape: string
  readonly topic_device?: string
  readonly content_type?: string
  /** An outside broker delivered it with RETAIN=1. */
  readonly retained?: true
  readonly bytes_total: number
  /** True when only the first bytes were kept. */
  readonly truncated: boolean
  readonly status: 'waiting' | 'replayed' | 'dismissed'
  readonly body: Uint8Array
}

export interface DeadLetterService {
  /** Newest first; `after` is an id. */
  list(
    tenant: string,
    o: { readonly after?: string; readonly limit: number; readonly code?: string; readonly client?: string; readonly status?: DeadLetter['status'] },
  ): Promise<Page<DeadLetter>>
  get(tenant: string, id: string): Promise<DeadLetter | undefined>
  /** Offers the original bytes to the gate again; a letter that fails again becomes a new letter. */
  replay(
    tenant: string,
    ids: readonly string[] | 'all',
  ): Promise<{
    readonly replayed: number
    readonly failed: number
    readonly results: readonly { readonly id: string; readonly ok: boolean; readonly code?: string; readonly detail?: string }[]
  }>
  /** Letters that nobody needs any more: no longer waiting, never replayed, still kept until they are old. Durable when it resolves. */
  dismiss(
    tenant: string,
    ids: readonly string[] | 'all',
  ): Promise<{
    readonly dismissed: number
    readonly failed: number
    readonly results: readonly { readonly id: string; readonly ok: boolean; readonly code?: Code; readonly detail?: string }[]
  }>
}

/** What `/readyz?verbose`, `/api/v1/status` and `kymo status` show. */
/** Ages as the settings say them; absent: for ever, of a rule: the general one. */
export interface RetentionAges {
  readonly raw?: string
  readonly minutes?: string
  readonly hours?: string
}

/** What the store keeps for how long, and what has gone. */
export interface RetentionStatus extends RetentionAges {
  /** Of sealed files; absent: no limit. */
  readonly store_bytes_max?: number
  /** Readings before it have gone; absent: none have. */
  readonly raw_from_us?: number
  /** Bytes that sealed files have lost since the start: by age and size as a whole, by rules where they were written again. */
  readonly removed_bytes: Readonly<Record<'age' | 'size' | 'rules', number>>
  /** Sealed files that are old enough for a rule, and not looked through yet. */
  readonly due_files: number
  /** `series`: how many the rule is for; absent: not told yet. */
  readonly rules: readonly (RetentionAges & Pick<RetentionRule, 'labels' | 'metrics'> & { readonly series?: number })[]
}

export interface SystemStatus {
  readonly version: string
  readonly started_us: number
  readonly ready: boolean
  readonly draining: boolean
  /** `optional`: the server is ready without it (an outside broker). */
  readonly components: readonly { readonly name: string; readonly ok: boolean; readonly detail?: string; readonly optional?: true }[]
  readonly lag: readonly (PartitionLag & { readonly group: string })[]
  readonly messages_total: number
  readonly readings_total: number
  readonly rejected_total: number
  readonly devices: number
  /** Of all devices those that sent something in the last five minutes. */
  readonly devices_active: number
  /** Dead letters that were neither replayed nor dismissed. */
  readonly dead_letters_waiting: number
  readonly series: number
  readonly mqtt_connections: number
  readonly data_dir: string
  /** Bytes of log and store on disk, and storage.quota_mb in bytes; no quota: absent. */
  readonly storage: { readonly log_bytes: number; readonly store_bytes: number; readonly quota_bytes?: number }
  readonly retention: RetentionStatus
  readonly pid: number
}

/** A connected MQTT client. */
export interface MqttClient {
  readonly client_id: string
  readonly address: string
  readonly transport: 'tcp' | 'tls' | 'ws' | 'wss'
  /** 3 and 4 are MQTT 3.1 and 3.1.1. */
  readonly protocol_level: 3 | 4 | 5
  /** The token's id, or how else it was let in. */
  readonly principal: string
  readonly connected_us: number
  /** 0: it need not say anything. */
  readonly keep_alive_s: number
  readonly subscriptions: number
  /** Deliveries at QoS 1 and 2 that were sent and are not done with, and those that wait behind them. */
  readonly inflight: number
  readonly queued: number
  /** Its own publishes that are not acknowledged yet. */
  readonly unacknowledged: number
  readonly messages_in: number
  readonly messages_out: number
  readonly bytes_in: number
  readonly bytes_out: number
}

/** A session, of a client that is connected or may come back to it. */
export interface MqttSession {
  readonly client_id: string
  readonly connected: boolean
  /** Session Expiry Interval in seconds; 0: it ends with its connection; Infinity: never. */
  readonly expiry_s: number
  /** Since when nobody is connected to it. */
  readonly detached_us?: number
  readonly subscriptions: number
  readonly inflight: number
  readonly queued: number
}

export interface MqttSubscription {
  readonly client_id: string
  /** As the client wrote it, `$share/group/` included. */
  readonly filter: string
  readonly qos: 0 | 1 | 2
  readonly no_local: boolean
  readonly retain_as_published: boolean
  readonly retain_handling: 0 | 1 | 2
  /** Subscription Identifier; 0: none. */
  readonly identifier: number
  readonly connected: boolean
}

/** The MQTT door as an operator sees it: `src/doors/mqtt/operator.ts`. Lists are ordered by client id; `after` is a page's `next`. */
export interface MqttService {
  clients(tenant: string, o: { readonly after?: string; readonly limit: number }): Page<MqttClient>
  client(tenant: string, clientId: string): MqttClient | undefined
  sessions(tenant: string, o: { readonly after?: string; readonly limit: number }): Promise<Page<MqttSession>>
  /** `clientId`, `filter`: only those of this client, of exactly this filter. */
  subscriptions(
    tenant: string,
    o: { readonly after?: string; readonly limit: number; readonly clientId?: string; readonly filter?: string },
  ): Promise<Page<MqttSubscription>>
  /** Ends the connection, its will is published; with `session` the session too. Undefined: there is neither. */
  disconnect(
    tenant: string,
    clientId: string,
    o: { readonly session: boolean },
  ): Promise<{ readonly disconnected: boolean; readonly session_ended: boolean } | undefined>
}

/** The first two are command lines of this program, the others work of the forecasting role (ADR 26). */
export type JobKind = 'import' | 'export' | 'train' | 'backtest'
/** `failed` says why in `error`; `cancelled` was asked for. What a restart of the server interrupts goes on after it. */
export type JobState = 'waiting' | 'running' | 'done' | 'failed' | 'cancelled'

/** Long work that goes on after its request was answered. */
export interface Job {
  readonly id: string
  readonly kind: JobKind
  readonly state: JobState
  /** What was asked for. */
  readonly parameters: Readonly<Record<string, unknown>>
  readonly created_us: number
  /** Of the latest start. */
  readonly started_us?: number
  readonly finished_us?: number
  /** How often it was begun: more than once when the server was restarted meanwhile. */
  readonly attempts: number
  /** What it counts, as `kymo import --json` and `kymo export --json` say it. */
  readonly progress: Readonly<Record<string, unknown>>
  readonly error?: { readonly code: string; readonly detail: string }
  /** Files that can be fetched, and their bytes. */
  readonly files: Readonly<Partial<Record<JobFile, number>>>
  /** Those of them that are not there any more, as after a restore: backups do not hold them. */
  readonly gone?: readonly JobFile[]
}
export type JobFile = 'result' | 'rejects'

/** Imports and exports as jobs: `src/roles/jobs/`. Durable: a job that was answered for is run, however often the server restarts. */
export interface JobService {
  /** Takes all of `body` onto disk first. Rejects with overloaded (too many wait, or too much is spooled) or disk_full. */
  createImport(tenant: string, parameters: Readonly<Record<string, unknown>>, body: AsyncIterable<Uint8Array>): Promise<Job>
  createExport(tenant: string, parameters: Readonly<Record<string, unknown>>): Promise<Job>
  /** Newest first; `after` is an id. */
  list(tenant: string, o: { readonly after?: string; readonly limit: number; readonly kind?: JobKind; readonly state?: JobState }): Page<Job>
  get(tenant: string, id: string): Job | undefined
  /** Ends it when it runs or waits; forgets it with its files when it has ended. Undefined: there is none. */
  cancel(tenant: string, id: string): Promise<Job | undefined>
  /** Where a file of an ended job lies. */
  file(tenant: string, id: string, file: JobFile): { readonly path: string; readonly bytes: number } | undefined
}

/** `accepted`: it stands in the log. `hidden`: nobody reads the data any more, files that have it are written again. `done`: no file of the store has it. */
export type ErasureState = 'accepted' | 'hidden' | 'done'

/** The erasure of one device: of its readings and rollups, its latest values, its registration and attributes. */
export interface Erasure {
  readonly id: string
  readonly device: string
  readonly state: ErasureState
  readonly created_us: number
  /** Its place in the log: what the device said before it is erased, what it says later is kept. Decimal text; absent until it was met there. */
  readonly log_offset?: string
  readonly hidden_us?: number
  readonly finished_us?: number
  /** Where the data may still be, as of now. */
  readonly remains: ErasureRemains
}

export interface ErasureRemains {
  /** The log forgets its oldest segments when it has more than `kept_bytes` (Infinity: bytes do not bound it), and at `until_us` at the latest; absent: it has none from before. */
  readonly log?: { readonly bytes: number; readonly kept_bytes: number; readonly until_us?: number }
  /** Messages that could not be used may be of this device; they go at this time at the latest. Absent: there are none. */
  readonly dead_letters_until_us?: number
  /** Snapshots taken before it was done. Backups made from them have the data until they are deleted: `kymo backup delete`. */
  readonly snapshots: readonly { readonly id: string; readonly created_us: number }[]
}

/** Erasures: `src/roles/erasures.ts`. Durable: what was accepted is carried out, however often the server restarts. */
export interface ErasureService {
  /** Rejects with device_not_found, or overloaded while too many are under way. One that is under way already is returned. */
  request(tenant: string, device: string): Promise<Erasure>
  /** Newest first; `after` is an id. */
  list(tenant: string, o: { readonly after?: string; readonly limit: number }): Promise<Page<Erasure>>
  get(tenant: string, id: string): Promise<Erasure | undefined>
}
