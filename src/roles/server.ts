import fs from 'node:fs'
import path from 'node:path'
import type { Config } from '../core/config.ts'
import { logRetentionOf, places, retentionOf } from '../core/config.ts'
import type { Env } from '../core/env.ts'
import type { KymoError } from '../core/errors.ts'
import { limits } from '../core/limits.ts'
import { Metrics } from '../core/metrics.ts'
import { Topic } from '../core/record.ts'
import { SeriesTable } from '../core/series-table.ts'
import type { TokenService } from '../core/services.ts'
import { AuthThrottle } from '../doors/auth-throttle.ts'
import type { CertificateReload } from '../doors/tls/certificates.ts'
import type { HttpAuth } from '../doors/http/options.ts'
import { createTokenAuthorizer } from '../doors/mqtt/authorizer.ts'
import type { MqttDoor } from '../doors/mqtt/door.ts'
import type { MqttPull } from '../doors/pull/mqtt/door.ts'
import { PayloadDecoder } from '../wire/payload/decoder.ts'
import { TelemetryTopics } from '../wire/topics.ts'
import { openDeviceRegistry } from '../devices/registry.ts'
import { openTokens } from '../devices/tokens.ts'
import { startDeadLetters } from './dead-letters.ts'
import { type Jobs, openJobs } from './jobs/jobs.ts'
import { effectiveAuth } from './access.ts'
import { openEngines } from './engines.ts'
import { announceFirst, type FirstMessage } from './first-message.ts'
import { openErasures } from './erasures.ts'
import { Ingest } from './ingest.ts'
import { preparePull, pullComponent } from './mqtt-pull.ts'
import { followLabels } from './labelled-rules.ts'
import { startLive } from './live.ts'
import { openSnapshots } from './snapshots.ts'
import { Stack } from './stack.ts'
import { retentionStatus, systemStatus } from './status.ts'
import { watchStorage } from './storage.ts'
import { httpGuards, mqttUpgrades, mqttUrls, openTls, sameAuthorities, webSocketUrl } from './doors.ts'

export type { FirstMessage }

export interface ServerOptions {
  /** The program that runs a command line as a job: a process of its own. */
  readonly jobScript: string
}

/** One part of the start, as the banner prints it. */
export interface StartedComponent {
  readonly name: string
  readonly detail: string
  readonly ms: number
}

export interface RunningServer {
  readonly components: readonly StartedComponent[]
  /** `mqtt`: without TLS, where that is open; `mqtts`: with it. */
  readonly urls: { readonly http: string; readonly mqtt: string; readonly mqtts?: string; readonly ws?: string; readonly extra: readonly string[] }
  readonly ports: { readonly http: number; readonly mqtt: number; readonly mqtts?: number }
  /** Certificates that clients must be given because they are signed by themselves: the file of each door. */
  readonly trust?: { readonly http?: string; readonly mqtt?: string }
  readonly dataDir: string
  /** A token to be printed; absent: none was made by this start. */
  readonly token?: string
  readonly auth: HttpAuth
  onFirstMessage(listener: (message: FirstMessage) => void): void
  /** Called once: the process must end with the error's exit code. */
  onFatal(listener: (error: KymoError) => void): void
  /** Messages taken and not yet durable. */
  pending(): number
  /** Takes over the settings that are marked `reload`; the others must be as they were. When it rejects, all is as before. */
  reconfigure(next: Config): Promise<void>
  /** Reads the files of certificates now; none: no door speaks TLS. What cannot be used changes nothing. */
  reloadCertificates(): readonly CertificateReload[]
  stop(): Promise<{ readonly drained: number; readonly lost: number }>
}

export const version: string = (JSON.parse(fs.readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }).version

const compatPorts = [8000, 8001, 8002, 8003, 8004]

function sealOf({ store }: Config): { readonly bytes: number; readonly afterMs: number } {
  return { bytes: store.seal_mb * 2 ** 20, afterMs: store.seal_minutes * 60_000 }
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

/**
 * The whole platform in one process: log, store, metadata, the roles between them, and the doors last, so that the first message
 * that is taken can be kept. Rejects with a KymoError when a part does not start; what had started is closed again.
 */
export async function startServer(config: Config, env: Env, o: ServerOptions): Promise<RunningServer> {
  const stack = new Stack()
  try {
    return await compose(config, env, o, stack)
  } catch (thrown) {
    await stack.unwind(env)
    throw thrown
  }
}

async function compose(config: Config, env: Env, o: ServerOptions, stack: Stack): Promise<RunningServer> {
  const startedUs = env.clock.nowUs()
  const components: StartedComponent[] = []
  const timed = async <T>(name: string, detail: (made: T) => string, make: () => Promise<T>): Promise<T> => {
    const from = env.clock.monotonicMs()
    const made = await make()
    components.push({ name, detail: detail(made), ms: Math.round(env.clock.monotonicMs() - from) })
    return made
  }
  let fatal: KymoError | undefined
  const fatalListeners: ((error: KymoError) => void)[] = []
  const onFatal = (error: KymoError): void => {
    if (fatal !== undefined) return
    fatal = error
    for (const listener of fatalListeners) listener(error)
  }
  const preparedPull = await preparePull(config)
  const where = places(config)
  // What may change while it runs is read through here whenever it is needed.
  let now = config
  const fresh = !fs.existsSync(where.logDir)
  env.disk.mkdir(where.dataDir)
  const metrics = new Metrics()
  const series = new SeriesTable()

  const { log, store, meta, sessions } = await timed(
    'storage',
    () => (fresh ? 'opened (new)' : 'opened'),
    () => openEngines({ config, env, metrics, stack, retention: retentionOf(config), seal: sealOf(config), onFatal }),
  )
  const registry = await openDeviceRegistry({
    meta,
    series,
    env,
    metrics,
    get autoRegister() {
      return now.devices.auto_register
    },
    get registrationsPerS() {
      return now.devices.registrations_per_s
    },
    registrationBurst: limits.registrationBurst,
  })
  stack.push(() => registry.close())
  const tokens = await openTokens({ meta, env })
  stack.push(() => tokens.close())
  const auth = effectiveAuth(config, tokens.any)
  const erasures = await openErasures({ meta, log, store, devices: registry, env, kept: logRetentionOf(config) })
  stack.push(() => erasures.stop())
  const decoder = new PayloadDecoder({ series, aliases: config.payload.aliases })
  const live = await startLive({
    log,
    store,
    series,
    registry,
    env,
    metrics,
    onFatal,
    onErasure: (request, offset) => erasures.met(request, offset),
    forgotten: (tenant, device) => decoder.forget(tenant, device),
  })
  stack.push(() => live.stop())
  await erasures.begin()
  const labels = followLabels({
    registry,
    retention: () => retentionOf(now),
    tell: (retention) => store.reconfigure({ retention, seal: sealOf(now) }),
    env,
  })
  stack.push(async () => labels.stop())
  const storage = watchStorage({
    log,
    store,
    decoder,
    env,
    metrics,
    get rawUs() {
      return retentionOf(now).rawUs
    },
    get quotaBytes() {
      return now.storage.quota_mb * 1e6
    },
  })
  stack.push(() => storage.close())
  const lineDeviceTags = config.payload.line_device_tags.split(',').map((tag) => tag.trim())
  const ingest = new Ingest({ log, series, decoder, lineDeviceTags, env, metrics, onFatal, held: storage.held })
  await ingest.rebuildOrigins(log.end(Topic.telemetry), log.earliest(Topic.telemetry))
  series.admission = registry.admission
  const deadLetters = await startDeadLetters({ log, gate: ingest, env, metrics, onFatal })
  stack.push(() => deadLetters.stop())
  const jobs = await openJobs({
    meta,
    env,
    dir: path.join(where.dataDir, 'jobs'),
    reserveBytes: config.log.reserve_bytes,
    script: o.jobScript,
  })
  stack.push(() => jobs.stop())
  const snapshots = openSnapshots({
    dir: path.join(where.dataDir, 'snapshots'),
    logDir: where.logDir,
    metaFile: where.metaFile,
    log,
    store,
    env,
    version,
  })
  stack.push(() => snapshots.stop())

  const [{ openHttpDoor }, { openMqttDoor }] = await Promise.all([import('../doors/http/door.ts'), import('../doors/mqtt/door.ts')])
  const tls = openTls(config, env, metrics)
  stack.push(async () => tls.stop())
  const throttle = new AuthThrottle(env.clock, limits)
  const { identity } = config.mqtt.tls
  const mqtt: MqttDoor = await timed(
    'mqtt',
    (door) => mqttUrls(config, door).join(' · '),
    () =>
      openMqttDoor({
        host: config.mqtt.host,
        port: config.mqtt.port,
        gate: ingest,
        topics: new TelemetryTopics(config.mqtt.topics.split(',').map((t) => t.trim())),
        authorizer: createTokenAuthorizer({ tokens, open: auth !== 'token', ...(identity === 'off' ? {} : { identity }) }),
        env,
        metrics,
        throttle,
        store: sessions,
        plain: config.mqtt.plain,
        ...(config.mqtt.sys_interval_s === 0 ? {} : { sys: { version, intervalMs: config.mqtt.sys_interval_s * 1000 } }),
        webSocketCertificates: sameAuthorities(config),
        ...(tls.mqtt === undefined ? {} : { tls: { ...tls.mqtt, port: config.mqtt.tls.port } }),
        limits: {
          packetBytesMax: config.mqtt.packet_bytes_max,
          connectionsMax: config.mqtt.connections_max,
          connectionsPerAddressMax: config.mqtt.connections_per_address_max,
          connectsPerS: config.mqtt.connects_per_s,
          connectTimeoutMs: config.mqtt.connect_timeout_s * 1000,
          keepAliveSMax: config.mqtt.keepalive_max_s,
          receiveInflightMax: config.mqtt.client_inflight_max,
          subscriptionsPerClientMax: config.mqtt.client_subscriptions_max,
          sessionExpiryS: config.mqtt.sessions.expiry_s,
          sessionExpirySMax: config.mqtt.sessions.expiry_max_s,
          clientMessagesPerS: config.mqtt.client_messages_per_s,
          clientBytesPerS: config.mqtt.client_bytes_per_s,
        },
      }),
  )
  stack.push(() => mqtt.close(limits.drainTimeoutMs))
  let draining = false
  let pulled: MqttPull | undefined
  const upgrades = mqttUpgrades(config, mqtt)
  const http = await timed(
    'http',
    (door) => door.url,
    () =>
      openHttpDoor({
        host: config.http.host,
        port: config.http.port,
        extraPorts: config.http.compat_ports ? compatPorts : [],
        gate: ingest,
        store,
        devices: registry,
        tokens: withJobs(tokens, jobs),
        jobs,
        erasures,
        snapshots: erasures.remembering(snapshots),
        latest: live,
        live,
        deadLetters,
        mqtt: mqtt.operator,
        status: () =>
          systemStatus({
            version,
            startedUs,
            dataDir: where.dataDir,
            storage: storage.use(),
            retention: retentionStatus(retentionOf(now), store.stats()),
            draining,
            fatal,
            ingest,
            log,
            groups: ['store', 'registry'],
            series,
            devices: registry.count('default'),
            devicesActive: registry.active,
            deadLettersWaiting: deadLetters.waiting,
            mqttConnections: mqtt.connections(),
            ...(pulled === undefined ? {} : { pull: pullComponent(pulled) }),
            certificates: tls.all.map((one) => one.component()),
          }),
        metrics,
        env,
        auth,
        version,
        mqttPort: mqtt.port,
        mqttsPort: mqtt.tlsPort,
        ...httpGuards(config, env, tls.http),
        upgrades,
        innerTokens: jobs,
        throttle,
        limits: { bodyBytesMax: config.http.body_bytes_max },
      }),
  )
  stack.push(() => http.close(limits.drainTimeoutMs))
  const pull = await preparedPull?.open({
    gate: ingest,
    meta,
    env,
    metrics,
    doors: [{ host: config.mqtt.host, port: mqtt.port }, ...(mqtt.tlsPort === undefined ? [] : [{ host: config.mqtt.host, port: mqtt.tlsPort }])],
  })
  if (pull !== undefined) {
    stack.push(() => pull.close(limits.drainTimeoutMs))
    pulled = pull
    components.push({ name: 'mqtt pull', detail: pull.status().detail, ms: 0 })
  }
  http.setReady(true)
  jobs.begin(http.innerUrl)

  const [mqttUrl = '', second] = mqttUrls(config, mqtt)
  const mqttsUrl = mqttUrl.startsWith('mqtts:') ? mqttUrl : second
  const wsUrl = webSocketUrl(upgrades, http.url)

  const stop = async (): Promise<{ drained: number; lost: number }> => {
    draining = true
    // They are clients of this server: they save where they are while it still answers.
    await jobs.stop()
    http.stopAccepting()
    mqtt.stopAccepting()
    pull?.stopReading()
    // Requests that are half taken are finished first: their rest would otherwise be refused.
    await http.close(limits.drainTimeoutMs)
    const result = await ingest.stop()
    await stack.unwind(env)
    return result
  }
  return {
    components,
    urls: {
      http: http.url,
      mqtt: mqttUrl,
      ...(mqttsUrl === undefined ? {} : { mqtts: mqttsUrl }),
      ...(wsUrl === undefined ? {} : { ws: wsUrl }),
      extra: http.ports.slice(1).map((port) => `${tls.http === undefined ? 'http' : 'https'}://${config.http.host}:${port}`),
    },
    ports: { http: http.port, mqtt: mqtt.port, ...(mqtt.tlsPort === undefined ? {} : { mqtts: mqtt.tlsPort }) },
    trust: tls.trust,
    dataDir: where.dataDir,
    auth,
    onFirstMessage(listener) {
      const committed = (hear: (next: bigint) => void): (() => void) => store.onCommitted((commit) => hear(commit.next))
      announceFirst({ live, committed, env, skip: (device) => device.startsWith('demo-') }, listener)
    },
    onFatal(listener) {
      fatalListeners.push(listener)
      if (fatal !== undefined) listener(fatal)
    },
    pending: () => ingest.pendingMessages,
    async reconfigure(next) {
      await store.reconfigure({ retention: labels.resolved(retentionOf(next)), seal: sealOf(next) })
      now = next
    },
    reloadCertificates: () => tls.all.map((one) => one.reload()),
    stop,
  }
}
